//! Whether a request may be answered from the store at all, and for whom its answer is (RFC 9111 §3, §3.5, §4).
//!
//! 1. GET and HEAD ask the store; other safe methods pass it by; every other method is a write (RFC 9110 §9.2.1).
//! 2. Passed by, and not stored: a request with content (the app may read it, the key does not), with
//!    `If-Match` or `If-Unmodified-Since` (the origin's to judge, §4.3.2), with `Upgrade`, or whose `Connection` names
//!    a field: that one stops here (RFC 9110 §7.6.1), so the app would not see what its variant is chosen by. And one that
//!    says it is of another method: the app may answer that one.
//! 3. A request carries credentials if it has `Authorization`, if its route verifies a session, if it has `Cookie`
//!    and the policy does not say that cookies mean nothing here, or if the app is told of its client's certificate.
//! 4. Of the client's `Cache-Control` only `no-store` is heard, and means: do not store. The others could only make
//!    the app work harder for whoever asks; a client that can force its way to the app is a way to attack it.

use http::header::{AUTHORIZATION, CONNECTION, COOKIE, IF_MATCH, IF_UNMODIFIED_SINCE, UPGRADE};
use http::{HeaderMap, Method};

use crate::cache::Cookies;
use crate::exchange::overriding;

/// The credentials that a request carries and its key does not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// What they are, in a word.
    pub word: &'static str,
    /// They are in `Authorization`, and nowhere else: of no others RFC 9111 §3.5 speaks.
    pub authorization_alone: bool,
}

/// What a method means to the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asks {
    /// GET, HEAD: an answer may be there.
    Read,
    /// OPTIONS, TRACE: neither answered here nor a change.
    Nothing,
    /// Anything else: a change, if it succeeds.
    Write,
}

/// What `method` means to the store.
pub fn asks(method: &Method) -> Asks {
    match *method {
        Method::GET | Method::HEAD => Asks::Read,
        Method::OPTIONS | Method::TRACE => Asks::Nothing,
        _ => Asks::Write,
    }
}

/// Why a GET or HEAD passes the store by; `None`: it does not.
pub fn passes_by(head: &HeaderMap, has_content: bool) -> Option<&'static str> {
    let reasons = [(UPGRADE, "upgrade"), (IF_MATCH, "precondition"), (IF_UNMODIFIED_SINCE, "precondition")];
    if has_content {
        return Some("request-content");
    }
    let reason = reasons.into_iter().find(|(name, _)| head.contains_key(name)).map(|(_, reason)| reason);
    reason
        .or_else(|| names_a_field(head).then_some("connection"))
        .or_else(|| overriding::is_said(head).then_some("method-override"))
}

/// Whether `Connection` says more than the words that every client says.
fn names_a_field(head: &HeaderMap) -> bool {
    let words = head.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let plain = |word: &[u8]| {
        let known: [&[u8]; 4] = [b"", b"keep-alive", b"close", b"te"];
        known.iter().any(|known| word.eq_ignore_ascii_case(known))
    };
    !words.map(<[u8]>::trim_ascii).all(plain)
}

/// The credentials that a request carries; `None`: it carries none. `session` and `certificate`: it has one.
pub fn credentials(head: &HeaderMap, session: bool, certificate: bool, cookies: Cookies) -> Option<Credentials> {
    let cookie = cookies == Cookies::Private && head.contains_key(COOKIE);
    let others = [(session, "session"), (cookie, "cookie"), (certificate, "certificate")];
    let other = others.into_iter().find_map(|(is_there, word)| is_there.then_some(word));
    match head.contains_key(AUTHORIZATION) {
        true => Some(Credentials { word: "authorization", authorization_alone: other.is_none() }),
        false => other.map(|word| Credentials { word, authorization_alone: false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};

    fn head(name: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(HeaderName::from_static(name), HeaderValue::from_static("x"))])
    }

    #[test]
    fn unknown_methods_are_writes() {
        for (method, expected) in [
            ("GET", Asks::Read),
            ("HEAD", Asks::Read),
            ("OPTIONS", Asks::Nothing),
            ("TRACE", Asks::Nothing),
            ("POST", Asks::Write),
            ("PUT", Asks::Write),
            ("PATCH", Asks::Write),
            ("DELETE", Asks::Write),
            ("get", Asks::Write),
            ("BREW", Asks::Write),
        ] {
            assert_eq!(asks(&method.parse().unwrap()), expected, "{method}");
        }
    }

    #[test]
    fn requests_that_no_stored_response_answers_pass_by() {
        assert_eq!(passes_by(&head("accept"), false), None);
        assert_eq!(passes_by(&head("accept"), true), Some("request-content"));
        assert_eq!(passes_by(&head("upgrade"), false), Some("upgrade"));
        assert_eq!(passes_by(&head("if-match"), false), Some("precondition"));
        assert_eq!(passes_by(&head("if-unmodified-since"), false), Some("precondition"));
        assert_eq!(passes_by(&head("connection"), false), Some("connection"));
        for name in ["x-http-method-override", "x_http_method_override", "x-http-method", "x-method-override"] {
            assert_eq!(passes_by(&head(name), false), Some("method-override"), "{name}");
        }
        assert_eq!(passes_by(&head("x-http-methods"), false), None);
        let connection = |value| HeaderMap::from_iter([(CONNECTION, HeaderValue::from_static(value))]);
        assert_eq!(passes_by(&connection("Keep-Alive, TE"), false), None);
        assert_eq!(passes_by(&connection("close, Origin"), false), Some("connection"));
    }

    #[test]
    fn authorization_session_and_cookie_are_credentials() {
        let of = |name, session, certificate, cookies| {
            credentials(&head(name), session, certificate, cookies).map(|own| (own.word, own.authorization_alone))
        };
        assert_eq!(of("accept", false, false, Cookies::Private), None);
        assert_eq!(of("authorization", false, false, Cookies::Ignore), Some(("authorization", true)));
        assert_eq!(of("authorization", true, false, Cookies::Ignore), Some(("authorization", false)));
        assert_eq!(of("authorization", false, true, Cookies::Ignore), Some(("authorization", false)));
        assert_eq!(of("accept", true, false, Cookies::Ignore), Some(("session", false)));
        assert_eq!(of("accept", false, true, Cookies::Ignore), Some(("certificate", false)));
        assert_eq!(of("cookie", false, false, Cookies::Private), Some(("cookie", false)));
        assert_eq!(of("cookie", false, false, Cookies::Ignore), None);
    }
}
