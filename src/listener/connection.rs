//! One client connection from its first byte to its last.
//!
//! 1. A connection holds nothing but its socket until bytes come, and again after it has been idle for `park_after`:
//!    hyper's connection is taken apart and the bare socket is parked.
//! 2. The first bytes of a cleartext connection decide between HTTP/1 and HTTP/2 (prior knowledge); TLS decides by ALPN.
//! 3. One coarse tick per connection enforces all of the client's time-outs: head (of a new connection from its start;
//!    empty lines begin one), content, idle, write. Requests set no timer, but for content that an HTTP/2 client keeps us
//!    waiting for: one connection may owe many.
//! 4. A refused head is answered by `refusal`, in raw bytes, after the answers to earlier requests, if hyper would have read
//!    on; after an answer that says `Connection: close` nothing more is said.
//! 5. A 101 ends HTTP: both sockets are tied together until either ends or the process stops.
//! 6. A client that has ended its side while an answer is owed has `half_closed` to be answered; then it is taken to
//!    be gone, and what is done for it ends: HTTP cannot tell a client that has left from one that only sends no more.
//! 7. When the process drains, idle connections close at once and others after the request in flight.
//!
//! # Why
//! An idle keep-alive connection is what a proxy has most of; hyper's buffers would make each cost 10 KiB. And timers
//! registered and cancelled for every request would cost more than the limiter does.

use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use super::Settings;
use super::judge::{Judge, Phase};
use super::pace::{Pace, Slowness, tick_length};
use super::receive::{self, Receive};
use super::refusal;
use super::transport::Transport;
use super::tunnel::tie;
use super::wire::{Judged, Wire};
use crate::exchange::{Always, Connection, Next, Tunnel};
use crate::local_reply::LocalReply;
use crate::telemetry::registry::{Counter, Registry};

/// Bytes of a new connection that are read before it is known which protocol it speaks: most heads fit.
const FIRST_READ: usize = 4 * 1024;
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
    /// Connections ended by a time-out of the client.
    pub timed_out: Counter,
}

