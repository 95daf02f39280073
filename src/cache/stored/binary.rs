//! An entry, as it stands in Redis. Version 4.
//!
//! | bytes | |
//! |---|---|
//! | 12 | the seal: `sgc\x04`, and the checksum over the rest and the URI |
//! | 1 | 0: variants follow; 1: a whole response; 2: a part |
//! | 32 | the generation: its hard and its soft token, big-endian as under the place's key |
//!
//! A part: of its bytes the first, the last and how many the whole has (8 each), behind the generation; then as a response, but for
//! the generation.
//!
//! A response:
//!
//! | bytes | |
//! |---|---|
//! | 8 4 4 4 4 | received, initial age, lifetime, while_revalidate, if_error, in seconds |
//! | 1 | bit 0: shareable, 1: validate, 2: strict, 3: authorized |
//! | 2 | status |
//! | names, 32 | its selecting fields and its variant; no names: no variant either |
//! | 4, fields | how many fields, and each: its name and its value |
//! | 1 | 0: the content follows; 1: its length (8), and compressed content; 2: its pieces' id (16), its length (8) and theirs (8), and nothing more |
//!
//! Variants: the selecting fields (names), how many there are (2), and of each its digest (32) and its entity tag (text,
//! empty: none).
//!
//! Other numbers are little-endian. A text is its length (4) and its bytes; names are their number (1) and as many texts.
//!
//! 1. Nothing is read beyond the end, no room is made for what is not there, and nothing may be left over.
//! 2. Fields take no more than [`LARGEST_HEAD`] bytes, and a `Content-Length` among them is that of the content.
//! 3. A part has the status 206 and nothing else has, and its content is as long as it says.
//! 4. Content that was not compressed is a slice of what was read, which nothing copies; of what unfolds, and of content in
//!    pieces, the caller bounds the length.
//!
//! # Why a part is another kind and no other version
//! A release that knows of no parts reads no other kind than 0 and 1: to it a part is a miss, and never a whole. With
//! another version everything would be a miss to it, and to us, while both run.

use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::seal::{self, Version};
use super::{Content, Entry, Form, Known, LARGEST_HEAD, Pieces, StoredResponse, Variants, compressed, variants};
use crate::cache::rules::parts::Part;
use crate::cache::rules::storing::Facts;
use crate::cache::rules::vary::{Digest, Selecting};
use crate::cache::store::Generation;

/// What follows the seal.
const VARIANTS: u8 = 0;
const WHOLE: u8 = 1;
const PART: u8 = 2;

const VERSION: Version = *b"sgc\x04";

impl StoredResponse {
    /// The binary form of its entry, of the URI whose key has this digest.
    pub fn encode(&self, uri: &Digest, form: Form) -> Vec<u8> {
        let shrunk = match &self.content {
            Content::Whole(bytes) if form.compress => compressed::shrunk(&self.head, bytes),
            _ => None,
        };
        let content = self.content.weight();
        let length = self.weight() - content + shrunk.as_ref().map_or(content, |shrunk| shrunk.len() as u64);
        let mut out = seal::begin(VERSION, length as usize);
        out.push(if self.part.is_some() { PART } else { WHOLE });
        put_response(&mut out, self, shrunk.as_deref());
        seal::close(out, uri)
    }
}

impl Variants {
    /// The binary form of their entry, of the URI whose key has this digest.
    pub fn encode(&self, uri: &Digest) -> Vec<u8> {
        let mut out = seal::begin(VERSION, self.weight() as usize);
        out.push(VARIANTS);
        put_variants(&mut out, self);
        seal::close(out, uri)
    }
}

impl Entry {
    /// The binary form, of the URI whose key has this digest.
    pub fn encode(&self, uri: &Digest, form: Form) -> Vec<u8> {
        match self {
            Self::Variants(variants) => variants.encode(uri),
            Self::Response(response) => response.encode(uri, form),
        }
    }

    /// What [`Entry::encode`] made; `None` for anything else. Content that was not compressed is a slice of `bytes`;
    /// any other has at most `max_content` bytes.
    pub fn decode(bytes: Bytes, uri: &Digest, max_content: u64) -> Option<Self> {
        let mut reader = Reader(seal::open(VERSION, bytes, uri)?);
        match reader.u8()? {
            VARIANTS => reader.variants().filter(|_| reader.0.is_empty()).map(Self::Variants),
            kind @ (WHOLE | PART) => {
                reader.response(kind == PART, max_content).map(|response| Self::Response(Arc::new(response)))
            }
            _ => None,
        }
    }
}

