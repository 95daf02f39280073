//! Stored responses in process memory, shared by the workers and bounded in bytes.
//!
//! 1. A hit is two lookups and a reference count: the place's generation, and the entry with its prebuilt head. A
//!    response with selecting fields costs a third.
//! 2. Entries of a generation that is gone are never asked for again, and leave by eviction.
//! 3. A generation that is evicted takes its entries with it, which is a miss.

use std::sync::Arc;

use http::HeaderMap;
use quick_cache::sync::{Cache, DefaultLifecycle};
use quick_cache::{OptionsBuilder, Weighter};

use super::{Found, Generation, Mint};
use crate::cache::MemorySettings;
use crate::cache::key::Key;
use crate::cache::rules::vary::{Digest, Selecting};
use crate::cache::stored::StoredResponse;

/// The store in process memory.
pub struct MemoryStore {
    generations: Bounded<Generation>,
    entries: Bounded<Kept>,
    mint: Mint,
}

type Bounded<T> = Cache<String, T, Bytes, ahash::RandomState>;

#[derive(Clone)]
enum Kept {
    Response(Arc<StoredResponse>),
    Variants(Arc<Selecting>),
}

impl MemoryStore {
    /// A store within these bounds. A sixteenth of the bytes is set aside for generations.
    pub fn new(settings: MemorySettings) -> Arc<Self> {
        let for_generations = settings.max_bytes / 16;
        Arc::new(Self {
            generations: bounded(for_generations),
            entries: bounded(settings.max_bytes - for_generations),
            mint: Mint::new(),
        })
    }

    /// What is stored for a request with these fields.
    pub fn look_up(&self, key: &Key, request: &HeaderMap) -> Found {
        // Generation first: see rule 1 of the store.
        let Some(generation) = self.generations.get(key.place()) else {
            return Found::Nothing { generation: None, other_variants: false };
        };
        let (kept, of_variants) = match self.entries.get(key.text()) {
            Some(Kept::Variants(selecting)) => {
                (self.entries.get(variant_text(key, &selecting.variant(request)).as_str()), true)
            }
            kept => (kept, false),
        };
        match kept {
            Some(Kept::Response(response)) if response.generation == generation && response.selects(request) => {
                Found::Stored(response)
            }
            _ => Found::Nothing { generation: Some(generation), other_variants: of_variants },
        }
    }

    /// The generation of the key's place, a new one if it has none.
    pub fn open(&self, key: &Key) -> Generation {
        let fresh = || Ok::<_, std::convert::Infallible>(self.mint.generation());
        match self.generations.get_or_insert_with(key.place(), fresh) {
            Ok(generation) => generation,
            Err(never) => match never {},
        }
    }

    /// Stores a response under its generation.
    pub fn keep(&self, key: &Key, response: StoredResponse) {
        let text = match &response.variant {
            None => key.text().to_owned(),
            Some((selecting, digest)) => {
                self.entries.insert(key.text().to_owned(), Kept::Variants(Arc::new(selecting.clone())));
                variant_text(key, digest)
            }
        };
        self.entries.insert(text, Kept::Response(Arc::new(response)));
    }

    /// Takes back everything at a place.
    pub fn invalidate(&self, place: &str) {
        self.generations.remove(place);
    }

    /// Bytes stored.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

/// The key's text, and the variant in hex; no key's own text ends so, as the scheme is its last word.
fn variant_text(key: &Key, variant: &Digest) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(key.text().len() + 1 + 2 * variant.len());
    text.push_str(key.text());
    text.push(' ');
    for half in variant.as_chunks::<16>().0 {
        let _ = write!(text, "{:032x}", u128::from_be_bytes(*half));
    }
    text
}

/// Few shards, so that the largest response fits in one; many, so that workers seldom meet.
fn bounded<T: Clone>(max_bytes: u64) -> Bounded<T>
where
    Bytes: Weighter<String, T>,
{
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

/// Weighs entries by the bytes they take.
#[derive(Clone)]
struct Bytes;

impl Weighter<String, Kept> for Bytes {
    fn weight(&self, key: &String, kept: &Kept) -> u64 {
        let kept = match kept {
            Kept::Response(response) => response.weight(),
            Kept::Variants(selecting) => 64 + 64 * selecting.names().len() as u64,
        };
        kept + key.len() as u64 + 64
    }
}

impl Weighter<String, Generation> for Bytes {
    fn weight(&self, place: &String, _: &Generation) -> u64 {
        place.len() as u64 + 96
    }
}
