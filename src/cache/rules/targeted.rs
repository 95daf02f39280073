//! `CDN-Cache-Control` (RFC 9213).
//!
//! 1. Where it is a valid dictionary that is not empty it speaks alone: `Cache-Control` and `Expires` are not read (§2.2).
//! 2. A malformed one, and one with a directive of the wrong type, is ignored whole, and `Cache-Control` speaks (§2.2).
//! 3. Names are in lower case, as of every structured field; unknown ones are ignored, of whatever type. `false` is as if
//!    the directive were not there.
//! 4. `private` and `no-cache` that name fields count as if they named none: here nothing is withheld field by field.
//! 5. What `Cache-Control` withholds field by field stays withheld ([`super::directives::withheld`]).

use http::{HeaderMap, HeaderName};

use super::VERY_LONG;
use super::directives::{Directives, directives};
use super::structured::{Value, dictionary};

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What a response says of its caching.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// The directives.
    pub directives: Directives,
    /// They are those of the targeted field: `Expires` is not read.
    pub targeted: bool,
}

/// What a response says to this cache.
pub fn said(head: &HeaderMap) -> Said {
    match targeted(head) {
        Some(directives) => Said { directives, targeted: true },
        None => Said { directives: directives(head), targeted: false },
    }
}

/// The directives of the targeted field; `None`: it is not there, or ignored.
fn targeted(head: &HeaderMap) -> Option<Directives> {
    if !head.contains_key(CDN_CACHE_CONTROL) {
        return None;
    }
    let mut found = Directives::default();
    for (name, value) in dictionary(head, &CDN_CACHE_CONTROL)? {
        match name.as_str() {
            "max-age" => found.max_age = Some(seconds(&value)?),
            "s-maxage" => found.s_maxage = Some(seconds(&value)?),
            "stale-while-revalidate" => found.while_revalidate = Some(seconds(&value)?),
            "stale-if-error" => found.if_error = Some(seconds(&value)?),
            "no-store" => found.no_store = flag(&value)?,
            "no-cache" => found.no_cache = flag(&value).unwrap_or(true),
            "private" => found.private = flag(&value).unwrap_or(true),
            "public" => found.public = flag(&value)?,
            "must-revalidate" => found.must_revalidate = flag(&value)?,
            "proxy-revalidate" => found.proxy_revalidate = flag(&value)?,
            "must-understand" => found.must_understand = flag(&value)?,
            "immutable" => found.immutable = flag(&value)?,
            _ => {}
        }
    }
    Some(found)
}

fn seconds(value: &Value) -> Option<u32> {
    match value {
        Value::Integer(seconds) => Some((*seconds).clamp(0, i64::from(VERY_LONG)) as u32),
        _ => None,
    }
}

fn flag(value: &Value) -> Option<bool> {
    match value {
        Value::Boolean(flag) => Some(*flag),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;

    #[test]
    fn the_targeted_field_speaks_alone_or_not_at_all() {
        let none = Directives::default();
        let max_age = |seconds| Directives { max_age: Some(seconds), ..none };
        let no_store = Directives { no_store: true, ..none };
        for (targeted, expected) in [
            ("max-age=60", Some(max_age(60))),
            ("max-age=2147483648", Some(max_age(VERY_LONG))),
            ("max-age=99999999999", Some(max_age(VERY_LONG))),
            ("max-age=0", Some(max_age(0))),
            ("max-age=-5", Some(max_age(0))),
            ("foobar, max-age=60;x=1", Some(max_age(60))),
            ("foo", Some(none)),
            ("no-store", Some(no_store)),
            ("no-store=?0, max-age=60", Some(max_age(60))),
            ("private", Some(Directives { private: true, ..none })),
            ("private=\"set-cookie\"", Some(Directives { private: true, ..none })),
            ("no-cache=(\"a\" \"b\")", Some(Directives { no_cache: true, ..none })),
            (
                "max-age=1, stale-while-revalidate=2, stale-if-error=3, must-revalidate",
                Some(Directives { while_revalidate: Some(2), if_error: Some(3), must_revalidate: true, ..max_age(1) }),
            ),
            ("max-age=\"60\"", None),
            ("max-age=60.0", None),
            ("max-age", None),
            ("no-store=1", None),
            ("MaX-aGe=60", None),
            ("max-age =60", None),
            ("max-age= 60", None),
            ("max-age=60, &&&&&", None),
            ("", None),
        ] {
            let mut head = HeaderMap::new();
            head.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
            head.insert(CDN_CACHE_CONTROL, HeaderValue::from_static(targeted));
            let fallback = Said { directives: no_store, targeted: false };
            let expected = expected.map_or(fallback, |directives| Said { directives, targeted: true });
            assert_eq!(said(&head), expected, "{targeted:?}");
        }
    }
}
