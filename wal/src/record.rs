//! What a caller appends and reads: records of slots, ballots and opaque payloads.
//!
//! The log knows a slot and a ballot as two plain ordered numbers, which entry and which version of
//! it; the payload is bytes. What they mean is the business of whoever appends.

use std::fmt;

use bytes::Bytes;

/// The largest payload of one record.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a record says about its slot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// A value accepted for a slot under a ballot.
    Accept = 1,
    /// A ballot promised; slot 0.
    Promise = 2,
    /// A value fetched as chosen: outranks every accept of its slot. Ballot 0.
    Chosen = 3,
    /// A snapshot of everything up to the slot is durable.
    SnapshotMark = 4,
    /// A value fetched to repair a damaged slot.
    Repair = 5,
}

impl RecordKind {
    /// The kind of this number, if there is one.
    #[must_use]
    pub fn from_u8(value: u8) -> Option<RecordKind> {
        Some(match value {
            1 => RecordKind::Accept,
            2 => RecordKind::Promise,
            3 => RecordKind::Chosen,
            4 => RecordKind::SnapshotMark,
            5 => RecordKind::Repair,
            _ => return None,
        })
    }

    /// Whether records of this kind hold the value of their slot.
    #[must_use]
    pub fn is_entry(self) -> bool {
        matches!(
            self,
            RecordKind::Accept | RecordKind::Chosen | RecordKind::Repair
        )
    }
}

impl fmt::Display for RecordKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            RecordKind::Accept => "accept",
            RecordKind::Promise => "promise",
            RecordKind::Chosen => "chosen",
            RecordKind::SnapshotMark => "snapshot-mark",
            RecordKind::Repair => "repair",
        })
    }
}

/// One record to append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it says.
    pub kind: RecordKind,
    /// Which entry; 0 for a promise.
    pub slot: u64,
    /// Which version of it.
    pub ballot: u64,
    /// The value, at most [`PAYLOAD_BYTES_MAX`] bytes.
    pub payload: Bytes,
}

/// The value that the log holds for a slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredEntry {
    /// Accept, chosen or repair.
    pub kind: RecordKind,
    /// The ballot of the record that holds it.
    pub ballot: u64,
    /// The value.
    pub payload: Bytes,
}

/// A place in one replica's log: bytes since its birth, counting every segment as a whole.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Lsn(pub u64);

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Slots `first..=last` of which a version of up to `ballot_max` may have been here and is not readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlotRange {
    /// The first slot.
    pub first: u64,
    /// The last slot, inclusive.
    pub last: u64,
    /// No lost version has a higher ballot.
    pub ballot_max: u64,
}

impl SlotRange {
    /// Every slot from `first` on, in any version: nothing tells how much was there.
    #[must_use]
    pub fn open(first: u64) -> SlotRange {
        SlotRange {
            first,
            last: u64::MAX,
            ballot_max: u64::MAX,
        }
    }

    /// Whether the slot is among them.
    #[must_use]
    pub fn contains(&self, slot: u64) -> bool {
        (self.first..=self.last).contains(&slot)
    }
}

impl fmt::Display for SlotRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last {
            write!(f, "slot {}", self.first)?;
        } else if self.last == u64::MAX {
            write!(f, "slots from {} on", self.first)?;
        } else {
            write!(f, "slots {}..={}", self.first, self.last)?;
        }
        match self.ballot_max {
            u64::MAX => f.write_str(" under any ballot"),
            ballot => write!(f, " up to ballot {}", Ballot(ballot)),
        }
    }
}

/// Prints a ballot the way the whole project does: round, dot, node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ballot(pub(crate) u64);

impl fmt::Display for Ballot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 >> 16, self.0 & 0xffff)
    }
}
