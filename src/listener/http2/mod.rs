//! HTTP/2 from the client (RFC 9113), over h2.
//!
//! 1. The bytes are judged frame by frame before h2 sees them (`frames`); what only costs time is counted (`abuse`).
//! 2. Each request is a task of its own (`stream`); what its content and its answer wait for, one tick per connection
//!    watches over (`pulse`).
//! 3. A request that is malformed ends its stream; it never reaches the stack (`head`).
//! 4. A connection on which nothing comes for a third of `timeouts.idle` is pinged, and given up if that brings nothing for
//!    `timeouts.write`. One without requests for `timeouts.idle`, one that has had its requests, and all when the
//!    process drains, are ended with GOAWAY: what is under way is finished (§6.8).
//! 5. An extended CONNECT for a WebSocket (RFC 8441) is a GET to the stack, and a tunnel when the app switches
//!    (`websocket`). For any other protocol, or without a stream to be a tunnel, it is a CONNECT, which is not served
//!    here. Every connection says that it may be tried: which routes take WebSockets is theirs to say, and may change
//!    with a reload.
//! 6. One whose client does not read for `timeouts.write`, or leaves a head unfinished for `timeouts.header`, ends at once.
//!
//! # Why
//! hyper's server over the same h2 has no place for four things that are wanted here: a time-out for a single stream that
//! is not read, interim answers, codes and counts of frames, and a content that gives its window back only when it has
//! been taken. What is left of it without them is a loop. h2 itself stays: HPACK, stream states and flow control are its.

mod abuse;
mod content;
mod fields;
mod frames;
mod head;
mod huffman;
mod patience;
mod pulse;
mod stream;
mod table;
#[cfg(test)]
mod tests;
mod websocket;
mod wire;

