//! Whether a POST is a read, where the policy says that POST reads (`post_body`). Pure.
//!
//! Whatever is not surely a read is a write: it passes the store by, and invalidates. To take back too much costs a miss.
//!
//! 1. By its head: a POST with `Content-Encoding` (nobody looks into that here), with a condition or a `Range` (RFC 9110
//!    §13, §14.2: they mean something else to POST), with `Trailer`, that names another method, or of `multipart/*` or
//!    `application/grpc*`, is a write.
//! 2. By its content: JSON is an object, or an array of such (GraphQL batches). An object whose `query` is a text with
//!    the word `mutation` or `subscription` in it is a write, as is one that names a stored document instead of bringing
//!    it, or another method. JSON that does not parse, and any other value, is a write.
//! 3. Content of other types is a write if it has one of these words in it, as sent or percent-decoded, or one that may be
//!    escaped (`\\u`).
//! 4. So is whatever has one of these words in its query: GraphQL servers look there first.
//!
//! # Why
//! Rule 2 asks for the word anywhere, not at the beginning: a document may hold several operations, fragments and comments
//! before the mutation, and `operationName` chooses. A name is never escaped in GraphQL, so no mutation lacks the word. All
//! members are looked at, in any case and however often they stand there: parsers differ in which they believe.

use std::borrow::Cow;
use std::fmt;

use http::header::{
    CONTENT_ENCODING, CONTENT_TYPE, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE, RANGE,
    TRAILER, UPGRADE,
};
use http::{HeaderMap, HeaderName};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Fields with which a POST is a write.
const TELLING: [HeaderName; 12] = [
    CONTENT_ENCODING,
    IF_MATCH,
    IF_MODIFIED_SINCE,
    IF_NONE_MATCH,
    IF_RANGE,
    IF_UNMODIFIED_SINCE,
    RANGE,
    TRAILER,
    UPGRADE,
    HeaderName::from_static("x-http-method"),
    HeaderName::from_static("x-http-method-override"),
    HeaderName::from_static("x-method-override"),
];
/// Words of a document that writes.
const WRITING: [&[u8]; 2] = [b"mutation", b"subscription"];
/// Members that name a stored document, in lower case.
const STORED: [&str; 5] = ["operationid", "documentid", "doc_id", "queryid", "query_id"];
/// Members that stand beside a document: without one they name a stored one.
const BESIDE: [&str; 3] = ["operationname", "extensions", "variables"];
/// Says another method, in forms and in JSON.
const METHOD: &str = "_method";

/// Rule 1: whether its content is worth reading.
pub fn may_be_read(head: &HeaderMap) -> bool {
    let types = [&b"multipart/"[..], b"application/grpc"];
    let of_type = |start: &&[u8]| {
        head.get_all(CONTENT_TYPE)
            .iter()
            .any(|value| value.as_bytes().get(..start.len()).is_some_and(|begins| begins.eq_ignore_ascii_case(start)))
    };
    !TELLING.iter().any(|name| head.contains_key(name))
        && !types.iter().any(of_type)
        && head.get_all(CONTENT_TYPE).iter().nth(1).is_none()
}

/// Rules 2 to 4, of all of its content.
pub fn is_read(query: Option<&str>, head: &HeaderMap, content: &[u8]) -> bool {
    if query.is_some_and(|query| says_a_write(query.as_bytes())) {
        return false;
    }
    if is_json(head) {
        serde_json::from_slice::<Operations>(content).is_ok_and(|operations| operations.all_read)
    } else {
        !says_a_write(content)
    }
}

fn is_json(head: &HeaderMap) -> bool {
    let Some(value) = head.get(CONTENT_TYPE) else { return false };
    let essence = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let ends_so =
        |end: &[u8]| essence.len() >= end.len() && essence[essence.len() - end.len()..].eq_ignore_ascii_case(end);
    ends_so(b"/json") || ends_so(b"+json")
}

/// Rule 3.
fn says_a_write(text: &[u8]) -> bool {
    let says = |text: &[u8]| {
        let folded = text.to_ascii_lowercase();
        let named = STORED.iter().chain(&BESIDE).chain(&[METHOD]).map(|name| name.as_bytes());
        // What is escaped as in JSON, or is of two bytes a character, could be any word.
        folded.contains(&0)
            || folded.windows(2).any(|two| two == b"\\u")
            || WRITING.into_iter().chain(named).any(|word| has_word(&folded, word))
    };
    says(text) || says(&percent_decoded(text))
}

/// Whether `word` stands in `text` with nothing around it that could be of the same name.
fn has_word(text: &[u8], word: &[u8]) -> bool {
    let is_of_name = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    text.windows(word.len()).enumerate().any(|(at, window)| {
        window == word
            && !is_of_name(at.checked_sub(1).and_then(|before| text.get(before)))
            && !is_of_name(text.get(at + word.len()))
    })
}

fn percent_decoded(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'%') {
        return text.into();
    }
    let digit = |at: usize| text.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let (mut decoded, mut at) = (Vec::with_capacity(text.len()), 0);
    while let Some(byte) = text.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                decoded.push((high * 16 + low) as u8);
                at += 3;
            }
            _ => {
                decoded.push(*byte);
                at += 1;
            }
        }
    }
    decoded.into()
}

/// An operation, or a list of them.
struct Operations {
    all_read: bool,
}

struct Reading;

impl<'de> Deserialize<'de> for Operations {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Reading)
    }
}

