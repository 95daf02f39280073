//! What active health checks say about an endpoint. Pure.
//!
//! 1. An endpoint is healthy until checks say otherwise: a start waits for no check.
//! 2. `unhealthy_after` failed checks in a row make it unhealthy, `healthy_after` passed ones healthy again.
//! 3. A check passes if the answer's status is among the expected ones; no answer in time is a failure.

use std::ops::RangeInclusive;
use std::time::Duration;

/// `health_check`: how endpoints are asked whether they are well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// The path of a GET.
    pub path: String,
    /// How often.
    pub every: Duration,
    /// How long connection and answer may take together.
    pub timeout: Duration,
    /// Failed checks in a row that make it unhealthy.
    pub unhealthy_after: u32,
    /// Passed checks in a row that make it healthy.
    pub healthy_after: u32,
    /// The statuses that pass.
    pub expect: RangeInclusive<u16>,
}

impl Check {
    /// The defaults, for a check of `path`.
    pub fn of(path: &str) -> Self {
        Self {
            path: path.to_owned(),
            every: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            unhealthy_after: 3,
            healthy_after: 2,
            expect: 200..=399,
        }
    }

    /// Reads statuses: `200-399`, `204`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn statuses(text: &str) -> Result<RangeInclusive<u16>, String> {
        let status = |text: &str| text.trim().parse().ok().filter(|status| (200..=599).contains(status));
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (status(first), status(last)) {
            (Some(first), Some(last)) if first <= last => Ok(first..=last),
            _ => Err(format!("`{text}` is neither a status from 200 to 599 nor a range of them, like `200-399`")),
        }
    }
}

/// What the checks of one endpoint have said so far.
#[derive(Debug)]
pub struct Checked {
    healthy: bool,
    /// Checks in a row that said the contrary.
    contrary: u32,
}

impl Default for Checked {
    fn default() -> Self {
        Self { healthy: true, contrary: 0 }
    }
}

impl Checked {
    /// Whether it is healthy.
    pub fn is_healthy(&self) -> bool {
        self.healthy
    }

    /// Takes in a check: whether that changed anything.
    pub fn note(&mut self, check: &Check, passed: bool) -> bool {
        if passed == self.healthy {
            self.contrary = 0;
            return false;
        }
        self.contrary += 1;
        let needed = if self.healthy { check.unhealthy_after } else { check.healthy_after };
        let turned = self.contrary >= needed;
        if turned {
            *self = Self { healthy: passed, contrary: 0 };
        }
        turned
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_checks_in_a_row_turn_an_endpoint() {
        let (check, mut checked) = (Check::of("/"), Checked::default());
        let said = [false, false, true, false, false, false, true, false, true, true].map(|passed| {
            checked.note(&check, passed);
            checked.is_healthy()
        });
        assert_eq!(said, [true, true, true, true, true, false, false, false, false, true]);
    }

    #[test]
    fn statuses_are_one_or_a_range() {
        assert_eq!(Check::statuses("200-399"), Ok(200..=399));
        assert_eq!(Check::statuses("204"), Ok(204..=204));
        for wrong in ["", "2xx", "399-200", "100", "200-600", "200-"] {
            assert!(Check::statuses(wrong).is_err(), "{wrong}");
        }
    }
}
