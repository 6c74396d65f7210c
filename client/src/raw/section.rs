//! The places of a section's appends, kept without gaps while many are under way.
//!
//! ```text
//! place     1     2     3     4
//! append    ok    ?     ?     ?        2 is refused: 3 and 4 move up, and are sent again with
//!                 ✗     2     3        their new places when the service finds them out of order
//! ```
//!
//! An append keeps its number (`Seq`) when its place changes, so it runs at most once.

use std::collections::BTreeMap;

use statemachine::Seq;

#[derive(Debug, Default)]
pub(crate) struct Section {
    /// Places given and not taken back.
    count: u32,
    /// Appends without an answer, with their places.
    open: BTreeMap<Seq, u32>,
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
        self.open.remove(&seq);
    }

    /// It is not, and never will be: those behind it move up.
    pub(crate) fn refused(&mut self, seq: Seq) {
        let Some(place) = self.open.remove(&seq) else {
            return;
        };
        self.count -= 1;
        for behind in self.open.values_mut().filter(|behind| **behind > place) {
            *behind -= 1;
        }
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

    #[test]
    fn open_before() {
        let mut section = Section::default();
        (1..=3).for_each(|seq| section.add(Seq(seq)));
        assert!(!section.open_before(Some(Seq(1))) && section.open_before(Some(Seq(2))));
        section.accepted(Seq(1));
        assert!(!section.open_before(Some(Seq(2))) && section.open_before(None));
    }
}
