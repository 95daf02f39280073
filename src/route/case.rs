//! Paths to apps that do not tell upper from lower case. Pure.
//!
//! 1. Letters compare in lower case, also those beyond ASCII, as far as their bytes are UTF-8.
//! 2. `ſ`, `K` (Kelvin), `ı` and `İ` compare as the ASCII letters that some comparison takes them for.

use std::borrow::Cow;

use super::canonical::{escaped, push_escape};
use super::pattern::{Pattern, Segment};

/// `path`, which is in canonical form, as it compares where case does not count.
pub fn folded(path: &str) -> Cow<'_, str> {
    if !path.bytes().any(|byte| byte.is_ascii_uppercase() || byte == b'%') {
        return Cow::Borrowed(path);
    }
    let mut made = String::with_capacity(path.len());
    let mut bytes = Vec::new();
    let mut rest = path;
    while let Some(first) = rest.chars().next() {
        let length = match escaped(rest.as_bytes()) {
            Some(byte) if !byte.is_ascii() => {
                bytes.push(byte);
                3
            }
            Some(byte) => {
                push_lower(&mut made, &mut bytes);
                push_escape(&mut made, byte);
                3
            }
            None => {
                push_lower(&mut made, &mut bytes);
                made.push(first.to_ascii_lowercase());
                first.len_utf8()
            }
        };
        rest = rest.get(length..).unwrap_or_default();
    }
    push_lower(&mut made, &mut bytes);
    Cow::Owned(made)
}

/// Whether two patterns match the same requests but for the case of their paths.
pub fn differ_only_in_case(one: &Pattern, other: &Pattern) -> bool {
    let alike = |pair: (&Segment, &Segment)| match pair {
        (Segment::Literal(one), Segment::Literal(other)) => folded(one) == folded(other),
        (Segment::One(_), Segment::One(_)) | (Segment::Rest(_), Segment::Rest(_)) => true,
        _ => false,
    };
    let literals = |pattern: &Pattern| -> Vec<String> {
        let text = |segment: &Segment| if let Segment::Literal(text) = segment { Some(text.clone()) } else { None };
        pattern.segments.iter().filter_map(text).collect()
    };
    one.hosts == other.hosts
        && one.segments.len() == other.segments.len()
        && one.segments.iter().zip(&other.segments).all(alike)
        && literals(one) != literals(other)
}

/// Writes escaped bytes, as letters in lower case where they are letters.
fn push_lower(made: &mut String, bytes: &mut Vec<u8>) {
    if let Ok(text) = std::str::from_utf8(bytes) {
        let lower: String = text
            .chars()
            .flat_map(|letter| match letter {
                '\u{17f}' => 's'.to_lowercase(),
                '\u{212a}' => 'k'.to_lowercase(),
                '\u{130}' | '\u{131}' => 'i'.to_lowercase(),
                letter => letter.to_lowercase(),
            })
            .collect();
        *bytes = lower.into_bytes();
    }
    for byte in bytes.drain(..) {
        if byte.is_ascii() { made.push(char::from(byte)) } else { push_escape(made, byte) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn letters_compare_in_lower_case() {
        for (path, compared) in [
            ("/users/7", "/users/7"),
            ("/Users/ME", "/users/me"),
            ("/CAF%C3%89", "/caf%C3%A9"),
            ("/%E9", "/%E9"),
            ("/a%2FB", "/a%2Fb"),
            ("/u%C5%BFer%C5%BF", "/users"),
            ("/%E2%84%AAey", "/key"),
        ] {
            assert_eq!(folded(path), compared);
        }
    }
}
