//! Reads content from a flight, on any thread.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};

use super::flight::Flight;
use crate::body::BodyError;

/// The content of a flight, as one reads it. Dropped, it leaves.
pub struct Reader<H> {
    flight: Arc<Flight<H>>,
    number: usize,
}

impl<H> Reader<H> {
    pub(super) fn new(flight: Arc<Flight<H>>, number: usize) -> Self {
        Self { flight, number }
    }
}

impl<H> Body for Reader<H> {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.flight.with_content(|content| content.poll(self.number, cx)) {
            Some((next, wakers)) => {
                wakers.wake();
                next
            }
            None => Poll::Ready(Some(Err(BodyError::Broken("the fetch is over")))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.flight.with_content(|content| content.is_read(self.number)).unwrap_or(false)
    }

    fn size_hint(&self) -> SizeHint {
        self.flight.with_content(|content| content.size_hint(self.number)).unwrap_or_default()
    }
}

/// Content that has broken off, after these frames.
#[derive(Debug)]
pub struct BrokenOff(std::vec::IntoIter<Frame<Bytes>>);

impl BrokenOff {
    pub(super) fn after(frames: Vec<Frame<Bytes>>) -> Self {
        Self(frames.into_iter())
    }
}

impl Body for BrokenOff {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Poll::Ready(Some(self.0.next().ok_or(BodyError::Broken("the fetch was cut short"))))
    }
}

impl<H> Drop for Reader<H> {
    fn drop(&mut self) {
        if let Some(wakers) = self.flight.with_content(|content| content.leave(self.number)) {
            wakers.wake();
        }
    }
}

impl<H> fmt::Debug for Reader<H> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Reader({})", self.number)
    }
}
