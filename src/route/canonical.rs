//! One spelling for each path (RFC 3986 §6.2.2), for comparison only. Pure.
//!
//! 1. What may stand in a path as it is (RFC 3986 §3.3) does, but for `;`; every other byte is an escape in upper case.
//! 2. Repeated slashes count once; dot segments are resolved; nothing leads above the root.
//! 3. A path is *ambiguous* if apps disagree about it: an escaped slash, backslash or NUL, a raw backslash, a `;`, a broken
//!    escape, or a dot, slash, backslash, NUL or percent sign that is escaped twice; and dot segments, which many apps
//!    do not resolve: to them `/admin/../public` lies below `/admin`.
//!
//! # Why
//! No app tells `/@me` from `/%40me`, so a rule for the one is a rule for the other. A path without `%`, `\`, `;`, `//`,
//! `/.` and bytes that need an escape is its own canonical form; nearly all are, and cost one look at each byte.

use std::borrow::Cow;

/// A path in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical<'p> {
    /// The path.
    pub path: Cow<'p, str>,
    /// Why apps may disagree about it, if they may.
    pub ambiguous: Option<&'static str>,
}

/// The canonical form of `path` (without query).
pub fn canonical(path: &str) -> Canonical<'_> {
    if is_plain(path) {
        return Canonical { path: Cow::Borrowed(path), ambiguous: None };
    }
    let (decoded, ambiguous) = decode(path);
    let ambiguous = ambiguous.or(has_dot_segments(&decoded).then_some(DOT_SEGMENT));
    Canonical { path: Cow::Owned(resolve(&decoded)), ambiguous }
}

/// The ways in which apps read an ambiguous path; its canonical form is not among them.
///
/// `None` if they cannot be listed: what NULs, broken escapes and escaped escapes come to is anybody's guess.
pub fn readings(path: &str) -> Option<Vec<String>> {
    let (decoded, ambiguous) = decode(path);
    if !matches!(ambiguous, None | Some(ENCODED_SLASH | ENCODED_BACKSLASH | BACKSLASH | SEMICOLON)) {
        return None;
    }
    let mut readings = Vec::new();
    for slashes in [false, true] {
        for backslashes in [false, true] {
            for parameters in [false, true] {
                let mut reading = decoded.clone();
                // Path parameters end at a slash. Whether an escaped one ends them is read both ways.
                if parameters {
                    let bare = decode_slashes(without_parameters(&reading), slashes, backslashes);
                    readings.extend([resolve(&bare), merge_slashes(&bare)]);
                }
                reading = decode_slashes(reading, slashes, backslashes);
                if parameters {
                    reading = without_parameters(&reading);
                }
                readings.extend([resolve(&reading), merge_slashes(&reading)]);
            }
        }
    }
    readings.sort_unstable();
    readings.dedup();
    Some(readings)
}

const ENCODED_SLASH: &str = "encoded slash";
const ENCODED_BACKSLASH: &str = "encoded backslash";
const BACKSLASH: &str = "backslash";
const SEMICOLON: &str = "semicolon";
const DOT_SEGMENT: &str = "dot segment";
const NUL: &str = "NUL";
const BROKEN: &str = "broken percent-encoding";
const TWICE: &str = "double encoding";

fn is_plain(path: &str) -> bool {
    let mut after_slash = false;
    for byte in path.bytes() {
        match byte {
            b'%' | b'\\' | b';' | 0 => return false,
            b'/' | b'.' if after_slash => return false,
            b'/' => after_slash = true,
            _ if !may_stand(byte) => return false,
            _ => after_slash = false,
        }
    }
    true
}

/// Whether a byte stands in a canonical path as it is: `pchar` without `;`.
fn may_stand(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,=:@".contains(&byte)
}

fn push_byte(out: &mut String, byte: u8) {
    if byte == b'/' || may_stand(byte) {
        out.push(char::from(byte));
    } else {
        const HEX: &[u8; 16] = b"0123456789ABCDEF";
        out.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
    }
}

/// Decodes what may stand as it is, and escapes what may not; says the gravest ambiguity: those whose readings cannot be listed weigh most.
fn decode(path: &str) -> (String, Option<&'static str>) {
    let mut decoded = String::with_capacity(path.len());
    let mut ambiguous = None;
    let mut grave = None;
    let mut rest = path;
    while let Some(at) = rest.find(['%', '\\', ';', '\0']) {
        let (before, escape) = rest.split_at(at);
        before.bytes().for_each(|byte| push_byte(&mut decoded, byte));
        rest = escape.get(1..).unwrap_or_default();
        match escape.as_bytes() {
            [b'\\', ..] => {
                decoded.push('\\');
                ambiguous = Some(BACKSLASH);
            }
            [b';', ..] => {
                decoded.push(';');
                ambiguous = Some(SEMICOLON);
            }
            [0, ..] => {
                decoded.push('\0');
                grave = Some(NUL);
            }
            [_, high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = escape.get(3..).unwrap_or_default();
                let byte = value(*high) * 16 + value(*low);
                match byte {
                    b'/' => ambiguous = Some(ENCODED_SLASH),
                    b'\\' => ambiguous = Some(ENCODED_BACKSLASH),
                    0 => grave = Some(NUL),
                    b'%' if hides_an_escape(rest.as_bytes()) => grave = Some(TWICE),
                    _ => {}
                }
                match byte {
                    b'/' => decoded.push_str("%2F"),
                    byte => push_byte(&mut decoded, byte),
                }
            }
            _ => {
                decoded.push('%');
                grave = Some(BROKEN);
            }
        }
    }
    rest.bytes().for_each(|byte| push_byte(&mut decoded, byte));
    (decoded, grave.or(ambiguous))
}

