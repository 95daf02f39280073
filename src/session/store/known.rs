//! Logins that this process remembers, by the Redis key of their record; bounded in bytes. No I/O, and time is an argument.
//!
//! 1. Only logins are remembered. Whoever is nobody is looked up each time: a login counts at once, and a flood of
//!    invented identifiers leaves nothing behind.
//! 2. What is remembered was read in one way ([`Reading`]) and counts for no other, before or after a reload.
//! 3. It stands for a given time since Redis was asked, and never longer than its key.
//! 4. Beyond the bound, what was used least is forgotten.
//!
//! # Why
//! Kept is the principal, not the record: what the app, the limits and the log are told is then the same to the byte,
//! and a request that finds it computes no digest.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::exchange::{Located, Principal};
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};
use crate::redis_pool::near::Size;
use crate::session::Definition;
use crate::session::device::Device;
use crate::session::format::{Stored, Wanted, Way, way};
use crate::session::issue::identifier;
use crate::session::lifetime;
use crate::session::verdict::Found;

/// How one definition reads a record.
pub struct Reading {
    definition: Arc<Definition>,
    way: Arc<dyn Way>,
    wanted: Wanted,
    fields: Option<Vec<String>>,
}

/// A login as a record in Redis told it.
#[derive(Clone, Debug)]
pub struct Known {
    /// How the record was read.
    pub reading: Arc<Reading>,
    /// Who it is.
    pub principal: Arc<Principal>,
    /// When Redis was asked, or shortly before.
    pub asked: Instant,
    /// How long the key was there from then on, and the login counts (`max_age`).
    pub life: Life,
    /// What `max_age` left it then.
    pub most: Option<Duration>,
    /// What device it stays with.
    pub bound: Bound,
    /// The era (`redis_pool::coherence`) in which it was read; 0: outside any.
    pub era: u64,
}

/// How long a key lives, as Redis says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// Until somebody removes it; or it is not told.
    Endless,
    /// Until this has passed.
    Left(Duration),
}

/// What device a session stays with, as Redis says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Bound {
    /// Nobody asked, or Redis did not tell.
    #[default]
    Unknown,
    /// With none yet.
    Nowhere,
    /// With this one.
    To(Arc<Device>),
}

/// Logins by Redis key, within a bound.
#[derive(Debug)]
pub struct Shelf(Bounded<Box<[u8]>, Logins>);

/// Logins that were read under one key.
pub type Logins = Arc<[Arc<Known>]>;

/// Ways to read one record that are remembered beside each other; more definitions of one prefix take turns.
const READINGS: usize = 8;

impl Reading {
    /// The way of `definition`.
    ///
    /// # Errors
    /// It has none that works; says why.
    pub fn of(definition: &Arc<Definition>) -> Result<Arc<Self>, String> {
        let (way, wanted) = (way(definition)?, Wanted::of(definition));
        let fields = way.fields(&wanted);
        Ok(Arc::new(Self { definition: definition.clone(), way, wanted, fields }))
    }

    /// The session that a credential's text names.
    ///
    /// # Errors
    /// It names none; says why.
    pub fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        if self.definition.issue.is_some() && !identifier::is_issued(text) {
            return Err("not an identifier that is issued here");
        }
        self.way.locate(text)
    }

    /// The fields of a hash to ask for; `None`: the record is a string.
    pub fn fields(&self) -> Option<&[String]> {
        self.fields.as_deref()
    }

    /// The largest record that is read, in bytes.
    pub fn largest(&self) -> usize {
        self.wanted.largest()
    }

    /// What a record says at `now` (Unix milliseconds).
    pub fn read(&self, stored: Stored<'_>, now: u64) -> Found {
        if stored.length() > self.largest() {
            return Found::Unreadable("record too large");
        }
        match self.way.read(&self.wanted, stored, now) {
            Ok(Some(record)) => Found::Record(record),
            Ok(None) => Found::Nothing,
            Err(reason) => Found::Unreadable(reason),
        }
    }

    /// What stands at the top of a record, by name, at `now`; nothing of what cannot be read.
    pub fn names(&self, stored: Stored<'_>, now: u64) -> Vec<String> {
        let wanted = self.wanted.clone().with_names();
        match self.way.read(&wanted, stored, now) {
            Ok(Some(record)) => record.names,
            Ok(None) | Err(_) => Vec::new(),
        }
    }

    /// What was found, given how long a login may last, and what is left of that at `now` (Unix milliseconds).
    pub fn in_time(&self, found: Found, now: u64) -> (Found, Option<Duration>) {
        let (Some(lifetime), Found::Record(record)) = (&self.definition.lifetime, &found) else { return (found, None) };
        if record.user.is_none() {
            return (found, None);
        }
        match lifetime::left(lifetime, record.born, now) {
            Ok(left) => (found, Some(left)),
            Err(reason) => (Found::Outlived(record.clone(), reason), None),
        }
    }

    /// What is read of it.
    pub fn wanted(&self) -> &Wanted {
        &self.wanted
    }

    /// Which definition it is of.
    pub fn definition(&self) -> &Arc<Definition> {
        &self.definition
    }
}

