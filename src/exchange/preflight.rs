//! Which request is a CORS preflight (Fetch §4.8), the question of a browser what the real request may do. Pure.
//!
//! 1. It is OPTIONS, says `Origin` and `Access-Control-Request-Method`, and has neither credentials (Cookie, Authorization) nor
//!    content.
//! 2. What stands in the query is the real request's, and says nothing.
//!
//! # Why
//! Preflights pass where others need a login or a key. Browsers make them so and not otherwise; whoever adds a stolen cookie or a
//! form makes a request of another kind, and some apps answer it without a look at its method.

use http::{Request, header};
use http_body::Body;

/// Whether `request`, an OPTIONS, is one.
pub fn is_one<B: Body>(request: &Request<B>) -> bool {
    let fields = request.headers();
    let says = |name| fields.get(name).is_some_and(|value: &http::HeaderValue| !value.is_empty());
    says(header::ORIGIN)
        && says(header::ACCESS_CONTROL_REQUEST_METHOD)
        && !fields.contains_key(header::COOKIE)
        && !fields.contains_key(header::AUTHORIZATION)
        && request.body().is_end_stream()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::body::Body;

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
        for fields in [("cookie", "a=b"), ("cookie", ""), ("authorization", "Basic YTpi"), ("origin", "")] {
            assert!(!is_one(&[fields], ""), "{fields:?}");
        }
        assert!(!is_one(&[("access-control-request-method", "")], "") && !is_one(&[], "a=b"));
    }
}
