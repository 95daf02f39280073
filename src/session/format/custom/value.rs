//! How the value of a custom session is written: what it is wrapped in, and what it is.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::general_purpose::GeneralPurpose;
use base64::engine::{DecodePaddingMode, GeneralPurposeConfig};

use crate::session::format::datum::Datum;
use crate::session::format::{
    Handler, MAX_RECORD, igbinary, inflate, json, marshal, msgpack, php, pickle, serialized, sign,
};

/// How a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    written: String,
    is: Is,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Is {
    Hash,
    Coded(Vec<Coding>, Decoder),
}

/// Something that a value is wrapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    Encoded(Encoding),
    Zlib,
    Gzip,
}

/// What a value is in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Decoder {
    Json,
    Msgpack,
    Pickle,
    Marshal,
    /// One value of PHP's `serialize`.
    Serialized,
    Igbinary,
    /// The variables of a PHP session.
    Php(Handler),
    /// One attribute, called `text`.
    Text,
}

/// How bytes are written as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// RFC 4648 §4, with padding or without.
    Base64,
    /// RFC 4648 §5, with padding or without.
    Base64Url,
}

/// All words there are, for the operator.
pub const WORDS: &str = "any of base64, base64url, hex, zlib, gzip, and at the end json, msgpack, pickle, marshal, php, php-session, \
                         php-binary, igbinary or text; or \"hash\"";

impl Value {
    /// As these words say.
    ///
    /// # Errors
    /// They say nothing; in a sentence for the operator.
    pub fn parse(words: &[&str]) -> Result<Self, String> {
        let written = words.join(", ");
        let Some((last, before)) = words.split_last() else {
            return Err("nothing says how the value is written".into());
        };
        if *last == "hash" && before.is_empty() {
            return Ok(Self { written, is: Is::Hash });
        }
        let decoder = match *last {
            "json" => Decoder::Json,
            "msgpack" => Decoder::Msgpack,
            "pickle" => Decoder::Pickle,
            "marshal" => Decoder::Marshal,
            "php" => Decoder::Serialized,
            "igbinary" => Decoder::Igbinary,
            "php-session" => Decoder::Php(Handler::Php),
            "php-binary" => Decoder::Php(Handler::Binary),
            "text" => Decoder::Text,
            "hash" => return Err("a hash is wrapped in nothing".into()),
            other => return Err(format!("`{other}` says nothing of what a value is in the end")),
        };
        let coding = |word: &&str| match *word {
            "zlib" => Ok(Coding::Zlib),
            "gzip" => Ok(Coding::Gzip),
            other => {
                let encoding = Encoding::parse(other).map(Coding::Encoded);
                encoding.ok_or_else(|| format!("a value is not wrapped in `{other}`"))
            }
        };
        let codings = before.iter().map(coding).collect::<Result<_, _>>()?;
        Ok(Self { written, is: Is::Coded(codings, decoder) })
    }

    /// As it is in the configuration.
    pub fn written(&self) -> &str {
        &self.written
    }

    /// Whether it is a hash, and not a string.
    pub fn is_hash(&self) -> bool {
        self.is == Is::Hash
    }

    /// What the bytes of a string say. They are inflated to at most `most` bytes.
    ///
    /// # Errors
    /// They are not what they should be, or too large.
    pub fn decode(&self, bytes: &[u8], most: usize) -> Result<Datum, &'static str> {
        let Is::Coded(codings, decoder) = &self.is else { return Err("record is not a string") };
        if bytes.len() > MAX_RECORD {
            return Err("record too large");
        }
        let mut unwrapped = std::borrow::Cow::Borrowed(bytes);
        for coding in codings {
            unwrapped = coding.undo(&unwrapped, most)?.into();
        }
        match decoder {
            Decoder::Json => json::decode(&unwrapped),
            Decoder::Msgpack => msgpack::decode(&unwrapped),
            Decoder::Pickle => pickle::decode(&unwrapped),
            Decoder::Marshal => marshal::decode(&unwrapped).map(|marshalled| marshalled.datum),
            Decoder::Serialized => serialized::decode(&unwrapped),
            Decoder::Igbinary => igbinary::decode(&unwrapped),
            Decoder::Php(handler) => php::decode(*handler, &unwrapped),
            Decoder::Text => Ok(Datum::Map(vec![("text".into(), Datum::of_bytes(&unwrapped))])),
        }
    }
}

impl Default for Value {
    /// `json`.
    fn default() -> Self {
        Self { written: "json".into(), is: Is::Coded(Vec::new(), Decoder::Json) }
    }
}

