//! Takes stored responses back because somebody says so: `sidegate purge`, the admin listener, the method `PURGE`.
//!
//! 1. What is named is read by [`wanted`]: URLs, prefixes, patterns, tags, or everything. A name that cannot be meant is an
//!    error, and then nothing is purged.
//! 2. A *hard* purge is an invalidation as a write makes it. A *soft* one leaves what is stored, as stale: it is validated
//!    at its next use, and stands in while the app is away.
//! 3. When it is acknowledged it holds on every instance, for whatever was asked of the app before.
//! 4. Each name is answered with how many *places* it met: authorities and paths of which something may be stored, however
//!    many queries and variants that is. None is no failure.
//! 5. What Redis cannot be told is an error, and not owed as a write's invalidation is: who asked is there to ask again.
//! 6. By [`method`]: only for addresses that are trusted with it, and only where that is configured.
//!
//! # Why
//! It is done by a worker, over the link of every request: no other way to Redis has to be kept in order, and what this
//! process remembers of Redis is told before the operator is.

pub mod method;
pub mod wanted;

use std::rc::Rc;

use ipnet::IpNet;
use serde_json::{Value, json};

use super::layer::Worker;
use super::store::purge::Softness;
use super::store::{RedisStore, Store};
use super::stored::Form;
use crate::clock::Clock;
use crate::rate_limit::operate::Trouble;

pub use self::wanted::{Named, Wanted};

/// `[purge]`: who may use the method `PURGE`; default: nobody, and the method is the app's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Networks of client addresses.
    pub from: Vec<IpNet>,
}

/// What is to be purged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// Each, and how it was named.
    pub named: Vec<Named>,
    /// How.
    pub softness: Softness,
}

/// The store of a worker, for purging alone.
pub struct Purging {
    store: Store,
    clock: Clock,
}

impl Purging {
    /// Of what `worker` stores, under whatever policies.
    pub fn new(worker: &Worker) -> Rc<Self> {
        let Worker { memory, link, near, prefix, marks, clock, registry, number, .. } = worker.clone();
        let store = match link {
            Some(link) => {
                // Nothing is read or written here but generations and tags.
                let form = Form::default();
                let store = RedisStore::new(link, prefix, clock, form, Rc::from([]));
                Store::Redis(Box::new(store.behind(near, &registry, number).knowing(marks)))
            }
            None => Store::Memory(memory),
        };
        Rc::new(Self { store, clock: worker.clock.clone() })
    }

    /// Carries out an order, name by name.
    ///
    /// # Errors
    /// The store could not be told of all of it; what was done before stays done.
    pub async fn carry_out(&self, Order { named, softness }: Order) -> Result<Value, Trouble> {
        let (mut told, mut places) = (Vec::with_capacity(named.len()), 0);
        let now = self.clock.unix_seconds();
        for Named { name, target } in &named {
            let met = self.store.purge(target, softness, now).await.map_err(|reason| {
                let done = told.len();
                let all = named.len();
                Trouble::Unavailable(format!("Redis does not answer ({reason}): {done} of {all} are purged; try again"))
            })?;
            tracing::info!(name, places = met, soft = softness == Softness::Soft, "purged");
            places += met;
            told.push(json!({ "name": name, "places": met }));
        }
        Ok(json!({ "purged": told, "places": places, "soft": softness == Softness::Soft }))
    }
}
