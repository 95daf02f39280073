//! Whether a stored response is sent, validated first, or stands in for an app that fails (RFC 9111 §4, §4.2.4, RFC 5861).
//!
//! In this order:
//! 1. `no-cache` in the response: validated at each use (§5.2.2.4).
//! 2. What the client demands of the age: `no-cache`, `max-age`, `min-fresh`. What does not meet it is validated, never
//!    fetched anew without a condition.
//! 3. Fresh: sent.
//! 4. Stale, and the response does not forbid it (`must-revalidate`, `proxy-revalidate`, `s-maxage`): sent within
//!    `stale-while-revalidate`, and refreshed behind; or because the client takes it (`max-stale`).
//! 5. Else validated. An app that fails meanwhile is stood in for, unless the response forbids it.
//!
//! # Why
//! `s-maxage` forbids what `stale-while-revalidate` beside it allows: §5.2.2.10 gives it the force of
//! `proxy-revalidate`, and §4.2.4 names it among those that prohibit. An app that wants both says `max-age`, or
//! `CDN-Cache-Control`.
//!
//! The client's directives are wishes (§5.2.1), and heard only by setting: a client that can force its way to the app is a
//! way to attack it. Where the setting hears them, each costs a validation at most. `max-stale` is the exception of
//! rule 4: it makes nobody work.

use http::header::{CACHE_CONTROL, PRAGMA};
use http::{HeaderMap, StatusCode};

use super::VERY_LONG;
use super::directives::directives;
use super::storing::Facts;
use crate::cache::{ClientDirectives, Staleness};

/// What the client asks of a stored response (RFC 9111 §5.2.1). The default asks for nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClientAsks {
    /// `no-store`: nothing of this exchange is stored (§5.2.1.5).
    pub no_store: bool,
    /// `no-cache`, or `Pragma: no-cache` without `Cache-Control` (§5.2.1.4, §5.4).
    pub no_cache: bool,
    /// `only-if-cached`: 504 rather than the app (§5.2.1.7).
    pub only_if_cached: bool,
    /// `max-age`: the greatest age, in seconds (§5.2.1.1).
    pub max_age: Option<u32>,
    /// `max-stale`: how long stale at most, in seconds; [`VERY_LONG`] if it names no number (§5.2.1.2).
    pub max_stale: Option<u32>,
    /// `min-fresh`: how long fresh yet at least, in seconds (§5.2.1.3).
    pub min_fresh: Option<u32>,
}

/// What is done with a stored response. `fresh_for` is in seconds, and negative by how long it has been stale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is sent.
    Fresh {
        /// Seconds for which it stays fresh.
        fresh_for: i64,
    },
    /// It is sent though it is stale.
    Stale {
        /// Zero or less.
        fresh_for: i64,
        /// It is refreshed behind (RFC 5861 §3).
        refresh: bool,
    },
    /// The app is asked whether it still holds.
    Validate {
        /// Why.
        why: NotReused,
        /// As of the others; positive where the client or the response demands what freshness does not.
        fresh_for: i64,
    },
}

/// Why a stored response is not sent as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotReused {
    /// It is stale.
    Stale,
    /// `no-cache` in the response.
    NoCache,
    /// `no-cache` in the request.
    ClientNoCache,
    /// Older than the request's `max-age`.
    ClientMaxAge,
    /// Not as fresh as the request's `min-fresh`.
    ClientMinFresh,
}

/// How the app failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// It could not be reached, fell silent, or dropped the connection.
    Unreachable,
    /// It answered so.
    Status(StatusCode),
}

