//! Phase 1 gathered: which acceptors have told everything, and what they hold per slot.
//!
//! The merge is per slot by the highest accepted ballot; a value known to be chosen outranks any.
//! Source: Lamport, *Paxos Made Simple*, section 2.2, P2c, once per slot.
//!
//! A promise comes in parts of bounded size, and parts of two answers may mix: an acceptor that
//! promised our ballot accepts nothing older any more, so what it says of a slot stays true.
//! Reports of acceptors that are not complete yet are merged too: for each slot they only add one
//! acceptor to a quorum.

use std::collections::BTreeMap;

use crate::ballot::Ballot;
use crate::entry::Entry;
use crate::ident::{NodeId, Slot};
use crate::memory::Memory;
use crate::message::Promise;

/// What one acceptor has told so far.
#[derive(Clone, Debug)]
struct Answer {
    chosen: Slot,
    /// Nothing above was held when it first answered.
    last: Slot,
    /// The last slot it held when it last answered.
    furthest: Slot,
    /// Reported ranges, inclusive, ascending, apart from each other.
    covered: Vec<(Slot, Slot)>,
    faulty: bool,
    /// The lowest slot that it told of: what is below has left its memory, or was not asked for.
    told_from: Slot,
}

impl Answer {
    fn cover(&mut self, from: Slot, to: Slot) {
        self.covered.push((from, to));
        self.covered.sort_unstable();
        let mut joined: Vec<(Slot, Slot)> = Vec::new();
        for (from, to) in self.covered.drain(..) {
            match joined.last_mut() {
                Some(before) if from <= before.1.next() => before.1 = before.1.max(to),
                _ => joined.push((from, to)),
            }
        }
        self.covered = joined;
    }

    fn covers(&self, from: Slot, to: Slot) -> bool {
        from > to
            || self
                .covered
                .iter()
                .any(|range| range.0 <= from && to <= range.1)
    }
}

/// The promises for one ballot, merged.
#[derive(Clone, Debug, Default)]
pub(crate) struct Phase1 {
    answers: BTreeMap<NodeId, Answer>,
    merged: BTreeMap<Slot, Value>,
}

/// What one acceptor holds in a slot.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub(crate) ballot: Ballot,
    pub(crate) chosen: bool,
    pub(crate) entry: Entry,
}

impl Phase1 {
    /// Takes one part of `from`'s promise, `values` being what it reports from `part.start` on. Says
    /// whether that was news.
    pub(crate) fn add(&mut self, from: NodeId, part: &Promise, values: Vec<Value>) -> bool {
        let is_new = !self.answers.contains_key(&from);
        let answer = self.answers.entry(from).or_insert_with(|| Answer {
            chosen: part.chosen,
            last: part.last,
            told_from: part.start,
            furthest: part.last,
            covered: Vec::new(),
            faulty: false,
        });
        answer.chosen = answer.chosen.max(part.chosen);
        answer.last = answer.last.min(part.last);
        answer.furthest = answer.furthest.max(part.last);
        answer.faulty |= !part.faulty.is_empty();
        answer.told_from = answer.told_from.min(part.start);
        let told = |answer: &Answer| {
            answer
                .covered
                .iter()
                .map(|(a, b)| b.0 - a.0 + 1)
                .sum::<u64>()
        };
        let before = told(answer);
        if !values.is_empty() {
            answer.cover(part.start, Slot(part.start.0 + values.len() as u64 - 1));
        }
        let is_news = is_new || told(answer) > before;
        for (slot, value) in (part.start.0..).map(Slot).zip(values) {
            self.merge(slot, value);
        }
        is_news
    }

    /// Merges what one acceptor, perhaps the own log, holds in a slot.
    pub(crate) fn merge(&mut self, slot: Slot, held: Value) {
        match self.merged.get(&slot) {
            Some(best) if (best.chosen, best.ballot) >= (held.chosen, held.ballot) => {}
            _ => drop(self.merged.insert(slot, held)),
        }
    }

    /// Whether `node` has told everything from `from` on: its promise counts.
    pub(crate) fn is_complete(&self, node: NodeId, from: Slot) -> bool {
        let whole = |answer: &Answer| !answer.faulty && answer.covers(from, answer.last);
        self.answers.get(&node).is_some_and(whole)
    }

    /// What to ask `node` about next, if anything: the first slot of which it has not told yet, of
    /// `from` and above and of what it can tell.
    pub(crate) fn untold(&self, node: NodeId, from: Slot) -> Option<Slot> {
        let Some(answer) = self.answers.get(&node) else {
            return Some(from);
        };
        let from = from.max(answer.told_from);
        let around = |range: &&(Slot, Slot)| range.0 <= from && from <= range.1;
        let range = answer.covered.iter().find(around);
        let next = range.map_or(from, |range| range.1.next());
        (next <= answer.last).then_some(next)
    }

    /// Whether anything of `node` came.
    pub(crate) fn has_answered(&self, node: NodeId) -> bool {
        self.answers.contains_key(&node)
    }

    /// How many others have told everything from `from` on.
    pub(crate) fn complete(&self, from: Slot) -> usize {
        self.answers
            .keys()
            .filter(|&&node| self.is_complete(node, from))
            .count()
    }

