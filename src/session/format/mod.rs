//! How sessions are written: one file for each framework, and one for each encoding of values (`datum`).
//!
//! 1. A way is pure: a credential's text and secrets in, the place of its record out; a record's bytes in, what it says out.
//! 2. A credential is checked before any store is asked: its signature in constant time, then the alphabet and the length of the
//!    identifier. Its text becomes part of a key, and must reach no other family of keys.
//! 3. Of a record only the attributes that the configuration names are kept, as text.
//! 4. A user is named by a text that is not blank, or by a number that is not 0. Nothing, `null`, `""`, `true`, `false`, lists and
//!    objects name nobody; nor does the text `0` where the app is PHP (`php`, `laravel`), to which that is false. Where there is
//!    something that cannot be read in its place, the record is not read (`datum`).
//! 5. A record beyond `max_record` is not read, nor what it is when it has been inflated; an attribute beyond [`MAX_TEXT`] is left out.
//!    Decoders are bounded in depth, and by the length of the record in values and text ([`datum::Budget`]), and build nothing
//!    but data. An unknown *value* is opaque, and the others stay readable; an unknown *structure*, of which nobody knows where it
//!    ends, fails the record.
//!
//! # Why
//! Rule 4: a flag would make one user of all who are logged in, and what is stored or counted for one would be for all. 0 and blanks are
//! what apps leave behind when they log somebody out, and false to nearly all of them.
//! Rule 5: one object in a record must not log its owner out, and what stands behind a structure that is guessed at might say
//! anything.
//! Being stricter than the app about spelling costs nothing: browsers return what they were given.

pub mod custom;
pub mod datum;
pub mod django;
mod envelope;
pub mod express;
pub mod flask;
pub mod hash;
mod igbinary;
pub mod inflate;
pub mod java;
pub mod json;
mod laravel;
pub mod marshal;
pub mod msgpack;
pub mod percent;
mod php;
pub mod pickle;
pub mod python;
pub mod rails;
mod serialized;
pub mod sign;
pub mod spring;
mod usual;

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod fuzz;

pub use self::usual::Usual;
use super::{Definition, USER};
use crate::exchange::Located;
use std::sync::Arc;

/// The most that `max_record` may be, in bytes: beyond it no decoder reads anything.
pub const MAX_RECORD: usize = 4 * 1024 * 1024;

/// `max_record`, if nothing else is said, in bytes.
pub const USUAL_RECORD: usize = 256 * 1024;

/// The longest text of an attribute, in bytes.
pub const MAX_TEXT: usize = 4096;

/// How credential and record of a session are written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object in a string key.
    Json,
    /// A Redis hash of texts.
    Hash,
    /// Flask-Session.
    Flask,
    /// express-session with connect-redis.
    Express,
    /// Django, its cache backend or django-redis.
    Django,
    /// PHP with phpredis.
    Php(Handler),
    /// Laravel's cache driver.
    Laravel(Cipher),
    /// Rails, redis-actionpack or cache_store.
    Rails,
    /// Spring Session.
    Spring {
        /// The cookie is base64 of the identifier, as in the servlet stack; WebFlux sends it as it is.
        base64: bool,
    },
    /// As the configuration describes it.
    Custom(Arc<custom::Custom>),
}

/// PHP's `session.serialize_handler`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handler {
    /// `php`.
    #[default]
    Php,
    /// `php_serialize`.
    Serialize,
    /// `php_binary`.
    Binary,
    /// `igbinary`.
    Igbinary,
}

/// Laravel's `app.cipher`; the length of the key tells its size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cipher {
    /// `AES-256-CBC`, `AES-128-CBC`.
    #[default]
    Cbc,
    /// `AES-256-GCM`, `AES-128-GCM`.
    Gcm,
}

/// One way in which sessions are written.
pub trait Way: Send + Sync {
    /// The session that a credential's text names, and the key of its record.
    ///
    /// # Errors
    /// It names none: why, in a few words for logs.
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str>;

    /// The fields of a hash to ask for; `None`: the record is a string.
    fn fields(&self, wanted: &Wanted) -> Option<Vec<String>> {
        let _ = wanted;
        None
    }

