//! How long a response is fresh (RFC 9111 §4.2.1, §4.2.2).
//!
//! 1. `s-maxage`, else `max-age`, else `Expires` minus `Date`: the first that is there decides, even if it is invalid
//!    (then: stale). Of a targeted field `Expires` is not read (RFC 9213 §2.2).
//! 2. A response that says none of these, and whose status is known to last (or that says `public`), is taken to stay as it
//!    is for a tenth of the time since it was last modified, at most for what `heuristic` says; without that setting not.
//! 3. Else it gets the configured `ttl`, if its status is one of a whole answer or a lasting redirection.
//! 4. `override_ttl` is in the place of whatever 1 to 3 say, for all to which one of 1 and 3 could speak; of an error it only
//!    makes the lifetime shorter.
//!
//! # Why
//! Rule 4 is for apps whose own words are wrong; it replaces their numbers, not their prohibitions, and it does not make
//! errors last that say nothing of it.

use std::time::Duration;

use http::header::{DATE, EXPIRES, LAST_MODIFIED};
use http::{HeaderMap, StatusCode};

use super::targeted::Said;
use super::{VERY_LONG, dates};
use crate::cache::Freshness;

/// How long a response is fresh, from the moment the origin made it, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It says so itself.
    Explicit(u32),
    /// By the age of what it shows (§4.2.2).
    Heuristic(u32),
    /// By the configured `ttl` or `override_ttl`.
    Configured(u32),
    /// Nobody says.
    Unknown,
}

impl Lifetime {
    /// In seconds; nothing where nobody says.
    pub fn seconds(self) -> u32 {
        match self {
            Self::Explicit(seconds) | Self::Heuristic(seconds) | Self::Configured(seconds) => seconds,
            Self::Unknown => 0,
        }
    }
}

/// Statuses that the configured `ttl` speaks of: whole answers and lasting redirections. No error: one that passes in
/// a second would be kept for the whole `ttl`; an app that wants its 404 kept says so itself.
fn is_stable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 300 | 301 | 308 | 410)
}

/// Statuses that RFC 9110 §15.1 defines as heuristically cacheable.
pub fn is_heuristic(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501)
}

/// The freshness lifetime. `received` is in seconds since the Unix epoch.
pub fn lifetime(status: StatusCode, head: &HeaderMap, said: &Said, policy: &Freshness, received: u64) -> Lifetime {
    let own = explicit(head, said, received);
    if let Some(ttl) = policy.override_ttl.map(whole_seconds)
        && (own.is_some() || is_stable(status))
    {
        // What fails now need not fail in a minute: of an error the lifetime is only made shorter.
        let is_error = status.as_u16() >= 400 && !is_stable(status);
        return Lifetime::Configured(if is_error { own.unwrap_or(0).min(ttl) } else { ttl });
    }
    if let Some(seconds) = own {
        return Lifetime::Explicit(seconds);
    }
    if let Some(most) = policy.heuristic
        && (is_heuristic(status) || said.directives.public)
        && let Some(seconds) = a_tenth(head, received)
    {
        return Lifetime::Heuristic(seconds.min(whole_seconds(most)));
    }
    match policy.ttl {
        Some(ttl) if is_stable(status) => Lifetime::Configured(whole_seconds(ttl)),
        _ => Lifetime::Unknown,
    }
}

/// What the response says itself, in seconds (§4.2.1); `None`: nothing.
pub fn explicit(head: &HeaderMap, said: &Said, received: u64) -> Option<u32> {
    let seconds = said.directives.s_maxage.or(said.directives.max_age);
    if seconds.is_some() || said.targeted || !head.contains_key(EXPIRES) {
        return seconds;
    }
    let date = dates::only_date(head, DATE, received).unwrap_or(received);
    let expires = dates::only_date(head, EXPIRES, received).unwrap_or(0);
    Some(bounded(expires.saturating_sub(date)))
}

/// A tenth of the time from `Last-Modified` to `Date`; `None`: that is not known.
fn a_tenth(head: &HeaderMap, received: u64) -> Option<u32> {
    let date = dates::only_date(head, DATE, received).unwrap_or(received);
    let modified = dates::only_date(head, LAST_MODIFIED, received)?;
    date.checked_sub(modified).map(|seconds| bounded(seconds / 10))
}

/// A time in whole seconds, at most [`VERY_LONG`].
pub fn whole_seconds(time: Duration) -> u32 {
    bounded(time.as_secs())
}

