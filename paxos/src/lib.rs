//! Multi-Paxos core without I/O: replicas agree on one order of commands.
//!
//! A driver feeds [`Core::step`] with what happened and carries out what the [`Outbox`] asks for.
//! Whatever must not leave before the disk has it waits inside the core, so the driver has one
//! rule: write `wal` in order and report truly what is durable. `PROTOCOL.md` tells the protocol.
//!
//! A cluster of one, from its first tick to the first command agreed on:
//!
//! ```
//! use paxos::{
//!     ClusterId, Config, Core, DiskId, EntryKind, Identity, Input, Member, Membership, MonoTime,
//!     NodeId, Outbox, Proposal, Recovered, Role, Slot,
//! };
//!
//! let (node, disk) = (NodeId(1), DiskId(7));
//! let membership = Membership { epoch: 1, members: vec![Member { node, disk }] };
//! let identity = Identity { cluster: ClusterId(1), node, disk };
//! let recovered = Recovered { first: Slot(1), ..Recovered::default() };
//! let mut core = Core::new(Config::new(identity, membership), recovered, MonoTime(0));
//!
//! // The driver: writes what the core wants written, and says so. (Here the disk is instant.)
//! let mut out = Outbox::default();
//! let mut drive = |core: &mut Core, input: Input| {
//!     core.step(MonoTime(0), input, &mut out);
//!     while let Some(seq) = out.wal.last().map(|append| append.seq) {
//!         out.wal.clear();
//!         core.step(MonoTime(0), Input::WalDurable { seq }, &mut out);
//!     }
//!     std::mem::take(&mut out.chosen)
//! };
//!
//! drive(&mut core, Input::Tick);
//! assert_eq!(core.role(), Role::Leader);
//!
//! let payload = "acquire".into();
//! let proposals = vec![Proposal { id: 1, kind: EntryKind::App, payload }];
//! let chosen = drive(&mut core, Input::Propose { proposals, wall_ms: 0 });
//! assert_eq!(chosen[0].slot, Slot(2), "behind the leader's own first entry");
//! assert_eq!(&chosen[0].entry.payload()[..], b"acquire");
//! ```

pub mod ident;

pub mod ballot;
pub mod chain;
pub mod clock;
pub mod codec;
pub mod entry;
pub mod memory;
pub mod message;
mod wire;

pub mod config;
pub mod input;
pub mod outbox;

pub mod core;
mod step;

mod asked;
mod durable;
mod log;
mod prng;

mod acceptor;
mod candidate;
mod election;
mod follower;
mod kept;
mod phase1;
mod pledge;
mod prober;
mod stepdown;
mod takeover;

mod fitness;
mod flush;
mod leader;
mod leadership;
mod pace;
mod preferred;
mod reads;
mod stream;
mod transfer;
mod watchdog;

mod admin;
mod adopt;
mod catchup;
mod links;
mod pause;
mod refusal;
mod retention;
mod schism;
mod serve;
mod witness;

pub mod birth;
pub mod ghost;
pub mod status;

pub use crate::ballot::Ballot;
pub use crate::chain::Chain;
pub use crate::clock::{ClusterClock, LeaderStart, Moved};
pub use crate::config::{Config, Identity, Member, Membership, Recovered};
pub use crate::core::Core;
pub use crate::entry::{Entry, EntryKind};
pub use crate::ident::{ClusterId, DiskId, Life, MonoTime, NodeId, Slot, WalSeq};
pub use crate::input::{Admin, Condition, Input, PeerHello, Proposal};
pub use crate::memory::{Condemned, Mark, Memories, Memory, Testimony};
pub use crate::message::Message;
pub use crate::outbox::{
    Chosen, Envelope, LoadLog, Note, Outbox, Reject, ReleaseLog, Remember, Role, RoleChange,
    WalAppend, WalRecord, Why,
};
pub use crate::refusal::Refusal;
pub use crate::status::{PeerStatus, Status};
pub use crate::wire::DecodeError;
