//! One connection to each master, for as long as a census takes.

use std::time::Duration;

use crate::redis_pool::connect::{self, Leased, Place};
use crate::redis_pool::fault::Fault;
use crate::redis_pool::{Settings, topology};

/// Connections to all masters; an answer over one is waited for at most `limit`.
///
/// # Errors
/// A word that says why there is none to one of them (`fault`).
pub async fn masters(settings: &Settings, limit: Duration) -> Result<Vec<Leased>, &'static str> {
    let settings = Settings { timeout: limit, ..settings.clone() };
    let mut masters = Vec::new();
    for endpoint in topology::masters(&settings.server, limit).await? {
        let pool = connect::pool(Place::Fixed(endpoint), &settings, &[]);
        masters.push(pool.dedicated_connection().await.map_err(Fault::word)?);
    }
    Ok(masters)
}
