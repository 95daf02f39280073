//! Where counters live.

pub mod memory;
mod packed;
pub mod redis;

use super::algorithm::{Asked, Case, Policy, State};

/// What one request is to be charged under one limit. All charges of a request are settled in one step: if one that binds
/// is refused, none is charged, save those that are even so.
#[derive(Clone, Copy, Debug)]
pub struct Charge<'a> {
    /// `NAME:KEY`, as `partition` spells it.
    pub key: &'a str,
    /// By what it is judged.
    pub policy: &'a Policy,
    /// What is asked, in units.
    pub asked: Asked,
    /// Whether its refusal stops the request. If not (shadow), it is charged if it would allow and the request passes.
    pub binding: bool,
    /// Whether it is charged all the same if it refuses, or another does (`charge_refused`).
    pub even_if_refused: bool,
}

impl<'a> Charge<'a> {
    /// A charge that binds, and is made only if the request passes.
    pub fn new(key: &'a str, policy: &'a Policy, asked: Asked) -> Self {
        Self { key, policy, asked, binding: true, even_if_refused: false }
    }

    /// It, and what is known of its key.
    pub(super) fn case(&self, stored: Option<State>) -> Case<'a> {
        let Self { policy, asked, binding, even_if_refused, .. } = *self;
        Case { policy, stored, asked, binding, even_if_refused }
    }
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
