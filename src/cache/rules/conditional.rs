//! A client that has a copy already, answered 304 from a stored response (RFC 9111 §4.3.2, RFC 9110 §13).
//!
//! 1. Conditions are looked at only where the stored response is a 200, or a part of one.
//! 2. `If-None-Match` decides alone where it is there; it compares weakly; `*` matches whatever is stored.
//! 3. Else `If-Modified-Since`, against `Last-Modified`, else `Date`; one that is no date is ignored.
//! 4. `If-Match` and `If-Unmodified-Since` are the origin's to judge: see [`super::request`].

use http::header::{
    CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, ETAG, IF_MATCH,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, LAST_MODIFIED,
};
use http::{HeaderMap, HeaderName, StatusCode};

use super::dates;

/// Whether the client's own copy is the stored response, so that 304 says it all. `now` is in seconds since the Unix epoch.
pub fn is_not_modified(request: &HeaderMap, status: StatusCode, stored: &HeaderMap, now: u64) -> bool {
    if !matches!(status, StatusCode::OK | StatusCode::PARTIAL_CONTENT) {
        return false;
    }
    if request.contains_key(IF_NONE_MATCH) {
        let etag = stored.get(ETAG).map(|etag| opaque(etag.as_bytes()));
        return request.get_all(IF_NONE_MATCH).iter().any(|line| any_member_matches(line.as_bytes(), etag));
    }
    let Some(since) = dates::only_date(request, IF_MODIFIED_SINCE, now) else { return false };
    let modified = stored.get(LAST_MODIFIED).or_else(|| stored.get(DATE));
    modified.and_then(|modified| dates::date(modified, now)).is_some_and(|modified| modified <= since)
}

/// Whether a request with these fields is one under conditions (RFC 9110 §13.1).
pub fn has_conditions(fields: &HeaderMap) -> bool {
    [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_MATCH, IF_UNMODIFIED_SINCE, IF_RANGE]
        .iter()
        .any(|name| fields.contains_key(name))
}

/// What describes content, which a 304 does not send (RFC 9110 §15.4.5).
const DESCRIBING: [HeaderName; 5] = [CONTENT_TYPE, CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_LANGUAGE, CONTENT_RANGE];

/// Room for the fields of most 304s, with those that are written on every answer.
const TYPICAL: usize = 16;

/// The fields of a 304, of those of a 200 (RFC 9110 §15.4.5): without what describes content that is not sent.
pub fn not_modified(stored: &HeaderMap) -> HeaderMap {
    let tagged = stored.contains_key(ETAG);
    let mut head = HeaderMap::with_capacity(TYPICAL);
    for (name, value) in stored {
        if !(DESCRIBING.contains(name) || tagged && name == LAST_MODIFIED) {
            head.append(name, value.clone());
        }
    }
    head
}

/// Makes of the fields of a 200 those of an answer without its content: the same.
pub fn into_not_modified(head: &mut HeaderMap) {
    for name in DESCRIBING {
        head.remove(name);
    }
    if head.contains_key(ETAG) {
        head.remove(LAST_MODIFIED);
    }
}

/// An entity tag without its weakness (RFC 9110 §8.8.3.2).
pub(super) fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

/// Entity tags may hold commas, so the list is read tag by tag; it ends where it is malformed.
fn any_member_matches(list: &[u8], etag: Option<&[u8]>) -> bool {
    let mut rest = list.trim_ascii();
    if rest == b"*" {
        return true;
    }
    loop {
        while let [b',' | b' ' | b'\t', after @ ..] = rest {
            rest = after;
        }
        let tag = opaque(rest);
        let Some(length) = tag.strip_prefix(b"\"").and_then(|inside| inside.iter().position(|byte| *byte == b'"'))
        else {
            return false;
        };
        let (tag, after) = tag.split_at(length + 2);
        if Some(tag) == etag {
            return true;
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;

    const NOW: u64 = 1_795_000_000; // in November 2026
    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 13:00:00 GMT";

    #[test]
    fn conditions_are_judged_as_the_rfc_says() {
        let etag = ("etag", "\"a,b\"");
        let weak = ("etag", "W/\"x\"");
        let modified = ("last-modified", NOON);
        type Fields<'a> = &'a [(&'static str, &'static str)];
        let cases: &[(Fields, Fields, bool)] = &[
            (&[], &[etag], false),
            (&[("if-none-match", "\"a,b\"")], &[etag], true),
            (&[("if-none-match", "W/\"a,b\"")], &[etag], true),
            (&[("if-none-match", "\"x\"")], &[weak], true),
            (&[("if-none-match", "\"q\", \"a,b\" ")], &[etag], true),
            (&[("if-none-match", "\"q\""), ("if-none-match", "\"a,b\"")], &[etag], true),
            (&[("if-none-match", "*")], &[], true),
            (&[("if-none-match", "\"b\"")], &[etag], false),
            (&[("if-none-match", "b\"")], &[etag], false),
            (&[("if-none-match", "\"a,b")], &[etag], false),
            (&[("if-none-match", "\"b\""), ("if-modified-since", LATER)], &[etag, modified], false),
            (&[("if-none-match", "\"b\"")], &[], false),
            (&[("if-modified-since", NOON)], &[modified], true),
            (&[("if-modified-since", LATER)], &[modified], true),
            (&[("if-modified-since", NOON)], &[("last-modified", LATER)], false),
            (&[("if-modified-since", NOON)], &[("date", NOON)], true),
            (&[("if-modified-since", "x")], &[modified], false),
            (&[("if-modified-since", NOON)], &[], false),
        ];
        for (request, stored, expected) in cases {
            let found = is_not_modified(&head(request), StatusCode::OK, &head(stored), NOW);
            assert_eq!(found, *expected, "{request:?} {stored:?}");
        }
        assert!(!is_not_modified(&head(&[("if-none-match", "*")]), StatusCode::NOT_FOUND, &head(&[]), NOW));
        assert!(is_not_modified(&head(&[("if-none-match", "*")]), StatusCode::PARTIAL_CONTENT, &head(&[]), NOW));
    }

    #[test]
    fn a_304_describes_no_content() {
        let mut fields = head(&[("etag", "\"a\""), ("last-modified", NOON), ("content-type", "x/y"), ("vary", "a")]);
        let made = not_modified(&fields);
        into_not_modified(&mut fields);
        assert_eq!(fields, head(&[("etag", "\"a\""), ("vary", "a")]));
        assert_eq!(made, fields);
        let untagged = head(&[("last-modified", NOON), ("link", "a"), ("link", "b"), ("content-length", "1")]);
        assert_eq!(not_modified(&untagged), head(&[("last-modified", NOON), ("link", "a"), ("link", "b")]));
    }
}
