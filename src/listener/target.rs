//! Judges a parsed request: what `judge` cannot see in bytes, and what HTTP/2 must satisfy as well.
//!
//! 1. Versions other than 1.0, 1.1 and 2 are refused with 505.
//! 2. HTTP/1.1 has exactly one Host, 1.0 at most one, HTTP/2 that or `:authority`; a malformed one is refused (RFC 9112 §3.2,
//!    RFC 3986 §3.2.2).
//! 3. The absolute form wins over Host; `:authority` and `host` that differ are refused (RFC 9113 §8.3.1).
//!    What goes on is one Host and the origin form.
//! 4. CONNECT is refused; `*` is for OPTIONS only; everything else starts with `/`.
//! 5. Connection-specific fields in HTTP/2 are refused (RFC 9113 §8.2.2); its `cookie` crumbs are joined (§8.2.3).
//! 6. An `Expect` that asks for anything but `100-continue` is answered 417, however often and in how many lines it
//!    asks; HTTP/1.0's asks for nothing (RFC 9110 §10.1.1). One line goes on.
//! 7. TRACE has no content (§9.3.8); `Max-Forwards` on it and on OPTIONS is counted down, and answered here at 0 (§7.6.2).
//! 8. Only a GET of HTTP/1.1 without content asks to switch protocols; elsewhere `Upgrade` is ignored (§7.8). `judge`
//!    says the same of the bytes.
//! 9. A Content-Length goes on without leading zeros, which some read as octal (RFC 9110 §8.6).
//!
//! # Why
//! After this layer there is one spelling of "where to", whatever the protocol: the route matcher, the cache key and
//! the app cannot disagree about it.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use http_body::Body as _;
use tower::Layer;

use super::judge::grammar::{is_host, trimmed};
use super::max_forwards::{self, Way};

use crate::body::Body;
use crate::exchange::{self, Either, Next, pass};
use crate::local_reply::LocalReply;

/// The layer: refuses by the rules above, or passes the request on in its one spelling.
pub fn layer<S: Next>() -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(|mut exchange, next| match settle(&mut exchange.request) {
        Ok(Way::On) => Either::passed(pass(next, exchange)),
        Ok(Way::Ends) => {
            exchange.trail.borrow_mut().local_reply = Some("max-forwards");
            Either::answered(max_forwards::answer(&exchange.request))
        }
        Err(reply) => {
            let mut trail = exchange.trail.borrow_mut();
            (trail.local_reply, trail.local_reply_reason) = (Some(reply.kind()), reply.reason());
            drop(trail);
            Either::answered(reply.respond(&exchange.request))
        }
    })
}

/// Judges `request`, brings it into its one spelling, and says whether it goes on.
///
/// # Errors
/// The answer to give instead.
pub fn settle(request: &mut Request<Body>) -> Result<Way, LocalReply> {
    let refuse = |reason| Err(LocalReply::BadRequest { reason });
    let version = request.version();
    if !matches!(version, Version::HTTP_10 | Version::HTTP_11 | Version::HTTP_2) {
        return Err(LocalReply::VersionNotSupported);
    }
    if request.method() == Method::CONNECT {
        return refuse("CONNECT is not served here");
    }
    let mut hosts = request.headers().get_all(HOST).iter();
    let host = hosts.next();
    if hosts.next().is_some() {
        return refuse("repeated Host");
    }
    if let Some(host) = host
        && !is_host(host.as_bytes())
    {
        return refuse("malformed Host");
    }
    let uri = request.uri();
    match (uri.authority(), host) {
        (_, None) if version == Version::HTTP_11 => return refuse("missing Host"),
        (None, None) if version == Version::HTTP_2 => return refuse("missing :authority"),
        (Some(authority), _) if !is_host(authority.as_str().as_bytes()) => return refuse("malformed authority"),
        (Some(authority), Some(host))
            if version == Version::HTTP_2 && !authority.as_str().as_bytes().eq_ignore_ascii_case(host.as_bytes()) =>
        {
            return refuse(":authority and host differ");
        }
        _ => {}
    }
    if let Some(scheme) = uri.scheme_str()
        && !matches!(scheme, "http" | "https")
    {
        return refuse("unknown scheme");
    }
    // The authority form is CONNECT's alone; read as anything else, it would be a Host that nobody sees.
    if uri.scheme().is_none() && uri.authority().is_some() {
        return refuse("malformed target");
    }
    let path = uri.path();
    let asterisk = path == "*" || (path.is_empty() && uri.authority().is_some());
    if (!path.starts_with('/') && !asterisk) || (path == "*" && request.method() != Method::OPTIONS) {
        return refuse("malformed target");
    }
    let bodiless = request.body().is_end_stream();
    if request.method() == Method::TRACE && !bodiless {
        return refuse("TRACE with content");
    }
    let fields = request.headers_mut();
    if let Some(length) = fields.get(CONTENT_LENGTH).and_then(plain_length) {
        fields.insert(CONTENT_LENGTH, length);
    }
    let switches = request.method() == Method::GET && version == Version::HTTP_11 && bodiless;
    let fields = request.headers_mut();
    if fields.contains_key(EXPECT) {
        expectation(fields, version)?;
    }
    if !switches && fields.contains_key(UPGRADE) && version != Version::HTTP_2 {
        fields.remove(UPGRADE);
    }
    if version == Version::HTTP_2 {
        connection_specific(request.headers())?;
        join_cookies(request.headers_mut());
    }
    if request.uri().authority().is_some() {
        one_spelling(request);
    }
    let method = request.method().clone();
    max_forwards::count_down(&method, request.headers_mut())
}

