//! The layers in order: THE page of how a request is treated.
//!
//! Every layer is always ready, so readiness is never asked for: what bounds the work is in the configuration
//! (connections, streams, `max_pending`) and is enforced where the work is taken on, not by holding a caller back.
//!
//! # Why
//! What every request meets is one type, seen whole by the compiler. What a route adds is put together when it is
//! configured: each layer it uses costs a small box, each it does not use costs nothing. One type for all routes was
//! tried: it took the compiler ten minutes, and every request was moved through every layer (5 % of its instructions).

use std::rc::Rc;
use std::sync::Arc;

use tower::ServiceBuilder;

use crate::cache::encode::{self, Encode};
use crate::cache::purge::method::{self, ByMethod};
use crate::cache::{self, Cache};
use crate::client_addr;
use crate::exchange::{Next, Seam};
use crate::gather::{self, Ask};
use crate::listener::target;
use crate::rate_limit::in_flight::{self, InFlight};
use crate::rate_limit::plan::{self, Lookup};
use crate::rate_limit::{self, RateLimit};
use crate::redis_pool::Link;
use crate::route::cors::{self, Cors};
use crate::route::fields::{self, Edits};
use crate::route::pattern::Pattern;
use crate::route::strictness::Strictness;
use crate::route::table::Table;
use crate::route::{self, Bound, Paths, Refusals};
use crate::session::issue::{self, Issuing};
use crate::session::{self, IdentityFields, Session};
use crate::telemetry::{self, Telemetry};
use crate::upstream::forward::{self, Terms};
use crate::upstream::{Upstream, rewrite};

/// What one worker's stack is made of.
pub struct Parts {
    /// Counts and logs.
    pub telemetry: Rc<Telemetry>,
    /// Whose word about the client is believed.
    pub client_addr: Rc<client_addr::Settings>,
    /// Names that only sidegate may send to the app.
    pub identity: Rc<IdentityFields>,
    /// The way to Redis, if there is one.
    pub link: Option<Link>,
    /// Who may use the method `PURGE`; `None`: it is the app's.
    pub purging: Option<Rc<ByMethod>>,
    /// How paths are read.
    pub paths: Paths,
    /// Counts the paths that are refused.
    pub refusals: Refusals,
    /// The routes, in the file's order.
    pub routes: Vec<Route>,
}

/// What one route's stack is made of.
pub struct Route {
    /// Its label in logs and metrics.
    pub label: Arc<str>,
    /// What it matches.
    pub pattern: Pattern,
    /// How strict it is, compared with the others.
    pub strictness: Strictness,
    /// Which other origins' pages may read its answers.
    pub cors: Option<Rc<Cors>>,
    /// What is done to the fields of its answers.
    pub response_fields: Option<Rc<Edits>>,
    /// Whose quotas the limits go by.
    pub plan: Option<Rc<Lookup>>,
    /// Limits that depend on the request alone.
    pub by_request: Option<Rc<RateLimit>>,
    /// Limits on requests in flight that depend on the request alone.
    pub in_flight_by_request: Option<Rc<InFlight>>,
    /// Who may pass.
    pub session: Option<Rc<Session>>,
    /// Makes sessions, for an app that has none.
    pub issuing: Option<Rc<Issuing>>,
    /// Limits that depend on who is logged in.
    pub by_principal: Option<Rc<RateLimit>>,
    /// Limits on requests in flight that depend on who is logged in.
    pub in_flight_by_principal: Option<Rc<InFlight>>,
    /// What is stored, and what a write invalidates.
    pub cache: Option<Rc<Cache>>,
    /// What of the app's answers is compressed.
    pub encode: Option<Rc<Encode>>,
    /// Limits that count what is forwarded.
    pub forwarded: Option<Rc<RateLimit>>,
    /// Where it leads.
    pub upstream: Rc<Upstream>,
    /// How it is forwarded.
    pub terms: Terms,
}

