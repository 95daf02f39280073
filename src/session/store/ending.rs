//! When a record in Redis ends: how that is changed. What is sent for it; no I/O.
//!
//! 1. A record that is not there gets no end, nor does one that has none.
//! 2. To prolong shortens nothing, also where somebody else has prolonged it meanwhile: what is left is looked at in the step that
//!    changes it.
//!
//! # Why
//! `PEXPIRE … GT` and `XX` say the same, and are of Redis 7. A script is of every Redis, and there is one way for all of them: a master
//! that is another version than the one before it changes nothing.

use std::sync::LazyLock;
use std::time::Duration;

use redis::Pipeline;

/// Changes when a record ends; a link over which that is done is made with it.
pub const SCRIPT: &str = include_str!("scripts/ending.lua");

static SHA: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// Has the record end after `life` from now, unless it ends later: one command, answered by 1 if it ends so, else by 0.
pub fn prolong(pipeline: &mut Pipeline, record: &[u8], life: Duration) {
    call(pipeline, record, life, true);
}

/// Has the record end after `life` from now, whether that is later or sooner: one command, answered in the same way.
pub fn end_after(pipeline: &mut Pipeline, record: &[u8], life: Duration) {
    call(pipeline, record, life, false);
}

fn call(pipeline: &mut Pipeline, record: &[u8], life: Duration, only_later: bool) {
    let millis = u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1);
    pipeline.cmd("EVALSHA").arg(&*SHA).arg(1).arg(record).arg(millis).arg(u8::from(only_later));
}
