//! Why a command was refused: values that every replica reaches alike.
//!
//! A refusal has three faces: a code for programs ([`Refusal::code`]), a sentence for people
//! (`Display`), and the number that the coursework's calls return ([`Refusal::rc`]).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{SessionId, Token};

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The session has ended, or never was.
    SessionExpired,
    /// The lock is held, and the acquire was not to wait.
    Busy {
        /// The lock.
        lock: String,
        /// The session that holds it.
        holder: SessionId,
        /// The name that session gave itself.
        holder_name: String,
    },
    /// The lock was not free within the time to wait.
    WaitTimedOut,
    /// This very session holds the lock; locks are not reentrant.
    AlreadyHeld {
        /// Its grant.
        token: Token,
    },
    /// Another acquire of this very session waits for the lock.
    AlreadyWaiting {
        /// The number of that acquire.
        seq: crate::Seq,
    },
    /// As many wait for the lock as may.
    QueueFull {
        /// How many may.
        limit: u64,
    },
    /// As many sessions are open as may be.
    TooManySessions {
        /// How many may be.
        limit: u64,
    },
    /// The lock is not held by this session under this token.
    NotHeld {
        /// The lock.
        lock: String,
        /// The token that was shown.
        token: Token,
        /// What is known of the reason.
        why: NotHeldWhy,
    },
    /// The append or release came before one that it follows. Nothing is remembered of it.
    OutOfOrder {
        /// To an append: the place that is next. To a release: the number of appends there are.
        expected: u32,
    },
    /// There is no such file.
    NoSuchFile {
        /// The name asked for.
        file: String,
    },
    /// The file is guarded by another lock.
    WrongGuard {
        /// The lock that guards it.
        guard: String,
    },
    /// One value is longer than it may be.
    TooLarge {
        /// What it is.
        what: Measured,
        /// Bytes that it may have.
        limit: u64,
        /// Bytes that it has.
        value: u64,
    },
    /// The section would grow larger than it may.
    SectionTooLarge {
        /// What there would be too many of.
        what: SectionPart,
        /// How many there may be.
        limit: u64,
        /// How many there would be.
        value: u64,
    },
    /// There is a file of that name.
    Exists {
        /// The name.
        file: String,
    },
    /// The file has appends that wait for their release.
    PendingAppends {
        /// The file.
        file: String,
    },
    /// The name is no name for a lock or a file.
    BadName {
        /// The name, or its beginning if it is long.
        name: String,
        /// What is wrong with it.
        reason: NameFault,
    },
    /// The session has as many commands unanswered or remembered as it may.
    TooManyInFlight {
        /// How many it may have.
        limit: u64,
    },
    /// The service holds as much as it may; what frees something still goes on.
    Full {
        /// What is full.
        what: FullPart,
        /// Bytes that it may hold.
        limit: u64,
    },
    /// The command ran, or was given up, and its answer is no longer known.
    Forgotten,
    /// The acquire was cancelled.
    Cancelled,
    /// The command makes no sense.
    BadRequest {
        /// Why.
        reason: String,
    },
}

/// Why a token is not, or no longer, the current one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotHeldWhy {
    /// Its lease ended.
    LeaseEnded,
    /// It was released.
    Released,
    /// It was aborted.
    Aborted,
    /// Its acquire was cancelled, and the lock given back.
    GivenBack,
    /// Somebody took the lock away.
    Forced {
        /// The reason given.
        reason: String,
    },
    /// It belongs to another session.
    OtherSession,
    /// Nothing is known of it: long past, of another lock, or never given.
    Unknown,
}

/// A single value with a limit to its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Measured {
    /// The data of one append.
    Append,
    /// The name a session gives itself.
    SessionName,
    /// The reason of a forced release.
    Reason,
}

/// What a section can have too many of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SectionPart {
    /// Bytes of data.
    Bytes,
    /// Appends.
    Appends,
    /// Files.
    Files,
}

/// What can be full.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FullPart {
    /// The state of the service as a whole.
    State,
    /// All pending sections together.
    Sections,
}

/// What is wrong with a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NameFault {
    /// It is empty.
    Empty,
    /// It is longer than 255 bytes.
    TooLong {
        /// Bytes that a name may have.
        limit: u64,
        /// Bytes that it has.
        value: u64,
    },
    /// It is a file's, and has a character that those may not have, or not there.
    Character,
}

