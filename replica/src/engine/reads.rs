//! Linearizable reads: one question to the core for all of a batch, then each waits for its slot.
//!
//! ```text
//! batch --finish, Input::Read--> asked --reads_ready(slot)--> ready --applied >= slot--> answered
//! ```
//!
//! The core confirms by a round of heartbeats, started after the read arrived, that this replica
//! still led (ReadIndex; Ongaro, *Consensus: Bridging Theory and Practice* (2014), section 6.4).

use std::collections::BTreeMap;

use paxos::Slot;
use statemachine::Query;

use super::io::Origin;

/// One read and where its answer goes.
#[derive(Debug)]
pub(super) struct PendingRead {
    pub(super) origin: Origin,
    pub(super) query: Query,
}

/// The reads under way. Their number is bounded by the table of requests.
#[derive(Debug, Default)]
pub(super) struct Reads {
    next_id: u64,
    batch: Vec<PendingRead>,
    asked: BTreeMap<u64, Vec<PendingRead>>,
    ready: BTreeMap<Slot, Vec<PendingRead>>,
}

impl Reads {
    pub(super) fn add(&mut self, read: PendingRead) {
        self.batch.push(read);
    }

    /// The id to ask the core with for everything that arrived since the last call.
    pub(super) fn ask(&mut self) -> Option<u64> {
        if self.batch.is_empty() {
            return None;
        }
        self.next_id += 1;
        self.asked
            .insert(self.next_id, std::mem::take(&mut self.batch));
        Some(self.next_id)
    }

    pub(super) fn on_ready(&mut self, id: u64, slot: Slot) {
        if let Some(reads) = self.asked.remove(&id) {
            self.ready.entry(slot).or_default().extend(reads);
        }
    }

    pub(super) fn on_failed(&mut self, id: u64) -> Vec<PendingRead> {
        self.asked.remove(&id).unwrap_or_default()
    }

    /// What arrived in this batch and was not asked for yet: this replica leads no more.
    pub(super) fn take_batch(&mut self) -> Vec<PendingRead> {
        std::mem::take(&mut self.batch)
    }

    /// Reads that may be answered from the state as of `applied`.
    pub(super) fn take_ready(&mut self, applied: Slot) -> Vec<PendingRead> {
        let mut reads = Vec::new();
        while let Some(first) = self.ready.first_entry() {
            if *first.key() > applied {
                break;
            }
            reads.extend(first.remove());
        }
        reads
    }

    /// Whether a read is under way.
    pub(super) fn is_empty(&self) -> bool {
        self.batch.is_empty() && self.asked.is_empty() && self.ready.is_empty()
    }
}
