//! An observer that knows what no replica can know, for tests: checks, used by tests.
//!
//! It watches every replica's outbox, keeps a shadow of every disk and every vote, and says which
//! rule was broken the moment it is, long before replicas disagree. Votes are counted when they are
//! durable, so a value is chosen here no later than anywhere else.
//!
//! | rule | says |
//! |---|---|
//! | G1 | at most one value per slot and ballot is ever proposed |
//! | G2 | once a value is chosen, every proposal at a higher ballot has the same value |
//! | G3 | no two values are chosen for a slot |
//! | G5 | at most one replica, in one start, leads at a ballot |
//! | R1 | a promise never falls, not over a crash either |
//! | R2 | nothing is accepted or acknowledged below a promise |
//! | R3 | what was durable is still held after a crash |
//! | R4 | what a replica calls chosen is chosen, in order, with the same cluster time everywhere |
//! | R5 | first <= chosen + 1, applied <= chosen <= last |
//! | R6 | an acknowledgement has no gap, the leader's own vote neither |
//! | R7 | a promise reports everything durably accepted, or says that it is chosen where it is |
//! | R8 | a message leaves only when what it rests on is durable |
//! | L1 | a read's index covers everything that was chosen for anyone when it was asked |
//!
//! The driver of a test calls [`Ghost::started`] at every start, [`Ghost::durable`] *before* a core
//! hears of it, [`Ghost::stepped`] after every step, and [`Ghost::crashed`].

mod shadow;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::ballot::Ballot;
use crate::config::Recovered;
use crate::core::Core;
use crate::entry::Entry;
use crate::ident::{NodeId, Slot, WalSeq};
use crate::message::{Accept, Message, Promise};
use crate::outbox::{Chosen, Outbox, Role, WalRecord};
use shadow::Shadow;

/// A rule was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The rule, as in the table of the module.
    pub rule: &'static str,
    /// What was seen.
    pub detail: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule, self.detail)
    }
}

impl std::error::Error for Violation {}

/// A copy of a shadow disk, for tests that put it back.
#[derive(Clone, Debug)]
pub struct DiskCopy(Shadow);

/// Whether everything is still in order.
pub type Verdict = Result<(), Violation>;

/// Breaks `rule` unless `holds`.
fn check(holds: bool, rule: &'static str, detail: impl FnOnce() -> String) -> Verdict {
    if holds {
        Ok(())
    } else {
        Err(Violation {
            rule,
            detail: detail(),
        })
    }
}

/// What all replicas together have proposed, voted and chosen.
#[derive(Clone, Debug)]
pub struct Ghost {
    quorum: usize,
    proposed: BTreeMap<(Slot, Ballot), Entry>,
    votes: BTreeMap<(Slot, Ballot), BTreeSet<NodeId>>,
    chosen: BTreeMap<Slot, (Ballot, Entry)>,
    /// Cluster time and whether it counted, as the first replica said.
    times: BTreeMap<Slot, (u64, bool)>,
    leaders: BTreeMap<Ballot, (NodeId, u64)>,
    /// The highest slot that each candidate asked from: what is below is chosen for it, or was told to it.
    asked: BTreeMap<Ballot, Slot>,
    replicas: BTreeMap<NodeId, Shadow>,
    /// Open reads: everything up to here was chosen for someone when they were asked.
    reads: BTreeMap<u64, Slot>,
    published: Slot,
}

impl Ghost {
    /// An observer of a cluster in which `quorum` votes choose.
    #[must_use]
    pub fn new(quorum: usize) -> Ghost {
        Ghost {
            quorum,
            proposed: BTreeMap::new(),
            votes: BTreeMap::new(),
            chosen: BTreeMap::new(),
            times: BTreeMap::new(),
            leaders: BTreeMap::new(),
            asked: BTreeMap::new(),
            replicas: BTreeMap::new(),
            reads: BTreeMap::new(),
            published: Slot::NONE,
        }
    }

