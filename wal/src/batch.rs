//! One commit group on disk: a 128-byte header, records, zeros up to the next block.
//!
//! ```text
//! | batch header 128 | record header 32 | (crc table) | payload | 0..7 zeros | record ... | zeros |
//! ^ block boundary                                                                        block boundary ^
//! ```
//!
//! Three checksums. The header's can be trusted without the body, so damage is skipped exactly and the
//! slots lost are known. The directory's covers all record headers. Each record has its own over
//! the payload (above 8 KiB over a table of one CRC for each 8 KiB), so it is verified when read alone.
//!
//! This module turns batches into bytes and back; it opens no file. What a fault means only recovery
//! can say, because only it knows what follows.

use bytes::Bytes;

use crate::checksum::{Crc, UNIT_BYTES, crc};
use crate::field;
use crate::record::{Lsn, PAYLOAD_BYTES_MAX, Record, RecordKind};
use crate::storage::BLOCK_BYTES;

/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 128;
/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 32;
/// At most so many records: the directory then keeps below the length that a CRC protects well.
pub const RECORDS_MAX: usize = 350;
/// First bytes of a batch.
pub(crate) const MAGIC: [u8; 4] = *b"PXWB";

const _: () = assert!(RECORDS_MAX * RECORD_HEADER_BYTES < 11_450);

/// What a batch is, besides its records; a set of bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchFlags(pub u16);

impl BatchFlags {
    /// No records: proves that everything before it was durable.
    pub const MARKER: BatchFlags = BatchFlags(1);
    /// No records: the last batch of a full segment.
    pub const SEAL: BatchFlags = BatchFlags(2);
    /// No records: the log was closed in order.
    pub const CLEAN_CLOSE: BatchFlags = BatchFlags(4);
    /// Appended again at open, from the previous segment's unproven tail.
    pub const CARRIED: BatchFlags = BatchFlags(8);
    /// Holds repaired values.
    pub const REPAIR: BatchFlags = BatchFlags(16);

    /// Both sets together.
    #[must_use]
    pub fn with(self, other: BatchFlags) -> BatchFlags {
        BatchFlags(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    #[must_use]
    pub fn has(self, other: BatchFlags) -> bool {
        self.0 & other.0 == other.0
    }
}

impl std::fmt::Display for BatchFlags {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = ["marker", "seal", "clean-close", "carried", "repair"];
        let set: Vec<&str> = names
            .into_iter()
            .enumerate()
            .filter_map(|(bit, name)| (self.0 & (1 << bit) != 0).then_some(name))
            .collect();
        f.pad(&set.join("+"))
    }
}

/// What stands at the head of a batch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BatchHeader {
    /// CRC of this header; the next batch repeats it.
    pub crc: u32,
    /// Where this batch stands.
    pub lsn: Lsn,
    /// Counts batches, across segments.
    pub batch_seq: u64,
    /// Everything below was durable when this header was built.
    pub durable: Lsn,
    /// Bytes without the last padding, this header included.
    pub length: u32,
    /// Number of records.
    pub records: u16,
    /// What kind of batch.
    pub flags: BatchFlags,
    /// CRC of the previous batch's header.
    pub prev_crc: u32,
    /// CRC over all record headers.
    pub directory_crc: u32,
    /// Lowest slot of an entry in it; 0 if there is none.
    pub min_slot: u64,
    /// Highest slot of an entry in it; 0 if there is none.
    pub max_slot: u64,
    /// Highest ballot in it.
    pub max_ballot: u64,
    /// Highest slot that the node knew chosen; void if any record of the batch is.
    pub commit_slot: u64,
    /// Wall clock, unix nanoseconds; for search only.
    pub wall_ns: u64,
    /// `min_slot` of the previous batch.
    pub prev_min_slot: u64,
    /// `max_slot` of the previous batch.
    pub prev_max_slot: u64,
    /// Highest slot ever written, this batch included.
    pub max_slot_ever: u64,
    /// Highest ballot ever written, this batch included.
    pub max_ballot_ever: u64,
}

/// Why bytes are not a batch header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchFault {
    /// Only zeros in the header.
    Zero,
    /// Other first bytes.
    Magic,
    /// The checksum does not match: damaged, or written under another salt.
    Checksum,
    /// A whole header, but of another place: stale or misdirected.
    Misplaced(Lsn),
    /// Checksum good, content impossible.
    Nonsense(&'static str),
}

impl BatchHeader {
    /// Bytes on disk, padding included.
    #[must_use]
    pub fn padded(&self) -> u64 {
        (u64::from(self.length)).next_multiple_of(BLOCK_BYTES as u64)
    }

