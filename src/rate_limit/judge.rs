//! The limits at one position in the stack of a route, on one worker.
//!
//! 1. Which of them count a request, and under what keys (`docket`): not those that it is exempt from, nor those whose key it
//!    lacks and that look away then; one may refuse it for what it lacks.
//! 2. What it costs (`counter`): known before, or after its answer (`after`).
//! 3. One question to the store for all of them, asked ahead by `gather` where the request alone says what to ask.
//! 4. What they say together (`verdict`): limits in shadow and quotas on trial are counted, and refuse nobody.
//! 5. Who is beyond its quota and may wait waits (`delay`).
//! 6. Whoever is known to be refused without asking (`refusals`, `lease`) has no other question asked, by no room further in.
//! 7. What the client is told, and the access log (`telling`).

mod counter;
mod docket;
mod telling;
mod undoing;
mod verdict;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use redis::{Pipeline, Value};

use crate::clock::Clock;
use crate::exchange::{Answer, Exchange, Slot};
use crate::gather::Ask;
use crate::redis_pool::Link;
use crate::redis_pool::fleet::Fleet;
use crate::telemetry::registry::Registry;

use super::delay::WaitingRoom;
use super::lease::{self, Leases};
use super::refusals::Refusals;
use super::store::memory::MemoryStore;
use super::store::redis::{self as counted_in_redis, Counters, Settled};
use super::store::{Charge, OnOutage};
use super::terms::Agreed;
use super::top::Tops;
use super::{Count, Limit, Precision, Settings};
pub use counter::key_name;
pub(super) use counter::{Counter, Role, Spelt};
pub(super) use docket::Docket;
pub(super) use verdict::{Standing, Verdict};

/// Dockets that are kept for the next requests.
const IDLE: usize = 64;

/// What the limits of one worker have in common.
#[derive(Clone)]
pub struct Worker {
    /// Counts without Redis.
    pub memory: Arc<MemoryStore>,
    /// The way to Redis, if limits are counted there.
    pub link: Option<Link>,
    /// What this process has taken ahead there.
    pub leases: Arc<Leases>,
    /// What it remembers to be refused there.
    pub refusals: Arc<Refusals>,
    /// Before every Redis key.
    pub prefix: Box<str>,
    /// Redis is a cluster: the limits of a request are settled apart, since their keys are in different slots.
    pub apart: bool,
    /// Who is refused most.
    pub tops: Arc<Tops>,
    /// How many instances share a quota while Redis is away.
    pub fleet: Arc<Fleet>,
    /// Requests of this process that wait for their turn.
    pub waiting: Arc<AtomicUsize>,
    /// The time.
    pub clock: Clock,
    /// Every counter.
    pub registry: Arc<Registry>,
    /// Which worker it is.
    pub number: usize,
}

/// Limits that are settled together.
pub struct RateLimit {
    pub(super) counters: Box<[Counter]>,
    pub(super) agreed: Agreed,
    pub(super) on_outage: OnOutage,
    pub(super) worker: Worker,
    pub(super) waiting_room: WaitingRoom,
    /// What is asked is known before the request is forwarded, so that `gather` can ask.
    gathered: bool,
    /// Some units are taken ahead.
    leases: Option<Arc<Leases>>,
    /// Refusals of some are remembered.
    remembers: bool,
    /// Clients are told by what they are counted.
    tells_partitions: bool,
    /// Dockets without a request. A docket goes with its request, in its box.
    #[allow(clippy::vec_box)]
    idle: RefCell<Vec<Box<Docket>>>,
}

/// Where a request was counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// In Redis.
    Redis,
    /// In memory: there is no Redis.
    Memory,
    /// In memory, while Redis is away.
    Local,
}

impl Counted {
    /// Its word in the access log.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Redis => "redis",
            Self::Memory => "memory",
            Self::Local => "local",
        }
    }
}

impl RateLimit {
    /// `limits`, counted in Redis over the worker's link, or without one in its memory; `cost`: units of a request on this
    /// route, where limits do not ask its answer.
    ///
    /// The limits of a route that [need a session](Limit::needs_session) belong into one of their own, behind `session`;
    /// those that [count what is forwarded](Count::Forwarded) into one behind `cache`.
    pub fn new(limits: &[Arc<Limit>], cost: Option<u64>, settings: Settings, worker: &Worker) -> Rc<Self> {
        let (counters, subjects): (Vec<_>, Vec<_>) = Counter::all(limits, cost, worker).into_iter().unzip();
        let leased = limits.iter().any(|limit| limit.precision == Precision::Leased);
        if worker.link.is_some() {
            // They are there from the start, not only from the first lease on.
            for counter in counters.iter().filter(|counter| counter.limit.precision == Precision::Leased) {
                lease::counters(counter.beginning(), &worker.registry, worker.number);
            }
        }
        let remembers = worker.link.is_some() && counters.iter().any(Counter::is_remembered);
        Rc::new(Self {
            counters: counters.into(),
            agreed: Agreed::new(subjects.into(), settings),
            on_outage: settings.on_outage,
            worker: worker.clone(),
            waiting_room: WaitingRoom::new(worker, settings.max_delayed),
            gathered: limits.iter().all(|limit| limit.count != Count::Forwarded),
            leases: worker.link.as_ref().filter(|_| leased).map(|_| worker.leases.clone()),
            remembers,
            tells_partitions: settings.draft_fields && settings.partition_keys,
            idle: RefCell::default(),
        })
    }

