//! What a member of a JSON object says, as far as a log has something to say there. Pure.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::line::Field;
use super::moment::{bracketed, rfc3339, since_epoch, unix};

/// What a member says.
#[derive(Clone, Debug, PartialEq)]
pub enum Value<'l> {
    /// `null`, `""`, `-`, or what no log has here.
    Nothing,
    /// A text.
    Text(Cow<'l, str>),
    /// A whole number, not negative.
    Whole(u64),
    /// Another number.
    Real(f64),
    /// The first of a list.
    List(Option<Box<Value<'l>>>),
}

/// Any value, as far as it says something.
pub struct Anything;

/// Any text, the text of JSON's own where that is possible.
pub struct Name;

impl<'l> Value<'l> {
    /// Its text.
    pub fn text(self) -> Option<Cow<'l, str>> {
        match self {
            Self::Text(text) => Some(text),
            Self::List(first) => first?.text(),
            _ => None,
        }
    }

    /// Its whole number, also as text.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Whole(number) => Some(number),
            Self::Text(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Its time, in µs since the Unix epoch.
    pub fn moment(self) -> Option<u64> {
        match self {
            Self::Whole(number) => since_epoch(number),
            // Exact to a µs until 2112; negative ones and what is none become 0.
            Self::Real(seconds) if (1.0..7e9).contains(&seconds) => Some((seconds * 1e6).round() as u64),
            // Milliseconds with a fraction.
            Self::Real(millis) if (7e9..7e12).contains(&millis) => Some((millis * 1e3).round() as u64),
            Self::Text(text) => {
                let text = text.as_bytes();
                rfc3339(text).or_else(|| bracketed(text)).or_else(|| unix(text))
            }
            _ => None,
        }
    }

    /// It as a request field.
    pub fn field(self) -> Field<'l> {
        match self.text() {
            None => Field::Missing,
            Some(Cow::Borrowed(text)) => Field::Value(Cow::Borrowed(text.as_bytes())),
            Some(Cow::Owned(text)) => Field::Value(Cow::Owned(text.into_bytes())),
        }
    }
}

impl<'l> DeserializeSeed<'l> for Anything {
    type Value = Value<'l>;

    fn deserialize<D: Deserializer<'l>>(self, from: D) -> Result<Value<'l>, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'l> Visitor<'l> for Anything {
    type Value = Value<'l>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_borrowed_str<E>(self, text: &'l str) -> Result<Value<'l>, E> {
        Ok(if matches!(text, "" | "-") { Value::Nothing } else { Value::Text(text.into()) })
    }

    fn visit_str<E>(self, text: &str) -> Result<Value<'l>, E> {
        Ok(if matches!(text, "" | "-") { Value::Nothing } else { Value::Text(text.to_owned().into()) })
    }

    fn visit_u64<E>(self, number: u64) -> Result<Value<'l>, E> {
        Ok(Value::Whole(number))
    }

    fn visit_i64<E>(self, _: i64) -> Result<Value<'l>, E> {
        Ok(Value::Nothing)
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value<'l>, E> {
        Ok(Value::Real(number))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Value<'l>, E> {
        Ok(Value::Nothing)
    }

    fn visit_unit<E>(self) -> Result<Value<'l>, E> {
        Ok(Value::Nothing)
    }

    fn visit_seq<A: SeqAccess<'l>>(self, mut list: A) -> Result<Value<'l>, A::Error> {
        let first = list.next_element_seed(Anything)?;
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::List(first.map(Box::new)))
    }

    fn visit_map<A: MapAccess<'l>>(self, mut map: A) -> Result<Value<'l>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Nothing)
    }
}

impl<'l> DeserializeSeed<'l> for Name {
    type Value = Cow<'l, str>;

    fn deserialize<D: Deserializer<'l>>(self, from: D) -> Result<Cow<'l, str>, D::Error> {
        from.deserialize_str(self)
    }
}

impl<'l> Visitor<'l> for Name {
    type Value = Cow<'l, str>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_borrowed_str<E>(self, text: &'l str) -> Result<Cow<'l, str>, E> {
        Ok(text.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Cow<'l, str>, E> {
        Ok(text.to_owned().into())
    }
}
