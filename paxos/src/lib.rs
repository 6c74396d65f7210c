//! Multi-Paxos core without I/O: replicas agree on one order of commands.
//!
//! A driver feeds [`Core::step`] with what happened and carries out what the [`Outbox`] asks for.
//! Whatever must not leave before the disk has it waits inside the core, so the driver has one
//! rule: write `wal` in order and report truly what is durable. `PROTOCOL.md` tells the protocol.

pub mod ident;

pub mod ballot;
pub mod clock;
pub mod codec;
pub mod entry;
pub mod message;

pub mod config;
pub mod input;
pub mod outbox;

pub mod core;
mod step;

mod durable;
mod log;
mod prng;

mod acceptor;
mod candidate;
mod election;
mod follower;
mod phase1;
mod prober;
mod stepdown;
mod takeover;

mod flush;
mod leader;
mod leadership;
mod preferred;
mod reads;
mod stream;
mod transfer;
mod watchdog;

mod catchup;
mod links;
mod pause;
mod retention;

pub mod birth;
pub mod ghost;
pub mod status;

pub use crate::ballot::Ballot;
pub use crate::clock::{ClusterClock, Moved};
pub use crate::codec::DecodeError;
pub use crate::config::{Config, Identity, Member, Membership, Recovered};
pub use crate::core::Core;
pub use crate::entry::{Entry, EntryKind};
pub use crate::ident::{ClusterId, DiskId, MonoTime, NodeId, Slot, WalSeq};
pub use crate::input::{Admin, Input, PeerHello, Proposal};
pub use crate::message::Message;
pub use crate::outbox::{
    Chosen, Envelope, LoadLog, Note, Outbox, Reject, ReleaseLog, Role, RoleChange, WalAppend,
    WalRecord, Why,
};
pub use crate::status::{PeerStatus, Status};
