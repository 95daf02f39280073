//! One connection to each master, for as long as a census takes.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client};
use secrecy::ExposeSecret;

use crate::redis_pool::Settings;
use crate::redis_pool::connect::word;

/// Connections to all masters; each, and each answer over it, is waited for at most `limit`.
///
/// # Errors
/// A word that says why there is none.
pub async fn masters(settings: &Settings, limit: Duration) -> Result<Vec<MultiplexedConnection>, String> {
    let config = AsyncConnectionConfig::new().set_connection_timeout(Some(limit)).set_response_timeout(Some(limit));
    let client = Client::open(settings.url.expose_secret()).map_err(|_| "url")?;
    let connection = client.get_multiplexed_async_connection_with_config(&config).await;
    Ok(vec![connection.map_err(|error| word(&error).to_owned())?])
}
