//! Answers from the store, fills it, and takes back what a write has changed.
//!
//! 1. A GET or HEAD looks the store up, and one function says what follows (`decide`): what is stored is sent; or sent
//!    although it is stale, and refreshed behind; or the app is asked, with a condition if what is stored can be validated;
//!    or the request passes the store by.
//! 2. What is stored is sent as the client asks for it: whole, a part, or 304 (`answer`). Requests with credentials get
//!    only what is for all. Where the beginning of it is stored the app is asked for the rest (`rest`).
//! 3. The app's answer (`ask`): a 304 freshens what is stored, and answers with it; where the app fails, what is stored
//!    stands in, if it may; anything else goes to the client, and is kept once its content has passed to the end (`fill`).
//! 4. By setting a POST is a read (`posted`), and what the verified principal is answered is kept for it alone (`whom`).
//! 5. A write that may have happened invalidates before the answer's head goes out (`write`).
//! 6. Where the cache only observes every request is forwarded (`observe`).
//! 7. Every answer says what happened: `X-Cache`, and `Cache-Status` after those of the caches before us (RFC 9211,
//!    `outcome`).

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Response};
use tower::Layer;

use super::observe::Observer;
use super::policy::MAX_VARYING;
use super::rules::on_write::OnWrite;
use super::rules::request::{self, Asks};
use super::rules::reuse;
use super::store::{
    Keeping, Kept, Lock, Marks, MemoryStore, NearStore, Owed, Question, RedisStore, Since, Store, Wildcards, tags_of,
};
use super::stored::{Form, StoredResponse};
use super::under_way::UnderWay;
use super::{Flights, Key, Mode, Policy};
use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::{self, Exchange, Next, Slot, pass};
use crate::gather::Ask;
use crate::local_reply::LocalReply;
use crate::redis_pool::Link;
use crate::telemetry::registry::Registry;

mod answer;
mod ask;
mod behind;
mod decide;
mod explain;
mod fill;
mod observe;
mod offer;
mod outcome;
mod posted;
mod rest;
mod sharing;
mod together;
mod whom;
mod write;

use decide::{Action, Held};
pub use explain::explained;
use outcome::{Metrics, Outcome, Status, Tier, mark};
use together::Turn;
use whom::Policies;

/// Why nobody is asked.
const ONLY_IF_CACHED: &str = "only-if-cached";

/// How long Redis keeps anything, at most: what an app calls fresh for a year would be there for a year.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a route says about stored responses.
#[derive(Clone, Debug, Default)]
pub struct OnRoute {
    /// Its label in logs and metrics.
    pub label: Arc<str>,
    /// What is stored; `None`: nothing, but writes here invalidate all the same.
    pub policy: Option<Arc<Policy>>,
    /// The route verifies a session: every request to it carries credentials.
    pub credentials: bool,
    /// That session is looked for in `Authorization` before anywhere else.
    pub bearer_first: bool,
    /// Fields in which sessions are looked for, on this route or another: a request with one carries credentials.
    pub session_fields: Rc<[HeaderName]>,
    /// The app is told who presented a certificate: a request under one carries credentials.
    pub certificates: bool,
    /// The app takes `%2F` for text here.
    pub slash_is_text: bool,
    /// What a successful write here invalidates besides its own path.
    pub on_write: Vec<OnWrite>,
    /// What of all routes' `on_write` takes back all below a path.
    pub wildcards: Arc<Wildcards>,
    /// Fields that are written between `gather` and here: those that tell the app who is logged in.
    pub written_late: Rc<[HeaderName]>,
}

/// What the caches of all routes have in common on one worker.
#[derive(Clone)]
pub struct Worker {
    /// The store where there is no Redis.
    pub memory: Arc<MemoryStore>,
    /// The way to the store in Redis, if there is one.
    pub link: Option<Link>,
    /// What this process remembers of Redis, if it does.
    pub near: Option<Arc<NearStore>>,
    /// Before every Redis key.
    pub prefix: Arc<str>,
    /// Invalidations that Redis could not be told.
    pub owed: Arc<Owed>,
    /// What this process has seen of purged tags.
    pub marks: Arc<Marks>,
    /// Fills and refreshes of this process.
    pub under_way: Arc<UnderWay>,
    /// Fetches of this process that others may join.
    pub flights: Arc<Flights>,
    /// The time.
    pub clock: Clock,
    /// Where it is counted.
    pub registry: Arc<Registry>,
    /// The worker's number.
    pub number: usize,
}