impl PartialEq for Reading {
    fn eq(&self, other: &Self) -> bool {
        let (one, other_one) = (&self.definition, &other.definition);
        // What a reload changes besides leaves what was read as it is.
        let alike = || {
            (&one.name, &one.format, &one.secrets) == (&other_one.name, &other_one.format, &other_one.secrets)
                && self.wanted == other.wanted
                && (&one.lifetime, one.binding.is_some()) == (&other_one.lifetime, other_one.binding.is_some())
        };
        Arc::ptr_eq(one, other_one) || alike()
    }
}

impl Eq for Reading {}

impl std::fmt::Debug for Reading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Reading").field(&self.definition.name).finish()
    }
}

impl Known {
    /// Whether it stands at `now`, for `age` since Redis was asked (rule 3).
    pub fn stands(&self, now: Instant, age: Duration) -> bool {
        let passed = now.saturating_duration_since(self.asked);
        passed < age && self.life.is_left_after(passed)
    }
}

impl Life {
    fn is_left_after(self, passed: Duration) -> bool {
        match self {
            Self::Endless => true,
            Self::Left(left) => passed < left,
        }
    }

    /// What is left when so much has passed; `None`: it has no end.
    pub fn left_after(self, passed: Duration) -> Option<Duration> {
        match self {
            Self::Endless => None,
            Self::Left(left) => Some(left.saturating_sub(passed)),
        }
    }

    /// As long, and no longer than `most`.
    #[must_use]
    pub fn within(self, most: Option<Duration>) -> Self {
        match (self, most) {
            (life, None) => life,
            (Self::Endless, Some(most)) => Self::Left(most),
            (Self::Left(left), Some(most)) => Self::Left(left.min(most)),
        }
    }
}

impl Shelf {
    /// An empty shelf of at most `max_bytes`.
    pub fn new(max_bytes: u64) -> Self {
        Self(bounded(max_bytes, Kind::RECORD))
    }

    /// Who is logged in under `key`, read in this way, if what is remembered `stands`.
    pub fn login(&self, key: &[u8], reading: &Arc<Reading>, stands: impl Fn(&Known) -> bool) -> Option<Arc<Known>> {
        let all = self.0.get(key)?;
        all.iter().find(|known| known.reading == *reading && stands(known)).cloned()
    }

    /// Remembers a login, in the place of one that was read before it in the same way, or in an era that is over.
    pub fn put(&self, key: &[u8], new: Arc<Known>) {
        let before = self.0.peek(key);
        let others = || before.iter().flat_map(|all| all.iter()).filter(|known| known.era == new.era);
        if others().any(|known| known.reading == new.reading && known.asked > new.asked) {
            return;
        }
        let others: Vec<Arc<Known>> = others().filter(|known| known.reading != new.reading).cloned().collect();
        let excess = others.len().saturating_sub(READINGS - 1);
        self.0.insert(key.into(), others.into_iter().skip(excess).chain([new]).collect());
    }

