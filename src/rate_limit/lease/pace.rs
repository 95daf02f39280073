//! How often a process asks for more of what is scarce. Pure.
//!
//! 1. Once the store has refused, units are scarce: whatever is asked, the process waits between two questions. What comes
//!    meanwhile and finds nothing held is refused.
//! 2. A wait that brought few units was too short, one that brought many too long; it is between a sixteenth and half of a
//!    lease's life.
//! 3. It ends when the store gives a lease as large as what is asked for.
//!
//! # Why
//! While more is asked for than the quota, what is earned is asked for at once by everybody, unit by unit, and each question
//! that is too early is answered with a refusal. With a wait between, what is earned meanwhile is taken at once, and nothing
//! is lost: the bucket has room for it.

use std::time::{Duration, Instant};

/// Units of a good lease: fewer are a longer wait, half as many more a shorter one.
pub(super) const GOOD: u64 = 64;

/// Waits between the questions of a process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pace {
    wait: Duration,
    /// Until then nothing is asked.
    pub(super) next: Instant,
}

impl Pace {
    /// For a key whose leases live for `life`, which was refused; the store will have something at `next`.
    pub(super) fn new(life: Duration, asked: Instant, next: Instant) -> Self {
        let wait = life / 4;
        Self { wait, next: next.max(asked + wait) }
    }

    /// It was refused again; the store will have something at `next`.
    pub(super) fn refused(&mut self, asked: Instant, next: Instant) {
        self.next = next.max(asked + self.wait);
    }

    /// It brought `units`.
    pub(super) fn brought(&mut self, units: u64, asked: Instant, life: Duration) {
        if units < GOOD * 3 / 4 {
            self.wait = (self.wait * 5 / 4).min(life / 2);
        } else if units > GOOD * 3 / 2 {
            self.wait = (self.wait * 3 / 4).max(life / 16);
        }
        self.next = asked + self.wait;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const LIFE: Duration = Duration::from_millis(200);

    #[test]
    fn a_wait_that_brings_few_grows_and_one_that_brings_many_shrinks_within_bounds() {
        let now = clock::instant();
        for (units, wait) in [(0, LIFE / 2), (GOOD * 2, LIFE / 16)] {
            let mut pace = Pace::new(LIFE, now, now);
            (0..20).for_each(|_| pace.brought(units, now, LIFE));
            assert_eq!((pace.wait, pace.next), (wait, now + wait));
        }
        let mut pace = Pace::new(LIFE, now, now);
        pace.brought(GOOD, now, LIFE);
        assert_eq!(pace.next, now + LIFE / 4);
        pace.refused(now, now + LIFE);
        assert_eq!(pace.next, now + LIFE);
    }
}
