//! What this process remembers of the session records in Redis: to ask less often, and to know more while Redis is away.
//!
//! 1. Both memories hear of every change that tracking tells, and of everything that Redis itself says.
//! 2. The loss of tracking empties the near tier and leaves the other (rule 3 of `grace`). That all keys are gone is told
//!    within an era, and empties both.
//! 3. Where Redis does not tell of changes, what sidegate itself ends or extends is published to all instances.
//! 4. Under a prefix of which changes are not told, nothing is remembered near.
//! 5. It is published when it is done, and never before: who hears of it asks Redis, and is to find the change. On one server a
//!    pipeline is done in order. In a cluster record and channel may be with two nodes, between which there is no order: there
//!    it is published once the change has been acknowledged, by one more trip.

use std::sync::Arc;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::doubts::Doubts;
use super::grace::GraceStore;
use super::known::{Known, Reading};
use super::near::NearStore;
use crate::clock::instant;
use crate::exchange::Note;
use crate::redis_pool::Link;
use crate::redis_pool::coherence::Coherence;
use crate::redis_pool::near::{Settings, Size, Tier, channel, trackable};
use crate::session::MemorySettings;

/// The memory of a process, shared by its workers.
#[derive(Debug)]
pub struct Remembered {
    bounds: Bounds,
    near: NearStore,
    grace: Arc<GraceStore>,
    doubts: Doubts,
}

/// What a memory is made for: the same after a reload, and it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Of the near tier.
    pub near: Settings,
    /// What the keys begin with of whose changes the near tier is told, each once.
    pub prefixes: Vec<Arc<str>>,
    /// Of what is believed while Redis is away.
    pub grace: MemorySettings,
}

impl Bounds {
    /// For sessions whose keys begin with `prefixes`, where limits are counted under `limits`.
    pub fn new(
        near: Settings,
        grace: MemorySettings,
        prefixes: impl IntoIterator<Item = impl Into<Arc<str>>>,
        limits: &str,
    ) -> Self {
        let used = near.enabled && near.max_session_bytes > 0;
        let mut prefixes: Vec<Arc<str>> = prefixes.into_iter().map(Into::into).collect();
        prefixes.retain(|prefix| used && trackable(prefix, limits));
        prefixes.sort_unstable();
        prefixes.dedup();
        Self { near, prefixes, grace }
    }
}

impl Remembered {
    /// An empty one within `bounds`, under the rules of `coherence`.
    pub fn new(bounds: Bounds, coherence: Arc<Coherence>) -> Arc<Self> {
        let grace = Arc::new(GraceStore::new(bounds.grace.max_bytes));
        Self::with(bounds, coherence, grace)
    }

    /// One for the same Redis, after a reload: what is believed while it is away stays, if its bound does; the near tier
    /// is empty.
    pub fn renewed(&self, bounds: Bounds, coherence: Arc<Coherence>) -> Arc<Self> {
        if bounds.grace != self.bounds.grace {
            return Self::new(bounds, coherence);
        }
        Self::with(bounds, coherence, self.grace.clone())
    }

    fn with(bounds: Bounds, coherence: Arc<Coherence>, grace: Arc<GraceStore>) -> Arc<Self> {
        Arc::new(Self { near: NearStore::new(&bounds.near, coherence), bounds, grace, doubts: Doubts::default() })
    }

    /// Whether changes of what lies under `prefix` are told (rule 4).
    pub fn hears_of(&self, prefix: &str) -> bool {
        self.bounds.prefixes.iter().any(|heard| &**heard == prefix)
    }

    /// Who is logged in, if Redis need not be asked.
    pub fn login(&self, key: &[u8], reading: &Arc<Reading>) -> Option<Arc<Known>> {
        self.near.login(key, reading, instant())
    }

    /// To be taken before Redis is asked about a key under a prefix that [is heard of](Self::hears_of).
    pub fn note(&self, key: &[u8]) -> Option<Note> {
        self.near.note(key)
    }

    /// Redis told of a login: remembers it near, under `note`; says `false` if a change came between.
    pub fn keep_near(&self, key: &[u8], note: Note, known: Known) -> bool {
        self.near.keep(key, note, known)
    }

    /// Redis told of a login: may be believed while Redis is away.
    pub fn keep_for_grace(&self, key: &[u8], known: Known) {
        self.grace.keep(key, known);
    }

    /// Who was logged in less than `grace` ago, now that Redis is away.
    pub fn believed(&self, key: &[u8], reading: &Arc<Reading>, grace: Duration) -> Option<Arc<Known>> {
        self.grace.login(key, reading, instant(), grace)
    }

