//! Asking the app whether a stored response still holds, and what its answer changes (RFC 9111 §4.3).
//!
//! 1. The request carries the stored response's own validators, in place of the client's conditions, and asks for the
//!    whole: a 304 then speaks of what is stored, and a 200 replaces it (§4.3.1).
//!    Of a part the client's range and its `If-Range` stay: a newer version then comes as the part that it asked for, or
//!    whole where that is its condition. The app looks at our condition first (RFC 9110 §13.2.2).
//! 2. On a variant that is not stored the entity tags of those that are may be offered; a client that has conditions, or
//!    asks for a part, is left to its own.
//! 3. A 304 freshens what it selects (§4.3.4): the same entity tag where it names one, else the same `Last-Modified`,
//!    else, if it names neither, the one response that was asked about.
//! 4. Freshening replaces each field that the 304 has, and keeps the others; what describes the stored bytes is kept in
//!    any case (§3.2). `Date` is the one that goes even if the 304 has none: it would tell the age of what was.
//! 5. A HEAD that agrees freshens in the same way; one that disagrees shows that what is stored is old (§4.3.5).

use http::header::{
    CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, DATE, ETAG, IF_MODIFIED_SINCE, IF_NONE_MATCH,
    IF_RANGE, LAST_MODIFIED, RANGE,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::conditional::opaque;
use super::directives;

/// Bytes of entity tags that are offered at once.
const MAX_OFFERED: usize = 4 * 1024;

/// Whether a response with these fields can be validated.
pub fn has_validator(stored: &HeaderMap) -> bool {
    stored.contains_key(ETAG) || stored.contains_key(LAST_MODIFIED)
}

/// Makes of the request one that asks whether the stored response holds. False, and the request as it was: it has no
/// validator.
pub fn conditional(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    if !has_validator(stored) {
        return false;
    }
    request.remove(IF_RANGE);
    request.remove(RANGE);
    conditional_part(request, stored)
}

/// The same of a request for a part of which `stored` are the fields.
pub fn conditional_part(request: &mut HeaderMap, stored: &HeaderMap) -> bool {
    if !has_validator(stored) {
        return false;
    }
    request.remove(IF_NONE_MATCH);
    request.remove(IF_MODIFIED_SINCE);
    for (validator, condition) in [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)] {
        if let Some(value) = stored.get(validator) {
            request.insert(condition, value.clone());
        }
    }
    true
}

/// Offers the entity tags of stored variants to the app (§4.3.1). False, and the request as it was: there is none, or the
/// client asks for something of its own.
pub fn offer_etags<'a>(request: &mut HeaderMap, stored: impl Iterator<Item = &'a HeaderValue>) -> bool {
    if [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE, RANGE].iter().any(|name| request.contains_key(name)) {
        return false;
    }
    let mut offered = Vec::new();
    for etag in stored {
        if offered.len() + etag.len() + 2 > MAX_OFFERED {
            break;
        }
        if !offered.is_empty() {
            offered.extend_from_slice(b", ");
        }
        offered.extend_from_slice(etag.as_bytes());
    }
    match HeaderValue::from_maybe_shared(bytes::Bytes::from(offered)) {
        Ok(offered) if !offered.is_empty() => {
            request.insert(IF_NONE_MATCH, offered);
            true
        }
        _ => false,
    }
}

/// Whether a 304 to a request about this stored response alone speaks of it (§4.3.4).
pub fn selects(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    match (not_modified.get(ETAG), not_modified.get(LAST_MODIFIED)) {
        (Some(named), _) if stored.contains_key(ETAG) => names(stored, named),
        (_, Some(modified)) => stored.get(LAST_MODIFIED).is_none_or(|stored| stored == modified),
        (named, None) => named.is_none(),
    }
}

/// Whether a 304 to a request that offered several entity tags speaks of this stored response: only if it names its tag.
pub fn selects_among(stored: &HeaderMap, not_modified: &HeaderMap) -> bool {
    not_modified.get(ETAG).is_some_and(|named| names(stored, named))
}

/// A strong entity tag selects the same strong one; a weak one whatever it equals weakly.
fn names(stored: &HeaderMap, named: &HeaderValue) -> bool {
    let Some(etag) = stored.get(ETAG) else { return false };
    if named.as_bytes().starts_with(b"W/") {
        opaque(etag.as_bytes()) == opaque(named.as_bytes())
    } else {
        etag == named
    }
}

/// Updates the fields of a stored response by those of a 304 that selects it (§3.2). What of the result is not stored is to be
/// taken out again as it is of a response: the client that was waiting gets all of it.
pub fn freshen(stored: &mut HeaderMap, not_modified: &HeaderMap) {
    let named = not_modified.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let hops: Vec<_> = named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    let kept = |name: &HeaderName| describes_bytes(name) || hops.contains(name);
    stored.remove(DATE);
    for name in not_modified.keys().filter(|name| !kept(name)) {
        stored.remove(name);
        for value in not_modified.get_all(name) {
            stored.append(name, value.clone());
        }
    }
}

