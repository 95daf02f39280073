//! What every store of counters promises.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::rate_limit::algorithm::{Asked, Decision, Policy, gcra};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::store::memory::MemoryStore;
use sidegate::rate_limit::store::redis::{Counters, SCRIPTS, read};
use sidegate::rate_limit::store::{Charge, MemorySettings};
use sidegate::rate_limit::{Algorithm, Counting};
use sidegate::redis_pool::Link;

use crate::redis_server::RedisServer;
use crate::{link, on_a_worker};

pub const NOW: u64 = 1_795_236_000_000_000;

enum Store {
    Memory(Arc<MemoryStore>),
    Redis(Link),
}

impl Store {
    async fn settle(&self, charges: &[Charge<'_>], now: u64) -> Vec<Decision> {
        match self {
            Self::Memory(store) => store.settle(charges, now),
            Self::Redis(link) => {
                let mut pipeline = Pipeline::new();
                counters(Some(now)).ask(&mut pipeline, charges, &[], false);
                let values = link.query(&pipeline).await.expect("Redis answers");
                decisions(charges, &values[0]).1
            }
        }
    }

    async fn charge(&self, key: &str, policy: &Policy, units: u64, now: u64) {
        match self {
            Self::Memory(store) => store.charge(key, policy, units, now),
            Self::Redis(link) => {
                let mut pipeline = Pipeline::new();
                counters(Some(now)).charge(&mut pipeline, key, policy, units);
                link.query(&pipeline).await.expect("Redis answers");
            }
        }
    }

    async fn grant(&self, key: &str, policy: &Policy, units: u64, now: u64) {
        match self {
            Self::Memory(store) => store.grant(key, policy, units, now),
            Self::Redis(link) => {
                let mut pipeline = Pipeline::new();
                counters(Some(now)).grant(&mut pipeline, key, policy, units);
                link.query(&pipeline).await.expect("Redis answers");
            }
        }
    }

    async fn give_back(&self, key: &str, policy: &Policy, since: u64, units: u64, now: u64) {
        match self {
            Self::Memory(store) => store.give_back(key, policy, since, units, now),
            Self::Redis(link) => {
                let mut pipeline = Pipeline::new();
                counters(Some(now)).give_back(&mut pipeline, key, policy, since, units);
                link.query(&pipeline).await.expect("Redis answers");
            }
        }
    }
}

/// Runs the same over memory and over Redis.
fn over_both(run: impl AsyncFn(Store)) {
    on_a_worker(run(Store::Memory(MemoryStore::new(MemorySettings::default()))));
    on_a_worker(async {
        let server = RedisServer::start();
        run(Store::Redis(link(&server, &SCRIPTS).await)).await;
    });
}

pub fn policy(amount: u64, seconds: u64, burst: u64) -> Policy {
    Policy::Bucket(gcra::Policy::new(Quota { amount, per: Duration::from_secs(seconds) }, burst))
}

fn counting(algorithm: Algorithm, amount: u64, seconds: u64) -> Policy {
    let quota = Quota { amount, per: Duration::from_secs(seconds) };
    Policy::new(&Counting { algorithm, quota, burst: amount, calendar: None })
}

pub fn counters(now: Option<u64>) -> Counters<'static> {
    Counters { prefix: "sidegate:", here: now.unwrap_or(NOW), there: now }
}

