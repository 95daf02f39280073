//! A stored response, and its form outside this process.
//!
//! 1. Everything a hit needs was worked out when it was stored: a hit compares integers and clones a head.
//! 2. The binary form carries a version and a checksum over everything else, and over the URI it answers for, which it does
//!    not carry: what is moved to another key is none there. Whatever does not read back exactly (an
//!    older version, a cut, a flipped bit, another program's value) is no stored response: a miss, never an error.
//! 3. Not stored: hop-by-hop fields and those that `Connection` names (RFC 9110 §7.6.1), `Proxy-*` (RFC 9111 §3.1),
//!    `Age`, and the fields that sidegate writes on every answer.
//! 4. Content that gains by it is compressed, once, as it is stored; what is read back is the content as it was.
//! 5. `Date` is added where it is missing, and `Content-Length` always tells the stored content's length: no reuse has
//!    to work them out.
//!
//! # Why a checksum of our own
//! Each step, `(state ^ word) * odd`, is a bijection of the word and of the state. Damage within any one 8-byte word
//! is therefore always found, wider damage in all but one of 2⁶⁴ cases, at the speed of memory and without a table.
//! It is no defence against someone who can write to Redis; nothing stored there could be.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{AGE, CONNECTION, CONTENT_LENGTH, DATE, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::rules::dates::date_text;
use super::rules::storing::Facts;
use super::rules::vary::{Digest, Selecting};
use super::store::Generation;

mod content;

const VERSION: [u8; 4] = *b"sgc\x04";

/// The bytes before the rest of the binary form: version and checksum, which tell it from every other.
pub const SEAL: usize = 12;

/// How content stands in the binary form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Form {
    /// Whether content that gains by it is compressed.
    pub compress: bool,
    /// Bytes of content beyond which nothing compressed is unfolded.
    pub max_content: u64,
}

/// A response that can be sent again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredResponse {
    /// Its status.
    pub status: StatusCode,
    /// Its fields, as each reuse sends them, but for `Age`.
    pub head: HeaderMap,
    /// All of its content.
    pub content: Bytes,
    /// How old it is and for how long fresh.
    pub facts: Facts,
    /// The generation of its place when it was asked for.
    pub generation: Generation,
    /// Its selecting fields and the variant it is; `None`: it answers every request for its URI.
    pub variant: Option<(Selecting, Digest)>,
}

/// What stands under a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// A response.
    Response(Arc<StoredResponse>),
    /// The responses stand under the variants of these selecting fields.
    Variants(Selecting),
}

impl StoredResponse {
    /// Whether it answers a request with these fields (RFC 9111 §4.1).
    pub fn selects(&self, request: &HeaderMap) -> bool {
        self.variant.as_ref().is_none_or(|(selecting, variant)| selecting.variant(request) == *variant)
    }

    /// Bytes it takes in memory, about.
    pub fn weight(&self) -> u64 {
        let fields: usize = self.head.iter().map(|(name, value)| name.as_str().len() + value.len() + 64).sum();
        (self.content.len() + fields + 256) as u64
    }
}

/// Makes of a response's fields those that are stored. `received` is in seconds since the Unix epoch.
pub fn into_stored_head(head: &mut HeaderMap, status: StatusCode, length: usize, received: u64) {
    let named = head.get_all(CONNECTION).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let named: Vec<_> = named.filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok()).collect();
    let ours = head.keys().filter(|name| is_ours(name)).cloned().collect::<Vec<_>>();
    for name in named.iter().chain(&ours) {
        head.remove(name);
    }
    if !head.contains_key(DATE)
        && let Some(date) = date_text(received)
    {
        head.insert(DATE, date);
    }
    if status == StatusCode::NO_CONTENT {
        head.remove(CONTENT_LENGTH);
    } else {
        head.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}

/// Fields that belong to one connection, or to one answer of ours.
fn is_ours(name: &HeaderName) -> bool {
    const CONNECTION_S: [HeaderName; 6] = [CONNECTION, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, AGE];
    const ANSWER_S: [&str; 6] =
        ["keep-alive", "x-cache", "cache-status", "x-request-id", "ratelimit", "ratelimit-policy"];
    let text = name.as_str();
    CONNECTION_S.contains(name)
        || ANSWER_S.contains(&text)
        || text.starts_with("proxy-")
        || text.starts_with("x-ratelimit-")
}

impl Entry {
    /// The binary form, of the URI whose key has this digest.
    pub fn encode(&self, uri: &Digest, form: Form) -> Vec<u8> {
        let shrunk = match self {
            Self::Response(response) if form.compress => content::shrunk(&response.head, &response.content),
            _ => None,
        };
        let mut out = Vec::with_capacity(512 + shrunk.as_ref().map_or_else(|| self.content_length(), Vec::len));
        out.extend_from_slice(&VERSION);
        out.extend_from_slice(&[0; 8]);
        match self {
            Self::Variants(selecting) => {
                out.push(0);
                put_names(&mut out, selecting);
            }
            Self::Response(response) => {
                out.push(1);
                put_response(&mut out, response, shrunk.as_deref());
            }
        }
        let sum = checksum(uri, &out[SEAL..]);
        out[4..SEAL].copy_from_slice(&sum.to_le_bytes());
        out
    }

