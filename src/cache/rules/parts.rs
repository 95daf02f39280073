//! A part of content as a stored response of its own (RFC 9111 §3.3, RFC 9110 §14.4, §15.3.7).
//!
//! Stored is a 206
//! 1. to a GET that asked for one range, of `bytes`; not what nobody asked for, and not `multipart/byteranges`, which has no
//!    `Content-Range` of its own (§15.3.7.2);
//! 2. whose one `Content-Range` is sound: it says where the part begins and ends and how long the whole is, it lies within
//!    the whole and within what was asked for, and `Content-Length`, if there is one, agrees;
//! 3. with a strong validator: a strong entity tag, or without any a `Last-Modified` that is strong (§8.8.2.2).
//!
//! It serves
//! 4. a GET for one range that lies within it, and whose `If-Range`, if it has one, names it;
//! 5. a GET for the whole, if it begins with the first byte: its rest alone is asked for then (`rest`);
//! 6. nothing else. Not HEAD: the answer to GET would be another. Not a range that goes beyond, of which a client would make
//!    what it likes.
//!
//! # Why
//! Rule 3: a part that nothing vouches for could still answer for itself (§3.3), but what its client puts together of
//! several would be of two versions without anybody noticing; and it could never become whole.
//!
//! Rule 2: an app whose `Content-Range` is not as long as its content says either wrongly, and nobody can tell which. Its
//! answer is passed on as ever, to the client that asked.

use http::header::{CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, LAST_MODIFIED, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

use super::range::{self, Asked, Range};
use super::{conditional, dates};

/// Where stored content belongs in the whole. Bytes are counted from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part {
    /// The first byte.
    pub first: u64,
    /// The last byte; not less than the first.
    pub last: u64,
    /// Bytes of the whole; more than the last byte's number.
    pub complete: u64,
}

/// Why a 206 is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// Rule 1: the request was not for one range.
    Unasked,
    /// Rule 2.
    Range,
    /// Rule 3.
    Validator,
}

/// What a stored part is to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// The answer is in it: the bytes from `first` to `last` of the whole, both included.
    Range {
        /// The first byte.
        first: u64,
        /// The last byte.
        last: u64,
    },
    /// It is the beginning of the answer.
    Beginning,
    /// No answer, nor any of it.
    Nothing,
}

/// A validator by which two parts are known to be of one version (RFC 9110 §8.8.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strong<'a> {
    /// An entity tag.
    Tag(&'a HeaderValue),
    /// `Last-Modified`.
    Modified(&'a HeaderValue),
}

impl Unfit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Unasked, Self::Range, Self::Validator];

    /// The reason, in a word for `Cache-Status`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unasked => "part-unasked",
            Self::Range => "part-range",
            Self::Validator => "part-validator",
        }
    }
}

impl Part {
    /// Where it belongs, if it lies within the whole.
    pub fn new(first: u64, last: u64, complete: u64) -> Option<Self> {
        (first <= last && last < complete).then_some(Self { first, last, complete })
    }

    /// Its bytes.
    pub fn length(self) -> u64 {
        self.last - self.first + 1
    }

    /// What the only `Content-Range` of an answer says; `None`: it says nothing sound, or not how long the whole is (§14.4).
    pub fn of(answer: &HeaderMap) -> Option<Self> {
        let mut lines = answer.get_all(CONTENT_RANGE).iter();
        let (Some(line), None) = (lines.next(), lines.next()) else { return None };
        let (unit, range) = line.as_bytes().split_at_checked("bytes ".len())?;
        if !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let mut halves = range.splitn(2, |byte| *byte == b'/');
        let (span, complete) = (halves.next()?, halves.next()?);
        let mut ends = span.splitn(2, |byte| *byte == b'-');
        let (first, last) = (number(ends.next()?)?, number(ends.next()?)?);
        Self::new(first, last, number(complete)?)
    }

