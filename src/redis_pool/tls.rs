//! TLS toward Redis: as the configuration made it, for all connections of the process.
//!
//! 1. Redis's certificate must be for the name we ask for: `server_name`, else the endpoint's host. The same name is sent
//!    as SNI (RFC 6066 §3).
//! 2. A handshake that fails is in the log with its reason, at most once a minute: a trial each second would fill it.
//! 3. No protocol is offered (ALPN): there is none for Redis, and some proxies before it refuse what they do not know.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use super::address::Endpoint;
use crate::clock::instant;

/// The least time between two lines about handshakes that failed.
const BETWEEN: Duration = Duration::from_secs(60);

/// `[redis] tls`, ready to be used.
#[derive(Clone)]
pub struct Tls {
    config: Arc<ClientConfig>,
    server_name: Option<ServerName<'static>>,
    /// When the log last said that a handshake had failed.
    said: Arc<Mutex<Option<Instant>>>,
    /// What was configured.
    pub told: Told,
}

/// What a [`Tls`] was made of, in words that tell two of them apart.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// Who is believed.
    pub authorities: String,
    /// What we show; empty: nothing.
    pub certificate: String,
    /// The name we ask for; empty: the endpoint's host.
    pub server_name: String,
    /// The oldest version that is spoken.
    pub oldest: String,
    /// The files it was read from: a change of theirs is a change of the configuration.
    pub files: Vec<PathBuf>,
}

impl Tls {
    /// Of a configuration that verifies as `told` says.
    pub fn new(config: &ClientConfig, server_name: Option<ServerName<'static>>, told: Told) -> Self {
        let mut config = config.clone();
        config.alpn_protocols.clear();
        Self { config: Arc::new(config), server_name, said: Arc::default(), told }
    }

    /// What a handshake needs.
    pub(super) fn config(&self) -> Arc<ClientConfig> {
        self.config.clone()
    }

    /// A handshake has failed.
    pub(super) fn failed(&self, endpoint: &Endpoint, error: &io::Error) {
        let (now, mut said) = (instant(), self.said.lock());
        if said.is_none_or(|said| now.saturating_duration_since(said) >= BETWEEN) {
            *said = Some(now);
            tracing::warn!(%endpoint, %error, "TLS handshake with Redis failed");
        }
    }

    /// Whether `host` is a name that a certificate could be for.
    pub fn can_verify(&self, host: &str) -> bool {
        self.name(host).is_ok()
    }

    /// The name to ask `host` for.
    pub(super) fn name(&self, host: &str) -> io::Result<ServerName<'static>> {
        match &self.server_name {
            Some(name) => Ok(name.clone()),
            None => ServerName::try_from(host.to_owned())
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }
}

impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.told == other.told
    }
}

impl Eq for Tls {}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.told.fmt(f)
    }
}
