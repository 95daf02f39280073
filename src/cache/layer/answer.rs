//! A stored response as the client asks for it (RFC 9111 §4, RFC 9110 §13.2.2).
//!
//! 1. 304 to a client that has that copy already (§15.4.5).
//! 2. Else the part that a GET asks for, if it asks for one: 206, or 416 where it lies outside.
//! 3. Else the whole; to HEAD without content.
//! 4. A stored part is an answer to a GET for a range within it, and to no other: then there is none (`rules::parts`).
//! 5. Content that is here is shared with the store, not copied, also that of a part; what stands in Redis is read from there
//!    as it is sent, and only what is needed of it. Where it cannot be read there is no answer.

use std::ops::RangeInclusive;

use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::Cache;
use crate::body::Body;
use crate::cache::Key;
use crate::cache::rules::conditional;
use crate::cache::rules::parts::{self, Serves};
use crate::cache::rules::range::{self, Range};
use crate::cache::stored::StoredResponse;

/// What of the content is sent.
enum Needed {
    Nothing,
    Whole,
    Part(RangeInclusive<u64>),
}

impl Cache {
    /// The answer to `request` at `now`, in seconds since the Unix epoch; `None`: its content cannot be read, or is not all of
    /// the answer.
    pub(super) async fn stored_answer<B>(
        &self,
        key: &Key,
        request: &Request<B>,
        stored: &StoredResponse,
        now: u64,
    ) -> Option<Response<Body>> {
        let (mut response, needed) = head(request, stored, now)?;
        let part = match &needed {
            Needed::Nothing => return Some(response),
            Needed::Whole => None,
            Needed::Part(part) => Some(part),
        };
        *response.body_mut() = self.store.content(key, stored, part).await?;
        Some(response)
    }
}

/// The answer to a `request` for the whole, with content that is still to come; `None`: it is not all of the answer.
pub(super) fn begun<B>(
    request: &Request<B>,
    stored: &StoredResponse,
    now: u64,
    content: Body,
) -> Option<Response<Body>> {
    let (mut response, needed) = head(request, stored, now)?;
    if !matches!(needed, Needed::Nothing) {
        *response.body_mut() = content;
    }
    Some(response)
}

fn head<B>(request: &Request<B>, stored: &StoredResponse, now: u64) -> Option<(Response<Body>, Needed)> {
    let mut response = Response::new(Body::empty());
    let not_modified = conditional::is_not_modified(request.headers(), stored.status, &stored.head, now);
    let head = response.headers_mut();
    *head = if not_modified { conditional::not_modified(&stored.head) } else { stored.head.clone() };
    head.insert(AGE, HeaderValue::from(stored.facts.age(now)));
    if not_modified {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return Some((response, Needed::Nothing));
    }
    *response.status_mut() = stored.status;
    if let Some(part) = stored.part {
        let served = parts::serves(request.method(), request.headers(), part, &stored.head, now);
        let Serves::Range { first, last } = served else { return None };
        range::into_part(response.headers_mut(), first, last, part.complete);
        return Some((response, Needed::Part(first - part.first..=last - part.first)));
    }
    if request.method() == Method::HEAD {
        return Some((response, Needed::Nothing));
    }
    let needed = match part(request, stored, now) {
        Range::Whole => Needed::Whole,
        Range::Part { first, last } => {
            range::into_part(response.headers_mut(), first, last, stored.content.length());
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            Needed::Part(first..=last)
        }
        Range::Unsatisfiable => {
            unsatisfied(&mut response, stored.content.length());
            Needed::Nothing
        }
    };
    Some((response, needed))
}

fn part<B>(request: &Request<B>, stored: &StoredResponse, now: u64) -> Range {
    if request.method() != Method::GET || !request.headers().contains_key(RANGE) {
        return Range::Whole;
    }
    range::range(request.headers(), stored.status, &stored.head, stored.content.length(), now)
}

/// 416, without what describes the content that is not sent (RFC 9110 §15.5.17).
fn unsatisfied(response: &mut Response<Body>, length: u64) {
    *response.status_mut() = StatusCode::RANGE_NOT_SATISFIABLE;
    let head = response.headers_mut();
    conditional::into_not_modified(head);
    head.remove(CONTENT_TYPE);
    head.insert(CONTENT_LENGTH, HeaderValue::from(0));
    if let Some(range) = range::unsatisfied(length) {
        head.insert(CONTENT_RANGE, range);
    }
}
