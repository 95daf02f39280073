//! Counters in Redis, judged by the clock of Redis.
//!
//! 1. On one server, one call of one script settles all limits of a request: it charges all of them or none, in one step.
//! 2. The script only moves the states; it answers with those it judged by, and `gcra` reads from them what is left.
//! 3. Keys are `PREFIX limit:{NAME:KEY}`. In a cluster each has a slot of its own, so there each limit has a call of its
//!    own. If one refuses then, what others were charged is given back behind (`gcra`, rule 8). Until that is done they may
//!    refuse what they should not.
//! 4. What was counted elsewhere while Redis was away comes along as a *floor*: how far ahead of now the state is at least.
//!    It is known to Redis from then on, whether the request is charged or refused.
//!
//! # Why
//! Redis `TIME` is one clock for the whole fleet. And the less is computed in Lua, the less has to be proven equal.
//!
//! With KEY alone in the braces, limits by the same key would share a slot. But users know the keys by the limit's
//! name, limits by different keys would be apart all the same, and one command each is what a cluster spreads best.

use std::sync::LazyLock;

use redis::{Pipeline, Value};

use crate::redis_pool::fault::Fault;
use crate::redis_pool::key;

use super::super::algorithm::gcra::{self, Time};
use super::super::algorithm::{Asked, Decision, Policy, State, settle};
use super::Charge;

/// The scripts; a link that counts limits is made with them.
pub const SCRIPTS: [&str; 2] = [include_str!("scripts/gcra.lua"), include_str!("scripts/refund.lua")];

static SHAS: LazyLock<[String; 2]> =
    LazyLock::new(|| SCRIPTS.map(|text| redis::Script::new(text).get_hash().to_owned()));

/// What Redis says under the limits of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// When, by the clock of Redis (µs since the Unix epoch); the decisions' states are in this time.
    pub now: u64,
    /// One for each limit, in order.
    pub decisions: Vec<Decision>,
    /// Limits, by their place, that were charged while another refused; and since when that is [given back](give_back).
    pub refunds: Vec<(usize, u64)>,
}

/// Adds the commands that settle `charges`, and says how many: one for all of them, or one for each if they are `apart`.
///
/// `floors`, one for each charge or none at all, say how far ahead of now states are at least. `now` (µs since the Unix epoch)
/// instead of the clock of Redis.
pub fn ask(
    pipeline: &mut Pipeline,
    prefix: &str,
    charges: &[Charge<'_>],
    floors: &[Time],
    now: Option<u64>,
    apart: bool,
) -> usize {
    let together = if apart { 1 } else { charges.len().max(1) };
    let mut floors = floors.chunks(together);
    let groups = charges.chunks(together);
    let count = groups.len();
    for group in groups {
        ask_together(pipeline, prefix, group, floors.next().unwrap_or_default(), now);
    }
    count
}

fn ask_together(pipeline: &mut Pipeline, prefix: &str, charges: &[Charge<'_>], floors: &[Time], now: Option<u64>) {
    let command = pipeline.cmd("EVALSHA").arg(SHAS[0].as_str()).arg(charges.len());
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
        let Policy::Bucket(policy) = charge.policy;
        let (interval, tolerance) = (policy.span(charge.asked.need), policy.tolerance());
        for number in [interval.micros, interval.part, tolerance.micros, tolerance.part, policy.parts()] {
            command.arg(number);
        }
    }
    for floor in floors {
        command.arg(floor.micros).arg(floor.part);
    }
}

/// Adds the command that gives back `units` that were taken of `key` and not spent, less what time has given back since
/// `since` (µs since the Unix epoch, by its server's clock; [`Policy::give_back`]). `now` as for [`ask`].
pub fn give_back(
    pipeline: &mut Pipeline,
    prefix: &str,
    key: &str,
    policy: &Policy,
    since: u64,
    units: u64,
    now: Option<u64>,
) {
    let mut name = String::with_capacity(96);
    key::push_tagged(&mut name, prefix, "limit", key);
    let command = pipeline.cmd("EVALSHA").arg(SHAS[1].as_str()).arg(1).arg(name);
    match now {
        Some(now) => command.arg(now),
        None => command.arg(""),
    };
    let Policy::Bucket(policy) = policy;
    let interval = policy.span(units);
    command.arg(interval.micros).arg(interval.part).arg(since).arg(policy.parts());
}

/// Adds the command that charges `units` of `key` after the fact, whether there is room or not. `now` as for [`ask`].
pub fn charge(pipeline: &mut Pipeline, prefix: &str, key: &str, policy: &Policy, units: u64, now: Option<u64>) {
    let asked = Asked { need: 0, take: units, lease: 0 };
    let charge = Charge { key, policy, asked, binding: false, even_if_refused: true };
    ask_together(pipeline, prefix, &[charge], &[], now);
}

/// Reads what Redis says under `charges`: from one value for all of them, or one for each.
///
/// # Errors
/// A word: that of the fault (`redis_pool::fault`; the link has told the log of it), or `script` if the answer is none of ours.
pub fn read<'a>(
    charges: impl ExactSizeIterator<Item = Charge<'a>> + Clone,
    values: &[Value],
) -> Result<Settled, &'static str> {
    if let [value] = values {
        let (now, decisions) = read_together(charges, value)?;
        return Ok(Settled { now, decisions, refunds: Vec::new() });
    }
    if values.len() != charges.len() {
        return Err("protocol");
    }
    let mut said = Vec::with_capacity(values.len());
    for (charge, value) in charges.clone().zip(values) {
        let (now, decisions) = read_together(std::iter::once(charge), value)?;
        said.extend(decisions.into_iter().map(|decision| (now, decision)));
    }
    Ok(settle_apart(charges, &said))
}

