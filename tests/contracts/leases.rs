//! That a fleet which takes units ahead never admits more than the quota, and gives all of it to whom asks.
//!
//! A model: several instances, each a real `Leases`, over one store, which is the pure algorithm; a clock that is moved from
//! event to event; trips that take time and get lost, instances that die, units that come back late or never.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use proptest::prelude::*;
use sidegate::clock::instant;
use sidegate::rate_limit::algorithm::{Asked, Decision, Policy, State, gcra};
use sidegate::rate_limit::lease::{Held, Leases, Unspent};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::store::MemorySettings;

const KEY: &str = "per-key:a";
/// By the clock of the store, when a run begins (µs since the Unix epoch).
const START: u64 = 1_795_236_000_000_000;
const SECOND: u64 = 1_000_000;

/// How a fleet is asked, and what becomes of its trips.
#[derive(Clone, Debug)]
struct Course {
    /// Of each instance.
    traffic: Vec<Traffic>,
    /// µs.
    length: u64,
    /// A trip to the store takes between these (µs), and as long back.
    trip: (u64, u64),
    /// Of a thousand trips, lost on the way there, and back.
    lost: u32,
    /// In how many µs an instance dies, and another takes its place; on the average; 0: never.
    death: u64,
    seed: u64,
}

/// Requests a second at an instance: `rate` for `on` µs, then `pause` for `off` µs; begun with that many µs in.
#[derive(Clone, Copy, Debug)]
struct Traffic {
    rate: u64,
    on: u64,
    pause: u64,
    off: u64,
    begun: u64,
}

#[derive(Debug)]
enum Event {
    Request(usize),
    /// A request of an instance that began then is at the store, and asks for a lease of so many.
    Question {
        instance: usize,
        life: u64,
        asked: u64,
        lease: u64,
    },
    Answer {
        instance: usize,
        life: u64,
        asked: u64,
        decision: Option<Decision>,
    },
    Sweep(usize),
    GivenBack(Unspent),
    Death(usize),
}

struct Fleet {
    course: Course,
    policy: Policy,
    rng: Rng,
    origin: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, u64)>>,
    pending: std::collections::HashMap<u64, Event>,
    sequence: u64,
    instances: Vec<Arc<Leases>>,
    lives: Vec<u64>,
    state: Option<State>,
    told: Told,
}

/// What came of it.
#[derive(Debug, Default)]
struct Told {
    /// When requests were admitted (µs since the begin of the run).
    admitted: Vec<u64>,
    refused: u64,
    /// Commands that the store did.
    operations: u64,
    leases: u64,
    starts: u64,
    left: u64,
    lost_units: u64,
}

impl Traffic {
    fn steady(rate: u64) -> Self {
        Self { rate, on: SECOND, pause: rate, off: SECOND, begun: 0 }
    }

    /// At `rate` for as long as it is one of `all` instances' turn.
    fn in_turn(rate: u64, turn: u64, which: u64, all: u64) -> Self {
        Self { rate, on: turn, pause: 0, off: turn * (all - 1), begun: (all - which) * turn }
    }

    /// The rate at `now`, and until when it is that.
    fn at(&self, now: u64) -> (u64, u64) {
        let into = (now + self.begun) % (self.on + self.off);
        if into < self.on { (self.rate, now + self.on - into) } else { (self.pause, now + self.on + self.off - into) }
    }
}

fn leases() -> Arc<Leases> {
    Leases::new(MemorySettings { max_keys: 100 })
}

