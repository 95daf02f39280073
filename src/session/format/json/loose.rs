//! JSON as apps write it and serde does not read it. Pure.
//!
//! 1. A text with half of a surrogate pair (`"\ud83d"`) is opaque; an entry with such a name is left out.
//! 2. `NaN`, `Infinity` and `-Infinity`, and a number beyond all bounds (`1e999`), are opaque.
//! 3. All else is as in RFC 8259, or fails the record. It is asked only where serde has refused a record.
//!
//! # Why
//! Rule 1: JavaScript counts a text in units of 16 bits and cuts it where it is told to: a name of an item shortened within an
//! emoji is written so by `JSON.stringify` (ECMAScript, "well-formed JSON.stringify") and by Python's `json`. Its owner is logged in.
//! Rule 2: Python's `json` writes them and reads them (`allow_nan`).

use super::super::datum::{Budget, Datum};
use super::{NOT_JSON, plain};

/// Decodes a value.
///
/// # Errors
/// It is not JSON in this sense, nested too deeply, or has too many values.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_JSON)?;
    let mut reader = Reader { rest: text.as_bytes() };
    let datum = reader.value(&mut Budget::of(bytes.len()))?;
    reader.space();
    if reader.rest.is_empty() { Ok(datum) } else { Err(NOT_JSON) }
}

/// All values that are words, and how they are written.
const WORDS: [(&[u8], Datum); 6] = [
    (b"null", Datum::Nothing),
    (b"true", Datum::Flag(true)),
    (b"false", Datum::Flag(false)),
    (b"NaN", Datum::Opaque),
    (b"Infinity", Datum::Opaque),
    (b"-Infinity", Datum::Opaque),
];

struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn value(&mut self, budget: &mut Budget) -> Result<Datum, &'static str> {
        budget.spend()?;
        self.space();
        if let Some((word, datum)) = WORDS.iter().find(|(word, _)| self.rest.starts_with(word)) {
            self.take(word.len())?;
            return Ok(datum.clone());
        }
        match self.rest.first() {
            Some(b'{') => budget.within(|budget| self.object(budget)),
            Some(b'[') => budget.within(|budget| self.list(budget)),
            Some(b'"') => self.text().map(|text| text.map_or(Datum::Opaque, Datum::Text)),
            _ => self.number(),
        }
    }

    fn object(&mut self, budget: &mut Budget) -> Result<Datum, &'static str> {
        let mut entries = Vec::new();
        self.take(1)?;
        if self.comes(b'}') {
            return Ok(Datum::Map(entries));
        }
        loop {
            self.space();
            let name = self.text()?;
            if !self.comes(b':') {
                return Err(NOT_JSON);
            }
            let value = self.value(budget)?;
            entries.extend(name.map(|name| (name, value)));
            if self.ends(b'}')? {
                return Ok(Datum::Map(entries));
            }
        }
    }

    fn list(&mut self, budget: &mut Budget) -> Result<Datum, &'static str> {
        let mut items = Vec::new();
        self.take(1)?;
        if self.comes(b']') {
            return Ok(Datum::List(items));
        }
        loop {
            items.push(self.value(budget)?);
            if self.ends(b']')? {
                return Ok(Datum::List(items));
            }
        }
    }

    /// A text; nothing if it has half of a surrogate pair (rule 1).
    fn text(&mut self) -> Result<Option<String>, &'static str> {
        if self.rest.first() != Some(&b'"') {
            return Err(NOT_JSON);
        }
        let mut at = 1;
        loop {
            at += match self.rest.get(at..).unwrap_or_default() {
                [b'"', ..] => break,
                [b'\\', b'u', digits @ ..] if digits.len() >= 4 && digits.iter().take(4).all(u8::is_ascii_hexdigit) => {
                    6
                }
                [b'\\', b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
                [b'\\' | 0..=0x1f, ..] | [] => return Err(NOT_JSON),
                _ => 1,
            };
        }
        // All that can be wrong with it now is a surrogate.
        Ok(serde_json::from_slice(self.take(at + 1)?).ok())
    }

    /// A number; opaque if it is beyond all bounds (rule 2).
    fn number(&mut self) -> Result<Datum, &'static str> {
        let of_number = |byte: &&u8| byte.is_ascii_digit() || b"+-.eE".contains(byte);
        let length = self.rest.iter().take_while(of_number).count();
        let token = self.take(length)?;
        match serde_json::from_slice(token) {
            Ok(number) => plain(number, &mut Budget::default()),
            Err(_) if is_number(token) => Ok(Datum::Opaque),
            Err(_) => Err(NOT_JSON),
        }
    }

    /// Whether `mark` comes next; it is read over.
    fn comes(&mut self, mark: u8) -> bool {
        self.space();
        let comes = self.rest.first() == Some(&mark);
        if comes {
            self.rest = self.rest.get(1..).unwrap_or_default();
        }
        comes
    }

    /// Whether `mark` comes next, and not a comma.
    fn ends(&mut self, mark: u8) -> Result<bool, &'static str> {
        if self.comes(mark) {
            return Ok(true);
        }
        if self.comes(b',') { Ok(false) } else { Err(NOT_JSON) }
    }

    fn space(&mut self) {
        let length = self.rest.iter().take_while(|byte| b" \t\r\n".contains(byte)).count();
        self.rest = self.rest.get(length..).unwrap_or_default();
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        self.rest.split_off(..length).ok_or(NOT_JSON)
    }
}

