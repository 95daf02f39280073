//! What the caches of one process have under way, shared by its workers and bounded.
//!
//! 1. Content on its way into a store: beyond [`MemorySettings::max_filling`] bytes, of all responses together, a
//!    response is not stored. Content that only passes, and is held for a reader that lags, takes of the same room, and
//!    is held only while less than half of it is taken: readers that stop do not keep others' responses from the store.
//! 2. Refreshes behind an answer: one at a time for a key, and at most [`MOST`] in all; who would begin another does not.
//! 3. Refreshes that failed: for `retry_refresh` the app is not asked again where stale may be sent, so that one that is
//!    ill is not hammered. At most [`MOST`] are remembered; one that is forgotten early costs the app a request.
//!
//! [`MemorySettings::max_filling`]: super::MemorySettings::max_filling

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::rules::reuse::Failure;
use super::rules::vary::Digest;

/// Keys that are remembered, of each kind.
pub const MOST: usize = 4096;

/// See the module's rules.
#[derive(Debug)]
pub struct UnderWay {
    max_filling: u64,
    filling: AtomicU64,
    refreshing: Mutex<HashSet<Digest>>,
    failed: Mutex<HashMap<Digest, Failed>>,
}

/// A refresh that failed.
#[derive(Clone, Copy, Debug)]
struct Failed {
    how: Failure,
    /// Until when it counts, in microseconds since the Unix epoch.
    until: u64,
}

/// Bytes of content that are on their way into a store; given back when dropped.
#[derive(Debug)]
pub struct Filling {
    of: Arc<UnderWay>,
    bytes: u64,
}

/// A refresh that has begun; it has ended when this is dropped.
#[derive(Debug)]
pub struct Refreshing {
    of: Arc<UnderWay>,
    key: Digest,
}

impl UnderWay {
    /// Nothing is. `max_filling` is in bytes.
    pub fn new(max_filling: u64) -> Arc<Self> {
        let (refreshing, failed) = (Mutex::default(), Mutex::default());
        Arc::new(Self { max_filling, filling: AtomicU64::new(0), refreshing, failed })
    }

    /// A response begins to be kept; none of it yet.
    pub fn fill(self: &Arc<Self>) -> Filling {
        Filling { of: self.clone(), bytes: 0 }
    }

    /// Bytes of content that are on their way into a store.
    pub fn filling(&self) -> u64 {
        self.filling.load(Ordering::Relaxed)
    }

    /// Begins to refresh what stands under the key; `None`: somebody does, or too many are refreshed.
    pub fn refresh(self: &Arc<Self>, key: Digest) -> Option<Refreshing> {
        let mut refreshing = self.refreshing.lock();
        (refreshing.len() < MOST && refreshing.insert(key)).then(|| Refreshing { of: self.clone(), key })
    }

    /// A refresh has failed; remembered until then, in microseconds since the Unix epoch. `now` likewise.
    pub fn has_failed(&self, key: Digest, how: Failure, until: u64, now: u64) {
        let mut failed = self.failed.lock();
        if failed.len() >= MOST {
            failed.retain(|_, failed| failed.until > now);
        }
        if failed.len() < MOST {
            failed.insert(key, Failed { how, until });
        }
    }

    /// How the last refresh failed, if it did a short while ago. `now` is in microseconds since the Unix epoch.
    pub fn failed(&self, key: &Digest, now: u64) -> Option<Failure> {
        let mut failed = self.failed.lock();
        let Failed { how, until } = *failed.get(key)?;
        if until > now {
            return Some(how);
        }
        failed.remove(key);
        None
    }
}

impl Filling {
    /// Takes room for so many bytes more; false: there is none.
    pub fn grow(&mut self, bytes: u64) -> bool {
        let before = self.of.filling.fetch_add(bytes, Ordering::Relaxed);
        self.bytes += bytes;
        before.saturating_add(bytes) <= self.of.max_filling
    }

    /// Gives so many bytes back.
    pub fn shrink(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.of.filling.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Whether there is room for what is not to be stored, but only held for who lags.
    pub fn has_room_to_lag(&self) -> bool {
        self.of.filling.load(Ordering::Relaxed) < self.of.max_filling / 2
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        self.of.filling.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Drop for Refreshing {
    fn drop(&mut self) {
        self.of.refreshing.lock().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_for_content_is_bounded_over_all_fills_and_given_back() {
        let under_way = UnderWay::new(10);
        let (mut one, mut other) = (under_way.fill(), under_way.fill());
        assert!(one.grow(6) && other.grow(4) && !one.grow(1));
        drop(one);
        assert_eq!(under_way.filling(), 4);
        assert!(other.grow(6) && !other.grow(1));
        other.shrink(6);
        assert!(!other.has_room_to_lag());
        other.shrink(1);
        assert!(other.has_room_to_lag());
        other.shrink(100);
        assert_eq!(under_way.filling(), 0);
        drop(other);
        assert_eq!(under_way.filling(), 0);
    }

    #[test]
    fn a_key_is_refreshed_once_at_a_time_and_not_without_bound() {
        let under_way = UnderWay::new(0);
        let key = |number: u64| std::array::from_fn(|at| number.to_le_bytes().get(at).copied().unwrap_or(0));
        let turns: Vec<_> = (0..MOST as u64).map(|number| under_way.refresh(key(number)).unwrap()).collect();
        assert!(under_way.refresh(key(0)).is_none() && under_way.refresh(key(MOST as u64)).is_none());
        drop(turns);
        assert!(under_way.refresh(key(0)).is_some());
    }

    #[test]
    fn a_failure_is_remembered_for_its_time_and_not_without_bound() {
        let under_way = UnderWay::new(0);
        let key = |number: u64| std::array::from_fn(|at| number.to_le_bytes().get(at).copied().unwrap_or(0));
        under_way.has_failed(key(0), Failure::Unreachable, 10, 5);
        assert_eq!(under_way.failed(&key(0), 9), Some(Failure::Unreachable));
        assert_eq!(under_way.failed(&key(0), 10), None);
        (0..2 * MOST as u64).for_each(|number| under_way.has_failed(key(number), Failure::Unreachable, 10, 5));
        let remembered = (0..2 * MOST as u64).filter(|number| under_way.failed(&key(*number), 5).is_some()).count();
        assert_eq!(remembered, MOST);
        under_way.has_failed(key(9999), Failure::Unreachable, 20, 15);
        assert!(under_way.failed(&key(9999), 15).is_some(), "what has passed makes room");
    }
}
