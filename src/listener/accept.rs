//! Opens the listening sockets and accepts from them.
//!
//! 1. Each worker has a socket of its own for each TCP address (SO_REUSEPORT), so the kernel spreads connections and no
//!    lock is shared. Where the system does not spread (anything but Linux), and for Unix sockets, workers share one.
//! 2. All sockets are opened before any worker starts: an address in use is an error at start, not later.
//! 3. When it stops, those who wait in the kernel's queue are accepted first: closing the socket would reset them.
//! 4. Nothing accepted is dropped silently: beyond the bound on all connections nothing is accepted, out of file
//!    descriptors the worker waits and says so once.

use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Protocol, SockAddr, Socket, TcpKeepalive, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::sleep;

use super::Bind;
use super::admission::{Admission, Admitted};
use super::connection::{Served, serve};
use super::tls::handshake::handshake;
use super::transport::Transport;
use crate::exchange::Next;

/// Connections that wait in the kernel to be accepted.
const BACKLOG: i32 = 4096;
/// After how much silence the kernel asks whether the peer is still there.
const KEEP_ALIVE: Duration = Duration::from_secs(60);

/// A listening socket, not yet bound to a worker.
#[derive(Debug)]
pub enum Listening {
    /// TCP.
    Tcp(std::net::TcpListener),
    /// A Unix socket.
    Unix(std::os::unix::net::UnixListener),
}

/// Opens `bind` once for each worker; says the address bound (port 0 becomes a real one).
///
/// # Errors
/// What the system says, with the address.
pub fn open(bind: &Bind, workers: usize) -> io::Result<(Vec<Listening>, Bind)> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {bind}: {error}"));
    match bind {
        Bind::Tcp(address) => {
            if cfg!(target_os = "linux") {
                // A port that another process listens on is an error, although that process might share it.
                probe(*address).map_err(named)?;
            }
            let first = tcp(*address).map_err(named)?;
            let bound = first.local_addr().map_err(named)?;
            let mut all = vec![first];
            while all.len() < workers {
                let another = if cfg!(target_os = "linux") { tcp(bound) } else { all[0].try_clone() };
                all.push(another.map_err(named)?);
            }
            Ok((all.into_iter().map(Listening::Tcp).collect(), Bind::Tcp(bound)))
        }
        Bind::Unix(path) => {
            let first = unix(path).map_err(named)?;
            let mut all = vec![first];
            while all.len() < workers {
                all.push(all[0].try_clone().map_err(named)?);
            }
            Ok((all.into_iter().map(Listening::Unix).collect(), bind.clone()))
        }
    }
}

fn tcp(address: std::net::SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if cfg!(target_os = "linux") {
        socket.set_reuse_port(true)?;
    }
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    // Inherited by what is accepted: small answers go out at once, and a peer that is lost without a word is noticed.
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEP_ALIVE).with_interval(KEEP_ALIVE / 4))?;
    socket.bind(&SockAddr::from(address))?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Binds without sharing, for a moment: fails where anybody listens.
fn probe(address: std::net::SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.bind(&SockAddr::from(address))
}

fn unix(path: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    // A socket left behind by a process that is gone is replaced; one that answers, or any other file, is not.
    if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
        && std::os::unix::net::UnixStream::connect(path).is_err()
    {
        std::fs::remove_file(path)?;
    }
    let listener = std::os::unix::net::UnixListener::bind(path)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts until told to stop or dropped. Whether `bind`, as configured, speaks TLS is asked for each connection, so that
/// a reload takes effect at once.
pub async fn accept<S: Next>(
    listening: Listening,
    bind: Bind,
    admission: Arc<Admission>,
    served: impl Fn() -> Served<S>,
    mut stop: watch::Receiver<bool>,
) -> io::Result<()> {
    let listener = match listening {
        Listening::Tcp(socket) => Listener::Tcp(TcpListener::from_std(socket)?),
        Listening::Unix(socket) => Listener::Unix(UnixListener::from_std(socket)?),
    };
    let mut complained = false;
    let mut stopping = false;
    loop {
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if !stopping => {
                stopping = true;
                continue;
            }
            accepted = async { admission.room().await; listener.accept().await } => accepted,
            // Whoever the kernel has let in would be reset with the socket; that queue is empty now, or the house full.
            () = std::future::ready(()), if stopping => return Ok(()),
        };
        let (transport, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(_) if stopping => return Ok(()),
            Err(error) => {
                if !complained {
                    tracing::warn!(%error, "cannot accept; trying again");
                    complained = true;
                }
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        complained = false;
        let served = served();
        served.metrics.accepted.inc();
        let Some(admitted) = admission.admit(peer.map(|peer| peer.ip().to_canonical())) else {
            served.metrics.over_address_bound.inc();
            continue;
        };
        match served.settings.secured(&bind).map(super::tls::Secured::config) {
            None => tokio::task::spawn_local(counted(serve(transport, peer, served), admitted)),
            Some(config) => tokio::task::spawn_local(counted(
                Box::pin(async move {
                    let (within, mut draining) = (served.settings.timeouts.header, served.draining.clone());
                    let tls = &served.metrics.tls;
                    if let Some(transport) = handshake(transport, config, within, &mut draining, tls).await {
                        serve(transport, peer, served).await;
                    }
                }),
                admitted,
            )),
        };
    }
}

async fn counted(serving: impl Future<Output = ()>, admitted: Admitted) {
    serving.await;
    drop(admitted);
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Transport, Option<std::net::SocketAddr>)> {
        match self {
            Self::Tcp(listener) => {
                let (socket, peer) = listener.accept().await?;
                if !cfg!(target_os = "linux") {
                    // Elsewhere it is not inherited from the listening socket.
                    let _ = socket.set_nodelay(true);
                }
                Ok((Transport::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener) => listener.accept().await.map(|(socket, _)| (Transport::Unix(socket), None)),
        }
    }
}