    /// Whether it lies within what was asked for.
    fn is_within(self, asked: Asked) -> bool {
        match asked {
            Asked::From { first, last } => first <= self.first && last.is_none_or(|last| self.last <= last),
            Asked::Suffix(length) => self.complete - self.first <= length,
        }
    }
}

/// Digits only; no more than can be counted.
fn number(text: &[u8]) -> Option<u64> {
    let digits = text.iter().all(u8::is_ascii_digit).then_some(text)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Where a 206 to a GET with these fields belongs. `now` is in seconds since the Unix epoch.
///
/// # Errors
/// Why it is not stored.
pub fn storable(request: &HeaderMap, answer: &HeaderMap, now: u64) -> Result<Part, Unfit> {
    let asked = range::asked(request).ok_or(Unfit::Unasked)?;
    let part = Part::of(answer).filter(|part| part.is_within(asked)).ok_or(Unfit::Range)?;
    let mut said = answer.get_all(CONTENT_LENGTH).iter();
    if !said.all(|said| number(said.as_bytes()) == Some(part.length())) {
        return Err(Unfit::Range);
    }
    strong(answer, now).map(|_| part).ok_or(Unfit::Validator)
}

/// The strong validator of a response; `None`: it has none. A weak entity tag is one whose app says that bytes may differ: a
/// date beside it does not count.
pub fn strong(head: &HeaderMap, now: u64) -> Option<Strong<'_>> {
    let mut tags = head.get_all(ETAG).iter();
    match (tags.next(), tags.next()) {
        (Some(tag), None) => is_strong_tag(tag.as_bytes()).then_some(Strong::Tag(tag)),
        (Some(_), Some(_)) => None,
        (None, _) => {
            let (modified, made) = (dates::only_date(head, LAST_MODIFIED, now)?, dates::only_date(head, DATE, now)?);
            let is_strong = made >= modified.saturating_add(range::SAME_SECOND);
            head.get(LAST_MODIFIED).filter(|_| is_strong).map(Strong::Modified)
        }
    }
}

fn is_strong_tag(tag: &[u8]) -> bool {
    let inside = tag.strip_prefix(b"\"").and_then(|rest| rest.strip_suffix(b"\""));
    inside.is_some_and(|inside| !inside.contains(&b'"'))
}

