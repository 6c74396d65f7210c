//! Why a replica does not start, with the exit code of its process.

use wal::storage::{is_bad_medium, is_denied};
use wal::{Judged, Outcome};

use crate::filestore::FileError;

/// The rows of the log's decision table that say: another identity, a newer format.
const FOREIGN_ROWS: [u8; 2] = [19, 20];

/// Why a replica does not start.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refusal {
    /// The process' exit code: 4 the folder is not this replica's to use (or not this user's), 5 damaged, 6 a write or
    /// sync failed, 1 anything else, such as a file that the system does not let it read.
    pub exit: u8,
    /// What is wrong, where, and what to do.
    pub message: String,
    /// Whether only room on the disk is missing: the same start succeeds once there is some.
    pub no_space: bool,
}

impl Refusal {
    /// Something stored is damaged.
    pub fn damaged(message: String) -> Refusal {
        Refusal {
            exit: 5,
            message,
            no_space: false,
        }
    }

    /// A folder or file that the system does not let this process read.
    pub(super) fn unreadable(path: &str, error: &std::io::Error) -> Refusal {
        Refusal {
            exit: if is_denied(error) { 4 } else { 1 },
            message: format!("cannot read {path}: {error}"),
            no_space: false,
        }
    }

    pub(super) fn of_log(log: &Judged) -> Refusal {
        let foreign = *log.outcome() == Outcome::Fatal
            && log
                .report()
                .damage()
                .any(|finding| FOREIGN_ROWS.contains(&finding.row));
        let message = format!("the log cannot be used\n{}", log.report());
        Refusal {
            exit: if foreign { 4 } else { 5 },
            message,
            no_space: false,
        }
    }
}

impl From<wal::Error> for Refusal {
    fn from(error: wal::Error) -> Refusal {
        let exit = match &error {
            wal::Error::InUse
            | wal::Error::ForeignNode { .. }
            | wal::Error::NewerFormat { .. }
            | wal::Error::BornElsewhere { .. } => 4,
            wal::Error::MetaLost(_) | wal::Error::Damaged(_) | wal::Error::BadSnapshot { .. } => 5,
            error if error.is_denied() => 4,
            error if error.is_unreadable() => 1,
            wal::Error::Io { .. } | wal::Error::NoSpace { .. } | wal::Error::Poisoned => 6,
            _ => 1,
        };
        Refusal {
            exit,
            message: with_cause(&error),
            no_space: error.is_no_space(),
        }
    }
}

impl From<wal::ReadError> for Refusal {
    fn from(error: wal::ReadError) -> Refusal {
        Refusal {
            exit: exit_of_read(&error),
            message: with_cause(&error),
            no_space: false,
        }
    }
}

/// What the process exits with if a slot of its log cannot be read: 5 if that slot is damaged, 1 if the system did not
/// let the file be read, which says nothing about the slot.
#[must_use]
pub fn exit_of_read(error: &wal::ReadError) -> u8 {
    match error {
        wal::ReadError::Io { source, .. } if !is_bad_medium(source) => 1,
        _ => 5,
    }
}

impl From<FileError> for Refusal {
    fn from(error: FileError) -> Refusal {
        let exit = match &error {
            FileError::Failed { source, .. } if is_denied(source) => 4,
            FileError::Failed { what, .. } if what.starts_with("list ") || *what == "read" => 1,
            _ => 6,
        };
        Refusal {
            exit,
            message: with_cause(&error),
            no_space: error.is_no_space(),
        }
    }
}

/// The refusal is where the error stops, so its causes are told here.
fn with_cause(error: &dyn std::error::Error) -> String {
    let mut message = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        message = format!("{message}: {error}");
        cause = error.source();
    }
    message
}
