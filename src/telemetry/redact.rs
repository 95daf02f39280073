//! What of a client's text may be written to a log, and how.
//!
//! 1. The path is kept, and so are query parameters, except the values of those whose name says that they are secret.
//!    Names are compared as the app will read them: percent-decoded, whatever the case, `-` and `_` left out, and each
//!    part of `user[password]` and `auth.token` for itself. Path parameters (`/a;jsessionid=…`) are treated alike.
//! 2. A target is written as graphic ASCII without quote and backslash: any other byte is percent-encoded. A target is
//!    therefore one word, in JSON as on a terminal.
//! 3. Any other text is written as the inside of a JSON string. Beyond what JSON asks for, characters that move the cursor
//!    or turn the direction of writing are escaped.
//! 4. What is longer than [`LONGEST`] bytes is cut, with `...` at the end.
//!
//! # Why
//! Hiding every value would be safer still and would make the log useless for finding a request again. An attacker who can
//! write a line feed, a quote or an escape sequence into a log can forge its lines, or act on the terminal that shows it.

use memchr::memchr2;

/// Bytes that are written of one text.
pub const LONGEST: usize = 2048;

/// What stands in place of a secret value.
const HIDDEN: &[u8] = b"***";

/// Names of secret parameters, normalised.
const SECRET: [&str; 21] = [
    "assertion",
    "auth",
    "authorization",
    "awsaccesskeyid",
    "code",
    "codeverifier",
    "jwt",
    "key",
    "otp",
    "pass",
    "passphrase",
    "passwd",
    "pin",
    "privatekey",
    "pwd",
    "samlresponse",
    "session",
    "sid",
    "sig",
    "ticket",
    "totp",
];

/// Endings of names of secret parameters, normalised.
const SECRET_ENDING: [&str; 10] = [
    "accesskey",
    "apikey",
    "credential",
    "credentials",
    "password",
    "secret",
    "sessid",
    "sessionid",
    "signature",
    "token",
];

/// Bytes of a parameter's name that are looked at; what is longer is taken for secret.
const NAME: usize = 64;

/// Which parameters are secret.
#[derive(Clone, Debug, Default)]
pub struct Redaction {
    configured: Vec<Box<[u8]>>,
}

impl Redaction {
    /// The well-known names, and `names` besides: those by which the configuration says that credentials are carried.
    pub fn new<'a>(names: impl IntoIterator<Item = &'a str>) -> Self {
        let normal = |name: &str| name.bytes().filter_map(normal).collect();
        Self { configured: names.into_iter().map(normal).collect() }
    }

    /// Writes a path and query as rules 1, 2 and 4 say.
    pub fn target(&self, out: &mut Vec<u8>, target: &str) {
        let start = out.len();
        let (path, query) = match memchr::memchr(b'?', target.as_bytes()) {
            Some(mark) => (&target[..mark], Some(&target[mark + 1..])),
            None => (target, None),
        };
        match memchr::memchr(b';', path.as_bytes()) {
            None => word(out, path.as_bytes()),
            Some(_) => path.split_inclusive('/').for_each(|segment| self.parameters(out, segment)),
        }
        if let Some(query) = query {
            out.push(b'?');
            self.parameters(out, query);
        }
        if out.len() - start > LONGEST {
            out.truncate(start + LONGEST);
            out.extend_from_slice(b"...");
        }
    }

    fn parameters(&self, out: &mut Vec<u8>, text: &str) {
        let mut rest = text.as_bytes();
        loop {
            let end = memchr2(b'&', b';', rest).unwrap_or(rest.len());
            let (parameter, after) = rest.split_at(end);
            match memchr::memchr(b'=', parameter) {
                Some(sign) if self.is_secret(&parameter[..sign]) => {
                    word(out, &parameter[..=sign]);
                    out.extend_from_slice(HIDDEN);
                    // A path segment keeps its slash.
                    if parameter.ends_with(b"/") && after.is_empty() {
                        out.push(b'/');
                    }
                }
                _ => word(out, parameter),
            }
            let Some((separator, after)) = after.split_first() else { return };
            out.push(*separator);
            rest = after;
        }
    }

    /// Whether a parameter of this name, as sent, is secret.
    fn is_secret(&self, name: &[u8]) -> bool {
        let mut part = [0; NAME];
        let mut length = 0;
        let mut name = name.iter();
        while let Some(byte) = name.next() {
            let byte = match byte {
                b'%' => match decoded(name.as_slice()) {
                    Some(byte) => {
                        name.nth(1);
                        byte
                    }
                    None => b'%',
                },
                byte => *byte,
            };
            if matches!(byte, b'[' | b']' | b'.') {
                if self.names_a_secret(&part[..length]) {
                    return true;
                }
                length = 0;
            } else if let Some(byte) = normal(byte) {
                let Some(place) = part.get_mut(length) else { return true };
                *place = byte;
                length += 1;
            }
        }
        self.names_a_secret(&part[..length])
    }

    fn names_a_secret(&self, name: &[u8]) -> bool {
        SECRET.iter().any(|secret| secret.as_bytes() == name)
            || SECRET_ENDING.iter().any(|ending| name.ends_with(ending.as_bytes()))
            || self.configured.iter().any(|secret| **secret == *name)
    }
}

