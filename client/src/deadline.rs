//! What a client may believe about a deadline in cluster time.
//!
//! ```text
//! own clock      s ────────────────────────────────► now
//!                 \ attempt                answer /
//! cluster time     └──► stamped L ... D: the lease ends
//! ```
//!
//! The entry that carried an attempt was stamped `L` after the attempt was sent at `s`. Cluster time
//! runs at most at `(1 + rho)` of real time, our clock at least at `(1 - rho)`, so `D` is certainly
//! ahead while `now < s + (D - L)(1 - 2 rho)`, because `(1 - rho) / (1 + rho) > 1 - 2 rho`. Both
//! rates are off by at most `rho` = 1 %.
//!
//! Any pair of an attempt's own `s` and `L` serves, for any `D`; the one that bounds latest is kept.
//! A pair may never be mixed from two attempts, or from a read or a push: then `L` might have been
//! stamped before `s`, and the holder would believe in a lease that is over.

use std::time::Duration;

use statemachine::ClusterTime;

use crate::clock::BootTime;

/// `1 - 2 rho` in thousandths.
const RATE_MILLI: u64 = 980;
/// Kept between the bound and the end, for what happens between asking and acting.
pub const MARGIN: Duration = Duration::from_millis(20);

/// When an attempt was sent, and how its own entry was stamped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Our clock as the attempt was sent.
    pub sent: BootTime,
    /// The stamp of the entry that carried that very attempt.
    pub stamp: ClusterTime,
}

impl Pair {
    /// Until when, by our own clock, `deadline` certainly lies ahead. A point in the past if that
    /// cannot be said any more.
    pub fn local(self, deadline: ClusterTime) -> BootTime {
        let ahead_ms = deadline.0.saturating_sub(self.stamp.0);
        let ahead_us = ahead_ms.saturating_mul(RATE_MILLI);
        let margin_us = MARGIN.as_micros() as u64;
        BootTime(
            self.sent
                .0
                .saturating_add(ahead_us)
                .saturating_sub(margin_us),
        )
    }

    /// The one of the two that bounds every deadline later.
    #[must_use]
    pub fn better(self, other: Pair) -> Pair {
        if self.origin() >= other.origin() {
            self
        } else {
            other
        }
    }

    /// Our clock at cluster time 0, by the slowest reckoning: `s - L (1 - 2 rho)`.
    fn origin(self) -> i128 {
        i128::from(self.sent.0) - i128::from(self.stamp.0) * i128::from(RATE_MILLI)
    }
}

#[cfg(test)]
mod tests;