    /// What the record says at `now` (Unix milliseconds); `None`: there is none, or it is over.
    ///
    /// # Errors
    /// It cannot be read: why, in a few words for logs.
    fn read(&self, wanted: &Wanted, stored: Stored<'_>, now: u64) -> Result<Option<Record>, &'static str>;
}

/// What a store holds under a key.
#[derive(Clone, Copy, Debug)]
pub enum Stored<'a> {
    /// A string.
    Text(&'a [u8]),
    /// The values of the fields that were asked for, in their order.
    Fields(&'a [Option<&'a [u8]>]),
}

impl Stored<'_> {
    /// How many bytes that is.
    pub fn length(&self) -> usize {
        match self {
            Self::Text(bytes) => bytes.len(),
            Self::Fields(values) => values.iter().flatten().map(|value| value.len()).sum(),
        }
    }
}

/// What a session record says, as far as it is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Who is logged in, if anybody.
    pub user: Option<String>,
    /// The wanted attributes that it has, by dotted path. A list of texts is several of one path.
    pub attributes: Vec<(String, String)>,
    /// When the session began, in Unix milliseconds, if it is wanted and told.
    pub born: Option<u64>,
    /// When it is over by its own word, in Unix milliseconds, although its key may stand longer.
    pub ends: Option<u64>,
    /// What stands at its top, by name, if that is wanted; nothing of a hash, of which only the wanted fields are asked for.
    pub names: Vec<String>,
}

/// What is wanted of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    users: usize,
    paths: Vec<String>,
    born: Option<String>,
    /// The text `0` names nobody.
    zero_is_false: bool,
    names: bool,
    largest: usize,
}

impl Wanted {
    /// The user, and whatever else `definition` forwards, demands or counts by; each once.
    pub fn of(definition: &Definition) -> Self {
        let mut paths: Vec<String> = Vec::new();
        let told = definition.forward.iter().map(|(_, path)| path).filter(|path| *path != USER);
        let others = told.chain(&definition.attributes);
        for path in definition.user.iter().chain(others) {
            if !paths.contains(path) {
                paths.push(path.clone());
            }
        }
        let born = definition.lifetime.as_ref().and_then(|lifetime| lifetime.born.clone());
        let zero_is_false = matches!(definition.format, Format::Php(_) | Format::Laravel(_));
        Self { users: definition.user.len(), paths, born, zero_is_false, names: false, largest: definition.max_record }
    }

    /// Whether `value`, whose text is `text`, names a user (rule 4).
    fn names_somebody(&self, value: &datum::Datum, text: &str) -> bool {
        match value {
            datum::Datum::Flag(_) | datum::Datum::Whole(0) => false,
            datum::Datum::Float(number) => *number != 0.0,
            _ => !(text.trim().is_empty() || self.zero_is_false && text == "0"),
        }
    }

    /// The same, and the names of what stands at the top of the record.
    #[must_use]
    pub fn with_names(self) -> Self {
        Self { names: true, ..self }
    }

    /// Whether the names of what stands at the top of the record are wanted.
    pub fn names(&self) -> bool {
        self.names
    }

    /// Dotted paths, those of the user first.
    pub fn paths(&self) -> &[String] {
        &self.paths
    }

    /// How many of the first paths name the user: the first of them that does.
    pub fn users(&self) -> usize {
        self.users
    }

    /// The largest record that is read, in bytes, whether as it is stored or as it is when it has been inflated (rule 5).
    pub fn largest(&self) -> usize {
        self.largest
    }

    /// The path of the session's birth, if it is wanted.
    pub fn born(&self) -> Option<&str> {
        self.born.as_deref()
    }
}

