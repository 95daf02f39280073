//! What this process remembers of clients' records, by their Redis key; shared by its workers and bounded in bytes.
//!
//! 1. What a record says is *certain* in the era of tracking in which it was read (`redis_pool::coherence`), until its
//!    change is told, its key has ended or `near.plan_max_age` is over (where changes by others are not told:
//!    `near.untracked_plan_max_age`). What is certain is not asked for.
//! 2. What is no longer certain is what was known last: it counts while Redis cannot be asked, and is then better than
//!    what the limits give to everybody. It has no other end than the bound, or that Redis says otherwise.
//! 3. That there is no record is remembered only while Redis itself tells of every change, and in an eighth of the bytes,
//!    apart: inventing keys drives out other invented keys and nothing else.
//! 4. What was read before a change is not certain after it: reader and tracking meet at the gate of the key.
//!
//! # Why
//! One memory for both, since the last that is known of a record is nearly always what is certain of it. A change does not
//! remove what was known: should Redis go away before it is read again, yesterday's quota is nearer to the truth than none.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

use crate::exchange::{Entitlement, Grant, Note};
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};
use crate::redis_pool::coherence::Coherence;
use crate::redis_pool::near::{Mode, Settings, Size, Tier, trackable};

/// The part of the bytes that is for keys without a record.
const UNKNOWN: u64 = 8;
/// Complaints about records that are remembered, so that none is made twice.
const COMPLAINTS: usize = 1024;

/// The memory of a process.
pub struct Remembered {
    bounds: Bounds,
    coherence: Arc<Coherence>,
    kept: Arc<Kept>,
    unknown: Shelf<Unknown>,
}

/// What a memory is made for: the same after a reload, and it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    near: Settings,
    prefixes: Vec<Arc<str>>,
}

/// What a reload does not touch.
struct Kept {
    max_bytes: u64,
    known: Shelf<Arc<Known>>,
    complaints: Mutex<HashSet<u64>>,
    hasher: RandomState,
}

type Shelf<T> = Bounded<Box<[u8]>, T>;

/// What Redis said of a record, and when.
#[derive(Debug)]
struct Known {
    entitlement: Arc<Entitlement>,
    stands: Stands,
    /// 0: it is certain in none.
    era: AtomicU64,
}

#[derive(Clone, Copy, Debug)]
struct Unknown {
    stands: Stands,
    era: u64,
}

/// From when on something was so, and how long at most.
#[derive(Clone, Copy, Debug)]
pub struct Stands {
    /// When Redis was asked, or shortly before.
    pub asked: Instant,
    /// How long the key lived from then on; none: it has no end, or Redis did not say.
    pub life: Option<Duration>,
}

/// What is certain of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Certain {
    /// Its record.
    Record(Arc<Entitlement>),
    /// It has none.
    Unknown,
}

impl Bounds {
    /// For records whose keys begin with `prefixes`, where limits are counted under `limits`.
    pub fn new<'p>(near: Settings, prefixes: impl IntoIterator<Item = &'p str>, limits: &str) -> Self {
        let used = near.enabled && near.max_plan_bytes > 0;
        let mut prefixes: Vec<Arc<str>> = prefixes.into_iter().map(Into::into).collect();
        prefixes.retain(|prefix| used && trackable(prefix, limits));
        prefixes.sort_unstable();
        prefixes.dedup();
        Self { near, prefixes }
    }
}

impl Remembered {
    /// An empty one within `bounds`, under the rules of `coherence`.
    pub fn new(bounds: Bounds, coherence: Arc<Coherence>) -> Arc<Self> {
        let max_bytes = bounds.near.max_plan_bytes;
        let kept = Kept {
            max_bytes,
            known: bounded(max_bytes - max_bytes / UNKNOWN, Kind::RECORD),
            complaints: Mutex::default(),
            hasher: RandomState::new(),
        };
        Self::with(bounds, coherence, Arc::new(kept))
    }

    /// One for the same Redis, after a reload: what was known last stays, if its bound does, and nothing is certain.
    pub fn renewed(&self, bounds: Bounds, coherence: Arc<Coherence>) -> Arc<Self> {
        if bounds.near.max_plan_bytes != self.kept.max_bytes {
            return Self::new(bounds, coherence);
        }
        Self::with(bounds, coherence, self.kept.clone())
    }

    fn with(bounds: Bounds, coherence: Arc<Coherence>, kept: Arc<Kept>) -> Arc<Self> {
        let unknown = bounded(kept.max_bytes / UNKNOWN, Kind::RECORD);
        Arc::new(Self { bounds, coherence, kept, unknown })
    }

    /// Whether changes of what lies under `prefix` are told.
    pub fn hears_of(&self, prefix: &str) -> bool {
        self.bounds.prefixes.iter().any(|heard| &**heard == prefix)
    }

