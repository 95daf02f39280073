//! How a limit decides. Pure: the state, the policy and the time are arguments, the new state is in the answer.
//!
//! 1. A request asks for units that must be free (`need`), and takes some (`take`): usually as many, none if it is charged
//!    once its outcome is known.
//! 2. Several limits of one request are settled together: if one that binds refuses, none is charged, save those that are
//!    charged even so. One in shadow stops nobody, and is charged if it would allow and the request passes.
//! 3. What happened is charged after the fact, whether there is room or not. The debt that this leaves is bounded: by one
//!    more burst.
//! 4. A state is judged by the policy in force, whichever left it: nobody waits for what another policy meant by it, and
//!    nobody is given more than the one in force gives.
//!
//! # Why
//! A store knows places and locks, or keys and scripts; it decides nothing. So there is one specification, and each store
//! is held to it.

pub mod gcra;

/// How a limit counts, ready to decide with. Times are µs since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// A token bucket.
    Bucket(gcra::Policy),
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Of a token bucket.
    Bucket(gcra::State),
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
    /// Decides about a request at `now`.
    pub fn decide(&self, stored: Option<&State>, now: u64, asked: Asked) -> Decision {
        match self {
            Self::Bucket(policy) => policy.decide(bucket(stored), now, asked),
        }
    }

    /// The state once `units` are charged at `now`, whether there is room or not.
    pub fn charge(&self, stored: Option<&State>, now: u64, units: u64) -> State {
        match self {
            Self::Bucket(policy) => State::Bucket(policy.charge(bucket(stored), now, units)),
        }
    }

    /// Since when a charge of `units` that left `state` is given back, if that is done at once, for a request that was refused
    /// elsewhere. It was made at `now`.
    pub fn since(&self, state: &State, now: u64, units: u64) -> u64 {
        let _ = now;
        match (self, state) {
            (Self::Bucket(policy), State::Bucket(state)) => policy.before(*state, units),
        }
    }

    /// The state once `units` that were taken and not spent are given back at `now`; none if all is there. What was leased
    /// counts since it was taken, for [what else](Self::since).
    pub fn give_back(&self, stored: Option<&State>, since: u64, now: u64, units: u64) -> Option<State> {
        match self {
            Self::Bucket(policy) => policy.give_back(bucket(stored), since, now, units).map(State::Bucket),
        }
    }

    /// One of `instances` equal shares of it: of at least one unit at once.
    pub fn share(&self, instances: u32) -> Self {
        match self {
            Self::Bucket(policy) => Self::Bucket(policy.share(instances)),
        }
    }

    /// Units that may be spent at once when all are there.
    pub fn burst(&self) -> u64 {
        match self {
            Self::Bucket(policy) => policy.burst(),
        }
    }

    /// For how long (µs) a state says anything, at most.
    pub fn longest(&self) -> u64 {
        match self {
            Self::Bucket(policy) => policy.longest(),
        }
    }

    /// Whether so much is spent that an instance keeps it in mind, for when it has to do without the store: half of what may
    /// be spent at once.
    pub fn is_worth_noting(&self, decision: &Decision) -> bool {
        decision.remaining <= self.burst() / 2
    }
}

fn bucket(stored: Option<&State>) -> Option<gcra::State> {
    match stored {
        Some(State::Bucket(state)) => Some(*state),
        None => None,
    }
}

/// Decides about one request under several limits: which of them are charged, and what each says. The decisions come in the
/// order of the limits, each with the state after this.
pub fn settle<'a>(cases: impl Iterator<Item = Case<'a>> + Clone, now: u64) -> Vec<Decision> {
    let mut decisions: Vec<Decision> =
        cases.clone().map(|case| case.policy.decide(case.stored.as_ref(), now, case.asked)).collect();
    let passes = cases.clone().zip(&decisions).all(|(case, decision)| decision.allowed || !case.binding);
    let uncharged = decisions.iter_mut().zip(cases).filter(|(decision, _)| !(passes && decision.allowed));
    for (decision, Case { policy, stored, asked, even_if_refused, .. }) in uncharged {
        if even_if_refused && decision.allowed {
            *decision = policy.decide(stored.as_ref(), now, Asked { lease: 0, ..asked });
        } else if even_if_refused {
            // The client is told when it may come again after this charge.
            let state = policy.charge(stored.as_ref(), now, asked.take);
            *decision = policy.decide(Some(&state), now, asked.look());
        } else if decision.allowed {
            *decision = policy.decide(stored.as_ref(), now, asked.look());
        }
    }
    decisions
}
