//! The variants of one URI that are stored (RFC 9111 §4.1).
//!
//! 1. They stand in the order in which they were stored, the oldest first, each once.
//! 2. They are of one generation and one list of selecting fields: a response with others begins a new list.
//! 3. No more than the policy's `max_variants`: then the oldest go.
//! 4. Each has the entity tag of its response, so that it can be offered when none of them is selected (§4.3.1). A tag of
//!    more than [`LONGEST_TAG`] bytes is not offered, nor is that of a part: what it selected would not be an answer.
//! 5. Where `Accept-Encoding` selects nothing is offered: an app that has one tag for all codings would select content in a
//!    coding that this client does not accept (RFC 9110 §8.8.1, §12.5.3).

use http::header::{ACCEPT_ENCODING, ETAG};
use http::{HeaderMap, HeaderValue};

use super::StoredResponse;
use crate::cache::rules::vary::{Digest, Selecting};
use crate::cache::store::Generation;

/// Variants that a list holds, at most, whatever the policy says.
pub const MOST: usize = 1024;
/// Bytes of an entity tag that is remembered.
pub const LONGEST_TAG: usize = 255;

/// The variants of a URI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variants {
    /// What tells them apart.
    pub selecting: Selecting,
    /// Of their place.
    pub generation: Generation,
    /// Those that are known, the oldest first.
    pub known: Vec<Known>,
}

/// A variant that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Which.
    pub variant: Digest,
    /// The entity tag of its response.
    pub etag: Option<HeaderValue>,
}

impl Known {
    /// The variant of a whole response with these fields.
    fn of(variant: Digest, head: &HeaderMap) -> Self {
        Self { variant, etag: head.get(ETAG).filter(|tag| (1..=LONGEST_TAG).contains(&tag.len())).cloned() }
    }

    /// The variant of a response.
    pub fn of_response(variant: Digest, response: &StoredResponse) -> Self {
        if response.part.is_some() { Self { variant, etag: None } } else { Self::of(variant, &response.head) }
    }
}

impl Known {
    /// Whether a 304 with these fields may speak of it: its entity tag is named, compared weakly (RFC 9110 §8.8.3.2).
    pub fn is_named(&self, not_modified: &HeaderMap) -> bool {
        matches!((&self.etag, not_modified.get(ETAG)), (Some(ours), Some(named)) if opaque(ours) == opaque(named))
    }
}

fn opaque(tag: &HeaderValue) -> &[u8] {
    tag.as_bytes().strip_prefix(b"W/").unwrap_or(tag.as_bytes())
}

impl Variants {
    /// The list with `known` alone.
    pub fn new(selecting: Selecting, generation: Generation, known: Known) -> Self {
        Self { selecting, generation, known: vec![known] }
    }

    /// The list `before`, if there is one that goes on, with this as its newest variant; and the variants that had to go for
    /// it, so that there are at most `max`.
    pub fn and(self, before: Option<Self>, max: usize) -> (Self, Vec<Digest>) {
        let Some(before) = before.filter(|before| before.goes_on(&self)) else { return (self, Vec::new()) };
        let mut all = before.known;
        all.retain(|old| self.known.iter().all(|new| new.variant != old.variant));
        all.extend(self.known);
        let beyond = all.len().saturating_sub(max.clamp(1, MOST));
        let gone = all.drain(..beyond).map(|known| known.variant).collect();
        (Self { known: all, ..self }, gone)
    }

    /// Those that may be offered, of a place whose generation is this (rule 5).
    pub fn known_under(&self, generation: Generation) -> &[Known] {
        let by_coding = self.selecting.names().contains(&ACCEPT_ENCODING);
        if self.generation.is_beside(generation) && !by_coding { &self.known } else { &[] }
    }

    fn goes_on(&self, newer: &Self) -> bool {
        self.generation.is_beside(newer.generation) && self.selecting == newer.selecting
    }

    /// Bytes it takes in memory, about.
    pub fn weight(&self) -> u64 {
        let tags: usize = self.known.iter().map(|known| 96 + known.etag.as_ref().map_or(0, HeaderValue::len)).sum();
        (64 + 64 * self.selecting.names().len() + tags) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(variant: u8, generation: u128) -> Variants {
        let selecting = Selecting::new(vec![http::header::ACCEPT]).unwrap();
        let head = HeaderMap::from_iter([(ETAG, HeaderValue::from(u16::from(variant)))]);
        Variants::new(selecting, Generation::new(generation, 0), Known::of([variant; 32], &head))
    }

    fn numbers(variants: &Variants) -> Vec<u8> {
        variants.known.iter().map(|known| known.variant[0]).collect()
    }

    #[test]
    fn the_newest_stands_last_and_the_oldest_goes_when_there_are_too_many() {
        let mut list = None;
        for (variant, expected, expected_gone) in [
            (1, &[1][..], &[][..]),
            (2, &[1, 2], &[]),
            (3, &[1, 2, 3], &[]),
            (1, &[2, 3, 1], &[]),
            (4, &[3, 1, 4], &[[2; 32]]),
        ] {
            let (next, gone) = one(variant, 7).and(list, 3);
            assert_eq!((&*numbers(&next), &*gone), (expected, expected_gone));
            list = Some(next);
        }
        let (fewer, gone) = one(5, 7).and(list.clone(), 1);
        assert_eq!((numbers(&fewer), gone), (vec![5], vec![[3; 32], [1; 32], [4; 32]]));
        assert_eq!(numbers(&one(5, 8).and(list.clone(), 3).0), [5], "another generation");
        let other = Variants { selecting: Selecting::new(vec![http::header::ORIGIN]).unwrap(), ..one(5, 7) };
        assert_eq!(numbers(&other.and(list, 3).0), [5], "other selecting fields");
    }

    #[test]
    fn codings_are_not_offered_in_place_of_each_other() {
        let offered = |fields: &[http::HeaderName]| {
            let selecting = Selecting::new(fields.to_vec()).unwrap();
            Variants { selecting, ..one(1, 7) }.known_under(Generation::new(7, 0)).len()
        };
        assert_eq!(offered(&[http::header::ACCEPT]), 1);
        assert_eq!(offered(&[http::header::ACCEPT, ACCEPT_ENCODING]), 0);
    }

    #[test]
    fn only_a_tag_of_some_size_is_remembered() {
        let head = |tag: &str| HeaderMap::from_iter([(ETAG, tag.parse().unwrap())]);
        assert_eq!(Known::of([1; 32], &head("\"a\"")).etag.unwrap(), "\"a\"");
        assert_eq!(Known::of([1; 32], &head(&"a".repeat(LONGEST_TAG + 1))).etag, None);
        assert_eq!(Known::of([1; 32], &HeaderMap::new()).etag, None);
    }
}
