//! What all workers share, and what outlives a reload.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::near::Near;
use super::rosters::Rosters;
use crate::clock::Clock;
use crate::config::settings::{MemorySettings, Settings};
use crate::listener::admission::{Admission, Bounds};
use crate::rate_limit::lease::Leases;
use crate::rate_limit::refusals::Refusals;
use crate::rate_limit::top::Tops;
use crate::redis_pool::fleet::Fleet;
use crate::telemetry::registry::Registry;
use crate::telemetry::sink::Sink;
use crate::{admin, cache, rate_limit, redis_pool, session};

/// What all workers share.
pub struct Shared {
    /// The time.
    pub clock: Clock,
    /// Every counter.
    pub registry: Arc<Registry>,
    /// Where access-log lines go; `None`: nowhere.
    pub sink: Option<Sink>,
    /// What probes are told.
    pub health: Arc<admin::Health>,
    /// Open connections.
    pub admission: Arc<Admission>,
    /// Session records in process memory: the demo's, or those that sidegate issues; used where there is no Redis.
    pub sessions: Arc<session::store::memory::MemoryStore>,
    /// What has been done for sessions lately.
    pub sightings: Arc<session::sightings::Done>,
    /// Turns true when the process is to stop.
    pub draining: watch::Sender<bool>,
    /// What is known of the apps' endpoints.
    pub rosters: Rosters,
    /// This instance and the others.
    pub fleet: Arc<Fleet>,
    /// Requests in flight under limits.
    pub in_flight: Arc<rate_limit::in_flight::Counts>,
    /// Requests that a limit has wait for their turn.
    pub waiting: Arc<AtomicUsize>,
    /// Worker threads.
    pub workers: usize,
    stores: Mutex<Stores>,
    redis: Mutex<BTreeMap<usize, Arc<AtomicU8>>>,
}

/// The stores in process memory.
#[derive(Clone)]
pub struct Stores {
    bounds: MemorySettings,
    /// Counters of limits.
    pub limits: Arc<rate_limit::store::memory::MemoryStore>,
    /// Who is refused most.
    pub tops: Arc<Tops>,
    /// Units of limits that were taken ahead.
    pub leases: Arc<Leases>,
    /// Refusals of limits that are remembered.
    pub refusals: Arc<Refusals>,
    /// From where, and for how long.
    leased: Arc<(Option<redis_pool::Settings>, Duration)>,
    /// Stored responses.
    pub responses: Arc<cache::store::MemoryStore>,
    /// What compressing may take.
    pub coders: cache::encode::Places,
    /// Fills and refreshes.
    pub under_way: Arc<cache::UnderWay>,
    /// Fetches that others may join.
    pub flights: Arc<cache::Flights>,
    /// Invalidations that Redis could not be told.
    pub owed: Arc<cache::store::Owed>,
    /// What has been seen of purged tags.
    pub marks: Arc<cache::store::Marks>,
    /// What is remembered of Redis.
    pub near: Arc<Near>,
}

impl Stores {
    fn new(settings: &Settings) -> Self {
        let bounds = settings.memory;
        let under_way = cache::UnderWay::new(bounds.cache.max_filling);
        // What is remembered of flights is a small part of what is remembered of responses.
        let flights = cache::Flights::new(under_way.clone(), bounds.cache.max_bytes / 64);
        let owed = cache::store::Owed::new();
        owed.rebound(bounds.owed.max_places);
        Self {
            bounds,
            limits: rate_limit::store::memory::MemoryStore::new(bounds.limits),
            tops: Tops::new(settings.limits.top),
            leases: Leases::new(bounds.limits),
            refusals: Refusals::new(bounds.limits),
            leased: Arc::new((settings.redis.clone(), settings.limits.lease)),
            responses: cache::store::MemoryStore::new(bounds.cache),
            coders: cache::encode::Places::new(bounds.coders),
            under_way,
            flights,
            owed,
            marks: Arc::default(),
            near: Near::new(settings),
        }
    }

    /// Stores for `settings`: those there are, where their bounds did not change.
    fn within(&self, settings: &Settings) -> Self {
        let (bounds, new) = (settings.memory, Self::new(settings));
        let same_limits = bounds.limits == self.bounds.limits;
        // What was taken from one Redis is nothing to another.
        let same_leases = same_limits && new.leased == self.leased;
        Self {
            bounds,
            limits: if same_limits { self.limits.clone() } else { new.limits },
            tops: if self.tops.room() == new.tops.room() { self.tops.clone() } else { new.tops },
            leases: if same_leases { self.leases.clone() } else { new.leases },
            refusals: if same_leases { self.refusals.clone() } else { new.refusals },
            leased: new.leased,
            responses: if bounds.cache == self.bounds.cache { self.responses.clone() } else { new.responses },
            coders: if bounds.coders == self.bounds.coders { self.coders.clone() } else { new.coders },
            under_way: if bounds.cache == self.bounds.cache { self.under_way.clone() } else { new.under_way },
            flights: if bounds.cache == self.bounds.cache { self.flights.clone() } else { new.flights },
            owed: self.owed.clone(),
            marks: self.marks.clone(),
            near: self.near.within(settings),
        }
    }
}

