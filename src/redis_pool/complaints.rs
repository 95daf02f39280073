//! How often the log says that something is wrong with Redis. Pure.
//!
//! 1. The first fault of a kind is said at once, the next ones at most once a minute, with their number.
//!
//! # Why
//! A Redis that is out of memory fails thousands of requests a second: a line for each would fill the disk, and hide
//! everything else.

use std::time::{Duration, Instant};

use super::fault::Fault;

/// The least time between two lines about one kind of fault.
const BETWEEN: Duration = Duration::from_secs(60);

/// What was said, and what is still to be said.
#[derive(Default)]
pub(super) struct Complaints([Kind; Fault::ALL.len()]);

#[derive(Clone, Copy, Default)]
struct Kind {
    said: Option<Instant>,
    unsaid: u64,
}

impl Complaints {
    /// Notes a fault; says how many of its kind there were since the last line, if it is time for one.
    pub(super) fn note(&mut self, fault: Fault, now: Instant) -> Option<u64> {
        let kind = &mut self.0[fault as usize];
        kind.unsaid += 1;
        if kind.said.is_some_and(|said| now.saturating_duration_since(said) < BETWEEN) {
            return None;
        }
        kind.said = Some(now);
        Some(std::mem::take(&mut kind.unsaid))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_said_at_once_and_the_rest_once_a_minute_with_their_number() {
        let (mut complaints, start) = (Complaints::default(), crate::clock::instant());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(complaints.note(Fault::OutOfMemory, at(0)), Some(1));
        for second in 1..60 {
            assert_eq!(complaints.note(Fault::OutOfMemory, at(second)), None);
        }
        assert_eq!(complaints.note(Fault::Timeout, at(59)), Some(1));
        assert_eq!(complaints.note(Fault::OutOfMemory, at(60)), Some(60));
        assert_eq!(complaints.note(Fault::OutOfMemory, at(61)), None);
    }
}
