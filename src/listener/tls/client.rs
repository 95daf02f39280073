//! The client's certificate: who is asked for one, and what it says.
//!
//! 1. `required`: nobody gets through the handshake without a certificate that one of our authorities signed.
//!    `optional`: who presents none passes as nobody; who presents a bad one is refused all the same.
//! 2. What it says is read once for each connection. What cannot be read is refused: it must not pass as nobody.
//! 3. A resumed connection carries the certificate of the first, which was verified then. It is refused once that has expired.
//!
//! What a certificate says is as long as the handshake lets it be: rustls takes no certificate message above 64 KiB.
//!
//! # Why
//! Rule 3: a ticket lives for hours, a certificate may end in between, and nobody looks at it again in a resumption.

use http::HeaderName;
use rustls_pki_types::CertificateDer;
use sha2::{Digest, Sha256};
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::pem::{Authorities, hexadecimal};
use super::subject::{alternative_name, common_name, distinguished_name};
use crate::exchange::{CertificateFact, ClientCertificate};
use crate::listener::transport::Transport;

/// `[server.tls] client`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Who signs clients' certificates.
    pub authorities: Authorities,
    /// Whether a client needs one.
    pub mode: Mode,
    /// Identity fields for the app.
    pub forward: Vec<(HeaderName, CertificateFact)>,
}

/// Whether a client needs a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It may have one.
    Optional,
    /// No handshake without.
    Required,
}

/// The certificate of the client at the other end, at the Unix second `now`; `None`: it presented none.
///
/// # Errors
/// It has expired since it was verified, or cannot be read.
pub fn certificate(transport: &Transport, now: impl Fn() -> i64) -> Result<Option<ClientCertificate>, &'static str> {
    let Transport::Tls(stream) = transport else { return Ok(None) };
    let chain = stream.get_ref().1.peer_certificates();
    chain.and_then(<[_]>::first).map(|leaf| read(leaf, now())).transpose()
}

/// Rules 2 and 3.
fn read(der: &CertificateDer<'_>, now: i64) -> Result<ClientCertificate, &'static str> {
    let (_, leaf) = X509Certificate::from_der(der).map_err(|_| "unreadable")?;
    if now > leaf.validity().not_after.timestamp() {
        return Err("expired");
    }
    let names = leaf.subject_alternative_name().map_err(|_| "unreadable")?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    Ok(ClientCertificate {
        subject: distinguished_name(leaf.subject()),
        issuer: distinguished_name(leaf.issuer()),
        common_name: common_name(leaf.subject()),
        serial: hexadecimal(leaf.raw_serial()),
        fingerprint: hexadecimal(&Sha256::digest(der)),
        alternative_names: names.filter_map(alternative_name).collect(),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_certificate_is_read_until_it_expires() {
        let key = rcgen::KeyPair::generate().unwrap();
        let mut params = rcgen::CertificateParams::new(vec!["a.example".into(), "::1".into()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "alice");
        params.serial_number = Some(vec![1, 255].into());
        params.not_before = rcgen::date_time_ymd(1970, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + Duration::from_secs(100);
        let der = params.self_signed(&key).unwrap().der().clone();
        let read_at = |now| read(&der, now);
        let of = read_at(100).unwrap();
        assert_eq!((of.subject.as_str(), of.issuer.as_str()), ("CN=alice", "CN=alice"));
        assert_eq!((of.common_name.as_deref(), of.serial.as_str()), (Some("alice"), "01ff"));
        assert_eq!(of.alternative_names, ["DNS:a.example", "IP:::1"]);
        assert_eq!(of.fingerprint.len(), 64);
        assert_eq!(read_at(101), Err("expired"));
        assert_eq!(read(&CertificateDer::from(&b"nothing"[..]), 0), Err("unreadable"));
    }
}
