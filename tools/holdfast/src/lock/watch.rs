//! When CMD must go: SIGTERM a margin before the lock can be lost, SIGKILL when it can.
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

/// At most this long before the deadline is CMD warned.
const MARGIN_MAX: Duration = Duration::from_secs(3);

/// The part of the lease that CMD may have to tidy up, at most [`MARGIN_MAX`].
const MARGIN_PART: u32 = 5;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing before this time.
    WaitUntil(BootTime),
    /// Send SIGTERM, once.
    Warn,
    /// Send SIGKILL.
    Kill,
}

/// Watches over one grant.
#[derive(Debug)]
pub(crate) struct Watch {
    margin: Duration,
    kill_at: Option<BootTime>,
}

impl Watch {
    pub(crate) fn new(lease: Duration) -> Self {
        Watch {
            margin: (lease / MARGIN_PART).min(MARGIN_MAX),
            kill_at: None,
        }
    }

    /// Whether CMD was warned, so that the lock counts as lost.
    pub(crate) fn warned(&self) -> bool {
        self.kill_at.is_some()
    }

    /// Decides, given the deadline as it is known now, and whether the service says that the lock is lost already.
    pub(crate) fn act(&mut self, now: BootTime, deadline: BootTime, lost: bool) -> Act {
        if let Some(kill_at) = self.kill_at {
            return if now >= kill_at {
                Act::Kill
            } else {
                Act::WaitUntil(kill_at)
            };
        }
        if !lost && deadline.left(now) > self.margin {
            return Act::WaitUntil(now.after(deadline.left(now) - self.margin));
        }
        // A lock that was taken away is gone: the deadline protects nobody any more, only tidiness counts.
        self.kill_at = Some(if lost {
            now.after(self.margin)
        } else {
            deadline
        });
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

    #[test]
    fn the_deadline_moves_on_while_the_service_answers() {
        let mut watch = Watch::new(LEASE);
        assert_eq!(watch.act(at(0), at(5), false), Act::WaitUntil(at(4)));
        assert_eq!(watch.act(at(3), at(8), false), Act::WaitUntil(at(7)));
        assert!(!watch.warned());
    }

    #[test]
    fn silence_leads_to_a_warning_and_then_to_the_end() {
        let mut watch = Watch::new(LEASE);
        assert_eq!(watch.act(at(4), at(5), false), Act::Warn);
        assert_eq!(
            watch.act(at(4), at(9), false),
            Act::WaitUntil(at(5)),
            "no way back"
        );
        assert_eq!(watch.act(at(5), at(9), false), Act::Kill);
        assert!(watch.warned());
    }

    #[test]
    fn a_lock_taken_away_leaves_only_time_to_tidy_up() {
        let mut watch = Watch::new(LEASE);
        assert_eq!(watch.act(at(0), BootTime(0), true), Act::Warn);
        assert_eq!(watch.act(at(0), BootTime(0), true), Act::WaitUntil(at(1)));
        assert_eq!(watch.act(at(1), BootTime(0), true), Act::Kill);
    }

    #[test]
    fn one_who_slept_past_the_deadline_is_killed_at_once() {
        let mut watch = Watch::new(LEASE);
        assert_eq!(watch.act(at(10), at(5), false), Act::Warn);
        assert_eq!(watch.act(at(10), at(5), false), Act::Kill);
    }

    #[test]
    fn the_margin_of_a_long_lease_is_short() {
        let mut watch = Watch::new(Duration::from_secs(3600));
        assert_eq!(watch.act(at(0), at(3600), false), Act::WaitUntil(at(3597)));
    }
}
