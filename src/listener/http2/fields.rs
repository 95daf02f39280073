//! Looks over blocks of fields (RFC 7541), byte by byte as they come, ahead of h2. Pure.
//!
//! 1. Representations follow each other to the last byte; numbers are within four continuations (§5.1, §6).
//! 2. An index is of the tables as they are (`table`); a string in the Huffman code is sound (`huffman`).
//! 3. A size of the table stands at the beginning, and is no more than we allow (§4.2, §6.3).
//! 4. A name is not empty. Trailers hold no pseudo-field (RFC 9113 §8.1), and a `:path` no fragment (§8.3.1).
//! 5. In a block of several frames: no connection-specific field (§8.2.2), each pseudo-field once and first (§8.3).
//!
//! What breaks 1 to 3 is COMPRESSION_ERROR (RFC 9113 §4.3), which h2 calls PROTOCOL_ERROR; 4 and 5 are PROTOCOL_ERROR.
//!
//! # Why
//! h2 takes a fragment off before anybody could see it, and a field without a name for one that is still to come. When a
//! frame ends within a field and another follows, it also forgets that a field before was malformed. Only rule 5 for a
//! block of one frame is its own to keep: there it resets the stream, and the connection goes on.
//!
//! A block may come in any pieces, and none of it is kept: a number, a node of the Huffman code and the first bytes of a
//! name stand for all before. So there is nothing to bound, and pieces have the verdict of the whole.

use h2::Reason;

use super::huffman::Decoder;
use super::table::{Field, Kind, LONGEST_NAME, Name, PATH, TRAILERS, Table};

/// Follows the blocks of a connection.
pub struct Fields {
    table: Table,
    block: Block,
    form: Form,
    part: Part,
    next: Next,
    /// The number under way.
    number: usize,
    name: Name,
    text: Text,
}

/// What is known of the block under way.
#[derive(Clone, Copy, Default)]
struct Block {
    trailers: bool,
    in_frames: bool,
    /// There was a field.
    begun: bool,
    /// There was one that is no pseudo-field; a bit for each pseudo-field that there was.
    regular: bool,
    pseudo: u8,
}

/// A form of representation (§6).
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Indexed,
    /// A literal, which comes into the table.
    Added,
    Literal,
    Size,
}

/// A part of a representation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Its first byte, and the number there.
    Form,
    Name,
    Value,
}

/// What comes next of a part.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    First,
    /// A continuation of its number, whose lowest bit counts so many bits.
    Number(u32),
    /// So many bytes of its string.
    Text(usize),
}

impl Fields {
    /// Of a connection that begins.
    pub fn new() -> Self {
        Self {
            table: Table::new(),
            block: Block::default(),
            form: Form::Literal,
            part: Part::Form,
            next: Next::First,
            number: 0,
            name: Name { kind: Kind::Regular, length: 0 },
            text: Text::new(false),
        }
    }

    /// Begins a block, of trailers or not, in several frames or in one.
    pub fn begin(&mut self, trailers: bool, in_frames: bool) {
        self.block = Block { trailers, in_frames, ..Block::default() };
    }

    /// Looks over the next bytes of the block.
    ///
    /// # Errors
    /// The code that its first flaw has.
    pub fn look_over(&mut self, mut bytes: &[u8]) -> Result<(), Reason> {
        while let [first, rest @ ..] = bytes {
            match self.next {
                Next::First => {
                    bytes = rest;
                    let most = self.open(*first);
                    self.number = usize::from(first & most);
                    if self.number < usize::from(most) {
                        self.numbered()?;
                    } else {
                        self.next = Next::Number(0);
                    }
                }
                Next::Number(shift) => {
                    bytes = rest;
                    self.number += usize::from(first & 0x7f) << shift;
                    if first & 0x80 == 0 {
                        self.numbered()?;
                    } else if shift < 21 {
                        self.next = Next::Number(shift + 7);
                    } else {
                        return Err(Reason::COMPRESSION_ERROR);
                    }
                }
                Next::Text(left) => {
                    let (here, rest) = bytes.split_at(left.min(bytes.len()));
                    bytes = rest;
                    self.text.take(here)?;
                    self.expect_text(left - here.len())?;
                }
            }
        }
        Ok(())
    }

    /// Ends the block.
    ///
    /// # Errors
    /// COMPRESSION_ERROR, if that is within a field.
    pub fn end(&self) -> Result<(), Reason> {
        if self.part == Part::Form && self.next == Next::First { Ok(()) } else { Err(Reason::COMPRESSION_ERROR) }
    }

