//! Whether a session in use is prolonged, and for how long. Pure.
//!
//! 1. It is prolonged when more than `touch_interval` of `touch` is gone: who has prolonged it is seen in what is left, so
//!    that all instances together do it once within the interval.
//! 2. It is never prolonged beyond what `max_age` leaves it.
//! 3. What has no end is left alone, and nothing is shortened (`store::ending`).

use std::time::Duration;

use super::settings::Touch;

/// The time to live that a session gets which has `left` (`None`: no end) and may last for `most` (`None`: no bound);
/// `None`: it keeps its own.
pub fn due(touch: &Touch, left: Option<Duration>, most: Option<Duration>) -> Option<Duration> {
    let wanted = most.map_or(touch.ttl, |most| most.min(touch.ttl));
    (left? < wanted.saturating_sub(touch.interval)).then_some(wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn due_of(left: u32, most: Option<u32>) -> Option<u32> {
        let touch = Touch { ttl: 30 * MINUTE, interval: MINUTE };
        let minutes = |time: Duration| u32::try_from(time.as_secs() / 60).unwrap();
        due(&touch, Some(left * MINUTE), most.map(|most| most * MINUTE)).map(minutes)
    }

    #[test]
    fn a_session_is_prolonged_once_within_the_interval() {
        assert_eq!((due_of(28, None), due_of(29, None), due_of(30, None)), (Some(30), None, None));
        assert_eq!((due_of(0, None), due_of(600, None)), (Some(30), None), "a longer one is left alone");
        assert_eq!(due(&Touch { ttl: MINUTE, interval: MINUTE / 2 }, None, None), None, "it has no end");
    }

    #[test]
    fn it_is_never_prolonged_beyond_its_greatest_age() {
        assert_eq!((due_of(5, Some(10)), due_of(5, Some(40))), (Some(10), Some(30)));
        // What is left is told as what the greatest age leaves, at most.
        assert_eq!((due_of(10, Some(10)), due_of(9, Some(10)), due_of(0, Some(0))), (None, None, None));
    }
}
