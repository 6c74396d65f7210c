//! What the driver tells the core.

use bytes::Bytes;

use crate::ballot::Ballot;
use crate::entry::{Entry, EntryKind};
use crate::ident::{DiskId, Life, NodeId, Slot, WalSeq};
use crate::memory::Testimony;
use crate::message::Message;

/// One thing that happened. Time comes beside it, as an argument of `step`.
#[derive(Clone, Debug)]
pub enum Input {
    /// Nothing but time: due timers fire. Give one at `next_wake`, or more often.
    Tick,
    /// A message of a peer. Dropped unless `link` is the peer's present connection.
    Recv {
        /// Who sent it, as the handshake of that connection said.
        from: NodeId,
        /// The connection's number, as given at `PeerUp`.
        link: u64,
        /// The message.
        message: Message,
    },
    /// Commands to agree on; the whole batch becomes one submission to the log.
    Propose {
        /// The commands, in order.
        proposals: Vec<Proposal>,
        /// The wall clock, milliseconds since 1970; kept in the entries for people.
        wall_ms: u64,
    },
    /// A linearizable read wants an index to wait for.
    Read {
        /// The driver's name for it; never used twice.
        id: u64,
    },
    /// Everything submitted up to and including `seq` is durable; for promises the superblocks too.
    WalDurable {
        /// The submission.
        seq: WalSeq,
    },
    /// The driver applied every chosen slot up to here.
    Applied {
        /// The last applied slot.
        slot: Slot,
    },
    /// A connection to a peer stands and its handshake is done.
    PeerUp {
        /// The peer.
        peer: NodeId,
        /// The connection's number; a later connection of the same peer has a higher one.
        link: u64,
        /// What the peer said of itself.
        hello: PeerHello,
    },
    /// A connection is gone.
    PeerDown {
        /// The peer.
        peer: NodeId,
        /// The connection's number.
        link: u64,
        /// The other side reset or refused it: its process is most likely dead.
        reset: bool,
    },
    /// The answer to a `LoadLog`.
    LogLoaded {
        /// For whom it was read.
        to: NodeId,
        /// The slot of the first entry; without entries, the first slot that the log still holds.
        first: Slot,
        /// Slots without holes: slot, ballot, entry, and whether the log knew it to be chosen.
        entries: Vec<(Slot, Ballot, Entry, bool)>,
    },
    /// The log's prefix was removed (after a `ReleaseLog`): this is its first slot now.
    LogTrimmed {
        /// The first slot that can still be read.
        first: Slot,
    },
    /// A local snapshot is durable and verified; the core records a mark of it in the log.
    SnapshotSaved {
        /// The slot it stands at.
        slot: Slot,
        /// What the mark carries, opaque to the core.
        meta: Bytes,
    },
    /// The superblock holds what [`Outbox::remember`](crate::Outbox::remember) asked for under this number,
    /// or a later one.
    Remembered {
        /// The number.
        number: u64,
    },
    /// A hash of the application's state as of an applied slot. Replicas may give it for whatever slots they
    /// like; those that two of them have in common are compared.
    StateHash {
        /// The slot.
        slot: Slot,
        /// The hash, equal on every replica that applied the same entries.
        hash: u64,
    },
    /// An operator's or the driver's wish.
    Admin(Admin),
    /// What this replica's disks allow has changed. A leader that is worse off than another voter
    /// hands over to it.
    Condition(Condition),
}

/// What a replica's disks allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Condition {
    /// The log's disk is nearly full: no new work is taken.
    pub low: bool,
    /// The users' files have no room: nothing is applied.
    pub blocked: bool,
}

impl Condition {
    /// How unfit to lead this makes a replica; 0 is fit. Who applies nothing cannot even release.
    pub(crate) fn severity(self) -> u8 {
        2 * u8::from(self.blocked) + u8::from(self.low)
    }
}

/// One command to agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The driver's name for it, echoed in `placed` and `rejects`; never used twice.
    pub id: u64,
    /// `App`, `Settings` or `Time`; the other kinds are the core's own.
    pub kind: EntryKind,
    /// The command.
    pub payload: Bytes,
}

/// What an operator or the driver may ask of a leader or a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admin {
    /// Hand leadership to this replica.
    Transfer {
        /// The one to lead.
        to: NodeId,
    },
    /// Hand leadership to the healthiest replica, before a shutdown.
    TransferAny,
    /// Stop leading, whoever comes next.
    StepDown,
    /// Ask the others for leadership now.
    Campaign,
}

/// What a replica says when a connection begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerHello {
    /// Its number.
    pub node: NodeId,
    /// Its disk.
    pub disk: DiskId,
    /// Its start on that disk.
    pub life: Life,
    /// What it remembers of every member, the receiver of this hello and itself included. A receiver
    /// whose disk holds less than the sender remembers runs on an old copy of its disk.
    pub witness: Vec<Testimony>,
}
