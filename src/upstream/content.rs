//! Content on its way: the client's to the app, the app's to the client.
//!
//! 1. The client's content is held back while the app has not answered an `Expect: 100-continue` (RFC 9110 §10.1.1).
//! 2. Beyond the route's bound the client's content breaks off; the app never sees it as whole.
//! 3. Trailers that could change the meaning of the message are dropped (RFC 9110 §6.5.1).
//! 4. The app's content has its connection on a leash: it goes back to the pool when the content is complete, and is
//!    closed in every other case. A pause longer than the time-out ends it as broken off.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::hop;
use super::pool::Lease;
use super::watchdog::{Deadline, Watchdog};
use crate::body::{Body, BodyError, End, Watch};
use crate::session::IdentityFields;

/// Why the client's content failed; it is the client's fault, not the app's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It broke off.
    Gone,
    /// Its framing was malformed.
    Malformed,
    /// It paused for too long.
    Slow,
    /// It is larger than the bound, in bytes.
    TooLarge(u64),
}

/// What the forwarder knows about the client's content.
#[derive(Default)]
pub struct Sending {
    /// All of it has been taken.
    pub done: Cell<bool>,
    /// Frames taken so far.
    pub frames: Cell<u64>,
    /// The client is waited for, not the app.
    pub awaits_client: Cell<bool>,
    /// It failed.
    pub fault: Cell<Option<Fault>>,
    /// It is held back until the app says 100, answers, or takes too long to.
    held: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Sending {
    /// Of content that is, or is not, held back for a 100.
    pub fn new(held: bool) -> Rc<Self> {
        Rc::new(Self { held: Cell::new(held), ..Self::default() })
    }

    /// Lets held content go.
    pub fn release(&self) {
        if self.held.replace(false)
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
    }
}

/// The client's content on its way to the app.
pub struct ToApp {
    content: Body,
    sending: Rc<Sending>,
    bound: Option<u64>,
    identity: Rc<IdentityFields>,
    sized: bool,
    taken: u64,
}

impl ToApp {
    /// `content`, told of to `sending`, at most `bound` bytes; none of `identity` among its trailers.
    /// `sized`: its length goes on; else it is sent in chunks, which alone can have trailers.
    pub fn new(
        content: Body,
        sending: Rc<Sending>,
        bound: Option<u64>,
        identity: Rc<IdentityFields>,
        sized: bool,
    ) -> Self {
        Self { content, sending, bound, identity, sized, taken: 0 }
    }

    fn failed(&self, fault: Fault, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.sending.fault.set(Some(fault));
        Poll::Ready(Some(Err(error)))
    }
}

impl HttpBody for ToApp {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.sending.held.get() {
            *this.sending.waker.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let next = Pin::new(&mut this.content).poll_frame(cx);
        this.sending.awaits_client.set(next.is_pending());
        let Some(next) = ready!(next) else {
            this.sending.done.set(true);
            return Poll::Ready(None);
        };
        this.sending.frames.set(this.sending.frames.get() + 1);
        match next {
            Err(error) => this.failed(fault(&error), error),
            Ok(frame) => match frame.into_data() {
                Ok(data) => {
                    this.taken += data.len() as u64;
                    if let Some(bound) = this.bound.filter(|bound| this.taken > *bound) {
                        return this.failed(Fault::TooLarge(bound), BodyError::TooLarge(bound));
                    }
                    if this.content.is_end_stream() {
                        this.sending.done.set(true);
                    }
                    Poll::Ready(Some(Ok(Frame::data(data))))
                }
                Err(frame) => {
                    this.sending.done.set(true);
                    Poll::Ready(frame.into_trailers().ok().map(|mut trailers| {
                        let names = trailers.keys().filter(|name| !hop::trailer_may_pass(name, &this.identity));
                        for name in names.cloned().collect::<Vec<_>>() {
                            trailers.remove(name);
                        }
                        Ok(Frame::trailers(trailers))
                    }))
                }
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        if self.sized { self.content.size_hint() } else { SizeHint::default() }
    }
}

fn fault(error: &BodyError) -> Fault {
    match error {
        BodyError::TooLarge(bound) => Fault::TooLarge(*bound),
        BodyError::TimedOut(_) => Fault::Slow,
        BodyError::Broken(_) => Fault::Gone,
        BodyError::Hyper(error) => {
            let mut source = std::error::Error::source(error);
            while let Some(error) = source {
                if let Some(error) = error.downcast_ref::<io::Error>() {
                    return match error.kind() {
                        io::ErrorKind::TimedOut => Fault::Slow,
                        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Fault::Malformed,
                        _ => Fault::Gone,
                    };
                }
                source = error.source();
            }
            Fault::Gone
        }
    }
}

/// Watches the app's content on its way to the client.
pub struct FromApp {
    /// The connection it comes by, until it is complete.
    lease: Option<Lease>,
    sending: Option<Rc<Sending>>,
    watchdog: Rc<Watchdog>,
    /// Longest pause; `None`: unbounded (event streams).
    pause: Option<Duration>,
    pausing: Option<Deadline>,
    /// When all of it must have come.
    total: Option<Deadline>,
    on_error: Rc<dyn Fn(&'static str)>,
}

impl FromApp {
    /// Content that comes by `lease`.
    pub fn new(
        lease: Lease,
        sending: Option<Rc<Sending>>,
        watchdog: Rc<Watchdog>,
        pause: Option<Duration>,
        total: Option<Deadline>,
        on_error: Rc<dyn Fn(&'static str)>,
    ) -> Self {
        Self { lease: Some(lease), sending, watchdog, pause, pausing: None, total, on_error }
    }
}

impl Watch for FromApp {
    fn frame(&mut self, _: &Frame<Bytes>) {
        if let (Some(pausing), Some(pause)) = (&self.pausing, self.pause) {
            pausing.extend(pause);
        }
    }

    fn pending(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        if let Some(pause) = self.pause {
            let pausing = self.pausing.get_or_insert_with(|| self.watchdog.deadline(pause));
            if pausing.poll_late(cx) {
                (self.on_error)("connection_read_timeout");
                return Some(BodyError::TimedOut("upstream idle"));
            }
        }
        if let Some(total) = &self.total
            && total.poll_late(cx)
        {
            (self.on_error)("http_response_timeout");
            return Some(BodyError::TimedOut("upstream total"));
        }
        None
    }

    fn end(&mut self, end: End) {
        let Some(lease) = self.lease.take() else { return };
        match end {
            End::Complete if self.sending.as_ref().is_none_or(|sending| sending.done.get()) => lease.give_back(),
            End::Failed => {
                (self.on_error)("http_response_incomplete");
                drop(lease);
            }
            _ => drop(lease),
        }
    }
}
