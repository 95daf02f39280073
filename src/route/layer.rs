//! Finds the route of a request and hands it to that route's own stack.

use std::rc::Rc;

use http::header::HOST;

use super::table::{Found, Table};
use crate::exchange::{self, Exchange, Next, pass};
use crate::local_reply::LocalReply;

/// What a route is bound to, with its place among the labels that telemetry counts by.
pub struct Bound<S> {
    /// Its label in logs and metrics.
    pub label: std::sync::Arc<str>,
    /// Its place in the configuration.
    pub index: usize,
    /// What answers its requests.
    pub service: S,
}

/// The seam: one service for all requests, made of one for each route.
pub fn service<S: Next>(table: Rc<Table<Bound<S>>>) -> impl Next {
    exchange::service(move |exchange| dispatch(table.clone(), exchange))
}

async fn dispatch<S: Next>(
    table: Rc<Table<Bound<S>>>,
    mut exchange: Box<Exchange>,
) -> http::Response<crate::body::Body> {
    let request = &exchange.request;
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let reply = match table.find(host, request.method(), request.uri().path()) {
        Found::Route { target, parameters } => {
            {
                let mut trail = exchange.trail.borrow_mut();
                trail.route = Some(target.label.clone());
                trail.route_index = Some(target.index);
            }
            exchange.parameters = parameters;
            return pass(target.service.clone(), exchange).await;
        }
        Found::MethodNotAllowed { allow } => {
            let names: Vec<&str> = allow.iter().map(http::Method::as_str).collect();
            LocalReply::MethodNotAllowed { allow: names.join(", ") }
        }
        Found::Ambiguous(reason) => LocalReply::BadRequest { reason },
        Found::Nowhere => LocalReply::NoRoute,
    };
    exchange.trail.borrow_mut().local_reply = Some(reply.kind());
    reply.respond(&exchange.request)
}
