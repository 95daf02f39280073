//! What operators ask of limits, and have done to them: list, top, show, reset, grant.
//!
//! 1. A question changes nothing: a key is shown by asking its store for a unit and taking none.
//! 2. `reset` forgets what a key has spent. `grant` gives units back that it has spent: never more than that, so nobody gets
//!    more at once than when all is there.
//! 3. Both act where counters live, so that every instance sees them: an instance that remembers a refusal or holds units
//!    of its own asks again within a second.
//! 4. Of a limit that goes by a plan, a key is shown, and given units back, by the quotas of its client. They are known where
//!    the API key is named and is the whole key. Otherwise it can only be reset: by other quotas than the client's, what is
//!    shown would be wrong and what is granted more, or less, than was meant. Without a plan, a key of such a limit goes by
//!    the limit's own quota, which is said.
//! 5. Keys are named and shown as [`naming`] says.
//!
//! # Why
//! It is done by a worker, over the link and with the scripts of every request: an operator sees what a client would, and
//! no other way to Redis has to be kept in order.

use std::sync::Arc;

use redis::Pipeline;
use serde_json::{Value, json};

use super::algorithm::{Asked, Decision, Policy};
use super::judge::key_name;
use super::store::Charge;
use super::store::redis::{Counters, push_key, read};
use super::terms::{Subject, Terms};
use super::{Limit, Settings, Worker, naming, plan};

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
            let Some(counting) = limit.counting() else {
                return Err(Trouble::Wrong("this limit counts requests in flight, which end by themselves".into()));
            };
            let subject = Subject { limit: limit.clone(), counting: counting.clone() };
            let (subject, by) = in_force(subject, &values, worker).await?;
            if by == By::Unknown && deed != Deed::Reset {
                let why = "this limit goes by a plan: name the API key itself, so that its client's quotas are known; or \
                           reset it";
                return Err(Trouble::Wrong(why.into()));
            }
            let terms = Terms::new(&subject, 1, settings);
            let named = Named { limit, terms: &terms, key: key_name(&limit.name) + &text, worker };
            named.act(deed).await?;
            let mut answer = named.shown().await?;
            answer["key"] = shown(limit, &text, reveal).into();
            if limit.plan.is_some() {
                answer["quotas_of"] = if by == By::Plan { "the client's plan" } else { "the limit itself" }.into();
            }
            Ok(answer)
        }
    }
}

/// Whose quotas a key is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    /// The limit's own.
    Limit,
    /// Those of its client.
    Plan,
    /// Nobody can say who its client is: by the limit's own, here.
    Unknown,
}

/// What `subject` counts of the key that `values` name (rule 4).
async fn in_force(subject: Subject, values: &[String], worker: &Worker) -> Result<(Subject, By), Trouble> {
    let Subject { limit, counting } = &subject;
    let (Some(plan), Some(link)) = (&limit.plan, &worker.link) else { return Ok((subject, By::Limit)) };
    let (true, [value]) = (limit.key.0 == [plan.key.clone()], values) else { return Ok((subject, By::Unknown)) };
    if naming::is_only_a_digest(value) {
        return Ok((subject, By::Unknown));
    }
    // In the place of an API key: there is none, and so no plan.
    if value.starts_with('@') {
        return Ok((subject, By::Limit));
    }
    let promised = plan::promised(plan, value.as_bytes(), limit, link).await.map_err(unavailable)?;
    let Some(entitlement) = promised else { return Ok((subject, By::Limit)) };
    let granted = counting.granted(entitlement.under(&limit.name));
    Ok(match granted {
        Ok(counting) => (Subject { limit: limit.clone(), counting }, By::Plan),
        // As in `terms`: what a limit cannot give leaves it as it is.
        Err(_) => (subject, By::Limit),
    })
}

pub(super) fn described(limit: &Limit) -> Value {
    json!({
        "name": &*limit.name,
        "key": limit.key.to_string(),
        "rule": limit.rule.to_string(),
        "shadow": limit.shadow,
        "trial": limit.trial.map(|trial| trial.to_string()),
    })
}

fn shown(limit: &Limit, key: &str, reveal: bool) -> String {
    if reveal { key.to_owned() } else { naming::redacted(&limit.key, key) }
}

/// A key of a limit.
pub(super) struct Named<'a> {
    pub(super) limit: &'a Limit,
    pub(super) terms: &'a Terms,
    /// `NAME:KEY`.
    pub(super) key: String,
    pub(super) worker: &'a Worker,
}

impl Named<'_> {
    async fn act(&self, deed: Deed) -> Result<(), Trouble> {
        let Worker { memory, link, refusals, .. } = self.worker;
        let policy: &Policy = &self.terms.policy;
        if deed == Deed::Show {
            return Ok(());
        }
        let mut pipeline = Pipeline::with_capacity(1);
        match (deed, link) {
            (Deed::Show, _) => {}
            (Deed::Reset, None) => memory.forget(&self.key),
            (Deed::Reset, Some(_)) => {
                let mut name = String::new();
                push_key(&mut name, &self.worker.prefix, &self.key, policy);
                pipeline.cmd("DEL").arg(name);
            }
            (Deed::Grant(units), None) => memory.grant(&self.key, policy, units, self.worker.clock.unix_micros()),
            (Deed::Grant(units), Some(_)) => self.counters().grant(&mut pipeline, &self.key, policy, units),
        }
        if let Some(link) = link {
            refused(&link.query(&pipeline).await.map_err(unavailable)?)?;
            // What was counted here in an outage counts no longer either.
            memory.forget(&self.key);
            refusals.forget(&self.key);
        }
        Ok(())
    }

    fn counters(&self) -> Counters<'_> {
        Counters { prefix: &self.worker.prefix, here: self.worker.clock.unix_micros(), there: None }
    }

    pub(super) async fn shown(&self) -> Result<Value, Trouble> {
        let decision = self.look().await?;
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

    /// What a request for one unit would be told.
    async fn look(&self) -> Result<Decision, Trouble> {
        let charge = Charge::new(&self.key, &self.terms.policy, Asked::units(1).look());
        let Worker { memory, link, clock, .. } = self.worker;
        let Some(link) = link else {
            let decision = memory.settle(&[charge], clock.unix_micros()).pop();
            return decision.ok_or_else(|| unavailable("memory"));
        };
        let mut pipeline = Pipeline::with_capacity(1);
        self.counters().ask(&mut pipeline, &[charge], &[], false);
        let values = link.query(&pipeline).await.map_err(unavailable)?;
        let settled = read(std::iter::once(charge), &values).map_err(unavailable)?;
        settled.decisions.into_iter().next().ok_or_else(|| unavailable("protocol"))
    }
}

fn unavailable(reason: &str) -> Trouble {
    Trouble::Unavailable(format!("Redis does not answer ({reason})"))
}

fn refused(values: &[redis::Value]) -> Result<(), Trouble> {
    match values.first() {
        Some(redis::Value::ServerError(error)) => Err(Trouble::Unavailable(format!("Redis refuses: {}", error.code()))),
        _ => Ok(()),
    }
}
