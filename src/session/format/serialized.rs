//! PHP's `serialize()` (ext/standard/var.c; measured with PHP 8.2.35). Pure.
//!
//! 1. `N;` `b:0;` `i:-5;` `d:1.5;` `s:BYTES:"…";` and `a:COUNT:{key value …}` are data. Lengths count bytes and are exact.
//! 2. An array with the keys 0, 1, 2, … in this order is a list, every other array a map. A key that is no text (UTF-8) is left
//!    out with its value: no configuration can name it.
//! 3. Objects (`O:`, `C:`), enums (`E:`) and references (`R:`, `r:`) are read over and opaque, and what stands beside them
//!    stays readable. So are `INF` and `NAN`, which are no numbers.
//! 4. Everything else fails the record, and so does whatever follows it.
//!
//! # Why
//! Rule 3: to say what an object means takes the class, which is code of the app. Its extent needs none: an object counts its
//! properties, `C:` its bytes.

use super::MAX_RECORD;
use super::datum::{Budget, Datum};

/// Decodes a value.
///
/// # Errors
/// It is too large, not whole, nested too deeply, has too many values or kinds that PHP does not write, or something follows.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    let mut values = Values::of(bytes)?;
    let value = values.value()?;
    if values.is_empty() { Ok(value) } else { Err("bytes after the record's end") }
}

/// The bytes of a text: `s:BYTES:"…";` and nothing else.
///
/// # Errors
/// It is none.
pub fn text(bytes: &[u8]) -> Result<&[u8], &'static str> {
    let mut input = Input(bytes);
    input.literal(b"s:")?;
    let text = input.quoted()?;
    input.literal(b";")?;
    if input.0.is_empty() { Ok(text) } else { Err("bytes after the record's end") }
}

/// Values that follow each other, with whatever stands between them.
pub struct Values<'a> {
    input: Input<'a>,
    budget: Budget,
}

impl<'a> Values<'a> {
    /// Those in `bytes`.
    ///
    /// # Errors
    /// They are more than a record may have.
    pub fn of(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if bytes.len() > MAX_RECORD {
            return Err("record too large");
        }
        Ok(Self { input: Input(bytes), budget: Budget::of(bytes.len()) })
    }

    /// Whether nothing is left.
    pub fn is_empty(&self) -> bool {
        self.input.0.is_empty()
    }

    /// The next value.
    ///
    /// # Errors
    /// As [`decode`].
    pub fn value(&mut self) -> Result<Datum, &'static str> {
        value(&mut self.input, &mut self.budget)
    }

    /// The next byte.
    ///
    /// # Errors
    /// There is none.
    pub fn byte(&mut self) -> Result<u8, &'static str> {
        self.input.0.split_off_first().copied().ok_or("record ends too early")
    }

    /// The next `length` bytes.
    ///
    /// # Errors
    /// There are fewer.
    pub fn bytes(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        self.input.take(length)
    }

    /// The bytes up to the next `mark`, which is read over.
    ///
    /// # Errors
    /// There is none.
    pub fn until(&mut self, mark: u8) -> Result<&'a [u8], &'static str> {
        self.input.until(mark)
    }
}

fn value(input: &mut Input<'_>, budget: &mut Budget) -> Result<Datum, &'static str> {
    budget.spend()?;
    let kind = input.take(2)?;
    match kind {
        b"N;" => Ok(Datum::Nothing),
        b"b:" => match input.until(b';')? {
            b"0" => Ok(Datum::Flag(false)),
            b"1" => Ok(Datum::Flag(true)),
            _ => Err(STRANGE),
        },
        b"i:" => Ok(Datum::Whole(whole(input.until(b';')?)?.into())),
        b"d:" => double(input.until(b';')?),
        b"s:" => {
            let text = input.quoted()?;
            input.literal(b";")?;
            Ok(Datum::of_bytes(text))
        }
        b"a:" => array(input, budget),
        b"O:" => {
            input.quoted()?;
            input.literal(b":")?;
            array(input, budget).map(|_| Datum::Opaque)
        }
        b"C:" => {
            input.quoted()?;
            input.literal(b":")?;
            let length = length(input.until(b':')?)?;
            input.literal(b"{")?;
            input.take(length)?;
            input.literal(b"}")?;
            Ok(Datum::Opaque)
        }
        b"E:" => {
            input.quoted()?;
            input.literal(b";")?;
            Ok(Datum::Opaque)
        }
        b"R:" | b"r:" => length(input.until(b';')?).map(|_| Datum::Opaque),
        _ => Err(STRANGE),
    }
}

/// `COUNT:{key value …}`.
fn array(input: &mut Input<'_>, budget: &mut Budget) -> Result<Datum, &'static str> {
    let count = length(input.until(b':')?)?;
    input.literal(b"{")?;
    let mut array = Array::default();
    budget.within(|budget| {
        for _ in 0..count {
            let name = key(input)?;
            array.push(name, value(input, budget)?);
        }
        input.literal(b"}")
    })?;
    Ok(array.datum())
}

fn key<'a>(input: &mut Input<'a>) -> Result<Key<'a>, &'static str> {
    match input.take(2)? {
        b"i:" => Ok(Key::Number(whole(input.until(b';')?)?.into())),
        b"s:" => {
            let text = input.quoted()?;
            input.literal(b";")?;
            Ok(Key::Text(text))
        }
        _ => Err(STRANGE),
    }
}

/// A whole number as PHP writes it: 64 bits, no plus.
fn whole(digits: &[u8]) -> Result<i64, &'static str> {
    length(digits.strip_prefix(b"-").unwrap_or(digits)).map_err(|_| STRANGE)?;
    std::str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok()).ok_or(STRANGE)
}

