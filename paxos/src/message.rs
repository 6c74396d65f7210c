//! What replicas say to each other.
//!
//! Who sends, to which cluster and from which disk was said once, in the connection's handshake.
//! Every handler bears a message that comes twice, late, out of order or never.

use crate::ballot::Ballot;
use crate::entry::Entry;
use crate::ident::{NodeId, Slot};
use crate::input::Condition;
use crate::memory::Testimony;

/// One message between replicas. The layout on the wire is in [`crate::codec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// Would you let me lead? Has no durable effect on anyone.
    Probe(Probe),
    /// The answer to a probe.
    ProbeReply(ProbeReply),
    /// Phase 1a: promise to ignore lower ballots, and say what you accepted.
    Prepare(Prepare),
    /// Phase 1b, one part of it.
    Promise(Promise),
    /// A message was refused because of a higher ballot.
    Nack(Nack),
    /// Phase 2a: accept these entries, in order. Without entries it only tells the commit index.
    Accept(Accept),
    /// Phase 2b, cumulative.
    Accepted(Accepted),
    /// The leader lives; answers confirm reads and its quorum.
    Heartbeat(Heartbeat),
    /// The answer to a heartbeat.
    HeartbeatAck(HeartbeatAck),
    /// A follower misses something: stream again from `next`.
    Resync(Resync),
    /// Send me chosen entries from this slot on.
    FetchChosen(FetchChosen),
    /// Chosen entries.
    ChosenChunk(ChosenChunk),
    /// Take over: you hold everything.
    TransferNow(TransferNow),
    /// You have chosen other values than the sender.
    Objection(Objection),
    /// What the sender remembers: why nothing that you say counts.
    Witness(Witness),
}

impl Message {
    /// A short name, for logs and counters.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Message::Probe(_) => "probe",
            Message::ProbeReply(_) => "probe_reply",
            Message::Prepare(_) => "prepare",
            Message::Promise(_) => "promise",
            Message::Nack(_) => "nack",
            Message::Accept(_) => "accept",
            Message::Accepted(_) => "accepted",
            Message::Heartbeat(_) => "heartbeat",
            Message::HeartbeatAck(_) => "heartbeat_ack",
            Message::Resync(_) => "resync",
            Message::FetchChosen(_) => "fetch_chosen",
            Message::ChosenChunk(_) => "chosen_chunk",
            Message::TransferNow(_) => "transfer_now",
            Message::Objection(_) => "objection",
            Message::Witness(_) => "witness",
        }
    }
}

/// Would you let me lead?
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The ballot the sender would use.
    pub would_be: Ballot,
    /// The sender's chosen prefix.
    pub chosen: Slot,
    /// The last slot the sender holds.
    pub last: Slot,
    /// How long the sender's disk takes for a promise, in microseconds, as far as it knows.
    pub promise_us: u64,
}

/// Whether the sender of a probe may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may.
    Grant = 0,
    /// A leader is alive as far as the sender knows, or another's candidacy is under way.
    Sticky = 1,
    /// The ballot is not above what was promised; the reply says what to beat.
    BallotTooLow = 2,
    /// The prober lacks slots that the sender's log no longer holds.
    TooOld = 3,
}

/// The answer to a probe. A refusal teaches the prober which ballot to beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProbeReply {
    /// The ballot probed for.
    pub would_be: Ballot,
    /// Yes, or why not.
    pub verdict: Verdict,
    /// The highest ballot the sender promised or follows.
    pub promised: Ballot,
    /// The sender's chosen prefix.
    pub chosen: Slot,
    /// The first slot the sender's log holds.
    pub first: Slot,
    /// The last slot it holds.
    pub last: Slot,
}

/// Phase 1a. Sent once the sender's own promise is durable, and again for each further part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Prepare {
    /// The sender's ballot.
    pub ballot: Ballot,
    /// What it wants to hear about next: its chosen prefix + 1, then what follows the last part.
    pub from: Slot,
    /// How many bytes of entries the answer may have; one entry comes at least.
    pub max_bytes: u32,
    /// The values that the sender has already: they are reported without their bytes.
    pub have: Vec<Run>,
}

/// Consecutive slots and the ballot under which a value was accepted in each of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The first slot.
    pub from: Slot,
    /// The last slot.
    pub to: Slot,
    /// The ballot, which with a slot names one value for ever.
    pub ballot: Ballot,
}

/// What an acceptor holds in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The ballot it was accepted under; zero for one that was only fetched as chosen.
    pub ballot: Ballot,
    /// Whether the acceptor knows it to be chosen.
    pub chosen: bool,
    /// The value; absent if the prepare said that its sender has the one of this slot and ballot.
    pub entry: Option<Entry>,
}

