//! What PEM text holds (RFC 7468): certificates, a private key, authorities. Pure.
//!
//! 1. What is wrong is said in a clause that goes behind the name of the file; it never quotes the text.
//! 2. A key that a passphrase protects is named as such: nobody could type it at a reload.

use std::fmt;
use std::sync::Arc;

use rustls::RootCertStore;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use sha2::{Digest, Sha256};

/// The certificates of `text`, in its order; at least one.
///
/// # Errors
/// A clause: it holds none, or what it holds is damaged.
pub fn certificates(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    match found {
        Ok(found) if found.is_empty() => Err("holds no certificate in PEM".into()),
        Ok(found) => Ok(found),
        Err(_) => Err("is damaged: not valid PEM".into()),
    }
}

/// The private key of `text` (PKCS #8, PKCS #1 or SEC 1).
///
/// # Errors
/// A clause: it holds none, it is encrypted, or damaged.
pub fn private_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, String> {
    if memchr::memmem::find(text, b"ENCRYPTED").is_some() {
        return Err("is encrypted: a key that needs a passphrase cannot be used".into());
    }
    match PrivateKeyDer::from_pem_slice(text) {
        Ok(key) => Ok(key),
        Err(rustls_pki_types::pem::Error::NoItemsFound) => Err("holds no private key in PEM".into()),
        Err(_) => Err("is damaged: not valid PEM".into()),
    }
}

/// Whose signatures are believed.
#[derive(Clone)]
pub struct Authorities {
    /// The certificates of the authorities.
    pub store: Arc<RootCertStore>,
    /// SHA-256 over them, in hexadecimal: tells two sets apart.
    digest: String,
    /// Where they come from.
    shown: String,
}

impl Authorities {
    /// From certificates, and the words for where they come from.
    ///
    /// # Errors
    /// A clause: one of them is none that could sign.
    pub fn new(certificates: &[CertificateDer<'static>], shown: String) -> Result<Self, String> {
        let mut store = RootCertStore::empty();
        for certificate in certificates {
            store.add(certificate.clone()).map_err(|_| "holds a certificate that cannot be read".to_owned())?;
        }
        Ok(Self { store: Arc::new(store), digest: digest(certificates), shown })
    }
}

/// SHA-256 over certificates, in hexadecimal.
pub fn digest(certificates: &[CertificateDer<'_>]) -> String {
    let mut sum = Sha256::new();
    for certificate in certificates {
        sum.update(certificate);
    }
    hexadecimal(&sum.finalize())
}

/// Bytes as lower-case hexadecimal digits.
pub fn hexadecimal(bytes: &[u8]) -> String {
    let digit = |half: u8| char::from(b"0123456789abcdef"[usize::from(half & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

impl PartialEq for Authorities {
    fn eq(&self, other: &Self) -> bool {
        self.digest == other.digest && self.shown == other.shown
    }
}

impl Eq for Authorities {}

impl fmt::Display for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}, {:.16})", self.shown, self.store.len(), self.digest)
    }
}

impl fmt::Debug for Authorities {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_pem_is_said_without_quoting_it() {
        let armored = |label: &str, body: &str| format!("-----BEGIN {label}-----\n{body}\n-----END {label}-----\n");
        let none = "holds no private key in PEM".to_owned();
        let damaged = "is damaged: not valid PEM".to_owned();
        assert_eq!(private_key(b"hunter2"), Err(none.clone()));
        assert_eq!(private_key(armored("CERTIFICATE", "AAAA").as_bytes()), Err(none));
        assert_eq!(private_key(armored("PRIVATE KEY", "!hunter2!").as_bytes()), Err(damaged.clone()));
        for encrypted in [
            armored("ENCRYPTED PRIVATE KEY", "AAAA"),
            armored("RSA PRIVATE KEY", "Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nAAAA"),
        ] {
            assert!(private_key(encrypted.as_bytes()).unwrap_err().starts_with("is encrypted"));
        }
        assert_eq!(certificates(b""), Err("holds no certificate in PEM".into()));
        assert_eq!(certificates(armored("CERTIFICATE", "!").as_bytes()), Err(damaged));
    }
}
