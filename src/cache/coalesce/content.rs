//! The content of a fetch in flight, and how far each reader has read it.
//!
//! 1. Frames are shared, not copied. Every reader begins at the first byte, whenever it came.
//! 2. *Kept*: everything is held, for the store and for readers to come. *Passing*: it is too much for that; nobody can join,
//!    and what all readers have read is let go of. Then at most `window` bytes are held for the slowest reader; the others
//!    wait for it. One reader alone is read ahead of by [`AHEAD`] bytes.
//! 3. Content ends whole or cut. Cut content ends with an error for every reader, however far it has read.
//! 4. Nobody is woken under the lock: what is to be woken is returned.
//!
//! # Why positions are in bytes
//! Once all of it is there the frames give way to the one copy that is stored, and readers read on in that.

use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Frame, SizeHint};

use super::Crowd;
use crate::body::BodyError;

/// Bytes that are read ahead of one reader of passing content.
pub(super) const AHEAD: u64 = 64 << 10;

/// What a reader is given next; `None` at the end.
pub(super) type Next = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

/// What has come, and who reads it.
#[derive(Default)]
pub(super) struct Content {
    frames: VecDeque<Placed>,
    /// Bytes that have come.
    length: u64,
    /// Bytes in `frames`.
    held: u64,
    /// What the app said of the length.
    said: Option<u64>,
    trailers: Option<HeaderMap>,
    end: Option<End>,
    /// The bytes held at most, once the content is passing.
    passing: Option<u64>,
    readers: Vec<Option<Place>>,
    /// Readers there have been.
    joined: usize,
    /// Places in `readers` that nobody has.
    free: Vec<usize>,
    /// The one who reads the content from the app, if it waits: for room, or for everybody to leave.
    source: Option<Waker>,
}

/// A frame, and the position of its first byte.
struct Placed {
    at: u64,
    bytes: Bytes,
}

/// How far a reader is.
#[derive(Default)]
struct Place {
    position: u64,
    /// It has been given the trailers.
    done: bool,
    waiting: Option<Waker>,
}

/// How content ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All of it has come.
    Whole,
    /// Its source failed, or was given up.
    Cut,
}

/// What whoever reads the content from the app is to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    /// Read on.
    Free,
    /// Wait: enough is held for the slowest reader.
    Full,
    /// Nobody reads any more.
    Deserted,
}

/// Who is to be woken, after the lock has been let go of.
#[must_use]
#[derive(Default)]
pub(super) struct Wakers {
    first: Option<Waker>,
    more: Vec<Waker>,
}

impl Content {
    /// Content that is said to be so long.
    pub(super) fn new(said: Option<u64>) -> Self {
        Self { said, ..Self::default() }
    }

