//! One spelling for each path (RFC 3986 §6.2.2), for comparison only. Pure.
//!
//! 1. What may stand in a path as it is (RFC 3986 §3.3) does, but for `;`; every other byte is an escape in upper case.
//! 2. Repeated slashes count once; dot segments are resolved; nothing leads above the root.
//! 3. A path is *ambiguous* if apps disagree about it: [`Ambiguity`] has the list. [`readings`](super::readings) are what
//!    they make of it.
//!
//! # Why
//! RFC 3986 knows one meaning of `/@me` and `/%40me`; many routers compare paths without decoding, and do not. A path
//! without `%`, `\`, `;`, `//`, `/.`, `./` and bytes that need an escape is its own canonical form; nearly all are, and
//! cost one look at each byte. Repeated slashes are no ambiguity: no framework gives `//x` a meaning that `/x` lacks.

use std::borrow::Cow;

/// A path in canonical form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canonical<'p> {
    /// The path.
    pub path: Cow<'p, str>,
    /// Why apps may disagree about it, if they may: the gravest reason.
    pub ambiguity: Option<Ambiguity>,
}

/// Why apps may disagree about a path, the gravest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ambiguity {
    /// `%61`: a router that compares without decoding does not see `a`.
    NeedlessEscape,
    /// `/admin./x`, `/admin%20/x`: Windows, and whoever trims, sees `/admin/x`.
    Trimmed,
    /// `／` and `．`, to whoever normalises Unicode (NFKC) after decoding.
    FullWidth,
    /// `%3F`, `%23`: who decodes before splitting off the query sees the path end here.
    EncodedDelimiter,
    /// `;` or `%3B`: path parameters (RFC 3986 §3.3), or text.
    Semicolon,
    /// `\`: a slash on Windows.
    Backslash,
    /// `%5C`.
    EncodedBackslash,
    /// `%2F`: text, or a slash.
    EncodedSlash,
    /// `.` and `..`: many apps do not resolve them, and to them `/admin/../public` lies below `/admin`.
    DotSegment,
    /// `%252F`: text, or an escape to whoever decodes twice.
    DoubleEncoding,
    /// `%C0%AF`: an ASCII character in more bytes than it needs (RFC 3629 §3). What it comes to is anybody's guess, from here on.
    Overlong,
    /// `%0A`: dropped, trimmed, or the end of what a pattern compares.
    Control,
    /// `%00`: the end of the path, to C.
    Nul,
    /// `%zz`, `%u002f`, `%`.
    Broken,
}

impl Ambiguity {
    /// How many there are.
    pub const COUNT: usize = Self::Broken as usize + 1;

    /// In a few words: a [`LocalReply::BadRequest`](crate::local_reply::LocalReply::BadRequest) says so.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NeedlessEscape => "needless percent-encoding",
            Self::Trimmed => "dot or space at the edge of a segment",
            Self::FullWidth => "full-width character",
            Self::EncodedDelimiter => "encoded delimiter",
            Self::Semicolon => "semicolon",
            Self::Backslash => "backslash",
            Self::EncodedBackslash => "encoded backslash",
            Self::EncodedSlash => "encoded slash",
            Self::DotSegment => "dot segment",
            Self::DoubleEncoding => "double encoding",
            Self::Overlong => "overlong UTF-8",
            Self::Control => "control character",
            Self::Nul => "NUL",
            Self::Broken => "broken percent-encoding",
        }
    }

    /// Whether what apps make of it cannot be listed.
    pub fn is_anybodys_guess(self) -> bool {
        self >= Self::Overlong
    }
}

/// The canonical form of `path` (without query).
pub fn canonical(path: &str) -> Canonical<'_> {
    if is_plain(path) {
        return Canonical { path: Cow::Borrowed(path), ambiguity: None };
    }
    let (decoded, ambiguity) = decode(path);
    Canonical { path: Cow::Owned(resolve(&decoded)), ambiguity }
}

fn is_plain(path: &str) -> bool {
    let mut before = b'a';
    for byte in path.bytes() {
        match PLACE[usize::from(byte)] {
            Place::Anywhere => {}
            Place::Slash if before == b'/' || before == b'.' => return false,
            Place::Dot if before == b'/' => return false,
            Place::Slash | Place::Dot => {}
            Place::Escaped => return false,
        }
        before = byte;
    }
    before != b'.'
}

/// Where a byte may stand in a path that is its own canonical form.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Anywhere,
    Slash,
    Dot,
    Escaped,
}

