//! Places in Redis, by the clock of Redis.
//!
//! 1. `PREFIX limit:{NAME:KEY}:flight` is a sorted set: who is in flight, and until when (ms). Who: the instance, and the
//!    number of the request in it. A place of which nobody says that it is still taken ends by itself; so does the key.
//! 2. On one server one call of one script settles all limits of a request. In a cluster each limit has a call of its own; if
//!    one refuses then, the places under the others are given back behind.
//!
//! # Why
//! A counter would be one number instead of a hundred bytes for each request, and wrong for good as soon as an instance dies.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::room::{Wanted, passes};
use crate::redis_pool::fault::Fault;
use crate::redis_pool::key;

/// The scripts; a link over which requests in flight are counted is made with them.
pub const SCRIPTS: [&str; 2] =
    [include_str!("../store/scripts/flight.lua"), include_str!("../store/scripts/flight_renew.lua")];

static SHAS: LazyLock<[String; 2]> =
    LazyLock::new(|| SCRIPTS.map(|text| redis::Script::new(text).get_hash().to_owned()));

/// How keys are spelt, and whether those of one request lie with one server.
#[derive(Clone, Copy, Debug)]
pub struct Spelling<'a> {
    /// Before every key.
    pub prefix: &'a str,
    /// Each limit is settled by itself, since its key has a slot of its own.
    pub apart: bool,
}

impl Spelling<'_> {
    fn key(&self, key: &str) -> String {
        let mut name = String::with_capacity(96);
        key::push_tagged(&mut name, self.prefix, "limit", key);
        name.push_str(":flight");
        name
    }

    fn together(&self, all: usize) -> usize {
        if self.apart { 1 } else { all.max(1) }
    }
}

/// Adds the commands by which `who` asks for places, and says how many. `now` (ms since the Unix epoch) instead of the clock of
/// Redis.
pub fn ask(pipeline: &mut Pipeline, of: Spelling<'_>, who: &str, wanted: &[Wanted<'_>], now: Option<u64>) -> usize {
    let groups = wanted.chunks(of.together(wanted.len()));
    let count = groups.len();
    for group in groups {
        let command = pipeline.cmd("EVALSHA").arg(SHAS[0].as_str()).arg(group.len());
        for wanted in group {
            command.arg(of.key(wanted.key));
        }
        push_now(command, now);
        command.arg(who);
        for wanted in group {
            command.arg(wanted.most).arg(millis(wanted.life)).arg(u8::from(wanted.refuses));
        }
    }
    count
}

/// Reads what Redis says: how many were in flight under each of `wanted` before. Whether the request passes follows from
/// that ([`passes`]); if it does not, and limits were settled apart, some places may have been taken.
///
/// # Errors
/// A word: that of the fault (`redis_pool::fault`; the link has told the log of it), or `script` if the answer is none of ours.
pub fn read(wanted: &[Wanted<'_>], values: &[Value]) -> Result<Vec<u64>, &'static str> {
    let mut before = Vec::with_capacity(wanted.len());
    let together = wanted.len() / values.len().max(1);
    for (group, value) in wanted.chunks(together.max(1)).zip(values) {
        let found = counted(value)?;
        let Some((&passed, found)) = found.split_first() else { return Err("script") };
        // What was decided there must be what is told here.
        let agreed =
            found.len() == group.len() && passes(group.iter().copied().zip(found.iter().copied())) == (passed == 1);
        if !agreed {
            return Err("script");
        }
        before.extend_from_slice(found);
    }
    if before.len() == wanted.len() { Ok(before) } else { Err("protocol") }
}

/// Adds the commands by which `who` says that it still has places under these keys, each for so long.
pub fn renew(
    pipeline: &mut Pipeline,
    of: Spelling<'_>,
    who: &str,
    held: &[(&str, Duration)],
    now: Option<u64>,
) -> usize {
    let groups = held.chunks(of.together(held.len()));
    let count = groups.len();
    for group in groups {
        let command = pipeline.cmd("EVALSHA").arg(SHAS[1].as_str()).arg(group.len());
        for (key, _) in group {
            command.arg(of.key(key));
        }
        push_now(command, now);
        command.arg(who);
        for (_, life) in group {
            command.arg(millis(*life));
        }
    }
    count
}

/// Adds the commands by which `who` gives back its places under these keys, whether it has them or not.
pub fn release<'k>(pipeline: &mut Pipeline, of: Spelling<'_>, who: &str, keys: impl Iterator<Item = &'k str>) {
    for key in keys {
        pipeline.cmd("ZREM").arg(of.key(key)).arg(who);
    }
}

fn push_now(command: &mut Pipeline, now: Option<u64>) {
    match now {
        Some(now) => command.arg(now),
        None => command.arg(""),
    };
}

fn millis(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX)
}

fn counted(value: &Value) -> Result<Vec<u64>, &'static str> {
    let number = |number: &Value| match number {
        Value::Int(number) => u64::try_from(*number).ok(),
        _ => None,
    };
    match value {
        Value::Array(numbers) => numbers.iter().map(number).collect::<Option<_>>().ok_or("script"),
        Value::ServerError(error) => Err(Fault::of_reply(error.code(), error.details().unwrap_or_default()).word()),
        _ => Err("script"),
    }
}
