//! How much a client may ask.
//!
//! 1. A limit counts apart what its partition key tells apart (`partition`), by one of four algorithms (`algorithm`), in
//!    Redis or in process memory (`store`); units of hot keys are taken ahead in Redis, and spent in the process (`lease`).
//! 2. A request is charged by all limits of its position in the stack in one step, or by none: a refusal costs nothing,
//!    unless a limit asks for that. What is known only from the answer is charged after it (`after`).
//! 3. Limits that depend on the request alone are asked for by `gather`, together with all else the request needs. Those
//!    keyed by who is logged in stand behind `session` and make a trip of their own, and so do those that count what is
//!    forwarded, inside `cache`.
//! 4. Redis away, or unable to count: `on_outage` decides at once. An outage resets no quota, and gives none twice
//!    (`outage`).
//! 5. Every answer of a limited route tells the limit nearest to refusal (`fields`), whoever gave it: the app, the cache
//!    or sidegate. A refusal is a 429 that says when the same request will pass.
//!    A flood of refusals costs few trips: those of limits that are charged after are remembered for a moment (`refusals`), and
//!    of who is known to be refused nothing else is asked.
//! 6. Whoever presents an API key may have quotas of their own, in Redis (`plan`). They are found out before any limit is
//!    asked, and take the place of the limit's own (`terms`).
//!
//! # Why
//! A refused client that keeps trying must not push its own return further away, and one limit must not spend another's
//! quota on requests that never happen.

mod after;
pub mod algorithm;
mod delay;
mod explain;
pub mod fields;
pub mod in_flight;
mod judge;
mod layer;
pub mod lease;
mod limit;
mod metrics;
pub mod naming;
pub mod operate;
mod outage;
pub mod partition;
pub mod plan;
pub mod quota;
pub mod refusals;
pub mod store;
mod terms;
pub mod top;
#[cfg(test)]
pub(crate) mod trial;
mod words;

pub use explain::explain;
pub use judge::{RateLimit, Worker, key_name};
pub use layer::layer;
pub use limit::{
    Algorithm, Cost, Count, Counting, Exempt, Limit, Missing, OnExceed, Plan, Precision, Refusal, Rule, Unknown,
};
pub use outage::Vigil;
pub use terms::policy;

use std::time::Duration;

/// `[limits]`: what all limits have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What limits do while Redis is away.
    pub on_outage: store::OnOutage,
    /// `X-RateLimit-Reset` counts seconds left instead of naming the Unix second (`reset = "seconds-left"`).
    pub reset_in_seconds_left: bool,
    /// Also send `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub draft_fields: bool,
    /// … with a digest of the partition key (`pk`).
    pub partition_keys: bool,
    /// How long units that a process has taken ahead may be spent.
    pub lease: Duration,
    /// Requests that may wait for their turn at once, in this process; beyond: refused.
    pub max_delayed: usize,
    /// Keys of which each limit remembers how often they were refused.
    pub top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            on_outage: store::OnOutage::Local,
            reset_in_seconds_left: false,
            draft_fields: true,
            partition_keys: false,
            lease: Duration::from_millis(200),
            max_delayed: 1000,
            top: 100,
        }
    }
}
