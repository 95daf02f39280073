//! One worker: a thread with its own runtime, listeners, connections to the app and link to Redis.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;
use std::time::Duration;

use http::HeaderName;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout, timeout_at};

use super::shared::{Shared, Stores};
use crate::cache::rules::invalidation::Template;
use crate::cache::{self, Cache, OnRoute};
use crate::clock;
use crate::config::settings::{RouteSettings, Settings};
use crate::exchange::CertificateFact;
use crate::listener::accept::accept;
use crate::listener::connection::{Metrics, Served};
use crate::listener::refusal::Log;
use crate::listener::socket::Listening;
use crate::listener::{self, Bind};
use crate::rate_limit::lease::{Giving, Tending};
use crate::rate_limit::partition::Part;
use crate::rate_limit::plan::Lookup;
use crate::rate_limit::{self, Count, Limit, RateLimit};
use crate::redis_pool::fleet::{self, Member, Pace};
use crate::redis_pool::{self, Link};
use crate::route::Refusals;
use crate::route::cors::Cors;
use crate::session::store::doubts::Asking;
use crate::session::{Carrier, IdentityFields, Session, Store};
use crate::stack::{self, Parts, Route};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::{AccessLog, PATIENCE};
use crate::telemetry::redact::Redaction;
use crate::upstream::forward::Terms;
use crate::upstream::watchdog::Watchdog;
use crate::upstream::{self, Upstream};

/// How long a worker waits for a Redis that is new to it, at its start and at a reload.
const FIRST_LOOK: Duration = Duration::from_millis(500);

/// How long a worker that ends waits for Redis to be told what it is owed.
const LAST_DEBTS: Duration = Duration::from_secs(1);

/// What a worker is told.
pub enum Command {
    /// Build everything for these settings, and say whether that worked; use none of it yet.
    Prepare(Arc<Settings>, Stores, oneshot::Sender<Result<(), String>>),
    /// Use what was prepared last.
    Commit,
    /// Let go of what was prepared last.
    Forget,
    /// Listen here too, at what is configured as this, until the receiver turns true or its sender is gone.
    Listen(Listening, Bind, watch::Receiver<bool>),
    /// Say that it is there.
    Answer(oneshot::Sender<()>),
    /// Finish what has begun, until this instant.
    Drain(std::time::Instant),
}

/// A running worker.
pub struct Worker {
    /// Tells it.
    pub commands: mpsc::Sender<Command>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    /// Starts worker `number`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(number: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        // A bounded handful: the one who tells waits for the answer.
        let (commands, receiver) = mpsc::channel(64);
        let name = format!("worker-{number}");
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(work(number, shared, receiver)),
                Err(error) => tracing::error!(%error, worker = number, "no runtime"),
            }
        })?;
        Ok(Self { commands, thread })
    }

    /// Whether it takes commands; as soon as it does, or when it is gone.
    pub async fn answers(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Answer(reply)).await.is_ok() && answer.await.is_ok()
    }

    /// Waits for its end.
    pub fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

/// What one configuration is made of on this worker, and what the next one may take over.
struct Materials {
    server: Arc<listener::Settings>,
    redis: Option<(redis_pool::Settings, Link)>,
    /// Tells the other instances of this one; of the first worker alone.
    member: Option<Rc<Member>>,
    /// Gives back what limits have taken ahead; of the first worker alone.
    tending: Option<Rc<Tending>>,
    upstreams: HashMap<Arc<str>, (upstream::Settings, Rc<Upstream>)>,
    access: Option<Rc<AccessLog>>,
    /// Held for as long as Redis is to be asked about doubted logins.
    _asking: Option<Asking>,
}

impl Materials {
    fn redis_state(&self) -> Option<Arc<AtomicU8>> {
        self.redis.as_ref().map(|(_, link)| link.shared_state())
    }
}

/// A configuration in force.
struct Built<S> {
    materials: Materials,
    stack: S,
}

