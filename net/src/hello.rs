//! The handshake: the first frame each way says who speaks, and which protocol.
//!
//! ```text
//! | "HOLDFAST" | protocol min u16, max u16 | cluster u128 | role u32, its fields |
//! ```
//!
//! The side that dialled speaks first. Both then use the highest version in both ranges. A cluster
//! id of 0 means "not known yet" and fits any; two others must be equal.

use bytes::{BufMut, Bytes, BytesMut};
use serde::{Deserialize, Serialize};

use crate::wire::{self, DecodeError};

/// The lowest and the highest protocol version that this build speaks.
pub const PROTOCOL: (u16, u16) = (2, 2);

const MAGIC: &[u8; 8] = b"HOLDFAST";

/// The first frame of a connection, in each direction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Lowest and highest protocol version spoken.
    pub protocol: (u16, u16),
    /// The cluster's random id; 0 = not known yet.
    pub cluster: u128,
    /// Who speaks.
    pub role: HelloRole,
}

/// Who opens a connection or answers on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum HelloRole {
    /// A client. Requests follow.
    Client {
        /// What the client calls itself, for logs.
        name: String,
    },
    /// A replica, to another one, each way. Peer messages follow.
    Peer(PeerHello),
    /// A replica, answering a client.
    Server {
        /// The replica's id.
        node: u16,
        /// The cluster's name, a label for people.
        label: String,
    },
}

/// What two replicas tell each other once per connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerHello {
    /// The replica's id.
    pub node: u16,
    /// The random id of its disk.
    pub disk: u64,
    /// Counts its starts on that disk.
    pub incarnation: u64,
    /// A random number drawn at this start: two processes on copies of one folder differ in it.
    pub start: u64,
    /// What the speaker remembers of every replica's disk, encoded; empty = not born yet.
    pub witness: Bytes,
    /// The ids of all replicas as the speaker's configuration lists them, its own too.
    pub members: Vec<u16>,
    /// The cluster's name as configured.
    pub name: String,
    /// The birth record, encoded; empty = not born yet.
    pub birth: Bytes,
    /// Where clients reach the speaker, `host:port`; empty = unknown.
    pub client: String,
    /// Where the speaker's pages are, `host:port`; empty = unknown.
    pub http: String,
}

/// Why two sides cannot talk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// The version ranges do not meet.
    #[error("protocol versions {}..={} here, {}..={} there", ours.0, ours.1, theirs.0, theirs.1)]
    Protocol {
        /// Our range.
        ours: (u16, u16),
        /// The other side's.
        theirs: (u16, u16),
    },
    /// Both know their cluster, and it is not the same.
    #[error("another cluster: {ours:032x} here, {theirs:032x} there")]
    Cluster {
        /// Our cluster id.
        ours: u128,
        /// The other side's.
        theirs: u128,
    },
}

#[derive(Serialize, Deserialize)]
struct Head {
    protocol: (u16, u16),
    cluster: u128,
    role: HelloRole,
}

impl Hello {
    /// A greeting in this build's protocol range.
    pub fn new(cluster: u128, role: HelloRole) -> Hello {
        Hello {
            protocol: PROTOCOL,
            cluster,
            role,
        }
    }

    /// Tells a client that it called the peer port of `node`, and nothing else.
    pub fn of_peer_port(node: u16) -> Hello {
        let said = PeerHello {
            node,
            ..PeerHello::default()
        };
        Hello::new(0, HelloRole::Peer(said))
    }

    /// The frame body.
    pub fn encode(&self) -> Bytes {
        let Hello {
            protocol,
            cluster,
            role,
        } = self.clone();
        let head = wire::encode(
            &Head {
                protocol,
                cluster,
                role,
            },
            &[],
        );
        let mut out = BytesMut::with_capacity(MAGIC.len() + head.len());
        out.put_slice(MAGIC);
        out.put_slice(&head);
        out.freeze()
    }

    /// Reads a frame body.
    ///
    /// # Errors
    ///
    /// [`DecodeError`]; [`DecodeError::Magic`] if whoever speaks is not of this project.
    pub fn decode(body: Bytes) -> Result<Hello, DecodeError> {
        if !body.starts_with(MAGIC) {
            return Err(DecodeError::Magic);
        }
        let (head, rest): (Head, Bytes) = wire::decode("hello", body.slice(MAGIC.len()..))?;
        wire::nothing_left("hello", &rest)?;
        let Head {
            protocol,
            cluster,
            role,
        } = head;
        Ok(Hello {
            protocol,
            cluster,
            role,
        })
    }

    /// The protocol version to use with `other`.
    ///
    /// # Errors
    ///
    /// [`Mismatch`] if the ranges do not meet or the clusters differ.
    pub fn agree(&self, other: &Hello) -> Result<u16, Mismatch> {
        if self.cluster != 0 && other.cluster != 0 && self.cluster != other.cluster {
            return Err(Mismatch::Cluster {
                ours: self.cluster,
                theirs: other.cluster,
            });
        }
        let lowest = self.protocol.0.max(other.protocol.0);
        let highest = self.protocol.1.min(other.protocol.1);
        if lowest > highest {
            return Err(Mismatch::Protocol {
                ours: self.protocol,
                theirs: other.protocol,
            });
        }
        Ok(highest)
    }
}

#[cfg(test)]
mod tests;
