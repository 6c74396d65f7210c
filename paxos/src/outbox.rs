//! What the core wants done.
//!
//! The driver takes the lists in any order, except that `wal` is first in, first out, and `chosen`
//! is in slot order. Everything in `sends` may leave at once: whatever must wait for the disk is
//! still inside the core.

use bytes::Bytes;

use crate::ballot::Ballot;
use crate::entry::Entry;
use crate::ident::{NodeId, Slot, WalSeq};
use crate::memory::Memories;
use crate::message::Message;
use crate::refusal::Refusal;

/// One reusable set of wishes; `step` only adds to it.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// To write to the log, in order; each is answered by `WalDurable` once it is durable.
    pub wal: Vec<WalAppend>,
    /// To send, at once or never: a lost message is asked for again.
    pub sends: Vec<Envelope>,
    /// Chosen entries in slot order without holes: apply these.
    pub chosen: Vec<Chosen>,
    /// A proposal got a slot: (id, slot, stamp in milliseconds). It may still be superseded.
    pub placed: Vec<(u64, Slot, u64)>,
    /// Proposals that will not be answered by `chosen`: (id, why).
    pub rejects: Vec<(u64, Reject)>,
    /// Reads that may be answered once this slot is applied: (id, slot).
    pub reads_ready: Vec<(u64, Slot)>,
    /// Reads that must be asked again: (id, why).
    pub reads_failed: Vec<(u64, Reject)>,
    /// To write to the superblock in place of what was there, at once; answered by `Remembered`. When the
    /// replica must stop as well, this is written before it does.
    pub remember: Option<Remember>,
    /// The same, to be written with whatever is next written to the superblock anyway. Not answered.
    pub remember_later: Option<Memories>,
    /// Old entries wanted from the log; answered by `LogLoaded`.
    pub load_log: Vec<LoadLog>,
    /// The log's prefix may go.
    pub release_log: Option<ReleaseLog>,
    /// The role, ballot or leader is another than before.
    pub role: Option<RoleChange>,
    /// What happened, for logs, metrics and coverage.
    pub notes: Vec<Note>,
    /// The replica must stop: it cannot go on without breaking a promise.
    pub fatal: Option<String>,
}

impl Outbox {
    /// Empties every list and keeps the memory.
    pub fn clear(&mut self) {
        self.wal.clear();
        self.sends.clear();
        self.chosen.clear();
        self.placed.clear();
        self.rejects.clear();
        self.reads_ready.clear();
        self.reads_failed.clear();
        self.remember = None;
        self.remember_later = None;
        self.load_log.clear();
        self.release_log = None;
        self.role = None;
        self.notes.clear();
        self.fatal = None;
    }

    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.wal.is_empty()
            && self.sends.is_empty()
            && self.chosen.is_empty()
            && self.placed.is_empty()
            && self.rejects.is_empty()
            && self.reads_ready.is_empty()
            && self.reads_failed.is_empty()
            && self.remember.is_none()
            && self.remember_later.is_none()
            && self.load_log.is_empty()
            && self.release_log.is_none()
            && self.role.is_none()
            && self.notes.is_empty()
            && self.fatal.is_none()
    }

    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        self.sends.push(Envelope {
            to: vec![to],
            message,
        });
    }

    pub(crate) fn broadcast(&mut self, to: Vec<NodeId>, message: Message) {
        if !to.is_empty() {
            self.sends.push(Envelope { to, message });
        }
    }
}

/// What the superblock is to keep of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remember {
    /// Its number, one more than the last.
    pub number: u64,
    /// What to write.
    pub memories: Memories,
}

/// One submission to the log: its records become durable together or as a prefix, never reordered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WalAppend {
    /// Its number, one more than the last.
    pub seq: WalSeq,
    /// Every slot up to here is known to be chosen; a hint for the next start, never synced for.
    pub commit: Slot,
    /// What to write.
    pub records: Vec<WalRecord>,
}

/// One record for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WalRecord {
    /// Nothing below this ballot is accepted or promised any more.
    Promise {
        /// The ballot.
        ballot: Ballot,
    },
    /// The entry was accepted; promises `ballot` as well.
    Accept {
        /// Its slot.
        slot: Slot,
        /// The ballot it was accepted under.
        ballot: Ballot,
        /// The value.
        entry: Entry,
    },
    /// The entry is known to be chosen; outranks every accept of that slot.
    Chosen {
        /// Its slot.
        slot: Slot,
        /// The value.
        entry: Entry,
    },
    /// A snapshot of the application stands at this slot, durable and verified.
    SnapshotMark {
        /// Its slot.
        slot: Slot,
        /// Opaque to the core.
        meta: Bytes,
    },
}

