//! Records as Python's serializers write them, told apart by their first bytes. Pure.
//!
//! 1. `{` is JSON, 0x80 and 2 to 5 a pickle, a map of MessagePack what begins like one. 0x80 alone is an empty map.
//! 2. A record is a map; anything else is no session.
//!
//! # Why
//! Flask-Session 0.8 reads whichever of the three it finds and writes its own back, so one Redis may hold them all; Django
//! writes what its cache is told to.

use super::datum::Datum;
use super::{json, msgpack, pickle};

/// Decodes a record.
///
/// # Errors
/// It is none of the three, or none that is read; says why.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    let record = match bytes {
        [b'{', ..] => json::decode(bytes)?,
        [0x81..=0x8f | 0xde | 0xdf, ..] | [0x80] => msgpack::decode(bytes)?,
        [0x80, ..] => pickle::decode(bytes)?,
        _ => return Err("record is neither JSON nor MessagePack nor a pickle"),
    };
    if matches!(record, Datum::Map(_)) { Ok(record) } else { Err("record is not a map") }
}

#[cfg(test)]
pub(super) mod tests;
