//! The content of an answer on its way to the client.
//!
//! 1. It has its connection on a leash: that goes back to the pool when the content is complete, the request was sent
//!    whole, and not a byte has come that nobody asked for; it is closed in every other case.
//! 2. Reading it also drives what is left of the request's content: an app may answer while it still reads.
//! 3. Content that is cut short, or whose framing is malformed, ends in an error: it is broken off towards the client,
//!    and never looks complete. Running out of `patience` ends it likewise.
//! 4. What goes wrong is counted and logged by its RFC 9209 type; what is the client's fault is not the app's.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::chunked::{self, Chunks};
use super::head::Framing;
use super::{Connection, Outgoing};
use crate::body::BodyError;
use crate::telemetry::Trail;
use crate::upstream::Upstream;
use crate::upstream::content::Fault;
use crate::upstream::patience::Patience;
use crate::upstream::pool::Lease;

/// The content of an answer.
pub struct Content {
    upstream: Rc<Upstream>,
    trail: Trail,
    /// The connection it comes by, until it is over.
    lease: Option<Lease>,
    persistent: bool,
    state: State,
    /// The request, while it is not sent whole.
    outgoing: Option<Outgoing>,
    /// What was read ahead.
    early: Option<Frame<Bytes>>,
    patience: Patience,
}

enum State {
    Length(u64),
    Chunked(Box<Chunks>),
    UntilClose,
    Over,
}

/// Why content ends early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The app's fault, by its RFC 9209 type.
    App(&'static str),
    /// The client's: the rest of its own content did not come.
    Client(Fault),
}

impl Content {
    /// Content that comes by `lease`, for a request that is `outgoing` if it has not been sent whole.
    pub fn new(
        (upstream, trail): (Rc<Upstream>, Trail),
        (lease, persistent): (Lease, bool),
        framing: Framing,
        outgoing: Option<Outgoing>,
        mut patience: Patience,
    ) -> Self {
        let state = match framing {
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Box::default()),
            Framing::UntilClose => State::UntilClose,
        };
        patience.begin(outgoing.as_ref().map(Outgoing::progress));
        Self { upstream, trail, lease: Some(lease), persistent, state, outgoing, early: None, patience }
    }

    /// Looks at what has come already, so that an answer that is broken from the start can still be a 502. Nobody is
    /// woken for what it does not find: the content is asked for again as soon as its head is on the way.
    ///
    /// # Errors
    /// [`Broken`]; it has not been counted.
    pub fn look_ahead(&mut self) -> Result<(), Broken> {
        if let Poll::Ready(frame) = self.poll_next(&mut Context::from_waker(Waker::noop()))? {
            self.early = frame;
        }
        Ok(())
    }

    /// The next frame; `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, Broken>> {
        if let Some(early) = self.early.take() {
            return Poll::Ready(Ok(Some(early)));
        }
        let Some(connection) = self.lease.as_mut().and_then(Lease::http1) else { return Poll::Ready(Ok(None)) };
        if let Some(outgoing) = &mut self.outgoing {
            let sent = outgoing.poll_send(cx, &mut connection.transport);
            if let Poll::Ready(Err(fault)) = sent {
                return Poll::Ready(Err(Broken::Client(fault)));
            }
            if outgoing.is_done() {
                self.outgoing = None;
                self.patience.moved();
            }
        }
        loop {
            if let Some(frame) = self.state.next(connection)? {
                if matches!(self.state, State::Over) {
                    self.over();
                }
                return Poll::Ready(Ok(Some(frame).filter(|frame| !is_empty(frame))));
            }
            match ready!(self.upstream.reading.poll(cx, &mut connection.transport)) {
                Ok(more) if !more.is_empty() => connection.read = more,
                Ok(_) if matches!(self.state, State::UntilClose) => {
                    self.lease = None;
                    self.state = State::Over;
                    return Poll::Ready(Ok(None));
                }
                ended => {
                    tracing::debug!(?ended, "an answer was cut short");
                    return Poll::Ready(Err(Broken::App("http_response_incomplete")));
                }
            }
        }
    }

    /// Rule 1.
    fn over(&mut self) {
        let Some(mut lease) = self.lease.take() else { return };
        let Some(connection) = lease.http1() else { return };
        if connection.read.is_empty() && self.persistent && self.outgoing.is_none() {
            lease.give_back();
        }
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Option<(&'static str, BodyError)> {
        self.patience.poll_late(cx, &self.upstream.watchdog, self.outgoing.as_ref().map(Outgoing::progress))
    }

    fn broken(&mut self, error: Option<&'static str>) {
        (self.lease, self.state, self.outgoing) = (None, State::Over, None);
        if let Some(error) = error {
            self.trail.borrow_mut().upstream_error = Some(error);
            self.upstream.failed(error);
        }
    }
}

