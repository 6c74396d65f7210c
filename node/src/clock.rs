//! The one door through which time enters a replica.
//!
//! The monotonic clock is `CLOCK_MONOTONIC`, which stands still while the machine is suspended:
//! cluster time may fall behind real time and never runs ahead of it.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use paxos::MonoTime;

/// Counts microseconds since it was made.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: Instant,
}

impl Clock {
    /// A clock that reads 0 now.
    #[allow(clippy::new_without_default, reason = "making one reads the time")]
    pub fn new() -> Clock {
        Clock {
            start: Instant::now(),
        }
    }

    /// Microseconds since the clock was made.
    pub fn mono(&self) -> MonoTime {
        MonoTime(micros(self.start.elapsed()))
    }

    /// The moment at which [`Clock::mono`] reads `at`; one too far ahead to matter is a day from now.
    pub fn instant(&self, at: MonoTime) -> Instant {
        const FAR: Duration = Duration::from_secs(86_400);
        let ahead = Duration::from_micros(at.0).saturating_sub(self.start.elapsed());
        Instant::now() + ahead.min(FAR)
    }

    /// Milliseconds since 1970 by the wall clock, for people only; 0 if it stands before that.
    pub fn wall_ms(&self) -> u64 {
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_millis() as u64)
    }
}

/// A duration in whole microseconds, at most `u64::MAX`.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
