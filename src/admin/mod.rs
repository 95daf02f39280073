//! Its own listener for operators: health, metrics, API.

use std::net::SocketAddr;

use secrecy::SecretString;

/// `[admin]`.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where; `None`: no admin listener (`listen = "off"`).
    pub listen: Option<SocketAddr>,
    /// Required off loopback.
    pub token: Option<SecretString>,
}

impl Default for Settings {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9901))), token: None }
    }
}
