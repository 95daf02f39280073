//! JSON as apps read it, which is a little more than JSON (RFC 8259). Pure.
//!
//! 1. A text with half of a surrogate pair (`"\ud83d"`) is opaque, and an entry with such a name is left out.
//! 2. `NaN`, `Infinity`, `-Infinity`, and a number beyond what a double holds (`1e999`) are opaque.
//! 3. What lies deeper than [`MAX_DEPTH`] is opaque. Its structure is checked like the rest, but nothing is built of it, and its
//!    values are not counted.
//! 4. Anything else that is no JSON anywhere makes the whole no JSON. What is JSON is read as `serde_json` does: of a name
//!    given twice the last value counts, and the names of an object are in their own order.
//!
//! # Why
//! `JSON.stringify("😀".slice(0, 1))` writes the first of these, Python's `json` the second, and both read them; so do most apps a
//! hundred levels. Were such a record none, whoever can put a text into another's session could log him out. Were the half read as
//! U+FFFD, all texts that differ in it were one: as a user's name, one user.
//! Nothing calls itself, so that depth costs a bit of memory (a byte for each level beyond) and no stack.

use std::collections::BTreeMap;

use super::super::datum::{Budget, Datum};

/// Lists and objects in each other that are read.
const MAX_DEPTH: usize = 64;

const NOT_JSON: &str = "record is not JSON";

/// The value that `bytes` are.
///
/// # Errors
/// They are no JSON (rule 4), or have more values than `budget` allows.
pub fn read(bytes: &[u8], budget: &mut Budget) -> Result<Datum, &'static str> {
    let text = std::str::from_utf8(bytes).map_err(|_| NOT_JSON)?;
    let mut reader = Reader { text, at: 0, open: Vec::new(), deeper: Vec::new() };
    let value = reader.value(budget)?;
    reader.skip_space();
    if reader.at == text.len() { Ok(value) } else { Err(NOT_JSON) }
}

struct Reader<'a> {
    text: &'a str,
    /// The next byte; always the first of a character.
    at: usize,
    /// What has been opened and not closed, the outermost first.
    open: Vec<Open>,
    /// The same beyond [`MAX_DEPTH`]: whether it is an object.
    deeper: Vec<bool>,
}

/// A list or an object that is being read.
enum Open {
    List(Vec<Datum>),
    /// With the name of the value that comes next (rule 1).
    Map(BTreeMap<String, Datum>, Option<String>),
}

