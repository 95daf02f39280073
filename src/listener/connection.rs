//! One client connection from its first byte to its last.
//!
//! 1. A connection holds nothing but its socket until bytes come, and again after it has been idle for `park_after`:
//!    hyper's connection is taken apart and the bare socket is parked.
//! 2. The first bytes of a cleartext connection decide between HTTP/1 and HTTP/2 (prior knowledge); TLS decides by ALPN.
//! 3. One coarse tick per connection enforces all of the client's time-outs: head (of a new connection from its start;
//!    empty lines begin one), content, idle, write. Requests set no timer.
//! 4. A refused head is answered by `refusal`, in raw bytes, after the answers to earlier requests, if hyper would have read
//!    on; after an answer that says `Connection: close` nothing more is said.
//! 5. A 101 ends HTTP: both sockets are tied together until either ends or the process stops.
//! 6. A client that has ended its side while an answer is owed has `half_closed` to be answered; then it is taken to
//!    be gone, and what is done for it ends: HTTP cannot tell a client that has left from one that only sends no more.
//! 7. When the process drains, whatever is asked is answered, and HTTP/1 connections end with that answer
//!    (`Connection: close`); those that stay idle for `drain_linger` are closed.
//!
//! # Why
//! An idle keep-alive connection is what a proxy has most of; hyper's buffers would make each cost 10 KiB. And timers
//! registered and cancelled for every request would cost more than the limiter does.
//!
//! Rule 7: a connection that is closed while the client sends its next request loses that request (RFC 9112 §9.6 leaves it
//! to the client to ask again). Whoever asks more often than once per `drain_linger` is told in an answer instead.

use std::net::SocketAddr;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Settings;
use super::admission::Admitted;
use super::http2::{self, Abuse};
use super::judge::{Judge, Phase};
use super::pace::{Pace, Slowness, tick_length};
use super::proxy_protocol::Refused;
use super::receive::Receive;
use super::refusal;
use super::tls;
use super::transport::{FIRST, Transport};
use super::tunnel::tie;
use super::wire::{Judged, Wire};
use crate::clock::Clock;
use crate::exchange::{Always, Connection, Next, Tunnel};
use crate::local_reply::LocalReply;
use crate::telemetry::registry::{Counter, Registry};

const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Bytes that hyper reads ahead, at most; but always room for a whole head.
const READ_BUFFER: usize = 64 * 1024;

/// What all connections of a worker share.
pub struct Served<S> {
    /// Makes the service that answers the next request; asked once per request, so that a reload takes effect at once
    /// and a request ends under the configuration it began with.
    pub current: Rc<dyn Fn() -> S>,
    /// The listener's settings now in force.
    pub settings: Arc<Settings>,
    /// Turns true when the process is to stop.
    pub draining: watch::Receiver<bool>,
    /// What the listener counts.
    pub metrics: Rc<Metrics>,
    /// Logs what was refused before it was a request.
    pub log: refusal::Log,
}

impl<S> Served<S> {
    /// Waits until the process has been stopping for `drain_linger`, from when it is first asked.
    pub async fn lingered(&self) {
        // Nobody is left to say that it stops: then it has.
        let _ = self.draining.clone().wait_for(|draining| *draining).await;
        sleep(self.settings.drain_linger).await;
    }
}

impl<S> Clone for Served<S> {
    fn clone(&self) -> Self {
        Self {
            current: self.current.clone(),
            settings: self.settings.clone(),
            draining: self.draining.clone(),
            metrics: self.metrics.clone(),
            log: self.log.clone(),
        }
    }
}

/// What the listener counts.
pub struct Metrics {
    /// Connections accepted.
    pub accepted: Counter,
    /// Connections closed at once because their address has its fill.
    pub over_address_bound: Counter,
    /// Heads and content refused by the judge.
    pub refused: Counter,
    /// Connections, and streams of HTTP/2, ended by a time-out of the client.
    pub timed_out: Counter,
    /// TLS handshakes.
    pub tls: tls::handshake::Metrics,
    /// Attempts to accept that failed: out of file descriptors, mostly.
    pub accept_failures: Counter,
    /// By [`Refused`], in its order.
    proxy_protocol: [Counter; 4],
    /// HTTP/2 connections ended for abuse, by its kind.
    pub http2_abuse: [Counter; Abuse::ALL.len()],
}

