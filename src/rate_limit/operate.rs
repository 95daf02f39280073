//! What operators ask of limits, and have done to them: list, top, show, reset, grant.
//!
//! 1. A question changes nothing: a key is shown by asking its store for a unit and taking none.
//! 2. `reset` forgets what a key has spent. `grant` gives units back that it has spent: never more than that, so nobody gets
//!    more at once than when all is there.
//! 3. Both act where counters live, so that every instance sees them: an instance that remembers a refusal or holds units
//!    of its own asks again within a second.
//! 4. Keys are named and shown as [`naming`] says.
//!
//! # Why
//! It is done by a worker, over the link and with the scripts of every request: an operator sees what a client would, and
//! no other way to Redis has to be kept in order.

use std::sync::Arc;

use redis::Pipeline;
use serde_json::{Value, json};

use super::algorithm::{Asked, Decision, Policy};
use super::judge::key_name;
use super::store::redis as counted_in_redis;
use super::store::{Charge, KINDS};
use super::terms::{Terms, terms};
use super::{Limit, Settings, Worker, naming};
use crate::redis_pool::key;

/// What is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// All limits.
    List,
    /// Who is refused most by the limit of this name.
    Top {
        /// The limit.
        limit: String,
        /// Rows.
        most: usize,
        /// Keys are shown in whole.
        reveal: bool,
    },
    /// Something about one key.
    Key {
        /// The limit.
        limit: String,
        /// A value for each part of its key.
        values: Vec<String>,
        /// What.
        deed: Deed,
        /// The key is shown in whole.
        reveal: bool,
    },
}

/// What happens to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// It is shown.
    Show,
    /// What it has spent is forgotten.
    Reset,
    /// So many units that it has spent are given back.
    Grant(u64),
}

/// Why an order was not carried out; in a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// There is no such limit.
    Unknown(String),
    /// It cannot be done.
    Wrong(String),
    /// Not now: Redis is away, or the process ends.
    Unavailable(String),
}

/// Carries out an order about `limits`.
///
/// # Errors
/// [`Trouble`].
pub async fn carry_out(
    order: Order,
    limits: &[Arc<Limit>],
    settings: Settings,
    worker: &Worker,
) -> Result<Value, Trouble> {
    let named = |name: &str| {
        let found = limits.iter().find(|limit| &*limit.name == name);
        found.ok_or_else(|| Trouble::Unknown(format!("no route has a limit called `{name}`")))
    };
    match order {
        Order::List => Ok(json!({ "limits": limits.iter().map(|limit| described(limit)).collect::<Vec<_>>() })),
        Order::Top { limit, most, reveal } => {
            let limit = named(&limit)?;
            let listed = worker.tops.of(&limit.name).list(most, worker.clock.unix_micros());
            let rows = listed.iter().map(|one| {
                json!({
                    "key": shown(limit, &one.key, reveal),
                    "refused": one.count,
                    "too_high_by_at_most": one.excess,
                    "last": one.last / 1_000_000,
                })
            });
            Ok(json!({ "limit": &*limit.name, "top": rows.collect::<Vec<_>>() }))
        }
        Order::Key { limit, values, deed, reveal } => {
            let limit = named(&limit)?;
            let text = naming::spell(&limit.key, limit.grouping, &values).map_err(Trouble::Wrong)?;
            let terms = terms(std::slice::from_ref(limit), 1, settings);
            let Some(terms) = terms.first() else {
                return Err(Trouble::Wrong("this limit counts requests in flight, which end by themselves".into()));
            };
            let named = Named { limit, terms, key: key_name(&limit.name) + &text, worker };
            named.act(deed).await?;
            let mut answer = named.shown().await?;
            answer["key"] = shown(limit, &text, reveal).into();
            Ok(answer)
        }
    }
}

fn described(limit: &Limit) -> Value {
    json!({ "name": &*limit.name, "key": limit.key.to_string(), "rule": limit.rule.to_string(), "shadow": limit.shadow })
}

