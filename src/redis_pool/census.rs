//! Counts what is in Redis, by feature: `sidegate redis-report`.
//!
//! 1. It reads only: `SCAN`, `PTTL`, and for a number of keys `MEMORY USAGE`, or `STRLEN` where that is refused. What a key
//!    holds is never asked for.
//! 2. It is bounded: by keys, by time, in what it asks for at once. What a bound cut short is told as incomplete.
//! 3. It asks one thing at a time, over one connection to each master, so that others are served in between.
//! 4. A key that SCAN tells twice is counted once.
//!
//! # Why
//! `KEYS` stops Redis for as long as it takes, and `MEMORY USAGE` of every key would take as long as the keys are many. A
//! thousand of a kind say what the kind is like.

mod features;
mod reach;
mod tally;

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::time::{Instant, timeout_at};

pub use self::features::{Feature, Features};
use self::tally::WEIGHED;
pub use self::tally::{Lives, Tally};
use super::Settings;
use super::connect::{Leased, failure, fault};
use super::fault::Fault;

/// Keys that SCAN is asked to look at in one go.
const PAGE: usize = 1_000;
/// How long one answer may take, and a connection.
const PATIENCE: Duration = Duration::from_secs(5);

/// How much may be asked.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Keys that are counted, at most.
    pub keys: usize,
    /// How long it may take, all in all.
    pub time: Duration,
}

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Census {
    /// The features that have keys.
    pub tallies: BTreeMap<Feature, Tally>,
    /// What ended it early, if anything did.
    pub cut: Option<Cut>,
    /// `MEMORY USAGE` was refused: bytes are those of strings alone, without names and bookkeeping.
    pub by_length: bool,
}

/// Why a census is not complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// [`Bounds::keys`].
    Keys,
    /// [`Bounds::time`].
    Time,
}

/// Counts the keys of `features`; tells `progress` how many there are so far.
///
/// # Errors
/// A word that says why Redis cannot be read (`fault`).
pub async fn take(
    settings: &Settings,
    features: &Features,
    bounds: Bounds,
    progress: &mut dyn FnMut(u64),
) -> Result<Census, &'static str> {
    let until = Instant::now() + bounds.time;
    let mut walk = Walk {
        features,
        left: bounds.keys,
        seen: HashSet::default(),
        hashes: ahash::RandomState::new(),
        census: Census::default(),
    };
    let reached = timeout_at(until, reach::masters(settings, PATIENCE.min(bounds.time))).await;
    let masters = reached.unwrap_or(Err(Fault::Timeout.word()))?;
    let ended = timeout_at(until, walk.all(masters, progress)).await;
    walk.census.cut = match ended {
        Ok(ended) => ended?,
        Err(_) => Some(Cut::Time),
    };
    Ok(walk.census)
}

struct Walk<'a> {
    features: &'a Features,
    /// Keys that may still be counted.
    left: usize,
    /// Of those that were counted, so that none is counted twice.
    seen: HashSet<u64>,
    hashes: ahash::RandomState,
    census: Census,
}

impl Walk<'_> {
    /// Counts whatever there is at `masters`; says what ended it early.
    async fn all(&mut self, masters: Vec<Leased>, progress: &mut dyn FnMut(u64)) -> Result<Option<Cut>, &'static str> {
        let patterns = self.features.patterns();
        for mut master in masters {
            for pattern in &patterns {
                if !self.along(&mut master.handle, pattern, progress).await? {
                    return Ok(Some(Cut::Keys));
                }
            }
        }
        Ok(None)
    }

    /// Counts what `pattern` finds. Whether there was room for all of it.
    async fn along(
        &mut self,
        connection: &mut MultiplexedConnection,
        pattern: &str,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, &'static str> {
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = Pipeline::with_capacity(1);
            scan.cmd("SCAN").arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
            let (next, keys) = match ask(connection, &scan).await?.pop() {
                Some(Value::Array(page)) => page_of(page).ok_or(Fault::Protocol.word())?,
                said => return Err(refusal(said.as_ref())),
            };
            let mut new: Vec<(Feature, Vec<u8>)> = keys
                .into_iter()
                .filter_map(|key| Some((self.features.of(&key)?, key)))
                .filter(|(_, key)| self.seen.insert(self.hashes.hash_one(key)))
                .collect();
            let room = new.len() <= self.left;
            new.truncate(self.left);
            self.left -= new.len();
            for some in new.chunks(PAGE) {
                self.count(connection, some).await?;
            }
            progress(self.census.tallies.values().map(|tally| tally.keys).sum());
            if !room || next == b"0" {
                return Ok(room);
            }
            cursor = next;
        }
    }

    async fn count(
        &mut self,
        connection: &mut MultiplexedConnection,
        keys: &[(Feature, Vec<u8>)],
    ) -> Result<(), &'static str> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(keys.len());
        for (_, key) in keys {
            pipeline.cmd("PTTL").arg(key);
        }
        let mut some = Vec::new();
        for ((feature, key), life) in keys.iter().zip(ask(connection, &pipeline).await?) {
            let Value::Int(life) = life else { return Err(refusal(Some(&life))) };
            if life == -2 {
                continue;
            }
            let tally = self.census.tallies.entry(*feature).or_default();
            tally.count(life);
            if tally.keys <= WEIGHED {
                some.push((*feature, key.as_slice()));
            }
        }
        self.weigh(connection, &some).await
    }

    async fn weigh(
        &mut self,
        connection: &mut MultiplexedConnection,
        keys: &[(Feature, &[u8])],
    ) -> Result<(), &'static str> {
        if keys.is_empty() {
            return Ok(());
        }
        loop {
            let mut pipeline = Pipeline::with_capacity(keys.len());
            for (_, key) in keys {
                match self.census.by_length {
                    false => pipeline.cmd("MEMORY").arg("USAGE").arg(key),
                    true => pipeline.cmd("STRLEN").arg(key),
                };
            }
            let weights = ask(connection, &pipeline).await?;
            // Refused for one, it is refused for all.
            if !self.census.by_length && matches!(weights.first(), Some(Value::ServerError(_))) {
                self.census.by_length = true;
                continue;
            }
            for ((feature, _), weight) in keys.iter().zip(weights) {
                // A key that is gone by now weighs nothing, and one that is no string has no length.
                if let Value::Int(bytes @ 1..) = weight {
                    self.census.tallies.entry(*feature).or_default().weigh(bytes.unsigned_abs());
                }
            }
            return Ok(());
        }
    }
}

/// One value for each command; a command's own failure is a value too.
async fn ask(connection: &mut MultiplexedConnection, pipeline: &Pipeline) -> Result<Vec<Value>, &'static str> {
    let values =
        connection.send_packed_commands(pipeline, 0, pipeline.len()).await.map_err(|error| fault(&error).word())?;
    if values.len() == pipeline.len() { Ok(values) } else { Err(Fault::Protocol.word()) }
}

/// The cursor to go on with, and keys.
fn page_of(page: Vec<Value>) -> Option<(Vec<u8>, Vec<Vec<u8>>)> {
    let mut page = page.into_iter();
    let (Some(Value::BulkString(next)), Some(Value::Array(keys))) = (page.next(), page.next()) else { return None };
    let keys = keys.into_iter().filter_map(|key| if let Value::BulkString(key) = key { Some(key) } else { None });
    Some((next, keys.collect()))
}

/// Why `value` is not what was asked for.
fn refusal(value: Option<&Value>) -> &'static str {
    value.and_then(failure).unwrap_or(Fault::Protocol).word()
}
