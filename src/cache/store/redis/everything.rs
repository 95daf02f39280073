//! Takes back everything that is stored: what is owed after an outage in which too much was written to be remembered one
//! by one.

use redis::{Pipeline, Value};

use super::{BATCH, RedisStore};
use crate::cache::store::names::every_generation;
use crate::redis_pool::Shard;
use crate::redis_pool::near::Tier as _;

impl RedisStore {
    /// Deletes every generation under the prefix, wherever it lies.
    pub(super) async fn invalidate_everything(&self) -> Result<(), &'static str> {
        let (changes, shards) = (self.link.changes(), self.link.shards());
        if shards.is_empty() {
            return Err("down");
        }
        for shard in shards {
            self.invalidate_all_of(&shard).await?;
        }
        // What lay with one master may have gone to another behind our back.
        if self.link.changes() != changes {
            return Err("moved");
        }
        if let Some((near, _)) = &self.near {
            near.empty();
        }
        Ok(())
    }

    /// SCAN promises to show each key that is there from its start to its end.
    async fn invalidate_all_of(&self, shard: &Shard) -> Result<(), &'static str> {
        let pattern = every_generation(&self.prefix);
        let mut cursor = b"0".to_vec();
        loop {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("SCAN").arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(BATCH);
            let answer = shard.query(&pipeline).await?.pop();
            let (next, generations) = answer.and_then(page).ok_or("refused")?;
            if !generations.is_empty() {
                self.delete(&generations).await?;
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

/// A page of SCAN: where the next begins, and the keys on it.
fn page(answer: Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Value::Array(parts) = answer else { return None };
    let Ok([Value::BulkString(next), Value::Array(keys)]) = <[Value; 2]>::try_from(parts) else { return None };
    let key = |key| if let Value::BulkString(key) = key { Some(key) } else { None };
    Some((next, keys.into_iter().filter_map(key).collect()))
}
