//! What a command came to: the same value on every replica.

use serde::{Deserialize, Serialize};

use crate::{ClusterTime, DecodeError, FileId, Refusal, SessionId, Slot, Token, codec};

/// The answer to one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// To `open`.
    Opened {
        /// The session's id.
        session: SessionId,
        /// Its agreed time to live, in milliseconds.
        ttl_ms: u64,
        /// When it ends unless it gives a sign of life.
        deadline: ClusterTime,
    },
    /// To `keep_alive`.
    Alive {
        /// One for each beat, in their order.
        beats: Vec<BeatAnswer>,
    },
    /// To `close`.
    Closed,
    /// To `acquire`: the lock is held.
    Granted {
        /// The grant's number.
        token: Token,
        /// When the lock is lost: the earlier of its lease's and its session's deadline.
        deadline: ClusterTime,
        /// The agreed lease, in milliseconds.
        lease_ms: u64,
    },
    /// To `cancel`.
    Cancelled {
        /// The acquire had been granted, and the lock was given back.
        given_back: bool,
    },
    /// To `renew`.
    Renewed {
        /// The earlier of lease and session.
        deadline: ClusterTime,
    },
    /// To `append`: durable, and pending until the release.
    Appended {
        /// Bytes pending in the section, this append included.
        pending_bytes: u64,
        /// The earlier of lease and session.
        deadline: ClusterTime,
    },
    /// To `release`: the section is applied.
    Released {
        /// The slot in which it was.
        slot: Slot,
        /// The new length in bytes of each file appended to, by name.
        lengths: Vec<(String, u64)>,
    },
    /// To `abort`.
    Aborted,
    /// To `create`.
    Created {
        /// The new file's identity.
        id: FileId,
        /// The lock that guards it.
        guard: String,
    },
    /// To `remove`.
    Removed,
    /// To `force_release`.
    ForceReleased,
    /// The command changed nothing, for this reason.
    Refused(Refusal),
    /// To `settle`.
    Settled {
        /// What became of the section.
        fate: Fate,
    },
}

/// How a grant ended, as far as the state remembers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fate {
    /// It was released: its section is applied.
    Done {
        /// The slot in which it was.
        slot: Slot,
        /// The new length of each file appended to, by name; absent if there were too many to keep.
        lengths: Option<Vec<(String, u64)>>,
    },
    /// It ended in another way: nothing of its section was applied, and nothing ever will be.
    Never,
    /// The state does not remember the grant: it may have ended long ago, or never been given.
    Unknown,
}

/// What one beat of a `keep_alive` came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatAnswer {
    /// The session that was asked about.
    pub session: SessionId,
    /// What is left to it, or that it has ended.
    pub result: Result<BeatState, SessionExpired>,
}

/// A session that lives on, and the leases that were to be renewed with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeatState {
    /// When the session ends unless it gives another sign of life.
    pub deadline: ClusterTime,
    /// One for each token of the beat, in their order.
    pub locks: Vec<LockBeat>,
}

/// What became of one lease named in a beat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LockBeat {
    /// The lock.
    pub lock: String,
    /// The grant that was to be renewed.
    pub token: Token,
    /// The earlier of lease and session; absent if the lock is no longer held under this token.
    pub deadline: Option<ClusterTime>,
}

/// The session has ended, or never was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionExpired;

impl Outcome {
    /// The bytes of the outcome.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads an outcome back.
    ///
    /// # Errors
    ///
    /// Fails on an unknown version, on bytes that are no outcome, and on bytes left over.
    pub fn decode(bytes: &[u8]) -> Result<Outcome, DecodeError> {
        codec::decode(bytes)
    }

    /// The refusal, if it is one.
    #[must_use]
    pub fn refusal(&self) -> Option<&Refusal> {
        match self {
            Outcome::Refused(refusal) => Some(refusal),
            _ => None,
        }
    }

    /// The return code of the coursework's calls: 0, or that of the refusal.
    #[must_use]
    pub fn rc(&self) -> u8 {
        self.refusal().map_or(0, Refusal::rc)
    }
}
