//! Counters that cost a plain store.
//!
//! 1. A family has a name, a sentence, and labels whose values come from the configuration or from closed sets: never from a client.
//! 2. Each worker owns a slot in every counter and is its only writer; a reader adds the slots up.
//! 3. A counter lives as long as the process, or as what its labels name ([`Registry::forget`]): a reload finds the same one
//!    again by name and labels, so nothing is reset.
//!
//! # Why
//! A contended atomic costs tens of nanoseconds, a slot of one's own less than one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the duration buckets, in microseconds.
pub const BUCKETS: [u64; 14] =
    [100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 5_000_000, 30_000_000];

/// All families of the process.
#[derive(Debug)]
pub struct Registry {
    workers: usize,
    families: Mutex<BTreeMap<&'static str, Family>>,
}

#[derive(Debug)]
struct Family {
    help: &'static str,
    kind: Kind,
    members: BTreeMap<String, Arc<Slots>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Counter,
    Gauge,
    Worst,
    Histogram,
}

#[derive(Debug)]
#[repr(align(64))]
struct Line([AtomicU64; BUCKETS.len() + 2]);

#[derive(Debug)]
struct Slots(Box<[Line]>);

/// One worker's slot in a counter.
#[derive(Clone, Debug)]
pub struct Counter {
    slots: Arc<Slots>,
    worker: usize,
}

/// One worker's slot in a gauge: a number that goes up and down; the sum over the workers is shown.
#[derive(Clone, Debug)]
pub struct Gauge(Counter);

/// One worker's slot in a histogram of durations.
#[derive(Clone, Debug)]
pub struct Histogram(Counter);

impl Registry {
    /// A registry for `workers` writers, numbered from 0.
    pub fn new(workers: usize) -> Arc<Self> {
        Arc::new(Self { workers: workers.max(1), families: Mutex::default() })
    }

    fn slots(&self, kind: Kind, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Arc<Slots> {
        let mut families = self.families.lock();
        let family = families.entry(name).or_insert_with(|| Family { help, kind, members: BTreeMap::new() });
        debug_assert!(family.kind == kind, "{name} is registered as two kinds");
        let member = family.members.entry(label_text(labels));
        let lines = || (0..self.workers).map(|_| Line(Default::default())).collect();
        member.or_insert_with(|| Arc::new(Slots(lines()))).clone()
    }

    /// The slot of `worker` in a counter; made at the first call for these labels.
    pub fn counter(&self, worker: usize, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Counter {
        Counter { slots: self.slots(Kind::Counter, name, help, labels), worker: worker % self.workers }
    }

    /// The slot of `worker` in a gauge.
    pub fn gauge(&self, worker: usize, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        Gauge(Counter { slots: self.slots(Kind::Gauge, name, help, labels), worker: worker % self.workers })
    }

    /// The slot of `worker` in a gauge of which the greatest of the workers is shown, not the sum: a state, the worst last.
    pub fn worst(&self, worker: usize, name: &'static str, help: &'static str, labels: &[(&str, &str)]) -> Gauge {
        Gauge(Counter { slots: self.slots(Kind::Worst, name, help, labels), worker: worker % self.workers })
    }

    /// The slot of `worker` in a histogram of durations, shown in seconds.
    pub fn histogram(
        &self,
        worker: usize,
        name: &'static str,
        help: &'static str,
        labels: &[(&str, &str)],
    ) -> Histogram {
        Histogram(Counter { slots: self.slots(Kind::Histogram, name, help, labels), worker: worker % self.workers })
    }

    /// Shows a counter or gauge no longer; who still holds it writes in vain.
    pub fn forget(&self, name: &str, labels: &[(&str, &str)]) {
        let mut families = self.families.lock();
        if let Some(family) = families.get_mut(name) {
            family.members.remove(&label_text(labels));
        }
    }

    /// Shows those of a family no longer that nobody holds.
    pub fn forget_unused(&self, name: &str) {
        if let Some(family) = self.families.lock().get_mut(name) {
            family.members.retain(|_, slots| Arc::strong_count(slots) > 1);
        }
    }

    /// Everything, in the Prometheus text format 0.0.4.
    pub fn render(&self) -> String {
        use std::fmt::Write as _;
        let mut out = String::with_capacity(16 * 1024);
        for (name, family) in self.families.lock().iter() {
            let kind = match family.kind {
                Kind::Counter => "counter",
                Kind::Gauge | Kind::Worst => "gauge",
                Kind::Histogram => "histogram",
            };
            let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", family.help);
            for (labels, slots) in &family.members {
                match family.kind {
                    Kind::Counter | Kind::Gauge | Kind::Worst => {
                        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
                        let _ = writeln!(out, "{name}{braces} {}", family.kind.shown(slots) as i64);
                    }
                    Kind::Histogram => slots.render_histogram(&mut out, name, labels),
                }
            }
        }
        out
    }

    /// The value of one counter or gauge, for tests and the admin API; 0 if there is none.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> u64 {
        let families = self.families.lock();
        let Some(family) = families.get(name) else { return 0 };
        family.members.get(&label_text(labels)).map_or(0, |slots| family.kind.shown(slots))
    }
}

impl Kind {
    /// What the slots of a counter or gauge come to.
    fn shown(self, slots: &Slots) -> u64 {
        if self == Self::Worst { slots.most(0) } else { slots.sum(0) }
    }
}

impl Slots {
    fn sum(&self, index: usize) -> u64 {
        self.0.iter().fold(0, |sum, line| sum.wrapping_add(line.0[index].load(Ordering::Relaxed)))
    }

