//! `php`: PHP's own sessions under phpredis. Pure.
//!
//! Measured with PHP 8.2 and phpredis 5.3.7 (the captures), and its decoders with PHP 8.2.35.
//!
//! 1. An identifier is 22 to 256 of `[A-Za-z0-9,-]`, whatever `session.sid_length` and `sid_bits_per_character` are. A comma
//!    is written `%2C`, as PHP itself writes it into the cookie, and in no other way.
//! 2. `session.serialize_handler` tells how a record is written: `php` is `NAME|VALUE` repeated; `php_binary` is the length of
//!    the name in a byte, the name and the value repeated; `php_serialize` and `igbinary` are one array of all.
//! 3. A record without a byte is a session with nothing in it, by any handler: PHP stores one for every visitor.
//! 4. Beyond that a record is read whole or not at all.
//! 5. A record that another handler wrote is refused: told by how it begins, or that the other reads it whole.
//!
//! # Why
//! Rule 1: `_` is in no identifier, so no credential reaches the key of a lock (identifier and `_LOCK`).
//!
//! Rule 5: a name that a visitor gave, `|i:5;user_id|i:1;x|C:1:"A":2:{`, stored by `php_serialize` or `php_binary`, would be
//! the variables of user 1 to `php`. An app that has changed its handler has such records for a while.
//!
//! Rule 2: PHP before 5.4 marked variables without a value, by `!` before the name or by the high bit of its length, and no
//! PHP since has written any. PHP 8.2 takes `!` for a part of the name, and so does this; a length with the high bit is refused.

use super::datum::Datum;
use super::serialized::{self, Array, Key, Values};
use super::{Handler, Record, Stored, Wanted, Way, identifier, igbinary};
use crate::exchange::Located;

#[cfg(test)]
pub mod odd;

/// What PHP lets an identifier be: `session.sid_length`.
const LENGTH: std::ops::RangeInclusive<usize> = 22..=256;

/// Identifiers in the clear, and records by a handler.
pub struct Php {
    prefix: String,
    handler: Handler,
}

impl Php {
    /// Under keys that begin with `prefix`, written by `handler`.
    pub fn new(prefix: &str, handler: Handler) -> Self {
        Self { prefix: prefix.to_owned(), handler }
    }
}

impl Way for Php {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        const COMMA: &str = "%2C";
        if text.len() > LENGTH.end() * COMMA.len() {
            return Err("identifier too long");
        }
        let spelt = std::str::from_utf8(text).ok().filter(|spelt| !spelt.contains(','));
        let decoded = spelt.ok_or("identifier has foreign characters")?.replace(COMMA, ",");
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b',' || byte == b'-';
        Ok(Located::behind(&self.prefix, identifier(decoded.as_bytes(), LENGTH, allowed)?))
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, _: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        Record::of(wanted, &decode(self.handler, bytes)?).map(Some)
    }
}

/// The variables of a session.
///
/// # Errors
/// They cannot be read; says why.
pub fn decode(handler: Handler, bytes: &[u8]) -> Result<Datum, &'static str> {
    if bytes.is_empty() {
        return Ok(Datum::Map(Vec::new()));
    }
    if is_of_another(handler, bytes) {
        return Err("written by another serialize_handler");
    }
    match handler {
        Handler::Php => by_name(bytes),
        Handler::Binary => by_length(bytes),
        Handler::Serialize => serialized::decode(bytes).and_then(array),
        Handler::Igbinary => igbinary::decode(bytes).and_then(array),
    }
}

/// Rule 5. The other two handlers write an array, which begins as nothing of these does.
fn is_of_another(handler: Handler, bytes: &[u8]) -> bool {
    let is_array = || bytes.starts_with(b"\0\0\0\x01") || bytes.starts_with(b"\0\0\0\x02") || begins_an_array(bytes);
    match handler {
        // No variable's name begins with a control character, and few names have more of them than 31.
        Handler::Php => is_array() || bytes.first().is_some_and(|first| *first < 0x20) || by_length(bytes).is_ok(),
        Handler::Binary => is_array() || by_name(bytes).is_ok(),
        Handler::Serialize | Handler::Igbinary => false,
    }
}

/// `a:COUNT:{`: an array as PHP serializes it, whether or not the rest can be read.
fn begins_an_array(bytes: &[u8]) -> bool {
    let Some(rest) = bytes.strip_prefix(b"a:") else { return false };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    digits > 0 && rest[digits..].starts_with(b":{")
}

/// `NAME|VALUE`.
fn by_name(bytes: &[u8]) -> Result<Datum, &'static str> {
    variables(bytes, |values| values.until(b'|'))
}

