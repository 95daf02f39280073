//! Which request is a CORS preflight (Fetch §4.8), the question of a browser what the real request may do. Pure.
//!
//! 1. It is OPTIONS, says `Origin` and `Access-Control-Request-Method`, and has neither credentials (Cookie, Authorization) nor
//!    content, and no field that says another method ([`overriding`]).
//! 2. What stands in the query is the real request's, and says nothing.
//! 3. Who passes for one alone, where others need a login or a key, gets the head of the app's answer: browsers read no more of it.
//!
//! # Why
//! Preflights pass where others need a login or a key. Browsers make them so and not otherwise; whoever adds a stolen cookie or a
//! form makes a request of another kind, and some apps answer it without a look at its method.
//!
//! Rule 3: an app that answers OPTIONS like GET, as plain PHP does, would show its page to anybody.

use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, TRAILER, TRANSFER_ENCODING};
use http::{Request, Response, header};

use super::overriding;
use crate::body::Body;

/// Whether `request`, an OPTIONS, is one.
pub fn is_one<B: http_body::Body>(request: &Request<B>) -> bool {
    let fields = request.headers();
    let says = |name| fields.get(name).is_some_and(|value: &http::HeaderValue| !value.is_empty());
    says(header::ORIGIN)
        && says(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !fields.contains_key(header::COOKIE)
        && !fields.contains_key(header::AUTHORIZATION)
        && !overriding::is_said(fields)
        && request.body().is_end_stream()
}

/// Rule 3: the answer to a preflight, as far as a browser reads it.
pub fn without_content(mut answer: Response<Body>) -> Response<Body> {
    *answer.body_mut() = Body::empty();
    for name in [CONTENT_LENGTH, CONTENT_TYPE, CONTENT_ENCODING, CONTENT_RANGE, TRANSFER_ENCODING, TRAILER] {
        answer.headers_mut().remove(name);
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_browser_asks_is_one_and_nothing_else_is() {
        let is_one = |fields: &[(&str, &str)], content: &'static str| {
            let mut request = Request::options("/x?token=t");
            for (name, value) in [("origin", "https://spa.test"), ("access-control-request-method", "PUT")] {
                if !fields.iter().any(|(other, _)| *other == name) {
                    request = request.header(name, value);
                }
            }
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            super::is_one(&request.body(Body::full(content)).unwrap())
        };
        assert!(is_one(&[], "") && is_one(&[("access-control-request-headers", "x-csrf"), ("user-agent", "b")], ""));
        for fields in [
            ("cookie", "a=b"),
            ("cookie", ""),
            ("authorization", "Basic YTpi"),
            ("origin", ""),
            ("x_http-method", "GET"),
        ] {
            assert!(!is_one(&[fields], ""), "{fields:?}");
        }
        assert!(!is_one(&[("access-control-request-method", "")], "") && !is_one(&[], "a=b"));
    }
}
