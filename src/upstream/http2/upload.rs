//! The content of a request on its way to the app over HTTP/2.
//!
//! 1. No more is handed to h2 than the app's windows and the send buffer have room for; the rest waits with the client.
//! 2. Content that fails, or is not as long as was said, resets the stream: the app must not take it for whole.
//! 3. An app that takes no more may have answered already: that is found out by reading.

use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::{Reason, SendStream};

use crate::upstream::content::{Fault, Piece};
use crate::upstream::http1::Outgoing;

/// The way for a request's content.
pub struct Upload {
    stream: SendStream<Bytes>,
    /// What of it has come and found no room yet.
    piece: Bytes,
    /// Nothing follows that piece.
    last: bool,
    over: bool,
}

impl Upload {
    /// By `stream`; `over`: there is none.
    pub fn new(stream: SendStream<Bytes>, over: bool) -> Self {
        Self { stream, piece: Bytes::new(), last: false, over }
    }

    /// Nothing is left to be sent, or the app takes no more.
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Sends what can be sent of `outgoing`; ready when that is over.
    ///
    /// # Errors
    /// The client's content failed.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, outgoing: &mut Outgoing) -> Poll<Result<(), Fault>> {
        while !self.over {
            if self.piece.is_empty() {
                let sent = match ready!(outgoing.poll_piece(cx))? {
                    Piece::Content(piece, last) => {
                        self.stream.reserve_capacity(piece.len());
                        (self.piece, self.last) = (piece, last);
                        continue;
                    }
                    Piece::End(trailers) if trailers.is_empty() => self.stream.send_data(Bytes::new(), true),
                    Piece::End(trailers) => self.stream.send_trailers(trailers),
                };
                if let Err(error) = sent {
                    tracing::debug!(%error, "the app takes no more of a request");
                }
                self.over = true;
                continue;
            }
            let mut room = self.stream.capacity();
            if room == 0 {
                match ready!(self.stream.poll_capacity(cx)) {
                    Some(Ok(some)) => room = some,
                    _ => {
                        self.over = true;
                        continue;
                    }
                }
            }
            let part = self.piece.split_to(room.min(self.piece.len()));
            let end = self.last && self.piece.is_empty();
            self.over = self.stream.send_data(part, end).is_err() || end;
            if !self.piece.is_empty() {
                self.stream.reserve_capacity(self.piece.len());
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Ends the stream with an error.
    pub fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }
}
