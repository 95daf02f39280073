//! The content of an answer over HTTP/2 on its way to the client.
//!
//! 1. A piece's share of the window goes back to the app when the next piece is asked for (RFC 9113 §5.2).
//! 2. What is left of the request is sent by a task of its own: a client that does not read may still write, and the other
//!    way round. That task ends with the answer.
//! 3. Content that is cut short or not as long as announced ends in an error, and so does content that has run out of
//!    `patience`: the stream is reset, and the answer never looks complete.

use std::cell::Cell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, RecvStream};
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::task::AbortHandle;

use super::passable;
use super::upload::Upload;
use crate::body::BodyError;
use crate::telemetry::Trail;
use crate::upstream::Upstream;
use crate::upstream::content::{Fault, Progress};
use crate::upstream::http1::{Framing, Outgoing};
use crate::upstream::patience::Patience;
use crate::upstream::pool::Lease;

/// The content of an answer.
pub struct Content {
    upstream: Rc<Upstream>,
    trail: Trail,
    /// Its stream, and what holds its place on the connection; until it is over.
    from: Option<(RecvStream, Lease)>,
    /// Bytes handed on, whose share of the window is still held.
    held: usize,
    /// Bytes announced and not yet handed on.
    announced: Option<u64>,
    only_trailers: bool,
    uploading: Option<Uploading>,
    patience: Patience,
}

/// The task that sends what is left of the request.
struct Uploading {
    task: AbortHandle,
    fault: Rc<Cell<Option<Fault>>>,
    progress: Rc<Cell<Progress>>,
}

impl Uploading {
    fn start((mut upload, mut outgoing): (Upload, Outgoing)) -> Self {
        let fault = Rc::new(Cell::new(None));
        let progress = Rc::new(Cell::new(outgoing.progress()));
        let (found, made) = (fault.clone(), progress.clone());
        let task = tokio::task::spawn_local(async move {
            let sent = std::future::poll_fn(|cx| {
                let sent = upload.poll_send(cx, &mut outgoing);
                made.set(outgoing.progress());
                sent
            });
            if let Err(fault) = sent.await {
                found.set(Some(fault));
                upload.reset(Reason::CANCEL);
            }
        });
        Self { task: task.abort_handle(), fault, progress }
    }

    fn progress(&self) -> Progress {
        self.progress.get()
    }
}

impl Drop for Uploading {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Content {
    /// What comes by `stream`, over the connection of `lease`, to a request of which `unsent` is left.
    pub fn new(
        (upstream, trail): (Rc<Upstream>, Trail),
        lease: Lease,
        (stream, framing): (RecvStream, Framing),
        unsent: Option<(Upload, Outgoing)>,
        mut patience: Patience,
    ) -> Self {
        let announced = if let Framing::Length(length) = framing { Some(length) } else { None };
        let (from, uploading) = (Some((stream, lease)), unsent.map(Uploading::start));
        patience.begin(uploading.as_ref().map(Uploading::progress));
        Self { upstream, trail, from, held: 0, announced, only_trailers: false, uploading, patience }
    }

    /// The next frame; `None` at the end.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Frame<Bytes>>, h2::Error>> {
        let Some((stream, _)) = &mut self.from else { return Poll::Ready(Ok(None)) };
        if self.held > 0 {
            // An error here says that the stream is gone, which the next piece says better.
            let _ = stream.flow_control().release_capacity(std::mem::take(&mut self.held));
        }
        if !self.only_trailers {
            if let Some(piece) = ready!(stream.poll_data(cx)).transpose()? {
                self.held = piece.len();
                self.announced = self.announced.map(|announced| announced.saturating_sub(piece.len() as u64));
                if stream.is_end_stream() {
                    let _ = stream.flow_control().release_capacity(std::mem::take(&mut self.held));
                    self.over();
                }
                return Poll::Ready(Ok(Some(Frame::data(piece))));
            }
            self.only_trailers = true;
        }
        let trailers = ready!(stream.poll_trailers(cx))?;
        self.over();
        let trailers = trailers.map(passable).filter(|trailers| !trailers.is_empty());
        Poll::Ready(Ok(trailers.map(Frame::trailers)))
    }

    fn over(&mut self) {
        (self.from, self.uploading) = (None, None);
    }

    fn poll_late(&mut self, cx: &mut Context<'_>) -> Option<(&'static str, BodyError)> {
        self.patience.poll_late(cx, &self.upstream.watchdog, self.uploading.as_ref().map(Uploading::progress))
    }

    fn broken(&mut self, error: &'static str) {
        self.trail.borrow_mut().upstream_error = Some(error);
        self.upstream.failed(error);
        self.over();
    }
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
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "an answer was cut short");
                let blamed = this.uploading.as_ref().is_some_and(|uploading| uploading.fault.get().is_some());
                if blamed {
                    this.over();
                    return Poll::Ready(Some(Err(BodyError::Broken("the client's content is not whole"))));
                }
                this.broken(if error.is_library() { "http_protocol_error" } else { "http_response_incomplete" });
                Poll::Ready(Some(Err(BodyError::Broken("the app's answer is not whole"))))
            }
            Poll::Pending => match this.poll_late(cx) {
                Some((error, late)) => {
                    this.broken(error);
                    Poll::Ready(Some(Err(late)))
                }
                None => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.from.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.from, self.announced) {
            (None, _) => SizeHint::with_exact(0),
            (Some(_), Some(announced)) => SizeHint::with_exact(announced),
            (Some(_), None) => SizeHint::default(),
        }
    }
}
