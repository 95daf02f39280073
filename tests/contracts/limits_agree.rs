//! The scripts against the pure algorithms: long random sequences of all that can happen to the keys of a few limits, on a
//! real Redis with the time passed in, and in the memory store, which runs the Rust.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};
use sidegate::rate_limit::algorithm::{Asked, Decision, Policy, State};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::store::memory::MemoryStore;
use sidegate::rate_limit::store::{Charge, MemorySettings};
use sidegate::rate_limit::{Algorithm, Counting};

use crate::limits::{NOW, counters, decisions, load};
use crate::redis_server::RedisServer;

/// Keys of a round.
const KEYS: usize = 4;
const STEPS: usize = 150;

/// What happens at once, and what the memory store says to it.
enum Step {
    Settle { limits: Vec<Limited>, expected: Vec<Decision> },
    Charge,
    GiveBack,
    Grant,
}

/// A key, the policy of that key in force, and how it is charged.
#[derive(Debug)]
struct Limited {
    key: usize,
    policy: usize,
    asked: Asked,
    binding: bool,
    even_if_refused: bool,
    floor: Option<State>,
}

struct Round {
    keys: [String; KEYS],
    /// Of each key two: the second stands for the first after a reload.
    policies: [[Policy; 2]; KEYS],
    memory: Arc<MemoryStore>,
    now: u64,
    /// Of leases and of what is to be taken back: the key, the policy, since when, and units.
    owed: Vec<(usize, usize, u64, u64)>,
}

fn one_of<T: Copy>(some: &[T]) -> T {
    some[fastrand::usize(..some.len())]
}

impl Round {
    fn new(number: usize, algorithms: &[Algorithm]) -> Self {
        let of_key = |_: usize| {
            let algorithm = one_of(algorithms);
            let seconds = one_of(&[1, 7, 60, 3_600, 86_400, 2_592_000]);
            let calendar = one_of(&[None, Some("Europe/Berlin"), Some("Australia/Lord_Howe")]).map(Arc::from);
            [seconds, one_of(&[seconds, 60])].map(|seconds| {
                let amount = match algorithm {
                    Algorithm::SlidingLog => one_of(&[1, 3, 20, 700]),
                    _ => one_of(&[1, 3, 7, 13, 100, 999, 100_000, 700_000]),
                };
                let quota = Quota { amount, per: Duration::from_secs(seconds) };
                let burst = fastrand::u64(1..60);
                let policy = Policy::new(&Counting { algorithm, quota, burst, calendar: calendar.clone() });
                let policy = if fastrand::u8(..3) == 0 { policy.owing() } else { policy };
                let policy = if fastrand::u8(..4) == 0 {
                    policy.delaying(Duration::from_millis(fastrand::u64(..5_000)))
                } else {
                    policy
                };
                if fastrand::bool() { policy.leased(Duration::from_millis(one_of(&[1, 200, 5_000]))) } else { policy }
            })
        };
        Self {
            keys: std::array::from_fn(|key| format!("r{number}:{key}")),
            policies: std::array::from_fn(of_key),
            memory: MemoryStore::new(MemorySettings::default()),
            now: NOW + fastrand::u64(..1_000_000),
            owed: Vec::new(),
        }
    }

    /// About as long as it takes until something changes under one of the policies.
    fn some_time(&self) -> u64 {
        match &self.policies[fastrand::usize(..KEYS)][fastrand::usize(..2)] {
            Policy::Bucket(policy) => policy.span(fastrand::u64(1..5)).micros,
            policy => policy.longest(self.now) / one_of(&[1, 3, policy.burst()]),
        }
    }

