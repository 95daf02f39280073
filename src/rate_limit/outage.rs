//! What becomes of limits while Redis is away or cannot count, and of what was counted meanwhile.
//!
//! 1. `on_outage` decides, for this request: `local` counts in memory, `open` lets it pass, `closed` refuses it.
//! 2. Counted in memory, an instance gives its share of the quota (`terms`), and tells its clients so. Of how many: as last
//!    counted by `redis_pool::fleet`.
//! 3. While Redis counts, an instance keeps in mind what it is told of clients that have spent half of what may be spent at
//!    once, or more. In an outage they go on from there.
//! 4. For as long as what was counted in memory says anything, it goes along with each question to Redis, as a floor.
//! 5. So an outage resets no quota, and gives none twice. One client may gain: at its start less than half of what may be
//!    spent at once (at an instance that has not seen it lately: all of that instance's share); at its end what it was
//!    given by instances that it comes to no more, if Redis comes back empty. And where there are more instances than units
//!    that may be spent at once, each gives one all the same.
//! 6. In a cluster, of which one master may be away, a request is decided as a whole: what the others charged stays charged.
//!
//! # Why
//! To keep everybody in mind would cost each request 300 instructions (its key, a lock, a look-up) and the store a place
//! for each client. Whoever has spent less than half pays a comparison; and a client that is refused, or soon will be, is
//! in mind always.

use super::algorithm::State;
use super::algorithm::gcra::Time;
use super::judge::{Counted, Docket, RateLimit, Role, Verdict};
use super::store::redis::Settled;
use super::store::{Charge, OnOutage};
use crate::exchange::Exchange;
use crate::telemetry::LimitTrail;

impl RateLimit {
    /// Decides about a request that Redis did not.
    pub(super) fn without_redis(&self, exchange: &Exchange, mut docket: Box<Docket>) -> Verdict {
        if self.on_outage == OnOutage::Local {
            docket.terms = self.agreed.share(exchange, self.worker.fleet.instances());
            let longest = docket.entries.iter().map(|entry| docket.terms[entry.counter].policy.longest());
            let longest = longest.max().unwrap_or(0);
            self.worker.memory.stand_in(self.worker.clock.unix_micros() + longest);
            return self.in_memory(docket, Counted::Local);
        }
        let closed = self.on_outage == OnOutage::Closed;
        let counters = docket.entries.iter().map(|entry| &self.counters[entry.counter]);
        let mut binding = counters.filter(|counter| counter.role == Role::Binding);
        let first = binding.clone().next().map(|counter| counter.limit.name.clone());
        binding
            .clone()
            .filter_map(|counter| counter.outcomes.uncounted.as_ref())
            .for_each(|outcomes| if closed { outcomes.closed.inc() } else { outcomes.open.inc() });
        let binds = binding.next().is_some();
        exchange.trail.borrow_mut().limit = first.map(|name| LimitTrail {
            name,
            refused: closed,
            remaining: 0,
            counted: if closed { "closed" } else { "open" },
        });
        self.close(docket);
        if closed && binds { Verdict::Closed } else { Verdict::Unlimited }
    }

    /// Keeps in mind what Redis said of who has spent much.
    pub(super) fn note(&self, docket: &Docket, settled: &Settled) {
        if self.on_outage != OnOutage::Local {
            return;
        }
        let mut now = None;
        for (entry, decision) in docket.entries.iter().zip(&settled.decisions) {
            if !docket.terms[entry.counter].policy.is_worth_noting(decision) {
                continue;
            }
            let now = *now.get_or_insert_with(|| self.worker.clock.unix_micros());
            let State::Bucket(mut state) = decision.state;
            state.arrival.micros = (now + state.arrival.micros).saturating_sub(settled.now);
            self.worker.memory.note(docket.key(entry), State::Bucket(state), now + decision.reset_after);
        }
    }

    /// How far ahead of now the states of `charges` are at least, if anything was counted in place of Redis.
    pub(super) fn floors(&self, charges: &[Charge<'_>]) -> Vec<Time> {
        let (memory, clock) = (&self.worker.memory, &self.worker.clock);
        if !memory.stood_in(|| clock.unix_micros()) {
            return Vec::new();
        }
        let now = clock.unix_micros();
        let floor = |charge: &Charge<'_>| match memory.state(charge.key) {
            Some(State::Bucket(state)) => state.arrival.ahead(now),
            None => Time::default(),
        };
        charges.iter().map(floor).collect()
    }
}