    /// Where the next batch stands.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.lsn.0 + self.padded())
    }

    /// Writes the header, with its CRC, which is returned.
    pub(crate) fn encode(&self, seed: u32, b: &mut [u8]) -> u32 {
        field::put(b, 0, MAGIC);
        field::put(b, 8, self.lsn.0.to_le_bytes());
        field::put(b, 16, self.batch_seq.to_le_bytes());
        field::put(b, 24, self.durable.0.to_le_bytes());
        field::put(b, 32, self.length.to_le_bytes());
        field::put(b, 36, self.records.to_le_bytes());
        field::put(b, 38, self.flags.0.to_le_bytes());
        field::put(b, 40, self.prev_crc.to_le_bytes());
        field::put(b, 44, self.directory_crc.to_le_bytes());
        field::put(b, 48, self.min_slot.to_le_bytes());
        field::put(b, 56, self.max_slot.to_le_bytes());
        field::put(b, 64, self.max_ballot.to_le_bytes());
        field::put(b, 72, self.commit_slot.to_le_bytes());
        field::put(b, 80, self.wall_ns.to_le_bytes());
        field::put(b, 88, self.prev_min_slot.to_le_bytes());
        field::put(b, 96, self.prev_max_slot.to_le_bytes());
        field::put(b, 104, self.max_slot_ever.to_le_bytes());
        field::put(b, 112, self.max_ballot_ever.to_le_bytes());
        field::put(b, 120, [0; 8]);
        let sum = crc(seed, &b[8..HEADER_BYTES]);
        field::put(b, 4, sum.to_le_bytes());
        sum
    }

    /// Reads the header at the start of `b` (at least [`HEADER_BYTES`]), which must stand at `place`
    /// and whose batch must end by `limit`.
    ///
    /// # Errors
    ///
    /// The first [`BatchFault`] found. Allocates nothing.
    pub(crate) fn decode(
        b: &[u8],
        seed: u32,
        place: Lsn,
        limit: Lsn,
    ) -> Result<BatchHeader, BatchFault> {
        if field::bytes::<4>(b, 0) != MAGIC {
            let zero = field::is_zero(&b[..HEADER_BYTES]);
            return Err(if zero {
                BatchFault::Zero
            } else {
                BatchFault::Magic
            });
        }
        let sum = crc(seed, &b[8..HEADER_BYTES]);
        if sum != field::u32(b, 4) {
            return Err(BatchFault::Checksum);
        }
        let header = BatchHeader {
            crc: sum,
            lsn: Lsn(field::u64(b, 8)),
            batch_seq: field::u64(b, 16),
            durable: Lsn(field::u64(b, 24)),
            length: field::u32(b, 32),
            records: field::u16(b, 36),
            flags: BatchFlags(field::u16(b, 38)),
            prev_crc: field::u32(b, 40),
            directory_crc: field::u32(b, 44),
            min_slot: field::u64(b, 48),
            max_slot: field::u64(b, 56),
            max_ballot: field::u64(b, 64),
            commit_slot: field::u64(b, 72),
            wall_ns: field::u64(b, 80),
            prev_min_slot: field::u64(b, 88),
            prev_max_slot: field::u64(b, 96),
            max_slot_ever: field::u64(b, 104),
            max_ballot_ever: field::u64(b, 112),
        };
        if header.lsn != place {
            return Err(BatchFault::Misplaced(header.lsn));
        }
        header.check(limit).map_err(BatchFault::Nonsense)?;
        Ok(header)
    }

    fn check(&self, limit: Lsn) -> Result<(), &'static str> {
        let smallest = HEADER_BYTES + usize::from(self.records) * RECORD_HEADER_BYTES;
        if (self.length as usize) < smallest || self.lsn.0 + self.padded() > limit.0 {
            return Err("length");
        }
        if usize::from(self.records) > RECORDS_MAX {
            return Err("record count");
        }
        if self.durable > self.lsn {
            return Err("durable position");
        }
        Ok(())
    }
}

/// The head of one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of payload.
    pub length: u32,
    /// What the record says.
    pub kind: RecordKind,
    /// Which entry.
    pub slot: u64,
    /// Which version.
    pub ballot: u64,
    /// CRC of the payload, or of its table of CRCs.
    pub payload_crc: u32,
}