    fn limited(&self, key: usize) -> Limited {
        let policy = one_of(&[0, 0, 0, 1]);
        let burst = self.policies[key][policy].burst();
        let need = one_of(&[0, 1, 1, 1, 2, 3, burst / 3, burst, burst + 1]).min(10_000);
        let take = one_of(&[need, need, need, 0]);
        let lease = one_of(&[0, 0, 1, burst / 4, burst / 2]);
        let state = self.memory.state(&self.keys[key]);
        let more = |state: State| self.policies[key][policy].charge(Some(&state), self.now, fastrand::u64(..4));
        let floor = state.filter(|_| fastrand::u8(..6) == 0).map(more);
        // A floor says nothing of leases.
        let floor = floor.map(|floor| match floor {
            State::Bucket(mut state) => {
                state.until = 0;
                State::Bucket(state)
            }
            other => other,
        });
        let [binding, even_if_refused] = [fastrand::u8(..5) > 0, fastrand::u8(..6) == 0];
        Limited { key, policy, asked: Asked { need, take, lease }, binding, even_if_refused, floor }
    }

    fn charges<'a>(&'a self, limits: &[Limited]) -> Vec<Charge<'a>> {
        let charge = |limited: &Limited| Charge {
            binding: limited.binding,
            even_if_refused: limited.even_if_refused,
            ..Charge::new(&self.keys[limited.key], &self.policies[limited.key][limited.policy], limited.asked)
        };
        limits.iter().map(charge).collect()
    }

    fn settle(&mut self, pipeline: &mut Pipeline) -> Option<Step> {
        let mut limits: Vec<_> = (0..KEYS).filter(|_| fastrand::u8(..3) == 0).map(|key| self.limited(key)).collect();
        // What most requests are.
        if fastrand::bool() {
            for limited in &mut limits {
                (limited.binding, limited.even_if_refused) = (true, false);
                limited.asked = Asked::units(limited.asked.need);
            }
        }
        if limits.is_empty() {
            return None;
        }
        for Limited { key, policy, floor, .. } in &limits {
            let (name, policy) = (&self.keys[*key], &self.policies[*key][*policy]);
            if let Some(floor) = floor
                && let Some(state) = policy.more(self.memory.state(name).as_ref(), Some(floor), self.now)
            {
                self.memory.note(name, policy, state, self.now + policy.longest(self.now), self.now);
            }
        }
        let floors: Vec<_> = limits.iter().map(|limited| limited.floor).collect();
        let floors = if floors.iter().all(Option::is_none) { &[][..] } else { &floors[..] };
        let charges = self.charges(&limits);
        assert_eq!(counters(Some(self.now)).ask(pipeline, &charges, floors, false), 1);
        let expected = self.memory.settle(&charges, self.now);
        for (limited, decision) in limits.iter().zip(&expected).filter(|(_, decision)| decision.allowed) {
            let policy = &self.policies[limited.key][limited.policy];
            let units = if decision.leased > 0 { decision.leased } else { limited.asked.take };
            let charged = matches!(policy, Policy::Bucket(_)) || decision.state != policy.charge(None, self.now, 0);
            if units > 0 && charged && fastrand::u8(..4) == 0 {
                let since = match (decision.leased, &decision.state) {
                    (0, State::Bucket(state)) if state.arrival.micros < self.now + 1_000 => continue,
                    (0, state) if decision.reset_after > 0 && expected.iter().all(|one| one.allowed) => {
                        policy.since(state, self.now, units)
                    }
                    _ => self.now,
                };
                self.owed.push((limited.key, limited.policy, since, units));
            }
        }
        Some(Step::Settle { limits, expected })
    }

    fn step(&mut self, pipeline: &mut Pipeline) -> Option<Step> {
        self.now += one_of(&[0, 0, 1, fastrand::u64(..=self.some_time()), self.some_time()]);
        // A clock may also be set back. (What is full then says more in one store than in the other, unless it is a log.)
        if self.policies.iter().flatten().all(|policy| matches!(policy, Policy::Log(_))) {
            self.now -= one_of(&[0, 0, 0, 0, 0, 1, 2_000_000]);
        }
        match fastrand::u8(..9) {
            0 => {
                let (key, policy, units) = (fastrand::usize(..KEYS), fastrand::usize(..2), one_of(&[0, 1, 5, 5_000]));
                let (name, policy) = (&self.keys[key], &self.policies[key][policy]);
                counters(Some(self.now)).charge(pipeline, name, policy, units);
                self.memory.charge(name, policy, units, self.now);
                Some(Step::Charge)
            }
            1 if !self.owed.is_empty() => {
                let (key, policy, since, units) = self.owed.swap_remove(fastrand::usize(..self.owed.len()));
                let (name, policy) = (&self.keys[key], &self.policies[key][policy]);
                counters(Some(self.now)).give_back(pipeline, name, policy, since, units);
                self.memory.give_back(name, policy, since, units, self.now);
                Some(Step::GiveBack)
            }
            2 => {
                let (key, policy, units) =
                    (fastrand::usize(..KEYS), fastrand::usize(..2), one_of(&[0, 1, 3, 40, 5_000]));
                let (name, policy) = (&self.keys[key], &self.policies[key][policy]);
                counters(Some(self.now)).grant(pipeline, name, policy, units);
                self.memory.grant(name, policy, units, self.now);
                Some(Step::Grant)
            }
            _ => self.settle(pipeline),
        }
    }
}

