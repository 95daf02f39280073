//! Turns what hyper read into an [`Exchange`] and hands it to the stack.

use std::cell::{Cell, RefCell};
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::rc::Rc;
use std::task::Context;
use std::time::Duration;

use http::header::CONNECTION;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri};
use http_body::{Body as _, Frame};
use hyper::body::Incoming;
use tokio::sync::watch;
use tokio::time::{Sleep, sleep};

use super::judge::Phase;
use super::wire::Wire;
use crate::body::{Body, BodyError, End, Watch};
use crate::clock;
use crate::exchange::{Answers, Client, Connection, Exchange, Interim, Next, Scheme, pass};
use crate::telemetry::Record;

/// What the requests of one connection have in common.
pub struct Receive {
    connection: Rc<Connection>,
    /// HTTP/1 connections have one; HTTP/2 ones count their requests in flight instead.
    wire: Option<Rc<Wire>>,
    client: Client,
    /// Requests so far; counted where there is a wire.
    received: Cell<u32>,
    /// Longest pause of a request's content, where the connection's tick does not look after it.
    pause: Option<Duration>,
    draining: watch::Receiver<bool>,
}

impl Receive {
    /// Of `connection`, whose bytes pass `wire`.
    pub fn http1(connection: Rc<Connection>, wire: Rc<Wire>, draining: watch::Receiver<bool>) -> Self {
        Self::new(connection, Some(wire), None, draining)
    }

    /// Of `connection`, whose requests may pause for so long within their content.
    pub fn http2(connection: Rc<Connection>, pause: Duration, draining: watch::Receiver<bool>) -> Self {
        Self::new(connection, None, Some(pause), draining)
    }

    fn new(
        connection: Rc<Connection>,
        wire: Option<Rc<Wire>>,
        pause: Option<Duration>,
        draining: watch::Receiver<bool>,
    ) -> Self {
        let address = connection.peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip().to_canonical());
        let scheme = if connection.tls { Scheme::Https } else { Scheme::Http };
        let client = Client { address, trusted: false, scheme };
        Self { connection, wire, client, received: Cell::new(0), pause, draining }
    }

    /// Passes one request through `stack`.
    pub fn receive<S: Next>(
        self: &Rc<Self>,
        request: Request<Incoming>,
        stack: S,
    ) -> impl Future<Output = Response<Body>> + use<S> {
        let (mut parts, incoming) = request.into_parts();
        if let Some(wire) = &self.wire
            && self.is_server_wide(wire)
        {
            parts.uri = server_wide(parts.uri);
        }
        let switching = self.wire.as_ref().is_some_and(|wire| wire.phase.get() == Phase::Switched);
        let target = parts.uri.path_and_query().cloned();
        let trail = Record::new(clock::instant(), parts.method.clone(), target, parts.version);
        let content = match (incoming.is_end_stream(), self.pause) {
            (true, _) => Body::empty(),
            (false, None) => Body::incoming(incoming),
            (false, Some(pause)) => Body::incoming(incoming).watched(Paced { pause, waited: None }),
        };
        let exchange = Box::new(Exchange {
            request: Request::from_parts(parts, content),
            connection: self.connection.clone(),
            client: self.client.clone(),
            parameters: Vec::new(),
            answers: Answers::default(),
            principal: None,
            trail: Rc::new(RefCell::new(trail)),
        });
        let counted = self.wire.is_none().then(|| InFlight::new(self.connection.clone()));
        let this = self.clone();
        async move {
            let mut response = pass(stack, exchange).await;
            let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
            // What the client sent after a head that asked to switch was not judged: nothing may be read as a request
            // after it. And a process that is about to stop wants no further request.
            if (switching && !switched) || (this.wire.is_some() && !switched && *this.draining.borrow()) {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            match counted {
                Some(in_flight) => response.map(|body| body.watched(in_flight)),
                None => response,
            }
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
}

/// `http://a` as what it means to OPTIONS (RFC 9112 §3.2.4): the authority, and `*` for a path.
fn server_wide(target: Uri) -> Uri {
    let mut parts = target.clone().into_parts();
    parts.path_and_query = Some(PathAndQuery::from_static("*"));
    Uri::from_parts(parts).unwrap_or(target)
}

/// Counts a request of an HTTP/2 connection until its answer is through.
struct InFlight(Rc<Connection>);

impl InFlight {
    fn new(connection: Rc<Connection>) -> Self {
        connection.in_flight.set(connection.in_flight.get() + 1);
        Self(connection)
    }
}

impl Watch for InFlight {
    fn frame(&mut self, _: &Frame<bytes::Bytes>) {}
    fn end(&mut self, _: End) {}
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.set(self.0.in_flight.get() - 1);
    }
}

/// Ends content that does not come.
struct Paced {
    /// The longest pause.
    pause: Duration,
    /// The one that is under way.
    waited: Option<Pin<Box<Sleep>>>,
}

impl Watch for Paced {
    fn frame(&mut self, _: &Frame<bytes::Bytes>) {
        self.waited = None;
    }

    fn pending(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        let waited = self.waited.get_or_insert_with(|| Box::pin(sleep(self.pause)));
        waited.as_mut().poll(cx).is_ready().then_some(BodyError::TimedOut("body"))
    }

    fn end(&mut self, _: End) {}
}

/// How a connection over `wire` sends interim answers.
pub fn interim(wire: &Rc<Wire>) -> Interim {
    let wire = wire.clone();
    Box::new(move |status, fields| wire.send_interim(&interim_head(status, fields)))
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