    /// Has `changes` done, which are of the records under `keys`, forgets those, and tells the instances that share our `prefix`
    /// (rules 3 and 5); the answers to `changes`.
    ///
    /// # Errors
    /// As [`Link::query`]: what was to be done may have been done.
    pub async fn change(
        &self,
        link: &Link,
        prefix: &str,
        keys: &[&[u8]],
        mut changes: Pipeline,
    ) -> Result<Vec<Value>, &'static str> {
        let (count, mut news) = (changes.len(), Pipeline::new());
        let apart = link.is_cluster();
        for key in keys {
            self.announce(prefix, key, if apart { &mut news } else { &mut changes });
        }
        let answers = link.query(&changes).await;
        // Also where it is not known whether it was done: then Redis is asked again.
        keys.iter().for_each(|key| self.changed(key));
        // Who may not publish has changed them all the same.
        if answers.is_ok() {
            link.query(&news).await.ok();
        } else if !news.is_empty() {
            link.send(news);
        }
        let mut answers = answers?;
        answers.truncate(count);
        Ok(answers)
    }

    /// Adds, behind a change of the record under `key`, what tells the instances of it that share our `prefix` (rule 3).
    fn announce(&self, prefix: &str, key: &[u8], pipeline: &mut Pipeline) {
        let heard = || self.bounds.prefixes.iter().any(|heard| key.starts_with(heard.as_bytes()));
        if self.near.announces() && heard() {
            pipeline.cmd("PUBLISH").arg(channel(prefix)).arg(key);
        }
    }

    /// Whose record has changed, nobody knows how.
    pub fn doubts(&self) -> &Doubts {
        &self.doubts
    }

    /// There is no login under `key`, or it is not certain that there is.
    pub fn forget(&self, key: &[u8]) {
        self.near.forget(key);
        self.grace.forget(key, instant());
    }
}

impl Tier for Remembered {
    fn kind(&self) -> &'static str {
        "session"
    }

    fn prefixes(&self) -> &[Arc<str>] {
        &self.bounds.prefixes
    }

    fn changed(&self, key: &[u8]) {
        self.near.changed(key);
        if let Some(logins) = self.grace.forget(key, instant()) {
            self.doubts.add(key, logins);
        }
    }

    fn empty(&self) {
        if self.near.hears() {
            self.grace.clear(instant());
        }
        self.near.clear();
    }

    fn size(&self) -> Size {
        self.near.size()
    }
}

#[cfg(test)]
mod tests {
    use super::super::known::tests::{known, reading};
    use super::*;

    const GRACE: Duration = Duration::from_secs(60);

    fn remembered() -> (Arc<Coherence>, Arc<Remembered>, Arc<Reading>) {
        let coherence = Coherence::new();
        coherence.begin();
        let bounds = Bounds::new(Settings::default(), MemorySettings::default(), ["session:"], "sidegate:limit:");
        let (remembered, web) = (Remembered::new(bounds, coherence.clone()), reading("web", "plan"));
        let login = known(&web, "5", instant());
        assert!(remembered.keep_near(b"session:k", remembered.note(b"session:k").unwrap(), login.clone()));
        remembered.keep_for_grace(b"session:k", login);
        (coherence, remembered, web)
    }

    fn knows(remembered: &Remembered, web: &Arc<Reading>) -> (bool, bool) {
        let believed = remembered.believed(b"session:k", web, GRACE);
        (remembered.login(b"session:k", web).is_some(), believed.is_some())
    }

    #[test]
    fn the_loss_of_tracking_empties_the_near_tier_and_leaves_what_is_believed() {
        let (coherence, remembered, web) = remembered();
        assert_eq!(knows(&remembered, &web), (true, true));
        coherence.end();
        remembered.empty();
        assert_eq!((knows(&remembered, &web), remembered.size()), ((false, true), Size::default()));
        coherence.begin();
        assert_eq!(knows(&remembered, &web), (false, true));
        remembered.empty();
        assert_eq!(knows(&remembered, &web), (false, false), "flushed");
    }

    #[test]
    fn a_reload_keeps_what_is_believed_unless_its_own_bound_changes() {
        let (_, before, web) = remembered();
        let near = Settings { session_max_age: GRACE, ..Settings::default() };
        let renewed =
            |grace| before.renewed(Bounds::new(near, grace, ["session:"], "sidegate:limit:"), Coherence::new());
        assert_eq!(knows(&renewed(MemorySettings::default()), &web), (false, true));
        assert_eq!(knows(&renewed(MemorySettings { max_bytes: 1 << 20 }), &web), (false, false));
    }

    #[test]
    fn a_change_and_a_contradiction_are_heard_by_both() {
        for contradict in [Remembered::changed, Remembered::forget] {
            let (_, remembered, web) = remembered();
            contradict(&remembered, b"session:other");
            assert_eq!(knows(&remembered, &web), (true, true));
            contradict(&remembered, b"session:k");
            assert_eq!(knows(&remembered, &web), (false, false));
        }
    }

    #[test]
    fn nothing_is_remembered_near_of_whose_changes_nobody_tells() {
        let hears = |near: Settings, prefix: &str| {
            let bounds =
                Bounds::new(near, MemorySettings::default(), ["session:", "side", "session:"], "sidegate:limit:");
            Remembered::new(bounds, Coherence::new()).hears_of(prefix)
        };
        assert!(hears(Settings::default(), "session:"));
        assert!(!hears(Settings::default(), "side"), "limits are counted under it");
        assert!(!hears(Settings { enabled: false, ..Settings::default() }, "session:"));
        assert!(!hears(Settings { max_session_bytes: 0, ..Settings::default() }, "session:"));
    }
}
