//! One content, coded as it comes (RFC 7932, RFC 8878, RFC 1952).
//!
//! 1. What is not flushed may stay within; what is finished has its end: a reader can tell cut content by the lack of it.
//! 2. A coder takes at most [`ROOM`] bytes of memory, its output aside: windows are of 256 KiB at most, and levels those
//!    of content that is coded while somebody waits for it.
//!
//! # Why these levels
//! They are where each coding's saving begins to grow slower than its price: 20 to 60 MB/s and two thirds to four fifths
//! of HTML and JSON saved. A stored answer is coded once; one that is not stored, each time.

use std::io::{self, Write};

use brotli::CompressorWriter;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::cache::Coding;

/// Bytes that a coder takes, at most.
pub const ROOM: u64 = 2 << 20;

/// Base-two logarithm of the largest window, in bytes.
const WINDOW: u32 = 18;
const BROTLI_QUALITY: i32 = 4;
const ZSTD_LEVEL: i32 = 3;
const GZIP_LEVEL: u32 = 5;
/// Bytes that brotli hands on at a time.
const BROTLI_STEP: usize = 8 << 10;

/// See the module's rules.
pub(super) enum Coder {
    Brotli(Box<CompressorWriter<Vec<u8>>>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Gzip(GzEncoder<Vec<u8>>),
}

impl Coder {
    /// A coder of content of this length in bytes, if it is known.
    ///
    /// # Errors
    /// If there is no memory for it.
    pub(super) fn new(coding: Coding, length: Option<u64>) -> io::Result<Self> {
        Ok(match coding {
            Coding::Brotli => {
                let params = BrotliEncoderParams {
                    quality: BROTLI_QUALITY,
                    lgwin: WINDOW as i32,
                    size_hint: length.and_then(|length| usize::try_from(length).ok()).unwrap_or(0),
                    ..Default::default()
                };
                Self::Brotli(Box::new(CompressorWriter::with_params(Vec::new(), BROTLI_STEP, &params)))
            }
            Coding::Zstd => {
                let mut coder = zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?;
                coder.window_log(WINDOW)?;
                coder.include_checksum(true)?;
                Self::Zstd(coder)
            }
            Coding::Gzip => Self::Gzip(GzEncoder::new(Vec::new(), Compression::new(GZIP_LEVEL))),
        })
    }

    /// Takes content.
    ///
    /// # Errors
    /// If the coder fails, which is for want of memory: nothing it says after that is right.
    pub(super) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        match self {
            Self::Brotli(coder) => coder.write_all(content),
            Self::Zstd(coder) => coder.write_all(content),
            Self::Gzip(coder) => coder.write_all(content),
        }
    }

    /// Puts all that was taken into what [`Coder::take`] gives.
    ///
    /// # Errors
    /// As [`Coder::write`].
    pub(super) fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Brotli(coder) => coder.flush(),
            Self::Zstd(coder) => coder.flush(),
            Self::Gzip(coder) => coder.flush(),
        }
    }

    /// What is coded so far and was not taken yet; nothing if it is less than so many bytes.
    pub(super) fn take(&mut self, least: usize) -> Bytes {
        let coded = match self {
            Self::Brotli(coder) => coder.get_mut(),
            Self::Zstd(coder) => coder.get_mut(),
            Self::Gzip(coder) => coder.get_mut(),
        };
        if coded.len() < least { Bytes::new() } else { std::mem::take(coded).into() }
    }

    /// The rest, and the end.
    ///
    /// # Errors
    /// As [`Coder::write`].
    pub(super) fn finish(self) -> io::Result<Bytes> {
        Ok(match self {
            Self::Brotli(coder) => coder.into_inner(),
            Self::Zstd(coder) => coder.finish()?,
            Self::Gzip(coder) => coder.finish()?,
        }
        .into())
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    /// The content that was coded, by a decoder that reads to the end of it; an error if there is none.
    pub(in crate::cache::encode) fn decoded(coding: Coding, coded: &[u8]) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        match coding {
            Coding::Brotli => brotli::Decompressor::new(coded, 4096).read_to_end(&mut content)?,
            Coding::Zstd => zstd::stream::read::Decoder::new(coded)?.read_to_end(&mut content)?,
            Coding::Gzip => flate2::read::GzDecoder::new(coded).read_to_end(&mut content)?,
        };
        Ok(content)
    }

    proptest! {
        #[test]
        fn whatever_is_coded_in_pieces_and_flushed_anywhere_reads_back(
            pieces in prop::collection::vec((any::<Vec<u8>>(), any::<bool>()), 0..20),
            coding in prop::sample::select(&Coding::ALL[..]),
            says_length: bool,
        ) {
            let whole: Vec<u8> = pieces.iter().flat_map(|(piece, _)| piece.clone()).collect();
            let mut coder = Coder::new(coding, says_length.then_some(whole.len() as u64)).unwrap();
            let mut coded = Vec::new();
            for (piece, flush) in &pieces {
                coder.write(piece).unwrap();
                if *flush {
                    coder.flush().unwrap();
                }
                coded.extend_from_slice(&coder.take(0));
            }
            coded.extend_from_slice(&coder.finish().unwrap());
            prop_assert_eq!(decoded(coding, &coded).unwrap(), whole);
        }
    }

    #[test]
    fn text_is_a_fifth_of_what_it_was_and_without_its_end_not_whole() {
        let text: Vec<u8> =
            (0..4000).flat_map(|line| format!("<li class=\"item\">{line}</li>\n").into_bytes()).collect();
        for coding in Coding::ALL {
            let mut coder = Coder::new(coding, None).unwrap();
            coder.write(&text).unwrap();
            coder.flush().unwrap();
            let mut coded = coder.take(0).to_vec();
            assert!(decoded(coding, &coded).is_err(), "{coding:?} has an end that was not written");
            coded.extend_from_slice(&coder.finish().unwrap());
            assert!(coded.len() < text.len() / 5, "{coding:?}: {} of {}", coded.len(), text.len());
            assert_eq!(decoded(coding, &coded).unwrap(), text);
        }
    }
}
