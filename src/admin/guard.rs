//! Who may talk to the admin listener. Pure.
//!
//! 1. A page on another site may not: an `Origin` other than the authority the request was sent to is refused, and so is
//!    whatever may change something and comes, by the browser's own word (`Sec-Fetch-Site`), from another origin.
//! 2. The token, where one is configured and given, is compared in constant time; a wrong one is refused.
//! 3. Without the token's proof, the authority must be an address or `localhost`.
//! 4. What is left without a token, where one is configured, may ask for health and for nothing else.
//!
//! # Why
//! Loopback is no protection from a browser. Any page may send requests to `127.0.0.1:9901` (rule 1), and a page whose
//! name is made to resolve to 127.0.0.1 may also read the answers, as far as the browser can tell from its own site
//! (DNS rebinding; rule 3: such a request still names the page's host). A token no page can know; who has it may use any
//! name, such as that of a container.

use std::net::IpAddr;

use http::header::{AUTHORIZATION, HOST, ORIGIN};
use http::request::Parts;
use http::uri::Authority;
use http::{HeaderName, Method};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq as _;

/// Where a browser says that a request comes from (Fetch Metadata).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");

/// What a request may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Everything.
    Everything,
    /// Ask for health, in one word.
    HealthOnly,
    /// Nothing: another site's, or sent to a name.
    Forbidden(&'static str),
    /// Nothing: the token is wrong.
    WrongToken,
}

/// Judges a request by the rules of this module.
pub fn judge(request: &Parts, token: Option<&SecretString>) -> Verdict {
    let Some(authority) = authority(request) else {
        return Verdict::Forbidden("the request does not say clearly where it was sent to (Host)");
    };
    if request.headers.get_all(ORIGIN).iter().any(|origin| !is_same_site(origin.as_bytes(), &authority)) {
        return Verdict::Forbidden("the request comes from a page of another site (Origin)");
    }
    let changes = !matches!(request.method, Method::GET | Method::HEAD);
    if changes && !request.headers.get_all(SEC_FETCH_SITE).iter().all(|site| site == "same-origin" || site == "none") {
        return Verdict::Forbidden("the request comes from a page of another site (Sec-Fetch-Site)");
    }
    let given = request.headers.get(AUTHORIZATION);
    match (token, given) {
        (Some(token), Some(given)) if is_token(given.as_bytes(), token) => return Verdict::Everything,
        (Some(_), Some(_)) => return Verdict::WrongToken,
        _ => {}
    }
    if !is_address(authority.host()) {
        return Verdict::Forbidden(
            "the admin listener answers to an IP address or localhost, not to other names (Host)",
        );
    }
    if token.is_some() { Verdict::HealthOnly } else { Verdict::Everything }
}

/// Where the request was sent to, if it says so exactly once (RFC 9112 §3.2).
fn authority(request: &Parts) -> Option<Authority> {
    let mut hosts = request.headers.get_all(HOST).iter();
    let host = match (hosts.next(), hosts.next()) {
        (Some(host), None) => Authority::try_from(host.as_bytes()).ok()?,
        _ => return None,
    };
    match request.uri.authority() {
        Some(authority) if *authority != host => None,
        _ => Some(host),
    }
}

fn is_same_site(origin: &[u8], authority: &Authority) -> bool {
    let host = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    host.is_some_and(|host| host.eq_ignore_ascii_case(authority.as_str().as_bytes()))
}

fn is_token(given: &[u8], token: &SecretString) -> bool {
    let Some((scheme, given)) = given.split_at_checked(b"Bearer ".len()) else { return false };
    scheme.eq_ignore_ascii_case(b"Bearer ") && bool::from(given.trim_ascii().ct_eq(token.expose_secret().as_bytes()))
}

fn is_address(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(fields: &[(&str, &str)], token: Option<&str>) -> Verdict {
        judged_at("/metrics", fields, token)
    }

    fn judged_at(target: &str, fields: &[(&str, &str)], token: Option<&str>) -> Verdict {
        let mut request = http::Request::get(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        judge(&request.body(()).unwrap().into_parts().0, token.map(SecretString::from).as_ref())
    }

    #[test]
    fn addresses_and_localhost_may_do_everything() {
        for host in ["127.0.0.1:9901", "localhost:9901", "LOCALHOST", "[::1]:9901", "10.2.3.4"] {
            assert_eq!(judged(&[("host", host)], None), Verdict::Everything, "{host}");
        }
    }

    #[test]
    fn names_that_anybody_can_point_at_us_are_refused() {
        for host in ["evil.test", "evil.test:9901", "127.0.0.1.evil.test", "localhost.evil.test", "evil@127.0.0.1x", ""]
        {
            assert!(matches!(judged(&[("host", host)], None), Verdict::Forbidden(_)), "{host}");
        }
        assert!(matches!(judged(&[], None), Verdict::Forbidden(_)));
        assert!(matches!(judged(&[("host", "127.0.0.1"), ("host", "evil.test")], None), Verdict::Forbidden(_)));
        let elsewhere = judged_at("http://evil.test/", &[("host", "127.0.0.1")], None);
        assert!(matches!(elsewhere, Verdict::Forbidden(_)));
    }

    #[test]
    fn pages_of_other_sites_are_refused_even_with_the_token() {
        for origin in
            ["http://evil.test", "null", "http://127.0.0.1:9902", "http://127.0.0.1:9901.evil.test", "file://"]
        {
            let fields = [("host", "127.0.0.1:9901"), ("origin", origin), ("authorization", "Bearer t")];
            assert!(matches!(judged(&fields, Some("t")), Verdict::Forbidden(_)), "{origin}");
        }
        let own = [("host", "127.0.0.1:9901"), ("origin", "http://127.0.0.1:9901")];
        assert_eq!(judged(&own, None), Verdict::Everything);
    }

    #[test]
    fn what_changes_something_must_not_come_from_another_origin_by_the_browsers_word() {
        let told = |method: &str, site: &str, token: Option<&str>| {
            let request = http::Request::builder().method(method).uri("/reload").header("host", "127.0.0.1:9901");
            let request = request.header("sec-fetch-site", site).header("authorization", "Bearer t");
            judge(&request.body(()).unwrap().into_parts().0, token.map(SecretString::from).as_ref())
        };
        for site in ["cross-site", "same-site", "", "Same-Origin", "unheard-of"] {
            for token in [None, Some("t")] {
                assert!(matches!(told("POST", site, token), Verdict::Forbidden(_)), "{site}");
            }
            assert_eq!(told("GET", site, None), Verdict::Everything, "a link to the page: {site}");
        }
        for site in ["same-origin", "none"] {
            assert_eq!(told("POST", site, None), Verdict::Everything, "{site}");
        }
    }

    #[test]
    fn the_token_opens_under_any_name() {
        assert_eq!(
            judged(&[("host", "sidegate:9901"), ("authorization", "bearer t0ken")], Some("t0ken")),
            Verdict::Everything
        );
    }

    #[test]
    fn without_the_token_only_health_is_told() {
        assert_eq!(judged(&[("host", "10.0.0.1")], Some("t0ken")), Verdict::HealthOnly);
        for wrong in ["Bearer t0ke", "Bearer t0kenn", "Bearer ", "Bearer", "Basic t0ken", "t0ken", ""] {
            let verdict = judged(&[("host", "10.0.0.1"), ("authorization", wrong)], Some("t0ken"));
            assert_eq!(verdict, Verdict::WrongToken, "{wrong}");
        }
    }
}
