//! The Huffman code for strings of a block of fields (RFC 7541 §5.2, Appendix B), decoded in pieces. Pure.
//!
//! 1. The end-of-string symbol stands in no string.
//! 2. What is left at the end is padding: at most seven bits, all of them ones.
//!
//! # Why
//! The code is canonical: the lengths of its symbols say all. From them the compiler makes a table that takes half a byte
//! at a time; no symbol is shorter than that, so a step brings at most one. 16 KiB hold it, of which text touches little.

/// Symbols: a byte each, and the end of a string.
const SYMBOLS: usize = 257;
const END_OF_STRING: usize = 256;
/// Nodes of the tree that have two branches: one fewer than there are leaves.
const NODES: usize = SYMBOLS - 1;
const LONGEST: u8 = 30;
/// Bits of padding, at most.
const PADDING: u8 = 7;

/// Bits of each symbol (Appendix B).
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
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

/// What half a byte leads to.
#[derive(Clone, Copy)]
struct Step {
    node: u8,
    symbol: Option<u8>,
    /// The string may end here.
    may_end: bool,
}

/// From each node, by half a byte; `None`: to the end of a string.
static STEPS: [[Option<Step>; 16]; NODES] = steps(&tree());

/// A branch: to a node; from `NODES` on, to a symbol.
type Tree = [[usize; 2]; NODES];

/// Shorter codes first, and smaller symbols first among those of a length, each code is one more than the last.
const fn tree() -> Tree {
    let mut tree = [[0; 2]; NODES];
    let (mut nodes, mut code, mut length) = (1, 0_u32, 1);
    while length <= LONGEST {
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] == length {
                let (mut node, mut left) = (0, length);
                while left > 1 {
                    left -= 1;
                    let bit = (code >> left & 1) as usize;
                    if tree[node][bit] == 0 {
                        tree[node][bit] = nodes;
                        nodes += 1;
                    }
                    node = tree[node][bit];
                }
                tree[node][(code & 1) as usize] = NODES + symbol;
                code += 1;
            }
            symbol += 1;
        }
        code <<= 1;
        length += 1;
    }
    assert!(nodes == NODES, "a code that is complete");
    tree
}

const fn steps(tree: &Tree) -> [[Option<Step>; 16]; NODES] {
    let may_end = padding(tree);
    let mut steps = [[None; 16]; NODES];
    let mut from = 0;
    while from < NODES {
        let mut half = 0;
        while half < 16 {
            let (mut node, mut symbol, mut ended, mut left) = (from, None, false, 4);
            while left > 0 {
                left -= 1;
                node = tree[node][half >> left & 1];
                if node >= NODES {
                    ended |= node == NODES + END_OF_STRING;
                    symbol = Some((node - NODES) as u8);
                    node = 0;
                }
            }
            if !ended {
                steps[from][half] = Some(Step { node: node as u8, symbol, may_end: may_end[node] });
            }
            half += 1;
        }
        from += 1;
    }
    steps
}

/// The nodes that no more bits lead to than padding has, all of them ones.
const fn padding(tree: &Tree) -> [bool; NODES] {
    let mut may_end = [false; NODES];
    let (mut node, mut bits) = (0, 0);
    while bits <= PADDING {
        may_end[node] = true;
        node = tree[node][1];
        bits += 1;
    }
    may_end
}

/// A string under way.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    node: u8,
    may_end: bool,
}

impl Decoder {
    /// Of a string that begins.
    pub const fn new() -> Self {
        Self { node: 0, may_end: true }
    }

    /// Decodes some of it; `take` is given each byte. `None`: it held an end of string, and the rest was not decoded.
    pub fn decode(&mut self, bytes: &[u8], mut take: impl FnMut(u8)) -> Option<()> {
        for byte in bytes {
            for half in [byte >> 4, byte & 0xf] {
                let step = STEPS[usize::from(self.node)][usize::from(half)]?;
                if let Some(symbol) = step.symbol {
                    take(symbol);
                }
                (self.node, self.may_end) = (step.node, step.may_end);
            }
        }
        Some(())
    }

    /// Whether that may be all.
    pub fn may_end(&self) -> bool {
        self.may_end
    }
}