/// A length without the zeros before it, if there are any (rule 9). What is no number is not ours to judge.
fn plain_length(length: &HeaderValue) -> Option<HeaderValue> {
    let padded = length.len() > 1 && length.as_bytes()[0] == b'0';
    let number: u64 = length.to_str().ok().filter(|_| padded)?.parse().ok()?;
    Some(HeaderValue::from(number))
}

/// Rule 6.
fn expectation(fields: &mut HeaderMap, version: Version) -> Result<(), LocalReply> {
    let lines = fields.get_all(EXPECT).iter().map(HeaderValue::as_bytes);
    let members = lines.flat_map(|line| line.split(|byte| *byte == b',')).map(trimmed).filter(|word| !word.is_empty());
    let (mut asked, mut other) = (false, false);
    for word in members {
        let known = word.eq_ignore_ascii_case(b"100-continue");
        (asked, other) = (asked || known, other || !known);
    }
    match (other, asked && version != Version::HTTP_10) {
        (true, _) => return Err(LocalReply::ExpectationFailed),
        (false, true) => drop(fields.insert(EXPECT, HeaderValue::from_static("100-continue"))),
        (false, false) => drop(fields.remove(EXPECT)),
    }
    Ok(())
}

fn connection_specific(fields: &HeaderMap) -> Result<(), LocalReply> {
    const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
    const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
    let any = [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY_CONNECTION];
    let te = fields.get(TE).is_some_and(|te| te != "trailers");
    if te || any.iter().any(|name| fields.contains_key(name)) {
        return Err(LocalReply::BadRequest { reason: "connection-specific field in HTTP/2" });
    }
    Ok(())
}

fn join_cookies(fields: &mut HeaderMap) {
    if fields.get_all(COOKIE).iter().nth(1).is_some() {
        let crumbs: Vec<&[u8]> = fields.get_all(COOKIE).iter().map(HeaderValue::as_bytes).collect();
        // Field values joined by "; " are a field value.
        if let Ok(joined) = HeaderValue::from_bytes(&crumbs.join(&b"; "[..])) {
            fields.insert(COOKIE, joined);
        }
    }
}