    /// Forgets what was read under `key`, in whatever way; says what that was.
    pub fn forget(&self, key: &[u8]) -> Option<Logins> {
        self.0.remove(key).map(|(_, logins)| logins)
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// What it holds, what stands no longer included.
    pub fn size(&self) -> Size {
        Size { entries: self.0.len() as u64, bytes: self.0.weight() }
    }
}

impl Weigh<Box<[u8]>> for Logins {
    fn weigh(&self, key: &Box<[u8]>) -> u64 {
        let known = |known: &Arc<Known>| {
            let Principal { user, session_digest, session_key, attributes, .. } = &*known.principal;
            let texts = attributes.iter().map(|(path, text)| path.len() + text.len() + 2 * size_of::<String>());
            let strings = user.len() + session_digest.len() + session_key.len() + texts.sum::<usize>();
            let device = if let Bound::To(_) = known.bound { size_of::<Device>() + 32 } else { 0 };
            size_of::<Known>() + size_of::<Principal>() + 24 + strings + device
        };
        // The entry's own place in the cache, and the counts of its Arcs.
        (key.len() + 96 + self.iter().map(known).sum::<usize>()) as u64
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::super::{Carrier, Format};
    use super::*;
    use crate::clock::instant;

    /// A definition called `name` that reads `attribute` besides the user.
    pub fn reading(name: &str, attribute: &str) -> Arc<Reading> {
        let definition = Definition {
            carriers: vec![Carrier::Bearer],
            user: vec!["id".into()],
            attributes: vec![attribute.to_owned()],
            ..Definition::new(name, Format::Json)
        };
        Reading::of(&Arc::new(definition)).unwrap()
    }

    /// `user`, asked for at `asked` about a key that has no end.
    pub fn known(reading: &Arc<Reading>, user: &str, asked: Instant) -> Known {
        let principal = Arc::new(Principal {
            session: reading.definition.name.clone(),
            user: user.into(),
            session_digest: "d".repeat(32).into(),
            session_key: "k".repeat(32),
            attributes: vec![("id".into(), user.into())],
        });
        let (life, most, bound) = (Life::Endless, None, Bound::Unknown);
        Known { reading: reading.clone(), principal, asked, life, most, bound, era: 0 }
    }

    fn user(shelf: &Shelf, key: &[u8], reading: &Arc<Reading>) -> Option<String> {
        shelf.login(key, reading, |_| true).map(|known| known.principal.user.clone())
    }

    #[test]
    fn it_stands_for_its_age_and_never_longer_than_its_key() {
        let (start, second) = (instant(), Duration::from_secs(1));
        let endless = known(&reading("web", "a"), "5", start);
        assert!(endless.stands(start, 2 * second) && endless.stands(start + second, 2 * second));
        assert!(!endless.stands(start + 2 * second, 2 * second));
        let ending = Known { life: Life::Left(second), ..endless.clone() };
        assert!(ending.stands(start, 2 * second) && !ending.stands(start + second, 2 * second));
        assert!(!Known { life: Life::Left(Duration::ZERO), ..endless }.stands(start, second));
    }

    #[test]
    fn what_was_read_in_one_way_counts_for_no_other() {
        let shelf = Shelf::new(1 << 20);
        let (web, other) = (reading("web", "plan"), reading("web", "role"));
        shelf.put(b"k", Arc::new(known(&web, "5", instant())));
        assert_eq!(user(&shelf, b"k", &reading("web", "plan")).as_deref(), Some("5"), "the same after a reload");
        assert_eq!((user(&shelf, b"k", &other), user(&shelf, b"l", &web)), (None, None));
        assert_eq!(user(&shelf, b"k", &reading("admin", "plan")), None);
        shelf.put(b"k", Arc::new(known(&other, "6", instant())));
        assert_eq!(user(&shelf, b"k", &web).as_deref(), Some("5"));
        assert_eq!(user(&shelf, b"k", &other).as_deref(), Some("6"));
        shelf.forget(b"k");
        assert!(
            user(&shelf, b"k", &web).is_none()
                && user(&shelf, b"k", &other).is_none()
                && shelf.size() == Size::default()
        );
    }

    #[test]
    fn the_later_reading_stays_whichever_comes_last() {
        let shelf = Shelf::new(1 << 20);
        let (web, start) = (reading("web", "plan"), instant());
        shelf.put(b"k", Arc::new(known(&web, "new", start + Duration::from_secs(1))));
        shelf.put(b"k", Arc::new(known(&web, "old", start)));
        assert_eq!(user(&shelf, b"k", &web).as_deref(), Some("new"));
        let next_era = Known { era: 3, ..known(&web, "next", start) };
        shelf.put(b"k", Arc::new(next_era));
        assert_eq!(user(&shelf, b"k", &web).as_deref(), Some("next"));
    }

    #[test]
    fn bytes_and_ways_to_read_are_bounded() {
        let shelf = Shelf::new(64 * 1024);
        let web = reading("web", "plan");
        for number in 0..10_000 {
            shelf.put(format!("session:{number:016}").as_bytes(), Arc::new(known(&web, "5", instant())));
        }
        let Size { entries, bytes } = shelf.size();
        assert!(bytes <= 64 * 1024 && entries > 50, "{entries} in {bytes} bytes");
        let ways: Vec<_> = (0..20).map(|number| reading("web", &number.to_string())).collect();
        ways.iter().for_each(|way| shelf.put(b"k", Arc::new(known(way, "5", instant()))));
        let found: Vec<_> = ways.iter().map(|way| user(&shelf, b"k", way).is_some()).collect();
        assert_eq!(found.iter().filter(|found| **found).count(), READINGS);
        assert!(found[20 - READINGS..].iter().all(|found| *found), "the latest stay: {found:?}");
    }
}
