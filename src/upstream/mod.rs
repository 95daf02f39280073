//! Forwards to the app and brings back its answer.
//!
//! `pool` has the connections, `connect` opens them, `forward` sends and receives over them, `content` is what passes,
//! `hop` (pure) says which fields may, `watchdog` keeps the deadlines.

mod connect;
mod content;
pub mod forward;
pub mod hop;
mod pool;
pub mod watchdog;

use std::cell::Cell;
use std::io;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderValue;
use parking_lot::Mutex;

use crate::telemetry::registry::{Counter, Gauge, Registry};
use connect::Connector;
use pool::Pool;
use watchdog::Watchdog;

/// `[upstream.NAME]`: the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// NAME.
    pub name: Arc<str>,
    /// Its endpoints, taken in turn; at least one.
    pub servers: Vec<Server>,
    /// How long it may take.
    pub timeouts: Timeouts,
    /// Connections to it, over all workers.
    pub max_connections: usize,
    /// Requests that wait for a connection, over all workers; more are answered 503.
    pub max_pending: usize,
    /// How long a request may wait for a connection; then 503.
    pub queue_timeout: Duration,
    /// How often an idempotent request is sent again when a connection is closed under us.
    pub retries: u32,
    /// How long the client of an `Expect: 100-continue` may be kept waiting for the app's word.
    pub expect_timeout: Duration,
}

/// One endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Server {
    /// Speaks TLS.
    pub tls: bool,
    /// Where it is.
    pub place: Place,
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
        let scheme = if self.tls { "https" } else { "http" };
        match &self.place {
            Place::Tcp(host, port) if host.contains(':') => write!(f, "{scheme}://[{host}]:{port}"),
            Place::Tcp(host, port) => write!(f, "{scheme}://{host}:{port}"),
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
            timeouts: Timeouts::default(),
            max_connections: 1024,
            max_pending: 1024,
            queue_timeout: Duration::from_secs(5),
            retries: 2,
            expect_timeout: Duration::from_secs(1),
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
    retries: u32,
    metrics: Metrics,
    health: Arc<Health>,
    /// The last answer was a failure; what is shared is written only when this changes.
    sick: Cell<bool>,
    on_error: Rc<dyn Fn(&'static str)>,
}

struct Metrics {
    retries: Counter,
    tunnels: Gauge,
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
    /// A worker's way to the app of `settings`; `health` is shared by the workers.
    ///
    /// # Errors
    /// TLS is asked for and cannot be had.
    pub fn new(
        settings: &Settings,
        health: Arc<Health>,
        watchdog: Rc<Watchdog>,
        registry: &Arc<Registry>,
        (worker, workers): (usize, usize),
    ) -> io::Result<Rc<Self>> {
        let connector = Connector::new(&settings.servers)?;
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
        let help = "Requests sent to the app again after a connection was closed under them.";
        Ok(Rc::new(Self {
            pool: Pool::new(settings, workers, connector, watchdog.clone(), registry, worker),
            watchdog,
            first_byte: settings.timeouts.first_byte,
            expect_timeout: settings.expect_timeout,
            idle: Some(settings.timeouts.idle).filter(|idle| !idle.is_zero()),
            total: settings.timeouts.total,
            retries: settings.retries,
            metrics: Metrics {
                retries: registry.counter(worker, "sidegate_upstream_retries_total", help, &labels),
                tunnels: registry.gauge(worker, "sidegate_upstream_tunnels", "WebSockets that are open.", &labels),
            },
            name,
            authority: settings.servers.first().map_or(HeaderValue::from_static("localhost"), Server::authority),
            health,
            sick: Cell::new(false),
            on_error: Rc::new(on_error),
        }))
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
