//! When cluster time reaches the next deadline, as far as a leader can tell from its own clock.
//!
//! A stamp is the core's business; here it is only foreseen, from the last stamp seen and the
//! monotonic time since. The estimate is never ahead of the stamp that the core would give, so an
//! entry proposed when a deadline is foreseen as reached does reach it.

use paxos::MonoTime;
use statemachine::ClusterTime;

/// The last stamp that this leader gave, and when.
#[derive(Debug, Default)]
pub(super) struct Timekeeper {
    last: Option<(MonoTime, u64)>,
}

impl Timekeeper {
    /// An entry of this leader was stamped at or before `now`.
    pub(super) fn on_stamp(&mut self, now: MonoTime, stamp_ms: u64) {
        if self.estimate(now).is_none_or(|estimate| estimate < stamp_ms) {
            self.last = Some((now, stamp_ms));
        }
    }

    /// This replica does not lead any more.
    pub(super) fn stop(&mut self) {
        self.last = None;
    }

    /// Whether `deadline` is reached.
    pub(super) fn is_due(&self, now: MonoTime, deadline: ClusterTime) -> bool {
        self.estimate(now).is_some_and(|time_ms| time_ms >= deadline.0)
    }

    /// When `deadline` will be reached.
    pub(super) fn wake(&self, deadline: ClusterTime) -> Option<MonoTime> {
        let (mono, stamp_ms) = self.last?;
        Some(MonoTime(mono.0.saturating_add(deadline.0.saturating_sub(stamp_ms).saturating_mul(1_000))))
    }

    fn estimate(&self, now: MonoTime) -> Option<u64> {
        let (mono, stamp_ms) = self.last?;
        Some(stamp_ms + now.0.saturating_sub(mono.0) / 1_000)
    }
}