const PLACE: [Place; 256] = {
    let mut place = [Place::Escaped; 256];
    let mut byte = 0;
    while byte < 256 {
        place[byte] = match byte as u8 {
            b'/' => Place::Slash,
            b'.' => Place::Dot,
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => Place::Anywhere,
            b'-' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b'=' | b':' | b'@' => {
                Place::Anywhere
            }
            _ => Place::Escaped,
        };
        byte += 1;
    }
    place
};

/// Whether a byte stands in a canonical path as it is: `pchar` without `;`.
fn may_stand(byte: u8) -> bool {
    matches!(PLACE[usize::from(byte)], Place::Anywhere | Place::Dot)
}

fn push_byte(out: &mut String, byte: u8) {
    if byte == b'/' || may_stand(byte) { out.push(char::from(byte)) } else { push_escape(out, byte) }
}

/// Writes a byte as an escape.
pub(super) fn push_escape(out: &mut String, byte: u8) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    out.extend(['%', char::from(HEX[usize::from(byte >> 4)]), char::from(HEX[usize::from(byte & 15)])]);
}

/// The byte that the escape at the start of `text` stands for.
pub(super) fn escaped(text: &[u8]) -> Option<u8> {
    match text {
        [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            Some(value(*high) * 16 + value(*low))
        }
        _ => None,
    }
}

