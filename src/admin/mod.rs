//! Its own listener for operators: health, metrics, reload. On a thread of its own, so that no scrape stalls a worker.
//!
//! | | |
//! |---|---|
//! | `GET /` | what there is |
//! | `GET /metrics` | Prometheus text format 0.0.4 |
//! | `GET /livez` | 200 while the process answers |
//! | `GET /readyz` | JSON; 200 ready, 503 not: see [`Health`] |
//! | `POST /reload` | reads the configuration again; 200 with what changed, 422 with the errors |
//! | `/limits…` | what operators ask of limits: see [`limits`] |
//! | `/sessions…` | what operators ask of sessions: see [`sessions`] |
//! | `POST /cache/purge` | stored responses are taken back: see [`Wanted`](crate::cache::purge::Wanted) |
//! | `POST /explain` | what would become of a request, and why: see [`explain`] |
//!
//! 1. Every request passes [`guard`]: where it was sent to, what page it comes from, whether it has the token.
//! 2. Without the token, health is still told, but only in one word: probes of a container have no token.
//! 3. It is bounded ([`Settings`]): in connections, of one request each, in the time for its head and for all of it, and in what is
//!    read of its content. One connection more, and the oldest of those that have not asked yet is dropped for it: silence keeps
//!    nobody out.
//!
//! # Why
//! Operators and their tools need it most when the process is in trouble. It shares nothing with the workers but
//! counters, and a client that holds it up cannot hold up the proxy.

pub mod explain;
pub mod guard;
mod health;
pub mod limits;
mod process;
mod server;
pub mod sessions;

pub use health::{Health, Probe, REDIS_DOWN, REDIS_NO_DATABASE, REDIS_NONE, REDIS_UP};
pub use server::{Handle, spawn};

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::sync::oneshot;

use crate::cache::purge;
use crate::rate_limit::operate::{self, Trouble};
use crate::session;
use crate::telemetry::registry::Registry;

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where; `None`: no admin listener (`listen = "off"`).
    pub listen: Option<SocketAddr>,
    /// Required off loopback.
    pub token: Option<SecretString>,
    /// `server.share_port`: a successor may listen here as well.
    pub share_port: bool,
    /// Open connections; at least 1.
    pub max_connections: usize,
    /// How long a request may take.
    pub timeouts: Timeouts,
    /// Bytes of a request's content.
    pub max_body: usize,
}

/// `[admin] timeouts`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the connection to the end of the request's head.
    pub header: Duration,
    /// From the connection to the end of the answer.
    pub total: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            listen: Some(SocketAddr::from(([127, 0, 0, 1], 9901))),
            token: None,
            share_port: false,
            max_connections: 64,
            timeouts: Timeouts { header: Duration::from_secs(5), total: Duration::from_secs(30) },
            max_body: 64 << 10,
        }
    }
}

/// Reads the configuration again: says what changed, or in a text for people why the old one stays. It may take its
/// time, and may be called again before it has returned.
pub type Reload = Box<dyn Fn() -> Result<Vec<String>, String> + Send + Sync>;

/// What an operator wants done by a worker.
#[derive(Debug)]
pub enum Order {
    /// Something about limits.
    Limits(operate::Order),
    /// Something about sessions.
    Sessions(session::operate::Order),
    /// Stored responses are taken back.
    Purge(purge::Order),
    /// To know what would become of a request.
    Explain(Box<explain::Asked>),
}

/// Carries out an order; the answer comes when it comes, or never if nobody is there.
pub type Orders = Box<dyn Fn(Order) -> oneshot::Receiver<Result<serde_json::Value, Trouble>> + Send + Sync>;

/// What the listener shows and does.
pub struct State {
    /// For `/metrics`.
    pub registry: Arc<Registry>,
    /// For `/readyz`.
    pub health: Arc<Health>,
    /// For `/reload`.
    pub reload: Reload,
    /// For `/limits`, `/sessions`, `/cache/purge` and `/explain`.
    pub orders: Orders,
}
