//! `Cache-Control`, of requests and responses (RFC 9111 §5.2).
//!
//! 1. Names in any case; unknown directives are ignored (§5.2.3).
//! 2. Several lines are one list. A directive given twice counts in its most restrictive reading (§4.2.1).
//! 3. What stands inside a quoted string is no directive. A quote opens only directly after `=`; one that never
//!    closes could hide anything, so the whole field then means `no-store`.
//! 4. `private="a"` and `no-cache="a"` count as if they named no field, as §5.2.2.4 and §5.2.2.7 allow.
//! 5. A lifetime that is no number is 0: stale (§4.2.1).

use http::header::CACHE_CONTROL;
use http::{HeaderMap, HeaderValue};

use super::delta_seconds;

/// Bytes of `Cache-Control` that are read; a longer field means `no-store`.
pub const MAX_BYTES: usize = 8 * 1024;

/// What `Cache-Control` says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Directives {
    /// `no-store` (§5.2.1.5, §5.2.2.5).
    pub no_store: bool,
    /// `no-cache` (§5.2.2.4).
    pub no_cache: bool,
    /// `private` (§5.2.2.7).
    pub private: bool,
    /// `public` (§5.2.2.9).
    pub public: bool,
    /// `must-revalidate` (§5.2.2.2).
    pub must_revalidate: bool,
    /// `must-understand` (§5.2.2.3).
    pub must_understand: bool,
    /// `max-age`, in seconds (§5.2.2.1).
    pub max_age: Option<u32>,
    /// `s-maxage`, in seconds (§5.2.2.10).
    pub s_maxage: Option<u32>,
}

/// Reads all `Cache-Control` lines of `head`.
pub fn directives(head: &HeaderMap) -> Directives {
    let mut found = Directives::default();
    let mut left = MAX_BYTES;
    for line in head.get_all(CACHE_CONTROL) {
        let read = line.len() <= left && read_line(line, &mut found);
        if !read {
            found.no_store = true;
            return found;
        }
        left -= line.len();
    }
    found
}

/// False if a quoted string does not end.
fn read_line(line: &HeaderValue, found: &mut Directives) -> bool {
    let mut rest = line.as_bytes();
    while !rest.is_empty() {
        let Some(end) = member_end(rest) else { return false };
        read_member(rest[..end].trim_ascii(), found);
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

fn read_member(member: &[u8], found: &mut Directives) {
    let (name, value) = match member.iter().position(|byte| *byte == b'=') {
        Some(at) => (member[..at].trim_ascii_end(), Some(&member[at + 1..])),
        None => (member, None),
    };
    let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
    let shortest = |so_far: Option<u32>| {
        let seconds = value.and_then(delta_seconds).unwrap_or(0);
        Some(so_far.map_or(seconds, |so_far| so_far.min(seconds)))
    };
    if is("max-age") {
        found.max_age = shortest(found.max_age);
    } else if is("s-maxage") {
        found.s_maxage = shortest(found.s_maxage);
    } else if is("no-store") {
        found.no_store = true;
    } else if is("no-cache") {
        found.no_cache = true;
    } else if is("private") {
        found.private = true;
    } else if is("public") {
        found.public = true;
    } else if is("must-revalidate") {
        found.must_revalidate = true;
    } else if is("must-understand") {
        found.must_understand = true;
    }
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
            (&["max-age=60, foo=\"bar"], Directives { no_store: true, ..max_age(60) }),
            (&["private=\"set-cookie\""], Directives { private: true, ..none }),
            (&["no-cache=\"a, b\", public"], Directives { no_cache: true, public: true, ..none }),
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
