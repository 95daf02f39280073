//! Sends a request to the app and brings back its answer.
//!
//! 1. A request is sent once. It is sent again only if not a byte of it had been sent, or if it is idempotent, has no
//!    content, and an idle connection was closed under it (RFC 9110 §9.2.2, RFC 9112 §9.3.1); at most `retries` times.
//! 2. The app's head must come within `first_byte` of the end of the request; while the client is still sending, the
//!    app is not blamed.
//! 3. Interim answers go to the client as they come (RFC 9110 §15.2); `Expect: 100-continue` is the app's to answer.
//! 4. A failure of the client's content is answered as the client's (400, 408, 413), one of the app's as 502, 503, 504
//!    with its RFC 9209 name. An answer that has begun and fails is broken off, never completed.
//! 5. Both heads are cleaned by `hop`; Via, X-Forwarded-*, X-Request-Id and traceparent are set.
//!
//! # Why
//! The whole of it is one future without a box: what can go wrong here is read top to bottom.

use std::net::{IpAddr, Ipv4Addr};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Poll, Waker};

use http::header::{
    ACCEPT, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, EXPECT, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE, VIA,
};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::client::conn::TrySendError;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;

use super::connect::Failure;
use super::content::{Fault, FromApp, Sending, ToApp};
use super::pool::{Lease, NoConnection};
use super::{Upstream, hop};
use crate::body::Body;
use crate::client_addr::request_id::X_REQUEST_ID;
use crate::clock;
use crate::exchange::{self, Duplex, Exchange, Next, Tunnel, push_address};
use crate::local_reply::LocalReply;
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
}

/// The service at the end of the stack.
pub fn service(upstream: Rc<Upstream>, terms: Terms) -> impl Next {
    exchange::service(move |exchange| forward(upstream.clone(), terms.clone(), exchange))
}

