//! One replica's disk as the observer knows it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{Verdict, check};
use crate::ballot::Ballot;
use crate::clock::ClusterClock;
use crate::config::Recovered;
use crate::entry::Entry;
use crate::ident::{NodeId, Slot, WalSeq};
use crate::memory::Memories;
use crate::message::Promise;
use crate::outbox::{WalAppend, WalRecord};

/// What a log holds, by replay.
#[derive(Clone, Debug, Default)]
struct Contents {
    promised: Ballot,
    accepted: BTreeMap<Slot, (Ballot, Entry)>,
    marked: BTreeMap<Slot, Entry>,
    commit: Slot,
}

impl Contents {
    fn replay(&mut self, append: &WalAppend) {
        for record in &append.records {
            match record {
                WalRecord::Promise { ballot } => self.promised = self.promised.max(*ballot),
                WalRecord::Accept {
                    slot,
                    ballot,
                    entry,
                } => {
                    self.promised = self.promised.max(*ballot);
                    self.accepted.insert(*slot, (*ballot, entry.clone()));
                }
                WalRecord::Chosen { slot, entry } => {
                    self.marked.insert(*slot, entry.clone());
                }
                WalRecord::SnapshotMark { .. } => {}
            }
        }
        self.commit = self.commit.max(append.commit);
    }

    fn last(&self) -> Slot {
        let accepted = self.accepted.keys().next_back();
        let marked = self.marked.keys().next_back();
        accepted.max(marked).copied().unwrap_or_default()
    }

    fn value(&self, slot: Slot) -> Option<(Ballot, Entry)> {
        let accepted = self.accepted.get(&slot);
        match self.marked.get(&slot) {
            Some(entry) => Some((Ballot::ZERO, entry.clone())),
            None => accepted.cloned(),
        }
    }
}

/// The shadow of one replica.
#[derive(Clone, Debug, Default)]
pub(super) struct Shadow {
    starts: u64,
    disk: Contents,
    /// Submitted and not durable, in order.
    queue: VecDeque<WalAppend>,
    /// The highest promise in `queue` and on disk, and what the core last said.
    promised_in_memory: Ballot,
    voted: (Ballot, Slot),
    /// What the parts of the promise at a ballot told of.
    told: (Ballot, BTreeSet<Slot>),
    published: Slot,
}

impl Shadow {
    /// Takes a submission; its records must respect the promises before them.
    pub(super) fn submit(&mut self, append: &WalAppend) -> Verdict {
        for record in &append.records {
            let promised = self.promised_in_memory;
            match record {
                WalRecord::Promise { ballot } => {
                    check(*ballot > promised, "R1", || {
                        format!("promise {ballot} after {promised}")
                    })?;
                    self.promised_in_memory = *ballot;
                }
                WalRecord::Accept { ballot, slot, .. } => {
                    check(*ballot >= promised, "R2", || {
                        format!("{slot} accepted at {ballot} after promising {promised}")
                    })?;
                    self.promised_in_memory = *ballot;
                }
                WalRecord::Chosen { .. } | WalRecord::SnapshotMark { .. } => {}
            }
        }
        self.queue.push_back(append.clone());
        Ok(())
    }

    /// Everything up to `seq` is durable; gives the votes that became so.
    pub(super) fn complete(&mut self, seq: WalSeq) -> Vec<(Slot, Ballot)> {
        let mut votes = Vec::new();
        while self.queue.front().is_some_and(|append| append.seq <= seq) {
            let append = self.queue.pop_front().expect("just seen");
            self.disk.replay(&append);
            for record in &append.records {
                if let WalRecord::Accept { slot, ballot, .. } = record {
                    votes.push((*slot, *ballot));
                }
            }
        }
        votes
    }

    pub(super) fn crash(&mut self) {
        self.queue.clear();
        self.promised_in_memory = self.disk.promised;
    }

    /// A start with `found` on disk, which may be more than was known to be durable.
    pub(super) fn restart(
        &mut self,
        node: NodeId,
        found: &Recovered,
        is_chosen: impl Fn(Slot) -> bool,
    ) -> Verdict {
        let mut promised = found.promised;
        let mut held = BTreeMap::new();
        for (slot, ballot, entry) in &found.accepted {
            promised = promised.max(*ballot);
            held.insert(*slot, (*ballot, entry.clone()));
        }
        check(promised >= self.disk.promised, "R1", || {
            format!(
                "node {node} starts with promise {promised}, had {}",
                self.disk.promised
            )
        })?;
        for (slot, (ballot, _)) in self.disk.accepted.range(found.chosen.next()..) {
            let marked = found.chosen_marks.contains(slot);
            let kept = marked || held.get(slot).is_some_and(|(found, _)| found >= ballot);
            check(kept, "R3", || {
                format!("node {node} lost {slot}, durable at {ballot}")
            })?;
        }
        for slot in (self.published.0 + 1..=found.chosen.0).map(Slot) {
            check(is_chosen(slot), "R4", || {
                format!("node {node} starts with {slot} chosen")
            })?;
        }
        self.starts += 1;
        self.queue.clear();
        self.disk.promised = promised;
        self.disk.commit = self.disk.commit.max(found.chosen);
        for (slot, value) in held {
            if found.chosen_marks.contains(&slot) {
                self.disk.marked.insert(slot, value.1);
            } else {
                self.disk.accepted.insert(slot, value);
            }
        }
        self.promised_in_memory = promised;
        self.voted = (Ballot::ZERO, Slot::NONE);
        self.published = found.chosen;
        Ok(())
    }

