//! The superblock: what cannot be learned from the log alone, in two copies of 4 KiB.
//!
//! The promise above all: no peer can give it back. Beside it identity, birth record, where the log
//! begins and ends, the two newest snapshots, and hints of how far the log was durable.
//! The fields stand in `FORMAT.md`. How the two copies are kept is in `super_store.rs`.

use bytes::Bytes;

use crate::checksum::crc;
use crate::field;
use crate::record::Lsn;
use crate::segment::{FORMAT_MAJOR, FORMAT_MAJOR_MIN, FORMAT_MINOR};
use crate::snapshot::SnapshotRef;
use crate::storage::BLOCK_BYTES;

const MAGIC: [u8; 8] = *b"PXWALSUP";
const BIRTH_AT: usize = 256;
const PEERS_AT: usize = BLOCK_BYTES - PEERS_BYTES_MAX;
const CLEAN: u32 = 1;
/// The longest birth record, in bytes.
pub const BIRTH_BYTES_MAX: usize = PEERS_AT - BIRTH_AT;
/// The most that a replica can record about its peers, in bytes: 20 for each of 64.
pub const PEERS_BYTES_MAX: usize = 1_280;

/// What the superblock says; also what [`crate::Folder::meta`] shows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Superblock {
    /// The cluster; 0 before its birth.
    pub cluster: u128,
    /// The node.
    pub node: u16,
    /// The disk: random, made with the data folder.
    pub disk: u64,
    /// Counts the writes of this block.
    pub sequence: u64,
    /// Process starts, this one included.
    pub incarnation: u64,
    /// Boot of the machine at the last start.
    pub boot_id: u128,
    /// Whether the log was closed in order.
    pub clean: bool,
    /// Highest ballot promised.
    pub promised: u64,
    /// The oldest segment that belongs to the log.
    pub first_segment: u64,
    /// The newest segment whose header is durable; 0 before the first.
    pub newest_segment: u64,
    /// The newest snapshot.
    pub snapshot: Option<SnapshotRef>,
    /// The one before it.
    pub previous_snapshot: Option<SnapshotRef>,
    /// The log was durable up to here when this was written.
    pub durable_hint: Lsn,
    /// Highest slot ever written when this was written.
    pub max_slot_ever: u64,
    /// Highest ballot ever written when this was written.
    pub max_ballot_ever: u64,
    /// Digest of the membership.
    pub membership_digest: u64,
    /// Every slot up to this one may have gone with a removed segment.
    pub removed_slot: u64,
    /// The cluster's birth record, at most [`BIRTH_BYTES_MAX`] bytes; empty before birth.
    pub birth: Bytes,
    /// What the replica recorded about its peers, at most [`PEERS_BYTES_MAX`] bytes. Only the caller knows
    /// what they mean. Empty at first, and in a folder of format 1.
    pub peers: Bytes,
}

/// Why a block is not a superblock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SuperFault {
    /// No such file.
    Missing,
    /// Shorter than a block, wrong magic or checksum mismatch.
    Damaged(&'static str),
    /// A format that this version does not read.
    Major(u16),
    /// The disk could not read it.
    Unreadable(String),
}

impl std::fmt::Display for SuperFault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SuperFault::Missing => f.write_str("missing"),
            SuperFault::Damaged(what) => f.write_str(what),
            SuperFault::Major(major) => write!(
                f,
                "format {major}; this version reads {FORMAT_MAJOR_MIN} to {FORMAT_MAJOR}"
            ),
            SuperFault::Unreadable(error) => write!(f, "unreadable: {error}"),
        }
    }
}

