//! The header of a segment file: block 0, and an identical copy in the last block.
//!
//! ```text
//! | header | batch | batch | ... | seal | zeros ...            | header |
//! 0        4096                                   capacity - 4096       capacity
//! ```
//!
//! The fields stand in `FORMAT.md`. A valid header of segment n + 1 proves that segment n was durable
//! up to `prev_end`; bytes of n at or after it are void. This module turns headers into blocks and back.

use crate::checksum::crc;
use crate::field;
use crate::record::Lsn;
use crate::storage::BLOCK_BYTES;

/// First bytes of a segment.
pub(crate) const MAGIC: [u8; 8] = *b"PXWALSEG";
/// Major version of the superblocks and segments that this program writes.
pub(crate) const FORMAT_MAJOR: u16 = 2;
/// Oldest major version that this program reads. Readers refuse a later one, and read any minor one.
pub(crate) const FORMAT_MAJOR_MIN: u16 = 1;
/// Minor version that this program writes; it was 0 in format 1, too.
pub(crate) const FORMAT_MINOR: u16 = 0;
/// The smallest segment: headers, a seal and some room.
pub(crate) const CAPACITY_MIN: u64 = 8 * BLOCK_BYTES as u64;
/// The largest segment: so that the probes after damage are bounded (262,144 of them).
pub(crate) const CAPACITY_MAX: u64 = 1 << 30;

/// What stands at the head of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Format major version.
    pub major: u16,
    /// Format minor version.
    pub minor: u16,
    /// The cluster, 0 before its birth.
    pub cluster: u128,
    /// The node.
    pub node: u16,
    /// The disk: random, made with the data folder.
    pub disk: u64,
    /// Number of the segment, equal to its file name.
    pub seq: u64,
    /// Position of the file's first byte.
    pub base: Lsn,
    /// Bytes of the file.
    pub capacity: u64,
    /// Random; seeds every CRC in the file.
    pub salt: u64,
    /// When it was created, unix nanoseconds.
    pub created_ns: u64,
    /// Where the previous segment ends; what it holds at or after this is void.
    pub prev_end: Lsn,
    /// CRC of the previous segment's last header (chain).
    pub prev_header_crc: u32,
    /// `batch_seq` of the previous segment's last batch; 0 if there was none.
    pub prev_batch_seq: u64,
    /// Highest ballot promised.
    pub promised: u64,
    /// Highest slot known chosen.
    pub commit_slot: u64,
    /// Slot of the newest durable snapshot.
    pub snapshot_slot: u64,
    /// Process starts so far.
    pub incarnation: u64,
    /// Boot of the machine.
    pub boot_id: u128,
    /// Highest slot ever written.
    pub max_slot_ever: u64,
    /// Highest ballot ever written.
    pub max_ballot_ever: u64,
}

/// Why a block is not a segment header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeaderFault {
    /// Only zeros.
    Zero,
    /// Other first bytes.
    Magic,
    /// The checksum does not match.
    Checksum,
    /// A format that this version does not read.
    Major(u16),
    /// Checksum good, content impossible.
    Nonsense(&'static str),
    /// The disk could not read it.
    Unreadable(String),
}

impl std::fmt::Display for HeaderFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            HeaderFault::Zero => f.write_str("only zeros"),
            HeaderFault::Magic => f.write_str("wrong magic"),
            HeaderFault::Checksum => f.write_str("checksum mismatch"),
            HeaderFault::Major(major) => write!(
                f,
                "format {major}; this version reads {FORMAT_MAJOR_MIN} to {FORMAT_MAJOR}"
            ),
            HeaderFault::Nonsense(what) => write!(f, "impossible {what}"),
            HeaderFault::Unreadable(error) => write!(f, "unreadable: {error}"),
        }
    }
}

