//! POST as a read (`post_body`).
//!
//! 1. Content is read up to the bound, then judged ([`posted`]), and goes on whole, whatever becomes of it: from memory
//!    if it was read to its end, else what was read, then the rest as it comes.
//! 2. A POST that is a read has its content in its key. It is answered and stored as a GET is, but only for a lifetime that
//!    its answer or the policy says, never a heuristic one (RFC 9110 §9.3.3); it is neither validated, nor kept to be, nor
//!    answered stale, for to POST a condition means something else (§13.1.2).
//! 3. Any other POST is a write, too: one that is larger, was cut short, has trailers, or says it is a mutation. It
//!    invalidates what a write does.
//! 4. Who waits to be told to send content (`Expect: 100-continue`) and does not say that it is larger is told so here, as
//!    an origin server would (§10.1.1): the content is wanted whatever the app says. A larger one is the app's to want.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, EXPECT};
use http_body::{Body as _, Frame, SizeHint};
use sha2::{Digest as _, Sha256};

use crate::body::{Body, BodyError};
use crate::cache::key::posted;
use crate::cache::rules::request;
use crate::exchange::Exchange;

/// Makes a read of a POST that is one: reads its content, of at most `bound` bytes, and notes its digest.
pub(super) async fn read(exchange: &mut Exchange, bound: u64) {
    let request = &mut exchange.request;
    if !may_be_read(request, bound) {
        return;
    }
    let body = std::mem::take(request.body_mut());
    let (content, body) = gather(body, bound).await;
    *request.body_mut() = body;
    // Its client has been told to go on, by whoever reads content.
    request.headers_mut().remove(EXPECT);
    if let Some(content) = content
        && posted::is_read(request.uri().query(), request.headers(), &content)
    {
        exchange.posted = Some(Box::new(Sha256::digest(&content).into()));
    }
}

fn may_be_read(request: &http::Request<Body>, bound: u64) -> bool {
    let head = request.headers();
    let said = head.get(CONTENT_LENGTH).map(|length| length.to_str().ok()?.parse().ok());
    // A malformed length is whoever forwards it to refuse.
    let fits = said.is_none_or(|length: Option<u64>| length.is_some_and(|length| length <= bound));
    fits && request.body().size_hint().lower() <= bound
        && posted::may_be_read(head)
        && request::passes_by(head, false).is_none()
}

/// All of the content, if it ends within `bound` bytes without trailers; and content to go on with, the same in any case.
async fn gather(mut body: Body, bound: u64) -> (Option<Bytes>, Body) {
    let (mut read, mut length) = (VecDeque::new(), 0);
    while let Some(frame) = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).await {
        let is_data = frame.as_ref().is_ok_and(Frame::is_data);
        length += frame.as_ref().ok().and_then(Frame::data_ref).map_or(0, Bytes::len) as u64;
        read.push_back(frame);
        if !is_data || length > bound {
            return (None, Body::boxed(Replayed { read, rest: body }));
        }
    }
    let mut content = Vec::with_capacity(length as usize);
    read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref()).for_each(|data| content.extend_from_slice(data));
    let content = Bytes::from(content);
    (Some(content.clone()), Body::full(content))
}

/// What was read of content, and the rest of it.
struct Replayed {
    read: VecDeque<Result<Frame<Bytes>, BodyError>>,
    rest: Body,
}

impl http_body::Body for Replayed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        match this.read.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut this.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.read.is_empty() && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let read = self.read.iter().filter_map(|frame| frame.as_ref().ok()?.data_ref()).map(Bytes::len).sum::<usize>();
        let (rest, read) = (self.rest.size_hint(), read as u64);
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(read));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(read));
        }
        hint
    }
}
