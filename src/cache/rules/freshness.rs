//! How long a response is fresh (RFC 9111 §4.2.1).
//!
//! 1. `s-maxage`, else `max-age`, else `Expires` minus `Date`: the first that is there decides, even if it is invalid
//!    (then: stale).
//! 2. A response that says none of these gets the configured `ttl`, if its status is one that may be taken for stable.
//! 3. There is no heuristic freshness.

use std::time::Duration;

use http::header::{DATE, EXPIRES};
use http::{HeaderMap, StatusCode};

use super::directives::Directives;
use super::{VERY_LONG, dates};

/// How long a response is fresh, from the moment the origin made it, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lifetime {
    /// It says so itself.
    Explicit(u32),
    /// By the configured `ttl`.
    Configured(u32),
    /// Nobody says.
    Unknown,
}

/// Statuses that the configured `ttl` speaks of: whole answers and lasting redirections. No error: one that passes in
/// a second would be kept for the whole `ttl`; an app that wants its 404 kept says so itself.
fn is_stable(status: StatusCode) -> bool {
    matches!(status.as_u16(), 200 | 203 | 300 | 301 | 308 | 410)
}

/// The freshness lifetime. `received` is in seconds since the Unix epoch.
pub fn lifetime(
    status: StatusCode,
    head: &HeaderMap,
    directives: &Directives,
    ttl: Option<Duration>,
    received: u64,
) -> Lifetime {
    if let Some(seconds) = directives.s_maxage.or(directives.max_age) {
        return Lifetime::Explicit(seconds);
    }
    if head.contains_key(EXPIRES) {
        let date = dates::only_date(head, DATE, received).unwrap_or(received);
        let expires = dates::only_date(head, EXPIRES, received).unwrap_or(0);
        return Lifetime::Explicit(expires.saturating_sub(date).min(u64::from(VERY_LONG)) as u32);
    }
    match ttl {
        Some(ttl) if is_stable(status) => Lifetime::Configured(ttl.as_secs().min(u64::from(VERY_LONG)) as u32),
        _ => Lifetime::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const NOON: &str = "Sun, 06 Nov 1994 12:00:00 GMT";
    const A_MINUTE_PAST: &str = "Sun, 06 Nov 1994 12:01:00 GMT";
    const RECEIVED: u64 = 784_123_200; // NOON

    #[test]
    fn the_first_that_speaks_decides() {
        use Lifetime::*;
        let said = |s_maxage, max_age| Directives { s_maxage, max_age, ..Default::default() };
        for (directives, expires, date, expected) in [
            (said(Some(5), Some(60)), vec![A_MINUTE_PAST], Some(NOON), Explicit(5)),
            (said(Some(0), Some(60)), vec![], None, Explicit(0)),
            (said(None, Some(10)), vec![A_MINUTE_PAST], Some(NOON), Explicit(10)),
            (said(None, None), vec![A_MINUTE_PAST], Some(NOON), Explicit(60)),
            (said(None, None), vec![A_MINUTE_PAST], None, Explicit(60)),
            (said(None, None), vec![NOON], Some(A_MINUTE_PAST), Explicit(0)),
            (said(None, None), vec!["0"], Some(NOON), Explicit(0)),
            (said(None, None), vec![A_MINUTE_PAST, A_MINUTE_PAST], Some(NOON), Explicit(0)),
            (said(None, None), vec![], Some(NOON), Configured(30)),
        ] {
            let mut head = HeaderMap::new();
            for line in &expires {
                head.append(EXPIRES, HeaderValue::from_static(line));
            }
            date.map(|date| head.insert(DATE, HeaderValue::from_static(date)));
            let ttl = Some(Duration::from_secs(30));
            assert_eq!(
                lifetime(StatusCode::OK, &head, &directives, ttl, RECEIVED),
                expected,
                "{directives:?} {expires:?}"
            );
        }
    }

    #[test]
    fn the_configured_ttl_is_for_stable_answers_only() {
        let lifetime = |status, ttl| {
            let status = StatusCode::from_u16(status).unwrap();
            lifetime(status, &HeaderMap::new(), &Directives::default(), ttl, RECEIVED)
        };
        let ttl = Some(Duration::from_secs(9));
        for status in [200, 203, 300, 301, 308, 410] {
            assert_eq!(lifetime(status, ttl), Lifetime::Configured(9), "{status}");
            assert_eq!(lifetime(status, None), Lifetime::Unknown, "{status}");
        }
        for status in [201, 204, 206, 302, 304, 307, 400, 401, 403, 404, 429, 500, 502, 503] {
            assert_eq!(lifetime(status, ttl), Lifetime::Unknown, "{status}");
        }
    }
}
