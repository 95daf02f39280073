//! A map that is bounded by the bytes its entries take, shared by threads; a scan of keys that are asked for once does not
//! drive out those that are asked for often.

use std::hash::Hash;

use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

/// Bounded in bytes.
pub(super) type Bounded<K, T> = Cache<K, T, Bytes, ahash::RandomState>;

/// Something that knows what it takes.
pub(super) trait Weigh<K> {
    /// Bytes, with those of its key and of keeping it.
    fn weigh(&self, key: &K) -> u64;
}

/// Weighs entries by the bytes they take.
#[derive(Clone)]
pub(super) struct Bytes;

impl<K, T: Weigh<K>> Weighter<K, T> for Bytes {
    fn weight(&self, key: &K, kept: &T) -> u64 {
        kept.weigh(key)
    }
}

/// Few shards, so that the largest response fits in one; many, so that workers seldom meet.
pub(super) fn bounded<K: Hash + Eq, T: Clone + Weigh<K>>(max_bytes: u64) -> Bounded<K, T> {
    const SHARD: u64 = 16 * 1024 * 1024;
    let options = OptionsBuilder::new()
        .estimated_items_capacity((max_bytes / 2048).clamp(64, 1 << 20) as usize)
        .weight_capacity(max_bytes)
        .shards((max_bytes / SHARD).clamp(1, 64) as usize)
        .build();
    match options {
        Ok(options) => Cache::with_options(options, Bytes, ahash::RandomState::new(), DefaultLifecycle::default()),
        Err(_) => Cache::with(64, max_bytes, Bytes, ahash::RandomState::new(), DefaultLifecycle::default()),
    }
}
