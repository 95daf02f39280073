//! What `[cache.NAME]` says.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// URIs of a route whose variants' selecting fields a worker remembers, if nothing else is said.
pub const MAX_VARYING: usize = 4096;

/// `[cache.NAME]`: what is stored, for whom, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// NAME.
    pub name: Arc<str>,
    /// Whether stored responses are sent, or only compared with what the app says.
    pub mode: Mode,
    /// How long a response is fresh.
    pub freshness: Freshness,
    /// How long it is of use after that.
    pub staleness: Staleness,
    /// What a `Cookie` in the request means.
    pub cookies: Cookies,
    /// What a `Set-Cookie` in the response means.
    pub set_cookie: SetCookie,
    /// What tells two requests apart besides their URI.
    pub keying: Keying,
    /// POST is a read here, keyed by its content, of at most so many bytes.
    pub post_body: Option<u64>,
    /// Bytes of content beyond which a response is not stored.
    pub max_body: u64,
    /// Redis holds content compressed where it gains by it.
    pub compress: bool,
    /// Redis holds content of more bytes than this in pieces of this size.
    pub piece: u64,
    /// Content codings that sidegate applies itself, the one it likes best first; empty: none.
    pub encode: Vec<Coding>,
    /// Variants of one URI beyond which the oldest is let go of.
    pub max_variants: usize,
    /// URIs of a route whose variants' selecting fields a worker remembers; of others they are asked for first.
    pub max_varying: usize,
    /// One fetch for all who ask for the same at a time.
    pub coalescing: Coalescing,
    /// Response fields that carry tags.
    pub tags: Vec<HeaderName>,
    /// Tags of a response beyond which it is not stored.
    pub max_tags: usize,
    /// `Cache-Status` tells the key, too.
    pub status_key: bool,
    /// Request fields that are written after the store was asked; what the app chose by one of them is not stored.
    pub written: Vec<HeaderName>,
}

/// `mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// What is stored is sent.
    #[default]
    On,
    /// Every request is forwarded; what would have been sent is compared with what the app says.
    Observe,
}

/// How long a response is fresh (RFC 9111 §4.2).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// Of responses that say nothing themselves; `None`: they are not reused.
    pub ttl: Option<Duration>,
    /// Of all that may be stored, whatever they say of their lifetime: for apps whose own words are wrong.
    pub override_ttl: Option<Duration>,
    /// Heuristic freshness (§4.2.2), and its longest; `None`: there is none.
    pub heuristic: Option<Duration>,
    /// Whether the client's directives are heard (§5.2.1).
    pub client_directives: ClientDirectives,
}

/// `client_directives`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ClientDirectives {
    /// Only `no-store`, which means: do not store.
    #[default]
    Ignore,
    /// All of RFC 9111 §5.2.1; what demands something newer gets it by validation.
    Honour,
}

/// What a stored response is good for when it is fresh no more (RFC 9111 §4.2.4, RFC 5861).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Staleness {
    /// How long it is kept: to be validated, and to answer where that is allowed.
    pub keep: Duration,
    /// `stale-while-revalidate` of responses that do not say it.
    pub while_revalidate: Duration,
    /// `stale-if-error` of responses that do not say it: for 500, 502, 503, 504.
    pub if_error: Duration,
    /// It answers while the app cannot be reached, or drops the connection, for as long as it is kept.
    pub if_unreachable: bool,
    /// For how long a refresh that failed is not tried again.
    pub retry: Duration,
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

/// What a `Set-Cookie` field in a response means to the cache (`set_cookie`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SetCookie {
    /// It is for one client: the response is not stored.
    #[default]
    Refuse,
    /// The response is stored without it; the client that caused it gets it.
    Strip,
    /// Nothing: everybody gets the same cookie.
    Store,
}

/// What tells two requests apart besides scheme, authority, path and query as sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keying {
    /// Facts about the request, in the key as they are.
    pub by: Vec<KeyPart>,
    /// What of the query is in the key.
    pub query: QueryKey,
}

/// A fact in the key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyPart {
    /// The verified principal: what is private is then stored for it alone.
    Principal,
    /// A request field, all its lines.
    Field(HeaderName),
}

/// What of the query is in the key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueryKey {
    /// Parameters are sorted by name; those of one name keep their order.
    pub sorted: bool,
    /// Only these parameters; empty: all. `utm_*` is a prefix.
    pub keep: Vec<String>,
    /// Not these.
    pub drop: Vec<String>,
    /// These in any case: parameters that carry credentials, as far as the configuration tells.
    pub credentials: Vec<String>,
}

/// A content coding that sidegate can apply (RFC 9110 §8.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// `br` (RFC 7932).
    Brotli,
    /// `zstd` (RFC 8878).
    Zstd,
    /// `gzip` (RFC 1952).
    Gzip,
}

/// One fetch for all who ask for the same at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Coalescing {
    /// Among whom.
    pub scope: Scope,
    /// Requests that wait for one fetch, at most; others go their own way.
    pub max_waiters: usize,
    /// For how long it is remembered that an answer could not be shared.
    pub hit_for_miss: Duration,
    /// How long another instance's fetch is waited for.
    pub fleet_wait: Duration,
}

/// Whose requests are coalesced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// Nobody's.
    Off,
    /// Those of this process.
    #[default]
    Process,
    /// Those of all instances on one Redis.
    Fleet,
}

impl Policy {
    /// The policy called `name`, with all defaults.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            mode: Mode::default(),
            freshness: Freshness::default(),
            staleness: Staleness::default(),
            cookies: Cookies::default(),
            set_cookie: SetCookie::default(),
            keying: Keying::default(),
            post_body: None,
            max_body: 8 << 20,
            compress: true,
            piece: 512 << 10,
            encode: Vec::new(),
            max_variants: 64,
            max_varying: MAX_VARYING,
            coalescing: Coalescing::default(),
            tags: vec![HeaderName::from_static("cache-tag"), HeaderName::from_static("surrogate-key")],
            max_tags: 64,
            status_key: false,
            written: Vec::new(),
        }
    }

    /// Whether what is stored is stored for one principal only.
    pub fn is_by_principal(&self) -> bool {
        self.keying.by.contains(&KeyPart::Principal)
    }
}

impl Default for Staleness {
    fn default() -> Self {
        Self {
            keep: Duration::from_secs(10 * 60),
            while_revalidate: Duration::ZERO,
            if_error: Duration::ZERO,
            if_unreachable: true,
            retry: Duration::from_secs(1),
        }
    }
}

impl Default for Coalescing {
    fn default() -> Self {
        Self {
            scope: Scope::default(),
            max_waiters: 10_000,
            hit_for_miss: Duration::from_secs(10),
            fleet_wait: Duration::from_secs(5),
        }
    }
}
