//! Session records in process memory.
//!
//! 1. Records are JSON objects, by the key that they would have in Redis; each ends by itself after its TTL.
//! 2. Their bytes are bounded; beyond the bound, those that would end soonest end now. A record that is larger than the bound
//!    by itself is not kept.
//!
//! # Why
//! `sidegate demo` runs without Redis, its sample app writing here what a real one writes there; and a single instance that
//! issues sessions for an app that has none needs no Redis either. By key, and not by identifier: two definitions are two
//! families of sessions, and nobody takes one for the other.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::clock::Clock;

/// What a record takes besides its key, which is there once, and its JSON: places in two tables.
const BESIDE: u64 = 160;

/// Session records, shared by whoever writes them and the workers that read them.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    max_bytes: AtomicU64,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    by_key: HashMap<Arc<str>, Stored>,
    by_end: BTreeSet<(u64, Arc<str>)>,
    bytes: u64,
}

#[derive(Debug)]
struct Stored {
    json: Bytes,
    /// Unix time in microseconds.
    ends: u64,
}

impl MemoryStore {
    /// An empty store of at most `max_bytes`.
    pub fn new(clock: Clock, max_bytes: u64) -> Arc<Self> {
        Arc::new(Self { clock, max_bytes: max_bytes.into(), records: Mutex::default() })
    }

    /// Another bound, after a reload. What is beyond it ends when something new comes.
    pub fn rebound(&self, max_bytes: u64) {
        self.max_bytes.store(max_bytes, Ordering::Relaxed);
    }

    /// Stores a record (a JSON object) for `ttl`, in the place of an earlier one; says `false` if it is too large.
    pub fn put(&self, key: &str, json: impl Into<Bytes>, ttl: Duration) -> bool {
        let (now, json) = (self.clock.unix_micros(), json.into());
        let (weight, most) = (weight(key, &json), self.max_bytes.load(Ordering::Relaxed));
        if weight > most {
            return false;
        }
        let mut records = self.records.lock();
        records.remove(key);
        while records.soonest().is_some_and(|ends| ends <= now || records.bytes + weight > most) {
            let Some((_, soonest)) = records.by_end.first().cloned() else { break };
            records.remove(&soonest);
        }
        let (key, ends): (Arc<str>, _) = (key.into(), end(now, ttl));
        records.bytes += weight;
        records.by_end.insert((ends, key.clone()));
        records.by_key.insert(key, Stored { json, ends });
        true
    }

    /// Ends a session; says whether there was one.
    pub fn remove(&self, key: &str) -> bool {
        let now = self.clock.unix_micros();
        self.records.lock().remove(key).is_some_and(|ended| ended.ends > now)
    }

    /// Has a session end after `ttl` from now; says whether there is one.
    pub fn extend(&self, key: &str, ttl: Duration) -> bool {
        let now = self.clock.unix_micros();
        let mut records = self.records.lock();
        let Records { by_key, by_end, .. } = &mut *records;
        let Some((name, _)) = by_key.get_key_value(key) else { return false };
        let name = name.clone();
        let Some(stored) = by_key.get_mut(key).filter(|stored| stored.ends > now) else { return false };
        by_end.remove(&(stored.ends, name.clone()));
        stored.ends = end(now, ttl);
        by_end.insert((stored.ends, name));
        true
    }

    /// The record of a session that has not ended.
    pub fn record(&self, key: &str) -> Option<Bytes> {
        let now = self.clock.unix_micros();
        let records = self.records.lock();
        records.by_key.get(key).filter(|stored| stored.ends > now).map(|stored| stored.json.clone())
    }
}

impl Records {
    fn soonest(&self) -> Option<u64> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    fn remove(&mut self, key: &str) -> Option<Stored> {
        let (key, stored) = self.by_key.remove_entry(key)?;
        self.bytes = self.bytes.saturating_sub(weight(&key, &stored.json));
        self.by_end.remove(&(stored.ends, key));
        Some(stored)
    }
}

fn weight(key: &str, json: &Bytes) -> u64 {
    (key.len() + json.len()) as u64 + BESIDE
}

/// `now` and the result in microseconds.
fn end(now: u64, ttl: Duration) -> u64 {
    now.saturating_add(ttl.as_micros().try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_record_ends_with_its_ttl_or_when_it_is_removed() {
        let (clock, hand) = Clock::manual(1_000_000);
        let store = MemoryStore::new(clock, 1 << 20);
        assert!(store.put("a", "{}", SECOND) && store.put("b", "{}", 5 * SECOND));
        hand.advance(Duration::from_millis(999));
        assert!(store.record("a").is_some());
        hand.advance(Duration::from_millis(1));
        assert!(store.record("a").is_none() && !store.remove("a"));
        assert!(store.remove("b") && !store.remove("b") && store.record("b").is_none());
        assert_eq!(store.records.lock().bytes, 0);
    }

    #[test]
    fn a_session_is_extended_while_it_is_there_and_never_after() {
        let (clock, hand) = Clock::manual(0);
        let store = MemoryStore::new(clock, 1 << 20);
        assert!(store.put("a", "{}", SECOND) && store.extend("a", 3 * SECOND) && !store.extend("b", SECOND));
        hand.advance(2 * SECOND);
        assert!(store.record("a").is_some() && store.extend("a", SECOND));
        hand.advance(SECOND);
        assert!(store.record("a").is_none() && !store.extend("a", SECOND), "it has ended");
    }

    #[test]
    fn beyond_its_bound_the_session_that_would_end_soonest_ends() {
        let store = MemoryStore::new(Clock::manual(0).0, 2 * (BESIDE + 16));
        assert!(store.put("a", "{}", SECOND) && store.put("b", "{}", 9 * SECOND));
        assert!(store.put("a", "{\"again\":1}", 10 * SECOND) && store.put("c", "{}", 5 * SECOND));
        assert!(store.record("a").is_some() && store.record("b").is_none() && store.record("c").is_some());
        assert_eq!(store.records.lock().by_end.len(), 2);
        assert!(!store.put("d", "x".repeat(400), SECOND) && store.record("a").is_some(), "too large for anybody");
        store.rebound(BESIDE + 16);
        assert!(store.put("e", "{}", 20 * SECOND));
        assert!(store.record("e").is_some() && store.records.lock().by_end.len() == 1);
    }
}
