//! Answers GET from stored responses (RFC 9111).
//!
//! 1. *Storable* (may be kept) and *reusable* (may be sent) are two decisions; `rules` holds both, one file for each
//!    section of the RFC, all of it pure.
//! 2. A write invalidates before its writer hears of its success; a response that was fetched before that can never
//!    be reused after it. `store` has the scheme and its proof.
//! 3. A store that is slow, full, gone, or returns rubbish is a miss. Content streams to the client while it is kept.
//! 4. What was answered to somebody's credentials is shared only if the response says so itself; what was answered to
//!    nobody in particular is not sent to somebody unless it says so either.

pub mod coalesce;
pub mod encode;
mod key;
mod layer;
mod observe;
mod policy;
pub mod purge;
pub mod reasons;
pub mod rules;
pub mod store;
pub mod stored;
mod text;
mod under_way;

pub use key::{Besides, Key};
pub use layer::{Cache, OnRoute, Worker, explained, layer};
pub use policy::{
    ClientDirectives, Coalescing, Coding, Cookies, Freshness, KeyPart, Keying, Mode, Policy, QueryKey, Scope,
    SetCookie, Staleness,
};
pub use under_way::UnderWay;

/// Fetches of responses that others may join.
pub type Flights = coalesce::Flights<std::sync::Arc<stored::StoredResponse>>;

/// Bounds of the store in process memory (`[memory]`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Bytes of stored responses.
    pub max_bytes: u64,
    /// Bytes of content on its way into a store, of all responses together; beyond it a response is not stored.
    pub max_filling: u64,
}

/// `[memory]`, as far as is concerned what Redis could not be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwedSettings {
    /// Places whose invalidation failed, remembered one by one; beyond it all that is stored is taken back.
    pub max_places: usize,
}

impl Default for OwedSettings {
    fn default() -> Self {
        Self { max_places: store::MAX_PLACES }
    }
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { max_bytes: 128 << 20, max_filling: 128 << 20 }
    }
}

/// The fields of a head, for tests.
#[cfg(test)]
fn head_of(fields: &[(&'static str, &str)]) -> http::HeaderMap {
    let mut head = http::HeaderMap::new();
    for (name, value) in fields {
        let value = http::HeaderValue::from_bytes(value.as_bytes()).unwrap();
        head.append(http::HeaderName::from_static(name), value);
    }
    head
}
