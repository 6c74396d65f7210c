//! Why a program ends other than by success: an exit code that scripts rely on, and a sentence.

use std::process::ExitCode;

use crate::config::UsageError;

/// The exit codes of `node`. They are part of the contract with scripts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Anything that has no code of its own.
    Other = 1,
    /// Flags, environment or configuration file cannot be meant.
    Usage = 2,
    /// An address to listen on is taken.
    AddressInUse = 3,
    /// The data folder is in use, of another cluster, replica or disk, or of a newer format.
    DataRefused = 4,
    /// What is on the disk is damaged.
    Damaged = 5,
    /// A write or a sync failed, so that nobody knows what the disk holds.
    WriteFailed = 6,
    /// The replica is no longer a member of its cluster.
    Removed = 7,
}

/// An end with a reason.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What the process exits with.
    pub exit: Exit,
    /// What a person needs to know, on one line where possible.
    pub message: String,
}

impl Failure {
    /// An end with this code and reason.
    pub fn new(exit: Exit, message: impl Into<String>) -> Failure {
        Failure {
            exit,
            message: message.into(),
        }
    }
}

impl From<UsageError> for Failure {
    fn from(error: UsageError) -> Failure {
        Failure::new(Exit::Usage, error.0)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}
