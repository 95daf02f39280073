//! What one configuration is made of on a worker: all that its stack needs, and what the next one may take over.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use http::HeaderName;

use super::super::explain::Explaining;
use super::super::shared::{Shared, Stores};
use super::wildcards::wildcards;
use crate::cache::encode::Encode;
use crate::cache::purge::Purging;
use crate::cache::purge::method::ByMethod;
use crate::cache::rules::on_write::OnWrite;
use crate::cache::store::Wildcards;
use crate::cache::{self, Cache, OnRoute, Policy};
use crate::config::settings::{RouteSettings, Settings};
use crate::exchange::CertificateFact;
use crate::listener;
use crate::rate_limit::in_flight::{self, InFlight, Register};
use crate::rate_limit::lease::{Giving, Tending};
use crate::rate_limit::operate::{self, Order, Trouble};
use crate::rate_limit::partition::Part;
use crate::rate_limit::plan::Lookup;
use crate::rate_limit::{self, Count, Limit, Missing, RateLimit};
use crate::redis_pool::fleet::{self, Member, Pace};
use crate::redis_pool::{self, Link};
use crate::route::Refusals;
use crate::route::cors::Cors;
use crate::session::issue::unattended::UnderWay;
use crate::session::issue::{self, Issuing};
use crate::session::operate::Operating;
use crate::session::sightings::Following;
use crate::session::store::doubts::Asking;
use crate::session::store::ending;
use crate::session::store::known::Reading;
use crate::session::store::sightings;
use crate::session::{self, Carrier, Definition, IdentityFields, Session, Store, signatures};
use crate::stack::{Parts, Route};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::redact::Redaction;
use crate::upstream::forward::Terms;
use crate::upstream::watchdog::Watchdog;
use crate::upstream::{self, Upstream};

/// What one configuration is made of on this worker, and what the next one may take over.
pub struct Materials {
    pub server: Arc<listener::Settings>,
    pub redis: Option<(redis_pool::Settings, Link)>,
    /// Tells the other instances of this one; of the first worker alone.
    pub member: Option<Rc<Member>>,
    /// Gives back what limits have taken ahead; of the first worker alone.
    pub tending: Option<Rc<Tending>>,
    upstreams: HashMap<Arc<str>, (upstream::Settings, Rc<Upstream>)>,
    /// What Redis knows of this worker's requests in flight.
    pub register: Rc<Register>,
    pub access: Option<Rc<AccessLog>>,
    /// For operators.
    limits: Rc<Limits>,
    purging: Rc<Purging>,
    explaining: Rc<Explaining>,
    sessions: Rc<Operating>,
    /// Requests that may carry orders about sessions.
    pub orders: Rc<UnderWay>,
    /// Held for as long as limits are to notice that Redis is lost.
    _vigil: Option<rate_limit::Vigil>,
    /// Held for as long as Redis is to be asked about doubted logins.
    _asking: Option<Asking>,
}

/// All limits of a configuration, and how this worker counts.
pub struct Limits {
    limits: Vec<Arc<Limit>>,
    settings: rate_limit::Settings,
    worker: rate_limit::Worker,
}

impl Limits {
    /// Does what an operator wants.
    pub async fn carry_out(&self, order: Order) -> Result<serde_json::Value, Trouble> {
        operate::carry_out(order, &self.limits, self.settings, &self.worker).await
    }
}

impl Materials {
    /// Who does what operators want.
    pub fn for_operators(&self) -> (Rc<Limits>, Rc<Purging>, Rc<Explaining>, Rc<Operating>) {
        (self.limits.clone(), self.purging.clone(), self.explaining.clone(), self.sessions.clone())
    }

    /// What it sees of Redis.
    pub fn redis_state(&self) -> Option<Arc<AtomicU8>> {
        self.redis.as_ref().map(|(_, link)| link.shared_state())
    }
}

