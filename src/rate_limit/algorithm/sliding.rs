//! A sliding window out of two counters: what was spent in this window, and so much of what was spent in the one before as
//! still lies in a window that ends now.
//!
//! 1. Windows are even and follow each other since the Unix epoch. The state is the end of the current one, the units spent
//!    in it and in the one before.
//! 2. The one before counts by the share of it that is less than a window ago, rounded up: as if it had been spent evenly.
//! 3. Time moves in *ticks* of a whole number of µs: at most 2^21 in a window. A tick that has begun has not passed.
//! 4. A state of other windows (another policy's, or of a clock set back) counts in this window if its own has not ended, in
//!    the one before if that reaches into it. No counter is above the quota, or twice it where requests are charged after
//!    the fact.
//! 5. In each window of rule 1 at most the quota is spent, and less than twice the quota in any time as long as a window.
//!
//! # Why
//! Two numbers a key, and no stampede at the turn of a window. What rule 5 leaves open the log closes, at its price.
//!
//! Of rule 3: units and ticks multiplied stay below 2^53, where Lua counts exactly.

use super::{Asked, Decision, State as Any};
use crate::rate_limit::quota::Quota;

/// Ticks in a window, at most.
const TICKS: u64 = 1 << 21;

/// A quota and its windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    most: u64,
    /// What all shares give together.
    whole: u64,
    window: u64,
    owing: bool,
}

/// What is known of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the current window ends (µs since the Unix epoch).
    pub end: u64,
    /// Units spent in it.
    pub current: u64,
    /// Units spent in the one before.
    pub previous: u64,
}

impl Policy {
    /// The policy of `quota`.
    pub fn new(quota: Quota) -> Self {
        let window = u64::try_from(quota.per.as_micros()).unwrap_or(u64::MAX).clamp(1, super::gcra::LONGEST);
        let most = quota.amount.clamp(1, 1_000_000_000);
        Self { most, whole: most, window, owing: false }
    }

    /// The same, for what is charged after the fact.
    pub fn owing(self) -> Self {
        Self { owing: true, ..self }
    }

    /// One of `instances` equal shares of it: of at least one unit. What the whole has counted stays counted.
    pub fn share(&self, instances: u32) -> Self {
        Self { most: (self.most / u64::from(instances.max(1))).max(1), ..*self }
    }

    /// Units in a window.
    pub fn most(&self) -> u64 {
        self.most
    }

    /// Units that a counter may hold.
    pub fn cap(&self) -> u64 {
        if self.owing { 2 * self.whole } else { self.whole }
    }

    /// A window (µs).
    pub fn window(&self) -> u64 {
        self.window
    }

    /// µs of a tick, and ticks in a window.
    pub fn ticks(&self) -> (u64, u64) {
        let tick = self.window.div_ceil(TICKS);
        (tick, self.window / tick)
    }

    /// Decides about a request at `now` (µs since the Unix epoch).
    pub fn decide(&self, stored: Option<State>, now: u64, asked: Asked) -> Decision {
        let mut state = self.reckon(stored, now);
        let spent = self.spent(state, now);
        let allowed = spent + asked.need <= self.most;
        let taken = if allowed { asked.take } else { 0 };
        state.current += taken;
        Decision {
            allowed,
            remaining: self.most.saturating_sub(spent + taken),
            retry_after: if allowed { 0 } else { self.retry_after(state, now, asked.need) },
            reset_after: self.gone(state) - now.min(self.gone(state)),
            delay: 0,
            leased: 0,
            state: Any::Sliding(state),
        }
    }

    /// The state once `units` are charged at `now` (µs since the Unix epoch), whether there is room or not.
    pub fn charge(&self, stored: Option<State>, now: u64, units: u64) -> State {
        let state = self.reckon(stored, now);
        State { current: state.current.saturating_add(units).min(self.cap().max(state.current)), ..state }
    }

