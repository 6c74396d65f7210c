//! What a scan of the data folder found, before anyone judges it.

use crate::batch::{BatchHeader, Body, FoundRecord};
use crate::record::Lsn;
use crate::segment::{HeaderFault, SegmentHeader};
use crate::snapshot::SnapshotRef;
use crate::super_store::Copies;
use crate::superblock::SuperFault;

/// Everything that the decision needs to know about a data folder.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Both copies of the superblock.
    pub supers: Copies,
    /// Every file with a segment's name, ascending.
    pub segments: Vec<SegmentFacts>,
    /// Every file with a snapshot's name, ascending.
    pub snapshots: Vec<SnapshotFacts>,
    /// Files with other names in `wal/` and `snapshots/`: listed, never touched.
    pub unknown: Vec<String>,
}

impl Default for Facts {
    fn default() -> Facts {
        Facts {
            supers: [Err(SuperFault::Missing), Err(SuperFault::Missing)],
            segments: Vec::new(),
            snapshots: Vec::new(),
            unknown: Vec::new(),
        }
    }
}

/// One segment file.
#[derive(Clone, Debug)]
pub struct SegmentFacts {
    /// Number by its name.
    pub seq: u64,
    /// Its path in the data folder.
    pub path: String,
    /// Bytes of the file.
    pub len: u64,
    /// Header at the start, and its copy in the last block.
    pub headers: [Result<SegmentHeader, HeaderFault>; 2],
    /// Whether every byte of the file is zero.
    pub zero: bool,
    /// What stands between the headers, in order and without a hole; empty if no header is valid.
    pub items: Vec<Item>,
}

impl SegmentFacts {
    /// The header to believe: the first if it is valid, else the copy.
    #[must_use]
    pub fn header(&self) -> Option<&SegmentHeader> {
        let valid = |header: &&SegmentHeader| header.seq == self.seq;
        self.headers
            .iter()
            .filter_map(|header| header.as_ref().ok())
            .find(valid)
    }

    /// The batches, in order.
    pub fn batches(&self) -> impl Iterator<Item = &FoundBatch> {
        self.items.iter().filter_map(|item| match item {
            Item::Batch(batch) => Some(batch),
            Item::Gap(_) => None,
        })
    }
}

/// A stretch of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    /// A batch whose header is valid.
    Batch(FoundBatch),
    /// Blocks that no valid header covers.
    Gap(Gap),
}

impl Item {
    /// Where it begins.
    #[must_use]
    pub fn start(&self) -> Lsn {
        match self {
            Item::Batch(batch) => batch.header.lsn,
            Item::Gap(gap) => gap.start,
        }
    }
}

/// A batch with a valid header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundBatch {
    /// The header.
    pub header: BatchHeader,
    /// What its body turned out to be.
    pub body: Body,
    /// Its records; empty if the directory is bad.
    pub records: Vec<FoundRecord>,
}

/// Blocks without a valid header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// Where they begin.
    pub start: Lsn,
    /// Where they end.
    pub end: Lsn,
    /// What they hold.
    pub kind: GapKind,
}

/// What a gap holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapKind {
    /// Only zeros.
    Zero,
    /// Anything else.
    Damaged,
    /// Whole headers that belong elsewhere: stale or misdirected blocks.
    Misplaced,
    /// What the disk could not read, twice.
    Unreadable,
    /// Nothing: the file is shorter than its header says.
    CutOff,
}

impl std::fmt::Display for GapKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            GapKind::Zero => "zeros",
            GapKind::Damaged => "damaged blocks",
            GapKind::Misplaced => "misplaced blocks",
            GapKind::Unreadable => "unreadable blocks",
            GapKind::CutOff => "cut off the file",
        })
    }
}

/// One snapshot file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFacts {
    /// Slot by its name.
    pub slot: u64,
    /// Its path in the data folder.
    pub path: String,
    /// Its reference if every checksum is right, else what is wrong.
    pub verdict: Result<SnapshotRef, String>,
}
