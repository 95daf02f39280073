//! The rest of a response whose beginning is stored (RFC 9111 §3.4, RFC 9110 §13.1.5, §15.3.7.3).
//!
//! 1. The app is asked for what follows the stored beginning, under `If-Range` with its strong validator: one that has another
//!    version by now says 200, with all of it.
//! 2. A 206 is the rest if it has that same strong validator, begins where the stored part ends, goes on to the end of a
//!    whole that is as long as before, is coded alike, and says with `Content-Length` that it is as long as that. Any other
//!    206 is no answer: nothing of it is used.
//! 3. The whole has the fields of the stored part, each replaced by the newer one that the rest has; neither's
//!    `Content-Range`, nor what vouches for the content of one message alone.
//! 4. An answer that speaks of our range or condition (304, 412, 416) is no answer to a client that had none.
//!
//! # Why it has to say its length
//! What is framed otherwise may turn out longer or shorter once the client has the beginning. It would be cut, and again at the
//! next request, while an app that was asked for the whole would have sent it.
//!
//! # Why only from the first byte
//! The rest of any other part is two ranges, or three requests; and whoever asks for a file in parts mostly begins at its
//! beginning.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::parts::{Part, Strong, strong};
use super::{range, validation};

/// What an answer to a request for the rest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// The rest (rule 2).
    Rest,
    /// An answer of its own.
    Answer,
    /// Nothing that the client could be told (rules 2 and 4).
    Nothing,
}

/// Makes of a request for the whole one for what follows `part`, which is stored with the fields `stored`. False, and the
/// request as it was: it has no strong validator, or is whole. `now` is in seconds since the Unix epoch.
pub fn ask(request: &mut HeaderMap, part: Part, stored: &HeaderMap, now: u64) -> bool {
    let Some(Strong::Tag(validator) | Strong::Modified(validator)) = strong(stored, now) else { return false };
    let Ok(range) = HeaderValue::try_from(format!("bytes={}-", part.last + 1)) else { return false };
    if part.last + 1 >= part.complete {
        return false;
    }
    request.insert(RANGE, range);
    request.insert(IF_RANGE, validator.clone());
    true
}

/// What an answer to such a request is.
pub fn says(status: StatusCode, answer: &HeaderMap, part: Part, stored: &HeaderMap, now: u64) -> Says {
    match status {
        StatusCode::PARTIAL_CONTENT if is_rest(answer, part, stored, now) => Says::Rest,
        StatusCode::PARTIAL_CONTENT
        | StatusCode::NOT_MODIFIED
        | StatusCode::PRECONDITION_FAILED
        | StatusCode::RANGE_NOT_SATISFIABLE => Says::Nothing,
        _ => Says::Answer,
    }
}

fn is_rest(answer: &HeaderMap, part: Part, stored: &HeaderMap, now: u64) -> bool {
    let Some(rest) = Part::of(answer) else { return false };
    let adjoins = rest.first == part.last + 1 && rest.last + 1 == rest.complete && rest.complete == part.complete;
    let said = HeaderValue::from(rest.length());
    let is_of_one_version =
        matches!((strong(stored, now), strong(answer, now)), (Some(one), Some(other)) if one == other);
    adjoins
        && is_of_one_version
        && answer.get_all(CONTENT_LENGTH).iter().eq([&said])
        && answer.get_all(CONTENT_ENCODING).iter().eq(stored.get_all(CONTENT_ENCODING))
}

