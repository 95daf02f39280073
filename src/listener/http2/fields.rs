//! Looks over a block of fields (RFC 7541) ahead of h2, without decoding it. Pure.
//!
//! 1. Its representations follow each other to its last byte; numbers are within four continuations (§5.1, §6).
//! 2. No index is 0 or beyond both tables (§2.3.3, §6.1).
//! 3. A size of the table stands at the beginning, and is no more than we allow (§4.2, §6.3).
//! 4. Trailers hold no pseudo-field (RFC 9113 §8.1).
//!
//! What breaks 1 to 3 is COMPRESSION_ERROR (RFC 9113 §4.3), which h2 calls PROTOCOL_ERROR; 4 it lets pass.
//!
//! # Why
//! A byte or two of each field say where the next begins; that is a small part of decoding it. Only a block that comes
//! whole, in one frame and one read, is looked over: almost all do, and h2 finds the flaws of the others by itself.

use h2::Reason;

/// Entries of the static table (RFC 7541 Appendix A); the first so many are pseudo-fields.
const STATIC: usize = 61;
const PSEUDO: usize = 14;
/// Bytes of the dynamic table, and how many entries that can be.
const TABLE: usize = 4096;
const MOST_ENTRIES: usize = TABLE / 32;

/// What is known of the dynamic table.
#[derive(Debug, Default)]
pub struct Entries(usize);

impl Entries {
    /// A block was not looked over: it may have brought anything.
    pub fn unknown(&mut self) {
        self.0 = MOST_ENTRIES;
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
            let index = if first & 0x80 != 0 {
                self.known(rest.number(7)?).filter(|index| *index > 0)
            } else if first & 0x40 != 0 {
                self.known(rest.number(6)?)
            } else {
                self.known(rest.number(4)?)
            };
            let index = index.ok_or(Reason::COMPRESSION_ERROR)?;
            let mut pseudo = (1..=PSEUDO).contains(&index);
            if first & 0x80 == 0 {
                if index == 0 {
                    pseudo = begins_with_colon(rest.0);
                    rest.text()?;
                }
                rest.text()?;
            }
            if first & 0xc0 == 0x40 {
                self.0 = (self.0 + 1).min(MOST_ENTRIES);
            }
            if pseudo && trailers {
                return Err(Reason::PROTOCOL_ERROR);
            }
        }
        Ok(())
    }

    fn known(&self, index: usize) -> Option<usize> {
        (index <= STATIC + self.0).then_some(index)
    }
}

/// A colon is 0x3a, or the seven bits 0x5c in the Huffman code.
fn begins_with_colon(text: &[u8]) -> bool {
    match text {
        [length, first, ..] if length & 0x80 != 0 => first >> 1 == 0x5c,
        [_, first, ..] => *first == b':',
        _ => false,
    }
}

/// What is left of a block.
struct Rest<'a>(&'a [u8]);

impl Rest<'_> {
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

    /// A string, left unread (RFC 7541 §5.2).
    fn text(&mut self) -> Result<(), Reason> {
        let length = self.number(7)?;
        self.0 = self.0.get(length..).ok_or(Reason::COMPRESSION_ERROR)?;
        Ok(())
    }
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
    fn an_index_may_refer_to_what_came_before_or_was_not_seen() {
        let mut entries = Entries::default();
        assert_eq!(entries.look_over(b"\x40\x01x\x01y", false), Ok(()));
        assert_eq!(entries.look_over(b"\xbe", false), Ok(()));
        assert!(entries.look_over(b"\xbf", false).is_err());
        entries.unknown();
        assert_eq!(entries.look_over(b"\xbf", false), Ok(()));
    }
}