    /// The value chosen for a slot, if one is.
    #[must_use]
    pub fn chosen(&self, slot: Slot) -> Option<&Entry> {
        self.chosen.get(&slot).map(|(_, entry)| entry)
    }

    /// The highest slot that any replica handed to its driver.
    #[must_use]
    pub fn published(&self) -> Slot {
        self.published
    }

    /// What the shadow disk of `node` would let it recover, for tests without a log of their own.
    #[must_use]
    pub fn recover(&self, node: NodeId) -> Recovered {
        self.replicas
            .get(&node)
            .map(Shadow::recover)
            .unwrap_or_default()
    }

    /// A copy of the shadow disk of `node`, without what is not durable.
    #[must_use]
    pub fn copy_disk(&self, node: NodeId) -> DiskCopy {
        DiskCopy(self.replicas.get(&node).cloned().unwrap_or_default())
    }

    /// An operator puts an old copy in place of the disk of `node`. What the copy forgot is no broken rule by
    /// itself; what its votes then do to values that were chosen is.
    pub fn put_back(&mut self, node: NodeId, DiskCopy(mut copy): DiskCopy) {
        copy.crash();
        self.replicas.insert(node, copy);
    }

    /// What the shadow disk of `node` holds in a slot.
    #[must_use]
    pub fn stored(&self, node: NodeId, slot: Slot) -> Option<(Ballot, Entry)> {
        self.replicas
            .get(&node)
            .and_then(|shadow| shadow.stored(slot))
    }

    /// A replica starts, for the first time or after a crash, with what its disk held.
    ///
    /// # Errors
    ///
    /// R1 if a promise was forgotten, R3 if something durable was.
    pub fn started(&mut self, node: NodeId, recovered: &Recovered) -> Verdict {
        let chosen = &self.chosen;
        let shadow = self.replicas.entry(node).or_default();
        shadow.restart(node, recovered, |slot| chosen.contains_key(&slot))?;
        for (slot, ballot, entry) in &recovered.accepted {
            if *ballot > Ballot::ZERO {
                self.propose(*slot, *ballot, entry)?;
                self.vote(node, *slot, *ballot)?;
            }
        }
        Ok(())
    }

    /// The disk of `node` has everything up to `seq`.
    ///
    /// # Errors
    ///
    /// G2 and G3, if a vote that became durable contradicts another.
    pub fn durable(&mut self, node: NodeId, seq: WalSeq) -> Verdict {
        let accepted = self.replicas.entry(node).or_default().complete(seq);
        for (slot, ballot) in accepted {
            self.vote(node, slot, ballot)?;
        }
        Ok(())
    }

    /// A replica lost its memory, and of its disk whatever `durable` did not name.
    pub fn crashed(&mut self, node: NodeId) {
        self.replicas.entry(node).or_default().crash();
    }

    /// A read is about to be given to a core.
    pub fn read_asked(&mut self, id: u64) {
        self.reads.insert(id, self.published);
    }

    /// A core took a step and wants `out`; call with what this step alone added.
    ///
    /// # Errors
    ///
    /// The first rule that it broke.
    pub fn stepped(&mut self, core: &Core, out: &Outbox) -> Verdict {
        let node = core.own();
        for append in &out.wal {
            self.replicas.entry(node).or_default().submit(append)?;
            for record in &append.records {
                if let WalRecord::Accept {
                    slot,
                    ballot,
                    entry,
                } = record
                {
                    self.propose(*slot, *ballot, entry)?;
                }
            }
        }
        for envelope in &out.sends {
            self.on_sent(node, &envelope.message)?;
        }
        for chosen in &out.chosen {
            self.on_published(node, chosen)?;
        }
        for (id, index) in &out.reads_ready {
            let asked = self.reads.remove(id).unwrap_or_default();
            check(*index >= asked, "L1", || {
                format!("node {node} answers read {id} at {index}, asked when {asked} was chosen")
            })?;
        }
        self.check_state(core)
    }

