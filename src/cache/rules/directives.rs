//! `Cache-Control`, of requests and responses (RFC 9111 §5.2).
//!
//! 1. Names in any case; unknown directives are ignored (§5.2.3).
//! 2. Several lines are one list. A directive given twice counts in its most restrictive reading (§4.2.1).
//! 3. What stands inside a quoted string is no directive. A quote opens only directly after `=`; one that never
//!    closes could hide anything, so the whole field then means `no-store`.
//! 4. `private="a"` and `no-cache="a"` speak of the field `a` alone (§5.2.2.4, §5.2.2.7): see [`withheld`]. Where what they
//!    name is no list of fields, or what the rest could not be read without, they count as if they named none.
//! 5. A time that is no number is 0: stale (§4.2.1).

use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, DATE, EXPIRES, TRANSFER_ENCODING,
    VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::{VERY_LONG, delta_seconds};

/// Bytes of `Cache-Control` that are read; a longer field means `no-store`.
pub const MAX_BYTES: usize = 8 * 1024;

/// What `Cache-Control` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store` (§5.2.1.5, §5.2.2.5).
    pub no_store: bool,
    /// `no-cache` without fields (§5.2.1.4, §5.2.2.4).
    pub no_cache: bool,
    /// `private` without fields (§5.2.2.7).
    pub private: bool,
    /// `no-cache` or `private` with fields.
    pub withholds: bool,
    /// `public` (§5.2.2.9).
    pub public: bool,
    /// `must-revalidate` (§5.2.2.2).
    pub must_revalidate: bool,
    /// `proxy-revalidate` (§5.2.2.8).
    pub proxy_revalidate: bool,
    /// `must-understand` (§5.2.2.3).
    pub must_understand: bool,
    /// `immutable` (RFC 8246).
    pub immutable: bool,
    /// Not all of the field could be read: `no-store`, whatever else it says.
    pub unreadable: bool,
    /// `only-if-cached` (§5.2.1.7).
    pub only_if_cached: bool,
    /// `max-age`, in seconds (§5.2.1.1, §5.2.2.1).
    pub max_age: Option<u32>,
    /// `s-maxage`, in seconds (§5.2.2.10).
    pub s_maxage: Option<u32>,
    /// `stale-while-revalidate`, in seconds (RFC 5861 §3).
    pub while_revalidate: Option<u32>,
    /// `stale-if-error`, in seconds (RFC 5861 §4).
    pub if_error: Option<u32>,
    /// `max-stale`, in seconds; [`VERY_LONG`] without a value (§5.2.1.2).
    pub max_stale: Option<u32>,
    /// `min-fresh`, in seconds (§5.2.1.3).
    pub min_fresh: Option<u32>,
}

/// Reads all `Cache-Control` lines of `head`.
pub fn directives(head: &HeaderMap) -> Directives {
    let mut found = Directives::default();
    if !each_member(head, |name, value| read_member(name, value, &mut found)) {
        (found.unreadable, found.no_store) = (true, true);
    }
    found
}

/// The fields that a response must not be reused with, in the order in which `no-cache` and `private` name them.
pub fn withheld(head: &HeaderMap) -> Vec<HeaderName> {
    let mut fields = Vec::new();
    each_member(head, |name, value| {
        if is(name, "no-cache") || is(name, "private") {
            fields.extend(value.and_then(field_names).into_iter().flatten());
        }
    });
    fields
}

/// Calls with each directive's name and value; false if not all of the field could be read.
fn each_member<'a>(head: &'a HeaderMap, mut member: impl FnMut(&'a [u8], Option<&'a [u8]>)) -> bool {
    let mut left = MAX_BYTES;
    for line in head.get_all(CACHE_CONTROL) {
        if line.len() > left || !read_line(line, &mut member) {
            return false;
        }
        left -= line.len();
    }
    true
}

