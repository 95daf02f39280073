//! What is counted apart: one counter for each value of the key.
//!
//! 1. A key's text is its parts in order, joined by commas, each escaped: two requests share a text only if every part is equal.
//! 2. What a client presents (field, cookie, query parameter) may be a secret: only its digest appears, marked `#`. So
//!    does any other text longer than 64 bytes. The length of a key is thus bounded by the configuration.
//! 3. Addresses count by the network that they are in: IPv6 by its /64 unless the limit says otherwise, since that is what
//!    one subscriber gets.
//! 4. **A part that is missing is replaced by the client address**, or by what the limit says, marked `@`; by the address,
//!    marked twice, if that is missing as well. A limit cannot be evaded by leaving its key out, unless it is told to look
//!    away; nor by sending the key twice, since the app may read the other one: that counts as missing.
//! 5. Methods that RFC 9110 and RFC 5789 do not define count as one.
//!
//! # Why
//! To skip a limit whose key is missing would be an invitation, and to refuse such requests is the app's business: either is
//! for the operator to ask for.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use http::header::{COOKIE, HOST};
use http::{HeaderMap, HeaderName, Method};

use crate::exchange::{CertificateFact, Exchange, push_address};
use crate::redis_pool::key::{push_digest, push_escaped};
use crate::route::table::bare_host;

/// The parts of a partition key, in the configured order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<Part>);

/// How much of an address is counted as one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Bits of IPv4, 8 to 32.
    pub ipv4: u8,
    /// Bits of IPv6, 16 to 128: what one subscriber gets is a /64, often more.
    pub ipv6: u8,
}

impl Default for Grouping {
    fn default() -> Self {
        Self { ipv4: 32, ipv6: 64 }
    }
}

/// One part of a partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `address`: the client address; IPv6 by its /64.
    Address,
    /// `header:NAME`: a request field.
    Header(HeaderName),
    /// `cookie:NAME`.
    Cookie(String),
    /// `query:NAME`.
    Query(String),
    /// `session`: the verified session.
    Session,
    /// `session:FIELD`: an attribute of the verified session.
    SessionField(String),
    /// `certificate`, `certificate:cn`, `certificate:subject` …: the client's certificate, by its digest or by what it says.
    Certificate(CertificateFact),
    /// `route`: the route that matched.
    Route,
    /// `method`.
    Method,
    /// `host`: the authority's, in lower case, without the port.
    Host,
}

impl Key {
    /// Whether it can be known only once the session is verified.
    pub fn needs_session(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Session | Part::SessionField(_)))
    }

    /// Appends the text of the key for a request, with `instead` in the place of each part that it lacks; without that, it
    /// gives up at the first.
    pub fn push(
        &self,
        exchange: &Exchange,
        grouping: Grouping,
        instead: Option<&Part>,
        out: &mut String,
    ) -> Option<()> {
        for (index, part) in self.0.iter().enumerate() {
            if index > 0 {
                out.push(',');
            }
            if part.push(exchange, grouping, out).is_none() {
                let instead = instead?;
                out.push('@');
                if instead.push(exchange, grouping, out).is_none() {
                    out.push('@');
                    push_group(out, exchange.client.address, grouping);
                }
            }
        }
        Some(())
    }

    /// The text of the key of requests that have `value` as its only part: a value as `Part::push_named` takes it.
    /// `None`: there are none.
    pub fn spelt(&self, value: &str, grouping: Grouping) -> Option<String> {
        let [part] = self.0.as_slice() else { return None };
        let mut out = String::new();
        part.push_named(value, grouping, &mut out)?;
        Some(out)
    }

    /// Appends the text of the key, or gives up at the first part that the request does not have: for choices that are
    /// better not made by a substitute.
    pub fn push_present(&self, exchange: &Exchange, out: &mut String) -> Option<()> {
        for part in &self.0 {
            part.push(exchange, Grouping::default(), out)?;
            out.push(',');
        }
        Some(())
    }
}

/// Longer text appears as its digest.
const LONGEST: usize = 64;

/// Hexadecimal digits of a digest that a key has: half of it.
pub(super) const DIGEST: usize = 32;

