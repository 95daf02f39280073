//! HTTP/1.1 to the app: our own client.
//!
//! 1. A connection carries one request at a time, and no task of its own: the request's future writes the request and
//!    reads the answer at once, so that an app may answer early; then the answer's content drives what is left.
//! 2. What the app sends is judged where it is read, and nowhere else: `head` (pure) reads heads, `chunked` (pure) takes
//!    chunks apart, and whatever could be read in two ways ends the connection.
//! 3. Interim answers are seen as they come, a bounded number of them (RFC 9110 §15.2).
//! 4. A connection is used again only if request and answer were whole, both sides keep it, and not a byte has come
//!    after the answer or before the next request (RFC 9112 §9.2, §9.3). An answer never goes to another request.
//! 5. A request that has been written is kept as the bytes of its head, so that it can be sent again without a copy.
//!
//! # Why
//! hyper's client costs a task and two channel hops for each request, a copy of the head for a retry, and reads leniently
//! what must be read strictly: a second look at its fields came too late for what it had already made of them. Measured
//! (callgrind, GET of 1 KiB from nginx, one worker): 44,800 instructions of the whole process for a request with it, 32,800
//! with ours; two reads and two writes either way.

mod chunked;
mod connection;
mod content;
mod head;
mod outgoing;
mod reading;
mod tunnel;

use std::rc::Rc;
use std::task::Poll;

use http::StatusCode;

use super::Upstream;
use super::forward::NoAnswer;
use super::patience::Patience;
use super::pool::Lease;
use super::tls;
use super::waiting::Waiting;
use super::watchdog::Deadline;
use crate::body::Body;
use crate::exchange::Exchange;
use crate::telemetry::Trail;

pub use connection::Connection;
pub use content::Broken;
pub use head::{Bounds, Framing, Head, content_length};
pub use outgoing::Outgoing;
pub use reading::Reading;
pub use tunnel::Switched;

use connection::NoHead;
use content::Content;
use head::Refusal;

/// What is known of a request while its answer is waited for.
pub struct Asked<'a> {
    /// Whom it goes to.
    pub upstream: &'a Upstream,
    /// Whose it is.
    pub exchange: &'a Exchange,
    /// It is a HEAD.
    pub to_head: bool,
    /// The client may be told interim answers.
    pub tells: bool,
    /// When all of the answer must have come.
    pub total: Option<&'a Deadline>,
}

/// Sends a request and waits for the head of its final answer.
///
/// # Errors
/// [`NoAnswer`]; the connection is of no further use.
pub async fn ask(connection: &mut Connection, outgoing: &mut Outgoing, asked: &Asked<'_>) -> Result<Head, NoAnswer> {
    connection.answering = false;
    let upstream = asked.upstream;
    let mut interims = 0;
    let mut waiting = Waiting::default();
    std::future::poll_fn(|cx| {
        loop {
            if let Poll::Ready(Err(fault)) = outgoing.poll_send(cx, &mut connection.transport) {
                return Poll::Ready(Err(NoAnswer::Fault(fault)));
            }
            let head = match connection.poll_head(cx, &upstream.reading, asked.to_head, upstream.answers.head) {
                Poll::Pending => break,
                Poll::Ready(head) => head.map_err(|none| no_answer(&none, connection.answering, outgoing))?,
            };
            if !head.status.is_informational() || head.status == StatusCode::SWITCHING_PROTOCOLS {
                return Poll::Ready(Ok(head));
            }
            interims += 1;
            if interims > upstream.answers.most_interim {
                tracing::debug!("too many interim answers");
                return Poll::Ready(Err(NoAnswer::Malformed));
            }
            if head.status == StatusCode::CONTINUE {
                // The client is told when its content is asked for.
                outgoing.release();
            } else if let Some(client) = asked.exchange.interim.as_ref().filter(|_| asked.tells) {
                client.send(head.status, &head.fields);
            }
        }
        let sent = outgoing.is_done();
        waiting.poll_late(cx, asked, outgoing, sent).map(Err)
    })
    .await
}

/// `answering`: a byte of an answer has come.
fn no_answer(none: &NoHead, answering: bool, outgoing: &Outgoing) -> NoAnswer {
    match none {
        NoHead::Refused(refusal) => {
            tracing::debug!(?refusal, "an answer of the app is refused");
            match refusal {
                Refusal::TooLarge => NoAnswer::TooLarge,
                Refusal::Malformed(_) => NoAnswer::Malformed,
            }
        }
        NoHead::Ended(error) => {
            tracing::debug!(?error, answering, "the connection to the app ended before its answer");
            let tls = error.as_ref().and_then(|error| tls::Fault::within(error));
            match answering {
                _ if let Some(fault) = tls => NoAnswer::Tls(fault),
                true => NoAnswer::Incomplete,
                false if outgoing.is_unsent() => NoAnswer::Unsent,
                false => NoAnswer::Closed,
            }
        }
    }
}

/// The content that follows `head` over `lease`. What has come with the head already is looked at: content that is
/// whole frees the connection at once, and content that is broken from the start can still be answered with a 502.
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
    let sent = outgoing.is_done();
    if let (Framing::Length(length), Some(connection)) = (head.framing, lease.http1())
        && let Some(length) = usize::try_from(length).ok().filter(|length| *length <= connection.read.len())
    {
        let content = connection.read.split_to(length);
        if sent && head.persistent && connection.read.is_empty() {
            lease.give_back();
        }
        return Ok(Body::full(content));
    }
    let outgoing = (!sent).then_some(outgoing);
    let mut content = Content::new(of, (lease, head.persistent), head.framing, outgoing, patience);
    content.look_ahead()?;
    Ok(Body::boxed(content))
}
