//! What a request is called in logs, in the app and toward the client (`X-Request-Id`).
//!
//! 1. A trusted proxy's name for it is kept if it is one value of 1 to 128 visible ASCII characters.
//! 2. Everybody else gets a new one: 128 random bits as 32 hexadecimal digits. It is unique, not secret.

use std::cell::RefCell;

use fastrand::Rng;
use http::{HeaderMap, HeaderName, HeaderValue};

/// The field that carries it.
pub const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

thread_local! {
    // Each generator has 64 bits of state: two of them, seeded apart, make 128 bits mean what they say.
    static GENERATORS: RefCell<[Rng; 2]> = RefCell::new([seeded(), seeded()]);
}

/// The identifier that a trusted proxy sent, if it is one that we can use.
pub fn received(fields: &HeaderMap) -> Option<HeaderValue> {
    let mut values = fields.get_all(X_REQUEST_ID).iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    let sane = (1..=128).contains(&value.len()) && value.as_bytes().iter().all(u8::is_ascii_graphic);
    sane.then(|| value.clone())
}

/// A new identifier.
pub fn fresh() -> HeaderValue {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let halves = GENERATORS.with_borrow_mut(|[high, low]| [high.u64(..), low.u64(..)]);
    let mut text = [0; 32];
    for (at, digit) in text.iter_mut().enumerate() {
        *digit = DIGITS[(halves[at / 16] >> (60 - 4 * (at % 16)) & 15) as usize];
    }
    // Hexadecimal digits always are a field value.
    HeaderValue::from_bytes(&text).unwrap_or_else(|_| HeaderValue::from_static("0"))
}

/// Seeded by the operating system; should it refuse, by fastrand itself (time and thread).
fn seeded() -> Rng {
    let mut seed = [0; 8];
    match getrandom::fill(&mut seed) {
        Ok(()) => Rng::with_seed(u64::from_ne_bytes(seed)),
        Err(_) => Rng::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fresh_identifiers_are_32_digits_and_differ() {
        let (one, other) = (fresh(), fresh());
        assert_ne!(one, other);
        assert!(one.len() == 32 && one.as_bytes().iter().all(u8::is_ascii_hexdigit), "{one:?}");
    }

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
