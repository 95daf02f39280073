//! Where responses are stored, and how a write takes them back.
//!
//! A *place* is an authority and a path (`key`). Each place has at most one *generation*, a token that is never used
//! twice. A stored response carries the generation of its place.
//!
//! 1. **Look up**: read the place's generation first, or together with the entry. The entry counts only if it carries just
//!    that generation. No generation: a miss.
//! 2. **Open**: before a request goes to the app whose answer might be stored, its place has a generation. Who may fill
//!    therefore proposes one as it looks up, before it reads; if there is one already the proposal changes nothing.
//! 3. **Keep**: the response is stored under the generation that was read, whatever has happened since.
//! 4. **Invalidate**: delete the generation. All queries and variants of the place are gone at once, whatever their
//!    number; the writer hears of its success only after that.
//! 5. **Soften**: a soft purge writes a second token beside the generation. What carries the same generation and another
//!    second token is stale, not gone; it is kept anew under both tokens that stand there now.
//! 6. **Tags** ([`tags_of`]): of each tag there is an *index* of places, and a *mark*, the token of its last purge. A fill
//!    enters its place in the index, *then* reads the mark, and keeps nothing unless there is none or this process had
//!    seen that very mark before the fill began ([`Marks`]). A purge writes the mark, *then* walks the index, and does to each
//!    place what rule 4 or 5 says.
//! 7. **Purge** by prefix, pattern or all: every generation that stands is looked at, in batches, and those that are
//!    meant are deleted or softened.
//! 8. **Remember** (`near`): what a look-up in Redis found may be looked up in this process instead, for as long as every
//!    change of it is told, and nothing that was told is waiting to be heard.
//!
//! # No lost invalidation
//! Let a write be invalidated at time T, and let a read look up after T and reuse an entry. Its generation G stood at
//! the place after T. The deletion at T removed whatever stood there, and no token is used twice, so G was put there
//! after T. The fetch that filled the entry went to the app only once G stood there (rule 2: it had *read* G, from the
//! store, before it went), so after T, and after the write: it saw what was written. Neither tombstones nor locks nor
//! clocks are needed, and a fill that is in flight during the write needs no looking for. Loss of any key (eviction,
//! expiry, a request that closes the place it has opened) and losing any race cost a miss.
//!
//! This is why a proposal is waited for: one that was still under way while the app answered could arrive after the
//! deletion, and bless what was read before it. It costs no trip, for it goes with the look-up; and it is never what a
//! fill goes by: that is what was read after it.
//!
//! The same holds of a soft purge with "reuse as fresh" for "reuse", and both tokens for G: it is the write of a token that
//! is never used twice, and what was put there after T was read before the fetch.
//!
//! A purge by prefix, pattern or all ends at T and began at B, after the write. Let an entry that it covers be reused after
//! T, under G. If G stood at B it stood until T, so the walk met it (`SCAN` shows every key that is there from its start
//! to its end) and deleted it: then it does not stand after T. So G was put there after B; the fetch began after that, and after
//! the write.
//!
//! A purge of a tag writes its mark at M, after the write, and ends at T. Let a response that carries the tag be reused after T.
//! Its fill entered its place at E and then read the mark at R. If E was before M, the walk, which began after M, met the
//! place, and the place's generation was deleted before T: the entry carries one that came after, and its fetch came
//! after that. If E was after M, so was R: the fill read this mark or a later one. It was in order only if this process had
//! seen that mark before the fetch began; a mark is written once and seen only after that, so the fetch began after M. The
//! mark outlives every fill that began before it ([`OPEN`], by a clock that never goes back), so it cannot have been gone.
//! `model_tests` goes through every order of a few of them, and finds what goes wrong without each of these rules.
//!
//! For what is remembered "stood at the place after T" has to be shown. It was read of Redis when G stood there, and put in
//! only if no change of the place had been told since the reader's note. Say G was deleted at T. In this process the
//! place is forgotten, and its gate moved on, after T and before the writer is answered. In another the news of the
//! deletion has been written to its socket before T is acknowledged; a look that finds unread news uses nothing, and once
//! it is read and applied the place is forgotten there too. So at a look-up after T nothing of before T is left.
//!
//! In process memory marks are not needed: entering a place and noting a purge exclude each other (`memory::tags`), and a
//! fill is refused that began before the purge of one of its tags.
//!
//! # What this does not cover
//! A Redis that evicts the index of a tag before what it lists, or its mark within a minute; clocks of two instances that
//! differ by more than an hour (the index lets go of what has ended). What was stored before an `on_write` with `{*}` was
//! configured carries no tag for it: purge once by prefix then.
//!
//! A Redis that forgets an acknowledged deletion (a replica promoted before it heard of it) and an owed deletion lost
//! with its process (see [`Owed`]) leave a stale response until its freshness ends. News that is still in the network
//! when its writer has been answered leaves one that is remembered elsewhere until it arrives.

