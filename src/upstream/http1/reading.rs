//! Where a worker reads to, before it is known how much has come.
//!
//! 1. A read takes up to [`MOST`] bytes. Few bytes are copied out into just the room that they need; many keep the
//!    buffer, and the next read gets a new one.
//! 2. Connections that wait hold no buffer at all, and what a slow reader holds is at most twice what it was sent.
//!
//! # Why
//! A buffer for each connection is either small, and large content costs many reads, or large, and a thousand waiting
//! connections cost 64 MiB. Copying a kilobyte costs less than the allocator's work for a larger buffer.

use std::cell::RefCell;
use std::io;
use std::pin::pin;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;

use crate::listener::transport::Transport;

/// Bytes of one read, at most.
const MOST: usize = 64 * 1024;

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
        if some > MOST / 2 {
            return Poll::Ready(Ok(std::mem::take(&mut *buffer).freeze()));
        }
        let copy = Bytes::copy_from_slice(&buffer);
        buffer.clear();
        Poll::Ready(Ok(copy))
    }
}
