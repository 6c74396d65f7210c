//! Linearizable reads without a log entry: read indexes in batches.
//!
//! A read is answered from what is applied once (a) a round that began after the read arrived was
//! confirmed by a quorum, so that no other leader had chosen anything by then that this one does
//! not know, and (b) everything up to its index is applied. The index is the chosen prefix when
//! the round began, and at least the leader's own first slot, because a new leader does not know
//! yet how much of what it took over is chosen.
//!
//! Source: Ongaro, *Consensus: Bridging Theory and Practice* (2014), section 6.4. Rounds are
//! never used twice: etcd issue 20418 is what happens otherwise.

use std::collections::VecDeque;

use crate::ident::Slot;

/// The most reads that wait at once.
pub(crate) const READS_MAX: usize = 65_536;

/// Reads that share a round.
#[derive(Clone, Debug)]
struct Batch {
    round: u64,
    index: Slot,
    ids: Vec<u64>,
}

/// The reads of one leadership.
#[derive(Clone, Debug, Default)]
pub(crate) struct Reads {
    /// Arrived after the last round began.
    waiting: Vec<u64>,
    /// Ascending by round.
    batches: VecDeque<Batch>,
    count: usize,
}

impl Reads {
    /// Takes a read; false if too many wait.
    pub(crate) fn add(&mut self, id: u64) -> bool {
        if self.count == READS_MAX {
            return false;
        }
        self.count += 1;
        self.waiting.push(id);
        true
    }

    /// Whether a round should begin at once: reads wait and none is on its way for others, whose
    /// end would begin the next one.
    pub(crate) fn wants_round(&self) -> bool {
        !self.waiting.is_empty() && self.batches.is_empty()
    }

    /// A round begins: everything that waits goes with it.
    pub(crate) fn begin(&mut self, round: u64, index: Slot) {
        if !self.waiting.is_empty() {
            let ids = std::mem::take(&mut self.waiting);
            self.batches.push_back(Batch { round, index, ids });
        }
    }

    /// A quorum confirmed `round`: gives the reads that may be answered.
    pub(crate) fn confirm(&mut self, round: u64, ready: &mut Vec<(u64, Slot)>) {
        while self
            .batches
            .front()
            .is_some_and(|batch| batch.round <= round)
        {
            let batch = self.batches.pop_front().expect("just seen");
            self.count -= batch.ids.len();
            ready.extend(batch.ids.into_iter().map(|id| (id, batch.index)));
        }
    }

    /// Leadership is lost: gives every read that was not answered.
    pub(crate) fn drain(&mut self) -> Vec<u64> {
        let batches = std::mem::take(&mut self.batches);
        let begun = batches.into_iter().flat_map(|batch| batch.ids);
        self.count = 0;
        begun.chain(std::mem::take(&mut self.waiting)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_waits_for_a_round_that_began_after_it() {
        let mut reads = Reads::default();
        assert!(reads.add(1));
        assert!(reads.wants_round());
        reads.begin(5, Slot(10));
        assert!(reads.add(2));
        assert!(!reads.wants_round(), "one is on its way");
        let mut ready = Vec::new();
        reads.confirm(4, &mut ready);
        assert_eq!(ready, []);
        reads.confirm(5, &mut ready);
        assert_eq!(ready, [(1, Slot(10))]);
        assert!(reads.wants_round());
        reads.begin(6, Slot(12));
        assert!(reads.add(3));
        assert_eq!(reads.drain(), [2, 3]);
    }

    #[test]
    fn bounded() {
        let mut reads = Reads::default();
        assert!((0..READS_MAX as u64).all(|id| reads.add(id)));
        assert!(!reads.add(0));
    }
}
