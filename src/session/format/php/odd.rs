//! What PHP and igbinary wrote of odd values (`tests/fixtures/sessions/php.json`, made by `php.php` beside it), and a fuzzer that
//! begins with them.
//!
//! By a fixed seed and count; for longer, `SIDEGATE_FUZZ_SECONDS` (`make fuzz`), and to repeat a run `SIDEGATE_FUZZ_SEED`.

use std::io::Read as _;
use std::sync::LazyLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use fastrand::Rng;
use flate2::read::ZlibDecoder;

use crate::clock::instant;

/// One value, written in both ways.
pub struct Odd {
    /// What is odd.
    pub name: String,
    /// By `serialize()`.
    pub serialized: Vec<u8>,
    /// By `igbinary_serialize()`.
    pub igbinary: Vec<u8>,
}

/// All of them.
pub static ODD: LazyLock<Vec<Odd>> = LazyLock::new(|| {
    let rows = include_str!("../../../../tests/fixtures/sessions/php.json");
    let rows: Vec<[String; 3]> = serde_json::from_str(rows).unwrap();
    let inflated = |text: &str| {
        let (packed, mut bytes) = (STANDARD.decode(text).unwrap(), Vec::new());
        ZlibDecoder::new(&packed[..]).read_to_end(&mut bytes).unwrap();
        bytes
    };
    let odd = |[name, one, other]: [String; 3]| Odd { name, serialized: inflated(&one), igbinary: inflated(&other) };
    rows.into_iter().map(odd).collect()
});

/// Inputs in a run that is not told how long it may take.
const COUNT: usize = 10_000;

/// Calls `reads` with mutations of `seeds`; it tells whether it could read one. It must come back, and neither refuse nor
/// accept nearly all.
pub fn fuzz(name: &str, seeds: &[Vec<u8>], reads: impl Fn(&[u8]) -> bool) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| instant() + Duration::from_secs(seconds));
    let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(825, |_| fastrand::u64(..)));
    println!("fuzz {name}: SIDEGATE_FUZZ_SEED={seed}");
    assert!(seeds.iter().all(|seed| reads(seed)), "{name}: begins with what cannot be read");
    let mut random = Rng::with_seed(seed);
    let (mut turn, mut read) = (0, 0);
    while deadline.map_or(turn < COUNT, |deadline| instant() < deadline) {
        let mut bytes = seeds[random.usize(0..seeds.len())].clone();
        for _ in 0..random.usize(0..4) {
            mutate(&mut random, &mut bytes);
        }
        read += usize::from(reads(&bytes));
        turn += 1;
    }
    assert!(read * 50 > turn && read * 50 < turn * 49, "{name}: {read} of {turn} were read: the mutations say little");
}

fn mutate(random: &mut Rng, bytes: &mut Vec<u8>) {
    if bytes.is_empty() {
        return;
    }
    let at = random.usize(0..bytes.len());
    let until = (at + random.usize(0..20)).min(bytes.len());
    match random.u8(0..7) {
        0 => bytes[at] ^= 1 << random.u8(0..8),
        1 => bytes.truncate(at),
        2 => drop(bytes.drain(at..until)),
        3 => {
            let splinter = bytes[at..until].to_vec();
            let to = random.usize(0..=bytes.len());
            drop(bytes.splice(to..to, splinter));
        }
        4 => bytes[at..until].iter_mut().for_each(|byte| *byte = random.u8(..)),
        // Another digit is another length or number, and often stands.
        5 => {
            if let Some(digit) = bytes[at..].iter_mut().find(|byte| byte.is_ascii_digit()) {
                *digit = random.u8(b'0'..=b'9');
            }
        }
        _ => bytes[at] = [0x00, 0x0e, 0x14, 0x25, 0xff, b'"', b'|', b'{'][random.usize(0..8)],
    }
}
