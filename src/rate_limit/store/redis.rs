//! Counters in Redis: one call of one script for all limits of a request, judged by the clock of Redis.
//!
//! 1. The script charges all limits or none, in one step.
//! 2. It only moves the states; it answers with those it judged by, and `gcra` reads from them what is left.
//! 3. Keys are `PREFIX limit:{NAME:KEY}`. The commands for a request are one for each group of keys in the same place;
//!    here, on one server, there is one group.
//!
//! # Why
//! Redis `TIME` is one clock for the whole fleet. And the less is computed in Lua, the less has to be proven equal.

use std::sync::LazyLock;

use redis::{Pipeline, Value};

use crate::redis_pool::key;

use super::super::algorithm::gcra::{self, Decision, Policy, Time};
use super::Charge;

/// The script; a link that counts limits is made with it.
pub const SCRIPT: &str = include_str!("scripts/gcra.lua");

static SCRIPT_SHA: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// Adds the command that settles `charges`. `now` (µs since the Unix epoch) instead of the clock of Redis.
pub fn ask(pipeline: &mut Pipeline, prefix: &str, charges: &[Charge<'_>], now: Option<u64>) {
    let command = pipeline.cmd("EVALSHA").arg(SCRIPT_SHA.as_str()).arg(charges.len());
    let mut name = String::with_capacity(96);
    for charge in charges {
        name.clear();
        key::push_tagged(&mut name, prefix, "limit", charge.key);
        command.arg(name.as_str());
    }
    match now {
        Some(now) => command.arg(now),
        None => command.arg(""),
    };
    for charge in charges {
        let (interval, tolerance) = (charge.policy.span(charge.cost), charge.policy.tolerance());
        for number in [interval.micros, interval.part, tolerance.micros, tolerance.part, charge.policy.parts()] {
            command.arg(number);
        }
    }
}

/// What Redis says under `limits`, each given as (policy, cost), and when (µs since the Unix epoch): one decision for each,
/// in order.
///
/// # Errors
/// A word, if the script failed or is not ours.
pub fn read<'a>(
    limits: impl ExactSizeIterator<Item = (&'a Policy, u64)> + Clone,
    value: &Value,
) -> Result<(u64, Vec<Decision>), &'static str> {
    let Value::Array(numbers) = value else { return Err("script") };
    let whole = |number: &Value| match number {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let numbers: Vec<u64> = numbers.iter().map_while(whole).collect();
    match numbers.as_slice() {
        [charged, now, states @ ..] if states.len() == 2 * limits.len() => {
            let states = states.chunks_exact(2).map(|state| Some(Time { micros: state[0], part: state[1] }));
            let judged = limits.zip(states).map(|((policy, cost), state)| (policy, state, cost));
            let decisions = gcra::settle(judged, *now);
            // What was charged there must be what is told here.
            let agreed = decisions.iter().all(|decision| decision.allowed) == (*charged == 1);
            if agreed { Ok((*now, decisions)) } else { Err("script") }
        }
        _ => Err("script"),
    }
}
