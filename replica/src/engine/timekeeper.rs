//! Moving cluster time on when a deadline is reached and nothing else is being proposed.
//!
//! Only the leader does, and only as the last resort: any other entry moves time as well.

use bytes::Bytes;
use paxos::{EntryKind, MonoTime};

use super::Engine;
use super::requests::Carried;

impl Engine {
    /// Adds an entry to the batch if a deadline is reached, or notes when that will be.
    pub(super) fn keep_time(&mut self, now: MonoTime) {
        self.time_due = None;
        if !self.batch.is_empty() || self.requests.in_flight() > 0 {
            return;
        }
        let Some(deadline) = self.machine.next_deadline() else {
            return;
        };
        let Some(time_ms) = self.core.leader_time_ms(now) else {
            return;
        };
        if time_ms >= deadline.0 {
            self.enqueue(Carried::Own, EntryKind::Time, Bytes::new());
        } else {
            // A stamp is rounded down to a millisecond, so one more makes sure.
            self.time_due = Some(
                now.after(
                    (deadline.0 - time_ms)
                        .saturating_add(1)
                        .saturating_mul(1_000),
                ),
            );
        }
    }
}
