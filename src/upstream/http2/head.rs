//! What h2 lets through in an answer's head, and RFC 9113 does not. Pure.
//!
//! 1. Its status is 200 to 999; 101 has no meaning here (§8.6).
//! 2. A value neither begins nor ends with white space (§8.2.1).
//! 3. There is one Content-Length at most, of 1 to 19 digits; h2 has seen to it that it is kept.
//! 4. There are as many fields as the configuration allows.
//! 5. Answers to HEAD, and 204 and 304, have no content: what comes all the same is not waited for.

use http::StatusCode;
use http::header::{CONTENT_LENGTH, HeaderMap, HeaderValue};
use http::response::Parts;

use crate::exchange::Orders;
use crate::upstream::forward::NoAnswer;
use crate::upstream::hop;
use crate::upstream::http1::{Bounds, Framing, Head, content_length};

/// The head of a final answer. `to_head`: it answers a HEAD; `whole`: nothing follows it.
///
/// # Errors
/// [`NoAnswer::Malformed`] or [`NoAnswer::TooLarge`].
pub fn read(parts: Parts, to_head: bool, whole: bool, bounds: Bounds) -> Result<Head, NoAnswer> {
    let Parts { status, headers: mut fields, version, .. } = parts;
    if fields.len() > bounds.most_fields {
        return Err(NoAnswer::TooLarge);
    }
    let sound = !status.is_informational() && fields.values().all(is_trimmed);
    let length = length(&fields).filter(|_| sound).ok_or(NoAnswer::Malformed)?;
    let mut orders: Option<Box<Orders>> = None;
    for name in fields.keys().filter(|name| hop::stops_here(name)).cloned().collect::<Vec<_>>() {
        if Orders::names(&name) {
            let orders = orders.get_or_insert_default();
            fields.get_all(&name).iter().for_each(|value| orders.note(&name, value.clone()));
        }
        fields.remove(name);
    }
    if status == StatusCode::NO_CONTENT {
        fields.remove(CONTENT_LENGTH);
    }
    let contentless = to_head || whole || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let framing = match length {
        _ if contentless => Framing::Length(0),
        Some(length) if length > 0 => Framing::Length(length),
        // Also a length of 0 with trailers to follow.
        _ => Framing::UntilClose,
    };
    Ok(Head { status, version, reason: None, fields, upgrade: None, orders, framing, persistent: true })
}

fn is_trimmed(value: &HeaderValue) -> bool {
    let blank = |byte: Option<&u8>| matches!(byte, Some(b' ' | b'\t'));
    let bytes = value.as_bytes();
    !blank(bytes.first()) && !blank(bytes.last())
}

/// `Some(None)`: there is none; `None`: it is malformed.
fn length(fields: &HeaderMap) -> Option<Option<u64>> {
    let mut lengths = fields.get_all(CONTENT_LENGTH).iter();
    match (lengths.next(), lengths.next()) {
        (None, _) => Some(None),
        (Some(length), None) => content_length(length.as_bytes()).map(Some),
        (Some(_), Some(_)) => None,
    }
}

#[cfg(test)]
mod tests {
    use http::Response;

    use super::*;

    fn verdict(status: u16, fields: &[(&str, &str)], whole: bool) -> Result<Framing, NoAnswer> {
        let mut answer = Response::builder().status(status);
        for (name, value) in fields {
            answer = answer.header(*name, *value);
        }
        let parts = answer.body(()).expect("a test answer").into_parts().0;
        read(parts, false, whole, Bounds { largest_head: 1000, most_fields: 2 }).map(|head| head.framing)
    }

    #[test]
    fn sound_heads_say_how_their_content_ends() {
        assert_eq!(verdict(200, &[("content-length", "5")], false), Ok(Framing::Length(5)));
        assert_eq!(verdict(200, &[], false), Ok(Framing::UntilClose));
        assert_eq!(verdict(200, &[("content-length", "0")], false), Ok(Framing::UntilClose));
        assert_eq!(verdict(200, &[("grpc-status", "0")], true), Ok(Framing::Length(0)));
        assert_eq!(verdict(304, &[("content-length", "5")], false), Ok(Framing::Length(0)));
        assert_eq!(verdict(204, &[], false), Ok(Framing::Length(0)));
    }

    #[test]
    fn what_is_malformed_or_too_much_is_refused() {
        for (status, fields) in [
            (101, &[][..]),
            (200, &[("x", " a")]),
            (200, &[("x", "a\t")]),
            (200, &[("content-length", "+1")]),
            (200, &[("content-length", "1"), ("content-length", "1")]),
        ] {
            assert_eq!(verdict(status, fields, false), Err(NoAnswer::Malformed), "{status} {fields:?}");
        }
        assert_eq!(verdict(200, &[("x", "a"); 3], false), Err(NoAnswer::TooLarge));
    }
}
