//! How many instances share this Redis: each tells of itself, and counts those that did lately.
//!
//! 1. `PREFIX instances` is a sorted set: 128 random bits for each process that runs, and when it told last, by the clock of
//!    Redis. The key lives as long as the last word in it.
//! 2. One task of the process tells, every 5 s and as soon as Redis is back. In the same step those that have been silent for
//!    15 s are forgotten, and the rest is counted.
//! 3. The number stays as it was while Redis is away, for whoever has to do without it. Nobody asked yet: one.
//! 4. Fewer are believed only of a Redis that has known this process for as long as a word holds, 15 s, and has answered each
//!    time: one that was away, or has forgotten, knows nobody until all have told, and one takes longer to come back than
//!    another.
//! 5. Who has drained takes itself out.
//!
//! # Why
//! Were a process counted for every connection (`CLIENT LIST`), it would need a right that managed services withhold, and
//! other programs on the same Redis would count. A word every 5 s costs Redis 10 µs, and bounds the set by how many
//! processes start in 15 s.
//!
//! Rule 4 has those that Redis has forgotten count for as long as those that have fallen silent. Were fewer believed sooner,
//! an instance that is back alone would take itself for the only one, and in another outage give the whole of each quota.

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use redis::{Pipeline, Value};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use super::Link;
use crate::clock::{Clock, instant};
use crate::telemetry::registry::{Gauge, Registry};

/// The script; a link that counts instances is made with it.
pub const SCRIPT: &str = include_str!("scripts/instances.lua");

/// How often an instance tells of itself, and how long its word holds.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Between two words.
    pub every: Duration,
    /// After the last one.
    pub life: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self { every: Duration::from_secs(5), life: Duration::from_secs(15) }
    }
}

/// This process, and how many there are.
#[derive(Debug)]
pub struct Fleet {
    id: Box<str>,
    instances: AtomicU32,
}

/// Where the number is shown.
#[derive(Debug)]
struct Shown {
    instances: Gauge,
    counted: Gauge,
    clock: Clock,
}

/// What Redis says to one word.
#[derive(Clone, Copy, Debug)]
struct Told {
    instances: u32,
    /// It knew of no earlier word of this process.
    forgot: bool,
}

/// A process that tells of itself, until this is dropped.
pub struct Member {
    id: Box<str>,
    key: String,
    link: Link,
    task: AbortHandle,
}

impl Fleet {
    /// Of one, as far as is known.
    pub fn new() -> Arc<Self> {
        let mut random = [0; 16];
        if getrandom::fill(&mut random).is_err() {
            random = fastrand::u128(..).to_ne_bytes();
        }
        let id = random.iter().fold(String::with_capacity(32), |mut id, byte| {
            // Writing to a string cannot fail.
            let _ = write!(id, "{byte:02x}");
            id
        });
        Arc::new(Self { id: id.into(), instances: AtomicU32::new(1) })
    }

    /// What this process is called: 128 random bits, in hexadecimal.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Instances there are, as last counted; at least 1.
    pub fn instances(&self) -> u32 {
        self.instances.load(Ordering::Relaxed)
    }

    /// Tells of this process over `link`, at this pace. `prefix` stands before the Redis key. For one worker of the process,
    /// inside its `LocalRuntime`.
    pub fn join(
        self: &Arc<Self>,
        link: &Link,
        prefix: &str,
        pace: Pace,
        clock: Clock,
        registry: &Arc<Registry>,
        worker: usize,
    ) -> Member {
        let gauge = |name, help| registry.gauge(worker, name, help, &[]);
        let shown = Shown {
            instances: gauge("sidegate_instances", "Instances that share this Redis, as last counted."),
            counted: gauge(
                "sidegate_instances_counted_seconds",
                "Unix time at which instances were last counted; 0: never.",
            ),
            clock,
        };
        shown.instances.set(u64::from(self.instances()));
        let key = format!("{prefix}instances");
        let task = tokio::task::spawn_local(self.clone().tell(link.clone(), key.clone(), pace, shown)).abort_handle();
        Member { id: self.id.clone(), key, link: link.clone(), task }
    }

    async fn tell(self: Arc<Self>, link: Link, key: String, pace: Pace, shown: Shown) {
        let mut pipeline = Pipeline::with_capacity(1);
        let script = redis::Script::new(SCRIPT);
        let life = u64::try_from(pace.life.as_millis()).unwrap_or(u64::MAX);
        pipeline.cmd("EVALSHA").arg(script.get_hash()).arg(1).arg(key).arg(&*self.id).arg(life);
        let mut up = link.subscribe();
        // Since when it has answered each time, and known this process.
        let mut known_since = None;
        loop {
            up.mark_unchanged();
            let told = if link.is_up() { counted(&link, &pipeline).await } else { None };
            match told {
                Some(told) => {
                    let since = known_since.filter(|_| !told.forgot).unwrap_or_else(instant);
                    known_since = Some(since);
                    let instances = believed(self.instances(), told.instances, since.elapsed() >= pace.life);
                    self.instances.store(instances, Ordering::Relaxed);
                    shown.instances.set(u64::from(instances));
                    shown.counted.set(shown.clock.unix_seconds());
                }
                // The link has told the log.
                None => known_since = None,
            }
            // Whichever is first: it is time, or Redis has gone or come.
            let _ = timeout(pace.every, up.changed()).await;
        }
    }
}

/// What to believe after `before`, when Redis says `told`, and has `settled`: whoever is there has told.
fn believed(before: u32, told: u32, settled: bool) -> u32 {
    let least = if settled { 1 } else { before };
    told.max(least)
}

async fn counted(link: &Link, pipeline: &Pipeline) -> Option<Told> {
    let values = link.query(pipeline).await.ok()?;
    let Some(Value::Array(numbers)) = values.first() else { return None };
    let [Value::Int(instances), Value::Int(new)] = numbers[..] else { return None };
    Some(Told { instances: u32::try_from(instances).ok()?, forgot: new == 1 })
}

impl Member {
    /// Takes this process out, as far as Redis can be told.
    pub async fn leave(&self) {
        self.task.abort();
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("ZREM").arg(&self.key).arg(&*self.id);
        // If it cannot be told, its word ends by itself.
        let _ = self.link.query(&pipeline).await;
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn more_are_believed_at_once_and_fewer_when_redis_has_settled() {
        let cases = [(1, 3, false), (1, 3, true), (3, 1, false), (3, 2, true), (1, 0, true)];
        assert_eq!(cases.map(|(before, told, settled)| believed(before, told, settled)), [3, 3, 3, 2, 1]);
    }

    #[test]
    fn each_process_is_another() {
        let (one, other) = (Fleet::new(), Fleet::new());
        assert!(one.id.len() == 32 && one.id != other.id && one.instances() == 1);
    }
}
