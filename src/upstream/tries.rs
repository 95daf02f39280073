//! One request's tries: where it has been, and whether it may go on.
//!
//! The rules are those of [`retry`](super::retry); here they are kept for one worker (the budget) and for one request.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::pool::Local;
use super::retry::{Budget, Policy, Reason};
use super::watchdog::{TICK, Watchdog};
use super::{Settings, balance};
use crate::exchange::Exchange;
use crate::rate_limit::partition::Key;
use crate::telemetry::registry::{Counter, Registry};

/// What a worker's requests to one upstream have in common.
pub struct Retries {
    policy: Policy,
    /// What `balance = "hash"` goes by.
    key: Option<Key>,
    budget: RefCell<Budget>,
    watchdog: Rc<Watchdog>,
    name: Arc<str>,
    registry: Arc<Registry>,
    worker: usize,
    exhausted: Counter,
}

/// One request's tries.
pub struct Tries {
    retries: Rc<Retries>,
    /// The digest of its key, if it goes by one.
    pub key: Option<u64>,
    /// Endpoints that failed it.
    pub tried: Vec<Rc<Local>>,
    /// How often it was sent beyond the first time.
    pub count: u32,
}

impl Retries {
    /// For one of `workers`.
    pub fn new(
        settings: &Settings,
        watchdog: Rc<Watchdog>,
        registry: &Arc<Registry>,
        (worker, workers): (usize, usize),
    ) -> Rc<Self> {
        let help = "Retries that the budget did not allow.";
        let labels = [("upstream", &*settings.name)];
        Rc::new(Self {
            policy: settings.retries.clone(),
            key: match &settings.balance {
                balance::Balance::Hash(key) => Some(key.clone()),
                _ => None,
            },
            budget: RefCell::new(Budget::new(&settings.retries, workers)),
            watchdog,
            name: settings.name.clone(),
            registry: registry.clone(),
            worker,
            exhausted: registry.counter(worker, "sidegate_upstream_retry_budget_exhausted_total", help, &labels),
        })
    }

    /// Begins the tries of a request; its key is read now.
    pub fn begin(self: &Rc<Self>, exchange: &Exchange) -> Tries {
        self.budget.borrow_mut().asked(self.second());
        let key = self.key.as_ref().and_then(|key| {
            let mut text = String::with_capacity(64);
            key.push_present(exchange, &mut text)?;
            Some(balance::digest(text.as_bytes()))
        });
        Tries { retries: self.clone(), key, tried: Vec::new(), count: 0 }
    }

    /// Seconds that have passed on this worker, near enough.
    fn second(&self) -> u64 {
        self.watchdog.now() * TICK.as_millis() as u64 / 1000
    }
}

impl Tries {
    /// Whether it is sent again for `reason`; if so, it is counted. `idle`: an idle connection was closed under it.
    pub fn again(&mut self, reason: Reason, idle: bool) -> bool {
        let retries = &*self.retries;
        if self.count >= retries.policy.most || !retries.policy.covers(reason) {
            return false;
        }
        if !idle && !retries.budget.borrow_mut().take(retries.second()) {
            retries.exhausted.inc();
            return false;
        }
        self.count += 1;
        let help = "Requests sent to the app again, by reason.";
        let labels = [("upstream", &*retries.name), ("reason", reason.word())];
        retries.registry.counter(retries.worker, "sidegate_upstream_retries_total", help, &labels).inc();
        true
    }
}
