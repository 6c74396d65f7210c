//! Entries that came in promises, kept for the next candidacy.
//!
//! A slow link may take longer than a candidacy to carry what an acceptor holds. What one ballot's
//! acceptor says of its votes counts for that ballot alone and is told anew in each promise. But a
//! value is named by its slot and the ballot that it was accepted under, for ever: one node owns
//! that ballot and proposes one value there. So the bytes need not travel again, whichever
//! acceptor holds them.

use std::collections::BTreeMap;

use crate::ballot::Ballot;
use crate::entry::Entry;
use crate::ident::Slot;
use crate::message::Run;

/// The most runs that one prepare names; the entries of further ones travel again.
const RUNS_MAX: usize = 4_096;

/// See the module. Bounded in bytes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Kept {
    /// By ballot, then slot, so that runs lie together.
    entries: BTreeMap<(Ballot, Slot), Entry>,
    bytes: usize,
}

impl Kept {
    /// Keeps the value accepted in `slot` under `ballot`, if there is room.
    pub(crate) fn put(&mut self, slot: Slot, ballot: Ballot, entry: &Entry, bytes_max: usize) {
        let bytes = entry.size_bytes();
        if ballot == Ballot::ZERO || self.bytes + bytes > bytes_max {
            return; // What was only fetched as chosen is named by no ballot.
        }
        if self.entries.insert((ballot, slot), entry.clone()).is_none() {
            self.bytes += bytes;
        }
    }

    pub(crate) fn get(&self, slot: Slot, ballot: Ballot) -> Option<&Entry> {
        self.entries.get(&(ballot, slot))
    }

    /// Slots up to `chosen` are of no use any more.
    pub(crate) fn forget_upto(&mut self, chosen: Slot) {
        if self.entries.is_empty() {
            return;
        }
        self.entries.retain(|(_, slot), _| *slot > chosen);
        self.bytes = self.entries.values().map(Entry::size_bytes).sum();
    }

    /// What is kept, behind `runs`.
    pub(crate) fn add_runs(&self, runs: &mut Runs) {
        for (ballot, slot) in self.entries.keys() {
            runs.push(*slot, *ballot);
        }
    }
}

/// Slots joined to runs of one ballot.
#[derive(Debug, Default)]
pub(crate) struct Runs(Vec<Run>);

impl Runs {
    pub(crate) fn push(&mut self, slot: Slot, ballot: Ballot) {
        if ballot == Ballot::ZERO {
            return;
        }
        if let Some(run) = self.0.last_mut()
            && run.ballot == ballot
            && run.to.next() == slot
        {
            run.to = slot;
        } else if self.0.len() < RUNS_MAX {
            self.0.push(Run {
                from: slot,
                to: slot,
                ballot,
            });
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Run> {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;
    use crate::ident::NodeId;

    #[test]
    fn kept_by_slot_and_ballot_and_told_in_runs() {
        let entry = Entry::new(EntryKind::App, Ballot::ZERO, 0, 0, b"x");
        let ballot = |round| Ballot::new(round, NodeId(1));
        let max = 5 * entry.size_bytes();
        let mut kept = Kept::default();
        for (slot, round) in [(7, 2), (5, 1), (6, 1), (7, 1), (9, 1), (10, 1)] {
            kept.put(Slot(slot), ballot(round), &entry, max);
        }
        kept.put(Slot(4), Ballot::ZERO, &entry, max);
        let mut runs = Runs::default();
        kept.add_runs(&mut runs);
        let runs: Vec<_> = runs.into_vec();
        let runs = runs.iter().map(|r| (r.from.0, r.to.0, r.ballot.round()));
        let runs: Vec<_> = runs.collect();
        assert_eq!(runs, [(5, 7, 1), (9, 9, 1), (7, 7, 2)], "10 had no room");
        assert!(kept.get(Slot(7), ballot(2)).is_some());
        assert!(kept.get(Slot(6), ballot(2)).is_none(), "another ballot");
        kept.forget_upto(Slot(7));
        kept.put(Slot(10), ballot(1), &entry, max);
        assert!(kept.get(Slot(7), ballot(1)).is_none() && kept.get(Slot(10), ballot(1)).is_some());
    }
}