#[cfg(test)]
pub mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    /// The string, if it is sound.
    fn decoded(bytes: &[u8]) -> Option<Vec<u8>> {
        let (mut decoder, mut text) = (Decoder::new(), Vec::new());
        decoder.decode(bytes, |byte| text.push(byte))?;
        decoder.may_end().then_some(text)
    }

    /// Codes as text, from the lengths alone and without a tree.
    fn codes() -> Vec<String> {
        let mut order: Vec<_> = (0..SYMBOLS).collect();
        order.sort_by_key(|symbol| LENGTHS[*symbol]);
        let mut codes = vec![String::new(); SYMBOLS];
        let mut next = 0_u64;
        for symbol in order {
            let length = usize::from(LENGTHS[symbol]);
            codes[symbol] = format!("{:0length$b}", next >> (32 - length));
            next += 1 << (32 - length);
        }
        codes
    }

    /// A text in the code.
    pub fn encoded(text: &[u8]) -> Vec<u8> {
        let codes = codes();
        packed(&text.iter().map(|byte| codes[usize::from(*byte)].as_str()).collect::<String>())
    }

    fn packed(bits: &str) -> Vec<u8> {
        let padded = format!("{bits}{}", &"1111111"[..(8 - bits.len() % 8) % 8]);
        (0..padded.len()).step_by(8).map(|at| u8::from_str_radix(&padded[at..at + 8], 2).expect("bits")).collect()
    }

    #[test]
    fn codes_are_those_of_the_appendix() {
        let codes = codes();
        for (symbol, code, length) in [
            (0, 0x1ff8, 13),
            (1, 0x7fffd8, 23),
            (2, 0xfffffe2, 28),
            (9, 0xffffea, 24),
            (10, 0x3ffffffc, 30),
            (13, 0x3ffffffd, 30),
            (22, 0x3ffffffe, 30),
            (32, 0x14, 6),
            (33, 0x3f8, 10),
            (35, 0xffa, 12),
            (36, 0x1ff9, 13),
            (38, 0xf8, 8),
            (43, 0x7fb, 11),
            (48, 0x0, 5),
            (50, 0x2, 5),
            (51, 0x19, 6),
            (58, 0x5c, 7),
            (60, 0x7ffc, 15),
            (64, 0x1ffa, 13),
            (65, 0x21, 6),
            (90, 0xfd, 8),
            (92, 0x7fff0, 19),
            (97, 0x3, 5),
            (116, 0x9, 5),
            (122, 0x7b, 7),
            (123, 0x7ffe, 15),
            (124, 0x7fc, 11),
            (127, 0xffffffc, 28),
            (128, 0xfffe6, 20),
            (129, 0x3fffd2, 22),
            (161, 0x1fffdd, 21),
            (192, 0x3ffffe0, 26),
            (199, 0x1ffffec, 25),
            (203, 0x7ffffde, 27),
            (249, 0xffffffe, 28),
            (255, 0x3ffffee, 26),
            (256, 0x3fffffff, 30),
        ] {
            assert_eq!(codes[symbol], format!("{code:0length$b}"), "{symbol}");
        }
    }

    #[test]
    fn every_byte_has_its_code() {
        for byte in 0..=255_u8 {
            assert_eq!(decoded(&encoded(&[byte])), Some(vec![byte]));
        }
    }

    #[test]
    fn examples_of_the_rfc_are_decoded() {
        // RFC 7541 C.4 and C.6.
        for (bytes, text) in [
            (&b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..], "www.example.com"),
            (b"\xa8\xeb\x10\x64\x9c\xbf", "no-cache"),
            (b"\x25\xa8\x49\xe9\x5b\xa9\x7d\x7f", "custom-key"),
            (b"\x64\x02", "302"),
            (
                b"\xd0\x7a\xbe\x94\x10\x54\xd4\x44\xa8\x20\x05\x95\x04\x0b\x81\x66\xe0\x82\xa6\x2d\x1b\xff",
                "Mon, 21 Oct 2013 20:13:21 GMT",
            ),
        ] {
            assert_eq!(decoded(bytes).as_deref(), Some(text.as_bytes()));
        }
        assert_eq!(decoded(b""), Some(Vec::new()));
    }

    #[test]
    fn padding_is_short_and_all_ones() {
        // "0" is five zeros, "&" eight bits.
        for (bytes, sound) in [
            (&b"\x07"[..], true),
            (b"\x07\xff", false),
            (b"\x06", false),
            (b"\x03", false),
            (b"\xf8", true),
            (b"\xf8\xff", false),
            (b"\xff", false),
            (b"\xff\xff\xff\xff", false),
            (b"\x07\xff\xff\xff\xff\x00", false),
            (b"\xff\xff\xff\xfc", false),
        ] {
            assert_eq!(decoded(bytes).is_some(), sound, "{bytes:x?}");
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded_in_any_pieces(text in vec(any::<u8>(), 0..40), pieces in vec(1_usize..5, 160)) {
            let bytes = encoded(&text);
            let (mut decoder, mut found, mut rest) = (Decoder::new(), Vec::new(), &bytes[..]);
            for piece in pieces {
                let (here, after) = rest.split_at(piece.min(rest.len()));
                prop_assert!(decoder.decode(here, |byte| found.push(byte)).is_some());
                rest = after;
            }
            prop_assert!(decoder.may_end());
            prop_assert_eq!(found, text);
        }
    }
}
