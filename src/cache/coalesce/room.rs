//! How much content is on its way into a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Bytes of content on its way into a store, of all responses of the process together.
#[derive(Debug)]
pub struct Filling {
    max: u64,
    taken: AtomicU64,
}

impl Filling {
    /// Room for `max` bytes.
    pub fn new(max: u64) -> Arc<Self> {
        Arc::new(Self { max, taken: AtomicU64::new(0) })
    }

    /// Bytes taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(&self, bytes: u64) -> bool {
        let more = |taken: u64| taken.checked_add(bytes).filter(|taken| *taken <= self.max);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }
}

/// What one response has taken. Dropped, it is given back.
#[derive(Debug)]
pub struct Share {
    filling: Arc<Filling>,
    bytes: u64,
}

impl Share {
    /// Nothing yet.
    pub fn of(filling: Arc<Filling>) -> Self {
        Self { filling, bytes: 0 }
    }

    /// Takes so many bytes more; `false`: there is no room for them, and nothing was taken.
    pub fn take(&mut self, bytes: u64) -> bool {
        let taken = self.filling.take(bytes);
        if taken {
            self.bytes += bytes;
        }
        taken
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.filling.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_responses_share_one_room_and_give_back_what_they_took() {
        let filling = Filling::new(10);
        let (mut one, mut other) = (Share::of(filling.clone()), Share::of(filling.clone()));
        assert!(one.take(6) && !other.take(5) && other.take(4) && !one.take(1));
        assert_eq!(filling.taken(), 10);
        drop(one);
        assert!(other.take(6) && !other.take(u64::MAX));
        drop(other);
        assert_eq!(filling.taken(), 0);
    }
}
