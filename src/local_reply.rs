//! The answers sidegate gives itself, and the one place that turns them into status, fields and content.
//!
//! 1. A variant says what happened and carries the facts; nothing that a client sent is repeated to it, save the way back from
//!    a login.
//! 2. Content is `application/problem+json` (RFC 9457). A client that prefers `text/html`, as a browser's navigation
//!    does, gets a small page with the same words (`page`). A limit may say something else (`limits`). To HEAD: the same
//!    fields, no content.
//! 3. Every answer says `Cache-Control: no-store`: it is about this request at this moment.
//! 4. Where trying again later helps, `Retry-After` says when: whole seconds, at least 1.
//! 5. Failures of the app carry `Proxy-Status` with the error type of RFC 9209 §2.3.
//! 6. Content names the request, as `X-Request-Id` does: that is what a user can report.
//! 7. A call of gRPC gets the status that its client understands (`grpc`), with the same fields, and no content.
//! 8. Where content of the request stays unread, or its framing is in doubt, an HTTP/1 connection is closed.
//!
//! # Why
//! One sentence for one situation, whichever layer met it: users, tests and documentation can rely on the words. Problem types are
//! URNs, since a URL would promise a page; those of spent quotas are the ones that clients know from elsewhere.

pub mod grpc;
mod limits;
mod page;
mod problem;
mod request_id;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};

pub use self::limits::{Refusal, Refused};
use self::page::page;
pub use self::page::prefers_html;
use self::request_id::Unnamed;
pub use self::request_id::name;
use crate::body::Body;
use crate::clock::Clock;

/// The [kind](LocalReply::kind) of [`LocalReply::LoginNeeded`].
pub const LOGIN_NEEDED: &str = "login-needed";

const PROXY_STATUS: HeaderName = HeaderName::from_static("proxy-status");

/// An answer that sidegate gives itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LocalReply {
    /// 400: the request can be read in two ways or in none; says why in a few words (RFC 9112 §2.2).
    BadRequest {
        /// What is wrong, as a clause: `two Host fields`.
        reason: &'static str,
    },
    /// 404: no route matches host and path.
    NoRoute,
    /// 405: the path has routes, but for other methods (RFC 9110 §15.5.6).
    MethodNotAllowed {
        /// The methods that have one, as the `Allow` field lists them.
        allow: String,
    },
    /// 414.
    UriTooLong,
    /// 431: too many fields, or too many bytes of them (RFC 6585 §5).
    FieldsTooLarge,
    /// 413: more content than the route takes.
    ContentTooLarge {
        /// The most it takes, in bytes.
        bound: u64,
    },
    /// 505.
    VersionNotSupported,
    /// 417: an `Expect` that is not `100-continue` (RFC 9110 §10.1.1).
    ExpectationFailed,
    /// 408: the client took too long to send its request.
    RequestTimeout,
    /// 429, or the limit's own status: a quota is spent (RFC 6585 §4).
    RateLimited(Box<Refused>),
    /// 429, or the limit's own status: as many requests are under way as the limit takes at once.
    TooManyInFlight(Box<Refused>),
    /// 400: a limit counts by something that the request does not carry, and refuses it then.
    LimitKeyMissing {
        /// The limit's name.
        limit: Arc<str>,
    },
    /// 401: the route takes only known API keys. One answer for one that is unknown and for none at all.
    UnknownApiKey,
    /// 503: the limits cannot be counted, and are configured to refuse then.
    LimitStoreDown {
        /// Seconds until trying again makes sense.
        retry_after: u64,
    },
    /// 401: the route needs a login, and no credential was sent.
    SessionMissing,
    /// 401: a credential was sent, but it is unknown, expired, malformed or not logged in. One answer for all, so that
    /// it tells nobody which (RFC 6750 §3.1).
    SessionInvalid,
    /// 403: the session stays with the device that it was first seen on, and the request comes from another.
    SessionElsewhere,
    /// 302: as either of these, to somebody who navigates: the way to the login (RFC 9110 §15.4.3).
    LoginNeeded {
        /// The whole `Location`.
        location: HeaderValue,
    },
    /// 403: the login is valid, and lacks what the route demands of it. Does not say what.
    SessionForbidden,
    /// 503: the sessions cannot be read. An outage is not a logout.
    SessionStoreDown {
        /// Seconds until trying again makes sense.
        retry_after: u64,
    },
    /// 403: the route takes no WebSocket or other upgrade.
    UpgradeRefused,
    /// 403: `PURGE` from an address that is not trusted with it.
    PurgeRefused,
    /// 503: stored responses cannot be purged now.
    PurgeFailed {
        /// Seconds until trying again makes sense.
        retry_after: u64,
    },
    /// 504: the client takes only a stored response, and none is to be had (RFC 9111 §5.2.1.7).
    NotStored,
    /// 502: the app refuses connections.
    UpstreamRefused,
    /// 504: the app took too long.
    UpstreamTimeout {
        /// `connection_timeout`, `http_response_timeout` … (RFC 9209 §2.3).
        which: &'static str,
    },
    /// 502: the app's answer broke off or is not HTTP.
    UpstreamBroken {
        /// `connection_terminated`, `http_protocol_error` … (RFC 9209 §2.3).
        error: &'static str,
    },
    /// 502: what the app orders about its client's session makes no sense.
    SessionOrderMalformed,
    /// 503: as many requests as the app is configured to take are under way.
    UpstreamBusy {
        /// Seconds until trying again makes sense.
        retry_after: u64,
    },
    /// 503: every endpoint of the app has failed too often, and is left alone for a while.
    UpstreamOut {
        /// Seconds until trying again makes sense.
        retry_after: u64,
    },
    /// 502: the app's host name does not resolve.
    UpstreamUnresolved,
    /// 502: TLS with the app failed.
    UpstreamTls {
        /// `tls_certificate_error`, `tls_alert_received` or `tls_protocol_error` (RFC 9209 §2.3).
        error: &'static str,
    },
}