mod generation;
mod learnt;
mod marks;
mod memory;
mod names;
mod near;
mod owed;
pub mod purge;
mod redis;
mod tagging;

pub use generation::{Generation, Mint};
pub use marks::Marks;
pub use memory::MemoryStore;
pub use near::NearStore;
pub use owed::{MAX_PLACES, Owed};
pub use redis::{Claim, LOCK, Lock, OPEN, PART, RedisStore, SCRIPT, STEP, TRIM};
pub use tagging::{Wildcards, below_tag, tags_of};

use std::convert::Infallible;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::HeaderMap;
use tokio::sync::oneshot;

use self::purge::{Softness, Target};
use super::key::Key;
use super::rules::vary::Digest;
use super::stored::{Content, Known, StoredResponse};
use crate::body::Body;
use crate::clock::instant;
use crate::exchange::{Answer, Aside, Note};

/// How a response is kept.
#[derive(Debug)]
pub struct Keeping {
    /// What it carries ([`tags_of`]).
    pub tags: Vec<String>,
    /// When it was asked for.
    pub since: Since,
    /// How long Redis keeps it, at most.
    pub life: Duration,
    /// Variants of its URI that are kept, at most.
    pub max_variants: usize,
    /// That on its fetch, in the fleet: let go of behind the last that Redis is sent of it.
    pub lock: Option<Lock>,
}

/// Tells when what was kept is there, or will not be.
#[derive(Debug, Default)]
pub struct Kept(Option<oneshot::Receiver<Infallible>>);

impl Kept {
    /// As soon as `storing` is dropped.
    fn after() -> (oneshot::Sender<Infallible>, Self) {
        let (storing, told) = oneshot::channel();
        (storing, Self(Some(told)))
    }

    /// Waits for what takes more than one step; the rest is done in the order in which it was sent.
    pub async fn done(self) {
        if let Some(told) = self.0 {
            // It ends without a word, however it ends.
            let _ = told.await;
        }
    }
}

/// When a fill began: taken before its request goes to the app.
#[derive(Clone, Copy, Debug)]
pub struct Since {
    asked: u64,
    order: u64,
    began: Instant,
}

impl Since {
    /// Now, which is `asked` in seconds since the Unix epoch.
    pub fn now(asked: u64) -> Self {
        Self { asked, order: EVENTS.load(Ordering::Acquire), began: instant() }
    }

    /// In seconds since the Unix epoch.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// How long ago.
    pub fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it is longer ago at `now`, in seconds since the Unix epoch, than a fill may take.
    fn is_over(&self, now: u64) -> bool {
        now.saturating_sub(self.asked) >= OPEN.as_secs() || self.began.elapsed() >= OPEN
    }
}

/// What happened so far in this process of which the order matters. A fill only reads it: most requests would write it.
static EVENTS: AtomicU64 = AtomicU64::new(0);

/// The number of an event that happens now. It is after every fill that began with a lower number, and before the others:
/// told without clocks.
fn order() -> u64 {
    EVENTS.fetch_add(1, Ordering::AcqRel) + 1
}

/// What is asked of a store.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What for.
    pub key: &'a Key,
    /// The fields of the request.
    pub request: &'a HeaderMap,
    /// What with.
    pub purpose: Purpose,
}

/// What a request may do with the place it looks up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Reuse what is there.
    Reuse,
    /// Reuse what is there, or else fill it: the place is opened (rule 2).
    ReuseOrFill,
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
        /// The variants that are stored under this generation: one of them may still be what the app would send.
        known: Vec<Known>,
    },
    /// The store could not be asked; says why in a word.
    Unavailable(&'static str),
}

