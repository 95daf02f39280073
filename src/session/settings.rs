//! What `[session.NAME]` and a route's `session` may ask for besides reading a session. Plain data.

use std::net::IpAddr;
use std::time::Duration;

use http::HeaderName;

use super::Secrets;

/// How identity fields are written, and what vouches for them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// How text that is not visible ASCII is written.
    pub encoding: Encoding,
    /// What vouches for them.
    pub signature: Option<Signature>,
}

/// How the text of an attribute becomes a field's value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Encoding {
    /// Visible ASCII as it is, every other byte as `%XX`.
    #[default]
    Percent,
    /// `UTF-8''` and the same with few characters left as they are (RFC 8187 §3.2.1).
    Rfc8187,
    /// The UTF-8 text as base64 with padding (RFC 4648 §4).
    Base64,
}

/// A field that vouches for the identity fields of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// The field.
    pub field: HeaderName,
    /// What it is.
    pub kind: SignatureKind,
    /// What sidegate and the app share; the first signs.
    pub secrets: Secrets,
    /// How long a signed token holds.
    pub ttl: Duration,
}

/// What vouches for identity fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SignatureKind {
    /// An HMAC-SHA256 over time, method, target and identity fields.
    #[default]
    Hmac,
    /// A signed token of its own (RFC 7519, HS256) with the attributes as claims.
    Jwt,
}

/// Where a browser that is not logged in is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// A path of the same site, or a URL.
    pub url: String,
    /// The query parameter that tells the way back; empty: none.
    pub back: String,
}

/// Prolongs sessions that are used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// How long a session lasts from each use.
    pub ttl: Duration,
    /// It is prolonged at most once within this time.
    pub interval: Duration,
}

/// How long a session may last, however much it is used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From its birth.
    pub most: Duration,
    /// Dotted path of the attribute that tells its birth; `None`: what the format itself tells.
    pub born: Option<String>,
}

/// What device a session stays with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Binding {
    /// The family of the User-Agent.
    pub agent: bool,
    /// Bits of the client address that stay the same: of IPv4, of IPv6.
    pub address: Option<(u8, u8)>,
    /// What becomes of a request from elsewhere.
    pub mismatch: Mismatch,
}

/// What becomes of a request that comes from another device than its session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mismatch {
    /// It passes; logged and counted.
    #[default]
    Report,
    /// 403.
    Refuse,
    /// As if nobody were logged in.
    Login,
}

/// Which sessions each user has, kept in Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Index {
    /// A session is noted at most once within this time.
    pub interval: Duration,
    /// Sessions noted for a user; beyond: the one that was not seen for longest is forgotten.
    pub most: u32,
    /// How long a session without an end of its own is known.
    pub ttl: Duration,
    /// How long a session that was revoked stays so, whatever is written under its key: longer than any request takes the app.
    pub revoked_for: Duration,
}

/// How sidegate makes sessions itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// How long a session lasts.
    pub ttl: Duration,
    /// The cookie's name.
    pub cookie: String,
    /// `Path` of the cookie.
    pub path: String,
    /// `Domain` of the cookie.
    pub domain: Option<String>,
    /// `Secure`.
    pub secure: bool,
    /// `SameSite`.
    pub same_site: SameSite,
    /// The cookie outlives the browser: it has `Max-Age`.
    pub persistent: bool,
}

/// `SameSite` of a cookie (RFC 6265bis §4.1.2.7).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// `Strict`.
    Strict,
    /// `Lax`.
    #[default]
    Lax,
    /// `None`.
    None,
}

/// What a record must say for a request to pass a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// Dotted path of the attribute.
    pub attribute: String,
    /// One of these texts; of an attribute that is a list, any item.
    pub values: Vec<String>,
}

impl Binding {
    /// The part of `address` that stays the same, as text; empty where the address does not matter.
    pub fn prefix_of(&self, address: IpAddr) -> String {
        let Some((v4, v6)) = self.address else { return String::new() };
        let bits = if address.is_ipv4() { v4 } else { v6 };
        ipnet::IpNet::new(address, bits).map_or_else(|_| address.to_string(), |net| net.trunc().to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_bound_by_its_first_bits() {
        let binding = |address| Binding { agent: false, address, mismatch: Mismatch::Report };
        let by = |address: &str| binding(Some((24, 56))).prefix_of(address.parse().unwrap());
        assert_eq!(by("192.0.2.77"), "192.0.2.0/24");
        assert_eq!(by("2001:db8:1:2ff::7"), "2001:db8:1:200::/56");
        assert_eq!(binding(None).prefix_of("192.0.2.77".parse().unwrap()), "");
    }
}
