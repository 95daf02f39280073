//! The first line of a chunk (RFC 9112 §7.1), read alike from clients and from apps. Pure.
//!
//! 1. A size is 1 to 16 hex digits, and below 2⁶³.
//! 2. An extension starts with `;`, is free of control characters, and means nothing (§7.1.1).
//! 3. Lines and trailers are bounded: neither side may make us keep more than a few kilobytes of framing.

/// Longest line of chunk framing (size and extensions), and longest trailer line, in bytes.
pub const LONGEST_LINE: usize = 1024;
/// Bytes of all trailers of one message.
pub const MOST_TRAILER_BYTES: usize = 8 * 1024;

/// The size of a chunk, in bytes; `line` is without its CR LF.
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn size(line: &[u8]) -> Result<u64, &'static str> {
    let digits = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    if digits == 0 || digits > 16 {
        return Err("malformed chunk size");
    }
    let extension = &line[digits..];
    if !extension.is_empty() && extension[0] != b';' {
        return Err("malformed chunk size");
    }
    if !extension.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..)) {
        return Err("control character in a chunk extension");
    }
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| "malformed chunk size")?;
    u64::from_str_radix(text, 16).ok().filter(|size| *size < u64::MAX >> 1).ok_or("chunk size too large")
}
