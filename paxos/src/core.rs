//! The state of one replica, and what every role shares.
//!
//! The handlers are spread over files by idea; `step.rs` sends each input to its own. This file
//! knows none of them: it holds the state and the few moves that all of them need.

use std::collections::BTreeMap;

use crate::asked::Asked;
use crate::ballot::Ballot;
use crate::candidate::Candidate;
use crate::clock::ClusterClock;
use crate::config::{Config, Recovered};
use crate::durable::{Durable, Waiting};
use crate::entry::Entry;
use crate::fitness::Handed;
use crate::ident::{Life, MonoTime, NodeId, Slot};
use crate::input::Condition;
use crate::kept::Kept;
use crate::leadership::Leadership;
use crate::log::Log;
use crate::memory::{Mark, Memory};
use crate::message::{Message, Prepare};
use crate::outbox::{Chosen, Outbox, Role, RoleChange, WalAppend, WalRecord};
use crate::pace::Pace;
use crate::pledge::Pledge;
use crate::prng::Prng;
use crate::prober::Prober;
use crate::refusal::Refusal;
use crate::schism::{Compared, Histories, Kind};
use crate::witness::Records;

/// What a replica does, with what it needs for it.
#[derive(Clone, Debug)]
pub(crate) enum Part {
    Follower,
    Prober(Prober),
    Candidate(Box<Candidate>),
    Leader(Box<Leadership>),
}

/// The stream of the leader that this replica follows, or last followed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Following {
    /// The leader's ballot; never goes back. May be above what was promised.
    pub(crate) ballot: Ballot,
    /// The first slot above `chosen` not held at that ballot.
    pub(crate) next: Slot,
    /// The highest round met of that leader.
    pub(crate) round: u64,
    /// The highest commit index it told; may be above what is held here.
    pub(crate) commit: Slot,
    /// When the leader was last heard of; `None` if never, or if it is taken for dead.
    pub(crate) contact: Option<MonoTime>,
    /// Its connection was reset and nothing came since.
    pub(crate) reset: bool,
    /// An acknowledgement is due at the end of the step.
    pub(crate) ack_due: bool,
    /// The last resync asked for.
    pub(crate) resync: Option<(Slot, MonoTime)>,
}

/// This replica's own durable vote: everything up to `upto` at `ballot`, or chosen.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Vote {
    pub(crate) ballot: Ballot,
    pub(crate) upto: Slot,
}

/// What is remembered of a peer whatever the role.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Acquaintance {
    /// The present connection.
    pub(crate) link: Option<u64>,
    /// Its chosen prefix, as it last said.
    pub(crate) chosen: Slot,
    /// It would know every slot up to here to be chosen if it started anew: so its disk says.
    pub(crate) holds: Slot,
    /// How large the pieces are that go to and come from it.
    pub(crate) pace: Pace,
    /// The start of the process at the other end.
    pub(crate) life: Life,
    /// That start is in the superblock and the peer was asked again for what was not counted before.
    pub(crate) counted: bool,
    /// Why nothing counts that this process of the peer says, if nothing does.
    pub(crate) refused: Option<Refusal>,
    /// Why another process that claimed to be this peer was turned away since the present one came.
    pub(crate) turned_away: Option<Refusal>,
    /// Where its history is, as it or others last said.
    pub(crate) mark: Mark,
    /// How its history compares with the own one.
    pub(crate) chain: Compared,
    /// How its state compares with the own one.
    pub(crate) state: Compared,
}