impl NotReused {
    /// The reason, in a word for `Cache-Status`, logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stale => "stale",
            Self::NoCache => "no-cache",
            Self::ClientNoCache => "request-no-cache",
            Self::ClientMaxAge => "request-max-age",
            Self::ClientMinFresh => "request-min-fresh",
        }
    }

    /// The rule.
    pub fn section(self) -> &'static str {
        match self {
            Self::Stale => "RFC 9111 §4.2",
            Self::NoCache => "RFC 9111 §5.2.2.4",
            Self::ClientNoCache => "RFC 9111 §5.2.1.4",
            Self::ClientMaxAge => "RFC 9111 §5.2.1.1",
            Self::ClientMinFresh => "RFC 9111 §5.2.1.3",
        }
    }

    /// Whether it is the client that asks for more than freshness (`fwd=request` of RFC 9211).
    pub fn is_by_client(self) -> bool {
        matches!(self, Self::ClientNoCache | Self::ClientMaxAge | Self::ClientMinFresh)
    }
}

impl ClientAsks {
    /// Reads a request's fields, as far as they are heard.
    pub fn heard(request: &HeaderMap, heard: ClientDirectives) -> Self {
        let said = directives(request);
        if heard == ClientDirectives::Ignore {
            return Self { no_store: said.no_store, ..Self::default() };
        }
        let pragma = !request.contains_key(CACHE_CONTROL) && says_no_cache(request);
        Self {
            no_store: said.no_store,
            no_cache: said.no_cache || pragma,
            only_if_cached: said.only_if_cached,
            max_age: said.max_age,
            max_stale: said.max_stale,
            min_fresh: said.min_fresh,
        }
    }

    /// What is asked of this stored response: `immutable` answers the reload of a client, which says `max-age`, while it
    /// is fresh (RFC 8246 §2); not `no-cache`, which is a reload by force.
    pub fn of(self, stored: &HeaderMap) -> Self {
        if self.max_age.is_some() && directives(stored).immutable { Self { max_age: None, ..self } } else { self }
    }
}

/// `Pragma: no-cache` (§5.4).
fn says_no_cache(request: &HeaderMap) -> bool {
    let members = request.get_all(PRAGMA).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    members.map(<[u8]>::trim_ascii).any(|member| member.eq_ignore_ascii_case(b"no-cache"))
}

/// What is done with a stored response of this age in seconds.
pub fn judge(facts: &Facts, age: u32, client: &ClientAsks) -> Use {
    let fresh_for = i64::from(facts.lifetime) - i64::from(age);
    let validate = |why| Use::Validate { why, fresh_for };
    if facts.validate {
        return validate(NotReused::NoCache);
    }
    if client.no_cache {
        return validate(NotReused::ClientNoCache);
    }
    if client.max_age.is_some_and(|most| age > most) {
        return validate(NotReused::ClientMaxAge);
    }
    if client.min_fresh.is_some_and(|least| fresh_for < i64::from(least)) {
        return validate(if fresh_for > 0 { NotReused::ClientMinFresh } else { NotReused::Stale });
    }
    if fresh_for > 0 {
        return Use::Fresh { fresh_for };
    }
    let refresh = is_within(facts.while_revalidate, fresh_for);
    let taken = client.max_stale.is_some_and(|most| most == VERY_LONG || is_within(most, fresh_for));
    if facts.strict || !(refresh || taken) { validate(NotReused::Stale) } else { Use::Stale { fresh_for, refresh } }
}

/// Whether a stored response of this age in seconds is sent in place of the app's failure (§4.2.4, RFC 5861 §4).
pub fn stands_in(facts: &Facts, age: u32, failure: Failure, staleness: &Staleness) -> bool {
    let fresh_for = i64::from(facts.lifetime) - i64::from(age);
    if facts.validate || (facts.strict && fresh_for <= 0) {
        return false;
    }
    let keep = u32::try_from(staleness.keep.as_secs()).unwrap_or(u32::MAX);
    match failure {
        Failure::Unreachable => {
            is_within(facts.if_error, fresh_for) || (staleness.if_unreachable && is_within(keep, fresh_for))
        }
        Failure::Status(status) => {
            matches!(status.as_u16(), 500 | 502 | 503 | 504) && is_within(facts.if_error, fresh_for)
        }
    }
}

/// Whether what is stale since `-fresh_for` seconds is so for at most `window` seconds. A window of nothing holds nothing.
fn is_within(window: u32, fresh_for: i64) -> bool {
    window > 0 && -fresh_for <= i64::from(window)
}
