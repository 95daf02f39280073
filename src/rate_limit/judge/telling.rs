//! What a client is told, and the access log.

use http::HeaderMap;

use super::counter::Role;
use super::docket::Entry;
use super::verdict::Standing;
use super::{Counted, RateLimit};
use crate::local_reply::{LocalReply, Refused};
use crate::rate_limit::fields::{self, Partition, Told, nearer};
use crate::telemetry::{LimitTrail, Record};

impl RateLimit {
    /// Tells a client where it stands; and the access log the nearest limit, unless one nearer to refusal is there.
    pub(in crate::rate_limit) fn show(&self, standing: &Standing, record: &mut Record, fields: &mut HeaderMap) {
        let Some(nearest) = standing.nearest.map(|nearest| &standing.docket.entries[nearest]) else { return };
        let (said, amount) = (&nearest.said, standing.docket.terms[nearest.counter].amount);
        let after_another = record.limit.is_some();
        // Once a limit is on record, the fields in the answer are its.
        let is_nearest = record.limit.as_ref().is_none_or(|other| {
            let told = fields::shown(fields);
            told.is_none_or(|(remaining, quota)| {
                nearer((!said.allowed, said.certain, amount), (other.refused, remaining, quota))
            })
        });
        let all = self.binding(standing).map(|entry| self.told(standing, entry));
        let shown = is_nearest.then(|| self.told(standing, nearest));
        fields::tell(all, shown, standing.now, after_another, fields);
        self.warn(standing, fields);
        if is_nearest {
            record.limit = Some(LimitTrail {
                name: self.counters[nearest.counter].limit.name.clone(),
                refused: !said.allowed,
                remaining: said.certain,
                counted: nearest.word().unwrap_or(standing.counted.word()),
            });
        }
    }

    fn binding<'a>(&'a self, standing: &'a Standing) -> impl Iterator<Item = &'a Entry> {
        standing.docket.entries.iter().filter(|entry| self.counters[entry.counter].role == Role::Binding)
    }

    fn told<'a>(&self, standing: &'a Standing, entry: &Entry) -> Told<'a> {
        Told {
            fields: &standing.docket.terms[entry.counter].fields,
            refused: !entry.said.allowed,
            remaining: entry.said.certain,
            retry_after: entry.said.retry_after,
            reset_after: entry.said.reset_after,
            partition: self.tells_partitions.then(|| Partition::of(standing.docket.key(entry))),
        }
    }

    /// Warns of every limit that is nearly used up; a request that is refused needs no warning.
    fn warn(&self, standing: &Standing, fields: &mut HeaderMap) {
        if self.binding(standing).any(|entry| !entry.said.allowed) {
            return;
        }
        for entry in self.binding(standing) {
            let counter = &self.counters[entry.counter];
            let Some(at) = counter.limit.warn_at else { continue };
            let burst = standing.docket.terms[entry.counter].policy.burst();
            if let Some(warning) = fields::warning(&counter.limit.name, at, entry.said.remaining, burst) {
                fields.append(fields::WARNING, warning);
                counter.outcomes.warnings.inc();
            }
        }
    }

    /// The refusal by the limit nearest to it.
    pub(in crate::rate_limit) fn refusal(&self, standing: &Standing) -> LocalReply {
        let refusing = self.binding(standing).filter(|entry| !entry.said.allowed);
        let violated = refusing.map(|entry| self.counters[entry.counter].limit.name.clone()).collect();
        let Some(nearest) = standing.nearest.map(|nearest| &standing.docket.entries[nearest]) else {
            return Self::store_down();
        };
        let limit = &self.counters[nearest.counter].limit;
        LocalReply::RateLimited(Box::new(Refused {
            limit: limit.name.clone(),
            quota: standing.docket.terms[nearest.counter].quota.clone(),
            retry_after: fields::retry_after(nearest.said.retry_after),
            violated,
            reduced: standing.counted == Counted::Local,
            refusal: limit.refusal.clone(),
        }))
    }

    /// The refusal because nothing can be counted.
    pub(in crate::rate_limit) fn store_down() -> LocalReply {
        LocalReply::LimitStoreDown { retry_after: STORE_DOWN }
    }
}

/// The seconds after which a client may try again while limits cannot be counted.
const STORE_DOWN: u64 = 1;
