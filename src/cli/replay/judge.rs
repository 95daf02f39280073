//! Judges requests in the order of their times, by the limits' own algorithms. Pure.
//!
//! 1. The limits of one position are settled in one step, as live: if one that binds refuses, none is charged, and the
//!    request goes no further.
//! 2. What is charged by its outcome is checked before and charged after, by the status in the log.
//! 3. A limit in shadow and a trial quota refuse nobody here either; what they would have refused is told as theirs.
//! 4. Everything about a key is kept from its first request to the end of the log; how many keys there are is bounded.
//!
//! # Why
//! What a log says of refusals back then does not count: the question is what these limits make of that traffic.

use std::sync::Arc;
use std::time::Duration;

use super::demand::{Ask, Demand, Steps};
use super::kept::Kept;
use super::tally::{Busiest, Usage};
use super::traffic::{Applied, Asking, Counted, Counts, Position};
use crate::rate_limit::algorithm::{Asked, Case, Decision, Policy, State, settle};
use crate::rate_limit::quota::Quota;
use crate::rate_limit::{Cost, Counting, Limit, Settings, policy};

/// All limits, and what became of the requests.
pub struct Judge {
    limits: Vec<Tally>,
    /// Requests that came to a limit.
    pub requests: u64,
    /// Those that one has refused.
    pub refused: u64,
    /// The first and the last of them, in µs since the Unix epoch.
    pub span: Option<(u64, u64)>,
    /// Of one request; kept, so that nothing is allocated for it.
    entries: Vec<Entry>,
}

/// What one limit makes of the traffic.
pub struct Tally {
    /// The limit.
    pub limit: Arc<Limit>,
    /// How it counts.
    pub counting: Counting,
    /// The quotas that are tried.
    pub steps: Steps,
    policy: Policy,
    trial: Option<Policy>,
    /// Its keys, by their places.
    pub counters: Vec<Counter>,
    /// Requests by what they counted as.
    pub judged: u64,
    /// Those that it refuses; in shadow: would.
    pub refused: u64,
    /// Those that the trial quota would refuse.
    pub trial_refused: u64,
    /// Requests that have to wait for their turn.
    pub delayed: u64,
    /// Requests of keys beyond the room.
    pub beyond: u64,
    /// Requests whose lines do not tell the key.
    pub untold: u64,
    /// Requests that are not counted since they lack a part of the key.
    pub skipped: u64,
    /// Requests that are refused with 400 since they lack a part of the key.
    pub lacking: u64,
    /// Exempt requests.
    pub exempt: u64,
    /// The minute with the most requests.
    pub busiest: Busiest,
}

/// What is known of one key.
#[derive(Debug, Default)]
pub struct Counter {
    state: Kept,
    trial: Kept,
    /// What it needs.
    pub demand: Demand,
    /// What it asks for in each window.
    pub usage: Usage,
    /// Requests.
    pub judged: u64,
    /// Those that were refused.
    pub refused: u64,
    /// Those that the trial quota would refuse.
    pub trial_refused: u64,
}

impl Judge {
    /// Of these limits, which all count units.
    pub fn new(limits: &[Counted], settings: Settings) -> Self {
        let tally = |counted: &Counted| {
            let counting = counted.limit.counting()?.clone();
            Some(Tally::new(counted.limit.clone(), counting, settings))
        };
        let limits = limits.iter().filter_map(tally).collect();
        Self { limits, requests: 0, refused: 0, span: None, entries: Vec::new() }
    }

    /// What each limit has made of the traffic so far.
    pub fn limits(&self) -> &[Tally] {
        &self.limits
    }

    /// Judges a request made at `now` (µs since the Unix epoch, never before the last one), whose route has these limits.
    pub fn judge(&mut self, now: u64, asking: &Asking, applied: &[Applied]) {
        self.requests += 1;
        self.span = Some((self.span.map_or(now, |(first, _)| first), now));
        let mut from = 0;
        for position in [Position::ByRequest, Position::ByPrincipal, Position::Forwarded] {
            let to = from + applied[from..].iter().take_while(|applied| applied.position == position).count();
            if to > from && (position != Position::Forwarded || !asking.from_cache) {
                let passes = self.settle(now, asking, &applied[from..to], &asking.counts[from..to]);
                if !passes {
                    self.refused += 1;
                    return;
                }
            }
            from = to;
        }
    }

