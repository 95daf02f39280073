//! Whether a response is storable, and what about it is remembered (RFC 9111 §3).
//!
//! In this order, the first that applies is the reason why it is not stored:
//! 1. The answer was made by sidegate itself, or the request said `no-store` (§5.2.1.5).
//! 2. It is not final, or it is about what this client asked besides: 206, 304, 412, 416, and any error where the client
//!    asked for a part or under a condition. (`must-understand`, §5.2.2.3: a status we know nothing of.)
//! 3. `no-store`, except beside `must-understand`. `private`, unless the policy is one whose key holds the principal: to
//!    nobody, and to whoever has more credentials than the key holds, the policy without that is to be applied.
//! 4. `Set-Cookie`: it was meant for one client; by setting it is taken out, or stored.
//! 5. `Vary` leaves nobody else to answer. An event stream, which has no end to wait for.
//! 6. The request carried credentials that are not in the key, and the response does not say that it is for all: `public`,
//!    or `s-maxage`; or `must-revalidate` beside a lifetime of its own, where `Authorization` is all that was carried (§3.5).
//! 7. It is of no use later: not fresh, and no validator by which it could become so again, and no time for which it may
//!    stand in. `no-cache` without a validator is the same.
//!
//! # Why
//! Rule 7 stores what is stale on arrival, or has no lifetime, where a validation can save its content. Only a response to
//! 2xx is validated by the app (RFC 9110 §13.2.1), and only one that is cacheable at all without a lifetime of its own
//! (§3: a heuristically cacheable status, or `public`). What nobody gave a lifetime gets no `stale-while-revalidate` by
//! configuration either: it would be reused without anyone having said so.
//!
//! [`strip`] takes out of a stored response what is not for later: the fields that `no-cache="a"` and `private="a"` name
//! are withheld even where §5.2.2.4 would send them after a validation, as they were then sent with the 304.

use http::header::{CONTENT_TYPE, SET_COOKIE};
use http::{HeaderMap, StatusCode};

use super::age;
use super::directives::{self, Directives};
use super::freshness::{self, Lifetime, whole_seconds};
use super::request::Credentials;
use super::targeted::said;
use super::validation::has_validator;
use super::vary::{self, Vary};
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
    /// `no-cache`, and no validator.
    NoCache,
    /// `Set-Cookie`.
    SetCookie,
    /// The app orders something about the client's session.
    SessionOrder,
    /// `Vary: *`, or more selecting fields than are kept apart.
    Vary,
    /// `text/event-stream`.
    EventStream,
    /// Made for credentials, and not said to be for all.
    Credentials,
    /// More tags than it may have, or one that is none: see [`super::tags`].
    Tags,
    /// No lifetime.
    NoLifetime,
    /// Stale on arrival.
    Stale,
}

impl NotStored {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::RequestNoStore,
        Self::LocalReply,
        Self::Status,
        Self::NoStore,
        Self::Private,
        Self::NoCache,
        Self::SetCookie,
        Self::SessionOrder,
        Self::Vary,
        Self::EventStream,
        Self::Credentials,
        Self::Tags,
        Self::NoLifetime,
        Self::Stale,
    ];

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
            Self::SessionOrder => "session-order",
            Self::Vary => "vary",
            Self::EventStream => "event-stream",
            Self::Credentials => "credentials",
            Self::Tags => "too-many-tags",
            Self::NoLifetime => "no-lifetime",
            Self::Stale => "stale",
        }
    }

    /// The rule: an RFC and its section, or the key of the configuration.
    pub fn section(self) -> &'static str {
        match self {
            Self::RequestNoStore => "RFC 9111 §5.2.1.5",
            Self::LocalReply | Self::Status => "RFC 9111 §3",
            Self::NoStore => "RFC 9111 §5.2.2.5",
            Self::Private => "RFC 9111 §5.2.2.7",
            Self::NoCache => "RFC 9111 §5.2.2.4",
            Self::SetCookie => "cache.set_cookie",
            Self::SessionOrder => "session.issue",
            Self::Vary => "RFC 9111 §4.1",
            Self::EventStream => "HTML §9.2",
            Self::Credentials => "RFC 9111 §3.5",
            Self::Tags => "cache.max_tags",
            Self::NoLifetime => "RFC 9111 §4.2.1",
            Self::Stale => "RFC 9111 §4.2",
        }
    }
}