/// The way of `definition`.
///
/// # Errors
/// Something that it needs is missing or unusable, above all a secret; says what, in a sentence for the operator that quotes no
/// secret.
pub fn way(definition: &Definition) -> Result<Arc<dyn Way>, String> {
    let prefix = definition.prefix.as_str();
    match &definition.format {
        Format::Json => Ok(Arc::new(json::Json::new(prefix))),
        Format::Hash => Ok(Arc::new(hash::Hash::new(prefix))),
        Format::Flask => Ok(Arc::new(flask::Flask::new(prefix, &definition.secrets)?)),
        Format::Express => Ok(Arc::new(express::Express::new(prefix, &definition.secrets)?)),
        Format::Django => Ok(Arc::new(django::Django::new(prefix))),
        Format::Php(handler) => Ok(Arc::new(php::Php::new(prefix, *handler))),
        Format::Laravel(cipher) => Ok(Arc::new(laravel::Laravel::new(definition, *cipher)?)),
        Format::Rails => Ok(Arc::new(rails::Rails::new(prefix))),
        Format::Spring { base64 } => Ok(Arc::new(spring::Spring::new(prefix, *base64))),
        Format::Custom(custom) => Ok(Arc::new(custom::CustomWay::new(custom, &definition.secrets)?)),
    }
}

/// An opaque token as apps make them: 8 to 256 of the characters of RFC 6750 §2.1.
///
/// # Why
/// Without `:` an identifier cannot reach another family of keys behind the prefix, without control characters no log line
/// is broken; shorter ones can be guessed.
///
/// # Errors
/// It is none; says why.
pub fn token(text: &[u8]) -> Result<&str, &'static str> {
    identifier(
        text,
        8..=256,
        |byte| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'+' | b'/' | b'='),
    )
}

/// `text` as an identifier of so many of these ASCII characters.
///
/// # Errors
/// It is none; says why.
pub fn identifier(
    text: &[u8],
    length: std::ops::RangeInclusive<usize>,
    allowed: impl Fn(u8) -> bool,
) -> Result<&str, &'static str> {
    if text.len() < *length.start() {
        return Err("identifier too short");
    }
    if text.len() > *length.end() {
        return Err("identifier too long");
    }
    if !text.iter().all(|&byte| byte.is_ascii() && allowed(byte)) {
        return Err("identifier has foreign characters");
    }
    std::str::from_utf8(text).map_err(|_| "identifier has foreign characters")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// The first names the user.
    pub fn wanted(paths: &[&str]) -> Wanted {
        Wanted {
            users: 1,
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
            born: None,
            zero_is_false: false,
            names: false,
            largest: MAX_RECORD,
        }
    }

    #[test]
    fn zero_and_blanks_name_nobody() {
        use datum::Datum::{Float, Map, Text, Whole};
        let user = |format: &Format, value: &datum::Datum| {
            let definition = Definition { user: vec!["id".into()], ..Definition::new("web", format.clone()) };
            Record::of(&Wanted::of(&definition), &Map(vec![("id".into(), value.clone())])).unwrap().user
        };
        let php = [Format::Php(Handler::Php), Format::Laravel(Cipher::Cbc)];
        for format in php.iter().chain(&[Format::Json, Format::Hash, Format::Django]) {
            for nobody in
                [Whole(0), Float(0.0), Float(-0.0), Text("  ".into()), Text("\u{a0}\t".into()), Text(String::new())]
            {
                assert_eq!(user(format, &nobody), None, "{format:?} {nobody:?}");
            }
            for somebody in [Whole(-1), Text("00".into()), Text(" 0".into())] {
                assert_eq!(user(format, &somebody), somebody.text(), "{format:?}");
            }
        }
        assert!(php.iter().all(|php| user(php, &Text("0".into())).is_none()), "false to PHP");
        assert_eq!(user(&Format::Json, &Text("0".into())).as_deref(), Some("0"));
    }

    #[test]
    fn a_token_has_its_length_and_alphabet() {
        let of = |text: &str| token(text.as_bytes()).map(str::to_owned);
        assert_eq!(of("abcdefg=").as_deref(), Ok("abcdefg="));
        assert_eq!(of("abcdefg"), Err("identifier too short"));
        assert_eq!(of(&"a".repeat(257)), Err("identifier too long"));
        for foreign in ["abcd efgh", "abcd:efgh", "abcd\nefgh", "abcd\"efg\"", "abcd%3Aefgh", "abcd\u{fc}fgh"] {
            assert_eq!(of(foreign), Err("identifier has foreign characters"), "{foreign}");
        }
    }
}
