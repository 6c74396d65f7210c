//! How long a leader's entries take from the log's door until they are chosen and applied.

use std::collections::VecDeque;

use paxos::{MonoTime, Role, Slot, WalAppend, WalRecord};

use crate::metrics::Metrics;

/// Batches watched at once; the rest goes unmeasured.
const WATCHED_MAX: usize = 256;

/// The batches under way: last slot, when it was handed out.
#[derive(Debug, Default)]
pub(crate) struct CommitTimer {
    watched: VecDeque<(Slot, MonoTime)>,
}

impl CommitTimer {
    /// Begins to watch what a leader appends.
    pub(crate) fn on_appends(&mut self, appends: &[WalAppend], now: MonoTime, role: Role) {
        if role != Role::Leader {
            self.watched.clear();
            return;
        }
        let slots = appends
            .iter()
            .flat_map(|append| &append.records)
            .filter_map(|record| match record {
                WalRecord::Accept { slot, .. } => Some(*slot),
                _ => None,
            });
        if let Some(last) = slots.max()
            && self.watched.len() < WATCHED_MAX
        {
            self.watched.push_back((last, now));
        }
    }

    /// Ends the watch of everything up to `applied`.
    pub(crate) fn on_applied(&mut self, applied: Slot, now: MonoTime, metrics: &Metrics) {
        while let Some(&(slot, since)) = self.watched.front()
            && slot <= applied
        {
            self.watched.pop_front();
            metrics
                .commit_seconds
                .observe(now.0.saturating_sub(since.0) as f64 / 1e6);
        }
    }
}
