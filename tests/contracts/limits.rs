//! What every store of counters promises.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::rate_limit::algorithm::gcra::{self, Time};
use sidegate::rate_limit::algorithm::{Asked, Case, Decision, Policy, State, settle};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::store::memory::MemoryStore;
use sidegate::rate_limit::store::redis::{SCRIPTS, ask, give_back, read};
use sidegate::rate_limit::store::{Charge, MemorySettings};
use sidegate::redis_pool::Link;

use crate::redis_server::RedisServer;
use crate::{link, on_a_worker};

/// What one limit is asked: which key, which policy, what cost.
type Limited = (usize, usize, u64);

/// When, what, and how far ahead of that the states are at least.
type Step = (u64, Vec<Limited>, Vec<Time>);

const NOW: u64 = 1_795_236_000_000_000;

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
                ask(&mut pipeline, "sidegate:", charges, &[], Some(now), false);
                let values = link.query(&pipeline).await.expect("Redis answers");
                decisions(charges, &values[0]).1
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

fn policy(amount: u64, seconds: u64, burst: u64) -> Policy {
    Policy::Bucket(gcra::Policy::new(Quota { amount, per: Duration::from_secs(seconds) }, burst))
}

fn of_bucket(policy: &Policy) -> &gcra::Policy {
    let Policy::Bucket(policy) = policy;
    policy
}

fn arrival(decision: &Decision) -> Time {
    let State::Bucket(state) = decision.state;
    state.arrival
}

fn state(arrival: Time) -> State {
    State::Bucket(gcra::State { arrival, until: 0 })
}

