//! Which commands of a session ran or were given up: those must never run (again).
//!
//! The set is kept as ranges. Numbers count up from 1 without gaps, so that a session that is at
//! rest has one range, and a busy one as many as it has gaps in flight:
//!
//! ```text
//! 1 2 3 4 5 6 7 8 9         (1, 5) (7, 7)
//! x x x x x . x . .         6 is on its way, 8 is the next
//! ```

use serde::{Deserialize, Serialize};

use crate::{Done, Seq};

/// A set of command numbers.
///
/// Invariant: ranges ascend, are not empty, do not touch, and 0 is in none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ran {
    ranges: Vec<(u64, u64)>,
}

impl Ran {
    /// How many ranges there are.
    pub(crate) fn ranges(&self) -> u64 {
        self.ranges.len() as u64
    }

    /// Whether the command ran or was given up.
    pub(crate) fn contains(&self, seq: Seq) -> bool {
        let next = self.ranges.partition_point(|&(_, end)| end < seq.0);
        self.ranges
            .get(next)
            .is_some_and(|&(start, _)| start <= seq.0)
    }

    /// Adds one command.
    pub(crate) fn insert(&mut self, seq: Seq) {
        self.insert_range(seq.0, seq.0);
    }

    /// Adds what a client named as done.
    pub(crate) fn insert_done(&mut self, done: &Done) {
        if done.below > 0 {
            self.insert_range(1, done.below);
        }
        for &(start, end) in &done.also {
            self.insert_range(start, end);
        }
    }

    /// Adds `start` to `end`, both included, `1 <= start <= end`.
    fn insert_range(&mut self, mut start: u64, mut end: u64) {
        // Ranges that overlap or touch the new one become part of it.
        let first = self
            .ranges
            .partition_point(|&(_, e)| e.saturating_add(1) < start);
        let past = self
            .ranges
            .partition_point(|&(s, _)| s <= end.saturating_add(1));
        if first < past {
            start = start.min(self.ranges[first].0);
            end = end.max(self.ranges[past - 1].1);
        }
        self.ranges.splice(first..past, [(start, end)]);
    }

    /// Whether the invariant holds, for sets that come from outside.
    pub(crate) fn is_sound(&self) -> bool {
        let each = self
            .ranges
            .iter()
            .all(|&(start, end)| 1 <= start && start <= end);
        let apart = self
            .ranges
            .windows(2)
            .all(|w| w[0].1.saturating_add(1) < w[1].0);
        each && apart
    }
}

/// Whether `done` can be: ranges from 1 up that are not turned round, and no more than `max`.
pub(crate) fn is_sensible(done: &Done, max: u64) -> bool {
    done.also.len() as u64 <= max
        && done
            .also
            .iter()
            .all(|&(start, end)| 1 <= start && start <= end)
}

/// The ranges that `done` names, both ends included.
pub(crate) fn ranges(done: &Done) -> impl Iterator<Item = (Seq, Seq)> {
    let below = (Seq(0), Seq(done.below));
    let also = done.also.iter().map(|&(start, end)| (Seq(start), Seq(end)));
    std::iter::once(below).chain(also)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Every order of inserting every choice of ranges over eight numbers gives the same set.
    #[test]
    fn any_two_ranges_in_any_order() {
        let ranges: Vec<(u64, u64)> = (1..=8).flat_map(|s| (s..=8).map(move |e| (s, e))).collect();
        for &a in &ranges {
            for &b in &ranges {
                for &c in &ranges {
                    check(&[a, b, c]);
                }
            }
        }
    }

    #[track_caller]
    fn check(inserted: &[(u64, u64)]) {
        let mut ran = Ran::default();
        let mut model = BTreeSet::new();
        for &(start, end) in inserted {
            ran.insert_range(start, end);
            model.extend(start..=end);
            assert!(ran.is_sound(), "{inserted:?} gives {ran:?}");
        }
        for seq in 0..=9 {
            assert_eq!(
                ran.contains(Seq(seq)),
                model.contains(&seq),
                "{inserted:?}, {seq}"
            );
        }
    }

    #[test]
    fn the_ends_of_the_numbers() {
        let mut ran = Ran::default();
        ran.insert(Seq(u64::MAX));
        ran.insert(Seq(u64::MAX - 1));
        ran.insert_range(1, u64::MAX);
        assert_eq!(ran.ranges, [(1, u64::MAX)]);
    }
}
