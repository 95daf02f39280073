//! The handshake that HTTP/2 spares its clients and HTTP/1.1 asks of us (RFC 8441 §5, RFC 6455 §4).
//!
//! A client's extended CONNECT becomes a GET that asks to switch. The key is ours, and so is the duty to see that the app
//! has read it: nothing but a WebSocket server answers with its digest.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use h2::ext::Protocol;
use http::header::{HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY};
use http::{HeaderMap, Request};
use sha1::{Digest, Sha1};

/// RFC 6455 §1.3.
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether the client asked by an extended CONNECT; the listener lets those for WebSockets through.
pub fn is_extended<B>(request: &Request<B>) -> bool {
    request.extensions().get::<Protocol>().is_some()
}

/// A key that nobody has used before: 16 bytes in base64.
pub fn key() -> HeaderValue {
    let key = STANDARD.encode(fastrand::u128(..).to_ne_bytes());
    // Base64 is a field value.
    HeaderValue::from_str(&key).unwrap_or(HeaderValue::from_static(""))
}

/// Whether an app's 101 answers the key that was sent to it (RFC 6455 §4.1).
pub fn is_accepted(asked: &HeaderMap, answered: &HeaderMap) -> bool {
    let Some(key) = asked.get(SEC_WEBSOCKET_KEY) else { return false };
    let expected = STANDARD.encode(Sha1::new().chain_update(key.as_bytes()).chain_update(GUID).finalize());
    answered.get(SEC_WEBSOCKET_ACCEPT).is_some_and(|accept| accept.as_bytes() == expected.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_digest_of_the_key_and_no_other_is_accepted() {
        // The example of RFC 6455 §1.3.
        let asked = HeaderMap::from_iter([(SEC_WEBSOCKET_KEY, HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ=="))]);
        let answer = |accept| HeaderMap::from_iter([(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static(accept))]);
        assert!(is_accepted(&asked, &answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
        assert!(!is_accepted(&asked, &answer("s3pPLMBiTxaQ9kYGzzhZRbK+xOp=")));
        assert!(!is_accepted(&asked, &HeaderMap::new()) && !is_accepted(&HeaderMap::new(), &answer("")));
    }

    #[test]
    fn keys_are_sixteen_bytes_and_never_the_same() {
        let (one, other) = (key(), key());
        assert_ne!(one, other);
        assert_eq!(STANDARD.decode(one.as_bytes()).map(|bytes| bytes.len()), Ok(16));
    }
}