/// One replica's part of the agreement.
///
/// Deterministic: the same configuration, recovery and inputs give the same outputs.
#[derive(Clone, Debug)]
pub struct Core {
    pub(crate) config: Config,
    /// The latest moment any input came with.
    pub(crate) now: MonoTime,
    pub(crate) prng: Prng,
    /// Nothing below is promised or accepted. Never falls.
    pub(crate) promised: Ballot,
    /// The highest ballot met anywhere; the next own one is above it.
    pub(crate) ballot_seen: Ballot,
    pub(crate) log: Log,
    pub(crate) durable: Durable,
    pub(crate) vote: Vote,
    /// Cluster time as of `published`.
    pub(crate) clock: ClusterClock,
    /// The disk holds the chosen value of every slot up to here; at most `published`.
    pub(crate) settled: Slot,
    /// The disk says of every slot up to here that it is chosen: what a start would begin with.
    pub(crate) recorded: Slot,
    /// What was handed to the driver; at most chosen.
    pub(crate) published: Slot,
    pub(crate) applied: Slot,
    /// The lowest slot that a known member lacks, as far as known. Never falls.
    pub(crate) needed: Slot,
    /// The other voters.
    pub(crate) peers: BTreeMap<NodeId, Acquaintance>,
    /// What is remembered of every member's disk.
    pub(crate) records: Records,
    /// The own history, to compare with others'.
    pub(crate) histories: Histories,
    pub(crate) part: Part,
    pub(crate) following: Following,
    /// When a follower without a leader's word starts to probe.
    pub(crate) election_at: MonoTime,
    /// The candidacy that this replica supports, if any.
    pub(crate) pledge: Option<Pledge>,
    /// Doubles with each failed candidacy, up to 4.
    pub(crate) backoff: u64,
    pub(crate) asked: Asked,
    /// The highest snapshot whose mark is durable.
    pub(crate) snapshot: Slot,
    /// The last release asked for: what may go.
    pub(crate) released: Slot,
    /// What this replica's own disks allow, as the driver last said.
    pub(crate) condition: Condition,
    /// A late turn was excused already; see `pause.rs`.
    pub(crate) excused: bool,
    /// What candidates asked last and was not answered yet, at most one each.
    pub(crate) prepares: BTreeMap<NodeId, Prepare>,
    /// The highest slot asked from under the highest ballot: how far that candidate got.
    pub(crate) asked_from: (Ballot, Slot),
    /// Values that came in promises, for candidacies to come.
    pub(crate) kept: Kept,
    /// Hand-overs to each peer that were tried, over all leaderships.
    pub(crate) handed: BTreeMap<NodeId, Handed>,
    told: Option<RoleChange>,
}

impl Core {
    /// A core that goes on from what the boot scan found.
    ///
    /// # Panics
    ///
    /// When `recovered` contradicts itself: accepted slots with holes, or a chosen slot missing.
    #[must_use]
    pub fn new(config: Config, recovered: Recovered, now: MonoTime) -> Core {
        let mut log = Log::new(recovered.first, recovered.chosen);
        let mut promised = recovered.promised;
        for (slot, ballot, entry) in recovered.accepted {
            promised = promised.max(ballot);
            log.put(slot, ballot, entry);
        }
        // The commit hint on disk may lag behind records that are chosen by their kind.
        for slot in recovered.chosen_marks {
            if slot == log.chosen().next() {
                log.choose(slot);
            }
        }
        let own = config.identity.node;
        let records = Records::new(recovered.memories, own, config.life);
        let others = config
            .membership
            .members
            .iter()
            .map(|m| m.node)
            .filter(|&node| node != own);
        let mut core = Core {
            now,
            prng: Prng::new(config.seed),
            promised,
            ballot_seen: promised.max(recovered.max_ballot_seen),
            log,
            durable: Durable::default(),
            vote: Vote::default(),
            clock: recovered.clock,
            settled: recovered.chosen,
            recorded: recovered.chosen,
            published: recovered.chosen,
            applied: recovered.applied,
            needed: Slot(1),
            peers: others.map(|node| (node, Acquaintance::default())).collect(),
            records,
            histories: Histories::new(),
            part: Part::Follower,
            following: Following::default(),
            election_at: now,
            pledge: None,
            backoff: 1,
            asked: Asked::default(),
            snapshot: Slot::NONE,
            released: Slot::NONE,
            condition: Condition::default(),
            excused: false,
            prepares: BTreeMap::new(),
            asked_from: (Ballot::ZERO, Slot::NONE),
            kept: Kept::default(),
            handed: BTreeMap::new(),
            told: None,
            config,
        };
        core.note_chain();
        let found = Memory {
            ballot: core.promised,
            last: core.log.last(),
            ..Memory::default()
        };
        core.records.merge(own, &found);
        if !core.peers.is_empty() {
            core.rearm_election();
        }
        core
    }

