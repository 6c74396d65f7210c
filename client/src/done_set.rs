//! Which of a session's commands need no answer any more.
//!
//! Sent with each command, so that the service forgets the answers: all numbers up to one, and
//! ranges above it while an older command, such as a long wait, is still open.

use std::collections::BTreeMap;

use statemachine::{Done, Seq};

/// A set of numbers, kept as disjoint ranges that do not touch.
#[derive(Clone, Debug, Default)]
pub(crate) struct DoneSet {
    /// First to last, both included; all above `below + 1`.
    ranges: BTreeMap<u64, u64>,
    below: u64,
}

impl DoneSet {
    pub(crate) fn insert(&mut self, Seq(seq): Seq) {
        if seq <= self.below || self.contains(seq) {
            return;
        }
        let mut first = seq;
        let mut last = seq;
        if let Some((&start, &end)) = self.ranges.range(..seq).next_back()
            && end + 1 == seq
        {
            first = start;
        }
        if let Some(end) = self.ranges.remove(&(seq + 1)) {
            last = end;
        }
        self.ranges.insert(first, last);
        if let Some(end) = self.ranges.remove(&(self.below + 1)) {
            self.below = end;
        }
    }

    pub(crate) fn to_done(&self) -> Done {
        let also = self
            .ranges
            .iter()
            .map(|(&first, &last)| (first, last))
            .collect();
        Done {
            below: self.below,
            also,
        }
    }

    fn contains(&self, seq: u64) -> bool {
        self.ranges
            .range(..=seq)
            .next_back()
            .is_some_and(|(_, &end)| end >= seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn members(done: &Done, upto: u64) -> BTreeSet<u64> {
        (1..=upto)
            .filter(|seq| {
                *seq <= done.below || done.also.iter().any(|(a, b)| (a..=b).contains(&seq))
            })
            .collect()
    }

    /// Every order of inserting six numbers gives the same set, in as few ranges as possible.
    #[test]
    fn every_order_of_six() {
        fn orders(left: &[u64], chosen: &mut Vec<u64>) {
            let mut set = DoneSet::default();
            chosen.iter().for_each(|&seq| set.insert(Seq(seq)));
            let done = set.to_done();
            assert_eq!(
                members(&done, 8),
                chosen.iter().copied().collect(),
                "{chosen:?}"
            );
            let mut before = done.below;
            for &(first, last) in &done.also {
                assert!(first > before + 1 && first <= last, "{chosen:?}: {done:?}");
                before = last;
            }
            for &next in left {
                let rest: Vec<_> = left.iter().copied().filter(|&it| it != next).collect();
                chosen.push(next);
                orders(&rest, chosen);
                chosen.pop();
            }
        }
        orders(&[1, 2, 3, 4, 5, 6], &mut Vec::new());
    }

    #[test]
    fn twice_is_once() {
        let mut set = DoneSet::default();
        for seq in [2, 2, 1, 1, 2] {
            set.insert(Seq(seq));
        }
        assert_eq!(
            set.to_done(),
            Done {
                below: 2,
                also: vec![]
            }
        );
    }
}