fn bounded(seconds: u64) -> u32 {
    seconds.min(u64::from(VERY_LONG)) as u32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::head_of as head;
    use crate::cache::rules::directives::Directives;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const A_MINUTE_PAST: &str = "Sun, 06 Nov 1994 12:01:00 GMT";
    const A_DAY_BEFORE: &str = "Sat, 05 Nov 1994 12:00:00 GMT";
    const RECEIVED: u64 = 784_123_200; // NOON

    fn of(directives: Directives) -> Said {
        Said { directives, targeted: false }
    }

    const TTL: Freshness = Freshness {
        ttl: Some(Duration::from_secs(30)),
        override_ttl: None,
        heuristic: None,
        client_directives: crate::cache::ClientDirectives::Ignore,
    };
    const HEURISTIC: Freshness = Freshness { heuristic: Some(Duration::from_secs(7200)), ..TTL };
    const OVERRIDE: Freshness = Freshness { override_ttl: Some(Duration::from_secs(9)), ..HEURISTIC };

    #[test]
    fn the_first_that_speaks_decides() {
        use Lifetime::*;
        let said = |s_maxage, max_age| of(Directives { s_maxage, max_age, ..Default::default() });
        let targeted = |max_age| Said { targeted: true, ..said(None, max_age) };
        for (said, expires, date, expected) in [
            (said(Some(5), Some(60)), vec![A_MINUTE_PAST], Some(NOON), Explicit(5)),
            (said(Some(0), Some(60)), vec![], None, Explicit(0)),
            (said(Some(60), Some(0)), vec!["0"], None, Explicit(60)),
            (said(None, Some(10)), vec![A_MINUTE_PAST], Some(NOON), Explicit(10)),
            (said(None, None), vec![A_MINUTE_PAST], Some(NOON), Explicit(60)),
            (said(None, None), vec![A_MINUTE_PAST], None, Explicit(60)),
            (said(None, None), vec![A_MINUTE_PAST], Some("rubbish"), Explicit(60)),
            (said(None, None), vec![NOON], Some(A_MINUTE_PAST), Explicit(0)),
            (said(None, None), vec![NOON], Some(NOON), Explicit(0)),
            (said(None, None), vec!["0"], Some(NOON), Explicit(0)),
            (said(None, None), vec![A_MINUTE_PAST, A_MINUTE_PAST], Some(NOON), Explicit(0)),
            (said(None, None), vec![], Some(NOON), Configured(30)),
            (targeted(Some(7)), vec![A_MINUTE_PAST], Some(NOON), Explicit(7)),
            (targeted(None), vec![A_MINUTE_PAST], Some(NOON), Configured(30)),
        ] {
            let mut fields: Vec<_> = expires.iter().map(|line| ("expires", *line)).collect();
            fields.extend(date.map(|date| ("date", date)));
            let found = lifetime(StatusCode::OK, &head(&fields), &said, &TTL, RECEIVED);
            assert_eq!(found, expected, "{said:?} {expires:?}");
        }
    }

    #[test]
    fn the_configured_ttl_is_for_stable_answers_only() {
        let lifetime = |status, policy| {
            let status = StatusCode::from_u16(status).unwrap();
            lifetime(status, &HeaderMap::new(), &of(Directives::default()), policy, RECEIVED)
        };
        let nothing = Freshness::default();
        for status in [200, 203, 300, 301, 308, 410] {
            assert_eq!(lifetime(status, &TTL), Lifetime::Configured(30), "{status}");
            assert_eq!(lifetime(status, &OVERRIDE), Lifetime::Configured(9), "{status}");
            assert_eq!(lifetime(status, &nothing), Lifetime::Unknown, "{status}");
        }
        for status in [201, 204, 206, 302, 304, 307, 400, 401, 403, 404, 429, 500, 502, 503] {
            assert_eq!(lifetime(status, &TTL), Lifetime::Unknown, "{status}");
            assert_eq!(lifetime(status, &OVERRIDE), Lifetime::Unknown, "{status}");
        }
    }

    #[test]
    fn what_lasted_lasts_a_tenth_longer() {
        use Lifetime::*;
        let public = Directives { public: true, ..Default::default() };
        let cases = [
            (200, A_DAY_BEFORE, Directives::default(), &HEURISTIC, Heuristic(7200)), // a tenth is 8640
            (200, A_DAY_BEFORE, Directives::default(), &TTL, Configured(30)),
            (200, A_DAY_BEFORE, Directives { max_age: Some(3), ..public }, &HEURISTIC, Explicit(3)),
            (200, A_DAY_BEFORE, Directives::default(), &OVERRIDE, Configured(9)),
            (404, A_DAY_BEFORE, Directives::default(), &HEURISTIC, Heuristic(7200)),
            (501, A_DAY_BEFORE, Directives::default(), &HEURISTIC, Heuristic(7200)),
            (302, A_DAY_BEFORE, Directives::default(), &HEURISTIC, Unknown),
            (599, A_DAY_BEFORE, Directives::default(), &HEURISTIC, Unknown),
            (599, A_DAY_BEFORE, public, &HEURISTIC, Heuristic(7200)),
            (200, NOON, Directives::default(), &HEURISTIC, Heuristic(0)),
            (200, A_MINUTE_PAST, Directives::default(), &HEURISTIC, Configured(30)),
            (200, "rubbish", Directives::default(), &HEURISTIC, Configured(30)),
        ];
        for (status, modified, said, policy, expected) in cases {
            let (status, head) =
                (StatusCode::from_u16(status).unwrap(), head(&[("last-modified", modified), ("date", NOON)]));
            assert_eq!(lifetime(status, &head, &of(said), policy, RECEIVED), expected, "{status} {modified} {said:?}");
        }
    }

    #[test]
    fn override_ttl_is_in_the_place_of_every_number_but_lengthens_no_error() {
        for (status, max_age, expected) in
            [(200, 0, 9), (200, 1000, 9), (404, 1000, 9), (500, 1000, 9), (500, 1, 1), (401, 0, 0), (410, 0, 9)]
        {
            let said = of(Directives { max_age: Some(max_age), ..Default::default() });
            let status = StatusCode::from_u16(status).unwrap();
            let found = lifetime(status, &HeaderMap::new(), &said, &OVERRIDE, RECEIVED);
            assert_eq!(found, Lifetime::Configured(expected), "{status} {max_age}");
        }
    }
}
