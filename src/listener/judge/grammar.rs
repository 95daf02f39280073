//! Which bytes may stand where in a head. Pure.
//!
//! 1. A name is a token (RFC 9110 §5.6.2); a value has no control character but HTAB (§5.5).
//! 2. A path and a query hold what RFC 3986 §3.3 and §3.4 allow, and the few characters that browsers leave unescaped
//!    there: `[`, `]`, `\`, `^`, `|`, and in a query `` ` ``, `{`, `}` as well. No fragment, no byte beyond ASCII.
//! 3. A host is a name, an IPv4 address or an IPv6 address in brackets, with or without a port (§3.2.2, §3.2.3): no user
//!    information, no list, and no escape but of bytes beyond ASCII, since any other is a second spelling of a character.
//!
//! # Why
//! Tables of 256 entries, made by the compiler: one load for each byte, and no branch that depends on what it is.

use std::net::Ipv6Addr;

const TOKEN: u8 = 1;
const PATH: u8 = 2;
const QUERY: u8 = 4;
const HOST: u8 = 8;

static CLASS: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let c = byte as u8;
        let plain = c.is_ascii_alphanumeric() || matches!(c, b'-' | b'.' | b'_' | b'~');
        let delimiter = matches!(c, b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=');
        let token = plain || matches!(c, b'!' | b'#' | b'$' | b'%' | b'&' | b'\'' | b'*' | b'+' | b'^' | b'`' | b'|');
        let path =
            plain || delimiter || matches!(c, b',' | b':' | b'@' | b'/' | b'%' | b'[' | b']' | b'\\' | b'^' | b'|');
        let query = path || matches!(c, b'?' | b'`' | b'{' | b'}');
        let host = plain || delimiter;
        let classes = [(token, TOKEN), (path, PATH), (query, QUERY), (host, HOST)];
        let mut index = 0;
        while index < classes.len() {
            let (is, class) = classes[index];
            if is {
                table[byte] |= class;
            }
            index += 1;
        }
        byte += 1;
    }
    table
};

fn all(bytes: &[u8], class: u8) -> bool {
    bytes.iter().fold(class, |found, byte| found & CLASS[usize::from(*byte)]) == class
}

/// Whether it is a token.
pub fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && all(bytes, TOKEN)
}

/// Whether there is a control character other than HTAB. Every byte is looked at: that the compiler makes fast.
pub fn has_control(bytes: &[u8]) -> bool {
    bytes.iter().fold(false, |found, byte| found | ((*byte < b' ') & (*byte != b'\t')) | (*byte == 0x7f))
}

/// Whether it is a path, with or without a query, of sound characters; the path may be empty.
pub fn is_path_and_query(bytes: &[u8]) -> bool {
    match memchr::memchr(b'?', bytes) {
        Some(mark) => all(&bytes[..mark], PATH) && all(&bytes[mark + 1..], QUERY),
        None => all(bytes, PATH),
    }
}

/// Without white space (SP and HTAB only) at both ends.
pub fn trimmed(value: &[u8]) -> &[u8] {
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = value.iter().position(|byte| !blank(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !blank(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

/// `uri-host [ ":" port ]` (RFC 9110 §7.2), by rule 3; not empty.
pub fn is_host(bytes: &[u8]) -> bool {
    let (sound, after) = match bytes.strip_prefix(b"[") {
        Some(rest) => match memchr::memchr(b']', rest) {
            Some(end) => {
                let inside = std::str::from_utf8(&rest[..end]).ok();
                (inside.is_some_and(|text| text.parse::<Ipv6Addr>().is_ok()), &rest[end + 1..])
            }
            None => return false,
        },
        None => {
            let colon = memchr::memchr(b':', bytes).unwrap_or(bytes.len());
            (is_name(&bytes[..colon]), &bytes[colon..])
        }
    };
    sound && (after.is_empty() || after.strip_prefix(b":").is_some_and(is_port))
}

fn is_name(name: &[u8]) -> bool {
    if memchr::memchr(b'%', name).is_none() {
        return !name.is_empty() && all(name, HOST);
    }
    let mut parts = name.split(|byte| *byte == b'%');
    let first = parts.next().unwrap_or_default();
    let escaped = |part: &[u8]| matches!(part, [b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F', low, rest @ ..] if low.is_ascii_hexdigit() && all(rest, HOST));
    all(first, HOST) && parts.all(escaped)
}

/// Digits that make a port, or nothing, which is the default one.
fn is_port(digits: &[u8]) -> bool {
    let value = digits.iter().try_fold(0u32, |sum, digit| {
        let digit = digit.is_ascii_digit().then(|| u32::from(digit - b'0'))?;
        Some((sum * 10 + digit).min(1 << 20))
    });
    value.is_some_and(|value| value <= u32::from(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_with_or_without_a_port() {
        for sound in [
            "a",
            "A.b-c_d~e",
            "a:",
            "a:80",
            "a:00080",
            "1.2.3.4:65535",
            "[::1]",
            "[::1]:1",
            "a!$&'()*+;=b",
            "%C3%BC.test",
        ] {
            assert!(is_host(sound.as_bytes()), "{sound}");
        }
        let unsound = "|:80|a:x|a:-1|a:65536|a:99999999999999|a:1:2|::1|[::1|::1]|[::1]x|[::1]:x|[]|[1.2.3.4]|[::1%25eth0]|u@a|a b|a,b|a/b|a?b|a#b|a\\b|a%zz|a%|a%4|a%41|a%2f|a%00|%C|a\"|a<|\u{e9}";
        for unsound in unsound.split('|') {
            assert!(!is_host(unsound.as_bytes()), "{unsound}");
        }
    }

    #[test]
    fn a_target_has_no_byte_that_a_uri_cannot_have() {
        for sound in ["/", "", "/a%zz;b=c,d:e@f", "/[a]|^\\", "/?a=[]&b={`}|^\\??/"] {
            assert!(is_path_and_query(sound.as_bytes()), "{sound}");
        }
        for byte in (0..=b' ').chain(*b"\"<>#").chain(0x7f..=0xff) {
            assert!(!is_path_and_query(&[b'/', byte]) && !is_path_and_query(&[b'/', b'?', byte]), "{byte:#x}");
        }
        assert!(!is_path_and_query(b"/{") && !is_path_and_query(b"/`") && !is_path_and_query(b"/}"));
    }
}