async fn work(number: usize, shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let watchdog = Watchdog::start();
    let metrics = Rc::new(Metrics::new(&shared.registry, number));
    let build = |settings: &Settings, stores: &Stores, before: Option<&Materials>| {
        let (materials, parts) = gather_parts(number, &shared, stores, settings, &watchdog, before)?;
        Ok::<_, String>(Built { materials, stack: stack::build(parts) })
    };
    // The first thing a worker is told is what to build; until then there is nothing to serve with.
    let Some(Command::Prepare(settings, stores, reply)) = commands.recv().await else { return };
    let first = build(&settings, &stores, None);
    if let Ok(first) = &first {
        look(&first.materials).await;
    }
    let told = first.as_ref().map(drop).map_err(Clone::clone);
    let (Ok(first), Ok(())) = (first, reply.send(told)) else { return };
    shared.show_redis(number, first.materials.redis_state());
    let current = Rc::new(RefCell::new(first));
    let mut prepared = None::<Built<_>>;
    let source = current.clone();
    let stack: Rc<dyn Fn() -> _> = Rc::new(move || source.borrow().stack.clone());
    let logging = current.clone();
    let log: Log = Rc::new(move |record, ending| {
        if let Some(access) = &logging.borrow().materials.access {
            access.write(record, ending);
        }
    });
    let mut ticks = interval(PATIENCE);
    // Held by each loop that accepts.
    let accepting_still = Rc::new(());
    let deadline = loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => break clock::instant(),
                Some(Command::Drain(deadline)) => break deadline,
                Some(Command::Commit) => {
                    if let Some(built) = prepared.take() {
                        current.replace(built);
                        shared.show_redis(number, current.borrow().materials.redis_state());
                    }
                }
                Some(Command::Forget) => prepared = None,
                // Nobody to hear it: then it was too late.
                Some(Command::Answer(reply)) => drop(reply.send(())),
                Some(Command::Prepare(settings, stores, reply)) => {
                    let built = build(&settings, &stores, Some(&current.borrow().materials));
                    if let Ok(built) = &built {
                        look(&built.materials).await;
                    }
                    let told = built.as_ref().map(drop).map_err(Clone::clone);
                    prepared = built.ok();
                    // Nobody to hear it: then nobody will say Commit either.
                    let _ = reply.send(told);
                }
                Some(Command::Listen(listening, bind, stop)) => {
                    let (stack, current, metrics, log) = (stack.clone(), current.clone(), metrics.clone(), log.clone());
                    let draining = shared.draining.subscribe();
                    let served = move || Served {
                        current: stack.clone(),
                        settings: current.borrow().materials.server.clone(),
                        draining: draining.clone(),
                        metrics: metrics.clone(),
                        log: log.clone(),
                    };
                    let accepting = accept(listening, bind, shared.admission.clone(), served, stop);
                    let until_it_ends = accepting_still.clone();
                    tokio::task::spawn_local(async move {
                        if let Err(error) = accepting.await {
                            tracing::error!(%error, "cannot accept connections");
                        }
                        drop(until_it_ends);
                    });
                }
            },
            _ = ticks.tick() => {
                if let Some(access) = &current.borrow().materials.access {
                    access.tick();
                }
            }
        }
    };
    drop(prepared);
    finish(&shared, &accepting_still, deadline).await;
    let link = current.borrow().materials.redis.as_ref().map(|(_, link)| link.clone());
    if let Some(link) = link {
        pay(&shared, &link, deadline).await;
    }
    let (tending, member) = {
        let materials = &current.borrow().materials;
        (materials.tending.clone(), materials.member.clone())
    };
    if let Some(tending) = tending {
        tending.finish().await;
    }
    if let Some(member) = member {
        member.leave().await;
    }
    if let Some(access) = &current.borrow().materials.access {
        access.flush();
    }
}

/// A Redis that is there is known before the first request; one that is not holds nothing up for long.
async fn look(materials: &Materials) {
    if let Some((_, link)) = &materials.redis {
        let mut state = link.subscribe();
        let _ = timeout(FIRST_LOOK, state.wait_for(|up| *up)).await;
    }
}