/// Digits alone.
fn length(digits: &[u8]) -> Result<usize, &'static str> {
    let plain = digits.iter().all(u8::is_ascii_digit);
    let number = std::str::from_utf8(digits).ok().filter(|_| plain).and_then(|digits| digits.parse().ok());
    number.ok_or(STRANGE)
}

fn double(written: &[u8]) -> Result<Datum, &'static str> {
    if let b"INF" | b"-INF" | b"NAN" = written {
        return Ok(Datum::Opaque);
    }
    // What else Rust takes for a number, PHP does not write: `inf`, `+1`.
    let plain =
        written.iter().all(|byte| byte.is_ascii_digit() || b"-+.E".contains(byte)) && !written.starts_with(b"+");
    let number = std::str::from_utf8(written).ok().filter(|_| plain).and_then(|written| written.parse::<f64>().ok());
    number.map(Datum::Float).ok_or(STRANGE)
}

const STRANGE: &str = "record is not as PHP serializes";

/// What is left to be read.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        self.0.split_off(..length).ok_or("record ends too early")
    }

    fn until(&mut self, mark: u8) -> Result<&'a [u8], &'static str> {
        let at = memchr::memchr(mark, self.0).ok_or("record ends too early")?;
        let before = self.take(at)?;
        self.take(1)?;
        Ok(before)
    }

    /// These bytes come next.
    fn literal(&mut self, bytes: &[u8]) -> Result<(), &'static str> {
        self.0 = self.0.strip_prefix(bytes).ok_or(STRANGE)?;
        Ok(())
    }

    /// `BYTES:"…"`.
    fn quoted(&mut self) -> Result<&'a [u8], &'static str> {
        let length = length(self.until(b':')?)?;
        self.literal(b"\"")?;
        let text = self.take(length)?;
        self.literal(b"\"")?;
        Ok(text)
    }
}

/// An array of PHP in the making, for all its encodings.
#[derive(Default)]
pub struct Array<'a> {
    entries: Vec<(Key<'a>, Datum)>,
}

/// A key of an array.
#[derive(Clone, Copy)]
pub enum Key<'a> {
    /// A number.
    Number(i128),
    /// A text, of any bytes.
    Text(&'a [u8]),
}

impl<'a> Array<'a> {
    /// One more entry.
    pub fn push(&mut self, key: Key<'a>, value: Datum) {
        self.entries.push((key, value));
    }

