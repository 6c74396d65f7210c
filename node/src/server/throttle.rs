//! Log lines that a stranger can cause, so many a second and no more.

use std::time::{Duration, Instant};

const WINDOW: Duration = Duration::from_secs(1);
const LINES_PER_WINDOW: u32 = 5;

/// Lets a few lines a second pass and counts the rest.
#[derive(Debug)]
pub(crate) struct Throttle {
    window: Instant,
    passed: u32,
    held_back: u64,
}

impl Throttle {
    /// Nothing has passed yet at `now`.
    pub(crate) fn new(now: Instant) -> Throttle {
        Throttle {
            window: now,
            passed: 0,
            held_back: 0,
        }
    }

    /// Whether a line may be written at `now`; if so, how many before it were not.
    pub(crate) fn pass(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.window) >= WINDOW {
            self.window = now;
            self.passed = 0;
        }
        if self.passed == LINES_PER_WINDOW {
            self.held_back += 1;
            return None;
        }
        self.passed += 1;
        Some(std::mem::take(&mut self.held_back))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_becomes_a_few_lines_and_a_count() {
        let start = Instant::now();
        let mut throttle = Throttle::new(start);
        let passed = (0..100).filter(|_| throttle.pass(start).is_some()).count();
        assert_eq!(passed, 5);
        assert_eq!(throttle.pass(start + WINDOW), Some(95));
        assert_eq!(throttle.pass(start + WINDOW), Some(0));
    }
}
