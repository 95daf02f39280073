//! Answers from the store, fills it, and takes back what a write has changed.
//!
//! 1. A GET or HEAD whose fresh response is stored is answered from there: with 304 if the client has that copy
//!    already. Requests with credentials get only what is for all.
//! 2. Everything else goes on. A storable answer to GET is kept once the client has read its content to the end;
//!    content beyond `max_body` is let go of, and the client notices nothing. What limits say to that client, ours or the
//!    app's own, is not kept.
//! 3. A write that may have happened invalidates its own path, those that its answer names and those of `on_write`,
//!    before the answer's head goes out; also when its client has gone meanwhile. Redis away: it is owed.
//! 4. Every answer says what happened: `X-Cache`, and `Cache-Status` after those of the caches before us (RFC 9211).
//!
//! # Why writes run as tasks
//! The future of a request is dropped with its connection. A write's must not be: the app may have done what it was
//! asked, and nobody would invalidate.

use std::cell::Cell;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{AGE, CONTENT_LENGTH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode};
use http_body::Body as _;
use tower::Layer;

use super::Policy;
use super::key::Key;
use super::rules::directives::directives;
use super::rules::on_write::{OnWrite, Written};
use super::rules::request::{self, Asks};
use super::rules::storing::{self, Asked, NotStored, storable};
use super::rules::{conditional, vary};
use super::rules::{groups, invalidation};
use super::store::purge::{Softness, Target};
use super::store::{
    Found, Generation, Marks, MemoryStore, NearStore, Owed, Purpose, Question, RedisStore, Since, Store, Wildcards,
    below_tag, tags_of,
};
use super::stored::{Form, StoredResponse};
use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::{self, Answer, Exchange, Next, Slot, pass};
use crate::gather::Ask;
use crate::rate_limit::fields;
use crate::redis_pool::Link;
use crate::telemetry::Trail;
use crate::telemetry::registry::Registry;

mod fill;
mod outcome;

use fill::Fill;
use outcome::{CACHE_STATUS, Metrics, Tier, Why, X_CACHE, forward_status, hit_status, mark};

/// How long Redis keeps a response beyond its freshness, so that "stale" can be told from "never seen".
const STALE: Duration = Duration::from_secs(60);
/// How long Redis keeps anything, at most.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// What a route says about stored responses.
#[derive(Clone, Debug, Default)]
pub struct OnRoute {
    /// What is stored; `None`: nothing, but writes here invalidate all the same.
    pub policy: Option<Arc<Policy>>,
    /// The route verifies a session: every request to it carries credentials.
    pub credentials: bool,
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
    store: Store,
    owed: Arc<Owed>,
    /// A task of this cache tells Redis what it is owed.
    settling: Cell<bool>,
    clock: Clock,
    metrics: Metrics,
}

