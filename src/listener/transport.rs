//! The bytes of a client's connection: TCP, Unix socket, or TLS over TCP.

use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsStream;

/// A client's connection.
pub enum Transport {
    /// Cleartext TCP.
    Tcp(TcpStream),
    /// A Unix socket.
    Unix(UnixStream),
    /// TLS over TCP; boxed, because it is large and cleartext connections should not pay for it.
    Tls(Box<TlsStream<TcpStream>>),
}

/// Bytes read from a connection at once, before it is known what it speaks.
pub const FIRST: usize = 4 * 1024;

impl Transport {
    /// What has come by a connection that was just accepted, without waiting; nothing, if nothing has, and over TLS.
    ///
    /// tokio takes a socket that it has accepted to be readable until a read finds it empty: whoever only waited for it to
    /// become so would not wait.
    ///
    /// # Errors
    /// The connection has ended, or whatever else the socket reports.
    pub fn first_bytes(&self) -> io::Result<BytesMut> {
        let mut read = [0; FIRST];
        let some = match self {
            Self::Tcp(socket) => socket.try_read(&mut read),
            Self::Unix(socket) => socket.try_read(&mut read),
            Self::Tls(_) => return Ok(BytesMut::new()),
        };
        match some {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            // No more is allocated than has come: there may be thousands of these.
            Ok(length) => Ok(BytesMut::from(&read[..length])),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(BytesMut::new()),
            Err(error) => Err(error),
        }
    }

    /// Ends the connection so that the peer sees an error, not an end: over TCP with a reset, over TLS without a
    /// `close_notify` besides. Unix sockets know no such end.
    pub fn reset(self) {
        let socket = match &self {
            Self::Tcp(socket) => socket,
            Self::Tls(stream) => stream.get_ref().0,
            Self::Unix(_) => return,
        };
        // If it cannot be asked for, the connection still ends.
        let _ = SockRef::from(socket).set_linger(Some(Duration::ZERO));
    }

    /// Waits until the socket has bytes, its end, or an error.
    ///
    /// # Errors
    /// Whatever the socket reports.
    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Tcp(socket) => socket.ready(Interest::READABLE).await.map(drop),
            Self::Unix(socket) => socket.ready(Interest::READABLE).await.map(drop),
            Self::Tls(stream) => stream.get_ref().0.ready(Interest::READABLE).await.map(drop),
        }
    }

    /// Whether the client has ended its side, as far as the system knows by now.
    pub fn has_ended(&self, cx: &mut Context<'_>) -> bool {
        let ended = |ready: Poll<io::Result<tokio::io::Ready>>| match ready {
            Poll::Ready(Ok(ready)) => ready.is_read_closed(),
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        };
        match self {
            Self::Tcp(socket) => ended(pin!(socket.ready(Interest::READABLE)).poll(cx)),
            Self::Unix(socket) => ended(pin!(socket.ready(Interest::READABLE)).poll(cx)),
            Self::Tls(stream) => ended(pin!(stream.get_ref().0.ready(Interest::READABLE)).poll(cx)),
        }
    }

    /// Whether both sides have settled on HTTP/2 (RFC 7301).
    pub fn speaks_http2(&self) -> bool {
        matches!(self, Self::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(b"h2"))
    }
}

/// What was read from a transport before whoever reads from it now came.
pub struct Early(pub Bytes);

impl Early {
    /// Reads that first, then from `transport`.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        transport: &mut Transport,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.0.is_empty() {
            return Pin::new(transport).poll_read(cx, buf);
        }
        let some = self.0.len().min(buf.remaining());
        buf.put_slice(&self.0[..some]);
        self.0.advance(some);
        Poll::Ready(Ok(()))
    }
}

macro_rules! each {
    ($self:expr, $socket:ident => $act:expr) => {
        match $self.get_mut() {
            Transport::Tcp($socket) => $act,
            Transport::Unix($socket) => $act,
            Transport::Tls($socket) => $act,
        }
    };
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_read(cx, buf))
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, socket => Pin::new(socket).poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        !matches!(self, Self::Tls(_))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, socket => Pin::new(socket).poll_shutdown(cx))
    }
}
