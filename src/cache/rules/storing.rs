//! Whether a response is storable, and what about it is remembered (RFC 9111 §3).
//!
//! In this order, the first that applies is the reason why it is not stored:
//! 1. The answer was made by sidegate itself, or the request said `no-store` (§5.2.1.5).
//! 2. It is not final, or 206 or 304: no whole response. (`must-understand`, §5.2.2.3: a status we know nothing of.)
//! 3. `no-store`; `private`; `no-cache`, which nothing here could reuse, as nothing is validated yet.
//! 4. `Set-Cookie`: it was meant for one client.
//! 5. `Vary` leaves nobody else to answer. An event stream, which has no end to wait for.
//! 6. The request carried credentials and the response does not say that it is for all: `public`, `s-maxage`, or
//!    `must-revalidate` beside a lifetime of its own (§3.5).
//! 7. Nobody says how long it is fresh, or it is stale already.

use std::time::Duration;

use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::directives::{self, Directives, directives};
use super::freshness::{self, Lifetime};
use super::vary::{self, Vary};
use super::{VERY_LONG, age};
use crate::cache::{Policy, SetCookie};

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotStored {
    /// `no-store` in the request.
    RequestNoStore,
    /// Sidegate's own answer.
    LocalReply,
    /// Not a status whose response can be reused.
    Status,
    /// `no-store`.
    NoStore,
    /// `private`.
    Private,
    /// `no-cache`.
    NoCache,
    /// `Set-Cookie`.
    SetCookie,
    /// `Vary: *`, or more selecting fields than are kept apart.
    Vary,
    /// `text/event-stream`.
    EventStream,
    /// Made for credentials, and not said to be for all.
    Credentials,
    /// No lifetime.
    NoLifetime,
    /// Stale on arrival.
    Stale,
}

impl NotStored {
    /// The reason, in a word for `Cache-Status`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestNoStore => "request-no-store",
            Self::LocalReply => "local-reply",
            Self::Status => "status",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::NoCache => "no-cache",
            Self::SetCookie => "set-cookie",
            Self::Vary => "vary",
            Self::EventStream => "event-stream",
            Self::Credentials => "credentials",
            Self::NoLifetime => "no-lifetime",
            Self::Stale => "stale",
        }
    }
}

/// What was known of the request when it went to the app.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// It carried credentials.
    pub credentials: bool,
    /// It said `no-store`.
    pub no_store: bool,
}

/// What a hit needs to know of a stored response, worked out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When it was received, in seconds since the Unix epoch.
    pub received: u64,
    /// How old it was then, in seconds.
    pub initial_age: u32,
    /// Its freshness lifetime, in seconds.
    pub lifetime: u32,
    /// It may answer requests with credentials.
    pub shareable: bool,
    /// It is validated at each use (`no-cache`, §5.2.2.4).
    pub validate: bool,
    /// It never answers when it is stale (`must-revalidate`, `proxy-revalidate`, `s-maxage`, `no-cache`; §4.2.4).
    pub strict: bool,
    /// Seconds beyond its freshness for which it answers while it is refreshed (RFC 5861 §3).
    pub while_revalidate: u32,
    /// Seconds beyond its freshness for which it answers for an app that fails (RFC 5861 §4).
    pub if_error: u32,
}

impl Facts {
    /// Its age at `now`, in seconds.
    pub fn age(&self, now: u64) -> u32 {
        age::current_age(self.initial_age, self.received, now)
    }

    /// Seconds for which it is still fresh at the age given; `None`: it is stale (§4.2).
    pub fn fresh_for(&self, age: u32) -> Option<u32> {
        self.lifetime.checked_sub(age).filter(|left| *left > 0)
    }
}

/// What storing a response takes: its facts, and how its variants are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Storable {
    /// For later hits.
    pub facts: Facts,
    /// The selecting fields, if it has any.
    pub selecting: Option<vary::Selecting>,
}