    /// A new reader, if one can join.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn join(&mut self, max_readers: usize) -> Result<usize, Crowd> {
        if self.passing.is_some() {
            return Err(Crowd::Passing);
        }
        if self.count() >= max_readers {
            return Err(Crowd::Full);
        }
        self.joined += 1;
        Ok(match self.free.pop() {
            Some(reader) => {
                self.readers[reader] = Some(Place::default());
                reader
            }
            None => {
                self.readers.push(Some(Place::default()));
                self.readers.len() - 1
            }
        })
    }

    /// A reader leaves.
    pub(super) fn leave(&mut self, reader: usize) -> Wakers {
        if self.readers.get_mut(reader).is_some_and(|place| place.take().is_some()) {
            self.free.push(reader);
            self.let_go();
        }
        self.source_if_wanted()
    }

    /// Whether it can be joined no more because it broke off.
    pub(super) fn is_cut(&self) -> bool {
        self.end == Some(End::Cut)
    }

    /// Whether more than one has read it.
    pub(super) fn is_shared(&self) -> bool {
        self.joined > 1
    }

    /// Bytes that have come.
    pub(super) fn length(&self) -> u64 {
        self.length
    }

    /// Bytes that are held.
    #[cfg(test)]
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    fn count(&self) -> usize {
        self.readers.len() - self.free.len()
    }

    /// More has come.
    pub(super) fn push(&mut self, bytes: Bytes) -> Wakers {
        if bytes.is_empty() {
            return Wakers::default();
        }
        let at = self.length;
        self.length += bytes.len() as u64;
        self.held += bytes.len() as u64;
        self.frames.push_back(Placed { at, bytes });
        self.waiting_readers()
    }

    /// From here on it is passing, and at most so many bytes are held.
    pub(super) fn pass(&mut self, window: u64) {
        self.passing = Some(window);
        self.let_go();
    }

    /// Whether it is passing.
    pub(super) fn is_passing(&self) -> bool {
        self.passing.is_some()
    }

    /// The trailers have come.
    pub(super) fn set_trailers(&mut self, trailers: HeaderMap) {
        self.trailers = Some(trailers);
    }

    /// Whether there are trailers.
    pub(super) fn has_trailers(&self) -> bool {
        self.trailers.is_some()
    }

    /// It has ended; says how: shorter or longer than it was said to be it is cut.
    pub(super) fn finish(&mut self, end: End) -> (End, Wakers) {
        let end = if self.said.is_some_and(|said| said != self.length) { End::Cut } else { end };
        let end = *self.end.get_or_insert(end);
        (end, self.waiting_readers())
    }

    /// All of it, in one copy of exactly its size; readers read on in that. `None`: it is not whole, or was not kept.
    pub(super) fn gathered(&mut self) -> Option<Bytes> {
        if self.end != Some(End::Whole) || self.held != self.length || self.passing.is_some() {
            return None;
        }
        let mut whole = Vec::with_capacity(self.length as usize);
        self.frames.drain(..).for_each(|frame| whole.extend_from_slice(&frame.bytes));
        let whole = Bytes::from(whole);
        if !whole.is_empty() {
            self.frames.push_back(Placed { at: 0, bytes: whole.clone() });
        }
        Some(whole)
    }

    /// What the source is to do next; it is woken when that may have changed. Deserted content is cut there and then: nobody
    /// joins what nobody reads from the app.
    pub(super) fn room(&mut self, cx: &Context<'_>) -> Room {
        let room = self.room_now();
        if room == Room::Deserted {
            self.end = Some(End::Cut);
        } else if !self.source.as_ref().is_some_and(|source| source.will_wake(cx.waker())) {
            self.source = Some(cx.waker().clone());
        }
        room
    }

    fn room_now(&self) -> Room {
        match (self.count(), self.passing) {
            (0, _) => Room::Deserted,
            (1, Some(window)) if self.held >= window.min(AHEAD) => Room::Full,
            (_, Some(window)) if self.held >= window => Room::Full,
            _ => Room::Free,
        }
    }

    /// The next frame for a reader.
    pub(super) fn poll(&mut self, reader: usize, cx: &Context<'_>) -> (Next, Wakers) {
        let Some(Some(place)) = self.readers.get_mut(reader) else { return (Poll::Ready(None), Wakers::default()) };
        if self.end == Some(End::Cut) {
            return (Poll::Ready(Some(Err(BodyError::Broken("the fetch was cut short")))), Wakers::default());
        }
        let after = self.frames.partition_point(|frame| frame.at <= place.position);
        let frame = after.checked_sub(1).and_then(|index| self.frames.get(index));
        if let Some(frame) = frame.filter(|_| place.position < self.length) {
            let bytes = frame.bytes.slice((place.position - frame.at) as usize..);
            place.position += bytes.len() as u64;
            self.let_go();
            return (Poll::Ready(Some(Ok(Frame::data(bytes)))), self.source_if_wanted());
        }
        let next = match (&self.end, &self.trailers) {
            (None, _) => {
                if !place.waiting.as_ref().is_some_and(|waiting| waiting.will_wake(cx.waker())) {
                    place.waiting = Some(cx.waker().clone());
                }
                Poll::Pending
            }
            (Some(_), Some(trailers)) if !place.done => {
                place.done = true;
                Poll::Ready(Some(Ok(Frame::trailers(trailers.clone()))))
            }
            _ => Poll::Ready(None),
        };
        (next, Wakers::default())
    }

    /// Whether a reader has been given everything.
    pub(super) fn is_read(&self, reader: usize) -> bool {
        let Some(Some(place)) = self.readers.get(reader) else { return true };
        self.end == Some(End::Whole) && place.position == self.length && (place.done || self.trailers.is_none())
    }

    /// What a reader has before it.
    pub(super) fn size_hint(&self, reader: usize) -> SizeHint {
        let position = self.readers.get(reader).and_then(Option::as_ref).map_or(0, |place| place.position);
        let whole = if self.end == Some(End::Whole) { Some(self.length) } else { self.said };
        match whole {
            Some(length) => SizeHint::with_exact(length.saturating_sub(position)),
            None => SizeHint::new(),
        }
    }

    /// Lets go of what all readers of passing content have read.
    fn let_go(&mut self) {
        if self.passing.is_none() {
            return;
        }
        while let Some(Placed { at, bytes }) = self.frames.front() {
            let end = at + bytes.len() as u64;
            if self.readers.iter().flatten().any(|place| place.position < end) {
                break;
            }
            self.held -= bytes.len() as u64;
            self.frames.pop_front();
        }
    }

    fn waiting_readers(&mut self) -> Wakers {
        let mut waiting = self.readers.iter_mut().flatten().filter_map(|place| place.waiting.take());
        Wakers { first: waiting.next(), more: waiting.collect() }
    }

    fn source_if_wanted(&mut self) -> Wakers {
        if self.source.is_none() || self.count() > 0 && (self.passing.is_none() || self.room_now() == Room::Full) {
            return Wakers::default();
        }
        Wakers { first: self.source.take(), more: Vec::new() }
    }
}