fn put_response(out: &mut Vec<u8>, response: &StoredResponse, shrunk: Option<&[u8]>) {
    let StoredResponse { status, head, content, part, facts, generation, variant } = response;
    out.extend_from_slice(&generation.bytes());
    for number in part.iter().flat_map(|part| [part.first, part.last, part.complete]) {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&facts.received.to_le_bytes());
    for seconds in [facts.initial_age, facts.lifetime, facts.while_revalidate, facts.if_error] {
        out.extend_from_slice(&seconds.to_le_bytes());
    }
    let flags = [facts.shareable, facts.validate, facts.strict, facts.authorized];
    out.push(flags.iter().enumerate().fold(0, |byte, (bit, flag)| byte | u8::from(*flag) << bit));
    out.extend_from_slice(&status.as_u16().to_le_bytes());
    match variant {
        None => out.push(0),
        Some((selecting, digest)) => {
            put_names(out, selecting);
            out.extend_from_slice(digest);
        }
    }
    let content: &[u8] = match (content, shrunk) {
        (Content::Whole(bytes), None) => {
            out.push(0);
            bytes
        }
        (Content::Whole(bytes), Some(shrunk)) => {
            out.push(1);
            out.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
            shrunk
        }
        (Content::Pieces(Pieces { id, length, piece }), _) => {
            out.push(2);
            out.extend_from_slice(&id.to_le_bytes());
            out.extend_from_slice(&length.to_le_bytes());
            out.extend_from_slice(&piece.to_le_bytes());
            b""
        }
    };
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    for (name, value) in head {
        put_text(out, name.as_str().as_bytes());
        put_text(out, value.as_bytes());
    }
    out.extend_from_slice(content);
}

fn put_variants(out: &mut Vec<u8>, Variants { selecting, generation, known }: &Variants) {
    out.extend_from_slice(&generation.bytes());
    put_names(out, selecting);
    out.extend_from_slice(&(known.len() as u16).to_le_bytes());
    for Known { variant, etag } in known {
        out.extend_from_slice(variant);
        put_text(out, etag.as_ref().map_or(b"", HeaderValue::as_bytes));
    }
}

