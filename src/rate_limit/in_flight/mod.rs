//! How many requests of a client may be in flight at once: `[limit.NAME] in_flight`.
//!
//! 1. A request is in flight from its arrival here until the content of its answer has ended (complete, failed, abandoned), or
//!    the tunnel that it has become. Then, or as soon as its client leaves, its *places* are free (`flight`); where it goes on
//!    without its client (`session::issue::unattended`), once that is over.
//! 2. It takes a place under every limit of its position in one step, or none (`room`): in Redis for the whole fleet (`script`),
//!    without Redis for this process (`counts`), which also knows of those that Redis has let in.
//! 3. What depends on the request alone is asked for by `gather`, together with all else the request needs; what depends on
//!    who is logged in, behind `session`, together with the quotas that do. Who is refused here is not charged there, and who is known to be refused there, without
//!    a question, takes no place here.
//! 4. It stands before the quotas of its position, and thus before the cache: a request that waits for its turn is in flight,
//!    and so is one that is answered from the store. What the app is asked without a client waiting (a stale response is
//!    refreshed) is not.
//! 5. Places are renewed for as long as the request lasts (`register`). An instance that dies renews nothing: after
//!    `in_flight_life` its places are free.
//! 6. Redis away: `on_outage` decides. `local` gives each instance its share, at least 1, and what was in flight before counts.
//!    Once Redis is back, it is told of all that are in flight.
//!
//! # Why
//! To wait for Redis to hear of the end before the client does would cost each request a second trip. A client that has had its
//! answer, and at once asks another worker or instance, may therefore be refused where it would have just fitted.

mod counts;
mod flight;
mod layer;
mod register;
pub mod room;
pub mod script;

pub use counts::Counts;
pub use layer::layer;
pub use register::Register;
pub use script::SCRIPTS;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};

use self::flight::{Claim, Place};
use self::room::{Wanted, passes, share};
use self::script::Spelling;
use super::fields::Fields;
use super::judge::{Counter, Role, Spelt};
use super::store::OnOutage;
use super::{Limit, RateLimit, Rule, Settings, Worker};
use crate::exchange::{Answer, Exchange, Slot};
use crate::gather::Ask;
use crate::redis_pool::Link;
use crate::telemetry::registry::Gauge;

/// The limits on requests in flight at one position in the stack of a route, on one worker.
pub struct InFlight {
    limits: Box<[Rc<Counted>]>,
    settings: Settings,
    tells_partitions: bool,
    worker: Worker,
    register: Rc<Register>,
    /// The quotas of the same position, which are asked for together with these.
    quotas: Option<Rc<RateLimit>>,
}

/// A limit, ready to count.
struct Counted {
    counter: Counter,
    most: u64,
    life: Duration,
    fields: Fields,
    in_flight: Gauge,
}

/// What happens to a request.
enum Verdict {
    /// No limit applies to it.
    Unlimited,
    /// Nothing can be counted, and it passes all the same; the limit of this name, if one, might have refused it.
    Open(Claim, Option<Arc<str>>),
    /// It has places.
    Within(Claim, Standing),
    /// A limit refuses it.
    Beyond(Standing),
    /// It lacks what the limit of this name counts by.
    Nameless(Arc<str>),
    /// Nothing can be counted, and nothing passes then.
    Closed(Arc<str>),
}

/// How many are in flight under the limits that apply to a request.
struct Standing {
    found: Vec<Found>,
    counted: &'static str,
}

/// How many are in flight under one limit.
struct Found {
    limit: Rc<Counted>,
    key: Arc<str>,
    /// At once; of a share, if it is one.
    most: u64,
    /// Without the request.
    before: u64,
}

