//! `django`: sessions of Django in its own Redis cache (4.2, 5.2, captured) or in django-redis (5.4, 7.0, captured). Pure.
//!
//! 1. An identifier is 32 of `[a-z0-9]`, and is not signed.
//! 2. A record is what the cache writes, whatever `SESSION_SERIALIZER` says: a pickle, JSON, or MessagePack (`python`).
//! 3. It may be compressed by django-redis: zlib, gzip and zstd are read, other compressors are named and refused.
//! 4. A plain number is no session: both caches write numbers as text, and a session is a dictionary.
//! 5. With the engine `cached_db` a session whose key is gone is over here, although Django would find it in its database.
//!
//! # Why
//! Values too short to gain are stored as they are, so the first bytes tell whether a value is compressed, and by what; brotli
//! alone has no such mark.

use std::borrow::Cow;

use super::{MAX_RECORD, Record, Stored, Wanted, Way, identifier, inflate, python};
use crate::exchange::Located;

/// Identifiers, and what Django's caches write under them.
pub struct Django {
    prefix: String,
}

impl Django {
    /// Under keys that begin with `prefix`, which is `KEY_PREFIX`, `VERSION` and the engine's own.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }
}

impl Way for Django {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        let id = identifier(text, 32..=32, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit())?;
        Ok(Located::behind(&self.prefix, id))
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, _: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        Record::of(wanted, &python::decode(&plain(bytes, wanted.largest())?)?).map(Some)
    }
}

/// The record as it was before it was compressed (rules 3 and 4), of at most so many bytes.
fn plain(bytes: &[u8], most: usize) -> Result<Cow<'_, [u8]>, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    match bytes {
        [0x78, ..] => inflate::zlib(bytes, most).map(Cow::Owned),
        [0x1f, 0x8b, ..] => inflate::gzip(bytes, most).map(Cow::Owned),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => inflate::zstd(bytes, most).map(Cow::Owned),
        [0x04, 0x22, 0x4d, 0x18, ..] => Err("record is compressed by lz4, which is not read"),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err("record is compressed by lzma, which is not read"),
        [b'-' | b'0'..=b'9', rest @ ..] if rest.iter().all(u8::is_ascii_digit) => Err("record is a plain number"),
        _ => Ok(Cow::Borrowed(bytes)),
    }
}

#[cfg(test)]
mod tests;