    /// What a boot scan of this disk finds.
    pub(super) fn recover(&self) -> Recovered {
        let chosen = self.disk.commit.min(self.disk.last());
        let mut clock = ClusterClock::default();
        for slot in (1..=chosen.0).map(Slot) {
            let (_, entry) = self.disk.value(slot).expect("a log has no holes");
            clock.observe(slot, &entry);
        }
        let above = (chosen.0 + 1..=self.disk.last().0).map(Slot);
        let accepted = above.clone().map(|slot| {
            let (ballot, entry) = self.disk.value(slot).expect("a log has no holes");
            (slot, ballot, entry)
        });
        Recovered {
            promised: self.disk.promised,
            max_ballot_seen: self.disk.promised,
            first: Slot(1),
            chosen,
            clock,
            accepted: accepted.collect(),
            applied: chosen,
            chosen_marks: above
                .filter(|slot| self.disk.marked.contains_key(slot))
                .collect(),
            memories: Memories::default(),
        }
    }

    pub(super) fn starts(&self) -> u64 {
        self.starts
    }

    pub(super) fn promised(&self) -> Ballot {
        self.disk.promised
    }

    pub(super) fn promised_in_memory(&self) -> Ballot {
        self.promised_in_memory
    }

    pub(super) fn last(&self) -> Slot {
        self.disk.last()
    }

    /// Whether the slot is durable at this very ballot.
    pub(super) fn holds(&self, slot: Slot, ballot: Ballot) -> bool {
        self.disk
            .accepted
            .get(&slot)
            .is_some_and(|(at, _)| *at == ballot)
    }

    /// Whether the slot is durable at all.
    pub(super) fn has(&self, slot: Slot) -> bool {
        slot <= self.disk.last().max(self.disk.commit)
    }

    /// The value the disk holds in a slot, and its ballot; zero if it is marked as chosen.
    pub(super) fn stored(&self, slot: Slot) -> Option<(Ballot, Entry)> {
        self.disk.value(slot)
    }

    pub(super) fn forget_below(&mut self, slot: Slot) {
        self.disk.accepted = self.disk.accepted.split_off(&slot);
        self.disk.marked = self.disk.marked.split_off(&slot);
    }

    /// The ballot at which the slot is durable, zero if only as chosen or not at all.
    pub(super) fn accepted_at(&self, slot: Slot) -> Ballot {
        self.disk
            .accepted
            .get(&slot)
            .map(|(at, _)| *at)
            .unwrap_or_default()
    }

    /// Whether the slot is on its way to the disk at this ballot.
    pub(super) fn accepts_in_memory(&self, slot: Slot, ballot: Ballot) -> bool {
        let wanted = |record: &WalRecord| match record {
            WalRecord::Accept {
                slot: at,
                ballot: b,
                ..
            } => (*at, *b) == (slot, ballot),
            _ => false,
        };
        self.queue
            .iter()
            .any(|append| append.records.iter().any(wanted))
    }

    /// The slots accepted on disk that no part of a promise told of and that lie below where `part` begins.
    pub(super) fn left_out(&mut self, part: &Promise) -> Vec<Slot> {
        if self.told.0 != part.ballot {
            self.told = (part.ballot, BTreeSet::new());
        }
        let told = (part.start.0..).map(Slot).take(part.held.len());
        self.told.1.extend(told);
        let below = self.disk.accepted.range(..part.start);
        below
            .map(|(slot, _)| *slot)
            .filter(|slot| !self.told.1.contains(slot))
            .collect()
    }

    /// How far the votes at `ballot` were checked.
    pub(super) fn voted(&self, ballot: Ballot) -> Slot {
        if self.voted.0 == ballot {
            self.voted.1
        } else {
            Slot::NONE
        }
    }

    pub(super) fn set_voted(&mut self, ballot: Ballot, upto: Slot) {
        self.voted = (ballot, self.voted(ballot).max(upto));
    }

    /// One more slot was handed out; gives the one that had to come.
    pub(super) fn publish(&mut self) -> Slot {
        self.published = self.published.next();
        self.published
    }

    /// The core's promise is what its records say.
    pub(super) fn check_promised(&mut self, node: NodeId, promised: Ballot) -> Verdict {
        let known = self.promised_in_memory;
        check(promised == known, "R1", || {
            format!("node {node} says it promised {promised}, its records say {known}")
        })
    }
}
