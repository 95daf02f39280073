//! What the scripts are told, in their order.

use redis::{Cmd, Pipeline};

use super::super::super::algorithm::gcra::Time;
use super::super::super::algorithm::{Asked, Policy, State, gcra};
use super::super::Charge;
use super::super::packed::pack;
use super::SHAS;
use crate::redis_pool::key;

/// The scripts, by their place.
const GCRA: usize = 0;
const SETTLE: usize = 1;
const CHARGE: usize = 2;
const GIVE_BACK: usize = 3;
const GRANT: usize = 4;

/// The counters in Redis, at a moment.
#[derive(Clone, Copy, Debug)]
pub struct Counters<'a> {
    /// Before every Redis key.
    pub prefix: &'a str,
    /// The time of this instance (µs since the Unix epoch).
    pub here: u64,
    /// The time to decide by (µs since the Unix epoch), instead of the clock of Redis.
    pub there: Option<u64>,
}

impl Counters<'_> {
    /// Adds the commands that settle `charges`, and says how many: one for all of them, or one for each if they are `apart`.
    ///
    /// `floors`: what was counted elsewhere, by the time of this instance; one for each charge, or none at all.
    pub fn ask(&self, pipeline: &mut Pipeline, charges: &[Charge<'_>], floors: &[Option<State>], apart: bool) -> usize {
        let together = if apart { 1 } else { charges.len().max(1) };
        let mut floors = floors.chunks(together);
        let groups = charges.chunks(together);
        let count = groups.len();
        for group in groups {
            let floors = floors.next().unwrap_or_default();
            if plain(group.iter().copied()) {
                self.ask_packed(pipeline, group, floors);
                continue;
            }
            self.begin(pipeline, SETTLE, group);
            for (index, charge) in group.iter().enumerate() {
                self.push_known(pipeline, charge.policy);
                self.push_asked(pipeline, charge, floors.get(index).copied().flatten());
            }
        }
        count
    }

    /// What `gcra.lua` wants of `charges`, which are plain.
    fn ask_packed(&self, pipeline: &mut Pipeline, charges: &[Charge<'_>], floors: &[Option<State>]) {
        // Most keys fit; the others make it grow.
        let mut command = Cmd::with_capacity(4 + charges.len(), 64 + 160 * charges.len());
        command.arg("EVALSHA").arg(SHAS[GCRA].as_str()).arg(charges.len());
        let mut name = String::with_capacity(96);
        let mut numbers = Vec::with_capacity(8 + 56 * charges.len());
        pack([self.there.unwrap_or(0)], &mut numbers);
        for (index, Charge { key, policy, asked, .. }) in charges.iter().enumerate() {
            name.clear();
            push_key(&mut name, self.prefix, key, policy);
            command.arg(name.as_str());
            let Policy::Bucket(policy) = policy else { continue };
            let (interval, tolerance) = (policy.needed(asked.need), policy.tolerance());
            let floor = self.ahead(floors.get(index).copied().flatten());
            pack([interval.micros, interval.part, tolerance.micros, tolerance.part, policy.parts()], &mut numbers);
            pack([floor.micros, floor.part], &mut numbers);
        }
        command.arg(numbers);
        pipeline.add_command(command);
    }

    /// Adds the command that charges `units` of `key` after the fact, whether there is room or not.
    pub fn charge(&self, pipeline: &mut Pipeline, key: &str, policy: &Policy, units: u64) {
        self.begin(pipeline, CHARGE, &[Charge::new(key, policy, Asked::units(units))]);
        self.push_known(pipeline, policy);
        push_units(pipeline, policy, units);
    }

    /// Adds the command that gives back `units` that were taken of `key` and not spent, less what time has given back since
    /// `since` (µs since the Unix epoch, by its server's clock; [`Policy::give_back`]).
    pub fn give_back(&self, pipeline: &mut Pipeline, key: &str, policy: &Policy, since: u64, units: u64) {
        self.begin(pipeline, GIVE_BACK, &[Charge::new(key, policy, Asked::units(units))]);
        self.push_known(pipeline, policy);
        push_units(pipeline, policy, units);
        let since = match policy {
            Policy::Bucket(_) | Policy::Log(_) => since,
            Policy::Fixed(policy) => policy.windows().at(since).1,
            Policy::Sliding(policy) => policy.end(since),
        };
        pipeline.arg(since);
    }

    /// Adds the command that forgets `units` that `key` has spent, whenever that was ([`Policy::grant`]).
    pub fn grant(&self, pipeline: &mut Pipeline, key: &str, policy: &Policy, units: u64) {
        self.begin(pipeline, GRANT, &[Charge::new(key, policy, Asked::units(units))]);
        self.push_known(pipeline, policy);
        push_units(pipeline, policy, units);
        if let Policy::Sliding(policy) = policy {
            let (tick, ticks) = policy.ticks();
            push(pipeline, [tick, ticks]);
        }
    }

    fn begin(&self, pipeline: &mut Pipeline, script: usize, charges: &[Charge<'_>]) {
        pipeline.cmd("EVALSHA").arg(SHAS[script].as_str()).arg(charges.len());
        let mut name = String::with_capacity(96);
        for charge in charges {
            name.clear();
            push_key(&mut name, self.prefix, charge.key, charge.policy);
            pipeline.arg(name.as_str());
        }
        match self.there {
            Some(now) => pipeline.arg(now),
            None => pipeline.arg(""),
        };
    }

    /// What `known` of the scripts wants.
    fn push_known(&self, pipeline: &mut Pipeline, policy: &Policy) {
        match policy {
            Policy::Bucket(policy) => {
                let furthest = policy.furthest();
                pipeline.arg("b");
                push(pipeline, [policy.parts(), furthest.micros, furthest.part, policy.lease_life()]);
            }
            Policy::Fixed(policy) => {
                let [start, middle, end] = policy.windows().around(self.there.unwrap_or(self.here));
                pipeline.arg("f");
                push(pipeline, [policy.cap(), start, middle, end]);
            }
            Policy::Sliding(policy) => {
                pipeline.arg("s");
                push(pipeline, [policy.cap(), policy.window()]);
            }
            Policy::Log(policy) => {
                pipeline.arg("l");
                push(pipeline, [policy.most(), policy.window()]);
            }
        }
    }

    /// What `settle.lua` wants besides.
    fn push_asked(&self, pipeline: &mut Pipeline, charge: &Charge<'_>, floor: Option<State>) {
        let Asked { need, take, lease } = charge.asked;
        push(pipeline, [u64::from(charge.binding), u64::from(charge.even_if_refused)]);
        match charge.policy {
            Policy::Bucket(policy) => {
                let asked = [policy.needed(need), policy.span(take), policy.span(lease), policy.tolerance()];
                push(pipeline, times(asked));
                pipeline.arg(policy.delay().micros);
                push(pipeline, times([self.ahead(floor)]));
            }
            Policy::Fixed(policy) => {
                let floor = if let Some(State::Fixed(floor)) = floor { floor } else { Default::default() };
                let lease = if policy.lease_life() > 0 { lease } else { 0 };
                push(pipeline, [need, take, lease, policy.most(), floor.end, floor.count]);
            }
            Policy::Sliding(policy) => {
                let floor = if let Some(State::Sliding(floor)) = floor { floor } else { Default::default() };
                let (tick, ticks) = policy.ticks();
                push(pipeline, [need, take, policy.most(), tick, ticks, floor.end, floor.current, floor.previous]);
            }
            Policy::Log(_) => push(pipeline, [need, take]),
        }
    }

    /// How far ahead of now a bucket is.
    fn ahead(&self, floor: Option<State>) -> Time {
        match floor {
            Some(State::Bucket(gcra::State { arrival, .. })) => arrival.ahead(self.here),
            _ => Time::default(),
        }
    }
}

/// Appends the Redis key of `key` (`NAME:KEY`) as `policy` counts it.
pub fn push_key(out: &mut String, prefix: &str, key: &str, policy: &Policy) {
    key::push_tagged(out, prefix, "limit", key);
    out.push_str(match policy {
        Policy::Bucket(_) => "",
        Policy::Fixed(_) => ":fixed",
        Policy::Sliding(_) => ":sliding",
        Policy::Log(_) => ":log",
    });
}

/// Whether `gcra.lua` can settle them.
pub(super) fn plain<'a>(mut charges: impl Iterator<Item = Charge<'a>>) -> bool {
    charges.all(|Charge { policy, asked, binding, even_if_refused, .. }| {
        let Policy::Bucket(policy) = policy else { return false };
        let usual = binding && !even_if_refused && asked.need == asked.take;
        usual && policy.lease_life() == 0 && policy.furthest() == policy.tolerance()
    })
}

fn push_units(pipeline: &mut Pipeline, policy: &Policy, units: u64) {
    match policy {
        Policy::Bucket(policy) => push(pipeline, times([policy.span(units)])),
        _ => push(pipeline, [units, 0]),
    }
}

fn times<const N: usize>(times: [Time; N]) -> impl Iterator<Item = u64> {
    times.into_iter().flat_map(|Time { micros, part }| [micros, part])
}

fn push(pipeline: &mut Pipeline, numbers: impl IntoIterator<Item = u64>) {
    numbers.into_iter().for_each(|number| {
        pipeline.arg(number);
    });
}