fn value(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

/// Decodes what may stand as it is, and escapes what may not; says the gravest ambiguity.
pub(super) fn decode(path: &str) -> (String, Option<Ambiguity>) {
    let mut decoded = String::with_capacity(path.len());
    let mut gravest = None;
    let mut rest = path.as_bytes();
    while let [byte, after @ ..] = rest {
        let (found, length) = match (byte, escaped(rest)) {
            (b'%', None) => {
                decoded.push('%');
                (Some(Ambiguity::Broken), 1)
            }
            (_, Some(byte)) => {
                let further = rest.get(3..).unwrap_or_default();
                if byte == b'/' {
                    push_escape(&mut decoded, byte)
                } else {
                    push_byte(&mut decoded, byte)
                }
                (of_escape(byte, further), 3)
            }
            (b'\\' | b';', None) => {
                decoded.push(char::from(*byte));
                (Some(if *byte == b';' { Ambiguity::Semicolon } else { Ambiguity::Backslash }), 1)
            }
            (byte, None) => {
                push_byte(&mut decoded, *byte);
                (of_control(*byte), 1)
            }
        };
        gravest = gravest.max(found);
        rest = after.get(length - 1..).unwrap_or_default();
    }
    let gravest = gravest.max(of_segments(&decoded)).max(of_characters(&decoded));
    (decoded, gravest)
}

fn of_control(byte: u8) -> Option<Ambiguity> {
    match byte {
        0 => Some(Ambiguity::Nul),
        _ => byte.is_ascii_control().then_some(Ambiguity::Control),
    }
}

fn of_escape(byte: u8, further: &[u8]) -> Option<Ambiguity> {
    match byte {
        b'/' => Some(Ambiguity::EncodedSlash),
        b'\\' => Some(Ambiguity::EncodedBackslash),
        b';' => Some(Ambiguity::Semicolon),
        b'?' | b'#' => Some(Ambiguity::EncodedDelimiter),
        // Decoded again, this is an escape.
        b'%' => matches!(further, [high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit())
            .then_some(Ambiguity::DoubleEncoding),
        byte if may_stand(byte) => Some(Ambiguity::NeedlessEscape),
        byte => of_control(byte),
    }
}

fn of_segments(decoded: &str) -> Option<Ambiguity> {
    let of = |segment| match segment {
        "." | ".." => Some(Ambiguity::DotSegment),
        segment => (trimmed(segment).len() < segment.len()).then_some(Ambiguity::Trimmed),
    };
    decoded.split('/').map(of).max().flatten()
}

/// What is left of a segment where spaces at its edges, and dots at its end, do not count.
pub(super) fn trimmed(mut segment: &str) -> &str {
    loop {
        let mut shorter = segment;
        for space in ["%20", "%C2%A0"] {
            shorter = shorter.trim_start_matches(space).trim_end_matches(space);
        }
        if !matches!(shorter, "." | "..") {
            shorter = shorter.strip_suffix('.').unwrap_or(shorter);
        }
        if shorter.len() == segment.len() {
            return segment;
        }
        segment = shorter;
    }
}

/// What the bytes beyond ASCII make, decoded as UTF-8.
fn of_characters(decoded: &str) -> Option<Ambiguity> {
    const OVERLONG: [&str; 7] = ["%C0", "%C1", "%E0%8", "%E0%9", "%F0%8", "%F8%8", "%FC%8"];
    const CONTROL: [&str; 2] = ["%C2%8", "%C2%9"];
    let starts = |rest: &str, list: &[&str]| list.iter().any(|start| rest.starts_with(start));
    let of = |(at, _)| match &decoded[at..] {
        rest if starts(rest, &OVERLONG) => Some(Ambiguity::Overlong),
        rest if starts(rest, &CONTROL) => Some(Ambiguity::Control),
        rest => folded(rest).map(|_| Ambiguity::FullWidth),
    };
    decoded.match_indices('%').map(of).max().flatten()
}

/// The ASCII that Unicode normalisation (NFKC) makes of the escaped character at the start of `text`, and how long that is.
pub(super) fn folded(text: &str) -> Option<(&'static str, usize)> {
    const SMALL: [(&str, &str); 6] = [
        ("%E2%80%A4", "."),
        ("%E2%80%A5", ".."),
        ("%E2%80%A6", "..."),
        ("%EF%B9%92", "."),
        ("%EF%B9%94", ";"),
        ("%EF%B9%A8", "\\"),
    ];
    // U+FF01 to U+FF5E, in the order of ASCII.
    const FULL: &str =
        "!\"#$%&'()*+,-./0123456789:;<=>?@ABCDEFGHIJKLMNOPQRSTUVWXYZ[\\]^_`abcdefghijklmnopqrstuvwxyz{|}~";
    if let Some((character, ascii)) = SMALL.iter().find(|(character, _)| text.starts_with(character)) {
        return Some((ascii, character.len()));
    }
    let last = escaped(text.as_bytes().get(6..)?)?;
    let index = match text.get(..6)? {
        "%EF%BC" => usize::from(last.checked_sub(0x81)?),
        "%EF%BD" => usize::from(last.checked_sub(0x80)?) + 0x3F,
        _ => return None,
    };
    Some((FULL.get(index..=index)?, 9))
}

/// Counts repeated slashes once and resolves dot segments (RFC 3986 §5.2.4).
pub(super) fn resolve(path: &str) -> String {
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
        }
    }

    #[test]
    fn what_apps_read_differently_is_called_ambiguous_by_its_gravest_reason() {
        use Ambiguity::*;
        for (sent, why) in [
            ("/%40me", NeedlessEscape),
            ("/admin./x", Trimmed),
            ("/a.", Trimmed),
            ("/...", Trimmed),
            ("/admin%20/x", Trimmed),
            ("/%20admin", Trimmed),
            ("/admin%c2%a0", Trimmed),
            ("/%ef%bc%8fadmin", FullWidth),
            ("/%ef%bd%81", FullWidth),
            ("/%e2%80%a5/a", FullWidth),
            ("/a%3fb", EncodedDelimiter),
            ("/a%23", EncodedDelimiter),
            ("/a;x=1/b", Semicolon),
            ("/a%3bx", Semicolon),
            ("/a\\b", Backslash),
            ("/a%5cb", EncodedBackslash),
            ("/a%2fb", EncodedSlash),
            ("/admin/../x", DotSegment),
            ("/%2e/x", DotSegment),
            ("/users/.", DotSegment),
            ("/%252e%252e/a", DoubleEncoding),
            ("/%2561dmin", DoubleEncoding),
            ("/a%25252Fb", DoubleEncoding),
            ("/%c0%ae/a", Overlong),
            ("/%e0%80%af", Overlong),
            ("/%f0%80%80%af", Overlong),
            ("/a%0a", Control),
            ("/a%c2%85", Control),
            ("/a%7f", Control),
            ("/a%00", Nul),
            ("/a;b%00", Nul),
            ("/a%", Broken),
            ("/a%2", Broken),
            ("/a%zz", Broken),
            ("/a%u002fb", Broken),
        ] {
            assert_eq!(canonical(sent).ambiguity, Some(why), "{sent}");
        }
        for clear in
            ["/100%25", "/caf%c3%a9", "/caf%E9", "/a%20b", "//a///b", "/.well-known/x", "/a..b/.c", "/%e6%9d%b1"]
        {
            assert_eq!(canonical(clear).ambiguity, None, "{clear}");
        }
    }

    proptest::proptest! {
        #[test]
        fn the_canonical_form_of_a_canonical_form_is_itself(sent in "/[a-c./%2eE5;\\\\]{0,24}") {
            let once = path(&sent);
            if canonical(&sent).ambiguity.is_none() {
                proptest::prop_assert_eq!(path(&once), once);
            }
        }
    }
}
