//! What a client asks.

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::wire::{self, DecodeError};

/// One attempt of one call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Unique per attempt on its connection, so that an answer names the very attempt.
    pub id: u64,
    /// What is asked.
    pub body: RequestBody,
}

/// What a client asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestBody {
    /// Have this command chosen and applied: a `statemachine::Command`.
    Command(Bytes),
    /// Read: a `statemachine::Query`.
    Query {
        /// From this replica's own state, however old; else linearizable, from the leader.
        stale: bool,
        /// The query.
        bytes: Bytes,
    },
    /// How this replica stands.
    Status,
    /// All replicas' addresses.
    Members,
    /// Make one commit and say how long it took.
    Health,
    /// Hand leadership to this replica.
    Transfer {
        /// Its id.
        to: u16,
    },
    /// Reserve room for one command that would add work, so that its bytes are sent only once.
    /// Answered by `Done` when the room is kept, else by `Unavailable`.
    Room {
        /// Length of the encoded command.
        bytes: u64,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    id: u64,
    kind: Kind,
}

#[derive(Serialize, Deserialize)]
enum Kind {
    Command,
    Query { stale: bool },
    Status,
    Members,
    Health,
    Transfer { to: u16 },
    Room { bytes: u64 },
}

impl Request {
    /// The frame body.
    pub fn encode(&self) -> Bytes {
        let (kind, tail): (Kind, &[u8]) = match &self.body {
            RequestBody::Command(bytes) => (Kind::Command, bytes),
            RequestBody::Query { stale, bytes } => (Kind::Query { stale: *stale }, bytes),
            RequestBody::Status => (Kind::Status, &[]),
            RequestBody::Members => (Kind::Members, &[]),
            RequestBody::Health => (Kind::Health, &[]),
            RequestBody::Transfer { to } => (Kind::Transfer { to: *to }, &[]),
            RequestBody::Room { bytes } => (Kind::Room { bytes: *bytes }, &[]),
        };
        wire::encode(&Head { id: self.id, kind }, tail)
    }

    /// Reads a frame body. The opaque part is a slice of `body`.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]. Never panics, whatever `body` holds.
    pub fn decode(body: Bytes) -> Result<Request, DecodeError> {
        let (Head { id, kind }, tail) = wire::decode("request", body)?;
        if !matches!(kind, Kind::Command | Kind::Query { .. }) {
            wire::nothing_left("request", &tail)?;
        }
        let body = match kind {
            Kind::Command => RequestBody::Command(tail),
            Kind::Query { stale } => RequestBody::Query { stale, bytes: tail },
            Kind::Status => RequestBody::Status,
            Kind::Members => RequestBody::Members,
            Kind::Health => RequestBody::Health,
            Kind::Transfer { to } => RequestBody::Transfer { to },
            Kind::Room { bytes } => RequestBody::Room { bytes },
        };
        Ok(Request { id, body })
    }
}
