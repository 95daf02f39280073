//! Where counters live.

pub mod memory;
pub mod redis;

use super::algorithm::gcra::Policy;

/// What one request is to be charged under one limit.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// `NAME:KEY`, as `partition` spells it.
    pub key: &'a str,
    /// By what it is judged.
    pub policy: &'a Policy,
    /// Units.
    pub cost: u64,
}

/// Bounds of the store in process memory (`[memory]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Keys counted at once; beyond it, those that are nearest to being full again are forgotten first.
    pub max_keys: usize,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { max_keys: 100_000 }
    }
}

/// What a limit does while Redis is away (`on_outage`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// Counts in process memory.
    #[default]
    Local,
    /// Lets everything pass.
    Open,
    /// Refuses everything with 503.
    Closed,
}