impl InFlight {
    /// Those of `limits` that count requests in flight, by the worker's `register`, with the `quotas` of the same position;
    /// `None`: none does.
    pub fn new(
        limits: &[Arc<Limit>],
        settings: Settings,
        worker: &Worker,
        register: &Rc<Register>,
        quotas: Option<&Rc<RateLimit>>,
    ) -> Option<Rc<Self>> {
        let counted = |limit: &Arc<Limit>| match limit.rule {
            Rule::Quota(_) => None,
            Rule::InFlight { most, life } => {
                let help = "Requests of this process that are in flight under a limit.";
                let labels = [("limit", &*limit.name)];
                Some(Rc::new(Counted {
                    counter: Counter::in_flight(limit, worker),
                    most,
                    life,
                    fields: Fields::in_flight(&limit.name, most, settings),
                    in_flight: worker.registry.gauge(worker.number, "sidegate_limit_in_flight", help, &labels),
                }))
            }
        };
        let counted: Box<[_]> = limits.iter().filter_map(counted).collect();
        (!counted.is_empty()).then(|| {
            Rc::new(Self {
                limits: counted,
                tells_partitions: settings.draft_fields && settings.partition_keys,
                settings,
                worker: worker.clone(),
                register: register.clone(),
                quotas: quotas.cloned(),
            })
        })
    }

    /// Decides about a request, and takes its places.
    async fn judge(&self, exchange: &mut Exchange) -> Verdict {
        let kept = exchange.answers.kept_places().and_then(|kept| kept.downcast::<Claim>().ok());
        let claim = match kept.map_or_else(|| self.claim(exchange), |kept| Ok(*kept)) {
            Ok(claim) => claim,
            Err(nameless) => {
                nameless.counter.outcomes.refused.inc();
                return Verdict::Nameless(nameless.counter.limit.name.clone());
            }
        };
        if claim.flight.places.is_empty() {
            return Verdict::Unlimited;
        }
        let Some(link) = &self.worker.link else { return self.in_process(claim, "memory", |most| most, false) };
        let said = match exchange.answers.take(Slot::InFlight) {
            Answer::Values(values) => Ok(values),
            Answer::Unavailable(reason) => Err(reason),
            Answer::NotAsked | Answer::Near(_) => {
                let mut pipeline = Pipeline::with_capacity(1);
                self.push_commands(&claim, &mut pipeline);
                // In a box: it would make the future of every request larger.
                Box::pin(link.query(&pipeline)).await
            }
        };
        match said.and_then(|values| self.read(&claim, &values)) {
            Ok(before) => self.by_redis(claim, &before),
            Err(_) => self.without_redis(claim),
        }
    }

    fn by_redis(&self, claim: Claim, before: &[u64]) -> Verdict {
        let wanted = claim.flight.wanted(|most| most);
        if !passes(wanted.iter().copied().zip(before.iter().copied())) {
            claim.is_refused(self.worker.apart);
            return self.verdict(claim.standing(&wanted, before, "redis"), None);
        }
        // Redis may have come back empty: then this process knows better how many there are.
        let here = claim.settle(&wanted, true);
        let before: Vec<u64> = before.iter().zip(&here).map(|(there, here)| *there.max(here)).collect();
        let standing = claim.standing(&wanted, &before, "redis");
        drop(wanted);
        self.verdict(standing, Some(claim))
    }

    /// Rule 6.
    fn without_redis(&self, claim: Claim) -> Verdict {
        let is_told = claim.is_unanswered();
        let binding = claim.flight.places.iter().map(|place| &place.limit.counter).find(|of| of.role == Role::Binding);
        let binding = binding.map(|counter| counter.limit.name.clone());
        let outcomes = || claim.flight.places.iter().map(|place| &place.limit.counter.outcomes);
        outcomes().filter_map(|outcomes| outcomes.store_errors.as_ref()).for_each(|errors| errors.inc());
        let uncounted = outcomes().filter_map(|outcomes| outcomes.uncounted.as_ref());
        match (self.settings.on_outage, binding) {
            (OnOutage::Local, _) => {
                let instances = self.worker.fleet.instances();
                self.in_process(claim, "local", |most| share(most, instances), is_told)
            }
            (OnOutage::Closed, Some(first)) => {
                uncounted.for_each(|uncounted| uncounted.closed.inc());
                Verdict::Closed(first)
            }
            // Limits that only watch let pass whatever is the matter.
            (OnOutage::Open | OnOutage::Closed, binding) => {
                uncounted.for_each(|uncounted| uncounted.open.inc());
                let wanted = claim.flight.wanted(|_| u64::MAX);
                claim.settle(&wanted, is_told);
                drop(wanted);
                Verdict::Open(claim, binding)
            }
        }
    }

