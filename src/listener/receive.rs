//! Turns what was read into an [`Exchange`] and hands it to the stack.

use std::cell::RefCell;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
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
    draining: watch::Receiver<bool>,
}

impl Receive {
    /// Of `connection`, which carries `most` requests.
    pub fn new(connection: Rc<Connection>, most: Option<u32>, draining: watch::Receiver<bool>) -> Self {
        let address = connection.peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip().to_canonical());
        let scheme = if connection.tls { Scheme::Https } else { Scheme::Http };
        let client = Client { address, trusted: false, scheme };
        Self { connection, client, most: most.unwrap_or(u32::MAX), draining }
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
        wire.requests.set(wire.requests.get().saturating_add(1));
        let last = wire.requests.get() >= self.most;
        let content =
            |incoming: Incoming| if incoming.is_end_stream() { Body::empty() } else { Body::incoming(incoming) };
        let exchange = self.exchange(request.map(content), wire.clone());
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
            principal: None,
            trail: Rc::new(RefCell::new(trail)),
        })
    }
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
