//! What the near tiers of a process have in common: their bounds, what they are told, what is counted of them.
//!
//! A *near tier* remembers in this process what Redis said (session records, clients' plans, stored responses), so that a
//! hot request asks nothing. How it may be used stands in [`coherence`](super::coherence); who tells it of changes in
//! `tracking`.
//!
//! 1. A tier is bounded by bytes, and each entry by a maximum age besides what its own content says.
//! 2. Told by *tracking*, a tier hears of every change, whoever made it. Told by *pub/sub* it hears only of what sidegate
//!    itself invalidates; the maximum age bounds the rest, and that of session records and plans is shorter.
//! 3. A prefix under which limits are counted is not tracked: each request would be a message to each instance. What is
//!    remembered under it would go stale unnoticed, so nothing is.

use std::sync::Arc;
use std::time::Duration;

use crate::telemetry::registry::{Counter, Registry};

/// `[near]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Off: nothing is remembered, and no connection is made for it.
    pub enabled: bool,
    /// Bytes of stored responses, at most; 0: none.
    pub max_response_bytes: u64,
    /// Bytes of session records, at most; 0: none.
    pub max_session_bytes: u64,
    /// Bytes of clients' plans, at most, what was known of them last included; 0: none.
    pub max_plan_bytes: u64,
    /// How long a stored response may be remembered, at most; its freshness may end sooner.
    pub response_max_age: Duration,
    /// How long a session record may be remembered, at most, while every change is told.
    pub session_max_age: Duration,
    /// The same while only our own invalidations are told ([`Mode::PubSub`]).
    pub untracked_session_max_age: Duration,
    /// How long a client's plan may count without being read again, at most, while every change is told.
    pub plan_max_age: Duration,
    /// The same while only our own invalidations are told ([`Mode::PubSub`]).
    pub untracked_plan_max_age: Duration,
    /// How often Redis is asked whether it is still there.
    pub ping: Duration,
    /// How long Redis may say nothing; longer: the connection counts as lost.
    pub silence: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            enabled: true,
            max_response_bytes: 64 << 20,
            max_session_bytes: 16 << 20,
            max_plan_bytes: 16 << 20,
            response_max_age: Duration::from_secs(60),
            session_max_age: Duration::from_secs(5),
            untracked_session_max_age: Duration::from_secs(1),
            plan_max_age: Duration::from_secs(60),
            untracked_plan_max_age: Duration::from_secs(1),
            ping: Duration::from_secs(1),
            silence: Duration::from_secs(2),
        }
    }
}

impl Settings {
    /// How long a session record may be remembered, at most, in an era of `mode`.
    pub fn session_age(&self, mode: Mode) -> Duration {
        match mode {
            Mode::Tracking => self.session_max_age,
            Mode::PubSub => self.session_max_age.min(self.untracked_session_max_age),
        }
    }

    /// How long a client's plan may count without being read again, at most, in an era of `mode`.
    pub fn plan_age(&self, mode: Mode) -> Duration {
        match mode {
            Mode::Tracking => self.plan_max_age,
            Mode::PubSub => self.plan_max_age.min(self.untracked_plan_max_age),
        }
    }
}

/// How changes are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// By Redis, whoever made them (`CLIENT TRACKING`, RESP3).
    #[default]
    Tracking,
    /// By whoever of us invalidates ([`channel`]); changes made by others are not told.
    PubSub,
}

impl Mode {
    /// For logs, metrics and `check`.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tracking => "tracking",
            Self::PubSub => "pub/sub",
        }
    }
}

/// The channel on which the name of each invalidated key is published while [`Coherence::announces`] says so: behind the
/// change, in one pipeline with it. Redis writes last to who asked first: when both are acknowledged the news is there.
///
/// [`Coherence::announces`]: super::coherence::Coherence::announces
pub fn channel(prefix: &str) -> String {
    format!("{prefix}invalidate")
}

