//! Sends a request to the app and brings back its answer.
//!
//! 1. A request is sent once. It is sent again only if not a byte of it had been sent, or if it is idempotent, has no
//!    content, and its connection ended before a byte of an answer came, or its answer was a status to retry and nothing
//!    of it went to the client (RFC 9110 §9.2.2, RFC 9112 §9.3.1); within the bounds of `retry`.
//! 2. The app's head must come within `first_byte` of the end of the request; while the client is still sending, the
//!    app is not blamed.
//! 3. Interim answers go to the client as they come (RFC 9110 §15.2); `Expect: 100-continue` is the app's to answer.
//! 4. A failure of the client's content is answered as the client's (400, 408, 413), one of the app's as 502, 503, 504
//!    with its RFC 9209 type. An answer whose head has gone to the client and that fails is broken off, never completed.
//! 5. Both heads are cleaned by `hop`; Via, X-Forwarded-*, X-Request-Id and traceparent are set.
//!
//! # Why
//! The whole of it is one future without a box: what can go wrong here is read top to bottom.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::rc::Rc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, SEC_WEBSOCKET_KEY, TE, TRAILER, UPGRADE, VIA,
};
use http::{HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::ext::ReasonPhrase;

use super::connect::Failure;
use super::content::{Fault, ToApp};
use super::http1::{self, Asked, Broken, Head, Outgoing, Switched};
use super::patience::Patience;
use super::pool::{Lease, NoConnection};
use super::retry::Reason;
use super::rewrite::Rewrite;
use super::sender::Sender;
use super::watchdog::Deadline;
use super::{Upstream, hop, http2, tls, websocket};
use crate::body::Body;
use crate::client_addr::request_id::X_REQUEST_ID;
use crate::clock;
use crate::exchange::{self, Duplex, Exchange, Next, Tunnel, push_address};
use crate::local_reply::{LocalReply, grpc};
use crate::session::IdentityFields;
use crate::telemetry::trace_context;

/// What a route says about forwarding.
#[derive(Clone)]
pub struct Terms {
    /// WebSockets pass.
    pub websocket: bool,
    /// Bytes of request content.
    pub max_body: Option<u64>,
    /// Names that only sidegate may send to the app.
    pub identity: Rc<IdentityFields>,
    /// What the app gets to see instead of what the client sent.
    pub rewrite: Option<Rc<Rewrite>>,
}

/// The client address; with the port of the connection it came by, if that was its own.
fn client_of(exchange: &Exchange) -> SocketAddr {
    let address = exchange.client.address;
    let own = exchange.connection.peer.filter(|peer| peer.ip().to_canonical() == address);
    (address, own.map_or(0, |peer| peer.port())).into()
}

/// The service at the end of the stack.
pub fn service(upstream: Rc<Upstream>, terms: Terms) -> impl Next {
    exchange::service(move |exchange| forward(upstream.clone(), terms.clone(), exchange))
}

async fn forward(upstream: Rc<Upstream>, terms: Terms, mut exchange: Box<Exchange>) -> Response<Body> {
    exchange.trail.borrow_mut().upstream = Some(upstream.name.clone());
    match attempt(&upstream, &terms, &mut exchange).await {
        Ok(response) => response,
        Err(reply) => {
            let mut trail = exchange.trail.borrow_mut();
            (trail.local_reply, trail.local_reply_reason) = (Some(reply.kind()), reply.reason());
            drop(trail);
            reply.respond(&exchange.request)
        }
    }
}

async fn attempt(
    upstream: &Rc<Upstream>,
    terms: &Terms,
    exchange: &mut Exchange,
) -> Result<Response<Body>, LocalReply> {
    let size = exchange.request.body().size_hint();
    if let Some(bound) = terms.max_body.filter(|bound| size.lower() > *bound) {
        return Err(LocalReply::ContentTooLarge { bound });
    }
    let mut tries = upstream.retries.begin(exchange);
    let switching = prepare(upstream, exchange, terms)?;
    let mut outgoing = outgoing(exchange, terms)?;
    let total = upstream.total.map(|total| upstream.watchdog.deadline(total));
    let method = exchange.request.method();
    let asked = Asked {
        upstream,
        exchange,
        to_head: method == Method::HEAD,
        // A client of HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
        tells: exchange.interim.is_some() && exchange.request.version() != Version::HTTP_10,
        total: total.as_ref(),
    };
    let repeatable = outgoing.is_bodiless() && method.is_idempotent();
    loop {
        let started = clock::instant();
        let client = upstream.pool.tells_client().then(|| client_of(exchange));
        let lease = upstream.pool.lease(&mut tries, client).await;
        exchange.trail.borrow_mut().retries = tries.count;
        let mut lease = lease.map_err(|none| refusal(upstream, exchange, none))?;
        let answer = match lease.sender() {
            Some(Sender::Http1(connection)) => http1::ask(connection, &mut outgoing, &asked).await,
            // What switches protocols is a connection, and this one is not the request's alone.
            Some(Sender::Http2(_)) if switching.is_some() => return Err(LocalReply::UpgradeRefused),
            // Boxed: other requests' futures need not be as large.
            Some(Sender::Http2(stream)) => Box::pin(http2::ask(stream, &mut outgoing, &asked)).await,
            None => return Err(LocalReply::UpstreamRefused),
        };
        let mut record = exchange.trail.borrow_mut();
        record.upstream_time = Some(clock::instant().duration_since(started));
        record.endpoint = lease.endpoint();
        drop(record);
        let failed = match answer {
            Ok(head) => {
                let status = head.status.as_u16();
                lease.answered(status);
                if repeatable && tries.again(Reason::Status(status), false) {
                    lease.note_in(&mut tries);
                    outgoing.rewind();
                    continue;
                }
                return receive(upstream, exchange, head, (lease, outgoing), switching, total);
            }
            Err(NoAnswer::Fault(fault)) => return Err(blame_client(fault)),
            Err(failed) => failed,
        };
        // That the app closes an idle connection says nothing about it.
        if !(lease.reused && matches!(failed, NoAnswer::Unsent | NoAnswer::Closed)) {
            lease.failed();
        }
        lease.note_in(&mut tries);
        let again = match failed {
            NoAnswer::Unsent => tries.again(Reason::Connect, lease.reused),
            NoAnswer::Closed if repeatable && (lease.reused || lease.has_others()) => {
                tries.again(Reason::Reset, lease.reused)
            }
            _ => false,
        };
        if again {
            outgoing.rewind();
            continue;
        }
        let error = failed.error();
        exchange.trail.borrow_mut().upstream_error = Some(error);
        upstream.failed(error);
        return Err(match failed {
            NoAnswer::Late | NoAnswer::Unread => LocalReply::UpstreamTimeout { which: error },
            NoAnswer::Tls(_) => LocalReply::UpstreamTls { error },
            _ => LocalReply::UpstreamBroken { error },
        });
    }
}

/// Why there was no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoAnswer {
    /// The connection was closed before a byte of the request was sent.
    Unsent,
    /// The connection was closed before a byte of an answer came.
    Closed,
    /// The connection was closed within an answer's head, or after an interim answer.
    Incomplete,
    /// What came is not HTTP, or could be read in two ways.
    Malformed,
    /// The head is larger than the bound.
    TooLarge,
    /// Nothing came in time.
    Late,
    /// The app did not take the request in time.
    Unread,
    /// TLS failed under it: over TLS 1.3 the app judges our certificate when we believe to be through.
    Tls(tls::Fault),
    /// The client's content failed, and with it the request.
    Fault(Fault),
}

