//! The record of a session, as the app words it and as it is stored. Pure.
//!
//! 1. The app says a JSON object (RFC 8259) of at most [`MAX_CREATE`] bytes, in UTF-8 or with `\u` escapes, at most 128 levels
//!    deep, and bounded in number of values as every record is (`datum`).
//! 2. As JSON it is stored byte for byte as the app said it. As a hash each name is a field, and each value a text: what is no
//!    text, number or truth value is a fault, `null` is left out, and there are at most [`MAX_FIELDS`].
//! 3. `created_at` is added, in Unix seconds, unless the app says it itself.
//!
//! # Why
//! Rule 2: a number that went through our hands could lose digits, and the app would read another user than it wrote.

use std::time::Duration;

use crate::session::format::datum::Datum;
use crate::session::format::json;

/// The longest record that an app may say, in bytes.
pub const MAX_CREATE: usize = 16 * 1024;

/// The longest record that is made of it, in bytes: with the time of its birth.
pub const LONGEST: usize = MAX_CREATE + 64;

/// Fields of a hash that an app may say.
pub const MAX_FIELDS: usize = 256;

/// When a session began.
const CREATED_AT: &str = "created_at";

/// A record as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Made {
    /// A JSON object.
    Json(Vec<u8>),
    /// The fields of a hash.
    Fields(Vec<(String, String)>),
}

/// The record that the app says by `line`, made at `now` (since 1970).
///
/// # Errors
/// The app's fault, in a few words for its operator, which quote nothing.
pub fn made(line: &[u8], as_hash: bool, now: Duration) -> Result<Made, &'static str> {
    if line.len() > MAX_CREATE {
        return Err("X-Session-Create is longer than 16 KiB");
    }
    let line = line.trim_ascii();
    // Who reads it later may be more particular than `json`.
    let is_json = serde_json::from_slice::<serde_json::Value>(line).is_ok();
    let Some(Datum::Map(entries)) = is_json.then(|| json::decode(line).ok()).flatten() else {
        return Err("X-Session-Create is no JSON object, or too deep");
    };
    let is_dated = entries.iter().any(|(name, _)| name == CREATED_AT);
    let date = (!is_dated).then(|| now.as_secs().to_string());
    if as_hash {
        return fields(entries, date).map(Made::Fields);
    }
    let Some(date) = date else { return Ok(Made::Json(line.to_vec())) };
    // The last byte of an object is its brace.
    let open = line.strip_suffix(b"}").ok_or("X-Session-Create is no JSON object, or too deep")?;
    let comma = if entries.is_empty() { "" } else { "," };
    Ok(Made::Json([open, format!("{comma}\"{CREATED_AT}\":{date}}}").as_bytes()].concat()))
}

fn fields(entries: Vec<(String, Datum)>, date: Option<String>) -> Result<Vec<(String, String)>, &'static str> {
    if entries.len() > MAX_FIELDS {
        return Err("X-Session-Create has more than 256 values, too many for a hash");
    }
    let mut fields = Vec::new();
    for (name, value) in entries {
        if value == Datum::Nothing {
            continue;
        }
        let text = value.text().ok_or("X-Session-Create has a value that is no text: a hash holds none")?;
        fields.push((name, text));
    }
    fields.extend(date.map(|date| (CREATED_AT.to_owned(), date)));
    Ok(fields)
}