impl SegmentHeader {
    /// The block of this header.
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let b = &mut block;
        field::put(b, 0, MAGIC);
        field::put(b, 8, self.major.to_le_bytes());
        field::put(b, 10, self.minor.to_le_bytes());
        field::put(b, 16, self.cluster.to_le_bytes());
        field::put(b, 32, self.node.to_le_bytes());
        field::put(b, 40, self.seq.to_le_bytes());
        field::put(b, 48, self.base.0.to_le_bytes());
        field::put(b, 56, self.capacity.to_le_bytes());
        field::put(b, 64, self.salt.to_le_bytes());
        field::put(b, 72, (BLOCK_BYTES as u32).to_le_bytes());
        field::put(b, 80, self.created_ns.to_le_bytes());
        field::put(b, 88, self.prev_end.0.to_le_bytes());
        field::put(b, 96, self.prev_header_crc.to_le_bytes());
        field::put(b, 104, self.prev_batch_seq.to_le_bytes());
        field::put(b, 112, self.promised.to_le_bytes());
        field::put(b, 120, self.commit_slot.to_le_bytes());
        field::put(b, 128, self.snapshot_slot.to_le_bytes());
        field::put(b, 136, self.incarnation.to_le_bytes());
        field::put(b, 144, self.boot_id.to_le_bytes());
        field::put(b, 160, self.max_slot_ever.to_le_bytes());
        field::put(b, 168, self.max_ballot_ever.to_le_bytes());
        field::put(b, 176, self.disk.to_le_bytes());
        let sum = crc(0, b);
        field::put(b, 12, sum.to_le_bytes());
        block
    }

    /// Reads a header block.
    ///
    /// # Errors
    ///
    /// The first [`HeaderFault`] found.
    pub(crate) fn decode(block: &[u8; BLOCK_BYTES]) -> Result<SegmentHeader, HeaderFault> {
        if field::is_zero(block) {
            return Err(HeaderFault::Zero);
        }
        if field::bytes::<8>(block, 0) != MAGIC {
            return Err(HeaderFault::Magic);
        }
        let mut copy = *block;
        field::put(&mut copy, 12, [0; 4]);
        if crc(0, &copy) != field::u32(block, 12) {
            return Err(HeaderFault::Checksum);
        }
        let major = field::u16(block, 8);
        if !(FORMAT_MAJOR_MIN..=FORMAT_MAJOR).contains(&major) {
            return Err(HeaderFault::Major(major));
        }
        let header = SegmentHeader {
            major,
            minor: field::u16(block, 10),
            cluster: field::u128(block, 16),
            node: field::u16(block, 32),
            disk: field::u64(block, 176),
            seq: field::u64(block, 40),
            base: Lsn(field::u64(block, 48)),
            capacity: field::u64(block, 56),
            salt: field::u64(block, 64),
            created_ns: field::u64(block, 80),
            prev_end: Lsn(field::u64(block, 88)),
            prev_header_crc: field::u32(block, 96),
            prev_batch_seq: field::u64(block, 104),
            promised: field::u64(block, 112),
            commit_slot: field::u64(block, 120),
            snapshot_slot: field::u64(block, 128),
            incarnation: field::u64(block, 136),
            boot_id: field::u128(block, 144),
            max_slot_ever: field::u64(block, 160),
            max_ballot_ever: field::u64(block, 168),
        };
        header.check(block).map_err(HeaderFault::Nonsense)?;
        Ok(header)
    }

    fn check(&self, block: &[u8; BLOCK_BYTES]) -> Result<(), &'static str> {
        let blocks = BLOCK_BYTES as u64;
        if field::u32(block, 72) != BLOCK_BYTES as u32 {
            return Err("block size");
        }
        if !(CAPACITY_MIN..=CAPACITY_MAX).contains(&self.capacity)
            || !self.capacity.is_multiple_of(blocks)
        {
            return Err("capacity");
        }
        if !self.base.0.is_multiple_of(blocks) || self.base.0.checked_add(self.capacity).is_none() {
            return Err("base position");
        }
        if self.prev_end.0 > self.base.0 || !self.prev_end.0.is_multiple_of(blocks) {
            return Err("end of the previous segment");
        }
        // Of a later minor version, bytes may be set that this one does not know.
        if self.minor == FORMAT_MINOR && !field::is_zero(&block[184..]) {
            return Err("reserved bytes");
        }
        Ok(())
    }

    /// Position one after the last byte of the file.
    #[must_use]
    pub fn end(&self) -> Lsn {
        Lsn(self.base.0 + self.capacity)
    }

    /// Where batches must end: the last block is the header's copy.
    #[must_use]
    pub fn batches_end(&self) -> Lsn {
        Lsn(self.end().0 - BLOCK_BYTES as u64)
    }

    /// The seed of header and directory checksums.
    pub(crate) fn seed(&self) -> u32 {
        self.salt as u32
    }
}
