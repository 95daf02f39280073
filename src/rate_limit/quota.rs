//! How much, in how long: `100 per minute`.

use std::fmt;
use std::time::Duration;

/// `amount` units in every `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quota {
    /// Units; at least 1.
    pub amount: u64,
    /// The window; at least a second.
    pub per: Duration,
}

/// As the configuration spells it: `100 per minute`, `5 per 90s`.
impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 4] = [("second", 1), ("minute", 60), ("hour", 3_600), ("day", 86_400)];
        match UNITS.iter().find(|(_, seconds)| self.per == Duration::from_secs(*seconds)) {
            Some((unit, _)) => write!(f, "{} per {unit}", self.amount),
            None => write!(f, "{} per {}", self.amount, humantime::format_duration(self.per)),
        }
    }
}
