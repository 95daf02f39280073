//! The content of a fetch in flight, and how far each reader has read it.
//!
//! 1. Frames are shared, not copied. Every reader begins at the first byte, whenever it came.
//! 2. *Kept*: everything is held, for the store and for readers to come. *Passing*: it is too much for that; nobody can join,
//!    and what all readers have read is let go of. The fastest reader is read ahead of by [`AHEAD`] bytes.
//! 3. What passes, and is held for readers that lag, takes its room from `[memory] filling`, as what is kept does. While there
//!    is room nobody is cut off, and nobody waits for another. Where there is none, and somebody has read all that has
//!    come, the slowest readers are cut off until no more than [`WINDOW`] bytes are held. So the bound is `filling`, and
//!    `WINDOW` and a frame for each fetch under way. One reader alone is never cut off: the app waits for it.
//! 4. Content ends whole or cut. Cut content ends with an error for every reader, however far it has read; for a reader that
//!    was cut off so does whole content.
//! 5. Nobody is woken under the lock: what is to be woken is returned.
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
use crate::cache::under_way::Filling;

/// Bytes that are read ahead of the fastest reader of passing content.
pub(super) const AHEAD: u64 = 64 << 10;
/// Bytes of passing content that may be held for readers that lag even where there is no room.
pub(super) const WINDOW: u64 = 256 << 10;

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
    /// The room for the bytes in `frames`, once the content is passing.
    passing: Option<Filling>,
    readers: Vec<Option<Place>>,
    /// Readers there have been.
    joined: usize,
    /// Places in `readers` that nobody has.
    free: Vec<usize>,
    /// Readers that were cut off, and have not left.
    cut_off: usize,
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
    /// It lagged too far behind.
    cut_off: bool,
    /// Whom to wake when more has come: it has read all there is.
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
        if let Some(place) = self.readers.get_mut(reader).and_then(Option::take) {
            self.free.push(reader);
            self.cut_off -= usize::from(place.cut_off);
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

    /// Readers that were not cut off.
    fn count(&self) -> usize {
        self.readers.len() - self.free.len() - self.cut_off
    }

    fn reading(&self) -> impl Iterator<Item = &Place> {
        self.readers.iter().flatten().filter(|place| !place.cut_off)
    }

    /// More has come.
    pub(super) fn push(&mut self, bytes: Bytes) -> Wakers {
        if bytes.is_empty() {
            return Wakers::default();
        }
        let at = self.length;
        self.length += bytes.len() as u64;
        self.held += bytes.len() as u64;
        if let Some(room) = &mut self.passing {
            room.grow(bytes.len() as u64);
        }
        self.frames.push_back(Placed { at, bytes });
        self.waiting_readers()
    }

    /// From here on it is passing; `room` is what has been taken for what is held.
    pub(super) fn pass(&mut self, room: Filling) {
        self.passing = Some(room);
        self.let_go();
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
        if end == End::Cut {
            self.forget();
        }
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
        if room == Room::Free {
            self.cut_off_the_slowest();
        }
        if room == Room::Deserted {
            self.end = Some(End::Cut);
            self.forget();
        } else if !self.source.as_ref().is_some_and(|source| source.will_wake(cx.waker())) {
            self.source = Some(cx.waker().clone());
        }
        room
    }

    fn room_now(&self) -> Room {
        let Some(room) = &self.passing else {
            return if self.count() == 0 { Room::Deserted } else { Room::Free };
        };
        let Some(fastest) = self.reading().map(|place| place.position).max() else { return Room::Deserted };
        let is_ahead = self.length - fastest >= AHEAD;
        let may_lag =
            self.held < WINDOW || room.has_room_to_lag() || self.reading().any(|place| place.waiting.is_some());
        if is_ahead || !may_lag { Room::Full } else { Room::Free }
    }

    /// Lets go of what is held for the slowest readers of passing content, and of them, where there is no room for it.
    fn cut_off_the_slowest(&mut self) {
        while self.held >= WINDOW && self.passing.as_ref().is_some_and(|room| !room.has_room_to_lag()) {
            let reading = self.readers.iter_mut().flatten().filter(|place| !place.cut_off);
            // Who has read everything holds nothing.
            let Some(slowest) = reading.min_by_key(|place| place.position).filter(|place| place.position < self.length)
            else {
                return;
            };
            slowest.cut_off = true;
            self.cut_off += 1;
            self.let_go();
        }
    }

    /// The next frame for a reader.
    pub(super) fn poll(&mut self, reader: usize, cx: &Context<'_>) -> (Next, Wakers) {
        let Some(Some(place)) = self.readers.get_mut(reader) else { return (Poll::Ready(None), Wakers::default()) };
        if self.end == Some(End::Cut) {
            return (Poll::Ready(Some(Err(BodyError::Broken("the fetch was cut short")))), Wakers::default());
        }
        if place.cut_off {
            let behind = BodyError::Broken("the client was too far behind the others of a shared fetch");
            return (Poll::Ready(Some(Err(behind))), Wakers::default());
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
                return (Poll::Pending, self.source_if_wanted());
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
        let is_at_end = place.position == self.length && !place.cut_off;
        self.end == Some(End::Whole) && is_at_end && (place.done || self.trailers.is_none())
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
        let read = self.reading().map(|place| place.position).min().unwrap_or(self.length);
        let mut let_go = 0;
        while let Some(Placed { bytes, .. }) =
            self.frames.pop_front_if(|frame| frame.at + frame.bytes.len() as u64 <= read)
        {
            let_go += bytes.len() as u64;
        }
        self.held -= let_go;
        if let Some(room) = &mut self.passing {
            room.shrink(let_go);
        }
    }

    /// Lets go of everything: it broke off, and nobody is given any more of it.
    fn forget(&mut self) {
        self.frames = VecDeque::new();
        if let Some(room) = &mut self.passing {
            room.shrink(self.held);
        }
        self.held = 0;
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
    use crate::cache::UnderWay;

    fn frame() -> Bytes {
        Bytes::from_static(&[0; AHEAD as usize])
    }

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
    fn passing_content_is_held_for_its_slowest_reader_while_there_is_room() {
        let (cx, under_way) = (Context::from_waker(Waker::noop()), UnderWay::new(2 << 20));
        let mut content = Content::new(None);
        let (quick, slow) = (content.join(9).unwrap(), content.join(9).unwrap());
        content.push(frame()).wake();
        let mut room = under_way.fill();
        assert!(room.grow(content.held));
        content.pass(room);
        assert_eq!((content.join(9), content.held), (Err(Crowd::Passing), AHEAD));
        assert_eq!(content.room(&cx), Room::Full, "nobody has read anything");
        // The quick one is read ahead of; what the slow one has not read takes room.
        for frames in 2..=16 {
            assert!(read(&mut content, quick).is_some());
            assert_eq!(content.room(&cx), Room::Free);
            content.push(frame()).wake();
            assert_eq!((content.held, under_way.filling()), (frames * AHEAD, frames * AHEAD));
        }
        // Half of the room is taken: not before the quick one waits is the slow one cut off.
        assert!(read(&mut content, quick).is_some());
        assert_eq!(content.room(&cx), Room::Full);
        assert!(read(&mut content, slow).is_some());
        assert_eq!((content.held, content.room(&cx)), (15 * AHEAD, Room::Free), "there is room again");
        content.push(frame()).wake();
        assert!(read(&mut content, quick).is_some() && read(&mut content, quick).is_none());
        assert_eq!((content.room(&cx), content.held, under_way.filling()), (Room::Free, 0, 0));
        content.push(frame()).wake();
        assert_eq!(content.finish(End::Whole).0, End::Whole);
        assert!(matches!(content.poll(slow, &cx).0, Poll::Ready(Some(Err(_)))), "never as whole");
        assert!(!content.is_read(slow));
        assert!(read(&mut content, quick).is_some() && content.is_read(quick));
        assert_eq!((content.held, under_way.filling()), (0, 0));
    }

    #[test]
    fn without_room_a_lone_reader_is_waited_for_and_one_that_lags_has_a_window() {
        let (cx, under_way) = (Context::from_waker(Waker::noop()), UnderWay::new(0));
        let mut content = Content::new(None);
        let (quick, slow) = (content.join(9).unwrap(), content.join(9).unwrap());
        content.pass(under_way.fill());
        for _ in 0..WINDOW / AHEAD {
            assert_eq!(content.room(&cx), Room::Free);
            content.push(frame()).wake();
            assert!(read(&mut content, quick).is_some());
        }
        assert_eq!((content.held, content.room(&cx)), (WINDOW, Room::Full));
        content.leave(quick).wake();
        // It is the fastest now, and has not read anything.
        assert_eq!((content.held, content.room(&cx)), (WINDOW, Room::Full));
        while read(&mut content, slow).is_some() {}
        assert_eq!((content.held, content.room(&cx)), (0, Room::Free));
        content.push(frame()).wake();
        assert_eq!((content.room(&cx), under_way.filling()), (Room::Full, AHEAD));
        content.leave(slow).wake();
        assert_eq!((content.room(&cx), under_way.filling()), (Room::Deserted, 0));
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
