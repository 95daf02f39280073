//! A part of a stored response (RFC 9110 §14, §13.1.5).
//!
//! 1. Only a 200 has parts (and what is a part of one: `parts`), and only in `bytes`. Any other unit, a malformed field, and several lines are ignored: whole.
//! 2. `If-Range` must name the stored response: the same strong `ETag`, or a date that is exactly its `Last-Modified`
//!    and strong by now (§8.8.2.2). Otherwise: whole.
//! 3. One range is answered. Several may be answered whole (§14.2), and are: their parts could make more bytes than there
//!    are.
//! 4. A range that begins behind the end, and a suffix of nothing, is unsatisfiable: 416 with the length (§15.5.17).

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_RANGE, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::dates;

/// Seconds that `Date` must be later than `Last-Modified` for the latter to tell two versions apart (RFC 9110 §8.8.2.2).
pub(super) const SAME_SECOND: u64 = 1;

/// Fields that vouch for the content of one message (RFC 9530 §2, RFC 2616 §14.15): a part is another.
pub(super) const OF_ONE_MESSAGE: [HeaderName; 2] =
    [HeaderName::from_static("content-digest"), HeaderName::from_static("content-md5")];

/// What of the content is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// All of it.
    Whole,
    /// The bytes from `first` to `last`, both included, counted from zero.
    Part {
        /// The first byte.
        first: u64,
        /// The last byte; less than the length.
        last: u64,
    },
    /// Nothing: the range lies outside of it.
    Unsatisfiable,
}

/// The one range that a request asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// From one byte to another, or to the end.
    From {
        /// The first byte.
        first: u64,
        /// The last byte; not less than the first.
        last: Option<u64>,
    },
    /// So many bytes at the end.
    Suffix(u64),
}

/// The one range that a request with these fields asks for; `None`: none, several, or nothing that could be read.
pub(super) fn asked(request: &HeaderMap) -> Option<Asked> {
    let mut lines = request.get_all(RANGE).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return None };
    only_range(line.as_bytes())
}

/// What a GET with these fields gets of a stored response with `length` bytes of content; `now` is in seconds since the Unix
/// epoch.
pub fn range(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, length: u64, now: u64) -> Range {
    let Some(asked) = asked(request) else { return Range::Whole };
    if status != StatusCode::OK || !is_named_by_if_range(request, stored, now) {
        return Range::Whole;
    }
    match asked {
        Asked::Suffix(0) => Range::Unsatisfiable,
        Asked::Suffix(_) if length == 0 => Range::Whole,
        Asked::Suffix(suffix) => Range::Part { first: length.saturating_sub(suffix), last: length - 1 },
        Asked::From { first, .. } if first >= length => Range::Unsatisfiable,
        Asked::From { first, last } => {
            Range::Part { first, last: last.map_or(length - 1, |last| last.min(length - 1)) }
        }
    }
}

/// Makes of the fields of a 200 those of a 206 with this part (§15.3.7).
pub fn into_part(head: &mut HeaderMap, first: u64, last: u64, length: u64) {
    let mut range = String::with_capacity(48);
    range.push_str("bytes ");
    for (number, after) in [(first, "-"), (last, "/"), (length, "")] {
        range.push_str(itoa::Buffer::new().format(number));
        range.push_str(after);
    }
    if let Ok(range) = HeaderValue::try_from(range) {
        head.insert(CONTENT_RANGE, range);
    }
    head.insert(CONTENT_LENGTH, HeaderValue::from(last + 1 - first));
    OF_ONE_MESSAGE.iter().for_each(|name| drop(head.remove(name)));
}

/// The `Content-Range` of a 416 (§15.5.17).
pub fn unsatisfied(length: u64) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("bytes */{length}")).ok()
}

/// The only range of `bytes=…`. `None`: there is no such range, or more than one.
fn only_range(line: &[u8]) -> Option<Asked> {
    let at = line.iter().position(|byte| *byte == b'=')?;
    if !line[..at].eq_ignore_ascii_case(b"bytes") {
        return None;
    }
    let mut members = line[at + 1..].split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|it| !it.is_empty());
    let (member, None) = (members.next()?, members.next()) else { return None };
    let dash = member.iter().position(|byte| *byte == b'-')?;
    match (&member[..dash], &member[dash + 1..]) {
        (b"", suffix) => Some(Asked::Suffix(position(suffix)?)),
        (first, b"") => Some(Asked::From { first: position(first)?, last: None }),
        (first, last) => {
            let (first, last) = (position(first)?, position(last)?);
            (first <= last).then_some(Asked::From { first, last: Some(last) })
        }
    }
}

/// Digits only; what is too great to count is as great as can be.
fn position(text: &[u8]) -> Option<u64> {
    let all_digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    let add = |value: u64, digit: &u8| value.saturating_mul(10).saturating_add(u64::from(digit - b'0'));
    all_digits.then(|| text.iter().fold(0, add))
}

