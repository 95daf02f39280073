//! A WebSocket over HTTP/2 (RFC 8441).
//!
//! 1. The stack sees a GET without content, and treats it as it would the handshake of RFC 6455: limits, sessions and
//!    routes are the same.
//! 2. The app's 101 becomes a 200, and the stream the client's side of the tunnel; any other answer stays what it is.
//! 3. The end of the stream and that of the app's connection mean each other, as do a reset and a connection that failed
//!    (§5.3). Windows hold either side back.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, Bytes};
use h2::ext::Protocol;
use h2::{Reason, RecvStream, SendStream};
use http::header::{SEC_WEBSOCKET_ACCEPT, UPGRADE};
use http::request::Parts;
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::pulse::Wait;
use super::stream::{Reply, Stream, UnderWay, complete};
use crate::body::Body;
use crate::listener::receive::Receive;
use crate::listener::tunnel::tie;

/// Makes a GET of an extended CONNECT for a WebSocket; whether it was one.
pub fn becomes_get(head: &mut Parts) -> bool {
    let protocol = head.extensions.get::<Protocol>();
    let is_one = head.method == Method::CONNECT && protocol.is_some_and(|protocol| protocol.as_str() == "websocket");
    if is_one {
        head.method = Method::GET;
    }
    is_one
}

/// Waits for the `answer`; then either sends it, or ties the stream to what the app has switched.
pub async fn serve(
    reply: Rc<Reply>,
    from_client: RecvStream,
    receive: Receive,
    answer: impl Future<Output = Result<Response<Body>, Infallible>>,
    idle: Duration,
) {
    let under_way = UnderWay::new(reply.clone());
    let mut answer = pin!(answer);
    let answer = std::future::poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(Ok(answer)) => Poll::Ready(Some(answer)),
        Poll::Pending if reply.is_reset(cx) => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    });
    let Some(mut answer) = answer.await else { return };
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        drop(under_way);
        return Stream::new(reply, std::future::ready(Ok(answer))).await;
    }
    let Some(tunnel) = receive.take_tunnel() else { return reply.reset(Reason::INTERNAL_ERROR) };
    *answer.status_mut() = StatusCode::OK;
    let fields = answer.headers_mut();
    for name in [UPGRADE, SEC_WEBSOCKET_ACCEPT] {
        fields.remove(name);
    }
    complete(fields);
    // No content: all that follows is the tunnel's.
    let head = answer.map(drop);
    let Some(to_client) = reply.begin(head, false) else { return };
    reply.shared.line.budget.answered();
    let client = Client { from: from_client, read: Bytes::new(), to: to_client, reply, wait: Wait::default() };
    tie(client, Bytes::new(), tunnel, idle).await;
}

/// The client's side of a tunnel.
struct Client {
    from: RecvStream,
    /// What has come and was not yet taken; its share of the window is still held.
    read: Bytes,
    to: SendStream<Bytes>,
    reply: Rc<Reply>,
    wait: Wait,
}

impl AsyncRead for Client {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.read.is_empty() {
            match ready!(this.from.poll_data(cx)) {
                Some(piece) => this.read = piece.map_err(broken)?,
                None => return Poll::Ready(Ok(())),
            }
        }
        let some = this.read.len().min(buf.remaining());
        buf.put_slice(&this.read[..some]);
        this.read.advance(some);
        // An error here says that the stream is gone, which the next piece says better.
        let _ = this.from.flow_control().release_capacity(some);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.to.reserve_capacity(bytes.len());
        let mut room = this.to.capacity();
        if room == 0 {
            let shared = &this.reply.shared;
            room = match this.to.poll_capacity(cx) {
                Poll::Ready(Some(room)) => room.map_err(broken)?,
                Poll::Ready(None) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
                Poll::Pending if shared.pulse.is_late(&mut this.wait, shared.timeouts.write, cx) => {
                    shared.timed_out("window");
                    this.to.send_reset(Reason::CANCEL);
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                Poll::Pending => return Poll::Pending,
            };
        }
        this.wait.end();
        let some = room.min(bytes.len());
        this.to.send_data(Bytes::copy_from_slice(&bytes[..some]), false).map_err(broken)?;
        if some == bytes.len() {
            this.reply.shared.line.budget.piece();
        }
        Poll::Ready(Ok(some))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(self.get_mut().to.send_data(Bytes::new(), true).map_err(broken))
    }
}

fn broken(error: h2::Error) -> io::Error {
    error.into_io().unwrap_or_else(|| io::ErrorKind::ConnectionReset.into())
}