/// Selecting fields are at least one and at most [`crate::cache::rules::vary::MAX_FIELDS`], so that a byte counts them,
/// and zero is free to mean that there are none.
fn put_names(out: &mut Vec<u8>, selecting: &Selecting) {
    out.push(selecting.names().len() as u8);
    for name in selecting.names() {
        put_text(out, name.as_str().as_bytes());
    }
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

/// Reads from the front, and never beyond the end.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let array = *self.0.first_chunk()?;
        bytes::Buf::advance(&mut self.0, N);
        Some(array)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn generation(&mut self) -> Option<Generation> {
        Generation::of_bytes(self.array()?)
    }

    fn text(&mut self) -> Option<Bytes> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(&self.text()?).ok()
    }

    fn names(&mut self, count: u8) -> Option<Selecting> {
        let names = (0..count).map(|_| self.name()).collect::<Option<Vec<_>>>()?;
        Selecting::new(names)
    }

    fn variants(&mut self) -> Option<Variants> {
        let generation = self.generation()?;
        let count = self.u8()?;
        let selecting = self.names(count)?;
        let count = self.u16().filter(|count| usize::from(*count) <= variants::MOST)?;
        let known = (0..count).map(|_| self.known()).collect::<Option<_>>()?;
        Some(Variants { selecting, generation, known })
    }

    fn known(&mut self) -> Option<Known> {
        let (variant, tag) = (self.array()?, self.text().filter(|tag| tag.len() <= variants::LONGEST_TAG)?);
        let etag = if tag.is_empty() { None } else { Some(HeaderValue::from_maybe_shared(tag).ok()?) };
        Some(Known { variant, etag })
    }

    fn response(&mut self, is_part: bool, max_content: u64) -> Option<StoredResponse> {
        let generation = self.generation()?;
        let part = if is_part { Some(Part::new(self.u64()?, self.u64()?, self.u64()?)?) } else { None };
        let received = self.u64()?;
        let (initial_age, lifetime, while_revalidate, if_error) = (self.u32()?, self.u32()?, self.u32()?, self.u32()?);
        let flags = self.u8().filter(|flags| flags >> 4 == 0)?;
        let [shareable, validate, strict, authorized] = [0, 1, 2, 3].map(|bit| flags >> bit & 1 == 1);
        let facts = Facts {
            received,
            initial_age,
            lifetime,
            shareable,
            authorized,
            validate,
            strict,
            while_revalidate,
            if_error,
        };
        let status = StatusCode::from_u16(self.u16()?).ok()?;
        let variant = match self.u8()? {
            0 => None,
            count => Some((self.names(count)?, self.array()?)),
        };
        let stands = match self.u8()? {
            0 => Stands::AsItIs,
            1 => {
                Stands::Compressed(self.u64().filter(|length| *length <= max_content.min(compressed::LARGEST as u64))?)
            }
            2 => {
                let id = self.array().map(u128::from_le_bytes)?;
                let pieces = Pieces { id, length: self.u64()?, piece: self.u64()? };
                Stands::InPieces(pieces.checked(max_content)?)
            }
            _ => return None,
        };
        let head = self.head(matches!(stands, Stands::Compressed(_)))?;
        let rest = std::mem::take(&mut self.0);
        let content = match stands {
            Stands::AsItIs => Content::Whole(rest),
            Stands::Compressed(length) => Content::Whole(compressed::unfolded(&rest, usize::try_from(length).ok()?)?),
            Stands::InPieces(pieces) if rest.is_empty() => Content::Pieces(pieces),
            Stands::InPieces(_) => return None,
        };
        let said = head.get(CONTENT_LENGTH).map(|said| said.to_str().ok()?.parse::<u64>().ok());
        if said.is_some_and(|said| said != Some(content.length())) {
            return None;
        }
        let is_sound = match part {
            Some(part) => status == StatusCode::PARTIAL_CONTENT && part.length() == content.length(),
            None => status != StatusCode::PARTIAL_CONTENT,
        };
        is_sound.then_some(StoredResponse { status, head, content, part, facts, generation, variant })
    }

    /// The fields. `apart`: the content does not lie in these bytes, so nothing should hold on to them.
    fn head(&mut self, apart: bool) -> Option<HeaderMap> {
        let (count, all) = (self.u32()?, self.0.len());
        let mut head = HeaderMap::with_capacity(count.min(64) as usize + 2);
        for number in 1..=count as usize {
            let (name, value) = (self.name()?, self.text()?);
            if all - self.0.len() > LARGEST_HEAD + 2 * size_of::<u32>() * number {
                return None;
            }
            let value = if apart { Bytes::copy_from_slice(&value) } else { value };
            head.try_append(name, HeaderValue::from_maybe_shared(value).ok()?).ok()?;
        }
        Some(head)
    }
}

/// How the content of a response stands.
enum Stands {
    AsItIs,
    Compressed(u64),
    InPieces(Pieces),
}

#[cfg(test)]
mod tests {
    use super::super::SEAL;
    use super::*;
    use http::header::{CONTENT_TYPE, LINK};
    use proptest::prelude::*;

    const URI: Digest = [7; 32];

    fn response(content: &[u8], variant: bool) -> StoredResponse {
        let mut head = HeaderMap::new();
        head.append(LINK, HeaderValue::from_static("a"));
        head.append(LINK, HeaderValue::from_static("b"));
        head.append(CONTENT_TYPE, HeaderValue::from_bytes(b"text/\xe9").unwrap());
        let selecting = Selecting::new(vec!["accept".parse().unwrap(), "origin".parse().unwrap()]).unwrap();
        StoredResponse {
            status: StatusCode::from_u16(999).unwrap(),
            head,
            content: Bytes::copy_from_slice(content).into(),
            part: None,
            facts: Facts {
                received: u64::MAX,
                initial_age: 7,
                lifetime: 60,
                shareable: true,
                authorized: true,
                validate: false,
                strict: true,
                while_revalidate: 5,
                if_error: u32::MAX,
            },
            generation: Generation::new(3 << 100, 7),
            variant: variant.then_some((selecting, [9; 32])),
        }
    }

    const PLAIN: Form = Form { compress: false, max_content: 0, piece: 1 << 20, max_variants: 9 };
    const COMPRESSED: Form = Form { compress: true, max_content: 1 << 20, ..PLAIN };

    /// Content that compresses well, badly, and not at all, around the bounds.
    fn contents() -> impl Strategy<Value = Vec<u8>> {
        let repeated = (any::<Vec<u8>>(), 0..4000_usize)
            .prop_map(|(seed, length)| seed.iter().chain(b"<p>").copied().cycle().take(length).collect::<Vec<u8>>());
        prop_oneof![any::<Vec<u8>>(), repeated, prop::collection::vec(any::<u8>(), 1000..2000)]
    }

