//! What a replica answers.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::envelope::status::{MemberInfo, Status};
use crate::wire::{self, DecodeError};

/// An answer to the request of the same id on the same connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The request's id.
    pub id: u64,
    /// The answer.
    pub body: ResponseBody,
}

/// What a replica answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResponseBody {
    /// The command was applied, now or earlier; what came of it.
    Outcome {
        /// The slot that decided it.
        slot: u64,
        /// The stamp, in ms of cluster time, of the entry that carried this very attempt. `None`
        /// for a push to an attempt that has no entry of its own, and if that entry moved no time.
        stamp_ms: Option<u64>,
        /// A `statemachine::Outcome`.
        bytes: Bytes,
    },
    /// The acquire waits in its queue; the outcome follows under the same id.
    Waiting {
        /// 1 = next.
        position: u64,
    },
    /// What a query found.
    Answer {
        /// The slot whose state was read.
        slot: u64,
        /// A `statemachine::Answer`.
        bytes: Bytes,
    },
    /// This replica does not lead.
    NotLeader {
        /// Who does, as far as it knows.
        leader: Option<Leader>,
    },
    /// Certainly not done.
    Unavailable {
        /// Why, for people.
        reason: String,
        /// Milliseconds after which to ask again; 0 = nothing is known, back off as usual;
        /// [`ResponseBody::NO_RETRY_MS`] = this replica's answer would be the same.
        retry_ms: u64,
    },
    /// Perhaps done: placed in the log, then leadership was lost.
    Unknown {
        /// Why, for people.
        reason: String,
    },
    /// The request makes no sense.
    Bad {
        /// Why, for people.
        reason: String,
    },
    /// How this replica stands.
    Status(Box<Status>),
    /// All replicas' addresses.
    Members(Vec<MemberInfo>),
    /// A commit was made.
    Health {
        /// How long it took, in microseconds.
        commit_us: u64,
    },
    /// Done; there is nothing to say about it.
    Done,
    /// What a session has lost, told unasked under [`Response::UNASKED`]: a push, which may be lost
    /// like any message.
    Lost {
        /// The session.
        session: u64,
        /// The slot in which it was lost.
        slot: u64,
        /// A `statemachine::Outcome`, one that refuses: `not_held` for a lock, `session_expired` for
        /// the session with all that it held.
        bytes: Bytes,
    },
}

impl ResponseBody {
    /// The `retry_ms` of an [`ResponseBody::Unavailable`] that asking again does not change, such as for a file that stays damaged.
    pub const NO_RETRY_MS: u64 = u64::MAX;
}

/// Where to find the leader.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leader {
    /// Its id.
    pub id: u16,
    /// Its client address, `host:port`.
    pub address: String,
}

#[derive(Serialize, Deserialize)]
struct Head {
    id: u64,
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Outcome { slot: u64, stamp_ms: Option<u64> },
    Waiting { position: u64 },
    Answer { slot: u64 },
    NotLeader { leader: Option<Leader> },
    Unavailable { reason: String, retry_ms: u64 },
    Unknown { reason: String },
    Bad { reason: String },
    Status(Box<Status>),
    Members(Vec<MemberInfo>),
    Health { commit_us: u64 },
    Done,
    Lost { session: u64, slot: u64 },
}

impl Response {
    /// The id of what is told unasked. No request bears it.
    pub const UNASKED: u64 = 0;

    /// The frame body.
    pub fn encode(&self) -> Bytes {
        let (kind, tail) = parts(self.body.clone());
        wire::encode(&Head { id: self.id, kind }, &tail)
    }

    /// Reads a frame body. The opaque part is a slice of `body`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]. Never panics, whatever `body` holds.
    pub fn decode(body: Bytes) -> Result<Response, DecodeError> {
        let (Head { id, kind }, tail) = wire::decode("response", body)?;
        if !matches!(
            kind,
            Kind::Outcome { .. } | Kind::Answer { .. } | Kind::Lost { .. }
        ) {
            wire::nothing_left("response", &tail)?;
        }
        Ok(Response {
            id,
            body: whole(kind, tail),
        })
    }
}

fn parts(body: ResponseBody) -> (Kind, Bytes) {
    let kind = match body {
        ResponseBody::Outcome {
            slot,
            stamp_ms,
            bytes,
        } => {
            return (Kind::Outcome { slot, stamp_ms }, bytes);
        }
        ResponseBody::Answer { slot, bytes } => return (Kind::Answer { slot }, bytes),
        ResponseBody::Lost {
            session,
            slot,
            bytes,
        } => return (Kind::Lost { session, slot }, bytes),
        ResponseBody::Waiting { position } => Kind::Waiting { position },
        ResponseBody::NotLeader { leader } => Kind::NotLeader { leader },
        ResponseBody::Unavailable { reason, retry_ms } => Kind::Unavailable { reason, retry_ms },
        ResponseBody::Unknown { reason } => Kind::Unknown { reason },
        ResponseBody::Bad { reason } => Kind::Bad { reason },
        ResponseBody::Status(status) => Kind::Status(status),
        ResponseBody::Members(members) => Kind::Members(members),
        ResponseBody::Health { commit_us } => Kind::Health { commit_us },
        ResponseBody::Done => Kind::Done,
    };
    (kind, Bytes::new())
}

fn whole(kind: Kind, tail: Bytes) -> ResponseBody {
    match kind {
        Kind::Outcome { slot, stamp_ms } => ResponseBody::Outcome {
            slot,
            stamp_ms,
            bytes: tail,
        },
        Kind::Answer { slot } => ResponseBody::Answer { slot, bytes: tail },
        Kind::Lost { session, slot } => ResponseBody::Lost {
            session,
            slot,
            bytes: tail,
        },
        Kind::Waiting { position } => ResponseBody::Waiting { position },
        Kind::NotLeader { leader } => ResponseBody::NotLeader { leader },
        Kind::Unavailable { reason, retry_ms } => ResponseBody::Unavailable { reason, retry_ms },
        Kind::Unknown { reason } => ResponseBody::Unknown { reason },
        Kind::Bad { reason } => ResponseBody::Bad { reason },
        Kind::Status(status) => ResponseBody::Status(status),
        Kind::Members(members) => ResponseBody::Members(members),
        Kind::Health { commit_us } => ResponseBody::Health { commit_us },
        Kind::Done => ResponseBody::Done,
    }
}
