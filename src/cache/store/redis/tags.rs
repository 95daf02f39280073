//! Tags in Redis: the index of the places where something that carries a tag is stored, and the mark of its last purge.
//!
//! 1. A fill whose response carries tags enters its place in the index of each, and *then* reads their marks. It stores
//!    nothing unless all was done, and every mark is in order ([`Marks`]).
//! 2. A purge writes the mark, and *then* walks the index, and takes back the places it meets.
//! 3. An index lives longer than all it lists. What has ended longer ago than [`SKEW`] is let go of now and then, so that an
//!    index does not grow with time: behind one fill of [`TRIM`], and [`BATCH`] at a time, so that Redis is never busy with
//!    it for long. More is let go of than is put in.
//! 4. The walk is by `ZSCAN`, which shows each place that is there from its start to its end; it is begun anew when keys have
//!    moved between masters meanwhile, for a cursor means nothing to another. Nothing is taken out of an index by a purge: a fill might just have put it in again.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::walk::page;
use super::{BATCH, OPEN, RedisStore};
use crate::cache::store::names::{Names, TagNames};
use crate::cache::store::purge::Softness;
use crate::cache::store::{Marks, Since};
use crate::redis_pool::Link;

/// How long a mark lives: longer than any fill may take.
const MARK: Duration = Duration::from_secs(10 * OPEN.as_secs());
/// Seconds by which the clocks of two instances may differ before an index loses what is still stored.
const SKEW: u64 = 3600;
/// One fill of so many lets go of what has ended.
const TRIM: u32 = 16;
/// Tags whose indexes are walked side by side.
const TAGS: usize = 64;
/// How often a purge is begun: keys may move between masters, and connections break.
const TRIES: usize = 3;

/// Lets go of what has ended in an index, some of it.
pub const SCRIPT: &str = include_str!("../scripts/trim.lua");

/// What Redis knows it by.
static TRIMMING: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// A place, and the tags of what is to be stored there.
pub(super) struct Tagged {
    pub(super) tags: Vec<String>,
    pub(super) place: String,
    pub(super) since: Since,
    /// How long it is stored.
    pub(super) life: Duration,
    /// Seconds since the Unix epoch.
    pub(super) now: u64,
}

impl Tagged {
    /// Enters the place in the indexes; whether the response may be stored.
    pub(super) async fn enter(&self, link: &Link, prefix: &str, marks: &Marks) -> bool {
        let longest = (self.life + Duration::from_secs(SKEW)).as_millis() as u64;
        let mut pipeline = Pipeline::new();
        for tag in &self.tags {
            let names = TagNames::of(prefix, tag);
            let index = names.index();
            let end = self.now + self.life.as_secs();
            pipeline.cmd("ZADD").arg(&index).arg("GT").arg(end).arg(&self.place);
            pipeline.cmd("PEXPIRE").arg(&index).arg(longest).arg("NX");
            pipeline.cmd("PEXPIRE").arg(&index).arg(longest).arg("GT");
            pipeline.cmd("GET").arg(names.mark());
        }
        let Ok(answers) = link.query(&pipeline).await else { return false };
        if fastrand::u32(..TRIM) == 0 {
            link.send(self.trim(prefix));
        }
        let each = answers.chunks_exact(4);
        each.len() == self.tags.len()
            && self.tags.iter().zip(each).all(|(tag, said)| self.is_in_order(tag, said, marks))
    }

    /// What lets go of some that has ended, in each of the indexes.
    fn trim(&self, prefix: &str) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(self.tags.len());
        for tag in &self.tags {
            let index = TagNames::of(prefix, tag).index();
            pipeline.cmd("EVALSHA").arg(TRIMMING.as_str()).arg(1).arg(index);
            pipeline.arg(self.now.saturating_sub(SKEW)).arg(BATCH);
        }
        pipeline
    }

    fn is_in_order(&self, tag: &str, said: &[Value], marks: &Marks) -> bool {
        match said {
            [Value::Int(_), Value::Int(_), Value::Int(_), Value::Nil] => true,
            [Value::Int(_), Value::Int(_), Value::Int(_), Value::BulkString(mark)] => {
                let mark = mark.as_slice().try_into().map(u128::from_be_bytes);
                mark.is_ok_and(|mark| marks.allow(tag, Some(mark), self.since))
            }
            _ => false,
        }
    }
}

