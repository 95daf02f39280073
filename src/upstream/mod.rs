//! Forwards to the app and brings back its answer.
//!
//! `pool` has the connections, `connect` opens them, `sender` is one of them by protocol, `http1` and `http2` speak over
//! it, `forward` decides what is sent and what is made of the answer, `content` is what the client sends, `hop` (pure) says
//! which fields may pass, `waiting` and `patience` say how long an answer's head and its content may take, `watchdog` keeps
//! the deadlines, `tls` says whom to believe.
//!
//! Where there are several endpoints: `roster` knows them for all workers, `tend` resolves and checks them, `balance`
//! (pure) chooses one, `standing` (pure) says how much each is used, after what `health` and `breaker` (both pure) make
//! of checks and failures; `retry` (pure) says when a request may be sent again, `tries` keeps count of it.

pub mod balance;
pub mod breaker;
mod connect;
mod content;
pub mod endpoint;
pub mod forward;
pub mod health;
pub mod hop;
pub mod http1;
pub mod http2;
mod patience;
mod pool;
mod probe;
mod proxy_protocol;
mod queue;
pub mod retry;
pub mod rewrite;
pub mod roster;
mod sender;
mod standing;
mod tend;
pub mod tls;
mod tries;
mod waiting;
pub mod watchdog;
mod websocket;

use std::cell::Cell;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;

use crate::telemetry::registry::{Gauge, Registry};
use balance::Balance;
use connect::Connector;
use pool::Pool;
use roster::Roster;
pub use tend::tend;
use tries::Retries;
use watchdog::Watchdog;

/// `[upstream.NAME]`: the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// NAME.
    pub name: Arc<str>,
    /// Its endpoints; at least one. A host name is as many as it has addresses.
    pub servers: Vec<Server>,
    /// How one of them is chosen.
    pub balance: Balance,
    /// How often host names are resolved again.
    pub dns_refresh: Duration,
    /// Addresses of one host name that are used.
    pub max_addresses: usize,
    /// How endpoints are asked whether they are well.
    pub health_check: Option<health::Check>,
    /// When endpoints that fail are left out.
    pub breaker: breaker::Policy,
    /// How long an endpoint that is new, or well again, takes to get its whole share.
    pub slow_start: Option<Duration>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Connections to it, over all workers.
    pub max_connections: usize,
    /// Connections to each endpoint, over all workers.
    pub max_connections_per_endpoint: usize,
    /// Connections that are opened ahead, over all workers.
    pub warm_connections: usize,
    /// Requests that wait for a connection, over all workers; more are answered 503.
    pub max_pending: usize,
    /// How long a request may wait for a connection; then 503.
    pub queue_timeout: Duration,
    /// When a request is sent again.
    pub retries: retry::Policy,
    /// How long the client of an `Expect: 100-continue` may be kept waiting for the app's word.
    pub expect_timeout: Duration,
    /// How endpoints that speak TLS are verified; there if there is one.
    pub tls: Option<tls::Secured>,
    /// HTTP/2 to those that speak it.
    pub http2: http2::Settings,
    /// Each connection begins with a PROXY protocol header (version 2), and carries one request.
    pub proxy_protocol: bool,
    /// How large its answers' heads may be, and how many come first.
    pub answers: AnswerBounds,
}

/// Bounds of what comes before an answer's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerBounds {
    /// How large their heads may be; larger: 502.
    pub head: http1::Bounds,
    /// Interim answers (1xx) to one request; more: 502.
    pub most_interim: usize,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Speaks TLS.
    pub tls: bool,
    /// Speaks HTTP/2 in cleartext, which is known beforehand (RFC 9113 §3.3).
    pub http2: bool,
    /// Where it is.
    pub place: Place,
    /// Its share of the requests, against those of the others.
    pub weight: u32,
}

impl Server {
    /// Whether it is the same place, spoken to in the same way, whatever its weight.
    pub fn is_same(&self, other: &Self) -> bool {
        (self.tls, self.http2, &self.place) == (other.tls, other.http2, &other.place)
    }
}

/// Where an endpoint is.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Host name or address (without brackets), and port.
    Tcp(String, u16),
    /// Path of a Unix socket.
    Unix(PathBuf),
}

/// How long the app may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// For a connection, with its TLS handshake.
    pub connect: Duration,
    /// From the end of the request to the head of the answer.
    pub first_byte: Duration,
    /// Between two pieces of the answer's content. Event streams and tunnels are exempt (`0s`: no bound).
    pub idle: Duration,
    /// How long an unused connection is kept; shorter than the app's own time-out.
    pub keep_alive: Duration,
    /// From the request to the end of the answer; `None`: no bound.
    pub total: Option<Duration>,
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = match (self.tls, self.http2) {
            (true, _) => "https",
            (false, true) => "h2c",
            (false, false) => "http",
        };
        match &self.place {
            Place::Tcp(host, port) if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            Place::Tcp(host, port) => write!(f, "{scheme}://{host}:{port}"),
            Place::Unix(path) if self.http2 => write!(f, "h2c+unix:{}", path.display()),
            Place::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(2),
            first_byte: Duration::from_secs(30),
            idle: Duration::from_secs(60),
            keep_alive: Duration::from_secs(4),
            total: None,
        }
    }
}

