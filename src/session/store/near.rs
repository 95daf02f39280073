//! Logins in process memory that count as if Redis had been asked: a hot request makes no trip.
//!
//! 1. They count only in the era of tracking in which they were read (`redis_pool::coherence`): every change of the
//!    record, whoever makes it, has then been told and applied.
//! 2. They end with their key, and after the longest age in any case: even a message that is lost ends by itself. While
//!    nobody tells what the app changes (pub/sub), that age is shorter.
//! 3. What was read before a change is not remembered after it: reader and tracking meet at the gate of the key.

use std::sync::Arc;
use std::time::Instant;

use super::known::{Known, Reading, Shelf};
use crate::exchange::Note;
use crate::redis_pool::coherence::Coherence;
use crate::redis_pool::near::{Settings, Size};

/// The near tier of sessions, shared by all workers.
#[derive(Debug)]
pub struct NearStore {
    coherence: Arc<Coherence>,
    shelf: Shelf,
    settings: Settings,
}

impl NearStore {
    /// An empty one within the bounds of `settings`, under the rules of `coherence`.
    pub fn new(settings: &Settings, coherence: Arc<Coherence>) -> Self {
        Self { coherence, shelf: Shelf::new(settings.max_session_bytes), settings: *settings }
    }

    /// Who is logged in, if that is known here for certain at `now`.
    pub fn login(&self, key: &[u8], reading: &Arc<Reading>, now: Instant) -> Option<Arc<Known>> {
        let era = self.coherence.era()?;
        let age = self.settings.session_age(self.coherence.mode()?);
        self.shelf.login(key, reading, |known| known.era == era && known.stands(now, age))
    }

    /// To be taken before Redis is asked; `None`: its answer will not be remembered.
    pub fn note(&self, key: &[u8]) -> Option<Note> {
        self.coherence.note(key)
    }

    /// Remembers what Redis said, unless something has changed since `note`; says whether.
    pub fn keep(&self, key: &[u8], note: Note, known: Known) -> bool {
        self.coherence.keep(key, note, || self.shelf.put(key, Arc::new(Known { era: note.era, ..known })))
    }

    /// It is told that the record has changed: forgets it, and what is on its way.
    pub fn changed(&self, key: &[u8]) {
        self.coherence.changed(key, || drop(self.shelf.forget(key)));
    }

    /// Redis says that there is no login; whoever made it so is told of, or will be.
    pub fn forget(&self, key: &[u8]) {
        self.shelf.forget(key);
    }

    /// Whether what we change ourselves has to be told by us.
    pub fn announces(&self) -> bool {
        self.coherence.announces()
    }

    /// Whether there is an era: changes are told.
    pub fn hears(&self) -> bool {
        self.coherence.mode().is_some()
    }

    /// Lets go of everything.
    pub fn clear(&self) {
        self.shelf.clear();
    }

    /// What it holds.
    pub fn size(&self) -> Size {
        self.shelf.size()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::known::Life;
    use super::super::known::tests::{known, reading};
    use super::*;
    use crate::clock::instant;
    use crate::redis_pool::near::Mode;

    const AGE: Duration = Duration::from_secs(5);

    fn store() -> (Arc<Coherence>, NearStore) {
        let coherence = Coherence::new();
        coherence.begin();
        let settings = Settings { session_max_age: AGE, ..Settings::default() };
        (coherence.clone(), NearStore::new(&settings, coherence))
    }

    #[test]
    fn a_login_counts_until_its_record_changes_or_its_time_is_over() {
        let (_, store) = store();
        let (web, start) = (reading("web", "plan"), instant());
        let keep =
            |life| assert!(store.keep(b"k", store.note(b"k").unwrap(), Known { life, ..known(&web, "5", start) }));
        let counts = |after| store.login(b"k", &web, start + after).is_some();
        keep(Life::Endless);
        assert!(counts(Duration::ZERO) && counts(AGE - Duration::from_millis(1)) && !counts(AGE));
        keep(Life::Left(Duration::from_secs(1)));
        assert!(counts(Duration::from_millis(999)) && !counts(Duration::from_secs(1)));
        store.changed(b"k");
        assert!(!counts(Duration::ZERO));
        keep(Life::Endless);
        store.forget(b"k");
        assert!(!counts(Duration::ZERO));
    }

    #[test]
    fn nothing_is_remembered_across_a_change_or_outside_an_era() {
        let (coherence, store) = store();
        let (web, now) = (reading("web", "plan"), instant());
        let note = store.note(b"k").unwrap();
        store.changed(b"k");
        assert!(!store.keep(b"k", note, known(&web, "5", now)), "read before the change, and kept after it");
        assert!(store.login(b"k", &web, now).is_none());
        assert!(store.keep(b"k", store.note(b"k").unwrap(), known(&web, "5", now)));
        assert!(store.login(b"k", &web, now).is_some());
        coherence.end();
        assert!(store.note(b"k").is_none() && store.login(b"k", &web, now).is_none());
        coherence.begin();
        assert!(store.login(b"k", &web, now).is_none(), "of an era that is over");
    }
    #[test]
    fn where_the_app_s_changes_are_not_told_a_login_counts_for_less_long() {
        let (coherence, store) = store();
        coherence.begin_over(Mode::PubSub, Arc::default());
        let (web, start) = (reading("web", "plan"), instant());
        assert!(store.keep(b"k", store.note(b"k").unwrap(), known(&web, "5", start)));
        let age = store.settings.untracked_session_max_age;
        assert!(age < AGE && store.login(b"k", &web, start).is_some());
        assert!(store.login(b"k", &web, start + age).is_none());
    }
}
