//! How long calls took: a histogram for each, microseconds, three significant digits.

use std::time::Duration;

use hdrhistogram::Histogram;

/// The longest time told apart; what took longer counts as this long.
const LONGEST_US: u64 = 600_000_000;

/// The times of one kind of call.
#[derive(Debug, Clone)]
pub(crate) struct Latency(Histogram<u64>);

/// What is told of them, in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Percentiles {
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) p999_us: u64,
}

impl Latency {
    pub(crate) fn new() -> Self {
        // The bounds are constants that the histogram accepts, as the test below shows.
        Latency(Histogram::new_with_bounds(1, LONGEST_US, 3).expect("bounds of a histogram"))
    }

    pub(crate) fn record(&mut self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(LONGEST_US);
        self.0.saturating_record(us.max(1));
    }

    /// The longest one recorded.
    pub(crate) fn max_us(&self) -> u64 {
        self.0.max()
    }

    /// How many were recorded.
    pub(crate) fn count(&self) -> u64 {
        self.0.len()
    }

    /// `None` if nothing was recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        (!self.0.is_empty()).then(|| Percentiles {
            p50_us: self.0.value_at_quantile(0.5),
            p99_us: self.0.value_at_quantile(0.99),
            p999_us: self.0.value_at_quantile(0.999),
        })
    }
}

/// The times of a cycle and of its parts.
#[derive(Debug, Clone)]
pub(crate) struct CycleTimes {
    pub(crate) cycle: Latency,
    pub(crate) acquire: Latency,
    pub(crate) append: Latency,
    pub(crate) release: Latency,
}

impl CycleTimes {
    pub(crate) fn new() -> Self {
        let [cycle, acquire, append, release] = std::array::from_fn(|_| Latency::new());
        CycleTimes {
            cycle,
            acquire,
            append,
            release,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_of_a_thousand_even_times() {
        let mut latency = Latency::new();
        assert_eq!(latency.percentiles(), None);
        (1..=1000).for_each(|us| latency.record(Duration::from_micros(us)));
        let Percentiles {
            p50_us,
            p99_us,
            p999_us,
        } = latency.percentiles().unwrap();
        assert_eq!((p50_us, p99_us, p999_us), (500, 990, 999));
    }

    #[test]
    fn extremes_are_kept_within_bounds() {
        let mut latency = Latency::new();
        latency.record(Duration::ZERO);
        latency.record(Duration::from_secs(100_000));
        assert_eq!(latency.percentiles().unwrap().p50_us, 1);
    }
}
