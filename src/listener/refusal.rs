//! Answers what never became a request: in raw bytes, with a line in the log.
//!
//! 1. The line says status, kind and peer, and nothing that the client sent: what could not be read is not repeated.
//! 2. The answer has a request identifier like any other (`X-Request-Id`), the same as the line.
//! 3. HEAD is answered without content (RFC 9110 §9.3.2).
//! 4. The connection ends with a lingering close: our side is closed, and what is still coming is read and thrown away,
//!    within bounds of time and bytes, so that the kernel does not answer it with a reset, which would take the answer
//!    away from the client (RFC 9112 §9.6).

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use http::{Method, Version};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use super::Linger;
use super::judge::Refusal;
use super::transport::Transport;
use crate::body::End;
use crate::clock;
use crate::local_reply::LocalReply;
use crate::telemetry::line::Ending;
use crate::telemetry::{Record, trace_context};

/// Writes a line of the access log that is now in force, if there is one.
pub type Log = Rc<dyn Fn(&Record, Ending)>;

/// The answer to a message that the judge refused.
pub fn reply(refusal: Refusal) -> LocalReply {
    match refusal {
        Refusal::Head(reason) | Refusal::Content(reason) => LocalReply::BadRequest { reason },
        Refusal::TargetTooLong => LocalReply::UriTooLong,
        Refusal::FieldsTooLarge => LocalReply::FieldsTooLarge,
        Refusal::Version => LocalReply::VersionNotSupported,
    }
}

/// Answers, logs and ends the connection. `head`: what was refused is HEAD.
pub async fn answer(
    mut transport: Transport,
    reply: LocalReply,
    head: bool,
    peer: Option<SocketAddr>,
    log: &Log,
    bound: Linger,
) {
    // Not even its method is known; `-` is what logs have for that.
    let method = Method::from_bytes(b"-").unwrap_or_default();
    let mut record = Record::new(clock::instant(), method, None, Version::HTTP_11);
    record.request_id = trace_context::request_id();
    record.client = peer.map(|peer| peer.ip().to_canonical());
    record.local_reply = Some(reply.kind());
    record.status = Some(reply.status());
    tracing::debug!(?reply, ?peer, "refused before it was a request");
    let mut bytes = reply.raw_http1(record.request_id.as_ref());
    let content = memchr::memmem::find(&bytes, b"\r\n\r\n").map_or(bytes.len(), |end| end + 4);
    if head {
        bytes.truncate(content);
    }
    let written = timeout(bound.time.max(SHORTEST), transport.write_all(&bytes)).await;
    let sent = written.is_ok_and(|written| written.is_ok());
    record.sent = (bytes.len() - content) as u64;
    let end = if sent { End::Complete } else { End::Abandoned };
    log(&record, Ending { end, took: clock::instant().saturating_duration_since(record.started) });
    if sent {
        linger(&mut transport, bound).await;
    }
}

/// A client gets this long to take an answer of some hundred bytes, also where nobody is listened to afterwards.
const SHORTEST: Duration = Duration::from_millis(100);

/// Ends our side, and reads what is still coming, within bounds.
pub async fn linger(transport: &mut Transport, bound: Linger) {
    let _ = timeout(bound.time, async {
        if transport.shutdown().await.is_err() {
            return;
        }
        let mut sink = [0; 8 * 1024];
        let mut left = bound.size;
        while left > 0
            && let Ok(read @ 1..) = transport.read(&mut sink).await
        {
            left = left.saturating_sub(read);
        }
    })
    .await;
}
