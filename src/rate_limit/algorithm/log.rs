//! A sliding log: when each unit was spent. Exact, at the price of remembering all of them.
//!
//! 1. A unit that is spent at `t` counts from `t` until a window later, and no longer.
//! 2. At most the quota's number of units is remembered, the newest: more would change no decision. So what is charged after
//!    the fact leaves no debt beyond a window.
//! 3. Moments ahead of now (of a clock set back) count as now.
//! 4. To decide, a few numbers of the log are enough, as they are for this request ([`State`]).
//!
//! # Why
//! In any time as long as the window there are at most as many units as the quota says: no other algorithm here promises
//! that and a full quota at once. Memory and time are the quota's, so it is for small ones: configuration refuses more than
//! 10,000.

use std::collections::VecDeque;

use super::{Asked, Decision, State as Any};
use crate::rate_limit::quota::Quota;

/// A quota and its window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    most: u64,
    window: u64,
}

/// When each unit was spent (µs since the Unix epoch), the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log(VecDeque<u64>);

/// What a log says to one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Units that count.
    pub used: u64,
    /// When the newest was spent (µs since the Unix epoch); 0 if there is none.
    pub newest: u64,
    /// Of a refused request: when the unit was spent that must have gone for it to pass. And the same if it is charged
    /// although it is refused.
    pub blocking: [u64; 2],
    /// Units that this request adds.
    pub added: u64,
}

impl Policy {
    /// The policy of `quota`.
    pub fn new(quota: Quota) -> Self {
        let window = u64::try_from(quota.per.as_micros()).unwrap_or(u64::MAX).clamp(1, super::gcra::LONGEST);
        Self { most: quota.amount.max(1), window }
    }

    /// One of `instances` equal shares of it: of at least one unit.
    pub fn share(&self, instances: u32) -> Self {
        Self { most: (self.most / u64::from(instances.max(1))).max(1), ..*self }
    }

    /// Units in a window.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// A window (µs).
    pub fn window(&self) -> u64 {
        self.window
    }

    /// Decides about a request at `now` (µs since the Unix epoch), for which the log says `stored`.
    pub fn decide(&self, stored: Option<State>, now: u64, asked: Asked) -> Decision {
        let mut state = stored.unwrap_or_default();
        let allowed = state.used + asked.need <= self.most;
        let retry_after = match allowed {
            true => 0,
            false if asked.need > self.most => u64::MAX,
            false => (state.blocking[usize::from(state.added > 0)] + self.window).saturating_sub(now),
        };
        if allowed {
            state = self.charge(Some(state), now, asked.take);
        }
        Decision {
            allowed,
            remaining: self.most.saturating_sub(state.used),
            retry_after,
            reset_after: if state.used > 0 { (state.newest + self.window).saturating_sub(now) } else { 0 },
            delay: 0,
            leased: 0,
            state: Any::Log(state),
        }
    }

    /// What the log says once `units` are charged at `now` (µs since the Unix epoch), whether there is room or not.
    pub fn charge(&self, stored: Option<State>, now: u64, units: u64) -> State {
        let state = stored.unwrap_or_default();
        if units == 0 {
            return state;
        }
        let used = state.used.saturating_add(units).min(self.most);
        State { used, newest: now, added: state.added.saturating_add(units), ..state }
    }

    /// What the log says once `units` are gone from it; none if it says nothing any more.
    pub fn give_back(&self, stored: Option<State>, units: u64) -> Option<State> {
        let state = stored?;
        let used = state.used.saturating_sub(units);
        (used > 0).then_some(State { used, added: state.added.saturating_sub(units), ..state })
    }
}

impl Log {
    /// Forgets what counts no more at `now` (µs since the Unix epoch), and what is too much to remember.
    pub fn reckon(&mut self, policy: &Policy, now: u64) {
        while self.0.front().is_some_and(|oldest| oldest.saturating_add(policy.window) <= now) {
            self.0.pop_front();
        }
        self.0.iter_mut().rev().take_while(|spent| **spent > now).for_each(|spent| *spent = now);
        self.trim(policy);
    }

    /// What it says to a request.
    pub fn state(&self, policy: &Policy, now: u64, asked: Asked) -> State {
        let used = self.0.len() as u64;
        let newest = self.0.back().copied().unwrap_or_default();
        let blocking = match policy.most.checked_sub(asked.need) {
            Some(room) if used > room => [
                self.nth_newest(room).unwrap_or(now),
                room.checked_sub(asked.take).map_or(now, |nth| self.nth_newest(nth).unwrap_or(now)),
            ],
            _ => [0; 2],
        };
        State { used, newest, blocking, added: 0 }
    }

    /// Spends `units` at `now` (µs since the Unix epoch).
    pub fn add(&mut self, policy: &Policy, now: u64, units: u64) {
        self.0.extend((0..units.min(policy.most)).map(|_| now));
        self.trim(policy);
    }

    /// Takes back up to `units` that were spent at `spent_at` (µs since the Unix epoch).
    pub fn remove(&mut self, spent_at: u64, units: u64) {
        let from = self.0.partition_point(|spent| *spent < spent_at);
        let to = self.0.partition_point(|spent| *spent <= spent_at);
        self.0.drain(from.max(to.saturating_sub(usize::try_from(units).unwrap_or(usize::MAX)))..to);
    }

    /// Forgets the newest `units`.
    pub fn forget(&mut self, units: u64) {
        self.0.truncate(self.0.len().saturating_sub(usize::try_from(units).unwrap_or(usize::MAX)));
    }

    fn nth_newest(&self, nth: u64) -> Option<u64> {
        self.0.iter().rev().nth(usize::try_from(nth).ok()?).copied()
    }

    fn trim(&mut self, policy: &Policy) {
        let most = usize::try_from(policy.most).unwrap_or(usize::MAX);
        self.0.drain(..self.0.len().saturating_sub(most));
    }
}