/// A range of slots of which the acceptor lost its record. Reserved: nothing reports one yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// The first slot.
    pub from: Slot,
    /// The last slot.
    pub to: Slot,
    /// Nothing above this ballot was accepted there.
    pub ballot_max: Ballot,
}

/// One part of phase 1b, the answer to one prepare. The promise counts once its parts cover everything
/// from the candidate's chosen prefix to `last` without a hole; parts of two answers may mix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Promise {
    /// The ballot promised.
    pub ballot: Ballot,
    /// The first slot the sender's log holds.
    pub first: Slot,
    /// The sender's chosen prefix.
    pub chosen: Slot,
    /// The last slot it held when it answered.
    pub last: Slot,
    /// The slot of `held[0]`; `last` + 1 with nothing held if there is nothing to report.
    pub start: Slot,
    /// Consecutive slots from `start` on.
    pub held: Vec<Held>,
    /// What the sender's log lost. A promise with such a range does not count.
    pub faulty: Vec<Faulty>,
    /// What the sender remembers of every member: a promise of an old copy of a disk does not count.
    pub witness: Vec<Testimony>,
}

/// A message was refused because of a higher ballot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nack {
    /// The ballot of the refused message.
    pub refused: Ballot,
    /// The ballot that stood against it.
    pub promised: Ballot,
}

/// Phase 2a: a piece of a leader's stream to one follower.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The slot before the first entry; everything up to it was streamed before.
    pub prev: Slot,
    /// Consecutive slots from `prev` + 1 on.
    pub entries: Vec<Entry>,
    /// The leader's chosen prefix.
    pub commit: Slot,
    /// The leader's present round.
    pub round: u64,
}

/// Phase 2b: everything up to a slot, at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// Every slot up to here is durably accepted at this ballot, or chosen.
    pub upto: Slot,
    /// Every slot up to here is received, durable or not.
    pub received: Slot,
    /// The follower's chosen prefix.
    pub chosen: Slot,
    /// Age of the oldest record that the follower's disk has not finished, microseconds.
    pub wal_age_us: u64,
    /// The highest round seen of this leader.
    pub round: u64,
}

/// The leader lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heartbeat {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The leader's chosen prefix.
    pub commit: Slot,
    /// Counts heartbeats under this ballot; an answer confirms the reads that waited for it.
    pub round: u64,
    /// The lowest slot that a known member lacks: keep the log from here on.
    pub needed: Slot,
    /// What the leader remembers of every member, itself included.
    pub witness: Vec<Testimony>,
}

/// The answer to a heartbeat, given only while nothing above its ballot was promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeartbeatAck {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The round answered.
    pub round: u64,
    /// Every slot up to here is durably accepted at this ballot, or chosen.
    pub upto: Slot,
    /// Every slot up to here is received, durable or not.
    pub received: Slot,
    /// The follower's chosen prefix.
    pub chosen: Slot,
    /// What it has applied.
    pub applied: Slot,
    /// Age of the oldest record that its disk has not finished, microseconds.
    pub wal_age_us: u64,
    /// Every slot up to here would count as chosen if it started anew now: its disk says so.
    pub recorded: Slot,
    /// How long its disk takes for a sync, microseconds, as measured lately.
    pub sync_us: u64,
    /// What its disks allow.
    pub condition: Condition,
    /// What its own disk holds, and the history that it applied.
    pub own: Testimony,
}

/// A follower misses something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resync {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The first slot the follower lacks.
    pub next: Slot,
}

/// Asks any peer for chosen entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchChosen {
    /// The first slot wanted.
    pub from: Slot,
    /// How many bytes of entries are wanted at most; one entry comes at least.
    pub max_bytes: u32,
}

/// Chosen entries; no ballot matters any more.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenChunk {
    /// The slot of `entries[0]`.
    pub start: Slot,
    /// Consecutive slots from `start` on, all chosen.
    pub entries: Vec<Entry>,
    /// The sender's chosen prefix.
    pub chosen: Slot,
    /// The first slot the sender's log holds.
    pub first: Slot,
}

/// The leader asks the receiver to take over without a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferNow {
    /// The leader's ballot.
    pub ballot: Ballot,
    /// The leader's last slot, which the receiver holds durably.
    pub upto: Slot,
}

/// Two replicas have chosen different values. Whoever is in the minority stops.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// A slot at which the hashes differ.
    pub slot: Slot,
    /// Whether the hash is one of the state and not of the chain.
    pub is_state: bool,
    /// The sender's hash there.
    pub hash: u64,
    /// Members that are known to have the sender's history there, itself included.
    pub agreeing: Vec<NodeId>,
}

/// What the sender remembers of every member, told to one that it refuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    /// By member.
    pub witness: Vec<Testimony>,
}
