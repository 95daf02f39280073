//! What is promised to the client of an API key that an operator names.
//!
//! # Why
//! It is asked of Redis itself, not of what is remembered: an operator who has just changed a record sees what it says now.
//! It is read as for a request, so that both come to the same terms.

use std::slice::from_ref;
use std::sync::Arc;

use redis::{Pipeline, Value};

use super::presented::{Name, is_possible};
use super::record::{Said, said};
use crate::exchange::Entitlement;
use crate::rate_limit::{Limit, Plan};
use crate::redis_pool::Link;

/// What the record of the API key `key` gives under `limit`, which goes by `plan`; `None`: there is no record.
///
/// # Errors
/// A word: Redis does not answer, or refuses.
pub async fn promised(
    plan: &Plan,
    key: &[u8],
    limit: &Arc<Limit>,
    link: &Link,
) -> Result<Option<Entitlement>, &'static str> {
    if !is_possible(key) {
        return Ok(None);
    }
    let (mut name, mut pipeline) = (Vec::new(), Pipeline::with_capacity(1));
    Name::new(&plan.record).write(key, &mut name);
    pipeline.cmd("HGETALL").arg(name);
    let values = link.query(&pipeline).await?;
    match said(values.first().unwrap_or(&Value::Nil), from_ref(limit)) {
        Said::Record(entitlement, _) => Ok(Some(entitlement)),
        Said::Nothing | Said::NoRecord => Ok(None),
        Said::Unavailable => Err("plan"),
    }
}