/// In one pipeline each round, so that no key expires in between.
fn agree(algorithms: &[Algorithm], rounds: usize) {
    let server = RedisServer::start();
    let mut connection = server.client().get_connection().unwrap();
    load(&mut connection);
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let (mut refused, mut delayed, mut leased, mut given_back, mut granted) = (0, 0, 0, 0, 0);
    for number in 0..rounds {
        let mut round = Round::new(number, algorithms);
        let mut pipeline = redis::pipe();
        let mut steps = Vec::new();
        while steps.len() < STEPS {
            steps.extend(round.step(&mut pipeline).map(|step| (round.now, step)));
        }
        let answers: Vec<Value> = pipeline.query(&mut connection).unwrap();
        for (index, ((now, step), answer)) in steps.iter().zip(&answers).enumerate() {
            match step {
                Step::Settle { limits, expected } => {
                    let said = decisions(&round.charges(limits), answer);
                    let policies = &round.policies;
                    let told = (*now, expected.clone());
                    assert_eq!(said, told, "seed {seed}, round {number}, step {index}: {limits:#?} {policies:#?}");
                    refused += expected.iter().filter(|decision| !decision.allowed).count();
                    delayed += expected.iter().filter(|decision| decision.delay > 0).count();
                    leased += expected.iter().filter(|decision| decision.leased > 0).count();
                }
                Step::Charge => assert_eq!(*answer, Value::Int(1)),
                Step::GiveBack => given_back += usize::from(*answer == Value::Int(1)),
                Step::Grant => granted += usize::from(*answer == Value::Int(1)),
            }
        }
    }
    assert!(refused > rounds * 5 && given_back > rounds / 10, "{refused} {given_back}");
    assert!(granted > rounds, "{granted}");
    if algorithms.contains(&Algorithm::TokenBucket) {
        assert!(delayed > rounds / 10 && leased > rounds / 10, "{delayed} {leased}");
    }
}

#[test]
fn lua_and_rust_agree_on_token_buckets() {
    agree(&[Algorithm::TokenBucket], 80);
}

#[test]
fn lua_and_rust_agree_on_fixed_windows() {
    agree(&[Algorithm::FixedWindow], 60);
}

#[test]
fn lua_and_rust_agree_on_sliding_windows() {
    agree(&[Algorithm::SlidingWindow], 60);
}

#[test]
fn lua_and_rust_agree_on_sliding_logs() {
    agree(&[Algorithm::SlidingLog], 40);
}

#[test]
fn lua_and_rust_agree_on_all_algorithms_in_one_request() {
    let all = [Algorithm::TokenBucket, Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::SlidingLog];
    agree(&all, 80);
}