/// Puts together what was decided `apart`, each at a moment of its own server's clock: if one refuses, none is to have been
/// charged.
fn settle_apart<'a>(charges: impl Iterator<Item = Charge<'a>>, apart: &[(u64, Decision)]) -> Settled {
    let within = apart.iter().all(|(_, decision)| decision.allowed);
    let now = apart.first().map_or(0, |(now, _)| *now);
    let mut settled = Settled { now, decisions: Vec::with_capacity(apart.len()), refunds: Vec::new() };
    for (index, (Charge { policy, asked, .. }, &(then, mut decision))) in charges.zip(apart).enumerate() {
        if decision.allowed && !within {
            let since = policy.since(&decision.state, then, asked.take);
            settled.refunds.push((index, since));
            let before = policy.give_back(Some(&decision.state), since, then, asked.take);
            decision = policy.decide(before.as_ref(), then, asked.look());
        }
        let State::Bucket(state) = &mut decision.state;
        state.arrival.micros = (now + state.arrival.micros).saturating_sub(then);
        settled.decisions.push(decision);
    }
    settled
}

fn read_together<'a>(
    charges: impl ExactSizeIterator<Item = Charge<'a>> + Clone,
    value: &Value,
) -> Result<(u64, Vec<Decision>), &'static str> {
    let numbers = match value {
        Value::Array(numbers) => numbers,
        Value::ServerError(error) => {
            return Err(Fault::of_reply(error.code(), error.details().unwrap_or_default()).word());
        }
        _ => return Err("script"),
    };
    let whole = |number: &Value| match number {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    let numbers: Vec<u64> = numbers.iter().map_while(whole).collect();
    match numbers.as_slice() {
        [charged, now, states @ ..] if states.len() == 2 * charges.len() => {
            let states = states.chunks_exact(2).map(|state| {
                let arrival = Time { micros: state[0], part: state[1] };
                State::Bucket(gcra::State { arrival, until: 0 })
            });
            let cases = charges.zip(states).map(|(charge, state)| charge.case(Some(state)));
            let decisions = settle(cases, *now);
            // What was charged there must be what is told here.
            let agreed = decisions.iter().all(|decision| decision.allowed) == (*charged == 1);
            if agreed { Ok((*now, decisions)) } else { Err("script") }
        }
        _ => Err("script"),
    }
}