impl Part {
    /// Whether it is something that clients present, and may be a secret: a field, a cookie, a query parameter.
    pub fn is_presented(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Cookie(_) | Self::Query(_))
    }

    /// Appends the text of requests whose part is `value`: as clients send it; of what they present, also `sha256:` and its
    /// digest, or the half of it that keys have; and `#` with that half, as keys are shown. `None`: there are none.
    pub(super) fn push_named(&self, value: &str, grouping: Grouping, out: &mut String) -> Option<()> {
        let half = value.strip_prefix('#').filter(|digits| digits.len() == DIGEST).and_then(half_digest);
        match (self, half) {
            (Self::Address, _) => push_group(out, value.parse().ok()?, grouping),
            (Self::Method, _) => out.push_str(method(&Method::from_bytes(value.as_bytes()).ok()?)),
            (_, Some(digest)) => push_half(out, digest),
            (Self::Header(_) | Self::Cookie(_) | Self::Query(_), None) => match value.strip_prefix("sha256:") {
                Some(digest) => push_half(out, half_digest(digest)?),
                None => push_secret(out, value.as_bytes()),
            },
            (Self::Host, None) => push_text(out, &bare_host(value)),
            (Self::Session | Self::SessionField(_) | Self::Certificate(_) | Self::Route, None) => push_text(out, value),
        }
        Some(())
    }

    /// Appends the part's text, or nothing if the request does not have it.
    fn push(&self, exchange: &Exchange, grouping: Grouping, out: &mut String) -> Option<()> {
        let request = &exchange.request;
        match self {
            Self::Address => push_group(out, exchange.client.address, grouping),
            Self::Header(name) => {
                push_secret(out, only(request.headers().get_all(name).iter().map(|value| value.as_bytes()))?);
            }
            Self::Cookie(name) => push_secret(out, only(cookies(request.headers(), name))?),
            Self::Query(name) => {
                push_secret(out, &only(parameters(request.uri().query().unwrap_or_default(), name))?);
            }
            Self::Session => push_text(out, &exchange.principal.as_ref()?.session_key),
            Self::SessionField(path) => push_text(out, exchange.principal.as_ref()?.attribute(path)?),
            Self::Certificate(fact) => {
                push_text(out, only(fact.of(exchange.connection.certificate.as_ref()?).iter())?);
            }
            Self::Route => push_text(out, exchange.trail.borrow().route.as_deref()?),
            Self::Method => out.push_str(method(request.method())),
            Self::Host => push_text(out, &bare_host(request.headers().get(HOST)?.to_str().ok()?)),
        }
        Some(())
    }
}

/// The half of a digest that keys have, of all of its hexadecimal digits or of that half.
fn half_digest(digits: &str) -> Option<&str> {
    let whole = [DIGEST, 2 * DIGEST].contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    digits.get(..DIGEST).filter(|_| whole)
}

fn push_half(out: &mut String, digest: &str) {
    out.push('#');
    out.push_str(&digest.to_ascii_lowercase());
}

/// Appends the network that counts as one client. Writing to a string cannot fail.
pub(super) fn push_group(out: &mut String, address: IpAddr, grouping: Grouping) {
    match address {
        IpAddr::V4(_) if grouping.ipv4 >= 32 => push_address(out, address),
        IpAddr::V4(address) => {
            let network = Ipv4Addr::from_bits(address.to_bits() & !(u32::MAX >> grouping.ipv4));
            let _ = write!(out, "{network}/{}", grouping.ipv4);
        }
        IpAddr::V6(address) if grouping.ipv6 == 64 => {
            let [a, b, c, d, ..] = address.segments();
            let _ = write!(out, "{a:x}:{b:x}:{c:x}:{d:x}::/64");
        }
        IpAddr::V6(_) if grouping.ipv6 >= 128 => push_address(out, address),
        IpAddr::V6(address) => {
            let network = Ipv6Addr::from_bits(address.to_bits() & !(u128::MAX >> grouping.ipv6));
            let _ = write!(out, "{network}/{}", grouping.ipv6);
        }
    }
}

fn push_secret(out: &mut String, value: &[u8]) {
    out.push('#');
    push_digest(out, value);
}

