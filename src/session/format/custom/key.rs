//! What an identifier of a custom session looks like, and the key of its record.

use sha1::Sha1;
use sha2::{Digest as _, Sha256};

use crate::session::format::{identifier, sign};

/// What identifiers look like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identifiers {
    alphabet: String,
    /// A bit for each ASCII character.
    allowed: u128,
    min: usize,
    max: usize,
}

impl Identifiers {
    /// Of so many characters of `alphabet`: characters and ranges, like `A-Za-z0-9_-`.
    ///
    /// # Errors
    /// It is no alphabet, or `min` is beyond `max`; in a sentence for the operator.
    pub fn new(alphabet: &str, min: usize, max: usize) -> Result<Self, String> {
        if min > max {
            return Err(format!("no identifier has at least {min} characters and at most {max}"));
        }
        let mut allowed = 0;
        let mut rest = alphabet.bytes().peekable();
        while let Some(first) = rest.next() {
            let mut ahead = rest.clone();
            let last = match (ahead.next(), ahead.next()) {
                (Some(b'-'), Some(last)) => {
                    rest = ahead;
                    last
                }
                _ => first,
            };
            if first > last {
                return Err(format!("`{alphabet}` has a range that ends before it begins"));
            }
            for byte in first..=last {
                if !byte.is_ascii_graphic() || b":{}".contains(&byte) {
                    let help = "visible ASCII without `:`, `{` and `}`";
                    return Err(format!("`{alphabet}` lets an identifier reach other keys: {help}"));
                }
                allowed |= 1_u128 << byte;
            }
        }
        if allowed == 0 {
            return Err("an alphabet has characters".into());
        }
        Ok(Self { alphabet: alphabet.to_owned(), allowed, min, max })
    }

    /// `text`, if it is one.
    ///
    /// # Errors
    /// It is none; says why.
    pub fn check<'a>(&self, text: &'a [u8]) -> Result<&'a str, &'static str> {
        identifier(text, self.min..=self.max, |byte| self.allowed >> byte & 1 == 1)
    }
}

impl Default for Identifiers {
    /// 16 to 128 of `A-Za-z0-9_-`.
    fn default() -> Self {
        let below = |end: u8, start: u8| (1_u128 << (end + 1)) - (1 << start);
        let allowed = below(b'Z', b'A') | below(b'z', b'a') | below(b'9', b'0') | 1 << b'_' | 1 << b'-';
        Self { alphabet: "A-Za-z0-9_-".into(), allowed, min: 16, max: 128 }
    }
}

impl std::fmt::Display for Identifiers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} to {} of {}", self.min, self.max, self.alphabet)
    }
}

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyTemplate {
    written: String,
    before: String,
    after: String,
    of: Of,
}

/// What of an identifier is in its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Itself,
    Sha1,
    Sha256,
}

impl KeyTemplate {
    /// As `written`: a text with `{id}`, or with `{sha1}` or `{sha256}` of the identifier in hexadecimal.
    ///
    /// # Errors
    /// It is something else; in a sentence for the operator.
    pub fn parse(written: &str) -> Result<Self, String> {
        let places = [("{id}", Of::Itself), ("{sha1}", Of::Sha1), ("{sha256}", Of::Sha256)];
        let found = places.iter().find_map(|(place, of)| written.split_once(place).map(|around| (around, *of)));
        let Some(((before, after), of)) = found else {
            return Err(format!("`{written}` is the key of one record: {{id}}, {{sha1}} or {{sha256}} is missing"));
        };
        if before.is_empty() {
            return Err(format!(
                "`{written}` begins with the identifier: nothing keeps sessions apart from other keys"
            ));
        }
        let strange = |each: char| each.is_whitespace() || each.is_control() || matches!(each, '{' | '}');
        if before.contains(strange) || after.contains(strange) {
            return Err(format!("`{written}`: besides the identifier, once, a key has no blanks and no braces"));
        }
        Ok(Self { written: written.to_owned(), before: before.to_owned(), after: after.to_owned(), of })
    }

    /// The key of the record of `identifier`.
    pub fn of(&self, identifier: &str) -> String {
        let digest = match self.of {
            Of::Itself => None,
            Of::Sha1 => Some(sign::hex(&Sha1::digest(identifier))),
            Of::Sha256 => Some(sign::hex(&Sha256::digest(identifier))),
        };
        [&self.before, digest.as_deref().unwrap_or(identifier), &self.after].concat()
    }

    /// What all keys begin with.
    pub fn prefix(&self) -> &str {
        &self.before
    }

    /// As it is in the configuration.
    pub fn written(&self) -> &str {
        &self.written
    }
}

impl Default for KeyTemplate {
    /// `session:{id}`.
    fn default() -> Self {
        let (written, before) = ("session:{id}".to_owned(), "session:".to_owned());
        Self { written, before, after: String::new(), of: Of::Itself }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alphabet_is_characters_and_ranges() {
        let of = |alphabet: &str, text: &str| Identifiers::new(alphabet, 1, 9).unwrap().check(text.as_bytes()).is_ok();
        assert!(of("a-c", "abc") && !of("a-c", "abcd") && !of("a-c", "-"));
        assert!(of("ac-", "a-c") && !of("ac-", "b") && of("-a", "-a") && of("!-9", "-+9"));
        assert!(!of("a-z", "\u{e9}") && !of("a-z", "abcdefghij") && !of("a-z", ""));
        assert_eq!(Identifiers::new("A-Za-z0-9_-", 16, 128), Ok(Identifiers::default()));
        for wrong in ["", "z-a", "a b", "é", "a:b", "!-~", "{}", "\0-z"] {
            assert!(Identifiers::new(wrong, 1, 9).is_err(), "{wrong}");
        }
        assert!(Identifiers::new("a", 9, 8).is_err());
    }

    #[test]
    fn a_key_is_made_of_the_identifier_or_a_digest() {
        let of = |written: &str| KeyTemplate::parse(written).map(|key| key.of("abc"));
        assert_eq!(of("app:{id}:sess").as_deref(), Ok("app:abc:sess"));
        assert_eq!(of("app:{sha1}").as_deref(), Ok("app:a9993e364706816aba3e25717850c26c9cd0d89d"), "FIPS 180-4");
        let sha256 = "app:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(of("app:{sha256}").as_deref(), Ok(sha256));
        assert_eq!(KeyTemplate::parse("app:{id}:sess").unwrap().prefix(), "app:");
        assert_eq!(KeyTemplate::parse("session:{id}"), Ok(KeyTemplate::default()));
        for wrong in ["", "app:", "{id}", "app:{md5}", "app: {id}", "{app}:{id}", "app:{id}{id}", "app:{sha1}{id}"] {
            assert!(of(wrong).is_err(), "{wrong}");
        }
    }
}
