//! Where a credential's name is met in a Cookie line and in a query. Pure.
//!
//! 1. Under the name itself, or under what some app takes for it (rules 2 and 3 of `exchange::spelling`).
//! 2. A Cookie line is also searched: `NAME=` makes a cookie wherever it stands, unless the byte before could be of a longer name.
//!    So `a=b session=…` has one, and `other-session=…`, `?session=…` and `&session=…` in a value have none.
//! 3. A query is split at `&`, and again at `;`.
//!
//! # Why
//! Rule 2: Python's `http.cookies`, aiohttp and WebOb look for the next thing that looks like a cookie, and begin again at white
//! space, at a comma, after a quoted text, or (WebOb) at any byte that they do not know. Where such a cookie would end differs
//! among them, so it has no value here.
//!
//! Rule 3: Python before 3.10, Rack before 3 and Perl's CGI split at `;`.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter};

use crate::exchange::spelling::{as_variable, is_parameter_read_as, is_read_as};
use crate::rate_limit::partition::decoded;

/// A credential's name, met in a request, and what stands under it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Met<'a> {
    /// Under the name itself.
    Own(Cow<'a, [u8]>),
    /// Under what some app takes for it.
    Alias(Cow<'a, [u8]>),
    /// A cookie that some app may find within another; nobody knows where it ends.
    Within,
}

/// Where `name` is met in a Cookie line (rules 1 and 2). White space around a value is no part of it (RFC 6265 §5.4).
pub fn cookies<'a>(line: &'a [u8], name: &[u8]) -> impl Iterator<Item = Met<'a>> {
    let mut rest = Some(line);
    let pairs = std::iter::from_fn(move || {
        let text = rest?;
        let (pair, further) = match memchr(b';', text) {
            Some(end) => (&text[..end], Some(&text[end + 1..])),
            None => (text, None),
        };
        rest = further;
        Some(pair)
    });
    pairs.flat_map(move |pair| {
        let (sent, value) = match memchr(b'=', pair) {
            Some(equals) => (&pair[..equals], &pair[equals + 1..]),
            None => (pair, &b""[..]),
        };
        let value = || Cow::Borrowed(value.trim_ascii());
        let met = match sent.trim_ascii() == name {
            true => Some(Met::Own(value())),
            false => is_read_as(name, sent).then(|| Met::Alias(value())),
        };
        let start = pair.iter().position(u8::is_ascii_graphic).unwrap_or(pair.len());
        let within =
            memchr_iter(b'=', pair).any(|equals| ends_within(pair.get(start..equals).unwrap_or_default(), name));
        met.into_iter().chain(within.then_some(Met::Within))
    })
}

/// Where `name` is met in a query (rules 1 and 3).
pub fn parameters<'a>(query: &'a str, name: &str) -> impl Iterator<Item = Met<'a>> {
    query.split('&').flat_map(move |pair| {
        let (sent, value) = split(pair);
        let own = *decoded(sent) == *name.as_bytes();
        let aliases = pair.split(';').skip(usize::from(own)).filter_map(move |piece| {
            let (sent, value) = split(piece);
            is_parameter_read_as(name.as_bytes(), sent.as_bytes()).then(|| Met::Alias(decoded(value)))
        });
        own.then(|| Met::Own(decoded(value))).into_iter().chain(aliases)
    })
}

fn split(pair: &str) -> (&str, &str) {
    match memchr(b'=', pair.as_bytes()) {
        Some(equals) => (&pair[..equals], &pair[equals + 1..]),
        None => (pair, ""),
    }
}

/// Rule 2: whether `text`, from its pair's first visible byte up to an `=`, ends in `name`, after something that is no name.
fn ends_within(text: &[u8], name: &[u8]) -> bool {
    let end = text.iter().rposition(u8::is_ascii_graphic).map_or(0, |last| last + 1);
    let Some(start) = end.checked_sub(name.len()) else { return false };
    let Some(before) = start.checked_sub(1) else { return false };
    let alike = |(sent, own): (&u8, &u8)| as_variable(*sent) == as_variable(*own);
    text[start..end].iter().rev().zip(name.iter().rev()).all(alike) && !is_of_a_name(text[before])
}