/// Makes all that `settings` say, taking over from `before` what did not change.
pub fn gather_parts(
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
        let scripts = [
            &rate_limit::store::redis::SCRIPTS[..],
            &in_flight::SCRIPTS,
            &[fleet::SCRIPT],
            &sightings::SCRIPTS,
            &[cache::store::SCRIPT, cache::store::LOCK, cache::store::PART, cache::store::TRIM],
            &[issue::records::SCRIPT, ending::SCRIPT],
        ]
        .concat();
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
    let vigil = link.as_ref().map(|link| rate_limit::Vigil::start(&stores.limits, link));
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
    let identity = IdentityFields::of(sessions(settings), shared.clock.clone());
    let identity = Rc::new(identity.telling(told_of_certificates(settings).to_vec()));
    let limits = rate_limit::Worker {
        memory: stores.limits.clone(),
        link: link.clone(),
        leases: stores.leases.clone(),
        refusals: stores.refusals.clone(),
        prefix: settings.redis.as_ref().map_or("", |redis| &redis.prefix).into(),
        apart: link.as_ref().is_some_and(Link::is_cluster),
        fleet: shared.fleet.clone(),
        tops: stores.tops.clone(),
        waiting: shared.waiting.clone(),
        clock: shared.clock.clone(),
        registry: registry.clone(),
        number,
    };
    let kept = before.filter(|before| before.redis.as_ref().map(|(known, _)| known) == settings.redis.as_ref());
    let new = || {
        let max_owed = settings.redis.as_ref().map_or(0, |redis| redis.max_sends);
        Register::new(&limits, shared.in_flight.clone(), max_owed)
    };
    let register = kept.map_or_else(new, |before| before.register.clone());
    let wildcards = wildcards(settings);
    let orders = before.map_or_else(Rc::default, |before| before.orders.clone());
    let room = Room {
        number,
        shared,
        stores,
        settings,
        link: &link,
        limits: &limits,
        register: &register,
        identity: &identity,
        wildcards: &wildcards,
        orders: &orders,
    };
    let purging = Purging::new(&room.cache_worker());
    let routes = settings.routes.iter().map(|route| {
        let (_, upstream) = &upstreams[&settings.upstreams[route.upstream].name];
        room.route(route, upstream.clone())
    });
    let routes = routes.collect::<Result<Vec<_>, _>>()?;
    let explaining = Explaining::new(settings, &routes, &identity, &link, &limits);
    let prefix = settings.redis.as_ref().map_or("", |redis| &redis.prefix);
    let (remembered, done) = (stores.near.sessions.clone(), shared.sightings.clone());
    let sessions = Operating::new(readings(settings)?, link.clone(), prefix, remembered, done, shared.clock.clone());
    let parts = Parts {
        telemetry: Telemetry::new(number, registry, &labels, access.clone()),
        client_addr: Rc::new(settings.client_addr.clone()),
        identity: identity.clone(),
        link: link.clone(),
        purging: ByMethod::new(&settings.purge, &purging),
        paths: settings.paths,
        refusals: Refusals::new(registry, number),
        routes,
    };
    let server = Arc::new(settings.server.clone());
    let believes =
        |route: &RouteSettings| route.session.iter().any(|session| session.definition.on_outage.grace().is_some());
    let link = link.filter(|_| settings.routes.iter().any(believes));
    let asking = link.map(|link| Asking::start(stores.near.sessions.clone(), link, prefix, shared.clock.clone()));
    let limits = Rc::new(Limits { limits: settings.limits_in_use(), settings: settings.limits, worker: limits });
    let sessions = Rc::new(sessions);
    let (_vigil, _asking) = (vigil, asking);
    let materials = Materials {
        server,
        redis,
        member,
        tending,
        upstreams,
        register,
        access,
        limits,
        purging,
        explaining,
        sessions,
        orders,
        _vigil,
        _asking,
    };
    Ok((materials, parts))
}

/// What the routes of a worker are made in.
struct Room<'a> {
    number: usize,
    shared: &'a Shared,
    stores: &'a Stores,
    settings: &'a Settings,
    link: &'a Option<Link>,
    limits: &'a rate_limit::Worker,
    register: &'a Rc<Register>,
    identity: &'a Rc<IdentityFields>,
    wildcards: &'a Arc<Wildcards>,
    orders: &'a Rc<UnderWay>,
}

