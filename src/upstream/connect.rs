//! Opens connections to the app: TCP, TLS, Unix socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::{Place, Server};
use crate::listener::transport::Transport;

/// Why a connection could not be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody listens there, or it is not reachable.
    Refused,
    /// It took longer than `connect`.
    TimedOut,
    /// The name has no address.
    Unresolved,
    /// The TLS handshake failed.
    Tls,
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    tls: Option<Arc<ClientConfig>>,
}

impl Connector {
    /// For these endpoints; reads the system's certificates if one of them speaks TLS.
    ///
    /// # Errors
    /// The system has no certificates to verify with.
    pub fn new(servers: &[Server]) -> io::Result<Self> {
        if !servers.iter().any(|server| server.tls) {
            return Ok(Self { tls: None });
        }
        let mut roots = RootCertStore::empty();
        let found = rustls_native_certs::load_native_certs();
        roots.add_parsable_certificates(found.certs);
        if roots.is_empty() {
            return Err(io::Error::other(
                "an upstream speaks https, but the system has no certificates to verify it with",
            ));
        }
        let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Some(Arc::new(config)) })
    }

    /// Opens a connection to `server`, at `address` unless it is a Unix socket. Bounded in time by the caller.
    ///
    /// # Errors
    /// [`Failure`]; what the system said is logged.
    pub async fn connect(&self, server: &Server, address: Option<SocketAddr>) -> Result<Transport, Failure> {
        let host = match &server.place {
            Place::Unix(path) => {
                return UnixStream::connect(path).await.map(Transport::Unix).map_err(|error| refused(server, &error));
            }
            Place::Tcp(host, _) => host,
        };
        let address = address.ok_or(Failure::Unresolved)?;
        let socket = TcpStream::connect(address).await.map_err(|error| refused(server, &error))?;
        // Requests are small and wanted now.
        let _ = socket.set_nodelay(true);
        let Some(config) = self.tls.as_ref().filter(|_| server.tls) else { return Ok(Transport::Tcp(socket)) };
        let name = ServerName::try_from(host.clone()).map_err(|_| Failure::Tls)?;
        match TlsConnector::from(config.clone()).connect(name, socket).await {
            Ok(stream) => Ok(Transport::Tls(Box::new(stream.into()))),
            Err(error) => {
                tracing::warn!(%server, %error, "TLS handshake with the app failed");
                Err(Failure::Tls)
            }
        }
    }
}

fn refused(server: &Server, error: &io::Error) -> Failure {
    tracing::debug!(%server, %error, "connection refused");
    Failure::Refused
}
