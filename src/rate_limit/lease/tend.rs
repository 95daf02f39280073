//! Gives back what was taken ahead and is not spent; on one worker, behind all requests.
//!
//! 1. While anything is held, it looks eight times in a lease's life for what is over or has not been asked for of late.
//!    Otherwise once.
//! 2. What goes back goes in batches, and nobody waits for it. What Redis does not get is lost to the client, and no more.
//! 3. When the process ends, or counts elsewhere from now on, everything goes back.
//! 4. In a cluster nothing goes back: how old a lease is would be told by another server's clock than the one that gave it.
//!
//! # Why
//! Of rule 1: what a lease is worth falls with its age (`algorithm::gcra`, rule 8). Requests that move on to another instance
//! leave behind what is then still worth something.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use redis::Pipeline;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use super::{Leases, Swept, Unspent, Use};
use crate::clock;
use crate::rate_limit::store::redis::Counters;
use crate::redis_pool::Link;
use crate::telemetry::registry::{Counter, Registry};

/// Leases that go back at once.
const BATCH: usize = 64;

/// How leases are given back.
#[derive(Clone)]
pub struct Giving {
    /// The way to Redis.
    pub link: Link,
    /// Before every Redis key.
    pub prefix: Box<str>,
    /// How long a lease lives.
    pub life: Duration,
    /// Every counter.
    pub registry: Arc<Registry>,
    /// The worker that does it.
    pub worker: usize,
}

/// Gives back what is not spent, until this is dropped; and then everything.
pub struct Tending {
    leases: Arc<Leases>,
    giving: Giving,
    task: AbortHandle,
}

impl Leases {
    /// Begins to give back what is not spent. For one worker of the process, inside its `LocalRuntime`.
    pub fn tend(self: &Arc<Self>, giving: Giving) -> Tending {
        let (leases, way) = (self.clone(), giving.clone());
        let task = tokio::task::spawn_local(async move {
            let mut counts = Counts::default();
            loop {
                sleep(if leases.keys() > 0 { way.life / 8 } else { way.life }).await;
                let swept = leases.sweep(clock::instant());
                counts.add(&way, &swept.uses);
                way.batches(&swept).for_each(|batch| way.link.send(batch));
            }
        });
        Tending { leases: self.clone(), giving, task: task.abort_handle() }
    }
}

impl Tending {
    /// Whether it gives back what is not spent of `leases`.
    pub fn is_of(&self, leases: &Arc<Leases>) -> bool {
        Arc::ptr_eq(&self.leases, leases)
    }

    /// Gives everything back, and waits until Redis has it, as far as it can be told.
    pub async fn finish(&self) {
        for batch in self.close() {
            if self.giving.link.query(&batch).await.is_err() {
                // The link has told the log; the next would fare no better.
                return;
            }
        }
    }

    fn close(&self) -> Vec<Pipeline> {
        self.task.abort();
        let swept = self.leases.close(clock::instant());
        Counts::default().add(&self.giving, &swept.uses);
        self.giving.batches(&swept).collect()
    }
}

impl Drop for Tending {
    fn drop(&mut self) {
        self.close().into_iter().for_each(|batch| self.giving.link.send(batch));
    }
}

impl Giving {
    fn batches(&self, swept: &Swept) -> impl Iterator<Item = Pipeline> {
        let unspent: &[Unspent] = if self.link.is_cluster() { &[] } else { &swept.unspent };
        unspent.chunks(BATCH).map(|batch| {
            let mut pipeline = Pipeline::with_capacity(batch.len());
            let counters = Counters { prefix: &self.prefix, here: clock::Clock::System.unix_micros(), there: None };
            for Unspent { key, policy, since, units } in batch {
                counters.give_back(&mut pipeline, key, policy, *since, *units);
            }
            pipeline
        })
    }
}

/// What counts the units of the limit whose keys begin with `limit` that were taken, spent, returned and expired.
pub(in crate::rate_limit) fn counters(limit: &str, registry: &Registry, worker: usize) -> [Counter; 4] {
    let help = "Units of a limit that were taken ahead; then spent, returned, or expired because they were worth nothing \
                any more.";
    ["taken", "spent", "returned", "expired"].map(|outcome| {
        let labels = [("limit", limit), ("outcome", outcome)];
        registry.counter(worker, "sidegate_limit_lease_units_total", help, &labels)
    })
}

/// The counters of each limit, by how its keys begin.
#[derive(Default)]
struct Counts(BTreeMap<Box<str>, [Counter; 4]>);

impl Counts {
    fn add(&mut self, giving: &Giving, uses: &BTreeMap<Box<str>, Use>) {
        for (limit, used) in uses {
            let counters =
                self.0.entry(limit.clone()).or_insert_with(|| counters(limit, &giving.registry, giving.worker));
            let lost = if giving.link.is_cluster() { used.returned } else { 0 };
            let counts = [used.taken, used.spent, used.returned - lost, used.expired + lost];
            counters.iter().zip(counts).for_each(|(counter, units)| counter.add(units));
        }
    }
}
