//! Tells the app whose a connection is, at its start: a PROXY protocol header, version 2 (HAProxy's `proxy-protocol.txt`
//! §2.2). Pure.
//!
//! 1. The source is the client address as `client_addr` found it; with the port of the connection it came by if that was
//!    the client's own, else 0. The destination is the app's end of the connection, since nothing else is known to it.
//! 2. A connection belongs to one client from then on: with `proxy_protocol = "v2"` it carries one request and is closed.
//! 3. A connection of our own (a health check) says so: `LOCAL`.
//! 4. Addresses of two families are both told as IPv6. An app on a Unix socket is told the unspecified address.
//!
//! # Why
//! Rule 2: a pooled connection would carry the requests of one client under the address of another. Idle connections kept
//! by the address told would seldom be used again, and would crowd out those of others; an app that wants them pooled reads
//! X-Forwarded-For.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use proxy_header::{ProxiedAddress, ProxyHeader};

/// Bytes of a header with two IPv6 addresses.
const LONGEST: usize = 52;

/// The header for a connection of `source` to an app at `destination`; without a source for one of our own (`LOCAL`).
pub fn header(source: Option<SocketAddr>, destination: Option<SocketAddr>) -> Vec<u8> {
    let Some(source) = source.map(folded) else { return encoded(&ProxyHeader::with_local()) };
    let unspecified = match source.ip() {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let destination = destination.map_or((unspecified, 0).into(), folded);
    let addresses = match source.is_ipv4() == destination.is_ipv4() {
        true => ProxiedAddress::stream(source, destination),
        false => ProxiedAddress::stream(mapped(source), mapped(destination)),
    };
    encoded(&ProxyHeader::with_address(addresses))
}

fn encoded(header: &ProxyHeader<'_>) -> Vec<u8> {
    let mut bytes = vec![0; LONGEST];
    // It fits, and both addresses are of one family: nothing else can fail.
    let length = header.encode_to_slice_v2(&mut bytes).unwrap_or_default();
    bytes.truncate(length);
    bytes
}

fn folded(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::listener::proxy_protocol::{Found, find};

    #[test]
    fn it_is_read_as_it_was_meant() {
        let cases = [
            ("192.0.2.7:9", Some("10.0.0.1:80"), "192.0.2.7:9", 28),
            ("[2001:db8::7]:0", Some("[::1]:80"), "[2001:db8::7]:0", 52),
            ("192.0.2.7:9", Some("[::1]:80"), "[::ffff:192.0.2.7]:9", 52),
            ("[2001:db8::7]:9", Some("10.0.0.1:80"), "[2001:db8::7]:9", 52),
            ("[::ffff:192.0.2.7]:9", Some("10.0.0.1:80"), "192.0.2.7:9", 28),
            ("192.0.2.7:9", None, "192.0.2.7:9", 28),
        ];
        for (source, destination, told, length) in cases {
            let bytes = header(Some(source.parse().unwrap()), destination.map(|text| text.parse().unwrap()));
            assert_eq!(find(&bytes, 512), Found::Header(length, Some(told.parse().unwrap())), "{source}");
        }
    }

    #[test]
    fn the_bytes_are_those_of_the_protocol() {
        let bytes = header(Some("192.0.2.7:258".parse().unwrap()), Some("10.0.0.1:80".parse().unwrap()));
        let expected = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\x01\x02\0\x50";
        assert_eq!(bytes, expected);
        assert_eq!(header(None, None), b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    }
}
