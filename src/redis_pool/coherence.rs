//! Whether what this process remembers of Redis still stands: the rules that every near tier keeps.
//!
//! 1. An *era* is a stretch of time in which every change of a tracked key is told to this process (`tracking`). Outside an
//!    era nothing that is remembered is used, and nothing is remembered.
//! 2. What is remembered carries its era, and counts in no other: the end of an era forgets everything at once.
//! 3. Tags (Redis keys, or what stands in their braces) are spread over 256 *gates*, each with an *epoch*. A change
//!    of a tag moves its gate's epoch on and forgets the tag, in one step.
//! 4. Who is about to ask Redis takes a [`Note`] of era and epoch first; what Redis says is remembered only if both are
//!    still the same, checked and put in one step. A value read before a change is therefore never remembered after it.
//!
//! # Why
//! A value and the news that it has changed come over different connections, in any order. Were the value simply put
//! in, one that was read before the change and arrived after the news would stay. Gates and not one epoch for each
//! key: nothing has to be kept of keys that are not remembered, and two tags that share a gate cost each other a trip now
//! and then, never a stale value.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::exchange::Note;

/// Gates.
const GATES: usize = 256;

/// The one page that the near tiers and the tracking of a process share.
#[derive(Debug)]
pub struct Coherence {
    /// Odd: in force.
    era: AtomicU64,
    gates: Box<[Mutex<u64>]>,
    hasher: RandomState,
}

impl Coherence {
    /// Outside any era.
    pub fn new() -> Arc<Self> {
        let gates = (0..GATES).map(|_| Mutex::new(0)).collect();
        Arc::new(Self { era: AtomicU64::new(0), gates, hasher: RandomState::new() })
    }

    /// The era, if there is one: what was remembered in it may be used now.
    pub fn era(&self) -> Option<u64> {
        let era = self.era.load(Ordering::Acquire);
        (era % 2 == 1).then_some(era)
    }

    /// From now on every change is told.
    pub fn begin(&self) {
        self.era.fetch_add(1 + self.era.load(Ordering::Acquire) % 2, Ordering::AcqRel);
    }

    /// From now on changes may go untold.
    pub fn end(&self) {
        self.era.fetch_add(self.era.load(Ordering::Acquire) % 2, Ordering::AcqRel);
    }

    /// To be taken before Redis is asked about `tag`; `None` outside an era: then there is nothing to remember.
    pub fn note(&self, tag: &[u8]) -> Option<Note> {
        let era = self.era()?;
        Some(Note { era, epoch: *self.gate(tag).lock() })
    }

    /// Remembers, by `put`, what Redis said about `tag`, if nothing has changed since `note`; says whether.
    pub fn keep(&self, tag: &[u8], note: Note, put: impl FnOnce()) -> bool {
        let epoch = self.gate(tag).lock();
        let stands = self.era() == Some(note.era) && *epoch == note.epoch;
        if stands {
            put();
        }
        stands
    }

    /// `tag` has changed: forgets it, by `forget`, and whatever is still on its way.
    pub fn changed(&self, tag: &[u8], forget: impl FnOnce()) {
        let mut epoch = self.gate(tag).lock();
        *epoch += 1;
        forget();
    }

    fn gate(&self, tag: &[u8]) -> &Mutex<u64> {
        &self.gates[(self.hasher.hash_one(tag) >> 48) as usize % GATES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_read_before_a_change_is_not_remembered_after_it() {
        let coherence = Coherence::new();
        assert!(coherence.note(b"k").is_none());
        coherence.begin();
        let note = coherence.note(b"k").unwrap();
        assert!(coherence.keep(b"k", note, || {}));
        let mut forgotten = false;
        coherence.changed(b"k", || forgotten = true);
        assert!(forgotten && !coherence.keep(b"k", note, || panic!("stale")));
    }

    #[test]
    fn what_was_read_in_one_era_is_not_remembered_in_the_next() {
        let coherence = Coherence::new();
        coherence.begin();
        let (note, era) = (coherence.note(b"k").unwrap(), coherence.era());
        coherence.end();
        coherence.end();
        assert!(coherence.era().is_none() && !coherence.keep(b"k", note, || panic!("no era")));
        coherence.begin();
        coherence.begin();
        assert!(coherence.era().is_some() && coherence.era() != era);
        assert!(!coherence.keep(b"k", note, || panic!("another era")));
    }
}
