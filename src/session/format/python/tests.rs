//! Damaged and invented records: what is told of them is bounded, and nothing brings a decoder down.
//!
//! By a fixed seed and count; for longer, `SIDEGATE_FUZZ_SECONDS` (`make fuzz`), and to repeat a run `SIDEGATE_FUZZ_SEED`.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use proptest::prelude::*;

use super::super::tests::wanted;
use super::super::{Stored, USUAL_RECORD, Way as _, django::Django, flask::Flask, msgpack, pickle};
use super::*;
use crate::clock::instant;
use crate::session::Secrets;

/// Records in a run that is not told how long it may take.
const COUNT: usize = 40_000;

/// Any value that both encodings can write.
pub fn data() -> impl Strategy<Value = Datum> {
    let leaf = prop_oneof![
        Just(Datum::Nothing),
        any::<bool>().prop_map(Datum::Flag),
        any::<i64>().prop_map(|number| Datum::Whole(number.into())),
        any::<u64>().prop_map(|number| Datum::Whole(number.into())),
        (-300..300_i128).prop_map(Datum::Whole),
        (prop::num::f64::NORMAL | prop::num::f64::ZERO).prop_map(Datum::Float),
        ".{0,300}".prop_map(Datum::Text),
        prop::collection::vec(any::<u8>(), 0..300).prop_map(Datum::Bytes),
    ];
    leaf.prop_recursive(6, 64, 8, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..20).prop_map(Datum::List),
            prop::collection::vec((".{0,40}", inner), 0..20).prop_map(Datum::Map),
        ]
    })
}

/// `datum` in a short spelling of its own.
pub fn shown(datum: &Datum) -> String {
    match datum {
        Datum::Nothing => "None".into(),
        Datum::Flag(truth) => truth.to_string(),
        Datum::Whole(number) => number.to_string(),
        Datum::Float(number) => format!("{number:?}"),
        Datum::Text(text) => text.clone(),
        Datum::Bytes(bytes) => format!("<{}>", bytes.escape_ascii()),
        Datum::List(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(", ")),
        Datum::Map(entries) => {
            let entry = |(name, value): &(String, Datum)| format!("{name}: {}", shown(value));
            format!("{{{}}}", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
        }
        Datum::Opaque => "?".into(),
    }
}

/// Values in `datum`, and bytes of their texts.
pub fn weight(datum: &Datum) -> (usize, usize) {
    let sum = |one: (usize, usize), other: (usize, usize)| (one.0 + other.0, one.1 + other.1);
    match datum {
        Datum::Text(text) => (1, text.len()),
        Datum::Bytes(bytes) => (1, bytes.len()),
        Datum::List(items) => items.iter().map(weight).fold((1, 0), sum),
        Datum::Map(entries) => {
            entries.iter().map(|(name, value)| sum(weight(value), (1, name.len()))).fold((1, 0), sum)
        }
        _ => (1, 0),
    }
}

#[test]
fn fuzz_python_records() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| instant() + Duration::from_secs(seconds));
    let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(3154, |_| fastrand::u64(..)));
    println!("fuzz_python_records: SIDEGATE_FUZZ_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let captured = captured();
    let (mut turn, mut read) = (0, 0);
    while deadline.map_or(turn < COUNT, |deadline| instant() < deadline) {
        let bytes = match random.u8(..4) {
            0 => opcodes(&mut random),
            1 => markers(&mut random),
            _ => mutated(&mut random, &captured),
        };
        read += usize::from(is_read(&bytes));
        turn += 1;
    }
    assert!(read * 50 > turn && read * 20 < turn * 19, "{read} of {turn} are read: the mutations say little");
}

/// Whether `bytes` are read, and only as much is told of them as may be.
fn is_read(bytes: &[u8]) -> bool {
    for told in [decode(bytes), pickle::decode(bytes), msgpack::decode(bytes)].into_iter().flatten() {
        let (values, length) = weight(&told);
        assert!(values <= 16_384 && length <= 4 * USUAL_RECORD, "{values} values, {length} bytes");
    }
    let wanted = wanted(&["_auth_user_id", "user_id", "roles.0", "cart"]);
    let flask = Flask::new("session:", &Secrets::default()).unwrap().read(&wanted, Stored::Text(bytes), 0);
    let django = Django::new(":1:").read(&wanted, Stored::Text(bytes), 0);
    let read = flask.or(django);
    assert!(!matches!(read, Ok(None)), "a record is there");
    read.is_ok()
}

/// What Flask and Django stored in all captures, and what Python writes of objects.
fn captured() -> Vec<Vec<u8>> {
    let rows: Vec<serde_json::Value> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/sessions/frameworks.json")).unwrap();
    let ours = |profile: &str| profile.starts_with("flask") || profile.starts_with("django");
    let rows = rows.iter().filter(|row| row["profile"].as_str().is_some_and(ours));
    let records: Vec<_> = rows
        .filter_map(|row| STANDARD.decode(row["redis_value_base64"].as_str()?).ok())
        .filter(|r| !r.is_empty())
        .collect();
    assert!(records.len() > 50, "{}", records.len());
    records.into_iter().chain(pickle::tests::kept().into_iter().map(|(_, record, _)| record)).collect()
}

/// A captured record with up to three mutations.
fn mutated(random: &mut Rng, captured: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = captured[random.usize(..captured.len())].clone();
    for _ in 0..random.usize(0..4) {
        let at = random.usize(..=bytes.len());
        match random.u8(..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 => {
                let piece = bytes[random.usize(..=at)..at].to_vec();
                bytes.extend(piece);
            }
            3 => bytes.splice(at..at, [0xff; 4]).for_each(drop),
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = random.u8(..);
                }
            }
        }
    }
    bytes
}

/// A pickle of opcodes as they come, most of which find what they need.
fn opcodes(random: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0x80, random.u8(2..6)];
    let words: [&[u8]; 44] = [
        b"}",
        b"}\x94",
        b"]",
        b"]\x94",
        b")",
        b"\x8f",
        b"(",
        b"(",
        b"a",
        b"e",
        b"s",
        b"s",
        b"u",
        b"t",
        b"\x90",
        b"\x91",
        b"\x85",
        b"\x86",
        b"\x94",
        b"N",
        b"\x88",
        b"K\x05",
        b"J\xff\xff\xff\xff",
        b"\x8c\x07user_id",
        b"\x8c\x01a\x94",
        b"h\x00",
        b"h\x01",
        b"h\x02",
        b"\x93",
        b"R",
        b"R",
        b"\x81",
        b"\x92",
        b"b",
        b"0",
        b"1",
        b"cm\nC\n",
        b"cm\nC\n)R\x94",
        b"cm\nC\n)\x81",
        b"ccollections\nOrderedDict\n)R\x94",
        b"c__builtin__\nset\nh\x00\x85R",
        b"\x82\x01",
        b"U\x01a",
        b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a",
    ];
    for _ in 0..random.usize(..40) {
        bytes.extend_from_slice(words[random.usize(..words.len())]);
    }
    bytes.push(b'.');
    bytes
}

/// MessagePack of markers as they come.
fn markers(random: &mut Rng) -> Vec<u8> {
    let mut bytes = vec![0x80 + random.u8(1..4)];
    for _ in 0..random.usize(..20) {
        match random.u8(..6) {
            0 => bytes.extend_from_slice(b"\xa7user_id"),
            1 => bytes.push(random.u8(0xc0..=0xdf)),
            2 => bytes.push(random.u8(0x80..=0x9f)),
            _ => bytes.push(random.u8(..)),
        }
    }
    bytes
}
