//! A map that is bounded by the bytes its entries take, shared by threads; a scan of keys that are asked for once does not
//! drive out those that are asked for often.

use std::hash::Hash;

use ahash::RandomState;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

/// Bounded in bytes.
pub type Bounded<K, T> = Cache<K, T, Bytes, RandomState>;

/// Something that knows what it takes.
pub trait Weigh<K> {
    /// Bytes, with those of its key and of keeping it.
    fn weigh(&self, key: &K) -> u64;
}

/// Weighs entries by the bytes they take.
#[derive(Clone, Debug)]
pub struct Bytes;

/// What entries are like.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Bytes of a usual one.
    pub usual: u64,
    /// Bytes of a shard, of which there are at most `shards`: few, so that the largest entry fits in one; many, so that
    /// threads seldom meet.
    pub shard: u64,
    /// Shards, at most.
    pub shards: u64,
}

impl Kind {
    /// A response: some kilobytes, or megabytes.
    pub const RESPONSE: Self = Self { usual: 2048, shard: 16 << 20, shards: 64 };
    /// What a short record says.
    pub const RECORD: Self = Self { usual: 512, shard: 1 << 20, shards: 16 };
}

impl<K, T: Weigh<K>> Weighter<K, T> for Bytes {
    fn weight(&self, key: &K, kept: &T) -> u64 {
        kept.weigh(key)
    }
}

/// An empty one, for at most `max_bytes` of entries of this kind.
pub fn bounded<K: Hash + Eq, T: Clone + Weigh<K>>(max_bytes: u64, kind: Kind) -> Bounded<K, T> {
    let options = OptionsBuilder::new()
        .estimated_items_capacity((max_bytes / kind.usual).clamp(64, 1 << 20) as usize)
        .weight_capacity(max_bytes)
        .shards((max_bytes / kind.shard).clamp(1, kind.shards) as usize)
        .build();
    match options {
        Ok(options) => Cache::with_options(options, Bytes, RandomState::new(), DefaultLifecycle::default()),
        Err(_) => Cache::with(64, max_bytes, Bytes, RandomState::new(), DefaultLifecycle::default()),
    }
}
