//! The one place that reads the machine's clocks.
//!
//! 1. Wall time is microseconds since the Unix epoch (`u64`); it is what stores, fields and dates are judged by.
//! 2. Monotonic time is [`Instant`]; it is what durations are measured by.
//! 3. Pure code never asks for the time: it is an argument.
//!
//! # Why
//! A test that waits is slow and flaky. [`Clock::manual`] gives a clock that stands still until it is moved, and
//! `.clippy.toml` refuses any other way to read the time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Where the wall time comes from: the machine, or a test's hand.
#[derive(Clone, Debug, Default)]
pub enum Clock {
    /// The machine's own.
    #[default]
    System,
    /// Stands still until moved.
    Manual(Arc<ManualClock>),
}

/// Microseconds since the Unix epoch, set by a test.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl Clock {
    /// A clock that stands at `unix_micros` until it is moved.
    pub fn manual(unix_micros: u64) -> (Self, Arc<ManualClock>) {
        let hand = Arc::new(ManualClock(AtomicU64::new(unix_micros)));
        (Self::Manual(hand.clone()), hand)
    }

    /// Wall time, in microseconds since the Unix epoch.
    #[allow(clippy::disallowed_methods)]
    pub fn unix_micros(&self) -> u64 {
        match self {
            Self::System => SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64),
            Self::Manual(hand) => hand.0.load(Ordering::Relaxed),
        }
    }

    /// Wall time, in whole seconds since the Unix epoch.
    pub fn unix_seconds(&self) -> u64 {
        self.unix_micros() / 1_000_000
    }
}

impl ManualClock {
    /// Moves the clock forward.
    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_micros() as u64, Ordering::Relaxed);
    }

    /// Sets the clock, in microseconds since the Unix epoch.
    pub fn set(&self, unix_micros: u64) {
        self.0.store(unix_micros, Ordering::Relaxed);
    }
}

/// The monotonic clock, for durations.
#[allow(clippy::disallowed_methods)]
pub fn instant() -> Instant {
    Instant::now()
}
