//! Content as it stands in Redis: compressed where it gains by it.
//!
//! 1. Only content that nobody has coded yet (no `Content-Encoding`), of a type that is text at heart.
//! 2. Only from [`SMALLEST`] bytes, where the saving is more than the trouble, to [`LARGEST`]: the work is done on a worker,
//!    between two requests. Content in pieces is compressed piece by piece: each can be read without the others.
//! 3. Only if an eighth is saved.
//! 4. What is read back has exactly the length that was written down. No more room is made for it than that, and the
//!    caller has bounded it.
//!
//! # Why zstd at its lowest level
//! It shrinks HTML and JSON by two thirds and more at half a GB/s, and unfolds them at more than one: Redis holds three
//! times as much, and the shorter answer saves more of a network's time than the work takes. A context for each worker is
//! kept, as making one costs as much as compressing a page.

use std::cell::RefCell;

use bytes::Bytes;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_TYPE};
use zstd::bulk::{Compressor, Decompressor};

/// Bytes of content below which it is left alone.
const SMALLEST: usize = 1024;
/// Bytes of content above which it is left alone.
pub(super) const LARGEST: usize = 1024 * 1024;
/// zstd's.
const LEVEL: i32 = 1;

thread_local! {
    static COMPRESSOR: RefCell<Option<Compressor<'static>>> = RefCell::new(Compressor::new(LEVEL).ok());
    static DECOMPRESSOR: RefCell<Option<Decompressor<'static>>> = RefCell::new(Decompressor::new().ok());
}

/// The content compressed; `None`: it stays as it is.
pub(super) fn shrunk(head: &HeaderMap, content: &[u8]) -> Option<Vec<u8>> {
    if !(SMALLEST..=LARGEST).contains(&content.len()) || head.contains_key(CONTENT_ENCODING) || !is_text(head) {
        return None;
    }
    let room = content.len() - content.len() / 8;
    let mut shrunk = Vec::with_capacity(room);
    COMPRESSOR.with_borrow_mut(|compressor| {
        compressor.as_mut()?.compress_to_buffer(content, &mut shrunk).ok().filter(|length| *length <= room)
    })?;
    Some(shrunk)
}

/// The content that [`shrunk`] made `shrunk` of, which was of this length; `None`: it did not.
pub(super) fn unfolded(shrunk: &[u8], length: usize) -> Option<Bytes> {
    let content =
        DECOMPRESSOR.with_borrow_mut(|decompressor| decompressor.as_mut()?.decompress(shrunk, length).ok())?;
    (content.len() == length).then(|| content.into())
}

/// Whether the content is of a type that is text, or made of text.
fn is_text(head: &HeaderMap) -> bool {
    const TYPES: [&[u8]; 8] = [
        b"application/json",
        b"application/javascript",
        b"application/xml",
        b"application/wasm",
        b"application/x-ndjson",
        b"application/vnd.ms-fontobject",
        b"image/bmp",
        b"font/ttf",
    ];
    let Some(value) = head.get(CONTENT_TYPE) else { return false };
    let kind = value.as_bytes().split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    let kind = kind.to_ascii_lowercase();
    kind.starts_with(b"text/") || kind.ends_with(b"+json") || kind.ends_with(b"+xml") || TYPES.contains(&&*kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn head(kind: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))])
    }

    #[test]
    fn text_that_nobody_has_coded_is_compressed() {
        let page = b"<p>stored</p>".repeat(100);
        for kind in
            ["text/html; charset=utf-8", "TEXT/css", "application/json", "application/hal+JSON", "image/svg+xml"]
        {
            assert!(shrunk(&head(kind), &page).is_some(), "{kind}");
        }
        for kind in ["image/png", "video/mp4", "application/octet-stream", "font/woff2", ""] {
            assert!(shrunk(&head(kind), &page).is_none(), "{kind}");
        }
        assert!(shrunk(&HeaderMap::new(), &page).is_none());
        let mut coded = head("text/html");
        coded.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        assert!(shrunk(&coded, &page).is_none());
    }

    #[test]
    fn what_is_small_large_or_does_not_shrink_stays_as_it_is() {
        let text = head("text/plain");
        assert!(shrunk(&text, &[b'x'; SMALLEST - 1]).is_none() && shrunk(&text, &[b'x'; SMALLEST]).is_some());
        assert!(shrunk(&text, &vec![b'x'; LARGEST]).is_some() && shrunk(&text, &vec![b'x'; LARGEST + 1]).is_none());
        let mut random = fastrand::Rng::with_seed(7);
        let noise: Vec<u8> = (0..4096).map(|_| random.u8(..)).collect();
        assert!(shrunk(&text, &noise).is_none());
    }
}