    proptest! {
        #[test]
        fn whatever_is_encoded_reads_back_exactly(content in contents(), variant: bool, compress: bool) {
            let entry = Entry::Response(response(&content, variant).into());
            let form = Form { compress, ..COMPRESSED };
            prop_assert_eq!(Entry::decode(entry.encode(&URI, form).into(), &URI, 1 << 20), Some(entry));
        }

        #[test]
        fn a_flipped_bit_or_a_cut_is_a_miss(content in contents(), variant: bool, at: prop::sample::Index, bit in 0..8_u8) {
            let whole = Entry::Response(response(&content, variant).into()).encode(&URI, COMPRESSED);
            let at = at.index(whole.len());
            let mut flipped = whole.clone();
            flipped[at] ^= 1_u8 << bit;
            prop_assert_eq!(Entry::decode(flipped.into(), &URI, 1 << 20), None);
            prop_assert_eq!(Entry::decode(Bytes::copy_from_slice(&whole[..at]), &URI, 1 << 20), None);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            prop_assert_eq!(Entry::decode(bytes.clone().into(), &URI, 1 << 20), None);
            // Behind a right version and checksum, where a reader of lengths could be led astray.
            let _ = Entry::decode(sealed(&bytes), &URI, 1 << 20);
        }

        #[test]
        fn compressed_content_that_is_damaged_behind_a_right_checksum_is_a_miss_or_what_it_says(
            content in contents(), at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let entry = response(&content, false);
            let mut shrunk = compressed::shrunk(&entry.head, &content).unwrap_or_else(|| b"\x28\xb5\x2f\xfd".to_vec());
            let at = at.index(shrunk.len());
            shrunk[at] ^= 1_u8 << bit;
            if let Some(Entry::Response(read)) = Entry::decode(sealed(&plain(&entry, &shrunk)), &URI, 1 << 20) {
                prop_assert_eq!(read.content.length(), content.len() as u64);
            }
        }

        #[test]
        fn a_flipped_bit_behind_a_right_checksum_never_panics_and_passes_no_bound(
            content in contents(), variant: bool, list: bool, at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let entry = match list {
                true => Entry::Variants(variants()),
                false => Entry::Response(response(&content, variant).into()),
            };
            let mut form = entry.encode(&URI, COMPRESSED);
            let at = SEAL + at.index(form.len() - SEAL);
            form[at] ^= 1_u8 << bit;
            if let Some(Entry::Response(read)) = Entry::decode(sealed(&form[SEAL..]), &URI, 5000) {
                prop_assert!(read.content.length() <= (form.len() as u64).max(5000));
            }
        }

        #[test]
        fn content_in_pieces_is_bounded(id: u128, length: u64, piece in 1..u64::MAX, max_content: u64) {
            let pieces = Pieces { id, length, piece };
            let entry = Entry::Response(StoredResponse { content: Content::Pieces(pieces), ..response(b"", true) }.into());
            let read = Entry::decode(entry.encode(&URI, COMPRESSED).into(), &URI, max_content);
            prop_assert_eq!(read, pieces.checked(max_content).map(|_| entry));
        }
    }

    fn plain(response: &StoredResponse, shrunk: &[u8]) -> Vec<u8> {
        let mut plain = vec![1];
        put_response(&mut plain, response, Some(shrunk));
        plain
    }

    fn variants() -> Variants {
        let selecting = Selecting::new(vec!["accept".parse().unwrap()]).unwrap();
        let etag = Some(HeaderValue::from_static("W/\"v1\""));
        let known = vec![Known { variant: [1; 32], etag: None }, Known { variant: [2; 32], etag }];
        Variants { selecting, generation: Generation::new(7, 0), known }
    }

    fn sealed(bytes: &[u8]) -> Bytes {
        let mut form = seal::begin(VERSION, bytes.len());
        form.extend_from_slice(bytes);
        seal::close(form, &URI).into()
    }

    #[test]
    fn content_is_compressed_where_it_gains_by_it_and_unfolds_no_further_than_allowed() {
        let page = "<p>stored</p>".repeat(1000);
        let entry = Entry::Response(response(page.as_bytes(), false).into());
        let (plain, shrunk) = (entry.encode(&URI, PLAIN), entry.encode(&URI, COMPRESSED));
        assert!(plain.len() > page.len() && shrunk.len() < 1000, "{} bytes of {}", shrunk.len(), plain.len());
        let length = page.len() as u64;
        assert!(Entry::decode(shrunk.clone().into(), &URI, length).is_some());
        assert_eq!(Entry::decode(shrunk.into(), &URI, length - 1), None);
        assert!(Entry::decode(plain.into(), &URI, 0).is_some(), "what is not compressed cannot grow");
    }

