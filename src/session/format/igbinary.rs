//! igbinary, versions 1 and 2 (src/php7/igbinary.c; measured with igbinary 3.2.13 under PHP 8.2.35). Pure.
//!
//! Four bytes name the version; then comes one value. A value is a byte that tells its kind, and what the kind says; numbers of
//! more than one byte are big-endian.
//!
//! | kinds | what follows |
//! |---|---|
//! | 00, 04, 05 | nothing: null, false, true |
//! | 06 08 0a 20 | a positive number of 1, 2, 4, 8 bytes |
//! | 07 09 0b 21 | the same, negative |
//! | 0c | a double (IEEE 754) |
//! | 0d | nothing: the empty text |
//! | 0e 0f 10 | the place, in 1, 2, 4 bytes, of a text that has been written before |
//! | 11 12 13 | a length of 1, 2, 4 bytes, a text |
//! | 14 15 16 | a count of 1, 2, 4 bytes, as many keys (a number or a text) with values |
//! | 17 18 19, 1a 1b 1c | an object: its class as a new text, or by place; then an array of properties, or 1d 1e 1f (a length, bytes of its own making), or 27 (enum: a text). Among the properties 00 in the place of a key, without a value, is one that was never set |
//! | 01 02 03, 22 23 24 | the place, in 1, 2, 4 bytes, of an array, of an object that has been written before |
//! | 25 | a reference: a value that others refer to, or the place of the one that it refers to |
//!
//! 1. Every text but the empty one takes a place when it is first written: keys and classes do, too.
//! 2. Arrays, objects and what is referred to have places of their own, counted together as they begin. The properties of an
//!    object are no array in this.
//! 3. An array that stands under two names, as copies do in PHP, is written once, and read at both. A bound on the values that
//!    are made, and one on the bytes of their texts, hold for what is read, not for what was written.
//! 4. Lists, maps, objects, enums and references are what they are in [`serialized`](super::serialized).
//!
//! # Why
//! Rule 3: a text of 100 KB that is meant a thousand times, or arrays of one array twice each, would be more than any memory.

use super::MAX_RECORD;
use super::datum::{Budget, Datum, room};
use super::serialized::{Array, Key};

/// Decodes a value with its version.
///
/// # Errors
/// It is too large, of another version, not whole, nested too deeply, has too many values or kinds that igbinary does not write,
/// or something follows.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    let mut input = Input { rest: bytes, texts: Vec::new(), places: Vec::new() };
    if !(1..=2).contains(&input.number(4)?) {
        return Err("record is of another version of igbinary");
    }
    let value = value(&mut input, &mut Budget::of(bytes.len()))?;
    if !input.rest.is_empty() {
        return Err("bytes after the record's end");
    }
    Made { places: &input.places, texts: room(bytes.len()) }.datum(&value, &mut Budget::of(bytes.len()))
}

/// What is written, with texts and arrays where they were written first.
enum Value<'a> {
    Plain(Datum),
    Text(&'a [u8]),
    /// By its place.
    Array(usize),
}

type Entries<'a> = Vec<(Key<'a>, Value<'a>)>;

fn value<'a>(input: &mut Input<'a>, budget: &mut Budget) -> Result<Value<'a>, &'static str> {
    budget.spend()?;
    let kind = input.kind()?;
    let plain = match kind {
        0x00 => Datum::Nothing,
        0x01..=0x03 => return input.length(kind).map(Value::Array),
        0x04 | 0x05 => Datum::Flag(kind == 0x05),
        0x06..=0x0b | 0x20 | 0x21 => Datum::Whole(input.whole(kind)?),
        0x0c => {
            let number = f64::from_bits(input.number(8)?);
            if number.is_finite() { Datum::Float(number) } else { Datum::Opaque }
        }
        0x0d..=0x13 => return input.text(kind).map(Value::Text),
        0x14..=0x16 => {
            let place = input.place();
            let entries = entries(kind, input, budget)?;
            input.places[place] = Some(entries);
            return Ok(Value::Array(place));
        }
        0x17..=0x1c => {
            input.place();
            // Classes are texts, and their kinds follow those of texts.
            input.text(if kind < 0x1a { kind - 0x17 + 0x11 } else { kind - 0x1a + 0x0e })?;
            object(input, budget)?;
            Datum::Opaque
        }
        0x22..=0x24 => input.length(kind).map(|_| Datum::Opaque)?,
        0x25 => return reference(input, budget),
        _ => return Err(STRANGE),
    };
    Ok(Value::Plain(plain))
}

