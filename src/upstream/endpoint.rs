//! One endpoint of an upstream, as all workers know it.
//!
//! 1. An address of its own: a host name with three addresses is three endpoints.
//! 2. What every request looks at (share, row of failures) is atomic and read without order: a worker that learns of a
//!    change a moment late asks as it would have a moment earlier. What changes rarely is behind a lock.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::Mutex;

use super::breaker::{Breaker, Phase};
use super::health::Checked;
use super::standing::Seen;
use super::{Place, Server, balance};
use crate::telemetry::registry::{Counter, Gauge, Registry};

/// One endpoint.
pub struct Endpoint {
    /// What it was configured as; a reload may have changed its weight since.
    pub server: Server,
    /// Its weight now.
    pub(super) weight: AtomicU32,
    /// Its address; `None` on a Unix socket.
    pub address: Option<SocketAddr>,
    /// Its name in logs and metrics: `http://10.0.0.3:80`, `http://app:3000@10.0.0.3`.
    pub label: String,
    /// The digest of that name: its part in the scores of `balance = "hash"`.
    pub seed: u64,
    share: AtomicU32,
    /// Failures in a row.
    pub(super) row: AtomicU32,
    /// Its breaker is half-open, and no request is on its way to find out.
    probe: AtomicBool,
    /// Requests under way; counted where `balance` asks for it.
    pub(super) active: AtomicU32,
    pub(super) standing: Mutex<Standing>,
    metrics: Metrics,
}

/// What changes rarely.
#[derive(Default)]
pub(super) struct Standing {
    pub breaker: Breaker,
    pub checked: Checked,
    /// When it became new or well, if that was later than the start.
    pub since: Option<Instant>,
}

/// Written only under the lock of the roster.
struct Metrics {
    up: Gauge,
    breaker: Gauge,
    ejections: Counter,
    /// Passed and failed, once it is checked at all.
    checks: OnceLock<[Counter; 2]>,
}

const UP: (&str, &str) = ("sidegate_upstream_endpoint_up", "1: the endpoint is used; 0: it is left out.");
const BREAKER: (&str, &str) =
    ("sidegate_upstream_breaker_state", "0: closed (passing), 1: half-open, 2: open (refusing).");
const EJECTIONS: (&str, &str) =
    ("sidegate_upstream_ejections_total", "Times the endpoint was left out because its breaker opened.");
const CHECKS: (&str, &str) = ("sidegate_upstream_health_checks_total", "Active health checks, by outcome.");
const OUTCOMES: [&str; 2] = ["passed", "failed"];

impl Endpoint {
    /// An endpoint of `upstream` that nothing is known of. `slot`: of the registry.
    pub fn new(
        (server, address): (Server, Option<SocketAddr>),
        upstream: &str,
        (registry, slot): (&Registry, usize),
        since: Option<Instant>,
    ) -> Arc<Self> {
        let label = label(&server, address);
        let labels = [("upstream", upstream), ("endpoint", label.as_str())];
        let metrics = Metrics {
            up: registry.gauge(slot, UP.0, UP.1, &labels),
            breaker: registry.gauge(slot, BREAKER.0, BREAKER.1, &labels),
            ejections: registry.counter(slot, EJECTIONS.0, EJECTIONS.1, &labels),
            checks: OnceLock::new(),
        };
        Arc::new(Self {
            seed: balance::digest(label.as_bytes()),
            weight: AtomicU32::new(server.weight),
            server,
            address,
            label,
            share: AtomicU32::new(0),
            row: AtomicU32::new(0),
            probe: AtomicBool::new(false),
            active: AtomicU32::new(0),
            standing: Mutex::new(Standing { since, ..Standing::default() }),
            metrics,
        })
    }

    /// From now on it is checked, and its checks are counted: a reload may begin with it.
    pub(super) fn show_checks(&self, upstream: &str, (registry, slot): (&Registry, usize)) {
        let outcome = |outcome| {
            let labels = [("upstream", upstream), ("endpoint", self.label.as_str()), ("outcome", outcome)];
            registry.counter(slot, CHECKS.0, CHECKS.1, &labels)
        };
        self.metrics.checks.get_or_init(|| OUTCOMES.map(outcome));
    }