    /// Forgets slots below `slot`, which must be published everywhere; for long runs. From then on
    /// [`Ghost::recover`] is of no use.
    pub fn forget_below(&mut self, slot: Slot) {
        for shadow in self.replicas.values_mut() {
            shadow.forget_below(slot);
        }
        self.proposed = self.proposed.split_off(&(slot, Ballot::ZERO));
        self.votes = self.votes.split_off(&(slot, Ballot::ZERO));
        self.times = self.times.split_off(&slot);
    }

    fn propose(&mut self, slot: Slot, ballot: Ballot, entry: &Entry) -> Verdict {
        let known = self
            .proposed
            .entry((slot, ballot))
            .or_insert_with(|| entry.clone());
        check(known == entry, "G1", || {
            format!("slot {slot} at {ballot}: {known:?} was proposed, now {entry:?}")
        })?;
        let Some((chosen_at, chosen)) = self.chosen.get(&slot) else {
            return Ok(());
        };
        check(ballot <= *chosen_at || chosen == entry, "G2", || {
            format!("slot {slot}: {chosen:?} chosen at {chosen_at}, {entry:?} proposed at {ballot}")
        })
    }

    fn vote(&mut self, node: NodeId, slot: Slot, ballot: Ballot) -> Verdict {
        let voters = self.votes.entry((slot, ballot)).or_default();
        voters.insert(node);
        let Some(entry) = self.proposed.get(&(slot, ballot)) else {
            return Ok(());
        };
        if voters.len() < self.quorum {
            return Ok(());
        }
        if let Some((at, known)) = self.chosen.get(&slot) {
            check(known == entry, "G3", || {
                format!("slot {slot}: {known:?} chosen at {at}, {entry:?} at {ballot}")
            })?;
            if *at <= ballot {
                return Ok(());
            }
        }
        let later = (slot, ballot)..(slot.next(), Ballot::ZERO);
        for ((_, at), other) in self.proposed.range(later) {
            check(other == entry, "G2", || {
                format!("slot {slot}: {entry:?} chosen at {ballot}, {other:?} proposed at {at}")
            })?;
        }
        self.chosen.insert(slot, (ballot, entry.clone()));
        Ok(())
    }

