//! One request of an HTTP/2 connection, from its head to the end of its answer.
//!
//! 1. No more of an answer is handed to h2 than the client's windows and the send buffer have room for; the rest waits in
//!    the app's connection.
//! 2. A client that opens no window for `timeouts.write` gets RST_STREAM (CANCEL): the app's connection is free again,
//!    other streams are not touched.
//! 3. A client that resets its request ends what is done for it.
//! 4. An answer that breaks off ends in RST_STREAM (INTERNAL_ERROR), never as if it were whole (RFC 9113 §8.1).
//! 5. Interim answers go out ahead of the final one; 101 never (§8.6). While the socket is full they are dropped.
//!
//! # Why
//! A task for each stream keeps a panic to its stream, lets the runtime wake only what can go on, and is one allocation.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::header::{CONNECTION, CONTENT_LENGTH, DATE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE};
use http::{Response, StatusCode};
use http_body::Body as _;
use pin_project_lite::pin_project;

use super::Shared;
use super::pulse::Wait;
use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::Interim;

const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The way back to the client, shared by the request's stream and its interim answers.
pub struct Reply {
    respond: RefCell<SendResponse<Bytes>>,
    /// Of the connection.
    pub shared: Rc<Shared>,
    over: Cell<bool>,
    /// Who takes the request's content.
    taker: RefCell<Option<Waker>>,
}

impl Reply {
    /// By `respond`.
    pub fn new(respond: SendResponse<Bytes>, shared: Rc<Shared>) -> Rc<Self> {
        Rc::new(Self { respond: RefCell::new(respond), shared, over: Cell::new(false), taker: RefCell::default() })
    }

    /// Whether the request has been answered, or reset; if not, `cx` is woken when it has.
    pub fn is_over(&self, cx: &Context<'_>) -> bool {
        if !self.over.get() {
            let mut taker = self.taker.borrow_mut();
            if !taker.as_ref().is_some_and(|known| known.will_wake(cx.waker())) {
                *taker = Some(cx.waker().clone());
            }
        }
        self.over.get()
    }

    fn end(&self) {
        self.over.set(true);
        if let Some(taker) = self.taker.take() {
            taker.wake();
        }
    }

    /// Ends the stream with an error.
    pub fn reset(&self, reason: Reason) {
        self.respond.borrow_mut().send_reset(reason);
    }

    /// Whether the client has reset the stream, or the connection is gone.
    pub fn is_reset(&self, cx: &mut Context<'_>) -> bool {
        self.respond.borrow_mut().poll_reset(cx).is_ready()
    }

    /// Sends the head of the final answer; `None` if there is nobody to send it to, or nothing to follow it.
    pub fn begin(&self, head: Response<()>, is_whole: bool) -> Option<SendStream<Bytes>> {
        let mut respond = self.respond.borrow_mut();
        match respond.send_response(head, is_whole) {
            Ok(stream) => (!is_whole).then_some(stream),
            Err(error) => {
                tracing::debug!(%error, "answer could not be sent");
                respond.send_reset(Reason::INTERNAL_ERROR);
                None
            }
        }
    }
}

impl Interim for Reply {
    fn send(&self, status: StatusCode, fields: &HeaderMap) {
        // A client that is not told to continue would wait for it; all else it can do without.
        let needed = status == StatusCode::CONTINUE;
        if (self.shared.line.write_blocked.get() && !needed) || status == StatusCode::SWITCHING_PROTOCOLS {
            return;
        }
        let mut head = Response::new(());
        *head.status_mut() = status;
        *head.headers_mut() = fields.clone();
        if let Err(error) = self.respond.borrow_mut().send_informational(head) {
            tracing::debug!(%error, "interim answer could not be sent");
        }
    }
}

pin_project! {
    /// The task of one request.
    pub struct Stream<F> {
        reply: UnderWay,
        #[pin]
        state: State<F>,
    }
}

/// A request that is under way, as long as it is there.
pub struct UnderWay(Rc<Reply>);

impl UnderWay {
    /// Answered by `reply`.
    pub fn new(reply: Rc<Reply>) -> Self {
        reply.shared.streams.set(reply.shared.streams.get() + 1);
        Self(reply)
    }
}

impl std::ops::Deref for UnderWay {
    type Target = Reply;

    fn deref(&self) -> &Reply {
        &self.0
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.end();
        self.shared.streams.set(self.shared.streams.get() - 1);
    }
}

pin_project! {
    #[project = StateProjection]
    enum State<F> {
        Asked { #[pin] answer: F },
        Answering { answering: Answering },
        Over,
    }
}

/// An answer whose head has gone out.
struct Answering {
    stream: SendStream<Bytes>,
    content: Body,
    /// What of it has come and found no room yet.
    piece: Bytes,
    wait: Wait,
}

impl<F> Stream<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    /// The one that waits for `answer`.
    pub fn new(reply: Rc<Reply>, answer: F) -> Self {
        let reply = UnderWay::new(reply);
        Self { reply, state: State::Asked { answer } }
    }
}