fn shown(limit: &Limit, key: &str, reveal: bool) -> String {
    if reveal { key.to_owned() } else { naming::redacted(&limit.key, key) }
}

/// A key of a limit.
struct Named<'a> {
    limit: &'a Limit,
    terms: &'a Terms,
    /// `NAME:KEY`.
    key: String,
    worker: &'a Worker,
}

impl Named<'_> {
    async fn act(&self, deed: Deed) -> Result<(), Trouble> {
        let Worker { memory, link, prefix, .. } = self.worker;
        let policy: &Policy = &self.terms.policy;
        match (deed, link) {
            (Deed::Show, _) => return Ok(()),
            (Deed::Reset, None) => memory.forget(&self.key),
            (Deed::Grant(units), None) => memory.give_back(&self.key, policy, units, self.worker.clock.unix_micros()),
            (Deed::Reset, Some(link)) => {
                let mut pipeline = Pipeline::with_capacity(1);
                let command = pipeline.cmd("DEL");
                for kind in KINDS {
                    let mut name = String::new();
                    key::push_tagged(&mut name, prefix, "limit", &self.key);
                    name.push_str(kind);
                    command.arg(name);
                }
                let values = link.query(&pipeline).await.map_err(unavailable)?;
                refused(&values)?;
                memory.forget(&self.key);
            }
            (Deed::Grant(units), Some(link)) => {
                let (now, _) = self.look().await?;
                let mut pipeline = Pipeline::with_capacity(1);
                // Taken at this moment: time has given nothing of it back yet.
                counted_in_redis::give_back(&mut pipeline, prefix, &self.key, policy, now + A_WHILE, units, None);
                let values = link.query(&pipeline).await.map_err(unavailable)?;
                refused(&values)?;
                memory.forget(&self.key);
            }
        }
        Ok(())
    }

    async fn shown(&self) -> Result<Value, Trouble> {
        let (_, decision) = self.look().await?;
        Ok(json!({
            "limit": &*self.limit.name,
            "quota": self.terms.quota,
            "refused": !decision.allowed,
            "remaining": decision.remaining,
            "retry_after": decision.retry_after.div_ceil(1_000_000),
            "reset_after": decision.reset_after.div_ceil(1_000_000),
            "counted": if self.worker.link.is_some() { "redis" } else { "memory" },
        }))
    }

    /// When (µs since the Unix epoch, by the store's clock), and what a request for one unit would be told.
    async fn look(&self) -> Result<(u64, Decision), Trouble> {
        let charge = Charge::new(&self.key, &self.terms.policy, Asked::units(1).look());
        let Worker { memory, link, prefix, clock, .. } = self.worker;
        let Some(link) = link else {
            let now = clock.unix_micros();
            let decision = memory.settle(&[charge], now).pop();
            return decision.map(|decision| (now, decision)).ok_or_else(|| unavailable("memory"));
        };
        let mut pipeline = Pipeline::with_capacity(1);
        counted_in_redis::ask(&mut pipeline, prefix, &[charge], &[], None, false);
        let values = link.query(&pipeline).await.map_err(unavailable)?;
        let settled = counted_in_redis::read(std::iter::once(charge), &values).map_err(unavailable)?;
        let decision = settled.decisions.into_iter().next();
        decision.map(|decision| (settled.now, decision)).ok_or_else(|| unavailable("protocol"))
    }
}

/// Further ahead than the clocks of two servers are apart (µs).
const A_WHILE: u64 = 60_000_000;

fn unavailable(reason: &str) -> Trouble {
    Trouble::Unavailable(format!("Redis does not answer ({reason})"))
}

fn refused(values: &[redis::Value]) -> Result<(), Trouble> {
    match values.first() {
        Some(redis::Value::ServerError(error)) => Err(Trouble::Unavailable(format!("Redis refuses: {}", error.code()))),
        _ => Ok(()),
    }
}
