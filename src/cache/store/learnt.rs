//! Which fields select the variants, as far as one worker has learnt.
//!
//! 1. Of each URI whose answer varies, the fields are remembered; beyond a bound (`max_varying`) the least used are forgotten.
//!    So is whether any of the responses has an entity tag, which could be offered.
//! 2. Of any other, the fields learnt last are the *guess*: most apps vary in one way everywhere.
//!
//! 3. Of fields that a layer between `gather` and the cache writes (identity fields) neither is remembered: when Redis is
//!    asked they are not what they will be, and would name the variant of somebody else.
//!
//! # Why
//! Without rule 1 each look-up of a variant would take two trips: one to learn the fields, one for the variant. Without
//! rule 2 each URI would take two the first time. Both only say what to ask for: what is found is judged by what it
//! says itself.

use std::cell::RefCell;
use std::rc::Rc;

use http::{HeaderMap, HeaderName};
use quick_cache::unsync::Cache as Bounded;

use super::names::EntryName;
use crate::cache::policy::MAX_VARYING;
use crate::cache::rules::vary::{Digest, Selecting};

/// What a worker has learnt.
pub(super) struct Learnt {
    by_uri: RefCell<Bounded<Digest, (Selecting, bool)>>,
    last: RefCell<Option<Selecting>>,
    written_late: Rc<[HeaderName]>,
}

impl Learnt {
    /// Nothing yet. `written_late` are the fields of rule 3.
    pub(super) fn new(written_late: Rc<[HeaderName]>) -> Self {
        let by_uri = RefCell::new(Bounded::new(MAX_VARYING));
        Self { by_uri, last: RefCell::default(), written_late }
    }

    /// Nothing yet, and at most so many URIs later.
    pub(super) fn within(self, uris: usize) -> Self {
        Self { by_uri: RefCell::new(Bounded::new(uris)), last: RefCell::default(), ..self }
    }

    /// The entries that may answer a request for the URI, the likeliest first: the variant, if its fields are known;
    /// else the primary entry, and the variant that the guess makes of it.
    pub(super) fn candidates(&self, digest: Digest, request: &HeaderMap) -> (EntryName, Option<EntryName>) {
        let variant_by = |selecting: &Selecting| EntryName { digest, variant: Some(selecting.variant(request)) };
        match self.by_uri.borrow().get(&digest) {
            Some((selecting, _)) => (variant_by(selecting), None),
            None => (EntryName { digest, variant: None }, self.last.borrow().as_ref().map(variant_by)),
        }
    }

    /// Whether the answers of a URI are known to vary.
    pub(super) fn varies(&self, digest: &Digest) -> bool {
        self.by_uri.borrow().get(digest).is_some()
    }

    /// Whether responses of a URI are known to vary, and to have entity tags.
    pub(super) fn has_tags(&self, digest: &Digest) -> bool {
        self.by_uri.borrow().get(digest).is_some_and(|(_, tagged)| *tagged)
    }

    /// Whether `selecting` is the guess.
    pub(super) fn is_guess(&self, selecting: &Selecting) -> bool {
        self.last.borrow().as_ref() == Some(selecting)
    }

    /// The answers of a URI vary so; `tagged`: they have entity tags.
    pub(super) fn learn(&self, digest: Digest, selecting: &Selecting, tagged: bool) {
        if selecting.names().iter().any(|name| self.written_late.contains(name)) {
            return self.forget(&digest);
        }
        if !self.is_guess(selecting) {
            self.last.replace(Some(selecting.clone()));
        }
        let is_known = |known: &(Selecting, bool)| known.0 == *selecting && known.1 == tagged;
        if !self.by_uri.borrow().get(&digest).is_some_and(is_known) {
            self.by_uri.borrow_mut().insert(digest, (selecting.clone(), tagged));
        }
    }

    /// The answers of a URI vary no more.
    pub(super) fn forget(&self, digest: &Digest) {
        self.by_uri.borrow_mut().remove(digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_that_is_not_known_is_taken_to_vary_as_the_one_learnt_last() {
        let learnt = Learnt::new(Rc::default());
        let request = HeaderMap::from_iter([(http::header::ACCEPT, "text/html".parse().unwrap())]);
        let (one, other) = ([1; 32], [2; 32]);
        assert_eq!(learnt.candidates(one, &request), (EntryName { digest: one, variant: None }, None));
        let selecting = Selecting::new(vec![http::header::ACCEPT]).unwrap();
        let variant = Some(selecting.variant(&request));
        learnt.learn(one, &selecting, true);
        assert_eq!(learnt.candidates(one, &request), (EntryName { digest: one, variant }, None));
        let guess = Some(EntryName { digest: other, variant });
        assert_eq!(learnt.candidates(other, &request), (EntryName { digest: other, variant: None }, guess));
        assert!(learnt.varies(&one) && !learnt.varies(&other));
        assert!(learnt.has_tags(&one) && !learnt.has_tags(&other));
        learnt.learn(one, &selecting, false);
        assert!(learnt.varies(&one) && !learnt.has_tags(&one));
        learnt.forget(&one);
        assert!(!learnt.varies(&one));
    }

    #[test]
    fn no_more_uris_are_remembered_than_are_configured() {
        let selecting = Selecting::new(vec![http::header::ACCEPT]).unwrap();
        let remembered = |bound: usize, uris: u8| {
            let learnt = Learnt::new(Rc::default()).within(bound);
            (0..uris).for_each(|uri| learnt.learn([uri; 32], &selecting, false));
            (0..uris).filter(|uri| learnt.varies(&[*uri; 32])).count()
        };
        assert_eq!(remembered(200, 100), 100);
        assert!((1..=10).contains(&remembered(10, 100)));
    }

    #[test]
    fn what_identity_fields_will_select_is_not_guessed_before_they_are_written() {
        let user: HeaderName = "x-user-id".parse().unwrap();
        let learnt = Learnt::new(Rc::new([user.clone()]));
        learnt.learn([1; 32], &Selecting::new(vec![http::header::ACCEPT, user]).unwrap(), true);
        let primary = EntryName { digest: [1; 32], variant: None };
        assert_eq!(learnt.candidates([1; 32], &HeaderMap::new()), (primary, None));
        assert!(!learnt.varies(&[1; 32]));
    }
}