/// What happens to a read.
enum Action {
    /// The stored response, its age and for how long it is still fresh, in seconds.
    Reuse { stored: Arc<StoredResponse>, tier: Tier, age: u32, fresh_for: u32 },
    /// The app is asked, and the answer may be stored.
    Fetch { why: Why, fill: Opening },
    /// The app is asked, and the answer is not stored.
    PassBy { reason: &'static str },
}

/// What a fill needs to begin.
struct Opening {
    key: Key,
    generation: Option<Generation>,
    credentials: bool,
}

/// The cache's layer: see the module's rules.
pub fn layer<S: Next>(cache: Rc<Cache>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange, next| {
        let cache = cache.clone();
        async move {
            match request::asks(exchange.request.method()) {
                Asks::Read if cache.route.policy.is_some() => cache.read(exchange, next).await,
                Asks::Write => cache.write(exchange, next).await,
                _ => cache.pass_by("method", "method", exchange, next).await,
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
        if request::asks(exchange.request.method()) != Asks::Read {
            return 0;
        }
        let Ok(key) = self.key_of_read(exchange) else { return 0 };
        let question = Question { key: &key, request: exchange.request.headers(), purpose: purpose(exchange) };
        store.ask(question, &mut exchange.answers, pipeline)
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
        let Worker { memory, link, near, prefix, owed, marks, clock, registry, number } = worker.clone();
        let (store, owed) = match link {
            Some(link) => {
                let form = route.policy.as_ref().map_or(Form { compress: false, max_content: 0 }, |policy| Form {
                    compress: policy.compress,
                    max_content: policy.max_body,
                });
                let store = RedisStore::new(link, prefix, clock.clone(), form, route.written_late.clone());
                let store = store.behind(near, &registry, number).knowing(marks);
                (Store::Redis(Box::new(store)), owed)
            }
            // What was owed to a Redis that is configured no more is nothing to this store, and nobody could settle it.
            None => (Store::Memory(memory), Owed::new()),
        };
        let name = route.policy.as_ref().map_or("none", |policy| &policy.name);
        let metrics = Metrics::new(&registry, number, name);
        Rc::new(Self { route, store, owed, settling: Cell::new(false), clock, metrics })
    }

    async fn read<S: Next>(self: Rc<Self>, mut exchange: Box<Exchange>, next: S) -> Response<Body> {
        match self.decide(&mut exchange).await {
            Action::Reuse { stored, tier, age, fresh_for } => {
                self.metrics.hits(tier);
                self.reuse(&exchange, &stored, age, fresh_for)
            }
            Action::Fetch { why, fill } => self.fetch(why, fill, exchange, next).await,
            Action::PassBy { reason } => self.pass_by("bypass", reason, exchange, next).await,
        }
    }

    /// Where what `answer` holds was found.
    fn tier(&self, answer: &Answer) -> Tier {
        match (&self.store, answer) {
            (_, Answer::Near(_)) => Tier::Near,
            (Store::Redis(_), _) => Tier::Redis,
            (Store::Memory(_), _) => Tier::Memory,
        }
    }

    /// Why a read passes the store by, or its key.
    fn key_of_read(&self, exchange: &Exchange) -> Result<Key, &'static str> {
        let request = &exchange.request;
        if let Some(reason) = request::passes_by(request.headers(), !request.body().is_end_stream()) {
            return Err(reason);
        }
        let key = Key::of(exchange.client.scheme, request.uri(), request.headers())?;
        if !key.is_of_one_place(request.uri().path(), self.route.slash_is_text) {
            return Err("path");
        }
        if self.owed.covers(key.place()) { Err("owed") } else { Ok(key) }
    }

    async fn decide(self: &Rc<Self>, exchange: &mut Exchange) -> Action {
        if self.owed.is_any() {
            self.clone().settle();
        }
        let (answer, note) = (exchange.answers.take(Slot::Cache), exchange.answers.note(Slot::Cache));
        let aside = exchange.answers.take_aside();
        let tier = self.tier(&answer);
        let key = match self.key_of_read(exchange) {
            Ok(key) => key,
            Err(reason) => return Action::PassBy { reason },
        };
        let head = exchange.request.headers();
        let question = Question { key: &key, request: head, purpose: purpose(exchange) };
        let found = self.store.look_up(question, answer, note, aside).await;
        // A write may have failed to invalidate since the store was asked.
        if self.is_owed(&key, &found) {
            return Action::PassBy { reason: "owed" };
        }
        let cookies = self.route.policy.as_ref().map(|policy| policy.cookies).unwrap_or_default();
        let certified = self.route.certificates && exchange.connection.certificate.is_some();
        let credentials = request::credentials(head, self.route.credentials, cookies);
        let credentials = credentials.or(certified.then_some("certificate"));
        let fetch = |why, generation| Action::Fetch {
            why,
            fill: Opening { key, generation, credentials: credentials.is_some() },
        };
        match found {
            Found::Unavailable(_) => Action::PassBy { reason: "store-unavailable" },
            Found::Nothing { generation, other_variants: false } => fetch(Why::UriMiss, generation),
            Found::Nothing { generation, other_variants: true } => fetch(Why::VaryMiss, generation),
            Found::Stored(stored) => {
                let age = stored.facts.age(self.clock.unix_seconds());
                match (stored.facts.fresh_for(age), credentials) {
                    (None, _) => fetch(Why::Stale, Some(stored.generation)),
                    (Some(_), Some(kind)) if !stored.facts.shareable => {
                        fetch(Why::Credentials(kind), Some(stored.generation))
                    }
                    (Some(fresh_for), _) => Action::Reuse { stored, tier, age, fresh_for },
                }
            }
        }
    }

    fn reuse(&self, exchange: &Exchange, stored: &StoredResponse, age: u32, fresh_for: u32) -> Response<Body> {
        exchange.trail.borrow_mut().cache = Some("hit");
        let request = &exchange.request;
        let mut response = Response::new(Body::empty());
        let head = response.headers_mut();
        *head = stored.head.clone();
        head.insert(AGE, HeaderValue::from(age));
        head.insert(X_CACHE, HeaderValue::from_static("HIT"));
        head.insert(CACHE_STATUS, hit_status(fresh_for));
        if conditional::is_not_modified(request.headers(), stored.status, &stored.head, self.clock.unix_seconds()) {
            conditional::into_not_modified(head);
            *response.status_mut() = StatusCode::NOT_MODIFIED;
        } else {
            *response.status_mut() = stored.status;
            if request.method() != Method::HEAD {
                *response.body_mut() = Body::full(stored.content.clone());
            }
        }
        response
    }

    async fn fetch<S: Next>(
        self: Rc<Self>,
        why: Why,
        Opening { key, generation, credentials }: Opening,
        exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        let request = &exchange.request;
        let is_get = request.method() == Method::GET;
        let no_store = directives(request.headers()).no_store;
        let since = Since::now(self.clock.unix_seconds());
        let asked = Asked { at: since.asked(), credentials, no_store };
        // The fields that select a variant are known only from the answer.
        let selected_by = is_get.then(|| request.headers().clone());
        let trail = exchange.trail.clone();

        let mut response = pass(next, exchange).await;

        let fill = match selected_by {
            None => Err("head"),
            Some(selected_by) => self.clone().fill((key, since), generation, asked, &selected_by, &response, &trail),
        };
        let not_stored = fill.as_ref().err().copied();
        self.count(&trail, why, not_stored);
        let status = forward_status(why, response.status(), not_stored);
        mark(&mut response, why.x_cache(), &status);
        match fill {
            Ok(fill) => response.map(|content| content.watched(fill)),
            Err(_) => response,
        }
    }

    /// The watch that stores the response when its content has passed, or the reason why it is not stored.
    fn fill(
        self: Rc<Self>,
        (key, since): (Key, Since),
        generation: Option<Generation>,
        asked: Asked,
        selected_by: &HeaderMap,
        response: &Response<Body>,
        trail: &Trail,
    ) -> Result<Fill, &'static str> {
        let policy = self.route.policy.clone().ok_or("no-policy")?;
        let status = response.status();
        if trail.borrow().local_reply.is_some() {
            return Err(NotStored::LocalReply.as_str());
        }
        let received = self.clock.unix_seconds();
        let storable = storable(asked, status, response.headers(), &policy, received).map_err(NotStored::as_str)?;
        let generation = generation.ok_or("store-unavailable")?;
        self.tags_of(&key, response.headers()).ok_or("tags")?;
        let length = response.headers().get(CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
        if length.is_some_and(|length: u64| length > policy.max_body) {
            return Err("too-large");
        }
        let variant = storable.selecting.map(|selecting: vary::Selecting| {
            let digest = selecting.variant(selected_by);
            (selecting, digest)
        });
        let mut head = response.headers().clone();
        fields::remove(&mut head);
        storing::strip(&mut head, &policy);
        let stored =
            StoredResponse { status, head, content: Default::default(), facts: storable.facts, generation, variant };
        Ok(Fill::new(self, (key, since), stored, length, policy.max_body))
    }

    /// Keeps a whole response that was asked for at `since`.
    fn keep(&self, key: &Key, response: StoredResponse, since: Since) {
        let Some(tags) = self.tags_of(key, &response.head) else { return };
        let facts = response.facts;
        let fresh = facts.fresh_for(facts.initial_age).unwrap_or(0);
        self.store.keep(key, response, tags, since, (Duration::from_secs(fresh.into()) + STALE).min(LONGEST));
        if let Store::Memory(memory) = &self.store {
            self.metrics.stored_bytes.set(memory.bytes());
        }
    }

    async fn pass_by<S: Next>(
        self: Rc<Self>,
        forwarded: &'static str,
        reason: &'static str,
        exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        if self.route.policy.is_none() {
            return pass(next, exchange).await;
        }
        self.metrics.bypass.inc();
        {
            let mut record = exchange.trail.borrow_mut();
            (record.cache, record.cache_reason) = (Some("bypass"), Some(reason));
        }
        let mut response = pass(next, exchange).await;
        let mut status = format!("sidegate; fwd={forwarded}; fwd-status={}", response.status().as_u16());
        if forwarded != reason {
            status.push_str("; detail=");
            status.push_str(reason);
        }
        mark(&mut response, HeaderValue::from_static("BYPASS"), &status);
        response
    }

    async fn write<S: Next>(self: Rc<Self>, exchange: Box<Exchange>, next: S) -> Response<Body> {
        let request = &exchange.request;
        let Ok(key) = Key::of_place(exchange.client.scheme, request.uri(), request.headers()) else {
            return self.pass_by("method", "method", exchange, next).await;
        };
        let filled = self.route.on_write.iter().filter_map(|template| template.fill(&exchange.parameters));
        let places = key.places_of(request.uri().path(), self.route.slash_is_text);
        let mut places = places.unwrap_or_else(|| vec![key.place().to_owned()]);
        let mut tags = Vec::new();
        for written in filled {
            match written {
                Written::Path(path) => places.push(key.place_of(&path)),
                Written::Below(path) => tags.push(below_tag(&key.place_of(&path))),
                Written::Tag(tag) => tags.push(tag),
            }
        }
        let trail = exchange.trail.clone();
        let writing = self.owed.writing();
        let written = tokio::task::spawn_local(async move {
            let _until_invalidated = writing;
            let response = self.clone().pass_by("method", "method", exchange, next).await;
            let unknown = trail.borrow().upstream_error.is_some();
            if invalidation::invalidates(response.status(), unknown) {
                let named = invalidation::named_paths(response.headers(), key.authority());
                places.extend(named.iter().map(|path| key.place_of(path)));
                tags.extend(groups::invalidated(response.headers(), key.authority()));
                self.invalidate(&places, &tags).await;
            }
            response
        });
        match written.await.map_err(tokio::task::JoinError::try_into_panic) {
            Ok(response) => response,
            Err(Ok(panic)) => resume_unwind(panic),
            // The worker is ending, and this future with it.
            Err(Err(_)) => std::future::pending().await,
        }
    }

    /// Takes back places and tags side by side; what of it Redis could not be told is owed.
    async fn invalidate(self: &Rc<Self>, places: &[String], tags: &[String]) {
        let now = self.clock.unix_seconds();
        let (of_places, of_tags) = tokio::join!(self.store.invalidate(places), self.store.invalidate_tags(tags, now));
        if let Err(reason) = of_places {
            tracing::debug!(reason, places = places.len(), "an invalidation is owed to Redis");
            self.owed.add(places);
        }
        if let Err(reason) = of_tags {
            tracing::debug!(reason, tags = tags.len(), "an invalidation is owed to Redis");
            self.owed.add_purges(tags.iter().cloned().map(Target::Tag), Softness::Hard);
        }
        if of_places.is_err() || of_tags.is_err() {
            self.clone().settle();
        }
    }

    /// Whether what was found must not be reused, because an invalidation of it is owed to Redis.
    fn is_owed(&self, key: &Key, found: &Found) -> bool {
        self.owed.is_any()
            && (self.owed.covers(key.place())
                || match found {
                    Found::Stored(stored) => self.owed.covers_tags(|| self.tags_of(key, &stored.head)),
                    _ => false,
                })
    }

    /// The tags of a response that is to be stored, or is; `None`: it has more than the policy allows.
    fn tags_of(&self, key: &Key, head: &HeaderMap) -> Option<Vec<String>> {
        tags_of(key, head, self.route.policy.as_ref()?, &self.route.wildcards)
    }

    /// Tells Redis what it is owed, behind the request that noticed, as soon as it can be told.
    fn settle(self: Rc<Self>) {
        if matches!(self.store, Store::Redis(_)) && !self.settling.replace(true) {
            tokio::task::spawn_local(async move {
                if let Store::Redis(store) = &self.store {
                    store.settle_all(&self.owed).await;
                }
                self.settling.set(false);
            });
        }
    }

    fn count(&self, trail: &Trail, why: Why, not_stored: Option<&'static str>) {
        let (outcome, reason) = why.words();
        self.metrics.forwarded(why).inc();
        let mut record = trail.borrow_mut();
        record.cache = Some(outcome);
        record.cache_reason = Some(not_stored.unwrap_or(reason));
    }
}

/// What a read may do with its place: the answer to GET may fill it, unless the client forbids it.
fn purpose(exchange: &Exchange) -> Purpose {
    let request = &exchange.request;
    if request.method() == Method::GET && !directives(request.headers()).no_store {
        Purpose::ReuseOrFill
    } else {
        Purpose::Reuse
    }
}
