//! The generic cell rate algorithm (ITU-T I.371, annex A): a token bucket in one number.
//!
//! 1. The state is the *theoretical arrival time*: when everything spent will have been earned back. A state in the past,
//!    or none, means full.
//! 2. A request that costs `c` moves it by `c` *emission intervals* (window / quota). It is allowed if the result is at
//!    most `burst` intervals ahead of now.
//! 3. Time is whole microseconds and a part of one, counted in 1/quota µs. The interval is then exact for every quota:
//!    7 in a second is 142,857 µs and 1/7, and nothing drifts.
//! 4. A state further ahead than the policy in force allows (an earlier policy's, or a clock set back) counts as just
//!    empty: a client waits for what it spends, never for what another policy meant by it.
//!    If requests may be delayed, or charged after the fact, that much further ahead is allowed too, and one burst more.
//! 5. A state is a moment, so it means the same to every store: of two that know a client, the later state counts.
//! 6. One of `n` shares has intervals `n` times as long and the same tolerance, or one interval where that is longer. In a
//!    time `w`, `n` shares together thus allow at most max(`burst`, `n`) and what the whole earns in `w`.
//! 7. A *lease* is units that are taken now and spent within its life `L`. While one is active, the state is never below
//!    now + `L`; one taken while none is active adds `L` to the state first. A lease is taken only if there is room for
//!    twice as much, and never delays anybody.
//! 8. What is given back is less by what time has given back since: since it was taken, and then nothing is given twice,
//!    whatever else is in flight. Or since the state that it was added to has passed, for what is taken back at once. That
//!    is exact for one charge at a time; of several, each was added to the others: the state may then be early by the time
//!    it takes to take them back, until it has passed.
//!
//! `store/scripts/*.lua` move the state by the same steps; what the state means is read here for both stores.
//!
//! # Why
//! Rounding the interval to microseconds would make 700,000 per second 500,000, and any division on the way would
//! add up. Pairs of integers below 2^53 are also all that Lua's numbers can hold exactly.
//!
//! Of rule 6: one share allows `k` requests in `w` only if `k` of its intervals fit into `w` and its tolerance, and `n` times
//! that is the bound. Were the tolerance divided as well, the state of the whole would be beyond it, and cut.
//!
//! Of rule 7: what is spent from `s` to `t` was taken from `s - L` to `t`. The first of it left the state at `L` after its
//! taking or later, each unit since moved it by an interval, and it is never beyond the tolerance: so there are at most
//! `burst` and what is earned from `s` to `t`, as without leases.
//!
//! Of rule 8: without the charge, the state would not have moved until time reached what the charge was added to, and
//! with time since. Taking back all of it would leave the state before where it would be, by as much as it took. What a lease
//! gives back waits for long and others come in between, so it is given back less; what a refusal elsewhere takes back waits
//! for a trip, and a flood of refusals must not cost the client the time of its trips.

use std::time::Duration;

use super::{Asked, Decision};
use crate::rate_limit::quota::Quota;

/// No span is longer (31 years in µs), so that now plus six spans stays below 2^53.
pub(super) const LONGEST: u64 = 1_000_000_000_000_000;

/// A moment (µs since the Unix epoch) or a span (µs), and a part of a µs in 1/quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole microseconds.
    pub micros: u64,
    /// Parts beyond them, each 1/quota µs; less than the quota.
    pub part: u64,
}

/// What is known of a token bucket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When everything spent will have been earned back.
    pub arrival: Time,
    /// When the last lease that was taken ends (µs since the Unix epoch); in the past, or 0: none is active.
    pub until: u64,
}

/// A quota and a burst, ready to decide with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    amount: u64,
    per: u64,
    burst: u64,
    tolerance: Time,
    delay: Time,
    debt: Time,
    lease: u64,
}

impl Policy {
    /// The policy of `quota` with `burst` (units, at least 1). Spans beyond 31 years are cut to that.
    pub fn new(quota: Quota, burst: u64) -> Self {
        let per = u64::try_from(quota.per.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let amount = quota.amount.clamp(1, LONGEST);
        let none = Time::default();
        let mut policy = Self { amount, per, burst: burst.max(1), tolerance: none, delay: none, debt: none, lease: 0 };
        let most = u128::from(LONGEST) * u128::from(amount) / u128::from(per);
        policy.burst = policy.burst.min(u64::try_from(most).unwrap_or(u64::MAX));
        policy.tolerance = policy.span(policy.burst);
        policy
    }

    /// The same, but requests beyond the burst wait for up to `longest` instead of being refused.
    pub fn delaying(self, longest: Duration) -> Self {
        let micros = u64::try_from(longest.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST));
        Self { delay: Time { micros, part: 0 }, ..self }
    }

