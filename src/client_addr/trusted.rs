//! The walk from the peer to the client. Pure.

use std::net::IpAddr;

use super::Settings;
use super::forwarded::Element;
use crate::exchange::Scheme;

/// Walks `elements` (from the right) past trusted proxies; the peer itself is one. Returns the client address and the
/// scheme it used, as far as it is told.
///
/// If all are trusted, the leftmost is the client: someone inside asks. At most 64 elements are looked at.
pub fn client(settings: &Settings, peer: IpAddr, elements: impl Iterator<Item = Element>) -> (IpAddr, Option<Scheme>) {
    let (mut address, mut scheme) = (peer, None);
    for element in elements.take(64) {
        // Rule 3: what an unnamed hop says is nobody's word.
        let Some(named) = element.address else { break };
        address = named;
        scheme = element.scheme;
        if !settings.trusts(named) {
            break;
        }
    }
    (address, scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(trusted: &[&str], elements: &[&str]) -> String {
        let settings =
            Settings { trusted: trusted.iter().map(|net| net.parse().unwrap()).collect(), trust_unix: false };
        let elements = elements.iter().rev().map(|text| Element { address: text.parse().ok(), scheme: None });
        client(&settings, [10, 0, 0, 1].into(), elements).0.to_string()
    }

    #[test]
    fn first_untrusted_address_from_the_right_is_the_client() {
        assert_eq!(walk(&["10.0.0.0/8"], &["1.1.1.1", "192.0.2.1", "10.0.0.9"]), "192.0.2.1");
        assert_eq!(walk(&["10.0.0.0/8"], &["192.0.2.1"]), "192.0.2.1");
        assert_eq!(walk(&["10.0.0.0/8", "2001:db8::/32"], &["2001:db9::1", "2001:db8::1"]), "2001:db9::1");
    }

    #[test]
    fn without_elements_the_trusted_peer_itself_is_the_client() {
        assert_eq!(walk(&["10.0.0.0/8"], &[]), "10.0.0.1");
    }

    #[test]
    fn among_trusted_proxies_alone_the_leftmost_asks() {
        assert_eq!(walk(&["10.0.0.0/8"], &["10.0.0.3", "10.0.0.2"]), "10.0.0.3");
    }

    #[test]
    fn an_unnamed_hop_hides_all_that_stands_left_of_it() {
        assert_eq!(walk(&["10.0.0.0/8"], &["192.0.2.1", "unknown", "10.0.0.2"]), "10.0.0.2");
        assert_eq!(walk(&["10.0.0.0/8"], &["192.0.2.1", "unknown"]), "10.0.0.1");
    }
}
