//! Who calls: the peer, or what trusted proxies say (RFC 7239, X-Forwarded-For), read right to left.

use ipnet::IpNet;

/// Whose word about the client address is believed (`server.trusted_proxies`); default: nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Networks of trusted proxies. A Unix-socket peer is trusted if [`Settings::trust_unix`].
    pub trusted: Vec<IpNet>,
    /// `"unix"` stands among the trusted proxies.
    pub trust_unix: bool,
}
