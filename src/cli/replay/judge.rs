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

use super::demand::{Ask, Demand, Steps, judged};
use super::tally::{Busiest, Usage};
use super::terms;
use super::traffic::{Applied, Asking, Counts, Position};
use crate::rate_limit::algorithm::{Asked, Case, Policy, State, settle};
use crate::rate_limit::{Cost, Count, Counting, Limit};

/// All limits, and what became of the requests.
pub struct Judge {
    limits: Vec<Tally>,
    /// Requests that came to a limit.
    pub requests: u64,
    /// Those that one has refused.
    pub refused: u64,
    /// The first and the last of them, in µs since the Unix epoch.
    pub span: Option<(u64, u64)>,
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
    state: Option<State>,
    trial: Option<State>,
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
    pub fn new(limits: &[Arc<Limit>]) -> Self {
        let tally = |limit: &Arc<Limit>| Some(Tally::new(limit.clone(), limit.counting()?.clone()));
        Self { limits: limits.iter().filter_map(tally).collect(), requests: 0, refused: 0, span: None }
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
        let mut counted: Vec<(usize, usize, Ask)> = Vec::with_capacity(applied.len());
        for (applied, counts) in applied.iter().zip(counts) {
            let tally = &mut self.limits[applied.limit];
            match *counts {
                Counts::By(place) => {
                    let place = place as usize;
                    if place >= tally.counters.len() {
                        tally.counters.resize_with(place + 1, Counter::default);
                    }
                    counted.push((applied.limit, place, tally.ask(asking, applied.cost)));
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
        let cases = counted.iter().map(|(limit, place, ask)| {
            let tally = &self.limits[*limit];
            let Limit { shadow, charge_refused, .. } = *tally.limit;
            Case {
                policy: &tally.policy,
                stored: tally.counters[*place].state,
                asked: ask.asked,
                binding: !shadow,
                even_if_refused: charge_refused,
            }
        });
        let decisions = settle(cases, now);
        let binding = |limit: usize| !self.limits[limit].limit.shadow;
        let passes = counted.iter().zip(&decisions).all(|((limit, ..), decision)| decision.allowed || !binding(*limit));
        for ((limit, place, ask), decision) in counted.into_iter().zip(decisions) {
            let after = if passes && decision.allowed { ask.after } else { 0 };
            let tally = &mut self.limits[limit];
            tally.note(place, now, ask, decision.allowed, passes);
            tally.delayed += u64::from(decision.allowed && passes && decision.delay > 0);
            let state = if after > 0 { tally.policy.charge(Some(&decision.state), now, after) } else { decision.state };
            tally.counters[place].state = Some(state);
        }
        passes
    }
}

impl Tally {
    fn new(limit: Arc<Limit>, counting: Counting) -> Self {
        let per = counting.quota.per;
        let whole = counting.burst == counting.quota.amount;
        let steps = |quota: crate::rate_limit::quota::Quota| {
            let burst = if whole { quota.amount } else { counting.burst };
            terms::policy(&limit, &Counting { quota, burst, ..counting.clone() })
        };
        let trial = limit.trial.map(|quota| {
            let burst = if whole { quota.amount } else { counting.burst };
            terms::policy(&limit, &Counting { quota, burst, ..counting.clone() })
        });
        Self {
            steps: Steps::new(per, terms::greatest(&counting), terms::is_alike(&counting), steps),
            policy: terms::policy(&limit, &counting),
            trial,
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
        let by_status = |counts: bool| Ask { asked: Asked::units(1).look(), after: u64::from(counts) };
        match (&self.limit.count, &self.limit.cost) {
            (count @ Count::Statuses(_), _) => by_status(asking.status.is_some_and(|status| count.counts(status))),
            // No log tells what the app would have said: 1, as if it said nothing.
            (_, Cost::Response(_)) => by_status(true),
            _ => Ask { asked: Asked::units(cost), after: 0 },
        }
    }

    fn note(&mut self, place: usize, now: u64, ask: Ask, allowed: bool, passes: bool) {
        let counter = &mut self.counters[place];
        counter.judged += 1;
        self.judged += 1;
        counter.refused += u64::from(!allowed);
        self.refused += u64::from(!allowed);
        self.busiest.note(now, !allowed);
        counter.usage.note(now, window(self.counting.quota.per), ask.asked.take + ask.after);
        self.steps.note(&mut counter.demand, now, ask);
        if let Some(trial) = &self.trial {
            let (allowed, state) = judged(trial, counter.trial.as_ref(), now, ask);
            // Charged as live: only if the request passes.
            if allowed && passes {
                counter.trial = Some(state);
            }
            counter.trial_refused += u64::from(!allowed);
            self.trial_refused += u64::from(!allowed);
        }
    }
}

fn window(per: Duration) -> u64 {
    u64::try_from(per.as_micros()).unwrap_or(u64::MAX).max(1)
}
