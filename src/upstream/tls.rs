//! TLS toward the app.
//!
//! 1. The app's certificate must be signed by an authority we believe, be within its days, and be for the name we ask
//!    for: `server_name`, else the host of the endpoint's URL. The same name is sent as SNI (RFC 6066 §3).
//! 2. `ca` stands in place of the system's authorities, not beside them; `"system"` in its list adds those.
//! 3. Only `danger_accept_any_certificate` turns verification off, for one upstream, and is warned of wherever the
//!    configuration is read. Even then the app must prove that it has the key of what it shows.
//! 4. What goes wrong is told apart as RFC 9209 §2.3 does, and the log line says what is wrong with a certificate.
//! 5. Sessions are resumed, whichever worker had the one before: all share one configuration, and with it its memory
//!    of at most 256 of them.
//!
//! # Why
//! Rule 2: an app with a private authority is to be reached as that authority says; any public one could else vouch for
//! its name as well.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::listener::tls::certificate::Certificate;
use crate::listener::tls::pem::Authorities;
use crate::listener::tls::{Oldest, provider};

/// What we offer to speak (RFC 7301), the best first; the first one where the configuration says so.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// `[upstream.NAME] tls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Whose signature on the app's certificate is believed; `None`: anybody's (rule 3).
    pub authorities: Option<Authorities>,
    /// What we show if the app asks for a certificate.
    pub certificate: Option<Arc<Certificate>>,
    /// The name we ask for; `None`: the endpoint's host.
    pub server_name: Option<ServerName<'static>>,
    /// The oldest version of TLS that is spoken.
    pub oldest: Oldest,
    /// HTTP/2 is offered.
    pub http2: bool,
    /// The files it was read from: a change of theirs is a change of the configuration.
    pub files: Vec<PathBuf>,
}

/// Settings, ready to be used.
#[derive(Clone)]
pub struct Secured {
    /// What was configured.
    pub settings: Settings,
    config: Arc<ClientConfig>,
}

impl Secured {
    /// Makes `settings` usable.
    ///
    /// # Errors
    /// A clause: rustls cannot use them.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let provider = provider();
        let verifier: Arc<dyn ServerCertVerifier> = match &settings.authorities {
            None => Arc::new(Anybody(provider.clone())),
            Some(authorities) => {
                WebPkiServerVerifier::builder_with_provider(authorities.store.clone(), provider.clone())
                    .build()
                    .map_err(|error| error.to_string())?
            }
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(settings.oldest.versions())
            .map_err(|error| error.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &settings.certificate {
            None => builder.with_no_client_auth(),
            Some(own) => builder.with_client_cert_resolver(Arc::new(Own(own.certified.clone()))),
        };
        config.alpn_protocols = PROTOCOLS.iter().skip(usize::from(!settings.http2)).map(|each| each.to_vec()).collect();
        Ok(Self { settings, config: Arc::new(config) })
    }

    /// What a handshake needs.
    pub fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// The name to ask an endpoint for.
    ///
    /// # Errors
    /// The endpoint's host is no name that a certificate could be for.
    pub fn name(&self, host: &str) -> Result<ServerName<'static>, Fault> {
        match &self.settings.server_name {
            Some(name) => Ok(name.clone()),
            // The configuration has refused such a host already.
            None => ServerName::try_from(host.to_owned()).map_err(|_| Fault::Certificate("no name to verify")),
        }
    }
}

impl PartialEq for Secured {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Secured {}

impl fmt::Debug for Secured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.settings.fmt(f)
    }
}

/// The certificate that we show, whoever asks.
#[derive(Debug)]
struct Own(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<rustls::sign::CertifiedKey>> {
        self.0.key.choose_scheme(schemes).map(|_| self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Believes anybody, who at least has the key of the certificate shown.
#[derive(Debug)]
struct Anybody(Arc<CryptoProvider>);

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What went wrong with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The app's certificate, in a word or two.
    Certificate(&'static str),
    /// The app ended it with an alert.
    Alert,
    /// Anything else.
    Protocol,
}

impl Fault {
    /// Of an error with TLS at the bottom of it; `None`: it is about something else.
    pub fn within(error: &(dyn std::error::Error + 'static)) -> Option<Self> {
        let mut looked_at = Some(error);
        while let Some(error) = looked_at {
            if let Some(fault) = error.downcast_ref::<Error>() {
                return Some(Self::of(fault));
            }
            // What an I/O error was made of is not its source, but what that one's source is.
            looked_at = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
                Some(inner) => Some(inner),
                None => error.source(),
            };
        }
        None
    }

    fn of(error: &Error) -> Self {
        match error {
            Error::InvalidCertificate(error) => Self::Certificate(about(error)),
            Error::NoCertificatesPresented => Self::Certificate("none"),
            Error::AlertReceived(_) => Self::Alert,
            _ => Self::Protocol,
        }
    }

    /// Its type (RFC 9209 §2.3).
    pub fn kind(self) -> &'static str {
        match self {
            Self::Certificate(_) => "tls_certificate_error",
            Self::Alert => "tls_alert_received",
            Self::Protocol => "tls_protocol_error",
        }
    }
}

/// What is wrong with a certificate.
fn about(error: &CertificateError) -> &'static str {
    use CertificateError as Wrong;
    match error {
        Wrong::Expired | Wrong::ExpiredContext { .. } => "expired",
        Wrong::NotValidYet | Wrong::NotValidYetContext { .. } => "not valid yet",
        Wrong::UnknownIssuer => "unknown authority",
        Wrong::NotValidForName | Wrong::NotValidForNameContext { .. } => "for another name",
        Wrong::Revoked => "revoked",
        Wrong::InvalidPurpose | Wrong::InvalidPurposeContext { .. } => "not for servers",
        Wrong::BadSignature => "bad signature",
        _ => "unusable",
    }
}

#[cfg(test)]
mod tests {
    use rustls::AlertDescription;

    use super::*;

    #[test]
    fn faults_are_found_below_other_errors_and_told_apart() {
        let fault = |error: Error| {
            let direct = Fault::within(&error);
            let wrapped = io::Error::other(io::Error::new(io::ErrorKind::InvalidData, error));
            assert_eq!(Fault::within(&wrapped), direct);
            direct.unwrap()
        };
        let kinds = [
            (Error::InvalidCertificate(CertificateError::UnknownIssuer), Fault::Certificate("unknown authority")),
            (Error::InvalidCertificate(CertificateError::Expired), Fault::Certificate("expired")),
            (Error::InvalidCertificate(CertificateError::NotValidForName), Fault::Certificate("for another name")),
            (Error::NoCertificatesPresented, Fault::Certificate("none")),
            (Error::AlertReceived(AlertDescription::CertificateRequired), Fault::Alert),
            (Error::DecryptError, Fault::Protocol),
        ];
        for (error, expected) in kinds {
            assert_eq!(fault(error), expected);
        }
        assert_eq!(Fault::within(&io::Error::other("else")), None);
    }
}
