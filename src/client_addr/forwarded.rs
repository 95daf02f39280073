//! Reads `Forwarded` (RFC 7239 §4) and `X-Forwarded-For`, element by element from the right. Pure.
//!
//! # Why
//! From the right, because there the proxies we believe have written. A reader that starts from the left has to get past
//! the client's own part first, and an opening quote in it would swallow all that comes after.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::{HeaderMap, HeaderName, HeaderValue, header};

use crate::exchange::Scheme;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// One forwarded element: what a proxy says about the one that connected to it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Element {
    /// `for`: its address, folded; `None` where it names nobody or cannot be read.
    pub address: Option<IpAddr>,
    /// `proto`: the scheme it used.
    pub scheme: Option<Scheme>,
}

/// The elements of `X-Forwarded-For` from the right, or, if the request has none, those of `Forwarded`.
pub fn elements(fields: &HeaderMap) -> impl Iterator<Item = Element> {
    let x_forwarded = fields.contains_key(X_FORWARDED_FOR);
    let lines = fields.get_all(if x_forwarded { X_FORWARDED_FOR } else { header::FORWARDED });
    // Where there are fewer schemes than addresses, the proxies replaced instead of appending: the first one is it.
    let mut schemes = fields.get_all(X_FORWARDED_PROTO).iter().rev().flat_map(members);
    let mut scheme = None;
    lines.iter().rev().flat_map(members).map(move |member| {
        if !x_forwarded {
            return element(member).unwrap_or_default();
        }
        scheme = schemes.next().map_or(scheme, scheme_named);
        Element { address: node(member), scheme }
    })
}

/// The scheme that a trusted peer names in `X-Forwarded-Proto` when it names no address: its last member.
pub fn scheme_alone(fields: &HeaderMap) -> Option<Scheme> {
    fields.get_all(X_FORWARDED_PROTO).iter().rev().flat_map(members).next().and_then(scheme_named)
}

/// The non-empty members of a list, from the right. Commas within quotes do not separate. Bytes that are no text spoil
/// the member they stand in and all left of it: these become one unreadable member.
fn members(line: &HeaderValue) -> impl Iterator<Item = &str> {
    let bytes = line.as_bytes();
    let spoilt = bytes.iter().rposition(|byte| !matches!(byte, b'\t' | b' '..=b'~'));
    let start =
        spoilt.map_or(0, |at| bytes[at..].iter().position(|byte| *byte == b',').map_or(bytes.len(), |c| at + c));
    let mut rest = std::str::from_utf8(&bytes[start..]).ok();
    let readable = std::iter::from_fn(move || {
        let text = rest?;
        let comma = last_unquoted(text, b',');
        rest = comma.map(|at| &text[..at]);
        Some(comma.map_or(text, |at| &text[at + 1..]).trim())
    });
    readable.chain(spoilt.map(|_| "?")).filter(|member| !member.is_empty())
}

/// The position of the last `wanted` that is not within a quoted string (RFC 9110 §5.6.4).
fn last_unquoted(text: &str, wanted: u8) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quoted = false;
    for at in (0..bytes.len()).rev() {
        if bytes[at] == b'"' {
            let backslashes = bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
            quoted = !quoted || backslashes % 2 == 1;
        } else if bytes[at] == wanted && !quoted {
            return Some(at);
        }
    }
    None
}

/// One element of `Forwarded`; `None` if it breaks the grammar or says a thing twice.
fn element(text: &str) -> Option<Element> {
    let (mut found, mut seen_for, mut seen_proto) = (Element::default(), false, false);
    let mut rest = Some(text);
    while let Some(text) = rest {
        let semicolon = last_unquoted(text, b';');
        rest = semicolon.map(|at| &text[..at]);
        let pair = semicolon.map_or(text, |at| &text[at + 1..]).trim();
        if pair.is_empty() {
            continue;
        }
        let (name, value) = pair.split_once('=')?;
        let value = unquoted(value)?;
        if name.eq_ignore_ascii_case("for") {
            found.address = node(&value);
            if std::mem::replace(&mut seen_for, true) {
                return None;
            }
        } else if name.eq_ignore_ascii_case("proto") {
            found.scheme = scheme_named(&value);
            if std::mem::replace(&mut seen_proto, true) {
                return None;
            }
        }
    }
    Some(found)
}

/// A token or a quoted string, without its quotes and backslashes.
fn unquoted(value: &str) -> Option<std::borrow::Cow<'_, str>> {
    let Some(inner) = value.strip_prefix('"') else {
        let token = !value.is_empty() && !value.contains(|c: char| c.is_ascii_whitespace() || c == '"' || c == ',');
        return token.then_some(value.into());
    };
    let (mut out, mut escaped) = (String::with_capacity(inner.len()), false);
    for (at, character) in inner.char_indices() {
        match character {
            _ if escaped => {
                out.push(character);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (at + 1 == inner.len()).then_some(out.into()),
            _ => out.push(character),
        }
    }
    None
}

