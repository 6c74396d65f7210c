//! The accepted store: what this replica holds in memory of the agreed order.
//!
//! ```text
//!   first          start            chosen           last
//!     | on disk only | kept for peers | may still change |
//! ```
//!
//! Each slot keeps the ballot under which it was accepted. Ballots may fall along the log: a stale
//! tail of an older ballot may follow a freshly accepted prefix, and it is never cut, because
//! nobody here knows that it is not chosen. Entries leave memory once they are chosen, durable and
//! more than a bounded tail. Durable, because a slot may be chosen by others' disks while the own
//! one still has an older value there, and whoever reads the log would serve that one as chosen.

use std::collections::VecDeque;

use crate::ballot::Ballot;
use crate::entry::Entry;
use crate::ident::Slot;

/// One slot in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    /// The ballot it was accepted under; zero if it was only fetched as chosen.
    pub(crate) ballot: Ballot,
    /// The value.
    pub(crate) entry: Entry,
}

/// Invariants: `first` <= `start` <= `chosen` + 1; `items` are the slots `start..=last`.
#[derive(Clone, Debug)]
pub(crate) struct Log {
    first: Slot,
    start: Slot,
    items: VecDeque<Item>,
    chosen: Slot,
    chosen_bytes: usize,
    unchosen_bytes: usize,
}

impl Log {
    /// A log of which everything up to `chosen` is only on disk.
    pub(crate) fn new(first: Slot, chosen: Slot) -> Log {
        assert!(
            first <= chosen.next(),
            "the log starts at {first}, above chosen {chosen} + 1"
        );
        Log {
            first,
            start: chosen.next(),
            items: VecDeque::new(),
            chosen,
            chosen_bytes: 0,
            unchosen_bytes: 0,
        }
    }

    /// The first slot the disk holds.
    pub(crate) fn first(&self) -> Slot {
        self.first
    }

    /// The first slot in memory, or the one after the last.
    pub(crate) fn start(&self) -> Slot {
        self.start
    }

    /// Every slot up to here is known to be chosen.
    pub(crate) fn chosen(&self) -> Slot {
        self.chosen
    }

    /// The last slot held.
    pub(crate) fn last(&self) -> Slot {
        Slot(self.start.0 + self.items.len() as u64).prev()
    }

    /// Bytes of entries above `chosen`.
    pub(crate) fn unchosen_bytes(&self) -> usize {
        self.unchosen_bytes
    }

    /// The slot, if it is in memory.
    pub(crate) fn get(&self, slot: Slot) -> Option<&Item> {
        let index = slot.0.checked_sub(self.start.0)?;
        self.items.get(usize::try_from(index).ok()?)
    }

    /// The slots in memory from `from` on, which must not be below `start`.
    pub(crate) fn from(&self, from: Slot) -> impl Iterator<Item = (Slot, &Item)> {
        let skip = usize::try_from(from.0 - self.start.0).expect("slots in memory fit");
        let slots = (from.0..).map(Slot);
        slots.zip(self.items.iter().skip(skip))
    }

    /// Puts an entry above `chosen`: over an older one, or right after the last.
    pub(crate) fn put(&mut self, slot: Slot, ballot: Ballot, entry: Entry) {
        assert!(
            slot > self.chosen,
            "slot {slot} is chosen (up to {})",
            self.chosen
        );
        assert!(
            slot <= self.last().next(),
            "slot {slot} leaves a hole after {}",
            self.last()
        );
        self.unchosen_bytes += entry.size_bytes();
        let item = Item { ballot, entry };
        let index = usize::try_from(slot.0 - self.start.0).expect("slots in memory fit");
        if index == self.items.len() {
            self.items.push_back(item);
        } else {
            let old = std::mem::replace(&mut self.items[index], item);
            self.unchosen_bytes -= old.entry.size_bytes();
        }
    }

