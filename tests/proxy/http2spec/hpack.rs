//! The group `hpack`: what cannot be decoded.

use super::*;
use crate::harness::hpack;

#[test]
fn what_cannot_be_decoded_ends_the_connection() {
    let head = hpack::block(&request("GET", "/"));
    let after = |more: &[u8]| [frame(HEADERS, END_STREAM | END_HEADERS, 1, [&head, more].concat())];
    let mut too_large = Vec::new();
    hpack::integer(&mut too_large, 0x20, 5, 4097);
    let before = [frame(HEADERS, END_STREAM | END_HEADERS, 1, [&too_large[..], &head].concat())];
    let name = &b"\x00\x85\xf2\xb2\x4a\x84\xff"[..];
    pass(vec![
        ends("hpack/2.3.3/1 an indexed field out of range", &after(b"\xc6"), COMPRESSION),
        ends("hpack/2.3.3/2 a literal with an index out of range", &after(b"\x7f\x07\x00"), COMPRESSION),
        ends("hpack/4.2/1 a size update at the end of a block", &after(b"\x21"), COMPRESSION),
        ends(
            "hpack/5.2/1 Huffman padding of more than 7 bits",
            &after(&[name, b"\x84\x49\x50\x9f\xff"].concat()),
            COMPRESSION,
        ),
        ends("hpack/5.2/2 Huffman padded with zeros", &after(&[name, b"\x83\x49\x50\x90"].concat()), COMPRESSION),
        ends(
            "hpack/5.2/3 Huffman with an end of string",
            &after(&[name, b"\x87\xff\xff\xff\xfd\x25\x42\x7f"].concat()),
            COMPRESSION,
        ),
        ends("hpack/6.1/1 an indexed field of 0", &after(b"\x80"), COMPRESSION),
        ends("hpack/6.3/1 a size update beyond what is allowed", &before, COMPRESSION),
    ]);
}
