//! Who of the fleet fetches a response (request coalescing with the scope `fleet`).
//!
//! 1. Who would ask the app puts a token of its own under the lock's key, if nothing stands there (`SET … NX PX`), and reads
//!    what stands there then. Its own: it fetches.
//! 2. Another's: somebody does. The store is looked up again, in steps, for as long as the policy says.
//! 3. `unshareable` in place of a token: the answer was for nobody else. Nobody waits, for as long as that stands there.
//! 4. The lock is let go of by token, behind the response that was stored: on one connection, in this order. It ends by
//!    itself after the longest time that anybody would wait for it.
//! 5. Who sends credentials, or selects another variant, claims another lock: what is for nobody else of theirs keeps nobody
//!    else from waiting.
//! 6. An answer that is none: each process fetches for itself, and its own requests wait for one fetch. With Redis away
//!    nothing is coalesced at all, not within a process either: no generation can be read, so nobody could tell what was
//!    fetched before a write that another instance has acknowledged.
//!
//! # Why the lock protects nothing
//! Two fetches at a time are right, only dearer. So neither a lock that ends early nor one that was lost harms anybody, and
//! no clock is compared. What a write takes back is the generation's business: the response is stored under the one that
//! its fetch began under, and is found under no other.

use std::sync::LazyLock;
use std::time::Duration;

use redis::{Pipeline, Value};

use super::RedisStore;
use crate::cache::key::Key;
use crate::cache::rules::vary::Digest;
use crate::cache::store::names::Names;
use crate::redis_pool::Link;

/// Lets go of a lock, by token.
pub const SCRIPT: &str = include_str!("../scripts/lock.lua");

/// What Redis knows it by.
static HASH: LazyLock<String> = LazyLock::new(|| redis::Script::new(SCRIPT).get_hash().to_owned());

/// Stands in place of a token.
const UNSHAREABLE: &[u8] = b"unshareable";

/// What became of a claim.
#[derive(Debug)]
pub enum Claim {
    /// The lock is ours.
    Ours(Lock),
    /// Another fetches.
    Taken,
    /// The last answer was for nobody else.
    Unshareable,
    /// Redis did not say.
    Unknown,
}

/// A lock that this process has. Dropped, it is let go of.
pub struct Lock {
    link: Link,
    name: String,
    token: [u8; 16],
    /// What is left in its place, and for how long.
    left: Option<Duration>,
}

impl RedisStore {
    /// Claims the fetch of what `of` names at the place of `key`, for at most so long.
    pub async fn claim(&self, key: &Key, of: Digest, life: Duration) -> Claim {
        let name = Names::of(&self.prefix, key.place()).lock(of);
        let token = fastrand::u128(..).to_be_bytes();
        let mut pipeline = Pipeline::with_capacity(2);
        pipeline.cmd("SET").arg(&name).arg(&token).arg("NX").arg("PX").arg(milliseconds(life));
        pipeline.cmd("GET").arg(&name);
        let Ok(said) = self.link.query(&pipeline).await else { return Claim::Unknown };
        match said.into_iter().nth(1) {
            Some(Value::BulkString(stands)) if stands == token => {
                Claim::Ours(Lock { link: self.link.clone(), name, token, left: None })
            }
            Some(Value::BulkString(stands)) if stands == UNSHAREABLE => Claim::Unshareable,
            Some(Value::BulkString(stands)) if stands.len() == token.len() => Claim::Taken,
            // Rubbish would never be let go of.
            _ => Claim::Unknown,
        }
    }

    /// Waits until Redis has done what was sent to it for the place of `key`, or does not answer.
    pub async fn caught_up(&self, key: &Key) {
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("GET").arg(Names::of(&self.prefix, key.place()).generation());
        // Whatever it says: what was sent before it was done before it, if it was done at all.
        let _ = self.link.query(&pipeline).await;
    }

    /// Says that what `of` names can be shared again, without waiting.
    pub fn shareable_again(&self, key: &Key, of: Digest) {
        let name = Names::of(&self.prefix, key.place()).lock(of);
        self.link.send(exchange(&name, UNSHAREABLE, None));
    }
}

impl Lock {
    /// Leaves word that the answer was for nobody else, for so long.
    pub fn leave_unshareable(mut self, life: Duration) {
        self.left = Some(life).filter(|life| !life.is_zero());
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        self.link.send(exchange(&self.name, &self.token, self.left));
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Lock({})", self.name)
    }
}

/// Nothing, or word that the answer was for nobody else for so long, where `stands` stands.
fn exchange(name: &str, stands: &[u8], left: Option<Duration>) -> Pipeline {
    let mut pipeline = Pipeline::with_capacity(1);
    let word = if left.is_some() { UNSHAREABLE } else { b"" };
    let life = left.map_or(0, milliseconds);
    pipeline.cmd("EVALSHA").arg(&*HASH).arg(1).arg(name);
    pipeline.arg(stands).arg(word).arg(life);
    pipeline
}

/// At least one.
fn milliseconds(life: Duration) -> u64 {
    u64::try_from(life.as_millis()).unwrap_or(u64::MAX).max(1)
}
