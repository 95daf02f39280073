//! TLS toward the client: rustls, HTTP/2 and HTTP/1.1 by ALPN.
//!
//! 1. The client's word for the host (SNI) chooses the certificate (`choice`); a name that is unknown gets the first one,
//!    or is refused.
//! 2. A client's certificate is asked for where the configuration says so (`client`); what it says goes to the app as
//!    identity fields, and limits can count by it.
//! 3. Everything is read and checked with the configuration (`certificate`, `pem`): what is in force was whole when it
//!    was read. A reload with something wrong leaves all as it was.
//! 4. Connections keep what they began with; a reload concerns new ones.
//! 5. Sessions are resumed by ticket (RFC 5077, RFC 8446 §4.6.1), whichever worker meets the client again. The ticket
//!    keys are in this process alone and change every six hours: a ticket is good for twelve at most, outlives a reload,
//!    and does not outlive the process. When what is asked of clients' certificates changes, all tickets are void.
//! 6. Early data (RFC 8446 §8) is never taken: it can be sent again by whoever has seen it.
//!
//! # Why
//! Rule 5: a resumed client's certificate is taken from the ticket and not verified again, so a ticket must not be older
//! than the rule it was given under. Stateless tickets because a store of sessions would need a lock that all workers share.

pub mod certificate;
mod choice;
pub mod client;
pub mod handshake;
pub mod pem;
mod subject;

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, Ticketer};
use rustls::server::{NoClientAuth, WebPkiClientVerifier};
use rustls::{ServerConfig, SupportedProtocolVersion};

use certificate::Certificate;
pub use choice::twice;

/// `[server.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The certificates; the first one is the default. At least one.
    pub certificates: Vec<Arc<Certificate>>,
    /// Who asks for a name of none of them is refused.
    pub refuse_unknown_names: bool,
    /// The oldest version of TLS that is spoken.
    pub oldest: Oldest,
    /// HTTP/2 is offered (RFC 7301).
    pub http2: bool,
    /// What is asked of clients.
    pub client: Option<client::Settings>,
    /// The files it was read from: a change of theirs is a change of the configuration.
    pub files: Vec<PathBuf>,
}

/// The oldest version of TLS that is spoken.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Oldest {
    /// 1.2 (RFC 5246).
    #[default]
    Tls12,
    /// 1.3 (RFC 8446).
    Tls13,
}

impl Oldest {
    /// It and all later ones.
    pub fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static LATEST: [&SupportedProtocolVersion; 1] = [&rustls::version::TLS13];
        match self {
            Self::Tls12 => rustls::ALL_VERSIONS,
            Self::Tls13 => &LATEST,
        }
    }
}

impl std::fmt::Display for Oldest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        })
    }
}

/// Settings, ready to be used.
#[derive(Clone)]
pub struct Secured {
    /// What was configured.
    pub settings: Settings,
    config: Arc<ServerConfig>,
}

impl Secured {
    /// Makes `settings` usable.
    ///
    /// # Errors
    /// A clause: rustls cannot use them.
    pub fn new(settings: Settings) -> Result<Self, String> {
        let wrong = |error: rustls::Error| error.to_string();
        let client = match &settings.client {
            None => Arc::new(NoClientAuth),
            Some(client) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(client.authorities.store.clone(), provider());
                let verifier = match client.mode {
                    client::Mode::Optional => verifier.allow_unauthenticated(),
                    client::Mode::Required => verifier,
                };
                verifier.build().map_err(|error| error.to_string())?
            }
        };
        let builder = ServerConfig::builder_with_provider(provider());
        let builder = builder.with_protocol_versions(settings.oldest.versions()).map_err(wrong)?;
        let choice = choice::Choice::new(&settings.certificates, settings.refuse_unknown_names);
        let mut config = builder.with_client_cert_verifier(client).with_cert_resolver(Arc::new(choice));
        let protocols: &[&[u8]] = if settings.http2 { &[b"h2", b"http/1.1"] } else { &[b"http/1.1"] };
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        config.ticketer = Ticketer::new().map_err(wrong)?;
        Ok(Self { settings, config: Arc::new(config) })
    }

    /// With the ticket keys of `before`, where a ticket of then would be given now (rule 5).
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        if self.settings.client == before.settings.client {
            let mut config = (*self.config).clone();
            config.ticketer = before.config.ticketer.clone();
            self.config = Arc::new(config);
        }
        self
    }

    /// What a handshake needs.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }
}

impl PartialEq for Secured {
    fn eq(&self, other: &Self) -> bool {
        self.settings == other.settings
    }
}

impl Eq for Secured {}

impl std::fmt::Debug for Secured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.settings.fmt(f)
    }
}

/// The cryptography that all TLS of the process uses.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Installs it for those who do not ask for it by name; once, before anything else.
pub fn install_provider() {
    // A second call finds it installed already, which is as good.
    let _ = aws_lc_rs::default_provider().install_default();
}
