//! What a usual app takes for a name, although it is spelt otherwise. Pure.
//!
//! 1. A field's name: every character that is neither letter nor digit is like any other.
//! 2. A cookie's or parameter's name is read as PHP makes a variable of it: decoded as in a form, what is no visible ASCII around it
//!    taken off, cut at a NUL, `.`, space and `[` as `_`; and `name[x]` is a place in a list called `name`. Brackets around it count
//!    for nothing. Upper case is not lower case.
//! 3. A parameter is also read without what stands before its name of `?`, `#`, `&` and `.`.
//!
//! # Why
//! Rule 1: WSGI, Rack, CGI and PHP read `X_User_Id` and `X-User-Id` as one variable, some servers any punctuation.
//!
//! Rule 2: PHP before 7.4.11 decoded names of cookies, too (CVE-2020-7070); it cuts a parameter's name at `%00` to this day. Django,
//! Starlette, old Werkzeug and `cookie` take off what Python or JavaScript calls white space (U+00A0, U+0085, U+2003): in UTF-8 and
//! Latin-1 that is all beyond ASCII, or control. `qs` and Rack read `[token]` as `token`.
//!
//! Rule 3: of `??token` Node's `url.parse` leaves a `?` to `URLSearchParams` and `qs` (`ignoreQueryPrefix`), which take it off, and
//! `query-string` takes off any of the first three; `qs` (`allowDots`) reads `.token` as `[token]`.

/// Rule 1; field names are lower case already.
pub fn alike(own: &[u8], other: &[u8]) -> bool {
    let punctuation = |byte: u8| !byte.is_ascii_alphanumeric();
    own.len() == other.len() && own.iter().zip(other).all(|(a, b)| a == b || punctuation(*a) && punctuation(*b))
}

/// Rule 2: whether some app takes `sent` for `name`. It takes `name` itself so.
pub fn is_read_as(name: &[u8], sent: &[u8]) -> bool {
    begins_as(name, Decoded(sent).skip_while(is_around))
}

/// Rules 2 and 3: whether some app takes the parameter `sent` for `name`. It takes `name` itself so.
pub fn is_parameter_read_as(name: &[u8], sent: &[u8]) -> bool {
    let mut sent = Decoded(sent);
    loop {
        if begins_as(name, sent.skip_while(is_around)) {
            return true;
        }
        if !matches!(sent.find(|byte| !is_around(byte)), Some(b'?' | b'#' | b'&' | b'.')) {
            return false;
        }
    }
}

/// What may stand around a name.
fn is_around(byte: &u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'[' | b']')
}

/// Whether some app takes what is `sent` from here on for `name`.
fn begins_as(name: &[u8], mut sent: impl Iterator<Item = u8>) -> bool {
    let begins = name.iter().all(|own| sent.next().is_some_and(|byte| as_variable(byte) == as_variable(*own)));
    begins
        && match sent.next() {
            None | Some(0 | b'[' | b']') => true,
            Some(byte) => !byte.is_ascii_graphic() && sent.take_while(|byte| *byte != 0).all(|byte| is_around(&byte)),
        }
}

/// A byte of a name, as a variable has it.
pub fn as_variable(byte: u8) -> u8 {
    if matches!(byte, b'.' | b' ' | b'[') { b'_' } else { byte }
}

/// Bytes of a text as a form's are decoded (`+` is a space). What is no valid escape stays.
#[derive(Clone, Copy, Debug)]
pub struct Decoded<'a>(pub &'a [u8]);

impl Iterator for Decoded<'_> {
    type Item = u8;

    fn next(&mut self) -> Option<u8> {
        let digit = |byte: &u8| char::from(*byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let (&byte, further) = self.0.split_first()?;
        self.0 = further;
        match (byte, further) {
            (b'+', _) => Some(b' '),
            (b'%', [high, low, after @ ..]) => match (digit(high), digit(low)) {
                (Some(high), Some(low)) => {
                    self.0 = after;
                    Some(high << 4 | low)
                }
                _ => Some(b'%'),
            },
            _ => Some(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_an_app_takes_for_another() {
        for sent in [
            "my_session",
            "my.session",
            "my session",
            "my+session",
            "my[session",
            "my_session[]",
            "my_session[a][b]",
            "my_session[",
            "%6dy%2Esession",
            "+my_session",
            "%20my_session",
            "%09my_session",
            "my_session%00x",
            "my_session%20",
            "[my_session]",
            "my_session]",
            "my_session%5b%5d",
            "\u{a0}my_session",
            "my_session\u{3000}",
        ] {
            assert!(is_read_as(b"my_session", sent.as_bytes()), "{sent}");
        }
        for sent in [
            "My.session",
            "my_sessio",
            "my_session2",
            "my-session",
            "%my_session",
            "",
            "x_my_session",
            "my_session x",
            "my_session%20x",
            "my%00_session",
            "\"my_session\"",
            "my_session.x",
            "%256dy_session",
            "[",
            "%",
        ] {
            assert!(!is_read_as(b"my_session", sent.as_bytes()), "{sent}");
        }
        assert!(is_read_as(b"connect.sid", b"connect_sid"));
    }

    #[test]
    fn what_stands_before_a_parameters_name_makes_no_other() {
        let both = |sent: &str| [is_parameter_read_as(b"t_k", sent.as_bytes()), is_read_as(b"t_k", sent.as_bytes())];
        for sent in [
            "?t_k",
            "#t_k",
            "&t_k",
            ".t_k",
            "??t_k",
            "?.#t.k[]",
            "%3ft_k",
            "%2Et_k",
            " ? t_k",
            "?[t_k]",
            "[.t_k",
            "?\u{a0}t_k ",
        ] {
            assert_eq!(both(sent), [true, false], "{sent}");
        }
        for sent in ["t_k", "[t_k]", "+t_k%00x", "t.k"] {
            assert_eq!(both(sent), [true; 2], "{sent}");
        }
        for sent in ["?", "", "?.", "?xt_k", "x?t_k", "x.t_k", "-t_k", "?t_k2", "!t_k", "%253ft_k"] {
            assert_eq!(both(sent), [false; 2], "{sent}");
        }
        assert!(is_parameter_read_as(b"_method", b".method") && is_parameter_read_as(b"_method", b"._method"));
        let long = "? . ".repeat(100_000);
        assert_eq!(both(&long), [false; 2]);
    }
}