impl<F> Future for Stream<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let mut this = self.project();
        loop {
            let next = match this.state.as_mut().project() {
                StateProjection::Over => return Poll::Ready(()),
                StateProjection::Asked { answer } => match answer.poll(cx) {
                    Poll::Ready(Ok(answer)) => match begin(this.reply, answer) {
                        Some(answering) => State::Answering { answering },
                        None => State::Over,
                    },
                    Poll::Ready(Err(never)) => match never {},
                    Poll::Pending if this.reply.is_reset(cx) => State::Over,
                    Poll::Pending => return Poll::Pending,
                },
                StateProjection::Answering { answering } => match answering.poll(&this.reply.shared, cx) {
                    Poll::Pending if answering.stream.poll_reset(cx).is_pending() => return Poll::Pending,
                    // What was reset has its reason already.
                    _ => State::Over,
                },
            };
            this.state.set(next);
        }
    }
}

/// Sends the head of an answer, and what is left to do then.
fn begin(reply: &Reply, answer: Response<Body>) -> Option<Answering> {
    let (head, content) = answer.into_parts();
    let mut head = Response::from_parts(head, ());
    let fields = head.headers_mut();
    complete(fields);
    let is_whole = content.is_end_stream();
    if !is_whole
        && let Some(length) = content.size_hint().exact()
        && !fields.contains_key(CONTENT_LENGTH)
    {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    let stream = reply.begin(head, is_whole);
    if is_whole {
        reply.shared.line.budget.answered();
    }
    stream.map(|stream| Answering { stream, content, piece: Bytes::new(), wait: Wait::default() })
}

/// Takes from the fields of an answer what is not HTTP/2's, and adds what was missing.
pub fn complete(fields: &mut HeaderMap) {
    // What came from the app has lost it in `upstream`; an answer of our own may ask HTTP/1 to close.
    fields.remove(CONNECTION);
    if let Some(id) = fields.get_mut(X_REQUEST_ID) {
        // No two are alike: each would drive others out of the table of fields, at a price (RFC 7541 §7.1.3).
        id.set_sensitive(true);
    }
    if !fields.contains_key(DATE) {
        let now = UNIX_EPOCH + Duration::from_secs(Clock::System.unix_seconds());
        // The text of a date is a field value.
        if let Ok(date) = HeaderValue::from_str(&httpdate::fmt_http_date(now)) {
            fields.insert(DATE, date);
        }
    }
}

impl Answering {
    /// Ready when the answer is through, or has broken off.
    fn poll(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if !self.piece.is_empty() {
                if ready!(self.poll_send(shared, cx)) {
                    return Poll::Ready(());
                }
                continue;
            }
            match ready!(Pin::new(&mut self.content).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(piece) => {
                        self.stream.reserve_capacity(piece.len());
                        self.piece = piece;
                    }
                    Err(frame) => {
                        if let Ok(trailers) = frame.into_trailers() {
                            let sent = self.stream.send_trailers(without_connection_fields(trailers));
                            return self.end(sent, shared);
                        }
                    }
                },
                None => {
                    let sent = self.stream.send_data(Bytes::new(), true);
                    return self.end(sent, shared);
                }
                Some(Err(error)) => {
                    tracing::debug!(%error, "answer broke off");
                    self.stream.send_reset(Reason::INTERNAL_ERROR);
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Sends as much as there is room for; `true` when that was the last of the answer, or nobody is there to take it.
    fn poll_send(&mut self, shared: &Shared, cx: &mut Context<'_>) -> Poll<bool> {
        let mut room = self.stream.capacity();
        if room == 0 {
            room = match self.stream.poll_capacity(cx) {
                Poll::Ready(Some(Ok(room))) => room,
                Poll::Ready(_) => return Poll::Ready(true),
                Poll::Pending if shared.pulse.is_late(&mut self.wait, shared.timeouts.write, cx) => {
                    shared.timed_out("window");
                    self.stream.send_reset(Reason::CANCEL);
                    return Poll::Ready(true);
                }
                Poll::Pending => return Poll::Pending,
            };
        }
        self.wait.end();
        let part = self.piece.split_to(room.min(self.piece.len()));
        if self.piece.is_empty() {
            shared.line.budget.piece();
        }
        let last = self.piece.is_empty() && self.content.is_end_stream();
        let sent = self.stream.send_data(part, last);
        if last || sent.is_err() {
            return self.end(sent, shared).map(|()| true);
        }
        self.stream.reserve_capacity(self.piece.len());
        Poll::Ready(false)
    }

    fn end(&mut self, sent: Result<(), h2::Error>, shared: &Shared) -> Poll<()> {
        match sent {
            Ok(()) => shared.line.budget.answered(),
            Err(error) => {
                tracing::debug!(%error, "answer could not be sent");
                self.stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
        Poll::Ready(())
    }
}

/// RFC 9113 §8.2.2.
fn without_connection_fields(mut fields: HeaderMap) -> HeaderMap {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    const TE: HeaderName = http::header::TE;
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION, TE, CONTENT_LENGTH] {
        fields.remove(name);
    }
    fields
}
