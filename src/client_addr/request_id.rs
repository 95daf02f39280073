//! What a request is called in logs, in the app and toward the client (`X-Request-Id`).
//!
//! 1. A trusted proxy's name for it is kept if it is one value of 1 to 128 visible ASCII characters.
//! 2. Everybody else's has the new one that `telemetry` gave it on arrival.

use http::{HeaderMap, HeaderName, HeaderValue};

/// The field that carries it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The identifier that a trusted proxy sent, if it is one that we can use.
pub fn received(fields: &HeaderMap) -> Option<HeaderValue> {
    let mut values = fields.get_all(X_REQUEST_ID).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let sane = (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    sane.then(|| value.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_sane_received_identifier_is_kept() {
        let mut fields = HeaderMap::new();
        assert_eq!(received(&fields), None);
        for (text, kept) in [("abc-1", true), ("", false), ("a b", false), (&"x".repeat(129), false), ("\u{e9}", false)]
        {
            fields.insert(X_REQUEST_ID, HeaderValue::from_bytes(text.as_bytes()).unwrap());
            assert_eq!(received(&fields).is_some(), kept, "{text}");
        }
        fields.insert(X_REQUEST_ID, HeaderValue::from_static("a"));
        fields.append(X_REQUEST_ID, HeaderValue::from_static("b"));
        assert_eq!(received(&fields), None);
    }
}
