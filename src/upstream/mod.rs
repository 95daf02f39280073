//! Forwards to the app and brings back its answer.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

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
