//! Finds out who calls, before anything is decided about the request.

use std::net::{IpAddr, Ipv4Addr};
use std::rc::Rc;

use http::HeaderMap;
use tower::Layer;

use super::{Settings, forwarded, request_id, trusted};
use crate::exchange::{self, Client, Connection, Exchange, Next, Scheme, pass};

/// Sets [`Exchange::client`] and names the request.
///
/// Costs a copy of the peer address where no proxy is trusted: no field is looked at.
pub fn layer<S: Next>(settings: Rc<Settings>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |mut exchange: Box<Exchange>, next: S| {
        let fields = exchange.request.headers();
        let client = resolve(&settings, &exchange.connection, fields);
        let known = if client.trusted { request_id::received(fields) } else { None };
        let mut record = exchange.trail.borrow_mut();
        record.client = Some(client.address);
        if known.is_some() {
            record.request_id = known;
        }
        drop(record);
        exchange.client = client;
        pass(next, exchange)
    })
}

fn resolve(settings: &Settings, connection: &Connection, fields: &HeaderMap) -> Client {
    let peer = connection.peer.map(|peer| peer.ip().to_canonical());
    let trusted = peer.map_or(settings.trust_unix, |peer| settings.trusts(peer));
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let own = if connection.tls { Scheme::Https } else { Scheme::Http };
    if !trusted {
        return Client { address: peer, trusted, scheme: own };
    }
    let mut elements = forwarded::elements(fields).peekable();
    let told = elements.peek().is_some();
    let (address, scheme) = trusted::client(settings, peer, elements);
    let scheme = if told { scheme } else { forwarded::scheme_alone(fields) };
    Client { address, trusted, scheme: scheme.unwrap_or(own) }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use http::HeaderValue;

    use super::*;

    fn resolved(trusted: &[&str], peer: Option<&str>, fields: &[(&'static str, &str)]) -> (String, bool, &'static str) {
        let settings = Settings {
            trusted: trusted.iter().filter_map(|net| net.parse().ok()).collect(),
            trust_unix: trusted.contains(&"unix"),
        };
        let connection = Connection {
            peer: peer.map(|ip| (ip.parse::<IpAddr>().unwrap(), 9).into()),
            tls: false,
            certificate: None,
            tunnel: RefCell::default(),
        };
        let mut map = HeaderMap::new();
        for (name, value) in fields {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        let client = resolve(&settings, &connection, &map);
        (client.address.to_string(), client.trusted, client.scheme.as_str())
    }

    const BOTH: [(&str, &str); 2] = [("x-forwarded-for", "192.0.2.1"), ("x-forwarded-proto", "https")];

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(resolved(&[], Some("10.0.0.1"), &BOTH), ("10.0.0.1".into(), false, "http"));
        assert_eq!(resolved(&["10.0.0.0/8"], Some("11.0.0.1"), &BOTH), ("11.0.0.1".into(), false, "http"));
    }

    #[test]
    fn a_trusted_proxy_is_believed_also_through_a_mapped_address() {
        assert_eq!(resolved(&["10.0.0.0/8"], Some("10.0.0.1"), &BOTH), ("192.0.2.1".into(), true, "https"));
        assert_eq!(resolved(&["10.0.0.0/8"], Some("::ffff:10.0.0.1"), &BOTH), ("192.0.2.1".into(), true, "https"));
    }

    #[test]
    fn a_unix_socket_is_the_local_host_unless_it_is_trusted() {
        assert_eq!(resolved(&[], None, &BOTH), ("127.0.0.1".into(), false, "http"));
        assert_eq!(resolved(&["unix"], None, &BOTH), ("192.0.2.1".into(), true, "https"));
    }

    #[test]
    fn a_scheme_may_come_without_an_address_and_in_forwarded() {
        let alone = [("x-forwarded-proto", "https")];
        assert_eq!(resolved(&["10.0.0.0/8"], Some("10.0.0.1"), &alone), ("10.0.0.1".into(), true, "https"));
        let element = [("forwarded", "for=192.0.2.1;proto=https")];
        assert_eq!(resolved(&["10.0.0.0/8"], Some("10.0.0.1"), &element), ("192.0.2.1".into(), true, "https"));
    }
}
