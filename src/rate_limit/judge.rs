//! The limits at one position in the stack of a route, on one worker.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use redis::{Pipeline, Value};

use crate::clock::Clock;
use crate::exchange::{Answer, Exchange, Slot};
use crate::gather::Ask;
use crate::local_reply::LocalReply;
use crate::redis_pool::{Link, key};
use crate::telemetry::registry::Registry;
use crate::telemetry::{LimitTrail, Record};

use super::algorithm::gcra::{Decision, Policy};
use super::fields::{self, Fields, nearer};
use super::metrics::Outcomes;
use super::store::memory::MemoryStore;
use super::store::{Charge, OnOutage, redis as counted_in_redis};
use super::{Limit, Settings};

/// What every request costs, in quota units.
const COST: u64 = 1;

/// The seconds after which a client may try again while limits cannot be counted.
const STORE_DOWN: u64 = 1;

/// Limits that are settled together.
pub struct RateLimit {
    limits: Box<[Counted]>,
    settings: Settings,
    memory: Arc<MemoryStore>,
    link: Option<Link>,
    prefix: Box<str>,
    clock: Clock,
    /// The request alone says by what keys they count, so that `gather` can ask.
    gathered: bool,
    /// Room for the keys of a request, kept from one to the next.
    keys: Cell<Keys>,
}

/// A limit, ready to count.
struct Counted {
    limit: Arc<Limit>,
    policy: Policy,
    fields: Fields,
    /// `NAME:`, escaped.
    name: String,
    quota: String,
    outcomes: Outcomes,
}

/// The keys of a request, one after the other, and where each ends.
#[derive(Default)]
struct Keys {
    text: String,
    ends: Vec<usize>,
}

/// What happens to a request.
pub(super) enum Verdict {
    /// No limit was counted.
    Unlimited,
    /// It is within all limits; tells the nearest.
    Within(Standing),
    /// A limit refuses it.
    Beyond(Standing),
    /// The limits cannot be counted, and let nothing pass then.
    Closed,
}

/// The limit nearest to refusal.
pub(super) struct Standing {
    index: usize,
    decision: Decision,
    now: u64,
    counted: &'static str,
}

impl RateLimit {
    /// `limits`, counted in Redis over `link`, or without one in `memory`. `prefix` stands before every Redis key.
    ///
    /// The limits of a route that [need a session](super::partition::Key::needs_session) belong into one of their own,
    /// behind `session`.
    #[allow(clippy::too_many_arguments)]
    pub fn new(
        limits: Vec<Arc<Limit>>,
        settings: Settings,
        memory: Arc<MemoryStore>,
        link: Option<Link>,
        prefix: &str,
        clock: Clock,
        registry: &Arc<Registry>,
        worker: usize,
    ) -> Rc<Self> {
        let gathered = !limits.iter().any(|limit| limit.key.needs_session());
        let counted = |limit: Arc<Limit>| Counted {
            policy: Policy::new(limit.quota, limit.burst),
            fields: Fields::new(&limit, settings),
            name: key_name(&limit.name),
            quota: limit.quota.to_string(),
            outcomes: Outcomes::new(&limit.name, registry, worker),
            limit,
        };
        let limits = limits.into_iter().map(counted).collect();
        Rc::new(Self { limits, settings, memory, link, prefix: prefix.into(), clock, gathered, keys: Cell::default() })
    }

    /// Decides about a request, and charges it.
    pub(super) async fn judge(&self, exchange: &mut Exchange) -> Verdict {
        let Some(link) = &self.link else { return self.in_memory(exchange, "memory") };
        if self.limits.is_empty() {
            return Verdict::Unlimited;
        }
        let answer = if self.gathered { exchange.answers.take(Slot::Limits) } else { Answer::NotAsked };
        let settled = match answer {
            Answer::Values(values) => self.read(&values),
            Answer::Unavailable(reason) => Err(reason),
            Answer::NotAsked | Answer::Near(_) => {
                let mut pipeline = Pipeline::with_capacity(1);
                self.push_command(exchange, &mut pipeline);
                link.query(&pipeline).await.and_then(|values| self.read(&values))
            }
        };
        match settled {
            Ok((now, decisions)) => self.verdict(&decisions, now, "redis"),
            Err(_) => self.without_redis(exchange),
        }
    }

    fn without_redis(&self, exchange: &Exchange) -> Verdict {
        let note = |counted| {
            exchange.trail.borrow_mut().limit = self.limits.first().map(|nearest| LimitTrail {
                name: nearest.limit.name.clone(),
                refused: counted == "closed",
                remaining: 0,
                counted,
            });
        };
        match self.settings.on_outage {
            OnOutage::Local => self.in_memory(exchange, "local"),
            OnOutage::Open => {
                self.limits.iter().for_each(|counted| counted.outcomes.open.inc());
                note("open");
                Verdict::Unlimited
            }
            OnOutage::Closed => {
                self.limits.iter().for_each(|counted| counted.outcomes.closed.inc());
                note("closed");
                Verdict::Closed
            }
        }
    }

