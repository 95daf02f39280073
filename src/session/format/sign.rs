//! What vouches for a credential. Pure; nothing here is ours: HMAC and its comparison in constant time are aws-lc's and `subtle`'s.

use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256, Key};
use subtle::ConstantTimeEq as _;

use super::custom::value::Encoding;
use crate::session::Secrets;

/// The bytes of `secrets`, newest first: behind `base64:` or `hex:` what is written so, else the text itself.
///
/// # Errors
/// One of them is not written so; a sentence that quotes nothing of it.
pub fn keys(secrets: &Secrets) -> Result<Vec<Vec<u8>>, String> {
    let read = |(place, secret): (usize, &str)| {
        let (encoding, name, text) = match secret.split_once(':') {
            Some(("base64", text)) => (Encoding::Base64, "base64", text),
            Some(("hex", text)) => (Encoding::Hex, "hex", text),
            _ => return Ok(secret.as_bytes().to_vec()),
        };
        let bytes = encoding.decode(text.as_bytes()).filter(|bytes| !bytes.is_empty());
        bytes.ok_or_else(|| format!("secret {place} is not {name} after `{name}:`"))
    };
    (1..).zip(secrets.exposed()).map(read).collect()
}

/// A key of HMAC-SHA1 (RFC 2104), which Flask and Laravel use; it is no weaker for what SHA-1 alone has lost.
pub fn sha1_key(secret: &[u8]) -> Key {
    Key::new(HMAC_SHA1_FOR_LEGACY_USE_ONLY, secret)
}

/// A key of HMAC-SHA256.
pub fn sha256_key(secret: &[u8]) -> Key {
    Key::new(HMAC_SHA256, secret)
}

/// The tag of all `parts`, one after the other.
pub fn tag(key: &Key, parts: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    parts.iter().for_each(|part| context.update(part));
    context.sign()
}

/// Whether both are the same, found out in a time that depends on their lengths alone.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Lower-case hexadecimal digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .filter_map(|digit| char::from_digit(digit.into(), 16))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_a_text_or_bytes_that_are_written() {
        let read = |secrets: &[&str]| keys(&Secrets::new(secrets.iter().map(|secret| (*secret).into())));
        assert_eq!(
            read(&["text:x", "base64:/wA=", "base64:/wA", "hex:fF00"]).unwrap(),
            [&b"text:x"[..], &[255, 0], &[255, 0], &[255, 0]]
        );
        assert_eq!(read(&["base64:aGV4OmZm"]).unwrap(), [b"hex:ff"], "a text that begins so");
        assert_eq!(read(&["a", "base64:hunter2!"]).unwrap_err(), "secret 2 is not base64 after `base64:`");
        assert_eq!(read(&["hex:f"]).unwrap_err(), "secret 1 is not hex after `hex:`");
        assert_eq!(read(&["hex:"]).unwrap_err(), "secret 1 is not hex after `hex:`");
    }

    #[test]
    fn tags_are_those_of_the_rfcs() {
        // RFC 2202 §3, RFC 4231 §4.3: test case 2.
        let parts: &[&[u8]] = &[b"what do ya want ", b"for nothing?"];
        assert_eq!(hex(tag(&sha1_key(b"Jefe"), parts).as_ref()), "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79");
        let expected = "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843";
        assert_eq!(hex(tag(&sha256_key(b"Jefe"), parts).as_ref()), expected);
        assert!(same(b"a", b"a") && !same(b"a", b"b") && !same(b"a", b"aa") && same(b"", b""));
    }
}
