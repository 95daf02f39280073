//! Binary forms that are damaged behind a right seal: what reads back is bounded, and is written as it was read.
//!
//! By a fixed seed and count; for longer, `SIDEGATE_FUZZ_SECONDS` (`make fuzz`), and to repeat a run `SIDEGATE_FUZZ_SEED`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use fastrand::Rng;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use super::seal::{self, Version};
use super::{Content, Entry, Form, Known, Pieces, SEAL, StoredResponse, Variants};
use crate::cache::rules::parts::Part;
use crate::cache::rules::storing::Facts;
use crate::cache::rules::vary::{Digest, Selecting};
use crate::cache::store::Generation;
use crate::clock::instant;

/// Forms in a run that is not told how long it may take.
const COUNT: usize = 20_000;
const URI: Digest = [7; 32];
const MAX_CONTENT: u64 = 8192;

#[test]
fn fuzz_entries_and_pieces() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| instant() + Duration::from_secs(seconds));
    let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(9111, |_| fastrand::u64(..)));
    println!("fuzz_entries_and_pieces: SIDEGATE_FUZZ_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let (mut turn, mut read) = (0, 0);
    while deadline.map_or(turn < COUNT, |deadline| instant() < deadline) {
        let is_read = if turn % 4 == 0 { piece(&mut random) } else { entry(&mut random) };
        read += usize::from(is_read);
        turn += 1;
    }
    assert!(read * 20 > turn && read * 20 < turn * 19, "{read} of {turn} read back: the mutations say little");
}

/// Whether a mutated entry reads back.
fn entry(random: &mut Rng) -> bool {
    let form = Form { compress: random.bool(), max_content: MAX_CONTENT, piece: 100, max_variants: 9 };
    let sound = any_entry(random).encode(&URI, form);
    let mutated = mutated(random, &sound);
    let Some(read) = Entry::decode(mutated.clone(), &URI, MAX_CONTENT) else { return false };
    if let Entry::Response(response) = &read {
        let bound = MAX_CONTENT.max(mutated.len() as u64);
        assert!(response.content.length() <= bound, "{} bytes of content", response.content.length());
        assert!(super::has_room_for(&response.head));
        let belongs = response.part.map(|part| (part.length(), part.last < part.complete));
        assert!(belongs.is_none_or(|belongs| belongs == (response.content.length(), true)), "{response:?}");
        assert_eq!(response.part.is_some(), response.status == StatusCode::PARTIAL_CONTENT);
    }
    let again = read.encode(&URI, form);
    let plain = matches!(&read, Entry::Response(response) if response.content.length() > MAX_CONTENT);
    assert!(plain || Entry::decode(again.into(), &URI, MAX_CONTENT).as_ref() == Some(&read), "{read:?}");
    true
}

/// Whether a mutated piece reads back.
fn piece(random: &mut Rng) -> bool {
    let pieces = Pieces::new(5, random.u64(1..MAX_CONTENT), random.u64(1..4000));
    let number = random.u64(0..pieces.count());
    let span = pieces.span(number);
    let content = vec![random.u8(..); (span.end - span.start) as usize];
    let head = head(random);
    let form = pieces.encode(&URI, number, &content, random.bool().then_some(&head));
    let read = pieces.decode(&URI, number, mutated(random, &form));
    assert!(read.as_ref().is_none_or(|read| read.len() == content.len()), "another length");
    read.is_some()
}

/// `form` with up to three mutations, sealed again.
fn mutated(random: &mut Rng, form: &[u8]) -> Bytes {
    let version: Version = form.first_chunk().copied().unwrap_or_default();
    let mut bytes = form[SEAL..].to_vec();
    for _ in 0..random.usize(0..4) {
        mutate(random, &mut bytes);
    }
    let mut again = seal::begin(version, bytes.len());
    again.extend_from_slice(&bytes);
    seal::close(again, &URI).into()
}

fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.usize(0..bytes.len());
    // Lengths, flags and counts stand at the front more than anywhere else.
    let at = if random.bool() { at } else { at.min(random.usize(0..100)) };
    let until = (at + random.usize(0..40)).min(bytes.len());
    match random.u8(0..6) {
        0 => bytes[at] ^= 1 << random.u8(0..8),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..until)),
        3 => {
            let splinter = bytes[at..until].to_vec();
            let to = random.usize(0..=bytes.len());
            drop(bytes.splice(to..to, splinter));
        }
        4 => bytes[at..until].iter_mut().for_each(|byte| *byte = random.u8(..)),
        _ => {
            let number = [0, 1, u64::from(u32::MAX), u64::MAX, 1 << 63, MAX_CONTENT][random.usize(0..6)].to_le_bytes();
            let end = (at + number.len()).min(bytes.len());
            bytes[at..end].copy_from_slice(&number[..end - at]);
        }
    }
}

fn any_entry(random: &mut Rng) -> Entry {
    let generation = Generation::new(random.u128(1..), random.u128(..));
    let names = ["accept", "accept-language", "origin"].map(HeaderName::from_static);
    let names = Selecting::new(names[..random.usize(1..=names.len())].to_vec()).unwrap();
    if random.u8(..) < 60 {
        let known = (0..random.usize(0..9)).map(|number| {
            let etag = random.bool().then(|| HeaderValue::from_static("W/\"a\""));
            Known { variant: [number as u8; 32], etag }
        });
        return Entry::Variants(Variants { selecting: names, generation, known: known.collect() });
    }
    let content = match random.u8(0..3) {
        0 => Content::Pieces(Pieces::new(random.u128(..), random.u64(1..MAX_CONTENT), random.u64(1..500))),
        1 => Content::from(b"<p>".repeat(random.usize(0..2000))),
        _ => Content::from((0..random.usize(0..200)).map(|_| random.u8(..)).collect::<Vec<_>>()),
    };
    let facts = Facts {
        received: random.u64(..),
        initial_age: random.u32(..),
        lifetime: random.u32(..),
        shareable: random.bool(),
        authorized: random.bool(),
        validate: random.bool(),
        strict: random.bool(),
        while_revalidate: random.u32(..),
        if_error: random.u32(..),
    };
    let is_part = content.length() > 0 && random.u8(..) < 80;
    let first = random.u64(0..1000);
    let part = is_part.then(|| Part { first, last: first + content.length() - 1, complete: first + 9000 });
    let status = StatusCode::from_u16(if is_part { 206 } else { random.u16(300..1000) }).unwrap();
    let variant = random.bool().then(|| (names, [random.u8(..); 32]));
    Entry::Response(Arc::new(StoredResponse { status, head: head(random), content, part, facts, generation, variant }))
}

fn head(random: &mut Rng) -> HeaderMap {
    let mut head = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("text/plain"))]);
    for _ in 0..random.usize(0..5) {
        let name = ["etag", "link", "x-a", "set-cookie"][random.usize(0..4)];
        let value = HeaderValue::from_bytes(&vec![random.u8(b' '..b'~'); random.usize(0..60)]).unwrap();
        head.append(HeaderName::from_static(name), value);
    }
    head
}