/// RFC 8259 §6.
fn is_number(token: &[u8]) -> bool {
    let behind_digits = |token: &[u8]| -> Option<usize> {
        let digits = token.iter().take_while(|byte| byte.is_ascii_digit()).count();
        (digits > 0).then_some(digits)
    };
    let token = token.strip_prefix(b"-").unwrap_or(token);
    let Some(whole) = behind_digits(token) else { return false };
    if whole > 1 && token.starts_with(b"0") {
        return false;
    }
    let mut rest = token.get(whole..).unwrap_or_default();
    if let Some(fraction) = rest.strip_prefix(b".") {
        let Some(digits) = behind_digits(fraction) else { return false };
        rest = fraction.get(digits..).unwrap_or_default();
    }
    match rest {
        [] => true,
        [b'e' | b'E', b'+' | b'-', power @ ..] | [b'e' | b'E', power @ ..] => behind_digits(power) == Some(power.len()),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::super::super::Record;
    use super::super::super::php::odd::fuzz;
    use super::super::super::tests::wanted;
    use super::*;

    fn at(json: &str, path: &str) -> Option<Datum> {
        super::super::decode(json.as_bytes()).unwrap().at(path).cloned()
    }

    #[test]
    fn a_text_that_was_cut_in_two_leaves_the_others_readable() {
        // JSON.stringify({cookie: {}, user_id: 5, title: "party 🎉".slice(0, 7), "k🎉".slice(0, 2): 1, last: "x"}).
        let record = r#"{"cookie":{},"user_id":5,"title":"party \ud83c","k\ud83c":1,"last":"x"}"#;
        assert_eq!((at(record, "user_id"), at(record, "title")), (Some(Datum::Whole(5)), Some(Datum::Opaque)));
        assert_eq!((at(record, "last"), at(record, "k")), (Some(Datum::Text("x".into())), None));
        for half in [r"\ud83c", r"\udf89", r"\udf89\ud83c", r"\ud83cx", r"\ud83c\n", r"\ud83c\ud83c\udf89"] {
            assert_eq!(at(&format!(r#"{{"a":"{half}","b":[1]}}"#), "a"), Some(Datum::Opaque), "{half}");
        }
        assert_eq!(at(r#"{"a":"\ud83c\udf89","b":"\ud83c"}"#, "a"), Some(Datum::Text("🎉".into())));
    }

    #[test]
    fn such_a_text_names_nobody_and_is_not_nobody() {
        let user = r#"{"user":{"id":"\ud83c"},"name":"x"}"#;
        let decoded = super::super::decode(user.as_bytes()).unwrap();
        assert!(Record::of(&wanted(&["user.id"]), &decoded).is_err());
        assert_eq!(Record::of(&wanted(&["name", "user.id"]), &decoded).unwrap().attributes.len(), 1);
    }

    #[test]
    fn numbers_that_are_none_are_opaque() {
        // json.dumps({'n': …, 'user_id': 5}), Python 3.11.
        for number in ["NaN", "Infinity", "-Infinity", "1e999", "-1E+400", "12.5e999"] {
            let record = format!(r#"{{"n": {number}, "user_id": 5, "l": [{number} , 1.5]}}"#);
            assert_eq!((at(&record, "n"), at(&record, "l.0")), (Some(Datum::Opaque), Some(Datum::Opaque)), "{number}");
            assert_eq!((at(&record, "user_id"), at(&record, "l.1")), (Some(Datum::Whole(5)), Some(Datum::Float(1.5))));
        }
    }

    #[test]
    fn what_is_not_json_stays_none() {
        for none in [
            "",
            " ",
            "{",
            "}",
            "{]",
            "[1,]",
            "[,1]",
            "{\"a\":1,}",
            "{\"a\"}",
            "{\"a\" 1}",
            "{a:1}",
            "{1:1}",
            "[1 2]",
            "[1]]",
            "NaNo",
            "nan",
            "+1",
            "01",
            "-01",
            "1.",
            ".5",
            "1e",
            "1e+",
            "-",
            "--1",
            "0x5",
            "[1e999.5]",
            "[01e999]",
            "'a'",
            "\"a",
            "\"\\x41\"",
            "\"\\u12\"",
            "\"\\ud83c",
            "\"\n\\ud83c\"",
            "[\"\\ud83c\",]",
            "{\"a\":\"\\ud83c\"}x",
            "/**/1",
            "Infinity1",
            "undefined",
        ] {
            assert_eq!(decode(none.as_bytes()), Err(NOT_JSON), "{none}");
        }
        assert_eq!(decode(b"[\"\xff\"]"), Err(NOT_JSON));
        let deep = |levels: usize| format!("{}\"\\ud83c\"{}", "[".repeat(levels), "]".repeat(levels));
        assert!(decode(deep(63).as_bytes()).is_ok());
        assert_eq!(decode(deep(100_000).as_bytes()), Err("record is nested too deeply"));
        assert_eq!(decode(format!("[{}NaN]", "1,".repeat(20_000)).as_bytes()), Err("record has too many values"));
    }

    /// What serde reads is the same here.
    fn agrees(bytes: &[u8]) -> bool {
        let Ok(value) = serde_json::from_slice::<Value>(bytes) else { return false };
        let Ok(told) = plain(value, &mut Budget::default()) else { return true };
        let same = |read: &Datum| sorted(read) == sorted(&told);
        assert!(decode(bytes).as_ref().is_ok_and(same), "{}", bytes.escape_ascii());
        true
    }

    /// By name, and of one name the last, as serde keeps them.
    fn sorted(datum: &Datum) -> Datum {
        match datum {
            Datum::List(items) => Datum::List(items.iter().map(sorted).collect()),
            Datum::Map(entries) => {
                let named: std::collections::BTreeMap<_, _> =
                    entries.iter().map(|(name, value)| (name.clone(), sorted(value))).collect();
                Datum::Map(named.into_iter().collect())
            }
            other => other.clone(),
        }
    }

    const SEEDS: [&str; 4] = [
        r#"{"cookie":{"originalMaxAge":null,"expires":"2026-11-21T23:00:00.000Z","path":"/"},"user_id":5,"roles":["user","a\"b"]}"#,
        r#"{"a": -1.5e-3, "b": 18446744073709551615, "c": "\u00fc\ud83c\udf89", "d": [true, false, null, {}], "a": 0}"#,
        "[ 1 , 2.50 ,\t[ ] , {\"x\" : {\"y\" : [\"\\\\\\/\\b\\f\\n\\r\\t\"]}}]\n",
        "\"M\u{fc}ller\"",
    ];

    #[test]
    fn fuzz_loose_json() {
        let seeds = SEEDS.map(|seed| seed.as_bytes().to_vec());
        fuzz("loose json", &seeds, |bytes| {
            assert_eq!(decode(bytes).map(|told| format!("{told:?}")), decode(bytes).map(|told| format!("{told:?}")));
            agrees(bytes)
        });
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200), text in r#"[\[\]{}",:0-9eE.+\-\\ud83cnultrefsaNI ]{0,60}"#) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = decode(bytes);
                agrees(bytes);
            }
        }
    }
}
