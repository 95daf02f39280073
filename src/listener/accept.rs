//! Accepts connections, and brings each as far as its first request.
//!
//! 1. Beyond the bound on all connections nothing is accepted: clients wait in the kernel's queue. The same holds when the
//!    process, or the system, is out of file descriptors: the worker waits a moment, counts it, and says so now and then.
//! 2. A connection is admitted, tells whose it is (PROXY protocol, where configured), shakes hands (TLS), and is served, in
//!    this order; what comes before the first request has the header time-out.
//! 3. Told to stop, a socket of ours turns newcomers away and goes on accepting for half of `drain_linger`, so that whoever
//!    was in its queue, or half way into it, is served (see `socket`). An inherited one is left at once, queue and all.
//!
//! # Why
//! Rule 3, half: a client that was turned away asks again after a second, by default when the socket has long been closed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use rustls::ServerConfig;
use socket2::SockRef;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Bind;
use super::admission::{Admission, Admitted};
use super::connection::{Served, serve};
use super::proxy_protocol::{self, Mode, introduce};
use super::socket::{Kind, Listening, bound_unsent, turn_away};
use super::tls::handshake::handshake;
use super::transport::Transport;
use crate::exchange::Next;

/// How long a worker waits for a file descriptor before it tries again.
const OUT_OF_FILES: Duration = Duration::from_millis(50);
/// How often it says that it cannot accept.
const SAID: Duration = Duration::from_secs(60);

/// A connection that was accepted.
struct Arrived {
    transport: Transport,
    peer: Option<SocketAddr>,
    admitted: Admitted,
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
    let inherited = listening.inherited;
    let mut listener = match listening.socket {
        Kind::Tcp(socket) => Listener::Tcp { socket: TcpListener::from_std(socket)?, unsent: 0 },
        Kind::Unix(socket) => Listener::Unix(UnixListener::from_std(socket)?),
    };
    listener.bound_unsent(served().settings.max_unsent);
    let mut complained = None::<Instant>;
    // A connection that was accepted when there was no room for it.
    let mut held = None;
    // When the socket closes; and whether it need not stay for longer than its queue.
    let (mut closes, mut queue_alone) = (None::<Instant>, false);
    loop {
        if closes.is_some_and(|closes| closes <= Instant::now() || (inherited && held.is_none())) {
            return Ok(());
        }
        let arrived = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop), if closes.is_none() => {
                queue_alone = !inherited && !listener.turn_away();
                closes = Some(Instant::now() + served().settings.drain_linger / 2);
                continue;
            }
            arrived = next(&listener, &admission, &mut held) => arrived,
            () = std::future::ready(()), if queue_alone => return Ok(()),
            () = sleep_until(closes.unwrap_or_else(Instant::now)), if closes.is_some() => return Ok(()),
        };
        let served = served();
        listener.bound_unsent(served.settings.max_unsent);
        let Arrived { transport, peer, mut admitted } = match arrived {
            Ok(arrived) => arrived,
            // It has gone while it waited.
            Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => {
                served.metrics.accept_failures.inc();
                if complained.is_none_or(|said| said.elapsed() >= SAID) {
                    tracing::warn!(%error, "cannot accept; trying again until it works");
                    complained = Some(Instant::now());
                }
                sleep(OUT_OF_FILES).await;
                continue;
            }
        };
        served.metrics.accepted.inc();
        let introduced = served.settings.proxy_protocol.mode == Mode::Off;
        if introduced && !admitted.is_within_bound_of(peer.map(|peer| peer.ip())) {
            served.metrics.over_address_bound.inc();
            continue;
        }
        let secured = served.settings.secured(&bind).map(super::tls::Secured::config);
        if introduced && secured.is_none() {
            tokio::task::spawn_local(serve(transport, BytesMut::new(), peer, admitted, served));
        } else {
            let arrived = Arrived { transport, peer, admitted };
            tokio::task::spawn_local(Box::pin(begin(arrived, introduced, secured, served)));
        }
    }
}

/// The next connection, once there is room for it. Until then one may be `held`, outside, so that nothing is lost when this
/// is not waited for to its end.
async fn next(
    listener: &Listener,
    admission: &Arc<Admission>,
    held: &mut Option<(Transport, Option<SocketAddr>)>,
) -> io::Result<Arrived> {
    loop {
        admission.room().await;
        let accepted = match held.take() {
            Some(accepted) => accepted,
            None => listener.accept().await?,
        };
        match admission.admit() {
            Some(admitted) => return Ok(Arrived { transport: accepted.0, peer: accepted.1, admitted }),
            None => *held = Some(accepted),
        }
    }
}

/// What comes before the first request; then the requests.
async fn begin<S: Next>(arrived: Arrived, introduced: bool, tls: Option<Arc<ServerConfig>>, served: Served<S>) {
    let Arrived { mut transport, mut peer, mut admitted } = arrived;
    let mut read = BytesMut::new();
    if !introduced {
        let settings = &served.settings;
        let introducing = introduce(&mut transport, peer, &settings.proxy_protocol, settings.max_header_size);
        let Some(told) = in_time(introducing, &served).await else { return };
        match told.unwrap_or(Err(proxy_protocol::Refused::Late)) {
            Ok(told) => (peer, read) = told,
            Err(why) => {
                served.metrics.proxy_protocol_refused(why).inc();
                tracing::debug!(?peer, ?why, "refused for its PROXY protocol header, or for want of one");
                return;
            }
        }
        if !admitted.is_within_bound_of(peer.map(|peer| peer.ip())) {
            served.metrics.over_address_bound.inc();
            return;
        }
    }
    if let Some(config) = tls {
        // Nothing that is read ahead of TLS begins a handshake.
        if !read.is_empty() {
            return;
        }
        match handshake(transport, peer, config, &served).await {
            Some(secured) => transport = secured,
            None => return,
        }
    }
    serve(transport, read, peer, admitted, served).await;
}

/// Waits for what comes before a request, at most the header time-out (`Some(None)`), and while the process stops at most
/// `drain_linger` (`None`).
async fn in_time<T, S>(coming: impl Future<Output = T>, served: &Served<S>) -> Option<Option<T>> {
    let coming = timeout(served.settings.timeouts.header, coming);
    tokio::select! {
        biased;
        came = coming => Some(came.ok()),
        () = served.lingered() => None,
    }
}

enum Listener {
    Tcp {
        socket: TcpListener,
        /// What its connections are bounded to now.
        unsent: u32,
    },
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> io::Result<(Transport, Option<SocketAddr>)> {
        match self {
            Self::Tcp { socket, .. } => {
                let (socket, peer) = socket.accept().await?;
                if !cfg!(target_os = "linux") {
                    // Elsewhere it is not inherited from the listening socket.
                    let _ = socket.set_nodelay(true);
                }
                Ok((Transport::Tcp(socket), Some(peer)))
            }
            Self::Unix(listener) => listener.accept().await.map(|(socket, _)| (Transport::Unix(socket), None)),
        }
    }

    /// Set once, and again after a reload that changed it.
    fn bound_unsent(&mut self, wanted: u32) {
        if let Self::Tcp { socket, unsent } = self
            && *unsent != wanted
        {
            bound_unsent(SockRef::from(&*socket), wanted);
            *unsent = wanted;
        }
    }

    /// A Unix socket has no handshake to be half way in: its queue alone is accepted.
    fn turn_away(&self) -> bool {
        match self {
            Self::Tcp { socket, .. } => turn_away(SockRef::from(socket)),
            Self::Unix(_) => false,
        }
    }
}
