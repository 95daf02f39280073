//! Turns what was read into an [`Exchange`] and hands it to the stack.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use http::header::CONNECTION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use tokio::sync::watch;

use super::judge::Phase;
use super::wire::Wire;
use crate::body::Body;
use crate::clock;
use crate::exchange::{Answers, Client, Connection, Exchange, Interim, Next, Scheme, Tunnel, pass};
use crate::telemetry::Record;

/// What the requests of one connection have in common.
pub struct Receive {
    connection: Rc<Connection>,
    client: Client,
    /// Requests of an HTTP/1 connection; the last one's answer closes it.
    most: u32,
    /// Requests of HTTP/1 since the connection was last parked, as its judge counts them.
    received: Cell<u32>,
    draining: watch::Receiver<bool>,
}

impl Receive {
    /// Of `connection`, which carries `most` requests.
    pub fn new(connection: Rc<Connection>, most: Option<u32>, draining: watch::Receiver<bool>) -> Self {
        let address = connection.peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip().to_canonical());
        let scheme = if connection.tls { Scheme::Https } else { Scheme::Http };
        let client = Client { address, trusted: false, scheme };
        Self { connection, client, most: most.unwrap_or(u32::MAX), received: Cell::new(0), draining }
    }

    /// For a request that may switch protocols by itself, on a connection that goes on.
    pub fn alone(&self) -> Self {
        let Connection { peer, tls, certificate, .. } = &*self.connection;
        let connection = Connection { peer: *peer, tls: *tls, certificate: certificate.clone(), tunnel: None.into() };
        Self::new(Rc::new(connection), None, self.draining.clone())
    }

    /// The app's side of what was switched, if it was.
    pub fn take_tunnel(&self) -> Option<Tunnel> {
        self.connection.tunnel.borrow_mut().take()
    }

    /// Passes one request of an HTTP/1 connection, whose bytes pass `wire`, through `stack`.
    pub fn http1<S: Next>(
        self: &Rc<Self>,
        request: Request<Incoming>,
        wire: &Rc<Wire>,
        stack: S,
    ) -> impl Future<Output = Response<Body>> + use<S> {
        let switching = wire.phase.get() == Phase::Switched;
        wire.http_1_0.set(request.version() == Version::HTTP_10);
        wire.requests.set(wire.requests.get().saturating_add(1));
        let last = wire.requests.get() >= self.most;
        let content =
            |incoming: Incoming| if incoming.is_end_stream() { Body::empty() } else { Body::incoming(incoming) };
        let mut request = request.map(content);
        if self.is_server_wide(wire) {
            let target = std::mem::take(request.uri_mut());
            *request.uri_mut() = server_wide(target);
        }
        let exchange = self.exchange(request, wire.clone());
        let this = self.clone();
        async move {
            let mut response = pass(stack, exchange).await;
            let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            // What the client sent after a head that asked to switch was not judged: nothing may be read as a request
            // after it. And a process that is about to stop wants no further request, nor does a connection that has
            // carried its share.
            if !switched && (switching || last || *this.draining.borrow()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            response
        }
    }

    /// Counts a request; whether it is one that the judge saw to be for the server as a whole.
    fn is_server_wide(&self, wire: &Wire) -> bool {
        let number = self.received.get();
        self.received.set(number.wrapping_add(1));
        let mut marked = wire.server_wide.borrow_mut();
        !marked.is_empty() && {
            let before = marked.len();
            marked.retain(|marked| *marked != number);
            marked.len() < before
        }
    }

    /// Passes one request of an HTTP/2 connection through `stack`.
    pub fn http2<S: Next>(
        &self,
        request: Request<Body>,
        interim: Rc<dyn Interim>,
        mut stack: S,
    ) -> impl Future<Output = Result<Response<Body>, Infallible>> + use<S> {
        // Every service of the stack is always ready (`stack.rs` says why).
        stack.call(self.exchange(request, interim))
    }

    fn exchange(&self, request: Request<Body>, interim: Rc<dyn Interim>) -> Box<Exchange> {
        let target = request.uri().path_and_query().cloned();
        let trail = Record::new(clock::instant(), request.method().clone(), target, request.version());
        Box::new(Exchange {
            request,
            connection: self.connection.clone(),
            interim: Some(interim),
            client: self.client.clone(),
            parameters: Vec::new(),
            answers: Answers::default(),
            plan: None,
            presented: None,
            principal: None,
            posted: None,
            trail: Rc::new(RefCell::new(trail)),
        })
    }
}

/// `http://a` as what it means to OPTIONS (RFC 9112 §3.2.4): the authority, and `*` for a path.
fn server_wide(target: Uri) -> Uri {
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or(target)
}

impl Interim for Wire {
    fn send(&self, status: StatusCode, fields: &HeaderMap) {
        self.send_interim(&interim_head(status, fields));
    }
}

/// The bytes of an interim answer (RFC 9110 §15.2).
fn interim_head(status: StatusCode, fields: &HeaderMap) -> Vec<u8> {
    let mut head = format!("HTTP/1.1 {} {}\r\n", status.as_str(), status.canonical_reason().unwrap_or("")).into_bytes();
    for (name, value) in fields {
        head.extend_from_slice(name.as_str().as_bytes());
        head.extend_from_slice(b": ");
        head.extend_from_slice(value.as_bytes());
        head.extend_from_slice(b"\r\n");
    }
    head.extend_from_slice(b"\r\n");
    head
}
