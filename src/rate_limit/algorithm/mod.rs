//! How a limit decides. Pure: the state, the policy and the time are arguments, the new state is in the answer.
//!
//! 1. A request asks for units that must be free (`need`), and takes some (`take`): usually as many, none if it is charged
//!    once its outcome is known.
//! 2. Several limits of one request are settled together: if one that binds refuses, none is charged, save those that are
//!    charged even so. One in shadow stops nobody, and is charged if it would allow and the request passes.
//! 3. What happened is charged after the fact, whether there is room or not. The debt that this leaves is bounded: by one
//!    more burst.
//! 4. What an operator grants is units that count, whenever they were spent: the newest first. It acts in full at once.
//! 5. A state is judged by the policy in force, whichever left it: nobody waits for what another policy meant by it, and
//!    nobody is given more than the one in force gives.
//!
//! # Why
//! A store knows places and locks, or keys and scripts; it decides nothing. So there is one specification, and each store
//! is held to it.

pub mod fixed;
pub mod gcra;
pub mod log;
pub mod sliding;
pub mod windows;

use std::time::Duration;

use super::{Algorithm, Counting};

/// How a limit counts, ready to decide with. Times are µs since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A token bucket.
    Bucket(gcra::Policy),
    /// Fixed windows.
    Fixed(fixed::Policy),
    /// A sliding window of two counters.
    Sliding(sliding::Policy),
    /// A sliding log.
    Log(log::Policy),
}

/// What is known of a key, by the algorithm that counts it. Another algorithm's state says nothing to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Of a token bucket.
    Bucket(gcra::State),
    /// Of fixed windows.
    Fixed(fixed::State),
    /// Of a sliding window.
    Sliding(sliding::State),
    /// Of a sliding log, as it stands for one request.
    Log(log::State),
}

/// What one limit is asked for one request, in units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How many must be free.
    pub need: u64,
    /// How many are charged if the request passes: usually as many.
    pub take: u64,
    /// How many to take besides, for requests to come, if there is room for twice as many; 0: none.
    pub lease: u64,
}

/// What one limit says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub allowed: bool,
    /// Units that may be spent at once after this, at least.
    pub remaining: u64,
    /// µs until the same request would be allowed; 0 if it is, `u64::MAX` if it never will be (it needs more than there can
    /// be).
    pub retry_after: u64,
    /// µs until all units are there again, rounded up.
    pub reset_after: u64,
    /// µs that the request has to wait although it is allowed.
    pub delay: u64,
    /// Units taken besides, for requests to come.
    pub leased: u64,
    /// The state after this.
    pub state: State,
}

/// One limit of a request, ready to settle: its policy, what is known of the key, and what is asked.
#[derive(Clone, Copy, Debug)]
pub struct Case<'a> {
    /// By what it is judged.
    pub policy: &'a Policy,
    /// What the store has.
    pub stored: Option<State>,
    /// What the request asks.
    pub asked: Asked,
    /// Whether its refusal stops the request.
    pub binding: bool,
    /// Whether it is charged all the same if it refuses, or another does.
    pub even_if_refused: bool,
}

impl Asked {
    /// A request that costs `units`.
    pub fn units(units: u64) -> Self {
        Self { need: units, take: units, lease: 0 }
    }

    /// The same, without taking anything.
    pub fn look(self) -> Self {
        Self { take: 0, lease: 0, ..self }
    }
}

impl Policy {
    /// The policy of a limit that counts so.
    pub fn new(counting: &Counting) -> Self {
        let Counting { algorithm, quota, burst, ref calendar } = *counting;
        match algorithm {
            Algorithm::TokenBucket => Self::Bucket(gcra::Policy::new(quota, burst)),
            Algorithm::FixedWindow => Self::Fixed(fixed::Policy::new(quota, calendar.as_deref())),
            Algorithm::SlidingWindow => Self::Sliding(sliding::Policy::new(quota)),
            Algorithm::SlidingLog => Self::Log(log::Policy::new(quota)),
        }
    }

    /// The same, but requests beyond the burst of a token bucket wait for up to `longest` instead of being refused.
    pub fn delaying(self, longest: Duration) -> Self {
        if let Self::Bucket(policy) = self { Self::Bucket(policy.delaying(longest)) } else { self }
    }

    /// The same, for what is charged after the fact: with room for a debt of one more burst.
    pub fn owing(self) -> Self {
        match self {
            Self::Bucket(policy) => Self::Bucket(policy.owing()),
            Self::Fixed(policy) => Self::Fixed(policy.owing()),
            Self::Sliding(policy) => Self::Sliding(policy.owing()),
            Self::Log(_) => self,
        }
    }

