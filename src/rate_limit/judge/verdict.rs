//! From what each counter says to what happens to the request.

use std::sync::Arc;

use super::counter::Role;
use super::docket::{Docket, Entry};
use super::{Counted, RateLimit};
use crate::rate_limit::delay::Turn;
use crate::rate_limit::fields::nearer;

/// What happens to a request.
pub(in crate::rate_limit) enum Verdict {
    /// No limit was counted.
    Unlimited,
    /// It is within all limits.
    Within(Standing),
    /// A limit refuses it.
    Beyond(Standing),
    /// It lacks what the limit of this name counts by.
    Nameless(Arc<str>),
    /// The limits cannot be counted, and let nothing pass then.
    Closed,
}

/// What the limits say, and which of them is nearest to refusal.
pub(in crate::rate_limit) struct Standing {
    pub(in crate::rate_limit) docket: Box<Docket>,
    /// Of those that bind, by its place among the entries; there may be none.
    pub(in crate::rate_limit) nearest: Option<usize>,
    /// When (µs since the Unix epoch), by the clock of the store.
    pub(in crate::rate_limit) now: u64,
    pub(in crate::rate_limit) counted: Counted,
    /// It has to wait.
    pub(in crate::rate_limit) turn: Option<Turn>,
}

impl RateLimit {
    /// What `docket` comes to, whose counters were asked at `now`.
    pub(in crate::rate_limit) fn verdict(&self, mut docket: Box<Docket>, now: u64, counted: Counted) -> Verdict {
        let binds = |entry: &Entry| self.counters[entry.counter].role == Role::Binding;
        let mut within = docket.entries.iter().filter(|entry| binds(entry)).all(|entry| entry.said.allowed);
        let delay = docket.entries.iter().filter(|entry| binds(entry)).map(|entry| entry.said.delay).max().unwrap_or(0);
        let mut turn = None;
        if within && delay > 0 {
            turn = self.waiting_room.enter(delay);
            if turn.is_none() {
                self.give_back(&docket, None, counted);
                within = false;
                for entry in docket.entries.iter_mut().filter(|entry| entry.said.delay > 0) {
                    entry.said.allowed = false;
                    entry.said.retry_after = entry.said.delay;
                }
            }
        }
        match (within, &turn) {
            (true, None) => docket.settled(),
            (true, Some(_)) => {}
            (false, _) => docket.put_back(),
        }
        self.count(&docket, within, now, counted);
        let nearest = self.nearest(&docket);
        let standing = Standing { docket, nearest, now, counted, turn };
        if within { Verdict::Within(standing) } else { Verdict::Beyond(standing) }
    }

    fn count(&self, docket: &Docket, within: bool, now: u64, counted: Counted) {
        for entry in &docket.entries {
            let counter = &self.counters[entry.counter];
            if !entry.said.allowed {
                counter.remember_refused(docket.key(entry), now);
            }
            let outcomes = &counter.outcomes;
            let passes = within && entry.said.allowed;
            if let Some(charged) = &outcomes.charged
                && (passes || counter.limit.charge_refused && !entry.is_known())
            {
                charged.add(counter.asked.take);
            }
            match (counted == Counted::Local && !entry.is_known(), entry.said.allowed) {
                (false, false) => outcomes.refused.inc(),
                (true, false) => outcomes.local_refused.inc(),
                // Not charged, since another refused.
                (_, true) if !within => {}
                (false, true) => outcomes.allowed.inc(),
                (true, true) => outcomes.local_allowed.inc(),
            }
            if within && entry.said.delay > 0 {
                outcomes.delayed.iter().for_each(|delayed| delayed.inc());
            }
        }
    }

    /// The limit nearest to refusal, of those that bind: of several that refuse, the one with the longest wait, which is what
    /// the client has to be told.
    pub(in crate::rate_limit) fn nearest(&self, docket: &Docket) -> Option<usize> {
        let entries = &docket.entries;
        let rank = |index: usize| {
            let Entry { counter, said, .. } = &entries[index];
            (!said.allowed, said.remaining, docket.terms[*counter].policy.burst())
        };
        let binding = (0..entries.len()).filter(|&index| self.counters[entries[index].counter].role == Role::Binding);
        binding.reduce(|nearest, other| {
            let waits = entries[other].said.retry_after.cmp(&entries[nearest].said.retry_after);
            if waits.is_gt() || waits.is_eq() && nearer(rank(other), rank(nearest)) { other } else { nearest }
        })
    }
}
