//! Where a worker reads to, before it is known how much has come.
//!
//! 1. A read takes up to [`MOST`] bytes. Few bytes are copied out into just the room that they need; many keep the
//!    buffer, and the next read gets a new one.
//! 2. Connections that wait hold no buffer at all; a slow reader holds at most [`MOST`] bytes for each piece that it was
//!    sent.
//!
//! # Why
//! A buffer for each connection is either small, and large content costs many reads, or large, and a thousand waiting
//! connections cost a hundred megabytes. Copying a kilobyte costs less than the allocator's work for a larger buffer.
//! Large content over two connections came in reads of 128 KiB under hyper's client; with 64 KiB it took twice the system
//! calls and about a tenth more CPU.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::listener::transport::Transport;

/// Bytes of one read, at most.
const MOST: usize = 128 * 1024;
/// Fewer bytes than this are copied out.
const MANY: usize = 32 * 1024;

/// The buffer that a worker reads to.
#[derive(Debug, Default)]
pub struct Reading(RefCell<BytesMut>);

impl Reading {
    /// The next bytes of a connection; empty at its end.
    ///
    /// # Errors
    /// Whatever the socket reports.
    pub fn poll(&self, cx: &mut Context<'_>, transport: &mut Transport) -> Poll<io::Result<Bytes>> {
        let mut buffer = self.0.borrow_mut();
        if buffer.capacity() < MOST {
            *buffer = BytesMut::with_capacity(MOST);
        }
        let some = ready!(pin!(transport.read_buf(&mut *buffer)).poll(cx))?;
        if some >= MANY {
            return Poll::Ready(Ok(std::mem::take(&mut *buffer).freeze()));
        }
        let copy = Bytes::copy_from_slice(&buffer);
        buffer.clear();
        Poll::Ready(Ok(copy))
    }
}
