//! Who calls: the peer, or what trusted proxies say about it.
//!
//! 1. Nobody is believed unless configured. From anyone but a trusted proxy, forwarding fields mean nothing.
//! 2. The list is read right to left: each element was written by the one to its right. The first address that is not a
//!    trusted proxy is the client; what stands further left is only what the client says.
//! 3. An element that names nobody (`unknown`, an obfuscated identifier, rubbish) ends the walk at the last address known.
//! 4. `X-Forwarded-For` is read wherever it is present, `Forwarded` (RFC 7239) only without it.
//! 5. An IPv4-mapped IPv6 address is the IPv4 address.
//! 6. A peer on a Unix socket has no address of its own: it is 127.0.0.1.
//!
//! # Why
//! Rule 4: most proxies append to `X-Forwarded-For` and pass a `Forwarded` on as they got it, so that beside the former
//! the latter may be the client's invention. A proxy that writes `Forwarded` alone leaves no `X-Forwarded-For` behind.

pub mod claims;
pub mod forwarded;
mod layer;
pub mod request_id;
pub mod trusted;

use std::net::IpAddr;

use ipnet::IpNet;

pub use layer::layer;

/// Whose word about the client address is believed (`server.trusted_proxies`); default: nobody's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Networks of trusted proxies. A Unix-socket peer is trusted if [`Settings::trust_unix`].
    pub trusted: Vec<IpNet>,
    /// `"unix"` stands among the trusted proxies.
    pub trust_unix: bool,
}

impl Settings {
    /// Whether `address` (folded) is that of a trusted proxy.
    pub fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(&address))
    }
}