impl NoAnswer {
    /// RFC 9209 §2.3.
    fn error(self) -> &'static str {
        match self {
            Self::Unsent | Self::Closed => "connection_terminated",
            Self::Incomplete => "http_response_incomplete",
            Self::Malformed => "http_protocol_error",
            Self::TooLarge => "http_response_header_section_size",
            Self::Late => "http_response_timeout",
            Self::Unread => "connection_write_timeout",
            Self::Tls(fault) => fault.kind(),
            Self::Fault(_) => "http_request_error",
        }
    }
}

/// The request as it leaves: its head in bytes, its content in hand.
fn outgoing(exchange: &mut Exchange, terms: &Terms) -> Result<Outgoing, LocalReply> {
    let request = &mut exchange.request;
    let content = (!request.body().is_end_stream()).then(|| std::mem::take(request.body_mut()));
    let held = content.is_some() && request.headers().contains_key(EXPECT);
    let content = content.map(|content| ToApp::new(content, terms.max_body, terms.identity.clone(), held));
    Outgoing::new(request, content).map_err(|reason| LocalReply::BadRequest { reason })
}

/// Cleans the request's head and adds ours; says which protocol the client may switch to.
fn prepare(upstream: &Upstream, exchange: &mut Exchange, terms: &Terms) -> Result<Option<HeaderValue>, LocalReply> {
    let forwarded_for = forwarded_for(exchange);
    let request = &mut exchange.request;
    let (version, bodiless) = (request.version(), request.body().is_end_stream());
    let trusted = exchange.client.trusted;
    let fields = request.headers_mut();
    let mut switching = hop::request(fields, trusted, &terms.identity);
    let extended = websocket::is_extended(request);
    let fields = request.headers_mut();
    if extended {
        fields.insert(SEC_WEBSOCKET_KEY, websocket::key());
        switching = Some(HeaderValue::from_static("websocket"));
    }
    // h2c never, anything but a WebSocket neither: an Upgrade may be ignored (RFC 9110 §7.8).
    switching = switching.filter(|protocol| bodiless && protocol.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if version == Version::HTTP_2 && fields.contains_key(TRAILER) {
        // In HTTP/1.1 only chunked content can have trailers (RFC 9112 §7.1.2).
        fields.remove(CONTENT_LENGTH);
    }
    if let Some(protocol) = &switching {
        if !terms.websocket {
            return Err(LocalReply::UpgradeRefused);
        }
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        fields.insert(UPGRADE, protocol.clone());
    } else if fields.contains_key(TE) {
        fields.insert(CONNECTION, HeaderValue::from_static("te"));
    }
    fields.insert(hop::X_FORWARDED_FOR, forwarded_for);
    if !trusted || !fields.contains_key(hop::X_FORWARDED_PROTO) {
        fields.insert(hop::X_FORWARDED_PROTO, HeaderValue::from_static(exchange.client.scheme.as_str()));
    }
    if let Some(host) = fields.get(HOST).cloned()
        && (!trusted || !fields.contains_key(hop::X_FORWARDED_HOST))
    {
        fields.insert(hop::X_FORWARDED_HOST, host);
    }
    // HTTP/1.0 may leave it out, HTTP/1.1 may not: then it is the default name, the app's own (RFC 9112 §3.3).
    if !fields.contains_key(HOST) {
        fields.insert(HOST, upstream.authority.clone());
    }
    fields.append(VIA, via(version));
    if let Some(id) = exchange.trail.borrow().request_id.clone() {
        fields.insert(X_REQUEST_ID, id);
    }
    if let Some(context) = trace_context::outgoing(fields.get(hop::TRACEPARENT)) {
        fields.remove("tracestate");
        fields.insert(hop::TRACEPARENT, context);
    }
    if let Some(rewrite) = &terms.rewrite {
        rewrite.request(request, &exchange.parameters)?;
    }
    if let Some(principal) = &exchange.principal {
        terms.identity.vouch(principal, request);
    }
    Ok(switching)
}

fn forwarded_for(exchange: &Exchange) -> HeaderValue {
    let peer = exchange.connection.peer.map_or(IpAddr::V4(Ipv4Addr::LOCALHOST), |peer| peer.ip().to_canonical());
    let mut text = String::with_capacity(45);
    push_address(&mut text, peer);
    let peer = text.as_bytes();
    let earlier = exchange.client.trusted.then(|| exchange.request.headers().get_all(hop::X_FORWARDED_FOR).iter());
    let mut chain: Vec<&[u8]> = earlier.into_iter().flatten().map(HeaderValue::as_bytes).collect();
    let value = if chain.is_empty() {
        HeaderValue::from_bytes(peer)
    } else {
        chain.push(peer);
        HeaderValue::from_bytes(&chain.join(&b", "[..]))
    };
    value.unwrap_or(HeaderValue::from_static("unknown"))
}

fn via(version: Version) -> HeaderValue {
    HeaderValue::from_static(match version {
        Version::HTTP_10 => "1.0 sidegate",
        Version::HTTP_2 => "2.0 sidegate",
        _ => "1.1 sidegate",
    })
}

fn refusal(upstream: &Upstream, exchange: &Exchange, none: NoConnection) -> LocalReply {
    let (error, reply) = match none {
        NoConnection::Busy => ("connection_limit_reached", LocalReply::UpstreamBusy { retry_after: 1 }),
        NoConnection::Out { retry_after } => ("destination_unavailable", LocalReply::UpstreamOut { retry_after }),
        NoConnection::Failed(Failure::Refused) => ("connection_refused", LocalReply::UpstreamRefused),
        NoConnection::Failed(Failure::TimedOut) => {
            ("connection_timeout", LocalReply::UpstreamTimeout { which: "connection_timeout" })
        }
        NoConnection::Failed(Failure::Protocol) => {
            ("http_protocol_error", LocalReply::UpstreamBroken { error: "http_protocol_error" })
        }
        NoConnection::Failed(Failure::Unresolved) => ("dns_error", LocalReply::UpstreamUnresolved),
        NoConnection::Failed(Failure::Tls(fault)) => (fault.kind(), LocalReply::UpstreamTls { error: fault.kind() }),
    };
    exchange.trail.borrow_mut().upstream_error = Some(error);
    upstream.failed(error);
    reply
}

fn blame_client(fault: Fault) -> LocalReply {
    match fault {
        Fault::Gone => LocalReply::BadRequest { reason: "the request's content broke off" },
        Fault::Malformed => LocalReply::BadRequest { reason: "malformed chunked content" },
        Fault::Slow => LocalReply::RequestTimeout,
        Fault::TooLarge(bound) => LocalReply::ContentTooLarge { bound },
    }
}

/// The app's answer, with its connection on the leash of its content.
fn receive(
    upstream: &Rc<Upstream>,
    exchange: &Exchange,
    mut head: Head,
    (mut lease, mut outgoing): (Lease, Outgoing),
    switching: Option<HeaderValue>,
    total: Option<Deadline>,
) -> Result<Response<Body>, LocalReply> {
    let broken = |error| {
        exchange.trail.borrow_mut().upstream_error = Some(error);
        upstream.failed(error);
        LocalReply::UpstreamBroken { error }
    };
    let mut response = Response::new(Body::empty());
    if head.status == StatusCode::SWITCHING_PROTOCOLS {
        // To what it was asked for, and once it has the whole request (RFC 9110 §7.8).
        let asked = head.upgrade.take().filter(|protocol| {
            let named = switching.is_some_and(|asked| asked.as_bytes().eq_ignore_ascii_case(protocol.as_bytes()));
            named && outgoing.is_done()
        });
        let request = &exchange.request;
        let read = !websocket::is_extended(request) || websocket::is_accepted(request.headers(), &head.fields);
        let Some(protocol) = asked.filter(|_| read) else { return Err(broken("http_upgrade_failed")) };
        upstream.answered();
        head.fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
        head.fields.insert(UPGRADE, protocol);
        *exchange.connection.tunnel.borrow_mut() = tunnel(upstream, lease);
    } else {
        upstream.answered();
        if head.status.is_success() {
            outgoing.release();
        }
        head.fields.append(VIA, via(head.version));
        let patience = match head.fields.get(CONTENT_TYPE) {
            // Nobody knows how long an event stream pauses, or lasts.
            Some(kind) if kind.as_bytes().starts_with(b"text/event-stream") => Patience::new(None, None),
            // Nor how long a call pauses; how long it lasts, client and app have agreed upon (`grpc-timeout`).
            Some(kind) if grpc::is_grpc(kind) => Patience::new(None, total),
            _ => Patience::new(upstream.idle, total),
        };
        let of = (upstream.clone(), exchange.trail.clone());
        let content = match lease.sender() {
            Some(Sender::Http2(_)) => http2::content(of, &head, lease, outgoing, patience),
            _ => http1::content(of, &head, lease, outgoing, patience),
        };
        *response.body_mut() = content.map_err(|why| match why {
            Broken::App(error) => broken(error),
            Broken::Client(fault) => blame_client(fault),
        })?;
    }
    *response.status_mut() = head.status;
    *response.headers_mut() = head.fields;
    if let Some(orders) = head.orders {
        response.extensions_mut().insert(*orders);
    }
    if let Some(reason) = head.reason.and_then(|reason| ReasonPhrase::try_from(reason).ok()) {
        response.extensions_mut().insert(reason);
    }
    Ok(response)
}

fn tunnel(upstream: &Rc<Upstream>, mut lease: Lease) -> Option<Tunnel> {
    let io: Box<dyn Duplex> = Box::new(Switched::from(lease.switch()?));
    upstream.tunnels.inc();
    let open = OpenTunnel { upstream: upstream.clone(), _lease: lease };
    let ended = move |to_app, to_client| {
        tracing::debug!(to_app, to_client, "tunnel ended");
        drop(open);
    };
    Some(Tunnel { io: Box::pin(std::future::ready(Ok(io))), ended: Box::new(ended) })
}

/// A tunnel is counted as long as this lives: also one whose client goes before the first byte.
struct OpenTunnel {
    upstream: Rc<Upstream>,
    /// Counts the connection.
    _lease: Lease,
}

impl Drop for OpenTunnel {
    fn drop(&mut self) {
        self.upstream.tunnels.dec();
    }
}
