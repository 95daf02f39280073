//! Requests that wait for their turn (`on_exceed = "delay"`).
//!
//! 1. A request beyond the quota reserves the unit that comes next, and waits until it is there: so they pass in the order in
//!    which they came, over all instances.
//! 2. At most `max_delayed` of a process wait at once. One more is refused, and what it had reserved goes back.
//! 3. A request whose client leaves while it waits gives back what it had reserved, less the time that it has waited: that may
//!    have been lost to others (`gcra`, rule 8).
//! 4. Of several limits the longest wait counts.
//!
//! # Why
//! A queue in each process would have to agree with those of the others whose turn it is. The reservation is a number in the
//! store already.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use redis::Pipeline;
use tokio::time::sleep;

use super::judge::{Counted, Counter, Docket, RateLimit, Standing, Verdict, Worker};
use crate::telemetry::registry::Gauge;

/// Where requests wait.
pub(super) struct WaitingRoom {
    /// Of all workers.
    waiting: Arc<AtomicUsize>,
    most: usize,
    gauge: Gauge,
}

/// A place in the waiting room.
pub(super) struct Turn {
    /// µs until its turn.
    delay: u64,
    waiting: Arc<AtomicUsize>,
    gauge: Gauge,
}

impl WaitingRoom {
    /// With room for `most` requests of the process.
    pub(super) fn new(worker: &Worker, most: usize) -> Self {
        let help = "Requests that wait for their turn, since a limit delays them.";
        let gauge = worker.registry.gauge(worker.number, "sidegate_limit_waiting_requests", help, &[]);
        Self { waiting: worker.waiting.clone(), most, gauge }
    }

    /// A place for one that waits `delay` µs, if there is one.
    pub(super) fn enter(&self, delay: u64) -> Option<Turn> {
        let one_more = |waiting| (waiting < self.most).then_some(waiting + 1);
        self.waiting.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).ok()?;
        self.gauge.inc();
        Some(Turn { delay, waiting: self.waiting.clone(), gauge: self.gauge.clone() })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        self.gauge.dec();
    }
}

/// A request that waits; dropped before its turn, it gives back what it was charged.
struct Waiting<'a> {
    limits: &'a RateLimit,
    standing: Option<Standing>,
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let Some(Standing { mut docket, now, counted, .. }) = self.standing.take() {
            self.limits.give_back(&docket, Some(now), counted);
            docket.put_back();
            self.limits.close(docket);
        }
    }
}

impl RateLimit {
    /// Waits for the turn of a request.
    pub(super) async fn wait(&self, mut standing: Standing) -> Verdict {
        let Some(turn) = standing.turn.take() else { return Verdict::Within(standing) };
        let mut waiting = Waiting { limits: self, standing: Some(standing) };
        sleep(Duration::from_micros(turn.delay)).await;
        match waiting.standing.take() {
            Some(mut standing) => {
                standing.docket.settled();
                Verdict::Within(standing)
            }
            None => Verdict::Unlimited,
        }
    }

    /// Gives back what a request was charged in vain: at once, or since `taken_at` (µs since the Unix epoch).
    pub(super) fn give_back(&self, docket: &Docket, taken_at: Option<u64>, counted: Counted) {
        let charged = docket.asked().iter().filter(|entry| entry.said.allowed).filter_map(|entry| {
            let Counter { limit, asked, .. } = &self.counters[entry.counter];
            // At once is who finds no room to wait: refused, and charged even so where the limit says it.
            let units = if taken_at.is_none() && limit.charge_refused { 0 } else { asked.take };
            let since = taken_at.unwrap_or(entry.said.since);
            (units > 0).then(|| (docket.key(entry), &docket.terms[entry.counter].policy, since, units))
        });
        match (&self.worker.link, counted) {
            (Some(link), Counted::Redis) => {
                let (counters, mut pipeline) = (self.in_redis(), Pipeline::new());
                charged.for_each(|(key, policy, since, units)| {
                    counters.give_back(&mut pipeline, key, policy, since, units);
                });
                link.send(pipeline);
            }
            _ => {
                let now = self.worker.clock.unix_micros();
                charged.for_each(|(key, policy, since, units)| {
                    self.worker.memory.give_back(key, policy, since, units, now);
                });
            }
        }
    }
}
