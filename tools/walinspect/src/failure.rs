//! Why the program could not do what was asked, and its exit codes.

use std::io;
use std::path::Path;

use replica::causes::with_causes;
use wal::Outcome;
use wal::scan::{Decision, Finding};

/// What the process ends with; the same codes for every verb.
pub(crate) mod exit {
    pub(crate) const INTACT: u8 = 0;
    pub(crate) const IO: u8 = 1;
    pub(crate) const USAGE: u8 = 2;
    pub(crate) const CORRUPT: u8 = 3;
    pub(crate) const MISSING: u8 = 4;
    pub(crate) const REFUSED: u8 = 6;
    pub(crate) const TORN: u8 = 7;
}

/// Rows of the decision table that say that durable data is not there at all.
const ROWS_OF_MISSING_DATA: [u8; 6] = [3, 13, 14, 16, 17, 22];
/// A snapshot's row: missing data only if the removed slots went with it.
const SNAPSHOT_ROW: u8 = 26;

/// Why the program ends early.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// A file or folder could not be read.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The log could not be read.
    #[error("{}", with_causes(.0))]
    Log(#[from] wal::Error),
    /// It cannot be done as asked.
    #[error("{0}")]
    Usage(String),
    /// What was given is no log.
    #[error("{0}")]
    Refused(String),
    /// Whoever read the output has had enough.
    #[error("the output was closed")]
    OutputClosed,
}

impl Failure {
    pub(crate) fn io(what: &str, path: &Path) -> impl FnOnce(io::Error) -> Failure + use<> {
        let what = format!("{what} {}", path.display());
        move |source| Failure::Io { what, source }
    }

    pub(crate) fn exit(&self) -> u8 {
        match self {
            Failure::Io { .. } | Failure::Log(_) => exit::IO,
            Failure::Usage(_) => exit::USAGE,
            Failure::Refused(_) => exit::REFUSED,
            Failure::OutputClosed => exit::INTACT,
        }
    }
}

/// The exit code that says what state the folder is in.
pub(crate) fn state_code(decision: &Decision, strict: bool) -> u8 {
    let missing = |finding: &Finding| {
        ROWS_OF_MISSING_DATA.contains(&finding.row)
            || (finding.row == SNAPSHOT_ROW && finding.slots.is_some())
    };
    let mut damage = decision.report.damage().peekable();
    match decision.outcome {
        Outcome::Fatal => exit::REFUSED,
        Outcome::MetaLost => exit::MISSING,
        _ if damage.peek().is_some() => {
            // A log that may serve lacks nothing that its snapshots do not have.
            if !decision.outcome.may_serve() && damage.any(missing) {
                exit::MISSING
            } else {
                exit::CORRUPT
            }
        }
        Outcome::TornTail if strict => exit::TORN,
        _ => exit::INTACT,
    }
}