impl Metrics {
    /// The slots of `worker`.
    pub fn new(registry: &Registry, worker: usize) -> Self {
        let counter = |name, help| registry.counter(worker, name, help, &[]);
        Self {
            accepted: counter("sidegate_connections_total", "Client connections accepted."),
            over_address_bound: counter(
                "sidegate_connections_refused_total",
                "Client connections closed at once: max_connections_per_address.",
            ),
            refused: counter("sidegate_refused_messages_total", "Requests whose bytes could be read in two ways."),
            timed_out: counter("sidegate_client_timeouts_total", "Client connections ended by a time-out."),
        }
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

/// Serves one connection until it ends. Boxes what is large only while it is needed.
pub async fn serve<S: Next>(mut transport: Transport, peer: Option<SocketAddr>, mut served: Served<S>) {
    let wire = Wire::new();
    let (tls, http2) = match &transport {
        Transport::Tls(stream) => (true, stream.get_ref().1.alpn_protocol() == Some(b"h2")),
        _ => (false, false),
    };
    let of_version = |interim| Rc::new(Connection { peer, tls, interim, tunnel: None.into(), in_flight: 0.into() });
    let connection = of_version(Some(receive::interim(&wire)));
    let mut fresh = true;
    let opened = Instant::now();
    loop {
        let idle = served.settings.timeouts.idle;
        // Whoever has said nothing yet has as long as for a head, from the start.
        let within_header = || served.settings.timeouts.header.saturating_sub(opened.elapsed());
        let patience = if wire.reads.get() == 0 { within_header() } else { idle };
        // A TLS handshake may have read the first request already: then the socket has nothing more to say.
        if !(fresh && tls) && park(&transport, patience, &mut served.draining).await.is_none() {
            return;
        }
        let within = within_header();
        let (prefix, is_http2) = match fresh && !tls {
            true => match Box::pin(sniff(&mut transport, within, &mut served.draining)).await {
                Some(sniffed) => sniffed,
                None => return,
            },
            false => (Bytes::new(), http2),
        };
        // A tick later it is forgotten, unless the head is still coming.
        let waited = if fresh { opened.elapsed() } else { Duration::ZERO };
        fresh = false;
        if is_http2 {
            // hyper has no way to send an interim answer over HTTP/2, and no wire of ours can.
            return Box::pin(serve_http2(transport, prefix, of_version(None), served)).await;
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
async fn park(transport: &Transport, idle: Duration, draining: &mut watch::Receiver<bool>) -> Option<()> {
    tokio::select! {
        biased;
        readable = transport.readable() => readable.ok(),
        _ = draining.wait_for(|draining| *draining) => None,
        () = sleep(idle) => None,
    }
}

/// Reads just enough to tell HTTP/2 with prior knowledge from HTTP/1.
async fn sniff(
    transport: &mut Transport,
    within: Duration,
    draining: &mut watch::Receiver<bool>,
) -> Option<(Bytes, bool)> {
    let mut read = BytesMut::with_capacity(FIRST_READ);
    let reading = async {
        loop {
            let some = tokio::select! {
                biased;
                some = transport.read_buf(&mut read) => some.ok()?,
                _ = draining.wait_for(|draining| *draining) => return None,
            };
            if some == 0 {
                return None;
            }
            let known = read.len().min(PREFACE.len());
            if read[..known] != PREFACE[..known] {
                return Some(false);
            }
            if known == PREFACE.len() {
                return Some(true);
            }
        }
    };
    let http2 = timeout(within, reading).await.ok()??;
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
    let judged = Judged::new(transport, prefix, Some(Judge::new(settings.bounds())), wire.clone());
    let receiver = Rc::new(Receive::http1(connection.clone(), wire.clone(), served.draining.clone()));
    let current = served.current.clone();
    let service = service_fn(move |request: Request<Incoming>| {
        // The one box of a request: hyper moves the future of a connection that it may have to give back.
        Box::pin(Always::new(receiver.receive(request, current())))
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
    let mut draining = false;
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
            return finish(http, wire, connection, served).await;
        }
        if !draining && *served.draining.borrow() {
            draining = true;
            Pin::new(serving).graceful_shutdown();
        }
        match slowness.judge(wire, &settings, tick) {
            Pace::Fine => {}
            Pace::Park => {
                let Some(http) = http.take() else { return Ended::Closed };
                let parts = http.into_parts();
                debug_assert!(parts.read_buf.is_empty(), "idle, and bytes are left");
                return if draining { Ended::Closed } else { Ended::Idle(parts.io.into_inner().into_transport()) };
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

async fn serve_http2<S: Next>(transport: Transport, prefix: Bytes, connection: Rc<Connection>, mut served: Served<S>) {
    let settings = served.settings.clone();
    let wire = Wire::new();
    let judged = Judged::new(transport, prefix, None, wire.clone());
    let receiver = Rc::new(Receive::http2(connection.clone(), settings.timeouts.body, served.draining.clone()));
    let current = served.current.clone();
    let service = service_fn(move |request: Request<Incoming>| Always::new(receiver.receive(request, current())));
    let mut builder = http2::Builder::new(OnThisThread);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
        .max_pending_accept_reset_streams(20)
        .max_local_error_reset_streams(256)
        .initial_stream_window_size(256 * 1024)
        .initial_connection_window_size(1024 * 1024)
        .keep_alive_interval(settings.timeouts.idle / 3)
        .keep_alive_timeout(settings.timeouts.write);
    let mut http = pin!(builder.serve_connection(TokioIo::new(judged), service));
    let tick = tick_length(&settings);
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet_since = Instant::now();
    let mut stalled = Duration::ZERO;
    let mut writes = 0;
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            result = http.as_mut() => {
                if let Err(error) = result {
                    tracing::debug!(%error, "HTTP/2 connection ended");
                }
                return;
            }
            _ = served.draining.wait_for(|draining| *draining), if !draining => {
                draining = true;
                http.as_mut().graceful_shutdown();
            }
            now = ticks.tick() => {
                // Pings are answered without a request in flight, so reads alone do not make a connection busy.
                if connection.in_flight.get() > 0 {
                    quiet_since = now;
                }
                let blocked = wire.write_blocked.get() && wire.writes.get() == writes;
                stalled = if blocked { stalled + tick } else { Duration::ZERO };
                writes = wire.writes.get();
                if stalled > settings.timeouts.write {
                    served.metrics.timed_out.inc();
                    return;
                }
                if !draining && now.duration_since(quiet_since) > settings.timeouts.idle {
                    draining = true;
                    http.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// Runs hyper's HTTP/2 tasks on this worker.
#[derive(Clone, Copy, Debug)]
struct OnThisThread;

impl<F: Future<Output: 'static> + 'static> hyper::rt::Executor<F> for OnThisThread {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(future);
    }
}
