//! Which certificate a client is shown, by the name it asks for (SNI, RFC 6066 §3).
//!
//! 1. A certificate for the very name goes before one for a wildcard; a wildcard stands for one label.
//! 2. Of several for one name, the first whose key the client can verify: RSA and ECDSA may stand side by side.
//! 3. A name that is unknown, or no name at all, gets the first certificate, or is refused: `unknown_name`.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::SignatureAlgorithm;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::certificate::Certificate;

/// Certificates by name.
#[derive(Debug)]
pub struct Choice {
    exact: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// By what follows `*.`.
    wildcard: HashMap<String, Vec<Arc<CertifiedKey>>>,
    /// For whoever asks for none of them.
    otherwise: Vec<Arc<CertifiedKey>>,
}

impl Choice {
    /// Of `certificates`; who asks for none of them is refused if `refuse`.
    pub fn new(certificates: &[Arc<Certificate>], refuse: bool) -> Self {
        let (mut exact, mut wildcard) = (HashMap::<_, Vec<_>>::new(), HashMap::<_, Vec<_>>::new());
        for certificate in certificates {
            for name in &certificate.names {
                let (map, name) = match name.strip_prefix("*.") {
                    Some(rest) => (&mut wildcard, rest),
                    None => (&mut exact, name.as_str()),
                };
                map.entry(name.to_owned()).or_default().push(certificate.certified.clone());
            }
        }
        let first = certificates.first().filter(|_| !refuse);
        Self { exact, wildcard, otherwise: first.iter().map(|first| first.certified.clone()).collect() }
    }

    fn of(&self, name: Option<&str>) -> &[Arc<CertifiedKey>] {
        let known = name.and_then(|name| {
            let name = name.to_ascii_lowercase();
            let above = || self.wildcard.get(name.split_once('.')?.1);
            self.exact.get(&name).or_else(above)
        });
        known.unwrap_or(&self.otherwise)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let fitting = self.of(hello.server_name());
        let verifiable = |of: &&Arc<CertifiedKey>| of.key.choose_scheme(hello.signature_schemes()).is_some();
        fitting.iter().find(verifiable).or(fitting.first()).cloned()
    }
}

/// The first name that two certificates of one kind of key serve: only the first of them would be shown.
pub fn twice(certificates: &[Arc<Certificate>]) -> Option<(usize, &str)> {
    let mut seen: Vec<(&str, SignatureAlgorithm)> = Vec::new();
    for (index, certificate) in certificates.iter().enumerate() {
        let kind = certificate.certified.key.algorithm();
        for name in &certificate.names {
            if seen.contains(&(name, kind)) {
                return Some((index, name));
            }
            seen.push((name, kind));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn certificate(names: &[&str]) -> Arc<Certificate> {
        of_kind(&rcgen::PKCS_ECDSA_P256_SHA256, names)
    }

    fn of_kind(kind: &'static rcgen::SignatureAlgorithm, names: &[&str]) -> Arc<Certificate> {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let key = rcgen::KeyPair::generate_for(kind).unwrap();
        let made = rcgen::CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
        let (chain, key) = (made.pem(), key.serialize_pem());
        Arc::new(Certificate::new("c", chain.as_bytes(), key.as_bytes(), Vec::new()).unwrap())
    }

    #[test]
    fn the_very_name_goes_before_a_wildcard_and_a_wildcard_is_one_label() {
        let all = [certificate(&["a.example"]), certificate(&["*.example", "b.example"]), certificate(&["c.example"])];
        let chosen = |refuse: bool, name: Option<&str>| {
            let choice = Choice::new(&all, refuse);
            let first = choice.of(name).first().cloned();
            first.and_then(|first| all.iter().position(|of| Arc::ptr_eq(&of.certified, &first)))
        };
        for (name, expected) in [
            (Some("a.example"), Some(0)),
            (Some("A.EXAMPLE"), Some(0)),
            (Some("b.example"), Some(1)),
            (Some("x.example"), Some(1)),
            (Some("c.example"), Some(2)),
        ] {
            assert_eq!((chosen(false, name), chosen(true, name)), (expected, expected), "{name:?}");
        }
        for unknown in [Some("x.y.example"), Some("example"), Some("other"), None] {
            assert_eq!((chosen(false, unknown), chosen(true, unknown)), (Some(0), None), "{unknown:?}");
        }
    }

    #[test]
    fn a_name_that_stands_twice_is_found() {
        let (one, other, same) = (certificate(&["a"]), certificate(&["b"]), certificate(&["c", "a"]));
        assert_eq!(twice(&[one.clone(), other.clone()]), None);
        let otherwise = of_kind(&rcgen::PKCS_ED25519, &["a"]);
        assert_eq!(twice(&[one.clone(), otherwise]), None, "another kind of key is for other clients");
        assert_eq!(twice(&[one, other, same]), Some((2, "a")));
    }
}
