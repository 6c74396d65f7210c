//! What a leader keeps: a stream to each peer, what waits for it, and its timers.

use std::collections::{BTreeMap, VecDeque};

use crate::ballot::Ballot;
use crate::clock::Stamper;
use crate::ident::{MonoTime, NodeId, Slot};
use crate::reads::Reads;
use crate::stream::Stream;

/// One leadership, from the completed phase 1 to the step down.
#[derive(Clone, Debug)]
pub(crate) struct Leadership {
    pub(crate) ballot: Ballot,
    /// The slot of the own `LeaderStart`: everything chosen before is at or below it.
    pub(crate) start: Slot,
    pub(crate) streams: BTreeMap<NodeId, Stream>,
    pub(crate) stamper: Stamper,
    /// Placed proposals that are not chosen yet, ascending: slot and the driver's name.
    /// Bounded by the cap of unchosen bytes.
    pub(crate) placed: VecDeque<(Slot, u64)>,
    pub(crate) reads: Reads,
    /// The last round begun; rounds of one ballot are never used twice.
    pub(crate) round: u64,
    pub(crate) heartbeat_at: MonoTime,
    /// When the chosen prefix last moved, or began to wait.
    pub(crate) progress_at: MonoTime,
    /// What was chosen at each heartbeat of the last election timeout, ascending.
    pub(crate) chosen_at: VecDeque<(MonoTime, Slot)>,
    /// The last pause is excused until a quorum has confirmed this round, which began after it.
    pub(crate) excused_until: Option<u64>,
    pub(crate) transfer: Option<Transfer>,
    /// No preferred replica is handed leadership before.
    pub(crate) prefer_at: MonoTime,
}

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Transfer {
    pub(crate) to: NodeId,
    pub(crate) deadline: MonoTime,
    /// The other was told to take over.
    pub(crate) sent: bool,
}

impl Leadership {
    /// The highest slot that `quorum` voters have durably at this ballot; `own` is the own one.
    pub(crate) fn quorum_upto(&self, own: Slot, quorum: usize) -> Slot {
        let others = self.streams.values().map(|stream| stream.durable);
        nth_highest(others.chain([own]), quorum)
    }

    /// The highest round that `quorum` voters confirmed, this one among them.
    pub(crate) fn quorum_round(&self, quorum: usize) -> u64 {
        let others = self.streams.values().map(|stream| stream.round);
        nth_highest(others.chain([self.round]), quorum)
    }

    /// How long the slowest disk of the fastest `quorum` takes for a sync; `own` is the own one's.
    pub(crate) fn quorum_sync_us(&self, own: u64, quorum: usize) -> u64 {
        let others = self.streams.values().map(|stream| stream.sync_us);
        nth_highest(others.chain([own]), self.streams.len() + 2 - quorum)
    }

    /// The latest moment up to which `quorum` voters were heard of.
    pub(crate) fn quorum_heard(&self, now: MonoTime, quorum: usize) -> MonoTime {
        let others = self.streams.values().map(|stream| stream.heard_at);
        nth_highest(others.chain([now]), quorum)
    }
}

/// The n-th highest of a few values, counted from 1: at least n of them reach it.
fn nth_highest<T: Ord>(values: impl Iterator<Item = T>, n: usize) -> T {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.swap_remove(n - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_from_the_highest() {
        assert_eq!(nth_highest([5, 9, 7].into_iter(), 2), 7);
        assert_eq!(nth_highest([5, 9, 7, 1, 0].into_iter(), 3), 5);
        assert_eq!(nth_highest([4].into_iter(), 1), 4);
    }
}
