//! The method `PURGE`, as operators of Varnish and of CDNs know it.
//!
//! 1. Where `[purge] from` is empty, it is an unknown method like any other: the app's, and a write.
//! 2. Elsewhere it never reaches the app. From a client address in one of the networks it purges the target URI, in all its
//!    queries and variants; from any other it is refused with 403.
//! 3. `Fastly-Soft-Purge: 1` makes it soft. Prefixes, patterns and tags are not asked for by a method: the admin listener
//!    takes them.
//! 4. The store cannot be told: 503, and it is tried again by who asked.
//!
//! # Why
//! It stands before routing: a place may be of any route, and needs neither a session nor a limit of it. The address is the
//! resolved one, so that a trusted proxy in front does not make all its clients trusted.

use std::net::IpAddr;
use std::rc::Rc;

use http::header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE};
use http::{HeaderMap, HeaderValue, Response};
use tower::Layer;

use super::{Named, Order, Purging, Settings};
use crate::body::Body;
use crate::cache::key::Key;
use crate::cache::store::purge::{Softness, Target};
use crate::exchange::{self, Either, Exchange, Next, pass};
use crate::local_reply::LocalReply;

/// The method's name.
const PURGE: &str = "PURGE";
/// What makes it soft.
const SOFT: &str = "fastly-soft-purge";
/// Seconds after which a purge that failed may be tried again.
const AGAIN: u64 = 1;

/// Who may purge, and what.
pub struct ByMethod {
    settings: Settings,
    purging: Rc<Purging>,
}

impl ByMethod {
    /// `None`: the method is the app's (rule 1).
    pub fn new(settings: &Settings, purging: &Rc<Purging>) -> Option<Rc<Self>> {
        let on = !settings.from.is_empty();
        on.then(|| Rc::new(Self { settings: settings.clone(), purging: purging.clone() }))
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.settings.from.iter().any(|network| network.contains(&address))
    }

    async fn answer(self: Rc<Self>, exchange: Box<Exchange>) -> Response<Body> {
        if !self.trusts(exchange.client.address) {
            return exchange.refuse(&LocalReply::PurgeRefused);
        }
        let request = &exchange.request;
        let key = match Key::of_place(exchange.client.scheme, request.uri(), request.headers()) {
            Ok(key) => key,
            Err(reason) => return exchange.refuse(&LocalReply::BadRequest { reason }),
        };
        let (authority, path) = (key.authority().to_owned(), request.uri().path().to_owned());
        let named = Named { name: format!("url {authority}{path}"), target: Target::Url { authority, path } };
        match self.purging.carry_out(Order { named: vec![named], softness: softness(request.headers()) }).await {
            Ok(told) => {
                exchange.trail.borrow_mut().local_reply = Some("purged");
                said(&format!("{told}\n"))
            }
            Err(_) => exchange.refuse(&LocalReply::PurgeFailed { retry_after: AGAIN }),
        }
    }
}

fn softness(request: &HeaderMap) -> Softness {
    if request.get(SOFT).is_some_and(|said| said == "1") { Softness::Soft } else { Softness::Hard }
}

fn said(content: &str) -> Response<Body> {
    let mut response = Response::new(Body::full(content.to_owned()));
    let fields = response.headers_mut();
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    fields.insert(CONTENT_LENGTH, HeaderValue::from(content.len()));
    response
}

/// The layer: see the module's rules. Costs every other request the look at its method.
pub fn layer<S: Next>(by_method: Option<Rc<ByMethod>>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange: Box<Exchange>, next: S| match &by_method {
        Some(by_method) if exchange.request.method().as_str() == PURGE => {
            Either::itself(by_method.clone().answer(exchange))
        }
        _ => Either::passed(pass(next, exchange)),
    })
}
