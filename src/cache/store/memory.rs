//! Stored responses in process memory, shared by the workers and bounded in bytes.
//!
//! 1. A hit is two lookups and a reference count: the place's generation, and the entry with its prebuilt head. A
//!    response with selecting fields costs a third.
//! 2. Entries of a generation that is gone are never asked for again, and leave by eviction.
//! 3. A generation that is evicted takes its entries with it, which is a miss.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use quick_cache::sync::{EntryAction, EntryResult};

use super::generation::Worth;
use super::purge::{Softness, Target};
use super::{Found, Generation, Mint, Purpose, Question, Since, softened};
use crate::cache::MemorySettings;
use crate::cache::key::Key;
use crate::cache::rules::vary::{Digest, Selecting};
use crate::cache::stored::StoredResponse;
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};

mod tags;

use tags::Tags;

/// For so many bytes of stored responses a place may be entered under one tag.
const TAG_BYTES: u64 = 512;

/// The store in process memory.
pub struct MemoryStore {
    generations: Bounded<String, Generation>,
    entries: Bounded<String, Kept>,
    mint: Mint,
    tags: Tags,
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
        let Some(generation) = generation else {
            return Found::Nothing { generation: None, other_variants: false };
        };
        let (kept, of_variants) = match self.entries.get(key.text()) {
            Some(Kept::Variants(selecting)) => {
                (self.entries.get(variant_text(key, &selecting.variant(request)).as_str()), true)
            }
            kept => (kept, false),
        };
        let nothing = Found::Nothing { generation: Some(generation), other_variants: of_variants };
        match kept {
            Some(Kept::Response(response)) if response.selects(request) => {
                match response.generation.worth(generation) {
                    Worth::Whole => Found::Stored(response),
                    Worth::Softened(since) => Found::Stored(softened(&response, generation, since)),
                    Worth::Nothing => nothing,
                }
            }
            _ => nothing,
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

    /// Stores a response that carries these tags under its generation. It was asked for at `since`.
    pub fn keep(&self, key: &Key, response: StoredResponse, tags: &[String], since: Since) {
        let is_alive = |place: &str| self.generations.contains_key(place);
        if !tags.is_empty() && !self.tags.enter(tags, key.place(), since, is_alive) {
            return;
        }
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
