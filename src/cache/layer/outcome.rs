//! What the cache did, said to the client (`X-Cache`, and `Cache-Status` of RFC 9211) and to the metrics.
//!
//! 1. `hit` and `fwd` exclude each other: who was asked for anything, be it only whether what is stored still holds, was
//!    forwarded to (RFC 9211 §2.1, §2.2).
//! 2. `fwd-status` is what the app said, and is left out where it said nothing (§2.3).
//! 3. `ttl` is that of the stored response, also negative (§2.4); `stored` says that this answer was kept (§2.5).
//! 4. `detail` is why what was stored was not reused, or why this answer is not kept (§2.8): a word, and the rule that says so.

use http::{HeaderName, HeaderValue, Response, StatusCode};

use crate::body::Body;
use crate::cache::reasons;
use crate::cache::rules::reuse::NotReused;
use crate::telemetry::Trail;
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
    /// What is stored may not be sent as it is.
    NotReused(NotReused),
    /// What is stored is a part, and fresh, but not all of what is asked for.
    Partial,
    /// What is stored is not for requests with credentials.
    Credentials(&'static str),
}

/// What a client of a cached route was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// A stored response, fresh.
    Hit,
    /// What the app said; nothing was stored. Or 504: the app was not to be asked.
    Miss,
    /// What the app said; what was stored is out of date.
    Expired,
    /// A stored response; the app said that it still holds.
    Revalidated,
    /// A stored response that is fresh no more.
    Stale,
    /// What the app said; the store was not to be used.
    Bypass,
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

/// What became of a request that found others asking for the same.
#[derive(Clone, Copy, Debug)]
pub(super) enum Together {
    /// It was given another's answer.
    Shared,
    /// Who asked is gone; it asked in its place.
    TookOver,
    /// It waited, and went its own way.
    Parted,
    /// It could not wait.
    Alone,
}

impl Together {
    const ALL: [&str; 4] = ["shared", "took_over", "parted", "alone"];
}

/// What is counted.
pub(super) struct Metrics {
    outcomes: [Counter; 6],
    tiers: [Counter; 3],
    together: [Counter; 4],
    waiting: Gauge,
    pub(super) stored_bytes: Gauge,
}

/// A request that waits for another's fetch, as long as it does.
pub(super) struct Waiting<'a>(&'a Gauge);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.dec();
    }
}

impl Outcome {
    const ALL: [Self; 6] = [Self::Hit, Self::Miss, Self::Expired, Self::Revalidated, Self::Stale, Self::Bypass];

    /// For logs and metrics.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "hit",
            Self::Miss => "miss",
            Self::Expired => "expired",
            Self::Revalidated => "revalidated",
            Self::Stale => "stale",
            Self::Bypass => "bypass",
        }
    }

    /// The value of `X-Cache`.
    pub(super) fn x_cache(self) -> HeaderValue {
        HeaderValue::from_static(match self {
            Self::Hit => "HIT",
            Self::Miss => "MISS",
            Self::Expired => "EXPIRED",
            Self::Revalidated => "REVALIDATED",
            Self::Stale => "STALE",
            Self::Bypass => "BYPASS",
        })
    }
}

impl Why {
    /// What an answer of the app's own is to the client.
    pub(super) fn outcome(self) -> Outcome {
        match self {
            Self::UriMiss | Self::VaryMiss | Self::Partial => Outcome::Miss,
            Self::NotReused(_) => Outcome::Expired,
            Self::Credentials(_) => Outcome::Bypass,
        }
    }

    /// The value of `fwd` (RFC 9211 §2.2).
    pub(super) fn forwarded(self) -> &'static str {
        match self {
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::NotReused(why) if why.is_by_client() => "request",
            Self::NotReused(_) => "stale",
            Self::Partial => "partial",
            Self::Credentials(_) => "bypass",
        }
    }

    /// What `fwd` leaves unsaid.
    pub(super) fn detail(self) -> Option<&'static str> {
        match self {
            Self::UriMiss | Self::VaryMiss | Self::Partial | Self::NotReused(NotReused::Stale) => None,
            Self::NotReused(why) => Some(why.as_str()),
            Self::Credentials(kind) => Some(kind),
        }
    }

    /// For logs.
    pub(super) fn reason(self) -> &'static str {
        self.detail().unwrap_or(self.forwarded())
    }
}

impl Metrics {
    /// The counters of the cache called so.
    pub(super) fn new(registry: &Registry, worker: usize, cache: &str) -> Self {
        let outcomes = Outcome::ALL.map(|outcome| {
            let help = "Requests to cached routes, by what the cache did.";
            let labels = [("cache", cache), ("outcome", outcome.as_str())];
            registry.counter(worker, "sidegate_cache_requests_total", help, &labels)
        });
        let tiers = Tier::ALL.map(|tier| {
            let help = "Answers from the store, by where they were found.";
            registry.counter(worker, "sidegate_cache_hits_total", help, &[("cache", cache), ("tier", tier)])
        });
        let together = Together::ALL.map(|outcome| {
            let help = "Requests that found another request for the same under way, by what became of them.";
            registry.counter(worker, "sidegate_cache_coalesced_total", help, &[("cache", cache), ("outcome", outcome)])
        });
        let help = "Requests that wait for what another has asked the app for.";
        let waiting = registry.gauge(worker, "sidegate_cache_waiting", help, &[("cache", cache)]);
        // One figure for the whole process: whoever stored last says it, in the first worker's slot.
        let stored_bytes =
            registry.gauge(0, "sidegate_cache_stored_bytes", "Bytes of responses stored in memory.", &[]);
        Self { outcomes, tiers, together, waiting, stored_bytes }
    }