    fn most(&self, index: usize) -> u64 {
        self.0.iter().map(|line| line.0[index].load(Ordering::Relaxed)).max().unwrap_or(0)
    }

    fn render_histogram(&self, out: &mut String, name: &str, labels: &str) {
        use std::fmt::Write as _;
        let comma = if labels.is_empty() { "" } else { "," };
        let mut total = 0;
        for (index, bound) in BUCKETS.iter().enumerate() {
            total += self.sum(index);
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{}\"}} {total}", *bound as f64 / 1e6);
        }
        total += self.sum(BUCKETS.len());
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {total}");
        let braces = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let seconds = self.sum(BUCKETS.len() + 1) as f64 / 1e6;
        let _ = writeln!(out, "{name}_sum{braces} {seconds}\n{name}_count{braces} {total}");
    }
}

impl Counter {
    fn bump(&self, index: usize, by: u64) {
        let cell = &self.slots.0[self.worker].0[index];
        // One writer for each slot: a plain add, no locked instruction.
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
    }

    /// Adds one.
    pub fn inc(&self) {
        self.bump(0, 1);
    }

    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.bump(0, by);
    }
}

impl Gauge {
    /// Adds one.
    pub fn inc(&self) {
        self.0.bump(0, 1);
    }

    /// Takes one away.
    pub fn dec(&self) {
        self.0.bump(0, u64::MAX);
    }

    /// Sets this worker's share.
    pub fn set(&self, to: u64) {
        self.0.slots.0[self.0.worker].0[0].store(to, Ordering::Relaxed);
    }
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let micros = took.as_micros() as u64;
        let index = BUCKETS.iter().position(|bound| micros <= *bound).unwrap_or(BUCKETS.len());
        self.0.bump(index, 1);
        self.0.bump(BUCKETS.len() + 1, micros);
    }
}

fn label_text(labels: &[(&str, &str)]) -> String {
    let quoted = labels.iter().map(|(name, value)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    });
    quoted.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_all_workers_are_added_up_and_survive_a_second_registration() {
        let registry = Registry::new(2);
        registry.counter(0, "sidegate_x_total", "x", &[("a", "1")]).add(2);
        registry.counter(1, "sidegate_x_total", "x", &[("a", "1")]).inc();
        registry.counter(0, "sidegate_x_total", "x", &[("a", "1")]).inc();
        assert_eq!(registry.value("sidegate_x_total", &[("a", "1")]), 4);
    }

    #[test]
    fn rendering_escapes_labels_and_accumulates_buckets() {
        let registry = Registry::new(1);
        registry.gauge(0, "sidegate_g", "A gauge.", &[]).dec();
        let histogram = registry.histogram(0, "sidegate_h_seconds", "A histogram.", &[("route", "/\"a\"")]);
        histogram.observe(Duration::from_micros(90));
        histogram.observe(Duration::from_secs(60));
        let text = registry.render();
        assert!(text.contains("sidegate_g -1\n"), "{text}");
        assert!(text.contains("sidegate_h_seconds_bucket{route=\"/\\\"a\\\"\",le=\"0.0001\"} 1\n"), "{text}");
        assert!(text.contains("sidegate_h_seconds_bucket{route=\"/\\\"a\\\"\",le=\"+Inf\"} 2\n"), "{text}");
        assert!(text.contains("sidegate_h_seconds_count{route=\"/\\\"a\\\"\"} 2\n"), "{text}");
    }

    #[test]
    fn a_state_is_shown_as_the_worst_of_the_workers_and_for_as_long_as_one_of_them_has_it() {
        let registry = Registry::new(3);
        let labels = [("endpoint", "a:1")];
        let [first, second] = [0, 1].map(|worker| registry.worst(worker, "state", "A state.", &labels));
        first.set(1);
        second.set(2);
        assert_eq!(registry.value("state", &labels), 2);
        assert!(registry.render().contains("# TYPE state gauge\nstate{endpoint=\"a:1\"} 2\n"));
        drop(second);
        registry.forget_unused("state");
        assert!(registry.render().contains("state{"));
        drop(first);
        registry.forget_unused("state");
        assert!(!registry.render().contains("state{"));
    }
}
