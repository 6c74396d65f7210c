//! When CMD must go: SIGTERM a margin before the lock can be lost, SIGKILL when it can.
//!
//! ```text
//!  now ............... deadline - margin ............ deadline (conservative, on this machine's clock)
//!        CMD works            | SIGTERM, time to tidy up | SIGKILL
//! ```
//!
//! The deadline moves on with each keep-alive. Once CMD was warned there is no way back, even if the service
//! answers again: its work was cut short.

use std::time::{Duration, Instant};

/// At most this long before the deadline is CMD warned.
const MARGIN_MAX: Duration = Duration::from_secs(3);

/// The part of the lease that CMD may have to tidy up, at most [`MARGIN_MAX`].
const MARGIN_PART: u32 = 5;

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// Nothing before this time.
    WaitUntil(Instant),
    /// Send SIGTERM, once.
    Warn,
    /// Send SIGKILL.
    Kill,
}

/// Watches over one grant.
#[derive(Debug)]
pub(crate) struct Watch {
    margin: Duration,
    kill_at: Option<Instant>,
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
    pub(crate) fn act(&mut self, now: Instant, deadline: Instant, lost: bool) -> Act {
        if let Some(kill_at) = self.kill_at {
            return if now >= kill_at {
                Act::Kill
            } else {
                Act::WaitUntil(kill_at)
            };
        }
        let warn_at = deadline.checked_sub(self.margin).unwrap_or(deadline);
        if !lost && now < warn_at {
            return Act::WaitUntil(warn_at);
        }
        // A lock that was taken away is gone: the deadline protects nobody any more, only tidiness counts.
        self.kill_at = Some(if lost { now + self.margin } else { deadline });
        Act::Warn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(5);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn the_deadline_moves_on_while_the_service_answers() {
        let (mut watch, start) = (Watch::new(LEASE), Instant::now());
        assert_eq!(
            watch.act(start, start + LEASE, false),
            Act::WaitUntil(start + LEASE - SECOND)
        );
        let later = start + 4 * SECOND;
        assert_eq!(
            watch.act(later, later + LEASE, false),
            Act::WaitUntil(later + LEASE - SECOND)
        );
        assert!(!watch.warned());
    }

    #[test]
    fn silence_leads_to_a_warning_and_then_to_the_end() {
        let (mut watch, start) = (Watch::new(LEASE), Instant::now());
        let deadline = start + LEASE;
        assert_eq!(watch.act(deadline - SECOND, deadline, false), Act::Warn);
        assert_eq!(
            watch.act(deadline - SECOND, deadline + LEASE, false),
            Act::WaitUntil(deadline),
            "no way back"
        );
        assert_eq!(watch.act(deadline, deadline + LEASE, false), Act::Kill);
        assert!(watch.warned());
    }

    #[test]
    fn a_lock_taken_away_leaves_only_time_to_tidy_up() {
        let (mut watch, start) = (Watch::new(LEASE), Instant::now());
        let deadline = start + LEASE;
        assert_eq!(watch.act(start, deadline, true), Act::Warn);
        assert_eq!(
            watch.act(start, deadline, true),
            Act::WaitUntil(start + SECOND)
        );
        assert_eq!(watch.act(start + SECOND, deadline, true), Act::Kill);
    }

    #[test]
    fn one_who_slept_past_the_deadline_is_killed_at_once() {
        let (mut watch, start) = (Watch::new(LEASE), Instant::now());
        let woken = start + 2 * LEASE;
        assert_eq!(watch.act(woken, start + LEASE, false), Act::Warn);
        assert_eq!(watch.act(woken, start + LEASE, false), Act::Kill);
    }
}
