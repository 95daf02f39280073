//! Fixed windows: so many units in each, and all of them anew in the next.
//!
//! 1. The state is the end of a window and the units spent in it. Once it has ended, all are there again.
//! 2. A state of another window that has not ended (another policy's, or of a clock set back) counts in this one: what was
//!    spent then may have been spent in it.
//! 3. What is charged after the fact counts in the window in which it is charged: once more the quota, at most.
//! 4. A lease is units of one window, and spent in it. They are taken while as many again are left. What is given back of an
//!    earlier window is gone.
//!
//! # Why
//! This is what plans and bills mean by "1000 per day", and what a client can foresee. At the turn of two windows it gives
//! twice the quota: where that is too much, another algorithm is right.

use std::time::Duration;

use super::windows::Windows;
use super::{Asked, Decision, State as Any};
use crate::rate_limit::quota::Quota;

/// A quota and its windows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    most: u64,
    /// What all shares give together.
    whole: u64,
    windows: Windows,
    owing: bool,
    lease: u64,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the window ends (µs since the Unix epoch).
    pub end: u64,
    /// Units spent in it.
    pub count: u64,
}

impl Policy {
    /// The policy of `quota`, in windows of the calendar in the time zone called `zone`, or even ones.
    pub fn new(quota: Quota, zone: Option<&str>) -> Self {
        let most = quota.amount.max(1);
        Self { most, whole: most, windows: Windows::new(quota, zone), owing: false, lease: 0 }
    }

    /// The same, for what is charged after the fact.
    pub fn owing(self) -> Self {
        Self { owing: true, ..self }
    }

    /// The same, for keys of which leases are taken that live for `life`.
    pub fn leased(self, life: Duration) -> Self {
        Self { lease: u64::try_from(life.as_micros()).unwrap_or(u64::MAX), ..self }
    }

    /// One of `instances` equal shares of it: of at least one unit. What the whole has counted stays counted.
    pub fn share(&self, instances: u32) -> Self {
        let most = (self.most / u64::from(instances.max(1))).max(1);
        Self { most, lease: if instances > 1 { 0 } else { self.lease }, ..self.clone() }
    }

    /// Units in a window.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Units that a state may count: with what may be owed.
    pub fn cap(&self) -> u64 {
        if self.owing { 2 * self.whole } else { self.whole }
    }

    /// The windows.
    pub fn windows(&self) -> &Windows {
        &self.windows
    }

    /// How long a lease lives (µs; 0: none is taken).
    pub fn lease_life(&self) -> u64 {
        self.lease
    }

    /// Decides about a request at `now` (µs since the Unix epoch).
    pub fn decide(&self, stored: Option<State>, now: u64, asked: Asked) -> Decision {
        let mut state = self.reckon(stored, now);
        let allowed = state.count + asked.need <= self.most;
        let left = self.most.saturating_sub(state.count + asked.need);
        let leased = if allowed && self.lease > 0 && 2 * asked.lease <= left { asked.lease } else { 0 };
        if allowed {
            state.count += asked.take + leased;
        }
        let rest = state.end - now;
        Decision {
            allowed,
            remaining: self.most.saturating_sub(state.count),
            retry_after: if allowed {
                0
            } else if asked.need > self.most {
                u64::MAX
            } else {
                rest
            },
            reset_after: if state.count > 0 { rest } else { 0 },
            delay: 0,
            leased,
            state: Any::Fixed(state),
        }
    }

    /// The state once `units` are charged at `now` (µs since the Unix epoch), whether there is room or not.
    pub fn charge(&self, stored: Option<State>, now: u64, units: u64) -> State {
        let state = self.reckon(stored, now);
        State { count: state.count.saturating_add(units).min(self.cap().max(state.count)), ..state }
    }

    /// The state once `units` that were taken in the window of `since` are given back at `now` (both in µs since the Unix
    /// epoch); none if it says nothing any more.
    pub fn give_back(&self, stored: Option<State>, since: u64, now: u64, units: u64) -> Option<State> {
        let mut state = self.reckon(Some(stored?), now);
        if self.windows.at(since).1 == state.end {
            state.count = state.count.saturating_sub(units);
        }
        (state.count > 0).then_some(state)
    }

    /// Of what two stores say, the more.
    pub fn more(&self, left: Option<State>, right: Option<State>, now: u64) -> State {
        let (left, right) = (self.reckon(left, now), self.reckon(right, now));
        State { count: left.count.max(right.count), ..left }
    }

    /// Whether it counts more in the window of `now` than this policy can.
    pub fn is_beyond(&self, stored: State, now: u64) -> bool {
        stored.end > self.windows.at(now).0 && stored.count > self.cap()
    }

    /// The state in the window of `now`.
    pub fn reckon(&self, stored: Option<State>, now: u64) -> State {
        let (start, end) = self.windows.at(now);
        let count = stored.filter(|stored| stored.end > start).map_or(0, |stored| stored.count.min(self.cap()));
        State { end, count }
    }
}