/// As `Iterator::all`, without an early way out: the compiler then looks at many bytes at once.
fn all(bytes: &[u8], is: impl Fn(&u8) -> bool) -> bool {
    bytes.iter().fold(true, |so_far, byte| so_far & is(byte))
}

/// The byte that `%` and the first two of `digits` stand for.
fn decoded(digits: &[u8]) -> Option<u8> {
    let digit = |at: usize| digits.get(at).and_then(|byte| char::from(*byte).to_digit(16));
    Some((digit(0)? * 16 + digit(1)?) as u8)
}

/// A byte of a name as it is compared; `None`: left out.
fn normal(byte: u8) -> Option<u8> {
    (!matches!(byte, b'-' | b'_' | b'+' | b' ')).then(|| byte.to_ascii_lowercase())
}

/// Writes part of a target (rule 2).
fn word(out: &mut Vec<u8>, bytes: &[u8]) {
    let plain = |byte: &u8| byte.is_ascii_graphic() & (*byte != b'"') & (*byte != b'\\');
    if all(bytes, plain) {
        return out.extend_from_slice(bytes);
    }
    for byte in bytes {
        match plain(byte) {
            true => out.push(*byte),
            false => out.extend_from_slice(&[b'%', hex(byte >> 4), hex(byte & 15)]),
        }
    }
}

