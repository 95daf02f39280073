//! The handshake with a client, from the first byte to the first request.
//!
//! 1. It may take as long as a request's head: a client that drips its handshake is a client that drips its head.
//! 2. Cleartext HTTP on a port that speaks TLS is told so, in cleartext: a mere alert would show as rubbish.
//! 3. Every other failure ends with its alert and a bounded lingering close, so that the alert is not lost to a reset.
//! 4. How each one ended is counted; who leaves without a word is not, as probes of open ports do.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::{HandshakeKind, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use crate::listener::connection::Served;
use crate::listener::refusal;
use crate::listener::transport::Transport;
use crate::local_reply::LocalReply;
use crate::telemetry::registry::{Counter, Registry};

/// How handshakes ended.
pub struct Metrics {
    full: Counter,
    resumed: Counter,
    failed: Counter,
    timed_out: Counter,
}

impl Metrics {
    /// The slots of `worker`.
    pub fn new(registry: &Registry, worker: usize) -> Self {
        let counter = |outcome| {
            let labels = [("outcome", outcome)];
            registry.counter(
                worker,
                "sidegate_tls_handshakes_total",
                "TLS handshakes with clients, by outcome.",
                &labels,
            )
        };
        Self {
            full: counter("full"),
            resumed: counter("resumed"),
            failed: counter("failed"),
            timed_out: counter("timed_out"),
        }
    }

    /// A client's certificate was no good after all.
    pub fn refused(&self) {
        self.failed.inc();
    }
}

/// Makes a TLS connection of a TCP connection; `None`: there is none, and everything has been said.
pub async fn handshake<S>(
    transport: Transport,
    peer: Option<SocketAddr>,
    config: Arc<ServerConfig>,
    served: &Served<S>,
) -> Option<Transport> {
    let Transport::Tcp(socket) = transport else { return Some(transport) };
    let metrics = &served.metrics.tls;
    let accepted = tokio::select! {
        biased;
        accepted = timeout(served.settings.timeouts.header, accept(socket, config)) => accepted,
        () = served.lingered() => return None,
    };
    let failed = match accepted {
        Ok(Ok(stream)) => {
            match stream.get_ref().1.handshake_kind() {
                Some(HandshakeKind::Resumed) => metrics.resumed.inc(),
                _ => metrics.full.inc(),
            }
            return Some(Transport::Tls(Box::new(stream.into())));
        }
        Ok(Err(failed)) => failed,
        Err(_) => {
            metrics.timed_out.inc();
            served.metrics.timed_out.inc();
            return None;
        }
    };
    if !matches!(failed, Failed::Gone) {
        metrics.failed.inc();
    }
    match failed {
        Failed::Gone => {}
        Failed::Cleartext(socket) => {
            tracing::debug!("cleartext on a port that speaks TLS");
            let reply = LocalReply::BadRequest { reason: "this port speaks TLS" };
            refusal::answer(Transport::Tcp(socket), reply, false, peer, &served.log, served.settings.linger).await;
        }
        Failed::Refused(error, socket) => {
            tracing::debug!(%error, "TLS handshake failed");
            refusal::linger(&mut Transport::Tcp(socket), served.settings.linger).await;
        }
    }
    None
}

enum Failed {
    /// The client left without a word.
    Gone,
    /// It speaks HTTP.
    Cleartext(TcpStream),
    /// No agreement was reached.
    Refused(std::io::Error, TcpStream),
}

async fn accept(
    socket: TcpStream,
    config: Arc<ServerConfig>,
) -> Result<tokio_rustls::server::TlsStream<TcpStream>, Failed> {
    let mut first = [0];
    match socket.peek(&mut first).await {
        // A method; what TLS begins with is a control character.
        Ok(1) if first[0].is_ascii_uppercase() => return Err(Failed::Cleartext(socket)),
        Ok(1) => {}
        _ => return Err(Failed::Gone),
    }
    let accepting = TlsAcceptor::from(config).accept(socket).into_fallible();
    accepting.await.map_err(|(error, socket)| Failed::Refused(error, socket))
}
