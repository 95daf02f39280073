//! A stored response as the client asks for it (RFC 9111 §4, RFC 9110 §13.2.2).
//!
//! 1. 304 to a client that has that copy already (§15.4.5).
//! 2. Else the part that a GET asks for, if it asks for one: 206, or 416 where it lies outside.
//! 3. Else the whole; to HEAD without content.
//! 4. Content is shared with the store, not copied, also that of a part.

use http::header::{AGE, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, RANGE};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use crate::body::Body;
use crate::cache::rules::conditional;
use crate::cache::rules::range::{self, Range};
use crate::cache::stored::StoredResponse;

/// The answer to `request` at `now`, in seconds since the Unix epoch.
pub(super) fn from_stored<B>(request: &Request<B>, stored: &StoredResponse, now: u64) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let head = response.headers_mut();
    *head = stored.head.clone();
    head.insert(AGE, HeaderValue::from(stored.facts.age(now)));
    if conditional::is_not_modified(request.headers(), stored.status, &stored.head, now) {
        conditional::into_not_modified(head);
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        return response;
    }
    *response.status_mut() = stored.status;
    if request.method() == Method::GET {
        match part(request, stored, now) {
            Range::Whole => *response.body_mut() = content(stored, None),
            Range::Part { first, last } => {
                range::into_part(response.headers_mut(), first, last, length(stored));
                *response.status_mut() = StatusCode::PARTIAL_CONTENT;
                *response.body_mut() = content(stored, Some((first, last)));
            }
            Range::Unsatisfiable => unsatisfied(&mut response, length(stored)),
        }
    }
    response
}

fn part<B>(request: &Request<B>, stored: &StoredResponse, now: u64) -> Range {
    if !request.headers().contains_key(RANGE) {
        return Range::Whole;
    }
    range::range(request.headers(), stored.status, &stored.head, length(stored), now)
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

/// Bytes of the whole.
fn length(stored: &StoredResponse) -> u64 {
    stored.content.len() as u64
}

/// The content, or the bytes from a first to a last of it: the one place that reads stored content.
fn content(stored: &StoredResponse, part: Option<(u64, u64)>) -> Body {
    Body::full(match part {
        None => stored.content.clone(),
        Some((first, last)) => stored.content.slice(first as usize..=last as usize),
    })
}