pub fn decisions(charges: &[Charge<'_>], value: &Value) -> (u64, Vec<Decision>) {
    let settled =
        read(charges.iter().copied(), std::slice::from_ref(value)).unwrap_or_else(|why| panic!("{why}: {value:?}"));
    (settled.now, settled.decisions)
}

#[test]
fn a_burst_passes_then_one_for_each_interval() {
    over_both(async |store| {
        let policy = policy(6, 60, 3);
        let charge = [Charge::new("per-address:192.0.2.1", &policy, Asked::units(1))];
        for remaining in [2, 1, 0] {
            let decision = store.settle(&charge, NOW).await[0];
            assert_eq!((decision.allowed, decision.remaining), (true, remaining));
        }
        for _ in 0..5 {
            let refused = store.settle(&charge, NOW).await[0];
            assert_eq!((refused.allowed, refused.retry_after, refused.reset_after), (false, 10_000_000, 30_000_000));
        }
        assert!(!store.settle(&charge, NOW + 9_999_999).await[0].allowed);
        assert!(store.settle(&charge, NOW + 10_000_000).await[0].allowed);
        assert_eq!(store.settle(&charge, NOW + 3_600_000_000).await[0].remaining, 2);
    });
}

const ALGORITHMS: [Algorithm; 4] =
    [Algorithm::TokenBucket, Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::SlidingLog];

#[test]
fn every_algorithm_gives_the_quota_and_then_passes_exactly_when_told() {
    over_both(async |store| {
        for algorithm in ALGORITHMS {
            let policy = counting(algorithm, 5, 10);
            let key = format!("{algorithm:?}:a");
            let charge = [Charge::new(&key, &policy, Asked::units(1))];
            for remaining in (0..5).rev() {
                let decision = store.settle(&charge, NOW).await[0];
                assert_eq!((decision.allowed, decision.remaining), (true, remaining), "{algorithm:?}");
            }
            let refused = store.settle(&charge, NOW).await[0];
            assert!(!refused.allowed && refused.retry_after > 0, "{algorithm:?}");
            assert!(!store.settle(&charge, NOW + refused.retry_after - 1).await[0].allowed, "{algorithm:?}");
            assert!(store.settle(&charge, NOW + refused.retry_after).await[0].allowed, "{algorithm:?}");
            let never = [Charge::new(&key, &policy, Asked::units(6))];
            assert_eq!(store.settle(&never, NOW + 60_000_000).await[0].retry_after, u64::MAX, "{algorithm:?}");
        }
    });
}

#[test]
fn what_is_checked_before_and_charged_after_may_leave_a_debt_of_one_more_burst() {
    over_both(async |store| {
        for algorithm in ALGORITHMS {
            let policy = counting(algorithm, 5, 10).owing();
            let key = format!("{algorithm:?}:a");
            let check = [Charge::new(&key, &policy, Asked { take: 0, ..Asked::units(1) })];
            for _ in 0..20 {
                assert!(store.settle(&check, NOW).await[0].allowed, "{algorithm:?}: nothing is charged");
            }
            store.charge(&key, &policy, 1_000, NOW).await;
            let refused = store.settle(&check, NOW).await[0];
            assert!(!refused.allowed && refused.remaining == 0, "{algorithm:?}");
            assert!(refused.retry_after <= 20_000_000, "{algorithm:?}: {}", refused.retry_after);
            assert!(store.settle(&check, NOW + refused.retry_after).await[0].allowed, "{algorithm:?}");
        }
    });
}

#[test]
fn a_limit_in_shadow_stops_nobody_and_one_that_charges_refused_requests_does_so() {
    over_both(async |store| {
        for algorithm in ALGORITHMS {
            let (policy, wide) = (counting(algorithm, 2, 10), counting(algorithm, 9, 10));
            let (key, other) = (format!("{algorithm:?}:shadow"), format!("{algorithm:?}:even"));
            let shadow = Charge { binding: false, ..Charge::new(&key, &policy, Asked::units(1)) };
            let even = Charge { even_if_refused: true, ..Charge::new(&other, &wide, Asked::units(1)) };
            let mut seen = Vec::new();
            for _ in 0..12 {
                let decisions = store.settle(&[shadow, even], NOW).await;
                seen.push((decisions[0].allowed, decisions[1].allowed, decisions[1].remaining));
            }
            let expected = (0..12).map(|turn: u64| (turn < 2, turn < 9, 8u64.saturating_sub(turn)));
            assert_eq!(seen, expected.collect::<Vec<_>>(), "{algorithm:?}");

            // Who does not stop stays out.
            let (first, again) = (store.settle(&[even], NOW).await[0], NOW + 1_000_000);
            let second = store.settle(&[even], again).await[0];
            assert!(!second.allowed && second.retry_after >= first.retry_after.min(1_111_111), "{algorithm:?}");
        }
    });
}

#[test]
fn a_lease_is_taken_while_there_is_room_for_twice_as_much_and_what_is_left_of_it_goes_back() {
    over_both(async |store| {
        for algorithm in [Algorithm::TokenBucket, Algorithm::FixedWindow] {
            let policy = counting(algorithm, 100, 10).leased(Duration::from_millis(200));
            let key = format!("{algorithm:?}:a");
            let ask = |lease| [Charge::new(&key, &policy, Asked { lease, ..Asked::units(1) })];
            let decision = store.settle(&ask(20), NOW).await[0];
            // Of a bucket two units are what is earned while the lease lives.
            let left = if algorithm == Algorithm::TokenBucket { 77 } else { 79 };
            assert_eq!((decision.allowed, decision.leased, decision.remaining), (true, 20, left), "{algorithm:?}");
            assert_eq!(store.settle(&ask(40), NOW).await[0].leased, 0, "{algorithm:?}: half of what is left at most");
            store.give_back(&key, &policy, NOW, 15, NOW).await;
            assert_eq!(store.settle(&ask(0), NOW).await[0].remaining, left - 1 + 15 - 1, "{algorithm:?}");
        }
    });
}

#[test]
fn what_is_granted_is_there_at_once_whenever_it_was_spent_and_no_more_than_that() {
    over_both(async |store| {
        for algorithm in ALGORITHMS {
            let policy = counting(algorithm, 10, 10);
            let key = format!("{algorithm:?}:granted");
            let window = policy.longest(NOW);
            let spend = |units: u64| [Charge::new(&key, &policy, Asked::units(units))];
            let look = [Charge::new(&key, &policy, Asked::units(1).look())];
            assert!(store.settle(&spend(6), NOW).await[0].allowed);
            assert!(store.settle(&spend(4), NOW + 7).await[0].allowed);
            store.grant(&key, &policy, 5, NOW + window / 100).await;
            let left = store.settle(&look, NOW + window / 100).await[0].remaining;
            assert_eq!(left, 5, "{algorithm:?}: four of the newest, and one older");
            store.grant(&key, &policy, 1_000, NOW + window / 100).await;
            assert_eq!(store.settle(&look, NOW + window / 100).await[0].remaining, 10, "{algorithm:?}");
        }
    });
}

#[test]
fn what_is_granted_of_the_window_before_makes_up_for_the_share_of_it_that_counts() {
    over_both(async |store| {
        let policy = counting(Algorithm::SlidingWindow, 10, 10);
        let Policy::Sliding(sliding) = &policy else { panic!("a sliding window") };
        let (key, window) = ("before", sliding.window());
        let start = sliding.end(NOW) - window;
        assert!(store.settle(&[Charge::new(key, &policy, Asked::units(10))], start).await[0].allowed);
        // Half of the next window has passed: half of the ten counts, and two are spent there.
        let now = start + window + window / 2;
        assert_eq!(store.settle(&[Charge::new(key, &policy, Asked::units(2))], now).await[0].remaining, 3);
        store.grant(key, &policy, 4, now).await;
        let look = [Charge::new(key, &policy, Asked::units(1).look())];
        assert_eq!(store.settle(&look, now).await[0].remaining, 7, "both of these, and two that count of the others");
        store.grant(key, &policy, 9, now).await;
        assert_eq!(store.settle(&look, now).await[0].remaining, 10);
    });
}

#[test]
fn a_request_beyond_the_burst_waits_for_its_turn_and_no_longer_than_it_may() {
    over_both(async |store| {
        let policy = policy(10, 10, 2).delaying(Duration::from_secs(3));
        let charge = [Charge::new("a:b", &policy, Asked::units(1))];
        let mut waits = Vec::new();
        for _ in 0..7 {
            let decision = store.settle(&charge, NOW).await[0];
            waits.push((decision.allowed, decision.delay / 1_000_000, decision.retry_after / 1_000_000));
        }
        let passes = [(true, 0, 0), (true, 0, 0), (true, 1, 0), (true, 2, 0), (true, 3, 0)];
        assert_eq!(waits, [&passes[..], &[(false, 0, 1); 2]].concat());
    });
}

#[test]
fn a_state_that_another_quota_left_is_cut_for_good() {
    over_both(async |store| {
        for algorithm in ALGORITHMS {
            let (slow, fast) = (counting(algorithm, 50, 3600), counting(algorithm, 10, 1));
            let key = format!("{algorithm:?}:a");
            store.settle(&[Charge::new(&key, &slow, Asked::units(50))], NOW).await;
            let all = [Charge::new(&key, &fast, Asked::units(10))];
            let refused = store.settle(&all, NOW).await[0];
            assert!(!refused.allowed && refused.retry_after <= 2_000_000, "{algorithm:?}: {}", refused.retry_after);
            assert!(store.settle(&all, NOW + refused.retry_after).await[0].allowed, "{algorithm:?}");
        }
    });
}

#[test]
fn a_clock_that_is_set_back_strands_nobody() {
    over_both(async |store| {
        for algorithm in ALGORITHMS {
            let policy = counting(algorithm, 5, 10);
            let key = format!("{algorithm:?}:a");
            let all = [Charge::new(&key, &policy, Asked::units(5))];
            assert!(store.settle(&all, NOW + 86_400_000_000).await[0].allowed, "{algorithm:?}");
            let refused = store.settle(&all, NOW).await[0];
            assert!(!refused.allowed && refused.retry_after <= 20_000_000, "{algorithm:?}: {}", refused.retry_after);
            assert!(store.settle(&all, NOW + refused.retry_after).await[0].allowed, "{algorithm:?}");
        }
    });
}

#[test]
fn keys_and_limits_are_counted_apart() {
    over_both(async |store| {
        let policy = policy(1, 60, 1);
        for key in ["per-address:192.0.2.1", "per-address:192.0.2.2", "login:192.0.2.1"] {
            let charge = [Charge::new(key, &policy, Asked::units(1))];
            assert!(store.settle(&charge, NOW).await[0].allowed, "{key}");
            assert!(!store.settle(&charge, NOW).await[0].allowed, "{key}");
        }
    });
}

#[test]
fn when_one_limit_refuses_none_is_charged() {
    over_both(async |store| {
        let (wide, narrow) = (policy(10, 60, 10), policy(2, 60, 2));
        let both = [Charge::new("wide:a", &wide, Asked::units(1)), Charge::new("narrow:a", &narrow, Asked::units(1))];
        for turn in 0..20 {
            let remaining: Vec<u64> =
                store.settle(&both, NOW).await.iter().map(|decision| decision.remaining).collect();
            let spent = (turn + 1).min(2);
            assert_eq!(remaining, [10 - spent, 2 - spent], "turn {turn}");
        }
        assert_eq!(store.settle(&both[..1], NOW).await[0].remaining, 7);
    });
}

#[test]
fn the_same_key_twice_in_one_request_neither_locks_up_nor_panics() {
    over_both(async |store| {
        let policy = policy(10, 60, 10);
        let charge = Charge::new("a:b", &policy, Asked::units(1));
        assert_eq!(store.settle(&[charge, charge], NOW).await.len(), 2);
    });
}

#[test]
fn a_state_left_by_a_slower_policy_strands_nobody() {
    over_both(async |store| {
        let (hourly, fast) = (policy(1, 3600, 24), policy(100, 1, 10));
        store.settle(&[Charge::new("a:b", &hourly, Asked::units(24))], NOW).await;
        let decision = store.settle(&[Charge::new("a:b", &fast, Asked::units(1))], NOW).await[0];
        assert_eq!((decision.allowed, decision.retry_after), (false, 10_000));
    });
}

pub fn load(connection: &mut redis::Connection) {
    SCRIPTS.iter().for_each(|script| redis::cmd("SCRIPT").arg("LOAD").arg(script).exec(connection).unwrap());
}

#[test]
fn settled_apart_a_refusal_by_one_limit_leaves_the_others_as_they_were() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &SCRIPTS).await;
        let (wide, narrow) = (policy(10, 60, 10), policy(2, 60, 2));
        let both = [Charge::new("wide:a", &wide, Asked::units(1)), Charge::new("narrow:a", &narrow, Asked::units(1))];
        for turn in 0..20 {
            let mut pipeline = Pipeline::new();
            assert_eq!(counters(Some(NOW)).ask(&mut pipeline, &both, &[], true), 2);
            let settled = read(both.iter().copied(), &link.query(&pipeline).await.unwrap()).unwrap();
            let remaining: Vec<u64> = settled.decisions.iter().map(|decision| decision.remaining).collect();
            let spent = (turn + 1).min(2);
            assert_eq!((settled.now, remaining), (NOW, vec![10 - spent, 2 - spent]), "turn {turn}");
            assert_eq!(settled.refunds.len(), usize::from(turn >= 2));
            let mut pipeline = Pipeline::new();
            for (index, since) in settled.refunds {
                let Charge { key, policy, .. } = both[index];
                counters(Some(NOW)).give_back(&mut pipeline, key, policy, since, 1);
            }
            assert!(link.query(&pipeline).await.unwrap().iter().all(|value| *value == Value::Int(1)));
        }
    });
}