/// The cache of one route on one worker.
pub struct Cache {
    route: OnRoute,
    policies: Option<Policies>,
    store: Store,
    owed: Arc<Owed>,
    under_way: Arc<UnderWay>,
    flights: Arc<Flights>,
    /// A task of this cache tells Redis what it is owed.
    settling: Cell<bool>,
    clock: Clock,
    metrics: Metrics,
    /// Where stored responses are only compared.
    observer: Option<Rc<Observer>>,
}

/// The cache's layer: see the module's rules.
pub fn layer<S: Next>(cache: Rc<Cache>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange, next| {
        let (cache, mut exchange): (_, Box<Exchange>) = (cache.clone(), exchange);
        async move {
            if let Some(bound) = cache.reads_post(&exchange) {
                // In a box is what only some need.
                Box::pin(posted::read(&mut exchange, bound)).await;
            }
            match asks(&exchange) {
                Asks::Read if cache.route.policy.is_some() => cache.read(exchange, next).await,
                Asks::Write => cache.write(exchange, next).await,
                _ => cache.pass_by("method", None, exchange, next).await,
            }
        }
    })
}

impl Ask for Cache {
    fn slot(&self) -> Slot {
        Slot::Cache
    }

    fn ask(&self, exchange: &mut Exchange, pipeline: &mut redis::Pipeline) -> usize {
        let (Store::Redis(store), Some(_)) = (&self.store, &self.route.policy) else { return 0 };
        if asks(exchange) != Asks::Read {
            return 0;
        }
        let Ok(key) = self.key_of_read(exchange) else { return 0 };
        let question = Question { key: &key, request: exchange.request.headers(), purpose: decide::purpose(exchange) };
        let asked = store.ask(question, &mut exchange.answers, pipeline);
        exchange.answers.keep_key(Box::new(key));
        asked
    }

    fn answered(&self, exchange: &mut Exchange) {
        let Store::Redis(store) = &self.store else { return };
        let close = store.closing(exchange.answers.peek(Slot::Cache), || self.key_of_read(exchange).ok());
        if let Some(close) = close {
            exchange.answers.unless_taken(Slot::Cache, close);
        }
    }
}

impl Cache {
    /// The cache of a route: in Redis if there is one, else in memory.
    pub fn new(route: OnRoute, worker: &Worker) -> Rc<Self> {
        let Worker { memory, link, near, prefix, owed, marks, under_way, flights, clock, registry, number } =
            worker.clone();
        let (store, owed) = match link {
            Some(link) => {
                let form = route.policy.as_ref().map_or(Form::default(), Form::of);
                let store = RedisStore::new(link, prefix, clock.clone(), form, route.written_late.clone());
                let store = store.behind(near, &registry, number).knowing(marks);
                let varying = route.policy.as_ref().map_or(MAX_VARYING, |policy| policy.max_varying);
                let store = store.learning(varying);
                (Store::Redis(Box::new(store)), owed)
            }
            // What was owed to a Redis that is configured no more is nothing to this store, and nobody could settle it.
            None => (Store::Memory(memory), Owed::new()),
        };
        let name = route.policy.as_ref().map_or("none", |policy| &policy.name);
        let metrics = Metrics::new(&registry, number, name);
        let observes = route.policy.as_ref().filter(|policy| policy.mode == Mode::Observe);
        let observer = observes.map(|policy| Rc::new(Observer::new(&registry, number, &route.label, &policy.name)));
        let policies = route.policy.clone().map(Policies::of);
        let settling = Cell::new(false);
        Rc::new(Self { route, policies, store, owed, under_way, flights, settling, clock, metrics, observer })
    }

    async fn read<S: Next>(self: Rc<Self>, mut exchange: Box<Exchange>, next: S) -> Response<Body> {
        if self.owed.is_any() {
            self.clone().settle();
        }
        let purpose = decide::purpose(&exchange);
        let action = self.decide(&mut exchange, purpose).await;
        if let Some(observer) = self.observer.clone() {
            return Box::pin(self.observe(observer, action, exchange, next)).await;
        }
        match action {
            Action::Reuse { key, stored, tier, now, fresh_for } => {
                match self.reuse(&key, &exchange, &stored, tier, (now, fresh_for)).await {
                    Some(response) => response,
                    // In a box, as below.
                    None => Box::pin(self.fetch_instead(key, &stored, exchange, next)).await,
                }
            }
            Action::Stale { errand, stored, fresh_for, refresh, detail } => {
                let status = Status::hit(fresh_for).key(self.told(&errand.key)).detail(detail);
                match self.stale(&errand, &exchange, &stored, status).await {
                    Some(response) => {
                        if refresh {
                            self.refresh(errand, stored, &exchange, next);
                        }
                        response
                    }
                    None => Box::pin(self.fetch(errand, exchange, next)).await,
                }
            }
            Action::Ask { errand, stored } => match (self.turn(&errand, &stored, &exchange), stored) {
                // In a box is what a hit does not need: it would make its future larger.
                (Turn::Ask, Held::Nothing) => Box::pin(self.fetch(errand, exchange, next)).await,
                (Turn::Ask, Held::Others(known)) => Box::pin(self.offer(errand, known, exchange, next)).await,
                (Turn::Ask, Held::One(stored)) => Box::pin(self.validate(errand, stored, exchange, next)).await,
                (Turn::Ask, Held::Beginning(stored)) => Box::pin(self.complete(errand, stored, exchange, next)).await,
                (turn, stored) => Box::pin(self.in_turn(turn, errand, stored, exchange, next)).await,
            },
            Action::PassBy { reason } => self.pass_by("bypass", Some(reason), exchange, next).await,
            Action::Refuse => self.refuse(&exchange),
        }
    }