/// The fields of the whole (rule 3), a 200.
pub fn whole(stored: &HeaderMap, answer: &HeaderMap, complete: u64) -> HeaderMap {
    let mut whole = stored.clone();
    validation::freshen(&mut whole, answer);
    whole.remove(CONTENT_RANGE);
    range::OF_ONE_MESSAGE.iter().for_each(|name| drop(whole.remove(name)));
    whole.insert(CONTENT_LENGTH, HeaderValue::from(complete));
    whole
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;

    const NOW: u64 = 1_795_000_000; // in November 2026
    const TAG: (&str, &str) = ("etag", "\"x\"");
    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 13:00:00 GMT";
    type Fields<'a> = &'a [(&'static str, &'static str)];

    fn begin() -> Part {
        Part::new(0, 4, 10).unwrap()
    }

    #[test]
    fn the_rest_is_asked_for_under_the_strong_validator() {
        let dated: Fields = &[("last-modified", NOON), ("date", LATER)];
        let cases: &[(Fields, Option<&str>)] = &[
            (&[TAG], Some("\"x\"")),
            (dated, Some(NOON)),
            (&[("etag", "W/\"x\"")], None),
            (&[("last-modified", NOON), ("date", NOON)], None),
        ];
        for (stored, named) in cases {
            let mut request = head(&[("accept", "a")]);
            assert_eq!(ask(&mut request, begin(), &head(stored), NOW), named.is_some(), "{stored:?}");
            let expected = match named {
                Some(named) => head(&[("accept", "a"), ("range", "bytes=5-"), ("if-range", named)]),
                None => head(&[("accept", "a")]),
            };
            assert_eq!(request, expected);
        }
        assert!(!ask(&mut HeaderMap::new(), Part::new(0, 9, 10).unwrap(), &head(&[TAG]), NOW), "nothing follows");
    }

    #[test]
    fn only_what_adjoins_and_is_of_the_same_version_is_the_rest() {
        use Says::*;
        let (rest, five) = (("content-range", "bytes 5-9/10"), ("content-length", "5"));
        let cases: &[(u16, Fields, Says)] = &[
            (206, &[rest, TAG, five], Rest),
            (206, &[rest, TAG], Nothing), // its length is not known yet
            (206, &[rest, TAG, ("content-length", "4")], Nothing),
            (206, &[rest, TAG, ("content-length", "10")], Nothing),
            (206, &[rest, five], Nothing), // §3.4: the same strong validator
            (206, &[rest, five, ("etag", "\"y\"")], Nothing),
            (206, &[rest, five, ("etag", "W/\"x\"")], Nothing),
            (206, &[rest, five, ("last-modified", NOON), ("date", LATER)], Nothing),
            (206, &[("content-range", "bytes 4-9/10"), TAG, ("content-length", "6")], Nothing), // overlaps
            (206, &[("content-range", "bytes 6-9/10"), TAG, ("content-length", "4")], Nothing), // leaves a hole
            (206, &[("content-range", "bytes 5-8/10"), TAG, ("content-length", "4")], Nothing), // ends early
            (206, &[("content-range", "bytes 5-10/11"), TAG, ("content-length", "6")], Nothing), // another whole
            (206, &[("content-range", "bytes 5-9/*"), TAG, five], Nothing),
            (206, &[("content-range", "bytes 0-4/10"), TAG, five], Nothing),
            (206, &[("content-type", "multipart/byteranges; boundary=x"), TAG], Nothing),
            (206, &[rest, TAG, five, ("content-encoding", "gzip")], Nothing),
            (304, &[TAG], Nothing),
            (412, &[], Nothing),
            (416, &[("content-range", "bytes */5")], Nothing),
            (200, &[TAG], Answer),
            (404, &[], Answer),
            (503, &[], Answer),
        ];
        for (status, answer, expected) in cases {
            let status = StatusCode::from_u16(*status).unwrap();
            assert_eq!(says(status, &head(answer), begin(), &head(&[TAG]), NOW), *expected, "{status} {answer:?}");
        }
        let dated: Fields = &[("last-modified", NOON), ("date", LATER)];
        let newer: Fields = &[rest, five, ("last-modified", NOON), ("date", "Sun, 06 Nov 1994 14:00:00 GMT")];
        assert_eq!(says(StatusCode::PARTIAL_CONTENT, &head(newer), begin(), &head(dated), NOW), Rest);
        let other: Fields = &[rest, five, ("last-modified", "Sun, 06 Nov 1994 11:00:00 GMT"), ("date", LATER)];
        assert_eq!(says(StatusCode::PARTIAL_CONTENT, &head(other), begin(), &head(dated), NOW), Nothing);
    }

    #[test]
    fn the_whole_has_the_newer_fields_and_no_range() {
        let stored = head(&[
            ("content-range", "bytes 0-4/10"),
            ("content-length", "5"),
            ("content-digest", "a"),
            ("content-type", "text/a"),
            ("a", "1"),
            ("b", "1"),
            ("date", NOON),
            TAG,
        ]);
        let answer = head(&[
            ("content-range", "bytes 5-9/10"),
            ("content-length", "5"),
            ("content-digest", "b"),
            ("b", "2"),
            ("date", LATER),
            TAG,
        ]);
        let expected =
            head(&[("content-type", "text/a"), ("a", "1"), ("b", "2"), ("date", LATER), TAG, ("content-length", "10")]);
        assert_eq!(whole(&stored, &answer, 10), expected);
    }
}