    /// What is certain at `now` of the record under `key`: then Redis need not be asked.
    pub fn certain(&self, key: &[u8], now: Instant) -> Option<Certain> {
        // First: what has been told by now is found applied.
        let era = self.coherence.era()?;
        let mode = self.coherence.mode()?;
        let age = self.bounds.near.plan_age(mode);
        let known = self.kept.known.get(key).filter(|known| known.era.load(Ordering::Acquire) == era);
        if let Some(known) = known {
            return known.stands.at(now, age).then(|| Certain::Record(known.entitlement.clone()));
        }
        let unknown = self.unknown.get(key).filter(|unknown| unknown.era == era && mode == Mode::Tracking)?;
        unknown.stands.at(now, age).then_some(Certain::Unknown)
    }

    /// To be taken before Redis is asked about a key under a prefix that [is heard of](Self::hears_of).
    pub fn note(&self, key: &[u8]) -> Option<Note> {
        self.coherence.note(key)
    }

    /// Redis told of a record: it is certain if `note` was taken before; says `false` if a change came between.
    pub fn keep(&self, key: &[u8], note: Option<Note>, entitlement: Arc<Entitlement>, stands: Stands) -> bool {
        let known = |era| Arc::new(Known { entitlement: entitlement.clone(), stands, era: AtomicU64::new(era) });
        let certain = note.map(|note| {
            self.coherence.keep(key, note, || {
                self.unknown.remove(key);
                self.kept.known.insert(key.into(), known(note.era));
            })
        });
        if certain != Some(true) && !self.knows_later(key, stands) {
            self.kept.known.insert(key.into(), known(0));
        }
        certain != Some(false)
    }

    /// Redis said that there is no record: nothing is known of the client any more, and that is certain if `note` was
    /// taken before and Redis tells of every change; says `false` if a change came between.
    pub fn keep_unknown(&self, key: &[u8], note: Option<Note>, stands: Stands) -> bool {
        if !self.knows_later(key, stands) {
            self.kept.known.remove(key);
        }
        let note = note.filter(|_| self.coherence.mode() == Some(Mode::Tracking));
        note.is_none_or(|note| {
            let unknown = Unknown { stands, era: note.era };
            self.coherence.keep(key, note, || self.unknown.insert(key.into(), unknown))
        })
    }

    /// What Redis said last of the record under `key`, now that it cannot be asked.
    pub fn last_known(&self, key: &[u8]) -> Option<Arc<Entitlement>> {
        self.kept.known.get(key).map(|known| known.entitlement.clone())
    }

    /// Whether somebody else's question was later.
    fn knows_later(&self, key: &[u8], stands: Stands) -> bool {
        self.kept.known.peek(key).is_some_and(|known| known.stands.asked > stands.asked)
    }

    /// Whether `complaint` has not been made before, as far as is remembered. Of the many there may be, the first 1,024 are.
    pub fn is_new(&self, complaint: impl Hash) -> bool {
        let mut made = self.kept.complaints.lock();
        made.len() < COMPLAINTS && made.insert(self.kept.hasher.hash_one(complaint))
    }
}

impl Tier for Remembered {
    fn kind(&self) -> &'static str {
        "plan"
    }

    fn prefixes(&self) -> &[Arc<str>] {
        &self.bounds.prefixes
    }

    fn changed(&self, key: &[u8]) {
        self.coherence.changed(key, || {
            self.unknown.remove(key);
            if let Some(known) = self.kept.known.peek(key) {
                known.era.store(0, Ordering::Release);
            }
        });
    }

    /// What was known last stays; it is certain in no other era (rule 2).
    fn empty(&self) {
        self.unknown.clear();
    }

    fn size(&self) -> Size {
        let (known, unknown) = (&self.kept.known, &self.unknown);
        Size { entries: (known.len() + unknown.len()) as u64, bytes: known.weight() + unknown.weight() }
    }
}

impl Stands {
    /// Whether it is so still at `now`, for `age` at most.
    fn at(self, now: Instant, age: Duration) -> bool {
        let passed = now.saturating_duration_since(self.asked);
        passed < self.life.map_or(age, |life| life.min(age))
    }
}

/// An entry's own place in a shelf.
const PLACE: usize = 96;

impl Weigh<Box<[u8]>> for Arc<Known> {
    fn weigh(&self, key: &Box<[u8]>) -> u64 {
        let named = self.entitlement.limits.iter();
        let named = named.map(|(name, _)| size_of::<(Box<str>, Grant)>() + name.len()).sum::<usize>();
        (PLACE + key.len() + size_of::<Known>() + size_of::<Entitlement>() + named) as u64
    }
}

impl Weigh<Box<[u8]>> for Unknown {
    fn weigh(&self, key: &Box<[u8]>) -> u64 {
        (PLACE + key.len() + size_of::<Unknown>()) as u64
    }
}

#[cfg(test)]
mod tests;