impl Superblock {
    /// The block, in the newest format.
    ///
    /// # Panics
    ///
    /// If the birth record is longer than [`BIRTH_BYTES_MAX`], which `store_birth` refuses, or `peers` longer than
    /// [`PEERS_BYTES_MAX`], which `note_peers` refuses.
    pub(crate) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        let b = &mut block;
        field::put(b, 0, MAGIC);
        field::put(b, 8, FORMAT_MAJOR.to_le_bytes());
        field::put(b, 10, FORMAT_MINOR.to_le_bytes());
        field::put(b, 16, self.cluster.to_le_bytes());
        field::put(b, 32, self.node.to_le_bytes());
        field::put(b, 40, self.disk.to_le_bytes());
        field::put(b, 48, self.sequence.to_le_bytes());
        field::put(b, 56, self.incarnation.to_le_bytes());
        field::put(b, 64, self.boot_id.to_le_bytes());
        field::put(b, 80, if self.clean { CLEAN } else { 0 }.to_le_bytes());
        field::put(b, 84, (self.birth.len() as u32).to_le_bytes());
        field::put(b, 88, self.promised.to_le_bytes());
        field::put(b, 96, self.first_segment.to_le_bytes());
        field::put(b, 104, self.newest_segment.to_le_bytes());
        put_snapshot(b, 112, self.snapshot);
        put_snapshot(b, 136, self.previous_snapshot);
        field::put(b, 160, self.durable_hint.0.to_le_bytes());
        field::put(b, 168, self.max_slot_ever.to_le_bytes());
        field::put(b, 176, self.max_ballot_ever.to_le_bytes());
        field::put(b, 184, self.membership_digest.to_le_bytes());
        field::put(b, 192, self.removed_slot.to_le_bytes());
        field::put(b, 200, (self.peers.len() as u32).to_le_bytes());
        b[BIRTH_AT..PEERS_AT][..self.birth.len()].copy_from_slice(&self.birth);
        b[PEERS_AT..][..self.peers.len()].copy_from_slice(&self.peers);
        let sum = crc(0, b);
        field::put(b, 12, sum.to_le_bytes());
        block
    }

    /// Reads the block.
    ///
    /// # Errors
    ///
    /// The first [`SuperFault`] found. Allocates at most the birth record and what is known of the peers.
    pub(crate) fn decode(block: &[u8]) -> Result<Superblock, SuperFault> {
        if block.len() < BLOCK_BYTES {
            return Err(SuperFault::Damaged("too short"));
        }
        let b = &block[..BLOCK_BYTES];
        if field::bytes::<8>(b, 0) != MAGIC {
            return Err(SuperFault::Damaged("wrong magic"));
        }
        let mut hasher = crate::checksum::Crc::new(0);
        hasher.update(&b[..12]);
        hasher.update(&[0; 4]);
        hasher.update(&b[16..]);
        if hasher.finish() != field::u32(b, 12) {
            return Err(SuperFault::Damaged("checksum mismatch"));
        }
        let major = field::u16(b, 8);
        if !(FORMAT_MAJOR_MIN..=FORMAT_MAJOR).contains(&major) {
            return Err(SuperFault::Major(major));
        }
        // Format 1 had room for longer records, but no cluster of the largest size fills what is left of it.
        let birth_bytes = field::u32(b, 84) as usize;
        if birth_bytes > BIRTH_BYTES_MAX {
            return Err(SuperFault::Damaged("impossible length of the birth record"));
        }
        let peers_bytes = match major {
            1 => 0,
            _ => field::u32(b, 200) as usize,
        };
        if peers_bytes > PEERS_BYTES_MAX {
            return Err(SuperFault::Damaged(
                "impossible length of what is known of the peers",
            ));
        }
        let reserved_at = if major == 1 { 200 } else { 204 };
        let reserved = [
            reserved_at..BIRTH_AT,
            BIRTH_AT + birth_bytes..PEERS_AT,
            PEERS_AT + peers_bytes..BLOCK_BYTES,
        ];
        let zero = || reserved.into_iter().all(|range| field::is_zero(&b[range]));
        if field::u16(b, 10) == FORMAT_MINOR && !zero() {
            return Err(SuperFault::Damaged("reserved bytes are not zero"));
        }
        Ok(Superblock {
            cluster: field::u128(b, 16),
            node: field::u16(b, 32),
            disk: field::u64(b, 40),
            sequence: field::u64(b, 48),
            incarnation: field::u64(b, 56),
            boot_id: field::u128(b, 64),
            clean: field::u32(b, 80) & CLEAN != 0,
            promised: field::u64(b, 88),
            first_segment: field::u64(b, 96),
            newest_segment: field::u64(b, 104),
            snapshot: snapshot(b, 112),
            previous_snapshot: snapshot(b, 136),
            durable_hint: Lsn(field::u64(b, 160)),
            max_slot_ever: field::u64(b, 168),
            max_ballot_ever: field::u64(b, 176),
            membership_digest: field::u64(b, 184),
            removed_slot: field::u64(b, 192),
            birth: Bytes::copy_from_slice(&b[BIRTH_AT..BIRTH_AT + birth_bytes]),
            peers: Bytes::copy_from_slice(&b[PEERS_AT..PEERS_AT + peers_bytes]),
        })
    }
}

