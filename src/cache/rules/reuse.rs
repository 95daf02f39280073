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

use std::time::Duration;

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
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Stale, Self::NoCache, Self::ClientNoCache, Self::ClientMaxAge, Self::ClientMinFresh];

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

/// How long a response is of use from when it was received: while it is fresh, and while it is kept after that or may stand
/// in by RFC 5861 §3 and §4, whichever is longer.
pub fn of_use(facts: &Facts, staleness: &Staleness) -> Duration {
    let fresh = facts.fresh_for(facts.initial_age).unwrap_or(0);
    let stale = staleness.keep.max(Duration::from_secs(facts.while_revalidate.max(facts.if_error).into()));
    Duration::from_secs(fresh.into()).saturating_add(stale)
}

/// Whether what is stale since `-fresh_for` seconds is so for at most `window` seconds. A window of nothing holds nothing.
fn is_within(window: u32, fresh_for: i64) -> bool {
    window > 0 && -fresh_for <= i64::from(window)
}

/// Whether an answer with this status, which is not kept, says that a stored response holds no more, at `now` (seconds since
/// the Unix epoch). One that is fresh stays: what the app once called fresh it has not taken back. One that never answers
/// when it is stale may stay as it is. A failure says nothing, nor does what is about the request, or about whoever sent
/// it, more than about what was asked for (RFC 9110 §15.5).
pub fn is_retired(stored: &Facts, now: u64, status: StatusCode) -> bool {
    let about_request = matches!(status.as_u16(), 206 | 304 | 400 | 406 | 408 | 411..=417 | 421..=431);
    let is_word = !status.is_informational() && status.as_u16() < 500 && !about_request;
    is_word && !stored.strict && stored.fresh_for(stored.age(now)).is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;
    use http::HeaderValue;
    use http::header::CACHE_CONTROL;
    use proptest::prelude::*;

    /// Fresh for a minute.
    const PLAIN: Facts = Facts {
        received: 0,
        initial_age: 0,
        lifetime: 60,
        shareable: false,
        authorized: false,
        validate: false,
        strict: false,
        while_revalidate: 0,
        if_error: 0,
    };
    const BEHIND: Facts = Facts { while_revalidate: 10, ..PLAIN };
    const STRICT: Facts = Facts { strict: true, while_revalidate: 10, if_error: 10, ..PLAIN };
    const NO_CACHE: Facts = Facts { validate: true, ..STRICT };

    fn asks(directives: &'static str) -> ClientAsks {
        ClientAsks::heard(&head(&[("cache-control", directives)]), ClientDirectives::Honour)
    }

    #[test]
    fn a_newer_word_about_it_retires_what_is_stale() {
        for (facts, now, status, expected) in [
            (PLAIN, 60, 200, true),
            (PLAIN, 60, 302, true),
            (PLAIN, 60, 401, true),
            (PLAIN, 60, 403, true),
            (PLAIN, 60, 404, true),
            (PLAIN, 60, 410, true),
            (PLAIN, 60, 451, true),
            (PLAIN, 60, 206, false),
            (PLAIN, 60, 304, false),
            (PLAIN, 60, 400, false),
            (PLAIN, 60, 412, false),
            (PLAIN, 60, 416, false),
            (PLAIN, 60, 429, false),
            (PLAIN, 60, 500, false),
            (PLAIN, 60, 999, false),
            (PLAIN, 59, 404, false), // fresh
            (STRICT, 60, 404, false),
        ] {
            assert_eq!(is_retired(&facts, now, StatusCode::from_u16(status).unwrap()), expected, "{now} {status}");
        }
        let mut retired = Facts { while_revalidate: 10, if_error: 10, ..PLAIN };
        retired.retire();
        for age in [0, 60] {
            assert!(matches!(judge(&retired, age, &asks("max-stale")), Use::Validate { .. }));
            assert!(!stands_in(&retired, age, Failure::Unreachable, &Staleness::default()));
        }
    }

    #[test]
    fn fresh_stale_and_demanding_requests_get_what_they_may() {
        let fresh = |fresh_for| Use::Fresh { fresh_for };
        let stale = |fresh_for, refresh| Use::Stale { fresh_for, refresh };
        let validate = |why, fresh_for| Use::Validate { why, fresh_for };
        use NotReused::*;
        for (facts, age, client, expected) in [
            (PLAIN, 0, "", fresh(60)), // §4.2
            (PLAIN, 59, "", fresh(1)),
            (PLAIN, 60, "", validate(Stale, 0)),
            (PLAIN, 61, "", validate(Stale, -1)),
            (PLAIN, VERY_LONG, "", validate(Stale, 60 - (1 << 31))),
            (NO_CACHE, 0, "", validate(NoCache, 60)), // §5.2.2.4
            (NO_CACHE, 0, "max-stale", validate(NoCache, 60)),
            (STRICT, 59, "", fresh(1)), // §5.2.2.2
            (STRICT, 60, "", validate(Stale, 0)),
            (STRICT, 61, "max-stale", validate(Stale, -1)),
            (BEHIND, 60, "", stale(0, true)), // RFC 5861 §3
            (BEHIND, 70, "", stale(-10, true)),
            (BEHIND, 71, "", validate(Stale, -11)),
            (BEHIND, 71, "max-stale=11", stale(-11, false)), // §5.2.1.2
            (PLAIN, 65, "max-stale=5", stale(-5, false)),
            (PLAIN, 66, "max-stale=5", validate(Stale, -6)),
            (PLAIN, 60, "max-stale=0", validate(Stale, 0)),
            (PLAIN, 9999, "max-stale", stale(60 - 9999, false)),
            (PLAIN, 0, "no-cache", validate(ClientNoCache, 60)), // §5.2.1.4
            (PLAIN, 10, "max-age=10", fresh(50)),                // §5.2.1.1
            (PLAIN, 11, "max-age=10", validate(ClientMaxAge, 49)),
            (PLAIN, 1, "max-age=0", validate(ClientMaxAge, 59)),
            (PLAIN, 65, "max-age=99, max-stale=5", stale(-5, false)),
            (PLAIN, 30, "min-fresh=30", fresh(30)), // §5.2.1.3
            (PLAIN, 31, "min-fresh=30", validate(ClientMinFresh, 29)),
            (BEHIND, 61, "min-fresh=1", validate(Stale, -1)),
        ] {
            assert_eq!(judge(&facts, age, &asks(client)), expected, "{facts:?} {age} {client:?}");
        }
    }

    #[test]
    fn the_client_is_heard_by_setting() {
        let all = "no-store, no-cache, only-if-cached, max-age=1, max-stale=2, min-fresh=3";
        let request = head(&[("cache-control", all)]);
        let ignored = ClientAsks { no_store: true, ..ClientAsks::default() };
        assert_eq!(ClientAsks::heard(&request, ClientDirectives::Ignore), ignored);
        let heard = ClientAsks {
            no_store: true,
            no_cache: true,
            only_if_cached: true,
            max_age: Some(1),
            max_stale: Some(2),
            min_fresh: Some(3),
        };
        assert_eq!(ClientAsks::heard(&request, ClientDirectives::Honour), heard);
    }

    #[test]
    fn pragma_speaks_where_cache_control_does_not() {
        type Fields<'a> = &'a [(&'static str, &'static str)];
        let cases: &[(Fields, bool)] = &[
            (&[("pragma", "no-cache")], true),
            (&[("pragma", "x, No-Cache")], true),
            (&[("pragma", "no-cachet")], false),
            (&[("pragma", "no-cache"), ("cache-control", "max-age=9")], false), // §5.4
        ];
        for (request, expected) in cases {
            let asks = ClientAsks::heard(&head(request), ClientDirectives::Honour);
            assert_eq!(asks.no_cache, *expected, "{request:?}");
            assert!(!ClientAsks::heard(&head(request), ClientDirectives::Ignore).no_cache);
        }
    }

    #[test]
    fn immutable_answers_a_reload_but_not_one_by_force() {
        let immutable = HeaderMap::from_iter([(CACHE_CONTROL, HeaderValue::from_static("max-age=60, immutable"))]);
        assert_eq!(asks("max-age=0").of(&immutable), ClientAsks::default());
        assert_eq!(asks("max-age=0").of(&head(&[])), asks("max-age=0"));
        assert!(asks("no-cache, max-age=0").of(&immutable).no_cache);
        let stale = judge(&PLAIN, 60, &asks("max-age=0").of(&immutable));
        assert_eq!(stale, Use::Validate { why: NotReused::Stale, fresh_for: 0 });
    }

    #[test]
    fn it_is_of_use_for_as_long_as_the_longest_of_what_may_be_done_with_it() {
        let seconds = |keep| Staleness { keep: Duration::from_secs(keep), ..Staleness::default() };
        for (facts, keep, expected) in [
            (PLAIN, 0, 60),
            (PLAIN, 5, 65),
            (Facts { initial_age: 20, ..PLAIN }, 5, 45),
            (Facts { initial_age: 70, ..PLAIN }, 5, 5),
            (Facts { while_revalidate: 10, ..PLAIN }, 5, 70), // RFC 5861 §3
            (Facts { if_error: 3600, while_revalidate: 10, ..PLAIN }, 5, 3660), // §4
            (Facts { if_error: 3, ..PLAIN }, 5, 65),
        ] {
            assert_eq!(of_use(&facts, &seconds(keep)), Duration::from_secs(expected), "{facts:?} {keep}");
        }
        let endless = Staleness { keep: Duration::MAX, ..Staleness::default() };
        assert_eq!(of_use(&PLAIN, &endless), Duration::MAX);
    }

    #[test]
    fn it_stands_in_for_a_failure_unless_that_is_forbidden() {
        let unreachable = Failure::Unreachable;
        let said = |status| Failure::Status(StatusCode::from_u16(status).unwrap());
        let for_errors = Facts { if_error: 10, ..PLAIN };
        let kept = Staleness { keep: Duration::from_secs(20), ..Staleness::default() };
        let never = Staleness { if_unreachable: false, ..kept.clone() };
        for (facts, age, failure, staleness, expected) in [
            (PLAIN, 61, unreachable, &kept, true), // §4.2.4: disconnected
            (PLAIN, 80, unreachable, &kept, true),
            (PLAIN, 81, unreachable, &kept, false),
            (PLAIN, 61, unreachable, &never, false),
            (for_errors, 61, unreachable, &never, true), // RFC 5861 §4
            (for_errors, 70, said(503), &never, true),
            (for_errors, 71, said(503), &never, false),
            (for_errors, 61, said(500), &kept, true),
            (for_errors, 61, said(502), &kept, true),
            (for_errors, 61, said(504), &kept, true),
            (for_errors, 61, said(501), &kept, false),
            (for_errors, 61, said(404), &kept, false),
            (for_errors, 30, said(500), &kept, true), // fresh, and validated for a client
            (PLAIN, 61, said(500), &kept, false),
            (PLAIN, 30, said(500), &kept, false),
            (PLAIN, 30, unreachable, &kept, true),
            (STRICT, 61, unreachable, &kept, false),
            (STRICT, 61, said(500), &kept, false),
            (STRICT, 59, unreachable, &kept, true),
            (NO_CACHE, 0, unreachable, &kept, false),
        ] {
            assert_eq!(stands_in(&facts, age, failure, staleness), expected, "{facts:?} {age} {failure:?}");
        }
    }

    proptest! {
        #[test]
        fn nothing_strict_is_ever_sent_stale(lifetime: u32, age: u32, window: u32, max_stale: Option<u32>, validate: bool) {
            let facts = Facts { lifetime, while_revalidate: window, if_error: window, validate, ..STRICT };
            let client = ClientAsks { max_stale, ..ClientAsks::default() };
            let is_sent = !matches!(judge(&facts, age, &client), Use::Validate { .. });
            prop_assert!(!is_sent || (age < lifetime && !validate));
            prop_assert!(!stands_in(&facts, age, Failure::Unreachable, &Staleness::default()) || (age < lifetime && !validate));
        }

        #[test]
        fn what_is_fresh_without_demands_is_sent(lifetime: u32, age: u32) {
            let is_fresh = matches!(judge(&Facts { lifetime, ..PLAIN }, age, &ClientAsks::default()), Use::Fresh { .. });
            prop_assert_eq!(is_fresh, age < lifetime);
        }
    }
}