async fn forward(upstream: Rc<Upstream>, terms: Terms, mut exchange: Box<Exchange>) -> Response<Body> {
    // What a local reply depends on, kept for when the request is gone.
    let method = exchange.request.method().clone();
    let accept = exchange.request.headers().get(ACCEPT).cloned();
    exchange.trail.borrow_mut().upstream = Some(upstream.name.clone());
    match attempt(&upstream, &terms, &mut exchange).await {
        Ok(response) => response,
        Err(reply) => {
            let mut asked = Request::new(Body::empty());
            *asked.method_mut() = method;
            if let Some(accept) = accept {
                asked.headers_mut().insert(ACCEPT, accept);
            }
            exchange.trail.borrow_mut().local_reply = Some(reply.kind());
            reply.respond(&asked)
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
    let version = exchange.request.version();
    let switching = prepare(upstream, exchange, terms)?;
    // A client of HTTP/1.0 knows no interim answers (RFC 9110 §15.2).
    let tells = exchange.connection.interim.is_some() && version != Version::HTTP_10;
    let mut request = std::mem::take(&mut exchange.request);
    let bodiless = request.body().is_end_stream();
    let expects = !bodiless && request.headers().contains_key(EXPECT);
    let sending = (!bodiless).then(|| Sending::new(expects));
    if let Some(sending) = &sending {
        let (sending, identity) = (sending.clone(), terms.identity.clone());
        let sized = request.headers().contains_key(CONTENT_LENGTH);
        request = request.map(|content| Body::boxed(ToApp::new(content, sending, terms.max_body, identity, sized)));
    }
    let mut retries_left = upstream.retries;
    loop {
        let started = clock::instant();
        let mut lease = upstream.pool.lease().await.map_err(|none| refusal(upstream, exchange, none))?;
        let again = lease.reused && bodiless && retries_left > 0 && request.method().is_idempotent();
        let copy = again.then(|| head_of(&request));
        let interims = (tells || expects).then(|| Interims::listen(&mut request, tells));
        let Some(sender) = lease.sender() else { return Err(LocalReply::UpstreamRefused) };
        let ready = sender.is_ready()
            || matches!(upstream.watchdog.within(upstream.first_byte, sender.ready()).await, Ok(Ok(())));
        let answer = match ready {
            true => answer(upstream, exchange, sender.try_send_request(request), interims, sending.as_deref()).await,
            false => Err(NoAnswer::Unsent(Box::new(request))),
        };
        let mut record = exchange.trail.borrow_mut();
        record.upstream_time = Some(clock::instant().duration_since(started));
        let failed = match answer {
            Ok(response) => {
                drop(record);
                return receive(upstream, exchange, response, lease, sending, switching);
            }
            Err(failed) => failed,
        };
        let fault = sending.as_ref().and_then(|sending| sending.fault.get());
        let closed = ("connection_terminated", LocalReply::UpstreamBroken { error: "connection_terminated" });
        let (error, reply) = match failed {
            _ if fault.is_some() => return Err(fault.map_or(closed.1, blame_client)),
            NoAnswer::Unsent(again) if retries_left > 0 => {
                (request, retries_left) = (*again, retries_left - 1);
                record.retries += 1;
                upstream.metrics.retries.inc();
                continue;
            }
            NoAnswer::Closed if let Some(again) = copy => {
                (request, retries_left) = (again, retries_left - 1);
                record.retries += 1;
                upstream.metrics.retries.inc();
                continue;
            }
            NoAnswer::Late => ("http_response_timeout", LocalReply::UpstreamTimeout { which: "http_response_timeout" }),
            NoAnswer::Malformed => ("http_protocol_error", LocalReply::UpstreamBroken { error: "http_protocol_error" }),
            NoAnswer::Unsent(_) | NoAnswer::Closed => closed,
        };
        record.upstream_error = Some(error);
        upstream.failed(error);
        return Err(reply);
    }
}

/// Why there was no answer.
enum NoAnswer {
    /// Not a byte of the request was sent; here it is.
    Unsent(Box<Request<Body>>),
    /// The connection was closed under it.
    Closed,
    /// What came was not HTTP.
    Malformed,
    /// Nothing came in time.
    Late,
}

async fn answer(
    upstream: &Upstream,
    exchange: &Exchange,
    sent: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<Body>>>>,
    interims: Option<Arc<Interims>>,
    sending: Option<&Sending>,
) -> Result<Response<Incoming>, NoAnswer> {
    let mut sent = pin!(sent);
    let mut deadline = None;
    let mut frames = 0;
    let mut expecting = sending.map(|_| upstream.watchdog.deadline(upstream.expect_timeout));
    std::future::poll_fn(|cx| {
        let result = sent.as_mut().poll(cx);
        if let Some(interims) = &interims {
            interims.deliver(exchange, sending, cx.waker());
        }
        if let Poll::Ready(result) = result {
            if let Some(sending) = sending {
                sending.release();
            }
            return Poll::Ready(result.map_err(|mut error| match error.take_message() {
                Some(unsent) => NoAnswer::Unsent(Box::new(unsent)),
                None if error.error().is_parse() => NoAnswer::Malformed,
                None => NoAnswer::Closed,
            }));
        }
        if let (Some(sending), Some(late)) = (sending, &expecting)
            && late.poll_late(cx)
        {
            sending.release();
            expecting = None;
        }
        let late = deadline.get_or_insert_with(|| upstream.watchdog.deadline(upstream.first_byte));
        if !late.poll_late(cx) {
            return Poll::Pending;
        }
        match sending {
            // The request is still on its way: the client is slow, or the app takes it, both of which have their own bounds.
            Some(sending) if !sending.done.get() && (sending.awaits_client.get() || sending.frames.get() != frames) => {
                frames = sending.frames.get();
                late.extend(upstream.first_byte);
                late.poll_late(cx);
                Poll::Pending
            }
            _ => Poll::Ready(Err(NoAnswer::Late)),
        }
    })
    .await
}

/// Cleans the request's head and adds ours; says which protocol the client may switch to.
fn prepare(upstream: &Upstream, exchange: &mut Exchange, terms: &Terms) -> Result<Option<HeaderValue>, LocalReply> {
    let forwarded_for = forwarded_for(exchange);
    let request = &mut exchange.request;
    let (version, bodiless) = (request.version(), request.body().is_end_stream());
    let trusted = exchange.client.trusted;
    let fields = request.headers_mut();
    let mut switching = hop::request(fields, trusted, &terms.identity);
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
    if !bodiless && !fields.contains_key(CONTENT_LENGTH) {
        // Said aloud, because hyper takes GET and HEAD to have no content unless told, and would drop it.
        fields.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
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
    *request.version_mut() = Version::HTTP_11;
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

fn head_of(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::empty());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn refusal(upstream: &Upstream, exchange: &Exchange, none: NoConnection) -> LocalReply {
    let (error, reply) = match none {
        NoConnection::Busy => ("connection_limit_reached", LocalReply::UpstreamBusy { retry_after: 1 }),
        NoConnection::Failed(Failure::Refused) => ("connection_refused", LocalReply::UpstreamRefused),
        NoConnection::Failed(Failure::TimedOut) => {
            ("connection_timeout", LocalReply::UpstreamTimeout { which: "connection_timeout" })
        }
        NoConnection::Failed(Failure::Unresolved) => ("dns_error", LocalReply::UpstreamUnresolved),
        NoConnection::Failed(Failure::Tls) => ("tls_protocol_error", LocalReply::UpstreamTls),
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

/// The app's answer, cleaned, with its connection on the leash of its content.
fn receive(
    upstream: &Rc<Upstream>,
    exchange: &Exchange,
    mut response: Response<Incoming>,
    lease: Lease,
    sending: Option<Rc<Sending>>,
    switching: Option<HeaderValue>,
) -> Result<Response<Body>, LocalReply> {
    if !hop::is_framed_one_way(response.headers()) {
        exchange.trail.borrow_mut().upstream_error = Some("http_protocol_error");
        upstream.failed("http_protocol_error");
        return Err(LocalReply::UpstreamBroken { error: "http_protocol_error" });
    }
    upstream.answered();
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched && switching.is_none() {
        exchange.trail.borrow_mut().upstream_error = Some("http_upgrade_failed");
        upstream.failed("http_upgrade_failed");
        return Err(LocalReply::UpstreamBroken { error: "http_upgrade_failed" });
    }
    let version = response.version();
    hop::response(response.headers_mut(), switched);
    if switched {
        *exchange.connection.tunnel.borrow_mut() = Some(tunnel(upstream, lease, &mut response));
        return Ok(response.map(|_| Body::empty()));
    }
    response.headers_mut().append(VIA, via(version));
    *response.version_mut() = Version::HTTP_11;
    if response.body().is_end_stream() {
        if sending.is_none_or(|sending| sending.done.get()) {
            lease.give_back();
        }
        return Ok(response.map(|_| Body::empty()));
    }
    let endless =
        response.headers().get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"text/event-stream"));
    let pause = upstream.idle.filter(|_| !endless);
    let total = upstream.total.filter(|_| !endless).map(|total| upstream.watchdog.deadline(total));
    let watch = FromApp::new(lease, sending, upstream.watchdog.clone(), pause, total, upstream.on_error.clone());
    Ok(response.map(|content| Body::incoming(content).watched(watch)))
}

fn tunnel(upstream: &Rc<Upstream>, lease: Lease, response: &mut Response<Incoming>) -> Tunnel {
    let upgrading = hyper::upgrade::on(response);
    let upstream = upstream.clone();
    upstream.metrics.tunnels.inc();
    let io = async move {
        let upgraded = upgrading.await.map_err(std::io::Error::other)?;
        let io: Box<dyn Duplex> = Box::new(TokioIo::new(upgraded));
        Ok(io)
    };
    let ended = move |to_app, to_client| {
        upstream.metrics.tunnels.dec();
        tracing::debug!(to_app, to_client, "tunnel ended");
        // The lease counts the connection until now.
        drop(lease);
    };
    Tunnel { io: Box::pin(io), ended: Box::new(ended) }
}

/// Interim answers on their way from the connection's task to the request's.
struct Interims {
    inbox: Mutex<Inbox>,
    /// The client may be told.
    tells: bool,
}

/// What has come, and who is to be woken when more does.
type Inbox = (Vec<(StatusCode, HeaderMap)>, Option<Waker>);

/// More interim answers than this between two looks are dropped: no app needs them, and a hostile one must not fill memory.
const MOST_INTERIMS: usize = 8;

impl Interims {
    fn listen(request: &mut Request<Body>, tells: bool) -> Arc<Self> {
        let interims = Arc::new(Self { inbox: Mutex::default(), tells });
        let listening = interims.clone();
        hyper::ext::on_informational(request, move |response| {
            let mut inbox = listening.inbox.lock();
            if inbox.0.len() < MOST_INTERIMS {
                inbox.0.push((response.status(), response.headers().clone()));
            }
            if let Some(waker) = inbox.1.take() {
                waker.wake();
            }
        });
        interims
    }

    fn deliver(&self, exchange: &Exchange, sending: Option<&Sending>, waker: &Waker) {
        let mut inbox = self.inbox.lock();
        if !inbox.1.as_ref().is_some_and(|known| known.will_wake(waker)) {
            inbox.1 = Some(waker.clone());
        }
        for (status, mut fields) in inbox.0.drain(..) {
            if status == StatusCode::CONTINUE {
                // hyper tells the client itself, when the content is first asked for.
                if let Some(sending) = sending {
                    sending.release();
                }
            } else if let Some(send) = exchange.connection.interim.as_ref().filter(|_| self.tells) {
                hop::response(&mut fields, false);
                send(status, &fields);
            }
        }
    }
}
