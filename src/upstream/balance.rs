//! Which of several endpoints a request goes to. Pure.
//!
//! 1. `round-robin`: in turn, each as often as its share says, spread as evenly as can be.
//! 2. `least-requests`: of two drawn by their shares the one with fewer requests under way for its share.
//! 3. `hash`: by a partition key, to the endpoint with the highest score for it (rendezvous hashing, weighted). An
//!    endpoint that goes moves only its own keys, each to the next choice for it; one that comes takes only its own.
//!    Scores depend on key and endpoint alone: every worker, instance and start agrees.
//! 4. A share of 0 is an endpoint that is not to be chosen.
//!
//! # Why
//! To compare all loads sends every worker to the same idle endpoint at once; two drawn at random are known to be enough.
//! A ring of points would have to be built anew whenever an endpoint comes or goes; for the few endpoints of a sidecar a
//! score for each is as quick, and exact. The digest is FNV-1a because it must never change.

use std::cell::Cell;

use crate::rate_limit::partition::Key;

/// `balance`: how an endpoint is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Balance {
    /// In turn.
    #[default]
    RoundRobin,
    /// The less busy of two.
    LeastRequests,
    /// `{ hash = KEY }`: by this key; a request that lacks it: in turn.
    Hash(Key),
}

/// The next endpoint in turn; each has a `credit` that only this function changes.
pub fn round_robin<'c>(
    count: usize,
    share: impl Fn(usize) -> u32,
    credit: impl Fn(usize) -> &'c Cell<i64>,
) -> Option<usize> {
    let mut total = 0;
    let mut richest: Option<usize> = None;
    for at in 0..count {
        let share = i64::from(share(at));
        if share == 0 {
            continue;
        }
        total += share;
        credit(at).set(credit(at).get() + share);
        if richest.is_none_or(|richest| credit(at).get() > credit(richest).get()) {
            richest = Some(at);
        }
    }
    let chosen = richest?;
    credit(chosen).set(credit(chosen).get() - total);
    Some(chosen)
}

/// The less busy of two endpoints drawn with `random`, which makes a number below the one it is given.
pub fn least_requests(
    count: usize,
    share: impl Fn(usize) -> u32,
    active: impl Fn(usize) -> u32,
    mut random: impl FnMut(u64) -> u64,
) -> Option<usize> {
    let mut draw = |without: Option<usize>| {
        let share = |at: usize| if without == Some(at) { 0 } else { u64::from(share(at)) };
        let total: u64 = (0..count).map(share).sum();
        let mut left = if total == 0 { return None } else { random(total) };
        (0..count).find(|at| match left.checked_sub(share(*at)) {
            Some(rest) => {
                left = rest;
                false
            }
            None => true,
        })
    };
    let first = draw(None)?;
    let Some(second) = draw(Some(first)) else { return Some(first) };
    let load = |this: usize, other: usize| (u64::from(active(this)) + 1) * u64::from(share(other));
    Some(if load(second, first) < load(first, second) { second } else { first })
}

/// The endpoint with the highest score for a key's digest; `seed` is the digest of an endpoint's name.
pub fn rendezvous(key: u64, count: usize, share: impl Fn(usize) -> u32, seed: impl Fn(usize) -> u64) -> Option<usize> {
    let score = |at: usize| {
        // In (0, 1): the top 53 bits are what a float holds.
        let unit = ((mixed(key ^ seed(at)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        f64::from(share(at)) / -unit.ln()
    };
    (0..count).filter(|at| share(*at) > 0).max_by(|one, other| score(*one).total_cmp(&score(*other)))
}

/// The digest of a text: FNV-1a, 64 bits, mixed once more.
pub fn digest(text: &[u8]) -> u64 {
    let fnv = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mixed(text.iter().fold(0xcbf2_9ce4_8422_2325, fnv))
}

/// The finalizer of SplitMix64: every bit of the result depends on every bit of the number.
fn mixed(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rounds(shares: &[u32], rounds: usize) -> Vec<usize> {
        let credits = vec![Cell::new(0); shares.len()];
        let turn = |_| round_robin(shares.len(), |at| shares[at], |at| &credits[at]).unwrap();
        (0..rounds).map(turn).collect()
    }

    #[test]
    fn turns_are_exact_and_evenly_spread() {
        assert_eq!(rounds(&[1000, 1000, 1000], 6), [0, 1, 2, 0, 1, 2]);
        assert_eq!(rounds(&[5000, 1000, 1000], 7), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(rounds(&[1000, 0, 1000], 4), [0, 2, 0, 2]);
        assert_eq!(round_robin(2, |_| 0, |_| unreachable!()), None);
    }

    #[test]
    fn of_two_the_idle_one_is_taken_and_weight_counts() {
        let choose = |shares: [u32; 2], active: [u32; 2]| {
            let chosen = |draw| least_requests(2, |at| shares[at], |at| active[at], |most| draw % most).unwrap();
            let of_all: Vec<usize> = (0..2000).step_by(97).map(chosen).collect();
            assert!(of_all.iter().all(|one| *one == of_all[0]), "two of two are always compared: {of_all:?}");
            of_all[0]
        };
        assert_eq!(choose([1000, 1000], [1, 0]), 1);
        assert_eq!(choose([1000, 1000], [0, 7]), 0);
        assert_eq!(choose([1000, 3000], [0, 1]), 1, "two of three places against one of one");
        assert_eq!(choose([1000, 0], [9, 0]), 0);
        assert_eq!(least_requests(2, |_| 0, |_| 0, |_| 0), None);
    }

    #[test]
    fn digests_are_what_they_always_were() {
        // Other instances, and later versions, must agree with this one.
        assert_eq!(digest(b""), mixed(0xcbf2_9ce4_8422_2325));
        assert_eq!(digest(b"http://127.0.0.1:3000"), 0x9440_25ef_f39b_3d47);
    }

    proptest! {
        #[test]
        fn an_endpoint_that_goes_moves_only_its_own_keys(keys in proptest::collection::vec(any::<u64>(), 50), gone in 0..5_usize) {
            let seeds: Vec<u64> = (0..5).map(|number| digest(format!("http://10.0.0.{number}:80").as_bytes())).collect();
            for key in keys {
                let before = rendezvous(key, 5, |_| 1000, |at| seeds[at]).unwrap();
                let after = rendezvous(key, 5, |at| if at == gone { 0 } else { 1000 }, |at| seeds[at]).unwrap();
                prop_assert!(after != gone);
                prop_assert!(before == gone || before == after, "a key of {before} moved to {after} when {gone} went");
            }
        }

        #[test]
        fn turns_are_as_many_as_the_weights_say(weights in proptest::collection::vec(1..9_u32, 1..6)) {
            let total: u32 = weights.iter().sum();
            let turns = rounds(&weights, total as usize);
            for (at, weight) in weights.iter().enumerate() {
                prop_assert_eq!(turns.iter().filter(|turn| **turn == at).count(), *weight as usize);
            }
        }
    }

    #[test]
    fn keys_are_spread_by_weight() {
        let seeds = [b"a", b"b", b"c"].map(|name| digest(name));
        let shares = [1000, 1000, 2000];
        let mut count = [0_u32; 3];
        for key in 0..8000_u64 {
            count[rendezvous(digest(&key.to_be_bytes()), 3, |at| shares[at], |at| seeds[at]).unwrap()] += 1;
        }
        assert!(count[0].abs_diff(2000) < 200 && count[1].abs_diff(2000) < 200, "{count:?}");
        assert!(count[2].abs_diff(4000) < 200, "{count:?}");
    }
}