impl Room<'_> {
    fn route(&self, route: &RouteSettings, upstream: Rc<Upstream>) -> Result<Route, String> {
        let registry = &self.shared.registry;
        let counting = route.limits.iter().filter(|limit| limit.counting().is_some());
        let (forwarded, all): (Vec<_>, Vec<_>) = counting.cloned().partition(|limit| limit.count == Count::Forwarded);
        let (by_principal, by_request): (Vec<_>, Vec<_>) = all.into_iter().partition(|limit| limit.needs_session());
        let (in_flight_by_principal, in_flight_by_request): (Vec<_>, Vec<_>) =
            route.limits.iter().cloned().partition(|limit| limit.needs_session());
        let (by_request, by_principal) = (self.limits(&by_request, route.cost), self.limits(&by_principal, route.cost));
        let in_flight = |limits: &[Arc<Limit>], quotas: &Option<Rc<RateLimit>>| {
            InFlight::new(limits, self.settings.limits, self.limits, self.register, quotas.as_ref())
        };
        let store = || match self.link {
            None => Store::Memory(self.shared.sessions.clone()),
            Some(_) => Store::Redis(self.stores.near.sessions.clone()),
        };
        let session = route.session.as_ref().map(|on_route| {
            let following = self.link.clone().and_then(|link| {
                let (definition, done) = (&on_route.definition, self.shared.sightings.clone());
                Following::new(definition, link, self.prefix(), done, registry, self.number)
            });
            Session::new(on_route.clone(), store(), following, self.shared.clock.clone(), registry, self.number)
        });
        let issuing = route.session.as_ref().map(|session::OnRoute { definition, .. }| {
            let clock = self.shared.clock.clone();
            let link = (self.link.clone(), self.prefix());
            Issuing::new(definition, store(), link, clock, self.orders.clone(), (registry, self.number))
        });
        Ok(Route {
            label: route.label.clone(),
            pattern: route.pattern.clone(),
            strictness: route.strictness(&self.settings.routes),
            cors: route.cors.as_deref().map(Cors::new),
            response_fields: Some(&route.response_fields).filter(|edits| !edits.is_empty()).cloned().map(Rc::new),
            plan: self.plan(&route.limits),
            in_flight_by_request: in_flight(&in_flight_by_request, &by_request),
            by_request,
            session: session.transpose()?,
            issuing: issuing.transpose()?.flatten(),
            in_flight_by_principal: in_flight(&in_flight_by_principal, &by_principal),
            by_principal,
            cache: self.cache(route)?,
            encode: route
                .cache
                .as_ref()
                .and_then(|policy| Encode::new(policy, &self.stores.coders, registry, self.number)),
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
        let on_write = route.on_write.iter().map(|text| OnWrite::parse(text, &parameters));
        let identity =
            route.session.iter().flat_map(|session| &session.definition.forward).map(|(name, _)| name.clone());
        let on_route = OnRoute {
            label: route.label.clone(),
            policy: route.cache.as_ref().map(|policy| knowing_credentials(policy, self.settings)),
            credentials: route.session.is_some(),
            bearer_first: route
                .session
                .iter()
                .any(|session| session.definition.carriers.first() == Some(&Carrier::Bearer)),
            session_fields: session_fields(self.settings),
            certificates: !told_of_certificates(self.settings).is_empty(),
            slash_is_text: route.pattern.slash_is_text,
            on_write: on_write.collect::<Result<_, _>>().map_err(|error| format!("{}: {error}", route.label))?,
            wildcards: self.wildcards.clone(),
            written_late: identity.collect(),
        };
        Ok(Some(Cache::new(on_route, &self.cache_worker())))
    }

    fn cache_worker(&self) -> cache::Worker {
        cache::Worker {
            memory: self.stores.responses.clone(),
            link: self.link.clone(),
            near: self.stores.near.responses.clone(),
            prefix: self.prefix().into(),
            owed: self.stores.owed.clone(),
            marks: self.stores.marks.clone(),
            under_way: self.stores.under_way.clone(),
            flights: self.stores.flights.clone(),
            clock: self.shared.clock.clone(),
            registry: self.shared.registry.clone(),
            number: self.number,
        }
    }
}

/// How each session definition that a route uses is read.
fn readings(settings: &Settings) -> Result<Vec<Arc<Reading>>, String> {
    let mut definitions: Vec<_> =
        settings.routes.iter().flat_map(|route| &route.session).map(|session| &session.definition).collect();
    definitions.sort_by(|one, other| one.name.cmp(&other.name));
    definitions.dedup_by(|one, other| one.name == other.name);
    definitions.into_iter().map(Reading::of).collect()
}

/// Fields in which sessions are looked for.
fn session_fields(settings: &Settings) -> Rc<[HeaderName]> {
    let carriers =
        settings.routes.iter().flat_map(|route| &route.session).flat_map(|session| &session.definition.carriers);
    carriers.filter_map(|carrier| if let Carrier::Header(name) = carrier { Some(name.clone()) } else { None }).collect()
}

/// A cache's policy, what it may not leave out of a key, and what no answer that is stored may vary by.
fn knowing_credentials(policy: &Arc<Policy>, settings: &Settings) -> Arc<Policy> {
    let names = secret_parameters(settings);
    let signatures: Vec<HeaderName> = signatures(sessions(settings)).cloned().collect();
    if names.is_empty() && signatures.is_empty() {
        return policy.clone();
    }
    let mut policy = Policy::clone(policy);
    policy.keying.query.credentials = names.into_iter().map(str::to_owned).collect();
    policy.written = signatures;
    policy.into()
}

/// Query parameters that carry credentials, or what clients are told apart by: never logged.
fn secret_parameters(settings: &Settings) -> Vec<&str> {
    let carriers =
        settings.routes.iter().flat_map(|route| &route.session).flat_map(|session| &session.definition.carriers);
    let of_sessions =
        carriers.filter_map(|carrier| if let Carrier::Query(name) = carrier { Some(&**name) } else { None });
    let of_limits = settings.routes.iter().flat_map(|route| &route.limits).flat_map(|limit| {
        let instead = if let Missing::By(part) = &limit.missing { Some(part) } else { None };
        limit.key.0.iter().chain(instead).chain(limit.plan.iter().map(|plan| &plan.key))
    });
    let of_limits = of_limits.filter_map(|part| if let Part::Query(name) = part { Some(&**name) } else { None });
    of_sessions.chain(of_limits).collect()
}

/// The sessions of all routes; one for each route that has it.
fn sessions(settings: &Settings) -> impl Iterator<Item = &Definition> + Clone {
    settings.routes.iter().flat_map(|route| &route.session).map(|session| &*session.definition)
}

/// What the app is told of clients' certificates.
fn told_of_certificates(settings: &Settings) -> &[(HeaderName, CertificateFact)] {
    let client = settings.server.tls.as_ref().and_then(|tls| tls.settings.client.as_ref());
    client.map_or(&[], |client| &client.forward)
}