impl State {
    /// What the bytes read so far bring; an empty frame at the end.
    fn next(&mut self, connection: &mut Connection) -> Result<Option<Frame<Bytes>>, Broken> {
        let read = &mut connection.read;
        match self {
            Self::Over => return Ok(Some(Frame::data(Bytes::new()))),
            Self::Chunked(chunks) => match chunks.next(read) {
                Ok(chunked::Piece::Content(content)) => return Ok(Some(Frame::data(content))),
                Ok(chunked::Piece::End(trailers)) => {
                    *self = Self::Over;
                    return Ok(Some(Frame::trailers(trailers)));
                }
                Ok(chunked::Piece::Starved) => {}
                Err(chunked::Refusal::Malformed(why)) => {
                    tracing::debug!(why, "an answer's chunks are malformed");
                    return Err(Broken::App("http_response_transfer_coding"));
                }
                Err(chunked::Refusal::Trailers) => return Err(Broken::App("http_response_trailer_section_size")),
            },
            Self::Length(left) if !read.is_empty() => {
                let content = read.split_to(usize::try_from(*left).unwrap_or(usize::MAX).min(read.len()));
                *left -= content.len() as u64;
                if *left == 0 {
                    *self = Self::Over;
                }
                return Ok(Some(Frame::data(content)));
            }
            Self::UntilClose if !read.is_empty() => return Ok(Some(Frame::data(std::mem::take(read)))),
            Self::Length(_) | Self::UntilClose => {}
        }
        Ok(None)
    }
}

fn is_empty(frame: &Frame<Bytes>) -> bool {
    frame.data_ref().is_none_or(Bytes::is_empty) && frame.trailers_ref().is_none_or(HeaderMap::is_empty)
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.poll_next(cx) {
            Poll::Ready(Ok(frame)) => {
                this.patience.moved();
                Poll::Ready(frame.map(Ok))
            }
            Poll::Ready(Err(Broken::App(error))) => {
                this.broken(Some(error));
                Poll::Ready(Some(Err(BodyError::Broken("the app's answer is not whole"))))
            }
            Poll::Ready(Err(Broken::Client(_))) => {
                this.broken(None);
                Poll::Ready(Some(Err(BodyError::Broken("the client's content is not whole"))))
            }
            Poll::Pending => match this.poll_late(cx) {
                Some((error, late)) => {
                    this.broken(Some(error));
                    Poll::Ready(Some(Err(late)))
                }
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.early.is_none() && matches!(self.state, State::Over)
    }

    fn size_hint(&self) -> SizeHint {
        let early = match &self.early {
            None => 0,
            Some(frame) => match frame.data_ref() {
                Some(content) => content.len() as u64,
                // Content of an exact length has no trailers.
                None => return SizeHint::default(),
            },
        };
        match self.state {
            State::Length(left) => SizeHint::with_exact(left + early),
            State::Over => SizeHint::with_exact(early),
            _ => SizeHint::default(),
        }
    }
}