/// The length of the name in a byte, the name and the value.
fn by_length(bytes: &[u8]) -> Result<Datum, &'static str> {
    variables(bytes, |values| match values.byte()? {
        length @ 0..=127 => values.bytes(length.into()),
        _ => Err("variable without a value"),
    })
}

/// Values, and before each its `name`.
fn variables<'a>(
    bytes: &'a [u8],
    name: impl Fn(&mut Values<'a>) -> Result<&'a [u8], &'static str>,
) -> Result<Datum, &'static str> {
    let mut values = Values::of(bytes)?;
    let mut array = Array::default();
    while !values.is_empty() {
        let name = name(&mut values)?;
        array.push(Key::Text(name), values.value()?);
    }
    Ok(array.datum())
}

/// Refuses what no session is.
fn array(value: Datum) -> Result<Datum, &'static str> {
    if let Datum::Map(_) | Datum::List(_) = value { Ok(value) } else { Err("record is not an array") }
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::agree;
    use super::odd::{ODD, fuzz};
    use super::*;
    use crate::session::{Definition, Format};

    const HANDLERS: [Handler; 4] = [Handler::Php, Handler::Serialize, Handler::Binary, Handler::Igbinary];

    fn at(handler: Handler, record: &[u8], path: &str) -> Result<Option<String>, &'static str> {
        decode(handler, record).map(|variables| variables.at(path).and_then(Datum::text))
    }

    #[test]
    fn real_captures_are_judged_as_the_app_judged_them() {
        let agree = |profile, handler| agree(profile, Definition::new("web", Format::Php(handler)));
        let profiles = ["php", "php-serialize", "php-binary", "php-igbinary"];
        assert_eq!(
            profiles.into_iter().zip(HANDLERS).map(|(profile, handler)| agree(profile, handler)).sum::<usize>(),
            32
        );
    }

    #[test]
    fn an_identifier_has_its_alphabet_and_one_spelling() {
        let php = Php::new("APP:", Handler::Php);
        let key = |text: &str| php.locate(text.as_bytes()).map(|located| located.key);
        assert_eq!(key("f13crushsr3c4g08046tvhadjq").as_deref(), Ok("APP:f13crushsr3c4g08046tvhadjq"));
        assert_eq!(key("a%2C-a%2Caaaaaaaaaaaaaaaaaaaa").as_deref(), Ok("APP:a,-a,aaaaaaaaaaaaaaaaaaaa"));
        assert!(key(&"%2C".repeat(256)).is_ok());
        assert_eq!(key("f13crushsr3c4g08046tv"), Err("identifier too short"));
        for long in ["a".repeat(257), "%2C".repeat(257), "a".repeat(1_000_000)] {
            assert_eq!(key(&long), Err("identifier too long"));
        }
        for foreign in ["_LOCK", ",", "%2c", "%2d", "%61", "%252C", "%", "%2", ":x", " ", "\u{fc}", "\r\n", "\0"] {
            let text = format!("f13crushsr3c4g08046tvhadjq{foreign}");
            assert_eq!(key(&text), Err("identifier has foreign characters"), "{foreign}");
        }
    }

    #[test]
    fn a_record_without_anything_is_a_session_of_nobody() {
        let empty: [(Handler, &[u8]); 3] =
            [(Handler::Php, b""), (Handler::Serialize, b"a:0:{}"), (Handler::Igbinary, b"\0\0\0\x02\x14\0")];
        for (handler, record) in empty.into_iter().chain(HANDLERS.map(|handler| (handler, &b""[..]))) {
            let wanted = Wanted::of(&Definition::new("web", Format::Php(handler)));
            let read = Php::new("", handler).read(&wanted, Stored::Text(record), 0);
            assert_eq!(read, Ok(Some(Record::default())), "{handler:?}");
        }
    }

    #[test]
    fn variables_follow_each_other_by_name() {
        let php = |record: &str, path: &str| at(Handler::Php, record.as_bytes(), path);
        assert_eq!(php("a|i:5;b|s:3:\"|b|\";user_id|i:7;", "user_id"), Ok(Some("7".into())));
        assert_eq!(
            php("a|s:16:\";user_id|s:1:\"1\";\";user_id|i:5;", "user_id"),
            Err("record is not as PHP serializes")
        );
        assert_eq!(php("a|s:17:\";user_id|s:1:\"1\";\";user_id|i:5;", "user_id"), Ok(Some("5".into())));
        assert_eq!(php("a|i:5;a|i:6;", "a"), Ok(Some("6".into())), "the last counts, as it does for PHP");
        assert_eq!(php("|i:5;b|i:6;", "b"), Ok(Some("6".into())));
        // As PHP 8.2 reads them.
        assert_eq!(php("!user_id|i:5;b|i:6;", "user_id"), Ok(None));
        assert_eq!(php("!user_id|i:5;b|i:6;", "!user_id"), Ok(Some("5".into())));
        assert!(php("!a|b|i:5;", "b").is_err());
        for hostile in ["a", "a|", "|", "a|i:5;junk", "a|i:5;b|", "a:1:{s:1:\"a\";i:1;}", "a|i:5; b|x", "\n"] {
            assert!(php(hostile, "a").is_err(), "{hostile}");
        }
    }

    #[test]
    fn binary_names_tell_their_length() {
        let binary = |record: &[u8], path: &str| at(Handler::Binary, record, path);
        assert_eq!(binary(b"\x01ai:5;\x03b|ci:6;", "b|c"), Ok(Some("6".into())));
        assert_eq!(binary(b"\0i:5;\x01bi:6;", "b"), Ok(Some("6".into())));
        assert_eq!(binary(b"\x81a\x01bi:6;", "b"), Err("variable without a value"));
        for hostile in [&b"\x05ai:5;"[..], b"\x01a", b"\x01", b"\x7fa", b"\xffa", b"\x01ai:5;\x01"] {
            assert!(binary(hostile, "a").is_err(), "{hostile:x?}");
        }
    }

    #[test]
    fn what_another_handler_wrote_is_refused_whatever_a_visitor_is_called() {
        const OTHER: Result<Option<String>, &str> = Err("written by another serialize_handler");
        let called = r#"|i:5;user_id|i:1;x|C:1:"A":2:{"#;
        let serialized = format!("a:1:{{s:4:\"name\";s:{}:\"{called}\";}}", called.len());
        let binary = format!("\x04names:{}:\"{called}\";", called.len());
        let long = format!("{}{}s:{}:\"{called}\";", 'n', "n".repeat(110), called.len());
        let unread = serialized.replace("a:1:{", "a:2:{i:0;C:1:\"B\":0:{}");
        for record in [&serialized, &binary, &long, &unread, "\0\0\0\x02\x14\0", "\0\0\0\x01|i:5;"] {
            assert_eq!(at(Handler::Php, record.as_bytes(), "user_id"), OTHER, "{record:?}");
        }
        assert_eq!(at(Handler::Serialize, serialized.as_bytes(), "name"), Ok(Some(called.into())));
        assert_eq!(at(Handler::Binary, binary.as_bytes(), "name"), Ok(Some(called.into())));
        for record in [&serialized, "user_id|i:5;", "\0\0\0\x02\x14\0"] {
            assert_eq!(at(Handler::Binary, record.as_bytes(), "user_id"), OTHER, "{record:?}");
        }
        let name = format!("name|s:{}:\"{called}\";user_id|i:7;", called.len());
        assert_eq!(at(Handler::Php, name.as_bytes(), "user_id"), Ok(Some("7".into())), "its own");
        assert_eq!(at(Handler::Php, b"a:b|i:5;", "a:b"), Ok(Some("5".into())), "a name with a colon");
        for own in [Handler::Serialize, Handler::Igbinary] {
            assert!(decode(own, name.as_bytes()).is_err() && decode(own, binary.as_bytes()).is_err());
        }
    }

    #[test]
    fn what_is_no_array_is_no_session() {
        assert_eq!(decode(Handler::Serialize, b"i:5;"), Err("record is not an array"));
        assert_eq!(decode(Handler::Igbinary, b"\0\0\0\x02\x06\x05"), Err("record is not an array"));
        assert!(decode(Handler::Serialize, b"O:1:\"P\":1:{s:7:\"user_id\";i:5;}").is_err());
    }

    #[test]
    fn fuzz_variables() {
        let record = |name: &dyn Fn(usize) -> Vec<u8>| -> Vec<u8> {
            let short = ODD.iter().filter(|odd| odd.serialized.len() < 600);
            short.enumerate().flat_map(|(index, odd)| [name(index), odd.serialized.clone()].concat()).collect()
        };
        let php = record(&|index| format!("name{index}|").into_bytes());
        let binary = record(&|index| format!("\x06name{index:02}").into_bytes());
        fuzz("variables", &[php], |bytes| decode(Handler::Php, bytes).is_ok());
        fuzz("binary variables", &[binary], |bytes| decode(Handler::Binary, bytes).is_ok());
        let php = Php::new("APP:", Handler::Php);
        let ids = [b"f13crushsr3c4g08046tvhadjq".to_vec(), b"%2C-a%2Caaaaaaaaaaaaaaaaaaaa".to_vec()];
        fuzz("identifiers", &ids, |text| {
            let Ok(located) = php.locate(text) else { return false };
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || b",-".contains(&byte);
            assert!(LENGTH.contains(&located.identifier.len()) && located.identifier.bytes().all(plain));
            true
        });
    }
}