fn one_spelling(request: &mut Request<Body>) {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    if let Some(authority) = parts.authority.take()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        request.headers_mut().insert(HOST, host);
    }
    parts.scheme = None;
    // An absolute form without a path means `/`; hyper has lost the difference by now, so also for OPTIONS.
    parts.path_and_query.get_or_insert(PathAndQuery::from_static("/"));
    // Only a path is left, which is a URI by itself.
    *request.uri_mut() = Uri::from_parts(parts).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(version: Version, method: &str, uri: &str, fields: &[(&'static str, &str)]) -> Request<Body> {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(Body::empty()).expect("a well-formed test request")
    }

    #[test]
    fn sound_requests_end_in_one_spelling() {
        for (version, method, uri, fields, target, host) in [
            (Version::HTTP_11, "GET", "/a?b", &[("host", "x:80")][..], "/a?b", Some("x:80")),
            (Version::HTTP_11, "GET", "http://y/a", &[("host", "x")], "/a", Some("y")),
            (Version::HTTP_11, "OPTIONS", "*", &[("host", "x")], "*", Some("x")),
            (Version::HTTP_10, "GET", "/", &[], "/", None),
            (Version::HTTP_2, "GET", "http://[::1]:1/a", &[], "/a", Some("[::1]:1")),
        ] {
            let mut request = request(version, method, uri, fields);
            assert_eq!(settle(&mut request), Ok(Way::On), "{uri}");
            assert_eq!(request.uri().to_string(), target);
            assert_eq!(request.headers().get(HOST).map(|h| h.to_str().unwrap_or("")), host);
        }
    }

    #[test]
    fn what_two_parsers_could_read_differently_is_refused() {
        for (version, method, uri, fields) in [
            (Version::HTTP_11, "GET", "/", &[][..]),
            (Version::HTTP_11, "GET", "/", &[("host", "a"), ("host", "a")]),
            (Version::HTTP_11, "GET", "/", &[("host", "")]),
            (Version::HTTP_11, "GET", "/", &[("host", "a b")]),
            (Version::HTTP_11, "GET", "/", &[("host", "u@a")]),
            (Version::HTTP_11, "GET", "/", &[("host", "a:1:2")]),
            (Version::HTTP_11, "GET", "/", &[("host", "a:x")]),
            (Version::HTTP_11, "GET", "/", &[("host", "[::1")]),
            (Version::HTTP_11, "GET", "/", &[("host", "[::1]x")]),
            (Version::HTTP_11, "GET", "/", &[("host", "a%zz")]),
            (Version::HTTP_11, "GET", "http://u@y/a", &[("host", "x")]),
            (Version::HTTP_11, "GET", "ftp://y/a", &[("host", "y")]),
            (Version::HTTP_11, "GET", "y", &[("host", "a")]),
            (Version::HTTP_11, "GET", "y:80", &[("host", "a")]),
            (Version::HTTP_2, "GET", "/", &[]),
            (Version::HTTP_11, "GET", "*", &[("host", "a")]),
            (Version::HTTP_11, "CONNECT", "a:1", &[("host", "a:1")]),
            (Version::HTTP_11, "GET", "/", &[("host", "a"), ("expect", "200-ok")]),
            (Version::HTTP_11, "GET", "/", &[("host", "a"), ("expect", "100-continue"), ("expect", "x")]),
            (Version::HTTP_11, "GET", "/", &[("host", "a"), ("expect", "100-continue, x")]),
            (Version::HTTP_10, "GET", "/", &[("expect", "x")]),
            (Version::HTTP_11, "TRACE", "/", &[("host", "a"), ("max-forwards", "x")]),
            (Version::HTTP_11, "GET", "http://a/", &[]),
            (Version::HTTP_2, "GET", "http://a/", &[("host", "b")]),
            (Version::HTTP_2, "GET", "http://a/", &[("connection", "x")]),
            (Version::HTTP_2, "GET", "http://a/", &[("te", "gzip")]),
        ] {
            let mut request = request(version, method, uri, fields);
            assert!(settle(&mut request).is_err(), "{version:?} {method} {uri} {fields:?}");
        }
    }

    #[test]
    fn an_expectation_goes_on_in_one_line_and_never_from_http_1_0() {
        let twice = [("host", "a"), ("expect", "100-Continue"), ("expect", "100-continue,")];
        for (version, kept) in [(Version::HTTP_11, 1), (Version::HTTP_10, 0)] {
            let mut request = request(version, "POST", "/", &twice);
            assert_eq!(settle(&mut request), Ok(Way::On));
            assert_eq!(request.headers().get_all(EXPECT).iter().count(), kept);
        }
    }

    #[test]
    fn only_a_get_of_http_1_1_may_ask_to_switch() {
        let asks = [("host", "a"), ("connection", "upgrade"), ("upgrade", "websocket")];
        for (version, method, kept) in
            [(Version::HTTP_11, "GET", true), (Version::HTTP_10, "GET", false), (Version::HTTP_11, "POST", false)]
        {
            let mut request = request(version, method, "/", &asks);
            assert_eq!(settle(&mut request), Ok(Way::On));
            assert_eq!(request.headers().contains_key(UPGRADE), kept, "{version:?} {method}");
        }
    }

    #[test]
    fn a_request_that_may_go_no_further_ends_here() {
        let mut request = request(Version::HTTP_11, "OPTIONS", "*", &[("host", "a"), ("max-forwards", "0")]);
        assert_eq!(settle(&mut request), Ok(Way::Ends));
    }

    #[test]
    fn cookie_crumbs_of_http_2_are_joined() {
        let mut request = request(Version::HTTP_2, "GET", "http://a/", &[("cookie", "a=1"), ("cookie", "b=2")]);
        assert!(settle(&mut request).is_ok());
        assert_eq!(request.headers()[COOKIE], "a=1; b=2");
        assert_eq!(request.headers().get_all(COOKIE).iter().count(), 1);
    }
}