impl Coding {
    fn undo(self, bytes: &[u8], most: usize) -> Result<Vec<u8>, &'static str> {
        match self {
            Self::Zlib => inflate::zlib(bytes, most),
            Self::Gzip => inflate::gzip(bytes, most),
            Self::Encoded(encoding) => encoding.decode(bytes).ok_or(match encoding {
                Encoding::Hex => "record is not hexadecimal",
                Encoding::Base64 | Encoding::Base64Url => "record is not base64",
            }),
        }
    }
}

const ANY_PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, ANY_PADDING);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, ANY_PADDING);

impl Encoding {
    /// The one of this name.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "hex" => Some(Self::Hex),
            "base64" => Some(Self::Base64),
            "base64url" => Some(Self::Base64Url),
            _ => None,
        }
    }

    /// Whether `byte` may be in what is written so.
    pub fn has(self, byte: u8) -> bool {
        byte.is_ascii_alphanumeric()
            || match self {
                Self::Hex => false,
                Self::Base64 => b"+/=".contains(&byte),
                Self::Base64Url => b"-_=".contains(&byte),
            }
    }

    /// The bytes that are written so, if any are.
    pub fn decode(self, text: &[u8]) -> Option<Vec<u8>> {
        match self {
            Self::Base64 => STANDARD.decode(text).ok(),
            Self::Base64Url => URL_SAFE.decode(text).ok(),
            Self::Hex => {
                let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
                let (pairs, rest) = text.as_chunks();
                let bytes = pairs.iter().map(|[high, low]| Some(digit(*high)? << 4 | digit(*low)?));
                if rest.is_empty() { bytes.collect() } else { None }
            }
        }
    }

    /// Whether `text` is `bytes` in the usual spelling (digits in lower case; padding or none), found out in a time that does not
    /// depend on how much of it is right.
    pub fn is_written(self, bytes: &[u8], text: &[u8]) -> bool {
        let padded = match self {
            Self::Hex => sign::hex(bytes),
            Self::Base64 => STANDARD.encode(bytes),
            Self::Base64Url => URL_SAFE.encode(bytes),
        };
        sign::same(padded.as_bytes(), text) | sign::same(padded.trim_end_matches('=').as_bytes(), text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_unwrapped_and_decoded() {
        let decode = |words: &[&str], bytes: &[u8]| Value::parse(words).unwrap().decode(bytes, MAX_RECORD);
        let five = Datum::Map(vec![("id".into(), Datum::Whole(5))]);
        assert_eq!(decode(&["json"], b"{\"id\":5}"), Ok(five.clone()));
        assert_eq!(decode(&["hex", "msgpack"], b"81a2696405"), Ok(five.clone()));
        assert_eq!(decode(&["base64", "base64url", "json"], b"ZXlKcFpDSTZOWDA="), Ok(five.clone()));
        assert_eq!(decode(&["marshal"], b"\x04\x08{\x06:\x07idi\x0a"), Ok(five.clone()));
        assert_eq!(decode(&["pickle"], b"\x80\x04}\x8c\x02idK\x05s."), Ok(five.clone()));
        let php: [(&str, &[u8]); 3] =
            [("php", b"a:1:{s:2:\"id\";i:5;}"), ("php-session", b"id|i:5;"), ("php-binary", b"\x02idi:5;")];
        for (word, bytes) in php {
            assert_eq!(decode(&[word], bytes), Ok(five.clone()), "{word}");
        }
        assert_eq!(decode(&["igbinary"], b"\0\0\0\x02\x14\x01\x11\x02id\x06\x05"), Ok(five));
        let text = Datum::Map(vec![("text".into(), Datum::Text("alice".into()))]);
        assert_eq!(decode(&["text"], b"alice"), Ok(text));
        assert_eq!(decode(&["zlib", "json"], b"{}"), Err("record is not zlib"));
        assert_eq!(decode(&["hex", "json"], b"7b7"), Err("record is not hexadecimal"));
        assert_eq!(decode(&["hash"], b"{}"), Err("record is not a string"));
        assert_eq!(decode(&["text"], &vec![b'a'; MAX_RECORD + 1]), Err("record too large"));
        assert_eq!(Value::parse(&["json"]), Ok(Value::default()));
    }

    #[test]
    fn what_says_nothing_is_refused() {
        for wrong in
            [&[][..], &["zlib"], &["json", "zlib"], &["json", "json"], &["zlib", "hash"], &["yaml"], &["br", "json"]]
        {
            assert!(Value::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
