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

use crate::checksum::{Crc, UNIT_BYTES, crc};
use crate::field;
use crate::record::{Lsn, PAYLOAD_BYTES_MAX, Record, RecordKind};
use crate::storage::BLOCK_BYTES;

mod header;
mod verify;

pub(crate) use header::BatchFault;
pub use header::{BatchFlags, BatchHeader};
pub use verify::{Body, FoundRecord};
pub(crate) use verify::{directory_crc, open_record, stored_bytes, verify};

/// Bytes of a batch header.
pub const HEADER_BYTES: usize = 128;
/// Bytes of a record header.
pub const RECORD_HEADER_BYTES: usize = 32;
/// At most so many records: the directory then keeps below the length that a CRC protects well.
pub const RECORDS_MAX: usize = 350;
/// The longest batch, without its last padding: one record of the largest payload. A reader allocates no more for one.
pub const BATCH_BYTES_MAX: usize = HEADER_BYTES + record_bytes(PAYLOAD_BYTES_MAX);
/// First bytes of a batch.
pub(crate) const MAGIC: [u8; 4] = *b"PXWB";

const _: () = assert!(RECORDS_MAX * RECORD_HEADER_BYTES < 11_450);
const _: () = assert!(crate::writer::GROUP_BYTES_MAX <= BATCH_BYTES_MAX);

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
pub(crate) const fn table_bytes(payload: usize) -> usize {
    if payload > UNIT_BYTES {
        payload.div_ceil(UNIT_BYTES) * 4
    } else {
        0
    }
}

/// Bytes that a record takes in a batch: header, table, payload, padding to 8.
pub(crate) const fn record_bytes(payload: usize) -> usize {
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