use std::cell::Cell;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::server::{self, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::time::{MissedTickBehavior, interval, timeout};

pub use self::abuse::{Abuse, Bounds};
use self::content::Content;
use self::frames::Offence;
use self::head::Refusal;
use self::patience::{Patience, Verdict};
use self::pulse::Pulse;
use self::stream::{Reply, Stream};
use self::wire::{Line, Watched};
use super::connection::{Metrics, Served};
use super::pace::tick_length;
use super::receive::Receive;
use super::transport::Transport;
use super::{Settings, Timeouts};
use crate::body::Body;
use crate::exchange::{Connection, Next};
use crate::local_reply::LocalReply;

/// What the streams of a connection share.
pub struct Shared {
    line: Rc<Line>,
    pulse: Pulse,
    timeouts: Timeouts,
    metrics: Rc<Metrics>,
    /// Requests under way.
    streams: Cell<u32>,
}

impl Shared {
    fn timed_out(&self, which: &'static str) {
        self.metrics.timed_out.inc();
        tracing::debug!(timeout = which, "HTTP/2 client took too long");
    }
}

type Http2 = server::Connection<Watched, Bytes>;

/// Serves a connection of which `prefix` has been read, until it ends.
pub async fn serve<S: Next>(transport: Transport, prefix: Bytes, connection: Rc<Connection>, served: Served<S>) {
    let settings = served.settings.clone();
    let tick = tick_length(&settings);
    let line = Line::new();
    let watched = Watched::new(transport, prefix, &settings, line.clone());
    let handshake = builder(&settings).handshake(watched);
    let Ok(Ok(http2)) = timeout(settings.timeouts.header, handshake).await else { return };
    let shared = Rc::new(Shared {
        line,
        pulse: Pulse::new(tick),
        timeouts: settings.timeouts,
        metrics: served.metrics.clone(),
        streams: Cell::new(0),
    });
    let receive = Rc::new(Receive::new(connection, settings.max_requests_per_connection, served.draining.clone()));
    let mut serving = Serving { http2, receive, served, shared, begun: 0, malformed: 0, leaving: false, noted: false };
    let mut draining = serving.served.draining.clone();
    let mut draining = pin!(draining.wait_for(|draining| *draining));
    let mut ticks = interval(tick);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.reset();
    let mut patience = Patience::new(serving.http2.ping_pong(), settings.linger.time);
    std::future::poll_fn(|cx| {
        if serving.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        if !serving.leaving && draining.as_mut().poll(cx).is_ready() {
            serving.leave();
            return again(cx);
        }
        if ticks.poll_tick(cx).is_pending() {
            return Poll::Pending;
        }
        let shared = serving.shared.clone();
        shared.pulse.beat();
        shared.line.budget.passed(tick);
        match patience.judge(&shared, serving.leaving, tick) {
            Verdict::Stay => {}
            Verdict::Leave => serving.leave(),
            Verdict::End(None) => return Poll::Ready(()),
            Verdict::End(Some(which)) => {
                shared.timed_out(which);
                return Poll::Ready(());
            }
        }
        again(cx)
    })
    .await;
}

/// Asks to be polled once more: something has changed that h2 must see.
fn again(cx: &Context<'_>) -> Poll<()> {
    cx.waker().wake_by_ref();
    Poll::Pending
}

fn builder(settings: &Settings) -> server::Builder {
    let bounds = &settings.http2;
    let mut builder = server::Builder::new();
    builder
        .max_concurrent_streams(settings.max_streams)
        .enable_connect_protocol()
        .max_header_list_size(u32::try_from(settings.max_header_size).unwrap_or(u32::MAX))
        // Those are counted as they come; this is for what they leave behind.
        .max_pending_accept_reset_streams(2 * bounds.max_resets as usize)
        .max_local_error_reset_streams(Some(bounds.max_stream_errors as usize))
        .initial_window_size(bounds.stream_window)
        .initial_connection_window_size(bounds.connection_window)
        .max_send_buffer_size(bounds.send_buffer);
    builder
}

/// A connection on which requests come.
struct Serving<S> {
    http2: Http2,
    receive: Rc<Receive>,
    served: Served<S>,
    shared: Rc<Shared>,
    /// Requests so far, and how many of them were refused here.
    begun: u32,
    malformed: u32,
    /// The client has been told to send no more.
    leaving: bool,
    /// Why the client is sent away has been counted.
    noted: bool,
}

impl<S: Next> Serving<S> {
    /// Begins what requests have come; ready when the connection has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            match self.http2.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(error))) => {
                    tracing::debug!(%error, "HTTP/2 connection ended");
                    self.note();
                    return Poll::Ready(());
                }
                Poll::Ready(None) => return Poll::Ready(()),
                Poll::Pending => match self.shared.line.offence.get() {
                    Some(offence) if !self.noted => {
                        self.note();
                        self.http2.abrupt_shutdown(offence.code);
                    }
                    _ => {
                        if self.shared.line.lingers.get() {
                            self.note();
                        }
                        return Poll::Pending;
                    }
                },
            }
        }
    }

    /// Counts why the client is sent away, once: for an offence of its own, or for what h2 has found.
    fn note(&mut self) {
        if std::mem::replace(&mut self.noted, true) {
            return;
        }
        let offence = self.shared.line.offence.get();
        match offence.map_or_else(|| self.shared.line.found_by_h2(), |offence| offence.abuse) {
            Some(abuse) => {
                tracing::debug!(abuse = abuse.name(), "HTTP/2 client sent away");
                self.shared.metrics.http2_abuse[abuse as usize].inc();
            }
            None if offence.is_some() => self.shared.metrics.refused.inc(),
            None => {}
        }
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.begun = self.begun.saturating_add(1);
        if Some(self.begun) == self.served.settings.max_requests_per_connection {
            self.leave();
        }
        let (mut head, stream) = request.into_parts();
        let switches = !stream.is_end_stream() && websocket::becomes_get(&mut head);
        let reply = Reply::new(respond, self.shared.clone());
        let announced = match head::announced(&head, self.served.settings.max_headers) {
            Ok(announced) => announced,
            Err(refusal) => {
                self.shared.metrics.refused.inc();
                self.malformed += 1;
                if self.malformed > self.served.settings.http2.max_stream_errors {
                    // h2 counts only those that it has found itself.
                    let (code, abuse) = (Reason::ENHANCE_YOUR_CALM, Some(Abuse::StreamError));
                    self.shared.line.offence.set(Some(Offence { code, abuse }));
                }
                return refuse(refusal, Request::from_parts(head, Body::empty()), reply);
            }
        };
        if switches {
            let request = Request::from_parts(head, Body::empty());
            // What the app switches belongs to this request, and not to the others of the connection.
            let receive = self.receive.alone();
            let answer = receive.http2(request, reply.clone(), (self.served.current)());
            let idle = self.served.settings.timeouts.idle;
            tokio::task::spawn_local(websocket::serve(reply, stream, receive, answer, idle));
            return;
        }
        let content = if stream.is_end_stream() {
            Body::empty()
        } else {
            Body::boxed(Content::new(stream, announced, &head.headers, reply.clone()))
        };
        let request = Request::from_parts(head, content);
        let answer = self.receive.http2(request, reply.clone(), (self.served.current)());
        tokio::task::spawn_local(Stream::new(reply, answer));
    }

    /// Tells the client to send no more; what is under way is finished.
    fn leave(&mut self) {
        self.leaving = true;
        self.http2.graceful_shutdown();
    }
}

/// Ends a request that is not passed on.
fn refuse(refusal: Refusal, request: Request<Body>, reply: Rc<Reply>) {
    match refusal {
        Refusal::Malformed(why) => {
            tracing::debug!(why, "malformed HTTP/2 request");
            reply.reset(Reason::PROTOCOL_ERROR);
        }
        Refusal::FieldsTooMany => {
            let answer = std::future::ready(Ok(LocalReply::FieldsTooLarge.respond(&request)));
            tokio::task::spawn_local(Stream::new(reply, answer));
        }
    }
}
