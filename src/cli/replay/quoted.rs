//! The common log format, and the combined one: `CLIENT IDENT USER [TIME] "REQUEST" STATUS BYTES "REFERER" "USER-AGENT"`.
//! Pure.
//!
//! 1. Before the client may stand the host (`%v:%p`, Apache's `vhost_combined`).
//! 2. A user may have spaces and brackets in it, so the time is the first `[` that begins one and is followed by `"`.
//! 3. In quotes `\"`, `\\`, `\n`, `\r`, `\t` and `\xHH` stand for a byte (Apache, nginx); `-` alone, for nothing.
//! 4. What follows the user agent is ignored: many logs have more there.

use std::borrow::Cow;

use http::HeaderName;
use http::header::{REFERER, USER_AGENT};
use memchr::{memchr, memchr2};

use super::line::{Field, Format, Line, Unreadable, address, request_line};
use super::moment::bracketed;

/// `10/Oct/2000:13:55:36 -0700`.
const TIME: usize = 26;

/// Reads a line; `format`: combined lines must have both quoted texts after the size, common ones are not asked for them.
///
/// # Errors
/// What is wrong with it.
pub fn read<'l>(line: &'l [u8], fields: &[HeaderName], format: Format) -> Result<Line<'l>, Unreadable> {
    let (first, rest) = word(line).ok_or("a single word")?;
    let (client, host, rest) = match (address(first), word(rest)) {
        (Some(client), _) => (client, None, rest),
        (None, Some((second, rest))) => (address(second).ok_or("no client address")?, Some(first), rest),
        (None, None) => return Err("no client address"),
    };
    let (at, rest) = time(rest).ok_or("no time in brackets")?;
    let (request, rest) = quoted(rest).ok_or("the request's quotes do not end")?;
    let (status, rest) = rest.strip_prefix(b" ").and_then(word_or_end).ok_or("no status")?;
    let status = match status {
        b"-" => None,
        _ => Some(status_of(status).ok_or("the status is no number of three digits")?),
    };
    let mut read = Line::new(at, client);
    read.status = status;
    read.asked = text(request).and_then(request_line);
    read.host = host.and_then(|host| std::str::from_utf8(host).ok()).map(Cow::Borrowed);
    let wanted = |name: &HeaderName| fields.iter().position(|field| field == name);
    let (referer, user_agent) = (wanted(&REFERER), wanted(&USER_AGENT));
    if format == Format::Combined || (format == Format::Auto && (referer.is_some() || user_agent.is_some())) {
        match after(rest) {
            Some(values) => {
                for (place, value) in [referer, user_agent].into_iter().zip(values) {
                    let value = if *value == *b"-" { Field::Missing } else { Field::Value(value) };
                    read.fields.extend(place.map(|place| (place, value)));
                }
            }
            None if format == Format::Combined => return Err("no referer and user agent in quotes"),
            None => {}
        }
    }
    Ok(read)
}

/// The first word, and what follows the space after it.
fn word(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let space = memchr(b' ', text)?;
    Some((&text[..space], &text[space + 1..]))
}

/// The first word, and what follows it, the space included.
fn word_or_end(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = memchr(b' ', text).unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// Rule 2: the time, and what follows up to the quote, which is left out.
fn time(text: &[u8]) -> Option<(u64, &[u8])> {
    let mut rest = text;
    loop {
        rest = &rest[memchr(b'[', rest)? + 1..];
        if let Some((time, after)) = rest.split_at_checked(TIME)
            && let Some(after) = after.strip_prefix(b"] \"")
            && let Some(at) = bracketed(time)
        {
            return Some((at, after));
        }
    }
}

/// The text up to the quote that ends it, and what follows.
fn quoted(text: &[u8]) -> Option<(Cow<'_, [u8]>, &[u8])> {
    let end = memchr2(b'"', b'\\', text)?;
    if text[end] == b'"' {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut out = text[..end].to_vec();
    let mut rest = &text[end..];
    loop {
        rest = match *rest {
            [] => return None,
            [b'"', ref after @ ..] => return Some((Cow::Owned(out), after)),
            [b'\\', b'x', high, low, ref after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                let digit = |digit: u8| char::from(digit).to_digit(16).unwrap_or(0);
                // Two hexadecimal digits are a byte.
                out.push((digit(high) << 4 | digit(low)) as u8);
                after
            }
            [b'\\', escaped, ref after @ ..] => {
                out.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    other => other,
                });
                after
            }
            [byte, ref after @ ..] => {
                out.push(byte);
                after
            }
        }
    }
}