    /// The state once `units` that were taken in the window of `since` are given back at `now` (both in µs since the Unix
    /// epoch); none if it says nothing any more.
    pub fn give_back(&self, stored: Option<State>, since: u64, now: u64, units: u64) -> Option<State> {
        let mut state = self.reckon(Some(stored?), now);
        match self.end(since) {
            end if end == state.end => state.current = state.current.saturating_sub(units),
            end if end + self.window == state.end => state.previous = state.previous.saturating_sub(units),
            _ => {}
        }
        (state.current + state.previous > 0).then_some(state)
    }

    /// The state once `units` that count at `now` (µs since the Unix epoch) are forgotten: those of this window first, and
    /// then of the one before as many as make up for the rest by the share of it that counts; none if it says nothing any
    /// more.
    pub fn grant(&self, stored: Option<State>, now: u64, units: u64) -> Option<State> {
        let mut state = self.reckon(Some(stored?), now);
        let rest = units.saturating_sub(state.current);
        state.current = state.current.saturating_sub(units);
        if rest > 0 {
            let (left, ticks) = (self.left(state, now), self.ticks().1);
            let counts = (state.previous * left).div_ceil(ticks).saturating_sub(rest);
            state.previous = state.previous.min(counts * ticks / left);
        }
        (state.current + state.previous > 0).then_some(state)
    }

    /// Of what two stores say, the more.
    pub fn more(&self, left: Option<State>, right: Option<State>, now: u64) -> State {
        let (left, right) = (self.reckon(left, now), self.reckon(right, now));
        State { current: left.current.max(right.current), previous: left.previous.max(right.previous), ..left }
    }

    /// Whether it counts more in the window of `now`, or the one before, than this policy can.
    pub fn is_beyond(&self, stored: State, now: u64) -> bool {
        let start = self.end(now) - self.window;
        match stored.end {
            end if end > start => stored.current.max(stored.previous) > self.cap(),
            end => end + self.window > start && stored.current > self.cap(),
        }
    }

    /// The state in the window of `now`.
    pub fn reckon(&self, stored: Option<State>, now: u64) -> State {
        let end = self.end(now);
        let start = end - self.window;
        let (current, previous) = match stored {
            Some(stored) if stored.end > start => (stored.current, stored.previous),
            Some(stored) if stored.end + self.window > start => (0, stored.current),
            _ => (0, 0),
        };
        State { end, current: current.min(self.cap()), previous: previous.min(self.cap()) }
    }

    /// Units that count at `now`.
    fn spent(&self, state: State, now: u64) -> u64 {
        state.current + (state.previous * self.left(state, now)).div_ceil(self.ticks().1)
    }

    /// Ticks of this window that are left at `now`: at least one.
    fn left(&self, state: State, now: u64) -> u64 {
        let (tick, ticks) = self.ticks();
        (state.end - now).div_ceil(tick).min(ticks)
    }

    fn retry_after(&self, state: State, now: u64, need: u64) -> u64 {
        if need > self.most {
            return u64::MAX;
        }
        // Either in this window, as the one before goes; or in the next, as this one does.
        let at = match (self.most - need).checked_sub(state.current) {
            Some(room) => self.fits_at(state.end, room, state.previous),
            None => self.fits_at(state.end + self.window, self.most - need, state.current),
        };
        at - now
    }

    /// When of `previous` units, in the window that ends at `end`, no more than `room` count.
    fn fits_at(&self, end: u64, room: u64, previous: u64) -> u64 {
        let (tick, ticks) = self.ticks();
        match (room * ticks).checked_div(previous) {
            Some(left) if left < ticks => end - left * tick,
            _ => end - self.window,
        }
    }

    /// When nothing counts any more.
    fn gone(&self, state: State) -> u64 {
        match (state.current, state.previous) {
            (0, 0) => 0,
            (0, _) => state.end,
            _ => state.end + self.window,
        }
    }

    /// When the window of `now` ends (both in µs since the Unix epoch).
    pub fn end(&self, now: u64) -> u64 {
        now - now % self.window + self.window
    }
}