/// What follows the class of an object.
fn object(input: &mut Input<'_>, budget: &mut Budget) -> Result<(), &'static str> {
    let kind = input.kind()?;
    match kind {
        0x14..=0x16 => properties(kind, input, budget),
        0x1d..=0x1f => {
            let length = input.length(kind)?;
            input.take(length).map(drop)
        }
        0x27 => {
            let kind = input.kind()?;
            input.text(kind).map(drop)
        }
        _ => Err(STRANGE),
    }
}

/// What follows the kind of a reference.
fn reference<'a>(input: &mut Input<'a>, budget: &mut Budget) -> Result<Value<'a>, &'static str> {
    match input.rest.first() {
        Some(0x01..=0x03) => {
            let kind = input.kind()?;
            return input.length(kind).map(|_| Value::Plain(Datum::Opaque));
        }
        // These have places in any case.
        Some(0x14..=0x1c | 0x22..=0x24) => {}
        Some(0x25) => return Err(STRANGE),
        _ => drop(input.place()),
    }
    value(input, budget)
}

/// Those of an object, which are read over.
fn properties(kind: u8, input: &mut Input<'_>, budget: &mut Budget) -> Result<(), &'static str> {
    let count = input.length(kind)?;
    budget.within(|budget| {
        for _ in 0..count {
            if let Some(0x00) = input.rest.first() {
                // Never set, as a typed one may be; counted all the same.
                input.kind()?;
                budget.spend()?;
                continue;
            }
            key(input)?;
            value(input, budget)?;
        }
        Ok(())
    })
}

fn entries<'a>(kind: u8, input: &mut Input<'a>, budget: &mut Budget) -> Result<Entries<'a>, &'static str> {
    let count = input.length(kind)?;
    budget.within(|budget| {
        let mut entries = Vec::new();
        for _ in 0..count {
            let name = key(input)?;
            entries.push((name, value(input, budget)?));
        }
        Ok(entries)
    })
}

fn key<'a>(input: &mut Input<'a>) -> Result<Key<'a>, &'static str> {
    let kind = input.kind()?;
    match kind {
        0x06..=0x0b | 0x20 | 0x21 => input.whole(kind).map(Key::Number),
        _ => input.text(kind).map(Key::Text),
    }
}

/// Of how many bytes the number is that follows a kind.
fn width(kind: u8) -> usize {
    match kind {
        0x01 | 0x06 | 0x07 | 0x0e | 0x11 | 0x14 | 0x1d | 0x22 => 1,
        0x02 | 0x08 | 0x09 | 0x0f | 0x12 | 0x15 | 0x1e | 0x23 => 2,
        0x03 | 0x0a | 0x0b | 0x10 | 0x13 | 0x16 | 0x1f | 0x24 => 4,
        _ => 8,
    }
}

const STRANGE: &str = "record is not as igbinary writes";

/// What is left to be read, and what has a place.
struct Input<'a> {
    rest: &'a [u8],
    texts: Vec<&'a [u8]>,
    /// Arrays by their place; of what else has one, nothing.
    places: Vec<Option<Entries<'a>>>,
}