    /// Takes the first byte of a part; which bits of it are the number's.
    fn open(&mut self, first: u8) -> u8 {
        if self.part != Part::Form {
            self.text = Text::new(first & 0x80 != 0);
            return 0x7f;
        }
        let (form, most) = match first.leading_zeros() {
            0 => (Form::Indexed, 0x7f),
            1 => (Form::Added, 0x3f),
            2 => (Form::Size, 0x1f),
            _ => (Form::Literal, 0x0f),
        };
        self.form = form;
        most
    }

    /// A number is whole.
    fn numbered(&mut self) -> Result<(), Reason> {
        if self.part != Part::Form {
            return self.expect_text(self.number);
        }
        self.next = Next::First;
        match self.form {
            Form::Size if self.block.begun => Err(Reason::COMPRESSION_ERROR),
            Form::Size => self.table.resize(self.number),
            Form::Indexed => {
                let (field, _) = self.table.at(self.number)?;
                self.field(field)
            }
            Form::Added | Form::Literal => {
                self.part = Part::Name;
                if self.number > 0 {
                    (_, self.name) = self.table.at(self.number)?;
                    self.part = Part::Value;
                }
                Ok(())
            }
        }
    }

    /// So many bytes of a string are still to come.
    fn expect_text(&mut self, left: usize) -> Result<(), Reason> {
        if left > 0 {
            self.next = Next::Text(left);
            return Ok(());
        }
        self.next = Next::First;
        if !self.text.is_sound() {
            return Err(Reason::COMPRESSION_ERROR);
        }
        if self.part == Part::Name {
            self.part = Part::Value;
            self.name = Name { kind: Kind::of(self.text.start()), length: self.text.length };
            return if self.text.length > 0 { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) };
        }
        self.part = Part::Form;
        let hop_by_hop = match self.name.kind {
            PATH if self.text.number_sign => return Err(Reason::PROTOCOL_ERROR),
            Kind::Connection => true,
            Kind::Te => self.text.start() != TRAILERS,
            _ => false,
        };
        let field = Field { name: self.name.kind, hop_by_hop };
        if self.form == Form::Added {
            self.table.insert(field, self.name.length, self.text.length);
        }
        self.field(field)
    }

    /// A field is whole.
    fn field(&mut self, field: Field) -> Result<(), Reason> {
        let block = &mut self.block;
        block.begun = true;
        let sound = match field.name {
            Kind::Pseudo(bit) => {
                let first = !block.regular && block.pseudo & bit == 0;
                block.pseudo |= bit;
                !block.trailers && (first || !block.in_frames)
            }
            _ => {
                block.regular = true;
                !(field.hop_by_hop && block.in_frames)
            }
        };
        if sound { Ok(()) } else { Err(Reason::PROTOCOL_ERROR) }
    }
}

/// A string under way.
struct Text {
    huffman: Option<Decoder>,
    /// Its first bytes, decoded: one more than any name has that is looked for.
    start: [u8; LONGEST_NAME + 1],
    /// Bytes so far, decoded.
    length: usize,
    /// There is a `#`.
    number_sign: bool,
}

