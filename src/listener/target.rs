//! Judges a parsed request: what `judge` cannot see in bytes, and what HTTP/2 must satisfy as well.
//!
//! 1. Versions other than 1.0, 1.1 and 2 are refused with 505.
//! 2. HTTP/1.1 has exactly one Host, 1.0 at most one, HTTP/2 that or `:authority`; a malformed one is refused (RFC 9112 §3.2, RFC 3986 §3.2.2).
//! 3. The absolute form wins over Host; `:authority` and `host` that differ are refused (RFC 9113 §8.3.1).
//!    What goes on is one Host and the origin form.
//! 4. CONNECT is refused; `*` is for OPTIONS only; everything else starts with `/`.
//! 5. Connection-specific fields in HTTP/2 are refused (RFC 9113 §8.2.2); its `cookie` crumbs are joined (§8.2.3).
//! 6. An `Expect` other than `100-continue` is answered 417 (RFC 9110 §10.1.1).
//!
//! # Why
//! After this layer there is one spelling of "where to", whatever the protocol: the route matcher, the cache key and
//! the app cannot disagree about it.

use http::header::{CONNECTION, COOKIE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version};
use tower::Layer;

use crate::body::Body;
use crate::exchange::{self, Next, pass};
use crate::local_reply::LocalReply;

/// The layer: refuses by the rules above, or passes the request on in its one spelling.
pub fn layer<S: Next>() -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(|mut exchange, next| async move {
        match settle(&mut exchange.request) {
            Ok(()) => pass(next, exchange).await,
            Err(reply) => {
                let mut trail = exchange.trail.borrow_mut();
                (trail.local_reply, trail.local_reply_reason) = (Some(reply.kind()), reply.reason());
                drop(trail);
                reply.respond(&exchange.request)
            }
        }
    })
}

/// Judges `request` and brings it into its one spelling.
///
/// # Errors
/// The answer to give instead.
pub fn settle(request: &mut Request<Body>) -> Result<(), LocalReply> {
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
        && !valid_host(host.as_bytes())
    {
        return refuse("malformed Host");
    }
    let uri = request.uri();
    match (uri.authority(), host) {
        (None, None) if version != Version::HTTP_10 => return refuse("missing Host"),
        (Some(authority), _) if !valid_host(authority.as_str().as_bytes()) => return refuse("malformed authority"),
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
    match request.headers().get(EXPECT) {
        Some(expect) if !expect.as_bytes().eq_ignore_ascii_case(b"100-continue") => {
            return Err(LocalReply::ExpectationFailed);
        }
        _ => {}
    }
    if version == Version::HTTP_2 {
        connection_specific(request.headers())?;
        join_cookies(request.headers_mut());
    }
    if request.uri().authority().is_some() {
        one_spelling(request);
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

/// `uri-host [ ":" port ]` without user information (RFC 9110 §7.2).
fn valid_host(host: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(host) else { return false };
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((inside, after)) => {
                if inside.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                match after.strip_prefix(':') {
                    Some(port) => ("v6", Some(port)),
                    None if after.is_empty() => ("v6", None),
                    None => return false,
                }
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        },
    };
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let name_is_sound = !name.is_empty() && name.bytes().all(plain);
    let port_is_sound = port.is_none_or(|port| {
        port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok())
    });
    name_is_sound && port_is_sound
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
            assert!(settle(&mut request).is_ok(), "{uri}");
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
            (Version::HTTP_2, "GET", "http://a/", &[("host", "b")]),
            (Version::HTTP_2, "GET", "http://a/", &[("connection", "x")]),
            (Version::HTTP_2, "GET", "http://a/", &[("te", "gzip")]),
        ] {
            let mut request = request(version, method, uri, fields);
            assert!(settle(&mut request).is_err(), "{version:?} {method} {uri} {fields:?}");
        }
    }

    #[test]
    fn cookie_crumbs_of_http_2_are_joined() {
        let mut request = request(Version::HTTP_2, "GET", "http://a/", &[("cookie", "a=1"), ("cookie", "b=2")]);
        assert!(settle(&mut request).is_ok());
        assert_eq!(request.headers()[COOKIE], "a=1; b=2");
        assert_eq!(request.headers().get_all(COOKIE).iter().count(), 1);
    }
}
