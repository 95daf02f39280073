//! Counters in process memory, shared by all workers.
//!
//! 1. Keys are spread over shards, each behind a lock of its own.
//! 2. The limits of one request are settled in one step: their shards are locked together, in order.
//! 3. There is room for `max_keys`. A new key takes, once there is no room, the place of the one nearest to being full
//!    again among a few picked at random: the less a counter still says, the sooner it is forgotten.
//! 4. While Redis counts, the store is told what Redis said of clients that have spent much. While Redis is away it *stands
//!    in*, and goes on from there. What it has counted then is told to Redis for as long as it says anything.
//!
//! # Why
//! To find the very nearest, everything would have to be kept in order on every request. A sample of eight misses the
//! lower half of a shard once in 256 times, and costs the same however full the store is.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::super::algorithm::{Asked, Decision, Policy, State, settle};
use super::{Charge, MemorySettings};

/// Shards, at most; and keys in each, at least.
const SHARDS: usize = 64;
/// Candidates for eviction.
const SAMPLE: usize = 8;

/// Counters of this process.
#[derive(Debug)]
pub struct MemoryStore {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    /// Until when (µs since the Unix epoch) what was counted in place of Redis says anything; 0: nothing was.
    stood_in_until: AtomicU64,
}

#[derive(Debug)]
struct Shard {
    index: HashMap<Arc<str>, usize, RandomState>,
    counters: Vec<Counter>,
    room: usize,
}

#[derive(Debug)]
struct Counter {
    key: Arc<str>,
    /// When it says "full" again (µs since the Unix epoch).
    full_at: u64,
    state: State,
}

impl MemoryStore {
    /// An empty store, bounded as `settings` say.
    pub fn new(settings: MemorySettings) -> Arc<Self> {
        let keys = settings.max_keys.max(1);
        // A power of two, with enough keys in each shard that they fill evenly.
        let count = 1 << (keys / SHARDS).clamp(1, SHARDS).ilog2();
        let hasher = RandomState::new();
        let shard = || Shard { index: HashMap::with_hasher(hasher.clone()), counters: Vec::new(), room: keys / count };
        let shards = (0..count).map(|_| Mutex::new(shard())).collect();
        Arc::new(Self { shards, hasher, stood_in_until: AtomicU64::new(0) })
    }

    /// Settles `charges` at `now` (µs since the Unix epoch) in one step ([`Charge`]). One decision for each, in order.
    pub fn settle(&self, charges: &[Charge<'_>], now: u64) -> Vec<Decision> {
        match charges {
            [] => Vec::new(),
            [charge] => {
                let mut shard = self.shards[self.place(charge.key)].lock();
                let stored = shard.state(charge.key);
                let decisions = settle(std::iter::once(charge.case(stored)), now);
                shard.follow(charge.key, stored, now, &decisions[0]);
                decisions
            }
            _ => self.settle_together(charges, now),
        }
    }

    fn settle_together(&self, charges: &[Charge<'_>], now: u64) -> Vec<Decision> {
        let places: Vec<usize> = charges.iter().map(|charge| self.place(charge.key)).collect();
        let mut order = places.clone();
        order.sort_unstable();
        order.dedup();
        let mut locked: Vec<MutexGuard<'_, Shard>> = order.iter().map(|&place| self.shards[place].lock()).collect();
        // Every place is in `order`.
        let at = |place: &usize| order.partition_point(|other| other < place);

        let states: Vec<_> =
            charges.iter().zip(&places).map(|(charge, place)| locked[at(place)].state(charge.key)).collect();
        let decisions = settle(charges.iter().zip(&states).map(|(charge, stored)| charge.case(*stored)), now);
        for (index, decision) in decisions.iter().enumerate() {
            locked[at(&places[index])].follow(charges[index].key, states[index], now, decision);
        }
        decisions
    }

    /// Charges `units` of `key` at `now` (µs since the Unix epoch) after the fact, whether there is room or not.
    pub fn charge(&self, key: &str, policy: &Policy, units: u64, now: u64) {
        let mut shard = self.shards[self.place(key)].lock();
        let state = policy.charge(shard.state(key).as_ref(), now, units);
        let decision = policy.decide(Some(&state), now, Asked::units(0));
        shard.set(key, state, now.saturating_add(decision.reset_after));
    }

    /// Gives back `units` of `key` that were taken and not spent, at `now` (µs since the Unix epoch), less what time has given
    /// back since `since` ([`Policy::give_back`]).
    pub fn give_back(&self, key: &str, policy: &Policy, since: u64, units: u64, now: u64) {
        let mut shard = self.shards[self.place(key)].lock();
        let Some(stored) = shard.state(key) else { return };
        let left = policy.give_back(Some(&stored), since, now, units);
        let decision = policy.decide(left.as_ref(), now, Asked::units(0));
        shard.set(key, decision.state, now.saturating_add(decision.reset_after));
    }

    /// What is known of `key`.
    pub fn state(&self, key: &str) -> Option<State> {
        self.shards[self.place(key)].lock().state(key)
    }

    /// Another store says that `state` is the state of `key`, until it says "full" again at `full_at` (µs since the Unix
    /// epoch).
    pub fn note(&self, key: &str, state: State, full_at: u64) {
        self.shards[self.place(key)].lock().set(key, state, full_at);
    }

    /// Requests were counted here in place of Redis; that says something until then (µs since the Unix epoch).
    pub fn stand_in(&self, until: u64) {
        self.stood_in_until.fetch_max(until, Ordering::Relaxed);
    }

    /// Whether what was counted here in place of Redis says anything still. `now` (µs since the Unix epoch) is asked only if
    /// it may.
    pub fn stood_in(&self, now: impl FnOnce() -> u64) -> bool {
        let until = self.stood_in_until.load(Ordering::Relaxed);
        if until == 0 {
            return false;
        }
        let says = now() < until;
        if !says {
            // Unless it has begun to stand in again.
            let _ = self.stood_in_until.compare_exchange(until, 0, Ordering::Relaxed, Ordering::Relaxed);
        }
        says
    }

    /// Keys counted now.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().counters.len()).sum()
    }

    fn place(&self, key: &str) -> usize {
        // The upper bits: the table in the shard goes by the lower ones.
        (self.hasher.hash_one(key) >> 48) as usize & (self.shards.len() - 1)
    }
}

impl Shard {
    fn state(&self, key: &str) -> Option<State> {
        self.index.get(key).map(|&at| self.counters[at].state)
    }