    /// Everything held up to `upto` is chosen. Never goes back.
    pub(crate) fn choose(&mut self, upto: Slot) {
        assert!(
            upto <= self.last(),
            "chosen {upto} above the last slot {}",
            self.last()
        );
        while self.chosen < upto {
            self.chosen = self.chosen.next();
            let bytes = self
                .get(self.chosen)
                .expect("unchosen slots stay")
                .entry
                .size_bytes();
            self.unchosen_bytes -= bytes;
            self.chosen_bytes += bytes;
        }
    }

    /// The first slot above `chosen` that is not held at `ballot`: where its stream goes on.
    pub(crate) fn stream_next(&self, ballot: Ballot) -> Slot {
        let held = self
            .from(self.chosen.next())
            .take_while(|(_, item)| item.ballot == ballot);
        Slot(self.chosen.0 + 1 + held.count() as u64)
    }

    /// Lets go of chosen entries beyond `tail_bytes_max`, up to `settled`: the last slot of which
    /// the disk holds the chosen value.
    pub(crate) fn trim(&mut self, tail_bytes_max: usize, settled: Slot) {
        let settled = settled.min(self.chosen);
        while self.chosen_bytes > tail_bytes_max && self.start <= settled {
            let item = self
                .items
                .pop_front()
                .expect("chosen slots above start are in memory");
            self.chosen_bytes -= item.entry.size_bytes();
            self.start = self.start.next();
        }
    }

    /// The disk no longer holds anything below `first`.
    pub(crate) fn forget_below(&mut self, first: Slot) {
        self.first = self.first.max(first.min(self.start));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::EntryKind;
    use crate::ident::NodeId;

    fn ballot(round: u64) -> Ballot {
        Ballot::new(round, NodeId(1))
    }

    fn entry(text: &str) -> Entry {
        Entry::new(EntryKind::App, ballot(1), 0, 0, text.as_bytes())
    }

    fn log_of(rounds: &[u64]) -> Log {
        let mut log = Log::new(Slot(1), Slot(0));
        for (slot, &round) in (1..).zip(rounds) {
            log.put(Slot(slot), ballot(round), entry("x"));
        }
        log
    }

    #[test]
    fn a_stale_tail_stays_behind_a_fresh_prefix() {
        let mut log = log_of(&[1, 1, 1]);
        log.put(Slot(1), ballot(2), entry("y"));
        assert_eq!(log.last(), Slot(3));
        assert_eq!(log.stream_next(ballot(2)), Slot(2));
        assert_eq!(log.stream_next(ballot(1)), Slot(1));
        log.choose(Slot(1));
        assert_eq!(log.stream_next(ballot(1)), Slot(4));
    }

    #[test]
    fn counts_bytes_and_trims_only_what_is_chosen() {
        let mut log = log_of(&[1, 1, 1, 1]);
        let each = entry("x").size_bytes();
        assert_eq!(log.unchosen_bytes(), 4 * each);
        log.choose(Slot(3));
        assert_eq!(log.unchosen_bytes(), each);
        log.trim(0, Slot(0));
        assert_eq!(log.start(), Slot(1), "nothing is durable");
        log.trim(each, Slot(4));
        assert_eq!(
            (log.start(), log.first(), log.last()),
            (Slot(3), Slot(1), Slot(4))
        );
        log.trim(0, Slot(4));
        assert_eq!((log.start(), log.get(Slot(3))), (Slot(4), None));
        assert_eq!(log.from(Slot(4)).count(), 1);
    }

    #[test]
    #[should_panic(expected = "hole")]
    fn refuses_a_hole() {
        log_of(&[1]).put(Slot(3), ballot(1), entry("x"));
    }

    #[test]
    #[should_panic(expected = "is chosen")]
    fn refuses_to_overwrite_what_is_chosen() {
        let mut log = log_of(&[1, 1]);
        log.choose(Slot(1));
        log.put(Slot(1), ballot(2), entry("y"));
    }
}