    /// The same, for keys of which leases are taken that live for `life`: of token buckets and fixed windows. The others are
    /// exact always.
    pub fn leased(self, life: Duration) -> Self {
        match self {
            Self::Bucket(policy) => Self::Bucket(policy.leased(life)),
            Self::Fixed(policy) => Self::Fixed(policy.leased(life)),
            other => other,
        }
    }

    /// How long a lease lives (µs); 0: none is taken.
    pub fn lease_life(&self) -> u64 {
        match self {
            Self::Bucket(policy) => policy.lease_life(),
            Self::Fixed(policy) => policy.lease_life(),
            Self::Sliding(_) | Self::Log(_) => 0,
        }
    }

    /// Decides about a request at `now`.
    pub fn decide(&self, stored: Option<&State>, now: u64, asked: Asked) -> Decision {
        match self {
            Self::Bucket(policy) => policy.decide(bucket(stored), now, asked),
            Self::Fixed(policy) => policy.decide(fixed(stored), now, asked),
            Self::Sliding(policy) => policy.decide(sliding(stored), now, asked),
            Self::Log(policy) => policy.decide(log(stored), now, asked),
        }
    }

    /// The state once `units` are charged at `now`, whether there is room or not.
    pub fn charge(&self, stored: Option<&State>, now: u64, units: u64) -> State {
        match self {
            Self::Bucket(policy) => State::Bucket(policy.charge(bucket(stored), now, units)),
            Self::Fixed(policy) => State::Fixed(policy.charge(fixed(stored), now, units)),
            Self::Sliding(policy) => State::Sliding(policy.charge(sliding(stored), now, units)),
            Self::Log(policy) => State::Log(policy.charge(log(stored), now, units)),
        }
    }

    /// µs until all units are there again, once `units` more are charged at `now`; `before`: µs without them.
    pub fn reset_after(&self, before: u64, now: u64, units: u64) -> u64 {
        match self {
            Self::Bucket(policy) => before.saturating_add(policy.span(units).after(0)).min(policy.longest()),
            Self::Fixed(policy) => policy.windows().at(now).1 - now,
            Self::Sliding(policy) => policy.end(now) + policy.window() - now,
            Self::Log(policy) => policy.window(),
        }
    }

    /// Since when a charge of `units` at `now` that left `state` is given back, if that is done at once, for a request that
    /// was refused elsewhere.
    pub fn since(&self, state: &State, now: u64, units: u64) -> u64 {
        match (self, state) {
            (Self::Bucket(policy), State::Bucket(state)) => policy.before(*state, units),
            _ => now,
        }
    }

    /// Whether `stored` is further than this policy can come: another one's, to which nothing is given back by this.
    pub fn is_of_another(&self, stored: &State, now: u64) -> bool {
        match (self, stored) {
            (Self::Bucket(policy), State::Bucket(state)) => policy.is_beyond(*state, now),
            (Self::Fixed(policy), State::Fixed(state)) => policy.is_beyond(*state, now),
            (Self::Sliding(policy), State::Sliding(state)) => policy.is_beyond(*state, now),
            _ => false,
        }
    }

    /// The state once `units` that were taken and not spent are given back at `now`; none if all is there. What was leased
    /// counts since it was taken, for [what else](Self::since).
    pub fn give_back(&self, stored: Option<&State>, since: u64, now: u64, units: u64) -> Option<State> {
        if let Some(stored) = stored.filter(|stored| self.is_of_another(stored, now)) {
            return Some(*stored);
        }
        match self {
            Self::Bucket(policy) => policy.give_back(bucket(stored), since, now, units).map(State::Bucket),
            Self::Fixed(policy) => policy.give_back(fixed(stored), since, now, units).map(State::Fixed),
            Self::Sliding(policy) => policy.give_back(sliding(stored), since, now, units).map(State::Sliding),
            Self::Log(policy) => policy.give_back(log(stored), units).map(State::Log),
        }
    }

    /// The state once `units` that a key has spent are forgotten at `now`, whenever that was; none if all is there. A log
    /// forgets the newest by itself ([`log::Log::forget`]).
    pub fn grant(&self, stored: Option<&State>, now: u64, units: u64) -> Option<State> {
        match self {
            Self::Bucket(policy) => policy.give_back(bucket(stored), now, now, units).map(State::Bucket),
            Self::Fixed(policy) => policy.give_back(fixed(stored), now, now, units).map(State::Fixed),
            Self::Sliding(policy) => policy.grant(sliding(stored), now, units).map(State::Sliding),
            Self::Log(policy) => policy.give_back(log(stored), units).map(State::Log),
        }
    }

