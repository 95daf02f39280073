//! MessagePack (its specification of 2017, the whole core format), as data. Pure.
//!
//! 1. One value, and nothing behind it.
//! 2. Names in maps are texts; a whole number as a name is written in decimal, an entry under any other name is left out.
//! 3. `bin`, and text that is not UTF-8, are bytes; extensions are opaque, timestamps among them.
//! 4. Names count as values.
//!
//! # Why
//! A length or a count is a claim: nothing is reserved for it, and where the record ends first, reading ends.

use super::MAX_RECORD;
use super::datum::{Budget, Datum};

/// Decodes a record.
///
/// # Errors
/// It is too large, not one MessagePack value, nested too deeply, or has too many values.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    let mut left = bytes;
    let datum = value(&mut left, &mut Budget::of(bytes.len()))?;
    if left.is_empty() { Ok(datum) } else { Err("record goes on behind its end") }
}

fn value(left: &mut &[u8], budget: &mut Budget) -> Result<Datum, &'static str> {
    budget.spend()?;
    let marker = byte(left)?;
    Ok(match marker {
        0x00..=0x7f => Datum::Whole(marker.into()),
        0x80..=0x8f => map(left, budget, u64::from(marker & 0x0f))?,
        0x90..=0x9f => list(left, budget, u64::from(marker & 0x0f))?,
        0xa0..=0xbf => Datum::of_bytes(take(left, u64::from(marker & 0x1f))?),
        0xc0 => Datum::Nothing,
        0xc1 => return Err("MessagePack has no such type"),
        0xc2 => Datum::Flag(false),
        0xc3 => Datum::Flag(true),
        0xc4..=0xc6 => Datum::Bytes(counted(left, marker - 0xc4)?.to_vec()),
        0xc7..=0xc9 => {
            let length = unsigned(left, marker - 0xc7)?;
            extension(left, length)?
        }
        0xca => Datum::Float(f32::from_be_bytes(array(left)?).into()),
        0xcb => Datum::Float(f64::from_be_bytes(array(left)?)),
        0xcc..=0xcf => Datum::Whole(unsigned(left, marker - 0xcc)?.into()),
        0xd0 => Datum::Whole(i8::from_be_bytes(array(left)?).into()),
        0xd1 => Datum::Whole(i16::from_be_bytes(array(left)?).into()),
        0xd2 => Datum::Whole(i32::from_be_bytes(array(left)?).into()),
        0xd3 => Datum::Whole(i64::from_be_bytes(array(left)?).into()),
        0xd4..=0xd8 => extension(left, 1 << (marker - 0xd4))?,
        0xd9..=0xdb => Datum::of_bytes(counted(left, marker - 0xd9)?),
        0xdc | 0xdd => {
            let count = unsigned(left, marker - 0xdc + 1)?;
            list(left, budget, count)?
        }
        0xde | 0xdf => {
            let count = unsigned(left, marker - 0xde + 1)?;
            map(left, budget, count)?
        }
        0xe0..=0xff => Datum::Whole(i8::from_be_bytes([marker]).into()),
    })
}

fn list(left: &mut &[u8], budget: &mut Budget, count: u64) -> Result<Datum, &'static str> {
    budget.within(|budget| {
        let mut items = Vec::new();
        for _ in 0..count {
            items.push(value(left, budget)?);
        }
        Ok(Datum::List(items))
    })
}

fn map(left: &mut &[u8], budget: &mut Budget, count: u64) -> Result<Datum, &'static str> {
    budget.within(|budget| {
        let mut entries = Vec::new();
        for _ in 0..count {
            let name = value(left, budget)?;
            let named = value(left, budget)?;
            match name {
                Datum::Text(name) => entries.push((name, named)),
                Datum::Whole(name) => entries.push((name.to_string(), named)),
                _ => {}
            }
        }
        Ok(Datum::Map(entries))
    })
}

/// The type of an extension, and its bytes.
fn extension(left: &mut &[u8], length: u64) -> Result<Datum, &'static str> {
    byte(left)?;
    take(left, length)?;
    Ok(Datum::Opaque)
}

/// As many bytes as the number before them says.
fn counted<'a>(left: &mut &'a [u8], width: u8) -> Result<&'a [u8], &'static str> {
    let length = unsigned(left, width)?;
    take(left, length)
}

/// A number of 2^`width` bytes.
fn unsigned(left: &mut &[u8], width: u8) -> Result<u64, &'static str> {
    Ok(take(left, 1 << width)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

fn byte(left: &mut &[u8]) -> Result<u8, &'static str> {
    array(left).map(|[byte]| byte)
}

fn array<const N: usize>(left: &mut &[u8]) -> Result<[u8; N], &'static str> {
    let (taken, rest) = left.split_first_chunk().ok_or("record is cut short")?;
    *left = rest;
    Ok(*taken)
}

fn take<'a>(left: &mut &'a [u8], length: u64) -> Result<&'a [u8], &'static str> {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    let (taken, rest) = left.split_at_checked(length).ok_or("record is cut short")?;
    *left = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests;