    /// Settles limits of one position; whether the request passes.
    fn settle(&mut self, now: u64, asking: &Asking, applied: &[Applied], counts: &[Counts]) -> bool {
        let mut lacks = false;
        self.entries.clear();
        for (applied, counts) in applied.iter().zip(counts) {
            let tally = &mut self.limits[applied.limit];
            match *counts {
                Counts::By(place) => {
                    let (limit, place) = (applied.limit, place as usize);
                    if place >= tally.counters.len() {
                        tally.counters.resize_with(place + 1, Counter::default);
                    }
                    let ask = tally.ask(asking, applied.cost);
                    let counter = &mut tally.counters[place];
                    let stored = counter.state.state(&tally.policy, now, ask.asked);
                    self.entries.push(Entry { limit, place, ask, stored, on_trial: false });
                    if let Some(trial) = &tally.trial {
                        let stored = counter.trial.state(trial, now, ask.asked);
                        self.entries.push(Entry { limit, place, ask, stored, on_trial: true });
                    }
                }
                Counts::Beyond => tally.beyond += 1,
                Counts::Untold => tally.untold += 1,
                Counts::Skipped => tally.skipped += 1,
                Counts::Exempt => tally.exempt += 1,
                Counts::Stopped => {}
                Counts::Lacking => {
                    tally.lacking += 1;
                    lacks = true;
                }
            }
        }
        if lacks {
            return false;
        }
        let cases = self.entries.iter().map(|entry| self.limits[entry.limit].case(entry));
        let decisions = settle(cases.clone(), now);
        let passes = cases.zip(&decisions).all(|(case, decision)| decision.allowed || !case.binding);
        for (entry, decision) in self.entries.iter().zip(decisions) {
            self.limits[entry.limit].hear(now, entry, &decision, passes);
        }
        passes
    }
}

/// A limit, or its quota on trial, that counts a request.
#[derive(Clone, Copy)]
struct Entry {
    limit: usize,
    place: usize,
    ask: Ask,
    /// What is known of the key.
    stored: Option<State>,
    on_trial: bool,
}

impl Tally {
    fn new(limit: Arc<Limit>, counting: Counting, settings: Settings) -> Self {
        let of = |quota: Quota, burst: u64| {
            let counting = Counting { quota, burst, ..counting.clone() };
            policy(&limit, &counting, settings)
        };
        let set = Some(counting.burst).filter(|burst| *burst != counting.quota.amount);
        let steps = |quota: Quota| of(quota, set.unwrap_or(quota.amount));
        Self {
            steps: Steps::new(counting.quota.per, counting.algorithm, steps),
            policy: of(counting.quota, counting.burst),
            trial: limit.trial.map(|quota| of(quota, quota.amount)),
            counters: Vec::new(),
            judged: 0,
            refused: 0,
            trial_refused: 0,
            delayed: 0,
            beyond: 0,
            untold: 0,
            skipped: 0,
            lacking: 0,
            exempt: 0,
            busiest: Busiest::default(),
            limit,
            counting,
        }
    }

    /// What a request asks of it.
    fn ask(&self, asking: &Asking, cost: u64) -> Ask {
        if !self.limit.is_charged_after() {
            return Ask { asked: Asked::units(cost), after: 0 };
        }
        // No log tells what the app said of a cost: 1, as if it said nothing.
        let units = if matches!(self.limit.cost, Cost::Response(_)) { 1 } else { cost };
        let counts = asking.status.is_some_and(|status| self.limit.count.counts(status));
        Ask { asked: Asked::units(1).look(), after: if counts { units } else { 0 } }
    }

    fn case(&self, entry: &Entry) -> Case<'_> {
        let policy = self.trial.as_ref().filter(|_| entry.on_trial).unwrap_or(&self.policy);
        let binding = !self.limit.shadow && !entry.on_trial;
        let even_if_refused = self.limit.charge_refused;
        Case { policy, stored: entry.stored, asked: entry.ask.asked, binding, even_if_refused }
    }

    /// Takes account of what was decided; `passes`: the request does.
    fn hear(&mut self, now: u64, entry: &Entry, decision: &Decision, passes: bool) {
        let Entry { place, ask, on_trial, .. } = *entry;
        let refused = u64::from(!decision.allowed);
        let after = if passes { ask.after } else { 0 };
        let counter = &mut self.counters[place];
        let charged = |policy: &Policy| match after {
            0 => decision.state,
            units => policy.charge(Some(&decision.state), now, units),
        };
        match &self.trial {
            Some(trial) if on_trial => {
                counter.trial.keep(trial, now, charged(trial));
                counter.trial_refused += refused;
                self.trial_refused += refused;
            }
            _ => {
                counter.state.keep(&self.policy, now, charged(&self.policy));
                counter.judged += 1;
                counter.refused += refused;
                counter.usage.note(now, window(self.counting.quota.per), ask.asked.take + ask.after);
                self.steps.note(&mut counter.demand, now, ask);
                self.judged += 1;
                self.refused += refused;
                self.delayed += u64::from(decision.allowed && passes && decision.delay > 0);
                self.busiest.note(now, !decision.allowed);
            }
        }
    }
}

fn window(per: Duration) -> u64 {
    u64::try_from(per.as_micros()).unwrap_or(u64::MAX).max(1)
}
