//! What clients ask for: the commands that go through the log.
//!
//! A command is a value, encoded once by the client (see [`crate::codec`]) and carried unread to
//! every replica. What it does is written in [`crate::Machine`]; this file only names its parts.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{DecodeError, Seq, SessionId, Token, codec};

/// One command of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Opens a session. Repeated with the same nonce while that session lives, it opens no other.
    Open {
        /// Random, made once for this session; it makes a repeated `open` recognisable.
        nonce: u128,
        /// How long the session outlives its last sign of life, in milliseconds; 0 for the default.
        ttl_ms: u64,
        /// Who this is, for people; to 255 bytes.
        name: String,
    },
    /// Extends sessions and leases, of many clients at once. May run twice.
    KeepAlive {
        /// One for each session.
        beats: Vec<Beat>,
    },
    /// A numbered command of a session: it runs at most once.
    Session {
        /// The session that asks.
        session: SessionId,
        /// The command's number in it, from 1.
        seq: Seq,
        /// The numbers whose answers the client has, or wants no more.
        done: Done,
        /// What to do.
        op: Op,
    },
    /// Asks how a grant ended, and ends it if it has not: for a client that does not know whether
    /// its release was applied, and whose session may be gone. May run twice. Answer:
    /// [`Outcome::Settled`](crate::Outcome::Settled).
    Settle {
        /// The lock of the grant.
        lock: String,
        /// The grant.
        token: Token,
    },
}

/// A session's sign of life.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// The session to keep.
    pub session: SessionId,
    /// The leases to renew with it: lock and token.
    pub tokens: Vec<(String, Token)>,
}

/// The commands of a session whose answers need not be remembered any longer.
///
/// A number named here never runs (again). A waiting acquire named here leaves its queue: it cannot
/// have been answered, so it has been given up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// All numbers up to and including this one; 0 for none.
    pub below: u64,
    /// Ranges above `below`, both ends included.
    pub also: Vec<(u64, u64)>,
}

/// What a numbered command does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Ends the session: its locks are freed, pending appends discarded, waits ended.
    Close,
    /// Asks for a lock.
    Acquire {
        /// The lock's name, 1 to 255 bytes.
        lock: String,
        /// How long the grant lasts without an append or a renew; absent for the default.
        lease_ms: Option<u64>,
        /// How long to queue: absent as long as the session lives, 0 not at all.
        wait_ms: Option<u64>,
        /// How it is shared.
        mode: LockMode,
    },
    /// Ends an acquire: out of the queue, or given back if just granted.
    Cancel {
        /// The number of the acquire.
        seq: Seq,
    },
    /// Starts the lease anew.
    Renew {
        /// The lock held.
        lock: String,
        /// Its grant.
        token: Token,
    },
    /// Adds to the section of a held lock; applied at its release.
    Append {
        /// The lock held, which must be the file's guard.
        lock: String,
        /// Its grant.
        token: Token,
        /// The append's place in its section: 1, 2, 3, …
        place: u32,
        /// The file to append to.
        file: String,
        /// What to append, any bytes.
        data: Bytes,
    },
    /// Applies the section and frees the lock, in one slot.
    Release {
        /// The lock held.
        lock: String,
        /// Its grant.
        token: Token,
        /// How many appends the section has.
        count: u32,
    },
    /// Discards the section and frees the lock.
    Abort {
        /// The lock held.
        lock: String,
        /// Its grant.
        token: Token,
    },
    /// Creates an empty file.
    CreateFile {
        /// Its name.
        file: String,
        /// The lock that guards it; absent for the one that bears the file's name.
        guard: Option<String>,
    },
    /// Removes a file.
    RemoveFile {
        /// Its name.
        file: String,
    },
    /// Takes a lock from its holder, whoever that is. Kept in the log with its reason.
    ForceRelease {
        /// The lock.
        lock: String,
        /// The grant that must still be current.
        token: Token,
        /// Why, for people; to 1,024 bytes.
        reason: String,
    },
}

/// How a lock is shared. Only one way exists; the place in the format is kept for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum LockMode {
    /// One holder at a time.
    #[default]
    Exclusive,
}

impl Command {
    /// The bytes of the command, as they go over the wire and into the log.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a command back.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, on bytes that are no command, and on bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Command, DecodeError> {
        codec::decode(bytes)
    }
}

impl Op {
    /// The operation's name in logs, metrics and scripts.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Op::Close => "close",
            Op::Acquire { .. } => "acquire",
            Op::Cancel { .. } => "cancel",
            Op::Renew { .. } => "renew",
            Op::Append { .. } => "append",
            Op::Release { .. } => "release",
            Op::Abort { .. } => "abort",
            Op::CreateFile { .. } => "create",
            Op::RemoveFile { .. } => "remove",
            Op::ForceRelease { .. } => "force_release",
        }
    }
}
