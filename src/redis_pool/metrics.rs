//! What a worker counts about Redis.

use std::cell::OnceCell;
use std::sync::Arc;

use crate::telemetry::registry::{Counter, Gauge, Registry};

use super::fault::Fault;

/// The family of [`Metrics::breaker`].
const BREAKER: &str = "sidegate_redis_breaker_state";

/// Passing.
pub(super) const CLOSED: u64 = 0;
/// One trial.
pub(super) const HALF_OPEN: u64 = 1;
/// Refusing.
pub(super) const OPEN: u64 = 2;

/// One worker's counters.
pub(super) struct Metrics {
    /// Trips begun.
    pub(super) trips: Counter,
    /// Commands sent, those sent again left out.
    pub(super) commands: Counter,
    /// Pipelines nobody waits for that were not sent.
    pub(super) dropped: Counter,
    /// Changes of the masters, or of what they serve, that were followed.
    pub(super) moves: Counter,
    /// Connections that answer.
    pub(super) up: Gauge,
    errors: [OnceCell<Counter>; Fault::ALL.len()],
    registry: Arc<Registry>,
    worker: usize,
}

impl Metrics {
    /// The slots of `worker`.
    pub(super) fn new(registry: &Arc<Registry>, worker: usize) -> Self {
        let counter = |name, help| registry.counter(worker, name, help, &[]);
        Self {
            trips: counter("sidegate_redis_round_trips_total", "Round trips to Redis."),
            commands: counter("sidegate_redis_commands_total", "Commands sent to Redis."),
            dropped: counter(
                "sidegate_redis_sends_dropped_total",
                "Pipelines nobody waits for that were not sent, because Redis was away or too much was unanswered.",
            ),
            moves: counter(
                "sidegate_redis_topology_changes_total",
                "Times that a worker found another master, or slots of a cluster with other masters.",
            ),
            up: registry.gauge(worker, "sidegate_redis_up", "Connections to Redis that answer.", &[]),
            errors: Default::default(),
            registry: registry.clone(),
            worker,
        }
    }

    /// Counts a fault.
    pub(super) fn error(&self, fault: Fault) {
        let make = || {
            let help = "Trips to Redis, commands, or attempts to connect that failed.";
            self.registry.counter(self.worker, "sidegate_redis_errors_total", help, &[("kind", fault.word())])
        };
        self.errors[fault as usize].get_or_init(make).inc();
    }

    /// Shows the breaker of one endpoint.
    pub(super) fn breaker(&self, endpoint: &str) -> BreakerState {
        let help = "0: closed (passing), 1: half-open, 2: open (refusing); of the worker that is worst off.";
        let gauge = self.registry.worst(self.worker, BREAKER, help, &[("endpoint", endpoint)]);
        BreakerState { gauge: Some(gauge), registry: self.registry.clone() }
    }
}

/// The state of the breaker of one endpoint. It is shown for as long as any worker has it: no label outlives what it names.
pub(super) struct BreakerState {
    gauge: Option<Gauge>,
    registry: Arc<Registry>,
}

impl BreakerState {
    /// From now on it is [`CLOSED`], [`HALF_OPEN`] or [`OPEN`].
    pub(super) fn set(&self, state: u64) {
        if let Some(gauge) = &self.gauge {
            gauge.set(state);
        }
    }
}

impl Drop for BreakerState {
    fn drop(&mut self) {
        self.gauge = None;
        self.registry.forget_unused(BREAKER);
    }
}
