//! Why a peer does not count.

use crate::ident::{DiskId, Life, Slot};
use crate::memory::Memory;

/// Why nothing counts that a process says which claims to be a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Its disk is not the cluster's: wiped, swapped, or of another member.
    Disk {
        /// The disk it has.
        found: DiskId,
        /// The disk that counts; `None` if the node is no member at all.
        expected: Option<DiskId>,
    },
    /// The process is older than one that this replica knows of, or a second one on a copy of its disk.
    Life {
        /// The start of the process that was refused.
        found: Life,
        /// The last start known of.
        known: Life,
    },
    /// Its disk holds less than it is known to have held.
    Copy {
        /// What is remembered of it.
        known: Memory,
    },
    /// It has chosen or applied something else than this replica, which is with the majority.
    History {
        /// The lowest slot at which a difference was seen; it began there or below.
        slot: Slot,
        /// The hash here.
        ours: u64,
        /// The hash there.
        theirs: u64,
    },
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Disk { found, expected } => {
                write!(f, "it came with disk {found}, which is not the cluster's")?;
                if let Some(expected) = expected {
                    write!(f, " (expected {expected})")?;
                }
                Ok(())
            }
            Refusal::Life { found, known } => write!(
                f,
                "it came with an old copy of its data folder, or its folder runs twice: start {found}, but the \
                 last known start is {known}. Keep only the folder that ran last"
            ),
            Refusal::Copy { known } => write!(
                f,
                "it runs on an old copy of its data folder, which holds less than is remembered of it ({known}). \
                 Put back the folder that ran last"
            ),
            Refusal::History { slot, ours, theirs } => write!(
                f,
                "it differs from this replica and the majority at slot {slot} ({theirs:016x}, here {ours:016x}). \
                 It stops. Keep its data folder: acknowledged entries may be in it alone"
            ),
        }
    }
}
