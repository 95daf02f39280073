//! The limits at one position in the stack of a route, on one worker.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;

use http::HeaderMap;
use redis::{Pipeline, Value};

use crate::clock::Clock;
use crate::exchange::{Answer, Exchange, Slot};
use crate::gather::Ask;
use crate::local_reply::{LocalReply, Refused};
use crate::redis_pool::fleet::Fleet;
use crate::redis_pool::{Link, key};
use crate::telemetry::registry::Registry;
use crate::telemetry::{LimitTrail, Record};

use super::algorithm::{Asked, Decision};
use super::fields::{self, Partition, Told, nearer};
use super::metrics::Outcomes;
use super::store::memory::MemoryStore;
use super::store::redis::{self as counted_in_redis, Settled};
use super::store::{Charge, OnOutage};
use super::terms::{Agreed, Terms};
use super::{Limit, Settings};

/// What every request costs, in quota units.
const COST: u64 = 1;

/// The seconds after which a client may try again while limits cannot be counted.
const STORE_DOWN: u64 = 1;

/// What the limits of one worker have in common.
#[derive(Clone)]
pub struct Worker {
    /// Counts without Redis.
    pub memory: Arc<MemoryStore>,
    /// The way to Redis, if limits are counted there.
    pub link: Option<Link>,
    /// Before every Redis key.
    pub prefix: Box<str>,
    /// Redis is a cluster: the limits of a request are settled apart, since their keys are in different slots.
    pub apart: bool,
    /// How many instances share a quota while Redis is away.
    pub fleet: Arc<Fleet>,
    /// The time.
    pub clock: Clock,
    /// Every counter.
    pub registry: Arc<Registry>,
    /// Which worker it is.
    pub number: usize,
}

/// Limits that are settled together.
pub struct RateLimit {
    pub(super) limits: Box<[Counted]>,
    pub(super) agreed: Agreed,
    pub(super) on_outage: OnOutage,
    pub(super) worker: Worker,
    /// The request alone says by what keys they count, so that `gather` can ask.
    gathered: bool,
    /// Clients are told by what they are counted.
    tells_partitions: bool,
    /// Room for the keys of a request, kept from one to the next.
    keys: Cell<Keys>,
}

/// A limit, ready to count.
pub(super) struct Counted {
    pub(super) limit: Arc<Limit>,
    /// `NAME:`, escaped.
    name: String,
    pub(super) outcomes: Outcomes,
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

/// What the limits say, and which of them is nearest to refusal.
pub(super) struct Standing {
    nearest: usize,
    terms: Rc<[Terms]>,
    decisions: Vec<Decision>,
    /// In the order of the decisions; empty: clients are not told.
    partitions: Vec<Partition>,
    now: u64,
    counted: &'static str,
}

impl RateLimit {
    /// `limits`, counted in Redis over the worker's link, or without one in its memory.
    ///
    /// The limits of a route that [need a session](super::partition::Key::needs_session) belong into one of their own,
    /// behind `session`.
    pub fn new(limits: &[Arc<Limit>], settings: Settings, worker: &Worker) -> Rc<Self> {
        let counted = |limit: &Arc<Limit>| Counted {
            name: key_name(&limit.name),
            outcomes: Outcomes::new(&limit.name, &worker.registry, worker.number),
            limit: limit.clone(),
        };
        Rc::new(Self {
            limits: limits.iter().map(counted).collect(),
            agreed: Agreed::new(limits, settings),
            on_outage: settings.on_outage,
            worker: worker.clone(),
            gathered: !limits.iter().any(|limit| limit.needs_session()),
            tells_partitions: settings.draft_fields && settings.partition_keys,
            keys: Cell::default(),
        })
    }