    /// What is known of a key of which two stores know something: whichever is more. A log is known to one store only:
    /// `stored`.
    pub fn more(&self, stored: Option<&State>, floor: Option<&State>, now: u64) -> Option<State> {
        match self {
            Self::Bucket(policy) => Some(State::Bucket(policy.more(bucket(stored), bucket(floor), now))),
            Self::Fixed(policy) => Some(State::Fixed(policy.more(fixed(stored), fixed(floor), now))),
            Self::Sliding(policy) => Some(State::Sliding(policy.more(sliding(stored), sliding(floor), now))),
            Self::Log(_) => stored.copied(),
        }
    }

    /// One of `instances` equal shares of it: of at least one unit at once.
    pub fn share(&self, instances: u32) -> Self {
        match self {
            Self::Bucket(policy) => Self::Bucket(policy.share(instances)),
            Self::Fixed(policy) => Self::Fixed(policy.share(instances)),
            Self::Sliding(policy) => Self::Sliding(policy.share(instances)),
            Self::Log(policy) => Self::Log(policy.share(instances)),
        }
    }

    /// Units that may be spent at once when all are there.
    pub fn burst(&self) -> u64 {
        match self {
            Self::Bucket(policy) => policy.burst(),
            Self::Fixed(policy) => policy.most(),
            Self::Sliding(policy) => policy.most(),
            Self::Log(policy) => policy.most(),
        }
    }

    /// For how long (µs) a state of `now` says anything, at most.
    pub fn longest(&self, now: u64) -> u64 {
        match self {
            Self::Bucket(policy) => policy.longest(),
            Self::Fixed(policy) => policy.windows().at(now).1 - now,
            Self::Sliding(policy) => 2 * policy.window(),
            Self::Log(policy) => policy.window(),
        }
    }

    /// Whether so much is spent that an instance keeps it in mind, for when it has to do without the store: half of what may
    /// be spent at once.
    pub fn is_worth_noting(&self, decision: &Decision) -> bool {
        decision.remaining <= self.burst() / 2
    }
}

impl State {
    /// The same by a clock that says `there` when this one's says `here`. Windows are where they are: only a bucket's moments
    /// move along.
    pub fn moved(self, here: u64, there: u64) -> Self {
        let by = |micros: u64| if micros > 0 { (micros + there).saturating_sub(here) } else { 0 };
        match self {
            Self::Bucket(gcra::State { arrival: gcra::Time { micros, part }, until }) => {
                Self::Bucket(gcra::State { arrival: gcra::Time { micros: by(micros), part }, until: by(until) })
            }
            other => other,
        }
    }
}

fn bucket(stored: Option<&State>) -> Option<gcra::State> {
    if let Some(State::Bucket(state)) = stored { Some(*state) } else { None }
}

fn fixed(stored: Option<&State>) -> Option<fixed::State> {
    if let Some(State::Fixed(state)) = stored { Some(*state) } else { None }
}

fn sliding(stored: Option<&State>) -> Option<sliding::State> {
    if let Some(State::Sliding(state)) = stored { Some(*state) } else { None }
}

fn log(stored: Option<&State>) -> Option<log::State> {
    if let Some(State::Log(state)) = stored { Some(*state) } else { None }
}

/// Decides about one request under several limits: which of them are charged, and what each says. The decisions come in the
/// order of the limits, each with the state after this.
pub fn settle<'a>(cases: impl Iterator<Item = Case<'a>> + Clone, now: u64) -> Vec<Decision> {
    let mut decisions: Vec<Decision> = cases.clone().map(|case| case.decide(now)).collect();
    let passes = cases.clone().zip(&decisions).all(|(case, decision)| decision.allowed || !case.binding);
    for (decision, case) in decisions.iter_mut().zip(cases) {
        if !(passes && decision.allowed) {
            *decision = case.uncharged(*decision, now);
        }
    }
    decisions
}

/// The same under one limit alone.
pub fn settle_one(case: Case<'_>, now: u64) -> Decision {
    let decision = case.decide(now);
    if decision.allowed { decision } else { case.uncharged(decision, now) }
}

impl Case<'_> {
    fn decide(&self, now: u64) -> Decision {
        self.policy.decide(self.stored.as_ref(), now, self.asked)
    }

    /// What becomes of `decision` where the request does not pass, or this limit is in shadow and would not allow it.
    fn uncharged(&self, decision: Decision, now: u64) -> Decision {
        let Self { policy, stored, asked, even_if_refused, .. } = *self;
        match (decision.allowed, even_if_refused) {
            (true, true) => policy.decide(stored.as_ref(), now, Asked { lease: 0, ..asked }),
            (true, false) => policy.decide(stored.as_ref(), now, asked.look()),
            (false, true) => {
                // The client is told when it may come again after this charge.
                let state = policy.charge(stored.as_ref(), now, asked.take);
                policy.decide(Some(&state), now, asked.look())
            }
            (false, false) => decision,
        }
    }
}

#[cfg(test)]
mod tests;
