//! What becomes of limits while Redis is away or cannot count, and of what was counted meanwhile.
//!
//! 1. `on_outage` decides, for this request: `local` counts in memory, `open` lets it pass, `closed` refuses it.
//! 2. Counted in memory, an instance gives its share of the quota (`terms`), and tells its clients so. Of how many: as last
//!    counted by `redis_pool::fleet`; one that has not reached Redis for 15 s is not among them, and gives a share all the
//!    same.
//! 3. While Redis counts, an instance keeps in mind what it is told of clients that have spent half of what may be spent at
//!    once, or more. In an outage they go on from there.
//! 4. From the moment at which Redis is lost, also while nobody asks ([`Vigil`]), what is in mind goes along with each
//!    question to Redis as a floor, for as long as it says anything.
//! 5. So an outage resets no quota, and gives none twice. One client may gain: at its start less than half of what may be
//!    spent at once (at an instance that has not seen it lately: all of that instance's share); at its end what it was
//!    given by instances that it comes to no more, if Redis comes back empty. And where there are more instances than units
//!    that may be spent at once, each gives one all the same.
//! 6. A sliding log is not kept in mind, and no floor: what it knows is in one place. An outage gives its clients an
//!    instance's share anew.
//! 7. In a cluster, of which one master may be away, a request is decided as a whole: what the others charged stays charged.
//!
//! # Why
//! To keep everybody in mind would cost each request 300 instructions (its key, a lock, a look-up) and the store a place
//! for each client. Whoever has spent less than half pays a comparison; and a client that is refused, or soon will be, is
//! in mind always.

use std::sync::Arc;

use tokio::task::AbortHandle;

use super::algorithm::State;
use super::judge::{Counted, Docket, RateLimit, Role, Verdict};
use super::store::memory::MemoryStore;
use super::store::redis::Settled;
use super::store::{Charge, OnOutage};
use crate::exchange::Exchange;
use crate::redis_pool::Link;
use crate::telemetry::LimitTrail;

/// Has the store in memory stand in for a Redis that is lost, until this is dropped.
#[derive(Debug)]
pub struct Vigil(AbortHandle);

impl Vigil {
    /// Over `memory`, for the Redis of `link`. To be called inside a `LocalRuntime`.
    pub fn start(memory: &Arc<MemoryStore>, link: &Link) -> Self {
        let (memory, mut standing) = (memory.clone(), link.subscribe());
        let task = tokio::task::spawn_local(async move {
            // Gone and back is one change, if nobody looked in between.
            while standing.changed().await.is_ok() {
                memory.stand_in(memory.noted_until());
            }
        });
        Self(task.abort_handle())
    }
}

impl Drop for Vigil {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl RateLimit {
    /// Decides about a request that Redis did not.
    pub(super) fn without_redis(&self, exchange: &Exchange, mut docket: Box<Docket>) -> Verdict {
        let outcomes = docket.asked().iter().map(|entry| &self.counters[entry.counter].outcomes);
        outcomes.filter_map(|outcomes| outcomes.store_errors.as_ref()).for_each(|errors| errors.inc());
        if self.on_outage == OnOutage::Local {
            docket.unanswered();
            docket.terms = self.agreed.share(exchange, self.worker.fleet.instances());
            let now = self.worker.clock.unix_micros();
            let longest = docket.asked().iter().map(|entry| docket.terms[entry.counter].policy.longest(now));
            self.worker.memory.stand_in(now + longest.max().unwrap_or(0));
            return self.in_memory(docket, Counted::Local);
        }
        let closed = self.on_outage == OnOutage::Closed;
        let counters = docket.asked().iter().map(|entry| &self.counters[entry.counter]);
        let binding: Vec<_> = counters.filter(|counter| counter.role == Role::Binding).collect();
        for outcomes in binding.iter().filter_map(|counter| counter.outcomes.uncounted.as_ref()) {
            if closed { outcomes.closed.inc() } else { outcomes.open.inc() }
        }
        exchange.trail.borrow_mut().limit = binding.first().map(|counter| LimitTrail {
            name: counter.limit.name.clone(),
            refused: closed,
            remaining: 0,
            counted: if closed { "closed" } else { "open" },
        });
        let refused = closed && !binding.is_empty();
        docket.ask_nothing();
        if refused {
            docket.put_back();
        }
        if refused || docket.entries.is_empty() {
            self.close(docket);
            return if refused { Verdict::Closed } else { Verdict::Unlimited };
        }
        self.verdict(docket, self.worker.clock.unix_micros(), Counted::Redis)
    }

    /// Keeps in mind what Redis said of who has spent much.
    pub(super) fn note(&self, docket: &Docket, settled: &Settled) {
        if self.on_outage != OnOutage::Local {
            return;
        }
        let mut now = None;
        for (entry, decision) in docket.asked().iter().zip(&settled.decisions) {
            if !docket.terms[entry.counter].policy.is_worth_noting(decision) {
                continue;
            }
            let now = *now.get_or_insert_with(|| self.worker.clock.unix_micros());
            let (policy, state) = (&docket.terms[entry.counter].policy, decision.state.moved(settled.now, now));
            self.worker.memory.note(docket.key(entry), policy, state, now + decision.reset_after, now);
        }
    }

    /// What the states of `charges` are at least, if anything was counted in place of Redis.
    pub(super) fn floors(&self, charges: &[Charge<'_>]) -> Vec<Option<State>> {
        let (memory, clock) = (&self.worker.memory, &self.worker.clock);
        if !memory.stood_in(|| clock.unix_micros()) {
            return Vec::new();
        }
        charges.iter().map(|charge| memory.state(charge.key)).collect()
    }
}
