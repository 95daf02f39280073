//! Looks over a block of fields (RFC 7541) ahead of h2, without decoding it. Pure.
//!
//! 1. Its representations follow each other to its last byte; numbers are within four continuations (§5.1, §6).
//! 2. No index is 0 or beyond both tables (§2.3.3, §6.1).
//! 3. A size of the table stands at the beginning, and is no more than we allow (§4.2, §6.3).
//! 4. Trailers hold no pseudo-field (RFC 9113 §8.1), and a `:path` no fragment (§8.3.1).
//!
//! What breaks 1 to 3 is COMPRESSION_ERROR (RFC 9113 §4.3), which h2 calls PROTOCOL_ERROR; 4 it lets pass, and takes the
//! fragment off before anybody could see it.
//!
//! # Why
//! A byte or two of each field say where the next begins; that is a small part of decoding it. Only a block that comes
//! whole, in one frame and one read, is looked over: almost all do, and h2 finds the flaws of the others by itself.

use h2::Reason;

/// Entries of the static table (RFC 7541 Appendix A); the first so many are pseudo-fields.
const STATIC: usize = 61;
const PSEUDO: usize = 14;
/// Those that are named `:path`; and the name as a string, plain and in the Huffman code.
const PATHS: [usize; 2] = [4, 5];
const PATH: [&[u8]; 2] = [b"\x05:path", b"\x84\xb9\x58\xd3\x3f"];
/// Bytes of the dynamic table, and how many entries that can be.
const TABLE: usize = 4096;
const MOST_ENTRIES: usize = TABLE / 32;

/// What is known of the dynamic table.
#[derive(Debug, Default)]
pub struct Entries {
    count: usize,
    /// A bit for each entry, the youngest lowest: it is a pseudo-field; it is named `:path`.
    pseudo: u128,
    path: u128,
}

impl Entries {
    /// A block was not looked over: it may have brought anything.
    pub fn unknown(&mut self) {
        *self = Self { count: MOST_ENTRIES, pseudo: 0, path: 0 };
    }

    /// Looks over a block.
    ///
    /// # Errors
    /// The code that its flaw has.
    pub fn look_over(&mut self, block: &[u8], trailers: bool) -> Result<(), Reason> {
        let mut rest = Rest(block);
        let mut begins = true;
        while let Some(first) = rest.0.first().copied() {
            if first & 0xe0 == 0x20 {
                if !begins || rest.number(5)? > TABLE {
                    return Err(Reason::COMPRESSION_ERROR);
                }
                continue;
            }
            begins = false;
            let (indexed, added) = (first & 0x80 != 0, first & 0xc0 == 0x40);
            let index = rest.number(if indexed { 7 } else { 4 + 2 * u32::from(added) })?;
            if index > STATIC + self.count || (indexed && index == 0) {
                return Err(Reason::COMPRESSION_ERROR);
            }
            let (pseudo, path) = match index {
                0 => rest.name()?,
                1..=STATIC => (index <= PSEUDO, PATHS.contains(&index)),
                _ => (self.pseudo >> (index - STATIC - 1) & 1 != 0, self.path >> (index - STATIC - 1) & 1 != 0),
            };
            if !indexed {
                let value = rest.text()?;
                if path && has_fragment(value) {
                    return Err(Reason::PROTOCOL_ERROR);
                }
            }
            if added {
                self.count = (self.count + 1).min(MOST_ENTRIES);
                self.pseudo = self.pseudo << 1 | u128::from(pseudo);
                self.path = self.path << 1 | u128::from(path);
            }
            if pseudo && trailers {
                return Err(Reason::PROTOCOL_ERROR);
            }
        }
        Ok(())
    }
}

/// What is left of a block.
struct Rest<'a>(&'a [u8]);

/// A string: whether it is in the Huffman code, and its bytes.
type Text<'a> = (bool, &'a [u8]);

impl<'a> Rest<'a> {
    fn byte(&mut self) -> Result<usize, Reason> {
        let (first, rest) = self.0.split_first().ok_or(Reason::COMPRESSION_ERROR)?;
        self.0 = rest;
        Ok(usize::from(*first))
    }

    /// A number with a prefix of `bits` bits (RFC 7541 §5.1).
    fn number(&mut self, bits: u32) -> Result<usize, Reason> {
        let most = (1 << bits) - 1;
        let mut number = self.byte()? & most;
        if number < most {
            return Ok(number);
        }
        for shift in [0, 7, 14, 21] {
            let next = self.byte()?;
            number += (next & 0x7f) << shift;
            if next & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(Reason::COMPRESSION_ERROR)
    }

    /// A string (RFC 7541 §5.2).
    fn text(&mut self) -> Result<Text<'a>, Reason> {
        let huffman = self.0.first().is_some_and(|first| first & 0x80 != 0);
        let length = self.number(7)?;
        let (text, rest) = self.0.split_at_checked(length).ok_or(Reason::COMPRESSION_ERROR)?;
        self.0 = rest;
        Ok((huffman, text))
    }

