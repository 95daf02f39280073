//! Opens connections to the app: TCP, TLS, Unix socket.

use std::cell::Cell;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;

use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::tls::{Fault, Secured};
use super::{Place, Server, proxy_protocol};
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
}

/// Opens connections.
#[derive(Clone)]
pub struct Connector {
    tls: Option<Secured>,
    /// What went wrong with the last handshake, so that the log says it once and not at every request.
    last: Rc<Cell<Option<Fault>>>,
}

impl Connector {
    /// With what endpoints that speak TLS need.
    pub fn new(tls: Option<Secured>) -> Self {
        Self { tls, last: Rc::default() }
    }

    /// Opens a connection to `server`; tells it first whose it is, where `client` is given (`proxy_protocol`). Bounded in
    /// time by the caller.
    ///
    /// # Errors
    /// [`Failure`]; what the system said is logged.
    pub async fn connect(&self, server: &Server, client: Option<SocketAddr>) -> Result<Transport, Failure> {
        let (host, port) = match &server.place {
            Place::Unix(path) => {
                let connecting = async {
                    let mut socket = UnixStream::connect(path).await?;
                    tell(&mut socket, client, None).await?;
                    Ok(Transport::Unix(socket))
                };
                return connecting.await.map_err(|error| refused(server, &error));
            }
            Place::Tcp(host, port) => (host.as_str(), *port),
        };
        let mut socket = match host.parse::<std::net::IpAddr>() {
            Ok(address) => TcpStream::connect((address, port)).await.map_err(|error| refused(server, &error))?,
            Err(_) => resolved(server, host, port).await?,
        };
        // Requests are small and wanted now.
        let _ = socket.set_nodelay(true);
        let app = if client.is_some() { socket.peer_addr().ok() } else { None };
        tell(&mut socket, client, app).await.map_err(|error| refused(server, &error))?;
        let Some(tls) = self.tls.as_ref().filter(|_| server.tls) else { return Ok(Transport::Tcp(socket)) };
        let name = tls.name(host).map_err(Failure::Tls)?;
        match TlsConnector::from(tls.config()).connect(name, socket).await {
            Ok(stream) => {
                self.last.set(None);
                Ok(Transport::Tls(Box::new(stream.into())))
            }
            Err(error) => {
                let fault = Fault::within(&error).unwrap_or(Fault::Protocol);
                let certificate = if let Fault::Certificate(about) = fault { Some(about) } else { None };
                if self.last.replace(Some(fault)) != Some(fault) {
                    tracing::warn!(%server, certificate, %error, "TLS handshake with the app failed");
                }
                Err(Failure::Tls(fault))
            }
        }
    }
}

async fn tell(
    socket: &mut (impl AsyncWrite + Unpin),
    client: Option<SocketAddr>,
    app: Option<SocketAddr>,
) -> io::Result<()> {
    match client {
        Some(client) => socket.write_all(&proxy_protocol::header(client, app)).await,
        None => Ok(()),
    }
}

async fn resolved(server: &Server, host: &str, port: u16) -> Result<TcpStream, Failure> {
    let addresses = lookup_host((host, port)).await.map_err(|error| {
        tracing::debug!(%server, %error, "name not resolved");
        Failure::Unresolved
    })?;
    let mut failure = Failure::Unresolved;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(socket) => return Ok(socket),
            Err(error) => failure = refused(server, &error),
        }
    }
    Err(failure)
}

fn refused(server: &Server, error: &io::Error) -> Failure {
    tracing::debug!(%server, %error, "connection refused");
    Failure::Refused
}