/// An index that is being walked.
struct Walk {
    index: String,
    cursor: Vec<u8>,
}

impl RedisStore {
    /// Takes back all that carries one of these tags, at `now` (in seconds since the Unix epoch); says how many places it
    /// met.
    ///
    /// # Errors
    /// A word that says why Redis could not be told of all; of some it may have been.
    pub async fn purge_tags(&self, tags: &[String], softness: Softness, now: u64) -> Result<u64, &'static str> {
        let mut met = 0;
        for tags in tags.chunks(TAGS) {
            met += self.purge_some(tags, softness, now).await?;
        }
        Ok(met)
    }

    async fn purge_some(&self, tags: &[String], softness: Softness, now: u64) -> Result<u64, &'static str> {
        for _ in 0..TRIES {
            let changes = self.link.changes();
            let mut met = 0;
            let (mut walks, mut places) = match self.mark(tags).await {
                // A connection that breaks is no outage yet.
                Err("disconnected") if self.returns().await => continue,
                begun => begun?,
            };
            loop {
                places.sort_unstable();
                places.dedup();
                for batch in places.chunks(BATCH) {
                    let batch: Vec<_> = batch.iter().map(|place| Names::of(&self.prefix, place)).collect();
                    met += self.take_back(&batch, softness, now).await?;
                    batch.iter().for_each(|names| self.forget(names));
                }
                if walks.is_empty() {
                    break;
                }
                (walks, places) = self.go_on(walks).await?;
            }
            if self.link.changes() == changes {
                return Ok(met);
            }
        }
        Err("unsettled")
    }

    /// Writes the marks, and begins to walk the indexes.
    async fn mark(&self, tags: &[String]) -> Result<(Vec<Walk>, Vec<String>), &'static str> {
        let names: Vec<_> = tags.iter().map(|tag| TagNames::of(&self.prefix, tag)).collect();
        // One for each attempt: a mark that was once written must never be written again, however late.
        let mark = self.mint.mark();
        let mut pipeline = Pipeline::new();
        for names in &names {
            pipeline.cmd("SET").arg(names.mark()).arg(&mark.to_be_bytes()).arg("PX").arg(MARK.as_millis() as u64);
        }
        let walks = names.iter().map(|names| Walk { index: names.index(), cursor: b"0".to_vec() });
        let walks: Vec<_> = walks.inspect(|walk| walk.ask(&mut pipeline)).collect();
        let mut answers = self.link.query(&pipeline).await?;
        let pages = answers.split_off(names.len());
        if answers.iter().any(|said| *said != Value::Okay) {
            return Err("refused");
        }
        tags.iter().for_each(|tag| self.marks.seen(tag, mark));
        read(walks, pages)
    }

    async fn go_on(&self, walks: Vec<Walk>) -> Result<(Vec<Walk>, Vec<String>), &'static str> {
        let mut pipeline = Pipeline::new();
        walks.iter().for_each(|walk| walk.ask(&mut pipeline));
        let pages = self.link.query(&pipeline).await?;
        read(walks, pages)
    }
}

impl Walk {
    fn ask(&self, pipeline: &mut Pipeline) {
        pipeline.cmd("ZSCAN").arg(&self.index).arg(&self.cursor).arg("COUNT").arg(BATCH);
    }
}

/// The walks that have not come to their end, and the places that were met.
fn read(walks: Vec<Walk>, pages: Vec<Value>) -> Result<(Vec<Walk>, Vec<String>), &'static str> {
    let (mut going_on, mut places) = (Vec::new(), Vec::new());
    for (walk, answer) in walks.into_iter().zip(pages) {
        let (cursor, members) = page(answer).ok_or("refused")?;
        // Each place stands before its score.
        places.extend(members.into_iter().step_by(2).filter_map(|place| String::from_utf8(place).ok()));
        if cursor != b"0" {
            going_on.push(Walk { cursor, ..walk });
        }
    }
    Ok((going_on, places))
}
