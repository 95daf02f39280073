//! What of a head goes on to the next hop (RFC 9110 §7.6). Pure.
//!
//! 1. Hop-by-hop fields stop here, and so does what `Connection` names, in both directions.
//! 2. `Connection` cannot remove what the app or we rely on: Host, framing, identity, forwarded, credentials (also a
//!    `header:NAME` of a session), cache.
//! 3. Fields that we set are removed first, in every spelling (`_` for `-`), unless a trusted proxy sent them; `Proxy`,
//!    which only harms, always.
//! 4. An answer's fields are judged one by one as they are read: what stops here is never part of the answer.
//!
//! # Why
//! One pass over the names decides what is there at all; only that is removed. Most requests carry one such field.

use http::header::{
    AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, COOKIE, ETAG, EXPIRES, HOST, HeaderName,
    PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, SET_COOKIE, TE, TRANSFER_ENCODING, UPGRADE, VARY, VIA,
};
use http::{HeaderMap, HeaderValue};

use crate::client_addr::claims::is_claim;
use crate::exchange::Orders;
use crate::session::IdentityFields;

/// `X-Forwarded-For`.
pub const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// `X-Forwarded-Proto`.
pub const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// `X-Forwarded-Host`.
pub const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// `traceparent`.
pub const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
/// No field of HTTP: CGI makes `HTTP_PROXY` of it, which libraries take for the proxy to use (CVE-2016-5385).
const PROXY: HeaderName = HeaderName::from_static("proxy");
const HTTP2_SETTINGS: HeaderName = HeaderName::from_static("http2-settings");

/// The names that frame, describe or route a message: a misspelt one means nothing to us, and must not mean anything to
/// the app.
const MEANT: [&str; 6] =
    ["content-length", "transfer-encoding", "proxy-connection", "content-type", "content-encoding", "max-forwards"];

/// What a trailer must not be (RFC 9110 §6.5.1), besides what is protected from `Connection`: it says how a message is
/// routed, processed or answered, which is decided before trailers come.
const NO_TRAILERS: [&str; 27] = [
    "accept",
    "accept-charset",
    "accept-encoding",
    "accept-language",
    "age",
    "authentication-info",
    "date",
    "expect",
    "if-match",
    "if-modified-since",
    "if-none-match",
    "if-range",
    "if-unmodified-since",
    "last-modified",
    "location",
    "max-forwards",
    "origin",
    "pragma",
    "range",
    "referer",
    "retry-after",
    "server",
    "trailer",
    "user-agent",
    "warning",
    "www-authenticate",
    "x-csrf-token",
];

/// Takes from a request what must not go on. `trusted`: the peer is a trusted proxy; `identity`: names that tell the app
/// who is logged in. Says which protocol the client asks to switch to.
pub fn request(fields: &mut HeaderMap, trusted: bool, identity: &IdentityFields) -> Option<HeaderValue> {
    let mut doomed = Doomed::default();
    for name in fields.keys() {
        if is_hop_by_hop(name)
            || *name == PROXY
            || (!trusted && is_claim(name.as_str()))
            || is_ours_misspelt(name.as_str())
        {
            doomed.push(name);
        }
    }
    let trailers = fields.get_all(TE).iter().any(|te| accepts_trailers(te.as_bytes()));
    let switch = asks_to_switch(fields);
    remove(fields, doomed, |name| identity.relies_on(name));
    if trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    switch
}

/// Whether a field of an answer stops here: it is about the connection to the app (RFC 9110 §7.6.1), or an order to us
/// about the client's session.
pub fn stops_here(name: &HeaderName) -> bool {
    matches!(
        name.as_str(),
        "connection"
            | "te"
            | "transfer-encoding"
            | "upgrade"
            | "keep-alive"
            | "proxy-connection"
            | "proxy-authorization"
            | "http2-settings"
    ) || Orders::names(name)
}

/// The name that a word of an answer's `Connection` removes, if it may.
pub fn removable(word: &[u8]) -> Option<HeaderName> {
    HeaderName::from_bytes(word).ok().filter(|name| !is_protected(name))
}

