//! Stored responses in process memory, shared by the workers and bounded in bytes.
//!
//! 1. A hit is two lookups and a reference count: the place's generation, and the entry with its prebuilt head. A
//!    response with selecting fields costs a third.
//! 2. Entries of a generation that is gone are never asked for again, and leave by eviction.
//! 3. A generation that is evicted takes its entries with it, which is a miss.

use std::sync::Arc;

use super::{Found, Generation, Mint, Purpose, Question};
use crate::cache::MemorySettings;
use crate::cache::key::Key;
use crate::cache::rules::vary::{Digest, Selecting};
use crate::cache::stored::StoredResponse;
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};

/// The store in process memory.
pub struct MemoryStore {
    generations: Bounded<String, Generation>,
    entries: Bounded<String, Kept>,
    mint: Mint,
}

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
            generations: bounded(for_generations, Kind::RESPONSE),
            entries: bounded(settings.max_bytes - for_generations, Kind::RESPONSE),
            mint: Mint::new(),
        })
    }

    /// What is stored.
    pub fn look_up(&self, Question { key, request, purpose }: Question<'_>) -> Found {
        // Generation first: see rule 1 of the store.
        let generation = match purpose {
            Purpose::Reuse => self.generations.get(key.place()),
            Purpose::ReuseOrFill => Some(self.open(key)),
        };
        let Some(generation) = generation else {
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
    fn open(&self, key: &Key) -> Generation {
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

impl Weigh<String> for Kept {
    fn weigh(&self, key: &String) -> u64 {
        let kept = match self {
            Self::Response(response) => response.weight(),
            Self::Variants(selecting) => 64 + 64 * selecting.names().len() as u64,
        };
        kept + key.len() as u64 + 64
    }
}

impl Weigh<String> for Generation {
    fn weigh(&self, place: &String) -> u64 {
        place.len() as u64 + 96
    }
}
