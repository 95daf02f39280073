//! Where responses are stored, and how a write takes them back.
//!
//! A *place* is an authority and a path (`key`). Each place has at most one *generation*, a token that is never used
//! twice. A stored response carries the generation of its place.
//!
//! 1. **Look up**: read the place's generation first, the entry second. The entry counts only if it carries just that
//!    generation. No generation: a miss.
//! 2. **Open**: before a request goes to the app whose answer might be stored, its place has a generation: the one that
//!    was looked up, or a new one, proposed and *answered for* by the store.
//! 3. **Keep**: the response is stored under the generation of rule 2, whatever has happened since.
//! 4. **Invalidate**: delete the generation. All queries and variants of the place are gone at once, whatever their
//!    number; the writer hears of its success only after that.
//!
//! # No lost invalidation
//! Let a write be invalidated at time T, and let a read look up after T and reuse an entry. Its generation G stood at
//! the place after T. The deletion at T removed whatever stood there, and no token is used twice, so G was put there
//! after T. The fetch that filled the entry went to the app only once G stood there (rule 2), so after T, and after
//! the write: it saw what was written. Neither tombstones nor locks nor clocks are needed, and a fill that is in flight
//! during the write needs no looking for. Loss of any key (eviction, expiry) and losing any race cost a miss.
//!
//! This is why a proposal is waited for: one that was still under way while the app answered could arrive after the
//! deletion, and bless what was read before it. It is waited for only where a place has no generation: at its first
//! miss, and at the first after each write.
//!
//! # What this does not cover
//! A Redis that forgets an acknowledged deletion (a replica promoted before it heard of it) and an owed deletion lost
//! with its process (see [`Owed`]) leave a stale response until its freshness ends.

mod memory;
mod owed;
mod redis;

pub use memory::MemoryStore;
pub use owed::Owed;
pub use redis::RedisStore;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;

use super::key::Key;
use super::stored::StoredResponse;
use crate::exchange::Answer;

/// Names a stretch of a place's history between two writes. Never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Generation(pub u128);

/// Makes generations: 64 random bits of its own, and a count.
#[derive(Debug)]
pub struct Mint {
    random: u64,
    count: AtomicU64,
}

impl Mint {
    /// One that shares no generation with any other, here or elsewhere.
    pub fn new() -> Self {
        Self { random: getrandom::u64().unwrap_or_else(|_| fastrand::u64(..)), count: AtomicU64::new(0) }
    }

    /// A generation that was never seen before.
    pub fn generation(&self) -> Generation {
        let count = self.count.fetch_add(1, Ordering::Relaxed);
        Generation(u128::from(self.random) << 64 | u128::from(count))
    }
}

impl Default for Mint {
    fn default() -> Self {
        Self::new()
    }
}

/// What a store has for a request.
#[derive(Debug)]
pub enum Found {
    /// A response to this request, fresh or stale.
    Stored(Arc<StoredResponse>),
    /// None. Says under which generation one may be kept, if the place has one, and whether there are other variants.
    Nothing {
        /// Of the place.
        generation: Option<Generation>,
        /// The URI is stored, but not for a request with these fields.
        other_variants: bool,
    },
    /// The store could not be asked; says why in a word.
    Unavailable(&'static str),
}

/// One of the two stores.
pub enum Store {
    /// Process memory, shared by the workers.
    Memory(Arc<MemoryStore>),
    /// Redis, shared by the fleet.
    Redis(RedisStore),
}

impl Store {
    /// Rule 1. `answer` is what Redis said to [`RedisStore::ask`]; if that was not asked, it is now.
    pub async fn look_up(&self, key: &Key, request: &HeaderMap, answer: Answer) -> Found {
        match self {
            Self::Memory(memory) => memory.look_up(key, request),
            Self::Redis(redis) => redis.look_up(key, request, answer).await,
        }
    }

    /// Rule 2, for a place without a generation; `None` if the store could not say.
    pub async fn open(&self, key: &Key) -> Option<Generation> {
        match self {
            Self::Memory(memory) => Some(memory.open(key)),
            Self::Redis(redis) => redis.open(key).await,
        }
    }

    /// Rule 3, without waiting. `life` bounds how long Redis keeps it.
    pub fn keep(&self, key: &Key, response: StoredResponse, life: Duration) {
        match self {
            Self::Memory(memory) => memory.keep(key, response),
            Self::Redis(redis) => redis.keep(key, response, life),
        }
    }

    /// Rule 4.
    ///
    /// # Errors
    /// A word that says why Redis could not be told; it may have been done all the same.
    pub async fn invalidate(&self, places: &[String]) -> Result<(), &'static str> {
        match self {
            Self::Memory(memory) => {
                places.iter().for_each(|place| memory.invalidate(place));
                Ok(())
            }
            Self::Redis(redis) => redis.invalidate(places.iter().map(String::as_str)).await,
        }
    }
}
