//! What new leaders give: every session and lease that lives at a new leader's first entry has a moment
//! left at least.
//!
//! Lifting a million deadlines in one slot would stall a replica for longer than an election takes. So a
//! gift is only noted, and counted whenever a deadline is looked at:
//!
//! ```text
//! deadline as set     10.2   10.9   11.4   14.0
//! gift at 10.0, 2 s   12.0   12.0   12.0   14.0    what counts, for terms of 2 s or more
//! ```
//!
//! What is set later ends later than any gift, so a gift need not know what was set before it. It is
//! forgotten once all deadlines that it could lift have been renewed, or were moved when they came up.

use serde::{Deserialize, Serialize};

use crate::ClusterTime;

/// What one new leader gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gift {
    /// When. What had ended by then gets nothing.
    pub(crate) at: ClusterTime,
    /// What sessions and leases have left at least from then on, unless their own term is shorter.
    pub(crate) grace_ms: u64,
}

impl Gift {
    /// Deadlines from here on gain nothing.
    pub(crate) fn end(&self) -> ClusterTime {
        self.at.after(self.grace_ms)
    }
}

/// The gifts that may still lift a deadline, in the order in which they were made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Gifts(Vec<Gift>);

impl Gifts {
    /// More leaders than can follow one another within a moment. With so many gifts pending, deadlines
    /// are lifted at once.
    pub(crate) const MAX: usize = 16;

    /// Adds the gift of another leader.
    pub(crate) fn push(&mut self, gift: Gift) {
        self.0.push(gift);
    }

    /// Whether there is no place for another one.
    pub(crate) fn is_full(&self) -> bool {
        self.0.len() >= Gifts::MAX
    }

    /// What counts for a deadline of a session or a lease with a term of `term_ms`.
    pub(crate) fn lift(&self, deadline: ClusterTime, term_ms: u64) -> ClusterTime {
        self.0.iter().fold(deadline, |deadline, gift| {
            if deadline <= gift.at {
                return deadline;
            }
            deadline.max(gift.at.after(term_ms.min(gift.grace_ms)))
        })
    }

    /// Forgets what no deadline from `first` on gains from.
    pub(crate) fn retire(&mut self, first: Option<ClusterTime>) {
        self.0
            .retain(|gift| first.is_some_and(|first| first < gift.end()));
    }

    /// The span of the deadlines that may gain something: after the first, before the second.
    pub(crate) fn span(&self) -> Option<(ClusterTime, ClusterTime)> {
        let start = self.0.first()?.at;
        Some((start, self.0.iter().map(Gift::end).max()?))
    }

    /// Whether they can be those of a state at `time`.
    pub(crate) fn is_sound(&self, time: ClusterTime) -> bool {
        let ordered = self.0.windows(2).all(|pair| pair[0].at <= pair[1].at);
        let past = self.0.last().is_none_or(|last| last.at <= time);
        ordered && past && self.0.len() <= Gifts::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gifts(gifts: &[(u64, u64)]) -> Gifts {
        let gift = |&(at, grace_ms)| Gift {
            at: ClusterTime(at),
            grace_ms,
        };
        Gifts(gifts.iter().map(gift).collect())
    }

    #[test]
    fn a_gift_lifts_what_lives_up_to_its_own_term() {
        let gifts = gifts(&[(10_000, 2_000)]);
        let lift = |at, term_ms| gifts.lift(ClusterTime(at), term_ms).0;
        assert_eq!(lift(10_000, 5_000), 10_000, "it has ended");
        assert_eq!(lift(10_001, 5_000), 12_000);
        assert_eq!(lift(10_001, 500), 10_500);
        assert_eq!(lift(12_001, 5_000), 12_001);
    }

    /// A gift reaches what an earlier one kept alive, and not what ended in between.
    #[test]
    fn gifts_follow_one_another() {
        let gifts = gifts(&[(10_000, 2_000), (11_000, 2_000)]);
        let lift = |at, term_ms| gifts.lift(ClusterTime(at), term_ms).0;
        assert_eq!(lift(10_001, 5_000), 13_000);
        assert_eq!(lift(10_001, 1_000), 11_000, "it ended at the second one");
        assert_eq!(lift(10_001, 1_001), 12_001);
    }

    #[test]
    fn a_gift_stays_while_any_deadline_may_gain_from_it() {
        let mut some = gifts(&[(10, 20), (15, 5)]);
        some.retire(Some(ClusterTime(19)));
        assert_eq!(some, gifts(&[(10, 20), (15, 5)]));
        some.retire(Some(ClusterTime(20)));
        assert_eq!(some, gifts(&[(10, 20)]));
        some.retire(None);
        assert_eq!(some, Gifts::default());
    }
}