    /// What this replica does at present.
    #[must_use]
    pub fn role(&self) -> Role {
        match self.part {
            Part::Follower => Role::Follower,
            Part::Prober(_) => Role::Prober,
            Part::Candidate(_) => Role::Candidate,
            Part::Leader(_) => Role::Leader,
        }
    }

    /// The cluster time a command would be stamped with now, in milliseconds; `None` unless
    /// leading.
    #[must_use]
    pub fn leader_time_ms(&self, now: MonoTime) -> Option<u64> {
        match &self.part {
            Part::Leader(leadership) => Some(leadership.stamper.peek(now)),
            _ => None,
        }
    }

    /// Bytes of entries that a leader may still propose before [`Config::unchosen_bytes_max`] is reached.
    #[must_use]
    pub fn room_bytes(&self) -> usize {
        self.config
            .unchosen_bytes_max
            .saturating_sub(self.log.unchosen_bytes())
    }

    /// The local log, read from disk, gives the chosen value of every slot up to here. Above, a
    /// slot may be chosen by the others' disks while the own one still holds an older value: who
    /// reads the log to apply or to serve must stop here.
    #[must_use]
    pub fn settled(&self) -> Slot {
        self.settled
    }

    /// The lowest slot that a known member may still lack, and so the log should keep, as far as this replica knows.
    #[must_use]
    pub fn needed(&self) -> Slot {
        self.needed
    }

    pub(crate) fn own(&self) -> NodeId {
        self.config.identity.node
    }

    pub(crate) fn quorum(&self) -> usize {
        self.config.membership.quorum()
    }

    pub(crate) fn is_voter(&self) -> bool {
        self.config
            .membership
            .is_voter(self.own(), self.config.identity.disk)
    }

    /// The highest ballot that stands against a lower one: promised, or of a leader followed.
    pub(crate) fn standing(&self) -> Ballot {
        self.promised.max(self.following.ballot)
    }

    pub(crate) fn ballot(&self) -> Ballot {
        match &self.part {
            Part::Candidate(candidate) => candidate.ballot,
            Part::Leader(leadership) => leadership.ballot,
            Part::Follower | Part::Prober(_) => self.following.ballot,
        }
    }

    /// Who leads, as far as known.
    pub(crate) fn leader_hint(&self) -> Option<NodeId> {
        match self.part {
            Part::Leader(_) => Some(self.own()),
            Part::Follower if self.following.contact.is_some() => {
                Some(self.following.ballot.node())
            }
            _ => None,
        }
    }

    pub(crate) fn is_up(&self, peer: NodeId) -> bool {
        self.peers
            .get(&peer)
            .is_some_and(|peer| peer.link.is_some())
    }

    pub(crate) fn peers_up(&self) -> Vec<NodeId> {
        let up = |(&node, peer): (&NodeId, &Acquaintance)| peer.link.map(|_| node);
        self.peers.iter().filter_map(up).collect()
    }

    pub(crate) fn wal_age_us(&self) -> u64 {
        self.durable.oldest_age_us(self.now)
    }

    /// Whether the own disk has hung for longer than it is known to take, so that leading is out of
    /// the question.
    pub(crate) fn disk_is_stalled(&self) -> bool {
        self.wal_age_us() > self.config.disk_patience_us(self.durable.sync_us()) / 2
    }

    /// How long an attempt to lead may take at least: E, more after attempts that failed and with
    /// disks that need long to promise, four times as much at most.
    pub(crate) fn attempt_us(&self) -> u64 {
        let election_us = self.config.election_us;
        // The own promise and that of another.
        self.hold_us(0).max(election_us * self.backoff)
    }