    /// The same, for what is charged after the fact: with room for a debt of one more burst.
    pub fn owing(self) -> Self {
        Self { debt: self.tolerance, ..self }
    }

    /// The same, for keys of which leases are taken that live for `life`.
    pub fn leased(self, life: Duration) -> Self {
        Self { lease: u64::try_from(life.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST)), ..self }
    }

    /// One of `instances` equal shares of it: of at least one unit at once. Of several none is leased.
    pub fn share(&self, instances: u32) -> Self {
        let per = self.per.saturating_mul(u64::from(instances.max(1))).min(LONGEST);
        let mut share = Self { per, lease: if instances > 1 { 0 } else { self.lease }, ..*self };
        share.tolerance = self.tolerance.max(share.span(1));
        share.burst = share.units(share.tolerance).max(1);
        share
    }

    /// Units that may be spent at once when full.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Parts of a µs.
    pub fn parts(&self) -> u64 {
        self.amount
    }

    /// How far ahead of now the state may be.
    pub fn tolerance(&self) -> Time {
        self.tolerance
    }

    /// How long it takes to earn `cost` units.
    pub fn span(&self, cost: u64) -> Time {
        let parts = u128::from(cost) * u128::from(self.per);
        let amount = u128::from(self.amount);
        match u64::try_from(parts / amount) {
            Ok(micros) if micros <= LONGEST => Time { micros, part: (parts % amount) as u64 },
            _ => Time { micros: LONGEST, part: 0 },
        }
    }

    /// How far ahead of now a request may be that has to wait.
    pub fn delay(&self) -> Time {
        self.delay
    }

    /// How long a lease lives (µs; 0: none is taken).
    pub fn lease_life(&self) -> u64 {
        self.lease
    }

    /// How far ahead of now a state may be at all.
    pub fn furthest(&self) -> Time {
        self.plus(self.plus(self.tolerance, self.delay), self.debt)
    }

    /// For how long (µs) a state says anything, at most.
    pub fn longest(&self) -> u64 {
        self.furthest().after(0)
    }

    /// Units that one request may need.
    fn most(&self) -> u64 {
        if self.delay == Time::default() { self.burst } else { self.units(self.reach()).max(self.burst) }
    }

    /// How far ahead of now a request may be to pass, at once or delayed.
    fn reach(&self) -> Time {
        self.plus(self.tolerance, self.delay)
    }

    /// How long it takes to earn what a request needs: longer than any tolerance if it may never have it.
    pub fn needed(&self, need: u64) -> Time {
        if need > self.most() { Time { micros: 2 * LONGEST, part: 0 } } else { self.span(need) }
    }

    /// Decides about a request at `now` (µs since the Unix epoch).
    pub fn decide(&self, stored: Option<State>, now: u64, asked: Asked) -> Decision {
        let mut state = self.reckon(stored, now);
        let before = self.held(state, now);
        let after = self.plus(before, self.span(asked.need));
        let latest = self.plus(Time { micros: now, part: 0 }, self.tolerance);
        let allowed = asked.need <= self.most() && after <= self.plus(latest, self.delay);
        let mut decision = Decision {
            allowed,
            remaining: 0,
            retry_after: 0,
            reset_after: 0,
            delay: 0,
            leased: 0,
            state: super::State::Bucket(state),
        };
        let mut spent = before;
        if allowed {
            if after > latest {
                decision.delay = self.minus(after, self.tolerance).after(now);
            }
            if asked.take > 0 {
                state.arrival = self.plus(before, self.span(asked.take));
            }
            if asked.lease > 0
                && let Some(leased) = self.lend(state, before, after, latest, now, asked)
            {
                (state, decision.leased) = (leased, asked.lease);
            }
            spent = state.arrival.max(before);
        } else {
            decision.retry_after = self.retry_after(state, now, asked.need);
        }
        if spent < latest {
            decision.remaining = self.units(self.minus(latest, spent)).min(self.burst);
        }
        decision.reset_after = state.arrival.after(now);
        decision.state = super::State::Bucket(state);
        decision
    }

    /// The state once a lease is taken besides, if there is room for twice as much after what the request needs.
    fn lend(&self, state: State, before: Time, after: Time, latest: Time, now: u64, asked: Asked) -> Option<State> {
        let life = Time { micros: self.lease, part: 0 };
        let first = if state.until > now { Time::default() } else { life };
        let lease = self.span(asked.lease);
        let fits = self.plus(self.plus(self.plus(after, first), lease), lease) <= latest;
        let arrival = self.plus(before, self.span(asked.take));
        (fits && self.lease > 0)
            .then(|| State { arrival: self.plus(self.plus(arrival, first), lease), until: now + self.lease })
    }

    fn retry_after(&self, state: State, now: u64, need: u64) -> u64 {
        if need > self.most() {
            return u64::MAX;
        }
        let (span, reach) = (self.span(need), self.reach());
        let earned = self.minus(self.plus(state.arrival, span), reach).after(now);
        // While a lease is active there may never be room enough.
        let blocked = state.until > now && self.plus(Time { micros: self.lease, part: 0 }, span) > reach;
        if blocked { earned.max(state.until - now) } else { earned }
    }

    /// The state once `units` are charged at `now` (µs since the Unix epoch), whether there is room or not.
    pub fn charge(&self, stored: Option<State>, now: u64, units: u64) -> State {
        let state = self.reckon(stored, now);
        if units == 0 {
            return state;
        }
        let furthest = self.plus(Time { micros: now, part: 0 }, self.furthest());
        let arrival = self.plus(self.held(state, now), self.span(units)).min(furthest);
        State { arrival, ..state }
    }

    /// When the state that a charge of `units` was added to had passed (µs since the Unix epoch), if it then was `state`.
    pub fn before(&self, state: State, units: u64) -> u64 {
        self.minus(state.arrival, self.span(units)).micros
    }

    /// The state once `units` that were taken and not spent are given back at `now`, less what time has given back since
    /// `since` (both in µs since the Unix epoch); none if it says nothing any more.
    pub fn give_back(&self, stored: Option<State>, since: u64, now: u64, units: u64) -> Option<State> {
        let state = self.reckon(Some(stored?), now);
        let floor = self.held(State { arrival: Time { micros: now, part: 0 }, ..state }, now);
        let (span, lost) = (self.span(units), Time { micros: now.saturating_sub(since), part: 0 });
        let mut arrival = state.arrival;
        if lost < span && arrival > floor {
            let back = self.minus(span, lost);
            arrival = if arrival > self.plus(floor, back) { self.minus(arrival, back) } else { floor };
        }
        // While a lease is active, its end says something too.
        let says = arrival > Time { micros: now, part: 0 } || state.until > now;
        says.then_some(State { arrival, ..state })
    }

    /// Of what two stores say, the later.
    pub fn more(&self, left: Option<State>, right: Option<State>, now: u64) -> State {
        let (left, right) = (self.reckon(left, now), self.reckon(right, now));
        State { arrival: left.arrival.max(right.arrival), until: left.until.max(right.until) }
    }

    /// The stored state in this policy's parts, never in the past, and never further ahead than this policy allows.
    fn reckon(&self, stored: Option<State>, now: u64) -> State {
        let full = Time { micros: now, part: 0 };
        let Some(State { arrival: Time { micros, part }, until }) = stored else {
            return State { arrival: full, until: 0 };
        };
        // Another policy's parts are of another size: less than a µs is at stake, once.
        let arrival = Time { micros, part: part.min(self.amount - 1) }.max(full);
        let until = until.min(now + self.lease);
        let until = if until > now { until } else { 0 };
        State { arrival: arrival.min(self.plus(full, self.furthest())), until }
    }

    /// Whether it is further ahead than this policy allows.
    pub fn is_beyond(&self, stored: State, now: u64) -> bool {
        let full = Time { micros: now, part: 0 };
        Time { part: stored.arrival.part.min(self.amount - 1), ..stored.arrival } > self.plus(full, self.furthest())
    }

    /// The state by which is decided: while a lease is active, not below its life.
    fn held(&self, state: State, now: u64) -> Time {
        if state.until > now { state.arrival.max(Time { micros: now + self.lease, part: 0 }) } else { state.arrival }
    }

    fn plus(&self, left: Time, right: Time) -> Time {
        let part = left.part + right.part;
        let micros = left.micros.saturating_add(right.micros);
        if part < self.amount { Time { micros, part } } else { Time { micros: micros + 1, part: part - self.amount } }
    }

    /// `left` is not before `right`.
    fn minus(&self, left: Time, right: Time) -> Time {
        let micros = left.micros - right.micros;
        match left.part.checked_sub(right.part) {
            Some(part) => Time { micros, part },
            None => Time { micros: micros - 1, part: left.part + self.amount - right.part },
        }
    }

    /// Whole units earned in `span`.
    pub(super) fn units(&self, span: Time) -> u64 {
        let parts = u128::from(span.micros) * u128::from(self.amount) + u128::from(span.part);
        u64::try_from(parts / u128::from(self.per)).unwrap_or(u64::MAX)
    }
}

impl Time {
    /// How far ahead of `now` (µs since the Unix epoch) it is; nothing if it has passed.
    pub fn ahead(self, now: u64) -> Self {
        self.micros.checked_sub(now).map_or_else(Self::default, |micros| Self { micros, ..self })
    }

    /// µs from `now` until it, rounded up; 0 if it has passed.
    pub fn after(self, now: u64) -> u64 {
        (self.micros + u64::from(self.part > 0)).saturating_sub(now)
    }
}

#[cfg(test)]
mod tests;
