//! Session records in process memory.
//!
//! 1. Records are JSON objects, by session identifier; each ends by itself after its TTL.
//! 2. The number of records is bounded; beyond it, the one that would end soonest ends now.
//!
//! # Why
//! `sidegate demo` runs without Redis, its sample app writing here what a real one writes there.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;

use crate::clock::Clock;

/// Session records, shared by the app that writes them and the workers that read them.
#[derive(Debug)]
pub struct MemoryStore {
    clock: Clock,
    max_records: usize,
    records: Mutex<Records>,
}

#[derive(Debug, Default)]
struct Records {
    by_identifier: HashMap<Arc<str>, Stored>,
    by_end: BTreeSet<(u64, Arc<str>)>,
}

#[derive(Debug)]
struct Stored {
    json: Bytes,
    /// Unix time in microseconds.
    ends: u64,
}

impl MemoryStore {
    /// An empty store of at most `max_records`.
    pub fn new(clock: Clock, max_records: usize) -> Arc<Self> {
        Arc::new(Self { clock, max_records: max_records.max(1), records: Mutex::default() })
    }

    /// Stores a record (a JSON object) for `ttl`, in the place of an earlier one.
    pub fn put(&self, identifier: &str, json: impl Into<Bytes>, ttl: Duration) {
        let now = self.clock.unix_micros();
        let ends = now.saturating_add(ttl.as_micros().try_into().unwrap_or(u64::MAX));
        let mut records = self.records.lock();
        records.remove(identifier);
        while records.soonest().is_some_and(|ends| ends <= now) || records.by_end.len() >= self.max_records {
            let Some((_, soonest)) = records.by_end.pop_first() else { break };
            records.by_identifier.remove(&soonest);
        }
        let identifier: Arc<str> = identifier.into();
        records.by_end.insert((ends, identifier.clone()));
        records.by_identifier.insert(identifier, Stored { json: json.into(), ends });
    }

    /// Ends a session; says whether there was one.
    pub fn remove(&self, identifier: &str) -> bool {
        let now = self.clock.unix_micros();
        self.records.lock().remove(identifier).is_some_and(|ended| ended.ends > now)
    }

    /// The record of a session that has not ended.
    pub fn record(&self, identifier: &str) -> Option<Bytes> {
        let now = self.clock.unix_micros();
        let records = self.records.lock();
        records.by_identifier.get(identifier).filter(|stored| stored.ends > now).map(|stored| stored.json.clone())
    }
}

impl Records {
    fn soonest(&self) -> Option<u64> {
        self.by_end.first().map(|(ends, _)| *ends)
    }

    fn remove(&mut self, identifier: &str) -> Option<Stored> {
        let (identifier, stored) = self.by_identifier.remove_entry(identifier)?;
        self.by_end.remove(&(stored.ends, identifier));
        Some(stored)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_ends_with_its_ttl_or_when_it_is_removed() {
        let (clock, hand) = Clock::manual(1_000_000);
        let store = MemoryStore::new(clock, 10);
        store.put("a", "{}", Duration::from_secs(1));
        store.put("b", "{}", Duration::from_secs(5));
        hand.advance(Duration::from_millis(999));
        assert!(store.record("a").is_some());
        hand.advance(Duration::from_millis(1));
        assert!(store.record("a").is_none() && !store.remove("a"));
        assert!(store.remove("b") && !store.remove("b") && store.record("b").is_none());
    }

    #[test]
    fn beyond_its_bound_the_session_that_would_end_soonest_ends() {
        let store = MemoryStore::new(Clock::manual(0).0, 2);
        store.put("a", "{}", Duration::from_secs(1));
        store.put("b", "{}", Duration::from_secs(9));
        store.put("a", "{\"again\":1}", Duration::from_secs(10));
        store.put("c", "{}", Duration::from_secs(5));
        assert!(store.record("a").is_some() && store.record("b").is_none() && store.record("c").is_some());
        assert_eq!(store.records.lock().by_end.len(), 2);
    }
}