/// What follows an escaped percent sign makes, decoded again, a character that changes which path this is.
fn hides_an_escape(rest: &[u8]) -> bool {
    match rest {
        [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            let byte = value(*high) * 16 + value(*low);
            matches!(byte, b'.' | b'/' | b'\\' | b'%' | b';' | 0) || byte.is_ascii_alphanumeric()
        }
        _ => false,
    }
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

fn decode_slashes(path: String, slashes: bool, backslashes: bool) -> String {
    let path = if slashes { path.replace("%2F", "/") } else { path };
    if backslashes { path.replace("%5C", "/").replace('\\', "/") } else { path }
}

fn without_parameters(path: &str) -> String {
    let segments: Vec<&str> = path.split('/').map(|segment| segment.split(';').next().unwrap_or(segment)).collect();
    segments.join("/")
}

fn has_dot_segments(path: &str) -> bool {
    path.split('/').any(|segment| matches!(segment, "." | ".."))
}

/// Counts repeated slashes once, and leaves dot segments as they are.
fn merge_slashes(path: &str) -> String {
    let mut merged = String::with_capacity(path.len());
    for character in path.chars() {
        if character != '/' || !merged.ends_with('/') {
            merged.push(character);
        }
    }
    merged
}

/// Counts repeated slashes once and resolves dot segments (RFC 3986 §5.2.4).
fn resolve(path: &str) -> String {
    let Some(below_root) = path.strip_prefix('/') else { return path.to_owned() };
    let mut kept: Vec<&str> = Vec::new();
    let mut ends_with_slash = false;
    for segment in below_root.split('/') {
        ends_with_slash = matches!(segment, "" | "." | "..");
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()),
            _ => kept.push(segment),
        }
    }
    let mut resolved = String::with_capacity(path.len());
    for segment in &kept {
        resolved.push('/');
        resolved.push_str(segment);
    }
    if ends_with_slash || kept.is_empty() {
        resolved.push('/');
    }
    resolved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> String {
        canonical(path).path.into_owned()
    }

    #[test]
    fn a_plain_path_is_its_own_canonical_form_and_is_not_copied() {
        for plain in ["/", "/users/7", "/a.b/c..d/e~f", "*", ""] {
            assert!(matches!(canonical(plain).path, Cow::Borrowed(same) if same == plain), "{plain}");
        }
    }

    #[test]
    fn spellings_of_a_path_have_one_canonical_form() {
        for (sent, meant) in [
            ("/%75sers", "/users"),
            ("/a%2db%7E", "/a-b~"),
            ("/caf%c3%a9", "/caf%C3%A9"),
            ("/caf\u{e9}", "/caf%C3%A9"),
            ("/%40me/a%2bb%3D%24", "/@me/a+b=$"),
            ("/a b%7b", "/a%20b%7B"),
            ("//users///7", "/users/7"),
            ("/./users/./7", "/users/7"),
            ("/x/../users", "/users"),
            ("/x/%2e%2E/users", "/users"),
            ("/../../users", "/users"),
            ("/users/.", "/users/"),
            ("/users/x/..", "/users/"),
            ("/..", "/"),
            ("//", "/"),
            ("/.well-known/x", "/.well-known/x"),
            ("/...", "/..."),
        ] {
            assert_eq!(path(sent), meant, "{sent}");
            let dots = sent.split('/').any(|segment| matches!(segment, "." | ".." | "%2e%2E"));
            assert_eq!(canonical(sent).ambiguous, dots.then_some(DOT_SEGMENT), "{sent}");
        }
    }

    #[test]
    fn what_apps_read_differently_is_called_ambiguous() {
        for (sent, why) in [
            ("/a%2fb", ENCODED_SLASH),
            ("/a%5cb", ENCODED_BACKSLASH),
            ("/a\\b", BACKSLASH),
            ("/a;x=1/b", SEMICOLON),
            ("/a%00", NUL),
            ("/a%", BROKEN),
            ("/a%2", BROKEN),
            ("/a%zz", BROKEN),
            ("/%252e%252e/a", TWICE),
            ("/a%252Fb", TWICE),
            ("/%2561dmin", TWICE),
            ("/a%25252Fb", TWICE),
            ("/a;b%00", NUL),
            ("/admin/../x", DOT_SEGMENT),
            ("/%2e/x", DOT_SEGMENT),
        ] {
            assert_eq!(canonical(sent).ambiguous, Some(why), "{sent}");
        }
        assert_eq!(canonical("/100%25").ambiguous, None);
    }

    #[test]
    fn the_readings_of_an_ambiguous_path_are_listed() {
        assert_eq!(readings("/a%2fb").unwrap(), ["/a%2Fb", "/a/b"]);
        assert_eq!(readings("/x/..%2fadmin").unwrap(), ["/admin", "/x/..%2Fadmin", "/x/../admin"]);
        assert_eq!(readings("/x/..;a/admin").unwrap(), ["/admin", "/x/../admin", "/x/..;a/admin"]);
        assert_eq!(readings("/admin/../x").unwrap(), ["/admin/../x", "/x"]);
        assert!(readings("/x%5c..%5Cadmin").unwrap().contains(&"/admin".to_owned()));
        assert!(readings("/admin;%2fx").unwrap().contains(&"/admin".to_owned()));
        assert_eq!(readings("/a%00"), None);
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_of_a_canonical_form_is_itself(sent in "/[a-c./%2eE5;\\\\]{0,24}") {
            let once = path(&sent);
            if canonical(&sent).ambiguous.is_none() {
                proptest::prop_assert_eq!(path(&once), once);
            }
        }
    }
}
