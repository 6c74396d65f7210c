//! The head of a batch.

use super::{BATCH_BYTES_MAX, HEADER_BYTES, MAGIC, RECORD_HEADER_BYTES, RECORDS_MAX};
use crate::checksum::crc;
use crate::field;
use crate::record::Lsn;
use crate::storage::BLOCK_BYTES;

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
pub(crate) enum BatchFault {
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
        if (self.length as usize) < smallest
            || self.length as usize > BATCH_BYTES_MAX
            || self.lsn.0 + self.padded() > limit.0
        {
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Anyone can compute a checksum, so a length is believed only as far as a writer goes.
    #[test]
    fn a_length_that_no_writer_makes_is_refused() {
        let limit = Lsn(1 << 40);
        let decode = |length: usize| {
            let header = BatchHeader {
                length: length as u32,
                ..BatchHeader::default()
            };
            let mut bytes = [0; HEADER_BYTES];
            header.encode(0, &mut bytes);
            BatchHeader::decode(&bytes, 0, Lsn(0), limit).map(|header| header.length)
        };
        assert_eq!(decode(BATCH_BYTES_MAX), Ok(BATCH_BYTES_MAX as u32));
        for length in [BATCH_BYTES_MAX + 1, 1 << 30] {
            assert_eq!(decode(length), Err(BatchFault::Nonsense("length")));
        }
    }
}
