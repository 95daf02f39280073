//! Records that were deflated: zlib (RFC 1950) and gzip (RFC 1952). Pure.
//!
//! What comes out is bounded by [`MAX_RECORD`], whatever the bytes promise; bytes behind the end are refused.

use std::io::{BufRead, Read};

use flate2::bufread::{GzDecoder, ZlibDecoder};

use super::MAX_RECORD;

/// Undoes zlib.
///
/// # Errors
/// It is none, damaged, or too large.
pub fn zlib(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut decoder = ZlibDecoder::new(bytes);
    let content = bounded(&mut decoder)?;
    ended(decoder.into_inner(), content)
}

/// Undoes gzip, of one member.
///
/// # Errors
/// It is none, damaged, or too large.
pub fn gzip(bytes: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut decoder = GzDecoder::new(bytes);
    let content = bounded(&mut decoder)?;
    ended(decoder.into_inner(), content)
}

fn bounded(decoder: &mut impl Read) -> Result<Vec<u8>, &'static str> {
    let mut content = Vec::new();
    decoder.take(MAX_RECORD as u64 + 1).read_to_end(&mut content).map_err(|_| "record cannot be inflated")?;
    if content.len() > MAX_RECORD { Err("record too large") } else { Ok(content) }
}

fn ended(mut rest: impl BufRead, content: Vec<u8>) -> Result<Vec<u8>, &'static str> {
    match rest.fill_buf() {
        Ok([]) => Ok(content),
        _ => Err("record goes on behind its end"),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::Compression;
    use flate2::write::{GzEncoder, ZlibEncoder};
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!((gzip(&zipped), zlib(&deflated(b"{}"))), (Ok(b"{}".to_vec()), Ok(b"{}".to_vec())));
        assert_eq!(gzip(&deflated(b"{}")), Err("record cannot be inflated"));
        assert_eq!(gzip(&[&zipped[..], b"x"].concat()), Err("record goes on behind its end"));
    }

    #[test]
    fn bombs_and_fragments_are_refused() {
        assert_eq!(zlib(&deflated(&vec![0; MAX_RECORD])).map(|content| content.len()), Ok(MAX_RECORD));
        let bomb = deflated(&vec![0; 64 * MAX_RECORD]);
        assert!(bomb.len() < MAX_RECORD / 10);
        assert_eq!(zlib(&bomb), Err("record too large"));
        let whole = deflated(b"{\"user_id\":5}");
        for end in 0..whole.len() {
            assert_eq!(zlib(&whole[..end]), Err("record cannot be inflated"), "{end} bytes");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let inflated = [zlib(&bytes), gzip(&bytes), zlib(&[b"\x78\x9c", &bytes[..]].concat())];
            prop_assert!(inflated.iter().flatten().all(|content| content.len() <= MAX_RECORD));
        }
    }
}