impl RecordHeader {
    /// Reads a record header, which the directory's checksum must have covered.
    ///
    /// # Errors
    ///
    /// What is impossible about it: with a good checksum that is a bug of the writer, not rot.
    pub(crate) fn decode(b: &[u8]) -> Result<RecordHeader, &'static str> {
        let length = field::u32(b, 0);
        if length as usize > PAYLOAD_BYTES_MAX {
            return Err("payload length");
        }
        let kind = RecordKind::from_u8(b[4]).ok_or("record type")?;
        if b[5] != 0 || field::u16(b, 6) != 0 || field::u32(b, 28) != 0 {
            return Err("reserved bytes");
        }
        let (slot, ballot) = (field::u64(b, 8), field::u64(b, 16));
        Ok(RecordHeader {
            length,
            kind,
            slot,
            ballot,
            payload_crc: field::u32(b, 24),
        })
    }

    fn encode(&self, b: &mut [u8]) {
        field::put(b, 0, self.length.to_le_bytes());
        field::put(b, 4, [self.kind as u8, 0, 0, 0]);
        field::put(b, 8, self.slot.to_le_bytes());
        field::put(b, 16, self.ballot.to_le_bytes());
        field::put(b, 24, self.payload_crc.to_le_bytes());
        field::put(b, 28, [0; 4]);
    }
}

/// Bytes of the table of CRCs before a payload of so many bytes.
pub(crate) fn table_bytes(payload: usize) -> usize {
    if payload > UNIT_BYTES {
        payload.div_ceil(UNIT_BYTES) * 4
    } else {
        0
    }
}

/// Bytes that a record takes in a batch: header, table, payload, padding to 8.
pub(crate) fn record_bytes(payload: usize) -> usize {
    (RECORD_HEADER_BYTES + table_bytes(payload) + payload).next_multiple_of(8)
}

/// The seed of a payload's checksum: the salt, and where the record stands.
fn payload_seed(salt: u64, lsn: Lsn) -> u32 {
    salt as u32 ^ lsn.0 as u32
}

/// What is the same for all batches of a segment, and what the next batch follows.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) salt: u64,
    pub(crate) lsn: Lsn,
}

/// Lays records out behind `header` in `arena` (which it clears) and pads to a block. Fills in length,
/// counts, slots, ballots and checksums of the header; the rest is the caller's.
pub(crate) fn encode(
    arena: &mut Vec<u8>,
    at: &Position,
    header: &mut BatchHeader,
    records: &[Record],
) {
    assert!(records.len() <= RECORDS_MAX, "the writer splits groups");
    arena.clear();
    arena.resize(HEADER_BYTES, 0);
    let seed = at.salt as u32;
    let mut directory = Crc::new(seed);
    (header.min_slot, header.max_slot, header.max_ballot) = (0, 0, 0);
    for record in records {
        let place = Lsn(at.lsn.0 + arena.len() as u64);
        let head = encode_record(arena, payload_seed(at.salt, place), record);
        directory.update(&head);
        if record.kind.is_entry() {
            let first = header.max_slot == 0 || record.slot < header.min_slot;
            header.min_slot = if first { record.slot } else { header.min_slot };
            header.max_slot = header.max_slot.max(record.slot);
        }
        header.max_ballot = header.max_ballot.max(record.ballot);
    }
    header.lsn = at.lsn;
    header.length = u32::try_from(arena.len()).expect("the writer bounds groups");
    header.records = records.len() as u16;
    header.directory_crc = directory.finish();
    header.max_slot_ever = header.max_slot_ever.max(header.max_slot);
    header.max_ballot_ever = header.max_ballot_ever.max(header.max_ballot);
    let padded = arena.len().next_multiple_of(BLOCK_BYTES);
    arena.resize(padded, 0);
    header.crc = header.encode(seed, &mut arena[..HEADER_BYTES]);
}

fn encode_record(arena: &mut Vec<u8>, seed: u32, record: &Record) -> [u8; RECORD_HEADER_BYTES] {
    let payload = &record.payload[..];
    assert!(
        payload.len() <= PAYLOAD_BYTES_MAX,
        "the writer refuses larger records"
    );
    let head_at = arena.len();
    arena.resize(head_at + RECORD_HEADER_BYTES, 0);
    let payload_crc = if payload.len() > UNIT_BYTES {
        let table_at = arena.len();
        for unit in payload.chunks(UNIT_BYTES) {
            arena.extend_from_slice(&crc(seed, unit).to_le_bytes());
        }
        crc(seed, &arena[table_at..])
    } else {
        crc(seed, payload)
    };
    arena.extend_from_slice(payload);
    let padded = arena.len().next_multiple_of(8);
    arena.resize(padded, 0);
    let (kind, slot, ballot) = (record.kind, record.slot, record.ballot);
    let length = payload.len() as u32;
    let mut head = [0; RECORD_HEADER_BYTES];
    RecordHeader {
        length,
        kind,
        slot,
        ballot,
        payload_crc,
    }
    .encode(&mut head);
    arena[head_at..head_at + RECORD_HEADER_BYTES].copy_from_slice(&head);
    head
}

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
