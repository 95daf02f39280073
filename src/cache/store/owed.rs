//! Invalidations that Redis could not be told.
//!
//! 1. A write whose invalidation fails is answered all the same; its places are *owed*, for all workers of the process.
//! 2. An owed place is not read from the store until its deletion has been acknowledged.
//! 3. So are purges of tags, prefixes and patterns. What of them cannot be told by the place is told by the tags of the
//!    response that was found.
//! 4. A bounded number of places ([`Owed::rebound`]), and [`MAX_PURGES`], are remembered one by one; beyond it everything is owed, until all
//!    generations under the prefix have been deleted.
//! 5. Who finds something owed settles it, one at a time; a place that came to be owed again meanwhile stays owed.
//!
//! # Why
//! The write has happened: refusing to answer would not undo it. Other instances that reach Redis when this one cannot
//! may reuse what they have until its freshness ends; no place on the path of one instance alone can change that.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use parking_lot::Mutex;

use super::purge::{Softness, Target};
use super::tagging::is_below;

/// Purges remembered one by one: each read looks at all of them while any is owed.
pub const MAX_PURGES: usize = 1000;
/// Places remembered one by one, if nothing else is said.
pub const MAX_PLACES: usize = 10_000;

/// What is owed to Redis; shared by the workers.
#[derive(Debug)]
pub struct Owed {
    /// Whether there is anything, to be read without the lock.
    any: AtomicBool,
    settling: AtomicBool,
    /// Writes under way.
    writing: AtomicUsize,
    max_places: AtomicUsize,
    debts: Mutex<Debts>,
}

/// A write that is under way.
#[derive(Debug)]
pub struct Writing(Arc<Owed>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.writing.fetch_sub(1, Ordering::AcqRel);
    }
}

/// What was owed at one moment. Each debt carries the number of the write that made it last.
#[derive(Clone, Debug, Default)]
pub(super) struct Debts {
    pub(super) places: HashMap<Box<str>, u64>,
    pub(super) purges: HashMap<(Target, Softness), u64>,
    pub(super) everything: Option<u64>,
    writes: u64,
}

impl Default for Owed {
    fn default() -> Self {
        Self {
            any: AtomicBool::new(false),
            settling: AtomicBool::new(false),
            writing: AtomicUsize::new(0),
            max_places: AtomicUsize::new(MAX_PLACES),
            debts: Mutex::default(),
        }
    }
}

impl Owed {
    /// Nothing is owed.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// Remembers so many places one by one from now on. What is owed stays owed.
    pub fn rebound(&self, max_places: usize) {
        self.max_places.store(max_places, Ordering::Relaxed);
    }

    /// A write has begun: until the guard is dropped, its invalidation may still have to be sent.
    pub fn writing(self: &Arc<Self>) -> Writing {
        self.writing.fetch_add(1, Ordering::AcqRel);
        Writing(self.clone())
    }

    /// Whether a write is under way; the process should not end before it.
    pub fn is_writing(&self) -> bool {
        self.writing.load(Ordering::Acquire) > 0
    }

    /// Whether anything is.
    pub fn is_any(&self) -> bool {
        self.any.load(Ordering::Acquire)
    }

    /// Whether what is stored at `place` must not be reused.
    pub fn covers(&self, place: &str) -> bool {
        self.is_any() && {
            let debts = self.debts.lock();
            debts.everything.is_some()
                || debts.places.contains_key(place)
                || debts.purges.keys().any(|(target, _)| match target {
                    Target::Tag(tag) => is_below(tag, place),
                    target => target.covers(place),
                })
        }
    }

    /// Whether a stored response must not be reused that carries these `tags`; `None`: nobody knows which.
    pub fn covers_tags(&self, tags: impl FnOnce() -> Option<Vec<String>>) -> bool {
        let debts = self.debts.lock();
        let mut owed = debts.purges.keys().filter_map(|(target, _)| match target {
            Target::Tag(tag) => Some(tag),
            _ => None,
        });
        let Some(first) = owed.next() else { return false };
        let Some(tags) = tags() else { return true };
        tags.contains(first) || owed.any(|tag| tags.contains(tag))
    }