impl Metrics {
    /// The slots of `worker`.
    pub fn new(registry: &Registry, worker: usize) -> Self {
        let counter = |name, help| registry.counter(worker, name, help, &[]);
        let proxy_protocol = ["untrusted", "missing", "malformed", "late"].map(|reason| {
            let help = "Client connections closed for their PROXY protocol header, or for want of one.";
            registry.counter(worker, "sidegate_proxy_protocol_refused_total", help, &[("reason", reason)])
        });
        Self {
            accepted: counter("sidegate_connections_total", "Client connections accepted."),
            over_address_bound: counter(
                "sidegate_connections_refused_total",
                "Client connections closed at once: max_connections_per_address.",
            ),
            refused: counter("sidegate_refused_messages_total", "Requests whose bytes could be read in two ways."),
            timed_out: counter("sidegate_client_timeouts_total", "Client connections ended by a time-out."),
            tls: tls::handshake::Metrics::new(registry, worker),
            accept_failures: counter(
                "sidegate_accept_failures_total",
                "Attempts to accept a connection that failed: out of file descriptors.",
            ),
            proxy_protocol,
            http2_abuse: Abuse::ALL.map(|abuse| {
                let help = "HTTP/2 connections ended because their client did too much of what brings nothing.";
                registry.counter(worker, "sidegate_http2_abuse_total", help, &[("kind", abuse.name())])
            }),
        }
    }

    /// Connections closed before their first request, for this reason.
    pub fn proxy_protocol_refused(&self, why: Refused) -> &Counter {
        &self.proxy_protocol[why as usize]
    }
}

/// How a phase of a connection ended.
enum Ended {
    /// It is idle: park the socket.
    Idle(Transport),
    /// An answer is owed to what never became a request.
    Refused(Transport, LocalReply),
    /// Protocols were switched.
    Switched(Transport, Bytes, Tunnel),
    /// Nothing is left to do.
    Closed,
}

/// Serves one connection until it ends; so long it is `_admitted`. `read` is what has been read of its first request already.
/// Boxes what is large only while it is needed.
pub async fn serve<S: Next>(
    mut transport: Transport,
    mut read: BytesMut,
    peer: Option<SocketAddr>,
    _admitted: Admitted,
    mut served: Served<S>,
) {
    let wire = Wire::new();
    let (secured, negotiated) = match &transport {
        Transport::Tls(stream) => (true, stream.get_ref().1.alpn_protocol() == Some(b"h2")),
        _ => (false, false),
    };
    let certificate = match tls::client::certificate(&transport, || Clock::System.unix_seconds().cast_signed()) {
        Ok(certificate) => certificate.map(Rc::new),
        Err(reason) => {
            tracing::debug!(reason, ?peer, "client certificate refused");
            served.metrics.tls.refused();
            return Box::pin(refusal::linger(&mut transport, served.settings.linger)).await;
        }
    };
    let connection = Rc::new(Connection { peer, tls: secured, certificate, tunnel: None.into() });
    let mut fresh = true;
    let opened = Instant::now();
    loop {
        let idle = served.settings.timeouts.idle;
        if fresh && read.is_empty() {
            match transport.first_bytes() {
                Ok(first) => read = first,
                Err(_) => return,
            }
        }
        // Whoever has said nothing yet has as long as for a head, from the start.
        let within_header = || served.settings.timeouts.header.saturating_sub(opened.elapsed());
        let silent = wire.reads.get() == 0;
        let patience = if silent { within_header() } else { idle };
        // A TLS handshake may have read the first request already: then the socket has nothing more to say.
        if !(fresh && secured) && read.is_empty() && park(&transport, patience, &served).await.is_none() {
            return served.metrics.timed_out.add(u64::from(silent && !*served.draining.borrow()));
        }
        let within = within_header();
        let (prefix, is_http2) = match fresh && !secured {
            true => match Box::pin(sniff(&mut transport, std::mem::take(&mut read), within, &served)).await {
                Some(sniffed) => sniffed,
                None => return,
            },
            false => (Bytes::new(), negotiated),
        };
        // A tick later it is forgotten, unless the head is still coming.
        let waited = if fresh { opened.elapsed() } else { Duration::ZERO };
        fresh = false;
        if is_http2 {
            return Box::pin(http2::serve(transport, prefix, connection, served)).await;
        }
        match Box::pin(serve_http1(transport, prefix, waited, &wire, &connection, &mut served)).await {
            Ended::Idle(parked) => transport = parked,
            Ended::Refused(transport, reply) => {
                let linger = served.settings.linger;
                let head = wire.refused_head.get();
                return Box::pin(refusal::answer(transport, reply, head, peer, &served.log, linger)).await;
            }
            Ended::Switched(transport, read, tunnel) => {
                return Box::pin(tie(transport, read, tunnel, idle)).await;
            }
            Ended::Closed => return,
        }
    }
}

/// Waits for bytes with nothing but the socket in hand; `None` if the connection is over.
async fn park<S>(transport: &Transport, idle: Duration, served: &Served<S>) -> Option<()> {
    tokio::select! {
        biased;
        readable = transport.readable() => readable.ok(),
        () = served.lingered() => None,
        () = sleep(idle) => None,
    }
}

