//! What is counted of the news.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use crate::redis_pool::near::{Mode, Tier};
use crate::telemetry::registry::{Counter, Gauge, Registry};

/// Written by the tracking's thread alone.
pub(super) struct Metrics {
    registry: Arc<Registry>,
    writer: usize,
    modes: [(Mode, Gauge); 2],
    invalidations: Counter,
    flushes: Counter,
    losses: RefCell<HashMap<&'static str, Counter>>,
    /// Of each tier: entries, bytes.
    sizes: Vec<(Gauge, Gauge)>,
}

impl Metrics {
    pub(super) fn new(registry: &Arc<Registry>, writer: usize, tiers: &[Arc<dyn Tier>]) -> Self {
        let mode = |mode: Mode| {
            let help = "1 while the near tier is in use and changes are told in this mode.";
            (mode, registry.gauge(writer, "sidegate_near_in_use", help, &[("mode", mode.word())]))
        };
        let size = |tier: &Arc<dyn Tier>| {
            let kind = [("kind", tier.kind())];
            let entries = "What the near tier remembers, as of a moment ago.";
            let bytes = "Bytes that it takes, as of a moment ago.";
            (
                registry.gauge(writer, "sidegate_near_entries", entries, &kind),
                registry.gauge(writer, "sidegate_near_bytes", bytes, &kind),
            )
        };
        let counter = |name, help| registry.counter(writer, name, help, &[]);
        Self {
            modes: [mode(Mode::Tracking), mode(Mode::PubSub)],
            invalidations: counter("sidegate_near_invalidations_total", "Changed keys that the near tier was told of."),
            flushes: counter(
                "sidegate_near_flushes_total",
                "Times a whole database was flushed, and the near tier with it.",
            ),
            losses: RefCell::default(),
            sizes: tiers.iter().map(size).collect(),
            registry: registry.clone(),
            writer,
        }
    }

    pub(super) fn in_force(&self, now: Option<Mode>) {
        self.modes.iter().for_each(|(mode, gauge)| gauge.set(u64::from(now == Some(*mode))));
    }

    pub(super) fn invalidated(&self) {
        self.invalidations.inc();
    }

    pub(super) fn flushed(&self) {
        self.flushes.inc();
    }

    /// `reason`: of a closed set.
    pub(super) fn lost(&self, reason: &'static str) {
        let make = || {
            let help = "Times the near tier fell out of use, or could not come into it.";
            self.registry.counter(self.writer, "sidegate_near_losses_total", help, &[("reason", reason)])
        };
        self.losses.borrow_mut().entry(reason).or_insert_with(make).inc();
    }

    pub(super) fn show(&self, tiers: &[Arc<dyn Tier>]) {
        for (tier, (entries, bytes)) in tiers.iter().zip(&self.sizes) {
            let size = tier.size();
            entries.set(size.entries);
            bytes.set(size.bytes);
        }
    }
}
