//! What the limits of a route would make of a request: by which keys they would count it, and what is left of those.
//!
//! 1. Nothing is charged: each limit is asked as [`operate`](super::operate) asks, for a unit that is not taken.
//! 2. Keys are shown as [`naming`] says: what may be a secret only as the start of its digest.
//! 3. What an instance has taken ahead of a key counts as spent, as everywhere but there.

use std::sync::Arc;

use serde_json::{Value, json};

use super::judge::{Counter, Spelt};
use super::operate::{Named, Trouble, described};
use super::terms::Terms;
use super::{Limit, Settings, Worker, naming};
use crate::exchange::Exchange;

/// Explains what `limits` would make of the request; `cost`: what a request costs on its route. A limit that goes by who is
/// logged in, or by a plan, goes by those of the exchange.
pub async fn explain(
    limits: &[Arc<Limit>],
    cost: Option<u64>,
    exchange: &Exchange,
    settings: Settings,
    worker: &Worker,
) -> Vec<Value> {
    let mut told = Vec::with_capacity(limits.len());
    for limit in limits {
        told.push(one(limit, cost, exchange, settings, worker).await);
    }
    told
}

async fn one(limit: &Arc<Limit>, cost: Option<u64>, exchange: &Exchange, settings: Settings, worker: &Worker) -> Value {
    let mut told = described(limit);
    let all = Counter::all(std::slice::from_ref(limit), cost, worker);
    // The first is the limit's own; another one is on trial.
    let (counter, subject) = match all.into_iter().next() {
        Some((counter, subject)) => (counter, Some(subject)),
        None => (Counter::in_flight(limit, worker), None),
    };
    let mut key = String::new();
    match counter.push_key(exchange, &mut key) {
        Spelt::Counted => {}
        Spelt::NotCounted => {
            told["counts"] = "not: the request is exempt, or lacks a part of the key".into();
            return told;
        }
        Spelt::Nameless => {
            told["counts"] = "refused: the request lacks a part of the key".into();
            return told;
        }
    }
    let shown = key.strip_prefix(&counter.name).unwrap_or_default();
    told["key_of_request"] = naming::redacted(&limit.key, shown).into();
    let Some(mut subject) = subject else {
        told["counts"] = "requests in flight".into();
        return told;
    };
    let granted = exchange.plan.as_ref().filter(|_| limit.plan.is_some());
    if let Some(counting) = granted.and_then(|plan| subject.counting.granted(plan.under(&limit.name)).ok()) {
        subject.counting = counting;
        told["quotas_of"] = "the client's plan".into();
    }
    let terms = Terms::new(&subject, 1, settings);
    let named = Named { limit, terms: &terms, key, worker };
    match named.shown().await {
        Ok(Value::Object(standing)) => {
            for (name, value) in standing.into_iter().filter(|(name, _)| name != "limit") {
                told[name] = value;
            }
            told["cost"] = json!(counter.units);
        }
        Ok(_) => {}
        Err(Trouble::Unknown(why) | Trouble::Wrong(why) | Trouble::Unavailable(why)) => told["unknown"] = why.into(),
    }
    told
}
