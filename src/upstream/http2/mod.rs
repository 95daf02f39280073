//! HTTP/2 to the app (RFC 9113), over h2.
//!
//! 1. A connection carries many requests, `max_streams` at most and never more than the app says; `connection` drives it
//!    in a task of its own. Nothing is sent before the app's first SETTINGS have said how many that are.
//! 2. A time-out, or a fault of one side, resets the request's stream; the others go on. A connection on which an answer
//!    was waited for in vain is pinged, and given up if that brings nothing.
//! 3. After the app's GOAWAY nothing more is begun; what is under way is finished (§6.8). What the app says it has not
//!    looked at (GOAWAY, REFUSED_STREAM) was not executed and may be sent again (§8.7).
//! 4. Request and answer flow at once and independently: `upload` sends what is left of the request when its answer has
//!    begun. Each piece waits for a window on the one side, and gives its own back on the other when it has been taken.
//! 5. A head says the same as in HTTP/1.1: no connection fields, Host as `:authority`, `TE: trailers` as it is. What the
//!    app sends is judged by h2, and by `head` where h2 is lenient.
//!
//! # Why
//! h2 itself, as towards clients: hyper's client over it would hide which stream was never looked at, interim answers and
//! how many streams there may be. All windows of a connection together are its own window: a client that does not read
//! holds what is its own and nothing of the others'.

mod connection;
mod content;
mod head;
mod upload;

use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use h2::Reason;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderValue};
use http::uri::{Authority, Parts, PathAndQuery, Scheme};
use http::{HeaderMap, Request, StatusCode, Uri, Version};

use super::Upstream;
use super::forward::NoAnswer;
use super::http1::{Asked, Broken, Framing, Head, Outgoing, content_length};
use super::patience::Patience;
use super::pool::Lease;
use super::tls;
use super::waiting::Waiting;
use crate::body::Body;
use crate::exchange::Orders;
use crate::telemetry::Trail;

pub use connection::{Connection, Room, Stream, open};

use content::Content;
use upload::Upload;

/// What a connection to the app may cost, and when one is opened at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Endpoints that speak TLS are offered it (RFC 7301); the app chooses.
    pub offer: bool,
    /// Requests at once over one connection; fewer if the app says so.
    pub max_streams: u32,
    /// Bytes of one answer, and of one request, that may wait here.
    pub stream_window: u32,
    /// How often a connection with requests under way is pinged; `None`: only when in doubt.
    pub ping: Option<Duration>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { offer: false, max_streams: 100, stream_window: 128 * 1024, ping: None }
    }
}

/// Sends a request and waits for the head of its final answer.
///
/// # Errors
/// [`NoAnswer`]; the stream is over, its connection may be sound.
pub async fn ask(stream: &mut Stream, outgoing: &mut Outgoing, asked: &Asked<'_>) -> Result<Head, NoAnswer> {
    let upstream = asked.upstream;
    let request = head_of(asked, stream).ok_or(NoAnswer::Malformed)?;
    let (mut response, sending) = match stream.begin(request, outgoing.is_bodiless()) {
        Ok(begun) => begun,
        Err(error) => {
            tracing::debug!(%error, "the connection takes no more requests");
            return Err(NoAnswer::Unsent);
        }
    };
    let mut upload = Upload::new(sending, outgoing.is_bodiless());
    let mut waiting = Waiting::default();
    let mut interims = 0;
    let answer = std::future::poll_fn(|cx| {
        if let Poll::Ready(Err(fault)) = upload.poll_send(cx, outgoing) {
            return Poll::Ready(Err(NoAnswer::Fault(fault)));
        }
        while let Poll::Ready(Some(Ok(interim))) = response.poll_informational(cx) {
            interims += 1;
            if interims > upstream.answers.most_interim || interim.status() == StatusCode::SWITCHING_PROTOCOLS {
                tracing::debug!("interim answers that may not be");
                return Poll::Ready(Err(NoAnswer::Malformed));
            }
            if interim.status() == StatusCode::CONTINUE {
                // The client is told when its content is asked for.
                outgoing.release();
                cx.waker().wake_by_ref();
            } else if let Some(client) = asked.exchange.interim.as_ref().filter(|_| asked.tells) {
                let mut fields = interim.headers().clone();
                for name in Orders::fields() {
                    fields.remove(name);
                }
                client.send(interim.status(), &fields);
            }
        }
        if let Poll::Ready(answer) = Pin::new(&mut response).poll(cx) {
            return Poll::Ready(answer.map_err(|error| no_answer(&error, outgoing)));
        }
        waiting.poll_late(cx, asked, outgoing, upload.is_over()).map(Err)
    })
    .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(failed) => {
            upload.reset(Reason::CANCEL);
            if failed == NoAnswer::Late {
                stream.doubt();
            }
            return Err(failed);
        }
    };
    let (parts, content) = answer.into_parts();
    let head = head::read(parts, asked.to_head, content.is_end_stream(), upstream.answers.head);
    stream.answer = Some((upload, content));
    head.inspect_err(|_| stream.answer = None)
}