/// Whether a trailer field of an answer may go on (RFC 9110 §6.5.1): never framing, routing, authentication, what says
/// how content is to be read, or what caches act on.
pub fn answer_trailer_may_pass(name: &HeaderName) -> bool {
    let harmless = matches!(name.as_str(), "content-digest" | "etag");
    !(stops_here(name)
        || name.as_str().starts_with("proxy-")
        || (is_protected(name) && !harmless)
        || matches!(
            name.as_str(),
            "age" | "date" | "location" | "pragma" | "retry-after" | "trailer" | "warning" | "www-authenticate"
        ))
}

/// Whether a trailer field may go on (RFC 9110 §6.5.1): never framing, routing, authentication or what we set.
pub fn trailer_may_pass(name: &HeaderName, identity: &IdentityFields) -> bool {
    !(identity.relies_on(name)
        || is_hop_by_hop(name)
        || is_protected(name)
        || is_claim(name.as_str())
        || is_ours_misspelt(name.as_str())
        || NO_TRAILERS.contains(&name.as_str()))
}

/// The names found, most often none or one: no allocation for up to four.
#[derive(Default)]
struct Doomed {
    few: [Option<HeaderName>; 4],
    more: Vec<HeaderName>,
}

impl Doomed {
    fn push(&mut self, name: &HeaderName) {
        match self.few.iter_mut().find(|place| place.is_none()) {
            Some(place) => *place = Some(name.clone()),
            None => self.more.push(name.clone()),
        }
    }
}

fn remove(fields: &mut HeaderMap, doomed: Doomed, is_relied_on: impl Fn(&HeaderName) -> bool) {
    if doomed.few[0].is_none() {
        return;
    }
    if fields.contains_key(CONNECTION) {
        for name in named_by_connection(fields) {
            if !is_relied_on(&name) {
                fields.remove(name);
            }
        }
    }
    for name in doomed.few.into_iter().flatten().chain(doomed.more) {
        fields.remove(name);
    }
}

fn named_by_connection(fields: &HeaderMap) -> Vec<HeaderName> {
    let values = fields.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    let names = values.map(<[u8]>::trim_ascii).filter_map(|word| HeaderName::from_bytes(word).ok());
    names.filter(|name| !is_protected(name)).collect()
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TE
        || *name == TRANSFER_ENCODING
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || *name == PROXY_CONNECTION
        || *name == PROXY_AUTHENTICATE
        || *name == PROXY_AUTHORIZATION
        || *name == HTTP2_SETTINGS
}

fn is_protected(name: &HeaderName) -> bool {
    [HOST, CONTENT_LENGTH, COOKIE, SET_COOKIE, AUTHORIZATION, CACHE_CONTROL, VARY, EXPIRES, ETAG, VIA].contains(name)
        || is_claim(name.as_str())
        || name.as_str().starts_with("content-")
        || name.as_str() == "traceparent"
}

/// Whether the app gets this field only from us, or from a trusted proxy: a client's own is removed.
pub fn is_no_clients(name: &HeaderName) -> bool {
    is_claim(name.as_str()) || is_ours_misspelt(name.as_str())
}

/// One of ours with another character for a `-`: some apps (CGI, WSGI, PHP) cannot tell `_` from it, some no punctuation.
fn is_ours_misspelt(name: &str) -> bool {
    // No name that is meant starts with another letter; most names of a request do.
    let may = matches!(name.as_bytes().first(), Some(b'x' | b'f' | b't' | b'c' | b'p' | b'm'));
    let odd = |letter: char| !letter.is_ascii_alphanumeric() && letter != '-';
    may && name.contains(odd) && {
        let spelt = name.replace(odd, "-");
        is_claim(&spelt) || MEANT.contains(&spelt.as_str())
    }
}

fn asks_to_switch(fields: &HeaderMap) -> Option<HeaderValue> {
    let protocol = fields.get(UPGRADE)?;
    let named = fields.get_all(CONNECTION).iter().any(|value| has_word(value.as_bytes(), b"upgrade"));
    named.then(|| protocol.clone())
}

fn accepts_trailers(te: &[u8]) -> bool {
    has_word(te, b"trailers")
}

