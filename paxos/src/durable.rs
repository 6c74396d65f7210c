//! The release queue: what waits until the disk has it.
//!
//! The local log is first in, first out, so one number says everything: whatever was submitted up
//! to a [`WalSeq`] is durable. A message that rests on a record is held here under the number of
//! the last submission, and so under everything submitted before it too. That is why a promise
//! can report accepts that were still on their way to the disk when the prepare came.

use std::collections::VecDeque;

use crate::ballot::Ballot;
use crate::ident::{MonoTime, NodeId, Slot, WalSeq};

/// What becomes true or may leave once the disk has caught up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Waiting {
    /// P1: the own promise; the prepares may go and the promise counts.
    Prepare { ballot: Ballot },
    /// P2: the promise to another.
    Promise { to: NodeId, ballot: Ballot },
    /// P3 and P4: everything up to `upto` is accepted at `ballot`, or chosen.
    Vote { ballot: Ballot, upto: Slot },
    /// Memory may let go of chosen slots up to here: the log on disk holds the chosen values.
    Settled { slot: Slot },
    /// The log says of every slot up to here that it is chosen.
    Recorded { slot: Slot },
    /// P8: the mark of a snapshot.
    Snapshot { slot: Slot },
}

/// Counts submissions and holds what waits for them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Durable {
    submitted: WalSeq,
    durable: WalSeq,
    /// Submission times of what is not durable. Bounded by the windows that feed the log.
    unsynced: VecDeque<(WalSeq, MonoTime)>,
    /// The last submission with a promise.
    promise_seq: WalSeq,
    held: VecDeque<(WalSeq, Waiting)>,
    /// When the disk last finished something: the next sync began no earlier.
    finished_at: MonoTime,
    /// How long a sync takes: the longest seen, falling slowly while shorter ones are.
    sync_us: u64,
}

/// No sync counts as longer than this, so that one mishap is soon forgotten.
const SYNC_US_MAX: u64 = 10_000_000;

impl Durable {
    /// Numbers one more submission to the log.
    pub(crate) fn submit(&mut self, now: MonoTime) -> WalSeq {
        self.submitted = WalSeq(self.submitted.0 + 1);
        self.unsynced.push_back((self.submitted, now));
        self.submitted
    }

    /// The last submission promises a ballot.
    pub(crate) fn note_promise(&mut self) {
        self.promise_seq = self.submitted;
    }

    /// Holds `what` until everything submitted so far is durable. Held twice, it leaves once.
    pub(crate) fn hold(&mut self, what: Waiting) {
        if !self
            .held
            .iter()
            .rev()
            .any(|held| *held == (self.submitted, what))
        {
            self.held.push_back((self.submitted, what));
        }
    }

    /// The disk has everything up to `seq`.
    pub(crate) fn complete(&mut self, seq: WalSeq, now: MonoTime) {
        assert!(
            seq <= self.submitted,
            "durable {} was never submitted",
            seq.0
        );
        let before = self.durable;
        self.durable = self.durable.max(seq);
        if self
            .unsynced
            .front()
            .is_some_and(|(front, _)| *front <= seq)
        {
            let took_us = self.present_us(now).min(SYNC_US_MAX);
            let promised = before < self.promise_seq && self.promise_seq <= seq;
            // A promise takes two: the log beside the first superblock, then the second.
            let sync_us = if promised { took_us / 2 } else { took_us };
            self.sync_us = sync_us.max(self.sync_us - self.sync_us / 8);
            self.finished_at = now;
        }
        while self
            .unsynced
            .front()
            .is_some_and(|(front, _)| *front <= seq)
        {
            self.unsynced.pop_front();
        }
    }

    /// The next thing that waits no more.
    pub(crate) fn release(&mut self) -> Option<Waiting> {
        let (seq, _) = self.held.front()?;
        if *seq > self.durable {
            return None;
        }
        self.held.pop_front().map(|(_, what)| what)
    }

    /// Age of the oldest submission that the disk has not finished, in microseconds.
    pub(crate) fn oldest_age_us(&self, now: MonoTime) -> u64 {
        self.unsynced.front().map_or(0, |(_, at)| now.since(*at))
    }

    /// How long a sync takes on this disk, in microseconds, not counting the wait for the one before
    /// it; 0 if none was seen.
    pub(crate) fn sync_us(&self) -> u64 {
        self.sync_us
    }

    /// How long a promise takes on this disk, in microseconds, as far as was seen.
    pub(crate) fn promise_us(&self, now: MonoTime) -> u64 {
        (2 * self.sync_us).max(self.present_us(now))
    }

    /// How long the present sync has taken so far, in microseconds.
    pub(crate) fn present_us(&self, now: MonoTime) -> u64 {
        let begun = |(_, at): &(WalSeq, MonoTime)| now.since((*at).max(self.finished_at));
        self.unsynced.front().map_or(0, begun)
    }

    /// The process slept: what the disk finished meanwhile may still be queued.
    pub(crate) fn forgive(&mut self, since: MonoTime) {
        for (_, at) in &mut self.unsynced {
            *at = (*at).max(since);
        }
        self.finished_at = self.finished_at.max(since);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vote(upto: u64) -> Waiting {
        Waiting::Vote {
            ballot: Ballot::ZERO,
            upto: Slot(upto),
        }
    }

    #[test]
    fn holds_until_everything_before_is_durable() {
        let mut durable = Durable::default();
        durable.hold(vote(0));
        assert_eq!(durable.release(), Some(vote(0)), "nothing was submitted");
        let first = durable.submit(MonoTime(10));
        durable.hold(vote(1));
        durable.hold(vote(1));
        let second = durable.submit(MonoTime(20));
        durable.hold(vote(2));
        assert_eq!(durable.release(), None);
        assert_eq!(durable.oldest_age_us(MonoTime(25)), 15);
        durable.complete(first, MonoTime(27));
        assert_eq!(
            (durable.release(), durable.release()),
            (Some(vote(1)), None)
        );
        assert_eq!(durable.oldest_age_us(MonoTime(25)), 5);
        durable.complete(second, MonoTime(30));
        assert_eq!(
            durable.sync_us(),
            15,
            "falls slowly from the 17 of the first"
        );
        assert_eq!(
            (durable.release(), durable.release()),
            (Some(vote(2)), None)
        );
        assert_eq!(durable.oldest_age_us(MonoTime(25)), 0);
    }

    #[test]
    #[should_panic(expected = "never submitted")]
    fn refuses_a_completion_from_nowhere() {
        Durable::default().complete(WalSeq(1), MonoTime(0));
    }
}
