//! Fields as HTTP/2 sends them (RFC 7541): written in the plainest way, read in every way.

use std::collections::VecDeque;

const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

/// The lengths of the Huffman code, which follow from them (RFC 7541 Appendix B): the code is canonical.
#[rustfmt::skip]
const LENGTHS: [u8; 257] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6,
    5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23,
    24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21,
    23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24,
    21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
const END_OF_STRING: usize = 256;

/// Each field as a literal that is not indexed, without Huffman.
pub fn block<N: AsRef<[u8]>, V: AsRef<[u8]>>(fields: &[(N, V)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name.as_ref(), value.as_ref()] {
            integer(&mut out, 0, 7, text.len());
            out.extend_from_slice(text);
        }
    }
    out
}

/// A number with a prefix of `bits` bits (§5.1).
pub fn integer(out: &mut Vec<u8>, first: u8, bits: u32, number: usize) {
    let most = (1 << bits) - 1;
    if number < most {
        return out.push(first | number as u8);
    }
    out.push(first | most as u8);
    let mut rest = number - most;
    while rest >= 128 {
        out.push(0x80 | (rest % 128) as u8);
        rest /= 128;
    }
    out.push(rest as u8);
}

/// Reads what the other side writes, block by block.
#[derive(Default)]
pub struct Reader {
    table: VecDeque<(String, String)>,
}

impl Reader {
    /// The fields of a block.
    pub fn fields(&mut self, mut block: &[u8]) -> Vec<(String, String)> {
        let from = &mut block;
        let mut fields = Vec::new();
        while let Some(first) = from.first().copied() {
            if first & 0x80 != 0 {
                let index = number(from, 7);
                fields.push(self.entry(index));
                continue;
            }
            if first & 0xe0 == 0x20 {
                number(from, 5);
                self.table.clear();
                continue;
            }
            let indexed = first & 0x40 != 0;
            let name = match number(from, if indexed { 6 } else { 4 }) {
                0 => text(from),
                index => self.entry(index).0,
            };
            let field = (name, text(from));
            if indexed {
                self.table.push_front(field.clone());
                while self.table.iter().map(|(name, value)| name.len() + value.len() + 32).sum::<usize>() > 4096 {
                    self.table.pop_back();
                }
            }
            fields.push(field);
        }
        fields
    }

    fn entry(&self, index: usize) -> (String, String) {
        match STATIC.get(index - 1) {
            Some((name, value)) => ((*name).into(), (*value).into()),
            None => self.table.get(index - 1 - STATIC.len()).expect("an entry of the dynamic table").clone(),
        }
    }
}

fn byte(from: &mut &[u8]) -> u8 {
    let (first, rest) = from.split_first().expect("more of a block");
    *from = rest;
    *first
}

fn number(from: &mut &[u8], bits: u32) -> usize {
    let most = (1 << bits) - 1;
    let mut number = usize::from(byte(from)) & most;
    if number == most {
        for shift in (0..).step_by(7) {
            let next = byte(from);
            number += usize::from(next & 0x7f) << shift;
            if next & 0x80 == 0 {
                break;
            }
        }
    }
    number
}

fn text(from: &mut &[u8]) -> String {
    let huffman = from.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(from, 7);
    let (raw, rest) = from.split_at(length);
    *from = rest;
    let bytes = if huffman { unpack(raw) } else { raw.to_vec() };
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unpack(bytes: &[u8]) -> Vec<u8> {
    let mut order: Vec<_> = (0..LENGTHS.len()).collect();
    order.sort_by_key(|symbol| (LENGTHS[*symbol], *symbol));
    let (mut out, mut code, mut length) = (Vec::new(), 0_u64, 0);
    for bit in bytes.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        (code, length) = (code << 1 | u64::from(bit), length + 1);
        let (mut next, mut before) = (0_u64, 0);
        let found = order.iter().find(|symbol| {
            next <<= LENGTHS[**symbol] - before;
            before = LENGTHS[**symbol];
            next += 1;
            before == length && next - 1 == code
        });
        if let Some(symbol) = found {
            assert_ne!(*symbol, END_OF_STRING);
            out.push(*symbol as u8);
            (code, length) = (0, 0);
        }
    }
    out
}