    /// Whether the whole answer of `node` reports less than its disk is known to have held. Slots below
    /// `from` are chosen here and prove nothing.
    pub(crate) fn lacks(&self, node: NodeId, from: Slot, known: &Memory) -> bool {
        let Some(answer) = self
            .answers
            .get(&node)
            .filter(|_| self.is_complete(node, from))
        else {
            return false;
        };
        let slot = known.accepted;
        let held = slot < from
            || self
                .merged
                .get(&slot)
                .is_some_and(|held| held.chosen || held.ballot >= known.ballot);
        answer.furthest < known.last || !held
    }

    /// Takes back what `node` said of itself. What it said of slots stays: it was accepted once.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.answers.remove(&node);
    }

    /// What `node` said is chosen there, if it answered.
    pub(crate) fn chosen_of(&self, node: NodeId) -> Option<Slot> {
        self.answers.get(&node).map(|answer| answer.chosen)
    }

    /// The values from `from` on without a hole: whether known to be chosen, and the entry.
    ///
    /// What lies beyond a hole came from an incomplete answer and is not chosen: else a complete
    /// one would hold it, and, accepted in order, everything below.
    pub(crate) fn into_values(self, from: Slot) -> Vec<(bool, Entry)> {
        let mut values = Vec::new();
        let mut next = from;
        for (slot, held) in self.merged {
            if slot < next {
                continue;
            }
            if slot > next {
                break;
            }
            values.push((held.chosen, held.entry));
            next = next.next();
        }
        values
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ballot::Ballot;
    use crate::entry::EntryKind;

    fn entry(text: &str) -> Entry {
        Entry::new(EntryKind::App, Ballot::ZERO, 0, 0, text.as_bytes())
    }

    fn add(phase1: &mut Phase1, node: u16, part: Part) -> bool {
        phase1.add(NodeId(node), &part.0, part.1)
    }

    type Part = (Promise, Vec<Value>);

    fn part(start: u64, last: u64, chosen: u64, held: &[(u64, &str)]) -> Part {
        let values = (start..).zip(held).map(|(slot, (round, text))| Value {
            ballot: Ballot::new(*round, NodeId(9)),
            chosen: slot <= chosen,
            entry: entry(text),
        });
        let promise = Promise {
            ballot: Ballot::new(9, NodeId(1)),
            first: Slot(1),
            chosen: Slot(chosen),
            last: Slot(last),
            start: Slot(start),
            held: Vec::new(),
            faulty: Vec::new(),
            witness: Vec::new(),
        };
        (promise, values.collect())
    }

    fn texts(phase1: Phase1, from: u64) -> Vec<String> {
        let values = phase1.into_values(Slot(from));
        values
            .iter()
            .map(|(_, e)| String::from_utf8_lossy(&e.payload()).into_owned())
            .collect()
    }

    /// Mutants m4 and m5: neither the longest log nor the first answer decides.
    #[test]
    fn the_highest_ballot_wins_per_slot() {
        let mut phase1 = Phase1::default();
        add(
            &mut phase1,
            2,
            part(1, 3, 0, &[(1, "a"), (1, "b"), (1, "c")]),
        );
        add(&mut phase1, 3, part(1, 2, 0, &[(2, "x"), (0, "y")]));
        assert_eq!(phase1.complete(Slot(1)), 2);
        assert_eq!(texts(phase1, 1), ["x", "b", "c"]);
    }

    #[test]
    fn what_is_chosen_outranks_every_ballot() {
        let mut phase1 = Phase1::default();
        add(&mut phase1, 2, part(1, 1, 0, &[(5, "late")]));
        add(&mut phase1, 3, part(1, 1, 1, &[(0, "chosen")]));
        assert_eq!(texts(phase1, 1), ["chosen"]);
    }

    /// Mutants m17 and m17b: every part is needed, and a hole is not coverage.
    #[test]
    fn parts_must_cover_everything() {
        let all = [(1, "a"), (1, "b"), (1, "c"), (1, "d")];
        let mut phase1 = Phase1::default();
        add(&mut phase1, 2, part(4, 4, 0, &all[3..]));
        add(&mut phase1, 2, part(1, 4, 0, &all[..2]));
        assert!(!phase1.is_complete(NodeId(2), Slot(1)), "slot 3 is missing");
        let untold = |node, from| phase1.untold(NodeId(node), Slot(from)).map(|slot| slot.0);
        assert_eq!(
            [untold(2, 1), untold(2, 3), untold(2, 4)],
            [Some(3), Some(3), None]
        );
        assert_eq!(untold(3, 1), Some(1), "never answered");
        assert!(
            phase1.is_complete(NodeId(2), Slot(4)),
            "once 3 was fetched as chosen"
        );
        assert_eq!(texts(phase1.clone(), 1), ["a", "b"]);
        add(&mut phase1, 2, part(3, 4, 0, &all[2..3]));
        assert!(phase1.is_complete(NodeId(2), Slot(1)));
        assert_eq!(phase1.complete(Slot(1)), 1);
    }

    #[test]
    fn nothing_held_is_a_whole_answer_and_a_fault_is_none() {
        let mut phase1 = Phase1::default();
        add(&mut phase1, 2, part(1, 0, 0, &[]));
        assert!(phase1.is_complete(NodeId(2), Slot(1)));
        assert!(!phase1.is_complete(NodeId(3), Slot(1)));
        let mut damaged = part(1, 0, 0, &[]);
        damaged.0.faulty.push(crate::message::Faulty {
            from: Slot(1),
            to: Slot(2),
            ballot_max: Ballot::ZERO,
        });
        add(&mut phase1, 2, damaged);
        assert!(!phase1.is_complete(NodeId(2), Slot(1)));
    }
}
