//! Whether this process should get requests, and what its surroundings are doing.
//!
//! 1. `starting`: no configuration has been applied yet. 503.
//! 2. `draining`: it was told to stop. 503, from before the first listener closes; a balancer that asks seldom
//!    should be told by its own means first.
//! 3. `degraded`: Redis is away for at least one worker. 200.
//! 4. `ready`: none of these. 200.
//!
//! # Why
//! Redis away makes nobody unready: sidegate still serves, limits in process and bypasses the cache. Were it unready,
//! all instances would be, at once, and the outage of an accelerator would become the outage of the app. The same holds
//! for an upstream: it is shown, and decides nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};

/// A worker that has not needed Redis yet, or has none.
pub const REDIS_NONE: u8 = 0;
/// A worker that reaches Redis.
pub const REDIS_UP: u8 = 1;
/// A worker that does not reach Redis.
pub const REDIS_DOWN: u8 = 2;
/// A worker whose Redis refuses the database that is configured: it is away until somebody mends that.
pub const REDIS_NO_DATABASE: u8 = 3;

/// One member of the report: its name, and what is the matter. Must not wait for anything.
pub type Probe = Box<dyn Fn() -> (String, Value) + Send + Sync>;

/// The health of the process.
#[derive(Default)]
pub struct Health {
    applied: AtomicBool,
    draining: AtomicBool,
    redis: Mutex<Vec<Arc<AtomicU8>>>,
    probes: Mutex<Vec<Probe>>,
}

impl Health {
    /// Of a process that is starting.
    pub fn new() -> Arc<Self> {
        Arc::default()
    }

    /// A configuration is in force.
    pub fn set_applied(&self) {
        self.applied.store(true, Ordering::Relaxed);
    }

    /// The process was told to stop.
    pub fn set_draining(&self) {
        self.draining.store(true, Ordering::Relaxed);
    }

    /// The Redis state of each worker ([`REDIS_NONE`], [`REDIS_UP`], [`REDIS_DOWN`], [`REDIS_NO_DATABASE`]), in place of earlier ones.
    pub fn set_redis(&self, workers: Vec<Arc<AtomicU8>>) {
        *self.redis.lock() = workers;
    }

    /// What else the report shows (`upstreams` …), in place of earlier ones.
    pub fn set_probes(&self, probes: Vec<Probe>) {
        *self.probes.lock() = probes;
    }

    /// In one word, with the status of the answer.
    pub fn status(&self) -> (StatusCode, &'static str) {
        if self.draining.load(Ordering::Relaxed) {
            return (StatusCode::SERVICE_UNAVAILABLE, "draining");
        }
        if !self.applied.load(Ordering::Relaxed) {
            return (StatusCode::SERVICE_UNAVAILABLE, "starting");
        }
        match self.redis_workers() {
            (_, 0) => (StatusCode::OK, "ready"),
            _ => (StatusCode::OK, "degraded"),
        }
    }

    /// In full.
    pub fn report(&self) -> Value {
        let mut report: Map<String, Value> = self.probes.lock().iter().map(|probe| probe()).collect();
        let (up, down) = self.redis_workers();
        let state = match (up, down) {
            (0, 0) => "none",
            (_, 0) => "up",
            (0, _) => "down",
            _ => "partly",
        };
        let mut redis = json!({ "state": state, "workers_up": up, "workers_down": down });
        if self.redis_workers_in(REDIS_NO_DATABASE) > 0 {
            redis["reason"] = "database".into();
        }
        report.insert("redis".into(), redis);
        report.insert("draining".into(), self.draining.load(Ordering::Relaxed).into());
        report.insert("status".into(), self.status().1.into());
        report.into()
    }

    /// How many workers reach Redis, and how many do not.
    fn redis_workers(&self) -> (usize, usize) {
        let down = self.redis_workers_in(REDIS_DOWN) + self.redis_workers_in(REDIS_NO_DATABASE);
        (self.redis_workers_in(REDIS_UP), down)
    }

    fn redis_workers_in(&self, state: u8) -> usize {
        self.redis.lock().iter().filter(|worker| worker.load(Ordering::Relaxed) == state).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_ready_from_the_first_configuration_to_the_drain() {
        let health = Health::new();
        assert_eq!(health.status(), (StatusCode::SERVICE_UNAVAILABLE, "starting"));
        health.set_applied();
        assert_eq!(health.status(), (StatusCode::OK, "ready"));
        health.set_draining();
        assert_eq!(health.status(), (StatusCode::SERVICE_UNAVAILABLE, "draining"));
        assert_eq!(health.report()["draining"], true);
    }

    #[test]
    fn a_redis_that_is_away_degrades_and_does_not_make_unready() {
        let health = Health::new();
        health.set_applied();
        let workers = [REDIS_NONE, REDIS_NONE].map(|state| Arc::new(AtomicU8::new(state)));
        health.set_redis(workers.to_vec());
        let after = |first: u8, second: u8| {
            workers[0].store(first, Ordering::Relaxed);
            workers[1].store(second, Ordering::Relaxed);
            (health.report()["redis"]["state"].clone(), health.status().1)
        };
        assert_eq!(after(REDIS_NONE, REDIS_NONE), ("none".into(), "ready"));
        assert_eq!(after(REDIS_UP, REDIS_NONE), ("up".into(), "ready"));
        assert_eq!(after(REDIS_UP, REDIS_DOWN), ("partly".into(), "degraded"));
        assert_eq!(after(REDIS_NONE, REDIS_DOWN), ("down".into(), "degraded"));
        assert_eq!(health.report()["redis"].get("reason"), None);
        assert_eq!(after(REDIS_UP, REDIS_NO_DATABASE), ("partly".into(), "degraded"));
        assert_eq!(health.report()["redis"]["reason"], "database");
        assert_eq!(health.status().0, StatusCode::OK);
    }

    #[test]
    fn probes_are_members_of_the_report_and_cannot_overwrite_its_own() {
        let health = Health::new();
        let upstreams: Probe = Box::new(|| ("upstreams".into(), json!({ "app": { "state": "up" } })));
        health.set_probes(vec![upstreams, Box::new(|| ("status".into(), "fine".into()))]);
        let report = health.report();
        assert_eq!(report["upstreams"]["app"]["state"], "up");
        assert_eq!(report["status"], "starting");
    }
}
