//! The identifiers of sessions that sidegate issues. Pure, but for where they come from.
//!
//! 1. An identifier is 256 bits from the operating system, as 43 characters of base64url (RFC 4648 §5).
//! 2. Where sessions are issued nothing else names one, whatever carries it.
//!
//! # Why
//! Rule 2: what a client sends becomes part of a key, and what an app orders is done to that key. A text of its choice could name
//! what something else keeps under the same prefix.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Bytes of an identifier.
const BYTES: usize = 32;

/// One that nobody can guess; `None`: the operating system has no randomness to give.
pub fn new() -> Option<String> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).ok()?;
    Some(URL_SAFE_NO_PAD.encode(bytes))
}

/// Whether `text` is written as they are.
pub fn is_issued(text: &[u8]) -> bool {
    // Room for what 44 characters would be: it is asked for in groups of four.
    let mut bytes = [0; BYTES + 1];
    text.len() == 43 && URL_SAFE_NO_PAD.decode_slice(text, &mut bytes) == Ok(BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_issued_is_told_from_all_else() {
        let identifiers: Vec<_> = (0..100).map(|_| new().unwrap()).collect();
        assert!(identifiers.iter().all(|identifier| is_issued(identifier.as_bytes())));
        assert_ne!(identifiers[0], identifiers[1]);
        let bent = [
            "".to_owned(),
            "A".repeat(42),
            "A".repeat(44),
            format!("{}=", "A".repeat(43)),
            format!("{}+", "A".repeat(42)),
            // Bits behind the 256th.
            format!("{}B", "A".repeat(42)),
            format!("sessions:{}", "A".repeat(34)),
        ];
        for bent in bent {
            assert!(!is_issued(bent.as_bytes()), "{bent}");
        }
    }
}
