//! What each binary form begins with: which form it is, and a checksum over the rest of it and over the URI it belongs to.
//!
//! 1. The URI is not in the bytes: what is moved to the key of another URI is not what it was.
//! 2. Whatever was not sealed just so does not open.
//!
//! # Why a checksum of our own
//! Each step, `(state ^ word) * odd`, is a bijection of the word and of the state. Damage within any one 8-byte word
//! is therefore always found, wider damage in all but one of 2⁶⁴ cases, at the speed of memory and without a table.
//! It is no defence against someone who can write to Redis; nothing stored there could be.

use bytes::{Buf as _, Bytes};

use crate::cache::rules::vary::Digest;

/// The bytes before the rest of a binary form: its version and the checksum, which tell it from every other.
pub const SEAL: usize = 12;

/// Which form, and in which version.
pub(super) type Version = [u8; 4];

/// The beginning of a form; room for `length` bytes more.
pub(super) fn begin(version: Version, length: usize) -> Vec<u8> {
    let mut out = Vec::with_capacity(SEAL + length);
    out.extend_from_slice(&version);
    out.extend_from_slice(&[0; SEAL - size_of::<Version>()]);
    out
}

/// Seals what [`begin`] began, for the URI whose key has this digest.
pub(super) fn close(mut form: Vec<u8>, uri: &Digest) -> Vec<u8> {
    let sum = checksum(uri, &form[SEAL..]);
    form[size_of::<Version>()..SEAL].copy_from_slice(&sum.to_le_bytes());
    form
}

/// What stands behind the seal; `None`: it is not that of this version, URI and content.
pub(super) fn open(version: Version, mut form: Bytes, uri: &Digest) -> Option<Bytes> {
    if form.len() < SEAL || form[..version.len()] != version {
        return None;
    }
    form.advance(version.len());
    let sum = form.get_u64_le();
    (sum == checksum(uri, &form)).then_some(form)
}

/// See the module's page. Four states side by side, so that the processor can work on them at once.
fn checksum(uri: &Digest, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut states = [bytes.len() as u64, 1, 2, 3];
    let step = |state: u64, word: &[u8]| {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        (state ^ u64::from_le_bytes(padded)).wrapping_mul(ODD).rotate_left(29)
    };
    let mut blocks = bytes.chunks_exact(32);
    for block in std::iter::once(&uri[..]).chain(&mut blocks) {
        for (state, word) in states.iter_mut().zip(block.chunks_exact(8)) {
            *state = step(*state, word);
        }
    }
    for (state, word) in states.iter_mut().zip(blocks.remainder().chunks(8)) {
        *state = step(*state, word);
    }
    states.iter().enumerate().fold(0, |sum, (index, state)| sum ^ state.rotate_left(index as u32 * 16))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const URI: Digest = [7; 32];

    fn sealed(content: &[u8]) -> Vec<u8> {
        let mut form = begin(*b"test", content.len());
        form.extend_from_slice(content);
        close(form, &URI)
    }

    proptest! {
        #[test]
        fn only_what_was_sealed_opens(content: Vec<u8>, at: prop::sample::Index, bit in 0..8_u8) {
            let form = sealed(&content);
            prop_assert_eq!(open(*b"test", form.clone().into(), &URI), Some(content.into()));
            prop_assert_eq!(open(*b"tess", form.clone().into(), &URI), None);
            prop_assert_eq!(open(*b"test", form.clone().into(), &[8; 32]), None);
            let at = at.index(form.len());
            let mut flipped = form.clone();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(open(*b"test", flipped.into(), &URI), None);
            prop_assert_eq!(open(*b"test", Bytes::copy_from_slice(&form[..at]), &URI), None);
        }

        #[test]
        fn arbitrary_bytes_do_not_open(form: Vec<u8>) {
            prop_assert_eq!(open(*b"test", form.into(), &URI), None);
        }
    }
}