/// One message and everybody who gets it: encode once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// The receivers.
    pub to: Vec<NodeId>,
    /// The message.
    pub message: Message,
}

/// A chosen entry, to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its slot.
    pub slot: Slot,
    /// The value.
    pub entry: Entry,
    /// Cluster time, in milliseconds, at which it applies.
    pub time_ms: u64,
    /// Whether the entry's stamp was believed; a `LeaderStart` that does not count does nothing.
    pub counts: bool,
}

/// Why a proposal or a read got no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// Certainly not done: another replica leads, or none is known to.
    NotLeader {
        /// Who leads, as far as known.
        hint: Option<NodeId>,
    },
    /// Certainly not done: too much is in flight, leadership is being handed over, or the disk is
    /// nearly full.
    Busy,
    /// Placed, then leadership was lost: it may or may not be chosen.
    Lost,
}

/// Old entries wanted from the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadLog {
    /// For whom, echoed in the answer.
    pub to: NodeId,
    /// The first slot wanted.
    pub from: Slot,
    /// The last slot wanted. Beyond it the log may still show an older value than the chosen one,
    /// and what the log shows may change between the question and the answer.
    pub upto: Slot,
    /// Stop before the answer's entries exceed this, but read one entry at least.
    pub max_bytes: usize,
}

/// The log's prefix may go, up to the lower of the two (or further, at the driver's cap).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReleaseLog {
    /// A durable snapshot with a durable mark stands at this slot.
    pub snapshot: Slot,
    /// The lowest slot that a known member still lacks.
    pub needed: Slot,
}

/// What a replica does at present.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Listens to a leader, or waits for one.
    Follower,
    /// Asks whether the others would let it lead. Changes nothing durable.
    Prober,
    /// Gathers promises under a ballot of its own.
    Candidate,
    /// Proposes.
    Leader,
}

/// The role, ballot or leader is another than before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// What this replica does now.
    pub role: Role,
    /// Its own ballot as candidate and leader, else the ballot of the leader it follows.
    pub ballot: Ballot,
    /// Who leads, as far as known.
    pub leader: Option<NodeId>,
}

/// Why a leader stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Why {
    /// A higher ballot was met.
    HigherBallot,
    /// No quorum answered within an election timeout.
    NoQuorum,
    /// Entries waited, answers came, and nothing was chosen for two election timeouts.
    CommitStalled,
    /// The own disk did not finish a write within an election timeout.
    DiskStalled,
    /// Its disk is full, or its files have no room so that nothing is applied.
    NoRoom,
    /// The operator said so.
    Asked,
}

/// Something worth a line in a log, a counter or a coverage mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The election timeout passed: asks whether the others would let it lead.
    ProbeStarted {
        /// The ballot it would use.
        would_be: Ballot,
    },
    /// A quorum would let it lead: asks for promises.
    ElectionStarted {
        /// Its ballot.
        ballot: Ballot,
    },
    /// Leads.
    Elected {
        /// Its ballot.
        ballot: Ballot,
        /// How many slots of earlier leaders it proposes again.
        reproposed: u64,
    },
    /// Led, and does no more.
    SteppedDown {
        /// The cause.
        why: Why,
    },
    /// Commit or disk made no progress; leadership is given away or up.
    WatchdogFired {
        /// The cause.
        why: Why,
    },
    /// The driver slept through a timer; timeouts wait until queued input was seen.
    Paused {
        /// By how much, in microseconds.
        late_us: u64,
    },
    /// A hand-over began.
    TransferStarted {
        /// To whom.
        to: NodeId,
    },
    /// The other was told to take over.
    TransferSent {
        /// To whom.
        to: NodeId,
    },
    /// The other did not take over in time; this replica leads on.
    TransferFailed {
        /// To whom.
        to: NodeId,
    },
    /// A peer lacks slots that this log no longer holds.
    PeerFellBehind {
        /// The peer.
        peer: NodeId,
        /// The first slot it lacks.
        needs: Slot,
        /// The first slot held here.
        first: Slot,
    },
    /// This replica lacks slots that the peer's log no longer holds.
    FellBehind {
        /// The peer.
        peer: NodeId,
        /// The first slot it holds.
        first: Slot,
    },
    /// Nothing counts that a process says which claims to be this peer.
    Refused {
        /// The peer.
        peer: NodeId,
        /// Why.
        why: Refusal,
    },
    /// A follower missed messages; they are sent again from here.
    Resent {
        /// The peer.
        peer: NodeId,
        /// The first slot sent again.
        from: Slot,
    },
}
