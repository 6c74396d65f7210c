//! Verifies what stands in a batch, whole or one record alone.

use bytes::Bytes;

use super::{
    BatchHeader, HEADER_BYTES, RECORD_HEADER_BYTES, RecordHeader, payload_seed, record_bytes,
    table_bytes,
};
use crate::checksum::{Crc, UNIT_BYTES, crc};
use crate::field;
use crate::record::{Lsn, RecordKind};

/// A record as it was found in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FoundRecord {
    /// Its head.
    pub header: RecordHeader,
    /// Where its head stands.
    pub lsn: Lsn,
    /// Whether its payload verified.
    pub good: bool,
}

/// What the body of a batch with a good header turned out to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    /// Every checksum is right.
    Good,
    /// The record headers cannot be trusted: nothing of the batch is usable.
    BadDirectory,
    /// The records are known and some payloads are damaged.
    BadPayload,
    /// Everything verified but the padding, which is not zero: no value is touched.
    BadPadding,
    /// A good checksum over an impossible record: a bug of the writer.
    Impossible(&'static str),
}

impl Body {
    /// Whether every record of the batch may be believed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        matches!(self, Body::Good | Body::BadPadding)
    }
}

/// Verifies the body of a batch. `bytes` is the whole padded batch.
pub(crate) fn verify(bytes: &[u8], header: &BatchHeader, salt: u64) -> (Body, Vec<FoundRecord>) {
    let Some(places) = directory(bytes, header, salt) else {
        return (Body::BadDirectory, Vec::new());
    };
    let mut records = Vec::with_capacity(places.len());
    let (mut body, mut end) = (Body::Good, HEADER_BYTES);
    for at in places {
        let head = match RecordHeader::decode(&bytes[at..at + RECORD_HEADER_BYTES]) {
            Ok(head) => head,
            Err(what) => return (Body::Impossible(what), Vec::new()),
        };
        let lsn = Lsn(header.lsn.0 + at as u64);
        let payload = head.length as usize;
        let padded = at + record_bytes(payload);
        end = at + RECORD_HEADER_BYTES + table_bytes(payload) + payload;
        let good = verify_payload(&bytes[at + RECORD_HEADER_BYTES..end], &head, salt, lsn);
        if !good {
            body = Body::BadPayload;
        } else if body == Body::Good && !field::is_zero(&bytes[end..padded]) {
            body = Body::BadPadding;
        }
        records.push(FoundRecord {
            header: head,
            lsn,
            good,
        });
    }
    if body == Body::Good && !field::is_zero(&bytes[end..]) {
        body = Body::BadPadding;
    }
    (body, records)
}

/// Where the record headers stand, if all are inside the batch and their checksum is right.
fn directory(bytes: &[u8], header: &BatchHeader, salt: u64) -> Option<Vec<usize>> {
    let length = header.length as usize;
    let mut places = Vec::with_capacity(usize::from(header.records));
    let mut sum = Crc::new(salt as u32);
    let mut at = HEADER_BYTES;
    for _ in 0..header.records {
        let head = bytes.get(at..at + RECORD_HEADER_BYTES)?;
        sum.update(head);
        places.push(at);
        let payload = field::u32(head, 0) as usize;
        at = at.checked_add(record_bytes(payload))?;
        if at > length {
            return None;
        }
    }
    (at == length && sum.finish() == header.directory_crc).then_some(places)
}

/// What the directory's checksum would have to be, for the fuzzer; 0 if a record header lies outside.
pub(crate) fn directory_crc(bytes: &[u8], header: &BatchHeader, salt: u64) -> u32 {
    let mut sum = Crc::new(salt as u32);
    let mut at = HEADER_BYTES;
    for _ in 0..header.records {
        let Some(head) = bytes.get(at..at + RECORD_HEADER_BYTES) else {
            return 0;
        };
        sum.update(head);
        at += record_bytes(field::u32(head, 0) as usize);
    }
    sum.finish()
}

/// Whether a payload with its table (`stored`: everything behind the head, without padding) is intact.
fn verify_payload(stored: &[u8], head: &RecordHeader, salt: u64, lsn: Lsn) -> bool {
    let seed = payload_seed(salt, lsn);
    let (table, payload) = stored.split_at(table_bytes(head.length as usize));
    if table.is_empty() {
        return crc(seed, payload) == head.payload_crc;
    }
    crc(seed, table) == head.payload_crc
        && payload
            .chunks(UNIT_BYTES)
            .zip(table.as_chunks::<4>().0)
            .all(|(unit, sum)| crc(seed, unit) == u32::from_le_bytes(*sum))
}

/// Bytes to read for a record with so long a payload: head, table, payload.
pub(crate) fn stored_bytes(payload: usize) -> usize {
    RECORD_HEADER_BYTES + table_bytes(payload) + payload
}

/// Takes the payload out of one record read alone, if everything about it is right.
///
/// `bytes` holds [`stored_bytes`]; `wanted` is what the index says stands at `lsn`.
pub(crate) fn open_record(
    bytes: Bytes,
    salt: u64,
    lsn: Lsn,
    wanted: (RecordKind, u64, u64),
) -> Option<Bytes> {
    let head = RecordHeader::decode(bytes.get(..RECORD_HEADER_BYTES)?).ok()?;
    let payload = head.length as usize;
    let found = (head.kind, head.slot, head.ballot);
    if found != wanted || bytes.len() != stored_bytes(payload) {
        return None;
    }
    let stored = &bytes[RECORD_HEADER_BYTES..];
    verify_payload(stored, &head, salt, lsn)
        .then(|| bytes.slice(RECORD_HEADER_BYTES + table_bytes(payload)..))
}
