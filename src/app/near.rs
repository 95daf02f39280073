//! What this process remembers of Redis, and who tells it of changes.
//!
//! 1. All of it, tiers and tracking, is made for one `[redis]`, one `[near]` and one set of prefixes. A reload that changes
//!    none of them keeps the connection and what is remembered; any other begins anew, with nothing remembered but what
//!    counts while Redis is away, if it is the same Redis.
//! 2. The tiers of a new configuration have a [`Coherence`] of their own, and no era before their tracking has started: what
//!    a worker prepares is not used on the word of the tracking that tells the old ones.
//! 3. The old tracking has ended before the new one starts: both count in the same place.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::cache::store::NearStore;
use crate::config::settings::Settings;
use crate::rate_limit::plan;
use crate::redis_pool;
use crate::redis_pool::coherence::Coherence;
use crate::redis_pool::near::{self, Tier};
use crate::redis_pool::tracking::{Terms, Tracking};
use crate::session::store::remembered::{Bounds, Remembered};
use crate::telemetry::registry::Registry;

/// The near tiers of a configuration.
pub struct Near {
    made_for: MadeFor,
    coherence: Arc<Coherence>,
    /// Stored responses; `None`: none are remembered.
    pub responses: Option<Arc<NearStore>>,
    /// Session records.
    pub sessions: Arc<Remembered>,
    /// Clients' plans.
    pub plans: Arc<plan::Remembered>,
    tracking: Mutex<Option<Tracking>>,
}

#[derive(Clone, PartialEq)]
struct MadeFor {
    redis: Option<redis_pool::Settings>,
    near: near::Settings,
    /// Some route stores responses.
    caches: bool,
    sessions: Bounds,
    plans: plan::Bounds,
}

impl MadeFor {
    fn new(settings: &Settings) -> Self {
        let prefixes = session_prefixes(settings);
        let plans = plan_prefixes(settings);
        let plans = plan::Bounds::new(settings.near, plans.iter().map(String::as_str), &limits(settings));
        Self {
            redis: settings.redis.clone(),
            near: settings.near,
            caches: settings.routes.iter().any(|route| route.cache.is_some()),
            sessions: Bounds::new(settings.near, settings.memory.sessions, prefixes, &limits(settings)),
            plans,
        }
    }
}

impl Near {
    /// Of `settings`, with nothing remembered.
    pub fn new(settings: &Settings) -> Arc<Self> {
        Self::made_for(MadeFor::new(settings), None)
    }

    fn made_for(made_for: MadeFor, before: Option<&Self>) -> Arc<Self> {
        let coherence = Coherence::new();
        let redis = made_for.redis.as_ref().filter(|_| made_for.caches);
        let responses = redis.and_then(|redis| NearStore::new(&made_for.near, coherence.clone(), &redis.prefix));
        let (bounds, of_their_own) = (made_for.sessions.clone(), coherence.clone());
        let sessions = match before {
            Some(before) => before.sessions.renewed(bounds, of_their_own),
            None => Remembered::new(bounds, of_their_own),
        };
        let (bounds, of_their_own) = (made_for.plans.clone(), coherence.clone());
        let plans = match before {
            Some(before) => before.plans.renewed(bounds, of_their_own),
            None => plan::Remembered::new(bounds, of_their_own),
        };
        Arc::new(Self { made_for, coherence, responses, sessions, plans, tracking: Mutex::default() })
    }

    /// The one for `settings`: itself, if it was made for the same.
    pub fn within(self: &Arc<Self>, settings: &Settings) -> Arc<Self> {
        let mut made_for = MadeFor::new(settings);
        if made_for == self.made_for {
            return self.clone();
        }
        if made_for.redis == self.made_for.redis {
            // Links are kept, and tell of other masters through what they were made with.
            made_for.redis.clone_from(&self.made_for.redis);
        }
        // What counts while Redis is away is what this Redis said.
        let server = |made_for: &MadeFor| made_for.redis.clone().map(|redis| redis.server);
        let before = (server(&made_for) == server(&self.made_for)).then_some(&**self);
        Self::made_for(made_for, before)
    }

    /// Begins to be told of changes, if there is anything to remember; `writer` is the slot of `registry` for what is
    /// counted of them.
    pub fn start(&self, registry: &Arc<Registry>, writer: usize) {
        let MadeFor { redis: Some(redis), near, sessions, .. } = &self.made_for else { return };
        let plans = (!self.plans.prefixes().is_empty()).then(|| self.plans.clone() as Arc<dyn Tier>);
        let responses = self.responses.clone().map(|responses| responses as Arc<dyn Tier>);
        let sessions = (!sessions.prefixes.is_empty()).then(|| self.sessions.clone() as Arc<dyn Tier>);
        let tiers: Vec<_> = responses.into_iter().chain(sessions).chain(plans).collect();
        if tiers.is_empty() {
            return;
        }
        let terms = Terms { redis: redis.clone(), near: *near, tiers, coherence: self.coherence.clone() };
        match Tracking::start(terms, registry.clone(), writer) {
            Ok(tracking) => *self.tracking.lock() = Some(tracking),
            Err(error) => tracing::error!(%error, "no thread to be told of changes in: nothing is remembered near"),
        }
    }

    /// Is told no more; nothing that is remembered counts from now on.
    pub fn stop(&self) {
        drop(self.tracking.lock().take());
    }
}

/// The prefixes of what is remembered near by `settings`; empty: nothing is.
pub fn prefixes(settings: &Settings) -> Vec<Arc<str>> {
    let near = Near::new(settings);
    let responses = near.responses.iter().flat_map(|responses| responses.prefixes());
    responses.chain(near.sessions.prefixes()).chain(near.plans.prefixes()).cloned().collect()
}

/// What cannot be remembered near, because limits are counted under the same prefix: `sessions` or `plans`, and the prefix.
pub fn untrackable(settings: &Settings) -> Vec<(&'static str, String)> {
    let limits = limits(settings);
    let used = |bytes: u64| settings.redis.is_some() && settings.near.enabled && bytes > 0;
    let sessions = session_prefixes(settings).filter(|_| used(settings.near.max_session_bytes));
    let plans = plan_prefixes(settings).into_iter().filter(|_| used(settings.near.max_plan_bytes));
    let all = sessions.map(|prefix| ("sessions", prefix.to_owned())).chain(plans.map(|prefix| ("plans", prefix)));
    let mut untold: Vec<_> = all.filter(|(_, prefix)| !near::trackable(prefix, &limits)).collect();
    untold.sort_unstable();
    untold.dedup();
    untold
}

/// Says what cannot be remembered near.
pub fn warn(settings: &Settings) {
    for (what, prefix) in untrackable(settings) {
        tracing::warn!(prefix, "{what} under this prefix are not remembered near: limits are counted under it");
    }
}

fn session_prefixes(settings: &Settings) -> impl Iterator<Item = &str> {
    settings.routes.iter().flat_map(|route| &route.session).map(|session| session.definition.prefix.as_str())
}

fn plan_prefixes(settings: &Settings) -> Vec<String> {
    let plans = settings.routes.iter().flat_map(|route| &route.limits).flat_map(|limit| &limit.plan);
    plans.map(|plan| plan::Name::new(&plan.record).beginning().to_owned()).collect()
}

fn limits(settings: &Settings) -> String {
    [settings.redis.as_ref().map_or("", |redis| &redis.prefix), "limit:"].concat()
}