/// An address with or without port (RFC 7239 §6): `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]`, `[2001:db8::1]:80`, and,
/// as `X-Forwarded-For` has it, `2001:db8::1`. Anything else names nobody.
fn node(text: &str) -> Option<IpAddr> {
    let address = text.parse::<IpAddr>().or_else(|_| text.parse::<SocketAddr>().map(|socket| socket.ip())).ok();
    let address = address.or_else(|| {
        // No port, or an obfuscated one: `[2001:db8::1]:_x`, `192.0.2.1:_x`.
        if let Some((inner, after)) = text.strip_prefix('[').and_then(|inner| inner.split_once(']')) {
            let port = after.is_empty() || after.starts_with(":_");
            return port.then(|| inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6))?;
        }
        text.split_once(":_").and_then(|(host, _)| host.parse().ok()).filter(IpAddr::is_ipv4)
    });
    address.map(|address| address.to_canonical())
}

fn scheme_named(name: &str) -> Option<Scheme> {
    // `wss` and `ws` are what some proxies write for WebSockets.
    match name {
        _ if name.eq_ignore_ascii_case("https") || name.eq_ignore_ascii_case("wss") => Some(Scheme::Https),
        _ if name.eq_ignore_ascii_case("http") || name.eq_ignore_ascii_case("ws") => Some(Scheme::Http),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn addresses(name: &'static str, lines: &[&str]) -> Vec<String> {
        let mut fields = HeaderMap::new();
        for line in lines {
            fields.append(name, HeaderValue::from_str(line).unwrap());
        }
        elements(&fields).map(|e| e.address.map_or("-".into(), |a| a.to_string())).collect()
    }

    #[test]
    fn forwarded_is_read_with_quotes_brackets_ports_and_obfuscation() {
        let line =
            r#"for=192.0.2.60;proto=http;by=203.0.113.43, FOR="[2001:db8:cafe::17]:4711" , for=unknown,for=_hidden"#;
        assert_eq!(addresses("forwarded", &[line]), ["-", "-", "2001:db8:cafe::17", "192.0.2.60"]);
        let ports = [r#"for="192.0.2.1:80", for="192.0.2.2:_p", for="[::1]:_p", for="[::2]""#];
        assert_eq!(addresses("forwarded", &ports), ["::2", "::1", "192.0.2.2", "192.0.2.1"]);
        assert_eq!(addresses("forwarded", &[r#"for="192.\0.2.\1";host="a,b;c""#]), ["192.0.2.1"]);
    }

    #[test]
    fn what_a_client_left_open_does_not_swallow_what_a_proxy_appended() {
        assert_eq!(addresses("forwarded", &[r#"for=", for=192.0.2.1"#]), ["192.0.2.1", "-"]);
        assert_eq!(addresses("forwarded", &[r#"for="\", for="[2001:db8::1]""#])[0], "2001:db8::1");
    }

    #[test]
    fn bytes_that_are_no_text_spoil_only_what_stands_left_of_them() {
        let mut fields = HeaderMap::new();
        let line = HeaderValue::from_bytes(b"192.0.2.7, \xff1.2.3.4, 192.0.2.1").unwrap();
        fields.insert("x-forwarded-for", line);
        let read: Vec<_> = elements(&fields).map(|element| element.address).collect();
        assert_eq!(read, [Some([192, 0, 2, 1].into()), None]);
    }

    #[test]
    fn broken_elements_name_nobody() {
        for broken in
            ["for", "for=", "for=1.2.3.4;for=1.2.3.5", "for=\"1.2.3.4", "for=1.2.3.4x", "for=[1.2.3.4]", "for= 1.2.3.4"]
        {
            assert_eq!(addresses("forwarded", &[broken]), ["-"], "{broken}");
        }
    }

    #[test]
    fn x_forwarded_for_is_read_over_several_lines_with_and_without_ports() {
        let lines = ["198.51.100.7, 2001:db8::1,", "unknown, 192.0.2.1:5000 ,[2001:db8::2]:80"];
        let expected = ["2001:db8::2", "192.0.2.1", "-", "2001:db8::1", "198.51.100.7"];
        assert_eq!(addresses("x-forwarded-for", &lines), expected);
    }

    #[test]
    fn ipv4_mapped_addresses_are_ipv4_addresses() {
        assert_eq!(
            addresses("x-forwarded-for", &["::ffff:192.0.2.1, [::ffff:192.0.2.2]:80"]),
            ["192.0.2.2", "192.0.2.1"]
        );
    }

    #[test]
    fn forwarded_is_ignored_beside_x_forwarded_for() {
        let mut fields = HeaderMap::new();
        fields.insert("forwarded", HeaderValue::from_static("for=192.0.2.66"));
        fields.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1"));
        assert_eq!(elements(&fields).next().unwrap().address, Some([192, 0, 2, 1].into()));
    }

    #[test]
    fn schemes_go_with_the_addresses_they_were_written_beside() {
        let mut fields = HeaderMap::new();
        fields.insert("x-forwarded-for", HeaderValue::from_static("192.0.2.1, 192.0.2.2, 192.0.2.3"));
        fields.insert("x-forwarded-proto", HeaderValue::from_static("https, http"));
        let schemes: Vec<_> = elements(&fields).map(|e| e.scheme.map(Scheme::as_str)).collect();
        assert_eq!(schemes, [Some("http"), Some("https"), Some("https")]);
    }

    proptest! {
        #[test]
        fn the_last_element_is_read_whatever_stands_before_it(before in "[ -~]{0,60}") {
            let read = addresses("forwarded", &[&format!("{before}, for=\"[2001:db8::9]:1\"")]);
            prop_assert_eq!(&read[0], "2001:db8::9");
        }
    }
}