fn decisions(charges: &[Charge<'_>], value: &Value) -> (u64, Vec<Decision>) {
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

/// The Lua script against the pure algorithm: long random sequences, in one pipeline each so that no key expires in between.
#[test]
fn lua_decides_what_rust_decides_over_long_random_sequences() {
    let server = RedisServer::start();
    let mut connection = server.client().get_connection().unwrap();
    load(&mut connection);
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let mut refusals = 0;
    for round in 0..60 {
        let one_of = |numbers: &[u64]| numbers[fastrand::usize(..numbers.len())];
        let some = || {
            let amount = one_of(&[1, 3, 7, 13, 100, 999, 100_000, 700_000, 3_000_000]);
            policy(amount, one_of(&[1, 7, 60, 3_600, 2_592_000]), fastrand::u64(1..40))
        };
        // The second policy stands for the first one's after a reload.
        let policies = [some(), some(), some()];
        let mut now = NOW + fastrand::u64(..1_000_000);
        let steps: Vec<Step> = (0..400)
            .map(|turn| {
                let longest = of_bucket(&policies[fastrand::usize(..3)]).span(fastrand::u64(1..4)).micros;
                now += one_of(&[0, 0, 1, fastrand::u64(..=longest), longest]);
                // Keys differ within a request.
                let limits = (0..3).filter(|_| fastrand::bool()).map(|key| {
                    let policy = if key == 0 { fastrand::usize(..2) } else { key };
                    (key, policy, fastrand::u64(1..3))
                });
                let limits: Vec<_> = limits.collect();
                let floors = limits.iter().filter(|_| turn % 3 == 0).map(|&(_, policy, _)| Time {
                    micros: one_of(&[0, 1, fastrand::u64(..=longest), longest]),
                    part: one_of(&[0, 1, 6, 2_999_999]).min(of_bucket(&policies[policy]).parts() - 1),
                });
                let floors = floors.collect();
                // A clock may also be set back.
                (now - one_of(&[0, 0, 0, 1, longest.min(NOW / 2)]), limits, floors)
            })
            .filter(|(_, limits, _)| !limits.is_empty())
            .collect();
        let keys = [0, 1, 2].map(|key| format!("r{round}:{key}"));
        let charges = |limits: &[Limited]| -> Vec<Charge<'_>> {
            let charge =
                |&(key, policy, cost): &Limited| Charge::new(&keys[key], &policies[policy], Asked::units(cost));
            limits.iter().map(charge).collect()
        };

        let mut pipeline = redis::pipe();
        for (now, limits, floors) in &steps {
            assert_eq!(ask(&mut pipeline, "sidegate:", &charges(limits), floors, Some(*now), false), 1);
        }
        let answers: Vec<Value> = pipeline.query(&mut connection).unwrap();

        let mut states: [Option<Time>; 3] = [None; 3];
        for (step, ((now, limits, floors), answer)) in steps.iter().zip(&answers).enumerate() {
            let judged = limits.iter().enumerate().map(|(index, &(key, policy, cost))| {
                let floor = floors.get(index).map(|floor| Time { micros: now + floor.micros, ..*floor });
                let (policy, stored) = (&policies[policy], states[key].max(floor).map(state));
                let asked = Asked::units(cost);
                Case { policy, stored, asked, binding: true, even_if_refused: false }
            });
            let expected = settle(judged, *now);
            assert_eq!(
                decisions(&charges(limits), answer),
                (*now, expected.clone()),
                "seed {seed}, round {round}, step {step}, {policies:?} {limits:?} {floors:?} {states:?}"
            );
            if expected.iter().all(|decision| decision.allowed) {
                limits.iter().zip(&expected).for_each(|((key, ..), decision)| states[*key] = Some(arrival(decision)));
            } else {
                refusals += 1;
                // What was counted elsewhere is known from now on.
                for (((key, ..), decision), floor) in limits.iter().zip(&expected).zip(floors) {
                    let floor = Time { micros: now + floor.micros, ..*floor };
                    if states[*key].is_none_or(|known| known < floor) && floor.after(*now) > 0 {
                        states[*key] = Some(arrival(decision));
                    }
                }
            }
        }
    }
    assert!(refusals > 1_000, "the sequences refuse now and then: {refusals}");
}

fn load(connection: &mut redis::Connection) {
    SCRIPTS.iter().for_each(|script| redis::cmd("SCRIPT").arg("LOAD").arg(script).exec(connection).unwrap());
}

#[test]
fn lua_takes_back_what_rust_takes_back_over_long_random_sequences() {
    let server = RedisServer::start();
    let mut connection = server.client().get_connection().unwrap();
    load(&mut connection);
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let one_of = |numbers: &[u64]| numbers[fastrand::usize(..numbers.len())];
    let (mut back, mut gone) = (0, 0);
    for round in 0..60 {
        let policy = policy(one_of(&[1, 7, 13, 999, 700_000, 3_000_000]), one_of(&[1, 7, 60, 3_600]), 30);
        let (key, interval) = (format!("r{round}:a"), of_bucket(&policy).span(1).micros.max(4));
        let charge = Charge::new(&key, &policy, Asked::units(1));
        let (mut now, mut state, mut owed) = (NOW, None::<Time>, Vec::new());
        let mut pipeline = redis::pipe();
        let mut expected = Vec::new();
        for _ in 0..200 {
            now += one_of(&[0, 0, 1, fastrand::u64(..interval / 2), fastrand::u64(..3 * interval)]);
            if !owed.is_empty() && fastrand::bool() {
                let taken_at = owed.swap_remove(fastrand::usize(..owed.len()));
                give_back(&mut pipeline, "sidegate:", &key, &policy, taken_at, 1, Some(now));
                let left =
                    policy.give_back(state.map(crate::limits::state).as_ref(), taken_at, now, 1).map(
                        |left| match left {
                            State::Bucket(state) => state.arrival,
                        },
                    );
                back += u32::from(left != state);
                gone += u32::from(left.is_none());
                state = left;
            } else {
                ask(&mut pipeline, "sidegate:", &[charge], &[], Some(now), false);
                let decision = policy.decide(state.map(crate::limits::state).as_ref(), now, Asked::units(1));
                if decision.allowed {
                    state = Some(arrival(&decision));
                    owed.push(now);
                }
            }
            pipeline.cmd("GET").arg(format!("sidegate:limit:{{{key}}}"));
            expected.push((now, state));
        }
        let answers: Vec<Value> = pipeline.query(&mut connection).unwrap();
        for (step, (said, (now, expected))) in answers.chunks(2).zip(expected).enumerate() {
            let kept: Option<String> = redis::from_redis_value(said[1].clone()).unwrap();
            let kept = kept.map(|text| {
                let (micros, part) = text.split_once(':').expect("µs and a part");
                Time { micros: micros.parse().unwrap(), part: part.parse().unwrap() }
            });
            // What says "full" may stay until it expires.
            let [kept, expected] = [kept, expected].map(|state| state.filter(|state| state.after(now) > 0));
            assert_eq!(kept, expected, "seed {seed}, round {round}, step {step}, {policy:?}");
        }
    }
    assert!(back > 1_000 && gone > 100, "{back} {gone}");
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
            assert_eq!(ask(&mut pipeline, "sidegate:", &both, &[], Some(NOW), true), 2);
            let settled = read(both.iter().copied(), &link.query(&pipeline).await.unwrap()).unwrap();
            let remaining: Vec<u64> = settled.decisions.iter().map(|decision| decision.remaining).collect();
            let spent = (turn + 1).min(2);
            assert_eq!((settled.now, remaining), (NOW, vec![10 - spent, 2 - spent]), "turn {turn}");
            assert_eq!(settled.refunds.len(), usize::from(turn >= 2));
            let mut pipeline = Pipeline::new();
            for (index, since) in settled.refunds {
                let Charge { key, policy, .. } = both[index];
                give_back(&mut pipeline, "sidegate:", key, policy, since, 1, Some(NOW));
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
        ask(&mut pipeline, "sidegate:", &charges, &[], None, false);
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
        ask(&mut pipeline, "sidegate:", &charges, &[], None, false);
        let values = link.query(&pipeline).await.unwrap();
        assert_eq!(read(charges.into_iter(), &values[1..]), Err("wrongtype"));
        assert!(link.is_up());
    });
}