/// What was known of the request when it went to the app.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// When, in seconds since the Unix epoch.
    pub at: u64,
    /// What it carried that its key does not hold.
    pub credentials: Option<Credentials>,
    /// It said `no-store`.
    pub no_store: bool,
    /// The client asked for a part, or under a condition.
    pub partial: bool,
}

/// What a hit needs to know of a stored response, worked out once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// When it was received, in seconds since the Unix epoch.
    pub received: u64,
    /// How old it was then, in seconds.
    pub initial_age: u32,
    /// Its freshness lifetime, in seconds; zero if nobody says.
    pub lifetime: u32,
    /// It may answer requests with any credentials (`public`, `s-maxage`).
    pub shareable: bool,
    /// It may answer those whose credentials are in `Authorization` alone (also `must-revalidate`, §3.5).
    pub authorized: bool,
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

    /// From now on it answers nobody before the app has said that it holds.
    pub fn retire(&mut self) {
        (self.lifetime, self.while_revalidate, self.if_error, self.strict) = (0, 0, 0, true);
    }

    /// Whether it may answer a request that carries these credentials (§3.5).
    pub fn may_answer(&self, credentials: Option<Credentials>) -> bool {
        credentials.is_none_or(|own| self.shareable || (own.authorization_alone && self.authorized))
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

/// Decides whether the response with this head is stored. `received` is in seconds since the Unix epoch. A policy whose key
/// holds the principal is for the answers to principals (rule 3).
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
    let said = said(head);
    let directives = &said.directives;
    if asked.no_store {
        return Err(NotStored::RequestNoStore);
    }
    if let Some(reason) = forbidden(asked, status, directives, policy.is_by_principal()) {
        return Err(reason);
    }
    if policy.set_cookie == SetCookie::Refuse && head.contains_key(SET_COOKIE) {
        return Err(NotStored::SetCookie);
    }
    let selecting = match vary::vary(head, &policy.written) {
        Vary::Nothing => None,
        Vary::By(selecting) => Some(selecting),
        Vary::Everything => return Err(NotStored::Vary),
    };
    if is_event_stream(head) {
        return Err(NotStored::EventStream);
    }
    let has_lifetime = freshness::explicit(head, &said, received).is_some();
    let shareable = !directives.private && (directives.public || directives.s_maxage.is_some());
    let authorized = shareable || (!directives.private && directives.must_revalidate && has_lifetime);
    let lifetime = freshness::lifetime(status, head, &said, &policy.freshness, received);
    let facts = Facts {
        received,
        initial_age: age::initial_age(head, asked.at, received),
        lifetime: lifetime.seconds(),
        shareable,
        authorized,
        validate: directives.no_cache,
        strict: is_strict(directives),
        while_revalidate: directives.while_revalidate.unwrap_or_else(|| match lifetime {
            Lifetime::Unknown => 0,
            _ => whole_seconds(policy.staleness.while_revalidate),
        }),
        if_error: directives.if_error.unwrap_or_else(|| whole_seconds(policy.staleness.if_error)),
    };
    if !facts.may_answer(asked.credentials) {
        return Err(NotStored::Credentials);
    }
    match useless(status, head, directives, lifetime, &facts) {
        Some(reason) => Err(reason),
        None => Ok(Storable { facts, selecting }),
    }
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

/// Rules 2 and 3. `own`: nobody but the principal who is answered has the key.
fn forbidden(asked: Asked, status: StatusCode, said: &Directives, own: bool) -> Option<NotStored> {
    let is_error = status.is_client_error() || status.is_server_error();
    if !is_for_others(status) || (asked.partial && is_error) || (said.must_understand && !is_understood(status)) {
        Some(NotStored::Status)
    } else if said.unreadable || (said.no_store && !said.must_understand) {
        Some(NotStored::NoStore)
    } else if said.private && !own {
        Some(NotStored::Private)
    } else {
        None
    }
}

/// Rule 7.
fn useless(
    status: StatusCode,
    head: &HeaderMap,
    said: &Directives,
    lifetime: Lifetime,
    facts: &Facts,
) -> Option<NotStored> {
    let can_be_validated = has_validator(head) && status.is_success();
    if said.no_cache && !can_be_validated {
        return Some(NotStored::NoCache);
    }
    if lifetime == Lifetime::Unknown {
        let is_cacheable = freshness::is_heuristic(status) || said.public;
        return (!can_be_validated || !is_cacheable).then_some(NotStored::NoLifetime);
    }
    let stands_in = !facts.strict && (facts.while_revalidate > 0 || facts.if_error > 0);
    let is_fresh = facts.fresh_for(facts.initial_age).is_some();
    (!is_fresh && !can_be_validated && !stands_in).then_some(NotStored::Stale)
}

fn is_strict(said: &Directives) -> bool {
    said.no_cache || said.must_revalidate || said.proxy_revalidate || said.s_maxage.is_some()
}

/// Whether it answers a request for the whole, without conditions.
fn is_for_others(status: StatusCode) -> bool {
    !status.is_informational() && !matches!(status.as_u16(), 206 | 304 | 412 | 416)
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
    const ANYONE: Asked = Asked { at: NOW, credentials: None, no_store: false, partial: false };
    const BEARER: Credentials = Credentials { word: "authorization", authorization_alone: true };
    const COOKIE: Credentials = Credentials { word: "cookie", authorization_alone: false };
    const SOMEONE: Asked = Asked { credentials: Some(BEARER), ..ANYONE };
    const LOGGED_IN: Asked = Asked { credentials: Some(COOKIE), ..ANYONE };
    const ETAG: (&str, &str) = ("etag", "\"a\"");

    fn policy() -> Policy {
        let mut policy = Policy::new("pages");
        policy.freshness.ttl = Some(Duration::from_secs(30));
        policy
    }

    fn decide(asked: Asked, status: u16, fields: &[(&'static str, &'static str)]) -> Result<Storable, NotStored> {
        let mut head = HeaderMap::new();
        for (name, value) in fields {
            head.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        storable(asked, StatusCode::from_u16(status).unwrap(), &head, &policy(), NOW)
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
            (ANYONE, 404, &[ETAG], Some(NoLifetime)), // nothing but a 2xx is validated
            (ANYONE, 201, &[ETAG], Some(NoLifetime)), // not cacheable without a lifetime
            (ANYONE, 204, &[ETAG], None),
            (ANYONE, 204, &[("last-modified", "Sun, 06 Nov 1994 08:00:00 GMT")], None),
            (ANYONE, 201, &[ETAG, ("cache-control", "public")], None),
            (ANYONE, 418, &[fresh], None),
            (ANYONE, 599, &[fresh], None),
            (ANYONE, 999, &[fresh], None),
            (ANYONE, 206, &[fresh], Some(Status)),
            (ANYONE, 304, &[fresh], Some(Status)),
            (ANYONE, 103, &[fresh], Some(Status)),
            (ANYONE, 412, &[fresh], Some(Status)),
            (ANYONE, 416, &[fresh], Some(Status)),
            (Asked { partial: true, ..ANYONE }, 404, &[fresh], Some(Status)),
            (Asked { partial: true, ..ANYONE }, 500, &[fresh], Some(Status)),
            (Asked { partial: true, ..ANYONE }, 200, &[fresh], None),
            (Asked { partial: true, ..ANYONE }, 301, &[fresh], None),
            (ANYONE, 599, &[("cache-control", "max-age=60, must-understand")], Some(Status)),
            (ANYONE, 404, &[("cache-control", "max-age=60, must-understand")], None),
            (Asked { no_store: true, ..ANYONE }, 200, &[fresh], Some(RequestNoStore)),
            (ANYONE, 200, &[fresh, ("cache-control", "No-Store")], Some(NoStore)),
            (ANYONE, 200, &[("cache-control", "no-store, must-understand, max-age=60")], None),
            (ANYONE, 599, &[("cache-control", "no-store, must-understand, max-age=60")], Some(Status)),
            (ANYONE, 200, &[("cache-control", "must-understand, max-age=60, a=\"")], Some(NoStore)),
            (ANYONE, 200, &[("cdn-cache-control", "no-store"), fresh], Some(NoStore)),
            (ANYONE, 200, &[("cdn-cache-control", "max-age=60"), ("cache-control", "no-store")], None),
            (ANYONE, 200, &[("cdn-cache-control", "Max-Age=60"), ("cache-control", "no-store")], Some(NoStore)),
            (ANYONE, 200, &[("cache-control", "max-age=60, private=\"a\"")], None),
            (ANYONE, 200, &[("cache-control", "max-age=60, private")], Some(Private)),
            (ANYONE, 200, &[("cache-control", "public, no-cache")], Some(NoCache)),
            (ANYONE, 200, &[("cache-control", "public, no-cache"), ETAG], None),
            (ANYONE, 200, &[("cache-control", "no-cache=\"a\"")], None),
            (ANYONE, 404, &[("cache-control", "no-cache, max-age=60"), ETAG], Some(NoCache)),
            (ANYONE, 200, &[("cache-control", "public, max-age=60"), ("set-cookie", "a=b")], Some(SetCookie)),
            (ANYONE, 200, &[fresh, ("vary", "*")], Some(Vary)),
            (ANYONE, 200, &[("content-type", "Text/Event-Stream; charset=x")], Some(EventStream)),
            (ANYONE, 200, &[("cache-control", "max-age=0")], Some(Stale)),
            (ANYONE, 200, &[("cache-control", "max-age=0"), ETAG], None),
            (ANYONE, 404, &[("cache-control", "max-age=0"), ETAG], Some(Stale)),
            (ANYONE, 200, &[("cache-control", "max-age=0, stale-while-revalidate=5")], None),
            (ANYONE, 404, &[("cache-control", "max-age=0, stale-if-error=5")], None),
            (ANYONE, 200, &[("cache-control", "max-age=0, stale-if-error=5, proxy-revalidate")], Some(Stale)),
            (ANYONE, 200, &[fresh, ("age", "60")], Some(Stale)),
            (ANYONE, 200, &[fresh, ("age", "59")], None),
            (ANYONE, 200, &[("expires", "0")], Some(Stale)),
            (SOMEONE, 200, &[], Some(Credentials)),
            (SOMEONE, 200, &[fresh], Some(Credentials)),
            (SOMEONE, 200, &[("cache-control", "public")], None),
            (SOMEONE, 200, &[("cache-control", "s-maxage=60")], None),
            (SOMEONE, 200, &[("cache-control", "max-age=60, must-revalidate")], None),
            (LOGGED_IN, 200, &[("cache-control", "public")], None),
            (LOGGED_IN, 200, &[("cache-control", "s-maxage=60")], None),
            (LOGGED_IN, 200, &[("cache-control", "max-age=60, must-revalidate")], Some(Credentials)),
            (SOMEONE, 200, &[("cache-control", "must-revalidate")], Some(Credentials)),
            (SOMEONE, 200, &[("cache-control", "private, s-maxage=60")], Some(Private)),
            (SOMEONE, 200, &[ETAG], Some(Credentials)),
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
            authorized: true,
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

    #[test]
    fn must_revalidate_is_for_authorization_alone() {
        for (said, expected) in [
            ("max-age=60", [true, false, false]),
            ("max-age=60, must-revalidate", [true, true, false]),
            ("must-revalidate", [true, false, false]),
            ("max-age=60, proxy-revalidate", [true, false, false]),
            ("s-maxage=60", [true; 3]),
            ("public", [true; 3]),
        ] {
            let facts = decide(ANYONE, 200, &[("cache-control", said)]).unwrap().facts;
            assert_eq!([None, Some(BEARER), Some(COOKIE)].map(|whose| facts.may_answer(whose)), expected, "{said:?}");
        }
    }

    #[test]
    fn what_is_private_is_stored_for_its_principal_alone() {
        let mut own = policy();
        own.keying.by.push(crate::cache::KeyPart::Principal);
        for (said, expected) in [
            ("private, max-age=60", None),
            ("private, public, s-maxage=60", None),
            ("private, no-store", Some(NotStored::NoStore)),
            ("private, no-cache", Some(NotStored::NoCache)),
        ] {
            let head = HeaderMap::from_iter([(http::header::CACHE_CONTROL, HeaderValue::from_static(said))]);
            let stored = storable(ANYONE, StatusCode::OK, &head, &own, NOW);
            assert_eq!(stored.as_ref().err(), expected.as_ref(), "{said:?}");
            assert!(!stored.is_ok_and(|stored| stored.facts.shareable), "{said:?}");
        }
    }

    #[test]
    fn each_prohibition_of_staleness_is_remembered() {
        for (said, validate, strict) in [
            ("max-age=60", false, false),
            ("max-age=60, no-cache", true, true),
            ("max-age=60, must-revalidate", false, true),
            ("max-age=60, proxy-revalidate", false, true),
            ("s-maxage=60", false, true),
            ("max-age=60, no-cache=\"a\"", false, false),
        ] {
            let facts = decide(ANYONE, 200, &[("cache-control", said), ETAG]).unwrap().facts;
            assert_eq!((facts.validate, facts.strict), (validate, strict), "{said:?}");
        }
    }

    #[test]
    fn times_beyond_freshness_are_the_response_s_or_the_policy_s() {
        let mut policy = policy();
        policy.freshness.ttl = None;
        policy.staleness.while_revalidate = Duration::from_secs(7);
        policy.staleness.if_error = Duration::from_secs(8);
        for (said, expected) in [
            ("max-age=60", (60, 7, 8)),
            ("max-age=60, stale-while-revalidate=1, stale-if-error=2", (60, 1, 2)),
            ("max-age=60, stale-while-revalidate=0", (60, 0, 8)),
            ("public", (0, 0, 8)), // nobody gave it a lifetime
            ("stale-while-revalidate=3", (0, 3, 8)),
        ] {
            let mut head = HeaderMap::from_iter([(HeaderName::from_static("etag"), HeaderValue::from_static("\"a\""))]);
            head.insert(http::header::CACHE_CONTROL, HeaderValue::from_static(said));
            let facts = storable(ANYONE, StatusCode::OK, &head, &policy, NOW).unwrap().facts;
            assert_eq!((facts.lifetime, facts.while_revalidate, facts.if_error), expected, "{said:?}");
        }
    }

    #[test]
    fn set_cookie_is_refused_taken_out_or_stored() {
        for (set_cookie, stored) in
            [(SetCookie::Refuse, None), (SetCookie::Strip, Some(false)), (SetCookie::Store, Some(true))]
        {
            let policy = Policy { set_cookie, ..policy() };
            let mut head = HeaderMap::from_iter([(SET_COOKIE, HeaderValue::from_static("a=b"))]);
            let is_storable = storable(ANYONE, StatusCode::OK, &head, &policy, NOW).is_ok();
            strip(&mut head, &policy);
            assert_eq!(is_storable.then_some(head.contains_key(SET_COOKIE)), stored, "{set_cookie:?}");
        }
    }

    #[test]
    fn fields_that_are_named_are_withheld() {
        let mut head = HeaderMap::new();
        for (name, value) in [
            ("cache-control", "max-age=60, private=\"a\""),
            ("cache-control", "no-cache=\"B, absent\""),
            ("a", "1"),
            ("b", "2"),
            ("c", "3"),
        ] {
            head.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        strip(&mut head, &policy());
        assert_eq!(head.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["cache-control", "c"]);
    }
}