    fn content_length(&self) -> usize {
        match self {
            Self::Response(response) => response.content.len(),
            Self::Variants(_) => 0,
        }
    }

    /// What [`Entry::encode`] made; `None` for anything else. Content that was not compressed is a slice of `bytes`;
    /// what was unfolds to at most `max_content` bytes.
    pub fn decode(bytes: Bytes, uri: &Digest, max_content: u64) -> Option<Self> {
        let mut reader = Reader(bytes);
        let version = reader.take(4)?;
        let sum = reader.u64()?;
        if version != VERSION[..] || sum != checksum(uri, &reader.0) {
            return None;
        }
        match reader.u8()? {
            0 => reader.names().filter(|_| reader.0.is_empty()).map(Self::Variants),
            1 => reader.response(max_content).map(|response| Self::Response(Arc::new(response))),
            _ => None,
        }
    }
}

fn put_response(out: &mut Vec<u8>, response: &StoredResponse, shrunk: Option<&[u8]>) {
    let StoredResponse { status, head, content, facts, generation, variant } = response;
    match shrunk {
        None => out.push(0),
        Some(_) => {
            out.push(1);
            out.extend_from_slice(&(content.len() as u64).to_le_bytes());
        }
    }
    out.extend_from_slice(&generation.bytes());
    out.extend_from_slice(&facts.received.to_le_bytes());
    out.extend_from_slice(&facts.initial_age.to_le_bytes());
    out.extend_from_slice(&facts.lifetime.to_le_bytes());
    out.extend_from_slice(&status.as_u16().to_le_bytes());
    let flags = [facts.shareable, facts.validate, facts.strict];
    out.push(flags.iter().enumerate().fold(0, |byte, (bit, flag)| byte | u8::from(*flag) << bit));
    out.extend_from_slice(&facts.while_revalidate.to_le_bytes());
    out.extend_from_slice(&facts.if_error.to_le_bytes());
    match variant {
        None => out.push(0),
        Some((selecting, digest)) => {
            put_names(out, selecting);
            out.extend_from_slice(digest);
        }
    }
    out.extend_from_slice(&(head.len() as u32).to_le_bytes());
    for (name, value) in head {
        out.extend_from_slice(&(name.as_str().len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(&(value.len() as u32).to_le_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    out.extend_from_slice(shrunk.unwrap_or(content));
}

/// Selecting fields are at least one and at most [`super::rules::vary::MAX_FIELDS`], so that a byte counts them, and
/// zero is free to mean that there are none.
fn put_names(out: &mut Vec<u8>, selecting: &Selecting) {
    out.push(selecting.names().len() as u8);
    for name in selecting.names() {
        out.extend_from_slice(&(name.as_str().len() as u32).to_le_bytes());
        out.extend_from_slice(name.as_str().as_bytes());
    }
}

/// Reads from the front, and never beyond the end.
struct Reader(Bytes);

impl Reader {
    fn take(&mut self, length: usize) -> Option<Bytes> {
        (length <= self.0.len()).then(|| self.0.split_to(length))
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.as_ref().try_into().ok()
    }

    fn u8(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn text(&mut self) -> Option<Bytes> {
        let length = self.u32()?;
        self.take(usize::try_from(length).ok()?)
    }

    fn name(&mut self) -> Option<HeaderName> {
        HeaderName::from_bytes(&self.text()?).ok()
    }

    fn names(&mut self) -> Option<Selecting> {
        let count = self.u8()?;
        self.counted_names(count)
    }

    fn counted_names(&mut self, count: u8) -> Option<Selecting> {
        let names = (0..count).map(|_| self.name()).collect::<Option<Vec<_>>>()?;
        Selecting::new(names)
    }

    fn response(&mut self, max_content: u64) -> Option<StoredResponse> {
        let compressed_from = match self.u8()? {
            0 => None,
            1 => Some(self.u64().filter(|length| *length <= max_content.min(content::LARGEST as u64))?),
            _ => return None,
        };
        let generation = Generation::of_bytes(self.array()?)?;
        let (received, initial_age, lifetime) = (self.u64()?, self.u32()?, self.u32()?);
        let status = StatusCode::from_u16(self.array().map(u16::from_le_bytes)?).ok()?;
        let flags = self.u8().filter(|flags| flags >> 3 == 0)?;
        let [shareable, validate, strict] = [0, 1, 2].map(|bit| flags >> bit & 1 == 1);
        let (while_revalidate, if_error) = (self.u32()?, self.u32()?);
        let variant = match self.u8()? {
            0 => None,
            count => Some((self.counted_names(count)?, self.array()?)),
        };
        let count = self.u32()?;
        let mut head = HeaderMap::with_capacity(count.min(64) as usize + 2);
        for _ in 0..count {
            let (name, value) = (self.name()?, self.text()?);
            // What is unfolded does not lie in these bytes: then nothing should hold on to them.
            let value = if compressed_from.is_some() { Bytes::copy_from_slice(&value) } else { value };
            head.try_append(name, HeaderValue::from_maybe_shared(value).ok()?).ok()?;
        }
        let facts = Facts { received, initial_age, lifetime, shareable, validate, strict, while_revalidate, if_error };
        let rest = std::mem::take(&mut self.0);
        let content = match compressed_from {
            None => rest,
            Some(length) => content::unfolded(&rest, usize::try_from(length).ok()?)?,
        };
        Some(StoredResponse { status, head, content, facts, generation, variant })
    }
}

/// See the module's page. Four states side by side, so that the processor can work on them at once.
fn checksum(uri: &Digest, bytes: &[u8]) -> u64 {
    const ODD: u64 = 0x9E37_79B9_7F4A_7C15;
    let mut states = [bytes.len() as u64, 1, 2, 3];
    let step = |state: u64, word: &[u8]| {
        let mut padded = [0; 8];
        padded[..word.len()].copy_from_slice(word);
        (state ^ u64::from_le_bytes(padded)).wrapping_mul(ODD).rotate_left(29)
    };
    let mut blocks = bytes.chunks_exact(32);
    for block in std::iter::once(&uri[..]).chain(&mut blocks) {
        for (state, word) in states.iter_mut().zip(block.chunks_exact(8)) {
            *state = step(*state, word);
        }
    }
    for (state, word) in states.iter_mut().zip(blocks.remainder().chunks(8)) {
        *state = step(*state, word);
    }
    states.iter().enumerate().fold(0, |sum, (index, state)| sum ^ state.rotate_left(index as u32 * 16))
}

#[cfg(test)]
mod tests {
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
            content: Bytes::copy_from_slice(content),
            facts: Facts {
                received: u64::MAX,
                initial_age: 7,
                lifetime: 60,
                shareable: true,
                validate: false,
                strict: true,
                while_revalidate: 5,
                if_error: u32::MAX,
            },
            generation: Generation::new(3 << 100, 7),
            variant: variant.then_some((selecting, [9; 32])),
        }
    }

    const PLAIN: Form = Form { compress: false, max_content: 0 };
    const COMPRESSED: Form = Form { compress: true, max_content: 1 << 20 };

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
            content in contents(), length: u64, at: prop::sample::Index, bit in 0..8_u8,
        ) {
            let entry = response(&content, false);
            let mut shrunk = content::shrunk(&entry.head, &content).unwrap_or_else(|| b"\x28\xb5\x2f\xfd".to_vec());
            let at = at.index(shrunk.len());
            shrunk[at] ^= 1_u8 << bit;
            let mut plain = vec![1];
            put_response(&mut plain, &entry, Some(&shrunk));
            plain[2..10].copy_from_slice(&(length % 5000).to_le_bytes());
            if let Some(Entry::Response(read)) = Entry::decode(sealed(&plain), &URI, 1 << 20) {
                prop_assert_eq!(read.content.len() as u64, length % 5000);
            }
        }
    }

    fn sealed(bytes: &[u8]) -> Bytes {
        let mut sealed = VERSION.to_vec();
        sealed.extend_from_slice(&checksum(&URI, bytes).to_le_bytes());
        sealed.extend_from_slice(bytes);
        sealed.into()
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
        let mut entry = vec![1];
        // What it says is allowed, what it holds is not.
        put_response(&mut entry, &response(&[0; 1000], false), Some(&bomb));
        assert_eq!(Entry::decode(sealed(&entry), &URI, 1000), None);
    }

    #[test]
    fn what_is_moved_to_another_key_is_none_there() {
        let entry = Entry::Response(response(b"content", false).into()).encode(&URI, PLAIN);
        assert!(Entry::decode(entry.clone().into(), &URI, 1 << 20).is_some());
        assert_eq!(Entry::decode(entry.into(), &[8; 32], 1 << 20), None);
    }

    #[test]
    fn a_list_of_selecting_fields_reads_back() {
        let entry = Entry::Variants(Selecting::new(vec!["accept".parse().unwrap()]).unwrap());
        assert_eq!(Entry::decode(entry.encode(&URI, COMPRESSED).into(), &URI, 0), Some(entry));
    }

    #[test]
    fn fields_of_a_connection_and_of_one_answer_are_not_stored() {
        let mut head = HeaderMap::new();
        for name in [
            "connection",
            "keep-alive",
            "te",
            "trailer",
            "transfer-encoding",
            "upgrade",
            "proxy-authenticate",
            "x-hop",
            "age",
            "x-cache",
            "cache-status",
            "x-ratelimit-limit",
            "ratelimit",
            "x-request-id",
            "etag",
        ] {
            head.insert(HeaderName::from_static(name), HeaderValue::from_static("close, X-Hop"));
        }
        into_stored_head(&mut head, StatusCode::OK, 5, 784_111_777);
        let mut names: Vec<_> = head.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "date", "etag"]);
        assert_eq!(head[CONTENT_LENGTH], "5");
        assert_eq!(head[DATE], "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
