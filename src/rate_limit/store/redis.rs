//! Counters in Redis, judged by the clock of Redis.
//!
//! 1. On one server, one call of one script settles all limits of a request in one step: `gcra.lua` where all of them are
//!    token buckets that are neither leased nor in shadow nor anything else, `settle.lua` otherwise.
//! 2. The scripts only move the states; they answer with those they judged by, and `algorithm` reads from them what is left.
//! 3. Keys are `PREFIX limit:{NAME:KEY}`, and behind the braces the algorithm unless it is the token bucket: no key ever has
//!    two types. In a cluster each has a slot of its own, so there each limit has a call of its own. If one refuses then, what
//!    others were charged is given back behind (`gcra`, rule 8). Until that is done they may refuse what they should not.
//! 4. What was counted elsewhere while Redis was away comes along as a *floor*: what the state is at least. It is known to
//!    Redis from then on, whether the request is charged or refused. A log has none: what it knows is in one place.
//! 5. A state that another policy left, beyond what the policy in force allows, is cut to that, in Redis too.
//!
//! # Why
//! Redis `TIME` is one clock for the whole fleet. And the less is computed in Lua, the less has to be proven equal.
//!
//! With KEY alone in the braces, limits by the same key would share a slot. But users know the keys by the limit's
//! name, limits by different keys would be apart all the same, and one command each is what a cluster spreads best.

mod ask;

use std::sync::LazyLock;

use redis::Value;

pub use ask::{Counters, push_key};

use crate::redis_pool::fault::Fault;

use super::super::algorithm::gcra::Time;
use super::super::algorithm::{Decision, Policy, State, fixed, gcra, log, settle, sliding};
use super::Charge;
use super::packed::unpack;

/// The scripts; a link that counts limits is made with them.
pub const SCRIPTS: [&str; 5] = [
    include_str!("scripts/gcra.lua"),
    concat!(include_str!("scripts/known.lua"), include_str!("scripts/settle.lua")),
    concat!(include_str!("scripts/known.lua"), include_str!("scripts/charge.lua")),
    concat!(
        include_str!("scripts/known.lua"),
        include_str!("scripts/lessen.lua"),
        include_str!("scripts/give_back.lua")
    ),
    concat!(include_str!("scripts/known.lua"), include_str!("scripts/lessen.lua"), include_str!("scripts/grant.lua")),
];

static SHAS: LazyLock<[String; 5]> =
    LazyLock::new(|| SCRIPTS.map(|text| redis::Script::new(text).get_hash().to_owned()));

/// What Redis says under the limits of a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Settled {
    /// When, by the clock of Redis (µs since the Unix epoch); the decisions' states are in this time.
    pub now: u64,
    /// One for each limit, in order.
    pub decisions: Vec<Decision>,
    /// Limits, by their place, that were charged while another refused; and since when that is [given back](Counters::give_back).
    pub refunds: Vec<(usize, u64)>,
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
    let charges: Vec<_> = charges.collect();
    let passes = charges.iter().zip(apart).all(|(charge, (_, decision))| decision.allowed || !charge.binding);
    let now = apart.first().map_or(0, |(now, _)| *now);
    let mut settled = Settled { now, decisions: Vec::with_capacity(apart.len()), refunds: Vec::new() };
    for (index, (charge, &(then, mut decision))) in charges.iter().zip(apart).enumerate() {
        let Charge { policy, asked, .. } = *charge;
        if decision.allowed && !passes && !charge.even_if_refused {
            let since = policy.since(&decision.state, then, asked.take);
            settled.refunds.push((index, since));
            let before = policy.give_back(Some(&decision.state), since, then, asked.take);
            // What was lent stays lent.
            decision = Decision { leased: decision.leased, ..policy.decide(before.as_ref(), then, asked.look()) };
        }
        decision.state = decision.state.moved(then, now);
        settled.decisions.push(decision);
    }
    settled
}

fn read_together<'a>(
    charges: impl ExactSizeIterator<Item = Charge<'a>> + Clone,
    value: &Value,
) -> Result<(u64, Vec<Decision>), &'static str> {
    let numbers: Vec<u64> = match value {
        Value::BulkString(bytes) => unpack(bytes).ok_or("script")?,
        Value::Array(numbers) => numbers.iter().map_while(whole).collect(),
        Value::ServerError(error) => {
            return Err(Fault::of_reply(error.code(), error.details().unwrap_or_default()).word());
        }
        _ => return Err("script"),
    };
    let [passes, now, states @ ..] = numbers.as_slice() else { return Err("script") };
    let plain = ask::plain(charges.clone());
    let mut states = states.iter().copied();
    let mut cases = Vec::with_capacity(charges.len());
    for charge in charges.clone() {
        cases.push(charge.case(Some(state(charge.policy, plain, &mut states).ok_or("script")?)));
    }
    let decisions = settle(cases.into_iter(), *now);
    // What was charged there must be what is told here.
    let passed = charges.zip(&decisions).all(|(charge, decision)| decision.allowed || !charge.binding);
    if states.next().is_none() && passed == (*passes == 1) { Ok((*now, decisions)) } else { Err("script") }
}

fn whole(number: &Value) -> Option<u64> {
    if let Value::Int(number) = number { u64::try_from(*number).ok() } else { None }
}

/// The state of one limit, as the scripts answer it.
fn state(policy: &Policy, plain: bool, numbers: &mut impl Iterator<Item = u64>) -> Option<State> {
    let mut next = || numbers.next();
    Some(match policy {
        Policy::Bucket(_) => {
            let arrival = Time { micros: next()?, part: next()? };
            State::Bucket(gcra::State { arrival, until: if plain { 0 } else { next()? } })
        }
        Policy::Fixed(_) => State::Fixed(fixed::State { end: next()?, count: next()? }),
        Policy::Sliding(_) => State::Sliding(sliding::State { end: next()?, current: next()?, previous: next()? }),
        Policy::Log(_) => {
            State::Log(log::State { used: next()?, newest: next()?, blocking: [next()?, next()?], added: 0 })
        }
    })
}
