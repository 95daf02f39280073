//! How much is asked for under one key. Pure.
//!
//! 1. Units are counted in spans as long as a lease lives. What was asked for in the last such time is this span's count,
//!    and of the last span's as much as is not over yet.
//!
//! # Why
//! Two counts are right at a steady rate, and late by a lease's life at most when it changes: a lease is then too small,
//! and the next one grows.

use std::time::{Duration, Instant};

/// Units asked for, in two spans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Demand {
    since: Instant,
    now: u64,
    before: u64,
}

impl Demand {
    /// Nothing yet.
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, now: 0, before: 0 }
    }

    /// `units` more are asked for. Spans are as long as `life`.
    pub(super) fn note(&mut self, units: u64, now: Instant, life: Duration) {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= life {
            if elapsed < life * 2 {
                *self = Self { since: self.since + life, now: 0, before: self.now };
            } else {
                *self = Self::new(now);
            }
        }
        self.now += units;
    }

    /// Units asked for in the last `life`.
    pub(super) fn in_a_life(&self, now: Instant, life: Duration) -> u64 {
        let elapsed = now.saturating_duration_since(self.since);
        if elapsed >= life * 2 {
            return 0;
        }
        let (last, earlier) = if elapsed < life { (self.now, self.before) } else { (0, self.now) };
        let micros = |duration: Duration| duration.as_micros().max(1);
        let into = if elapsed < life { elapsed } else { elapsed - life };
        let rest = micros(life).saturating_sub(into.as_micros());
        last + (u128::from(earlier) * rest / micros(life)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const LIFE: Duration = Duration::from_millis(200);

    #[test]
    fn a_steady_rate_is_told_as_it_is_and_silence_as_nothing() {
        let start = clock::instant();
        let mut demand = Demand::new(start);
        let at = |millis: u64| start + Duration::from_millis(millis);
        (0..1000).for_each(|millis| demand.note(2, at(millis), LIFE));
        for millis in [1000, 1050, 1100, 1150] {
            let rest = 400 - 2 * (millis - 1000);
            assert_eq!(demand.in_a_life(at(millis), LIFE), rest, "{millis}");
        }
        assert_eq!(demand.in_a_life(at(1200), LIFE), 0);
    }

    #[test]
    fn a_surge_is_told_as_far_as_it_went() {
        let start = clock::instant();
        let mut demand = Demand::new(start);
        demand.note(1, start, LIFE);
        (0..7).for_each(|_| demand.note(1, start + LIFE * 5, LIFE));
        assert_eq!(demand.in_a_life(start + LIFE * 5, LIFE), 7);
    }
}