/// Waits until this worker accepts no more, and all connections of the process, and the writes of those that left, have
/// ended; or the grace period has.
async fn finish(shared: &Shared, accepting: &Rc<()>, deadline: std::time::Instant) {
    let deadline = Instant::from_std(deadline);
    let mut looks = interval(Duration::from_millis(10));
    let ended = async {
        let owed = shared.stores().owed;
        while Rc::strong_count(accepting) > 1 || shared.admission.open() > 0 || owed.is_writing() {
            looks.tick().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = sleep_until(deadline) => {}
    }
}

/// Waits until Redis has been told what it is owed, if it can be told at all: not for long.
async fn pay(shared: &Shared, link: &Link, deadline: std::time::Instant) {
    let owed = shared.stores().owed;
    let paying = async {
        while owed.is_any() && link.is_up() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let deadline = Instant::from_std(deadline).min(Instant::now() + LAST_DEBTS);
    let _ = timeout_at(deadline, paying).await;
}

/// Makes all that `settings` say, taking over from `before` what did not change.
fn gather_parts(
    number: usize,
    shared: &Arc<Shared>,
    stores: &Stores,
    settings: &Settings,
    watchdog: &Rc<Watchdog>,
    before: Option<&Materials>,
) -> Result<(Materials, Parts), String> {
    let registry = &shared.registry;
    let redis = settings.redis.as_ref().map(|redis| {
        let kept = before.and_then(|before| before.redis.as_ref()).filter(|(known, _)| known == redis);
        let scripts = [&rate_limit::store::redis::SCRIPTS[..], &[fleet::SCRIPT]].concat();
        let new = || Link::new(redis, &scripts, registry, number);
        (redis.clone(), kept.map_or_else(new, |(_, link)| link.clone()))
    });
    let link = redis.as_ref().map(|(_, link)| link.clone());
    let member = redis.as_ref().filter(|_| number == 0).map(|(redis, link)| {
        let kept = before.filter(|before| before.redis.as_ref().is_some_and(|(known, _)| known == redis));
        let new = || shared.fleet.join(link, &redis.prefix, Pace::default(), shared.clock.clone(), registry, number);
        kept.and_then(|before| before.member.clone()).unwrap_or_else(|| Rc::new(new()))
    });
    let tending = redis.as_ref().filter(|_| number == 0).map(|(redis, link)| {
        let kept = before.and_then(|before| before.tending.clone()).filter(|kept| kept.is_of(&stores.leases));
        let giving = || Giving {
            link: link.clone(),
            prefix: redis.prefix.as_str().into(),
            life: settings.limits.lease,
            registry: registry.clone(),
            worker: number,
        };
        kept.unwrap_or_else(|| Rc::new(stores.leases.tend(giving())))
    });
    let mut upstreams = HashMap::new();
    for app in &settings.upstreams {
        let kept = before.and_then(|before| before.upstreams.get(&app.name)).filter(|(known, _)| known == app);
        let upstream = match kept {
            Some((_, upstream)) => upstream.clone(),
            None => {
                let roster = shared.rosters.of(app, registry, shared.workers);
                let place = (number, shared.workers);
                Upstream::new(app, roster, watchdog.clone(), registry, place)
            }
        };
        upstreams.insert(app.name.clone(), (app.clone(), upstream));
    }
    let access = shared.sink.as_ref().filter(|_| settings.log.access).map(|sink| {
        AccessLog::new(sink, Redaction::new(secret_parameters(settings)), shared.clock.clone(), registry, number)
    });
    let labels: Vec<Arc<str>> = settings.routes.iter().map(|route| route.label.clone()).collect();
    let identity =
        Rc::new(IdentityFields::new(identity_fields(settings)).telling(told_of_certificates(settings).to_vec()));
    let limits = rate_limit::Worker {
        memory: stores.limits.clone(),
        link: link.clone(),
        leases: stores.leases.clone(),
        prefix: settings.redis.as_ref().map_or("", |redis| &redis.prefix).into(),
        apart: link.as_ref().is_some_and(Link::is_cluster),
        fleet: shared.fleet.clone(),
        waiting: shared.waiting.clone(),
        clock: shared.clock.clone(),
        registry: registry.clone(),
        number,
    };
    let room = Room { number, shared, stores, settings, link: &link, limits: &limits, identity: &identity };
    let routes = settings.routes.iter().map(|route| {
        let (_, upstream) = &upstreams[&settings.upstreams[route.upstream].name];
        room.route(route, upstream.clone())
    });
    let parts = Parts {
        telemetry: Telemetry::new(number, registry, &labels, access.clone()),
        client_addr: Rc::new(settings.client_addr.clone()),
        identity: identity.clone(),
        link: link.clone(),
        paths: settings.paths,
        refusals: Refusals::new(registry, number),
        routes: routes.collect::<Result<_, _>>()?,
    };
    let server = Arc::new(settings.server.clone());
    let believes = |route: &RouteSettings| route.session.iter().any(|(session, _)| session.on_outage.grace().is_some());
    let link = link.filter(|_| settings.routes.iter().any(believes));
    let asking = link.map(|link| Asking::start(stores.near.sessions.clone(), link));
    Ok((Materials { server, redis, member, tending, upstreams, access, _asking: asking }, parts))
}

/// What the routes of a worker are made in.
struct Room<'a> {
    number: usize,
    shared: &'a Shared,
    stores: &'a Stores,
    settings: &'a Settings,
    link: &'a Option<Link>,
    limits: &'a rate_limit::Worker,
    identity: &'a Rc<IdentityFields>,
}

impl Room<'_> {
    fn route(&self, route: &RouteSettings, upstream: Rc<Upstream>) -> Result<Route, String> {
        let registry = &self.shared.registry;
        let counting = route.limits.iter().filter(|limit| limit.counting().is_some());
        let (forwarded, all): (Vec<_>, Vec<_>) = counting.cloned().partition(|limit| limit.count == Count::Forwarded);
        let (by_principal, by_request): (Vec<_>, Vec<_>) = all.into_iter().partition(|limit| limit.needs_session());
        let session = route.session.as_ref().map(|(definition, mode)| {
            let store = match (self.link, &self.shared.sessions) {
                (None, Some(memory)) => Store::Memory(memory.clone()),
                _ => Store::Redis(self.stores.near.sessions.clone()),
            };
            Session::new(definition.clone(), *mode, store, registry, self.number)
        });
        Ok(Route {
            label: route.label.clone(),
            pattern: route.pattern.clone(),
            strictness: route.strictness(&self.settings.routes),
            cors: route.cors.as_deref().map(Cors::new),
            response_fields: Some(&route.response_fields).filter(|edits| !edits.is_empty()).cloned().map(Rc::new),
            plan: self.plan(&route.limits),
            by_request: self.limits(&by_request, route.cost),
            session,
            by_principal: self.limits(&by_principal, route.cost),
            cache: self.cache(route)?,
            forwarded: self.limits(&forwarded, route.cost),
            upstream,
            terms: Terms {
                websocket: route.websocket,
                max_body: route.max_body,
                identity: self.identity.clone(),
                rewrite: Some(&route.rewrite).filter(|rewrite| !rewrite.is_empty()).cloned().map(Rc::new),
            },
        })
    }

    /// The limits of a route share one plan.
    fn plan(&self, limits: &[Arc<Limit>]) -> Option<Rc<Lookup>> {
        let plan = limits.iter().find_map(|limit| limit.plan.clone())?;
        let (link, plans) = (self.link.clone()?, self.stores.near.plans.clone());
        Some(Lookup::new(plan, limits, plans, link, &self.shared.registry, self.number))
    }

    fn prefix(&self) -> &str {
        self.settings.redis.as_ref().map_or("", |redis| &redis.prefix)
    }

    fn limits(&self, limits: &[Arc<Limit>], cost: Option<u64>) -> Option<Rc<RateLimit>> {
        (!limits.is_empty()).then(|| RateLimit::new(limits, cost, self.settings.limits, self.limits))
    }

    /// Where nothing is stored at all nothing needs invalidating; elsewhere every route's writes invalidate.
    fn cache(&self, route: &RouteSettings) -> Result<Option<Rc<Cache>>, String> {
        if self.settings.routes.iter().all(|route| route.cache.is_none()) {
            return Ok(None);
        }
        let parameters: Vec<&str> = route.pattern.parameters().map(|name| &**name).collect();
        let on_write = route.on_write.iter().map(|text| Template::parse(text, &parameters));
        let identity = route.session.iter().flat_map(|(session, _)| &session.forward).map(|(name, _)| name.clone());
        let on_route = OnRoute {
            policy: route.cache.clone(),
            credentials: route.session.is_some(),
            certificates: !told_of_certificates(self.settings).is_empty(),
            slash_is_text: route.pattern.slash_is_text,
            on_write: on_write.collect::<Result<_, _>>().map_err(|error| format!("{}: {error}", route.label))?,
            written_late: identity.collect(),
        };
        let worker = cache::Worker {
            memory: self.stores.responses.clone(),
            link: self.link.clone(),
            near: self.stores.near.responses.clone(),
            prefix: self.prefix().into(),
            owed: self.stores.owed.clone(),
            clock: self.shared.clock.clone(),
            registry: self.shared.registry.clone(),
            number: self.number,
        };
        Ok(Some(Cache::new(on_route, &worker)))
    }
}

/// Query parameters that carry credentials: never logged.
fn secret_parameters(settings: &Settings) -> Vec<&str> {
    let carriers = settings.routes.iter().flat_map(|route| &route.session).flat_map(|(session, _)| &session.carriers);
    let of_sessions =
        carriers.filter_map(|carrier| if let Carrier::Query(name) = carrier { Some(&**name) } else { None });
    let plans = settings.routes.iter().flat_map(|route| &route.limits).flat_map(|limit| &limit.plan);
    of_sessions
        .chain(plans.filter_map(|plan| if let Part::Query(name) = &plan.key { Some(&**name) } else { None }))
        .collect()
}

/// Every name under which the app is told who is logged in.
fn identity_fields(settings: &Settings) -> Vec<HeaderName> {
    let sessions = settings.routes.iter().flat_map(|route| &route.session);
    sessions.flat_map(|(session, _)| &session.forward).map(|(name, _)| name.clone()).collect()
}

/// What the app is told of clients' certificates.
fn told_of_certificates(settings: &Settings) -> &[(HeaderName, CertificateFact)] {
    let client = settings.server.tls.as_ref().and_then(|tls| tls.settings.client.as_ref());
    client.map_or(&[], |client| &client.forward)
}
