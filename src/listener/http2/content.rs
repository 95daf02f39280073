//! The content of an HTTP/2 request, as the app takes it.
//!
//! 1. A piece's share of the window goes back to the client when the next piece is asked for, that is when the app's
//!    side has taken it: what waits here is bounded by the windows (RFC 9113 §5.2).
//! 2. A pause longer than `timeouts.body` ends it; but a call of gRPC may pause, for as long as its connection is alive:
//!    its client says no more until it has heard something.
//! 3. A client that expects a 100 gets it when its content is asked for first (RFC 9110 §10.1.1).
//! 4. When the request is over (it was answered, or reset) the rest of its content is not waited for.
//! 5. A length that was announced and is not kept is h2's to find; the content ends in an error then (RFC 9113 §8.1.1).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http::header::{CONTENT_TYPE, EXPECT};
use http::{HeaderMap, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::pulse::Wait;
use super::stream::Reply;
use crate::body::BodyError;
use crate::exchange::Interim;
use crate::local_reply::grpc;

/// What is still to come of a request.
pub struct Content {
    /// `None` once the request is over.
    stream: Option<RecvStream>,
    /// Bytes handed on, whose share of the window is still held.
    held: usize,
    /// Bytes announced and not yet handed on.
    announced: Option<u64>,
    /// All DATA has come; trailers may follow.
    only_trailers: bool,
    expects: bool,
    /// `timeouts.body` is for it.
    timed: bool,
    reply: Rc<Reply>,
    wait: Wait,
}

impl Content {
    /// Of `stream`, with its length if that was `announced`, after a head with these `fields`.
    pub fn new(stream: RecvStream, announced: Option<u64>, fields: &HeaderMap, reply: Rc<Reply>) -> Self {
        let stream = Some(stream);
        let expects = fields.contains_key(EXPECT);
        let timed = !fields.get(CONTENT_TYPE).is_some_and(grpc::is_grpc);
        Self { stream, held: 0, announced, only_trailers: false, expects, timed, reply, wait: Wait::default() }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.reply.is_over(cx) {
            self.stream = None;
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(Some(Err(BodyError::Broken("the request is over"))));
        };
        if self.held > 0 {
            // An error here says that the stream is gone, which the next piece says better.
            let _ = stream.flow_control().release_capacity(std::mem::take(&mut self.held));
        }
        if !self.only_trailers {
            match ready!(stream.poll_data(cx)) {
                Some(piece) => return Poll::Ready(Some(piece.map(Frame::data).map_err(broken))),
                None => self.only_trailers = true,
            }
        }
        stream.poll_trailers(cx).map(|trailers| match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(broken(error))),
        })
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let Poll::Ready(next) = this.poll_piece(cx) else {
            if std::mem::take(&mut this.expects) {
                this.reply.send(StatusCode::CONTINUE, &HeaderMap::new());
            }
            let shared = &this.reply.shared;
            return match this.timed && shared.pulse.is_late(&mut this.wait, shared.timeouts.body, cx) {
                true => Poll::Ready(Some(Err(BodyError::TimedOut("body")))),
                false => Poll::Pending,
            };
        };
        this.wait.end();
        if let Some(Ok(frame)) = &next {
            this.held = frame.data_ref().map_or(0, Bytes::len);
            this.announced = this.announced.map(|announced| announced.saturating_sub(this.held as u64));
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

fn broken(error: h2::Error) -> BodyError {
    BodyError::Broken(if error.is_io() {
        "the connection ended"
    } else if error.is_remote() {
        "the client reset its request"
    } else {
        "the content is not what was announced"
    })
}