fn has_word(list: &[u8], word: &[u8]) -> bool {
    list.split(|byte| *byte == b',').any(|member| member.trim_ascii().eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut map = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::from_bytes(name.as_bytes()).expect("a test name");
            map.append(name, HeaderValue::from_str(value).expect("a test value"));
        }
        map
    }

    fn nobody() -> IdentityFields {
        IdentityFields::new([])
    }

    fn names(map: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn hop_by_hop_fields_and_what_connection_names_stop_here() {
        let mut map = fields(&[
            ("connection", "close, X-Private, foo"),
            ("keep-alive", "timeout=5"),
            ("foo", "1"),
            ("close", "x"),
            ("proxy-connection", "keep-alive"),
            ("te", "trailers, deflate"),
            ("accept", "*/*"),
        ]);
        assert_eq!(request(&mut map, false, &nobody()), None);
        assert_eq!(names(&map), ["accept", "te"]);
        assert_eq!(map[TE], "trailers");
    }

    #[test]
    fn connection_cannot_remove_what_is_relied_on() {
        let mut map = fields(&[
            ("connection", "host, content-length, cookie, authorization, x-user-id, x-forwarded-for"),
            ("host", "a"),
            ("content-length", "1"),
            ("cookie", "a=b"),
            ("authorization", "x"),
            ("x-user-id", "7"),
        ]);
        request(&mut map, true, &IdentityFields::new([HeaderName::from_static("x-user-id")]));
        assert_eq!(names(&map), ["authorization", "content-length", "cookie", "host", "x-user-id"]);
    }

    #[test]
    fn what_only_we_may_set_is_removed_in_every_spelling() {
        let spoofed = [
            ("x-forwarded-for", "1.1.1.1"),
            ("x_forwarded_for", "1.1.1.1"),
            ("x.forwarded.for", "1.1.1.1"),
            ("x-forwarded-anything", "1"),
            ("x-forwarded", "1"),
            ("x-original-url", "/admin"),
            ("x_rewrite_url", "/admin"),
            ("x-forwarded_for", "1.1.1.1"),
            ("forwarded", "for=1.1.1.1"),
            ("x-request-id", "a"),
            ("x-real-ip", "1.1.1.1"),
            ("content_length", "5"),
            ("transfer_encoding", "chunked"),
        ];
        let mut map = fields(&spoofed);
        request(&mut map, false, &nobody());
        assert!(map.is_empty(), "{map:?}");
        let mut map = fields(&spoofed);
        request(&mut map, true, &nobody());
        let trusted = ["forwarded", "x-forwarded", "x-forwarded-anything", "x-forwarded-for", "x-original-url"];
        assert_eq!(names(&map), [&trusted[..], &["x-real-ip", "x-request-id"]].concat());
    }

    #[test]
    fn a_switch_of_protocols_is_recognised() {
        let mut map = fields(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]);
        assert_eq!(request(&mut map, false, &nobody()), Some(HeaderValue::from_static("websocket")));
        assert!(map.is_empty());
    }

    #[test]
    fn trailers_that_could_change_the_message_are_dropped() {
        for name in [
            "content-length",
            "host",
            "authorization",
            "cookie",
            "x-forwarded-for",
            "transfer-encoding",
            "x_real_ip",
            "range",
        ] {
            assert!(
                !trailer_may_pass(&HeaderName::from_bytes(name.as_bytes()).expect("a test name"), &nobody()),
                "{name}"
            );
        }
        assert!(trailer_may_pass(&HeaderName::from_static("grpc-status"), &nobody()));
    }

    #[test]
    fn trailers_of_an_answer_pass_unless_they_could_change_it() {
        for name in ["grpc-status", "server-timing", "content-digest", "etag", "x-sum"] {
            assert!(answer_trailer_may_pass(&HeaderName::from_static(name)), "{name}");
        }
        for name in
            ["content-length", "content-type", "set-cookie", "location", "connection", "proxy-authenticate", "vary"]
        {
            assert!(!answer_trailer_may_pass(&HeaderName::from_static(name)), "{name}");
        }
    }
}
