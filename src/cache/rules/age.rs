//! How old a response is (RFC 9111 §4.2.3).

use http::HeaderMap;
use http::header::{AGE, DATE};

use super::{VERY_LONG, dates, delta_seconds};

/// The age a response had when it was received, in seconds: the greater of what its `Date` shows (apparent age) and
/// what its `Age` says plus the time it was under way to us.
///
/// `asked` and `received` are seconds since the Unix epoch. A `Date` that is none counts as the time of receipt.
pub fn initial_age(head: &HeaderMap, asked: u64, received: u64) -> u32 {
    let date = dates::only_date(head, DATE, received).unwrap_or(received);
    let apparent = received.saturating_sub(date);
    let delay = received.saturating_sub(asked);
    let corrected = u64::from(age_value(head)).saturating_add(delay);
    apparent.max(corrected).min(u64::from(VERY_LONG)) as u32
}

/// The age at `now` of a response that was `initial_age` old when received, in seconds.
pub fn current_age(initial_age: u32, received: u64, now: u64) -> u32 {
    let resident = now.saturating_sub(received);
    u64::from(initial_age).saturating_add(resident).min(u64::from(VERY_LONG)) as u32
}

/// `Age` (§5.1): of a list or of several lines the first member; 0 if that is no number.
fn age_value(head: &HeaderMap) -> u32 {
    let first = head.get(AGE).and_then(|line| line.as_bytes().split(|byte| *byte == b',').next());
    first.and_then(|member| delta_seconds(member.trim_ascii())).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn initial_age_is_the_greater_of_the_two_ways_to_know_it() {
        let received = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
        for (date, age, delay, expected) in [
            (None, None, 0, 0),
            (Some("Sun, 06 Nov 1994 08:49:27 GMT"), None, 0, 10),
            (Some("Sun, 06 Nov 1994 08:49:47 GMT"), None, 0, 0),
            (Some("rubbish"), None, 3, 3),
            (None, Some("5"), 2, 7),
            (Some("Sun, 06 Nov 1994 08:49:27 GMT"), Some("5"), 2, 10),
            (Some("Sun, 06 Nov 1994 08:49:27 GMT"), Some("20"), 2, 22),
            (None, Some("7, 100"), 0, 7),
            (None, Some("x, 100"), 0, 0),
            (None, Some("-5"), 0, 0),
            (None, Some("18446744073709551615"), 9, VERY_LONG),
        ] {
            let mut head = HeaderMap::new();
            date.map(|date| head.insert(DATE, HeaderValue::from_static(date)));
            age.map(|age| head.insert(AGE, HeaderValue::from_static(age)));
            assert_eq!(initial_age(&head, received - delay, received), expected, "{date:?} {age:?} {delay}");
        }
    }

    #[test]
    fn age_grows_with_the_time_in_the_store_and_never_shrinks_below_the_first() {
        assert_eq!(current_age(3, 100, 107), 10);
        assert_eq!(current_age(3, 100, 90), 3);
        assert_eq!(current_age(VERY_LONG, 0, u64::MAX), VERY_LONG);
    }
}
