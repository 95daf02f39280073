//! Looks up what a client has been promised, on its way to the limits that go by it; or refuses who is unknown.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use ::redis::{Pipeline, Value};
use tower::Layer;

use super::presented::{Name, Presented, presented};
use super::record::{Said, Unread, said};
use super::remembered::{Certain, Remembered, Stands};
use crate::exchange::{self, Entitlement, Exchange, Next, Note, pass, preflight};
use crate::local_reply::LocalReply;
use crate::rate_limit::{Limit, Plan, Unknown};
use crate::redis_pool::Link;
use crate::redis_pool::key::digest;
use crate::redis_pool::near::Counts;
use crate::telemetry::Trail;
use crate::telemetry::registry::{Counter, Registry};

/// One plan on one route, on one worker.
pub struct Lookup {
    plan: Arc<Plan>,
    name: Name,
    /// Those of the route.
    limits: Box<[Arc<Limit>]>,
    remembered: Arc<Remembered>,
    /// What Redis says may be remembered as certain.
    near: bool,
    link: Link,
    near_counts: Counts,
    outcomes: [Counter; Outcome::ALL.len()],
    /// Room for a record's name, kept from one request to the next.
    room: Cell<Vec<u8>>,
}

/// How a lookup went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// The record was remembered.
    Hit,
    /// Redis told of it.
    Found,
    /// There is none.
    Unknown,
    /// Something in it, or instead of it, could not be read.
    Malformed,
    /// Redis could not be asked: what it said last counts.
    LastKnown,
    /// Redis could not be asked, and nothing was known.
    Unavailable,
    /// The request presents no API key.
    Absent,
}

/// Of whom a request is.
enum Client {
    Known(Arc<Entitlement>),
    Unknown,
    /// Nobody can say.
    Anybody,
}

/// How to find out.
enum Looked {
    /// It is known here.
    Here(Client),
    /// Redis has to be asked.
    Ask { key: Box<[u8]>, name: Vec<u8>, note: Option<Note> },
}

impl Outcome {
    const ALL: [(Self, &'static str); 7] = [
        (Self::Hit, "hit"),
        (Self::Found, "found"),
        (Self::Unknown, "unknown"),
        (Self::Malformed, "malformed"),
        (Self::LastKnown, "last_known"),
        (Self::Unavailable, "unavailable"),
        (Self::Absent, "absent"),
    ];
}

impl Lookup {
    /// Of `plan`, for a route with these limits, on `worker`.
    pub fn new(
        plan: Arc<Plan>,
        limits: &[Arc<Limit>],
        remembered: Arc<Remembered>,
        link: Link,
        registry: &Registry,
        worker: usize,
    ) -> Rc<Self> {
        let outcomes = Outcome::ALL.map(|(_, outcome)| {
            let labels = [("plan", &*plan.name), ("outcome", outcome)];
            registry.counter(worker, "sidegate_plan_lookups_total", "Lookups of clients' plans, by outcome.", &labels)
        });
        let name = Name::new(&plan.record);
        let near = remembered.hears_of(name.beginning());
        let near_counts = Counts::new(registry, worker, "plan");
        let (limits, room) = (limits.into(), Cell::default());
        Rc::new(Self { plan, name, limits, remembered, near, link, near_counts, outcomes, room })
    }

    fn count(&self, outcome: Outcome, trail: &Trail) {
        self.outcomes[outcome as usize].inc();
        trail.borrow_mut().plan = Some(Outcome::ALL[outcome as usize].1);
    }

    /// What can be said without Redis.
    fn look(&self, exchange: &Exchange) -> Looked {
        let key = match presented(&self.plan.key, &exchange.request) {
            Presented::Key(key) => key,
            Presented::Nothing => {
                self.count(Outcome::Absent, &exchange.trail);
                return Looked::Here(Client::Unknown);
            }
            Presented::Impossible => {
                self.count(Outcome::Unknown, &exchange.trail);
                return Looked::Here(Client::Unknown);
            }
        };
        let mut name = self.room.take();
        self.name.write(&key, &mut name);
        if !self.near {
            return Looked::Ask { key: (*key).into(), name, note: None };
        }
        let now = exchange.trail.borrow().started;
        let client = match self.remembered.certain(&name, now) {
            Some(Certain::Record(entitlement)) => {
                self.count(Outcome::Hit, &exchange.trail);
                Client::Known(entitlement)
            }
            Some(Certain::Unknown) => {
                self.count(Outcome::Unknown, &exchange.trail);
                Client::Unknown
            }
            None => {
                let note = self.remembered.note(&name);
                self.near_counts.missed();
                return Looked::Ask { key: (*key).into(), name, note };
            }
        };
        self.near_counts.hit();
        self.room.set(name);
        Looked::Here(client)
    }

