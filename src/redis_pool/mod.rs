//! The only place that opens Redis.

mod link;

pub use link::Link;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

/// `[redis]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `redis://`, `rediss://` or `unix://`, with user, password and database. Never shown: see [`Settings::shown`].
    pub url: SecretString,
    /// Before every key of limits and cache.
    pub prefix: String,
    /// How long anything a request waits for may take.
    pub timeout: Duration,
    /// Connections of each worker.
    pub connections: u32,
}

impl Settings {
    /// The URL without its credentials.
    pub fn shown(&self) -> String {
        let url = self.url.expose_secret();
        match (url.split_once("://"), url.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
            _ => url.to_owned(),
        }
    }
}