impl Found {
    /// Nothing, and no variants either.
    fn nothing(generation: Option<Generation>) -> Self {
        Self::Nothing { generation, other_variants: false, known: Vec::new() }
    }
}

/// One of the two stores.
pub enum Store {
    /// Process memory, shared by the workers.
    Memory(Arc<MemoryStore>),
    /// Redis, shared by the fleet.
    Redis(Box<RedisStore>),
}

impl Store {
    /// Rules 1 and 2. `answer` is what Redis said to [`RedisStore::ask`], `note` how things stood then, and `aside`
    /// what was asked of a replica; if that was not asked, it is now.
    pub async fn look_up(
        &self,
        question: Question<'_>,
        answer: Answer,
        note: Option<Note>,
        aside: Option<Aside>,
    ) -> Found {
        match self {
            Self::Memory(memory) => memory.look_up(question),
            Self::Redis(redis) => redis.look_up(question, answer, note, aside).await,
        }
    }

    /// Rule 3, without waiting.
    pub fn keep(&self, key: &Key, response: StoredResponse, keeping: Keeping) -> Kept {
        match self {
            Self::Memory(memory) => {
                memory.keep(key, response, keeping);
                Kept::default()
            }
            Self::Redis(redis) => redis.keep(key, response, keeping),
        }
    }

    /// Waits until what was kept under `key` is there, or will not be.
    pub async fn caught_up(&self, key: &Key) {
        if let Self::Redis(redis) = self {
            redis.caught_up(key).await;
        }
    }

    /// The content of `stored`, or this part of it, to be sent. `None`: it stood in Redis and not all of it can be read; then
    /// `stored` is as good as a miss. What is whole is here at once.
    pub async fn content(
        &self,
        key: &Key,
        stored: &StoredResponse,
        part: Option<&RangeInclusive<u64>>,
    ) -> Option<Body> {
        match (self, &stored.content) {
            (Self::Redis(redis), Content::Pieces(pieces)) => Box::pin(redis.content(key, stored, *pieces, part)).await,
            (_, content) => content.body(part),
        }
    }

    /// The response that is stored as this variant ([`Found::Nothing`]) under this generation, whatever it selects: for a
    /// 304 that names its entity tag.
    pub async fn variant(&self, key: &Key, variant: Digest, generation: Generation) -> Option<Arc<StoredResponse>> {
        match self {
            Self::Memory(memory) => memory.variant(key, &variant).filter(|stored| stored.generation == generation),
            Self::Redis(redis) => redis.variant(key, variant, generation).await,
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
    /// Takes back all that carries one of these tags, at `now` (in seconds since the Unix epoch).
    ///
    /// # Errors
    /// A word that says why Redis could not be told; it may have been done all the same.
    pub async fn invalidate_tags(&self, tags: &[String], now: u64) -> Result<(), &'static str> {
        match self {
            Self::Memory(memory) => {
                for tag in tags {
                    memory.purge(&Target::Tag(tag.clone()), Softness::Hard, now);
                }
                Ok(())
            }
            Self::Redis(redis) => redis.purge_tags(tags, Softness::Hard, now).await.map(drop),
        }
    }

    /// Takes back what `target` covers, at `now` (in seconds since the Unix epoch); says how many places it met.
    ///
    /// # Errors
    /// A word that says why Redis could not be told of all; of some it may have been.
    pub async fn purge(&self, target: &Target, softness: Softness, now: u64) -> Result<u64, &'static str> {
        match self {
            Self::Memory(memory) => Ok(memory.purge(target, softness, now)),
            Self::Redis(redis) => redis.purge(target, softness, now).await,
        }
    }
}

/// `response` as it is after a soft purge at the second `since`, at a place where `standing` stands: stale, whatever the
/// clocks say, for as long as it would be had its freshness ended then.
fn softened(response: &StoredResponse, standing: Generation, since: u64) -> Arc<StoredResponse> {
    let mut response = response.clone();
    let facts = &mut response.facts;
    let fresh = facts.lifetime.min(facts.age(since));
    let beyond = |window: u32| if window == 0 { 0 } else { window.saturating_add(fresh) };
    (facts.while_revalidate, facts.if_error) = (beyond(facts.while_revalidate), beyond(facts.if_error));
    facts.lifetime = 0;
    response.generation = standing;
    Arc::new(response)
}

#[cfg(test)]
mod model_tests;