    /// Keeps what a decision leaves of a key: where nothing is known, only what says anything.
    fn follow(&mut self, key: &str, stored: Option<State>, now: u64, decision: &Decision) {
        if stored.is_some() || decision.reset_after > 0 {
            self.set(key, decision.state, now.saturating_add(decision.reset_after));
        }
    }

    fn set(&mut self, key: &str, state: State, full_at: u64) {
        if let Some(&at) = self.index.get(key) {
            let counter = &mut self.counters[at];
            (counter.state, counter.full_at) = (state, full_at);
            return;
        }
        let key: Arc<str> = key.into();
        let counter = Counter { key: key.clone(), full_at, state };
        let at = if self.counters.len() < self.room {
            self.counters.push(counter);
            self.counters.len() - 1
        } else {
            let at = self.nearest_to_full();
            let forgotten = std::mem::replace(&mut self.counters[at], counter);
            self.index.remove(&forgotten.key);
            at
        };
        self.index.insert(key, at);
    }

    fn nearest_to_full(&self) -> usize {
        let all = self.counters.len();
        let pick = |nth: usize| if all <= SAMPLE { nth } else { fastrand::usize(..all) };
        (0..all.min(SAMPLE)).map(pick).min_by_key(|&at| self.counters[at].full_at).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate_limit::algorithm::{Asked, Policy, gcra};
    use crate::rate_limit::quota::Quota;

    const NOW: u64 = 1_795_236_000_000_000;

    fn store(max_keys: usize) -> Arc<MemoryStore> {
        MemoryStore::new(MemorySettings { max_keys })
    }

    fn policy() -> Policy {
        Policy::Bucket(gcra::Policy::new(Quota { amount: 10, per: Duration::from_secs(60) }, 10))
    }

    fn spend(store: &MemoryStore, key: &str, times: usize) -> Decision {
        let policy = policy();
        let charges = [Charge::new(key, &policy, Asked::units(1))];
        (0..times).fold(None, |_, _| store.settle(&charges, NOW).pop()).unwrap()
    }

    #[test]
    fn the_store_never_holds_more_keys_than_it_may() {
        for most in [1, 3, 64, 200, 5_000] {
            let store = store(most);
            for client in 0..20_000 {
                spend(&store, &client.to_string(), 1);
            }
            assert!(store.keys() <= most && store.keys() > most * 9 / 10, "{} of {most}", store.keys());
        }
    }

    #[test]
    fn without_room_the_key_nearest_to_full_is_forgotten_first() {
        let store = store(3);
        spend(&store, "half", 5);
        spend(&store, "empty", 10);
        spend(&store, "nearly full", 1);
        spend(&store, "new", 2);
        assert!(!spend(&store, "empty", 1).allowed, "the most spent one is remembered");
        assert_eq!(spend(&store, "half", 1).remaining, 4);
        assert_eq!(spend(&store, "nearly full", 1).remaining, 9, "it was forgotten");
    }

    #[test]
    fn a_flood_of_keys_does_not_free_a_client_that_is_refused() {
        let store = store(1_000);
        spend(&store, "greedy", 10);
        for client in 0..100_000 {
            spend(&store, &client.to_string(), 1);
        }
        assert!(!spend(&store, "greedy", 1).allowed);
    }

    #[test]
    fn what_it_counted_in_place_of_redis_says_something_for_a_while() {
        let store = store(10);
        assert!(!store.stood_in(|| panic!("nobody asks for the time")));
        store.stand_in(NOW + 10);
        store.stand_in(NOW + 5);
        assert!(store.stood_in(|| NOW + 9) && !store.stood_in(|| NOW + 10));
        assert!(!store.stood_in(|| panic!("it is over")));
    }

    #[test]
    fn what_another_store_says_of_a_key_counts() {
        let store = store(10);
        let empty = policy().decide(None, NOW, Asked::units(10));
        store.note("a", empty.state, NOW + empty.reset_after);
        assert!(!spend(&store, "a", 1).allowed);
        assert_eq!((store.state("a"), store.state("b")), (Some(empty.state), None));
    }

    #[test]
    fn threads_that_settle_the_same_limits_in_other_orders_neither_lock_up_nor_overspend() {
        let (store, policy) = (store(10_000), policy());
        let allowed: usize = std::thread::scope(|scope| {
            let run = |turn: usize| {
                let (store, policy) = (&store, &policy);
                scope.spawn(move || {
                    let mut keys = ["a", "b", "c", "d"];
                    keys.rotate_left(turn);
                    let charges = keys.map(|key| Charge::new(key, policy, Asked::units(1)));
                    let settle = |_: &usize| store.settle(&charges, NOW).iter().all(|decision| decision.allowed);
                    (0..1_000).filter(settle).count()
                })
            };
            let threads: Vec<_> = (0..4).map(run).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(allowed, 10);
    }
}