    fn in_process(&self, claim: Claim, counted: &'static str, share: impl Fn(u64) -> u64, is_told: bool) -> Verdict {
        let wanted = claim.flight.wanted(share);
        let before = claim.settle(&wanted, is_told);
        let standing = claim.standing(&wanted, &before, counted);
        drop(wanted);
        self.verdict(standing, Some(claim))
    }

    /// Counts what was decided. The `claim` of a request that is refused is dropped.
    fn verdict(&self, standing: Standing, claim: Option<Claim>) -> Verdict {
        let passes = !standing.found.iter().any(Found::refuses);
        let local = standing.counted == "local";
        let now = self.worker.clock.unix_micros();
        for found in &standing.found {
            if found.is_full() {
                found.limit.counter.remember_refused(&found.key, now);
            }
            let outcomes = &found.limit.counter.outcomes;
            match (local, found.is_full()) {
                (false, true) => outcomes.refused.inc(),
                (true, true) => outcomes.local_refused.inc(),
                // It has no place, since another refused.
                (_, false) if !passes => {}
                (false, false) => outcomes.allowed.inc(),
                (true, false) => outcomes.local_allowed.inc(),
            }
        }
        match claim {
            Some(claim) if passes => Verdict::Within(claim, standing),
            _ => Verdict::Beyond(standing),
        }
    }

    /// The places that a request wants; or the limit that refuses it for what it lacks.
    fn claim(&self, exchange: &Exchange) -> Result<Claim, &Rc<Counted>> {
        let (mut text, mut places) = (String::with_capacity(64), Vec::with_capacity(self.limits.len()));
        for limit in &self.limits {
            text.clear();
            match limit.counter.push_key(exchange, &mut text) {
                Spelt::Counted => {
                    places.push(Place { key: text.as_str().into(), limit: limit.clone(), is_held: false.into() });
                }
                Spelt::NotCounted => {}
                Spelt::Nameless => return Err(limit),
            }
        }
        Ok(Claim::new(&self.register, places))
    }

    fn push_commands(&self, claim: &Claim, pipeline: &mut Pipeline) -> usize {
        let who = self.register.who(claim.flight.number);
        let spelling = Spelling { prefix: &self.worker.prefix, apart: self.worker.apart };
        self.register.hurry();
        // What is not even sent cannot be done. ("down" says nothing of that: the link may go while the question is under way.)
        if self.worker.apart || self.worker.link.as_ref().is_some_and(Link::is_up) {
            claim.asks();
        }
        script::ask(pipeline, spelling, &who, &claim.flight.wanted(|most| most), None)
    }

    fn read(&self, claim: &Claim, values: &[Value]) -> Result<Vec<u64>, &'static str> {
        script::read(&claim.flight.wanted(|most| most), values)
    }
}

impl Claim {
    fn standing(&self, wanted: &[Wanted<'_>], before: &[u64], counted: &'static str) -> Standing {
        let found = self.flight.places.iter().zip(wanted).zip(before).map(|((place, wanted), &before)| Found {
            limit: place.limit.clone(),
            key: place.key.clone(),
            most: wanted.most,
            before,
        });
        Standing { found: found.collect(), counted }
    }
}

impl Found {
    fn is_full(&self) -> bool {
        self.before >= self.most
    }

    fn refuses(&self) -> bool {
        self.is_full() && self.binds()
    }

    fn binds(&self) -> bool {
        self.limit.counter.role == Role::Binding
    }

    /// Places that are left when the request has its own.
    fn remaining(&self) -> u64 {
        self.most.saturating_sub(self.before).saturating_sub(1)
    }
}

impl Ask for InFlight {
    fn slot(&self) -> Slot {
        Slot::InFlight
    }

    fn ask(&self, exchange: &mut Exchange, pipeline: &mut Pipeline) -> usize {
        let (Some(_), Ok(claim)) = (&self.worker.link, self.claim(exchange)) else { return 0 };
        if claim.flight.places.is_empty() {
            return 0;
        }
        let count = self.push_commands(&claim, pipeline);
        // If its client leaves before Redis has answered, the places are given back all the same.
        exchange.answers.keep_places(Box::new(claim));
        count
    }
}