    /// Decides about a request, and charges it; who may wait has waited.
    pub(super) async fn judge(&self, exchange: &mut Exchange) -> Verdict {
        let kept = if self.gathered { exchange.answers.kept() } else { None };
        let docket = kept.and_then(|kept| kept.downcast().ok()).unwrap_or_else(|| self.open(exchange));
        if let Some(counter) = docket.missing {
            let Counter { outcomes, limit, .. } = &self.counters[counter];
            outcomes.refused.inc();
            self.close(docket);
            return Verdict::Nameless(limit.name.clone());
        }
        if docket.entries.is_empty() {
            self.close(docket);
            return Verdict::Unlimited;
        }
        let verdict = match &self.worker.link {
            None => self.in_memory(docket, Counted::Memory),
            Some(_) if !docket.asks() => self.verdict(docket, self.worker.clock.unix_micros(), Counted::Redis),
            Some(link) => {
                let answer = if self.gathered { exchange.answers.take(Slot::Limits) } else { Answer::NotAsked };
                let settled = match answer {
                    Answer::Values(values) => self.read(&docket, &values),
                    Answer::Unavailable(reason) => Err(reason),
                    Answer::NotAsked | Answer::Near(_) => {
                        let mut pipeline = Pipeline::with_capacity(1);
                        self.push_commands(&docket, &mut pipeline);
                        // In a box: it would make the future of every request larger.
                        Box::pin(link.query(&pipeline)).await.and_then(|values| self.read(&docket, &values))
                    }
                };
                match settled {
                    Ok(settled) => self.by_redis(link, docket, &settled),
                    Err(_) => self.without_redis(exchange, docket),
                }
            }
        };
        match verdict {
            // Rare, and large.
            Verdict::Within(standing) if standing.turn.is_some() => Box::pin(self.wait(standing)).await,
            verdict => verdict,
        }
    }

    fn by_redis(&self, link: &Link, mut docket: Box<Docket>, settled: &Settled) -> Verdict {
        if !settled.refunds.is_empty() {
            let (counters, mut pipeline) = (self.in_redis(), Pipeline::with_capacity(settled.refunds.len()));
            docket.with_charges(&self.counters, |charges| {
                for &(index, since) in &settled.refunds {
                    let Charge { key, policy, asked, .. } = charges[index];
                    counters.give_back(&mut pipeline, key, policy, since, asked.take);
                }
            });
            link.send(pipeline);
        }
        self.note(&docket, settled);
        docket.lend(&settled.decisions);
        if self.remembers {
            docket.remember(&settled.decisions, &self.counters, &self.worker.refusals);
        }
        docket.hear(&settled.decisions, settled.now, &self.counters);
        self.verdict(docket, settled.now, Counted::Redis)
    }

    pub(super) fn in_memory(&self, mut docket: Box<Docket>, counted: Counted) -> Verdict {
        let now = self.worker.clock.unix_micros();
        let memory = &self.worker.memory;
        let one = match docket.asked() {
            [_] => docket.charges(&self.counters).next().map(|charge| memory.settle_one(&charge, now)),
            _ => None,
        };
        match one {
            Some(decision) => docket.hear(&[decision], now, &self.counters),
            None => {
                let decisions = docket.with_charges(&self.counters, |charges| memory.settle(charges, now));
                docket.hear(&decisions, now, &self.counters);
            }
        }
        self.verdict(docket, now, counted)
    }

    fn push_commands(&self, docket: &Docket, pipeline: &mut Pipeline) -> usize {
        let apart = self.worker.apart;
        docket.with_charges(&self.counters, |charges| {
            self.in_redis().ask(pipeline, charges, &self.floors(charges), apart)
        })
    }

    pub(super) fn in_redis(&self) -> Counters<'_> {
        Counters { prefix: &self.worker.prefix, here: self.worker.clock.unix_micros(), there: None }
    }

    fn read(&self, docket: &Docket, values: &[Value]) -> Result<Settled, &'static str> {
        counted_in_redis::read(docket.charges(&self.counters), values)
    }

    fn open(&self, exchange: &Exchange) -> Box<Docket> {
        let terms = self.agreed.of(exchange);
        let idle = self.idle.borrow_mut().pop();
        let mut docket = idle.unwrap_or_else(|| Box::new(Docket::new(terms.clone())));
        docket.open(exchange, &self.counters, terms);
        if let Some(leases) = &self.leases {
            docket.spend(&self.counters, leases, self.worker.fleet.instances() == 1);
        }
        if self.remembers {
            docket.recall(&self.counters, &self.worker.refusals);
        }
        docket
    }

    /// `docket` is of no more use to its request.
    pub(super) fn close(&self, mut docket: Box<Docket>) {
        docket.settled();
        let mut idle = self.idle.borrow_mut();
        if idle.len() < IDLE {
            idle.push(docket);
        }
    }
}

impl Ask for RateLimit {
    fn slot(&self) -> Slot {
        Slot::Limits
    }

    fn ask(&self, exchange: &mut Exchange, pipeline: &mut Pipeline) -> usize {
        if !self.gathered || self.worker.link.is_none() {
            return 0;
        }
        let docket = self.open(exchange);
        let asked = if docket.asks() { self.push_commands(&docket, pipeline) } else { 0 };
        if docket.is_refused() {
            exchange.answers.refused = true;
        }
        exchange.answers.keep(docket);
        asked
    }
}