impl Shared {
    /// For a process that starts with `settings`, and has room for connections within `bounds`.
    pub fn new(
        settings: &Settings,
        bounds: Bounds,
        sink: Option<Sink>,
        sessions: Option<Arc<session::store::memory::MemoryStore>>,
    ) -> Arc<Self> {
        let server = &settings.server;
        let sightings = Arc::<session::sightings::Done>::default();
        sightings.rebound(settings.memory.recent.max_keys);
        Arc::new(Self {
            clock: Clock::System,
            // One writer more than workers: the thread that reloads.
            registry: Registry::new(server.workers + 1),
            sink,
            health: admin::Health::new(),
            admission: Admission::new(bounds),
            sessions: sessions.unwrap_or_else(|| {
                session::store::memory::MemoryStore::new(Clock::System, settings.memory.issued.max_bytes)
            }),
            sightings,
            draining: watch::Sender::new(false),
            workers: server.workers,
            stores: Mutex::new(Stores::new(settings)),
            rosters: Rosters::default(),
            fleet: Fleet::new(),
            in_flight: rate_limit::in_flight::Counts::new(),
            waiting: Arc::default(),
            redis: Mutex::default(),
        })
    }

    /// The stores now in force.
    pub fn stores(&self) -> Stores {
        self.stores.lock().clone()
    }

    /// Stores for `settings`: not in force until [`Shared::adopt`].
    pub fn stores_for(&self, settings: &Settings) -> Stores {
        self.stores.lock().within(settings)
    }

    /// Puts `stores` in force.
    pub fn adopt(&self, stores: Stores) {
        let (old, new) = (self.stores().near, stores.near.clone());
        self.sessions.rebound(stores.bounds.issued.max_bytes);
        self.sightings.rebound(stores.bounds.recent.max_keys);
        stores.owed.rebound(stores.bounds.owed.max_places);
        *self.stores.lock() = stores;
        if !Arc::ptr_eq(&old, &new) {
            old.stop();
            new.start(&self.registry, self.workers);
        }
    }

    /// Begins to be told of what changes in Redis.
    pub fn track(&self) {
        self.stores().near.start(&self.registry, self.workers);
    }

    /// Tells probes what `worker` sees of Redis; `None`: it has none.
    pub fn show_redis(&self, worker: usize, state: Option<Arc<AtomicU8>>) {
        let mut states = self.redis.lock();
        match state {
            Some(state) => states.insert(worker, state),
            None => states.remove(&worker),
        };
        self.health.set_redis(states.values().cloned().collect());
    }

    /// Shows when the first of the certificates of `settings` expires.
    pub fn show_certificates(&self, settings: &Settings) {
        let ours = settings.server.tls.iter().flat_map(|tls| &tls.settings.certificates);
        let shown_to_apps =
            settings.upstreams.iter().flat_map(|app| &app.tls).flat_map(|tls| &tls.settings.certificate);
        let first = ours.chain(shown_to_apps).map(|certificate| certificate.end()).min();
        let help = "Unix time at which the first of the certificates in use expires; 0: there are none.";
        let gauge = self.registry.gauge(self.workers, "sidegate_tls_certificate_expiry_seconds", help, &[]);
        gauge.set(first.and_then(|second| u64::try_from(second).ok()).unwrap_or(0));
    }

    /// Tells probes what to say about the apps of `settings`.
    pub fn show_upstreams(&self, settings: &Settings) {
        let apps = settings.upstreams.iter().map(|upstream| {
            let servers: Vec<String> = upstream.servers.iter().map(ToString::to_string).collect();
            (upstream.name.clone(), servers, self.rosters.of(upstream, &self.registry, self.workers))
        });
        let apps: Vec<_> = apps.collect();
        let probe = move || {
            let shown = apps.iter().map(|(name, servers, roster)| {
                let failing = roster.health.failing();
                let state = failing.map_or_else(|| "answering".into(), |error| format!("failing: {error}"));
                let endpoints = roster.endpoints();
                let endpoints = endpoints.iter().map(|endpoint| (endpoint.label.clone(), endpoint.state().into()));
                let endpoints = serde_json::Value::Object(endpoints.collect());
                (name.to_string(), serde_json::json!({ "servers": servers, "state": state, "endpoints": endpoints }))
            });
            ("upstreams".to_owned(), serde_json::Value::Object(shown.collect()))
        };
        self.health.set_probes(vec![Box::new(probe)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(memory: &str) -> Settings {
        let text = format!("[memory]\n{memory}\n[upstream.app]\nservers = [\"http://a:1\"]\n");
        crate::config::parse("sidegate.toml", &text, &|_| None).unwrap().settings
    }

    #[test]
    fn what_is_owed_is_bounded_as_configured_and_a_reload_takes_nothing_of_it_back() {
        let bounds = Bounds { all: 1, per_address: 1, ipv6_prefix: 64 };
        let shared = Shared::new(&settings("owed_invalidations = 1"), bounds, None, None);
        let owed = shared.stores().owed;
        owed.add(&["a".to_owned()]);
        assert!(owed.covers("a") && !owed.covers("other"));
        let more = shared.stores_for(&settings("owed_invalidations = 2"));
        shared.adopt(more);
        assert!(shared.stores().owed.covers("a"), "still owed");
        owed.add(&["b".to_owned()]);
        assert!(owed.covers("b") && !owed.covers("other"));
        owed.add(&["c".to_owned()]);
        assert!(owed.covers("other"), "beyond the bound everything is owed");
    }
}