/// Rule 2. Without `If-Range`: true.
fn is_named_by_if_range(request: &HeaderMap, stored: &HeaderMap, now: u64) -> bool {
    let mut lines = request.get_all(IF_RANGE).iter();
    let named = match (lines.next(), lines.next()) {
        (None, _) => return true,
        (Some(named), None) => named,
        _ => return false,
    };
    if named.as_bytes().starts_with(b"\"") {
        return stored.get(ETAG).is_some_and(|etag| etag == named);
    }
    let (named, modified) = (dates::date(named, now), dates::only_date(stored, LAST_MODIFIED, now));
    let made = dates::only_date(stored, DATE, now);
    match (named, modified, made) {
        (Some(named), Some(modified), Some(made)) => named == modified && made >= modified + SAME_SECOND,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_000_000; // in November 2026
    const MODIFIED: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const A_SECOND_LATER: &str = "Sun, 06 Nov 1994 12:00:01 GMT";

    #[test]
    fn one_range_is_cut_out_and_everything_else_is_whole() {
        use Range::*;
        let part = |first, last| Part { first, last };
        for (asked, length, expected) in [
            ("bytes=0-1", 10, part(0, 1)),
            ("BYTES=0-1", 10, part(0, 1)),
            ("bytes= 0-1 ,", 10, part(0, 1)),
            ("bytes=9-9", 10, part(9, 9)),
            ("bytes=3-", 10, part(3, 9)),
            ("bytes=3-99999999999999999999999", 10, part(3, 9)),
            ("bytes=-3", 10, part(7, 9)),
            ("bytes=-30", 10, part(0, 9)),
            ("bytes=0-0", 1, part(0, 0)),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=0-", 0, Unsatisfiable),
            ("bytes=-5", 0, Whole),
            ("bytes=3-2", 10, Whole),
            ("bytes=0-1,3-4", 10, Whole),
            ("bytes=0-1, 20-", 10, Whole),
            ("lines=0-1", 10, Whole),
            ("bytes", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=0--1", 10, Whole),
            ("bytes=0-1x", 10, Whole),
            ("0-1", 10, Whole),
        ] {
            let found = range(&head(&[("range", asked)]), StatusCode::OK, &head(&[]), length, NOW);
            assert_eq!(found, expected, "{asked:?} of {length}");
        }
        let part = head(&[("range", "bytes=0-1")]);
        assert_eq!(range(&part, StatusCode::NOT_FOUND, &head(&[]), 10, NOW), Whole);
        assert_eq!(range(&head(&[]), StatusCode::OK, &head(&[]), 10, NOW), Whole);
        let twice = head(&[("range", "bytes=0-1"), ("range", "bytes=0-1")]);
        assert_eq!(range(&twice, StatusCode::OK, &head(&[]), 10, NOW), Whole);
    }

    #[test]
    fn if_range_must_name_what_is_stored() {
        let (strong, weak) = (("etag", "\"x\""), ("etag", "W/\"x\""));
        let (modified, later) = (("last-modified", MODIFIED), ("date", A_SECOND_LATER));
        type Fields<'a> = &'a [(&'static str, &'a str)];
        let cases: &[(&str, Fields, bool)] = &[
            ("\"x\"", &[strong], true),
            ("\"y\"", &[strong], false),
            ("\"x\"", &[weak], false),
            ("W/\"x\"", &[weak], false), // §13.1.5: strong comparison
            ("\"x\"", &[], false),
            (MODIFIED, &[modified, later], true),
            (MODIFIED, &[modified, ("date", MODIFIED)], false), // §8.8.2.2: may have changed within that second
            (MODIFIED, &[modified], false),
            (A_SECOND_LATER, &[modified, later], false), // §13.1.5: exactly, not "since"
            ("x", &[strong, modified, later], false),
        ];
        for (named, stored, expected) in cases {
            let request = head(&[("range", "bytes=0-1"), ("if-range", named)]);
            let found = range(&request, StatusCode::OK, &head(stored), 10, NOW) != Range::Whole;
            assert_eq!(found, *expected, "{named:?} {stored:?}");
        }
    }

    #[test]
    fn a_part_says_where_it_belongs() {
        let mut fields = head(&[("content-length", "10"), ("etag", "\"x\""), ("content-digest", "a")]);
        into_part(&mut fields, 2, 5, 10);
        assert_eq!(fields, head(&[("content-length", "4"), ("etag", "\"x\""), ("content-range", "bytes 2-5/10")]));
        assert_eq!(unsatisfied(10).unwrap(), "bytes */10");
    }

    proptest! {
        #[test]
        fn a_part_lies_within(asked in "bytes=[0-9]{0,3}-[0-9]{0,3}", length in 0..300_u64) {
            if let Range::Part { first, last } =
                range(&head(&[("range", &asked)]), StatusCode::OK, &head(&[]), length, NOW)
            {
                prop_assert!(first <= last && last < length);
            }
        }

        #[test]
        fn no_field_is_too_strange(asked in "[ -~]{0,20}", length: u64) {
            range(&head(&[("range", &asked), ("if-range", &asked)]), StatusCode::OK, &head(&[]), length, NOW);
        }
    }
}
