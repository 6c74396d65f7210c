//! The chain hash: one number for a whole history of chosen entries.
//!
//! Each link hashes the one before it, the slot and every byte of the entry. The ballot under which the
//! entry was accepted stays out, because it differs between replicas that agree. Replicas with equal
//! chains at one slot have chosen the same values in all slots below; once two differ they differ for ever.
//!
//! The chain begins at the first `LeaderStart` that announces it. Logs that began under a version without
//! chains have entries before that, which no replica counts.
//!
//! It finds accidents, not attackers.

use std::collections::VecDeque;

use crate::entry::Entry;
use crate::ident::Slot;

/// The chain hash as of one slot; 0 before it begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain(pub u64);

impl Chain {
    /// The chain after the next entry, which announces the chain if `begins`.
    #[must_use]
    pub(crate) fn after(self, slot: Slot, entry: &Entry, begins: bool) -> Chain {
        if self == Chain::default() && !begins {
            return self;
        }
        let bytes = entry.bytes();
        let mut state = mix(mix(self.0, slot.0), bytes.len() as u64);
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            state = mix(state, u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        // 0 means that the chain has not begun.
        Chain(mix(state, u64::from_le_bytes(last)).max(1))
    }
}

/// One step of the hash: invertible in `state` for a given word, so that no difference is ever lost.
const fn mix(state: u64, word: u64) -> u64 {
    let mixed = (state ^ word).wrapping_mul(0x9fb2_1c65_1e98_df25);
    mixed ^ (mixed >> 32)
}

/// The hashes of the last slots, oldest first: a bounded window into one's own history.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    hashes: VecDeque<(Slot, u64)>,
    most: usize,
}

impl Window {
    pub(crate) fn new(most: usize) -> Window {
        Window {
            hashes: VecDeque::new(),
            most,
        }
    }

    /// Adds the hash of a slot above all others.
    pub(crate) fn push(&mut self, slot: Slot, hash: u64) {
        if self.hashes.len() == self.most {
            self.hashes.pop_front();
        }
        self.hashes.push_back((slot, hash));
    }

    /// The hash of that slot, if it is in the window.
    pub(crate) fn get(&self, slot: Slot) -> Option<u64> {
        let index = self.hashes.binary_search_by_key(&slot, |(slot, _)| *slot);
        index.ok().map(|index| self.hashes[index].1)
    }

    /// The newest slot and its hash.
    pub(crate) fn newest(&self) -> Option<(Slot, u64)> {
        self.hashes.back().copied()
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

    #[test]
    fn every_slot_and_byte_counts() {
        let begun = Chain::default().after(Slot(1), &entry(""), true);
        assert_ne!(begun, Chain::default());
        let next = |slot: u64, text: &str| begun.after(Slot(slot), &entry(text), false);
        let texts = ["", "a", "b", "a\0", "aaaaaaaa", "aaaaaaaab"];
        let mut seen: Vec<u64> = texts.iter().map(|text| next(2, text).0).collect();
        seen.push(next(3, "a").0);
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 7);
    }

    #[test]
    fn a_difference_stays() {
        let begun = Chain::default().after(Slot(1), &entry(""), true);
        let mut one = begun.after(Slot(2), &entry("one"), false);
        let mut two = begun.after(Slot(2), &entry("two"), false);
        for slot in (3..200).map(Slot) {
            (one, two) = (
                one.after(slot, &entry("same"), false),
                two.after(slot, &entry("same"), false),
            );
            assert_ne!(one, two, "at {slot}");
        }
    }

    #[test]
    fn nothing_counts_before_it_begins() {
        let before = Chain::default().after(Slot(4), &entry("old"), false);
        assert_eq!(before, Chain::default());
    }

    #[test]
    fn the_window_keeps_the_newest() {
        let mut window = Window::new(2);
        for slot in 5..8 {
            window.push(Slot(slot), 10 * slot);
        }
        let get = |slot| window.get(Slot(slot));
        assert_eq!(
            (get(5), get(6), get(7), get(8)),
            (None, Some(60), Some(70), None)
        );
        assert_eq!(window.newest(), Some((Slot(7), 70)));
    }
}
