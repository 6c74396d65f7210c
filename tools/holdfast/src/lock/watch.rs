//! When CMD must go: a warning a margin before the lock can be lost, SIGKILL when it can.
//!
//! ```text
//!  now ............... deadline - margin ............ deadline (conservative, on this machine's clock)
//!        CMD works            | SIGTERM, time to tidy up | SIGKILL
//! ```
//!
//! The deadline moves on with each keep-alive. Once CMD was warned there is no way back, even if the service
//! answers again: its work was cut short.

use std::time::Duration;

use client::clock::BootTime;

/// At most this long before the deadline is CMD warned, if the user names no time.
const MARGIN_MAX: Duration = Duration::from_secs(3);

/// The part of the lease that CMD may have to tidy up if the user names no time.
const MARGIN_PART: u32 = 5;

/// The largest part of the lease that may be spent on tidying up.
const MARGIN_PART_MIN: u32 = 2;

/// How long CMD has between warning and SIGKILL under a lock of this lease.
pub(crate) fn margin(lease: Duration, kill_after: Option<Duration>) -> Duration {
    match kill_after {
        Some(time) => time.min(lease / MARGIN_PART_MIN),
        None => MARGIN_MAX.min(lease / MARGIN_PART),
    }
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing before this time.
    WaitUntil(BootTime),
    /// Send the warning, once.
    Warn,
    /// Send SIGKILL.
    Kill,
}

/// How the lock stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// Held until then at least.
    Held(BootTime),
    /// Held until then at least, but nobody is left who could keep it for longer.
    Forsaken(BootTime),
    /// The service has taken it away.
    Taken,
}

/// Watches over one grant.
#[derive(Debug)]
pub(crate) struct Watch {
    margin: Duration,
    kill_at: Option<BootTime>,
}

impl Watch {
    pub(crate) fn new(margin: Duration) -> Self {
        Watch {
            margin,
            kill_at: None,
        }
    }

    /// Whether CMD was warned, so that the lock counts as lost.
    pub(crate) fn warned(&self) -> bool {
        self.kill_at.is_some()
    }

    /// Decides, given how the lock stands as far as known now.
    pub(crate) fn act(&mut self, now: BootTime, standing: Standing) -> Act {
        if let Some(kill_at) = self.kill_at {
            return if now >= kill_at {
                Act::Kill
            } else {
                Act::WaitUntil(kill_at)
            };
        }
        let kill_at = match standing {
            Standing::Held(deadline) if deadline.left(now) > self.margin => {
                return Act::WaitUntil(now.after(deadline.left(now) - self.margin));
            }
            Standing::Held(deadline) => deadline,
            Standing::Forsaken(deadline) => deadline.min(now.after(self.margin)),
            // The deadline of a lock that was taken away protects nobody any more: only tidiness counts.
            Standing::Taken => now.after(self.margin),
        };
        self.kill_at = Some(kill_at);
        Act::Warn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(5);
    const START: BootTime = BootTime(1_000_000_000);

    fn at(seconds: u64) -> BootTime {
        START.after(Duration::from_secs(seconds))
    }

    fn watch() -> Watch {
        Watch::new(margin(LEASE, None))
    }

    #[test]
    fn the_deadline_moves_on_while_the_service_answers() {
        let mut watch = watch();
        assert_eq!(
            watch.act(at(0), Standing::Held(at(5))),
            Act::WaitUntil(at(4))
        );
        assert_eq!(
            watch.act(at(3), Standing::Held(at(8))),
            Act::WaitUntil(at(7))
        );
        assert!(!watch.warned());
    }

    #[test]
    fn silence_leads_to_a_warning_and_then_to_the_end() {
        let mut watch = watch();
        assert_eq!(watch.act(at(4), Standing::Held(at(5))), Act::Warn);
        assert_eq!(
            watch.act(at(4), Standing::Held(at(9))),
            Act::WaitUntil(at(5)),
            "no way back"
        );
        assert_eq!(watch.act(at(5), Standing::Held(at(9))), Act::Kill);
        assert!(watch.warned());
    }

    #[test]
    fn a_lock_taken_away_leaves_only_time_to_tidy_up() {
        let mut watch = watch();
        assert_eq!(watch.act(at(0), Standing::Taken), Act::Warn);
        assert_eq!(watch.act(at(0), Standing::Taken), Act::WaitUntil(at(1)));
        assert_eq!(watch.act(at(1), Standing::Taken), Act::Kill);
    }

    #[test]
    fn a_forsaken_lock_leaves_time_to_tidy_up_but_never_past_the_deadline() {
        let mut early = watch();
        assert_eq!(early.act(at(0), Standing::Forsaken(at(5))), Act::Warn);
        assert_eq!(
            early.act(at(0), Standing::Forsaken(at(5))),
            Act::WaitUntil(at(1))
        );
        let mut late = watch();
        assert_eq!(late.act(at(5), Standing::Forsaken(at(5))), Act::Warn);
        assert_eq!(late.act(at(5), Standing::Forsaken(at(5))), Act::Kill);
    }

    #[test]
    fn one_who_slept_past_the_deadline_is_killed_at_once() {
        let mut watch = watch();
        assert_eq!(watch.act(at(10), Standing::Held(at(5))), Act::Warn);
        assert_eq!(watch.act(at(10), Standing::Held(at(5))), Act::Kill);
    }

    #[test]
    fn the_margin_is_a_part_of_the_lease_or_as_told() {
        let seconds = Duration::from_secs;
        assert_eq!(margin(seconds(3600), None), seconds(3));
        assert_eq!(margin(seconds(5), None), seconds(1));
        assert_eq!(margin(seconds(60), Some(seconds(10))), seconds(10));
        assert_eq!(margin(seconds(4), Some(seconds(10))), seconds(2));
    }
}