fn push_text(out: &mut String, text: &str) {
    if text.len() > LONGEST { push_secret(out, text.as_bytes()) } else { push_escaped(out, text) }
}

/// The value, if there is exactly one.
pub(super) fn only<T>(mut values: impl Iterator<Item = T>) -> Option<T> {
    let value = values.next()?;
    values.next().is_none().then_some(value)
}

/// The values of the cookies called `name`, over all lines (RFC 6265 §5.4). White space around name and value is no part of them.
pub fn cookies<'a>(fields: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a [u8]> {
    let pairs = fields.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
    pairs.filter_map(move |pair| {
        let equals = memchr::memchr(b'=', pair)?;
        (pair[..equals].trim_ascii() == name.as_bytes()).then(|| pair[equals + 1..].trim_ascii())
    })
}

/// The values of the parameters called `name`, in whatever spelling.
pub fn parameters<'a>(query: &'a str, name: &str) -> impl Iterator<Item = Cow<'a, [u8]>> {
    query.split('&').filter_map(move |pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decoded(key) == *name.as_bytes()).then(|| decoded(value))
    })
}

/// Percent-decoding, as in a form (`+` is a space). What is no valid escape stays.
pub fn decoded(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|byte| matches!(byte, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let digit = |at: usize| bytes.get(at).and_then(|byte| (*byte as char).to_digit(16));
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        match (byte, digit(at + 1), digit(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high << 4 | low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            _ => out.push(byte),
        }
        at += 1;
    }
    Cow::Owned(out)
}

fn method(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        "POST" => "POST",
        "PUT" => "PUT",
        "PATCH" => "PATCH",
        "DELETE" => "DELETE",
        "OPTIONS" => "OPTIONS",
        "TRACE" => "TRACE",
        "CONNECT" => "CONNECT",
        _ => "*",
    }
}

impl Part {
    /// Reads one part: `address`, `header:NAME`, `cookie:NAME`, `query:NAME`, `session`, `session:FIELD`,
    /// `certificate`, `certificate:cn`, `route`, `method`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        match (kind, name) {
            ("header" | "cookie" | "query" | "session" | "certificate", Some("")) => {
                Err(format!("`{text}` names nothing after the colon"))
            }
            ("address", None) => Ok(Self::Address),
            ("route", None) => Ok(Self::Route),
            ("method", None) => Ok(Self::Method),
            ("host", None) => Ok(Self::Host),
            ("session", None) => Ok(Self::Session),
            ("session", Some(field)) => Ok(Self::SessionField(field.to_owned())),
            ("certificate", None) => Ok(Self::Certificate(CertificateFact::Fingerprint)),
            ("certificate", Some(word)) => match CertificateFact::WORDS.iter().find(|(known, _)| *known == word) {
                // Of these there may be several, or they say nothing about the client.
                None | Some((_, CertificateFact::AlternativeNames | CertificateFact::Issuer)) => {
                    Err(format!("`{word}` is none of cn, subject, serial, sha256"))
                }
                Some((_, fact)) => Ok(Self::Certificate(*fact)),
            },
            ("cookie", Some(name)) => Ok(Self::Cookie(name.to_owned())),
            ("query", Some(name)) => Ok(Self::Query(name.to_owned())),
            ("header", Some(name)) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(format!("`{name}` is not a field name")),
            },
            ("header" | "cookie" | "query", None) => Err(format!("`{kind}` needs a name: `{kind}:NAME`")),
            _ => Err(format!("`{text}` is nothing that requests can be counted by")),
        }
    }
}