impl Fleet {
    fn run(course: &Course, policy: &Policy) -> Told {
        let instances = course.traffic.len();
        let mut fleet = Self {
            course: course.clone(),
            policy: policy.clone(),
            rng: Rng::with_seed(course.seed),
            origin: instant(),
            now: 0,
            events: BinaryHeap::new(),
            pending: Default::default(),
            sequence: 0,
            instances: (0..instances).map(|_| leases()).collect(),
            lives: vec![0; instances],
            state: None,
            told: Told::default(),
        };
        for instance in 0..instances {
            fleet.next_request(instance);
            fleet.at(0, Event::Sweep(instance));
            fleet.next_death(instance);
        }
        while let Some(Reverse((now, sequence))) = fleet.events.pop() {
            if now > course.length {
                break;
            }
            fleet.now = now;
            let event = fleet.pending.remove(&sequence).expect("an event");
            fleet.happens(event);
        }
        fleet.told.admitted.sort_unstable();
        fleet.told.left =
            policy.decide(fleet.state.as_ref(), START + course.length, Asked { need: 0, take: 0, lease: 0 }).remaining;
        fleet.told
    }

    fn at(&mut self, now: u64, event: Event) {
        self.sequence += 1;
        self.pending.insert(self.sequence, event);
        self.events.push(Reverse((now, self.sequence)));
    }

    fn instant(&self, now: u64) -> Instant {
        self.origin + Duration::from_micros(now)
    }

    fn trip(&mut self) -> u64 {
        self.rng.u64(self.course.trip.0..=self.course.trip.1)
    }

    fn is_lost(&mut self) -> bool {
        self.rng.u32(0..1000) < self.course.lost
    }

    fn next_request(&mut self, instance: usize) {
        let mut from = self.now;
        loop {
            let (rate, until) = self.course.traffic[instance].at(from);
            // Exponential gaps, as of many clients.
            let gap = if rate == 0 { f64::MAX } else { -(1.0 - self.rng.f64()).ln() * SECOND as f64 / rate as f64 };
            if gap < (until - from) as f64 {
                return self.at(from + gap as u64, Event::Request(instance));
            }
            from = until;
            if from > self.course.length {
                return;
            }
        }
    }

    fn next_death(&mut self, instance: usize) {
        if self.course.death > 0 {
            let after = self.rng.u64(0..2 * self.course.death);
            self.at(self.now + after, Event::Death(instance));
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Request(instance) => {
                self.next_request(instance);
                let now = self.instant(self.now);
                match self.instances[instance].spend(KEY, &self.policy, 1, now) {
                    Held::Spent { .. } => self.told.admitted.push(self.now),
                    Held::Refused { .. } => self.told.refused += 1,
                    Held::Ask { lease } => self.ask(instance, lease),
                }
            }
            Event::Question { instance, life, asked, lease } => self.settle(instance, life, asked, lease),
            Event::Answer { instance, life, asked, decision } => {
                if self.lives[instance] == life {
                    let asked = self.instant(asked);
                    match decision {
                        Some(decision) => self.instances[instance].answered(KEY, &self.policy, asked, &decision),
                        None => self.instances[instance].unanswered(KEY),
                    }
                }
            }
            Event::Sweep(instance) => {
                let swept = self.instances[instance].sweep(self.instant(self.now));
                for used in swept.uses.values() {
                    self.told.lost_units += used.expired;
                }
                for unspent in swept.unspent {
                    let trip = self.trip();
                    if !self.is_lost() {
                        self.at(self.now + trip, Event::GivenBack(unspent));
                    }
                }
                self.at(self.now + 25_000, Event::Sweep(instance));
            }
            Event::GivenBack(unspent) => {
                self.told.operations += 1;
                let now = START + self.now;
                self.state = self.policy.give_back(self.state.as_ref(), unspent.since, now, unspent.units);
            }
            Event::Death(instance) => {
                self.instances[instance] = leases();
                self.lives[instance] += 1;
                self.next_death(instance);
            }
        }
    }

    fn ask(&mut self, instance: usize, lease: u64) {
        let (life, asked, trip) = (self.lives[instance], self.now, self.trip());
        if self.is_lost() {
            self.at(self.now + 50_000, Event::Answer { instance, life, asked, decision: None });
        } else {
            self.at(self.now + trip, Event::Question { instance, life, asked, lease });
        }
    }