/// Reads just enough, beyond what has been `read` already, to tell HTTP/2 with prior knowledge from HTTP/1.
async fn sniff<S>(
    transport: &mut Transport,
    mut read: BytesMut,
    within: Duration,
    served: &Served<S>,
) -> Option<(Bytes, bool)> {
    if read.is_empty() {
        read.reserve(FIRST);
    }
    let reading = async {
        loop {
            let known = read.len().min(PREFACE.len());
            if read[..known] != PREFACE[..known] {
                return Some(false);
            }
            if known == PREFACE.len() {
                return Some(true);
            }
            let some = tokio::select! {
                biased;
                some = transport.read_buf(&mut read) => some.ok()?,
                () = served.lingered() => return None,
            };
            if some == 0 {
                return None;
            }
        }
    };
    let http2 = match timeout(within, reading).await {
        Ok(decided) => decided?,
        Err(_) => {
            served.metrics.timed_out.inc();
            return None;
        }
    };
    Some((read.freeze(), http2))
}

async fn serve_http1<S: Next>(
    transport: Transport,
    prefix: Bytes,
    waited: Duration,
    wire: &Rc<Wire>,
    connection: &Rc<Connection>,
    served: &mut Served<S>,
) -> Ended {
    let settings = served.settings.clone();
    let judged = Judged::new(transport, prefix, Judge::new(settings.bounds()), wire.clone());
    let receiver =
        Rc::new(Receive::new(connection.clone(), settings.max_requests_per_connection, served.draining.clone()));
    let (current, passed) = (served.current.clone(), wire.clone());
    let service = service_fn(move |request: Request<Incoming>| {
        // The one box of a request: hyper moves the future of a connection that it may have to give back.
        Box::pin(Always::new(receiver.http1(request, &passed, current())))
    });
    let http = http1::Builder::new()
        .half_close(true)
        .max_buf_size(READ_BUFFER.max(settings.max_header_size + 4))
        .max_headers(settings.max_headers)
        .serve_connection(TokioIo::new(judged), service);
    // Held in an option: parking takes it apart.
    let mut http = Some(http);
    let tick = tick_length(&settings);
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut slowness = Slowness::after(waited);
    // For how long the process has been stopping.
    let mut drained = Duration::ZERO;
    let mut closing = false;
    loop {
        let Some(serving) = http.as_mut() else { return Ended::Closed };
        let done = std::future::poll_fn(|cx| match serving.poll_without_shutdown(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending => ticks.poll_tick(cx).map(|_| None),
        })
        .await;
        if let Some(result) = done {
            if let Err(error) = &result {
                tracing::debug!(%error, "connection ended");
            }
            let Some(http) = http.take() else { return Ended::Closed };
            if result.is_err_and(|error| error.is_user()) && wire.http_1_0.get() {
                // The answer broke off, and an orderly end would make it look whole (RFC 9112 §8).
                http.into_parts().io.into_inner().into_transport().reset();
                return Ended::Closed;
            }
            return finish(http, wire, connection, served).await;
        }
        if !closing && *served.draining.borrow() {
            // Until then whatever is asked is answered with `Connection: close`, and ends the connection by itself.
            drained += tick;
            closing = drained >= settings.drain_linger;
            if closing {
                Pin::new(serving).graceful_shutdown();
            }
        }
        match slowness.judge(wire, &settings, tick) {
            Pace::Fine => {}
            Pace::Park => {
                let Some(http) = http.take() else { return Ended::Closed };
                let parts = http.into_parts();
                debug_assert!(parts.read_buf.is_empty(), "idle, and bytes are left");
                return if closing { Ended::Closed } else { Ended::Idle(parts.io.into_inner().into_transport()) };
            }
            Pace::Expired(which) => {
                served.metrics.timed_out.inc();
                tracing::debug!(timeout = which, peer = ?connection.peer, "client took too long");
                if which == "header" && wire.flushed.get() {
                    // hyper has not seen a whole head: the answer is ours to give. Empty lines ask nothing.
                    let Some(http) = http.take().filter(|_| wire.phase.get() == Phase::Head) else {
                        return Ended::Closed;
                    };
                    let transport = http.into_parts().io.into_inner().into_transport();
                    return Ended::Refused(transport, LocalReply::RequestTimeout);
                }
                if matches!(which, "write" | "half_closed") || wire.expired.replace(true) {
                    return Ended::Closed;
                }
                // The next read fails, so the content ends in an error and its request is answered 408.
            }
        }
    }
}

/// hyper is done with the connection: what is left to do with it?
async fn finish<S, B, N>(
    http: http1::Connection<TokioIo<Judged>, S>,
    wire: &Wire,
    connection: &Connection,
    served: &Served<N>,
) -> Ended
where
    S: hyper::service::HttpService<Incoming, ResBody = B>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let parts = http.into_parts();
    let mut transport = parts.io.into_inner().into_transport();
    if let Some(tunnel) = connection.tunnel.borrow_mut().take() {
        return Ended::Switched(transport, parts.read_buf, tunnel);
    }
    let refusal = wire.refusal.get();
    if refusal.is_some() {
        served.metrics.refused.inc();
    }
    match refusal {
        // An answer that was broken off must not be followed by another one.
        Some(refusal) if wire.flushed.get() && wire.told_the_end.get() => {
            Ended::Refused(transport, refusal::reply(refusal))
        }
        _ => {
            refusal::linger(&mut transport, served.settings.linger).await;
            Ended::Closed
        }
    }
}
