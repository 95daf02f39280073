//! Which answers are coded, and what becomes of their fields (RFC 9110 §8.4, §12.5.5). Pure.
//!
//! 1. A whole, final answer with content: no 204, 205, 206, 304, no `Content-Range`.
//! 2. Nobody has coded it (`Content-Encoding`), nobody forbids it (`no-transform`, RFC 9110 §7.7), and no field vouches
//!    for its bytes (`Repr-Digest` and the like, RFC 9530).
//! 3. Text, of [`SMALLEST`] bytes or of a length that is not known yet. No event stream.
//! 4. Coded, it says so; its length is known at its end only, and parts of it cannot be had.
//! 5. What would be another answer to a client that accepts other codings says so (`Vary`), coded or not; and so does
//!    what the app has coded. An image does not: it would be stored once for each coding, and each time be the same.

use http::header::{
    ACCEPT_ENCODING, ACCEPT_RANGES, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};

use super::tags;
use crate::cache::Coding;
use crate::cache::text::{is_event_stream, is_text};

/// Bytes of content below which coding saves less than it costs.
pub const SMALLEST: u64 = 1024;

/// Fields that vouch for bytes.
const DIGESTS: [&str; 4] = ["content-digest", "repr-digest", "digest", "content-md5"];

/// Whether an answer with these fields is coded for a client that accepts it; `length` in bytes, if it is known.
pub(super) fn is_eligible(status: StatusCode, answer: &HeaderMap, length: Option<u64>) -> bool {
    const WITHOUT_WHOLE_CONTENT: [StatusCode; 4] =
        [StatusCode::NO_CONTENT, StatusCode::RESET_CONTENT, StatusCode::PARTIAL_CONTENT, StatusCode::NOT_MODIFIED];
    !status.is_informational()
        && !WITHOUT_WHOLE_CONTENT.contains(&status)
        && length.is_none_or(|length| length >= SMALLEST)
        && is_text(answer)
        && !is_event_stream(answer)
        && !answer.contains_key(CONTENT_ENCODING)
        && !answer.contains_key(CONTENT_RANGE)
        && DIGESTS.iter().all(|name| !answer.contains_key(*name))
        && !forbids(answer)
}

/// Wherever the word stands: to leave content as it is does no harm.
fn forbids(answer: &HeaderMap) -> bool {
    const WORD: &[u8] = b"no-transform";
    let says = |line: &HeaderValue| line.as_bytes().windows(WORD.len()).any(|word| word.eq_ignore_ascii_case(WORD));
    answer.get_all(CACHE_CONTROL).iter().any(says)
}

/// Makes of an answer's fields those of the answer in `coding`.
pub(super) fn into_coded(answer: &mut HeaderMap, coding: Coding) {
    answer.insert(CONTENT_ENCODING, HeaderValue::from_static(coding.token()));
    answer.remove(CONTENT_LENGTH);
    answer.remove(ACCEPT_RANGES);
    tags::mark(answer, coding);
}

/// Says that the answer depends on what codings are accepted.
pub(super) fn varies(answer: &mut HeaderMap) {
    let mut members = answer.get_all(VARY).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let name = ACCEPT_ENCODING.as_str().as_bytes();
    if !members.any(|member| member.trim_ascii() == b"*" || member.trim_ascii().eq_ignore_ascii_case(name)) {
        answer.append(VARY, HeaderValue::from_static("Accept-Encoding"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;

    type Fields<'a> = &'a [(&'static str, &'static str)];

    #[test]
    fn whole_text_that_nobody_has_coded_or_vouches_for_is_coded() {
        const TEXT: (&str, &str) = ("content-type", "text/html");
        let cases: &[(u16, Fields, Option<u64>, bool)] = &[
            (200, &[TEXT], Some(1024), true),
            (200, &[TEXT], None, true),
            (404, &[TEXT], None, true),
            (200, &[TEXT], Some(1023), false),
            (200, &[], None, false),
            (200, &[("content-type", "image/png")], None, false),
            (200, &[("content-type", "text/event-stream")], None, false),
            (200, &[TEXT, ("content-encoding", "gzip")], None, false),
            (200, &[TEXT, ("content-range", "bytes 0-4/5")], None, false),
            (200, &[TEXT, ("cache-control", "max-age=5, No-Transform")], None, false),
            (200, &[TEXT, ("cache-control", "a"), ("cache-control", "no-transform")], None, false),
            (200, &[TEXT, ("repr-digest", "sha-256=::")], None, false),
            (200, &[TEXT, ("content-md5", "x")], None, false),
            (204, &[TEXT], None, false),
            (205, &[TEXT], None, false),
            (206, &[TEXT], None, false),
            (304, &[TEXT], None, false),
            (101, &[TEXT], None, false),
        ];
        for (status, fields, length, expected) in cases {
            let status = StatusCode::from_u16(*status).unwrap();
            assert_eq!(is_eligible(status, &head(fields), *length), *expected, "{status} {fields:?} {length:?}");
        }
    }

    #[test]
    fn a_coded_answer_tells_its_coding_and_neither_length_nor_parts() {
        let mut answer =
            head(&[("content-length", "5000"), ("accept-ranges", "bytes"), ("etag", "\"x\""), ("date", "d")]);
        into_coded(&mut answer, Coding::Gzip);
        assert_eq!(answer, head(&[("content-encoding", "gzip"), ("etag", "W/\"x;sg=gzip\""), ("date", "d")]));
    }

    #[test]
    fn what_depends_on_the_coding_says_so_once() {
        for (before, after) in [
            (&[][..], &["Accept-Encoding"][..]),
            (&["Origin"], &["Origin", "Accept-Encoding"]),
            (&["Origin, accept-encoding"], &["Origin, accept-encoding"]),
            (&["*"], &["*"]),
        ] {
            let mut answer = HeaderMap::new();
            for value in before {
                answer.append(VARY, HeaderValue::from_static(value));
            }
            varies(&mut answer);
            assert!(answer.get_all(VARY).iter().eq(after), "{before:?}");
        }
    }
}
