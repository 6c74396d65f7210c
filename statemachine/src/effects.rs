//! What applying one slot asks of the driver: answers to send, files to write, events to count.

use bytes::Bytes;

use crate::{Event, FileId, Outcome, Seq, SessionId, Token};

/// Everything that one slot brought about.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    /// Answers, in order. A command that starts to wait has none yet.
    pub replies: Vec<Reply>,
    /// Changes of files, to be made in this order.
    pub files: Vec<FileOp>,
    /// What happened, in order.
    pub events: Vec<Event>,
}

/// One answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Whom it answers.
    pub to: ReplyTo,
    /// What it says.
    pub outcome: Outcome,
    /// It answers the command of this very slot, so the entry's stamp may serve the client's
    /// clock (if that entry moves time). False for an answer pushed to an earlier command.
    pub counts_for_time: bool,
}

/// The command that an answer belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReplyTo {
    /// An `open`, by its nonce.
    Nonce(u128),
    /// This slot's `keep_alive`.
    Beats,
    /// A numbered command of a session.
    Command(SessionId, Seq),
    /// A `settle`, by the grant that it names.
    Settle(Token),
}

/// One change of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileOp {
    /// Make an empty file.
    Create {
        /// Its identity.
        id: FileId,
        /// Its name.
        name: String,
    },
    /// Write at the file's end.
    Write {
        /// Its identity.
        id: FileId,
        /// Its name.
        name: String,
        /// Where: the file's length so far.
        offset: u64,
        /// What.
        data: Bytes,
    },
    /// Take the file away.
    Remove {
        /// Its identity.
        id: FileId,
        /// Its name.
        name: String,
    },
}
