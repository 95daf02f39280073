//! Seeks the places that a purge covers, wherever they lie, page by page.

use redis::{Pipeline, Value};

use super::{BATCH, RedisStore};
use crate::cache::store::names::{self, Named, Names, generations_under};
use crate::cache::store::purge::{Softness, Target};
use crate::redis_pool::Shard;

/// How often a walk is begun anew because keys have moved between masters meanwhile.
const TRIES: usize = 3;

impl RedisStore {
    /// Takes back every place that `target` covers; says how many it met.
    pub(super) async fn walk(&self, target: &Target, softness: Softness, now: u64) -> Result<u64, &'static str> {
        for _ in 0..TRIES {
            let (changes, shards) = (self.link.changes(), self.link.shards());
            if shards.is_empty() {
                return Err("down");
            }
            let mut met = 0;
            for shard in shards {
                met += self.walk_one(&shard, target, softness, now).await?;
            }
            // Else what lay with one master may have gone to another behind our back.
            if self.link.changes() == changes {
                return Ok(met);
            }
        }
        Err("moved")
    }

    /// SCAN promises to show each key that is there from its start to its end.
    async fn walk_one(
        &self,
        shard: &Shard,
        target: &Target,
        softness: Softness,
        now: u64,
    ) -> Result<u64, &'static str> {
        let pattern = generations_under(&self.prefix, target);
        let (mut cursor, mut met) = (b"0".to_vec(), 0);
        loop {
            let mut pipeline = Pipeline::new();
            pipeline.cmd("SCAN").arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(BATCH);
            let answer = shard.query(&pipeline).await?.pop();
            let (next, keys) = answer.and_then(page).ok_or("refused")?;
            let covered = |key: &Vec<u8>| {
                let (place, named) = names::read_place(&self.prefix, key)?;
                (named == Named::Generation && target.covers(&place)).then(|| Names::of(&self.prefix, &place))
            };
            let places: Vec<_> = keys.iter().filter_map(covered).collect();
            // Redis may give more than it was asked for.
            for batch in places.chunks(BATCH) {
                met += self.take_back(batch, softness, now).await?;
                batch.iter().for_each(|names| self.forget(names));
            }
            if next == b"0" {
                return Ok(met);
            }
            cursor = next;
        }
    }
}

/// A page of SCAN or ZSCAN: where the next begins, and what is on it.
pub(super) fn page(answer: Value) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let Value::Array(parts) = answer else { return None };
    let Ok([Value::BulkString(next), Value::Array(keys)]) = <[Value; 2]>::try_from(parts) else { return None };
    let key = |key| if let Value::BulkString(key) = key { Some(key) } else { None };
    Some((next, keys.into_iter().filter_map(key).collect()))
}