    /// A timeout drawn from [E, 2E) after a leader's word; without one, from E after what an attempt may
    /// take, for there may be one under way.
    pub(crate) fn rearm_election(&mut self) {
        let election_us = self.config.election_us;
        let least = match self.following.contact {
            Some(_) => election_us,
            None => self.attempt_us(),
        };
        self.election_at = self.now.after(least + self.prng.below(election_us));
    }

    /// Whoever was waited for is most likely dead: stands soon after `at`, unless that was due anyway.
    pub(crate) fn stand_soon(&mut self, at: MonoTime) {
        let heartbeat_us = self.config.heartbeat_us;
        // The other followers lose patience at about the same moment; a little later is better
        // than being refused by one of them.
        let early = at.after(heartbeat_us / 8 + self.prng.below(heartbeat_us / 2));
        self.election_at = self.election_at.min(early);
    }

    /// Sends to a peer with a connection; without one there is nobody to send to.
    pub(crate) fn send(&self, to: NodeId, message: Message, out: &mut Outbox) {
        if self.is_up(to) {
            out.send(to, message);
        }
    }

    /// Submits records to the local log.
    pub(crate) fn submit(&mut self, records: Vec<WalRecord>, out: &mut Outbox) {
        let seq = self.durable.submit(self.now);
        out.wal.push(WalAppend {
            seq,
            commit: self.log.chosen(),
            records,
        });
        let slot = self.log.chosen();
        self.durable.hold(Waiting::Recorded { slot });
    }

    /// Promises `ballot`: from here on nothing below it is accepted.
    pub(crate) fn promise(&mut self, ballot: Ballot, out: &mut Outbox) {
        assert!(ballot > self.promised, "a promise never falls");
        self.promised = ballot;
        self.submit(vec![WalRecord::Promise { ballot }], out);
        self.durable.note_promise();
    }

    /// Accepts consecutive entries at `ballot`, the first in `from`, as one submission; the vote
    /// for them is cast once the disk has them.
    pub(crate) fn accept(
        &mut self,
        ballot: Ballot,
        from: Slot,
        entries: Vec<Entry>,
        out: &mut Outbox,
    ) {
        assert!(
            ballot >= self.promised,
            "accept at {ballot} below {}",
            self.promised
        );
        self.promised = ballot;
        let mut records = Vec::with_capacity(entries.len());
        let mut slot = from;
        for entry in entries {
            self.log.put(slot, ballot, entry.clone());
            records.push(WalRecord::Accept {
                slot,
                ballot,
                entry,
            });
            slot = slot.next();
        }
        self.submit(records, out);
        self.durable.hold(Waiting::Vote {
            ballot,
            upto: slot.prev(),
        });
    }

    /// Hands newly chosen entries to the driver, in order, with the time at which they apply.
    pub(crate) fn publish(&mut self, out: &mut Outbox) {
        if self.published < self.log.chosen() {
            self.durable.hold(Waiting::Settled {
                slot: self.log.chosen(),
            });
        }
        while self.published < self.log.chosen() {
            let slot = self.published.next();
            let entry = self
                .log
                .get(slot)
                .expect("kept until published")
                .entry
                .clone();
            let moved = self.clock.observe(slot, &entry);
            self.published = slot;
            self.note_chain();
            out.chosen.push(Chosen {
                slot,
                entry,
                time_ms: moved.time_ms,
                counts: moved.counts,
            });
        }
        self.compare_pending(Kind::Chain, out);
    }

    /// Says so if role, ballot or leader are others than last said.
    pub(crate) fn tell_role(&mut self, out: &mut Outbox) {
        let role = RoleChange {
            role: self.role(),
            ballot: self.ballot(),
            leader: self.leader_hint(),
        };
        if self.told != Some(role) {
            self.told = Some(role);
            out.role = Some(role);
        }
    }
}