impl<'de> Visitor<'de> for Reading {
    type Value = Operations;

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("an object, or an array of objects")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Operations, A::Error> {
        let mut all_read = true;
        while let Some(operations) = list.next_element::<Operations>()? {
            all_read &= operations.all_read;
        }
        Ok(Operations { all_read })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Operations, A::Error> {
        let (mut brings, mut names, mut writes) = (false, false, false);
        while let Some(mut name) = members.next_key::<String>()? {
            name.make_ascii_lowercase();
            if name != "query" {
                names |= BESIDE.contains(&&*name);
                writes |= name == METHOD || STORED.contains(&&*name);
                members.next_value::<IgnoredAny>()?;
                continue;
            }
            match members.next_value::<serde_json::Value>()? {
                serde_json::Value::String(document) => {
                    let document = document.to_ascii_lowercase();
                    brings = true;
                    writes |= WRITING.iter().any(|word| has_word(document.as_bytes(), word));
                }
                serde_json::Value::Null => {}
                // A search in a language of its own.
                _ => brings = true,
            }
        }
        Ok(Operations { all_read: !writes && (brings || !names) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn head(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut head = HeaderMap::new();
        for (name, value) in lines {
            head.append(*name, HeaderValue::from_static(value));
        }
        head
    }

    #[test]
    fn a_head_that_means_more_than_a_query_is_that_of_a_write() {
        for (lines, expected) in [
            (&[][..], true),
            (&[("content-type", "application/json")], true),
            (&[("content-type", "Application/gRPC-web+proto")], false),
            (&[("content-type", "Multipart/Form-Data; boundary=x")], false),
            (&[("content-encoding", "gzip")], false),
            (&[("if-none-match", "*")], false),
            (&[("if-modified-since", "x")], false),
            (&[("range", "bytes=0-1")], false),
            (&[("trailer", "x")], false),
            (&[("content-type", "a/b"), ("content-type", "a/b")], false),
            (&[("x-http-method-override", "DELETE")], false),
        ] {
            assert_eq!(may_be_read(&head(lines)), expected, "{lines:?}");
        }
    }

    #[test]
    fn json_is_a_read_unless_an_operation_may_write() {
        for (content, expected) in [
            (r#"{"query":"{ users { id } }"}"#, true),
            (
                r#"{"query":"query Q { permutations(mutations: 3) }","operationName":"Q","variables":{"a":"mutation"}}"#,
                true,
            ),
            (r#"[{"query":"{a}"},{"query":"{b}"}]"#, true),
            (r#"{"query":{"match":{"title":"x"}},"size":3}"#, true),
            (r#"{"text":"mutation"}"#, true),
            (r#"[]"#, true),
            (r#"{"query":"mutation { a }"}"#, false),
            (r#"{"query":"\n # a comment\n , Mutation{a}"}"#, false),
            (r#"{"query":"\u006dutation{a}"}"#, false),
            (r#"{"query":"fragment F on U { id } mutation M { a { ...F } }","operationName":"M"}"#, false),
            (r#"{"query":"subscription { a }"}"#, false),
            (r#"[{"query":"{a}"},{"query":"mutation{b}"}]"#, false),
            (r#"{"query":"mutation{a}","query":"{a}"}"#, false),
            (r#"{"query":"{a}","Query":"mutation{a}"}"#, false),
            (r#"{"extensions":{"persistedQuery":{"sha256Hash":"x"}}}"#, false),
            (r#"{"query":"{a}","documentId":"x"}"#, false),
            (r#"{"id":"x","variables":{}}"#, false),
            (r#"{"query":null,"variables":{}}"#, false),
            (r#"{"operationName":"Delete"}"#, false),
            (r#"{"_method":"DELETE"}"#, false),
            (r#""query""#, false),
            (r#"{"query":"{a}"} {"query":"mutation{a}"}"#, false),
            (r#"{"query":"{a}",}"#, false),
            ("", false),
            ("\u{feff}{}", false),
        ] {
            for of_type in ["application/json; charset=utf-8", "APPLICATION/JSON", "application/graphql+json"] {
                assert_eq!(
                    is_read(None, &head(&[("content-type", of_type)]), content.as_bytes()),
                    expected,
                    "{content}"
                );
            }
        }
        assert!(!is_read(None, &head(&[("content-type", "application/json")]), "[".repeat(10_000).as_bytes()));
    }

    #[test]
    fn other_content_is_a_read_unless_it_has_the_word_in_it() {
        for (content, expected) in [
            ("{ users }", true),
            ("q=shoes&page=2", true),
            ("q=permutations", true),
            ("query=%7Ba%7D", true),
            ("query=%7Ba%7D&documentId=A", false),
            (r#"{"query":"\u006dutation{a}"}"#, false),
            ("mutation { a }", false),
            ("query=%6Dutation%7Ba%7D", false),
            ("a=1&_method=DELETE", false),
            ("extensions=%7B%22persistedQuery%22%7D", false),
            ("m\0u\0t\0a\0t\0i\0o\0n\0", false),
        ] {
            assert_eq!(is_read(None, &head(&[]), content.as_bytes()), expected, "{content}");
        }
    }

    #[test]
    fn what_the_query_says_counts() {
        let read = |query| is_read(Some(query), &head(&[]), b"{a}");
        assert!(read("page=2") && read("query={a}"));
        assert!(!read("query=mutation{a}") && !read("query=%6dutation{a}") && !read("_method=PUT"));
    }
}