    /// Decides about a request, and charges it.
    pub(super) async fn judge(&self, exchange: &mut Exchange) -> Verdict {
        let Some(link) = &self.worker.link else {
            return self.in_memory(exchange, self.agreed.whole(), "memory");
        };
        if self.limits.is_empty() {
            return Verdict::Unlimited;
        }
        let answer = if self.gathered { exchange.answers.take(Slot::Limits) } else { Answer::NotAsked };
        let settled = match answer {
            Answer::Values(values) => self.read(&values),
            Answer::Unavailable(reason) => Err(reason),
            Answer::NotAsked | Answer::Near(_) => {
                let mut pipeline = Pipeline::with_capacity(1);
                self.push_commands(exchange, &mut pipeline);
                link.query(&pipeline).await.and_then(|values| self.read(&values))
            }
        };
        match settled {
            Ok(settled) => self.by_redis(link, exchange, settled),
            Err(_) => self.without_redis(exchange),
        }
    }

    fn by_redis(&self, link: &Link, exchange: &Exchange, settled: Settled) -> Verdict {
        let whole = self.agreed.whole();
        if !settled.refunds.is_empty() {
            let mut pipeline = Pipeline::with_capacity(settled.refunds.len());
            self.charging(exchange, whole, |charges| {
                for &(index, since) in &settled.refunds {
                    let Charge { key, policy, asked, .. } = charges[index];
                    counted_in_redis::give_back(
                        &mut pipeline,
                        &self.worker.prefix,
                        key,
                        policy,
                        since,
                        asked.take,
                        None,
                    );
                }
            });
            link.send(pipeline);
        }
        self.note(exchange, &settled);
        self.verdict(exchange, settled.decisions, settled.now, whole, "redis")
    }

    pub(super) fn in_memory(&self, exchange: &Exchange, terms: &Rc<[Terms]>, counted: &'static str) -> Verdict {
        let now = self.worker.clock.unix_micros();
        let decisions = self.charging(exchange, terms, |charges| self.worker.memory.settle(charges, now));
        self.verdict(exchange, decisions, now, terms, counted)
    }

    fn push_commands(&self, exchange: &Exchange, pipeline: &mut Pipeline) -> usize {
        let Worker { prefix, apart, .. } = &self.worker;
        self.charging(exchange, self.agreed.whole(), |charges| {
            counted_in_redis::ask(pipeline, prefix, charges, &self.floors(charges), None, *apart)
        })
    }

    fn read(&self, values: &[Value]) -> Result<Settled, &'static str> {
        let asked = Asked::units(COST);
        counted_in_redis::read(self.agreed.whole().iter().map(|terms| Charge::new("", &terms.policy, asked)), values)
    }

