//! How much a client may ask.

pub mod partition;
pub mod quota;
pub mod store;

use std::sync::Arc;

/// `[limit.NAME]`: a quota for each value of a partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limit {
    /// NAME.
    pub name: Arc<str>,
    /// What is counted apart.
    pub key: partition::Key,
    /// How much.
    pub quota: quota::Quota,
    /// Units that may be spent at once (GCRA); at least 1. Unless set: the quota's amount.
    pub burst: u64,
}

/// `[limits]`: what all limits have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// What limits do while Redis is away.
    pub on_outage: store::OnOutage,
    /// `X-RateLimit-Reset` counts seconds left instead of naming the Unix second (`reset = "seconds-left"`).
    pub reset_in_seconds_left: bool,
    /// Also send `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers).
    pub draft_fields: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { on_outage: store::OnOutage::Local, reset_in_seconds_left: false, draft_fields: true }
    }
}
