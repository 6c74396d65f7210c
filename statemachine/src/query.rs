//! What can be asked without changing anything, and the answers.
//!
//! Lists come in pages: `after` is the last item of the page before, and [`Page::more`] says
//! whether another page follows.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{ClusterTime, DecodeError, FileId, Refusal, Seq, SessionId, Slot, Token, codec};

/// Items of a page, whatever was asked for.
pub const PAGE_MAX: u32 = 1_000;

/// Bytes that one read returns at most.
pub const READ_BYTES_MAX: u32 = 8 * 1024 * 1024;

/// A question to the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Who holds a lock and who waits for it. Answer: [`Answer::Lock`].
    LockStatus {
        /// The lock, free ones too.
        lock: String,
    },
    /// The locks that are held, by name. Answer: [`Answer::Locks`].
    Locks {
        /// What their names begin with.
        prefix: String,
        /// The last name of the page before.
        after: Option<String>,
        /// Items wanted, to [`PAGE_MAX`].
        limit: u32,
    },
    /// The open sessions, by id. Answer: [`Answer::Sessions`].
    Sessions {
        /// The last id of the page before.
        after: Option<SessionId>,
        /// Items wanted, to [`PAGE_MAX`].
        limit: u32,
    },
    /// The files, by name. Answer: [`Answer::Files`].
    Files {
        /// The last name of the page before.
        after: Option<String>,
        /// Items wanted, to [`PAGE_MAX`].
        limit: u32,
    },
    /// One file. Answer: [`Answer::File`].
    Stat {
        /// Its name.
        file: String,
    },
    /// Bytes of a file. Answer: [`Answer::ReadPlan`] by the machine, [`Answer::Data`] once read.
    Read {
        /// Its name.
        file: String,
        /// The first byte wanted.
        offset: u64,
        /// Bytes wanted, to [`READ_BYTES_MAX`].
        len: u32,
    },
    /// Whether a token is the current one of a lock. Answer: [`Answer::Token`].
    CheckToken {
        /// The lock.
        lock: String,
        /// The token.
        token: Token,
    },
    /// One session. Answer: [`Answer::Session`].
    Session {
        /// Its id.
        id: SessionId,
    },
}

/// The answer to a [`Query`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// To [`Query::LockStatus`].
    Lock(LockStatus),
    /// To [`Query::Locks`].
    Locks(Page<LockLine>),
    /// To [`Query::Sessions`].
    Sessions(Page<SessionFact>),
    /// To [`Query::Files`].
    Files(Page<FileFact>),
    /// To [`Query::Stat`].
    File(FileFact),
    /// To [`Query::Read`], for the driver: which bytes of which file to read.
    ReadPlan {
        /// The file's identity.
        id: FileId,
        /// Its name.
        name: String,
        /// The first byte.
        offset: u64,
        /// Bytes that are there from `offset` on and were asked for.
        len: u32,
        /// The file's length.
        file_len: u64,
    },
    /// To [`Query::Read`], for the client: what the driver read.
    Data {
        /// The first byte.
        offset: u64,
        /// The file's length as of the answer.
        file_len: u64,
        /// The bytes.
        data: Bytes,
    },
    /// To [`Query::CheckToken`].
    Token {
        /// Whether it is the current one.
        current: bool,
    },
    /// To [`Query::Session`].
    Session(SessionFact),
    /// There is no such file, or no such session.
    Refused(Refusal),
}

/// Part of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page<T> {
    /// The items, in order.
    pub items: Vec<T>,
    /// Others follow.
    pub more: bool,
}

/// A lock, who holds it, who waits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockStatus {
    /// Its name.
    pub lock: String,
    /// Its holder; absent if it is free.
    pub holder: Option<HolderFact>,
    /// Those who wait, the next one first, to [`PAGE_MAX`] of them.
    pub queue: Vec<WaiterFact>,
    /// How many wait.
    pub queue_len: u64,
}

/// A lock in a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockLine {
    /// Its name.
    pub lock: String,
    /// Its holder.
    pub holder: HolderFact,
    /// How many wait.
    pub queue_len: u64,
}

/// Who holds a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HolderFact {
    /// The session.
    pub session: SessionId,
    /// The name it gave itself.
    pub name: String,
    /// The grant.
    pub token: Token,
    /// The slot that granted it.
    pub slot: Slot,
    /// When that was, in cluster time.
    pub since: ClusterTime,
    /// When that was by the leader's wall clock, in milliseconds since 1970; for people.
    pub since_wall_ms: u64,
    /// The lease, in milliseconds.
    pub lease_ms: u64,
    /// When the lock is lost: the earlier of lease and session.
    pub deadline: ClusterTime,
    /// Milliseconds left until then.
    pub left_ms: u64,
    /// Appends pending.
    pub pending_appends: u32,
    /// Bytes pending.
    pub pending_bytes: u64,
}

/// Who waits for a lock.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaiterFact {
    /// The place in the queue, 1 for the next.
    pub position: u64,
    /// The session.
    pub session: SessionId,
    /// The name it gave itself.
    pub name: String,
    /// The number of its acquire.
    pub seq: Seq,
    /// Since when it waits, in cluster time.
    pub since: ClusterTime,
    /// When it stops waiting; absent if it waits as long as its session lives.
    pub until: Option<ClusterTime>,
}

/// An open session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionFact {
    /// Its id.
    pub session: SessionId,
    /// The name it gave itself.
    pub name: String,
    /// Its time to live, in milliseconds.
    pub ttl_ms: u64,
    /// When it was opened, in cluster time.
    pub since: ClusterTime,
    /// When it was opened by the leader's wall clock, in milliseconds since 1970; for people.
    pub since_wall_ms: u64,
    /// When it ends unless it gives a sign of life.
    pub deadline: ClusterTime,
    /// Milliseconds left until then.
    pub left_ms: u64,
    /// Locks that it holds.
    pub held: u64,
    /// Locks that it waits for.
    pub waiting: u64,
}

/// A file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileFact {
    /// Its identity.
    pub id: FileId,
    /// Its name.
    pub name: String,
    /// Its length in bytes, pending appends apart.
    pub length: u64,
    /// The CRC-32 of its content.
    pub crc32: u32,
    /// The lock that guards it.
    pub guard: String,
}

impl Query {
    /// The bytes of the query.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a query back.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, on bytes that are no query, and on bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Query, DecodeError> {
        codec::decode(bytes)
    }
}

impl Answer {
    /// The bytes of the answer.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an answer back.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, on bytes that are no answer, and on bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Answer, DecodeError> {
        codec::decode(bytes)
    }
}
