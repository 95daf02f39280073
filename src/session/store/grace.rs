//! Logins in process memory that are believed while Redis is away, where `on_outage = "grace"` says so.
//!
//! 1. Believed is a login that Redis itself confirmed within the last `grace`, and whose key has not ended by itself.
//! 2. Whatever contradicts it removes it at once: news that its key changed, where changes are told; and Redis saying that it
//!    is gone, unreadable or nobody's. What was read before that is not put back after it.
//! 3. It outlasts the loss of tracking, and its return, which often comes before the links': that is what it is for. A logout
//!    while changes are not told, and that no request came after, is not known of: it may be believed for the rest of `grace`.
//!
//! # Why
//! That nothing is put back does not lean on tracking, which may not be in force. Each gate keeps the time at which something was last
//! forgotten there, and what Redis was asked before that time is not remembered: two keys that share a gate cost each
//! other a login to remember now and then, never a login too many.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

use super::known::{Known, Logins, Reading, Shelf};

/// Gates.
const GATES: usize = 256;

/// What is believed of sessions while Redis is away, shared by all workers.
#[derive(Debug)]
pub struct GraceStore {
    shelf: Shelf,
    /// When something was last forgotten.
    gates: Box<[Mutex<Option<Instant>>]>,
    hasher: RandomState,
}

impl GraceStore {
    /// An empty one of at most `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        let gates = (0..GATES).map(|_| Mutex::new(None)).collect();
        Self { shelf: Shelf::new(max_bytes), gates, hasher: RandomState::new() }
    }

    /// Who was logged in less than `grace` before `now`, as far as is known.
    pub fn login(&self, key: &[u8], reading: &Arc<Reading>, now: Instant, grace: Duration) -> Option<Arc<Known>> {
        self.shelf.login(key, reading, |known| known.stands(now, grace))
    }

    /// Remembers what Redis said, unless it was asked before something was forgotten.
    pub fn keep(&self, key: &[u8], known: Known) {
        let forgotten = self.gate(key).lock();
        if forgotten.is_none_or(|forgotten| forgotten < known.asked) {
            self.shelf.put(key, Arc::new(known));
        }
    }

    /// It is at `now` no longer certain that the login stands; says who it was.
    pub fn forget(&self, key: &[u8], now: Instant) -> Option<Logins> {
        let mut forgotten = self.gate(key).lock();
        *forgotten = (*forgotten).max(Some(now));
        self.shelf.forget(key)
    }

    /// It is at `now` not certain of any login.
    pub fn clear(&self, now: Instant) {
        for gate in &self.gates {
            let mut forgotten = gate.lock();
            *forgotten = (*forgotten).max(Some(now));
        }
        self.shelf.clear();
    }

    fn gate(&self, key: &[u8]) -> &Mutex<Option<Instant>> {
        &self.gates[(self.hasher.hash_one(key) >> 48) as usize % GATES]
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::Life;
    use super::super::known::tests::{known, reading};
    use super::*;
    use crate::clock::instant;

    const GRACE: Duration = Duration::from_secs(60);
    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_login_is_believed_for_the_grace_and_never_longer_than_its_key() {
        let store = GraceStore::new(1 << 20);
        let (web, start) = (reading("web", "plan"), instant());
        let believed = |after| store.login(b"k", &web, start + after, GRACE).is_some();
        store.keep(b"k", known(&web, "5", start));
        assert!(believed(Duration::ZERO) && believed(GRACE - SECOND) && !believed(GRACE));
        store.keep(b"k", Known { life: Life::Left(SECOND), ..known(&web, "5", start) });
        assert!(believed(Duration::ZERO) && !believed(SECOND), "its key has ended");
    }

    #[test]
    fn what_was_asked_before_a_contradiction_is_not_put_back_after_it() {
        let store = GraceStore::new(1 << 20);
        let (web, start) = (reading("web", "plan"), instant());
        let believed = || store.login(b"k", &web, start + SECOND, GRACE).is_some();
        store.keep(b"k", known(&web, "5", start));
        store.forget(b"k", start + SECOND);
        assert!(!believed());
        // Another worker's trip began before the logout, and ends after it.
        store.keep(b"k", known(&web, "5", start));
        store.keep(b"k", known(&web, "5", start + SECOND));
        assert!(!believed());
        store.keep(b"k", known(&web, "5", start + 2 * SECOND));
        assert!(believed(), "a new login is one");
        store.clear(start + 3 * SECOND);
        store.keep(b"k", known(&web, "5", start + 3 * SECOND));
        assert!(!believed() && store.shelf.size().entries == 0);
    }
}
