//! What would become of a request, and why: what `sidegate explain` tells.
//!
//! 1. Room by room, in the request's order, by the rooms' own words: target, route, plan, limits, session, cache. The first
//!    that would refuse it is named; what stands further in is not reached.
//! 2. Nothing is charged, opened, stored or sent to the app. What a room has to look up (a plan, a session record, a stored
//!    response, what is left of a quota), it looks up where it would.
//! 3. Asked to ask, the same request then takes the way of any other (`asked`): it is charged, and the app may answer.
//! 4. What the client presents is shown as limits show it: secrets never, digests in part.
//!
//! # Why
//! It is done by a worker, with the settings and over the link of its requests: an explanation of what another process
//! would do is one of what nobody does.

mod asked;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use http::{Request, Version};
use serde_json::{Value, json};

use crate::admin::explain::Asked;
use crate::body::Body;
use crate::cache::Cache;
use crate::clock;
use crate::config::settings::{RouteSettings, Settings};
use crate::exchange::{Answers, Client, Connection, Exchange, Next, Scheme};
use crate::listener::target;
use crate::local_reply::LocalReply;
use crate::rate_limit::operate::Trouble;
use crate::rate_limit::plan::Lookup;
use crate::rate_limit::{self, Limit};
use crate::redis_pool::Link;
use crate::route::pattern::Pattern;
use crate::route::strictness::Strictness;
use crate::route::table::{Found, Table};
use crate::route::{Bound, Paths};
use crate::session::{IdentityFields, Session};
use crate::stack::Route;
use crate::telemetry::Record;

/// What the routes of a worker are made of, to be asked one by one.
pub struct Explaining {
    paths: Paths,
    routes: Vec<Explained>,
    identity: Rc<IdentityFields>,
    link: Option<Link>,
    /// The number of the database in Redis, if there is one.
    database: Option<i64>,
    settings: rate_limit::Settings,
    limits: rate_limit::Worker,
}

/// A route.
struct Explained {
    label: Arc<str>,
    pattern: Pattern,
    strictness: Strictness,
    upstream: Arc<str>,
    limits: Vec<Arc<Limit>>,
    cost: Option<u64>,
    plan: Option<Rc<Lookup>>,
    session: Option<Rc<Session>>,
    cache: Option<Rc<Cache>>,
}

impl Explaining {
    /// Of `routes`, which were made of `settings`.
    pub fn new(
        settings: &Settings,
        routes: &[Route],
        identity: &Rc<IdentityFields>,
        link: &Option<Link>,
        limits: &rate_limit::Worker,
    ) -> Rc<Self> {
        let explained = |(said, route): (&RouteSettings, &Route)| Explained {
            label: route.label.clone(),
            pattern: route.pattern.clone(),
            strictness: route.strictness.clone(),
            upstream: settings.upstreams[said.upstream].name.clone(),
            limits: said.limits.clone(),
            cost: said.cost,
            plan: route.plan.clone(),
            session: route.session.clone(),
            cache: route.cache.clone(),
        };
        Rc::new(Self {
            paths: settings.paths,
            routes: settings.routes.iter().zip(routes).map(explained).collect(),
            identity: identity.clone(),
            link: link.clone(),
            database: settings.redis.as_ref().map(|redis| redis.server.database),
            settings: settings.limits,
            limits: limits.clone(),
        })
    }

    /// Explains; and, if that is wanted, sends the request down `stack`.
    ///
    /// # Errors
    /// None: what cannot be found out is said in its place.
    pub async fn explain(&self, asked: Asked, stack: impl Next) -> Result<Value, Trouble> {
        let mut exchange = exchange(&asked);
        let mut told = json!({ "request": request(&asked) });
        self.by_rooms(&mut exchange, asked.content.is_some(), &mut told).await;
        if asked.ask {
            told["asked"] = asked::ask(self::exchange(&asked), stack).await;
        }
        Ok(told)
    }

