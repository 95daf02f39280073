//! What h2 lets through in a request's head, and RFC 9113 does not. Pure.
//!
//! 1. A path begins with `/`, or is `*` alone with OPTIONS; it holds no control character (§8.3.1).
//! 2. A name is a token, which `"` is not part of; a value neither begins nor ends with white space (§8.2.1).
//! 3. There is one Content-Length at most, of 1 to 19 digits (§8.1.1).
//! 4. There are as many fields as the configuration allows: else 431.
//!
//! h2 has seen to the rest by now: names in lower case, no control characters in values, no connection-specific fields,
//! pseudo-fields once, first, known and not empty. What a request means (authority, Host, CONNECT) is judged in `target`,
//! for HTTP/1 as well.
//!
//! # Why
//! A malformed request is an error of its stream (§8.1.1): answering it would say that it was understood.

use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::request::Parts;
use http::{Method, Uri};

/// Why a request is not passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is malformed: PROTOCOL_ERROR on its stream.
    Malformed(&'static str),
    /// It has too many fields: 431.
    FieldsTooMany,
}

/// The length that a request announces, if its head is sound.
///
/// # Errors
/// Why it is not.
pub fn announced(head: &Parts, most_fields: usize) -> Result<Option<u64>, Refusal> {
    if head.method != Method::CONNECT && !is_path(&head.uri, &head.method) {
        return Err(Refusal::Malformed("path"));
    }
    if head.headers.len() > most_fields {
        return Err(Refusal::FieldsTooMany);
    }
    for (name, value) in &head.headers {
        if name.as_str().contains('"') {
            return Err(Refusal::Malformed("name"));
        }
        if !is_trimmed(value) {
            return Err(Refusal::Malformed("white space around a value"));
        }
    }
    content_length(&head.headers)
}

fn is_path(uri: &Uri, method: &Method) -> bool {
    let path = uri.path_and_query().map_or("", |path| path.as_str());
    let asterisk = path == "*" && method == Method::OPTIONS;
    (path.starts_with('/') || asterisk) && !path.bytes().any(|byte| byte.is_ascii_control())
}

fn is_trimmed(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    !blank(bytes.first()) && !blank(bytes.last())
}

fn content_length(fields: &HeaderMap) -> Result<Option<u64>, Refusal> {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    let Some(length) = lengths.next() else { return Ok(None) };
    if lengths.next().is_some() {
        return Err(Refusal::Malformed("repeated Content-Length"));
    }
    let digits = length.as_bytes();
    let sound = (1..=19).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit);
    let number = length.to_str().ok().filter(|_| sound).and_then(|digits| digits.parse().ok());
    number.map(Some).ok_or(Refusal::Malformed("Content-Length"))
}

#[cfg(test)]
mod tests {
    use http::Request;
    use http::header::HeaderName;

    use super::*;

    fn verdict(method: &str, uri: &str, fields: &[(&'static str, &'static str)]) -> Result<Option<u64>, Refusal> {
        let mut request = Request::builder().method(method).uri(uri);
        for (name, value) in fields {
            // As h2 makes them.
            request = request.header(HeaderName::from_lowercase(name.as_bytes()).expect("a test name"), *value);
        }
        announced(&request.body(()).expect("a test request").into_parts().0, 3)
    }

    #[test]
    fn sound_heads_pass_with_their_length() {
        assert_eq!(verdict("GET", "http://a/", &[]), Ok(None));
        assert_eq!(verdict("OPTIONS", "*", &[("x", "a b")]), Ok(None));
        assert_eq!(verdict("POST", "http://a/?q", &[("content-length", "007"), ("x", "")]), Ok(Some(7)));
        assert_eq!(verdict("CONNECT", "a:1", &[]), Ok(None));
    }

    #[test]
    fn what_is_malformed_is_refused() {
        for (method, uri, fields) in [
            ("GET", "*", &[][..]),
            ("GET", "http://a?q", &[]),
            ("GET", "http://a/", &[("x", " a")]),
            ("GET", "http://a/", &[("x", "a\t")]),
            ("GET", "http://a/", &[("x\"", "a")]),
            ("GET", "http://a/", &[("content-length", "")]),
            ("GET", "http://a/", &[("content-length", "+1")]),
            ("GET", "http://a/", &[("content-length", "1,1")]),
            ("GET", "http://a/", &[("content-length", "1"), ("content-length", "1")]),
            ("GET", "http://a/", &[("content-length", "99999999999999999999")]),
        ] {
            assert!(matches!(verdict(method, uri, fields), Err(Refusal::Malformed(_))), "{method} {uri} {fields:?}");
        }
        assert_eq!(verdict("GET", "http://a/", &[("x", ""); 4]), Err(Refusal::FieldsTooMany));
    }
}