    /// Takes its metrics away: its address is gone, and no label may outlive what it names.
    pub(super) fn forget(&self, upstream: &str, registry: &Registry) {
        let labels = [("upstream", upstream), ("endpoint", self.label.as_str())];
        for (name, _) in [UP, BREAKER, EJECTIONS] {
            registry.forget(name, &labels);
        }
        for outcome in OUTCOMES {
            registry.forget(CHECKS.0, &[labels[0], labels[1], ("outcome", outcome)]);
        }
    }

    /// Closes its breaker, if that is not closed.
    pub(super) fn close(&self, now: Instant) {
        let breaker = &mut self.standing.lock().breaker;
        if breaker.phase() != Phase::Closed {
            breaker.close(now);
        }
        self.row.store(0, Ordering::Relaxed);
    }

    /// What checks have said means nothing any more: it is healthy until others say otherwise.
    pub(super) fn forget_checks(&self) {
        let was_unhealthy = !std::mem::take(&mut self.standing.lock().checked).is_healthy();
        if was_unhealthy {
            // Checks had taken the probe of a half-open breaker.
            self.offer_probe_again();
        }
    }

    /// Its share of the requests; 0: it is left out.
    pub fn share(&self) -> u32 {
        self.share.load(Ordering::Relaxed)
    }

    /// Whether a request that goes to it now finds out how it is; true for one caller.
    pub fn take_probe(&self) -> bool {
        self.probe.load(Ordering::Relaxed) && self.probe.swap(false, Ordering::Relaxed)
    }

    /// Lets another request find out, if it still matters.
    pub(super) fn offer_probe_again(&self) {
        let standing = self.standing.lock();
        if standing.breaker.phase() == Phase::HalfOpen && standing.checked.is_healthy() {
            self.probe.store(true, Ordering::Relaxed);
        }
    }

    /// What there is to know about it now; a breaker whose time is over is half-open then.
    pub(super) fn look(&self, now: Instant) -> Seen {
        let mut standing = self.standing.lock();
        if standing.breaker.look(now) {
            self.probe.store(true, Ordering::Relaxed);
        }
        let Standing { breaker, checked, since } = &*standing;
        let weight = self.weight.load(Ordering::Relaxed);
        Seen { weight, healthy: checked.is_healthy(), phase: breaker.phase(), since: *since }
    }

    /// Gives it another share, and says so if that means more than a number.
    pub(super) fn show(&self, upstream: &str, seen: &Seen, share: u32, first: bool) {
        let before = self.share.swap(share, Ordering::Relaxed);
        if !seen.healthy {
            // A request would find out what checks know. When they pass, the breaker closes with them.
            self.take_probe();
        }
        self.metrics.up.set(u64::from(share > 0));
        self.metrics.breaker.set(match seen.phase {
            Phase::Closed => 0,
            Phase::HalfOpen => 1,
            Phase::Open { .. } => 2,
        });
        if (before > 0) == (share > 0) || first {
            return;
        }
        if share > 0 {
            tracing::info!(upstream, endpoint = self.label, "the endpoint is used again");
        } else if seen.healthy {
            self.metrics.ejections.inc();
            tracing::warn!(upstream, endpoint = self.label, "the endpoint is left out: it fails");
        } else {
            tracing::warn!(upstream, endpoint = self.label, "the endpoint is left out: its health checks fail");
        }
    }

    /// Counts a health check.
    pub(super) fn count_check(&self, passed: bool) {
        if let Some([passes, failures]) = self.metrics.checks.get() {
            if passed { passes.inc() } else { failures.inc() }
        }
    }

    /// In a word, for the admin listener.
    pub fn state(&self) -> &'static str {
        let standing = self.standing.lock();
        match (self.share() > 0, standing.checked.is_healthy(), standing.breaker.phase()) {
            (true, ..) => "used",
            (false, false, _) => "unhealthy",
            (false, true, Phase::HalfOpen) => "half-open",
            (false, true, _) => "open",
        }
    }
}

fn label(server: &Server, address: Option<SocketAddr>) -> String {
    match (&server.place, address) {
        (Place::Tcp(host, _), Some(address)) if host.parse::<IpAddr>().is_err() => {
            format!("{server}@{}", address.ip())
        }
        _ => server.to_string(),
    }
}