impl Reader<'_> {
    fn value(&mut self, budget: &mut Budget) -> Result<Datum, &'static str> {
        loop {
            if self.deeper.is_empty() {
                budget.spend()?;
            }
            self.skip_space();
            let begun = match self.next() {
                Some(b'{') => self.begin(true)?,
                Some(b'[') => self.begin(false)?,
                _ => Some(self.scalar()?),
            };
            let Some(mut whole) = begun else { continue };
            // What has come to its end may end what it is in.
            loop {
                if self.open.is_empty() {
                    return Ok(whole);
                }
                match self.put(whole)? {
                    Some(outer) => whole = outer,
                    None => break,
                }
            }
        }
    }

    /// Opens a list or an object; one with nothing in it is whole at once.
    fn begin(&mut self, is_map: bool) -> Result<Option<Datum>, &'static str> {
        self.at += 1;
        self.skip_space();
        let is_deeper = self.open.len() == MAX_DEPTH;
        if self.takes(if is_map { "}" } else { "]" }) {
            return Ok(Some(match is_map {
                _ if is_deeper => Datum::Opaque,
                true => Datum::Map(Vec::new()),
                false => Datum::List(Vec::new()),
            }));
        }
        let name = if is_map { self.name()? } else { None };
        match is_map {
            _ if is_deeper => self.deeper.push(is_map),
            true => self.open.push(Open::Map(BTreeMap::new(), name)),
            false => self.open.push(Open::List(Vec::new())),
        }
        Ok(None)
    }

    /// Puts a whole value where it belongs, and reads on to the next; what is whole by then is returned.
    fn put(&mut self, value: Datum) -> Result<Option<Datum>, &'static str> {
        self.skip_space();
        let is_more = self.takes(",");
        let is_map = match self.deeper.last() {
            Some(is_map) => *is_map,
            None => matches!(self.open.last(), Some(Open::Map(..))),
        };
        if !is_more && !self.takes(if is_map { "}" } else { "]" }) {
            return Err(NOT_JSON);
        }
        let name = if is_more && is_map {
            self.skip_space();
            self.name()?
        } else {
            None
        };
        if !self.deeper.is_empty() {
            if !is_more {
                self.deeper.pop();
            }
            return Ok((!is_more).then_some(Datum::Opaque));
        }
        match self.open.last_mut() {
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, next)) => {
                entries.extend(std::mem::replace(next, name).map(|name| (name, value)));
            }
            None => {}
        }
        if is_more {
            return Ok(None);
        }
        Ok(self.open.pop().map(|open| match open {
            Open::List(items) => Datum::List(items),
            Open::Map(entries, _) => Datum::Map(entries.into_iter().collect()),
        }))
    }

    /// A name and its colon.
    fn name(&mut self) -> Result<Option<String>, &'static str> {
        let name = self.string()?;
        self.skip_space();
        if self.takes(":") { Ok(name) } else { Err(NOT_JSON) }
    }

    fn scalar(&mut self) -> Result<Datum, &'static str> {
        const WORDS: [(&str, Datum); 6] = [
            ("null", Datum::Nothing),
            ("true", Datum::Flag(true)),
            ("false", Datum::Flag(false)),
            ("NaN", Datum::Opaque),
            ("Infinity", Datum::Opaque),
            ("-Infinity", Datum::Opaque),
        ];
        match self.next() {
            Some(b'"') => self.string().map(|text| text.map_or(Datum::Opaque, Datum::Text)),
            Some(b'0'..=b'9') => self.number(),
            _ => match WORDS.into_iter().find(|(word, _)| self.takes(word)) {
                Some((_, value)) => Ok(value),
                None => self.number(),
            },
        }
    }

    fn number(&mut self) -> Result<Datum, &'static str> {
        let start = self.at;
        self.takes("-");
        if !self.takes("0") {
            self.digits()?;
        }
        let mut is_whole = true;
        if self.takes(".") {
            is_whole = false;
            self.digits()?;
        }
        if self.takes("e") || self.takes("E") {
            is_whole = false;
            let _ = self.takes("+") || self.takes("-");
            self.digits()?;
        }
        let text = &self.text[start..self.at];
        // `-0` is no whole number: it has a sign.
        if is_whole && text != "-0" {
            let whole = text.parse::<i64>().map(i128::from).or_else(|_| text.parse::<u64>().map(i128::from));
            if let Ok(whole) = whole {
                return Ok(Datum::Whole(whole));
            }
        }
        let number: f64 = text.parse().map_err(|_| NOT_JSON)?;
        Ok(if number.is_finite() { Datum::Float(number) } else { Datum::Opaque })
    }

    /// One digit, and all that follow.
    fn digits(&mut self) -> Result<(), &'static str> {
        let start = self.at;
        while self.next().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NOT_JSON) }
    }

    /// A text; nothing if it has half of a surrogate pair (rule 1).
    fn string(&mut self) -> Result<Option<String>, &'static str> {
        if !self.takes("\"") {
            return Err(NOT_JSON);
        }
        let (mut string, mut is_whole) = (String::new(), true);
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|byte| byte < b' ' || matches!(byte, b'"' | b'\\')).ok_or(NOT_JSON)?;
            string.push_str(&rest[..plain]);
            self.at += plain;
            if self.takes("\"") {
                return Ok(is_whole.then_some(string));
            }
            match self.escape()? {
                Some(character) => string.push(character),
                None => is_whole = false,
            }
        }
    }

    fn escape(&mut self) -> Result<Option<char>, &'static str> {
        if !self.takes("\\") {
            return Err(NOT_JSON);
        }
        let letter = self.next().ok_or(NOT_JSON)?;
        let plain = match letter {
            b'"' | b'\\' | b'/' => char::from(letter),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unit().map(|unit| self.character(unit));
            }
            _ => return Err(NOT_JSON),
        };
        self.at += 1;
        Ok(Some(plain))
    }

    /// The character that begins with this unit of UTF-16, with its other half if that follows; `None`: it does not (rule 1).
    fn character(&mut self, unit: u16) -> Option<char> {
        let before = self.at;
        let follows = self.takes("\\u").then(|| self.unit().ok()).flatten();
        let mut decoded = char::decode_utf16(std::iter::once(unit).chain(follows));
        let character = decoded.next().and_then(Result::ok);
        if character.is_none_or(|character| character.len_utf16() == 1) {
            // What follows is for itself.
            self.at = before;
        }
        character
    }

    /// Four hexadecimal digits.
    fn unit(&mut self) -> Result<u16, &'static str> {
        let digits =
            self.text.get(self.at..self.at + 4).filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()));
        let unit = digits.and_then(|digits| u16::from_str_radix(digits, 16).ok()).ok_or(NOT_JSON)?;
        self.at += 4;
        Ok(unit)
    }

    fn next(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// Whether `word` comes next; then it is behind us.
    fn takes(&mut self, word: &str) -> bool {
        let comes = self.text.as_bytes()[self.at..].starts_with(word.as_bytes());
        if comes {
            self.at += word.len();
        }
        comes
    }

    fn skip_space(&mut self) {
        while matches!(self.next(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
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

    fn read(text: &str) -> Result<Datum, &'static str> {
        super::read(text.as_bytes(), &mut Budget::default())
    }

    /// What `serde_json` reads, in our words.
    fn told(value: Value) -> Datum {
        match value {
            Value::Null => Datum::Nothing,
            Value::Bool(truth) => Datum::Flag(truth),
            Value::Number(number) => match number.as_i128() {
                Some(whole) => Datum::Whole(whole),
                None => Datum::Float(number.as_f64().unwrap()),
            },
            Value::String(text) => Datum::Text(text),
            Value::Array(items) => Datum::List(items.into_iter().map(told).collect()),
            Value::Object(entries) => {
                Datum::Map(entries.into_iter().map(|(name, value)| (name, told(value))).collect())
            }
        }
    }

    #[test]
    fn a_text_with_half_a_character_is_opaque_and_the_others_are_read() {
        let text = |json: &str| read(&format!("\"{json}\""));
        for json in
            [r"\ud83d", r"a\ud83db", r"\ude00", r"\ude00\ud83d", r"\ud83d\ud83d\ude00", r"\ud83d\u0041", r"\ud83d\n"]
        {
            assert_eq!(text(json), Ok(Datum::Opaque), "{json}");
        }
        for (json, expected) in
            [(r"\ud83d\ude00", "😀"), (r"\u0041\u0042", "AB"), (r"\ud83d\ude00\ud83d\ude00", "😀😀")]
        {
            assert_eq!(text(json), Ok(Datum::Text(expected.into())), "{json}");
        }
        for broken in [r"\ud83", r"\ud83d\u12", r"\ud83d\x", r"\u+123", r"\u12é", "\\", "\n"] {
            assert_eq!(text(broken), Err(NOT_JSON), "{broken}");
        }
        // JSON.stringify({cookie: {}, user_id: 5, title: "party 🎉".slice(0, 7), "k🎉".slice(0, 2): 1, last: "x"}).
        let record = r#"{"cookie":{},"user_id":5,"title":"party \ud83c","k\ud83c":1,"last":"x"}"#;
        let read = read(record).unwrap();
        let names: Vec<_> = ["cookie", "user_id", "title", "last"].map(|name| read.at(name).cloned()).into();
        let last = Some(Datum::Text("x".into()));
        assert_eq!(names, [Some(Datum::Map(Vec::new())), Some(Datum::Whole(5)), Some(Datum::Opaque), last]);
        assert!(matches!(&read, Datum::Map(entries) if entries.len() == 4), "{read:?}");
    }

    #[test]
    fn a_user_with_half_a_character_is_not_told_and_is_not_nobody() {
        let read = read(r#"{"user":{"id":"\ud83c"},"name":"x"}"#).unwrap();
        assert!(Record::of(&wanted(&["user.id"]), &read).is_err());
        assert_eq!(Record::of(&wanted(&["name", "user.id"]), &read).unwrap().attributes.len(), 1);
    }

    #[test]
    fn numbers_that_are_none_are_opaque() {
        for json in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999", "1.5E+400"] {
            assert_eq!(read(json), Ok(Datum::Opaque), "{json}");
            let within = read(&format!("{{\"x\":[{json} ],\"id\":5}}"));
            assert_eq!(within.unwrap().at("id"), Some(&Datum::Whole(5)), "{json}");
        }
        for json in
            ["nan", "NAN", "-NaN", "+Infinity", "Inf", "Infinit", "Infinityx", "01", "1.", ".5", "1e", "--1", "0x1"]
        {
            assert_eq!(read(json), Err(NOT_JSON), "{json}");
        }
        assert_eq!(read("1e-999"), Ok(Datum::Float(0.0)));
    }

    #[test]
    fn what_is_too_deep_is_opaque_and_what_stands_beside_it_is_read() {
        let nested = |levels: usize, inner: &str| {
            let deep = format!("{}{inner}{}", "[{\"a\":".repeat(levels), "}]".repeat(levels));
            format!("{{\"x\":{deep},\"id\":5}}")
        };
        for levels in [1, 31, 32, 33, 64, 5_000] {
            let record = read(&nested(levels, "[1, {\"a\":[ ]}, {}, NaN, \"\\u00e9\"]")).unwrap();
            assert_eq!(record.at("id"), Some(&Datum::Whole(5)), "{levels}");
        }
        let lists = |levels: usize| read(&format!("{}{}", "[".repeat(levels), "]".repeat(levels))).unwrap();
        fn depth(value: &Datum) -> (usize, bool) {
            match value {
                Datum::List(items) => items.first().map_or((1, false), |inner| {
                    let (further, is_cut) = depth(inner);
                    (further + 1, is_cut)
                }),
                other => (0, *other == Datum::Opaque),
            }
        }
        let depth = |levels| depth(&lists(levels));
        assert_eq!((depth(64), depth(65), depth(9_000)), ((64, false), (64, true), (64, true)));
        for broken in ["[1,]", "[1 2]", "{\"a\"}", "{1:2}", "[}", "{\"a\":1]", "[01]", "[\"\\x\"]", "{\"a\":1,}", ""] {
            assert_eq!(read(&nested(40, broken)), Err(NOT_JSON), "{broken}");
        }
        assert_eq!(read(&"[".repeat(200_000)), Err(NOT_JSON));
    }

    fn values() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
        ];
        scalar.prop_recursive(6, 64, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec((any::<String>(), inner), 0..6)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    const SEEDS: [&str; 4] = [
        r#"{"cookie":{"originalMaxAge":null,"expires":"2026-11-21T23:00:00.000Z","path":"/"},"user_id":5,"roles":["user","a\"b"]}"#,
        r#"{"a": -1.5e-3, "b": 18446744073709551615, "c": "\u00fc\ud83c\udf89", "d": [true, false, null, {}], "a": 0}"#,
        "[ 1 , 2.50 ,\t[ ] , {\"x\" : {\"y\" : [\"\\\\\\/\\b\\f\\n\\r\\t\"]}}]\n",
        "\"M\u{fc}ller\"",
    ];

    /// What serde reads is the same here, as long as it is not too deep or too much.
    #[test]
    fn fuzz_json() {
        let seeds = SEEDS.map(|seed| seed.as_bytes().to_vec());
        fuzz("json", &seeds, |bytes| {
            let ours = super::read(bytes, &mut Budget::default());
            let serdes = serde_json::from_slice::<Value>(bytes).map(told);
            if let (Ok(ours), Ok(serdes)) = (&ours, &serdes) {
                assert!(ours == serdes || format!("{ours:?}").contains("Opaque"), "{}", bytes.escape_ascii());
            }
            assert!(ours.is_ok() || serdes.is_err() || bytes.len() > 10_000, "{}", bytes.escape_ascii());
            serdes.is_ok()
        });
    }

    proptest! {
        #[test]
        fn what_is_json_is_read_as_serde_json_reads_it(value in values(), pretty in any::<bool>()) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) }.unwrap();
            let expected = told(serde_json::from_str(&text).unwrap());
            prop_assert_eq!(read(&text), Ok(expected), "{}", text);
        }

        /// No surrogates (there is no `d`), and none of the words that are no JSON.
        #[test]
        fn what_is_no_json_is_refused_as_serde_json_refuses_it(
            parts in prop::collection::vec("[\\[\\]{}:,\"\\\\ue0-9E+. -]|true|null|\"a\"|\"b\":|\\\\u00e9|[0-9]{1,25}|\n|\u{e9}", 0..14)
        ) {
            let text = parts.concat();
            match serde_json::from_str::<Value>(&text) {
                Ok(value) => prop_assert_eq!(read(&text), Ok(told(value)), "{}", text),
                Err(error) if error.to_string().contains("out of range") => prop_assert!(true),
                Err(_) => prop_assert_eq!(read(&text), Err(NOT_JSON), "{}", text),
            }
        }
    }
}
