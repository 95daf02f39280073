//! What is counted for a limit: its own quota and, beside it, the one on trial.

use std::collections::HashSet;
use std::sync::Arc;

use ahash::RandomState;

use super::Worker;
use crate::exchange::Exchange;
use crate::rate_limit::algorithm::Asked;
use crate::rate_limit::metrics::Outcomes;
use crate::rate_limit::terms::Subject;
use crate::rate_limit::top::Top;
use crate::rate_limit::{Cost, Counting, Limit, Missing, Precision};
use crate::redis_pool::key;

/// One counter for each value of a limit's partition key.
pub(in crate::rate_limit) struct Counter {
    pub(in crate::rate_limit) limit: Arc<Limit>,
    pub(in crate::rate_limit) role: Role,
    /// `NAME:`, escaped; of a trial `NAME~trial:`.
    pub(in crate::rate_limit) name: String,
    /// What a request costs, where it is not the answer that says so.
    pub(in crate::rate_limit) units: u64,
    /// What is asked for a request.
    pub(in crate::rate_limit) asked: Asked,
    pub(in crate::rate_limit) outcomes: Outcomes,
    /// Who is refused most; of a trial nobody.
    top: Option<Arc<Top>>,
    /// Texts of the key that are exempt.
    exempt: HashSet<String, RandomState>,
}

/// What becomes of a counter's refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rate_limit) enum Role {
    /// The request is refused.
    Binding,
    /// Nothing: the limit is in shadow.
    Shadow,
    /// Nothing: it is another quota of the limit, on trial. Follows upon the limit's own.
    Trial,
}

/// Whether a request is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::rate_limit) enum Spelt {
    /// By the key that was appended.
    Counted,
    /// It is not; whatever was appended is of no use.
    NotCounted,
    /// It lacks a part of the key, and is to be refused for that.
    Nameless,
}

impl Counter {
    /// What counts the requests in flight under `limit`.
    pub(in crate::rate_limit) fn in_flight(limit: &Arc<Limit>, worker: &Worker) -> Self {
        let role = if limit.shadow { Role::Shadow } else { Role::Binding };
        Self::new(limit, role, None, worker)
    }

    /// Those of `limits` that count units, and what they count; `cost`: units of a request, whatever the limits say.
    pub(in crate::rate_limit) fn all(
        limits: &[Arc<Limit>],
        cost: Option<u64>,
        worker: &Worker,
    ) -> Vec<(Self, Subject)> {
        let mut counters = Vec::new();
        for limit in limits {
            let Some(counting) = limit.counting() else { continue };
            let role = if limit.shadow { Role::Shadow } else { Role::Binding };
            counters.push(Self::of(limit, role, counting.clone(), cost, worker));
            if let Some(quota) = limit.trial {
                let counting = Counting { quota, burst: quota.amount, ..counting.clone() };
                counters.push(Self::of(limit, Role::Trial, counting, cost, worker));
            }
        }
        counters
    }

    fn of(limit: &Arc<Limit>, role: Role, counting: Counting, cost: Option<u64>, worker: &Worker) -> (Self, Subject) {
        let counter = Self::new(limit, role, cost, worker);
        (counter, Subject { limit: limit.clone(), counting })
    }

    fn new(limit: &Arc<Limit>, role: Role, cost: Option<u64>, worker: &Worker) -> Self {
        let units = match limit.cost {
            Cost::Units(units) => cost.unwrap_or(units),
            Cost::Response(_) => 1,
        };
        let name = match role {
            Role::Binding | Role::Shadow => key_name(&limit.name),
            Role::Trial => key_name(&format!("{}~trial", limit.name)),
        };
        let exempt = limit.exempt.keys.iter().filter_map(|value| limit.key.spelt(value, limit.grouping));
        Self {
            limit: limit.clone(),
            role,
            name,
            units,
            // What is charged after the answer asks for room, and takes none of it yet.
            asked: if limit.is_charged_after() { Asked { take: 0, ..Asked::units(1) } } else { Asked::units(units) },
            outcomes: Outcomes::new(limit, role, &worker.registry, worker.number),
            top: (role != Role::Trial).then(|| worker.tops.of(&limit.name)),
            exempt: exempt.collect(),
        }
    }

    /// Appends `NAME:KEY` for a request, if it is counted by that.
    pub(in crate::rate_limit) fn push_key(&self, exchange: &Exchange, out: &mut String) -> Spelt {
        if !self.counts(exchange) {
            return Spelt::NotCounted;
        }
        let (limit, start) = (&self.limit, out.len() + self.name.len());
        out.push_str(&self.name);
        let instead = if let Missing::By(part) = &limit.missing { Some(part) } else { None };
        if limit.key.push(exchange, limit.grouping, instead, out).is_none() {
            let refuses = limit.missing == Missing::Refuse && self.role == Role::Binding;
            return if refuses { Spelt::Nameless } else { Spelt::NotCounted };
        }
        if self.exempts(&out[start..]) { Spelt::NotCounted } else { Spelt::Counted }
    }

    /// Whether a request is counted, as far as its key does not say.
    fn counts(&self, exchange: &Exchange) -> bool {
        let exempt = &self.limit.exempt;
        let address = !exempt.addresses.is_empty() && {
            let address = exchange.client.address;
            exempt.addresses.iter().any(|network| network.contains(&address))
        };
        let session = !exempt.session.is_empty()
            && exchange.principal.as_ref().is_some_and(|principal| exempt.session(principal));
        !address && !session
    }

    /// Whether its refusals are remembered: a request that it refuses costs nothing under it.
    pub(super) fn is_remembered(&self) -> bool {
        let Limit { charge_refused, precision, .. } = &*self.limit;
        let free = self.limit.is_charged_after() && !charge_refused;
        free && self.role == Role::Binding && *precision == Precision::Exact
    }

    /// How its keys begin: `NAME`, escaped.
    pub(super) fn beginning(&self) -> &str {
        self.name.strip_suffix(':').unwrap_or(&self.name)
    }

    /// Remembers that it refused `key` (`NAME:KEY`) at `now` (µs since the Unix epoch).
    pub(in crate::rate_limit) fn remember_refused(&self, key: &str, now: u64) {
        if let Some(top) = &self.top {
            top.refused(key.strip_prefix(&self.name).unwrap_or(key), now);
        }
    }

    /// Whether requests with this text of the key are not counted.
    fn exempts(&self, key: &str) -> bool {
        !self.exempt.is_empty() && self.exempt.contains(key)
    }
}

/// How the keys of limit `name` begin: `NAME:`, escaped such that the colon after it is the first.
pub fn key_name(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 1);
    for (index, piece) in name.split(':').enumerate() {
        if index > 0 {
            out.push_str("%3a");
        }
        key::push_escaped(&mut out, piece);
    }
    out.push(':');
    out
}
