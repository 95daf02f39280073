//! A fleet that takes units ahead: several instances, each a real `Leases`, over one store, which is the pure algorithm; a
//! clock that is moved from event to event; trips that take time and get lost, instances that die, units that come back late
//! or never, requests that another limit refuses.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use sidegate::clock::instant;
use sidegate::rate_limit::algorithm::{Asked, Decision, Policy, State};
use sidegate::rate_limit::lease::{Held, Leases, Unspent};
use sidegate::rate_limit::store::MemorySettings;

const KEY: &str = "per-key:a";
/// By the clock of the store, when a run begins (µs since the Unix epoch).
pub const START: u64 = 1_795_236_000_000_000;
pub const SECOND: u64 = 1_000_000;
/// After so long (µs) who has asked gives up.
const PATIENCE: u64 = 50_000;

/// How a fleet is asked, and what becomes of its trips.
#[derive(Clone, Debug)]
pub struct Course {
    /// Of each instance.
    pub traffic: Vec<Traffic>,
    /// µs.
    pub length: u64,
    /// A trip to the store takes between these (µs), and as long back.
    pub trip: (u64, u64),
    /// Of a thousand trips, lost on the way there, and as many on the way back.
    pub lost: u32,
    /// Of a thousand requests that are within the limit, refused by another.
    pub vain: u32,
    /// An instance dies in so many µs on the average, and another takes its place; 0: never.
    pub death: u64,
    pub seed: u64,
}

/// Requests a second at an instance: `rate` for `on` µs, then `pause` for `off` µs; begun with that many µs in.
#[derive(Clone, Copy, Debug)]
pub struct Traffic {
    pub rate: u64,
    pub on: u64,
    pub pause: u64,
    pub off: u64,
    pub begun: u64,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Told {
    /// When requests were admitted (µs since the begin of the run): those that the store was asked about when it was, the
    /// others when they were answered.
    pub admitted: Vec<u64>,
    pub refused: u64,
    /// Commands that the store did.
    pub operations: u64,
    /// Those of them that gave a lease.
    pub leases: u64,
}

#[derive(Debug)]
enum Event {
    Request(usize),
    /// A question that was asked then is at the store.
    Question(Trip),
    Answer(Trip, Option<Decision>),
    PutBack(Trip),
    Sweep(usize),
    GivenBack(Unspent),
    Death(usize),
}

/// A request under way, of an instance in that of its lives, that began then.
#[derive(Clone, Copy, Debug)]
struct Trip {
    instance: usize,
    life: u64,
    began: u64,
    lease: u64,
}

/// A run.
pub struct Fleet<'a> {
    course: &'a Course,
    policy: &'a Policy,
    rng: Rng,
    origin: Instant,
    now: u64,
    events: BinaryHeap<Reverse<(u64, usize)>>,
    /// By their number.
    what: Vec<Option<Event>>,
    instances: Vec<Arc<Leases>>,
    lives: Vec<u64>,
    state: Option<State>,
    told: Told,
}

impl Course {
    /// Without mishaps.
    pub fn of(traffic: Vec<Traffic>, seconds: u64) -> Self {
        Self { traffic, length: seconds * SECOND, trip: (200, 600), lost: 0, vain: 0, death: 0, seed: 7 }
    }
}

impl Traffic {
    /// Always the same.
    pub fn steady(rate: u64) -> Self {
        Self { rate, on: SECOND, pause: rate, off: SECOND, begun: 0 }
    }

    /// All of it, at `rate`, at one of `all` instances after the other, for `turn` µs at each.
    pub fn moving(rate: u64, turn: u64, all: u64) -> Vec<Self> {
        let one = |which| Self { rate, on: turn, pause: 0, off: turn * (all - 1), begun: (all - which) * turn };
        (0..all).map(one).collect()
    }

    /// The rate at `now`, and until when it is that.
    fn at(&self, now: u64) -> (u64, u64) {
        let into = (now + self.begun) % (self.on + self.off);
        if into < self.on { (self.rate, now + self.on - into) } else { (self.pause, now + self.on + self.off - into) }
    }
}

impl<'a> Fleet<'a> {
    pub fn run(course: &'a Course, policy: &'a Policy) -> Told {
        let count = course.traffic.len();
        let mut fleet = Self {
            course,
            policy,
            rng: Rng::with_seed(course.seed),
            origin: instant(),
            now: 0,
            events: BinaryHeap::new(),
            what: Vec::new(),
            instances: (0..count).map(|_| leases()).collect(),
            lives: vec![0; count],
            state: None,
            told: Told::default(),
        };
        for instance in 0..count {
            fleet.next_request(instance);
            fleet.next_death(instance);
            fleet.after(0, Event::Sweep(instance));
        }
        while let Some(Reverse((now, number))) = fleet.events.pop().filter(|Reverse((now, _))| *now <= course.length) {
            fleet.now = now;
            let event = fleet.what[number].take().expect("it has not happened");
            fleet.happens(event);
        }
        fleet.told.admitted.sort_unstable();
        fleet.told
    }