/// False if a quoted string does not end.
fn read_line<'a>(line: &'a HeaderValue, member: &mut impl FnMut(&'a [u8], Option<&'a [u8]>)) -> bool {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let Some(end) = member_end(rest) else { return false };
        let text = rest[..end].trim_ascii();
        match text.iter().position(|byte| *byte == b'=') {
            Some(at) => member(text[..at].trim_ascii_end(), Some(&text[at + 1..])),
            None => member(text, None),
        }
        rest = rest.get(end + 1..).unwrap_or_default();
    }
    true
}

/// Where the first member of a list ends: at a comma outside quotes, or with the text.
fn member_end(text: &[u8]) -> Option<usize> {
    let mut quoted = false;
    let mut index = 0;
    while let Some(&byte) = text.get(index) {
        match byte {
            b'\\' if quoted => index += 1,
            b'"' if quoted => quoted = false,
            b'"' if index > 0 && text[index - 1] == b'=' => quoted = true,
            b',' if !quoted => return Some(index),
            _ => {}
        }
        index += 1;
    }
    (!quoted).then_some(text.len())
}

fn is(name: &[u8], directive: &str) -> bool {
    name.eq_ignore_ascii_case(directive.as_bytes())
}

fn read_member(name: &[u8], value: Option<&[u8]>, found: &mut Directives) {
    let seconds = || value.and_then(delta_seconds).unwrap_or(0);
    let shortest = |so_far: Option<u32>| Some(so_far.map_or_else(seconds, |so_far| so_far.min(seconds())));
    let mut unless_fields = |flag: &mut bool| match value {
        None => *flag = true,
        Some(value) if field_names(value).is_none() => *flag = true,
        Some(_) => found.withholds = true,
    };
    if is(name, "max-age") {
        found.max_age = shortest(found.max_age);
    } else if is(name, "s-maxage") {
        found.s_maxage = shortest(found.s_maxage);
    } else if is(name, "no-store") {
        found.no_store = true;
    } else if is(name, "no-cache") {
        unless_fields(&mut found.no_cache);
    } else if is(name, "private") {
        unless_fields(&mut found.private);
    } else if is(name, "public") {
        found.public = true;
    } else if is(name, "must-revalidate") {
        found.must_revalidate = true;
    } else if is(name, "proxy-revalidate") {
        found.proxy_revalidate = true;
    } else if is(name, "must-understand") {
        found.must_understand = true;
    } else if is(name, "immutable") {
        found.immutable = true;
    } else if is(name, "stale-while-revalidate") {
        found.while_revalidate = shortest(found.while_revalidate);
    } else if is(name, "stale-if-error") {
        found.if_error = shortest(found.if_error);
    } else if is(name, "only-if-cached") {
        found.only_if_cached = true;
    } else if is(name, "max-stale") {
        let stale = if value.is_none() { VERY_LONG } else { seconds() };
        found.max_stale = Some(found.max_stale.map_or(stale, |so_far| so_far.min(stale)));
    } else if is(name, "min-fresh") {
        found.min_fresh = Some(found.min_fresh.map_or_else(seconds, |so_far| so_far.max(seconds())));
    }
}