impl Wakers {
    /// Wakes them.
    pub(super) fn wake(self) {
        self.first.into_iter().chain(self.more).for_each(Waker::wake);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(content: &mut Content, reader: usize) -> Option<Vec<u8>> {
        let cx = Context::from_waker(Waker::noop());
        match content.poll(reader, &cx).0 {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok().map(|bytes| bytes.to_vec()),
            _ => None,
        }
    }

    #[test]
    fn every_reader_begins_at_the_first_byte_and_reads_on_in_the_copy() {
        let mut content = Content::new(None);
        let first = content.join(9).unwrap();
        content.push(Bytes::from_static(b"one")).wake();
        content.push(Bytes::from_static(b"two")).wake();
        assert_eq!(read(&mut content, first).unwrap(), b"one");
        assert_eq!(content.finish(End::Whole).0, End::Whole);
        assert_eq!(content.gathered().unwrap(), "onetwo");
        let late = content.join(9).unwrap();
        assert_eq!(read(&mut content, first).unwrap(), b"two");
        assert!(content.is_read(first) && !content.is_read(late));
        assert_eq!(content.size_hint(late).exact(), Some(6));
        assert_eq!(read(&mut content, late).unwrap(), b"onetwo");
        assert!(content.is_read(late));
    }

    #[test]
    fn passing_content_is_held_for_its_slowest_reader_alone() {
        let cx = Context::from_waker(Waker::noop());
        let mut content = Content::new(None);
        let (quick, slow) = (content.join(9).unwrap(), content.join(9).unwrap());
        for _ in 0..3 {
            content.push(Bytes::from_static(b"1234")).wake();
        }
        content.pass(8);
        assert_eq!((content.join(9), content.held), (Err(Crowd::Passing), 12));
        assert_eq!(content.room(&cx), Room::Full);
        while read(&mut content, quick).is_some() {}
        assert_eq!((content.held, content.room(&cx)), (12, Room::Full));
        read(&mut content, slow);
        assert_eq!((content.held, content.room(&cx)), (8, Room::Full));
        read(&mut content, slow);
        assert_eq!((content.held, content.room(&cx)), (4, Room::Free));
        content.leave(slow).wake();
        assert_eq!((content.held, content.room(&cx)), (0, Room::Free));
        content.leave(quick).wake();
        assert_eq!(content.room(&cx), Room::Deserted);
        assert!(content.is_cut());
    }

    #[test]
    fn content_of_another_length_than_was_said_is_cut_for_everybody() {
        for said in [2, 4] {
            let mut content = Content::new(Some(said));
            let reader = content.join(1).unwrap();
            assert_eq!(content.join(1), Err(Crowd::Full));
            content.push(Bytes::from_static(b"abc")).wake();
            assert_eq!(content.finish(End::Whole).0, End::Cut);
            assert!(matches!(content.poll(reader, &Context::from_waker(Waker::noop())).0, Poll::Ready(Some(Err(_)))));
            assert_eq!(content.gathered(), None);
        }
    }
}
