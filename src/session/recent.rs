//! What has been done for a key lately, so that it is done once within a while and not with every request. No I/O, and time
//! is an argument.
//!
//! 1. Whoever asks first is told to do it; whoever asks again within the while is not.
//! 2. It is bounded in keys ([`Recent::rebound`]). Beyond, those that were noted longest ago are forgotten: for them it is done once
//!    more, which costs a command and harms nobody.

use std::collections::HashMap;
use std::mem;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

/// Keys that are noted at a time, if nothing else is said.
pub const MOST: usize = 65_536;
/// Parts, so that workers seldom wait for each other.
const PARTS: usize = 16;

type Times = HashMap<Box<[u8]>, Instant, RandomState>;

/// When something was last done, by key.
#[derive(Debug)]
pub struct Recent {
    parts: Box<[Mutex<Part>]>,
    hasher: RandomState,
    /// Keys of a generation of a part: there are two.
    generation: AtomicUsize,
}

#[derive(Debug, Default)]
struct Part {
    young: Times,
    old: Times,
}

impl Default for Recent {
    fn default() -> Self {
        let parts = (0..PARTS).map(|_| Mutex::default()).collect();
        Self { parts, hasher: RandomState::new(), generation: AtomicUsize::new(generation(MOST)) }
    }
}

/// Keys of a generation of a part, of so many in all.
fn generation(most: usize) -> usize {
    (most / PARTS / 2).max(1)
}

impl Recent {
    /// One that has noted nothing, and is bounded as this is now.
    pub fn empty(&self) -> Self {
        let generation = AtomicUsize::new(self.generation.load(Ordering::Relaxed));
        Self { generation, ..Self::default() }
    }

    /// Notes so many keys at a time from now on; at least two for each of its parts.
    pub fn rebound(&self, most: usize) {
        self.generation.store(generation(most), Ordering::Relaxed);
    }

    /// Whether it is to be done for `key` at `now`: nobody has been told so `within` the time before.
    pub fn is_first(&self, key: &[u8], now: Instant, within: Duration) -> bool {
        let mut part = self.part(key).lock();
        let last = part.young.get(key).or_else(|| part.old.get(key));
        if last.is_some_and(|last| now.saturating_duration_since(*last) < within) {
            return false;
        }
        if part.young.len() >= self.generation.load(Ordering::Relaxed) {
            part.old = mem::take(&mut part.young);
        }
        part.young.insert(key.into(), now);
        true
    }

    /// It has not been done after all: whoever asks next is told to.
    pub fn forget(&self, key: &[u8]) {
        let mut part = self.part(key).lock();
        part.young.remove(key);
        part.old.remove(key);
    }

    fn part(&self, key: &[u8]) -> &Mutex<Part> {
        &self.parts[(self.hasher.hash_one(key) >> 48) as usize % PARTS]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::instant;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn it_is_done_once_within_the_while_for_each_key() {
        let (recent, start) = (Recent::default(), instant());
        assert!(recent.is_first(b"a", start, SECOND) && recent.is_first(b"b", start, SECOND));
        assert!(!recent.is_first(b"a", start + SECOND / 2, SECOND));
        assert!(recent.is_first(b"a", start + SECOND, SECOND));
        assert!(!recent.is_first(b"a", start + SECOND, SECOND));
        recent.forget(b"a");
        assert!(recent.is_first(b"a", start + SECOND, SECOND));
    }

    #[test]
    fn keys_are_bounded() {
        let (recent, start) = (Recent::default(), instant());
        let note = |numbers: std::ops::Range<usize>| {
            for number in numbers {
                recent.is_first(&number.to_be_bytes(), start, SECOND);
            }
        };
        note(0..3 * MOST);
        let held = |part: &Mutex<Part>| {
            let part = part.lock();
            part.young.len() + part.old.len()
        };
        let kept = || recent.parts.iter().map(held).sum::<usize>();
        assert!(kept() <= MOST && kept() > MOST / 4, "{}", kept());
        assert!(!recent.is_first(&(3 * MOST - 1).to_be_bytes(), start, SECOND), "the latest are known");
        // A lower bound holds as soon as each part has begun two more generations.
        recent.rebound(1024);
        note(3 * MOST..4 * MOST);
        assert!(kept() <= 1024 && kept() > 1024 / 4, "{}", kept());
    }
}
