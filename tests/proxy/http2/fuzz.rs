//! Sound conversations, spoilt at random: whatever comes, sidegate lives, ends the conversation, and passes on no request
//! that was not sent.
//!
//! Bounded by count; for longer with `SIDEGATE_FUZZ_SECONDS`. The seed is in the name of a failure.

use std::collections::HashMap;
use std::ops::Range;
use std::time::{Duration, Instant};

use crate::harness::frames::*;
use crate::harness::hpack::block;
use crate::harness::{Configuration, Origin};

const ROUNDS: u64 = 600;

/// Numbers that follow from a seed (xorshift).
struct Chance(u64);

impl Chance {
    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % below.max(1) as u64) as usize
    }
}

/// Frames of a sound conversation.
fn conversation(chance: &mut Chance, path: &str) -> Vec<Vec<u8>> {
    let mut frames = vec![settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, 1 << 20)]), frame(SETTINGS, ACK, 0, [])];
    for number in 0..1 + chance.next(4) as u32 {
        let stream = 2 * number + 1;
        match chance.next(7) {
            0 => frames.push(headers(stream, END_STREAM, &request("GET", path))),
            1 => frames.extend([headers(stream, 0, &request("POST", path)), data(stream, END_STREAM, "content")]),
            2 => {
                let head = [&request("POST", path)[..], &[("content-length", "8"), ("cookie", "a=b")]].concat();
                frames.extend([
                    headers(stream, 0, &head),
                    data(stream, 0, "cont"),
                    data(stream, END_STREAM | PADDED, b"\x02ent!\0\0"),
                ]);
            }
            3 => {
                let fields = block(&request("GET", path));
                let (first, rest) = fields.split_at(1 + chance.next(fields.len() - 1));
                frames.extend([
                    frame(HEADERS, END_STREAM, stream, first),
                    frame(CONTINUATION, END_HEADERS, stream, rest),
                ]);
            }
            4 => frames
                .extend([headers(stream, 0, &request("POST", path)), headers(stream, END_STREAM, &[("x-a", "b")])]),
            5 => frames.extend([headers(stream, END_STREAM, &request("GET", path)), reset(stream, CANCEL)]),
            _ => frames.extend([
                priority(stream, 0, 7),
                headers(stream, END_STREAM, &request("HEAD", path)),
                window_update(stream, 100),
            ]),
        }
        match chance.next(4) {
            0 => frames.push(ping(b"whatever")),
            1 => frames.push(window_update(0, 1000)),
            _ => {}
        }
    }
    frames
}

/// Spoils a conversation a little.
fn spoil(frames: &mut Vec<Vec<u8>>, chance: &mut Chance) {
    for _ in 0..1 + chance.next(3) {
        let place = chance.next(frames.len());
        let other = chance.next(frames.len());
        let byte = chance.next(256) as u8;
        let frame = &mut frames[place];
        if frame.len() < 9 {
            continue;
        }
        let at = chance.next(frame.len());
        match chance.next(10) {
            0 => frame[at] ^= 1 << chance.next(8),
            1 => frame[at] = byte,
            2 => frame[2] = byte,
            3 => frame[3] = byte % 12,
            4 => frame[4] = byte,
            5 => frame[8] = byte % 12,
            6 => frame.truncate(at),
            7 => frame.insert(at, byte),
            8 => frames.swap(place, other),
            _ => {
                let again = frames[other].clone();
                frames.insert(place, again);
            }
        }
    }
}

#[test]
fn fuzz_of_frames_harms_nobody() {
    let seconds = std::env::var("SIDEGATE_FUZZ_SECONDS").ok().and_then(|seconds| seconds.parse().ok());
    let until = seconds.map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let mut seed = 1;
    // The origin keeps every connection it ever had: not too many for one.
    while until.map_or(seed == 1, |until| Instant::now() < until) {
        rounds(seed..seed + ROUNDS);
        seed += ROUNDS;
    }
}

fn rounds(seeds: Range<u64>) {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("timeouts = { header = \"200ms\", body = \"200ms\" }").start();
    // By the path that its requests ask for: an app may hear of the last ones after the conversation has ended.
    let mut heads = HashMap::new();
    for seed in seeds {
        let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let path = format!("/fuzz/{seed}");
        let mut frames = conversation(&mut chance, &path);
        spoil(&mut frames, &mut chance);
        heads.insert(path, frames.iter().filter(|frame| frame.get(3) == Some(&HEADERS)).count());
        let mut client = Frames::bare(sidegate.address());
        client.send(PREFACE);
        // In pieces that need not end where frames do.
        let bytes = frames.concat();
        let (first, rest) = bytes.split_at(chance.next(bytes.len()));
        client.send(first).send(rest).end();
        assert!(client.ends(), "seed {seed}");
    }
    let mut reached = HashMap::<_, usize>::new();
    for request in app.requests() {
        let hosts = request.fields.all("host").count();
        let framed = request.field("content-length").is_none() || request.field("transfer-encoding").is_none();
        assert!(hosts == 1 && framed && request.version == "HTTP/1.1", "{request:?}");
        assert!(request.target.starts_with('/') || request.target == "*", "{request:?}");
        *reached.entry(request.target).or_default() += 1;
    }
    for (path, heads) in heads {
        let reached = reached.get(&path).copied().unwrap_or_default();
        // A length that is spoilt lets frames begin elsewhere: a head or two more.
        assert!(reached <= heads + 2, "{path}: {reached} requests of {heads} heads");
    }
    assert!(!sidegate.errors().contains("panicked"), "{}", sidegate.errors());
    assert_eq!(sidegate.get("/alive").status, 200);
    assert!(Frames::to(sidegate.address()).is_alive());
}
