//! How much, in how long: `100 per minute`.

use std::time::Duration;

/// `amount` units in every `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Units; at least 1.
    pub amount: u64,
    /// The window; at least a second.
    pub per: Duration,
}
