//! Chosen entries that wait to be applied, because the data files' disk is full.
//!
//! As a rule the queue is empty. While it waits it is bounded in bytes; what does not fit is dropped,
//! since it is in the log, and read back from there later. Once an entry was dropped every later one
//! is too, until the reading has caught up: the order of slots is never broken.

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
    /// Whether the log was asked for what was dropped.
    asked: bool,
}

impl Backlog {
    pub(super) fn new(bytes_max: usize, chosen: Slot) -> Backlog {
        Backlog {
            bytes_max,
            bytes: 0,
            queue: VecDeque::new(),
            spilled: None,
            chosen,
            asked: false,
        }
    }

    /// Takes the next chosen entry. Says whether it is the first to be dropped.
    pub(super) fn push(&mut self, slot: Slot, entry: Entry) -> bool {
        assert_eq!(slot.0, self.chosen.0 + 1, "chosen entries come without a gap");
        self.chosen = slot;
        if self.spilled.is_some() {
            return false;
        }
        if self.bytes + entry.bytes().len() > self.bytes_max && !self.queue.is_empty() {
            self.spilled = Some(slot);
            return true;
        }
        self.enqueue(slot, entry);
        false
    }

    pub(super) fn pop(&mut self) -> Option<(Slot, Entry)> {
        let (slot, entry) = self.queue.pop_front()?;
        self.bytes -= entry.bytes().len();
        Some((slot, entry))
    }

    /// The slot to read back from, if the queue is used up and the log was not asked yet.
    pub(super) fn ask(&mut self) -> Option<Slot> {
        if self.asked || !self.queue.is_empty() {
            return None;
        }
        let from = self.spilled?;
        self.asked = true;
        Some(from)
    }

    /// What the log had. Nothing, if that is not durable yet: the next call of [`Backlog::ask`] after
    /// [`Backlog::retry`] asks again.
    pub(super) fn on_loaded(&mut self, first: Slot, entries: Vec<Entry>) {
        if self.spilled != Some(first) || !self.queue.is_empty() {
            return;
        }
        let mut slot = first;
        for entry in entries {
            if slot > self.chosen {
                break;
            }
            self.enqueue(slot, entry);
            slot.0 += 1;
        }
        self.spilled = (slot <= self.chosen).then_some(slot);
        if slot > first {
            self.asked = false;
        }
    }

    /// More of the log is durable: what was not there may be now.
    pub(super) fn retry(&mut self) {
        self.asked = false;
    }

    fn enqueue(&mut self, slot: Slot, entry: Entry) {
        self.bytes += entry.bytes().len();
        self.queue.push_back((slot, entry));
    }
}
