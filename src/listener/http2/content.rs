//! The content of an HTTP/2 request, as the app takes it.
//!
//! 1. A piece's share of the window goes back to the client when the next piece is asked for, that is when the app's
//!    side has taken it: what waits here is bounded by the windows (RFC 9113 §5.2).
//! 2. A pause longer than `timeouts.body` ends it.
//! 3. A client that expects a 100 gets it when its content is asked for first (RFC 9110 §10.1.1).
//! 4. A length that was announced and is not kept is h2's to find; the content ends in an error then (RFC 9113 §8.1.1).

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use http::StatusCode;
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::pulse::{Pulse, Wait};
use crate::body::BodyError;
use crate::exchange::Interim;

/// What is still to come of a request.
pub struct Content {
    stream: RecvStream,
    /// Bytes handed on, whose share of the window is still held.
    held: usize,
    /// Bytes announced and not yet handed on.
    announced: Option<u64>,
    /// All DATA has come; trailers may follow.
    only_trailers: bool,
    expects: Option<Rc<dyn Interim>>,
    pause: Duration,
    pulse: Rc<Pulse>,
    wait: Wait,
}

impl Content {
    /// Of `stream`, with its length if that was `announced`, and at most such a `pause` between two pieces. `expects`: how
    /// to send the 100 that the client waits for.
    pub fn new(
        stream: RecvStream,
        announced: Option<u64>,
        expects: Option<Rc<dyn Interim>>,
        pause: Duration,
        pulse: Rc<Pulse>,
    ) -> Self {
        Self { stream, held: 0, announced, only_trailers: false, expects, pause, pulse, wait: Wait::default() }
    }

    fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if !self.only_trailers {
            match ready!(self.stream.poll_data(cx)) {
                Some(piece) => return Poll::Ready(Some(piece.map(Frame::data))),
                None => self.only_trailers = true,
            }
        }
        self.stream.poll_trailers(cx).map(|trailers| match trailers {
            Ok(trailers) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error)),
        })
    }
}

impl HttpBody for Content {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        if this.held > 0 {
            // An error here says that the stream is gone, which the next piece says better.
            let _ = this.stream.flow_control().release_capacity(std::mem::take(&mut this.held));
        }
        let Poll::Ready(next) = this.poll_piece(cx) else {
            if let Some(client) = this.expects.take() {
                client.send(StatusCode::CONTINUE, &http::HeaderMap::new());
            }
            return match this.pulse.is_late(&mut this.wait, this.pause, cx) {
                true => Poll::Ready(Some(Err(BodyError::TimedOut("body")))),
                false => Poll::Pending,
            };
        };
        this.wait.end();
        Poll::Ready(next.map(|frame| match frame {
            Ok(frame) => {
                this.held = frame.data_ref().map_or(0, Bytes::len);
                this.announced = this.announced.map(|announced| announced.saturating_sub(this.held as u64));
                Ok(frame)
            }
            Err(error) if error.is_io() => Err(BodyError::Broken("the connection ended")),
            Err(error) if error.is_remote() => Err(BodyError::Broken("the client reset its request")),
            Err(_) => Err(BodyError::Broken("the content is not what was announced")),
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.stream.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.announced.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