impl Text {
    fn new(huffman: bool) -> Self {
        let huffman = huffman.then(Decoder::new);
        Self { huffman, start: [0; LONGEST_NAME + 1], length: 0, number_sign: false }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Reason> {
        let Self { huffman, start, length, number_sign } = self;
        if let Some(decoder) = huffman {
            let take = |byte| {
                if let Some(place) = start.get_mut(*length) {
                    *place = byte;
                }
                *length += 1;
                *number_sign |= byte == b'#';
            };
            return decoder.decode(bytes, take).ok_or(Reason::COMPRESSION_ERROR);
        }
        let room = start.get_mut(*length..).unwrap_or_default();
        let some = room.len().min(bytes.len());
        room[..some].copy_from_slice(&bytes[..some]);
        *length += bytes.len();
        *number_sign |= bytes.contains(&b'#');
        Ok(())
    }

    fn start(&self) -> &[u8] {
        &self.start[..self.length.min(self.start.len())]
    }

    fn is_sound(&self) -> bool {
        self.huffman.is_none_or(|decoder| decoder.may_end())
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const COMPRESSION: Result<(), Reason> = Err(Reason::COMPRESSION_ERROR);
    const PROTOCOL: Result<(), Reason> = Err(Reason::PROTOCOL_ERROR);

    /// The verdict on a block that comes in these pieces.
    fn pieces(fields: &mut Fields, block: &[&[u8]], trailers: bool, in_frames: bool) -> Result<(), Reason> {
        fields.begin(trailers, in_frames);
        block.iter().try_for_each(|piece| fields.look_over(piece))?;
        fields.end()
    }

    /// The verdict on a request's block in one frame.
    fn request(fields: &mut Fields, block: &[u8]) -> Result<(), Reason> {
        pieces(fields, &[block], false, false)
    }

    fn first(block: &[u8]) -> Result<(), Reason> {
        request(&mut Fields::new(), block)
    }

    #[test]
    fn sound_blocks_pass() {
        for block in [
            &b""[..],
            b"\x82\x86\x84\x41\x04a.bc",
            b"\x20\x3f\xe1\x1f\x82",
            b"\x00\x01x\x01y\x10\x01x\x00\x0f\x0d\x01y",
            b"\x40\x01x\x01y\xbe\x7e\x01z",
            b"\x00\x81\xf3\x81\x07",
            b"\x00\x01x\x80",
        ] {
            assert_eq!(first(block), Ok(()), "{block:x?}");
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
            b"\xff",
            b"\x82\x20",
            b"\x3f\xe2\x1f",
            // The Huffman code: padding of zeros, of eight bits and more, nothing else, the end of string.
            b"\x00\x01x\x81\x18",
            b"\x00\x01x\x82\x07\xff",
            b"\x00\x81\xff\x82\xff\xff",
            b"\x00\x01x\x84\xff\xff\xff\xff",
            b"\x00\x84\xff\xff\xff\xff\x01x",
            b"\x40\x01x\x81\x06",
        ] {
            assert_eq!(first(block), COMPRESSION, "{block:x?}");
        }
    }

    #[test]
    fn an_index_refers_to_what_the_table_holds() {
        let mut fields = Fields::new();
        assert_eq!(request(&mut fields, b"\x40\x01x\x01y"), Ok(()));
        assert_eq!(request(&mut fields, b"\xbe"), Ok(()));
        assert_eq!(request(&mut fields, b"\x00\x01x\x01y\xbe"), Ok(()));
        assert_eq!(request(&mut Fields::new(), b"\x00\x01x\x01y\xbe"), COMPRESSION);
        // An entry that is too large, and a table of no size, put it out.
        let large = [b"\x40\x01x\x7f\x89\x26", &[b'v'; 5000][..]].concat();
        assert_eq!(request(&mut fields, &large), Ok(()));
        assert_eq!(request(&mut fields, b"\xbe"), COMPRESSION);
        let mut fields = Fields::new();
        assert_eq!(request(&mut fields, b"\x40\x01x\x01y"), Ok(()));
        assert_eq!(request(&mut fields, b"\x20\x3f\xe1\x1f\xbe"), COMPRESSION);
    }

    #[test]
    fn what_counts_is_the_length_that_was_decoded() {
        // 1,000 zeros are 625 bytes in the Huffman code: three such entries fit, and not four.
        let entry = [b"\x40\x01x\xff\xf2\x03", &[0; 625][..]].concat();
        let mut fields = Fields::new();
        assert_eq!(request(&mut fields, &entry.repeat(4)), Ok(()));
        assert_eq!(request(&mut fields, b"\xc0"), Ok(()));
        assert_eq!(request(&mut fields, b"\xc1"), COMPRESSION);
    }

    #[test]
    fn trailers_hold_no_pseudo_fields() {
        for block in
            [&b"\x82"[..], b"\x04\x01/", b"\x00\x05:path\x01/", b"\x00\x84\xb9\x58\xd3\x3f\x01/", b"\x00\x02:x\x00"]
        {
            assert_eq!(pieces(&mut Fields::new(), &[block], true, false), PROTOCOL, "{block:x?}");
        }
        assert_eq!(pieces(&mut Fields::new(), &[b"\x00\x01x\x01:\x0f\x0d\x01y"], true, false), Ok(()));
    }

    #[test]
    fn a_name_is_not_empty() {
        assert_eq!(first(b"\x00\x00\x01x"), PROTOCOL);
        assert_eq!(first(b"\x40\x80\x01x"), PROTOCOL);
    }

    #[test]
    fn a_path_has_no_fragment() {
        let mut fields = Fields::new();
        // `/a#b` and `/a?b`, plain and in the Huffman code; an entry named `:path`, and a value for that name.
        for (block, sound) in [
            (&b"\x04\x04/a#b"[..], false),
            (b"\x00\x05:path\x02/#", false),
            (b"\x00\x84\xb9\x58\xd3\x3f\x02/#", false),
            (b"\x04\x84\x60\x7f\xe4\x7f", true),
            (b"\x04\x84\x60\x7f\xf5\x1f", false),
            // `/a#`, `#`, `/a|b{}#x`, and `/a&b=(c)?X;Z`.
            (b"\x04\x83\x60\x7f\xf5", false),
            (b"\x04\x82\xff\xaf", false),
            (b"\x04\x8a\x60\x7f\xf2\x3f\xff\xdf\xfe\xff\xd7\x9f", false),
            (b"\x04\x8c\x60\x7f\x11\xc1\xfd\x13\xfb\xff\x3f\x3e\xff\x7f", true),
            (b"\x0f\x24\x02/#", true),
            (b"\x44\x02/a", true),
            (b"\x40\x01x\x01#", true),
            (b"\x0f\x2f\x01#", true),
            (b"\x0f\x30\x02/#", false),
        ] {
            let found = request(&mut fields, block);
            // A block with a flaw is the last of its connection: here, none of them is left half read.
            assert_eq!(found, if sound { Ok(()) } else { PROTOCOL }, "{block:x?}");
        }
    }

    #[test]
    fn in_several_frames_fields_are_what_a_request_may_hold() {
        for (block, sound) in [
            (&b"\x82\x86\x84\x41\x01x\x00\x02te\x08trailers"[..], true),
            (b"\x00\x02te\x04gzip", false),
            (b"\x40\x02te\x04gzip\xbe", false),
            (b"\x40\x02te\x08trailers\xbe", true),
            (b"\x40\x02te\x08trailers\x7e\x09trailers,", false),
            (b"\x00\x0aconnection\x05close", false),
            (b"\x00\x0akeep-alive\x00", false),
            (b"\x00\x10proxy-connection\x00", false),
            (b"\x00\x07upgrade\x00", false),
            (b"\xb9", false),
            (b"\x0f\x2a\x07chunked", false),
            (b"\x00\x12transfer-encodings\x00", true),
            (b"\x82\x83", false),
            (b"\x82\x90\x86", false),
            (b"\x82\x86\x90\x90", true),
        ] {
            let expected = if sound { Ok(()) } else { PROTOCOL };
            assert_eq!(pieces(&mut Fields::new(), &[block], false, true), expected, "{block:x?}");
            assert_eq!(first(block), Ok(()), "{block:x?}");
        }
    }

    /// A part of a block, sound or not.
    fn representation() -> impl Strategy<Value = Vec<u8>> {
        let text = |bytes: Vec<u8>, huffman: u8| [&[huffman | bytes.len() as u8][..], &bytes].concat();
        let string = (vec(any::<u8>(), 0..12), prop_oneof![4 => Just(0), 1 => Just(0x80)]);
        let name = prop_oneof![
            Just(b":path".to_vec()),
            Just(b"te".to_vec()),
            Just(b"connection".to_vec()),
            Just(b"x".to_vec()),
        ];
        prop_oneof![
            4 => (0x81..0xc4_u8).prop_map(|index| vec![index]),
            2 => (prop_oneof![Just(0x40), Just(0), Just(0x10)], name, string.clone())
                .prop_map(move |(form, name, (value, huffman))| [vec![form], text(name, 0), text(value, huffman)].concat()),
            2 => (0x41..0x7f_u8, string).prop_map(move |(name, (value, huffman))| [vec![name], text(value, huffman)].concat()),
            1 => Just(b"\x20\x3f\xe1\x1f".to_vec()),
            1 => vec(any::<u8>(), 1..5),
        ]
    }

    proptest! {
        #[test]
        fn pieces_have_the_verdict_of_the_whole(
            blocks in vec(vec(representation(), 0..8), 1..4),
            trailers: bool,
            in_frames: bool,
            sizes in vec(1_usize..6, 1..8),
        ) {
            let (mut whole, mut split) = (Fields::new(), Fields::new());
            for block in blocks {
                let block = block.concat();
                let (mut rest, mut parts) = (&block[..], Vec::new());
                for size in sizes.iter().cycle() {
                    let (part, after) = rest.split_at((*size).min(rest.len()));
                    parts.push(part);
                    rest = after;
                    if rest.is_empty() {
                        break;
                    }
                }
                let verdict = pieces(&mut whole, &[&block], trailers, in_frames);
                prop_assert_eq!(pieces(&mut split, &parts, trailers, in_frames), verdict);
                if verdict.is_err() {
                    break;
                }
            }
        }
    }
}