impl Server {
    /// Host and port, as the Host field has them; of a Unix socket `localhost`.
    fn authority(&self) -> HeaderValue {
        let text = match &self.place {
            Place::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
            Place::Tcp(host, port) => format!("{host}:{port}"),
            Place::Unix(_) => "localhost".to_owned(),
        };
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("localhost"))
    }
}

impl Settings {
    /// The defaults, for an app called `name` at `servers`.
    pub fn new(name: &str, servers: Vec<Server>) -> Self {
        Self {
            name: name.into(),
            servers,
            balance: Balance::default(),
            dns_refresh: Duration::from_secs(10),
            max_addresses: 64,
            health_check: None,
            breaker: breaker::Policy::default(),
            slow_start: None,
            timeouts: Timeouts::default(),
            max_connections: 1024,
            max_connections_per_endpoint: 1024,
            warm_connections: 0,
            max_pending: 1024,
            queue_timeout: Duration::from_secs(5),
            retries: retry::Policy::default(),
            expect_timeout: Duration::from_secs(1),
            tls: None,
            http2: http2::Settings::default(),
            proxy_protocol: false,
            answers: AnswerBounds {
                head: http1::Bounds { largest_head: 64 * 1024, most_fields: 256 },
                most_interim: 16,
            },
        }
    }
}

/// A worker's way to one app.
pub struct Upstream {
    name: Arc<str>,
    /// What a request is for that does not say.
    authority: HeaderValue,
    pool: Rc<Pool>,
    watchdog: Rc<Watchdog>,
    first_byte: Duration,
    expect_timeout: Duration,
    idle: Option<Duration>,
    total: Option<Duration>,
    retries: Rc<Retries>,
    answers: AnswerBounds,
    /// Where this worker reads the app's answers to.
    reading: http1::Reading,
    tunnels: Gauge,
    health: Arc<Health>,
    /// The last answer was a failure; what is shared is written only when this changes.
    sick: Cell<bool>,
    on_error: Box<dyn Fn(&'static str)>,
}

/// What is known of an app, over all workers; for probes and logs.
#[derive(Debug, Default)]
pub struct Health {
    /// Failures since the last answer.
    failures: AtomicU64,
    last_error: Mutex<Option<&'static str>>,
}

impl Health {
    /// The last failure (RFC 9209 type) if nothing was answered since.
    pub fn failing(&self) -> Option<&'static str> {
        if self.failures.load(Ordering::Relaxed) == 0 { None } else { *self.last_error.lock() }
    }

    fn failed(&self, name: &str, error: &'static str) {
        *self.last_error.lock() = Some(error);
        if self.failures.fetch_add(1, Ordering::Relaxed) == 0 {
            tracing::warn!(upstream = name, error, "the app does not answer");
        }
    }

    fn answered(&self, name: &str) {
        if self.failures.swap(0, Ordering::Relaxed) > 0 {
            tracing::info!(upstream = name, "the app answers again");
        }
    }
}

impl Upstream {
    /// A worker's way to the app of `settings`; `roster`, which belongs to them, is shared by the workers.
    pub fn new(
        settings: &Settings,
        roster: Arc<Roster>,
        watchdog: Rc<Watchdog>,
        registry: &Arc<Registry>,
        (worker, workers): (usize, usize),
    ) -> Rc<Self> {
        let health = roster.health.clone();
        let connector = Connector::new(settings);
        let name = settings.name.clone();
        let labels = [("upstream", &*name)];
        let (errors, counted, shared) = (registry.clone(), name.clone(), health.clone());
        let on_error = move |error: &'static str| {
            let labels = [("upstream", &*counted), ("error", error)];
            errors
                .counter(worker, "sidegate_upstream_errors_total", "Failures of the app, by RFC 9209 type.", &labels)
                .inc();
            shared.failed(&counted, error);
        };
        let place = (worker, workers);
        Rc::new(Self {
            pool: Pool::new(settings, roster, connector, watchdog.clone(), registry, place),
            retries: Retries::new(settings, watchdog.clone(), registry, place),
            watchdog,
            first_byte: settings.timeouts.first_byte,
            expect_timeout: settings.expect_timeout,
            idle: Some(settings.timeouts.idle).filter(|idle| !idle.is_zero()),
            total: settings.timeouts.total,
            answers: settings.answers,
            reading: http1::Reading::default(),
            tunnels: registry.gauge(worker, "sidegate_upstream_tunnels", "WebSockets that are open.", &labels),
            name,
            authority: settings.servers.first().map_or(HeaderValue::from_static("localhost"), Server::authority),
            health,
            sick: Cell::new(false),
            on_error: Box::new(on_error),
        })
    }

    fn failed(&self, error: &'static str) {
        self.sick.set(true);
        (self.on_error)(error);
    }

    fn answered(&self) {
        if self.sick.replace(false) || self.health.failures.load(Ordering::Relaxed) > 0 {
            self.health.answered(&self.name);
        }
    }
}
