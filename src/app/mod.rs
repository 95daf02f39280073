//! The life of the process: start, reload, drain.
//!
//! 1. Everything that can fail at start does so before the first request is accepted, and says why.
//! 2. A reload builds everything new on every worker before any of it is used; if one part fails, all stays as it was.
//! 3. What did not change is kept: connections, counters, stored responses. A request ends under the configuration
//!    it began with.
//! 4. Told to stop, the process says it is not ready, stops accepting, finishes what it has begun within the grace
//!    period, and exits with 0. Told twice, it exits at once. See `drain`.
//! 5. What is remembered of Redis is kept over a reload that changes nothing about it. See `near`.
//! 6. Files (descriptors) for the apps and Redis are set aside before clients get any. See `files`.
//!
//! # Why
//! Workers share nothing but what is built here ([`Shared`]), so a worker never waits for another one.

mod boot;
mod drain;
mod explain;
mod files;
mod near;
mod reload;
mod rosters;
mod shared;
mod signals;
mod supervisor;
mod worker;

pub use boot::{Failure, Source, Start, run};
pub use files::Files;
pub use near::{prefixes, untrackable};
pub use shared::Shared;
