//! Reads the content of a flight from the app.

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame};

use super::content::{AHEAD, End, Room};
use super::flight::{Driver, Flight, Leave};
use super::reader::BrokenOff;
use crate::body::{Body, BodyError};
use crate::cache::under_way::Filling;
use crate::clock;

/// How much of the content is held.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Bytes beyond which a response is not stored.
    pub max_body: u64,
}

/// Who reads the content from the app. Dropped before the end, it cuts the content; dropped after it, the flight can be
/// joined no more.
pub struct Pilot<H> {
    flight: Arc<Flight<H>>,
    /// Room for what is held for the store; `None` once it is not.
    room: Option<Filling>,
    whole: bool,
    /// Those who wait until the answer is in the store, and do not read. Where the driver's client leaves they are handed
    /// the role, as the pilot is dropped.
    awaited: Option<Driver<H>>,
}

/// All of the content has come, and was kept.
#[derive(Debug)]
pub struct Landed {
    /// In one copy of exactly its size.
    pub content: Bytes,
    /// There are trailers, too; readers are given them.
    pub trailers: bool,
}

impl<H: Clone> Pilot<H> {
    pub(super) fn new(flight: Arc<Flight<H>>) -> Self {
        let room = Some(flight.flights().under_way.fill());
        Self { flight, room, whole: false, awaited: None }
    }

    /// With those who wait until the answer is in the store.
    pub(super) fn awaited_by(mut self, driver: Driver<H>) -> Self {
        self.awaited = Some(driver);
        self
    }

    /// Whether others may wait until the answer is in the store.
    pub fn is_awaited(&self) -> bool {
        self.awaited.is_some()
    }

    /// The answer is in the store, or will not be: those who wait for that look it up.
    pub fn settle(&mut self) {
        if let Some(driver) = self.awaited.take() {
            driver.settle(None);
        }
    }

    fn send_away(&mut self, why: Leave) {
        if let Some(driver) = self.awaited.take() {
            driver.part(why);
        }
    }

    /// Whether anybody has read from the flight besides the driver's client.
    pub fn is_shared(&self) -> bool {
        self.flight.with_content(|content| content.is_shared()).unwrap_or(false)
    }

    /// Reads `body`, of which `begun` has been read already, to its end; gives all of it, if it is to be stored.
    pub async fn fly(&mut self, begun: Vec<Frame<Bytes>>, body: &mut Body, bounds: Bounds) -> Option<Landed> {
        begun.into_iter().for_each(|frame| self.take(frame, bounds));
        let end = poll_fn(|cx| self.poll(body, bounds, cx)).await;
        let landed = self.flight.with_content(|content| {
            let (end, wakers) = content.finish(end);
            let landed = content.gathered().map(|whole| Landed { content: whole, trailers: content.has_trailers() });
            (end, landed, wakers)
        });
        // What is whole belongs to the store from here on.
        self.room = None;
        let (end, landed, wakers) = landed?;
        self.whole = end == End::Whole;
        if self.whole && landed.is_none() {
            self.send_away(Leave::Unshareable);
        }
        wakers.wake();
        landed
    }

    fn poll(&mut self, body: &mut Body, bounds: Bounds, cx: &mut Context<'_>) -> Poll<End> {
        while !body.is_end_stream() {
            match self.flight.with_content(|content| content.room(cx)) {
                Some(Room::Free) => {}
                Some(Room::Full) => return Poll::Pending,
                Some(Room::Deserted) | None => return Poll::Ready(End::Cut),
            }
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => self.take(frame, bounds),
                None => return Poll::Ready(End::Whole),
                Some(Err(error)) => {
                    log(&error);
                    self.send_away(Leave::Failed);
                    return Poll::Ready(End::Cut);
                }
            }
        }
        Poll::Ready(End::Whole)
    }

    fn take(&mut self, frame: Frame<Bytes>, Bounds { max_body }: Bounds) {
        let bytes = match frame.into_data() {
            Ok(bytes) => bytes,
            Err(frame) => {
                if let Ok(trailers) = frame.into_trailers() {
                    self.flight.with_content(|content| content.set_trailers(trailers));
                }
                return;
            }
        };
        let length = bytes.len() as u64;
        // What passes takes its room itself.
        let roomy = self.room.as_mut().is_none_or(|room| room.grow(length));
        let room = &mut self.room;
        let wakers = self.flight.with_content(|content| {
            let wakers = content.push(bytes);
            if (!roomy || content.length() > max_body)
                && let Some(room) = room.take()
            {
                content.pass(room);
            }
            wakers
        });
        let Some(wakers) = wakers else { return };
        if self.room.is_none() {
            self.send_away(Leave::Unshareable);
        }
        wakers.wake();
    }
}

/// What of some content is there without waiting.
#[derive(Debug)]
pub enum Ahead {
    /// All of it, in one copy of exactly its size.
    Whole(Bytes),
    /// Its beginning, as it came.
    Begun(Vec<Frame<Bytes>>),
    /// What came of it before it broke off.
    Broken(BrokenOff),
}

impl Ahead {
    /// Reads what is there, not much more than `AHEAD` bytes.
    pub fn read(body: &mut Body) -> Self {
        let (mut frames, mut length, mut plain) = (Vec::new(), 0, true);
        let mut cx = Context::from_waker(Waker::noop());
        while !body.is_end_stream() {
            if length >= AHEAD {
                return Self::Begun(frames);
            }
            match Pin::new(&mut *body).poll_frame(&mut cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    plain &= frame.is_data();
                    length += frame.data_ref().map_or(0, |bytes| bytes.len() as u64);
                    frames.push(frame);
                }
                Poll::Ready(None) => break,
                Poll::Ready(Some(Err(error))) => {
                    log(&error);
                    return Self::Broken(BrokenOff::after(frames));
                }
                // It is read on by somebody who can be woken.
                Poll::Pending => return Self::Begun(frames),
            }
        }
        if !plain {
            return Self::Begun(frames);
        }
        let mut whole = Vec::with_capacity(length as usize);
        frames.iter().filter_map(Frame::data_ref).for_each(|bytes| whole.extend_from_slice(bytes));
        Self::Whole(whole.into())
    }
}

fn log(error: &BodyError) {
    tracing::debug!(%error, "a shared fetch was cut short");
}

impl<H> Drop for Pilot<H> {
    fn drop(&mut self) {
        if !self.whole
            && let Some((_, wakers)) = self.flight.with_content(|content| content.finish(End::Cut))
        {
            wakers.wake();
        }
        self.flight.flights().remove(&self.flight, self.whole.then(clock::instant));
    }
}
