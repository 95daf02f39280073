//! Which content shrinks when it is compressed. Pure.
//!
//! 1. Text, and what is made of text: decided by `Content-Type` alone, its parameters and case aside.
//! 2. Formats that are compressed in themselves (images, video, `font/woff2`) are not in the list, nor is what is unknown.

use http::HeaderMap;
use http::header::CONTENT_TYPE;

/// Formats that are binary and shrink all the same, or text under another name.
const TYPES: [&str; 8] = [
    "application/json",
    "application/javascript",
    "application/xml",
    "application/wasm",
    "application/x-ndjson",
    "application/vnd.ms-fontobject",
    "image/bmp",
    "font/ttf",
];

/// Whether the content is of a type that is text, or made of text.
pub fn is_text(head: &HeaderMap) -> bool {
    let Some(kind) = media_type(head) else { return false };
    let ends_in =
        |suffix: &[u8]| kind.len() >= suffix.len() && kind[kind.len() - suffix.len()..].eq_ignore_ascii_case(suffix);
    kind.get(..5).is_some_and(|start| start.eq_ignore_ascii_case(b"text/"))
        || ends_in(b"+json")
        || ends_in(b"+xml")
        || TYPES.iter().any(|listed| kind.eq_ignore_ascii_case(listed.as_bytes()))
}

/// Whether the content is a stream of events, which has no end to wait for.
pub fn is_event_stream(head: &HeaderMap) -> bool {
    media_type(head).is_some_and(|kind| kind.eq_ignore_ascii_case(b"text/event-stream"))
}

/// `Content-Type` without its parameters (RFC 9110 §8.3.1).
fn media_type(head: &HeaderMap) -> Option<&[u8]> {
    let value = head.get(CONTENT_TYPE)?.as_bytes();
    value.split(|byte| *byte == b';').next().map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn head(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    #[test]
    fn text_is_known_by_its_type() {
        for kind in
            ["text/html; charset=utf-8", "TEXT/css", "application/json", "application/hal+JSON", "image/svg+xml"]
        {
            assert!(is_text(&head(kind)), "{kind}");
        }
        for kind in ["image/png", "video/mp4", "application/octet-stream", "font/woff2", "", "text", "json"] {
            assert!(!is_text(&head(kind)), "{kind}");
        }
        assert!(!is_text(&HeaderMap::new()));
    }

    #[test]
    fn an_event_stream_is_known_by_its_type() {
        assert!(is_event_stream(&head("Text/Event-Stream; charset=utf-8")));
        assert!(!is_event_stream(&head("text/event-streams")) && !is_event_stream(&HeaderMap::new()));
    }
}
