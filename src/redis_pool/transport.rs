//! The bytes of one connection to Redis: TCP, TLS or a Unix socket.
//!
//! 1. What is sent goes out at once (`TCP_NODELAY`): the pipeline has put together what belongs together.
//! 2. A peer that has gone without a word is noticed by the kernel: what nobody acknowledges for 5 s ends
//!    the connection, and so does silence on a connection that is idle, after `IDLE` and `PROBES`.
//! 3. No time-out of its own: who opens a connection knows how long to wait. What has come is counted, so that who waits
//!    can tell a connection that is slow from one that is dead.
//!
//! # Why
//! We open the sockets, not redis-rs: it can neither be told of the certificates in use nor show the socket, at which the
//! near tier looks before it trusts what it remembers.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::address::Endpoint;
use super::tls::Tls;

/// How long bytes may stay unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// How long a connection is idle before the kernel asks.
const IDLE: Duration = Duration::from_secs(5);
/// How often, and how many times in vain, it asks.
const PROBES: (Duration, u32) = (Duration::from_secs(1), 5);

/// A connection's bytes, both ways.
pub struct Stream {
    kind: Kind,
    received: Arc<AtomicU64>,
}

enum Kind {
    Tcp(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
    Unix(UnixStream),
}

/// Opens a connection to `endpoint`, over `tls` unless it is a Unix socket. Not bounded in time. A name with several
/// addresses is tried at each, in turn.
///
/// # Errors
/// What the system or TLS said.
pub async fn open(endpoint: &Endpoint, tls: Option<&Tls>) -> io::Result<Stream> {
    let (host, port) = match endpoint {
        Endpoint::Unix(path) => return Ok(Stream::new(Kind::Unix(UnixStream::connect(path).await?))),
        Endpoint::Tcp { host, port } => (&**host, *port),
    };
    let socket = TcpStream::connect((host, port)).await?;
    tune(&socket)?;
    let Some(tls) = tls else { return Ok(Stream::new(Kind::Tcp(socket))) };
    let secured = TlsConnector::from(tls.config()).connect(tls.name(host)?, socket).await;
    let secured = secured.inspect_err(|error| tls.failed(endpoint, error))?;
    Ok(Stream::new(Kind::Tls(Box::new(secured))))
}

fn tune(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let socket = SockRef::from(socket);
    let (every, times) = PROBES;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(IDLE).with_interval(every).with_retries(times))?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

impl Stream {
    fn new(kind: Kind) -> Self {
        Self { kind, received: Arc::default() }
    }

    /// Counts the bytes that have come.
    pub fn received(&self) -> Arc<AtomicU64> {
        self.received.clone()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.kind {
            Kind::Tcp(socket) => socket.as_fd(),
            Kind::Tls(secured) => secured.get_ref().0.as_fd(),
            Kind::Unix(socket) => socket.as_fd(),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Self { kind, received } = self.get_mut();
        let before = into.filled().len();
        let read = match kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_read(context, into),
            Kind::Tls(secured) => Pin::new(secured).poll_read(context, into),
            Kind::Unix(socket) => Pin::new(socket).poll_read(context, into),
        };
        received.fetch_add((into.filled().len() - before) as u64, Ordering::Relaxed);
        read
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_write(context, bytes),
            Kind::Tls(secured) => Pin::new(secured).poll_write(context, bytes),
            Kind::Unix(socket) => Pin::new(socket).poll_write(context, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_write_vectored(context, slices),
            Kind::Tls(secured) => Pin::new(secured).poll_write_vectored(context, slices),
            Kind::Unix(socket) => Pin::new(socket).poll_write_vectored(context, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match &self.kind {
            Kind::Tcp(socket) => socket.is_write_vectored(),
            Kind::Tls(secured) => secured.is_write_vectored(),
            Kind::Unix(socket) => socket.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_flush(context),
            Kind::Tls(secured) => Pin::new(secured).poll_flush(context),
            Kind::Unix(socket) => Pin::new(socket).poll_flush(context),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().kind {
            Kind::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            Kind::Tls(secured) => Pin::new(secured).poll_shutdown(context),
            Kind::Unix(socket) => Pin::new(socket).poll_shutdown(context),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_peer_that_goes_without_a_word_is_noticed_by_the_kernel() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stream = open(&Endpoint::Tcp { host: "127.0.0.1".into(), port }, None).await.unwrap();
        let file = stream.as_fd();
        let socket = SockRef::from(&file);
        assert!(socket.tcp_nodelay().unwrap() && socket.keepalive().unwrap());
        assert_eq!(socket.tcp_keepalive_time().unwrap(), IDLE);
        assert_eq!((socket.tcp_keepalive_interval().unwrap(), socket.tcp_keepalive_retries().unwrap()), PROBES);
        #[cfg(target_os = "linux")]
        assert_eq!(socket.tcp_user_timeout().unwrap(), Some(UNACKNOWLEDGED));
    }
}