/// What the content of an answer is.
#[derive(Clone, Copy)]
enum Media<'a> {
    Problem,
    Page,
    /// What a limit says in their place, and its type.
    Own(&'a HeaderValue),
}

impl LocalReply {
    /// The answer to `request`, complete with fields.
    pub fn respond(&self, request: &Request<Body>) -> Response<Body> {
        if grpc::is_call(request) {
            return grpc::respond(self);
        }
        let own = self.refused().and_then(|refused| Some((refused.content()?, &refused.refusal.content_type)));
        let (content, media) = match own {
            Some((content, media)) => (content.into_bytes(), Media::Own(media)),
            None if prefers_html(request.headers()) => (page(self, request), Media::Page),
            None => (self.json(), Media::Problem),
        };
        let content = Bytes::from(content);
        let mut response = Response::new(Body::empty());
        *response.status_mut() = self.status();
        *response.headers_mut() = self.fields(content.len(), media);
        if request.version() <= Version::HTTP_11 && self.closes() {
            response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        let sent = request.method() != Method::HEAD;
        if sent {
            *response.body_mut() = Body::full(content.clone());
        }
        if !matches!(media, Media::Own(_)) {
            response.extensions_mut().insert(Unnamed { content, html: matches!(media, Media::Page), sent });
        }
        response
    }

    /// The same as complete HTTP/1.1 bytes that end the connection, for refusals before there is a request.
    pub fn raw_http1(&self, request_id: Option<&HeaderValue>) -> Vec<u8> {
        let content = self.json();
        let status = self.status();
        let date = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(Clock::System.unix_seconds()));
        let phrase = status.canonical_reason().unwrap_or_default();
        let mut bytes = format!("HTTP/1.1 {} {phrase}\r\n", status.as_u16()).into_bytes();
        for (name, value) in &self.fields(content.len(), Media::Problem) {
            write_field(&mut bytes, name.as_str(), value.as_bytes());
        }
        if let Some(id) = request_id {
            write_field(&mut bytes, "x-request-id", id.as_bytes());
        }
        write_field(&mut bytes, "date", date.as_bytes());
        write_field(&mut bytes, "connection", b"close");
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&content);
        bytes
    }

    /// The last part of the problem type: names the situation in logs and metrics.
    pub fn kind(&self) -> &'static str {
        self.title().0
    }

    /// What is wrong with a bad request, for logs; `None`: the kind says it all.
    pub fn reason(&self) -> Option<&'static str> {
        if let Self::BadRequest { reason } = self { Some(reason) } else { None }
    }

    /// The status code.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest { .. } | Self::LimitKeyMissing { .. } => StatusCode::BAD_REQUEST,
            Self::SessionMissing | Self::SessionInvalid | Self::UnknownApiKey => StatusCode::UNAUTHORIZED,
            Self::LoginNeeded { .. } => StatusCode::FOUND,
            Self::SessionForbidden | Self::SessionElsewhere | Self::UpgradeRefused | Self::PurgeRefused => {
                StatusCode::FORBIDDEN
            }
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::RequestTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::ContentTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::ExpectationFailed => StatusCode::EXPECTATION_FAILED,
            Self::RateLimited(refused) | Self::TooManyInFlight(refused) => refused.refusal.status,
            Self::FieldsTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::UpstreamRefused
            | Self::UpstreamBroken { .. }
            | Self::SessionOrderMalformed
            | Self::UpstreamUnresolved
            | Self::UpstreamTls { .. } => StatusCode::BAD_GATEWAY,
            Self::LimitStoreDown { .. }
            | Self::SessionStoreDown { .. }
            | Self::PurgeFailed { .. }
            | Self::UpstreamBusy { .. }
            | Self::UpstreamOut { .. } => StatusCode::SERVICE_UNAVAILABLE,
            Self::UpstreamTimeout { .. } | Self::NotStored => StatusCode::GATEWAY_TIMEOUT,
            Self::VersionNotSupported => StatusCode::HTTP_VERSION_NOT_SUPPORTED,
        }
    }

    /// Problem type and title.
    fn title(&self) -> (&'static str, &'static str) {
        match self {
            Self::BadRequest { .. } => ("bad-request", "The request cannot be understood"),
            Self::NoRoute => ("no-route", "There is nothing here"),
            Self::MethodNotAllowed { .. } => ("method-not-allowed", "This method is not for this path"),
            Self::UriTooLong => ("uri-too-long", "The address is too long"),
            Self::FieldsTooLarge => ("fields-too-large", "The request's fields are too large"),
            Self::ContentTooLarge { .. } => ("content-too-large", "The request's content is too large"),
            Self::VersionNotSupported => ("version-not-supported", "This version of HTTP is not spoken here"),
            Self::ExpectationFailed => ("expectation-failed", "The expectation cannot be met"),
            Self::RequestTimeout => ("request-timeout", "The request took too long to arrive"),
            Self::RateLimited(_) => ("rate-limited", "Too many requests"),
            Self::TooManyInFlight(_) => ("too-many-in-flight", "Too many requests at once"),
            Self::LimitKeyMissing { .. } => ("limit-key-missing", "The request does not say whose it is"),
            Self::UnknownApiKey => ("unknown-api-key", "A valid API key is needed"),
            Self::LimitStoreDown { .. } => ("limit-store-down", "Limits cannot be checked at the moment"),
            Self::SessionMissing => ("session-missing", "A login is needed"),
            Self::SessionInvalid => ("session-invalid", "The login is not valid"),
            Self::SessionElsewhere => ("session-elsewhere", "The login is for another device"),
            Self::LoginNeeded { .. } => (LOGIN_NEEDED, "A login is needed"),
            Self::SessionForbidden => ("session-forbidden", "This login may not do that"),
            Self::SessionStoreDown { .. } => ("session-store-down", "Logins cannot be checked at the moment"),
            Self::UpgradeRefused => ("upgrade-refused", "The connection cannot be upgraded here"),
            Self::PurgeRefused => ("purge-refused", "Not everybody may purge"),
            Self::PurgeFailed { .. } => ("purge-failed", "Nothing can be purged at the moment"),
            Self::NotStored => ("not-stored", "There is no stored response"),
            Self::UpstreamRefused => ("upstream-refused", "The application cannot be reached"),
            Self::UpstreamTimeout { .. } => ("upstream-timeout", "The application did not answer in time"),
            Self::UpstreamBroken { .. } => ("upstream-broken", "The application's answer broke off"),
            Self::SessionOrderMalformed => {
                ("session-order-malformed", "The application's session order makes no sense")
            }
            Self::UpstreamBusy { .. } => ("upstream-busy", "The application is busy"),
            Self::UpstreamOut { .. } => ("upstream-unavailable", "The application is unavailable"),
            Self::UpstreamUnresolved => ("upstream-unresolved", "The application cannot be found"),
            Self::UpstreamTls { .. } => ("upstream-tls", "No secure connection to the application"),
        }
    }

    fn detail(&self) -> Cow<'static, str> {
        Cow::Borrowed(match self {
            Self::BadRequest { reason } => return format!("The request was refused: {reason}.").into(),
            Self::NoRoute => "No route is configured for this host and path.",
            Self::MethodNotAllowed { allow } if allow.is_empty() => "This path takes no method.",
            Self::MethodNotAllowed { allow } => return format!("This path takes {allow}.").into(),
            Self::UriTooLong => "Path and query are longer than is accepted.",
            Self::FieldsTooLarge => "The fields are more, or larger, than is accepted.",
            Self::ContentTooLarge { bound } => return format!("At most {bound} bytes are accepted.").into(),
            Self::VersionNotSupported => "HTTP/1.0, HTTP/1.1 and HTTP/2 are.",
            Self::ExpectationFailed => "The only expectation that can be met is 100-continue.",
            Self::RequestTimeout => "The rest of the request was waited for in vain.",
            Self::RateLimited(refused) => return refused.detail().into(),
            Self::TooManyInFlight(refused) => return refused.detail_in_flight().into(),
            Self::LimitKeyMissing { limit } => {
                return format!("The limit \"{limit}\" counts by something that the request does not carry.").into();
            }
            Self::UnknownApiKey => "The request carries no API key that is known here.",
            Self::LimitStoreDown { .. } | Self::SessionStoreDown { .. } | Self::PurgeFailed { .. } => {
                "This should pass soon. Try again."
            }
            Self::SessionMissing => "The request carries no session.",
            Self::SessionInvalid => "The session has ended or is unknown. Log in again.",
            Self::SessionElsewhere => "The session began on another device. Log in on this one.",
            Self::LoginNeeded { .. } => "The way leads over the login.",
            Self::SessionForbidden => "The login is valid, but not one of those that are let in here.",
            Self::UpgradeRefused => "This route takes neither WebSockets nor other upgrades.",
            Self::PurgeRefused => "This address is not trusted with it.",
            Self::NotStored => "The request takes only a stored response (only-if-cached).",
            Self::UpstreamRefused => "It refuses connections.",
            Self::UpstreamTimeout { which: "connection_timeout" } => "No connection could be made in time.",
            Self::UpstreamTimeout { which: "connection_write_timeout" } => "It did not take the request in time.",
            Self::UpstreamTimeout { .. } => "The connection stands, but the answer was waited for in vain.",
            Self::UpstreamBroken { error: "http_protocol_error" | "http_response_transfer_coding" } => {
                "What it sent is not valid HTTP."
            }
            Self::UpstreamBroken {
                error: "http_response_header_section_size" | "http_response_trailer_section_size",
            } => "Its answer has more, or larger, fields than is accepted.",
            Self::UpstreamBroken { error: "http_upgrade_failed" } => {
                "It switched to a protocol that was not asked for."
            }
            Self::UpstreamBroken { .. } => "The connection was closed before the answer was complete.",
            Self::SessionOrderMalformed => {
                "Nothing was done about the session. The log says what is wrong with the order."
            }
            Self::UpstreamBusy { .. } => "It has as many requests under way as it takes. Try again.",
            Self::UpstreamOut { .. } => "It has failed too often, and is left alone for a while. Try again.",
            Self::UpstreamUnresolved => "Its host name does not resolve.",
            Self::UpstreamTls { error: "tls_certificate_error" } => "Its certificate is not trusted.",
            Self::UpstreamTls { error: "tls_alert_received" } => "It refused the TLS connection.",
            Self::UpstreamTls { .. } => "The TLS handshake failed.",
        })
    }

    /// RFC 9209 §2.3.
    fn proxy_error(&self) -> Option<&'static str> {
        match self {
            Self::UpstreamRefused => Some("connection_refused"),
            Self::UpstreamTimeout { which } => Some(which),
            Self::UpstreamBroken { error } => Some(error),
            Self::SessionOrderMalformed => Some("http_protocol_error"),
            Self::UpstreamBusy { .. } => Some("connection_limit_reached"),
            Self::UpstreamOut { .. } => Some("destination_unavailable"),
            Self::UpstreamUnresolved => Some("dns_error"),
            Self::UpstreamTls { error } => Some(error),
            _ => None,
        }
    }

    fn retry_after(&self) -> Option<u64> {
        match self {
            Self::RateLimited(refused) | Self::TooManyInFlight(refused) => refused.seconds(),
            Self::LimitStoreDown { retry_after }
            | Self::SessionStoreDown { retry_after }
            | Self::PurgeFailed { retry_after }
            | Self::UpstreamBusy { retry_after }
            | Self::UpstreamOut { retry_after } => Some((*retry_after).max(1)),
            _ => None,
        }
    }

    /// Rule 8.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest { .. }
                | Self::UriTooLong
                | Self::FieldsTooLarge
                | Self::ContentTooLarge { .. }
                | Self::VersionNotSupported
                | Self::ExpectationFailed
                | Self::RequestTimeout
        )
    }

    fn fields(&self, length: usize, media: Media<'_>) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(8);
        let content_type = match media {
            Media::Problem => HeaderValue::from_static("application/problem+json"),
            Media::Page => HeaderValue::from_static("text/html; charset=utf-8"),
            Media::Own(content_type) => content_type.clone(),
        };
        fields.insert(header::CONTENT_TYPE, content_type);
        fields.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
        fields.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        if let Media::Page = media {
            let nothing = HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'");
            fields.insert(header::CONTENT_SECURITY_POLICY, nothing);
        }
        if let Some(seconds) = self.retry_after() {
            fields.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if let Some(value) = self.proxy_error().and_then(|e| format!("sidegate; error={e}").try_into().ok()) {
            fields.insert(PROXY_STATUS, value);
        }
        match self {
            Self::MethodNotAllowed { allow } => {
                if let Ok(allow) = HeaderValue::from_str(allow) {
                    fields.insert(header::ALLOW, allow);
                }
            }
            Self::LoginNeeded { location } => {
                fields.insert(header::LOCATION, location.clone());
            }
            // RFC 6750 §3.1: no error code where no credential was sent.
            Self::SessionMissing => {
                fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"sidegate\""));
            }
            Self::SessionInvalid => {
                let challenge = HeaderValue::from_static("Bearer realm=\"sidegate\", error=\"invalid_token\"");
                fields.insert(header::WWW_AUTHENTICATE, challenge);
            }
            // No scheme is registered for keys in fields of their own; a 401 has to name one (RFC 9110 §11.6.1).
            Self::UnknownApiKey => {
                fields.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey realm=\"sidegate\""));
            }
            _ => {}
        }
        fields
    }

    /// What a limit says that refuses.
    fn refused(&self) -> Option<&Refused> {
        if let Self::RateLimited(refused) | Self::TooManyInFlight(refused) = self { Some(refused) } else { None }
    }
}