/// Writes text as the inside of a JSON string (rules 3 and 4).
pub fn text(out: &mut Vec<u8>, text: &str) {
    let plain = |byte: &u8| (0x20..0x7f).contains(byte) & (*byte != b'"') & (*byte != b'\\');
    if text.len() <= LONGEST && all(text.as_bytes(), plain) {
        return out.extend_from_slice(text.as_bytes());
    }
    let shown = text.floor_char_boundary(LONGEST);
    for character in text[..shown].chars() {
        match character {
            '"' | '\\' => out.extend_from_slice(&[b'\\', character as u8]),
            // All of these are in the basic plane: one \u escape each.
            _ if character.is_control() || turns_writing(character) => {
                let code = character as u32;
                out.extend_from_slice(b"\\u");
                out.extend([12, 8, 4, 0].map(|shift| hex((code >> shift & 15) as u8)));
            }
            _ => out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    if shown < text.len() {
        out.extend_from_slice(b"...");
    }
}

/// Writes bytes that ought to be text; those that are not become replacement characters.
pub fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    text(out, &String::from_utf8_lossy(bytes));
}

/// Line and paragraph separators, and what is invisible or turns the direction of writing.
fn turns_writing(character: char) -> bool {
    matches!(character, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{61c}' | '\u{feff}')
}

fn hex(digit: u8) -> u8 {
    b"0123456789ABCDEF"[usize::from(digit & 15)]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(target: &str) -> String {
        let mut out = Vec::new();
        Redaction::new(["ws-ticket-for-us"]).target(&mut out, target);
        String::from_utf8(out).unwrap()
    }

    fn escaped(value: &str) -> String {
        let mut out = Vec::new();
        text(&mut out, value);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn harmless_targets_are_kept() {
        for target in ["/", "/users/3", "/users?page=2&sort=name&flag&=&a=b=c", "*", "/a;v=1/b", "/?", "/x?keyboard=de"]
        {
            assert_eq!(shown(target), target);
        }
    }

    #[test]
    fn values_of_secret_parameters_are_hidden() {
        assert_eq!(shown("/a?page=1&token=abc&x=2"), "/a?page=1&token=***&x=2");
        assert_eq!(shown("/cb?code=abc;state=xyz"), "/cb?code=***;state=xyz");
        assert_eq!(shown("/a?Access-Token=abc="), "/a?Access-Token=***");
        assert_eq!(
            shown("/a?apiKey=1&X-Amz-Signature=2&csrf_token=3"),
            "/a?apiKey=***&X-Amz-Signature=***&csrf_token=***"
        );
        assert_eq!(shown("/ws?ws_ticket_for_us=1"), "/ws?ws_ticket_for_us=***");
    }

    #[test]
    fn a_secret_name_in_disguise_is_still_a_secret_name() {
        assert_eq!(shown("/a?%74oken=abc"), "/a?%74oken=***");
        assert_eq!(shown("/a?user[password]=abc&user%5Bpassword%5D=x"), "/a?user[password]=***&user%5Bpassword%5D=***");
        assert_eq!(shown("/a?auth.v=abc"), "/a?auth.v=***");
        let long = "a".repeat(NAME + 1);
        assert_eq!(shown(&format!("/a?{long}=abc")), format!("/a?{long}=***"));
        assert_eq!(shown("/a?%7=1&%=2&%zz=3"), "/a?%7=1&%=2&%zz=3");
    }

    #[test]
    fn path_parameters_that_carry_sessions_are_hidden() {
        assert_eq!(shown("/a;jsessionid=1A2B?x=1"), "/a;jsessionid=***?x=1");
        assert_eq!(shown("/a;sid=1A2B/b/c"), "/a;sid=***/b/c");
    }

    #[test]
    fn a_target_is_one_word_of_graphic_ascii() {
        let hostile = shown("/a\"}\r\n{\\\u{1b}[31m \u{202e}é");
        assert_eq!(hostile, "/a%22}%0D%0A{%5C%1B[31m%20%E2%80%AE%C3%A9");
    }

    #[test]
    fn text_cannot_leave_its_string() {
        let hostile = "alice\",\"status\":200}\n{\"a\":\"\u{1b}[2J\u{9b}\u{2028}\u{202e}\\";
        let line = format!("\"{}\"", escaped(hostile));
        assert!(!line.chars().any(|c| c.is_control() || turns_writing(c)), "{line}");
        assert_eq!(serde_json::from_str::<String>(&line).unwrap(), hostile);
        assert_eq!(escaped("Åsa 🦀"), "Åsa 🦀");
    }

    #[test]
    fn long_text_is_cut_between_characters() {
        assert_eq!(escaped(&"é".repeat(LONGEST)).len(), LONGEST + 3);
        assert_eq!(shown(&format!("/{}", "a".repeat(9000))).len(), LONGEST + 3);
    }

    #[test]
    fn bytes_that_are_no_text_are_replaced() {
        let mut out = Vec::new();
        bytes(&mut out, b"a\xff\n");
        assert_eq!(String::from_utf8(out).unwrap(), "a\u{fffd}\\u000A");
    }

    proptest::proptest! {
        #[test]
        fn any_text_comes_back_from_json(value in ".{0,200}") {
            let line = format!("\"{}\"", escaped(&value));
            assert_eq!(serde_json::from_str::<String>(&line).unwrap(), value);
        }

        #[test]
        fn no_secret_value_is_shown(name in "[a-zA-Z_%0-9]{0,5}token", value in "[0-9]{20}", before in "[a-z=&;/?]{0,9}") {
            let text = shown(&format!("/p?{before}&{name}={value}"));
            assert!(!text.contains(&value), "{text}");
        }
    }
}