impl Key {
    /// Reads a key from its parts.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse<'t>(parts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let mut key = Vec::new();
        for text in parts {
            let part = Part::parse(text)?;
            if key.contains(&part) {
                return Err(format!("`{text}` stands twice"));
            }
            key.push(part);
        }
        if key.is_empty() { Err("a key has at least one part".into()) } else { Ok(Self(key)) }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Session => f.write_str("session"),
            Self::SessionField(field) => write!(f, "session:{field}"),
            Self::Certificate(CertificateFact::Fingerprint) => f.write_str("certificate"),
            Self::Certificate(fact) => write!(f, "certificate:{}", fact.word()),
            Self::Route => f.write_str("route"),
            Self::Method => f.write_str("method"),
            Self::Host => f.write_str("host"),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if index == 0 { "" } else { " + " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::rc::Rc;
    use std::sync::Arc;

    use super::*;
    use crate::exchange::{ClientCertificate, Principal};
    use crate::rate_limit::trial::exchange;

    fn text(parts: impl Into<Vec<Part>>, exchange: &Exchange) -> String {
        let mut out = String::new();
        Key(parts.into()).push(exchange, Grouping::default(), Some(&Part::Address), &mut out).unwrap();
        out
    }

    fn header(name: &'static str) -> Part {
        Part::Header(HeaderName::from_static(name))
    }

    #[test]
    fn ipv6_counts_by_its_64() {
        let at = |address: &str| text([Part::Address], &exchange("GET", "/", address, &[]));
        assert_eq!(at("192.0.2.1"), "192.0.2.1");
        assert_eq!(at("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
        assert_eq!(at("2001:db8:1:2::"), at("2001:db8:1:2:ffff::1"));
        assert_ne!(at("2001:db8:1:2::"), at("2001:db8:1:3::"));
    }

    #[test]
    fn a_limit_may_count_wider_or_narrower_networks() {
        let at = |address: &str, ipv4, ipv6| {
            let mut out = String::new();
            let grouping = Grouping { ipv4, ipv6 };
            Key(vec![Part::Address]).push(&exchange("GET", "/", address, &[]), grouping, None, &mut out).unwrap();
            assert_eq!(
                Key(vec![Part::Address]).spelt(address, grouping).as_ref(),
                Some(&out),
                "an exempt one is the same"
            );
            out
        };
        assert_eq!(at("192.0.2.129", 24, 64), "192.0.2.0/24");
        assert_eq!(at("192.0.2.129", 25, 64), "192.0.2.128/25");
        assert_eq!(at("2001:db8:1:2345::1", 32, 56), "2001:db8:1:2300::/56");
        assert_eq!(at("2001:db8:1:2345::1", 32, 128), "2001:db8:1:2345::1");
        assert_eq!(at("2001:db8:1:2345::1", 32, 16), "2001::/16");
    }

    #[test]
    fn what_is_missing_is_replaced_as_the_limit_says_or_by_nothing() {
        let parts = Key(vec![Part::Cookie("k".into()), Part::Method]);
        let of = |fields: &[(&str, &str)], instead: Option<&Part>| {
            let mut out = String::new();
            let request = exchange("GET", "/", "192.0.2.1", fields);
            parts.push(&request, Grouping::default(), instead, &mut out).map(|()| out)
        };
        let instead = header("x-key");
        let abc = "#ba7816bf8f01cfea414140de5dae2223,GET";
        assert_eq!(of(&[("cookie", "k=abc")], None).as_deref(), Some(abc));
        assert_eq!(of(&[("x-key", "abc")], Some(&instead)), Some(format!("@{abc}")));
        assert_eq!(of(&[], Some(&instead)).as_deref(), Some("@@192.0.2.1,GET"));
        assert_eq!(of(&[], None), None);
    }

    #[test]
    fn an_exempt_value_is_spelt_as_the_requests_that_have_it() {
        let request = exchange("GET", "/?k=abc", "192.0.2.1", &[("x-key", "abc"), ("host", "A.example:80")]);
        let digest = "sha256:BA7816BF8F01CFEA414140DE5DAE2223B00361A396177A9CB410FF61F20015AD";
        for (part, value) in [
            (header("x-key"), "abc"),
            (header("x-key"), digest),
            (header("x-key"), &digest[..39]),
            (Part::Query("k".into()), digest),
            (Part::Query("k".into()), "#ba7816bf8f01cfea414140de5dae2223"),
            (Part::Host, "a.example"),
            (Part::Method, "GET"),
        ] {
            let spelt = Key(vec![part.clone()]).spelt(value, Grouping::default());
            assert_eq!(spelt, Some(text([part], &request)), "{value}");
        }
        let no_digits = digest.replace("BA", "XY");
        let none = [
            (header("x-key"), "sha256:abc"),
            (header("x-key"), &no_digits),
            (header("x-key"), &digest[..70]),
            (Part::Address, "a"),
            (Part::Address, "#ba7816bf8f01cfea414140de5dae2223"),
            (Part::Method, "a b"),
        ];
        for (part, value) in none {
            assert_eq!(Key(vec![part]).spelt(value, Grouping::default()), None, "{value}");
        }
    }

    #[test]
    fn a_secret_appears_as_its_digest_wherever_it_was_sent() {
        let request =
            exchange("GET", "/?a=1&api%5Fkey=ab%63&api", "192.0.2.1", &[("x-key", "abc"), ("cookie", "a=b; k=abc")]);
        for part in [header("x-key"), Part::Cookie("k".into()), Part::Query("api_key".into())] {
            assert_eq!(text([part], &request), "#ba7816bf8f01cfea414140de5dae2223");
        }
    }

    #[test]
    fn a_certificate_counts_by_its_digest_or_by_what_it_says() {
        let parts = ["certificate", "certificate:cn", "certificate:subject", "certificate:serial"];
        let parts = || parts.map(|part| Part::parse(part).unwrap());
        let mut request = exchange("GET", "/", "192.0.2.1", &[]);
        assert_eq!(text(parts(), &request), "@192.0.2.1,@192.0.2.1,@192.0.2.1,@192.0.2.1");
        let certificate = ClientCertificate {
            subject: "CN=a,O=b".into(),
            issuer: "CN=c".into(),
            common_name: None,
            serial: "01".into(),
            fingerprint: "f".repeat(64),
            alternative_names: vec!["DNS:a".into()],
        };
        Rc::get_mut(&mut request.connection).unwrap().certificate = Some(Rc::new(certificate));
        assert_eq!(text(parts(), &request), format!("{},@192.0.2.1,CN%3da%2cO%3db,01", "f".repeat(64)));
        for word in ["", "san", "issuer", "CN"] {
            assert!(Part::parse(&format!("certificate:{word}")).is_err(), "{word}");
        }
    }

    #[test]
    fn leaving_the_key_out_or_sending_it_twice_counts_by_address() {
        let parts = [header("x-key"), Part::Cookie("k".into()), Part::Query("k".into()), Part::Session];
        let none = exchange("GET", "/", "192.0.2.1", &[("cookie", "kk=1; xk=2")]);
        let fields = [("x-key", "a"), ("x-key", "b"), ("cookie", "k=a"), ("cookie", "k=b")];
        let twice = exchange("GET", "/?k=a&%6b=b", "192.0.2.1", &fields);
        for request in [none, twice] {
            assert_eq!(text(parts.clone(), &request), "@192.0.2.1,@192.0.2.1,@192.0.2.1,@192.0.2.1");
        }
    }

    #[test]
    fn no_two_requests_keys_collide_by_concatenation() {
        let mut request = exchange("GET", "/", "192.0.2.1", &[]);
        let parts = [Part::SessionField("a".into()), Part::SessionField("b".into())];
        let mut of = |a: &str, b: &str| {
            request.principal = Some(Arc::new(Principal {
                session: "web".into(),
                user: "7".into(),
                session_digest: "d".into(),
                session_key: "d".into(),
                attributes: vec![("a".into(), a.into()), ("b".into(), b.into())],
            }));
            text(parts.clone(), &request)
        };
        assert_eq!(of("x", "y"), "x,y");
        assert_eq!(of("x,", "y}"), "x%2c,y%7d");
        assert_ne!(of("x,y", ""), of("x", "y,"));
        assert_ne!(of("#", "@192.0.2.1"), of("%23", "@192.0.2.1"));
        assert_eq!(of(&"x".repeat(65), "").len(), 1 + 32 + 1);
    }

    #[test]
    fn invented_methods_share_one_counter() {
        let of = |method| text([Part::Method], &exchange(method, "/", "192.0.2.1", &[]));
        assert_eq!([of("GET"), of("FOO"), of("BAR")], ["GET", "*", "*"]);
    }
}