    /// Asks Redis about the record called `name`, of the client with this API key.
    async fn ask(&self, key: &[u8], name: &[u8], note: Option<Note>, trail: &Trail) -> Client {
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("HGETALL").arg(name);
        if note.is_some() {
            pipeline.cmd("PTTL").arg(name);
        }
        let values = self.link.query(&pipeline).await.unwrap_or_default();
        let (fields, left) = (values.first().unwrap_or(&Value::Nil), values.get(1));
        let asked = trail.borrow().started;
        let stands = |life| Stands { asked, life };
        let (kept, client) = match said(fields, &self.limits) {
            Said::Record(entitlement, unread) => {
                self.complain(key, &unread);
                self.count(if unread.is_empty() { Outcome::Found } else { Outcome::Malformed }, trail);
                let entitlement = Arc::new(entitlement);
                (
                    self.remembered.keep(name, note, entitlement.clone(), stands(left.and_then(life))),
                    Client::Known(entitlement),
                )
            }
            Said::Nothing => {
                self.count(Outcome::Unknown, trail);
                (self.remembered.keep_unknown(name, note, stands(None)), Client::Unknown)
            }
            Said::NoRecord => {
                self.complain(key, &[Unread { field: String::new(), why: "this is no hash".into() }]);
                self.count(Outcome::Malformed, trail);
                (self.remembered.keep_unknown(name, note, stands(None)), Client::Unknown)
            }
            Said::Unavailable => {
                let known = self.remembered.last_known(name);
                self.count(if known.is_some() { Outcome::LastKnown } else { Outcome::Unavailable }, trail);
                (true, known.map_or(Client::Anybody, Client::Known))
            }
        };
        if !kept {
            self.near_counts.raced();
        }
        client
    }

    /// Finds out, and tells the exchange, as the layer does; says whether it refuses the request.
    pub async fn explain(&self, exchange: &mut Exchange) -> bool {
        let client = match self.look(exchange) {
            Looked::Here(client) => client,
            Looked::Ask { key, name, note } => self.ask(&key, &name, note, &exchange.trail).await,
        };
        match client {
            Client::Known(entitlement) => exchange.plan = Some(entitlement),
            Client::Unknown => return self.plan.unknown == Unknown::Refuse && !exchange.is_preflight(),
            Client::Anybody => {}
        }
        false
    }

    fn complain(&self, key: &[u8], unread: &[Unread]) {
        for unread in unread {
            if self.remembered.is_new((&self.plan.name, key, unread)) {
                let Unread { field, why } = unread;
                let (plan, sha256) = (&*self.plan.name, digest(key));
                tracing::warn!(plan, sha256, field, why, "the record of an API key with this digest cannot be read");
            }
        }
    }
}

/// What `PTTL` says: -1: no end; -2: the key has ended since the record was read. Where it is refused, the longest age
/// alone bounds what is remembered.
fn life(left: &Value) -> Option<Duration> {
    match left {
        Value::Int(-2) => Some(Duration::ZERO),
        Value::Int(left) => u64::try_from(*left).ok().map(Duration::from_millis),
        _ => None,
    }
}

/// Leaves in the exchange what the client's plan gives; where the plan says so, refuses who has none.
pub fn layer<S: Next>(lookup: Rc<Lookup>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |mut exchange: Box<Exchange>, next: S| {
        let lookup = lookup.clone();
        async move {
            let client = match lookup.look(&exchange) {
                Looked::Here(client) => client,
                Looked::Ask { key, name, note } => {
                    // In a box: it would make the future of every request larger.
                    let client = Box::pin(lookup.ask(&key, &name, note, &exchange.trail)).await;
                    lookup.room.set(name);
                    client
                }
            };
            let is_refused = matches!(client, Client::Unknown) && lookup.plan.unknown == Unknown::Refuse;
            // A preflight carries no key by design. One that does counts by the quota that the key has.
            if is_refused && !exchange.is_preflight() {
                return exchange.refuse(&LocalReply::UnknownApiKey);
            }
            if let Client::Known(entitlement) = client {
                exchange.plan = Some(entitlement);
            }
            let answer = pass(next, exchange).await;
            if is_refused { preflight::without_content(answer) } else { answer }
        }
    })
}
