//! Opens connections to the app: TCP, TLS, Unix socket.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::tls::{Fault, Secured};
use super::{Place, Server, Settings, proxy_protocol};
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
    Tls(Fault),
    /// It does not speak HTTP/2.
    Protocol,
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    tls: Option<Secured>,
    tells_client: bool,
    /// What went wrong with the last handshake, so that the log says it once and not at every request.
    last: Arc<Mutex<Option<Fault>>>,
}

impl Connector {
    /// To the endpoints of `settings`.
    pub fn new(settings: &Settings) -> Self {
        Self { tls: settings.tls.clone(), tells_client: settings.proxy_protocol, last: Arc::default() }
    }

    /// Each connection belongs to the client it was opened for (see `proxy_protocol`): none is kept.
    pub fn tells_client(&self) -> bool {
        self.tells_client
    }

    /// Opens a connection to `server`, at `address` unless it is a Unix socket. Tells the app first that it is `client`'s,
    /// or nobody's, where that is told at all (`proxy_protocol`). Bounded in time by the caller.
    ///
    /// # Errors
    /// [`Failure`]; what the system said is logged.
    pub async fn connect(
        &self,
        server: &Server,
        address: Option<SocketAddr>,
        client: Option<SocketAddr>,
    ) -> Result<Transport, Failure> {
        let host = match &server.place {
            Place::Unix(path) => {
                let connecting = async {
                    let mut socket = UnixStream::connect(path).await?;
                    self.tell(&mut socket, client, None).await?;
                    Ok(Transport::Unix(socket))
                };
                return connecting.await.map_err(|error| refused(server, &error));
            }
            Place::Tcp(host, _) => host,
        };
        let address = address.ok_or(Failure::Unresolved)?;
        let mut socket = TcpStream::connect(address).await.map_err(|error| refused(server, &error))?;
        // Requests are small and wanted now.
        let _ = socket.set_nodelay(true);
        self.tell(&mut socket, client, Some(address)).await.map_err(|error| refused(server, &error))?;
        let Some(tls) = self.tls.as_ref().filter(|_| server.tls) else { return Ok(Transport::Tcp(socket)) };
        let name = tls.name(host).map_err(Failure::Tls)?;
        match TlsConnector::from(tls.config()).connect(name, socket).await {
            Ok(stream) => {
                *self.last.lock() = None;
                Ok(Transport::Tls(Box::new(stream.into())))
            }
            Err(error) => {
                let fault = Fault::within(&error).unwrap_or(Fault::Protocol);
                let certificate = if let Fault::Certificate(about) = fault { Some(about) } else { None };
                if self.last.lock().replace(fault) != Some(fault) {
                    tracing::warn!(%server, certificate, %error, "TLS handshake with the app failed");
                }
                Err(Failure::Tls(fault))
            }
        }
    }

    async fn tell(
        &self,
        socket: &mut (impl AsyncWrite + Unpin),
        client: Option<SocketAddr>,
        app: Option<SocketAddr>,
    ) -> io::Result<()> {
        match self.tells_client {
            true => socket.write_all(&proxy_protocol::header(client, app)).await,
            false => Ok(()),
        }
    }
}

fn refused(server: &Server, error: &io::Error) -> Failure {
    tracing::debug!(%server, %error, "connection refused");
    Failure::Refused
}