/// The stack of one worker.
pub fn build(parts: Parts) -> impl Next {
    let Parts { telemetry, client_addr, identity, link, purging, paths, refusals, routes } = parts;
    let bound = |(index, route): (usize, Route)| {
        let (label, pattern) = (route.label.clone(), route.pattern.clone());
        let (strictness, cors) = (route.strictness.clone(), route.cors.clone());
        (pattern, Bound { label, index, strictness, cors, service: of_route(link.clone(), route) })
    };
    let table = Rc::new(Table::new(paths, routes.into_iter().enumerate().map(bound).collect()));
    ServiceBuilder::new()
        // Outermost, so that whatever happens further in is counted and logged, refusals of the next layer included.
        .layer(telemetry::layer(telemetry))
        // Who calls, so that whatever is refused from here on says so.
        .layer(client_addr::layer(client_addr))
        // One spelling of "where to", before anybody reads it.
        .layer(target::layer())
        // What operators have taken back, whatever route it is of; nobody else's word reaches the app.
        .layer(method::layer(purging))
        // Spoofed identity fields go before any layer could believe them; on every route, also without a session.
        .layer(session::strip_layer(identity))
        // Which policy: the seam between what all requests and what one route's requests meet.
        .service(route::service(table, refusals))
}

/// The stack of one route, from the app outwards: a layer that the route does not use is not there.
fn of_route(link: Option<Link>, route: Route) -> Seam {
    let Route { cors, response_fields, plan, by_request, session, issuing, by_principal, .. } = route;
    let Route { cache, encode, forwarded, upstream, terms, .. } = route;
    let (in_flight, in_flight_by_principal) = (route.in_flight_by_request, route.in_flight_by_principal);
    let redirects = terms.rewrite.clone().filter(|rewrite| rewrite.location);
    let mut asks: Vec<Rc<dyn Ask>> = Vec::new();
    // First who may know already that the request is refused: then nobody else is asked.
    asks.extend(by_request.clone().map(|limits| limits as Rc<dyn Ask>));
    asks.extend(in_flight.clone().map(|limits| limits as Rc<dyn Ask>));
    asks.extend(session.clone().map(|session| session as Rc<dyn Ask>));
    let (late, early): (Vec<_>, Vec<_>) = cache.iter().cloned().partition(|cache| cache.is_by_whom());
    asks.extend(early.into_iter().map(|cache| cache as Rc<dyn Ask>));
    let mut asks_by_principal: Vec<Rc<dyn Ask>> = Vec::new();
    if !late.is_empty() || in_flight_by_principal.is_some() && by_principal.is_some() {
        asks_by_principal.extend(by_principal.clone().map(|limits| limits as Rc<dyn Ask>));
        asks_by_principal.extend(in_flight_by_principal.clone().map(|limits| limits as Rc<dyn Ask>));
        asks_by_principal.extend(late.into_iter().map(|cache| cache as Rc<dyn Ask>));
    }
    let second = link.clone().filter(|_| !asks_by_principal.is_empty());
    // The app.
    Seam::new(forward::service(upstream, terms))
        // Its redirects in the client's terms, before anything is stored or invalidated by them.
        .under(redirects.map(rewrite::layer))
        // Limits on what the app is spared if the store has it.
        .under(forwarded.map(rate_limit::layer))
        // What the app has not compressed is, before it is stored: a hit is sent as it is.
        .under(encode.clone().map(encode::layer))
        // An answer from the store spares the app.
        .under(cache.map(cache::layer))
        // Limits by who is logged in, now that it is known.
        .under(by_principal.map(rate_limit::layer))
        // Outside of those: whoever waits for its turn is in flight.
        .under(in_flight_by_principal.map(in_flight::layer))
        // All of these in one trip, and the stored response with them where its key holds who is logged in.
        .under(second.map(|link| gather::layer(Some(link), asks_by_principal.into())))
        // What the app orders about sessions is carried out where it is known which one the client has.
        .under(issuing.map(issue::layer))
        // Nobody who is not logged in gets further, not even to a stored response.
        .under(session.map(session::layer))
        // The cheapest refusal first: a flood costs neither a session nor a stored response.
        .under(by_request.map(rate_limit::layer))
        // How many at once, whatever becomes of them further in.
        .under(in_flight.map(in_flight::layer))
        // All that the layers inside need from Redis, in one trip.
        .under(link.filter(|_| !asks.is_empty()).map(|link| gather::layer(Some(link), asks.into())))
        // One coding for each request, before anybody asks for what is stored in it.
        .under(encode.map(encode::settling))
        // By which quotas, before any limit is asked; and who presents no known key where one is needed gets no further.
        .under(plan.map(plan::layer))
        // What the operator says on every answer; what is stored stays the app's own.
        .under(response_fields.map(fields::layer))
        // Outermost of the route: a page of another origin can read its refusals, too.
        .under(cors.map(cors::layer))
}
