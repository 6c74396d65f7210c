//! The client's clock, its one door to time.
//!
//! `CLOCK_BOOTTIME`: it goes on while the machine sleeps, so that a holder that wakes after its
//! lease knows that it is late. Source: `clock_gettime(2)`.

use std::time::Duration;

/// A point on this machine's clock, in microseconds since it was booted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(pub u64);

impl BootTime {
    /// Now.
    pub fn now() -> BootTime {
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        // Neither part is ever negative for this clock.
        BootTime(now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1_000)
    }

    /// The point this much later.
    pub fn after(self, span: Duration) -> BootTime {
        BootTime(
            self.0
                .saturating_add(u64::try_from(span.as_micros()).unwrap_or(u64::MAX)),
        )
    }

    /// How long until this point; nothing once it has come.
    pub fn left(self, now: BootTime) -> Duration {
        Duration::from_micros(self.0.saturating_sub(now.0))
    }
}

/// Sleeps until `at`, also when the machine itself sleeps in between: timers of the runtime stand
/// still then, so none runs for longer than a second.
pub(crate) async fn sleep_until(at: BootTime) {
    const STEP: Duration = Duration::from_secs(1);
    loop {
        let left = at.left(BootTime::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(STEP)).await;
    }
}