#[test]
fn every_key_expires_once_it_would_say_full_and_time_comes_from_redis() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &SCRIPTS).await;
        let policy = policy(10, 60, 10);
        let charges = [Charge::new("per-address:192.0.2.1", &policy, Asked::units(5))];
        let mut pipeline = Pipeline::new();
        counters(None).ask(&mut pipeline, &charges, &[], false);
        pipeline.cmd("PTTL").arg("sidegate:limit:{per-address:192.0.2.1}");
        pipeline.cmd("TIME");
        let values = link.query(&pipeline).await.unwrap();

        let (now, decisions) = decisions(&charges, &values[0]);
        let Value::Int(life) = values[1] else { panic!("{values:?}") };
        assert!((25_000..=31_001).contains(&life), "{life}");
        assert_eq!(decisions[0].remaining, 5);
        let (seconds, micros): (u64, u64) = redis::from_redis_value(values[2].clone()).unwrap();
        assert!((seconds * 1_000_000 + micros).abs_diff(now) < 1_000_000);
    });
}

#[test]
fn a_key_of_another_type_is_an_error_and_not_a_decision() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &SCRIPTS).await;
        let policy = policy(10, 60, 10);
        let charges = [Charge::new("a:b", &policy, Asked::units(1))];
        let mut pipeline = Pipeline::new();
        pipeline.cmd("LPUSH").arg("sidegate:limit:{a:b}").arg("x");
        counters(None).ask(&mut pipeline, &charges, &[], false);
        let values = link.query(&pipeline).await.unwrap();
        assert_eq!(read(charges.into_iter(), &values[1..]), Err("wrongtype"));
        assert!(link.is_up());
    });
}
