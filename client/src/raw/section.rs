//! The places of a section's appends, kept without gaps while many are under way.
//!
//! ```text
//! place     1     2     3     4
//! append    ok    ?     ?     ?        2 is refused: 3 and 4 move up, and are sent again with
//!                 ✗     2     3        their new places when the service finds them out of order
//! ```
//!
//! An append keeps its number (`Seq`) when its place changes, so it runs at most once.
//!
//! One that the service found out of order is sent again only after those before it: the first of
//! them once nothing before it is open, each other one right after its forerunner. So a lost append
//! costs those behind it one more message each, and the pipeline is full again.

use std::collections::{BTreeMap, BTreeSet};

use statemachine::Seq;

#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Places given and not taken back.
    count: u32,
    /// Appends without an answer, with their places.
    open: BTreeMap<Seq, u32>,
    /// Those of them that were out of order and have not been sent since.
    overtaken: BTreeSet<Seq>,
    /// Those of them that have been sent since.
    again: BTreeSet<Seq>,
}

impl Section {
    /// The next place is this append's.
    pub(crate) fn add(&mut self, seq: Seq) {
        self.count += 1;
        self.open.insert(seq, self.count);
    }

    /// The place of an append without an answer.
    pub(crate) fn place(&self, seq: Seq) -> Option<u32> {
        self.open.get(&seq).copied()
    }

    /// It is in the section.
    pub(crate) fn accepted(&mut self, seq: Seq) {
        self.sent_again(seq);
        self.again.remove(&seq);
        self.open.remove(&seq);
    }

    /// It is not, and never will be: those behind it move up.
    pub(crate) fn refused(&mut self, seq: Seq) {
        self.sent_again(seq);
        self.again.remove(&seq);
        let Some(place) = self.open.remove(&seq) else {
            return;
        };
        self.count -= 1;
        for behind in self.open.values_mut().filter(|behind| **behind > place) {
            *behind -= 1;
        }
    }

    /// The service has not seen all that comes before it.
    pub(crate) fn out_of_order(&mut self, seq: Seq) {
        // Something before it is missing still, so nothing before it can be relied on.
        self.again = self.again.split_off(&seq);
        self.again.remove(&seq);
        if self.open.contains_key(&seq) {
            self.overtaken.insert(seq);
        }
    }

    /// It has been sent again, or need not be.
    pub(crate) fn sent_again(&mut self, seq: Seq) {
        if self.overtaken.remove(&seq) {
            self.again.insert(seq);
        }
    }

    /// Whether an append, or a release if none is given, that was out of order may be sent again.
    pub(crate) fn may_send_again(&self, seq: Option<Seq>) -> bool {
        let Some(seq) = seq else {
            return self.open.is_empty();
        };
        // Numbers are in the order of places.
        self.overtaken.first().is_none_or(|&first| first >= seq)
            && self
                .open
                .range(..seq)
                .all(|(before, _)| self.again.contains(before))
    }

    /// How many appends the section has if all that are open succeed.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Whether an append before this one, or any if none is given, has no answer yet.
    pub(crate) fn open_before(&self, seq: Option<Seq>) -> bool {
        match seq.and_then(|seq| self.place(seq)) {
            Some(place) => self.open.values().any(|&other| other < place),
            None => !self.open.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All ways for five appends to end, in all rotations of the order of answers: accepted ones
    /// keep their order and end on places without gaps.
    #[test]
    fn no_gaps_whatever_is_refused() {
        for refused in 0..32_u32 {
            for start in 0..5 {
                let mut section = Section::default();
                (1..=5).for_each(|seq| section.add(Seq(seq)));
                for seq in (0..5)
                    .map(|i| (i + start) % 5)
                    .filter(|i| refused & (1 << i) != 0)
                {
                    section.refused(Seq(seq + 1));
                }
                let places: Vec<_> = (1..=5).filter_map(|seq| section.place(Seq(seq))).collect();
                let expected: Vec<_> = (1..=5 - refused.count_ones()).collect();
                assert_eq!(places, expected, "refused {refused:05b}");
                assert_eq!(section.count(), 5 - refused.count_ones());
            }
        }
    }

    /// The first is lost, the others were refused: they wait for it, then leave one after another.
    #[test]
    fn overtaken_ones_leave_in_order() {
        let mut section = Section::default();
        (1..=4).for_each(|seq| section.add(Seq(seq)));
        for seq in [3, 2, 4] {
            section.out_of_order(Seq(seq));
        }
        let free = |section: &Section| -> Vec<u64> {
            (2..=4)
                .filter(|&seq| section.may_send_again(Some(Seq(seq))))
                .collect()
        };
        assert_eq!(free(&section), []);
        section.accepted(Seq(1));
        assert_eq!(free(&section), [2]);
        section.sent_again(Seq(2));
        assert_eq!(free(&section), [2, 3]);
        section.sent_again(Seq(3));
        assert_eq!(free(&section), [2, 3, 4]);
        // Lost again: the third waits for an answer to the second.
        section.out_of_order(Seq(3));
        assert_eq!(free(&section), [2]);
        section.accepted(Seq(2));
        assert_eq!(free(&section), [2, 3]);
        assert!(!section.may_send_again(None));
    }

    #[test]
    fn open_before() {
        let mut section = Section::default();
        (1..=3).for_each(|seq| section.add(Seq(seq)));
        assert!(!section.open_before(Some(Seq(1))) && section.open_before(Some(Seq(2))));
        section.accepted(Seq(1));
        assert!(!section.open_before(Some(Seq(2))) && section.open_before(None));
    }
}
