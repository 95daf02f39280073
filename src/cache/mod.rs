//! Answers GET from stored responses (RFC 9111).
//!
//! 1. *Storable* (may be kept) and *reusable* (may be sent) are two decisions; `rules` holds both, one file for each
//!    section of the RFC, all of it pure.
//! 2. A write invalidates before its writer hears of its success; a response that was fetched before that can never
//!    be reused after it. `store` has the scheme and its proof.
//! 3. A store that is slow, full, gone, or returns rubbish is a miss. Content streams to the client while it is kept.
//! 4. What was answered to somebody's credentials is shared only if the response says so itself; what was answered to
//!    nobody in particular is not sent to somebody unless it says so either.

mod key;
mod layer;
pub mod rules;
pub mod store;
pub mod stored;

pub use key::Key;
pub use layer::{Cache, OnRoute, Worker, layer};

use std::sync::Arc;
use std::time::Duration;

/// `[cache.NAME]`: what is stored and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// NAME.
    pub name: Arc<str>,
    /// Freshness lifetime of responses that say nothing themselves; `None`: they are not stored.
    pub ttl: Option<Duration>,
    /// Bytes of content beyond which a response is not stored.
    pub max_body: u64,
    /// What a `Cookie` in the request means.
    pub cookies: Cookies,
    /// Redis holds content compressed where it gains by it.
    pub compress: bool,
}

/// What a `Cookie` field in a request means to the cache (`cookies`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Cookies {
    /// A credential, as Authorization is: the response is shared only if it says so itself (RFC 9111 §3.5).
    #[default]
    Private,
    /// Nothing: the app answers everybody alike.
    Ignore,
}

/// Bounds of the store in process memory (`[memory]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Bytes of stored responses.
    pub max_bytes: u64,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { max_bytes: 128 * 1024 * 1024 }
    }
}
