//! The same answers for calls of gRPC.
//!
//! 1. The HTTP status is 200, and what happened stands in `grpc-status` and `grpc-message`, in a head that nothing follows
//!    (gRPC over HTTP/2: "Trailers-Only"). Fields that say more (`retry-after`, `proxy-status`) stay.
//! 2. Only over HTTP/2: over HTTP/1.1 there is no gRPC, whatever the content type says.
//! 3. Codes say what a client may do. UNAVAILABLE is for what was not executed, or not to its end, and may be tried again;
//!    a quota that is spent is RESOURCE_EXHAUSTED; an answer that did not come in time is DEADLINE_EXCEEDED.
//!
//! # Why
//! A client makes INTERNAL, UNKNOWN or UNAVAILABLE of an HTTP status (gRPC's `http-grpc-status-mapping`), and nothing of
//! a problem document: a spent quota would be tried again at once, as would a call that the app may be working on still.
//! Rule 3 parts from that table for 429 and 504, where we know more than it does.

use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Request, Response, Version};

use super::{LocalReply, Media};
use crate::body::Body;

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");
const GRPC_MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// Whether a request is a call.
pub fn is_call<B>(request: &Request<B>) -> bool {
    request.version() == Version::HTTP_2 && request.headers().get(CONTENT_TYPE).is_some_and(is_grpc)
}

/// Whether content of this type is gRPC's: `application/grpc`, also with `+proto` and the like; not gRPC-Web.
pub fn is_grpc(kind: &HeaderValue) -> bool {
    const NAME: &[u8] = b"application/grpc";
    let Some((name, rest)) = kind.as_bytes().split_at_checked(NAME.len()) else { return false };
    name.eq_ignore_ascii_case(NAME) && matches!(rest.first(), None | Some(b'+' | b';' | b' '))
}

/// The answer to a call.
pub(super) fn respond(reply: &LocalReply) -> Response<Body> {
    let mut response = Response::new(Body::empty());
    let mut fields = reply.fields(0, Media::Problem);
    fields.remove(CONTENT_LENGTH);
    fields.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    fields.insert(GRPC_STATUS, HeaderValue::from(code(reply)));
    if let Ok(message) = HeaderValue::from_str(&encoded(&reply.detail())) {
        fields.insert(GRPC_MESSAGE, message);
    }
    *response.headers_mut() = fields;
    response
}

/// A status code of gRPC.
fn code(reply: &LocalReply) -> u16 {
    const UNKNOWN: u16 = 2;
    const INVALID_ARGUMENT: u16 = 3;
    const DEADLINE_EXCEEDED: u16 = 4;
    const PERMISSION_DENIED: u16 = 7;
    const RESOURCE_EXHAUSTED: u16 = 8;
    const UNIMPLEMENTED: u16 = 12;
    const INTERNAL: u16 = 13;
    const UNAVAILABLE: u16 = 14;
    const UNAUTHENTICATED: u16 = 16;
    match reply {
        LocalReply::BadRequest { .. } | LocalReply::VersionNotSupported => INTERNAL,
        LocalReply::LimitKeyMissing { .. } => INVALID_ARGUMENT,
        LocalReply::SessionMissing
        | LocalReply::SessionInvalid
        | LocalReply::LoginNeeded { .. }
        | LocalReply::UnknownApiKey => UNAUTHENTICATED,
        LocalReply::SessionForbidden
        | LocalReply::SessionElsewhere
        | LocalReply::UpgradeRefused
        | LocalReply::PurgeRefused => PERMISSION_DENIED,
        LocalReply::NoRoute | LocalReply::MethodNotAllowed { .. } => UNIMPLEMENTED,
        LocalReply::RateLimited(_)
        | LocalReply::TooManyInFlight(_)
        | LocalReply::ContentTooLarge { .. }
        | LocalReply::FieldsTooLarge
        | LocalReply::UriTooLong => RESOURCE_EXHAUSTED,
        LocalReply::ExpectationFailed | LocalReply::RequestTimeout => UNKNOWN,
        // What is not valid HTTP will not be better the next time.
        LocalReply::UpstreamBroken { error: "connection_terminated" | "http_response_incomplete" } => UNAVAILABLE,
        LocalReply::UpstreamBroken { .. } | LocalReply::SessionOrderMalformed => INTERNAL,
        LocalReply::UpstreamTimeout { which: "connection_timeout" } => UNAVAILABLE,
        LocalReply::UpstreamTimeout { .. } => DEADLINE_EXCEEDED,
        LocalReply::LimitStoreDown { .. }
        | LocalReply::SessionStoreDown { .. }
        | LocalReply::PurgeFailed { .. }
        | LocalReply::NotStored
        | LocalReply::UpstreamRefused
        | LocalReply::UpstreamBusy { .. }
        | LocalReply::UpstreamOut { .. }
        | LocalReply::UpstreamUnresolved
        | LocalReply::UpstreamTls { .. } => UNAVAILABLE,
    }
}

/// Percent-encoded where it must be (gRPC over HTTP/2, `Status-Message`).
fn encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use http::StatusCode;

    use super::*;
    use crate::local_reply::{Refusal, Refused};

    fn call(version: Version, kind: &'static str) -> Request<()> {
        let request = Request::post("/a.B/C").version(version).header("content-type", kind);
        request.body(()).expect("a test request")
    }

    #[test]
    fn calls_are_told_from_what_only_looks_like_them() {
        for kind in ["application/grpc", "application/grpc+proto", "Application/gRPC; x=y"] {
            assert!(is_call(&call(Version::HTTP_2, kind)), "{kind}");
            assert!(!is_call(&call(Version::HTTP_11, kind)), "{kind}");
        }
        for kind in ["application/grpc-web", "application/grpcx", "application/json", ""] {
            assert!(!is_call(&call(Version::HTTP_2, kind)), "{kind}");
        }
    }

    #[test]
    fn a_status_says_what_happened_and_nothing_follows() {
        // Nor does what the limit says to others.
        let refusal =
            Refusal { status: StatusCode::SERVICE_UNAVAILABLE, content: Some("busy".into()), ..Refusal::default() };
        let refused = Refused {
            limit: "a".into(),
            quota: "1 \u{e9} %".into(),
            retry_after: Some(3),
            violated: vec!["a".into()],
            reduced: false,
            refusal,
        };
        for (reply, code) in [
            (LocalReply::RateLimited(Box::new(refused)), "8"),
            (LocalReply::LimitKeyMissing { limit: "a".into() }, "3"),
            (LocalReply::SessionMissing, "16"),
            (LocalReply::NoRoute, "12"),
            (LocalReply::UpstreamRefused, "14"),
            (LocalReply::UpstreamTimeout { which: "http_response_timeout" }, "4"),
            (LocalReply::UpstreamTimeout { which: "connection_timeout" }, "14"),
            (LocalReply::UpstreamBroken { error: "http_protocol_error" }, "13"),
        ] {
            let response = respond(&reply);
            assert_eq!((response.status().as_u16(), &response.headers()["grpc-status"]), (200, &code.parse().unwrap()));
            assert!(
                http_body::Body::is_end_stream(response.body()) && !response.headers().contains_key("content-length")
            );
            let message = response.headers()["grpc-message"].to_str().expect("visible bytes");
            assert!(!message.is_empty() && (code != "8" || message.contains("1 %C3%A9 %25")), "{message}");
        }
    }
}