impl Made {
    /// The same as a JSON object, as process memory keeps it.
    pub fn into_json(self) -> Vec<u8> {
        match self {
            Self::Json(text) => text,
            Self::Fields(fields) => {
                let object: serde_json::Map<String, serde_json::Value> =
                    fields.into_iter().map(|(name, text)| (name, text.into())).collect();
                serde_json::Value::Object(object).to_string().into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn text(line: &str) -> String {
        String::from_utf8(made(line.as_bytes(), false, NOW).unwrap().into_json()).unwrap()
    }

    #[test]
    fn json_is_kept_byte_for_byte_and_dated() {
        assert_eq!(
            text(r#" {"id": 12345678901234567890123} "#),
            r#"{"id": 12345678901234567890123,"created_at":1700000000}"#
        );
        assert_eq!(text("{ }"), r#"{ "created_at":1700000000}"#);
        assert_eq!(text(r#"{"created_at":5}"#), r#"{"created_at":5}"#);
        assert_eq!(text(r#"{"x":{"created_at":5}}"#), r#"{"x":{"created_at":5},"created_at":1700000000}"#);
    }

    #[test]
    fn a_hash_holds_texts_and_nothing_else() {
        let made = |line: &str| made(line.as_bytes(), true, NOW);
        let Made::Fields(fields) = made(r#"{"id":7,"name":"M\u00fcller","admin":true,"no":null}"#).unwrap() else {
            panic!("a hash")
        };
        let said: Vec<_> = fields.iter().map(|(name, text)| format!("{name}={text}")).collect();
        assert!(
            ["id=7", "name=Müller", "admin=true", "created_at=1700000000"]
                .iter()
                .all(|one| said.contains(&(*one).into()))
        );
        assert_eq!(said.len(), 4);
        for bad in [r#"{"a":{}}"#, r#"{"a":[1]}"#, r#"{"a":12345678901234567890123456789012345678901234567890}"#] {
            assert!(made(bad).is_err(), "{bad}");
        }
        let many: Vec<_> = (0..=MAX_FIELDS).map(|number| format!("\"{number}\":1")).collect();
        assert!(made(&format!("{{{}}}", many.join(","))).is_err());
    }

    #[test]
    fn what_is_no_object_within_the_bounds_is_a_fault() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(140), "]".repeat(140));
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_CREATE));
        for bad in ["", "{", "[]", "true", "{\"a\":1}x", "{\"a\":NaN}", &deep, &long] {
            assert!(made(bad.as_bytes(), false, NOW).is_err(), "{}", &bad[..bad.len().min(20)]);
        }
    }

    proptest! {
        #[test]
        fn what_is_made_can_be_read_as_what_was_said(
            names in prop::collection::btree_map("[a-z ]{0,8}", ".{0,12}", 0..6),
            as_hash in any::<bool>(),
        ) {
            let said = serde_json::to_string(&names).unwrap();
            let stored = made(said.as_bytes(), as_hash, NOW).unwrap().into_json();
            let read: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_slice(&stored).unwrap();
            prop_assert!(read.contains_key("created_at"));
            for (name, text) in &names {
                prop_assert_eq!(read[name].as_str(), Some(text.as_str()));
            }
        }
    }

    /// Whatever an app says, at random and bent out of shape, is a record or a fault, and what is made of it is JSON.
    #[test]
    fn fuzz_records_that_apps_say() {
        let seconds = std::env::var("SIDEGATE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok());
        let until = seconds.map(|seconds| crate::clock::instant() + Duration::from_secs(seconds));
        let mut left = 20_000;
        let seed = br#"{"user_id":7,"name":"M\u00fcller","roles":["a",{"b":null}],"n":-1.5e3,"created_at":5}"#;
        while left > 0 || until.is_some_and(|until| crate::clock::instant() < until) {
            left = i32::max(left - 1, 0);
            let mut line = seed.to_vec();
            for _ in 0..fastrand::usize(0..6) {
                let at = fastrand::usize(..line.len());
                match fastrand::u8(0..3) {
                    0 => line[at] = fastrand::u8(..),
                    1 => line.truncate(at + 1),
                    _ => line.insert(at, *fastrand::choice(b"{}[]\",:\\0\xff").unwrap()),
                }
            }
            for as_hash in [false, true] {
                if let Ok(made) = made(&line, as_hash, NOW) {
                    let read = serde_json::from_slice::<serde_json::Value>(&made.into_json());
                    assert!(read.is_ok_and(|value| value.get("created_at").is_some()), "{line:?}");
                }
            }
        }
    }
}
