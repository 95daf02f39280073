//! What may be stored, for how long, and for whom: RFC 9111, one file for each section, all of it pure.
//!
//! Time is an argument, in seconds since the Unix epoch; ages and lifetimes are whole seconds, at most [`VERY_LONG`].

pub mod age;
pub mod conditional;
pub mod dates;
pub mod directives;
pub mod freshness;
pub mod groups;
pub mod invalidation;
pub mod on_write;
pub mod parts;
pub mod preferences;
pub mod range;
pub mod request;
pub mod rest;
pub mod reuse;
pub mod storing;
pub mod structured;
pub mod tags;
pub mod targeted;
pub mod validation;
pub mod vary;

/// The longest time that is told apart, in seconds; anything beyond it means "very long" (RFC 9111 §1.2.2).
pub const VERY_LONG: u32 = 1 << 31;

/// `delta-seconds` (RFC 9111 §1.2.2): digits only; beyond [`VERY_LONG`] is [`VERY_LONG`].
pub fn delta_seconds(text: &[u8]) -> Option<u32> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let value =
        text.iter().fold(0_u64, |value, digit| (value * 10 + u64::from(digit - b'0')).min(u64::from(VERY_LONG)));
    Some(value as u32)
}

#[cfg(test)]
mod tests {
    use super::reuse::NotReused;
    use super::storing::NotStored;
    use super::*;

    #[test]
    fn each_reason_has_a_word_and_a_rule() {
        let stored = NotStored::ALL.map(|why| (why.as_str(), why.section()));
        let reused = NotReused::ALL.map(|why| (why.as_str(), why.section()));
        for reasons in [&stored[..], &reused] {
            for (index, (word, section)) in reasons.iter().enumerate() {
                assert!(reasons[index + 1..].iter().all(|(other, _)| other != word), "{word}");
                assert!(
                    ["RFC 9111 §", "HTML §", "cache.", "session."].iter().any(|start| section.starts_with(start)),
                    "{section}"
                );
            }
        }
    }

    #[test]
    fn delta_seconds_are_digits_and_saturate() {
        for (text, expected) in [
            ("0", Some(0)),
            ("007", Some(7)),
            ("2147483647", Some(VERY_LONG - 1)),
            ("2147483648", Some(VERY_LONG)),
            ("99999999999999999999999999", Some(VERY_LONG)),
            ("", None),
            ("-1", None),
            ("+1", None),
            ("1.0", None),
            ("1s", None),
            (" 1", None),
            ("\"1\"", None),
        ] {
            assert_eq!(delta_seconds(text.as_bytes()), expected, "{text:?}");
        }
    }
}
