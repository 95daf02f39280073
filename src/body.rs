//! The one type of content that passes through sidegate, in both directions.
//!
//! 1. Content is never gathered: frames go on as they come, and backpressure with them.
//! 2. A [`Watch`] sees every frame and learns exactly once how the content ended: complete, cut short, or abandoned by
//!    its reader. Upstream connections return to their pool, responses are stored and access-log lines are written there.
//! 3. Content that was cut short ends with an error, so that no reader can take it for whole.
//!
//! # Why
//! One concrete type keeps every service in the stack concrete (no boxed bodies), and one place for "the end" keeps
//! the question "was it complete?" from being answered in three ways.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;

/// Why content could not be read to its end.
#[derive(Debug)]
pub enum BodyError {
    /// The connection it came from failed or closed early.
    Hyper(hyper::Error),
    /// It took longer than the configuration allows; names the time-out.
    TimedOut(&'static str),
    /// It grew beyond the bound given in bytes.
    TooLarge(u64),
    /// Anything else, in a few words.
    Broken(&'static str),
}

impl fmt::Display for BodyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hyper(error) => write!(f, "content could not be read: {error}"),
            Self::TimedOut(which) => write!(f, "content timed out ({which})"),
            Self::TooLarge(bound) => write!(f, "content is larger than {bound} bytes"),
            Self::Broken(why) => write!(f, "content broke off: {why}"),
        }
    }
}

impl std::error::Error for BodyError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Hyper(error) => Some(error),
            _ => None,
        }
    }
}

impl From<hyper::Error> for BodyError {
    fn from(error: hyper::Error) -> Self {
        Self::Hyper(error)
    }
}

/// How content ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Every byte and trailer was read.
    Complete,
    /// Its source failed.
    Failed,
    /// Its reader went away first.
    Abandoned,
}

/// Sees content pass.
pub trait Watch {
    /// One frame, before it goes on to the reader.
    fn frame(&mut self, _frame: &Frame<Bytes>) {}
    /// The source has nothing yet. May arrange to be woken, or end the content with an error (a time-out).
    fn pending(&mut self, _cx: &mut Context<'_>) -> Option<BodyError> {
        None
    }
    /// The end; called exactly once, and nothing after it.
    fn end(&mut self, end: End);
}

enum Source {
    Empty,
    Full(Bytes),
    Incoming(Incoming),
    Boxed(Pin<Box<dyn HttpBody<Data = Bytes, Error = BodyError>>>),
}

/// Content of a request or response. See the module's rules.
pub struct Body {
    source: Source,
    watch: Option<Box<dyn Watch>>,
}

impl Body {
    /// No content.
    pub fn empty() -> Self {
        Source::Empty.into()
    }

    /// Content that is there already.
    pub fn full(bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::empty() } else { Source::Full(bytes).into() }
    }

    /// Content from a connection.
    pub fn incoming(incoming: Incoming) -> Self {
        Source::Incoming(incoming).into()
    }

    /// Content from anywhere else. Costs a box.
    pub fn boxed(body: impl HttpBody<Data = Bytes, Error = BodyError> + 'static) -> Self {
        Source::Boxed(Box::pin(body)).into()
    }

    /// Adds a watch; those added earlier see each frame, and the end, first.
    #[must_use]
    pub fn watched(mut self, watch: impl Watch + 'static) -> Self {
        self.watch = Some(match self.watch.take() {
            None => Box::new(watch),
            Some(first) => Box::new(Both(first, watch)),
        });
        self
    }

    fn pending(&mut self, cx: &mut Context<'_>) -> Poll<BodyError> {
        match self.watch.as_mut().and_then(|watch| watch.pending(cx)) {
            Some(error) => Poll::Ready(error),
            None => Poll::Pending,
        }
    }

    fn ended(&mut self, end: End) {
        if let Some(mut watch) = self.watch.take() {
            watch.end(end);
        }
    }
}

impl From<Source> for Body {
    fn from(source: Source) -> Self {
        Self { source, watch: None }
    }
}

impl Default for Body {
    fn default() -> Self {
        Self::empty()
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("size", &self.size_hint()).finish_non_exhaustive()
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let next = match &mut this.source {
            Source::Empty => None,
            Source::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                this.source = Source::Empty;
                Some(Ok(Frame::data(bytes)))
            }
            Source::Incoming(incoming) => match Pin::new(incoming).poll_frame(cx) {
                Poll::Ready(next) => next.map(|frame| frame.map_err(BodyError::from)),
                Poll::Pending => Some(Err(ready!(this.pending(cx)))),
            },
            Source::Boxed(body) => match body.as_mut().poll_frame(cx) {
                Poll::Ready(next) => next,
                Poll::Pending => Some(Err(ready!(this.pending(cx)))),
            },
        };
        match &next {
            None => this.ended(End::Complete),
            Some(Err(_)) => this.ended(End::Failed),
            Some(Ok(frame)) => {
                if let Some(watch) = &mut this.watch {
                    watch.frame(frame);
                }
                // A reader that knows the length never asks for the end: tell it now.
                if this.watch.is_some() && this.is_end_stream() {
                    this.ended(End::Complete);
                }
            }
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Full(_) => false,
            Source::Incoming(incoming) => incoming.is_end_stream(),
            Source::Boxed(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Incoming(incoming) => incoming.size_hint(),
            Source::Boxed(body) => body.size_hint(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        if self.watch.is_some() {
            let end = if self.is_end_stream() { End::Complete } else { End::Abandoned };
            self.ended(end);
        }
    }
}

struct Both<B>(Box<dyn Watch>, B);

impl<B: Watch> Watch for Both<B> {
    fn frame(&mut self, frame: &Frame<Bytes>) {
        self.0.frame(frame);
        self.1.frame(frame);
    }

    fn pending(&mut self, cx: &mut Context<'_>) -> Option<BodyError> {
        self.0.pending(cx).or_else(|| self.1.pending(cx))
    }

    fn end(&mut self, end: End) {
        self.0.end(end);
        self.1.end(end);
    }
}