impl Refusal {
    /// The code for programs: snake case, part of the public contract.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Refusal::SessionExpired => "session_expired",
            Refusal::Busy { .. } => "busy",
            Refusal::WaitTimedOut => "wait_timed_out",
            Refusal::AlreadyHeld { .. } => "already_held",
            Refusal::AlreadyWaiting { .. } => "already_waiting",
            Refusal::QueueFull { .. } => "queue_full",
            Refusal::TooManySessions { .. } => "too_many_sessions",
            Refusal::NotHeld { .. } => "not_held",
            Refusal::OutOfOrder { .. } => "out_of_order",
            Refusal::NoSuchFile { .. } => "no_such_file",
            Refusal::WrongGuard { .. } => "wrong_guard",
            Refusal::TooLarge { .. } => "too_large",
            Refusal::SectionTooLarge { .. } => "section_too_large",
            Refusal::Exists { .. } => "exists",
            Refusal::PendingAppends { .. } => "pending_appends",
            Refusal::BadName { .. } => "bad_name",
            Refusal::TooManyInFlight { .. } => "too_many_in_flight",
            Refusal::Full { .. } => "full",
            Refusal::Forgotten => "forgotten",
            Refusal::Cancelled => "cancelled",
            Refusal::BadRequest { .. } => "bad_request",
        }
    }

    /// The return code of the coursework's calls: 1 no such file, 2 the lock or the session is
    /// lost, 3 busy or the wait is over, 4 any other.
    #[must_use]
    pub fn rc(&self) -> u8 {
        match self {
            Refusal::NoSuchFile { .. } => 1,
            Refusal::NotHeld { .. } | Refusal::SessionExpired => 2,
            Refusal::Busy { .. } | Refusal::WaitTimedOut => 3,
            _ => 4,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::SessionExpired => write!(f, "the session has expired"),
            Refusal::Busy {
                lock,
                holder,
                holder_name,
            } if holder_name.is_empty() => {
                write!(f, "lock {lock} is held by session {holder}")
            }
            Refusal::Busy {
                lock,
                holder,
                holder_name,
            } => {
                write!(f, "lock {lock} is held by {holder_name} (session {holder})")
            }
            Refusal::WaitTimedOut => write!(f, "the lock was not free within the time to wait"),
            Refusal::AlreadyHeld { token } => {
                write!(f, "this session already holds the lock, token {token}")
            }
            Refusal::AlreadyWaiting { seq } => {
                write!(
                    f,
                    "this session already waits for the lock, by its command {seq}"
                )
            }
            Refusal::QueueFull { limit } => {
                write!(f, "{limit} already wait for the lock, the limit is {limit}")
            }
            Refusal::TooManySessions { limit } => {
                write!(f, "{limit} sessions are open, the limit is {limit}")
            }
            Refusal::NotHeld { lock, token, why } => write!(f, "lock {lock}: token {token} {why}"),
            Refusal::OutOfOrder { expected } => {
                write!(f, "out of order: expected {expected}; nothing was changed")
            }
            Refusal::NoSuchFile { file } => write!(f, "there is no file {file}"),
            Refusal::WrongGuard { guard } => write!(f, "the file is guarded by lock {guard}"),
            Refusal::TooLarge { what, limit, value } => {
                write!(
                    f,
                    "{what} of {value} bytes is too large, the limit is {limit} bytes"
                )
            }
            Refusal::SectionTooLarge { what, limit, value } => {
                write!(
                    f,
                    "the section would have {value} {what}, the limit is {limit}"
                )
            }
            Refusal::Exists { file } => write!(f, "file {file} exists"),
            Refusal::PendingAppends { file } => {
                write!(f, "file {file} has appends that wait for their release")
            }
            Refusal::BadName { name, reason } => write!(f, "bad name {name:?}: {reason}"),
            Refusal::TooManyInFlight { limit } => write!(
                f,
                "the session has {limit} commands in flight or remembered, the limit is {limit}"
            ),
            Refusal::Full { what, limit } => {
                write!(f, "{what} would exceed the limit of {limit} bytes")
            }
            Refusal::Forgotten => {
                write!(
                    f,
                    "the command ran or was given up, its answer is forgotten"
                )
            }
            Refusal::Cancelled => write!(f, "the acquire was cancelled"),
            Refusal::BadRequest { reason } => write!(f, "bad request: {reason}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl fmt::Display for NotHeldWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NotHeldWhy::LeaseEnded => write!(f, "is stale, its lease ended"),
            NotHeldWhy::Released => write!(f, "is stale, it was released"),
            NotHeldWhy::Aborted => write!(f, "is stale, it was aborted"),
            NotHeldWhy::GivenBack => write!(f, "is stale, its acquire was cancelled"),
            NotHeldWhy::Forced { reason } => {
                write!(f, "is stale, it was released by force: {reason}")
            }
            NotHeldWhy::OtherSession => write!(f, "belongs to another session"),
            NotHeldWhy::Unknown => write!(f, "is not the current one"),
        }
    }
}

impl fmt::Display for Measured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Measured::Append => "an append",
            Measured::SessionName => "a session's name",
            Measured::Reason => "a reason",
        })
    }
}

impl fmt::Display for SectionPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SectionPart::Bytes => "bytes",
            SectionPart::Appends => "appends",
            SectionPart::Files => "files",
        })
    }
}

impl fmt::Display for FullPart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            FullPart::State => "the state of the service",
            FullPart::Sections => "all pending sections together",
        })
    }
}

impl fmt::Display for NameFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            NameFault::Empty => write!(f, "it is empty"),
            NameFault::TooLong { limit, value } => {
                write!(f, "it has {value} bytes, the limit is {limit}")
            }
            NameFault::Character => write!(
                f,
                "a file's name is a letter, digit or _ and then letters, digits and . _ -"
            ),
        }
    }
}