/// Decides whether the response with this head is stored. `received` is in seconds since the Unix epoch.
///
/// # Errors
/// The reason why it is not.
pub fn storable(
    asked: Asked,
    status: StatusCode,
    head: &HeaderMap,
    policy: &Policy,
    received: u64,
) -> Result<Storable, NotStored> {
    let said = directives(head);
    if asked.no_store {
        return Err(NotStored::RequestNoStore);
    }
    if !is_whole(status) || (said.must_understand && !is_understood(status)) {
        return Err(NotStored::Status);
    }
    if let Some(reason) = forbidden(&said) {
        return Err(reason);
    }
    if head.contains_key(SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    let selecting = match vary::vary(head) {
        Vary::Nothing => None,
        Vary::By(selecting) => Some(selecting),
        Vary::Everything => return Err(NotStored::Vary),
    };
    if is_event_stream(head) {
        return Err(NotStored::EventStream);
    }
    let lifetime = freshness::lifetime(status, head, &said, policy.freshness.ttl, received);
    let shareable =
        said.public || said.s_maxage.is_some() || (said.must_revalidate && matches!(lifetime, Lifetime::Explicit(_)));
    if asked.credentials && !shareable {
        return Err(NotStored::Credentials);
    }
    let (Lifetime::Explicit(lifetime) | Lifetime::Configured(lifetime)) = lifetime else {
        return Err(NotStored::NoLifetime);
    };
    let initial_age = age::initial_age(head, asked.at, received);
    let facts = Facts {
        received,
        initial_age,
        lifetime,
        shareable,
        validate: said.no_cache,
        strict: said.no_cache || said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some(),
        while_revalidate: said.while_revalidate.unwrap_or_else(|| seconds(policy.staleness.while_revalidate)),
        if_error: said.if_error.unwrap_or_else(|| seconds(policy.staleness.if_error)),
    };
    facts.fresh_for(initial_age).ok_or(NotStored::Stale)?;
    Ok(Storable { facts, selecting })
}

/// Takes out of the fields of a response, or of one that was freshened, what is not stored: what `no-cache` and `private` name
/// (§5.2.2.4, §5.2.2.7), and by setting `Set-Cookie`.
pub fn strip(head: &mut HeaderMap, policy: &Policy) {
    for name in directives::withheld(head) {
        head.remove(name);
    }
    if policy.set_cookie != SetCookie::Store {
        head.remove(SET_COOKIE);
    }
}

/// Whole seconds, at most [`VERY_LONG`].
fn seconds(time: Duration) -> u32 {
    time.as_secs().min(u64::from(VERY_LONG)) as u32
}

fn forbidden(said: &Directives) -> Option<NotStored> {
    match said {
        Directives { no_store: true, .. } => Some(NotStored::NoStore),
        Directives { private: true, .. } => Some(NotStored::Private),
        Directives { no_cache: true, .. } => Some(NotStored::NoCache),
        _ => None,
    }
}

fn is_whole(status: StatusCode) -> bool {
    !status.is_informational() && status != StatusCode::PARTIAL_CONTENT && status != StatusCode::NOT_MODIFIED
}

/// Statuses whose caching requirements we meet: those of RFC 9110 that can be reused.
fn is_understood(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 300 | 301 | 302 | 307 | 308 | 404 | 405 | 410 | 414 | 501)
}