fn put_snapshot(b: &mut [u8], at: usize, snapshot: Option<SnapshotRef>) {
    let reference = snapshot.unwrap_or_default();
    field::put(b, at, reference.slot.to_le_bytes());
    field::put(b, at + 8, reference.length.to_le_bytes());
    field::put(b, at + 16, reference.digest.to_le_bytes());
}

/// A snapshot of length 0 is none.
fn snapshot(b: &[u8], at: usize) -> Option<SnapshotRef> {
    let reference = SnapshotRef {
        slot: field::u64(b, at),
        length: field::u64(b, at + 8),
        digest: field::u64(b, at + 16),
    };
    (reference.length > 0).then_some(reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Superblock {
        Superblock {
            node: 7,
            promised: 3 << 16 | 7,
            birth: vec![0xb1; BIRTH_BYTES_MAX].into(),
            peers: vec![0xee; PEERS_BYTES_MAX].into(),
            ..Superblock::default()
        }
    }

    /// The block as another version would have sealed it.
    fn sealed(change: impl FnOnce(&mut [u8; BLOCK_BYTES])) -> [u8; BLOCK_BYTES] {
        let mut block = full().encode();
        change(&mut block);
        field::put(&mut block, 12, [0; 4]);
        let sum = crc(0, &block);
        field::put(&mut block, 12, sum.to_le_bytes());
        block
    }

    #[test]
    fn the_largest_birth_record_and_peers_fit_side_by_side() {
        assert_eq!(Superblock::decode(&full().encode()), Ok(full()));
    }

    #[test]
    fn other_majors_are_refused_by_name() {
        for major in [0, 3, u16::MAX] {
            let block = sealed(|b| field::put(b, 8, major.to_le_bytes()));
            assert_eq!(Superblock::decode(&block), Err(SuperFault::Major(major)));
        }
    }

    #[test]
    fn format_1_knows_nothing_of_peers() {
        let block = sealed(|b| {
            field::put(b, 8, 1_u16.to_le_bytes());
            field::put(b, 200, [0; 4]);
            b[PEERS_AT..].fill(0);
        });
        let peers = Bytes::new();
        assert_eq!(
            Superblock::decode(&block),
            Ok(Superblock { peers, ..full() })
        );
        let block = sealed(|b| field::put(b, 8, 1_u16.to_le_bytes()));
        let reserved = SuperFault::Damaged("reserved bytes are not zero");
        assert_eq!(Superblock::decode(&block), Err(reserved));
    }

    #[test]
    fn impossible_lengths_are_damage() {
        for (at, limit) in [(84, BIRTH_BYTES_MAX), (200, PEERS_BYTES_MAX)] {
            let block = sealed(|b| field::put(b, at, (limit as u32 + 1).to_le_bytes()));
            let found = Superblock::decode(&block);
            assert!(matches!(found, Err(SuperFault::Damaged(_))), "{found:?}");
        }
    }
}