    /// Spells the keys of a request, and does something with them.
    pub(super) fn charging<R>(&self, exchange: &Exchange, terms: &[Terms], act: impl FnOnce(&[Charge<'_>]) -> R) -> R {
        let mut keys = self.keys.take();
        keys.text.clear();
        keys.ends.clear();
        for counted in &self.limits {
            keys.text.push_str(&counted.name);
            counted.limit.key.push(exchange, &mut keys.text);
            keys.ends.push(keys.text.len());
        }
        let mut start = 0;
        let spelt = terms.iter().zip(&keys.ends).map(|(terms, &end)| {
            let key = &keys.text[start..end];
            start = end;
            Charge::new(key, &terms.policy, Asked::units(COST))
        });
        let done = act(&spelt.collect::<Vec<_>>());
        self.keys.set(keys);
        done
    }

    fn verdict(
        &self,
        exchange: &Exchange,
        decisions: Vec<Decision>,
        now: u64,
        terms: &Rc<[Terms]>,
        counted: &'static str,
    ) -> Verdict {
        let within = decisions.iter().all(|decision| decision.allowed);
        for (limit, decision) in self.limits.iter().zip(&decisions) {
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
            (!decision.allowed, decision.remaining, terms[index].policy.burst())
        };
        let nearest = (0..decisions.len()).reduce(|nearest, other| {
            let waits = decisions[other].retry_after.cmp(&decisions[nearest].retry_after);
            // The longest wait is what the client has to be told.
            if waits.is_gt() || waits.is_eq() && nearer(rank(other), rank(nearest)) { other } else { nearest }
        });
        let Some(nearest) = nearest else { return Verdict::Unlimited };
        let partitions = match self.tells_partitions {
            true => self.charging(exchange, terms, |charges| charges.iter().map(|c| Partition::of(c.key)).collect()),
            false => Vec::new(),
        };
        let standing = Standing { nearest, terms: terms.clone(), decisions, partitions, now, counted };
        if within { Verdict::Within(standing) } else { Verdict::Beyond(standing) }
    }

    /// Tells a client where it stands; and the access log the nearest limit, unless one nearer to refusal is there.
    pub(super) fn show(&self, standing: &Standing, record: &mut Record, fields: &mut HeaderMap) {
        let Counted { limit, .. } = &self.limits[standing.nearest];
        let (terms, decision) = (&standing.terms[standing.nearest], &standing.decisions[standing.nearest]);
        let after_another = record.limit.is_some();
        // Once a limit is on record, the fields in the answer are its.
        let nearest = match (&record.limit, fields::shown(fields)) {
            (Some(other), Some((remaining, quota))) => {
                nearer((!decision.allowed, decision.remaining, terms.amount), (other.refused, remaining, quota))
            }
            _ => true,
        };
        let all = (0..standing.decisions.len()).map(|index| standing.told(index));
        let shown = nearest.then(|| standing.told(standing.nearest));
        fields::tell(all, shown, standing.now, after_another, fields);
        self.warn(standing, fields);
        if nearest {
            record.limit = Some(LimitTrail {
                name: limit.name.clone(),
                refused: !decision.allowed,
                remaining: decision.remaining,
                counted: standing.counted,
            });
        }
    }

    /// Warns of every limit that is nearly used up; a request that is refused needs no warning.
    fn warn(&self, standing: &Standing, fields: &mut HeaderMap) {
        if !standing.decisions[standing.nearest].allowed {
            return;
        }
        for ((counted, terms), decision) in self.limits.iter().zip(&*standing.terms).zip(&standing.decisions) {
            let Some(at) = counted.limit.warn_at else { continue };
            if let Some(warning) = fields::warning(&counted.limit.name, at, decision.remaining, terms.policy.burst()) {
                fields.append(fields::WARNING, warning);
                counted.outcomes.warnings.inc();
            }
        }
    }

    /// The refusal by the limit nearest to it.
    pub(super) fn refusal(&self, standing: &Standing) -> LocalReply {
        let name = |index: usize| self.limits[index].limit.name.clone();
        let refusing = standing.decisions.iter().enumerate().filter(|(_, decision)| !decision.allowed);
        LocalReply::RateLimited(Box::new(Refused {
            limit: name(standing.nearest),
            quota: standing.terms[standing.nearest].quota.clone(),
            retry_after: fields::retry_after(standing.decisions[standing.nearest].retry_after),
            violated: refusing.map(|(index, _)| name(index)).collect(),
            reduced: standing.counted == "local",
            refusal: self.limits[standing.nearest].limit.refusal.clone(),
        }))
    }

    /// The refusal because nothing can be counted.
    pub(super) fn store_down() -> LocalReply {
        LocalReply::LimitStoreDown { retry_after: STORE_DOWN }
    }
}

impl Standing {
    fn told(&self, index: usize) -> Told<'_> {
        let decision = &self.decisions[index];
        Told {
            fields: &self.terms[index].fields,
            refused: !decision.allowed,
            remaining: decision.remaining,
            retry_after: decision.retry_after,
            reset_after: decision.reset_after,
            partition: self.partitions.get(index).copied(),
        }
    }
}

impl Ask for RateLimit {
    fn slot(&self) -> Slot {
        Slot::Limits
    }

    fn ask(&self, exchange: &mut Exchange, pipeline: &mut Pipeline) -> usize {
        if !self.gathered || self.worker.link.is_none() || self.limits.is_empty() {
            return 0;
        }
        self.push_commands(exchange, pipeline)
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