    /// Counts an answer from the store.
    pub(super) fn hits(&self, tier: Tier) {
        self.count(Outcome::Hit);
        self.tiers[tier as usize].inc();
    }

    /// Counts what became of a request that found others asking for the same.
    pub(super) fn together(&self, outcome: Together) {
        self.together[outcome as usize].inc();
    }

    /// Counts one that waits, until what is returned is dropped.
    pub(super) fn waiting(&self) -> Waiting<'_> {
        self.waiting.inc();
        Waiting(&self.waiting)
    }

    /// Counts any other.
    pub(super) fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }
}

/// What the app said, where the answer was made of that and of what was stored: an extension of the answer.
#[derive(Clone, Copy)]
pub(super) struct Said(pub(super) StatusCode);

/// What the app said (rule 2); `None`: the answer is ours, because it said nothing, or was not asked.
pub(super) fn said(response: &Response<Body>, trail: &Trail) -> Option<StatusCode> {
    let said = || response.extensions().get::<Said>().map_or(response.status(), |said| said.0);
    trail.borrow().local_reply.is_none().then(said)
}

/// `Cache-Status` of one answer, in the making.
pub(super) struct Status(String);

impl Status {
    /// A stored response, fresh for so many seconds; zero or less: stale.
    pub(super) fn hit(fresh_for: i64) -> Self {
        let mut status = Self(String::with_capacity(48));
        status.0.push_str("sidegate; hit");
        status.ttl(fresh_for)
    }

    /// The app was asked, and said this; `None`: it said nothing.
    pub(super) fn forwarded(why: &str, status: Option<StatusCode>) -> Self {
        let mut text = String::with_capacity(96);
        text.push_str("sidegate; fwd=");
        text.push_str(why);
        if let Some(status) = status {
            text.push_str("; fwd-status=");
            text.push_str(status.as_str());
        }
        Self(text)
    }

    /// Neither was there anything to send, nor anybody asked.
    pub(super) fn neither() -> Self {
        Self("sidegate".to_owned())
    }

    pub(super) fn ttl(mut self, fresh_for: i64) -> Self {
        self.0.push_str("; ttl=");
        self.0.push_str(itoa::Buffer::new().format(fresh_for));
        self
    }

    /// Another's request was forwarded in its place (§2.6).
    pub(super) fn collapsed(mut self) -> Self {
        self.0.push_str("; collapsed");
        self
    }

    pub(super) fn stored(mut self, stored: bool) -> Self {
        if stored {
            self.0.push_str("; stored");
        }
        self
    }

    /// `key`, as a string (RFC 8941 §3.3.3). One that is not ASCII cannot be said.
    pub(super) fn key(mut self, key: Option<&str>) -> Self {
        let Some(key) = key.filter(|key| key.bytes().all(|byte| (b' '..=b'~').contains(&byte))) else { return self };
        self.0.push_str("; key=\"");
        for character in key.chars() {
            if matches!(character, '"' | '\\') {
                self.0.push('\\');
            }
            self.0.push(character);
        }
        self.0.push('"');
        self
    }

    pub(super) fn detail(mut self, detail: Option<&str>) -> Self {
        if let Some(detail) = detail {
            self.0.push_str("; detail=");
            self.0.push_str(&reasons::detail(detail));
        }
        self
    }

    /// Without a copy.
    pub(super) fn value(self) -> HeaderValue {
        let text = bytes::Bytes::from(self.0.into_bytes());
        HeaderValue::from_maybe_shared(text).unwrap_or_else(|_| HeaderValue::from_static("sidegate"))
    }
}

/// Says what the cache did, after what the caches before us say.
pub(super) fn mark(response: &mut Response<Body>, outcome: Outcome, status: Status) {
    let head = response.headers_mut();
    head.insert(X_CACHE, outcome.x_cache());
    head.append(CACHE_STATUS, status.value());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(status: Status) -> String {
        status.value().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_status_says_what_happened_and_no_more() {
        assert_eq!(text(Status::hit(41)), "sidegate; hit; ttl=41");
        assert_eq!(text(Status::hit(-5)), "sidegate; hit; ttl=-5");
        let fetched = Status::forwarded("uri-miss", Some(StatusCode::OK)).stored(true);
        assert_eq!(text(fetched), "sidegate; fwd=uri-miss; fwd-status=200; stored");
        let shared = Status::forwarded("uri-miss", Some(StatusCode::OK)).ttl(60).collapsed();
        assert_eq!(text(shared), "sidegate; fwd=uri-miss; fwd-status=200; ttl=60; collapsed");
        let stood_in = Status::forwarded("stale", None).ttl(-7).stored(false).detail(Some("unreachable"));
        assert_eq!(text(stood_in), "sidegate; fwd=stale; ttl=-7; detail=\"unreachable: RFC 9111 4.2.4\"");
    }

    #[test]
    fn a_key_is_a_string_of_ascii_or_unsaid() {
        let said = |key| text(Status::hit(1).key(Some(key)));
        assert_eq!(said("a.test/x?a=\"b\\c\" http"), "sidegate; hit; ttl=1; key=\"a.test/x?a=\\\"b\\\\c\\\" http\"");
        assert_eq!(said("a.test/\u{e9} http"), "sidegate; hit; ttl=1");
        assert_eq!(text(Status::hit(1).key(None)), "sidegate; hit; ttl=1");
    }
}