    #[test]
    fn a_bomb_unfolds_to_nothing() {
        let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
        // What it says is allowed, what it holds is not.
        let entry = plain(&response(&[0; 1000], false), &bomb);
        assert_eq!(Entry::decode(sealed(&entry), &URI, 1000), None);
    }

    #[test]
    fn what_is_moved_to_another_key_is_none_there() {
        let entry = Entry::Response(response(b"content", false).into()).encode(&URI, PLAIN);
        assert!(Entry::decode(entry.clone().into(), &URI, 1 << 20).is_some());
        assert_eq!(Entry::decode(entry.into(), &[8; 32], 1 << 20), None);
    }

    #[test]
    fn a_list_of_variants_reads_back() {
        let entry = Entry::Variants(variants());
        assert_eq!(Entry::decode(entry.encode(&URI, COMPRESSED).into(), &URI, 0), Some(entry));
    }

    #[test]
    fn a_length_that_lies_is_a_miss() {
        for (said, reads) in [("7", true), ("6", false), ("8", false), ("x", false), ("", false)] {
            let mut response = response(b"content", false);
            response.head.insert(CONTENT_LENGTH, said.parse().unwrap());
            let entry = Entry::Response(response.into());
            assert_eq!(Entry::decode(entry.encode(&URI, PLAIN).into(), &URI, 9).is_some(), reads, "{said}");
        }
    }

    #[test]
    fn a_head_that_is_too_large_is_a_miss() {
        for (length, reads) in [(LARGEST_HEAD - 200, true), (LARGEST_HEAD, false)] {
            let mut response = response(b"content", false);
            response.head.insert(LINK, "a".repeat(length).parse().unwrap());
            assert_eq!(super::super::has_room_for(&response.head), reads);
            let entry = Entry::Response(response.into());
            assert_eq!(Entry::decode(entry.encode(&URI, PLAIN).into(), &URI, 9).is_some(), reads, "{length}");
        }
    }

    /// Of a part of content that stands before more of it, and after some.
    fn part(content: &[u8]) -> StoredResponse {
        let part = Part::new(3, content.len() as u64 + 2, content.len() as u64 + 9);
        StoredResponse { status: StatusCode::PARTIAL_CONTENT, part, ..response(content, true) }
    }

    #[test]
    fn a_part_reads_back_and_no_older_release_takes_it_for_whole() {
        let entry = Entry::Response(part(b"content").into());
        for form in [PLAIN, COMPRESSED] {
            let form = entry.encode(&URI, form);
            // What read 0 and 1 and nothing else took this for none of its own.
            assert!(form[SEAL] > 1);
            assert_eq!(Entry::decode(form.into(), &URI, 1 << 20), Some(entry.clone()));
        }
    }

    #[test]
    fn a_part_that_is_not_where_it_says_is_a_miss() {
        let whole = StoredResponse { part: None, ..part(b"content") };
        assert_eq!(Entry::decode(whole.encode(&URI, PLAIN).into(), &URI, 9), None, "206, and no part");
        let ok = StoredResponse { status: StatusCode::OK, ..part(b"content") };
        assert_eq!(Entry::decode(ok.encode(&URI, PLAIN).into(), &URI, 9), None, "a part, and no 206");
        for (first, last, complete) in [(3, 8, 20), (3, 10, 20), (9, 3, 20), (3, 9, 9), (0, u64::MAX, 1)] {
            let lying = Part { first, last, complete };
            let mut form = part(b"content").encode(&URI, PLAIN);
            for (number, at) in [lying.first, lying.last, lying.complete].into_iter().zip((SEAL + 33..).step_by(8)) {
                form[at..at + 8].copy_from_slice(&number.to_le_bytes());
            }
            assert_eq!(Entry::decode(sealed(&form[SEAL..]), &URI, 9), None, "{lying:?}");
        }
    }

    #[test]
    fn an_older_version_is_a_miss() {
        let mut older = Entry::Response(response(b"content", false).into()).encode(&URI, PLAIN);
        older[3] = 3;
        assert_eq!(Entry::decode(older.into(), &URI, 9), None);
    }
}