/// Text, if it is UTF-8: what is not was no request line.
fn text(bytes: Cow<'_, [u8]>) -> Option<Cow<'_, str>> {
    match bytes {
        Cow::Borrowed(bytes) => std::str::from_utf8(bytes).ok().map(Cow::Borrowed),
        Cow::Owned(bytes) => String::from_utf8(bytes).ok().map(Cow::Owned),
    }
}

fn status_of(text: &[u8]) -> Option<u16> {
    let digits = text.len() == 3 && text.iter().all(u8::is_ascii_digit);
    digits.then(|| text.iter().fold(0, |status, digit| status * 10 + u16::from(digit - b'0')))
}

/// ` BYTES "REFERER" "USER-AGENT"`.
fn after(text: &[u8]) -> Option<[Cow<'_, [u8]>; 2]> {
    let (_bytes, rest) = word(text.strip_prefix(b" ")?)?;
    let (referer, rest) = quoted(rest.strip_prefix(b"\"")?)?;
    let (user_agent, _) = quoted(rest.strip_prefix(b" \"")?)?;
    Some([referer, user_agent])
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: u64 = 971_211_336_000_000;

    fn line(text: &str) -> Result<Line<'_>, Unreadable> {
        read(text.as_bytes(), &[USER_AGENT], Format::Auto)
    }

    fn asked<'l>(line: &'l Line<'_>) -> Option<(&'l str, &'l str)> {
        line.asked.as_ref().map(|asked| (&*asked.method, &*asked.target))
    }

    #[test]
    fn a_line_of_each_format_tells_when_who_what_and_how_it_ended() {
        let common = r#"192.0.2.1 - frank [10/Oct/2000:13:55:36 -0700] "GET /a?b=c HTTP/1.0" 200 2326"#;
        let combined = format!(r#"{common} "http://a/" "curl/8 (\"x\") \x5C""#);
        let more = format!(r#"{combined} 0.003 "-" rt=1"#);
        let of_host = format!("a.example:80 {combined}");
        let agent = Field::Value(Cow::Borrowed(br#"curl/8 ("x") \"#));
        for (text, host, agent) in [
            (common, None, None),
            (&combined, None, Some(&agent)),
            (&more, None, Some(&agent)),
            (&of_host, Some("a.example:80"), Some(&agent)),
        ] {
            let read = line(text).unwrap();
            assert_eq!(
                (read.at, read.client.to_string().as_str(), read.status),
                (AT, "192.0.2.1", Some(200)),
                "{text}"
            );
            assert_eq!((asked(&read), read.host.as_deref()), (Some(("GET", "/a?b=c")), host), "{text}");
            assert_eq!(read.fields.first().map(|(_, value)| value), agent, "{text}");
        }
        assert!(read(common.as_bytes(), &[], Format::Combined).is_err());
        assert_eq!(read(more.as_bytes(), &[], Format::Common).unwrap().status, Some(200));
    }

    #[test]
    fn a_user_may_look_like_the_rest_of_the_line() {
        let forged = r#"192.0.2.1 - a [1] "GET / HTTP/1.1" 200 [10/Oct/2000:13:55:36 -0700] "GET /b HTTP/1.0" 401 -"#;
        let read = line(forged).unwrap();
        assert_eq!((asked(&read), read.status), (Some(("GET", "/b")), Some(401)));
    }

    #[test]
    fn what_was_no_request_is_read_all_the_same() {
        for request in ["-", "", r"\x16\x03\x01", "GET", "GET /", "quit now please"] {
            let text = format!(r#"2001:db8::1 - - [10/Oct/2000:13:55:36 -0700] "{request}" 400 0 "-" "-""#);
            let read = line(&text).unwrap();
            assert_eq!((read.asked, read.status), (None, Some(400)), "{request}");
            assert_eq!(read.fields, [(0, Field::Missing)]);
        }
    }

    #[test]
    fn what_cannot_be_read_says_why() {
        for (text, why) in [
            ("", "a single word"),
            ("hello world", "no client address"),
            ("a.example - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\" 200 1", "no client address"),
            ("192.0.2.1 - - [10/Oct/2000:13:55:36] \"GET / HTTP/1.0\" 200 1", "no time in brackets"),
            ("192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0 200 1", "the request's quotes do not end"),
            ("192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\\\" 200", "the request's quotes do not end"),
            ("192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"GET / HTTP/1.0\"", "no status"),
            ("192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] \"-\" 20 1", "the status is no number of three digits"),
        ] {
            assert_eq!(line(text).err(), Some(why), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80), cut in 0..90usize, at in 0..90usize,
        ) {
            let _ = read(&bytes, &[USER_AGENT], Format::Auto);
            let mut line = br#"192.0.2.1 - - [10/Oct/2000:13:55:36 -0700] "GET /\x5C HTTP/1.0" 200 2 "-" "a""#.to_vec();
            line.splice(at.min(line.len())..at.min(line.len()), bytes);
            line.truncate(line.len().saturating_sub(cut));
            let _ = read(&line, &[USER_AGENT], Format::Auto);
        }
    }
}