fn is_event_stream(head: &HeaderMap) -> bool {
    const TYPE: &[u8] = b"text/event-stream";
    head.get(CONTENT_TYPE)
        .and_then(|value| value.as_bytes().get(..TYPE.len()))
        .is_some_and(|start| start.eq_ignore_ascii_case(TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use std::time::Duration;

    const NOW: u64 = 784_111_777; // Sun, 06 Nov 1994 08:49:37 GMT
    const ANYONE: Asked = Asked { at: NOW, credentials: false, no_store: false };
    const SOMEONE: Asked = Asked { credentials: true, ..ANYONE };

    fn decide(asked: Asked, status: u16, fields: &[(&'static str, &'static str)]) -> Result<Storable, NotStored> {
        let mut head = HeaderMap::new();
        for (name, value) in fields {
            head.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        let mut policy = Policy::new("pages");
        policy.freshness.ttl = Some(Duration::from_secs(30));
        storable(asked, StatusCode::from_u16(status).unwrap(), &head, &policy, NOW)
    }

    #[test]
    fn each_rule_gives_its_reason() {
        use NotStored::*;
        let fresh = ("cache-control", "max-age=60");
        type Fields<'a> = &'a [(&'static str, &'static str)];
        let cases: &[(Asked, u16, Fields, Option<NotStored>)] = &[
            (ANYONE, 200, &[], None), // by the configured ttl
            (ANYONE, 200, &[fresh], None),
            (ANYONE, 404, &[fresh], None),
            (ANYONE, 404, &[], Some(NoLifetime)),
            (ANYONE, 599, &[fresh], None),
            (ANYONE, 999, &[fresh], None),
            (ANYONE, 206, &[fresh], Some(Status)),
            (ANYONE, 304, &[fresh], Some(Status)),
            (ANYONE, 103, &[fresh], Some(Status)),
            (ANYONE, 599, &[("cache-control", "max-age=60, must-understand")], Some(Status)),
            (ANYONE, 404, &[("cache-control", "max-age=60, must-understand")], None),
            (Asked { no_store: true, ..ANYONE }, 200, &[fresh], Some(RequestNoStore)),
            (ANYONE, 200, &[fresh, ("cache-control", "No-Store")], Some(NoStore)),
            (ANYONE, 200, &[("cache-control", "no-store, must-understand")], Some(NoStore)),
            (ANYONE, 200, &[("cache-control", "max-age=60, private")], Some(Private)),
            (ANYONE, 200, &[("cache-control", "public, no-cache")], Some(NoCache)),
            (ANYONE, 200, &[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")], Some(SetCookie)),
            (ANYONE, 200, &[fresh, ("vary", "*")], Some(Vary)),
            (ANYONE, 200, &[("content-type", "Text/Event-Stream; charset=x")], Some(EventStream)),
            (ANYONE, 200, &[("cache-control", "max-age=0")], Some(Stale)),
            (ANYONE, 200, &[fresh, ("age", "60")], Some(Stale)),
            (ANYONE, 200, &[fresh, ("age", "59")], None),
            (ANYONE, 200, &[("expires", "0")], Some(Stale)),
            (SOMEONE, 200, &[], Some(Credentials)),
            (SOMEONE, 200, &[fresh], Some(Credentials)),
            (SOMEONE, 200, &[("cache-control", "public")], None),
            (SOMEONE, 200, &[("cache-control", "s-maxage=60")], None),
            (SOMEONE, 200, &[("cache-control", "max-age=60, must-revalidate")], None),
            (SOMEONE, 200, &[("cache-control", "must-revalidate")], Some(Credentials)),
        ];
        for (asked, status, fields, expected) in cases {
            assert_eq!(decide(*asked, *status, fields).err(), *expected, "{asked:?} {status} {fields:?}");
        }
    }

    #[test]
    fn what_is_remembered_is_what_a_hit_needs() {
        let stored =
            decide(ANYONE, 200, &[("cache-control", "s-maxage=60"), ("age", "10"), ("vary", "accept")]).unwrap();
        let facts = Facts {
            received: NOW,
            initial_age: 10,
            lifetime: 60,
            shareable: true,
            validate: false,
            strict: true,
            while_revalidate: 0,
            if_error: 0,
        };
        assert_eq!(stored.facts, facts);
        assert_eq!(stored.selecting.unwrap().names(), ["accept"]);
        assert_eq!(facts.fresh_for(facts.age(NOW + 49)), Some(1));
        assert_eq!(facts.fresh_for(facts.age(NOW + 50)), None);
    }
}
