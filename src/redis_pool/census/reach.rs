//! One connection to each master, for as long as a census takes.

use std::time::Duration;

use crate::redis_pool::connect::{self, Leased, word};
use crate::redis_pool::{Settings, topology};

/// Connections to all masters; an answer over one is waited for at most `limit`.
///
/// # Errors
/// A word that says why there is none.
pub async fn masters(settings: &Settings, limit: Duration) -> Result<Vec<Leased>, String> {
    let settings = Settings { timeout: limit, ..settings.clone() };
    let mut masters = Vec::new();
    for endpoint in topology::masters(&settings.server, limit).await? {
        let pool = connect::pool(endpoint, &settings, &[]);
        masters.push(pool.dedicated_connection().await.map_err(|error| word(&error).to_owned())?);
    }
    Ok(masters)
}