    /// The list or the map that it is (rule 2).
    pub fn datum(self) -> Datum {
        let is = |(key, index): (&Key<'_>, i128)| matches!(key, Key::Number(number) if *number == index);
        if self.entries.iter().map(|(key, _)| key).zip(0..).all(is) {
            return Datum::List(self.entries.into_iter().map(|(_, value)| value).collect());
        }
        let named = |(key, value): (Key<'_>, Datum)| match key {
            Key::Number(number) => Some((number.to_string(), value)),
            Key::Text(text) => std::str::from_utf8(text).ok().map(|text| (text.to_owned(), value)),
        };
        Datum::Map(self.entries.into_iter().filter_map(named).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::php::odd::{ODD, fuzz};
    use super::*;

    fn read(written: &str) -> Result<Datum, &'static str> {
        decode(written.as_bytes())
    }

    fn at(record: &str, path: &str) -> Option<String> {
        read(record).unwrap().at(path).and_then(Datum::text)
    }

    #[test]
    fn scalars_and_arrays_are_data() {
        assert_eq!(read("N;"), Ok(Datum::Nothing));
        assert_eq!(read("b:1;"), Ok(Datum::Flag(true)));
        assert_eq!(read("i:-9223372036854775808;"), Ok(Datum::Whole(i64::MIN.into())));
        assert_eq!(read("d:1.0E+25;"), Ok(Datum::Float(1e25)));
        assert_eq!(read("d:-0;"), Ok(Datum::Float(-0.0)));
        assert_eq!(read("d:INF;"), Ok(Datum::Opaque));
        assert_eq!(read("s:7:\"Müller\";"), Ok(Datum::Text("Müller".into())));
        assert_eq!(decode(b"s:2:\"\xff\xfe\";"), Ok(Datum::Bytes(vec![255, 254])));
        assert_eq!(read("a:2:{i:0;i:7;i:1;N;}"), Ok(Datum::List(vec![Datum::Whole(7), Datum::Nothing])));
        assert_eq!(read("a:0:{}"), Ok(Datum::List(vec![])));
        let map = |entries: &[(&str, i128)]| {
            Datum::Map(entries.iter().map(|(name, number)| ((*name).to_owned(), Datum::Whole(*number))).collect())
        };
        assert_eq!(read("a:2:{i:1;i:7;i:0;i:8;}"), Ok(map(&[("1", 7), ("0", 8)])));
        assert_eq!(read("a:2:{s:1:\"a\";i:1;i:-3;i:2;}"), Ok(map(&[("a", 1), ("-3", 2)])));
        assert_eq!(decode(b"a:2:{s:1:\"\xff\";i:1;s:1:\"a\";i:2;}"), Ok(map(&[("a", 2)])));
    }

    #[test]
    fn what_is_quoted_is_counted_and_never_searched() {
        let text = r#""}s:7:"user_id";i:1;"#;
        let record = format!(r#"a:2:{{s:4:"name";s:{}:"{text}";s:7:"user_id";i:5;}}"#, text.len());
        assert_eq!((at(&record, "user_id").as_deref(), at(&record, "name").as_deref()), (Some("5"), Some(text)));
    }

    #[test]
    fn objects_are_read_over_and_the_rest_stays_readable() {
        for (name, object) in [
            ("with properties", "O:1:\"P\":2:{s:1:\"a\";i:1;s:4:\"\0*\0b\";a:1:{i:0;i:3;}}"),
            ("without", "O:8:\"stdClass\":0:{}"),
            ("of its own making", "C:1:\"C\":11:{raw\0bytes;}}"),
            ("enum", "E:11:\"Suit:Hearts\";"),
            ("reference", "R:2;"),
            ("the same object", "r:12;"),
        ] {
            let record = format!("a:2:{{s:1:\"o\";{object}s:7:\"user_id\";i:5;}}");
            assert_eq!(at(&record, "user_id").as_deref(), Some("5"), "{name}");
            assert_eq!(read(&record).unwrap().at("o"), Some(&Datum::Opaque), "{name}");
        }
    }

    #[test]
    fn what_php_does_not_write_is_refused() {
        for hostile in [
            "",
            "N",
            "N:",
            "b:2;",
            "b:;",
            "i:;",
            "i:-;",
            "i:+5;",
            "i: 5;",
            "i:5",
            "i:9223372036854775808;",
            "i:0x5;",
            "d:;",
            "d:inf;",
            "d:nan;",
            "d:infinity;",
            "d:+1;",
            "d:1,5;",
            "s:3:\"ab\";",
            "s:1:\"ab\";",
            "s:-1:\"\";",
            "s:+1:\"a\";",
            "s:1:'a';",
            "s:99999999999999999999:\"a\";",
            "s:18446744073709551615:\"a\";",
            "S:1:\"a\";",
            "a:1:{}",
            "a:0:{i:0;i:1;}",
            "a:-1:{}",
            "a:1:{N;N;}",
            "a:1:{d:1;N;}",
            "a:1:{a:0:{}N;}",
            "a:1:{i:0;i:1;",
            "a:18446744073709551615:{i:0;i:1;}",
            "a:1:{b:1;i:1;}",
            "o:0:{}",
            "O:1:\"P\":1:{}",
            "O:2:\"P\":0:{}",
            "C:1:\"C\":9:{raw}",
            "C:1:\"C\":99999999999:{raw}",
            "E:3:\"S:H\"",
            "R:x;",
            "r:;",
            "x:1;",
            "i:5;i:6;",
            "N;N;",
        ] {
            assert!(read(hostile).is_err(), "{hostile}");
        }
        assert_eq!(decode(&vec![b' '; MAX_RECORD + 1]), Err("record too large"));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        let deep = |levels: usize| format!("{}N;{}", "a:1:{i:0;".repeat(levels), "}".repeat(levels));
        assert!(read(&deep(60)).is_ok());
        assert_eq!(read(&deep(1000)), Err("record is nested too deeply"));
        assert_eq!(read(&"O:1:\"P\":1:{i:0;".repeat(1000)), Err("record is nested too deeply"));
        let many: String = (0..20_000).map(|index| format!("i:{index};N;")).collect();
        assert_eq!(read(&format!("a:20000:{{{many}}}")), Err("record has too many values"));
    }

    #[test]
    fn a_text_is_unwrapped_byte_for_byte() {
        assert_eq!(text(b"s:3:\"\xff\"a\";"), Ok(&b"\xff\"a"[..]));
        assert!(
            ["i:5;", "s:3:\"a\";", "s:1:\"a\";N;", "s:1:\"a\"", ""].iter().all(|none| text(none.as_bytes()).is_err())
        );
    }

    #[test]
    fn fuzz_serialized_values() {
        let seeds: Vec<_> = ODD.iter().map(|odd| odd.serialized.clone()).collect();
        fuzz("serialized", &seeds, |bytes| decode(bytes).is_ok());
    }
}