    fn settle(&mut self, instance: usize, life: u64, asked: u64, lease: u64) {
        self.told.operations += 1;
        let decision = self.policy.decide(self.state.as_ref(), START + self.now, Asked { need: 1, take: 1, lease });
        if decision.allowed {
            if decision.leased > 0 && self.state.is_none_or(|State::Bucket(s)| s.until <= START + self.now) {
                self.told.starts += 1;
            }
            self.state = Some(decision.state);
            self.told.leases += u64::from(decision.leased > 0);
        }
        let trip = self.trip();
        if self.is_lost() {
            return self.at(self.now + 50_000, Event::Answer { instance, life, asked, decision: None });
        }
        // It was charged here; whoever gets the answer late is not let in more often for that.
        match decision.allowed {
            true => self.told.admitted.push(self.now),
            false => self.told.refused += 1,
        }
        self.at(self.now + trip, Event::Answer { instance, life, asked, decision: Some(decision) });
    }
}

fn bucket(amount: u64, seconds: u64, burst: u64, life: u64) -> Policy {
    let quota = Quota { amount, per: Duration::from_secs(seconds) };
    Policy::Bucket(gcra::Policy::new(quota, burst).leased(Duration::from_micros(life)))
}

/// The window with the most beyond what the quota allows in it: how much that is. 0: none has.
fn beyond(admitted: &[u64], amount: u64, seconds: u64, burst: u64) -> i128 {
    // Of the first and last of a window, what each contributes (in 1/per units).
    let per = i128::from(seconds * SECOND);
    let part = |index: usize, at: u64| index as i128 * per - i128::from(at) * i128::from(amount);
    let (mut least, mut worst) = (i128::MAX, i128::MIN);
    for (index, &at) in admitted.iter().enumerate() {
        least = least.min(part(index, at));
        worst = worst.max(part(index + 1, at) - least);
    }
    (worst - i128::from(burst) * per).max(0)
}

#[test]
fn figures() {
    for (name, traffic) in [
        ("1:0:0", vec![Traffic::steady(5000), Traffic::steady(0), Traffic::steady(0)]),
        ("1:1:1", vec![Traffic::steady(1667); 3]),
        ("8:1:1", vec![Traffic::steady(4000), Traffic::steady(500), Traffic::steady(500)]),
        ("moving 1s", (0..3).map(|which| Traffic::in_turn(5000, SECOND, which, 3)).collect()),
        ("moving 300ms", (0..3).map(|which| Traffic::in_turn(5000, 300_000, which, 3)).collect()),
        ("moving 100ms", (0..3).map(|which| Traffic::in_turn(5000, 100_000, which, 3)).collect()),
        ("20000 1:1:1", vec![Traffic::steady(6667); 3]),
        ("10 inst", vec![Traffic::steady(500); 10]),
        ("2100 1:1:1", vec![Traffic::steady(700); 3]),
        ("1900 1:1:1", vec![Traffic::steady(633); 3]),
        ("2100 moving 300ms", (0..3).map(|which| Traffic::in_turn(2100, 300_000, which, 3)).collect()),
    ] {
        for (amount, seconds, burst) in [
            (2000, 1, 2000),
            (5000, 1, 5000),
            (2000, 1, 1000),
            (100, 1, 100),
            (6000, 60, 6000),
            (100_000, 3600, 10_000),
        ] {
            let length = 10 * SECOND;
            let course = Course { traffic: traffic.clone(), length, trip: (200, 600), lost: 0, death: 0, seed: 7 };
            let policy = bucket(amount, seconds, burst, 200_000);
            let told = Fleet::run(&course, &policy);
            let admitted = told.admitted.len() as u64;
            let most = burst + amount * length / SECOND / seconds;
            let asked = admitted + told.refused;
            println!(
                "{name:18} {amount}/{seconds}s b{burst}: admitted {admitted} of {} = {:.3}; operations {:.4}; leases {}; starts {} left {} expired {} beyond {}",
                most.min(asked),
                admitted as f64 / most.min(asked) as f64,
                told.operations as f64 / admitted as f64,
                told.leases,
                told.starts,
                told.left,
                told.lost_units,
                beyond(&told.admitted, amount, seconds, burst)
            );
        }
    }
}
