//! Stored responses in process memory, shared by the workers and bounded in bytes.
//!
//! 1. A hit is two lookups and a reference count: the place's generation, and the entry with its prebuilt head. A
//!    response with selecting fields costs a third.
//! 2. Entries of a generation that is gone are never asked for again, and leave by eviction.
//! 3. A generation that is evicted takes its entries with it, which is a miss.
//! 4. Where nothing but the language selects, the variants are looked through for the one that a request likes best.
//! 5. A part takes the place of no whole response, and of no list of variants, of its own generation.
//! 6. Variants of a URI are listed, and bounded by the policy's number: the oldest is let go of. Lists change one at a time.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use parking_lot::Mutex;
use quick_cache::sync::{EntryAction, EntryResult};

use super::generation::Worth;
use super::purge::{Softness, Target};
use super::{Found, Generation, Keeping, Mint, Purpose, Question, softened};
use crate::cache::MemorySettings;
use crate::cache::key::Key;
use crate::cache::rules::vary::Digest;
use crate::cache::stored::{Known, StoredResponse, Variants};
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};

mod tags;

use tags::Tags;

/// For so many bytes of stored responses a place may be entered under one tag.
const TAG_BYTES: u64 = 512;

/// The store in process memory.
pub struct MemoryStore {
    generations: Bounded<String, Generation>,
    entries: Bounded<String, Kept>,
    /// Held while a list of variants changes.
    listing: Mutex<()>,
    mint: Mint,
    tags: Tags,
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
            tags: Tags::new(usize::try_from(settings.max_bytes / TAG_BYTES).unwrap_or(usize::MAX)),
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
        let nothing = || Found::Nothing {
            generation: Some(generation),
            other_variants: variants.is_some(),
            known: variants.as_ref().map_or_else(Vec::new, |variants| variants.known_under(generation).to_vec()),
        };
        match kept {
            Some(Kept::Response(response)) if response.selects(request) => {
                match response.generation.worth(generation) {
                    Worth::Whole => Found::Stored(response),
                    Worth::Softened(since) => Found::Stored(softened(&response, generation, since)),
                    Worth::Nothing => nothing(),
                }
            }
            _ => nothing(),
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

    /// Stores a response under its generation.
    pub fn keep(&self, key: &Key, response: StoredResponse, keeping: Keeping) {
        let Keeping { tags, since, max_variants, .. } = keeping;
        let is_alive = |place: &str| self.generations.contains_key(place);
        if !tags.is_empty() && !self.tags.enter(&tags, key.place(), since, is_alive) {
            return;
        }
        if response.part.is_some() && self.has_whole(key, &response) {
            return;
        }
        let text = match &response.variant {
            None => key.text().to_owned(),
            Some((selecting, digest)) => {
                let known = Known::of_response(*digest, &response);
                self.list(key, Variants::new(selecting.clone(), response.generation, known), max_variants);
                variant_text(key, digest)
            }
        };
        self.put(text, response);
    }

    /// Whether, of the same stretch between invalidations, something whole stands where this part's entry, or its list, would.
    fn has_whole(&self, key: &Key, part: &StoredResponse) -> bool {
        let stands = self.entries.get(key.text());
        match &part.variant {
            None => stands.is_some_and(|stands| stands.is_whole(part)),
            Some(_) => matches!(stands, Some(stands @ Kept::Response(_)) if stands.is_whole(part)),
        }
    }

    fn put(&self, text: String, response: StoredResponse) {
        let is_part = response.part.is_some();
        let response = Arc::new(response);
        if !is_part {
            return self.entries.insert(text, Kept::Response(response));
        }
        // In one step: what is whole may come meanwhile.
        let replace = |_: &String, stands: &mut Kept| {
            if !stands.is_whole(&response) {
                *stands = Kept::Response(response.clone());
            }
            EntryAction::Retain(())
        };
        if let EntryResult::Vacant(vacant) = self.entries.entry(text.as_str(), Some(Duration::ZERO), replace) {
            // What came meanwhile stays.
            let _ = vacant.insert(Kept::Response(response.clone()));
        }
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

    /// Takes back what `target` covers, at `now` (in seconds since the Unix epoch); says how many places it met.
    pub fn purge(&self, target: &Target, softness: Softness, now: u64) -> u64 {
        let met = match (target.place(), target) {
            (Some(place), _) => vec![place],
            (None, Target::Tag(tag)) => {
                let met = self.tags.purge(tag, softness);
                return met.iter().map(|place| u64::from(self.purge_place(place, softness, now))).sum();
            }
            (None, target) => self.places(target),
        };
        met.iter().map(|place| u64::from(self.purge_place(place, softness, now))).sum()
    }

    /// The places that `target` covers: at least those that had a generation before and have it now.
    fn places(&self, target: &Target) -> Vec<String> {
        let met = RefCell::new(Vec::new());
        self.generations.retain(|place, _| {
            if target.covers(place) {
                met.borrow_mut().push(place.clone());
            }
            true
        });
        met.into_inner()
    }

    /// Whether there was anything at the place.
    fn purge_place(&self, place: &str, softness: Softness, now: u64) -> bool {
        if softness == Softness::Hard {
            return self.generations.remove(place).is_some();
        }
        let soft = self.mint.soft(now);
        // In one step: a generation that is taken back meanwhile must not come back.
        let soften = |_: &String, generation: &mut Generation| {
            *generation = generation.softened(soft);
            EntryAction::Retain(())
        };
        matches!(self.generations.entry(place, Some(Duration::ZERO), soften), EntryResult::Retained(()))
    }

    /// Bytes stored.
    pub fn bytes(&self) -> u64 {
        self.entries.weight()
    }
}

/// The key's text, and the variant in hex. No key's own text ends so: its last word is the scheme, or begins with `by=` or
/// `as=`, and hex has no `=`.
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

impl Kept {
    /// Whether it is whole, or a list of what may be, of the same stretch between invalidations as `part`.
    fn is_whole(&self, part: &StoredResponse) -> bool {
        match self {
            Self::Response(response) => response.part.is_none() && response.generation.is_beside(part.generation),
            Self::Variants(variants) => variants.generation.is_beside(part.generation),
        }
    }
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
