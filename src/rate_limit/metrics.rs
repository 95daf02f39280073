//! How often each limit decided what.

use std::sync::Arc;

use super::judge::Role;
use super::{Limit, OnExceed};
use crate::telemetry::registry::{Counter, Registry};

/// The counters of one limit, or of its quota on trial.
#[derive(Debug)]
pub(super) struct Outcomes {
    pub(super) allowed: Counter,
    pub(super) refused: Counter,
    pub(super) local_allowed: Counter,
    pub(super) local_refused: Counter,
    /// Not counted, since Redis is away; of limits that bind.
    pub(super) uncounted: Option<Uncounted>,
    /// Units; of what counts units, and not on trial.
    pub(super) charged: Option<Counter>,
    /// Decisions that the store did not make, but the outage policy; not of what is on trial.
    pub(super) store_errors: Option<Counter>,
    /// Where requests wait for their turn.
    pub(super) delayed: Option<Counter>,
    pub(super) warnings: Counter,
}

/// What becomes of requests that are not counted.
#[derive(Debug)]
pub(super) struct Uncounted {
    pub(super) open: Counter,
    pub(super) closed: Counter,
}

impl Outcomes {
    pub(super) fn new(limit: &Limit, role: Role, registry: &Arc<Registry>, worker: usize) -> Self {
        let help = "Decisions of a limit; local: in memory while Redis is away, open and closed: not counted then; \
                    shadow and trial: of what refuses nobody.";
        let counter = |outcome| {
            let labels = [("limit", &*limit.name), ("outcome", outcome)];
            registry.counter(worker, "sidegate_limit_decisions_total", help, &labels)
        };
        let [allowed, refused, local_allowed, local_refused] = match role {
            Role::Binding => ["allowed", "refused", "local_allowed", "local_refused"],
            Role::Shadow => ["shadow_allowed", "shadow_refused", "shadow_allowed", "shadow_refused"],
            Role::Trial => ["trial_allowed", "trial_refused", "trial_allowed", "trial_refused"],
        };
        let binds = role == Role::Binding;
        let delays = binds && limit.on_exceed != OnExceed::Refuse;
        let labels = [("limit", &*limit.name)];
        Self {
            allowed: counter(allowed),
            refused: counter(refused),
            local_allowed: counter(local_allowed),
            local_refused: counter(local_refused),
            uncounted: binds.then(|| Uncounted { open: counter("open"), closed: counter("closed") }),
            charged: (role != Role::Trial && limit.counting().is_some()).then(|| {
                let help = "Units charged: at once, after the answer, and of leases as they are spent.";
                registry.counter(worker, "sidegate_limit_charged_units_total", help, &labels)
            }),
            store_errors: (role != Role::Trial).then(|| {
                let help = "Decisions that Redis did not make: `on_outage` did.";
                registry.counter(worker, "sidegate_limit_store_errors_total", help, &labels)
            }),
            delayed: delays.then(|| {
                let help = "Requests that waited for their turn, or were given up by their clients meanwhile.";
                registry.counter(worker, "sidegate_limit_delayed_total", help, &labels)
            }),
            warnings: registry.counter(
                worker,
                "sidegate_limit_warnings_total",
                "Answers that warn of a limit: `warn_at` of it is used.",
                &labels,
            ),
        }
    }
}
