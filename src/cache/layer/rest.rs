//! A GET for the whole where its beginning is stored: the app is asked for the rest (RFC 9111 §3.4; `rules::rest`).
//!
//! 1. What the app sends as the rest follows what is stored; the client is answered 200, and the whole is kept, and given to
//!    those who wait, as any other answer is.
//! 2. A beginning that cannot be read is not there: the whole is asked for.
//! 3. What does not fit is dropped, and the request sent again as the client sent it, which it may be: it is a GET without
//!    content. Any other answer, a 200 first of all, is the app's answer.
//! 4. A rest that breaks off ends the content with an error, as any answer that does: nobody takes it for whole, and nothing is
//!    stored. What was said of the lengths is not relied on: both halves are counted.
//!
//! # Why it is safe beside writes
//! Both halves are stored under the generation that the look-up read. A write takes that generation back: then the whole is
//! found by nobody. And both have the same strong validator, so they are of one version whatever happened between.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};

use super::Cache;
use super::decide::Errand;
use super::outcome::Said;
use crate::body::{Body, BodyError};
use crate::cache::rules::parts::Part;
use crate::cache::rules::rest::{self, Says};
use crate::cache::stored::StoredResponse;
use crate::exchange::{Exchange, Next, pass};

impl Cache {
    /// Asks for what follows `stored`, which is the beginning of the answer.
    pub(super) async fn complete<S: Next>(
        self: Rc<Self>,
        errand: Errand,
        stored: Arc<StoredResponse>,
        mut exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        let now = self.clock.unix_seconds();
        let Some(part) = stored.part.filter(|part| part.complete <= errand.policy.max_body) else {
            return self.fetch(errand, exchange, next).await;
        };
        let Some(begun) = self.store.content(&errand.key, &stored, None).await else {
            return self.fetch(errand, exchange, next).await;
        };
        let (as_sent, trail) = (exchange.again(), exchange.trail.clone());
        if !rest::ask(exchange.request.headers_mut(), part, &stored.head, now) {
            return self.fetch(errand, exchange, next).await;
        }
        let mut asked = self.asked(&errand, &exchange.request);
        let mut response = pass(next.clone(), exchange).await;
        if trail.borrow().local_reply.is_none() {
            match rest::says(response.status(), response.headers(), part, &stored.head, now) {
                Says::Rest => response = joined(response, part, &stored.head, begun),
                Says::Answer => {}
                Says::Nothing => {
                    drop(response);
                    asked = self.asked(&errand, &as_sent.request);
                    response = pass(next, as_sent.again()).await;
                }
            }
        }
        self.fetched(errand, asked, Some(as_sent.request.headers()), response, &trail, None)
    }
}

/// The whole, of its stored beginning and the rest.
fn joined(rest: Response<Body>, part: Part, stored: &HeaderMap, begun: Body) -> Response<Body> {
    let (mut parts, rest) = rest.into_parts();
    parts.headers = rest::whole(stored, &parts.headers, part.complete);
    // For `Cache-Status`.
    parts.extensions.insert(Said(parts.status));
    parts.status = StatusCode::OK;
    let content = Joined { begun: Some(begun), rest, left: part.complete, of_rest: part.complete - part.length() };
    Response::from_parts(parts, Body::boxed(content))
}

/// Content of two halves.
struct Joined {
    /// `None`: it has been read.
    begun: Option<Body>,
    rest: Body,
    /// Bytes that are still to come.
    left: u64,
    /// Bytes of the rest.
    of_rest: u64,
}

impl Joined {
    /// Counts a frame; an error if there is more of it than there should be. `floor`: what should come after its half.
    fn count(&mut self, frame: &Frame<Bytes>, floor: u64) -> Result<(), BodyError> {
        let length = frame.data_ref().map_or(0, Bytes::len) as u64;
        let left = self.left.checked_sub(length).filter(|left| *left >= floor);
        self.left = left.ok_or(BodyError::Broken("a part is longer than it was said to be"))?;
        Ok(())
    }
}

impl HttpBody for Joined {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        const SHORT: BodyError = BodyError::Broken("a part is shorter than it was said to be");
        let this = self.get_mut();
        while let Some(begun) = &mut this.begun {
            match ready!(Pin::new(begun).poll_frame(cx)) {
                Some(Ok(frame)) if frame.is_data() => {
                    let floor = this.of_rest;
                    return Poll::Ready(Some(this.count(&frame, floor).map(|()| frame)));
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None if this.left > this.of_rest => return Poll::Ready(Some(Err(SHORT))),
                None => this.begun = None,
            }
        }
        match ready!(Pin::new(&mut this.rest).poll_frame(cx)) {
            Some(Ok(frame)) => Poll::Ready(Some(this.count(&frame, 0).map(|()| frame))),
            None if this.left > 0 => Poll::Ready(Some(Err(SHORT))),
            end => Poll::Ready(end),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.begun.is_none() && self.left == 0 && self.rest.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;

    fn read(begun: &'static str, rest: &'static str) -> Result<Bytes, String> {
        let content = Joined { begun: Some(Body::full(begun)), rest: Body::full(rest), left: 10, of_rest: 6 };
        assert_eq!(content.size_hint().exact(), Some(10));
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let collected = runtime.block_on(content.collect());
        collected.map(http_body_util::Collected::to_bytes).map_err(|error| error.to_string())
    }

    #[test]
    fn two_halves_are_a_whole_only_if_both_are_as_long_as_was_said() {
        assert_eq!(read("0123", "456789").unwrap(), "0123456789");
        for (begun, rest) in [("012", "456789"), ("01234", "56789"), ("0123", "45678"), ("0123", "4567890"), ("", "")] {
            assert!(read(begun, rest).is_err(), "{begun:?} {rest:?}");
        }
    }
}
