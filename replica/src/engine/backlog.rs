//! Chosen entries that wait to be applied: until the next tick, if more were chosen than one turn may apply, or
//! because the data files' disk is full.
//!
//! As a rule the queue is empty. While it waits it is bounded in bytes; what does not fit is dropped,
//! since it is in the log, and read back from there later. Once an entry was dropped every later one
//! is too, until the reading has caught up: the order of slots is never broken.
//!
//! Only what is settled may be read back ([`paxos::Core::settled`]). Above that the log may still show
//! an older record of a slot, with a value that was accepted once and never chosen.

use std::collections::VecDeque;

use paxos::{Entry, Slot};

/// See the module.
#[derive(Debug)]
pub(super) struct Backlog {
    bytes_max: usize,
    bytes: usize,
    queue: VecDeque<(Slot, Entry)>,
    /// The first slot that is chosen and not in `queue`.
    spilled: Option<Slot>,
    /// The highest slot known to be chosen.
    chosen: Slot,
    /// If the log was asked for what was dropped: what was settled by then. What settles later may have
    /// been read before it did.
    asked: Option<Slot>,
}

impl Backlog {
    pub(super) fn new(bytes_max: usize, chosen: Slot) -> Backlog {
        Backlog {
            bytes_max,
            bytes: 0,
            queue: VecDeque::new(),
            spilled: None,
            chosen,
            asked: None,
        }
    }

    /// Takes the next chosen entry. Says whether it is the first to be dropped.
    pub(super) fn push(&mut self, slot: Slot, entry: Entry) -> bool {
        assert_eq!(
            slot,
            self.chosen.next(),
            "chosen entries come without a gap"
        );
        self.chosen = slot;
        let fits = self.bytes + entry.size_bytes() <= self.bytes_max || self.queue.is_empty();
        if self.spilled.is_none() && fits {
            self.enqueue(slot, entry);
            return false;
        }
        let is_first = self.spilled.is_none();
        self.spilled.get_or_insert(slot);
        is_first
    }

    /// Whether more is chosen than may wait in memory.
    pub(super) fn is_behind(&self) -> bool {
        self.spilled.is_some()
    }

    /// Bytes of the entries that wait in memory.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there is an entry to apply next.
    pub(super) fn has_next(&self) -> bool {
        !self.queue.is_empty()
    }

    pub(super) fn pop(&mut self) -> Option<(Slot, Entry)> {
        let (slot, entry) = self.queue.pop_front()?;
        self.bytes -= entry.size_bytes();
        Some((slot, entry))
    }

    /// The slot to read back from, if the queue is used up, that slot is settled and was not asked for.
    pub(super) fn ask(&mut self, settled: Slot) -> Option<Slot> {
        let from = self.spilled.filter(|from| *from <= settled)?;
        if self.asked.is_some() || !self.queue.is_empty() {
            return None;
        }
        self.asked = Some(settled);
        Some(from)
    }

    /// What the log had. What was not settled when it was asked is not believed.
    pub(super) fn on_loaded(&mut self, first: Slot, entries: Vec<Entry>) {
        let Some(settled) = self.asked.take() else {
            return;
        };
        if self.spilled != Some(first) || !self.queue.is_empty() {
            return;
        }
        let mut next = first;
        for entry in entries {
            if next > settled.min(self.chosen) {
                break;
            }
            self.enqueue(next, entry);
            next = next.next();
        }
        self.spilled = (next <= self.chosen).then_some(next);
    }

    fn enqueue(&mut self, slot: Slot, entry: Entry) {
        self.bytes += entry.size_bytes();
        self.queue.push_back((slot, entry));
    }
}

#[cfg(test)]
mod tests {
    use paxos::{Ballot, EntryKind, NodeId};

    use super::*;

    fn entry(text: &str) -> Entry {
        Entry::new(
            EntryKind::App,
            Ballot::new(1, NodeId(1)),
            0,
            0,
            text.as_bytes(),
        )
    }

    fn drain(backlog: &mut Backlog) -> Vec<u64> {
        std::iter::from_fn(|| backlog.pop())
            .map(|(slot, _)| slot.0)
            .collect()
    }

    /// Three fit; the rest is read back, each slot only once it is settled.
    #[test]
    fn what_is_dropped_is_read_back_in_order() {
        let mut backlog = Backlog::new(3 * entry("x").size_bytes(), Slot(0));
        let dropped: Vec<bool> = (1..=6)
            .map(|slot| backlog.push(Slot(slot), entry("x")))
            .collect();
        assert_eq!(dropped, [false, false, false, true, false, false]);
        assert_eq!(drain(&mut backlog), [1, 2, 3]);

        assert_eq!(
            backlog.ask(Slot(3)),
            None,
            "slot 4 may show an older value still"
        );
        assert_eq!(backlog.ask(Slot(4)), Some(Slot(4)));
        assert_eq!(backlog.ask(Slot(4)), None, "it was asked");
        // The log may give more than is known to be right.
        backlog.on_loaded(Slot(4), vec![entry("x"), entry("old"), entry("old")]);
        assert_eq!(drain(&mut backlog), [4]);

        assert_eq!(backlog.ask(Slot(6)), Some(Slot(5)));
        backlog.on_loaded(Slot(5), vec![entry("x"), entry("x")]);
        assert_eq!(drain(&mut backlog), [5, 6]);
        assert!(!backlog.push(Slot(7), entry("x")));
        assert_eq!(drain(&mut backlog), [7]);
    }
}
