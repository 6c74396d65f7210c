//! What can go wrong, one variant for each other answer by the caller.

use std::io;
use std::sync::Arc;

use crate::record::{Lsn, SlotRange};

/// Why the log could not do what was asked.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Another process works in this data folder.
    #[error("the data folder is in use by another process (its file `lock` is locked)")]
    InUse,

    /// The folder belongs to another node: the configuration names the wrong one.
    #[error("the data folder belongs to node {found}, this is node {expected}")]
    ForeignNode {
        /// Node id in the superblock.
        found: u16,
        /// Node id asked for.
        expected: u16,
    },

    /// The folder was written by a later version.
    #[error("{file} has format {found}; this version reads formats up to {known}")]
    NewerFormat {
        /// The file.
        file: String,
        /// Its major version.
        found: u16,
        /// Ours.
        known: u16,
    },

    /// Both superblock copies are gone or damaged: a promise may be forgotten, so this disk must not
    /// act as the same acceptor again. Replace the node.
    #[error("{0}")]
    MetaLost(String),

    /// Recovery found damage or a contradiction; the log is open for reading only. The report says what and where.
    #[error("the log is open for reading only: {0}")]
    Damaged(String),

    /// A birth record is stored already, and it is another one.
    #[error("the data folder was born into another cluster ({found:032x})")]
    BornElsewhere {
        /// The cluster in the superblock.
        found: u128,
    },

    /// Larger than the format or this log allows. Nothing was written.
    #[error("{what} has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its size in bytes.
        size: u64,
        /// The most that is allowed, in bytes.
        limit: u64,
    },

    /// A slot that no caller can mean: below what was removed is fine, far above the last is not. Nothing was written.
    #[error("slot {slot} is more than {limit} above the last slot {last}")]
    SlotOutOfRange {
        /// The slot.
        slot: u64,
        /// The last slot in the log.
        last: u64,
        /// How far above it may be.
        limit: u64,
    },

    /// No room for the next segment. Nothing was written and nothing is lost: ask again later.
    #[error("no room on the disk for the next log segment of {segment_bytes} bytes")]
    NoSpace {
        /// Bytes of a segment.
        segment_bytes: u64,
    },

    /// An earlier write or sync failed, so nobody knows what the disk holds. Reopen the log.
    /// Source: Rebello et al., "Can Applications Recover from fsync Failures?" (ATC 2020).
    #[error("the log is poisoned: an earlier write or sync failed")]
    Poisoned,

    /// The log is closed.
    #[error("the log is closed")]
    Closed,

    /// The disk refused.
    #[error("cannot {action} {file}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file, relative to the data folder.
        file: String,
        /// What the disk said.
        #[source]
        source: Arc<io::Error>,
    },

    /// A snapshot is damaged or is not the one that was asked for.
    #[error("snapshot {file}: {what}")]
    BadSnapshot {
        /// The file, relative to the data folder.
        file: String,
        /// What is wrong with it.
        what: String,
    },
}

impl Error {
    /// For `map_err`: what was tried on which file.
    pub(crate) fn io(
        action: &'static str,
        file: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Error {
        let file = file.into();
        move |source| Error::Io {
            action,
            file,
            source: Arc::new(source),
        }
    }

    /// Whether the system does not let this user do it: nothing is known to be damaged.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self, Error::Io { source, .. } if crate::storage::is_denied(source))
    }

    /// Whether a file could not be read. Nothing was written, and nothing is known to be damaged.
    #[must_use]
    pub fn is_unreadable(&self) -> bool {
        matches!(
            self,
            Error::Io {
                action: "list" | "open" | "read",
                ..
            }
        )
    }

    /// Whether the disk is full or the quota used up.
    #[must_use]
    pub fn is_no_space(&self) -> bool {
        match self {
            Error::NoSpace { .. } => true,
            Error::Io { source, .. } => crate::storage::is_no_space(source),
            _ => false,
        }
    }
}

/// Why a slot could not be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ReadError {
    /// The record is damaged, now that it was read again from the disk.
    #[error("slot {slot}: the record at {lsn} in {file} (byte {offset}) is damaged")]
    Corrupt {
        /// The slot.
        slot: u64,
        /// Ballot of the record.
        ballot: u64,
        /// Where it stands in the log.
        lsn: Lsn,
        /// The segment.
        file: String,
        /// Where it stands in the segment.
        offset: u64,
    },

    /// Recovery found that a version of this slot is lost, perhaps a newer one than what is left.
    #[error("a version of {range} is lost")]
    Faulty {
        /// What is lost.
        range: SlotRange,
    },

    /// The disk refused.
    #[error("slot {slot}: cannot read {file}")]
    Io {
        /// The slot.
        slot: u64,
        /// The segment.
        file: String,
        /// What the disk said.
        #[source]
        source: Arc<io::Error>,
    },
}
