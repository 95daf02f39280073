//! How often each limit decided what.

use std::sync::Arc;

use crate::telemetry::registry::{Counter, Registry};

/// The counters of one limit.
#[derive(Debug)]
pub(super) struct Outcomes {
    pub(super) allowed: Counter,
    pub(super) refused: Counter,
    pub(super) local_allowed: Counter,
    pub(super) local_refused: Counter,
    pub(super) open: Counter,
    pub(super) closed: Counter,
    pub(super) warnings: Counter,
}

impl Outcomes {
    pub(super) fn new(limit: &str, registry: &Arc<Registry>, worker: usize) -> Self {
        let help = "Decisions of a limit; local: in memory while Redis is away, open and closed: not counted then.";
        let counter = |outcome| {
            let labels = [("limit", limit), ("outcome", outcome)];
            registry.counter(worker, "sidegate_limit_decisions_total", help, &labels)
        };
        Self {
            allowed: counter("allowed"),
            refused: counter("refused"),
            local_allowed: counter("local_allowed"),
            local_refused: counter("local_refused"),
            open: counter("open"),
            closed: counter("closed"),
            warnings: registry.counter(
                worker,
                "sidegate_limit_warnings_total",
                "Answers that warn of a limit: `warn_at` of it is used.",
                &[("limit", limit)],
            ),
        }
    }
}
