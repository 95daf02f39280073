//! What the log is told of a Redis that answers and cannot count: once a minute for each reason, however many requests meet it.

use std::cell::RefCell;

use crate::clock::Clock;

/// µs.
const MINUTE: u64 = 60_000_000;

/// Of one worker.
#[derive(Debug)]
pub struct Complaint {
    clock: Clock,
    /// Each reason, of which there are a handful, and when it was told last (µs since the Unix epoch).
    told: RefCell<Vec<(&'static str, u64)>>,
}

impl Complaint {
    /// Nothing has been told yet.
    pub fn new(clock: Clock) -> Self {
        Self { clock, told: RefCell::default() }
    }

    /// Redis could not count under these limits. Says whether the log was told.
    pub(super) fn tell<'a>(&self, reason: &'static str, limits: impl Iterator<Item = &'a str>) -> bool {
        let now = self.clock.unix_micros();
        let mut told = self.told.borrow_mut();
        match told.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, last)) if now.abs_diff(*last) < MINUTE => return false,
            Some((_, last)) => *last = now,
            None => told.push((reason, now)),
        }
        let limits = limits.collect::<Vec<_>>().join(", ");
        tracing::warn!(limits, reason, "Redis answers, but cannot count: `on_outage` decides");
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_reason_is_told_once_a_minute_and_another_one_at_once() {
        let (clock, hand) = Clock::manual(MINUTE);
        let complaint = Complaint::new(clock);
        let tell = |reason| complaint.tell(reason, ["a", "b"].into_iter());
        assert_eq!([tell("x"), tell("x"), tell("y"), tell("y")], [true, false, true, false]);
        hand.advance(Duration::from_secs(60));
        assert_eq!([tell("x"), tell("x")], [true, false]);
    }
}
