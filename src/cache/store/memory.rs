//! Stored responses in process memory, shared by the workers and bounded in bytes.
//!
//! 1. A hit is two lookups and a reference count: the place's generation, and the entry with its prebuilt head. A
//!    response with selecting fields costs a third.
//! 2. Entries of a generation that is gone are never asked for again, and leave by eviction.
//! 3. A generation that is evicted takes its entries with it, which is a miss.
//! 4. Where nothing but the language selects, the variants are looked through for the one that a request likes best.
//! 5. Variants of a URI are listed, and bounded by the policy's number: the oldest is let go of. Lists change one at a time.

use std::sync::Arc;

use http::HeaderMap;
use parking_lot::Mutex;

use super::{Found, Generation, Mint, Purpose, Question};
use crate::cache::MemorySettings;
use crate::cache::key::Key;
use crate::cache::rules::vary::Digest;
use crate::cache::stored::{Known, StoredResponse, Variants};
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};

/// The store in process memory.
pub struct MemoryStore {
    generations: Bounded<String, Generation>,
    entries: Bounded<String, Kept>,
    /// Held while a list of variants changes.
    listing: Mutex<()>,
    mint: Mint,
}

#[derive(Clone)]
enum Kept {
    Response(Arc<StoredResponse>),
    Variants(Arc<Variants>),
}

impl MemoryStore {
    /// A store within these bounds. A sixteenth of the bytes is set aside for generations.
    pub fn new(settings: MemorySettings) -> Arc<Self> {
        let for_generations = settings.max_bytes / 16;
        Arc::new(Self {
            generations: bounded(for_generations, Kind::RESPONSE),
            entries: bounded(settings.max_bytes - for_generations, Kind::RESPONSE),
            listing: Mutex::new(()),
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
        let Some(generation) = generation else { return Found::nothing(None) };
        let (kept, variants) = match self.entries.get(key.text()) {
            Some(Kept::Variants(variants)) => {
                let variant = variants.selecting.variant(request);
                let exact = self.entries.get(variant_text(key, &variant).as_str());
                (exact.or_else(|| self.in_language(key, &variants, request)), Some(variants))
            }
            kept => (kept, None),
        };
        match kept {
            Some(Kept::Response(response)) if response.generation == generation && response.selects(request) => {
                Found::Stored(response)
            }
            _ => Found::Nothing {
                generation: Some(generation),
                other_variants: variants.is_some(),
                known: variants.map_or_else(Vec::new, |variants| variants.known_under(generation).to_vec()),
            },
        }
    }

    /// The newest variant in the language that the request likes best, where nothing else selects.
    fn in_language(&self, key: &Key, variants: &Variants, request: &HeaderMap) -> Option<Kept> {
        let known = variants.selecting.is_by_language().then_some(&variants.known)?;
        let mut kept =
            known.iter().rev().filter_map(|known| self.entries.get(variant_text(key, &known.variant).as_str()));
        kept.find(|kept| matches!(kept, Kept::Response(response) if response.selects(request)))
    }

    /// The response that is stored as this variant of the URI, whatever it selects.
    pub fn variant(&self, key: &Key, variant: &Digest) -> Option<Arc<StoredResponse>> {
        match self.entries.get(variant_text(key, variant).as_str())? {
            Kept::Response(response) => Some(response),
            Kept::Variants(_) => None,
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

    /// Stores a response under its generation, of the variants of its URI at most so many.
    pub fn keep(&self, key: &Key, response: StoredResponse, max_variants: usize) {
        let text = match &response.variant {
            None => key.text().to_owned(),
            Some((selecting, digest)) => {
                let known = Known::of(*digest, &response.head);
                self.list(key, Variants::new(selecting.clone(), response.generation, known), max_variants);
                variant_text(key, digest)
            }
        };
        self.entries.insert(text, Kept::Response(Arc::new(response)));
    }

    fn list(&self, key: &Key, newest: Variants, max_variants: usize) {
        let _one_at_a_time = self.listing.lock();
        let before = match self.entries.get(key.text()) {
            Some(Kept::Variants(variants)) => Some((*variants).clone()),
            _ => None,
        };
        let (variants, gone) = newest.and(before, max_variants);
        for variant in gone {
            self.entries.remove(variant_text(key, &variant).as_str());
        }
        self.entries.insert(key.text().to_owned(), Kept::Variants(Arc::new(variants)));
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
            Self::Variants(variants) => variants.weight(),
        };
        kept + key.len() as u64 + 64
    }
}

impl Weigh<String> for Generation {
    fn weigh(&self, place: &String) -> u64 {
        place.len() as u64 + 96
    }
}
