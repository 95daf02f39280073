//! Whether an endpoint may be asked, judged by how it answered those before. Pure.
//!
//! 1. *Closed* is passing. So many failures in a row as the policy says open it: connections that are refused or late,
//!    connections that end without an answer, heads that do not come in time, and the chosen statuses. An answer ends
//!    the row.
//! 2. *Open* is refusing: the endpoint is left out of the choice, for `open` the first time, for twice as long each time
//!    it happens again, at most for `longest`.
//! 3. *Half-open* is probing: one request is let through. Its answer closes the breaker, its failure opens it again. A
//!    request that ends with neither (its client left) gives the probe back.
//! 4. What has been closed for `longest` has its earlier openings forgotten.
//!
//! # Why
//! Passive outlier ejection and circuit breaking are told apart elsewhere by who asks for them, not by what they do: both
//! count failures, leave out, and try again. Here they are one mechanism. Ejection is what an open breaker means to the
//! choice among several endpoints; what remains is how many may be left out at a time, and that is `most_percent`: below
//! 100 some endpoint is always asked (an outage of all is then each request's own to find out), at 100 all may be open,
//! and requests are answered 503 at once.

use std::time::{Duration, Instant};

/// `breaker`: when an endpoint is left out, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Failures in a row that open it; 0: it never opens.
    pub failures: u32,
    /// Statuses that count as failures.
    pub statuses: Vec<u16>,
    /// How long it stays open the first time.
    pub open: Duration,
    /// How long it stays open at most.
    pub longest: Duration,
    /// Endpoints of an upstream that may be left out at a time, in percent, rounded down.
    pub most_percent: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            failures: 5,
            statuses: vec![502, 503, 504],
            open: Duration::from_secs(10),
            longest: Duration::from_secs(300),
            most_percent: 50,
        }
    }
}

impl Policy {
    /// How many of `count` endpoints may be left out at a time.
    pub fn most_of(&self, count: usize) -> usize {
        count * self.most_percent as usize / 100
    }
}

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Passing.
    Closed,
    /// Refusing, until then.
    Open {
        /// When it turns half-open.
        until: Instant,
    },
    /// Probing.
    HalfOpen,
}

/// The breaker of one endpoint.
#[derive(Debug)]
pub struct Breaker {
    phase: Phase,
    /// Openings that are not forgotten.
    times: u32,
    /// When it was last closed after having been open.
    closed: Option<Instant>,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { phase: Phase::Closed, times: 0, closed: None }
    }
}

impl Breaker {
    /// What it does now.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Opens it.
    pub fn open(&mut self, policy: &Policy, now: Instant) {
        let forgotten = self.closed.is_some_and(|closed| now.saturating_duration_since(closed) >= policy.longest);
        self.times = if forgotten { 1 } else { self.times.saturating_add(1) };
        let doublings = (self.times - 1).min(16);
        let lasts = policy.open.saturating_mul(1 << doublings).min(policy.longest);
        self.closed = None;
        self.phase = Phase::Open { until: now + lasts };
    }

    /// Closes it.
    pub fn close(&mut self, now: Instant) {
        self.closed = Some(now);
        self.phase = Phase::Closed;
    }

    /// Lets time pass: whether it has just turned half-open.
    pub fn look(&mut self, now: Instant) -> bool {
        let due = matches!(self.phase, Phase::Open { until } if until <= now);
        if due {
            self.phase = Phase::HalfOpen;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn policy() -> Policy {
        Policy { open: 10 * SECOND, longest: 60 * SECOND, ..Policy::default() }
    }

    #[test]
    fn it_opens_half_opens_and_closes() {
        let (start, policy, mut breaker) = (clock::instant(), policy(), Breaker::default());
        assert!(!breaker.look(start));
        breaker.open(&policy, start);
        assert_eq!(breaker.phase(), Phase::Open { until: start + 10 * SECOND });
        assert!(!breaker.look(start + 9 * SECOND));
        assert!(breaker.look(start + 10 * SECOND));
        assert_eq!(breaker.phase(), Phase::HalfOpen);
        assert!(!breaker.look(start + 99 * SECOND), "half-open is entered once");
        breaker.close(start + 99 * SECOND);
        assert_eq!(breaker.phase(), Phase::Closed);
    }

    #[test]
    fn each_repetition_lasts_twice_as_long_up_to_the_longest() {
        let (mut now, policy, mut breaker) = (clock::instant(), policy(), Breaker::default());
        for lasts in [10, 20, 40, 60, 60] {
            breaker.open(&policy, now);
            assert_eq!(breaker.phase(), Phase::Open { until: now + lasts * SECOND });
            now += lasts * SECOND;
            assert!(breaker.look(now));
        }
        breaker.close(now);
        breaker.open(&policy, now + 59 * SECOND);
        assert_eq!(breaker.phase(), Phase::Open { until: now + 119 * SECOND }, "not forgotten yet");
        breaker.close(now);
        breaker.open(&policy, now + 60 * SECOND);
        assert_eq!(breaker.phase(), Phase::Open { until: now + 70 * SECOND }, "forgotten");
    }

    #[test]
    fn at_most_its_share_of_the_endpoints_is_left_out() {
        let most = |percent: u32, count: usize| Policy { most_percent: percent, ..Policy::default() }.most_of(count);
        assert_eq!([most(50, 1), most(50, 2), most(50, 3), most(50, 4)], [0, 1, 1, 2]);
        assert_eq!([most(100, 1), most(100, 3), most(0, 9)], [1, 3, 0]);
    }
}
