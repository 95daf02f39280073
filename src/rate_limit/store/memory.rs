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

use super::super::algorithm::log::Log;
use super::super::algorithm::{Asked, Decision, Policy, State, settle, settle_one};
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
    /// Until when (µs since the Unix epoch) what another store has said says anything.
    noted_until: AtomicU64,
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
    kept: Kept,
}

/// What is kept of a key.
#[derive(Debug)]
enum Kept {
    State(State),
    Log(Box<Log>),
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
        Arc::new(Self { shards, hasher, stood_in_until: AtomicU64::new(0), noted_until: AtomicU64::new(0) })
    }

    /// Settles `charges` at `now` (µs since the Unix epoch) in one step ([`Charge`]). One decision for each, in order.
    pub fn settle(&self, charges: &[Charge<'_>], now: u64) -> Vec<Decision> {
        match charges {
            [] => Vec::new(),
            [charge] => vec![self.settle_one(charge, now)],
            _ => self.settle_together(charges, now),
        }
    }

    /// The same for one.
    pub fn settle_one(&self, charge: &Charge<'_>, now: u64) -> Decision {
        let mut shard = self.shards[self.place(charge.key)].lock();
        let stored = shard.state(charge.key, charge.policy, now, charge.asked);
        let decision = settle_one(charge.case(stored), now);
        shard.follow(charge.key, charge.policy, now, &decision);
        decision
    }

    fn settle_together(&self, charges: &[Charge<'_>], now: u64) -> Vec<Decision> {
        let places: Vec<usize> = charges.iter().map(|charge| self.place(charge.key)).collect();
        let mut order = places.clone();
        order.sort_unstable();
        order.dedup();
        let mut locked: Vec<MutexGuard<'_, Shard>> = order.iter().map(|&place| self.shards[place].lock()).collect();
        // Every place is in `order`.
        let at = |place: &usize| order.partition_point(|other| other < place);

        let known = charges.iter().zip(&places);
        let known = known.map(|(charge, place)| locked[at(place)].state(charge.key, charge.policy, now, charge.asked));
        let known: Vec<_> = known.collect();
        let decisions = settle(charges.iter().zip(&known).map(|(charge, stored)| charge.case(*stored)), now);
        for ((charge, place), decision) in charges.iter().zip(&places).zip(&decisions) {
            locked[at(place)].follow(charge.key, charge.policy, now, decision);
        }
        decisions
    }

    /// Charges `units` of `key` at `now` (µs since the Unix epoch) after the fact, whether there is room or not.
    pub fn charge(&self, key: &str, policy: &Policy, units: u64, now: u64) {
        let mut shard = self.shards[self.place(key)].lock();
        let stored = shard.state(key, policy, now, Asked::units(0));
        let state = policy.charge(stored.as_ref(), now, units);
        let mut decision = policy.decide(Some(&state), now, Asked::units(0));
        decision.state = state;
        shard.follow(key, policy, now, &decision);
    }

    /// Gives back `units` of `key` that were taken and not spent, at `now` (µs since the Unix epoch), less what time has given
    /// back since `since` ([`Policy::give_back`]).
    pub fn give_back(&self, key: &str, policy: &Policy, since: u64, units: u64, now: u64) {
        let of_state = |stored: Option<&State>| policy.give_back(stored, since, now, units);
        self.lessen(key, policy, now, |log| log.remove(since, units), of_state);
    }

    /// Forgets `units` that `key` has spent, whenever that was, at `now` (µs since the Unix epoch; [`Policy::grant`]).
    pub fn grant(&self, key: &str, policy: &Policy, units: u64, now: u64) {
        let of_state = |stored: Option<&State>| policy.grant(stored, now, units);
        self.lessen(key, policy, now, |log| log.forget(units), of_state);
    }

    fn lessen(
        &self,
        key: &str,
        policy: &Policy,
        now: u64,
        of_log: impl FnOnce(&mut Log),
        of_state: impl FnOnce(Option<&State>) -> Option<State>,
    ) {
        let mut shard = self.shards[self.place(key)].lock();
        if let (Policy::Log(policy), Some(Counter { kept: Kept::Log(log), .. })) = (policy, shard.counter(key)) {
            log.reckon(policy, now);
            return of_log(log);
        }
        let stored = shard.state(key, policy, now, Asked::units(0));
        if stored.is_some() {
            let left = of_state(stored.as_ref());
            if left == stored {
                return;
            }
            let decision = policy.decide(left.as_ref(), now, Asked::units(0));
            shard.follow(key, policy, now, &decision);
        }
    }

    /// What is known of `key`; nothing of a log.
    pub fn state(&self, key: &str) -> Option<State> {
        match self.shards[self.place(key)].lock().counter(key)?.kept {
            Kept::State(state) => Some(state),
            Kept::Log(_) => None,
        }
    }

    /// Another store says at `now` that `state` is the state of `key`, until it says "full" again at `full_at` (µs since the
    /// Unix epoch). Of a log it says too little to be kept. While this store stands in, what is known here counts if it is
    /// more: the other has not heard yet of what was counted here since it was asked.
    pub fn note(&self, key: &str, policy: &Policy, state: State, full_at: u64, now: u64) {
        if matches!(state, State::Log(_)) {
            return;
        }
        let mut shard = self.shards[self.place(key)].lock();
        let (mut more, mut until) = (Some(state), full_at);
        if self.stood_in_until.load(Ordering::Relaxed) > 0
            && let Some(Counter { kept: Kept::State(known), full_at, .. }) = shard.counter(key)
        {
            more = policy.more(Some(known), more.as_ref(), now);
            until = until.max(*full_at);
        }
        if let Some(state) = more {
            shard.set(key, until, Kept::State(state));
            self.noted_until.fetch_max(until, Ordering::Relaxed);
        }
    }

    /// Until when (µs since the Unix epoch) what another store has said says anything, at most.
    pub fn noted_until(&self) -> u64 {
        self.noted_until.load(Ordering::Relaxed)
    }

    /// Forgets `key`.
    pub fn forget(&self, key: &str) {
        self.shards[self.place(key)].lock().remove(key);
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
    fn counter(&mut self, key: &str) -> Option<&mut Counter> {
        self.index.get(key).map(|&at| &mut self.counters[at])
    }

    /// What `policy` makes of what is kept of a key, for a request that asks this.
    fn state(&mut self, key: &str, policy: &Policy, now: u64, asked: Asked) -> Option<State> {
        match (&mut self.counter(key)?.kept, policy) {
            (Kept::State(state), _) => Some(*state),
            (Kept::Log(log), Policy::Log(policy)) => {
                log.reckon(policy, now);
                Some(State::Log(log.state(policy, now, asked)))
            }
            (Kept::Log(_), _) => None,
        }
    }

    /// Keeps what a decision leaves of a key: where nothing is known, only what says anything.
    fn follow(&mut self, key: &str, policy: &Policy, now: u64, decision: &Decision) {
        if decision.reset_after == 0 && self.counter(key).is_none() {
            return;
        }
        let full_at = now.saturating_add(decision.reset_after);
        match (policy, decision.state) {
            (Policy::Log(policy), State::Log(state)) => self.log(key, full_at, |log| log.add(policy, now, state.added)),
            (_, state) => self.set(key, full_at, Kept::State(state)),
        }
    }

    fn log(&mut self, key: &str, full_at: u64, change: impl FnOnce(&mut Log)) {
        if let Some(Counter { kept: Kept::Log(log), full_at: until, .. }) = self.counter(key) {
            *until = full_at;
            return change(log);
        }
        let mut log = Log::default();
        change(&mut log);
        self.set(key, full_at, Kept::Log(Box::new(log)));
    }

    fn set(&mut self, key: &str, full_at: u64, kept: Kept) {
        if let Some(counter) = self.counter(key) {
            (counter.kept, counter.full_at) = (kept, full_at);
            return;
        }
        let key: Arc<str> = key.into();
        let counter = Counter { key: key.clone(), full_at, kept };
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

    fn remove(&mut self, key: &str) {
        let Some(at) = self.index.remove(key) else { return };
        self.counters.swap_remove(at);
        if let Some(moved) = self.counters.get(at) {
            self.index.insert(moved.key.clone(), at);
        }
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
    use crate::rate_limit::algorithm::{Asked, Policy, fixed, gcra};
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
        store.note("a", &policy(), empty.state, NOW + empty.reset_after, NOW);
        assert!(!spend(&store, "a", 1).allowed);
        assert_eq!((store.state("a"), store.state("b")), (Some(empty.state), None));
    }

    #[test]
    fn what_another_store_says_late_takes_nothing_back_of_what_was_counted_in_its_place() {
        let policies =
            [policy(), Policy::Fixed(fixed::Policy::new(Quota { amount: 10, per: Duration::from_secs(60) }, None))];
        for policy in policies {
            let store = store(10);
            let charges = [Charge::new("a", &policy, Asked::units(1))];
            let left = || store.settle(&charges, NOW).pop().unwrap().remaining;
            let six = policy.decide(None, NOW, Asked::units(6));
            let says_six = || store.note("a", &policy, six.state, NOW + six.reset_after, NOW);
            says_six();
            assert_eq!([left(), left()], [3, 2]);
            says_six();
            assert_eq!(left(), 3, "while the other counts, it knows best");
            store.stand_in(NOW + 60_000_000);
            assert_eq!([left(), left()], [2, 1]);
            says_six();
            assert_eq!(left(), 0);
        }
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
