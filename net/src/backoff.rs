//! How long to wait before trying again: longer each time, never the same for all.

use std::time::Duration;

use rand::Rng;

/// Growing waits with jitter.
///
/// - Range: each wait is drawn evenly from the upper half of the current step, so of
///   `step / 2 ..= step`; the step doubles from floor to ceiling.
/// - Jitter keeps those who lost the same server from coming back in one wave. Source: Brooker,
///   "Exponential Backoff And Jitter" (AWS, 2015), the "equal jitter" form.
#[derive(Clone, Debug)]
pub struct Backoff {
    floor: Duration,
    ceiling: Duration,
    step: Duration,
}

impl Backoff {
    /// Waits that begin at `floor` and stay at `ceiling`.
    pub fn new(floor: Duration, ceiling: Duration) -> Backoff {
        Backoff {
            floor,
            ceiling: ceiling.max(floor),
            step: floor,
        }
    }

    /// The next wait.
    pub fn next_wait(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(self.ceiling);
        step.mul_f64(rand::rng().random_range(0.5..=1.0))
    }

    /// After a success: the next wait is a short one again.
    pub fn reset(&mut self) {
        self.step = self.floor;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_ceiling_and_start_over() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(10), ms(45));
        for step in [10, 20, 40, 45, 45] {
            let wait = backoff.next_wait();
            assert!(
                wait >= ms(step) / 2 && wait <= ms(step),
                "{wait:?} at step {step} ms"
            );
        }
        backoff.reset();
        assert!(backoff.next_wait() <= ms(10));
    }
}
