//! A worker's way to Redis: one trip, bounded in time, never a wait for a Redis that is known to be away.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use redis::Value;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::telemetry::registry::{Counter, Gauge, Registry};

use super::address::Topology;
use super::lease::{Lane, Report};
use super::{Settings, connect};

/// [`Link::shared_state`]: no connection has been made yet.
pub const CONNECTING: u8 = 0;
/// [`Link::shared_state`]: Redis answers.
pub const UP: u8 = 1;
/// [`Link::shared_state`]: Redis is away.
pub const DOWN: u8 = 2;

/// What is sent without waiting and not yet answered, at most.
const OUTSTANDING: usize = 1024;

/// A worker's way to Redis; clones share it, and it ends with the last of them.
#[derive(Clone)]
pub struct Link(Rc<Kept>);

/// Ends the tasks with the last clone.
struct Kept {
    shared: Rc<Shared>,
    tasks: Vec<AbortHandle>,
}

struct Shared {
    lanes: Box<[Rc<Lane>]>,
    scripts: Box<[&'static str]>,
    next: Cell<usize>,
    outstanding: Cell<usize>,
    connected: Cell<u32>,
    state: Arc<AtomicU8>,
    up: watch::Sender<bool>,
    /// For the log.
    url: String,
    worker: usize,
    metrics: Metrics,
}

struct Metrics {
    registry: Arc<Registry>,
    worker: usize,
    trips: Counter,
    dropped: Counter,
    up: Gauge,
    errors: RefCell<HashMap<&'static str, Counter>>,
}

impl Link {
    /// A link as `settings` say, for use on this thread alone. Returns at once; Redis need not be there.
    ///
    /// `scripts` are the Lua texts that pipelines will call by `EVALSHA`. To be called inside a `LocalRuntime`.
    pub fn new(settings: &Settings, scripts: &[&'static str], registry: &Arc<Registry>, worker: usize) -> Self {
        let lanes: Box<[_]> = (0..settings.connections.max(1)).map(|_| Rc::new(Lane::default())).collect();
        let shared = Rc::new(Shared {
            lanes,
            scripts: scripts.into(),
            next: Cell::new(0),
            outstanding: Cell::new(0),
            connected: Cell::new(0),
            state: Arc::new(AtomicU8::new(CONNECTING)),
            up: watch::Sender::new(false),
            url: settings.shown(),
            worker,
            metrics: Metrics::new(registry, worker),
        });
        let Topology::Single(endpoint) = settings.server.topology.clone() else {
            shared.failed("topology");
            return Self(Rc::new(Kept { shared, tasks: Vec::new() }));
        };
        let pool = connect::pool(endpoint, settings, scripts);
        let keep = |lane: &Rc<Lane>| lane.clone().keep(pool.clone(), shared.clone());
        let tasks = shared.lanes.iter().map(|lane| tokio::task::spawn_local(keep(lane)).abort_handle()).collect();
        Self(Rc::new(Kept { shared, tasks }))
    }

    /// Sends `pipeline` and waits for its answers, at most the configured time-out: one value for each command, a
    /// command's own failure being `redis::Value::ServerError`. Of a transaction: what EXEC answered.
    ///
    /// # Errors
    /// A word for logs and metrics (`down`, `timeout`, `disconnected` …) if Redis could not be asked or did not answer.
    /// What was sent may have been done all the same.
    pub async fn query(&self, pipeline: &redis::Pipeline) -> Result<Vec<Value>, &'static str> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let shared = &*self.0.shared;
        let Some(lane) = shared.pick() else {
            shared.metrics.error("down");
            return Err("down");
        };
        shared.metrics.trips.inc();
        let answer = lane.trip(pipeline, &shared.scripts).await;
        if let Err(reason) = answer {
            shared.metrics.error(reason);
        }
        answer
    }

    /// Sends `pipeline` without waiting. It is dropped, and counted as dropped, if Redis is away or 1024 are unanswered.
    pub fn send(&self, pipeline: redis::Pipeline) {
        let shared = &self.0.shared;
        if !self.is_up() || shared.outstanding.get() >= OUTSTANDING {
            return shared.metrics.dropped.inc();
        }
        shared.outstanding.set(shared.outstanding.get() + 1);
        let link = self.clone();
        tokio::task::spawn_local(async move {
            let _ = link.query(&pipeline).await;
            let outstanding = &link.0.shared.outstanding;
            outstanding.set(outstanding.get() - 1);
        });
    }

    /// Whether Redis answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.0.shared.lanes.iter().any(|lane| lane.is_up())
    }

    /// [`CONNECTING`], [`UP`] or [`DOWN`], for other threads to read.
    pub fn shared_state(&self) -> Arc<AtomicU8> {
        self.0.shared.state.clone()
    }

    /// Tells when Redis goes (`false`) and comes back (`true`).
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.shared.up.subscribe()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        (0..self.shared.connected.get()).for_each(|_| self.shared.metrics.up.dec());
        self.shared.state.store(DOWN, Ordering::Relaxed);
    }
}

impl Shared {
    /// The next connection that is up, in turn.
    fn pick(&self) -> Option<&Lane> {
        let lanes = &self.lanes;
        let start = self.next.get();
        let index = (0..lanes.len()).map(|step| (start + step) % lanes.len()).find(|&index| lanes[index].is_up())?;
        self.next.set((index + 1) % lanes.len());
        Some(&lanes[index])
    }

    fn turn(&self, state: u8) -> bool {
        self.up.send_replace(state == UP);
        self.state.swap(state, Ordering::Relaxed) != state
    }
}

impl Report for Shared {
    fn rose(&self) {
        self.connected.set(self.connected.get() + 1);
        self.metrics.up.inc();
        if self.connected.get() == 1 && self.turn(UP) {
            tracing::info!(url = %self.url, worker = self.worker, "Redis answers");
        }
    }

    fn fell(&self, reason: &'static str) {
        self.connected.set(self.connected.get().saturating_sub(1));
        self.metrics.up.dec();
        if self.connected.get() == 0 && self.turn(DOWN) {
            tracing::warn!(url = %self.url, worker = self.worker, reason, "Redis is away");
        }
    }

    fn failed(&self, reason: &'static str) {
        self.metrics.error(reason);
        if self.connected.get() == 0 && self.turn(DOWN) {
            tracing::warn!(url = %self.url, worker = self.worker, reason, "Redis is away");
        }
    }
}

impl Metrics {
    fn new(registry: &Arc<Registry>, worker: usize) -> Self {
        let counter = |name, help| registry.counter(worker, name, help, &[]);
        Self {
            trips: counter("sidegate_redis_round_trips_total", "Round trips to Redis."),
            dropped: counter(
                "sidegate_redis_sends_dropped_total",
                "Pipelines nobody waits for that were not sent, because Redis was away or too many were unanswered.",
            ),
            up: registry.gauge(worker, "sidegate_redis_up", "Connections to Redis that answer.", &[]),
            errors: RefCell::default(),
            registry: registry.clone(),
            worker,
        }
    }

    fn error(&self, kind: &'static str) {
        let make = || {
            let help = "Trips to Redis, or attempts to connect, that failed.";
            self.registry.counter(self.worker, "sidegate_redis_errors_total", help, &[("kind", kind)])
        };
        self.errors.borrow_mut().entry(kind).or_insert_with(make).inc();
    }
}