/// The fields that `no-cache` or `private` names; `None` if it is no list of fields, or names one that a cache or a client
/// could not understand the rest without.
fn field_names(value: &[u8]) -> Option<Vec<HeaderName>> {
    const NEEDED: [HeaderName; 9] = [
        CACHE_CONTROL,
        CONTENT_ENCODING,
        CONTENT_LENGTH,
        CONTENT_RANGE,
        CONTENT_TYPE,
        DATE,
        EXPIRES,
        TRANSFER_ENCODING,
        VARY,
    ];
    let inside = match value.strip_prefix(b"\"") {
        Some(rest) => rest.strip_suffix(b"\"")?,
        None => value,
    };
    let members = inside.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).filter(|member| !member.is_empty());
    let names = members.map(|member| HeaderName::from_bytes(member).ok()).collect::<Option<Vec<_>>>()?;
    (!names.is_empty() && names.iter().all(|name| !NEEDED.contains(name))).then_some(names)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rules::VERY_LONG;

    fn read(lines: &[&str]) -> Directives {
        let mut head = HeaderMap::new();
        for line in lines {
            head.append(CACHE_CONTROL, HeaderValue::from_bytes(line.as_bytes()).unwrap());
        }
        directives(&head)
    }

    #[test]
    fn directives_are_read_as_the_rfc_says() {
        let none = Directives::default();
        let max_age = |seconds| Directives { max_age: Some(seconds), ..none };
        let no_store = Directives { no_store: true, ..none };
        let unreadable = Directives { unreadable: true, ..no_store };
        let cases: &[(&[&str], Directives)] = &[
            (&[], none),
            (&["max-age=60"], max_age(60)),
            (&["MAX-AGE=60"], max_age(60)),
            (&["max-age=0060"], max_age(60)),
            (&["max-age=99999999999"], max_age(VERY_LONG)),
            (&["max-age=-1"], max_age(0)),
            (&["max-age=1.5"], max_age(0)),
            (&["max-age=\"60\""], max_age(0)),
            (&["max-age= 60"], max_age(0)),
            (&["max-age"], max_age(0)),
            (&["max-age=60, max-age=10"], max_age(10)),
            (&["max-age=10", "max-age=60"], max_age(10)),
            (&["max-age=60,s-maxage=5"], Directives { s_maxage: Some(5), ..max_age(60) }),
            (&["No-Store"], no_store),
            (&["max-age=60", "no-store"], Directives { no_store: true, ..max_age(60) }),
            (&["foo=\"bar, no-store\", max-age=60"], max_age(60)),
            (&["foo=\"a\\\", no-store\", max-age=60"], max_age(60)),
            (&["foo=a\"b, no-store"], no_store),
            (&["max-age=60, foo=\"bar"], Directives { max_age: Some(60), ..unreadable }),
            (&["private=\"set-cookie\""], Directives { withholds: true, ..none }),
            (&["no-cache=\"a, b\", public"], Directives { withholds: true, public: true, ..none }),
            (&["no-cache=a"], Directives { withholds: true, ..none }),
            (&["private=\"a\", private"], Directives { withholds: true, private: true, ..none }),
            (&["private=\"\""], Directives { private: true, ..none }),
            (&["private=\"a b\""], Directives { private: true, ..none }),
            (&["private=\"Content-Encoding, a\""], Directives { private: true, ..none }),
            (&["no-cache=\"vary\""], Directives { no_cache: true, ..none }),
            (&["proxy-revalidate, immutable"], Directives { proxy_revalidate: true, immutable: true, ..none }),
            (
                &["stale-while-revalidate=9, stale-if-error=x"],
                Directives { while_revalidate: Some(9), if_error: Some(0), ..none },
            ),
            (
                &["only-if-cached, min-fresh=3, min-fresh=5"],
                Directives { only_if_cached: true, min_fresh: Some(5), ..none },
            ),
            (&["max-stale"], Directives { max_stale: Some(VERY_LONG), ..none }),
            (&["max-stale, max-stale=7"], Directives { max_stale: Some(7), ..none }),
            (&["max-stale=x"], Directives { max_stale: Some(0), ..none }),
            (&[" ,, must-revalidate ,"], Directives { must_revalidate: true, ..none }),
            (&["must-understand"], Directives { must_understand: true, ..none }),
            (&["no-storefront, xmax-age=3, unknown=7"], none),
        ];
        for (lines, expected) in cases {
            assert_eq!(read(lines), *expected, "{lines:?}");
        }
    }

    #[test]
    fn a_field_that_is_too_long_means_no_store() {
        assert!(read(&[&format!("max-age=60, x=\"{}\"", "a".repeat(MAX_BYTES))]).no_store);
    }
}
