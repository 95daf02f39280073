//! The content of a stored response: whole in this process, or in pieces in Redis.
//!
//! 1. Content of more bytes than the policy's `piece` stands in Redis in pieces of that size, the last one shorter; never in
//!    more than [`MOST`] of them: rather in larger ones.
//! 2. All pieces of one fill carry its id, which no other fill has: pieces of two fills never make one content.
//! 3. A part of the content needs only the pieces that it lies in.
//! 4. To send content that is whole copies none of it.

use std::ops::{Range, RangeInclusive};

use bytes::Bytes;

use crate::body::Body;

/// Pieces of one content, at most.
pub const MOST: u64 = 4096;

/// The content of a stored response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// It is here.
    Whole(Bytes),
    /// It stands in Redis.
    Pieces(Pieces),
}

/// Content that stands in Redis in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pieces {
    /// Of the fill that stored them.
    pub id: u128,
    /// Bytes of the whole.
    pub length: u64,
    /// Bytes of a piece, but for the last.
    pub piece: u64,
}

impl Content {
    /// Its length in bytes.
    pub fn length(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Pieces(pieces) => pieces.length,
        }
    }

    /// It, or this part of it, to be sent; `None`: it has to be read first, see
    /// [`Store::content`](crate::cache::store::Store::content). Of a part only what there is.
    pub fn body(&self, part: Option<&RangeInclusive<u64>>) -> Option<Body> {
        let Self::Whole(bytes) = self else { return None };
        Some(Body::full(match part {
            None => bytes.clone(),
            Some(part) => {
                let Range { start, end } = clamped(part, bytes.len() as u64);
                bytes.slice(start as usize..end as usize)
            }
        }))
    }

    /// Bytes that it takes in this process.
    pub(super) fn weight(&self) -> u64 {
        match self {
            Self::Whole(bytes) => bytes.len() as u64,
            Self::Pieces(_) => 0,
        }
    }
}

impl Default for Content {
    fn default() -> Self {
        Self::Whole(Bytes::new())
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self::Whole(bytes)
    }
}

impl From<Vec<u8>> for Content {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Whole(bytes.into())
    }
}

impl Pieces {
    /// Content of `length` bytes in pieces of `piece` bytes, or larger ones if those were too many.
    pub fn new(id: u128, length: u64, piece: u64) -> Self {
        Self { id, length, piece: piece.max(length.div_ceil(MOST)).max(1) }
    }

    /// What was read from outside, if it can be: at least one piece and not too many, of at most `max_content` bytes.
    pub(super) fn checked(self, max_content: u64) -> Option<Self> {
        let is_sound = self.piece > 0 && (1..=max_content).contains(&self.length) && self.count() <= MOST;
        is_sound.then_some(self)
    }

    /// How many they are.
    pub fn count(&self) -> u64 {
        self.length.div_ceil(self.piece)
    }

    /// Which bytes of the content are in the piece of this number.
    pub fn span(&self, number: u64) -> Range<u64> {
        let start = number.saturating_mul(self.piece).min(self.length);
        start..start.saturating_add(self.piece).min(self.length)
    }

    /// The bytes that `part` means, or all of them, of those that there are.
    pub fn bytes_of(&self, part: Option<&RangeInclusive<u64>>) -> Range<u64> {
        part.map_or(0..self.length, |part| clamped(part, self.length))
    }

    /// The numbers of the pieces that these bytes lie in.
    pub fn numbers_of(&self, bytes: &Range<u64>) -> Range<u64> {
        if bytes.is_empty() { 0..0 } else { bytes.start / self.piece..(bytes.end - 1) / self.piece + 1 }
    }
}

/// What there is of `part` in content of this length.
fn clamped(part: &RangeInclusive<u64>, length: u64) -> Range<u64> {
    let end = part.end().saturating_add(1).min(length);
    (*part.start()).min(end)..end
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body::Body as _;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_pieces_of_a_part_are_those_that_it_lies_in(
            length in 1..5000_u64, piece in 1..700_u64, first in 0..6000_u64, more in 0..6000_u64,
        ) {
            let pieces = Pieces::new(1, length, piece);
            let spans: Vec<_> = (0..pieces.count()).map(|number| pieces.span(number)).collect();
            // One after the other, none empty, to the end.
            let end = spans.iter().try_fold(0, |at, span| (span.start == at && !span.is_empty()).then_some(span.end));
            prop_assert_eq!(end, Some(length));
            prop_assert_eq!(pieces.numbers_of(&pieces.bytes_of(None)), 0..pieces.count());
            let part = first..=first + more;
            let bytes = pieces.bytes_of(Some(&part));
            prop_assert_eq!(bytes.clone().collect::<Vec<_>>(), part.filter(|at| *at < length).collect::<Vec<_>>());
            let numbers = pieces.numbers_of(&bytes);
            for (number, span) in spans.iter().enumerate() {
                let overlaps = span.start < bytes.end && bytes.start < span.end;
                prop_assert_eq!(numbers.contains(&(number as u64)), overlaps, "{}", number);
            }
        }

        #[test]
        fn what_lies_about_its_length_is_refused_and_nothing_overflows(id: u128, length: u64, piece: u64, number: u64) {
            if let Some(pieces) = (Pieces { id, length, piece }).checked(u64::MAX) {
                prop_assert!(pieces.count() <= MOST);
                prop_assert!(pieces.span(number).end <= length);
                prop_assert!(pieces.numbers_of(&pieces.bytes_of(Some(&(number..=u64::MAX)))).end <= pieces.count());
            }
        }
    }

    #[test]
    fn there_are_never_more_pieces_than_the_most() {
        assert_eq!(Pieces::new(1, 1 << 30, 16 << 10).count(), MOST);
        assert_eq!(Pieces::new(1, 1 << 20, 512 << 10).count(), 2);
        for (length, piece, max_content) in [(0, 1, 9), (1, 0, 9), (10, 1, 9), (MOST + 1, 1, u64::MAX)] {
            assert_eq!(Pieces { id: 1, length, piece }.checked(max_content), None, "{length} by {piece}");
        }
        assert!(Pieces { id: 1, length: MOST, piece: 1 }.checked(MOST).is_some());
    }

    #[test]
    fn what_is_whole_is_sent_from_where_it_lies() {
        let bytes = Bytes::from_static(b"0123456789");
        let content = Content::from(bytes.clone());
        for (part, expected) in [(None, 0..10), (Some(2..=4), 2..5), (Some(8..=99), 8..10), (Some(10..=12), 10..10)] {
            let mut body = content.body(part.as_ref()).unwrap();
            assert_eq!(body.size_hint().exact(), Some(expected.end - expected.start));
            if !expected.is_empty() {
                let poll = std::pin::Pin::new(&mut body)
                    .poll_frame(&mut std::task::Context::from_waker(std::task::Waker::noop()));
                let std::task::Poll::Ready(Some(Ok(frame))) = poll else { panic!("{poll:?}") };
                assert_eq!(frame.data_ref().unwrap().as_ptr(), bytes[expected.start as usize..].as_ptr());
            }
        }
        assert!(Content::Pieces(Pieces::new(1, 5, 2)).body(None).is_none());
    }
}