    /// A stored response at `now`, in seconds since the Unix epoch, fresh for so many more; `None`: its content cannot be
    /// read.
    async fn reuse(
        &self,
        key: &Key,
        exchange: &Exchange,
        stored: &StoredResponse,
        tier: Tier,
        (now, fresh_for): (u64, i64),
    ) -> Option<Response<Body>> {
        let mut response = self.stored_answer(key, &exchange.request, stored, now).await?;
        self.metrics.hits(tier);
        exchange.trail.borrow_mut().cache = Some(Outcome::Hit.as_str());
        mark(&mut response, Outcome::Hit, Status::hit(fresh_for).key(self.told(key)));
        Some(response)
    }

    /// 504: nobody is asked.
    fn refuse(&self, exchange: &Exchange) -> Response<Body> {
        let mut response = exchange.refuse(&LocalReply::NotStored);
        self.metrics.count(Outcome::Miss);
        let mut record = exchange.trail.borrow_mut();
        (record.cache, record.cache_reason) = (Some(Outcome::Miss.as_str()), Some(ONLY_IF_CACHED));
        mark(&mut response, Outcome::Miss, Status::neither().detail(Some(ONLY_IF_CACHED)));
        response
    }

    async fn pass_by<S: Next>(
        self: Rc<Self>,
        forwarded: &'static str,
        reason: Option<&'static str>,
        exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        if self.route.policy.is_none() {
            return pass(next, exchange).await;
        }
        self.metrics.count(Outcome::Bypass);
        {
            let mut record = exchange.trail.borrow_mut();
            (record.cache, record.cache_reason) = (Some(Outcome::Bypass.as_str()), Some(reason.unwrap_or(forwarded)));
        }
        let trail = exchange.trail.clone();
        let mut response = pass(next, exchange).await;
        let status = Status::forwarded(forwarded, outcome::said(&response, &trail)).detail(reason);
        mark(&mut response, Outcome::Bypass, status);
        response
    }

    /// Keeps a response that was asked for at `since`: as long as it is fresh, and of use after that.
    fn keep(&self, key: &Key, response: StoredResponse, since: Since) -> Kept {
        self.keep_fetched(key, response, since, None)
    }

    /// The same, and the lock on its fetch is let go of behind it.
    fn keep_fetched(&self, key: &Key, response: StoredResponse, since: Since, lock: Option<Lock>) -> Kept {
        let (Some(policy), Some(tags)) = (&self.route.policy, self.tags_of(key, &response.head)) else {
            return Kept::default();
        };
        let life = reuse::of_use(&response.facts, &policy.staleness).min(LONGEST);
        let max_variants = policy.max_variants;
        let kept = self.store.keep(key, response, Keeping { tags, since, life, max_variants, lock });
        if let Store::Memory(memory) = &self.store {
            self.metrics.stored_bytes.set(memory.bytes());
        }
        kept
    }

    /// The tags of a response that is to be stored, or is; `None`: it has more than the policy allows, or broken ones.
    fn tags_of(&self, key: &Key, head: &HeaderMap) -> Option<Vec<String>> {
        tags_of(key, head, self.route.policy.as_ref()?, &self.route.wildcards)
    }

    /// The key, where clients are told it.
    fn told<'a>(&self, key: &'a Key) -> Option<&'a str> {
        self.route.policy.as_ref().filter(|policy| policy.status_key).map(|_| key.text())
    }
}

/// What a request means to the store.
fn asks(exchange: &Exchange) -> Asks {
    if exchange.posted.is_some() { Asks::Read } else { request::asks(exchange.request.method()) }
}
