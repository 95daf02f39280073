//! Records that were compressed before they were stored. Pure.
//!
//! 1. What comes out is a record, and no larger than one may be: a bomb is refused when it has grown to that.
//! 2. There is nothing behind the end.

use std::io::Read;

use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::MAX_RECORD;

/// zlib (RFC 1950).
///
/// # Errors
/// It is not, is damaged, or is too large.
pub fn zlib(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut decoder = ZlibDecoder::new(bytes);
    let plain = bounded(&mut decoder, "record is not zlib")?;
    ended(decoder.into_inner(), plain)
}

/// gzip (RFC 1952), one member.
///
/// # Errors
/// It is not, is damaged, or is too large.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut decoder = GzDecoder::new(bytes);
    let plain = bounded(&mut decoder, "record is not gzip")?;
    ended(decoder.into_inner(), plain)
}

/// zstd (RFC 8878).
///
/// # Errors
/// It is not, is damaged, or is too large.
pub fn zstd(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    zstd::bulk::decompress(bytes, MAX_RECORD).map_err(|_| "record is not zstd, or is too large")
}

fn bounded(decoder: &mut impl Read, fault: &'static str) -> Result<Vec<u8>, &'static str> {
    let mut plain = Vec::new();
    decoder.take(MAX_RECORD as u64 + 1).read_to_end(&mut plain).map_err(|_| fault)?;
    if plain.len() > MAX_RECORD { Err("record too large") } else { Ok(plain) }
}

fn ended(left: &[u8], plain: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if left.is_empty() { Ok(plain) } else { Err("record goes on behind its end") }
}
