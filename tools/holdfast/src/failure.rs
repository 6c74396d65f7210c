//! Why a verb did not do what it was asked: a code for programs, a sentence for people, an end for the exit code.

use std::fmt;
use std::io;

use statemachine::Printable;

use crate::exit::End;
use crate::output::printable_lines;

/// The one error of every verb.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    /// In snake case, the same as in the client library and in the shell.
    pub(crate) code: String,
    /// Lower case, without a full stop.
    pub(crate) message: String,
}

impl Failure {
    pub(crate) fn new(code: impl Into<String>, message: impl fmt::Display) -> Self {
        Failure {
            code: code.into(),
            // It may quote what other clients have named, and programs pass it on to people.
            message: Printable(&message.to_string()).to_string(),
        }
    }

    /// The command line, or what it names, makes no sense.
    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Failure {
            code: "usage".to_owned(),
            // The parser's messages have several lines.
            message: printable_lines(&message.to_string()),
        }
    }

    /// Reading or writing on this machine went wrong.
    pub(crate) fn local(what: &str, error: &io::Error) -> Self {
        Failure::new("io", format_args!("{what}: {error}"))
    }

    pub(crate) fn end(&self) -> End {
        End::of_code(&self.code)
    }
}

impl From<client::Error> for Failure {
    fn from(error: client::Error) -> Self {
        Failure::new(error.code(), error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}