fn write_field(bytes: &mut Vec<u8>, name: &str, value: &[u8]) {
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(b": ");
    bytes.extend_from_slice(value);
    bytes.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use http_body::Body as _;

    use super::*;

    fn request(method: Method, accept: &str) -> Request<Body> {
        Request::builder().method(method).header("accept", accept).body(Body::empty()).unwrap()
    }

    fn spent() -> Refused {
        Refused {
            limit: "per-\"address\"".into(),
            quota: "<100> per minute".into(),
            retry_after: Some(7),
            violated: vec!["per-\"address\"".into(), "daily".into()],
            reduced: false,
            refusal: Refusal::default(),
        }
    }

    fn every_variant() -> Vec<LocalReply> {
        use LocalReply::*;
        vec![
            BadRequest { reason: "two Host fields" },
            NoRoute,
            MethodNotAllowed { allow: "GET, HEAD".into() },
            UriTooLong,
            FieldsTooLarge,
            ContentTooLarge { bound: 10 },
            VersionNotSupported,
            ExpectationFailed,
            RequestTimeout,
            RateLimited(Box::new(spent())),
            RateLimited(Box::new(Refused { reduced: true, retry_after: None, ..spent() })),
            TooManyInFlight(Box::new(Refused { retry_after: Some(0), quota: "4 in flight".into(), ..spent() })),
            LimitKeyMissing { limit: "per-key".into() },
            UnknownApiKey,
            LimitStoreDown { retry_after: 0 },
            SessionMissing,
            SessionInvalid,
            SessionElsewhere,
            LoginNeeded { location: HeaderValue::from_static("/login?next=/a") },
            SessionForbidden,
            SessionStoreDown { retry_after: 2 },
            UpgradeRefused,
            PurgeRefused,
            PurgeFailed { retry_after: 1 },
            NotStored,
            UpstreamRefused,
            UpstreamTimeout { which: "connection_timeout" },
            UpstreamTimeout { which: "http_response_timeout" },
            UpstreamBroken { error: "connection_terminated" },
            UpstreamBroken { error: "http_protocol_error" },
            UpstreamBroken { error: "http_upgrade_failed" },
            SessionOrderMalformed,
            UpstreamBusy { retry_after: 1 },
            UpstreamOut { retry_after: 9 },
            UpstreamUnresolved,
            UpstreamTls { error: "tls_certificate_error" },
        ]
    }

    #[test]
    fn every_problem_document_states_type_title_status_and_detail() {
        for reply in every_variant() {
            let document: serde_json::Value = serde_json::from_slice(&reply.json()).unwrap();
            let registered = reply.refused().map(|refused| refused.problem_type().to_owned());
            let expected = registered.unwrap_or_else(|| format!("urn:sidegate:problem:{}", reply.kind()));
            assert_eq!(document["type"], expected);
            assert_eq!(document["status"], reply.status().as_u16());
            assert!(document["title"].is_string() && document["detail"].is_string());
            let response = reply.respond(&request(Method::GET, "*/*"));
            assert_eq!(response.headers()["cache-control"], "no-store");
            assert_eq!(response.headers()["content-type"], "application/problem+json");
            let length = response.body().size_hint().exact().unwrap().to_string();
            assert_eq!(response.headers()["content-length"], length.as_str());
        }
    }

    #[test]
    fn busy_and_limited_answers_say_when_to_try_again_and_never_at_once() {
        for reply in every_variant() {
            let never = reply.refused().is_some_and(|refused| refused.retry_after.is_none());
            let later = matches!(reply.status().as_u16(), 429 | 503) && !never;
            let response = reply.respond(&request(Method::GET, ""));
            let seconds = response.headers().get("retry-after").map(|v| v.to_str().unwrap().parse::<u64>().unwrap());
            assert_eq!(seconds.is_some(), later, "{reply:?}");
            assert!(seconds.is_none_or(|seconds| seconds >= 1));
        }
    }

    #[test]
    fn a_navigation_gets_an_escaped_page_and_a_script_gets_json() {
        let browser = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8";
        let reply = LocalReply::RateLimited(Box::new(spent()));
        let response = reply.respond(&request(Method::GET, browser));
        assert_eq!(response.headers()["content-type"], "text/html; charset=utf-8");
        let page = content_of(response.into_body());
        assert!(page.contains("&lt;100&gt; per minute") && !page.contains("<100>"), "{page}");
        for script in ["*/*", "", "application/json, text/html", "text/html;q=0.2, application/json;q=0.3", "text/*"] {
            let response = reply.respond(&request(Method::GET, script));
            assert_eq!(response.headers()["content-type"], "application/problem+json", "{script}");
        }
    }

    /// Status, RFC 9209 error type, and whether an HTTP/1 connection ends. A new variant needs its line.
    fn expected(reply: &LocalReply) -> (u16, Option<&'static str>, bool) {
        match reply {
            LocalReply::BadRequest { .. } => (400, None, true),
            LocalReply::LimitKeyMissing { .. } => (400, None, false),
            LocalReply::SessionMissing | LocalReply::SessionInvalid | LocalReply::UnknownApiKey => (401, None, false),
            LocalReply::LoginNeeded { .. } => (302, None, false),
            LocalReply::SessionForbidden
            | LocalReply::SessionElsewhere
            | LocalReply::UpgradeRefused
            | LocalReply::PurgeRefused => (403, None, false),
            LocalReply::NoRoute => (404, None, false),
            LocalReply::MethodNotAllowed { .. } => (405, None, false),
            LocalReply::RequestTimeout => (408, None, true),
            LocalReply::ContentTooLarge { .. } => (413, None, true),
            LocalReply::UriTooLong => (414, None, true),
            LocalReply::ExpectationFailed => (417, None, true),
            LocalReply::RateLimited(_) | LocalReply::TooManyInFlight(_) => (429, None, false),
            LocalReply::FieldsTooLarge => (431, None, true),
            LocalReply::UpstreamRefused => (502, Some("connection_refused"), false),
            LocalReply::UpstreamBroken { error } => (502, Some(error), false),
            LocalReply::SessionOrderMalformed => (502, Some("http_protocol_error"), false),
            LocalReply::UpstreamUnresolved => (502, Some("dns_error"), false),
            LocalReply::UpstreamTls { error } => (502, Some(error), false),
            LocalReply::LimitStoreDown { .. }
            | LocalReply::SessionStoreDown { .. }
            | LocalReply::PurgeFailed { .. } => (503, None, false),
            LocalReply::UpstreamBusy { .. } => (503, Some("connection_limit_reached"), false),
            LocalReply::UpstreamOut { .. } => (503, Some("destination_unavailable"), false),
            LocalReply::UpstreamTimeout { which } => (504, Some(which), false),
            LocalReply::NotStored => (504, None, false),
            LocalReply::VersionNotSupported => (505, None, true),
        }
    }

    /// RFC 9209 §2.3: the types that say something about the app, and the status each recommends.
    const PROXY_ERRORS: [(&str, u16); 21] = [
        ("dns_timeout", 504),
        ("dns_error", 502),
        ("destination_unavailable", 503),
        ("connection_refused", 502),
        ("connection_terminated", 502),
        ("connection_timeout", 504),
        ("connection_read_timeout", 504),
        ("connection_write_timeout", 504),
        ("connection_limit_reached", 503),
        ("tls_protocol_error", 502),
        ("tls_certificate_error", 502),
        ("tls_alert_received", 502),
        ("http_response_incomplete", 502),
        ("http_response_header_section_size", 502),
        ("http_response_header_size", 502),
        ("http_response_body_size", 502),
        ("http_response_transfer_coding", 502),
        ("http_response_content_coding", 502),
        ("http_response_timeout", 504),
        ("http_upgrade_failed", 502),
        ("http_protocol_error", 502),
    ];

    #[test]
    fn every_answer_has_its_status_its_error_type_and_says_what_a_person_and_a_machine_can_read() {
        let browser = "text/html,application/xhtml+xml,*/*;q=0.8";
        for reply in every_variant() {
            let (status, error, closes) = expected(&reply);
            let machine = reply.respond(&request(Method::GET, "application/json"));
            assert_eq!(machine.status().as_u16(), status, "{reply:?}");
            let proxy_status = error.map(|error| format!("sidegate; error={error}"));
            let sent = machine.headers().get("proxy-status").map(|value| value.to_str().unwrap().to_owned());
            assert_eq!(sent, proxy_status, "{reply:?}");
            assert_eq!(machine.headers().contains_key("connection"), closes, "{reply:?}");
            if let Some(error) = error {
                assert!(PROXY_ERRORS.contains(&(error, status)), "{error} with {status}");
            }
            let person = reply.respond(&request(Method::GET, browser));
            assert_eq!(person.headers()["content-type"], "text/html; charset=utf-8");
            let page = content_of(person.into_body());
            let detail = reply.refused().map_or_else(|| reply.detail().into_owned(), Refused::allowance);
            let detail = page::escaped(&detail);
            assert!(page.contains(&detail) && page.contains(&format!("<small>{status}")), "{page}");
        }
    }

    #[test]
    fn both_contents_name_the_request_and_the_length_says_so() {
        let id = HeaderValue::from_static("a\"<b");
        for (accept, named) in [("", r#","request_id":"a\"<b"}"#), ("text/html", " · request a&quot;&lt;b</small>")] {
            for method in [Method::GET, Method::HEAD] {
                let reply = LocalReply::RateLimited(Box::new(spent()));
                let mut response = reply.respond(&request(method.clone(), accept));
                name(&mut response, &id);
                let length: u64 = response.headers()["content-length"].to_str().unwrap().parse().unwrap();
                let content = content_of(response.into_body());
                match method {
                    Method::HEAD => assert!(content.is_empty() && length > 100),
                    _ => {
                        assert!(content.contains(named), "{content}");
                        assert_eq!(length, content.len() as u64);
                    }
                }
            }
        }
    }

    /// The content of an answer of ours, which is there at once.
    fn content_of(body: Body) -> String {
        use http_body_util::BodyExt as _;
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let bytes = runtime.block_on(body.collect()).unwrap().to_bytes();
        String::from_utf8(bytes.to_vec()).unwrap()
    }

    #[test]
    fn head_gets_the_fields_of_get_and_no_content() {
        let reply = LocalReply::NoRoute;
        let get = reply.respond(&request(Method::GET, ""));
        let head = reply.respond(&request(Method::HEAD, ""));
        assert_eq!(get.headers(), head.headers());
        assert_eq!(head.body().size_hint().exact(), Some(0));
    }

    #[test]
    fn only_a_sent_credential_is_called_invalid() {
        let missing = LocalReply::SessionMissing.respond(&request(Method::GET, ""));
        assert_eq!(missing.headers()["www-authenticate"], "Bearer realm=\"sidegate\"");
        let invalid = LocalReply::SessionInvalid.respond(&request(Method::GET, ""));
        assert_eq!(invalid.headers()["www-authenticate"], "Bearer realm=\"sidegate\", error=\"invalid_token\"");
        for reply in every_variant() {
            let response = reply.respond(&request(Method::GET, ""));
            let challenged = response.headers().contains_key("www-authenticate");
            assert_eq!(challenged, response.status() == StatusCode::UNAUTHORIZED, "RFC 9110 §15.5.2: {reply:?}");
        }
    }

    #[test]
    fn failures_of_the_app_carry_their_proxy_error_type() {
        for reply in every_variant().into_iter().filter(|reply| reply.kind().starts_with("upstream-")) {
            let response = reply.respond(&request(Method::GET, ""));
            let expected = format!("sidegate; error={}", reply.proxy_error().unwrap());
            assert_eq!(response.headers()["proxy-status"], expected.as_str());
        }
    }

    #[test]
    fn refusal_of_a_bad_head_is_a_whole_answer_that_ends_the_connection() {
        let text = String::from_utf8(LocalReply::BadRequest { reason: "bare CR" }.raw_http1(None)).unwrap();
        let (head, content) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{head}");
        assert!(head.contains("\r\nconnection: close") && head.contains("\r\ndate: "), "{head}");
        assert!(head.contains(&format!("\r\ncontent-length: {}", content.len())), "{head}");
        assert!(content.contains("bare CR"));
    }

    #[test]
    fn unread_content_ends_an_http1_connection_but_is_no_matter_for_http2() {
        let mut asked = request(Method::POST, "");
        let reply = LocalReply::ContentTooLarge { bound: 1 };
        assert_eq!(reply.respond(&asked).headers()["connection"], "close");
        *asked.version_mut() = Version::HTTP_2;
        assert!(!reply.respond(&asked).headers().contains_key("connection"));
    }
}
