//! How a link stands: what its nodes tell it, for the rooms, for other threads, for the log and the metrics.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::sync::watch;

use crate::clock::instant;
use crate::telemetry::registry::Registry;

use super::absence::Absence;
use super::complaints::Complaints;
use super::fault::{Effect, Fault};
use super::metrics::Metrics;
use super::topology::Changes;
use super::{CONNECTING, DOWN, NO_DATABASE, UP};

/// How a link stands.
pub(super) struct Standing {
    /// Counters.
    pub(super) metrics: Metrics,
    state: Arc<AtomicU8>,
    up: watch::Sender<bool>,
    /// Nodes whose breaker is closed.
    closed: Cell<usize>,
    of_absence: RefCell<Complaints>,
    of_commands: RefCell<Complaints>,
    /// The log's last word is that Redis is away.
    said_away: Cell<bool>,
    redirected: Cell<bool>,
    /// Whose standing it is, for the log.
    whose: &'static str,
    worker: usize,
}

impl Standing {
    /// Of a link that has no connection yet.
    pub(super) fn new(registry: &Arc<Registry>, worker: usize) -> Self {
        Self::of("Redis", registry, worker)
    }

    /// Of replicas alone; none has a connection yet.
    pub(super) fn of_replicas(registry: &Arc<Registry>, worker: usize) -> Self {
        Self::of("a replica of Redis", registry, worker)
    }

    fn of(whose: &'static str, registry: &Arc<Registry>, worker: usize) -> Self {
        Self {
            metrics: Metrics::new(registry, worker),
            state: Arc::new(AtomicU8::new(CONNECTING)),
            up: watch::Sender::new(false),
            closed: Cell::new(0),
            of_absence: RefCell::default(),
            of_commands: RefCell::default(),
            said_away: Cell::new(false),
            redirected: Cell::new(false),
            whose,
            worker,
        }
    }

    /// [`CONNECTING`], [`UP`], [`DOWN`] or [`NO_DATABASE`].
    pub(super) fn state(&self) -> &Arc<AtomicU8> {
        &self.state
    }

    /// Tells when Redis goes and comes back.
    pub(super) fn subscribe(&self) -> watch::Receiver<bool> {
        self.up.subscribe()
    }

    /// From now on commands that are told to go elsewhere are sent there: that is no failure.
    pub(super) fn redirects(&self) {
        self.redirected.set(true);
    }

    /// The masters are others now, or serve other slots; says so to whoever counts `changes`.
    pub(super) fn changed(&self, changes: &Changes) {
        self.metrics.moves.inc();
        changes.tell();
    }

    /// The breaker of a node has closed.
    pub(super) fn closed(&self, endpoint: &str, absence: &Absence) {
        absence.ends(endpoint, self.worker);
        self.closed.set(self.closed.get() + 1);
        let first = self.closed.get() == 1 && self.turn(UP) == CONNECTING;
        if self.said_away.take() || first {
            tracing::info!(endpoint, worker = self.worker, "{} answers", self.whose);
        }
    }

    /// The breaker of a node has opened.
    pub(super) fn opened(&self, endpoint: &str, absence: &Absence, fault: Fault) {
        self.closed.set(self.closed.get().saturating_sub(1));
        self.node_away(endpoint, absence, fault);
    }

    /// A node was tried in vain.
    pub(super) fn tried(&self, endpoint: &str, absence: &Absence, fault: Fault) {
        self.metrics.error(fault);
        self.node_away(endpoint, absence, fault);
    }

    /// A connection could not be made; others of its node work.
    pub(super) fn lacks_a_connection(&self, endpoint: &str, absence: &Absence, fault: Fault) {
        self.metrics.error(fault);
        absence.lacks_a_connection(endpoint, self.worker, fault);
    }

    /// A node is no longer one of the link's.
    pub(super) fn left(&self, was_closed: bool) {
        if !was_closed {
            return;
        }
        self.closed.set(self.closed.get().saturating_sub(1));
        if self.closed.get() == 0 {
            self.turn(DOWN);
        }
    }

    /// Nobody said what the cluster is.
    pub(super) fn failed(&self, endpoint: &str, fault: Fault) {
        self.metrics.error(fault);
        self.away(endpoint, fault);
    }

    /// Something failed. What opens the breaker is said when it does.
    pub(super) fn fault(&self, endpoint: &str, fault: Fault) {
        self.metrics.error(fault);
        let redirected = self.redirected.get() && matches!(fault, Fault::Moved | Fault::Ask | Fault::TryAgain);
        if matches!(fault.effect(), Effect::Command | Effect::Again) && !redirected {
            self.complain(endpoint, fault);
        }
    }

    /// Says, if it is time, that something fails though the breaker is closed.
    pub(super) fn complain(&self, endpoint: &str, fault: Fault) {
        if let Some(times) = self.of_commands.borrow_mut().note(fault, instant()) {
            tracing::warn!(endpoint, worker = self.worker, kind = fault.word(), times, "{} fails commands", self.whose);
        }
    }

    /// The link ends.
    pub(super) fn end(&self) {
        self.state.store(DOWN, Ordering::Relaxed);
    }

    fn node_away(&self, endpoint: &str, absence: &Absence, fault: Fault) {
        match self.closed.get() {
            0 => self.away(endpoint, fault),
            _ => absence.lasts(endpoint, self.worker, fault),
        }
    }

    fn away(&self, endpoint: &str, fault: Fault) {
        let state = if fault == Fault::Database { NO_DATABASE } else { DOWN };
        if self.closed.get() > 0 {
            self.complain(endpoint, fault);
        } else if self.turn(state) != state
            && let Some(times) = self.of_absence.borrow_mut().note(fault, instant())
        {
            self.said_away.set(true);
            let (worker, reason, whose) = (self.worker, fault.word(), self.whose);
            if fault == Fault::Database {
                // It will not end by itself.
                tracing::error!(
                    endpoint,
                    worker,
                    reason,
                    times,
                    "{whose} is away: it refuses the database of redis.url"
                );
            } else {
                tracing::warn!(endpoint, worker, reason, times, "{whose} is away");
            }
        }
    }

    /// Says what it was before.
    fn turn(&self, state: u8) -> u8 {
        self.up.send_replace(state == UP);
        self.state.swap(state, Ordering::Relaxed)
    }
}
