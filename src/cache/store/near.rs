//! Stored responses that this process remembers of Redis, shared by its workers and bounded in bytes.
//!
//! 1. Two things are remembered: the generation of a place, and a response under its entry's name. A response is reused
//!    only if both are there, of the era in force, younger than the maximum age, and of one and the same generation: what
//!    a look-up in Redis would demand. It must be fresh, too: whether a stale one has been replaced only Redis knows.
//! 2. Both are remembered together, as one look-up in Redis found them; the gate is that of the place
//!    ([`coherence`](crate::redis_pool::coherence)).
//! 3. News of a generation forgets the place; news of an entry forgets that entry. What is not spelt as a key of a place
//!    is not one, and nothing is remembered of it.
//! 4. A write that goes through this process forgets its places here as soon as Redis has been told, and before its
//!    writer is: what another request of this process reads after that is read of Redis.
//! 5. A hit copies no content. Content is remembered as it is sent, not as Redis holds it; of content in pieces nothing is
//!    remembered, it is read of Redis each time.

use std::sync::Arc;

use http::HeaderMap;

use super::Generation;
use super::names::{self, EntryName, Named, Names};
use crate::cache::stored::StoredResponse;
use crate::exchange::Note;
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};
use crate::redis_pool::coherence::Coherence;
use crate::redis_pool::near::{Settings, Size, Tier};

/// The near tier of stored responses.
pub struct NearStore {
    coherence: Arc<Coherence>,
    prefix: [Arc<str>; 1],
    /// Before the names of all keys of ours.
    fleet: Arc<str>,
    generations: Bounded<String, Standing<Generation>>,
    entries: Bounded<EntryName, Standing<Arc<StoredResponse>>>,
    /// Seconds.
    max_age: u64,
}

/// What was remembered, when, and in which era.
#[derive(Clone)]
struct Standing<T> {
    what: T,
    era: u64,
    /// Seconds since the Unix epoch.
    since: u64,
}

impl NearStore {
    /// One within the bounds of `settings`, for the keys under `prefix`; `None` if they leave no room. A sixteenth of the
    /// bytes is set aside for generations.
    pub fn new(settings: &Settings, coherence: Arc<Coherence>, prefix: &str) -> Option<Arc<Self>> {
        let bytes = settings.max_response_bytes;
        let for_generations = bytes / 16;
        (settings.enabled && bytes > 0).then(|| {
            Arc::new(Self {
                coherence,
                prefix: [names::prefix(prefix).into()],
                fleet: prefix.into(),
                generations: bounded(for_generations, Kind::RESPONSE),
                entries: bounded(bytes - for_generations, Kind::RESPONSE),
                max_age: settings.response_max_age.as_secs(),
            })
        })
    }

    /// The fresh response to `request` that stands under one of `candidates`. `now` is in seconds since the Unix epoch.
    pub(super) fn look_up(
        &self,
        names: &Names,
        candidates: impl Iterator<Item = EntryName>,
        request: &HeaderMap,
        now: u64,
    ) -> Option<Arc<StoredResponse>> {
        // The fence first: what is read after it is no older than what was told before this request.
        let era = self.coherence.era()?;
        let generation = self.generations.get(names.tag())?.while_it_stands(era, now, self.max_age)?;
        let is_reusable = |response: &Arc<StoredResponse>| {
            let facts = &response.facts;
            response.generation == generation && facts.fresh_for(facts.age(now)).is_some() && response.selects(request)
        };
        candidates.filter_map(|name| self.entries.get(&name)?.while_it_stands(era, now, self.max_age)).find(is_reusable)
    }

    /// To be taken before Redis is asked about a place.
    pub(super) fn note(&self, names: &Names) -> Option<Note> {
        self.coherence.note(names.tag().as_bytes())
    }

    /// Remembers what Redis said since `note`, unless something has changed meanwhile; says whether.
    pub(super) fn keep(
        &self,
        note: Note,
        names: &Names,
        entry: EntryName,
        response: &Arc<StoredResponse>,
        now: u64,
    ) -> bool {
        let Note { era, .. } = note;
        self.coherence.keep(names.tag().as_bytes(), note, || {
            let generation = Standing { what: response.generation, era, since: now };
            self.generations.insert(names.tag().to_owned(), generation);
            self.entries.insert(entry, Standing { what: response.clone(), era, since: now });
        })
    }

    /// Forgets a place.
    pub(super) fn forget(&self, names: &Names) {
        self.forget_tag(names.tag());
    }

    /// Whether invalidations have to be published.
    pub(super) fn announces(&self) -> bool {
        self.coherence.announces()
    }

    fn forget_tag(&self, tag: &str) {
        self.coherence.changed(tag.as_bytes(), || drop(self.generations.remove(tag)));
    }
}

impl<T> Standing<T> {
    /// It, if it is of this era and not older than `max_age`. A clock that was set back makes it older, not younger.
    fn while_it_stands(self, era: u64, now: u64, max_age: u64) -> Option<T> {
        let age = now.checked_sub(self.since)?;
        (self.era == era && age < max_age).then_some(self.what)
    }
}

impl Tier for NearStore {
    fn kind(&self) -> &'static str {
        KIND
    }

    fn prefixes(&self) -> &[Arc<str>] {
        &self.prefix
    }

    fn changed(&self, key: &[u8]) {
        match names::read(&self.fleet, key) {
            Some((tag, Named::Generation)) => self.forget_tag(tag),
            Some((tag, Named::Entry(name))) => {
                self.coherence.changed(tag.as_bytes(), || drop(self.entries.remove(&name)));
            }
            None => {}
        }
    }

    fn empty(&self) {
        self.generations.clear();
        self.entries.clear();
    }

    fn size(&self) -> Size {
        let bytes = self.generations.weight() + self.entries.weight();
        Size { entries: self.entries.len() as u64, bytes }
    }
}

/// What the tier is called in metrics.
pub(super) const KIND: &str = "response";

impl Weigh<String> for Standing<Generation> {
    fn weigh(&self, tag: &String) -> u64 {
        tag.len() as u64 + 128
    }
}

impl Weigh<EntryName> for Standing<Arc<StoredResponse>> {
    fn weigh(&self, _: &EntryName) -> u64 {
        self.what.weight() + 192
    }
}
