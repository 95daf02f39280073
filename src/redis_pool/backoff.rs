//! How long to wait before trying again: longer each time, and never in step with others.

use std::time::Duration;

use super::Breaker;

/// How often in a row it has failed.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Backoff(u32);

impl Backoff {
    /// The next wait: the first of `breaker`, doubled up to the longest; `jitter` of 0 to 1 takes up to half of it away.
    pub(super) fn next(&mut self, breaker: &Breaker, jitter: f64) -> Duration {
        let whole = breaker.first_wait.saturating_mul(1 << self.0.min(30)).min(breaker.longest_wait);
        self.0 = self.0.saturating_add(1);
        whole.mul_f64(1.0 - jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest_and_jitter_takes_at_most_half() {
        let (mut backoff, breaker) = (Backoff::default(), Breaker::default());
        let waits: Vec<u128> = (0..7).map(|_| backoff.next(&breaker, 0.0).as_millis()).collect();
        assert_eq!(waits, [50, 100, 200, 400, 800, 1000, 1000]);
        assert_eq!(backoff.next(&breaker, 1.0).as_millis(), 500);
    }
}