    async fn by_rooms(&self, exchange: &mut Exchange, has_content: bool, told: &mut Value) {
        let refused = |told: &mut Value, by: &str, status: u16, why: &str| {
            told["refused"] = json!({ "by": by, "status": status, "reason": why });
        };
        if let Err(reply) = target::settle(&mut exchange.request) {
            return refused(told, "listener", reply.status().as_u16(), reply.reason().unwrap_or(reply.kind()));
        }
        self.identity.strip(exchange.request.headers_mut());
        let route = match self.route(exchange) {
            Ok(route) => route,
            Err(reply) => {
                let reason = reply.reason().unwrap_or(reply.kind());
                return refused(told, "route", reply.status().as_u16(), reason);
            }
        };
        told["route"] = json!({ "label": &*route.label, "upstream": &*route.upstream });
        exchange.trail.borrow_mut().route = Some(route.label.clone());
        if let Some(plan) = &route.plan
            && plan.explain(exchange).await
        {
            let reply = LocalReply::UnknownApiKey;
            return refused(told, "plan", reply.status().as_u16(), reply.kind());
        }
        let (by_principal, by_request): (Vec<_>, Vec<_>) =
            route.limits.iter().cloned().partition(|limit| limit.needs_session());
        let mut limits = rate_limit::explain(&by_request, route.cost, exchange, self.settings, &self.limits).await;
        if let Some(session) = &route.session {
            told["session"] = session.explain(exchange, self.link.as_ref()).await;
            if told["session"]["looked_for"]["in_redis"] == true {
                told["session"]["looked_for"]["database"] = self.database.into();
            }
        }
        let stopped = told["session"]["passes"] == false;
        if !stopped {
            limits.extend(rate_limit::explain(&by_principal, route.cost, exchange, self.settings, &self.limits).await);
        }
        let refusing = limits.iter().find(|limit| limit["refused"] == true && limit["shadow"] == false).cloned();
        told["limits"] = limits.into();
        if let Some(limit) = refusing {
            return refused(told, "limit", 429, limit["name"].as_str().unwrap_or_default());
        }
        if stopped {
            let status = told["session"]["status"].as_u64().and_then(|status| status.try_into().ok());
            let lacks = told["session"]["missed"].is_object();
            let why = if lacks { "the login lacks what is demanded" } else { "no session that passes" };
            return refused(told, "session", status.unwrap_or(401), why);
        }
        if let Some(cache) = &route.cache {
            told["cache"] = cache.explain(exchange, has_content).await;
        }
    }

    fn route(&self, exchange: &mut Exchange) -> Result<&Explained, LocalReply> {
        let bound = |(index, route): (usize, &Explained)| {
            let (label, strictness) = (route.label.clone(), route.strictness.clone());
            (route.pattern.clone(), Bound { label, index, strictness, cors: None, service: () })
        };
        // Made anew for each explanation: those are rare, and a table that is kept costs every worker memory.
        let table = Table::new(self.paths, self.routes.iter().enumerate().map(bound).collect());
        match table.find_for(&exchange.request) {
            Found::Route { target, parameters } => {
                exchange.parameters = parameters;
                Ok(&self.routes[target.index])
            }
            Found::MethodNotAllowed { allow } => {
                let names: Vec<&str> = allow.iter().map(http::Method::as_str).collect();
                Err(LocalReply::MethodNotAllowed { allow: names.join(", ") })
            }
            Found::Ambiguous(ambiguity) => Err(LocalReply::BadRequest { reason: ambiguity.reason() }),
            Found::OfSeveralMethods => Err(LocalReply::BadRequest { reason: "method override" }),
            Found::Nowhere => Err(LocalReply::NoRoute),
        }
    }
}

fn request(asked: &Asked) -> Value {
    let request = &asked.request;
    let host = request.headers().get(http::header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()));
    json!({
        "host_assumed": asked.host_assumed,
        "method": request.method().as_str(),
        "scheme": asked.scheme.as_str(),
        "host": host,
        "target": request.uri().to_string(),
        "from": asked.address.to_string(),
    })
}

/// The request, as if a client at its address had sent it.
fn exchange(asked: &Asked) -> Box<Exchange> {
    let mut request = Request::new(asked.content.clone().map_or_else(Body::empty, Body::full));
    *request.method_mut() = asked.request.method().clone();
    *request.uri_mut() = asked.request.uri().clone();
    *request.headers_mut() = asked.request.headers().clone();
    *request.version_mut() = Version::HTTP_11;
    let target = request.uri().path_and_query().cloned();
    let record = Record::new(clock::instant(), request.method().clone(), target, Version::HTTP_11);
    let connection = Connection {
        peer: Some(SocketAddr::new(asked.address, 0)),
        tls: asked.scheme == Scheme::Https,
        certificate: None,
        tunnel: RefCell::default(),
    };
    Box::new(Exchange {
        request,
        connection: Rc::new(connection),
        interim: None,
        client: Client { address: asked.address, trusted: false, scheme: asked.scheme },
        parameters: Vec::new(),
        plan: None,
        answers: Answers::default(),
        presented: None,
        principal: None,
        posted: None,
        trail: Rc::new(RefCell::new(record)),
    })
}