    fn in_memory(&self, exchange: &Exchange, counted: &'static str) -> Verdict {
        let now = self.clock.unix_micros();
        let decisions = self.charging(exchange, |charges| self.memory.settle(charges, now));
        self.verdict(&decisions, now, counted)
    }

    fn push_command(&self, exchange: &Exchange, pipeline: &mut Pipeline) {
        self.charging(exchange, |charges| counted_in_redis::ask(pipeline, &self.prefix, charges, None));
    }

    fn read(&self, values: &[Value]) -> Result<(u64, Vec<Decision>), &'static str> {
        let limits = self.limits.iter().map(|counted| (&counted.policy, COST));
        counted_in_redis::read(limits, values.first().ok_or("protocol")?)
    }

    /// Spells the keys of a request, and does something with them.
    fn charging<R>(&self, exchange: &Exchange, act: impl FnOnce(&[Charge<'_>]) -> R) -> R {
        let mut keys = self.keys.take();
        keys.text.clear();
        keys.ends.clear();
        for counted in &self.limits {
            keys.text.push_str(&counted.name);
            counted.limit.key.push(exchange, &mut keys.text);
            keys.ends.push(keys.text.len());
        }
        let mut start = 0;
        let spelt = self.limits.iter().zip(&keys.ends).map(|(counted, &end)| {
            let key = &keys.text[start..end];
            start = end;
            Charge { key, policy: &counted.policy, cost: COST }
        });
        let done = act(&spelt.collect::<Vec<_>>());
        self.keys.set(keys);
        done
    }

    fn verdict(&self, decisions: &[Decision], now: u64, counted: &'static str) -> Verdict {
        let within = decisions.iter().all(|decision| decision.allowed);
        for (limit, decision) in self.limits.iter().zip(decisions) {
            let outcomes = &limit.outcomes;
            match (counted == "local", decision.allowed) {
                (false, false) => outcomes.refused.inc(),
                (true, false) => outcomes.local_refused.inc(),
                // Not charged, since another refused.
                (_, true) if !within => {}
                (false, true) => outcomes.allowed.inc(),
                (true, true) => outcomes.local_allowed.inc(),
            }
        }
        let rank = |index: usize| {
            let decision: &Decision = &decisions[index];
            (!decision.allowed, decision.remaining, self.limits[index].policy.burst())
        };
        let nearest = (0..decisions.len()).reduce(|nearest, other| {
            let waits = decisions[other].retry_after.cmp(&decisions[nearest].retry_after);
            // The longest wait is what the client has to be told.
            if waits.is_gt() || waits.is_eq() && nearer(rank(other), rank(nearest)) { other } else { nearest }
        });
        let Some(index) = nearest else { return Verdict::Unlimited };
        let standing = Standing { index, decision: decisions[index], now, counted };
        if within { Verdict::Within(standing) } else { Verdict::Beyond(standing) }
    }

    /// Tells a client where it stands, and the access log, unless a limit nearer to refusal has done so.
    pub(super) fn show(&self, standing: &Standing, record: &mut Record, fields: &mut HeaderMap) {
        let Counted { limit, fields: written, .. } = &self.limits[standing.index];
        let decision = &standing.decision;
        // Once a limit is on record, the fields in the answer are its.
        if let (Some(other), Some((remaining, quota))) = (&record.limit, fields::shown(fields))
            && !nearer((!decision.allowed, decision.remaining, limit.quota.amount), (other.refused, remaining, quota))
        {
            return;
        }
        written.write(decision, standing.now, fields);
        record.limit = Some(LimitTrail {
            name: limit.name.clone(),
            refused: !decision.allowed,
            remaining: decision.remaining,
            counted: standing.counted,
        });
    }

    /// The refusal by the limit nearest to it.
    pub(super) fn refusal(&self, standing: &Standing) -> LocalReply {
        let Counted { limit, quota, .. } = &self.limits[standing.index];
        LocalReply::RateLimited {
            limit: limit.name.clone(),
            retry_after: fields::retry_after(standing.decision.retry_after),
            quota: quota.clone(),
        }
    }

    /// The refusal because nothing can be counted.
    pub(super) fn store_down() -> LocalReply {
        LocalReply::LimitStoreDown { retry_after: STORE_DOWN }
    }
}

impl Ask for RateLimit {
    fn slot(&self) -> Slot {
        Slot::Limits
    }

    fn ask(&self, exchange: &mut Exchange, pipeline: &mut Pipeline) -> usize {
        if !self.gathered || self.link.is_none() || self.limits.is_empty() {
            return 0;
        }
        self.push_command(exchange, pipeline);
        1
    }
}

/// How the keys of limit `name` begin: `NAME:`, escaped such that the colon after it is the first.
pub fn key_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    for (index, piece) in name.split(':').enumerate() {
        if index > 0 {
            out.push_str("%3a");
        }
        key::push_escaped(&mut out, piece);
    }
    out.push(':');
    out
}
