//! Percent-encoded cookies (RFC 3986 §2.1). Pure.

use std::borrow::Cow;

/// What `encodeURIComponent` leaves as it is (ECMA-262 §19.2.6.5).
fn stays(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.!~*'()".contains(&byte)
}

/// Undoes percent-encoding; what is not encoded stands for itself.
///
/// # Errors
/// A `%` without two hexadecimal digits.
pub fn decoded(text: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    const DAMAGED: &str = "percent-encoding is damaged";
    if !text.contains(&b'%') {
        return Ok(Cow::Borrowed(text));
    }
    let digit = |byte: Option<&u8>| char::from(*byte?).to_digit(16).map(|digit| digit as u8);
    let mut plain = Vec::with_capacity(text.len());
    let mut rest = text.iter();
    while let Some(&byte) = rest.next() {
        plain.push(match byte {
            b'%' => match (digit(rest.next()), digit(rest.next())) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(DAMAGED),
            },
            other => other,
        });
    }
    Ok(Cow::Owned(plain))
}

/// Undoes what `encodeURIComponent` did, and nothing else: one spelling for one text.
///
/// # Errors
/// It would have spelt it otherwise.
pub fn component(text: &[u8]) -> Result<Cow<'_, [u8]>, &'static str> {
    let plain = decoded(text)?;
    let mut sent = text.iter();
    let mut takes = |byte| sent.next() == Some(&byte);
    let digit = |half: u8| b"0123456789ABCDEF".get(usize::from(half)).copied().unwrap_or_default();
    let alike = plain.iter().all(|&byte| {
        if stays(byte) { takes(byte) } else { takes(b'%') && takes(digit(byte >> 4)) && takes(digit(byte & 15)) }
    });
    if alike { Ok(plain) } else { Err("percent-encoding is unusual") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_usual_spelling_is_a_component() {
        let of = |text: &str| component(text.as_bytes()).map(|plain| String::from_utf8_lossy(&plain).into_owned());
        assert_eq!(of("s%3Aabc.%2B%2F").as_deref(), Ok("s:abc.+/"));
        assert_eq!(of("M%C3%BCller!~*'()").as_deref(), Ok("Müller!~*'()"));
        for unusual in ["s:abc", "s%3aabc", "%61bc", "a+b", "a/b", "\"abc\"", "a b"] {
            assert_eq!(of(unusual), Err("percent-encoding is unusual"), "{unusual}");
        }
        for damaged in ["%", "%3", "abc%", "%3G", "%%3A", "%+3", "% 3A"] {
            assert_eq!(of(damaged), Err("percent-encoding is damaged"), "{damaged}");
        }
    }

    #[test]
    fn any_spelling_is_decoded_where_any_will_do() {
        let of = |text: &str| decoded(text.as_bytes()).map(Cow::into_owned);
        assert_eq!(of("a%3ab%3Ac:d+e"), Ok(b"a:b:c:d+e".to_vec()));
        assert_eq!(of("100%"), Err("percent-encoding is damaged"));
    }
}
