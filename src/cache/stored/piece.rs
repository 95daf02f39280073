//! One piece of content, as it stands in Redis.
//!
//! | bytes | |
//! |---|---|
//! | 12 | the seal: `sgp\x04`, and the checksum over the rest and the URI |
//! | 16 | the id of the fill |
//! | 8 | the number of the piece, from 0 |
//! | 1 | 0: the content follows; 1: compressed content follows |
//! | rest | content |
//!
//! Numbers are little-endian. A piece is read only as the one that was asked for: of this URI, this fill, this number, and
//! just as long as it has to be. No more room is made for what unfolds than that.

use bytes::{Buf as _, Bytes};
use http::HeaderMap;

use super::compressed;
use super::content::Pieces;
use super::seal::{self, Version};
use crate::cache::rules::vary::Digest;

const VERSION: Version = *b"sgp\x04";
/// Bytes before the content, without the seal.
const BEFORE: usize = 16 + 8 + 1;

impl Pieces {
    /// The binary form of the piece of this number, whose content is `content`. `head`, the fields of its response, says
    /// whether compression may be tried; `None`: it is not.
    pub fn encode(&self, uri: &Digest, number: u64, content: &[u8], head: Option<&HeaderMap>) -> Vec<u8> {
        let shrunk = head.and_then(|head| compressed::shrunk(head, content));
        let mut out = seal::begin(VERSION, BEFORE + shrunk.as_ref().map_or(content.len(), Vec::len));
        out.extend_from_slice(&self.id.to_le_bytes());
        out.extend_from_slice(&number.to_le_bytes());
        out.push(u8::from(shrunk.is_some()));
        out.extend_from_slice(shrunk.as_deref().unwrap_or(content));
        seal::close(out, uri)
    }

    /// The content of the piece of this number, which [`Pieces::encode`] made `bytes` of; `None`: it did not.
    pub fn decode(&self, uri: &Digest, number: u64, bytes: Bytes) -> Option<Bytes> {
        let mut rest = seal::open(VERSION, bytes, uri)?;
        if rest.len() < BEFORE || rest.get_u128_le() != self.id || rest.get_u64_le() != number {
            return None;
        }
        let length = self.span(number);
        let length = usize::try_from(length.end - length.start).ok()?;
        let content = match rest.get_u8() {
            0 => rest,
            1 if length <= compressed::LARGEST => compressed::unfolded(&rest, length)?,
            _ => return None,
        };
        (content.len() == length).then_some(content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use http::header::CONTENT_TYPE;
    use proptest::prelude::*;

    const URI: Digest = [7; 32];

    fn text() -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))])
    }

    fn content(pieces: &Pieces, number: u64) -> Vec<u8> {
        let span = pieces.span(number);
        (span.start..span.end).map(|at| (at / 7) as u8).collect()
    }

    proptest! {
        #[test]
        fn a_piece_reads_back_as_itself_and_as_no_other(
            length in 1..9000_u64, piece in 1..4000_u64, number: prop::sample::Index, compress: bool,
            at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let pieces = Pieces::new(5, length, piece);
            let number = number.index(pieces.count() as usize) as u64;
            let content = content(&pieces, number);
            let head = text();
            let form = pieces.encode(&URI, number, &content, compress.then_some(&head));
            let read = |pieces: &Pieces, uri: Digest, number, form: &[u8]| {
                pieces.decode(&uri, number, Bytes::copy_from_slice(form))
            };
            prop_assert_eq!(read(&pieces, URI, number, &form), Some(content.into()));
            prop_assert_eq!(read(&pieces, [8; 32], number, &form), None);
            prop_assert_eq!(read(&pieces, URI, number + 1, &form), None);
            prop_assert_eq!(read(&Pieces { id: 6, ..pieces }, URI, number, &form), None);
            let longer = Pieces { length: length + pieces.count(), piece: pieces.piece + 1, ..pieces };
            prop_assert_eq!(read(&longer, URI, number, &form), None);
            let at = at.index(form.len());
            let mut flipped = form.clone();
            flipped[at] ^= 1 << bit;
            prop_assert_eq!(read(&pieces, URI, number, &flipped), None);
            prop_assert_eq!(read(&pieces, URI, number, &form[..at]), None);
        }

        #[test]
        fn arbitrary_bytes_behind_a_right_seal_are_the_content_or_none(bytes: Vec<u8>, length in 1..500_u64) {
            let pieces = Pieces::new(0, length, 500);
            let mut form = seal::begin(VERSION, 0);
            form.extend_from_slice(&[0; 24]);
            form.extend_from_slice(&bytes);
            let read = pieces.decode(&URI, 0, seal::close(form, &URI).into());
            prop_assert!(read.is_none_or(|content| content.len() as u64 == length));
        }
    }

    #[test]
    fn a_piece_is_compressed_where_it_gains_by_it_and_a_bomb_unfolds_to_nothing() {
        let pieces = Pieces::new(5, 100_000, 50_000);
        let page = vec![b'x'; 50_000];
        assert!(pieces.encode(&URI, 0, &page, Some(&text())).len() < 1000);
        assert!(pieces.encode(&URI, 0, &page, None).len() > 50_000);
        let mut bomb = seal::begin(VERSION, 0);
        bomb.extend_from_slice(&5_u128.to_le_bytes());
        bomb.extend_from_slice(&[0; 8]);
        bomb.push(1);
        bomb.extend_from_slice(&zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap());
        assert_eq!(pieces.decode(&URI, 0, seal::close(bomb, &URI).into()), None);
    }
}
