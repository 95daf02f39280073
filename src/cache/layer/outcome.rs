//! What the cache did, said to the client (`X-Cache`, and `Cache-Status` of RFC 9211) and to the metrics.

use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::telemetry::registry::{Counter, Gauge, Registry};

pub(super) const X_CACHE: HeaderName = HeaderName::from_static("x-cache");
pub(super) const CACHE_STATUS: HeaderName = HeaderName::from_static("cache-status");

/// Why the app is asked though the store was.
#[derive(Clone, Copy, Debug)]
pub(super) enum Why {
    /// Nothing is stored for this URI.
    UriMiss,
    /// Nothing is stored for a request with these fields.
    VaryMiss,
    /// What is stored is not fresh.
    Stale,
    /// What is stored is not for requests with credentials.
    Credentials(&'static str),
}

/// Where a stored response was found.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tier {
    /// In the store in process memory.
    Memory,
    /// In what this process remembers of Redis.
    Near,
    /// In Redis.
    Redis,
}

impl Tier {
    const ALL: [&str; 3] = ["memory", "near", "redis"];
}

/// What is counted.
pub(super) struct Metrics {
    hit: Counter,
    tiers: [Counter; 3],
    pub(super) miss: Counter,
    pub(super) expired: Counter,
    pub(super) bypass: Counter,
    pub(super) stored_bytes: Gauge,
}

impl Why {
    /// The outcome and its reason, for logs and metrics.
    pub(super) fn words(self) -> (&'static str, &'static str) {
        match self {
            Self::UriMiss => ("miss", "uri-miss"),
            Self::VaryMiss => ("miss", "vary-miss"),
            Self::Stale => ("expired", "stale"),
            Self::Credentials(kind) => ("bypass", kind),
        }
    }

    /// The value of `X-Cache`.
    pub(super) fn x_cache(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::UriMiss | Self::VaryMiss => "MISS",
            Self::Stale => "EXPIRED",
            Self::Credentials(_) => "BYPASS",
        })
    }
}

impl Metrics {
    /// The counters of the cache called so.
    pub(super) fn new(registry: &Registry, worker: usize, cache: &str) -> Self {
        let counter = |outcome| {
            let help = "Requests to cached routes, by what the cache did.";
            registry.counter(worker, "sidegate_cache_requests_total", help, &[("cache", cache), ("outcome", outcome)])
        };
        let tiers = Tier::ALL.map(|tier| {
            let help = "Answers from the store, by where they were found.";
            registry.counter(worker, "sidegate_cache_hits_total", help, &[("cache", cache), ("tier", tier)])
        });
        // One figure for the whole process: whoever stored last says it, in the first worker's slot.
        let stored = registry.gauge(0, "sidegate_cache_stored_bytes", "Bytes of responses stored in memory.", &[]);
        Self {
            hit: counter("hit"),
            tiers,
            miss: counter("miss"),
            expired: counter("expired"),
            bypass: counter("bypass"),
            stored_bytes: stored,
        }
    }

    /// Counts an answer from the store.
    pub(super) fn hits(&self, tier: Tier) {
        self.hit.inc();
        self.tiers[tier as usize].inc();
    }

    /// The counter of an outcome, as [`Why::words`] calls it.
    pub(super) fn forwarded(&self, why: Why) -> &Counter {
        match why {
            Why::UriMiss | Why::VaryMiss => &self.miss,
            Why::Stale => &self.expired,
            Why::Credentials(_) => &self.bypass,
        }
    }
}

/// `Cache-Status` of an answer that the app gave; `not_stored` is the reason why it is not kept, if it is not.
pub(super) fn forward_status(why: Why, status: StatusCode, not_stored: Option<&'static str>) -> String {
    let (forwarded, detail) = match why {
        Why::UriMiss => ("uri-miss", not_stored),
        Why::VaryMiss => ("vary-miss", not_stored),
        Why::Stale => ("stale", not_stored),
        Why::Credentials(kind) => ("bypass", Some(kind)),
    };
    let mut text = format!("sidegate; fwd={forwarded}; fwd-status={}", status.as_u16());
    if not_stored.is_none() {
        text.push_str("; stored");
    }
    if let Some(detail) = detail {
        text.push_str("; detail=");
        text.push_str(detail);
    }
    text
}

/// `sidegate; hit; ttl=41`, without the machinery of `format!`: every hit needs one.
pub(super) fn hit_status(fresh_for: u32) -> HeaderValue {
    let mut text = Vec::with_capacity(32);
    text.extend_from_slice(b"sidegate; hit; ttl=");
    text.extend_from_slice(itoa::Buffer::new().format(fresh_for).as_bytes());
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text))
        .unwrap_or_else(|_| HeaderValue::from_static("sidegate; hit"))
}

/// Says what the cache did.
pub(super) fn mark(response: &mut Response<Body>, x_cache: HeaderValue, cache_status: &str) {
    let head = response.headers_mut();
    head.insert(X_CACHE, x_cache);
    if let Ok(cache_status) = HeaderValue::from_str(cache_status) {
        head.append(CACHE_STATUS, cache_status);
    }
}
