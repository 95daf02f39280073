//! How a Redis key is spelt, so that no two things share one and no client's secret can be read from one.
//!
//! 1. `PREFIX KIND:{TAG}REST`: what stands in braces decides the cluster slot (the *hash tag*), so it never contains a brace.
//! 2. Text from outside is escaped: letters, digits and `-._~/:` stay, every other byte becomes `%XX`.
//! 3. What a client keeps secret is stored as a digest: the first 128 bits of its SHA-256, in hex.
//!
//! # Why
//! A reader of Redis must not learn an API key from the counter that limits it. 128 bits leave no chance of two keys
//! meeting, and half the bytes to store.

use sha2::{Digest, Sha256};

const HEX: &[u8; 16] = b"0123456789abcdef";

/// Which bytes need no escape (rule 2).
const STAYS: [bool; 256] = {
    let mut stays = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        stays[byte] = matches!(byte as u8,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':');
        byte += 1;
    }
    stays
};

/// Appends `PREFIX KIND:{TAG}`; the tag must be escaped already.
pub fn push_tagged(out: &mut String, prefix: &str, kind: &str, tag: &str) {
    debug_assert!(!tag.contains(['{', '}']), "the hash tag {tag} contains a brace");
    for text in [prefix, kind, ":{", tag, "}"] {
        out.push_str(text);
    }
}

/// Appends `text`, escaped.
pub fn push_escaped(out: &mut String, text: &str) {
    // Most texts stay as they are. What stays is ASCII, so the rest begins with a character.
    let stays = text.bytes().position(|byte| !STAYS[usize::from(byte)]).unwrap_or(text.len());
    let (plain, rest) = text.split_at(stays);
    out.push_str(plain);
    for &byte in rest.as_bytes() {
        if STAYS[usize::from(byte)] {
            out.push(byte as char);
        } else {
            out.push('%');
            push_hex(out, byte);
        }
    }
}

/// The text that [`push_escaped`] made this of; `None`: it is no text.
pub fn unescaped(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        bytes.push(match byte {
            b'%' => nibble(*rest.next()?)? << 4 | nibble(*rest.next()?)?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

fn nibble(digit: u8) -> Option<u8> {
    HEX.iter().position(|hex| *hex == digit).map(|value| value as u8)
}

/// Appends `text` such that it stands for itself in a glob of `SCAN MATCH`.
pub fn push_literal(glob: &mut String, text: &str) {
    for symbol in text.chars() {
        glob.extend("*?[]^\\".contains(symbol).then_some('\\'));
        glob.push(symbol);
    }
}

/// Appends the digest of `value`: 32 hex digits.
pub fn push_digest(out: &mut String, value: &[u8]) {
    for &byte in &Sha256::digest(value)[..16] {
        push_hex(out, byte);
    }
}

/// Appends the whole SHA-256 of `value`: 64 hex digits.
pub fn push_sha256(out: &mut Vec<u8>, value: &[u8]) {
    for byte in Sha256::digest(value) {
        out.extend([HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// The digest of `value`: 32 hex digits.
pub fn digest(value: &[u8]) -> String {
    let mut out = String::with_capacity(32);
    push_digest(&mut out, value);
    out
}

fn push_hex(out: &mut String, byte: u8) {
    out.push(HEX[usize::from(byte >> 4)] as char);
    out.push(HEX[usize::from(byte & 15)] as char);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_the_first_half_of_sha_256() {
        // FIPS 180-2, appendix B.1.
        assert_eq!(digest(b"abc"), "ba7816bf8f01cfea414140de5dae2223");
    }

    #[test]
    fn no_escaped_text_can_leave_its_hash_tag() {
        let (mut tag, mut key) = (String::new(), String::new());
        push_escaped(&mut tag, "/users/{id} é%");
        push_tagged(&mut key, "sidegate:", "limit", &tag);
        assert_eq!(key, "sidegate:limit:{/users/%7bid%7d%20%c3%a9%25}");
        assert_eq!(unescaped(&tag).as_deref(), Some("/users/{id} é%"));
        for broken in ["%", "%2", "%zz", "%C3", "%ff"] {
            assert_eq!(unescaped(broken), None, "{broken}");
        }
    }
}