/// What WebOb, the least particular, takes for part of a name; others stop at more, but begin again only at some of these.
fn is_of_a_name(byte: u8) -> bool {
    byte.is_ascii_graphic() && !matches!(byte, b'"' | b',' | b';' | b'[' | b']' | b'\\')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn met(line: &str, name: &str) -> String {
        let words = cookies(line.as_bytes(), name.as_bytes()).map(|met| match met {
            Met::Own(value) => format!("own {}", String::from_utf8_lossy(&value)),
            Met::Alias(value) => format!("alias {}", String::from_utf8_lossy(&value)),
            Met::Within => "within".to_owned(),
        });
        words.collect::<Vec<_>>().join(", ")
    }

    #[test]
    fn what_parsers_that_search_find_in_a_cookie_line() {
        for (line, found) in [
            ("session=A", "own A"),
            ("a=1; session = A ;b", "own A"),
            ("session; session=A", "own , own A"),
            ("session[]; session=A", "alias , own A"),
            ("a=b session=B; session=A", "within, own A"),
            ("a=b\tsession=B", "within"),
            ("a=b\u{b}session=B", "within"),
            ("a=b\u{a0}session=B", "within"),
            ("a=b,session=B", "within"),
            ("a=b, session =B", "within"),
            ("a, session=B", "within"),
            ("a=\"b\"session=B", "within"),
            ("a=\"session=B\"", "within"),
            (",session=B; session=A", "within, own A"),
            ("[session=B; session=A", "alias B, within, own A"),
            ("a=b]session=B", "within"),
            ("\\session=B", "within"),
            ("$Version=1; a=b, session=B; session=A", "within, own A"),
            ("session=A session=B", "own A session=B, within"),
            ("session=A, b=c", "own A, b=c"),
        ] {
            assert_eq!(met(line, "session"), found, "{line:?}");
        }
        assert_eq!(met("a=b my.session=B", "my_session"), "within");
    }

    #[test]
    fn what_browsers_send_has_no_cookie_within_another() {
        for line in [
            "_ga=GA1.2.1234567890.1700000000; _gid=GA1.2.1.2; _ga_ABCDEF=GS1.1.1700000000.1.1.1700000001.0.0.0",
            "OptanonConsent=isGpcEnabled=0&datestamp=Fri Nov 21 2025 10:00:00 GMT+0100 (CET)&session=1&groups=C0001:1",
            "prefs={\"session\":\"x\",\"theme\":\"dark\"}; back=/login?session=abc&x=1",
            "othersession=B; my-session=B; my_session=B; session2=B; x.session=B; $session=B; Session=B; SESSION=B",
            "a=othersession=B; b=my-session=B; c=1 othersession=B, xsession=B",
            "a=sessions=B; a=session; a=session b=c; a= session",
            "token=ZXlKaGJHY2lPaUpJVXpJMU5pSjk==; euconsent=CPz=; =session; ==; ;;; ",
        ] {
            assert_eq!(met(line, "session"), "", "{line}");
        }
    }

    #[test]
    fn what_apps_find_in_a_query() {
        let met = |query: &str| parameters(query, "token").map(|met| format!("{met:?}")).collect::<Vec<_>>().len();
        for query in [
            "token=A",
            "%20token=A",
            "+token=A",
            "a=1;token=A",
            "token%00x=A",
            "token[]",
            "[token]=A",
            "a=1;;%74oken;",
            "?token=A",
            "a=1&#token",
            ".token",
            "a;?.token",
        ] {
            assert_eq!(met(query), 1, "{query}");
        }
        for query in [
            "",
            "tokens=A",
            "xtoken=A",
            "a=token=A",
            "Token=A",
            "a=1;xtoken=A",
            "token-=A",
            "a token=A",
            "a?token=A",
            "a.token=A",
        ] {
            assert_eq!(met(query), 0, "{query}");
        }
        assert_eq!(met("token=A;token=B&token=C"), 3);
    }

    proptest! {
        /// Python's and WebOb's own rule, word for word: something that is no name, then the name, then `=`.
        #[test]
        fn no_place_of_the_name_is_overlooked(before in "[ -~\t]{0,12}", boundary in "[ \t,;\"\\[\\]\\\\]", after in "[ -~]{0,12}") {
            let line = format!("{before}{boundary}sid=B{after}; sid=A");
            let found: Vec<Met<'_>> = cookies(line.as_bytes(), b"sid").collect();
            prop_assert!(found.len() > 1, "{line}: {found:?}");
        }

        #[test]
        fn what_ends_a_longer_name_is_none(before in "[a-zA-Z0-9_.!#$%&'*+^`|~-]", value in "[a-z0-9]{0,5}") {
            let line = format!("x=1; y{before}sid={value}; z=w{before}sid={value}");
            prop_assert_eq!(cookies(line.as_bytes(), b"sid").next(), None, "{}", line);
        }
    }
}
