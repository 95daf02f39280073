//! Records that were compressed before they were stored. Pure.
//!
//! 1. What comes out is a record, and no larger than one may be (`most` bytes): a bomb is refused when it has grown to that.
//! 2. There is nothing behind the end.

use std::io::Read;

use flate2::bufread::{GzDecoder, ZlibDecoder};

/// zlib (RFC 1950).
///
/// # Errors
/// It is not, is damaged, or is too large.
pub fn zlib(bytes: &[u8], most: usize) -> Result<Vec<u8>, &'static str> {
    let mut decoder = ZlibDecoder::new(bytes);
    let plain = bounded(&mut decoder, most, "record is not zlib")?;
    ended(decoder.into_inner(), plain)
}

/// gzip (RFC 1952), one member.
///
/// # Errors
/// It is not, is damaged, or is too large.
pub fn gzip(bytes: &[u8], most: usize) -> Result<Vec<u8>, &'static str> {
    let mut decoder = GzDecoder::new(bytes);
    let plain = bounded(&mut decoder, most, "record is not gzip")?;
    ended(decoder.into_inner(), plain)
}

/// zstd (RFC 8878), one frame.
///
/// # Errors
/// It is not, is damaged, or is too large.
pub fn zstd(bytes: &[u8], most: usize) -> Result<Vec<u8>, &'static str> {
    const FAULT: &str = "record is not zstd, or is too large";
    let frame = zstd::zstd_safe::find_frame_compressed_size(bytes).map_err(|_| FAULT)?;
    let plain = zstd::bulk::decompress(bytes.get(..frame).ok_or(FAULT)?, most).map_err(|_| FAULT)?;
    ended(&bytes[frame..], plain)
}

fn bounded(decoder: &mut impl Read, most: usize, fault: &'static str) -> Result<Vec<u8>, &'static str> {
    let mut plain = Vec::new();
    decoder.take(most as u64 + 1).read_to_end(&mut plain).map_err(|_| fault)?;
    if plain.len() > most { Err("record too large") } else { Ok(plain) }
}

fn ended(left: &[u8], plain: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    if left.is_empty() { Ok(plain) } else { Err("record goes on behind its end") }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

    const MOST: usize = 4096;

    fn deflated(content: &[u8]) -> Vec<u8> {
        let mut encoder = ZlibEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn what_was_deflated_comes_back() {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(b"{}").unwrap();
        let zipped = encoder.finish().unwrap();
        assert_eq!((gzip(&zipped, MOST), zlib(&deflated(b"{}"), MOST)), (Ok(b"{}".to_vec()), Ok(b"{}".to_vec())));
        assert_eq!(gzip(&deflated(b"{}"), MOST), Err("record is not gzip"));
        assert_eq!(gzip(&[&zipped[..], b"x"].concat(), MOST), Err("record goes on behind its end"));
    }

    #[test]
    fn a_frame_of_zstd_stands_alone() {
        let frame = |content: &[u8]| zstd::bulk::compress(content, 3).unwrap();
        let whole = frame(b"{\"user_id\":5}");
        assert_eq!(zstd(&whole, MOST), Ok(b"{\"user_id\":5}".to_vec()));
        for behind in [frame(b" "), b"\x50\x2a\x4d\x18\0\0\0\0".to_vec(), b"x".to_vec()] {
            assert_eq!(zstd(&[&whole[..], &behind].concat(), MOST), Err("record goes on behind its end"), "{behind:?}");
        }
        assert!((0..whole.len()).all(|end| zstd(&whole[..end], MOST).is_err()));
        assert!(zstd(&frame(&vec![0; 2 * MOST]), MOST).is_err());
    }

    #[test]
    fn bombs_and_fragments_are_refused() {
        assert_eq!(zlib(&deflated(&vec![0; MOST]), MOST).map(|content| content.len()), Ok(MOST));
        let bomb = deflated(&vec![0; 64 * MOST]);
        assert!(bomb.len() < MOST / 10);
        assert_eq!(zlib(&bomb, MOST), Err("record too large"));
        let whole = deflated(b"{\"user_id\":5}");
        for end in 0..whole.len() {
            assert_eq!(zlib(&whole[..end], MOST), Err("record is not zlib"), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let inflated = [zlib(&bytes, MOST), gzip(&bytes, MOST), zlib(&[b"\x78\x9c", &bytes[..]].concat(), MOST)];
            prop_assert!(inflated.iter().flatten().all(|content| content.len() <= MOST));
        }
    }
}
