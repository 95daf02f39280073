//! A connection to the app that speaks HTTP/1, and the answers that are read from it.

use std::io;
use std::mem::MaybeUninit;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use memchr::{memchr_iter, memmem};
use socket2::SockRef;

use super::head::{self, Bounds, Head, Refusal};
use super::reading::Reading;
use crate::listener::transport::Transport;

/// A connection to the app.
pub struct Connection {
    pub(super) transport: Transport,
    /// What has been read and not yet been understood.
    pub(super) read: Bytes,
    /// The part of a head that earlier reads brought.
    partial: Vec<u8>,
    /// How much of it there was when it was last looked at.
    looked_at: usize,
    /// A byte of an answer to the request under way has come.
    pub(super) answering: bool,
}

/// Why no head of an answer came.
#[derive(Debug)]
pub(super) enum NoHead {
    /// The connection ended, or failed with this.
    Ended(Option<io::Error>),
    /// The head is refused.
    Refused(Refusal),
}

impl Connection {
    /// Over `transport`, which nothing has been sent over.
    pub fn new(transport: Transport) -> Self {
        Self { transport, read: Bytes::new(), partial: Vec::new(), looked_at: 0, answering: false }
    }

    /// Whether more has been read from it than was asked for.
    pub fn has_unread(&self) -> bool {
        !self.read.is_empty()
    }

    /// Whether nothing may be sent over it: it has ended, or the app has sent what nobody asked for (RFC 9112 §9.2).
    /// For connections without a request under way.
    ///
    /// # Why
    /// It asks the system, and not only what the system has told: between two looks at all sockets a worker may read
    /// the next request of a busy client, and what the app said meanwhile would answer it.
    pub fn is_closed(&mut self) -> bool {
        if self.has_unread() {
            return true;
        }
        let mut byte = [MaybeUninit::uninit()];
        let found = match &mut self.transport {
            Transport::Tcp(socket) => SockRef::from(&*socket).peek(&mut byte),
            Transport::Unix(socket) => SockRef::from(&*socket).peek(&mut byte),
            // Session tickets come unasked: the TLS layer takes them in.
            Transport::Tls(stream) => {
                let mut buffer = tokio::io::ReadBuf::uninit(&mut byte);
                let mut cx = Context::from_waker(Waker::noop());
                return tokio::io::AsyncRead::poll_read(std::pin::Pin::new(stream), &mut cx, &mut buffer).is_ready();
            }
        };
        !found.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }

    /// The head of the next answer, interim or final, to a request that is being sent.
    ///
    /// # Errors
    /// [`NoHead`]; the connection is of no further use.
    pub(super) fn poll_head(
        &mut self,
        cx: &mut Context<'_>,
        reading: &Reading,
        to_head: bool,
        bounds: Bounds,
    ) -> Poll<Result<Head, NoHead>> {
        loop {
            if !self.read.is_empty()
                && let Some(head) = self.head(to_head, bounds).map_err(NoHead::Refused)?
            {
                return Poll::Ready(Ok(head));
            }
            match ready!(reading.poll(cx, &mut self.transport)) {
                Ok(more) if !more.is_empty() => self.append(more, bounds),
                ended => return Poll::Ready(Err(NoHead::Ended(ended.err()))),
            }
        }
    }

    /// The bytes that follow the head; the transport itself, after a switch of protocols.
    pub(super) fn into_parts(self) -> (Transport, Bytes) {
        (self.transport, self.read)
    }

    fn append(&mut self, more: Bytes, bounds: Bounds) {
        self.answering = true;
        if self.partial.is_empty() {
            self.read = more;
            return;
        }
        let known = self.partial.len().saturating_sub(3);
        self.partial.extend_from_slice(&more);
        // A head that comes in pieces is looked at again when its end has come, when it cannot become sound, and each time
        // that it has doubled: an app that sends byte for byte costs no more than one that does not.
        let bare_lf = |at| at > 0 && self.partial[at - 1] != b'\r';
        if memmem::find(&self.partial[known..], b"\r\n\r\n").is_some()
            || memchr_iter(b'\n', &self.partial[known..]).any(|at| bare_lf(known + at))
            || self.partial.len() >= 2 * self.looked_at
            || self.partial.len() > bounds.largest_head
        {
            self.read = std::mem::take(&mut self.partial).into();
        }
    }

    fn head(&mut self, to_head: bool, bounds: Bounds) -> Result<Option<Head>, Refusal> {
        if let Some((head, length)) = head::read(&self.read, to_head, bounds)? {
            let _ = self.read.split_to(length);
            return Ok(Some(head));
        }
        self.looked_at = self.read.len();
        self.partial = std::mem::take(&mut self.read).into();
        Ok(None)
    }
}
