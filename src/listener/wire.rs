//! A client's connection as hyper sees it: judged on the way in, with interim answers let in on the way out.
//!
//! 1. Every byte read passes the [`Judge`] first. Bytes of a message that is refused are withheld: hyper sees the end
//!    of the stream (head) or an error (content), and the refusal waits for the listener in [`Wire::refusal`].
//! 2. It counts progress, so that the listener can tell a slow client from a slow app without a timer per request.
//! 3. An interim answer goes out only when all that hyper wrote before it has gone out; otherwise, and if too many wait
//!    already, it is dropped.
//!
//! # Why
//! hyper has no way to send a 103, to see raw bytes, or to say "I am idle and hold nothing". The transport can see all
//! three, and costs a handful of plain stores per read and write.

use std::cell::{Cell, RefCell};
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::judge::{Judge, Phase, Refusal};
use super::transport::{Early, Transport};

/// Bytes of interim answers that wait for a client to read; further ones are dropped.
const MOST_INTERIM: usize = 64 * 1024;

/// What the listener knows about a connection without taking it from hyper.
pub struct Wire {
    /// Where in the stream of messages it stands.
    pub phase: Cell<Phase>,
    /// Moves with every read that brought bytes.
    pub reads: Cell<u32>,
    /// Moves with every write that took bytes.
    pub writes: Cell<u32>,
    /// The last read found nothing: the client is waited for.
    pub awaits_client: Cell<bool>,
    /// The last write found the socket full.
    pub write_blocked: Cell<bool>,
    /// Everything written has gone out.
    pub flushed: Cell<bool>,
    /// Why the connection is being ended.
    pub refusal: Cell<Option<Refusal>>,
    /// What was refused is HEAD.
    pub refused_head: Cell<bool>,
    /// hyper wanted to read on and has been told that nothing more comes, because of the refusal: the answer is ours.
    /// Otherwise it has ended the connection for its own reasons (`Connection: close`), and nothing follows.
    pub told_the_end: Cell<bool>,
    /// Whether the client has ended its side is to be looked up at the next flush.
    pub look_for_end: Cell<bool>,
    /// The client has ended its side of the connection.
    pub client_ended: Cell<bool>,
    /// The client took too long; the next read fails.
    pub expired: Cell<bool>,
    /// The request under way is of HTTP/1.0: its answer may be ended by the end of the connection, and by nothing else.
    pub http_1_0: Cell<bool>,
    /// Requests that have come by this connection.
    pub requests: Cell<u32>,
    /// Requests (0 is the connection's first) that hyper reads as `OPTIONS http://a/` and that are `OPTIONS *`; as many as
    /// fit into what is read at once.
    pub server_wide: RefCell<Vec<u32>>,
    /// Interim answers that wait for the next flush.
    interim: RefCell<Vec<u8>>,
    has_interim: Cell<bool>,
}

impl Wire {
    /// A wire at the start of a connection.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            phase: Cell::new(Phase::Between),
            reads: Cell::new(0),
            writes: Cell::new(0),
            awaits_client: Cell::new(false),
            write_blocked: Cell::new(false),
            flushed: Cell::new(true),
            refusal: Cell::new(None),
            refused_head: Cell::new(false),
            told_the_end: Cell::new(false),
            look_for_end: Cell::new(false),
            client_ended: Cell::new(false),
            expired: Cell::new(false),
            http_1_0: Cell::new(false),
            requests: Cell::new(0),
            server_wide: RefCell::default(),
            interim: RefCell::new(Vec::new()),
            has_interim: Cell::new(false),
        })
    }

    /// Queues the bytes of an interim answer, or drops them if an earlier answer is still being written (rule 3).
    pub fn send_interim(&self, head: &[u8]) {
        let mut interim = self.interim.borrow_mut();
        if self.flushed.get() && !self.write_blocked.get() && interim.len() + head.len() <= MOST_INTERIM {
            interim.extend_from_slice(head);
            self.has_interim.set(true);
        }
    }

    /// Nothing of a message has come, hyper waits for one, and everything was written.
    pub fn is_idle(&self) -> bool {
        self.phase.get() == Phase::Between && self.awaits_client.get() && self.flushed.get()
    }
}

/// The transport with its judge; what hyper reads from and writes to.
pub struct Judged {
    transport: Transport,
    /// What was read before hyper came.
    early: Early,
    judge: Judge,
    wire: Rc<Wire>,
}

impl Judged {
    /// Wraps `transport`, of which `early` has been read already.
    pub fn new(transport: Transport, early: Bytes, judge: Judge, wire: Rc<Wire>) -> Self {
        Self { transport, early: Early(early), judge, wire }
    }

    /// The transport.
    pub fn into_transport(self) -> Transport {
        self.transport
    }

    fn write_interim(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let wire = self.wire.clone();
        let mut interim = wire.interim.borrow_mut();
        while !interim.is_empty() {
            let written = ready!(Pin::new(&mut self.transport).poll_write(cx, &interim))?;
            interim.drain(..written);
        }
        wire.has_interim.set(false);
        Poll::Ready(Ok(()))
    }

    fn wrote(&self, result: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        let wire = &self.wire;
        wire.flushed.set(false);
        wire.write_blocked.set(result.is_pending());
        if let Poll::Ready(Ok(_)) = result {
            wire.writes.set(wire.writes.get().wrapping_add(1));
        }
        result
    }
}

impl AsyncRead for Judged {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wire.expired.get() {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        match this.wire.refusal.get() {
            None => {}
            // The end of the stream, between two messages: hyper finishes what it has begun and lets go.
            Some(Refusal::Content(why)) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
            Some(_) => {
                this.wire.told_the_end.set(true);
                return Poll::Ready(Ok(()));
            }
        }
        let before = buf.filled().len();
        let result = this.early.poll_read(cx, &mut this.transport, buf);
        this.wire.awaits_client.set(result.is_pending());
        ready!(result)?;
        let new = &buf.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(()));
        }
        this.wire.reads.set(this.wire.reads.get().wrapping_add(1));
        let verdict = this.judge.follow(new);
        this.wire.phase.set(this.judge.phase());
        let server_wide = this.judge.take_server_wide();
        if !server_wide.is_empty() {
            this.wire.server_wide.borrow_mut().extend(server_wide);
        }
        if let Err((sound, refusal)) = verdict {
            this.wire.refusal.set(Some(refusal));
            this.wire.refused_head.set(this.judge.is_head());
            buf.set_filled(before + sound);
            match refusal {
                _ if sound > 0 => {}
                Refusal::Content(why) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
                _ => this.wire.told_the_end.set(true),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Judged {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wire.has_interim.get() {
            ready!(this.write_interim(cx))?;
        }
        let result = Pin::new(&mut this.transport).poll_write(cx, bytes);
        this.wrote(result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wire.has_interim.get() {
            ready!(this.write_interim(cx))?;
        }
        let result = Pin::new(&mut this.transport).poll_write_vectored(cx, slices);
        this.wrote(result)
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.wire.has_interim.get() {
            ready!(this.write_interim(cx))?;
        }
        if this.wire.look_for_end.replace(false) {
            this.wire.client_ended.set(this.transport.has_ended(cx));
        }
        let flushed = Pin::new(&mut this.transport).poll_flush(cx);
        this.wire.flushed.set(flushed.is_ready());
        flushed
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_shutdown(cx)
    }
}
