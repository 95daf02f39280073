//! Finds the route of a request and hands it to that route's own stack.

use std::cell::OnceCell;
use std::rc::Rc;
use std::sync::Arc;

use http::header::HOST;

use super::canonical::Ambiguity;
use super::cors::{self, Cors};
use super::strictness::{Demanding, Strict, Strictness};
use super::table::{Found, Table};
use crate::exchange::{self, Either, Exchange, Next, pass};
use crate::local_reply::LocalReply;
use crate::telemetry::registry::{Counter, Registry};

/// What a route is bound to, with its place among the labels that telemetry counts by.
pub struct Bound<S> {
    /// Its label in logs and metrics.
    pub label: Arc<str>,
    /// Its place in the configuration.
    pub index: usize,
    /// How strict it is.
    pub strictness: Strictness,
    /// Who may read its answers.
    pub cors: Option<Rc<Cors>>,
    /// What answers its requests.
    pub service: S,
}

impl<S> Strict for Bound<S> {
    fn is_as_strict_as(&self, other: &Self) -> bool {
        self.strictness.is_as_strict_as(&other.strictness)
    }
}

impl<S> Demanding for Bound<S> {
    fn demands_as_much_as(&self, other: &Self) -> bool {
        self.strictness.demands_as_much_as(&other.strictness)
    }
}

/// Counts the paths that are refused.
pub struct Refusals {
    registry: Arc<Registry>,
    worker: usize,
    /// By ambiguity; made when first needed, so that what never happens is not shown.
    counters: [OnceCell<Counter>; Ambiguity::COUNT],
}

impl Refusals {
    /// Of one worker.
    pub fn new(registry: &Arc<Registry>, worker: usize) -> Self {
        Self { registry: registry.clone(), worker, counters: [const { OnceCell::new() }; Ambiguity::COUNT] }
    }

    fn count(&self, ambiguity: Ambiguity) {
        let help = "Paths that the app may read in a way that meets another route.";
        let labels = [("reason", ambiguity.reason())];
        let make = || self.registry.counter(self.worker, "sidegate_ambiguous_paths_total", help, &labels);
        self.counters[ambiguity as usize].get_or_init(make).inc();
    }
}

/// The seam: one service for all requests, made of one for each route.
pub fn service<S: Next>(table: Rc<Table<Bound<S>>>, refusals: Refusals) -> impl Next {
    let shared = Rc::new((table, refusals));
    exchange::service(move |exchange| dispatch(&shared.0, &shared.1, exchange))
}

fn dispatch<S: Next>(table: &Table<Bound<S>>, refusals: &Refusals, mut exchange: Box<Exchange>) -> Either<S::Future> {
    let request = &exchange.request;
    let host = || request.headers().get(HOST).and_then(|host| host.to_str().ok());
    if let Some(asked) = cors::preflight(request)
        && let Found::Route { target, .. } = table.find(host(), &asked, request.uri().path())
        && let Some(cors) = &target.cors
    {
        let mut trail = exchange.trail.borrow_mut();
        (trail.route, trail.route_index) = (Some(target.label.clone()), Some(target.index));
        trail.local_reply = Some("cors-preflight");
        return Either::answered(cors.answer_preflight(request));
    }
    let reply = match table.find_for(request) {
        Found::Route { target, parameters } => {
            {
                let mut trail = exchange.trail.borrow_mut();
                trail.route = Some(target.label.clone());
                trail.route_index = Some(target.index);
            }
            exchange.parameters = parameters;
            return Either::passed(pass(target.service.clone(), exchange));
        }
        Found::MethodNotAllowed { allow } => {
            let names: Vec<&str> = allow.iter().map(http::Method::as_str).collect();
            LocalReply::MethodNotAllowed { allow: names.join(", ") }
        }
        Found::Ambiguous(ambiguity) => {
            refusals.count(ambiguity);
            LocalReply::BadRequest { reason: ambiguity.reason() }
        }
        Found::OfSeveralMethods => LocalReply::BadRequest { reason: "method override" },
        Found::Nowhere => LocalReply::NoRoute,
    };
    let mut trail = exchange.trail.borrow_mut();
    (trail.local_reply, trail.local_reply_reason) = (Some(reply.kind()), reply.reason());
    drop(trail);
    Either::answered(reply.respond(&exchange.request))
}
