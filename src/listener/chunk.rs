//! The line before a chunk: its size and its extensions (RFC 9112 §7.1), read alike from clients and from apps. Pure.

use super::judge::grammar::is_token;

/// Longest line of an app's chunk framing (size and extensions), in bytes.
pub const LONGEST_LINE: usize = 1024;
/// Bytes of all trailers of an app's answer.
pub const MOST_TRAILER_BYTES: usize = 8 * 1024;

/// The size that a line (without CR LF) says, in bytes.
///
/// # Errors
/// What is wrong with it.
pub fn size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if digits == 0 || digits > 16 {
        return Err("malformed chunk size");
    }
    if digits < line.len() {
        extensions(&line[digits..])?;
    }
    let value = |digit: u8| u64::from(char::from(digit).to_digit(16).unwrap_or_default());
    let size = line[..digits].iter().fold(0, |sum, digit| (sum << 4) | value(*digit));
    if size < u64::MAX >> 1 { Ok(size) } else { Err("chunk size too large") }
}

/// `*( BWS ";" BWS name [ BWS "=" BWS ( token / quoted-string ) ] )` (§7.1.1): followed to the letter, then ignored.
fn extensions(mut rest: &[u8]) -> Result<(), &'static str> {
    while !rest.is_empty() {
        rest = unblank(rest).strip_prefix(b";").ok_or("malformed chunk size")?;
        rest = token(unblank(rest))?;
        let Some(value) = unblank(rest).strip_prefix(b"=") else { continue };
        let value = unblank(value);
        rest = match value.strip_prefix(b"\"") {
            Some(quoted) => quoted_string(quoted)?,
            None => token(value)?,
        };
    }
    Ok(())
}

const MALFORMED: &str = "malformed chunk extension";

fn unblank(bytes: &[u8]) -> &[u8] {
    let start = bytes.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(bytes.len());
    &bytes[start..]
}

fn token(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let end = bytes.iter().position(|byte| !is_token(&[*byte])).unwrap_or(bytes.len());
    if end == 0 { Err(MALFORMED) } else { Ok(&bytes[end..]) }
}

/// What follows the closing quote.
fn quoted_string(mut bytes: &[u8]) -> Result<&[u8], &'static str> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Ok(rest),
            [b'\\', b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            [b'\\', ..] => return Err(MALFORMED),
            [b'\t' | b' '..=b'~' | 0x80.., rest @ ..] => rest,
            _ => return Err(MALFORMED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_hex_digits_and_extensions_are_followed_to_the_letter() {
        for (line, expected) in [
            ("0", 0),
            ("000f", 15),
            ("3;a", 3),
            ("3;a=b;c=\"d;\\\" e\"", 3),
            ("3 ; a = b", 3),
            ("3\t;a=\"\"", 3),
            ("00000000000000fF", 255),
        ] {
            assert_eq!(size(line.as_bytes()), Ok(expected), "{line}");
        }
        let unsound = "| 3|3 |0x3|-1|+3|3g|g|3;|3;;a|3;=a|3;a=|3;a=b |3;a b|3;a=\"b|3;a=\"\\|3;a=\"b\"c|3,a|3;a=b,c|3;a/b|\
                       7fffffffffffffff|ffffffffffffffff|00000000000000003|3;a=\x01|3;\x7f";
        for line in unsound.split('|') {
            assert!(size(line.as_bytes()).is_err(), "{line:?}");
        }
    }
}