impl<'a> Input<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], &'static str> {
        self.rest.split_off(..length).ok_or("record ends too early")
    }

    fn kind(&mut self) -> Result<u8, &'static str> {
        self.rest.split_off_first().copied().ok_or("record ends too early")
    }

    /// A number of `width` bytes, at most 8.
    fn number(&mut self, width: usize) -> Result<u64, &'static str> {
        Ok(self.take(width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn length(&mut self, kind: u8) -> Result<usize, &'static str> {
        usize::try_from(self.number(width(kind))?).map_err(|_| "record ends too early")
    }

    fn whole(&mut self, kind: u8) -> Result<i128, &'static str> {
        let number = i128::from(self.number(width(kind))?);
        Ok(if matches!(kind, 0x07 | 0x09 | 0x0b | 0x21) { -number } else { number })
    }

    fn text(&mut self, kind: u8) -> Result<&'a [u8], &'static str> {
        match kind {
            0x0d => Ok(b""),
            0x0e..=0x10 => {
                let place = self.length(kind)?;
                self.texts.get(place).copied().ok_or("record means a text that it does not have")
            }
            0x11..=0x13 => {
                let length = self.length(kind)?;
                let text = self.take(length)?;
                self.texts.push(text);
                Ok(text)
            }
            _ => Err(STRANGE),
        }
    }

    /// Takes the next place.
    fn place(&mut self) -> usize {
        self.places.push(None);
        self.places.len() - 1
    }
}

/// What values may come to, and the arrays that they are made of.
struct Made<'a> {
    places: &'a [Option<Entries<'a>>],
    texts: usize,
}

impl<'a> Made<'a> {
    fn datum(&mut self, value: &Value<'a>, budget: &mut Budget) -> Result<Datum, &'static str> {
        budget.spend()?;
        match value {
            Value::Plain(plain) => Ok(plain.clone()),
            Value::Text(text) => {
                self.spend(text)?;
                Ok(Datum::of_bytes(text))
            }
            Value::Array(place) => {
                let entries = self.places.get(*place).and_then(Option::as_ref);
                let entries = entries.ok_or("record means an array that it does not have")?;
                budget.within(|budget| {
                    let mut array = Array::default();
                    for (key, value) in entries {
                        if let Key::Text(text) = key {
                            self.spend(text)?;
                        }
                        array.push(*key, self.datum(value, budget)?);
                    }
                    Ok(array.datum())
                })
            }
        }
    }

    fn spend(&mut self, text: &[u8]) -> Result<(), &'static str> {
        self.texts = self.texts.checked_sub(text.len()).ok_or("record is larger than it looks")?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::super::php::odd::{ODD, fuzz};
    use super::super::serialized;
    use super::*;

    /// With the version.
    fn read(value: &[u8]) -> Result<Datum, &'static str> {
        decode(&[&[0, 0, 0, 2], value].concat())
    }

    /// What the extension wrote of odd values is what PHP itself wrote of them: `tests/fixtures/sessions/php.json`.
    #[test]
    fn real_values_are_the_same_as_php_serializes_them() {
        for odd in ODD.iter() {
            let plain = serialized::decode(&odd.serialized).unwrap_or_else(|why| panic!("{}: {why}", odd.name));
            assert_eq!(decode(&odd.igbinary).as_ref(), Ok(&plain), "{}", odd.name);
        }
        assert!(ODD.len() > 30, "{} values", ODD.len());
    }

    #[test]
    fn texts_are_meant_by_their_place() {
        let shared = b"\x14\x02\x11\x01a\x11\x01b\x0e\x01\x0e\x00";
        let entry = |name: &str, text: &str| (name.to_owned(), Datum::Text(text.into()));
        assert_eq!(read(shared), Ok(Datum::Map(vec![entry("a", "b"), entry("b", "a")])));
        assert_eq!(read(b"\x14\x01\x06\x00\x0e\x00"), Err("record means a text that it does not have"));
        let with_empty = b"\x14\x02\x0d\x11\x01b\x11\x01c\x0e\x01";
        assert_eq!(read(with_empty), Ok(Datum::Map(vec![entry("", "b"), entry("c", "c")])));
    }

