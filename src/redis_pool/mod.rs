//! The only place that opens Redis.
//!
//! 1. Each worker has a [`Link`] of its own, and through it a `node` for each endpoint. A node's connections live in a bb8
//!    pool, which makes them, bounds their number and throws broken ones away; a task leases each for as long as it works.
//! 2. A request never checks a connection out: it clones a handle onto one that is leased (`lane`), so that the requests
//!    of one turn of the event loop share a write and a read.
//! 3. Redis away: the first request that finds out, by error or time-out, opens the breaker, and with it frees every
//!    request that waits; later ones are refused at once (`down`). Only the task tries again.
//! 4. Whatever Redis says has a decided kind and effect (`fault`), a counter, and a line in the log that no number of
//!    requests makes more than one a minute.
//! 5. A script that Redis has forgotten (`SCRIPT FLUSH`, fail-over) is loaded again, and only the commands that missed it
//!    are sent again.
//! 6. What nobody waits for is bounded by count and by bytes, and dropped beyond.
//! 7. Credentials are never shown.
//! 8. A replica is asked only by who says so ([`Link::replica`]), beside the master and never instead of it (`replicas`).
//!
//! # Why
//! Checking a connection out of bb8 for each request costs 13 µs, a clone of a leased one 2.8 µs: no PING first, and
//! batching. And while Redis is gone a checkout waits for its time-out, request after request.

mod absence;
pub mod address;
mod backoff;
pub mod bounded;
pub mod census;
mod cluster;
pub mod coherence;
mod complaints;
mod connect;
pub mod fault;
pub mod fleet;
pub mod key;
mod lane;
mod link;
mod metrics;
pub mod near;
mod node;
mod redirect;
mod replicas;
mod resp;
mod sentinel;
pub mod slots;
mod split;
mod standing;
pub mod tls;
pub mod topology;
pub mod tracking;
pub mod transport;

pub use link::{CONNECTING, DOWN, Link, NO_DATABASE, Shard, UP};
pub use replicas::{Replica, ReplicaReads};
pub use split::{text, why_unanswered};

use std::time::Duration;

use self::address::{Address, Server};

/// `[redis]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where, and as whom. Shown without its logins.
    pub server: Server,
    /// Before every key of ours, and the name of our channel.
    pub prefix: String,
    /// How long anything a request waits for may take.
    pub timeout: Duration,
    /// How long a connection may take to come about, at least `timeout`: name, TCP, TLS and login take several trips, and no request
    /// waits.
    pub connect_timeout: Duration,
    /// How long a worker waits for a Redis that is new to it, at its start and at a reload, before it takes requests.
    pub start_wait: Duration,
    /// Connections of each worker to each endpoint.
    pub connections: u32,
    /// When an endpoint is given up, and when it is tried again.
    pub breaker: Breaker,
    /// Pipelines sent without waiting that may be unanswered, of each worker.
    pub max_sends: usize,
    /// The bytes of those, of each worker.
    pub max_send_bytes: usize,
    /// What may be read from replicas, where it is known who they are.
    pub replicas: ReplicaReads,
}

/// `[redis] breaker`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Breaker {
    /// Time-outs in a row, without an answer between them, that open it.
    pub failures: u32,
    /// The wait before the first trial.
    pub first_wait: Duration,
    /// The wait before any trial, at most: it doubles from trial to trial.
    pub longest_wait: Duration,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { failures: 1, first_wait: Duration::from_millis(50), longest_wait: Duration::from_secs(1) }
    }
}

impl Settings {
    /// All but `server` as it is if the file does not say it.
    pub fn new(server: Server) -> Self {
        Self {
            server,
            prefix: "sidegate:".into(),
            timeout: Duration::from_millis(50),
            connect_timeout: Duration::from_secs(1),
            start_wait: Duration::from_millis(500),
            connections: 1,
            breaker: Breaker::default(),
            max_sends: 1024,
            max_send_bytes: 16 << 20,
            replicas: ReplicaReads::Never,
        }
    }

    /// As [`Settings::new`], of a URL without TLS: which certificates to believe is for the configuration to say.
    ///
    /// # Errors
    /// A sentence that repeats nothing of the URL.
    pub fn of_url(url: &str) -> Result<Self, &'static str> {
        let address: Address = url.parse()?;
        if address.tls { Err("this URL needs TLS") } else { Ok(Self::new(address.with_tls(None))) }
    }

    /// How long a connection may take to come about.
    pub(crate) fn connecting(&self) -> Duration {
        self.connect_timeout.max(self.timeout)
    }

    /// The URL without its credentials.
    pub fn shown(&self) -> String {
        self.server.to_string()
    }
}