/// The content that follows `head` over `lease`.
///
/// # Errors
/// [`Broken`]; it has not been counted.
pub fn content(
    of: (Rc<Upstream>, Trail),
    head: &Head,
    mut lease: Lease,
    outgoing: Outgoing,
    patience: Patience,
) -> Result<Body, Broken> {
    let Some((upload, content)) = lease.http2().and_then(|stream| stream.answer.take()) else {
        return Err(Broken::App("http_response_incomplete"));
    };
    if head.framing == Framing::Length(0) {
        // What is left of the request is of no use to an app that has answered: the stream is reset.
        return Ok(Body::empty());
    }
    let unsent = (!upload.is_over()).then_some((upload, outgoing));
    Ok(Body::boxed(Content::new(of, lease, (content, head.framing), unsent, patience)))
}

/// The request's head, in HTTP/2's words (RFC 9113 §8.3.1).
fn head_of(asked: &Asked<'_>, stream: &Stream) -> Option<Request<()>> {
    let from = &asked.exchange.request;
    let mut fields = from.headers().clone();
    let host = fields.remove(HOST).filter(|host| !host.is_empty());
    // Written anew from what it was read as.
    if let Some(length) = fields.remove(CONTENT_LENGTH) {
        fields.insert(CONTENT_LENGTH, HeaderValue::from(content_length(length.as_bytes())?));
    }
    fields.remove(CONNECTION);
    let mut parts = Parts::default();
    parts.scheme = Some(if stream.is_secured() { Scheme::HTTPS } else { Scheme::HTTP });
    parts.authority = Some(match host {
        Some(host) => Authority::try_from(host.as_bytes()).ok()?,
        // HTTP/1.0 may leave it out; a name for the app there must be.
        None => Authority::from_static("localhost"),
    });
    parts.path_and_query = Some(from.uri().path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/")));
    let mut request = Request::new(());
    *request.method_mut() = from.method().clone();
    *request.uri_mut() = Uri::from_parts(parts).ok()?;
    *request.version_mut() = Version::HTTP_2;
    *request.headers_mut() = fields;
    Some(request)
}

fn no_answer(error: &h2::Error, outgoing: &Outgoing) -> NoAnswer {
    tracing::debug!(%error, "no answer over HTTP/2");
    let refused = error.reason() == Some(Reason::REFUSED_STREAM);
    // Of a GOAWAY h2 tells only those streams that the app has not looked at.
    let unprocessed = error.is_remote() && (error.is_go_away() || refused);
    match error.get_io() {
        Some(io) => tls::Fault::within(io).map_or(NoAnswer::Closed, NoAnswer::Tls),
        None if unprocessed && outgoing.is_untouched() => NoAnswer::Unsent,
        None if unprocessed => NoAnswer::Closed,
        None if error.is_library() && refused => NoAnswer::TooLarge,
        None if error.is_library() => NoAnswer::Malformed,
        None => NoAnswer::Incomplete,
    }
}

/// Trailers without those that could change the message (RFC 9110 §6.5.1).
fn passable(mut trailers: HeaderMap) -> HeaderMap {
    let doomed = trailers.keys().filter(|name| !super::hop::answer_trailer_may_pass(name));
    for name in doomed.cloned().collect::<Vec<_>>() {
        trailers.remove(name);
    }
    trailers
}