    fn on_sent(&mut self, node: NodeId, message: &Message) -> Verdict {
        match message {
            Message::Accept(m) => self.on_accept_sent(node, m),
            Message::Accepted(m) => self.on_ack_sent(node, m.ballot, m.upto),
            Message::HeartbeatAck(m) => self.on_ack_sent(node, m.ballot, m.upto),
            Message::Prepare(m) => {
                let asked = self.asked.entry(m.ballot).or_default();
                *asked = m.from.max(*asked);
                let durable = self.shadow(node).promised();
                check(durable >= m.ballot, "R8", || {
                    format!("node {node} prepares {} with {durable} durable", m.ballot)
                })
            }
            Message::Promise(m) => self.on_promise_sent(node, m),
            Message::ChosenChunk(m) => {
                for (slot, entry) in (m.start.0..).map(Slot).zip(&m.entries) {
                    self.check_chosen(node, slot, entry)?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn on_accept_sent(&mut self, node: NodeId, m: &Accept) -> Verdict {
        check(m.ballot.node() == node, "G5", || {
            format!("node {node} proposes at {}", m.ballot)
        })?;
        for (slot, entry) in (m.prev.next().0..).map(Slot).zip(&m.entries) {
            self.propose(slot, m.ballot, entry)?;
        }
        Ok(())
    }

    fn on_ack_sent(&mut self, node: NodeId, ballot: Ballot, upto: Slot) -> Verdict {
        let shadow = self.shadow(node);
        let promised = shadow.promised_in_memory();
        check(ballot >= promised, "R2", || {
            format!("node {node} acknowledges {ballot} after promising {promised}")
        })?;
        self.check_vote(node, ballot, upto)
    }

    /// Everything up to `upto` is durable at `ballot` on the disk of `node`, or chosen and durable.
    fn check_vote(&mut self, node: NodeId, ballot: Ballot, upto: Slot) -> Verdict {
        let shadow = self.replicas.entry(node).or_default();
        for slot in (shadow.voted(ballot).0 + 1..=upto.0).map(Slot) {
            let held =
                shadow.holds(slot, ballot) || shadow.has(slot) && self.chosen.contains_key(&slot);
            let rule = if shadow.accepts_in_memory(slot, ballot) {
                "R8"
            } else {
                "R6"
            };
            check(held, rule, || {
                format!("node {node} votes for {upto} at {ballot}, {slot} is not durable so")
            })?;
        }
        shadow.set_voted(ballot, upto);
        Ok(())
    }

    fn on_promise_sent(&mut self, node: NodeId, m: &Promise) -> Verdict {
        let shadow = self.shadow(node);
        let durable = shadow.promised();
        check(durable >= m.ballot, "R8", || {
            format!(
                "node {node} sends promise {} with {durable} durable",
                m.ballot
            )
        })?;
        let last = shadow.last();
        check(m.last >= last, "R7", || {
            format!(
                "node {node} promises {} up to {}, {last} is durable",
                m.ballot, m.last
            )
        })?;
        let shadow = self.replicas.entry(node).or_default();
        for slot in shadow.left_out(m) {
            let unasked = self.asked.get(&m.ballot).is_some_and(|asked| slot < *asked);
            let chosen = (unasked || slot <= m.chosen) && self.chosen.contains_key(&slot);
            check(chosen, "R7", || {
                format!(
                    "node {node} promises {} from {} on and leaves out {slot}; it says that {} is chosen",
                    m.ballot, m.start, m.chosen
                )
            })?;
        }
        for (slot, held) in (m.start.0..).map(Slot).zip(&m.held) {
            let accepted = self.shadow(node).accepted_at(slot);
            check(held.chosen || held.ballot >= accepted, "R7", || {
                format!(
                    "node {node} reports {slot} at {}, {accepted} is durable",
                    held.ballot
                )
            })?;
            if held.chosen
                && let Some(entry) = &held.entry
            {
                self.check_chosen(node, slot, entry)?;
            }
        }
        Ok(())
    }

    fn on_published(&mut self, node: NodeId, m: &Chosen) -> Verdict {
        self.check_chosen(node, m.slot, &m.entry)?;
        let time = self.times.entry(m.slot).or_insert((m.time_ms, m.counts));
        check(*time == (m.time_ms, m.counts), "R4", || {
            format!(
                "node {node}: cluster time at {} is {}, elsewhere {}",
                m.slot, m.time_ms, time.0
            )
        })?;
        self.published = self.published.max(m.slot);
        let shadow = self.replicas.entry(node).or_default();
        let expected = shadow.publish();
        check(m.slot == expected, "R4", || {
            format!("node {node} hands out {}, {expected} comes next", m.slot)
        })
    }

    fn check_chosen(&self, node: NodeId, slot: Slot, entry: &Entry) -> Verdict {
        let chosen = self.chosen(slot);
        check(chosen == Some(entry), "R4", || {
            format!("node {node} takes {entry:?} in {slot} for chosen, in truth {chosen:?}")
        })
    }

    fn check_state(&mut self, core: &Core) -> Verdict {
        let (node, status) = (core.own(), core.status());
        let shadow = self.replicas.entry(node).or_default();
        shadow.check_promised(node, status.promised)?;
        let ordered = status.first <= status.chosen.next()
            && status.applied <= status.chosen
            && status.chosen <= status.last;
        check(ordered, "R5", || format!("node {node}: {status:?}"))?;
        if status.role == Role::Leader {
            let who = (node, shadow.starts());
            let known = *self.leaders.entry(status.ballot).or_insert(who);
            check(known == who, "G5", || {
                format!(
                    "{} led by node {} (start {}) and {who:?}",
                    status.ballot, known.0, known.1
                )
            })?;
            self.check_vote(node, status.ballot, status.durable)?;
        }
        Ok(())
    }

    fn shadow(&mut self, node: NodeId) -> &Shadow {
        self.replicas.entry(node).or_default()
    }
}
