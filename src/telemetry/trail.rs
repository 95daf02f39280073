//! What was decided about one request, and why.
//!
//! Each layer writes its own part; the access log, the metrics and the debug fields read it. Labels are `&'static str`
//! wherever the set of values is closed, so that writing one costs a store and no client's value can become a label.

use std::cell::RefCell;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::uri::PathAndQuery;
use http::{HeaderValue, Method, StatusCode, Version};

/// A request's [`Record`], shared by the layers that write it.
pub type Trail = Rc<RefCell<Record>>;

/// Everything the access log says about one request.
#[derive(Debug)]
pub struct Record {
    /// When its head had been read.
    pub started: Instant,
    /// Names it in logs, in the app and to the client (`X-Request-Id`).
    pub request_id: Option<HeaderValue>,
    /// Its method.
    pub method: Method,
    /// Its path and query as sent; shown only redacted.
    pub target: Option<PathAndQuery>,
    /// Its protocol version.
    pub version: Version,
    /// The authority it was sent to: `:authority`, an absolute target's, or `Host`; as sent. Kept only if it is logged.
    pub host: Option<HeaderValue>,
    /// Who called.
    pub client: Option<IpAddr>,
    /// The route that matched.
    pub route: Option<Arc<str>>,
    /// Its place in the list of routes that [`Telemetry`](super::Telemetry) was made with: finds its counters.
    pub route_index: Option<usize>,
    /// How the client's plan was found: `hit`, `found`, `unknown`, `malformed`, `last_known`, `unavailable`, `absent`.
    pub plan: Option<&'static str>,
    /// The limit nearest to refusal.
    pub limit: Option<LimitTrail>,
    /// `valid`, `anonymous`, `absent`, `expired`, `rejected`, `unknown`.
    pub session: Option<&'static str>,
    /// Why, where it is not obvious.
    pub session_reason: Option<&'static str>,
    /// `mismatch`: from another device than the session's; `unknown`: Redis did not tell which that is.
    pub session_device: Option<&'static str>,
    /// A keyed digest of the session identifier.
    pub session_digest: Option<Arc<str>>,
    /// The status that it would have been answered with, were the session not only observed.
    pub session_would: Option<StatusCode>,
    /// The user, if logged in.
    pub user: Option<String>,
    /// `hit`, `miss`, `bypass` … as in `X-Cache`, lower case.
    pub cache: Option<&'static str>,
    /// Why it was not reused or not stored.
    pub cache_reason: Option<&'static str>,
    /// The upstream it was forwarded to.
    pub upstream: Option<Arc<str>>,
    /// The endpoint of it that was asked last, where there are several.
    pub endpoint: Option<Arc<str>>,
    /// From handing the request to the app to the head of its answer.
    pub upstream_time: Option<Duration>,
    /// What went wrong with the app (RFC 9209 type).
    pub upstream_error: Option<&'static str>,
    /// How often it was sent to the app beyond the first time.
    pub retries: u32,
    /// The local reply, if it was answered here: its problem type.
    pub local_reply: Option<&'static str>,
    /// Why, where its type does not say it.
    pub local_reply_reason: Option<&'static str>,
    /// The status sent.
    pub status: Option<StatusCode>,
    /// Bytes of content sent to the client.
    pub sent: u64,
    /// From the request's head to the head of the answer.
    pub head_time: Option<Duration>,
}

/// The decision of the limit nearest to refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitTrail {
    /// The limit's name.
    pub name: Arc<str>,
    /// Whether the request was refused by it.
    pub refused: bool,
    /// What is left after this request, in quota units.
    pub remaining: u64,
    /// Where it was counted: `redis`, `leased` (in memory, out of what was taken ahead in Redis), `remembered` (in memory, as
    /// Redis said a moment ago), `memory`, `local` (memory because Redis is away), `open`, `closed`.
    pub counted: &'static str,
}

impl Record {
    /// A record of a request that has just arrived.
    pub fn new(started: Instant, method: Method, target: Option<PathAndQuery>, version: Version) -> Self {
        Self {
            started,
            request_id: None,
            method,
            target,
            version,
            host: None,
            client: None,
            route: None,
            route_index: None,
            plan: None,
            limit: None,
            session: None,
            session_reason: None,
            session_device: None,
            session_digest: None,
            session_would: None,
            user: None,
            cache: None,
            cache_reason: None,
            upstream: None,
            endpoint: None,
            upstream_time: None,
            upstream_error: None,
            retries: 0,
            local_reply: None,
            local_reply_reason: None,
            status: None,
            sent: 0,
            head_time: None,
        }
    }
}