/// What a stored part, with the fields `stored`, is to a request. `now` is in seconds since the Unix epoch.
pub fn serves(method: &Method, request: &HeaderMap, part: Part, stored: &HeaderMap, now: u64) -> Serves {
    if method != Method::GET {
        return Serves::Nothing;
    }
    if !request.contains_key(RANGE) {
        let begins = part.first == 0 && !conditional::has_conditions(request) && strong(stored, now).is_some();
        return if begins { Serves::Beginning } else { Serves::Nothing };
    }
    match range::range(request, StatusCode::OK, stored, part.complete, now) {
        Range::Part { first, last } if part.first <= first && last <= part.last => Serves::Range { first, last },
        _ => Serves::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;
    use proptest::prelude::*;

    const NOW: u64 = 1_795_000_000; // in November 2026
    const TAG: (&str, &str) = ("etag", "\"x\"");
    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const A_SECOND_LATER: &str = "Sun, 06 Nov 1994 12:00:01 GMT";

    fn part(first: u64, last: u64, complete: u64) -> Part {
        Part::new(first, last, complete).unwrap()
    }

    #[test]
    fn a_content_range_is_taken_at_its_word_or_not_at_all() {
        for (line, expected) in [
            ("bytes 0-4/10", Some((0, 4, 10))),
            ("Bytes 5-9/10", Some((5, 9, 10))), // §14.1: units are compared in any case
            ("bytes 0-0/1", Some((0, 0, 1))),
            ("bytes 0-4/*", None), // §14.4: of unknown length
            ("bytes */10", None),  // of a 416
            ("bytes 4-0/10", None),
            ("bytes 5-10/10", None),
            ("bytes 5-10/0", None),
            ("bytes 0-4", None),
            ("bytes -4/10", None),
            ("bytes 0-/10", None),
            ("bytes +0-4/10", None),
            ("bytes 0-4/10 ", None),
            ("bytes  0-4/10", None),
            ("bytes=0-4/10", None),
            ("bytes 0-4/10, 5-6/10", None),
            ("lines 0-4/10", None),
            ("bytes 0-18446744073709551615/18446744073709551616", None),
            ("bytes 99999999999999999999-99999999999999999999/1", None),
            ("", None),
        ] {
            let found = Part::of(&head(&[("content-range", line)]));
            assert_eq!(found, expected.map(|(first, last, complete)| part(first, last, complete)), "{line:?}");
        }
        assert_eq!(Part::of(&head(&[])), None);
        let twice = [("content-range", "bytes 0-4/10"), ("content-range", "bytes 0-4/10")];
        assert_eq!(Part::of(&head(&twice)), None);
    }

    #[test]
    fn a_part_is_stored_if_it_was_asked_for_and_is_sound_and_of_one_version() {
        use Unfit::*;
        type Fields<'a> = &'a [(&'static str, &'a str)];
        let five = ("content-range", "bytes 5-9/10");
        let modified = ("last-modified", NOON);
        let cases: &[(Fields, Fields, Option<Unfit>)] = &[
            (&[("range", "bytes=5-9")], &[five, TAG], None),
            (&[("range", "bytes=5-")], &[five, TAG], None),
            (&[("range", "bytes=-5")], &[five, TAG], None),
            (&[("range", "bytes=0-99")], &[five, TAG], None), // §15.3.7: a subset may be sent
            (&[("range", "bytes=5-9"), ("if-range", "\"x\"")], &[five, TAG], None),
            (&[], &[five, TAG], Some(Unasked)),
            (&[("range", "bytes=5-6,8-9")], &[five, TAG], Some(Unasked)),
            (&[("range", "lines=5-9")], &[five, TAG], Some(Unasked)),
            (&[("range", "bytes=5-9"), ("range", "bytes=5-9")], &[five, TAG], Some(Unasked)),
            (&[("range", "bytes=6-9")], &[five, TAG], Some(Range)), // not what was asked for
            (&[("range", "bytes=5-8")], &[five, TAG], Some(Range)),
            (&[("range", "bytes=-4")], &[five, TAG], Some(Range)),
            (&[("range", "bytes=5-9")], &[TAG], Some(Range)),
            (&[("range", "bytes=5-9")], &[("content-type", "multipart/byteranges; boundary=x"), TAG], Some(Range)),
            (&[("range", "bytes=5-9")], &[five, TAG, ("content-length", "5")], None),
            (&[("range", "bytes=5-9")], &[five, TAG, ("content-length", "4")], Some(Range)),
            (&[("range", "bytes=5-9")], &[five, TAG, ("content-length", "6")], Some(Range)),
            (&[("range", "bytes=5-9")], &[five, TAG, ("content-length", "5, 5")], Some(Range)),
            (&[("range", "bytes=5-9")], &[five], Some(Validator)),
            (&[("range", "bytes=5-9")], &[five, ("etag", "W/\"x\"")], Some(Validator)),
            (&[("range", "bytes=5-9")], &[five, ("etag", "x")], Some(Validator)),
            (&[("range", "bytes=5-9")], &[five, ("etag", "\"")], Some(Validator)),
            (&[("range", "bytes=5-9")], &[five, TAG, ("etag", "\"y\"")], Some(Validator)),
            (&[("range", "bytes=5-9")], &[five, modified, ("date", A_SECOND_LATER)], None),
            (&[("range", "bytes=5-9")], &[five, modified, ("date", NOON)], Some(Validator)), // §8.8.2.2
            (&[("range", "bytes=5-9")], &[five, modified], Some(Validator)),
            (
                &[("range", "bytes=5-9")],
                &[five, modified, ("date", A_SECOND_LATER), ("etag", "W/\"x\"")],
                Some(Validator),
            ),
        ];
        for (request, answer, expected) in cases {
            let found = storable(&head(request), &head(answer), NOW);
            assert_eq!(found.err(), *expected, "{request:?} {answer:?}");
            assert!(found.is_err() || found == Ok(part(5, 9, 10)));
        }
    }

    #[test]
    fn a_part_serves_what_lies_within_it_and_begins_what_it_begins() {
        use Serves::*;
        let range = |first, last| Range { first, last };
        let (begin, middle, end) = (part(0, 4, 10), part(3, 6, 10), part(5, 9, 10));
        for (stored, asked, expected) in [
            (middle, "bytes=3-6", range(3, 6)),
            (middle, "bytes=4-5", range(4, 5)),
            (middle, "bytes=2-5", Nothing),
            (middle, "bytes=4-7", Nothing),
            (middle, "bytes=4-", Nothing),
            (middle, "bytes=-6", Nothing),
            (middle, "bytes=7-8", Nothing),
            (end, "bytes=5-", range(5, 9)),
            (end, "bytes=8-", range(8, 9)),
            (end, "bytes=8-99", range(8, 9)),
            (end, "bytes=-5", range(5, 9)),
            (end, "bytes=-1", range(9, 9)),
            (end, "bytes=-6", Nothing),
            (end, "bytes=10-", Nothing), // the app says 416
            (end, "bytes=-0", Nothing),
            (end, "bytes=6-7,8-9", Nothing),
            (end, "lines=6-7", Nothing),
            (begin, "bytes=0-4", range(0, 4)),
            (begin, "bytes=0-5", Nothing),
        ] {
            let request = head(&[("range", asked)]);
            assert_eq!(serves(&Method::GET, &request, stored, &head(&[TAG]), NOW), expected, "{stored:?} {asked}");
            assert_eq!(serves(&Method::HEAD, &request, stored, &head(&[TAG]), NOW), Nothing);
            let named = head(&[("range", asked), ("if-range", "\"x\"")]);
            assert_eq!(serves(&Method::GET, &named, stored, &head(&[TAG]), NOW), expected);
            let other = head(&[("range", asked), ("if-range", "\"y\"")]);
            assert_eq!(serves(&Method::GET, &other, stored, &head(&[TAG]), NOW), Nothing, "§13.1.5");
        }
        type Fields<'a> = &'a [(&'static str, &'a str)];
        let cases: &[(Part, Fields, Fields, Serves)] = &[
            (begin, &[], &[TAG], Beginning),
            (part(0, 9, 10), &[], &[TAG], Beginning),
            (end, &[], &[TAG], Nothing),
            (begin, &[], &[("etag", "W/\"x\"")], Nothing), // §3.4: only by a strong validator
            (begin, &[("if-none-match", "\"y\"")], &[TAG], Nothing),
            (begin, &[("if-range", "\"x\"")], &[TAG], Nothing),
        ];
        for (stored, request, fields, expected) in cases {
            assert_eq!(serves(&Method::GET, &head(request), *stored, &head(fields), NOW), *expected, "{request:?}");
        }
        assert_eq!(serves(&Method::HEAD, &head(&[]), begin, &head(&[TAG]), NOW), Nothing);
    }

    proptest! {
        #[test]
        fn no_field_is_too_strange(asked in "bytes=[0-9,-]{0,30}", said in "[ -~]{0,40}", length in "[ -~]{0,20}") {
            let answer = head(&[("content-range", &said), ("content-length", &length), TAG]);
            if let Ok(part) = storable(&head(&[("range", &asked)]), &answer, NOW) {
                prop_assert!(part.first <= part.last && part.last < part.complete);
            }
        }

        #[test]
        fn what_is_served_lies_within(first in 0..20_u64, more in 0..20_u64, beyond in 1..20_u64, asked in "bytes=[0-9]{0,2}-[0-9]{0,2}") {
            let stored = part(first, first + more, first + more + beyond);
            let request = head(&[("range", &asked)]);
            if let Serves::Range { first, last } = serves(&Method::GET, &request, stored, &head(&[TAG]), NOW) {
                prop_assert!(stored.first <= first && first <= last && last <= stored.last);
            }
        }
    }
}