/// Appends to `answer`, which is for the client that asked, what a 304 brought for it and is not kept: the fields that the
/// answer's own `no-cache` and `private` name (§5.2.2.4, §5.2.2.7).
pub fn append_withheld(answer: &mut HeaderMap, not_modified: &HeaderMap) {
    for name in directives::withheld(answer) {
        if answer.contains_key(&name) || describes_bytes(&name) {
            continue;
        }
        for value in not_modified.get_all(&name) {
            answer.append(&name, value.clone());
        }
    }
}

/// Fields that a 304 could only say wrongly of the bytes that are stored.
fn describes_bytes(name: &HeaderName) -> bool {
    const DESCRIBE: [HeaderName; 3] = [CONTENT_LENGTH, CONTENT_ENCODING, CONTENT_RANGE];
    DESCRIBE.contains(name) || matches!(name.as_str(), "content-md5" | "content-digest" | "repr-digest" | "digest")
}

/// What the answer to a HEAD says of the stored answer to GET.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeadSays {
    /// It is the same still.
    Same,
    /// It is another.
    Other,
    /// Nothing that could be compared: a page without validators would be fresh for ever by it.
    Nothing,
}

/// What the answer to a HEAD says of the stored answer to GET (§4.3.5).
pub fn head_says(stored: &HeaderMap, head_answer: &HeaderMap) -> HeadSays {
    let said = [ETAG, LAST_MODIFIED, CONTENT_LENGTH];
    let same = said.iter().filter_map(|name| Some(stored.get(name) == Some(head_answer.get(name)?)));
    same.fold(HeadSays::Nothing, |says, same| match says {
        HeadSays::Other => HeadSays::Other,
        _ if same => HeadSays::Same,
        _ => HeadSays::Other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 13:00:00 GMT";
    type Fields<'a> = &'a [(&'static str, &'static str)];

    #[test]
    fn the_stored_validators_take_the_place_of_the_client_s() {
        let cases: &[(Fields, Fields, bool, Fields)] = &[
            (&[("a", "1")], &[("etag", "W/\"x\"")], true, &[("a", "1"), ("if-none-match", "W/\"x\"")]),
            (&[], &[("last-modified", NOON)], true, &[("if-modified-since", NOON)]),
            (
                &[("if-none-match", "\"y\""), ("if-none-match", "\"z\"")],
                &[("etag", "\"x\""), ("last-modified", NOON)],
                true,
                &[("if-none-match", "\"x\""), ("if-modified-since", NOON)],
            ),
            (
                &[("range", "bytes=0-1"), ("if-range", "\"x\"")],
                &[("etag", "\"x\"")],
                true,
                &[("if-none-match", "\"x\"")],
            ),
            (&[("if-modified-since", LATER)], &[("etag", "\"x\"")], true, &[("if-none-match", "\"x\"")]),
            (&[("if-none-match", "\"y\"")], &[("date", NOON)], false, &[("if-none-match", "\"y\"")]),
        ];
        for (request, stored, expected, sent) in cases {
            let mut asked = head(request);
            assert_eq!(conditional(&mut asked, &head(stored)), *expected, "{request:?} {stored:?}");
            assert_eq!(asked, head(sent), "{request:?} {stored:?}");
        }
    }

    #[test]
    fn of_a_part_the_range_stays() {
        let mut asked = head(&[("range", "bytes=0-1"), ("if-range", "\"x\""), ("if-none-match", "\"y\"")]);
        assert!(conditional_part(&mut asked, &head(&[("etag", "\"x\"")])));
        assert_eq!(asked, head(&[("range", "bytes=0-1"), ("if-range", "\"x\""), ("if-none-match", "\"x\"")]));
    }

    #[test]
    fn entity_tags_of_variants_are_offered_where_the_client_asks_for_nothing_of_its_own() {
        let tags = [HeaderValue::from_static("\"a\""), HeaderValue::from_static("W/\"b\"")];
        let mut request = HeaderMap::new();
        assert!(offer_etags(&mut request, tags.iter()));
        assert_eq!(request, head(&[("if-none-match", "\"a\", W/\"b\"")]));
        assert!(!offer_etags(&mut HeaderMap::new(), [].iter()));
        for own in [("if-none-match", "\"c\""), ("if-modified-since", NOON), ("range", "bytes=0-1")] {
            let mut request = head(&[own]);
            assert!(!offer_etags(&mut request, tags.iter()), "{own:?}");
            assert_eq!(request, head(&[own]));
        }
    }

    #[test]
    fn what_a_304_brings_for_one_client_reaches_it() {
        let withheld = ("cache-control", "no-cache=\"set-cookie, a, age, digest\", private=\"A\"");
        let mut answer = head(&[withheld, ("age", "0")]);
        let news = [("a", "1"), ("a", "2"), ("set-cookie", "b=c"), ("age", "7"), ("digest", "x"), ("d", "3")];
        append_withheld(&mut answer, &head(&news));
        let expected = [withheld, ("age", "0"), ("set-cookie", "b=c"), ("a", "1"), ("a", "2")];
        assert_eq!(answer, head(&expected));
    }

    #[test]
    fn what_is_offered_is_bounded() {
        let tag = HeaderValue::try_from(format!("\"{}\"", "x".repeat(1000))).unwrap();
        let mut request = HeaderMap::new();
        assert!(offer_etags(&mut request, std::iter::repeat_n(&tag, 100)));
        assert!((3000..=MAX_OFFERED).contains(&request[IF_NONE_MATCH].len()));
        let endless = HeaderValue::try_from("x".repeat(MAX_OFFERED)).unwrap();
        assert!(!offer_etags(&mut HeaderMap::new(), std::iter::once(&endless)));
    }

    #[test]
    fn a_304_selects_what_it_names() {
        let strong = ("etag", "\"x\"");
        let weak = ("etag", "W/\"x\"");
        let modified = ("last-modified", NOON);
        let cases: &[(Fields, Fields, bool, bool)] = &[
            // stored, 304, alone, among several
            (&[strong], &[strong], true, true),
            (&[weak], &[weak], true, true),
            (&[strong], &[weak], true, true),
            (&[weak], &[strong], false, false), // §4.3.4: strong selects strong alone
            (&[strong], &[("etag", "\"y\"")], false, false),
            (&[strong], &[], true, false),
            (&[strong, modified], &[strong, ("last-modified", LATER)], true, true),
            (&[modified], &[modified], true, false),
            (&[modified], &[("last-modified", LATER)], false, false),
            (&[strong], &[modified], true, false),
            (&[modified], &[strong], false, false),
            (&[modified], &[strong, modified], true, false),
            (&[], &[], true, false),
        ];
        for (stored, not_modified, alone, among) in cases {
            assert_eq!(selects(&head(stored), &head(not_modified)), *alone, "{stored:?} {not_modified:?}");
            assert_eq!(selects_among(&head(stored), &head(not_modified)), *among, "{stored:?} {not_modified:?}");
        }
    }

    #[test]
    fn a_304_replaces_what_it_has_and_keeps_the_rest() {
        let mut stored = head(&[
            ("a", "1"),
            ("a", "2"),
            ("b", "1"),
            ("content-type", "text/plain"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-md5", "x"),
            ("date", NOON),
            ("etag", "\"x\""),
        ]);
        let not_modified = head(&[
            ("a", "3"),
            ("c", "1"),
            ("c", "2"),
            ("content-type", "text/html"),
            ("content-length", "0"),
            ("content-encoding", "br"),
            ("content-range", "bytes 0-1/2"),
            ("content-md5", "y"),
            ("repr-digest", "z"),
            ("etag", "\"x\""),
            ("connection", "hop"),
            ("hop", "1"),
        ]);
        freshen(&mut stored, &not_modified);
        let expected = head(&[
            ("b", "1"),
            ("content-length", "5"),
            ("content-encoding", "gzip"),
            ("content-md5", "x"),
            ("a", "3"),
            ("c", "1"),
            ("c", "2"),
            ("content-type", "text/html"),
            ("etag", "\"x\""),
            ("connection", "hop"),
        ]);
        assert_eq!(stored, expected);
        let once = stored.clone();
        freshen(&mut stored, &not_modified);
        assert_eq!(stored, once, "freshening twice is freshening once");
    }

    #[test]
    fn a_head_says_the_same_if_it_says_something_and_all_of_it_agrees() {
        use HeadSays::*;
        let stored = head(&[("etag", "\"x\""), ("last-modified", NOON), ("content-length", "5")]);
        let cases: &[(Fields, HeadSays)] = &[
            (&[], Nothing),
            (&[("cache-control", "max-age=9")], Nothing),
            (&[("etag", "\"x\"")], Same),
            (&[("etag", "\"x\""), ("last-modified", NOON), ("content-length", "5")], Same),
            (&[("etag", "\"y\"")], Other),
            (&[("etag", "\"x\""), ("last-modified", LATER)], Other),
            (&[("content-length", "6")], Other),
        ];
        for (answer, expected) in cases {
            assert_eq!(head_says(&stored, &head(answer)), *expected, "{answer:?}");
        }
        assert_eq!(head_says(&head(&[]), &head(&[("etag", "\"x\"")])), Other);
    }
}
