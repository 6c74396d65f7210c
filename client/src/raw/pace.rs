//! How often a client speaks and how soon it takes silence for a fault, by what it stands to lose.
//!
//! ```text
//! answered          next beat              again        look for another leader
//! |---- L/4 or L/3 ---|------- L/16 ---------|-- L/16 --|
//! |------------------------------ L: the lease ----------------------------------|
//! ```
//!
//! A leader that dies without closing its connections (a stopped process, a dead host) is noticed by
//! its silence alone. A holder keeps its lease over that if a new leader is there and has answered
//! before the lease ends by the holder's own clock:
//!
//! ```text
//! (1 - 1/4) L > time to elect + SCOUT + one commit,    where looking begins L/4 + L/8 after the last
//!                                                      answered beat, so before anybody is elected
//! ```

use std::time::Duration;

/// Longest wait for an answer on a healthy connection.
const SILENCE_MAX: Duration = Duration::from_secs(1);
/// Shortest one. An answer may take two syncs of a slow disk.
const SILENCE_MIN: Duration = Duration::from_millis(100);
/// Silences in a row after which another replica is looked for.
pub(crate) const SILENCES_MAX: u32 = 2;
/// A waiting acquire asks again this often: a pushed grant can be lost.
const REASK_MAX: Duration = Duration::from_secs(3);
const REASK_MIN: Duration = Duration::from_millis(250);
/// Leases below this are renewed after a quarter, longer ones after a third.
const SHORT: Duration = Duration::from_secs(4);

/// The pace of one request, or of a session's keep-alives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pace {
    /// Shortest lease or time to live that is at stake.
    term: Duration,
}

impl Pace {
    /// Nothing is lost by waiting.
    pub(crate) const CALM: Pace = Pace {
        term: Duration::from_secs(24 * 60 * 60),
    };

    /// A lease or session of this length is at stake.
    pub(crate) fn of(term: Duration) -> Pace {
        Pace { term }
    }

    /// How long after the sending of the last answered renewal the next one is sent.
    pub(crate) fn renew_after(self) -> Duration {
        self.term / if self.term < SHORT { 4 } else { 3 }
    }

    /// How long to wait for an answer after `silences` waits in vain. It doubles after every second
    /// one, so that a slow leader is not buried in repeated requests.
    pub(crate) fn silence(self, silences: u32) -> Duration {
        let first = (self.term / 16).clamp(SILENCE_MIN, SILENCE_MAX);
        let doublings = (silences / SILENCES_MAX).min(8);
        (first * (1 << doublings)).min(SILENCE_MAX)
    }

    /// How often a waiting acquire is asked again.
    pub(crate) fn reask(self) -> Duration {
        (self.term / 4).clamp(REASK_MIN, REASK_MAX)
    }

    /// How long the service may say nothing to a waiting acquire before it is taken for lost.
    pub(crate) fn patience(self) -> Duration {
        REASK_MAX + 3 * SILENCE_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn long_leases_are_calm_and_short_ones_hurry() {
        let long = Pace::of(ms(20_000));
        assert_eq!((long.silence(0), long.reask()), (ms(1_000), ms(3_000)));
        let short = Pace::of(ms(2_000));
        let silences: Vec<_> = (0..9).map(|n| short.silence(n).as_millis()).collect();
        assert_eq!(silences, [125, 125, 250, 250, 500, 500, 1000, 1000, 1000]);
        assert_eq!((short.renew_after(), short.reask()), (ms(500), ms(500)));
        assert_eq!(Pace::of(ms(500)).silence(0), ms(100));
        assert_eq!(Pace::CALM.silence(77), ms(1_000));
    }

    /// Election timeout 500 ms, syncs of 20 ms: somebody is elected at most 1.1 s after the leader
    /// fell silent, the worst moment being just before a beat. Finding it takes 100 ms, a commit 60 ms.
    #[test]
    fn a_lease_of_two_seconds_survives_one_election() {
        let pace = Pace::of(ms(2_000));
        let (elected, found, commit) = (ms(1_100), ms(100), ms(60));
        let lost = ms(2_000) * 98 / 100 - crate::deadline::MARGIN;
        assert!(pace.renew_after() + elected + found + commit < lost);
        let looks = pace.silence(0) + pace.silence(1);
        assert!(looks < ms(500), "nobody is elected before it is looked for");
    }
}
