//! When the answer to a POST is what a later GET would get (RFC 9110 §9.3.3, RFC 9111 §4).
//!
//! 1. Its `Content-Location` is the POST's own target URI, one line of it: as an absolute path with the query, or with
//!    scheme and authority.
//! 2. It says itself how long it is fresh: no heuristic, no configuration.
//! 3. It is 200: a GET would hardly be told of anything created or accepted.
//! 4. For the rest it must be storable as the answer to a GET ([`super::storing`]), with no selecting fields: those of the
//!    GET are not known.
//!
//! # Why
//! URIs are compared as bytes, but for the case of scheme and authority: what is not seen to be the same is another one,
//! which costs a miss.

use http::header::{CONTENT_LOCATION, VARY};
use http::{HeaderMap, StatusCode, Uri};

use super::freshness::explicit;
use super::targeted::said;

/// Whether this answer to a POST serves later GETs of its target: of this scheme and authority, and this path and query.
/// `received` is in seconds since the Unix epoch.
pub fn serves_gets(
    status: StatusCode,
    answer: &HeaderMap,
    (scheme, authority): (&str, &str),
    path_and_query: &str,
    received: u64,
) -> bool {
    let mut lines = answer.get_all(CONTENT_LOCATION).iter();
    let (Some(line), None) = (lines.next(), lines.next()) else { return false };
    let Ok(named) = Uri::try_from(line.as_bytes()) else { return false };
    let is_here = match (named.scheme_str(), named.authority()) {
        (None, None) => line.as_bytes().starts_with(b"/"),
        (Some(of), Some(at)) => of.eq_ignore_ascii_case(scheme) && at.as_str().eq_ignore_ascii_case(authority),
        _ => false,
    };
    is_here
        && named.path_and_query().is_some_and(|named| named.as_str() == path_and_query)
        && status == StatusCode::OK
        && !answer.contains_key(VARY)
        && explicit(answer, &said(answer), received).is_some_and(|seconds| seconds > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    #[test]
    fn only_the_same_uri_with_freshness_of_its_own_serves() {
        let fresh = ("cache-control", "max-age=60");
        let here = ("content-location", "/a?b=1");
        type Fields<'a> = &'a [(&'static str, &'static str)];
        let cases: &[(u16, Fields, bool)] = &[
            (200, &[fresh, here], true),
            (200, &[fresh, ("content-location", "HTTP://a.COM/a?b=1")], true),
            (200, &[("expires", "Thu, 01 Jan 2099 00:00:00 GMT"), here], true),
            (200, &[("cdn-cache-control", "max-age=60"), here], true),
            (200, &[fresh], false),
            (200, &[here], false),
            (200, &[("cache-control", "max-age=0"), here], false),
            (200, &[("last-modified", "Thu, 01 Jan 2009 00:00:00 GMT"), here], false),
            (201, &[fresh, here], false),
            (200, &[fresh, here, here], false),
            (200, &[fresh, here, ("vary", "accept")], false),
            (200, &[fresh, ("content-location", "/a")], false),
            (200, &[fresh, ("content-location", "/a?b=2")], false),
            (200, &[fresh, ("content-location", "/A?b=1")], false),
            (200, &[fresh, ("content-location", "a?b=1")], false),
            (200, &[fresh, ("content-location", "//a.com/a?b=1")], false),
            (200, &[fresh, ("content-location", "http://b.com/a?b=1")], false),
            (200, &[fresh, ("content-location", "https://a.com/a?b=1")], false),
            (200, &[fresh, ("content-location", "")], false),
            (200, &[fresh, ("content-location", "http://")], false),
        ];
        for (status, fields, expected) in cases {
            let mut answer = HeaderMap::new();
            for (name, value) in *fields {
                answer.append(HeaderName::from_static(name), HeaderValue::from_static(value));
            }
            let status = StatusCode::from_u16(*status).unwrap();
            let found = serves_gets(status, &answer, ("http", "a.com"), "/a?b=1", 1_795_000_000);
            assert_eq!(found, *expected, "{status} {fields:?}");
        }
    }
}