    fn after(&mut self, micros: u64, event: Event) {
        self.events.push(Reverse((self.now + micros, self.what.len())));
        self.what.push(Some(event));
    }

    fn instant(&self, micros: u64) -> Instant {
        self.origin + Duration::from_micros(micros)
    }

    fn trip(&mut self) -> u64 {
        self.rng.u64(self.course.trip.0..=self.course.trip.1)
    }

    fn happens_to(&mut self, of_a_thousand: u32) -> bool {
        self.rng.u32(0..1000) < of_a_thousand
    }

    fn next_request(&mut self, instance: usize) {
        let mut from = self.now;
        while from <= self.course.length {
            let (rate, until) = self.course.traffic[instance].at(from);
            // Exponential gaps, as of many clients.
            let gap = if rate == 0 { f64::MAX } else { -(1.0 - self.rng.f64()).ln() * SECOND as f64 / rate as f64 };
            if gap < (until - from) as f64 {
                return self.after(from + gap as u64 - self.now, Event::Request(instance));
            }
            from = until;
        }
    }

    fn next_death(&mut self, instance: usize) {
        if self.course.death > 0 {
            let after = self.rng.u64(0..2 * self.course.death);
            self.after(after, Event::Death(instance));
        }
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Request(instance) => self.request(instance),
            Event::Question(trip) => self.settle(trip),
            Event::Answer(trip, decision) if self.lives[trip.instance] == trip.life => {
                let (leases, asked) = (&self.instances[trip.instance], self.instant(trip.began));
                match decision {
                    Some(decision) => leases.answered(KEY, self.policy, asked, &decision),
                    None => leases.unanswered(KEY),
                }
            }
            Event::PutBack(trip) if self.lives[trip.instance] == trip.life => {
                self.instances[trip.instance].put_back(KEY, 1, self.instant(trip.began));
            }
            // Nobody is left to hear it.
            Event::Answer(..) | Event::PutBack(_) => {}
            Event::Sweep(instance) => {
                for unspent in self.instances[instance].sweep(self.instant(self.now)).unspent {
                    let trip = self.trip();
                    if !self.happens_to(self.course.lost) {
                        self.after(trip, Event::GivenBack(unspent));
                    }
                }
                self.after(self.policy.lease_life() / 8, Event::Sweep(instance));
            }
            Event::GivenBack(Unspent { since, units, .. }) => {
                self.told.operations += 1;
                self.state = self.policy.give_back(self.state.as_ref(), since, START + self.now, units);
            }
            Event::Death(instance) => {
                self.instances[instance] = leases();
                self.lives[instance] += 1;
                self.next_death(instance);
            }
        }
    }

    fn request(&mut self, instance: usize) {
        self.next_request(instance);
        let trip = Trip { instance, life: self.lives[instance], began: self.now, lease: 0 };
        match self.instances[instance].spend(KEY, self.policy, 1, self.instant(self.now)) {
            Held::Spent { .. } if self.happens_to(self.course.vain) => {
                let there_and_back = self.trip() + self.trip();
                self.after(there_and_back, Event::PutBack(trip));
            }
            Held::Spent { .. } => self.told.admitted.push(self.now),
            Held::Refused { .. } => self.told.refused += 1,
            Held::Ask { lease } => {
                let there = self.trip();
                match self.happens_to(self.course.lost) {
                    true => self.after(PATIENCE, Event::Answer(trip, None)),
                    false => self.after(there, Event::Question(Trip { lease, ..trip })),
                }
            }
        }
    }

    fn settle(&mut self, trip: Trip) {
        self.told.operations += 1;
        let asked = Asked { need: 1, take: 1, lease: trip.lease };
        let decision = self.policy.decide(self.state.as_ref(), START + self.now, asked);
        if decision.allowed {
            self.state = Some(decision.state);
            self.told.leases += u64::from(decision.leased > 0);
        }
        if self.happens_to(self.course.lost) {
            return self.after(PATIENCE, Event::Answer(trip, None));
        }
        match decision.allowed {
            true => self.told.admitted.push(self.now),
            false => self.told.refused += 1,
        }
        let back = self.trip();
        self.after(back, Event::Answer(trip, Some(decision)));
    }
}

fn leases() -> Arc<Leases> {
    Leases::new(MemorySettings { max_keys: 100 })
}
