//! The API key that a request presents, and the name of its record. Pure.
//!
//! 1. One value makes a key; none, an empty one or several make none.
//! 2. A key that could not be one is told apart, so that nobody has to be asked about it.
//! 3. The record's name is the configured text, with the key or its digest in the place that it says.
//!
//! # Why
//! The bytes of a key become part of a Redis key. Whatever they are, that key begins as the configuration says: only what
//! the operator keeps under that beginning can be reached. Their number is bounded, and so is what is remembered of each.

use std::borrow::Cow;

use http::Request;

use crate::body::Body;
use crate::rate_limit::partition::{Part, cookies, only, parameters};
use crate::redis_pool::key::push_sha256;

/// Bytes of an API key, at most.
const LONGEST: usize = 256;

/// What a request presents.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented<'r> {
    /// No API key.
    Nothing,
    /// What can be none.
    Impossible,
    /// What may be one.
    Key(Cow<'r, [u8]>),
}

/// How the names of records are made: `[plan.NAME] record`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    before: Box<str>,
    /// The digest stands there, not the key.
    digest: bool,
    after: Box<str>,
}

/// What stands in `part` of the request, if API keys may stand there.
pub fn presented<'r>(part: &Part, request: &'r Request<Body>) -> Presented<'r> {
    let fields = request.headers();
    let value = match part {
        Part::Header(name) => only(fields.get_all(name).iter().map(|value| Cow::Borrowed(value.as_bytes()))),
        Part::Cookie(name) => only(cookies(fields, name).map(Cow::Borrowed)),
        Part::Query(name) => only(parameters(request.uri().query().unwrap_or_default(), name)),
        _ => None,
    };
    match value {
        None => Presented::Nothing,
        Some(value) if value.is_empty() => Presented::Nothing,
        Some(value) if is_possible(&value) => Presented::Key(value),
        Some(_) => Presented::Impossible,
    }
}

/// Whether `value` can be an API key (rule 2).
pub(super) fn is_possible(value: &[u8]) -> bool {
    (1..=LONGEST).contains(&value.len()) && !value.iter().any(u8::is_ascii_control)
}

impl Name {
    /// Names as `text` says: with `{key}` or `{sha256}` in it, once. Without either, all are that text.
    pub fn new(text: &str) -> Self {
        let [key, digest] = ["{key}", "{sha256}"].map(|name| text.split_once(name));
        let (before, after) = key.or(digest).unwrap_or((text, ""));
        Self { before: before.into(), digest: digest.is_some(), after: after.into() }
    }

    /// What they all begin with.
    pub fn beginning(&self) -> &str {
        &self.before
    }

    /// Writes the name of the record of `key`, over what is there.
    pub fn write(&self, key: &[u8], out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.before.as_bytes());
        if self.digest {
            push_sha256(out, key)
        } else {
            out.extend_from_slice(key)
        }
        out.extend_from_slice(self.after.as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::trial::exchange;

    fn of<'r>(part: &str, request: &'r Request<Body>) -> Presented<'r> {
        presented(&Part::parse(part).unwrap(), request)
    }

    fn key(text: &str) -> Presented<'_> {
        Presented::Key(Cow::Borrowed(text.as_bytes()))
    }

    #[test]
    fn one_value_is_a_key_wherever_it_stands() {
        let fields = [("x-key", "abc"), ("cookie", "a=b; k=abc")];
        let request = exchange("GET", "/?a=1&api%5Fkey=ab%63", "192.0.2.1", &fields).request;
        for part in ["header:x-key", "cookie:k", "query:api_key"] {
            assert_eq!(of(part, &request), key("abc"), "{part}");
        }
        for part in ["header:other", "cookie:kk", "query:key"] {
            assert_eq!(of(part, &request), Presented::Nothing, "{part}");
        }
    }

    #[test]
    fn several_values_are_none_even_if_they_are_the_same() {
        let fields = [("x-key", "abc"), ("x-key", "abc"), ("cookie", "k=abc"), ("cookie", "k=abd"), ("x-none", "")];
        let request = exchange("GET", "/?k=a&%6b=a&none=", "192.0.2.1", &fields).request;
        for part in ["header:x-key", "cookie:k", "query:k", "header:x-none", "query:none"] {
            assert_eq!(of(part, &request), Presented::Nothing, "{part}");
        }
    }

    #[test]
    fn what_can_be_no_key_is_told_without_a_question() {
        let (longest, longer) = ("k".repeat(LONGEST), "k".repeat(LONGEST + 1));
        let uri = format!("/?longest={longest}&longer={longer}&control=a%0Db&nul=%00&high=%ff");
        let request = exchange("GET", &uri, "192.0.2.1", &[("x-key", "a\tb")]).request;
        for part in ["query:longer", "query:control", "query:nul", "header:x-key"] {
            assert_eq!(of(part, &request), Presented::Impossible, "{part}");
        }
        assert_eq!(of("query:longest", &request), key(&longest));
        assert_eq!(of("query:high", &request), Presented::Key(Cow::Borrowed(&[0xff])));
    }

    #[test]
    fn a_record_is_named_by_the_key_or_by_its_whole_digest() {
        let name = |text: &str| {
            let mut out = b"what was there".to_vec();
            Name::new(text).write(b"abc", &mut out);
            String::from_utf8(out).unwrap()
        };
        assert_eq!(name("sidegate:plan:{key}"), "sidegate:plan:abc");
        assert_eq!(name("customer:{key}:plan"), "customer:abc:plan");
        // FIPS 180-2, appendix B.1.
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(name("p:{sha256}"), format!("p:{digest}"));
        assert_eq!(Name::new("customer:{sha256}:plan").beginning(), "customer:");
    }
}