    #[test]
    fn one_long_text_that_is_meant_often_is_no_bomb() {
        let long = 100_000u32;
        let mut bomb = [&[0x15, 0x30, 0x00, 0x06, 0x00, 0x13], &long.to_be_bytes()[..]].concat();
        bomb.extend(vec![b'x'; long as usize]);
        for index in 1..0x3000u16 {
            bomb.push(0x08);
            bomb.extend(index.to_be_bytes());
            bomb.extend([0x0e, 0x00]);
        }
        assert_eq!(read(&bomb), Err("record is larger than it looks"));
    }

    #[test]
    fn arrays_are_meant_by_their_place_and_are_no_bomb() {
        let list = |items| Datum::List(items);
        let one = || list(vec![Datum::Whole(7)]);
        assert_eq!(read(b"\x14\x02\x06\0\x14\x01\x06\0\x06\x07\x06\x01\x01\x01"), Ok(list(vec![one(), one()])));
        for none in [&b"\x14\x01\x06\0\x01\x01"[..], b"\x14\x02\x06\0\x17\x01P\x14\0\x06\x01\x01\x01", b"\x01\0"] {
            assert_eq!(read(none), Err("record means an array that it does not have"));
        }
        assert_eq!(read(b"\x14\x01\x06\0\x01\0"), Err("record is nested too deeply"), "in itself");
        // Each of twenty arrays is the one before, twice.
        let mut bomb = b"\x14\x15\x06\0\x14\x01\x06\0\x06\x07".to_vec();
        for index in 1..=20 {
            bomb.extend([0x06, index, 0x14, 2, 0x06, 0, 0x01, index, 0x06, 1, 0x01, index]);
        }
        assert_eq!(read(&bomb), Err("record has too many values"));
    }

    #[test]
    fn what_igbinary_does_not_write_is_refused() {
        let hostile: [&[u8]; 23] = [
            b"",
            b"\x06",
            b"\x0a\0\0\0",
            b"\x20\0\0\0\0\0\0\0",
            b"\x0c\0",
            b"\x11\x02a",
            b"\x13\xff\xff\xff\xff",
            b"\x14",
            b"\x14\x01",
            b"\x14\x01\x06\x00",
            b"\x16\xff\xff\xff\xff\x06\x00\x00",
            b"\x14\x01\x00\x00",
            b"\x14\x01\x0c",
            b"\x17\x01P",
            b"\x17\x01P\x00",
            b"\x1a\x00\x14\x00",
            b"\x17\x01P\x14\x01\x05\x00",
            b"\x17\x01P\x1d\x05ab",
            b"\x17\x01P\x27\x06\x00",
            b"\x25",
            b"\x26\x00",
            b"\xff",
            b"\x00\x00",
        ];
        for hostile in hostile {
            assert!(read(hostile).is_err(), "{hostile:x?}");
        }
        for version in [[0, 0, 0, 0], [0, 0, 0, 3], [1, 0, 0, 2], *b"a:0:"] {
            assert_eq!(decode(&[&version[..], b"\0"].concat()), Err("record is of another version of igbinary"));
        }
        assert_eq!(decode(b"\0\0\0\x01\x14\0"), Ok(Datum::List(vec![])));
        assert_eq!(decode(&vec![0; MAX_RECORD + 1]), Err("record too large"));
    }

    #[test]
    fn depth_and_number_of_values_are_bounded() {
        assert_eq!(read(&b"\x14\x01\x06\x00".repeat(1000)), Err("record is nested too deeply"));
        assert_eq!(read(&b"\x17\x01P\x14\x01\x06\x00".repeat(1000)), Err("record is nested too deeply"));
        assert_eq!(read(&[0x25; 100_000]), Err("record is not as igbinary writes"));
        let many = [&[0x16, 0, 0, 0x80, 0], &[0x06, 0, 0].repeat(0x8000)[..]].concat();
        assert_eq!(read(&many), Err("record has too many values"));
    }

    #[test]
    fn fuzz_igbinary_values() {
        let seeds: Vec<_> = ODD.iter().map(|odd| odd.igbinary.clone()).collect();
        fuzz("igbinary", &seeds, |bytes| decode(bytes).is_ok());
    }
}