/// Something that remembers, in this process, what Redis said. Told by the tracking's own thread.
pub trait Tier: Send + Sync {
    /// What it is called in metrics: `response`, `session`, `plan`.
    fn kind(&self) -> &'static str;

    /// What the keys begin with that it remembers something about. Always the same.
    fn prefixes(&self) -> &[Arc<str>];

    /// `key`, which begins with one of the prefixes, has changed or is gone: forgets what it says, through
    /// [`Coherence::changed`](super::coherence::Coherence::changed), before it returns. May be told of any key, also of
    /// one that it knows nothing about, and must not take time for it.
    fn changed(&self, key: &[u8]);

    /// Lets go of everything: the era in which it was remembered has ended.
    fn empty(&self);

    /// What it holds now.
    fn size(&self) -> Size;
}

/// What a tier holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Entries.
    pub entries: u64,
    /// Bytes, as they are counted against the tier's bound.
    pub bytes: u64,
}

/// What one worker counts of one tier.
pub struct Counts {
    hits: Counter,
    misses: Counter,
    races: Counter,
}

impl Counts {
    /// Of the tier of this kind ([`Tier::kind`]), on `worker`.
    pub fn new(registry: &Registry, worker: usize, kind: &'static str) -> Self {
        let counter = |name, help| registry.counter(worker, name, help, &[("kind", kind)]);
        Self {
            hits: counter(
                "sidegate_near_hits_total",
                "Questions that the near tier answered, so that Redis was not asked.",
            ),
            misses: counter("sidegate_near_misses_total", "Questions that the near tier could not answer."),
            races: counter(
                "sidegate_near_races_total",
                "Answers of Redis that the near tier did not keep, because something changed while they were on their way.",
            ),
        }
    }

    /// The tier answered.
    pub fn hit(&self) {
        self.hits.inc();
    }

    /// Redis is asked.
    pub fn missed(&self) {
        self.misses.inc();
    }

    /// [`Coherence::keep`](super::coherence::Coherence::keep) refused what Redis said.
    pub fn raced(&self) {
        self.races.inc();
    }
}

/// Whether what lies under `tier` can be told of, where limits are counted under `limits`.
pub fn trackable(tier: &str, limits: &str) -> bool {
    !limits.starts_with(tier)
}

/// The fewest prefixes that cover all of `prefixes`, in order: Redis refuses those that overlap.
pub fn covering<'p>(prefixes: impl IntoIterator<Item = &'p str>) -> Vec<&'p str> {
    let mut sorted: Vec<&str> = prefixes.into_iter().collect();
    // What begins with another stands somewhere after it, with nothing between but what begins with it as well.
    sorted.sort_unstable();
    let mut kept: Vec<&str> = Vec::new();
    for prefix in sorted {
        if !kept.last().is_some_and(|before| prefix.starts_with(before)) {
            kept.push(prefix);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_overlapping_prefixes_the_shortest_is_kept() {
        assert_eq!(covering(["sess:", "sidegate:cache:", "sess:web:", "sess:"]), ["sess:", "sidegate:cache:"]);
        assert_eq!(covering(["b", "a", "ab", "aa", "a"]), ["a", "b"]);
        assert!(covering([]).is_empty());
    }

    #[test]
    fn what_covers_the_limits_cannot_be_tracked() {
        let limits = "sidegate:limit:";
        assert!(["", "s", "sidegate:", "sidegate:limit:"].iter().all(|tier| !trackable(tier, limits)));
        assert!(["sess:", "sidegate:cache:", "sidegate:limit:x"].iter().all(|tier| trackable(tier, limits)));
    }

    #[test]
    fn session_records_are_kept_shorter_where_only_our_own_changes_are_told() {
        let settings = Settings::default();
        assert!(settings.session_age(Mode::PubSub) < settings.session_age(Mode::Tracking));
        let shorter = Settings { session_max_age: Duration::from_millis(1), ..settings };
        assert_eq!(shorter.session_age(Mode::PubSub), Duration::from_millis(1));
    }
}
