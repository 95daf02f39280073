//! `Max-Forwards` on OPTIONS and TRACE (RFC 9110 §7.6.2).
//!
//! 1. More than 0: it goes on as one less. 0: the request goes no further, and is answered here as by its last recipient.
//! 2. One that is not a number, or stands there twice, is refused. Other methods' is not looked at.
//! 3. OPTIONS is answered with the methods that are generally taken; TRACE with the request as it came (§9.3.8), but only
//!    the fields that tell about its way: the rest may hold credentials.

use std::fmt::Write;

use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HOST, HeaderName, MAX_FORWARDS, VIA};
use http::{HeaderMap, HeaderValue, Method, Request, Response};

use crate::body::Body;
use crate::local_reply::LocalReply;

/// What tells about the way of a request.
const OF_THE_WAY: [HeaderName; 3] = [HOST, VIA, MAX_FORWARDS];

/// Where a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// To the app.
    On,
    /// No further: [`answer`] it.
    Ends,
}

/// Reads and counts down the field of a request of this method.
///
/// # Errors
/// The answer to give where it cannot be read.
pub fn count_down(method: &Method, fields: &mut HeaderMap) -> Result<Way, LocalReply> {
    if !matches!(*method, Method::OPTIONS | Method::TRACE) {
        return Ok(Way::On);
    }
    let mut values = fields.get_all(MAX_FORWARDS).iter();
    let Some(value) = values.next() else { return Ok(Way::On) };
    let digits = value.as_bytes();
    if values.next().is_some() || digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(LocalReply::BadRequest { reason: "malformed Max-Forwards" });
    }
    // Beyond what a number holds it is as good as endless: the largest that we support goes on (§7.6.2).
    let left = value.to_str().ok().and_then(|digits| digits.parse().ok()).unwrap_or(u32::MAX);
    match left.checked_sub(1) {
        None => Ok(Way::Ends),
        Some(left) => {
            fields.insert(MAX_FORWARDS, HeaderValue::from(left));
            Ok(Way::On)
        }
    }
}

/// The answer of the last recipient.
pub fn answer(request: &Request<Body>) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if request.method() == Method::TRACE {
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("message/http"));
        *response.body_mut() = Body::full(way_of(request));
    } else {
        let allow = HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE");
        response.headers_mut().insert(ALLOW, allow);
    }
    response
}

/// Serialized from parsed parts: no byte of it can end a line.
fn way_of(request: &Request<Body>) -> Vec<u8> {
    let mut text = String::new();
    let target = request.uri().path_and_query().map_or("*", |target| target.as_str());
    let _ = write!(text, "TRACE {target} {:?}\r\n", request.version());
    let mut bytes = text.into_bytes();
    for name in &OF_THE_WAY {
        for value in request.headers().get_all(name) {
            bytes.extend_from_slice(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
    }
    bytes.extend_from_slice(b"\r\n");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(method: Method, values: &[&'static str]) -> (Result<Way, ()>, Option<String>) {
        let mut fields = HeaderMap::new();
        for value in values {
            fields.append(MAX_FORWARDS, HeaderValue::from_static(value));
        }
        let way = count_down(&method, &mut fields).map_err(drop);
        (way, fields.get(MAX_FORWARDS).map(|value| value.to_str().unwrap_or_default().to_owned()))
    }

    #[test]
    fn options_and_trace_are_counted_down_to_their_end() {
        for method in [Method::OPTIONS, Method::TRACE] {
            let method = || method.clone();
            assert_eq!(counted(method(), &[]), (Ok(Way::On), None));
            assert_eq!(counted(method(), &["0"]).0, Ok(Way::Ends));
            assert_eq!(counted(method(), &["000"]).0, Ok(Way::Ends));
            assert_eq!(counted(method(), &["1"]), (Ok(Way::On), Some("0".into())));
            assert_eq!(counted(method(), &["010"]), (Ok(Way::On), Some("9".into())));
            assert_eq!(counted(method(), &["99999999999999999999"]), (Ok(Way::On), Some("4294967294".into())));
            for unsound in [&[""][..], &["-1"], &["+1"], &["1.5"], &["a"], &["1, 2"], &["1", "1"]] {
                assert_eq!(counted(method(), unsound).0, Err(()), "{unsound:?}");
            }
        }
        assert_eq!(counted(Method::GET, &["0"]), (Ok(Way::On), Some("0".into())));
    }
}
