//! How attributes become values of fields. Pure.
//!
//! 1. A value is a list: its texts, each encoded for itself, with `,` between. No encoding leaves a comma in a text as it is. So
//!    whoever splits the value at its commas, and decodes each part, has exactly what the record says; and an attribute
//!    that is one text is a list of one.
//! 2. `percent`: visible ASCII and inner spaces stay; `%`, `,` and every other byte of the UTF-8 text is `%XX`.
//! 3. `rfc8187`: `UTF-8''`, then the characters of `attr-char` as they are, every other byte as `%XX` (RFC 8187 §3.2.1).
//! 4. `base64`: the UTF-8 text with padding (RFC 4648 §4).
//! 5. A value of more than [`LONGEST`] bytes is not sent at all, rather than in part.
//!
//! # Why
//! Rule 1: one role called `guest,admin` must not become two.
//! Rule 5: servers refuse a request with larger fields, Node.js one with 16 KiB of them together; half a list of roles
//! says something else than the list.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;

use crate::session::settings::Encoding;

/// The longest value of an identity field, in bytes.
pub const LONGEST: usize = 8 * 1024;

/// The texts as one value; `None`: there are none, or they are too long.
pub fn listed<'a>(encoding: Encoding, texts: impl Iterator<Item = &'a str>) -> Option<HeaderValue> {
    let mut value: Option<Vec<u8>> = None;
    for text in texts {
        let value = match &mut value {
            None => value.insert(Vec::with_capacity(text.len())),
            Some(value) => {
                value.push(b',');
                value
            }
        };
        match encoding {
            Encoding::Percent => put_percent(text, |byte| byte == b',', value),
            Encoding::Rfc8187 => {
                value.extend_from_slice(b"UTF-8''");
                put(text, |_, byte| is_attr_char(byte), value);
            }
            Encoding::Base64 => value.extend_from_slice(STANDARD.encode(text).as_bytes()),
        }
        if value.len() > LONGEST {
            return None;
        }
    }
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value?)).ok()
}

/// One text by rule 2, its commas as they are: for what is no list.
pub fn percent(text: &str) -> Option<HeaderValue> {
    let mut value = Vec::with_capacity(text.len());
    put_percent(text, |_| false, &mut value);
    HeaderValue::from_maybe_shared(bytes::Bytes::from(value)).ok()
}

fn put_percent(text: &str, special: impl Fn(u8) -> bool, out: &mut Vec<u8>) {
    let last = text.len().saturating_sub(1);
    let plain = |at: usize, byte: u8| match byte {
        b'%' => false,
        b' ' => at > 0 && at < last,
        _ => byte.is_ascii_graphic() && !special(byte),
    };
    put(text, plain, out);
}

/// Bytes that are `plain` at their place as they are, others as `%XX`.
fn put(text: &str, plain: impl Fn(usize, u8) -> bool, out: &mut Vec<u8>) {
    for (at, byte) in text.bytes().enumerate() {
        if plain(at, byte) {
            out.push(byte);
        } else {
            let digit = |half: u8| b"0123456789ABCDEF"[usize::from(half & 15)];
            out.extend_from_slice(&[b'%', digit(byte >> 4), digit(byte)]);
        }
    }
}

/// RFC 8187 §3.2.1.
fn is_attr_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ALL: [Encoding; 3] = [Encoding::Percent, Encoding::Rfc8187, Encoding::Base64];

    fn list(encoding: Encoding, texts: &[&str]) -> Option<String> {
        listed(encoding, texts.iter().copied()).map(|value| value.to_str().unwrap().to_owned())
    }

    /// What an app does, by rule 1.
    fn read(encoding: Encoding, value: &str) -> Vec<String> {
        let text = |part: &str| match encoding {
            Encoding::Percent => decoded(part),
            Encoding::Rfc8187 => decoded(part.strip_prefix("UTF-8''").unwrap()),
            Encoding::Base64 => String::from_utf8(STANDARD.decode(part).unwrap()).unwrap(),
        };
        value.split(',').map(text).collect()
    }

    fn decoded(value: &str) -> String {
        let (mut bytes, mut rest) = (Vec::new(), value.as_bytes());
        while let Some((&byte, after)) = rest.split_first() {
            if byte == b'%' {
                bytes.push(u8::from_str_radix(std::str::from_utf8(&after[..2]).unwrap(), 16).unwrap());
                rest = &after[2..];
            } else {
                bytes.push(byte);
                rest = after;
            }
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn values_cannot_break_out_of_their_field() {
        let table = [
            ("alice smith", "alice smith", "UTF-8''alice%20smith", "YWxpY2Ugc21pdGg="),
            ("a\r\nX-Admin: 1", "a%0D%0AX-Admin: 1", "UTF-8''a%0D%0AX-Admin%3A%201", "YQ0KWC1BZG1pbjogMQ=="),
            ("Müller", "M%C3%BCller", "UTF-8''M%C3%BCller", "TcO8bGxlcg=="),
            (" 100% ", "%20100%25%20", "UTF-8''%20100%25%20", "IDEwMCUg"),
            ("Smith, J.", "Smith%2C J.", "UTF-8''Smith%2C%20J.", "U21pdGgsIEou"),
            ("", "", "UTF-8''", ""),
        ];
        for (text, by_percent, by_rfc8187, base64) in table {
            let told = ALL.map(|encoding| list(encoding, &[text]).unwrap());
            assert_eq!(told, [by_percent, by_rfc8187, base64], "{text:?}");
        }
    }

    #[test]
    fn a_list_is_split_at_its_commas_and_nowhere_else() {
        let names = ["DNS:a", "URI:b,c", "URI:%"];
        assert_eq!(list(Encoding::Percent, &names).as_deref(), Some("DNS:a,URI:b%2Cc,URI:%25"));
        assert_eq!(list(Encoding::Rfc8187, &["a", "b,c"]).as_deref(), Some("UTF-8''a,UTF-8''b%2Cc"));
        assert_eq!(list(Encoding::Base64, &["a", "b,c"]).as_deref(), Some("YQ==,Yixj"));
        assert_eq!(ALL.map(|encoding| list(encoding, &[])), [None, None, None]);
        assert_eq!(percent("CN=a, O=\u{fc}").unwrap(), "CN=a, O=%C3%BC");
    }

    #[test]
    fn a_value_beyond_the_bound_is_not_sent_in_part() {
        let half = "a".repeat(LONGEST / 2);
        assert!(list(Encoding::Percent, &[&half, &half[1..]]).is_some());
        assert_eq!(list(Encoding::Percent, &[&half, &half]), None);
    }

    proptest! {
        #[test]
        fn decoding_gives_the_texts_back(texts in prop::collection::vec(".{0,40}", 1..4)) {
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            for encoding in ALL {
                let value = list(encoding, &texts).unwrap();
                prop_assert!(value.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic()));
                prop_assert_eq!(read(encoding, &value), &texts[..]);
            }
        }
    }
}