    /// Remembers places whose invalidation failed.
    pub fn add(&self, places: &[String]) {
        let mut debts = self.debts.lock();
        debts.writes += 1;
        let write = debts.writes;
        let most = self.max_places.load(Ordering::Relaxed);
        if debts.everything.is_none() && debts.places.len() + places.len() <= most {
            debts.places.extend(places.iter().map(|place| (place.as_str().into(), write)));
        } else {
            debts.all(write);
        }
        self.any.store(true, Ordering::Release);
    }

    /// Remembers purges that failed.
    pub fn add_purges(&self, targets: impl Iterator<Item = Target>, softness: Softness) {
        let mut debts = self.debts.lock();
        debts.writes += 1;
        let write = debts.writes;
        for target in targets {
            if debts.everything.is_some() || target == Target::All || debts.purges.len() >= MAX_PURGES {
                debts.all(write);
                break;
            }
            debts.purges.insert((target, softness), write);
        }
        self.any.store(true, Ordering::Release);
    }

    /// The right to settle, if nobody else has it.
    pub(super) fn claim(&self) -> Option<Settling<'_>> {
        (!self.settling.swap(true, Ordering::AcqRel)).then_some(Settling(self))
    }

    /// What is owed now.
    pub(super) fn debts(&self) -> Debts {
        self.debts.lock().clone()
    }

    /// Forgets what has been settled, unless it came to be owed again since.
    pub(super) fn settled(&self, settled: &Debts) {
        let mut debts = self.debts.lock();
        debts.places.retain(|place, write| settled.places.get(place) != Some(write));
        debts.purges.retain(|purge, write| settled.purges.get(purge) != Some(write));
        if debts.everything == settled.everything {
            debts.everything = None;
        }
        self.any.store(debts.is_any(), Ordering::Release);
    }
}

impl Debts {
    /// Everything is owed to the write of this number.
    fn all(&mut self, write: u64) {
        (self.places, self.purges) = Default::default();
        self.everything = Some(write);
    }

    fn is_any(&self) -> bool {
        self.everything.is_some() || !self.places.is_empty() || !self.purges.is_empty()
    }
}

/// The right to settle; given back when dropped.
pub(super) struct Settling<'a>(&'a Owed);

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.0.settling.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_place_is_owed_until_its_last_write_is_settled() {
        let owed = Owed::default();
        assert!(!owed.is_any());
        owed.add(&places(&["a", "b"]));
        let debts = owed.debts();
        owed.add(&places(&["b"]));
        owed.settled(&debts);
        assert!(!owed.covers("a") && owed.covers("b"));
        owed.settled(&owed.debts());
        assert!(!owed.is_any());
    }

    #[test]
    fn too_many_places_are_everything() {
        let owed = Owed::default();
        owed.add(&(0..=MAX_PLACES).map(|number| number.to_string()).collect::<Vec<_>>());
        let debts = owed.debts();
        assert!(owed.covers("anything") && debts.places.is_empty());
        owed.add(&places(&["a"]));
        owed.settled(&debts);
        assert!(owed.covers("anything"));
        owed.settled(&owed.debts());
        assert!(!owed.covers("anything"));
    }

    #[test]
    fn as_many_places_are_told_apart_as_are_configured() {
        let owed = Owed::default();
        owed.rebound(2);
        owed.add(&places(&["a", "b"]));
        assert!(owed.covers("a") && !owed.covers("other"));
        owed.add(&places(&["c"]));
        assert!(owed.covers("other"), "a third one is everything");
        owed.settled(&owed.debts());
        owed.rebound(3);
        owed.add(&places(&["a", "b", "c"]));
        assert!(owed.covers("c") && !owed.covers("other"));
    }

    #[test]
    fn only_one_settles_at_a_time() {
        let owed = Owed::default();
        let claim = owed.claim();
        assert!(claim.is_some() && owed.claim().is_none());
        drop(claim);
        assert!(owed.claim().is_some());
    }
}
