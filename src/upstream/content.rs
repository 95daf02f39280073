//! The client's content on its way to the app, whatever the app speaks.
//!
//! 1. It is held back while the app has not answered an `Expect: 100-continue` (RFC 9110 §10.1.1).
//! 2. Beyond the route's bound it breaks off; the app never sees it as whole.
//! 3. Trailers that could change the meaning of the message are dropped (RFC 9110 §6.5.1).

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body as _;

use super::hop;
use crate::body::{Body, BodyError};
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

/// How far the client's content has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pieces taken so far.
    pub pieces: u64,
    /// The client is waited for, not the app.
    pub awaits_client: bool,
}

impl Progress {
    /// Whether an app may say nothing meanwhile: it waits for the client too, or has taken some since `pieces`, which
    /// moves along.
    pub fn excuses(self, pieces: &mut u64) -> bool {
        std::mem::replace(pieces, self.pieces) != self.pieces || self.awaits_client
    }
}

/// A piece of the client's content.
#[derive(Debug)]
pub enum Piece {
    /// Bytes, not empty; the last ones, if so much is known by now.
    Content(Bytes, bool),
    /// The end, with the trailers that may go on.
    End(HeaderMap),
}

/// The client's content.
pub struct ToApp {
    content: Body,
    bound: Option<u64>,
    identity: Rc<IdentityFields>,
    taken: u64,
    /// Pieces taken so far: moves while the request is on its way.
    pub pieces: u64,
    /// The client is waited for, not the app.
    pub awaits_client: bool,
    /// It waits for the app to say 100, to answer, or to take too long.
    pub held: bool,
}

impl ToApp {
    /// `content`, at most `bound` bytes of it; none of `identity` among its trailers.
    pub fn new(content: Body, bound: Option<u64>, identity: Rc<IdentityFields>, held: bool) -> Self {
        Self { content, bound, identity, taken: 0, pieces: 0, awaits_client: false, held }
    }

    /// The next piece; nothing may be asked for after the end or a fault.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<Result<Piece, Fault>> {
        if self.held {
            return Poll::Pending;
        }
        loop {
            let next = Pin::new(&mut self.content).poll_frame(cx);
            self.awaits_client = next.is_pending();
            let Some(next) = ready!(next) else { return Poll::Ready(Ok(Piece::End(HeaderMap::new()))) };
            self.pieces += 1;
            let frame = next.map_err(|error| fault(&error))?;
            match frame.into_data() {
                Ok(content) => {
                    self.taken += content.len() as u64;
                    if let Some(bound) = self.bound.filter(|bound| self.taken > *bound) {
                        return Poll::Ready(Err(Fault::TooLarge(bound)));
                    }
                    if !content.is_empty() {
                        return Poll::Ready(Ok(Piece::Content(content, self.content.is_end_stream())));
                    }
                }
                Err(frame) => {
                    let mut trailers = frame.into_trailers().unwrap_or_default();
                    let doomed = trailers.keys().filter(|name| !hop::trailer_may_pass(name, &self.identity));
                    for name in doomed.cloned().collect::<Vec<_>>() {
                        trailers.remove(name);
                    }
                    return Poll::Ready(Ok(Piece::End(trailers)));
                }
            }
        }
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
