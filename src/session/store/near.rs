//! Logins in process memory that count as if Redis had been asked: a hot request makes no trip.
//!
//! 1. They count only in the era of tracking in which they were read (`redis_pool::coherence`): every change of the
//!    record, whoever makes it, has then been told and applied.
//! 2. They end with their key, and after the longest age in any case: even a message that is lost ends by itself.
//! 3. What was read before a change is not remembered after it: reader and tracking meet at the gate of the key.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::known::{Known, Reading, Shelf};
use crate::exchange::{Note, Principal};
use crate::redis_pool::coherence::Coherence;

/// The near tier of sessions, shared by all workers.
#[derive(Debug)]
pub struct NearStore {
    coherence: Arc<Coherence>,
    shelf: Shelf,
    max_age: Duration,
}

impl NearStore {
    /// An empty one of at most `max_bytes`, under the rules of `coherence`; a login counts for at most `max_age`.
    pub fn new(coherence: Arc<Coherence>, max_bytes: u64, max_age: Duration) -> Self {
        Self { coherence, shelf: Shelf::new(max_bytes), max_age }
    }

    /// Who is logged in, if that is known here for certain at `now`.
    pub fn login(&self, key: &[u8], reading: &Arc<Reading>, now: Instant) -> Option<Arc<Principal>> {
        let era = self.coherence.era()?;
        self.shelf.login(key, reading, |known| known.era == era && known.stands(now, self.max_age))
    }

    /// To be taken before Redis is asked; `None`: its answer will not be remembered.
    pub fn note(&self, key: &[u8]) -> Option<Note> {
        self.coherence.note(key)
    }

    /// Remembers what Redis said, unless something has changed since `note`.
    pub fn keep(&self, key: &[u8], note: Note, known: Known) {
        self.coherence.keep(key, note, || self.shelf.put(key, Known { era: note.era, ..known }));
    }

    /// The record has changed, or is not what it was.
    pub fn forget(&self, key: &[u8]) {
        self.coherence.changed(key, || self.shelf.forget(key));
    }

    /// Everything may have changed.
    pub fn clear(&self) {
        self.shelf.clear();
    }

    /// What is remembered.
    pub fn shelf(&self) -> &Shelf {
        &self.shelf
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::Life;
    use super::super::known::tests::{known, reading};
    use super::*;
    use crate::clock::instant;

    const AGE: Duration = Duration::from_secs(5);

    fn store() -> (Arc<Coherence>, NearStore) {
        let coherence = Coherence::new();
        coherence.begin();
        (coherence.clone(), NearStore::new(coherence, 1 << 20, AGE))
    }

    #[test]
    fn a_login_counts_until_its_record_changes_or_its_time_is_over() {
        let (_, store) = store();
        let (web, start) = (reading("web", "plan"), instant());
        let keep = |life| store.keep(b"k", store.note(b"k").unwrap(), Known { life, ..known(&web, "5", start) });
        let counts = |after| store.login(b"k", &web, start + after).is_some();
        keep(Life::Endless);
        assert!(counts(Duration::ZERO) && counts(AGE - Duration::from_millis(1)) && !counts(AGE));
        keep(Life::Left(Duration::from_secs(1)));
        assert!(counts(Duration::from_millis(999)) && !counts(Duration::from_secs(1)));
        store.forget(b"k");
        assert!(!counts(Duration::ZERO));
    }

    #[test]
    fn nothing_is_remembered_across_a_change_or_outside_an_era() {
        let (coherence, store) = store();
        let (web, now) = (reading("web", "plan"), instant());
        let note = store.note(b"k").unwrap();
        store.forget(b"k");
        store.keep(b"k", note, known(&web, "5", now));
        assert!(store.login(b"k", &web, now).is_none(), "read before the change, and kept after it");
        store.keep(b"k", store.note(b"k").unwrap(), known(&web, "5", now));
        assert!(store.login(b"k", &web, now).is_some());
        coherence.end();
        assert!(store.note(b"k").is_none() && store.login(b"k", &web, now).is_none());
        coherence.begin();
        assert!(store.login(b"k", &web, now).is_none(), "of an era that is over");
    }
}
