//! Requests in flight in this process, shared by all workers.
//!
//! 1. Keys are spread over shards, each behind a lock of its own. The limits of one request are settled in one step: their
//!    shards are locked together, in order.
//! 2. A key is here for as long as a request is in flight under it. There are thus never more keys than requests in flight
//!    times the limits of a route, and `[server]` bounds the former (connections, streams).

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use parking_lot::{Mutex, MutexGuard};

use super::room::{Wanted, passes};

const SHARDS: usize = 32;

type Shard = HashMap<Arc<str>, u64, RandomState>;

/// How many requests are in flight in this process.
#[derive(Debug)]
pub struct Counts {
    shards: Box<[Mutex<Shard>]>,
    hasher: RandomState,
    requests: AtomicU64,
}

impl Counts {
    /// None is.
    pub fn new() -> Arc<Self> {
        let hasher = RandomState::new();
        let shard = || Mutex::new(Shard::with_hasher(hasher.clone()));
        Arc::new(Self { shards: (0..SHARDS).map(|_| shard()).collect(), hasher, requests: AtomicU64::new(0) })
    }

    /// Takes a place under each of `wanted` that has room or, if one that refuses has none, under none. How many were in
    /// flight before, one for each, in order.
    pub fn settle(&self, wanted: &[Wanted<'_>]) -> Vec<u64> {
        let places: Vec<usize> = wanted.iter().map(|wanted| self.place(wanted.key)).collect();
        let mut order = places.clone();
        order.sort_unstable();
        order.dedup();
        let mut locked: Vec<MutexGuard<'_, Shard>> = order.iter().map(|&place| self.shards[place].lock()).collect();
        // Every place is in `order`.
        let at = |place: &usize| order.partition_point(|other| other < place);

        let count = |(wanted, place): (&Wanted<'_>, &usize)| locked[at(place)].get(wanted.key).copied().unwrap_or(0);
        let before: Vec<u64> = wanted.iter().zip(&places).map(count).collect();
        if passes(wanted.iter().copied().zip(before.iter().copied())) {
            for ((wanted, place), &before) in wanted.iter().zip(&places).zip(&before) {
                if wanted.has_room(before) {
                    locked[at(place)].insert(wanted.key.clone(), before + 1);
                }
            }
        }
        before
    }

    /// Gives back a place that was taken under `key`.
    pub fn give_back(&self, key: &str) {
        let mut shard = self.shards[self.place(key)].lock();
        if let Some(count) = shard.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                shard.remove(key);
            }
        }
    }

    /// Keys under which requests are in flight.
    pub fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().len()).sum()
    }

    /// A number that no other request of this process has.
    pub(super) fn number(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed)
    }

    fn place(&self, key: &str) -> usize {
        // The upper bits: the table in the shard goes by the lower ones.
        (self.hasher.hash_one(key) >> 48) as usize & (SHARDS - 1)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn keys(names: &[&str]) -> Vec<Arc<str>> {
        names.iter().map(|&name| name.into()).collect()
    }

    fn wanted<'a>(keys: &'a [Arc<str>], most: u64) -> Vec<Wanted<'a>> {
        keys.iter().map(|key| Wanted { key, most, life: Duration::from_secs(1), refuses: true }).collect()
    }

    #[test]
    fn a_request_takes_all_of_its_places_or_none_and_gives_back_what_it_took() {
        let counts = Counts::new();
        let (both, one) = (keys(&["a", "b"]), keys(&["b"]));
        assert_eq!(counts.settle(&wanted(&one, 1)), [0]);
        assert_eq!(counts.settle(&wanted(&both, 1)), [0, 1], "refused: nothing is taken");
        assert_eq!(counts.settle(&wanted(&both, 2)), [0, 1]);
        assert_eq!((counts.settle(&wanted(&both, 2)), counts.keys()), (vec![1, 2], 2));
        for key in ["a", "b", "b"] {
            counts.give_back(key);
        }
        assert_eq!((counts.keys(), counts.settle(&wanted(&both, 1))), (0, vec![0, 0]));
    }

    #[test]
    fn what_only_watches_is_never_counted_beyond_its_most() {
        let (counts, both) = (Counts::new(), keys(&["watched", "free"]));
        let mut wanted = wanted(&both, 1);
        wanted[0].refuses = false;
        wanted[1].most = 9;
        assert_eq!([(); 3].map(|()| counts.settle(&wanted)), [[0, 0], [1, 1], [1, 2]]);
    }

    #[test]
    fn threads_that_come_and_go_in_other_orders_neither_lock_up_nor_let_too_many_in() {
        let (counts, most) = (Counts::new(), AtomicU64::new(0));
        let here = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for turn in 0..4 {
                let (counts, most, here) = (&counts, &most, &here);
                scope.spawn(move || {
                    let mut names = ["a", "b", "c", "d"];
                    names.rotate_left(turn);
                    let keys = keys(&names);
                    for _ in 0..2_000 {
                        let wanted = wanted(&keys, 2);
                        let before = counts.settle(&wanted);
                        if passes(wanted.iter().copied().zip(before)) {
                            most.fetch_max(here.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                            here.fetch_sub(1, Ordering::SeqCst);
                            keys.iter().for_each(|key| counts.give_back(key));
                        }
                    }
                });
            }
        });
        assert!((1..=2).contains(&most.into_inner()) && counts.keys() == 0);
    }
}