    /// A name: whether that is one of a pseudo-field, and `:path`. A colon is the seven bits 0x5c in the Huffman code.
    fn name(&mut self) -> Result<(bool, bool), Reason> {
        let path = PATH.iter().any(|path| self.0.starts_with(path));
        let (huffman, name) = self.text()?;
        let pseudo = name.first().is_some_and(|first| if huffman { first >> 1 == 0x5c } else { *first == b':' });
        Ok((pseudo, path))
    }
}

/// Whether there is a `#`: in the Huffman code, the twelve bits 0xffa where a symbol begins.
fn has_fragment((huffman, text): Text<'_>) -> bool {
    if !huffman {
        return text.contains(&b'#');
    }
    // Nine ones in a row are in few symbols: most strings are done with here.
    let ones = |pair: &[u8]| pair[0].trailing_ones() + pair[1].leading_ones() >= 9;
    if !text.windows(2).any(ones) {
        return false;
    }
    // How many symbols there are of each length (RFC 7541 Appendix B); their codes follow each other.
    const SYMBOLS: [u32; 31] =
        [0, 0, 0, 0, 0, 10, 26, 32, 6, 0, 5, 3, 2, 6, 2, 3, 0, 0, 0, 3, 8, 13, 26, 29, 12, 4, 15, 19, 29, 0, 4];
    let (mut code, mut length, mut next) = (0_u32, 0, 0);
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |at| u32::from(byte >> at & 1))) {
        (code, length, next) = (code << 1 | bit, length + 1, next << 1);
        let Some(symbols) = SYMBOLS.get(length) else { return false };
        next += symbols;
        if code < next {
            if (length, code) == (12, 0xffa) {
                return true;
            }
            (code, length, next) = (0, 0, 0);
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(block: &[u8], trailers: bool) -> Option<Reason> {
        Entries::default().look_over(block, trailers).err()
    }

    #[test]
    fn sound_blocks_pass() {
        for block in [
            &b""[..],
            b"\x82\x86\x84\x41\x04a.bc",
            b"\x20\x3f\xe1\x1f\x82",
            b"\x00\x01x\x01y\x10\x01x\x00\x0f\x0d\x01y",
            b"\x40\x01x\x01y\xbe\x7e\x01z",
            b"\x00\x81\xf3\x81\xf5",
        ] {
            assert_eq!(code(block, false), None, "{block:?}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_a_compression_error() {
        for block in [
            &b"\x80"[..],
            b"\xbe",
            b"\xfe",
            b"\x7f\x07\x00",
            b"\x40",
            b"\x40\x01",
            b"\x40\x01x",
            b"\x40\x01x\x02y",
            b"\x00\x7f\xff\xff\xff\xff\x7f",
            b"\xff\xff\xff\xff\xff",
            b"\x82\x20",
            b"\x3f\xe2\x1f",
        ] {
            assert_eq!(code(block, false), Some(Reason::COMPRESSION_ERROR), "{block:?}");
        }
    }

    #[test]
    fn trailers_hold_no_pseudo_fields() {
        for block in [&b"\x82"[..], b"\x04\x01/", b"\x00\x05:path\x01/", b"\x00\x84\xb9\x58\xd3\x3f\x01/"] {
            assert_eq!(code(block, true), Some(Reason::PROTOCOL_ERROR), "{block:?}");
        }
        assert_eq!(code(b"\x00\x01x\x01:\x0f\x0d\x01y", true), None);
    }

    #[test]
    fn a_path_has_no_fragment() {
        let mut entries = Entries::default();
        // `/a#b` and `/a?b`, plain and in the Huffman code; an entry named `:path`, and a value for that name.
        for (block, sound) in [
            (&b"\x04\x04/a#b"[..], false),
            (b"\x00\x05:path\x02/#", false),
            (b"\x00\x84\xb9\x58\xd3\x3f\x02/#", false),
            (b"\x04\x84\x60\x7f\xe4\x7f", true),
            (b"\x04\x84\x60\x7f\xf5\x1f", false),
            // `/a#`, `#`, `/a|b{}#x`, and `/a&b=(c)?X;Z`.
            (b"\x04\x83\x60\x7f\xf5", false),
            (b"\x04\x82\xff\xaf", false),
            (b"\x04\x8a\x60\x7f\xf2\x3f\xff\xdf\xfe\xff\xd7\x9f", false),
            (b"\x04\x8c\x60\x7f\x11\xc1\xfd\x13\xfb\xff\x3f\x3e\xff\x7f", true),
            (b"\x0f\x24\x02/#", true),
            (b"\x44\x02/a", true),
            (b"\x40\x01x\x01#", true),
            (b"\x0f\x2f\x01#", true),
            (b"\x0f\x30\x02/#", false),
        ] {
            let found = entries.look_over(block, false);
            assert_eq!(found, if sound { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) }, "{block:x?}");
        }
    }

    #[test]
    fn an_index_may_refer_to_what_came_before_or_was_not_seen() {
        let mut entries = Entries::default();
        assert_eq!(entries.look_over(b"\x40\x01x\x01y", false), Ok(()));
        assert_eq!(entries.look_over(b"\xbe", false), Ok(()));
        assert!(entries.look_over(b"\xbf", false).is_err());
        entries.unknown();
        assert_eq!(entries.look_over(b"\xbf", false), Ok(()));
    }
}
