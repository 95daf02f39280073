//! The bytes of an HTTP/2 connection on their way to and from h2: judged on the way in, counted both ways.
//!
//! 1. Bytes from an offending frame on are withheld; the offence waits in [`Line`] for the connection to end with it.
//! 2. It notes progress, so that one tick can tell a client that has gone, or does not read, from one that is quiet.
//! 3. When h2 closes the connection, some of what is still coming is read first (`linger`, `max_linger`): else the kernel
//!    would answer it with a reset, and the client might never see why it was sent away.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::abuse::{Abuse, Budget};
use super::frames::{Frames, Offence};
use crate::listener::Settings;
use crate::listener::transport::{Early, Transport};

/// Bytes written that are remembered: room for what h2 says at the end of a GOAWAY.
const TAIL: usize = 32;

/// What is known of a connection outside of h2.
pub struct Line {
    /// Moves with every read that brought bytes.
    pub reads: Cell<u32>,
    /// Moves with every write that took bytes.
    pub writes: Cell<u32>,
    /// The last write found the socket full.
    pub write_blocked: Cell<bool>,
    /// A head, or the client's first SETTINGS, has begun and is waited for.
    pub awaits_head: Cell<bool>,
    /// Why the connection is to end.
    pub offence: Cell<Option<Offence>>,
    /// All has been said: the client is only listened to for a moment.
    pub lingers: Cell<bool>,
    /// What the client may still do.
    pub budget: Rc<Budget>,
    /// The last bytes that were written.
    tail: Cell<[u8; TAIL]>,
}

impl Line {
    /// Of a connection that begins.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            reads: Cell::new(0),
            writes: Cell::new(0),
            write_blocked: Cell::new(false),
            awaits_head: Cell::new(true),
            offence: Cell::new(None),
            lingers: Cell::new(false),
            budget: Rc::default(),
            tail: Cell::new([0; TAIL]),
        })
    }

    /// What h2 has ended the connection for, if that was abuse. It tells nobody but the client, at the end of its GOAWAY.
    pub fn found_by_h2(&self) -> Option<Abuse> {
        let says: [(&[u8], Abuse); 5] = [
            (b"too_many_resets", Abuse::Reset),
            (b"too_many_internal_resets", Abuse::StreamError),
            (b"too_many_data_frames", Abuse::Empty),
            (b"too_many_continuations", Abuse::Continuation),
            (b"header_list_way_too_large", Abuse::Fields),
        ];
        let tail = self.tail.get();
        let code = u32::from(Reason::ENHANCE_YOUR_CALM).to_be_bytes();
        let is_said = |text: &[u8]| tail.strip_suffix(text).is_some_and(|before| before.ends_with(&code));
        says.into_iter().find_map(|(text, abuse)| is_said(text).then_some(abuse))
    }

    fn wrote(&self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let mut tail = self.tail.get();
        let new = &bytes[bytes.len().saturating_sub(TAIL)..];
        tail.copy_within(new.len().., 0);
        tail[TAIL - new.len()..].copy_from_slice(new);
        self.tail.set(tail);
        self.writes.set(self.writes.get().wrapping_add(1));
        self.budget.sent(bytes.len());
    }
}

/// The transport as h2 sees it.
pub struct Watched {
    transport: Transport,
    /// What was read before h2 came.
    early: Early,
    frames: Frames,
    line: Rc<Line>,
    /// Bytes that are read of a client that is being sent away, at most.
    linger: usize,
    /// How many of them are left; `None` before that.
    lingering: Option<usize>,
}

impl Watched {
    /// Wraps `transport`, of which `early` has been read already.
    pub fn new(transport: Transport, early: Bytes, settings: &Settings, line: Rc<Line>) -> Self {
        let frames = Frames::new(settings.http2, settings.max_streams, line.budget.clone());
        let linger = if settings.linger.time.is_zero() { 0 } else { settings.linger.size };
        Self { transport, early: Early(early), frames, line, linger, lingering: None }
    }
}

impl AsyncRead for Watched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.line.offence.get().is_some() {
            // The connection looks for the offence whenever h2 waits.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        ready!(this.early.poll_read(cx, &mut this.transport, buf))?;
        let new = &buf.filled()[before..];
        if new.is_empty() {
            return Poll::Ready(Ok(()));
        }
        this.line.reads.set(this.line.reads.get().wrapping_add(1));
        let verdict = this.frames.follow(new);
        this.line.awaits_head.set(this.frames.awaits_head());
        if let Err((sound, offence)) = verdict {
            this.line.offence.set(Some(offence));
            buf.set_filled(before + sound);
            if sound == 0 {
                return Poll::Pending;
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Watched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.transport).poll_write(cx, bytes);
        this.line.write_blocked.set(result.is_pending());
        if let Poll::Ready(Ok(written)) = result {
            this.line.wrote(&bytes[..written]);
        }
        result
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.transport).poll_write_vectored(cx, slices);
        this.line.write_blocked.set(result.is_pending());
        if let Poll::Ready(Ok(mut written)) = result {
            for slice in slices {
                let part = written.min(slice.len());
                this.line.wrote(&slice[..part]);
                written -= part;
            }
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.transport.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().transport).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.transport).poll_shutdown(cx))?;
        }
        this.line.lingers.set(true);
        let left = this.lingering.get_or_insert(this.linger);
        let mut sink = [0; 4096];
        while *left > 0 {
            let mut sink = ReadBuf::new(&mut sink);
            match ready!(Pin::new(&mut this.transport).poll_read(cx, &mut sink)) {
                Ok(()) if !sink.filled().is_empty() => *left = left.saturating_sub(sink.filled().len()),
                // The client has ended its side too, or has gone.
                _ => break,
            }
        }
        Poll::Ready(Ok(()))
    }
}
