//! What a request gets back that goes no further though its limits have been asked.

use redis::Pipeline;

use super::{Counter, Docket, RateLimit, Role};
use crate::exchange::{Answer, Exchange, Slot};
use crate::rate_limit::algorithm::Decision;
use crate::rate_limit::store::Charge;

impl RateLimit {
    /// Gives back what `gather` has had charged for a request that is refused before these limits judge it; save what is
    /// charged even then (`charge_refused`).
    pub(in crate::rate_limit) fn undo(&self, exchange: &mut Exchange) {
        let kept = exchange.answers.kept().and_then(|kept| kept.downcast::<Docket>().ok());
        let (Some(link), Some(mut docket)) = (&self.worker.link, kept) else { return };
        if let Answer::Values(values) = exchange.answers.take(Slot::Limits)
            && let Ok(settled) = self.read(&docket, &values)
        {
            // The store gives leases even so.
            docket.lend(&settled.decisions);
            let charges: Vec<_> = docket.charges(&self.counters).collect();
            let roles = docket.asked().iter().map(|entry| self.counters[entry.counter].role);
            let passes = roles.zip(&settled.decisions).all(|(role, said)| role != Role::Binding || said.allowed);
            let since = |(index, said): (usize, &Decision)| {
                let Charge { policy, asked, .. } = charges[index];
                said.allowed.then(|| (index, policy.since(&said.state, settled.now, asked.take)))
            };
            let taken = match passes {
                true => settled.decisions.iter().enumerate().filter_map(since).collect(),
                false => settled.refunds,
            };
            let mut pipeline = Pipeline::with_capacity(taken.len());
            for entry in docket.asked() {
                let Counter { limit, outcomes, asked, .. } = &self.counters[entry.counter];
                if let Some(charged) = outcomes.charged.as_ref().filter(|_| limit.charge_refused) {
                    charged.add(asked.take);
                }
            }
            for (index, since) in taken {
                let Charge { key, policy, asked, even_if_refused, .. } = charges[index];
                if asked.take > 0 && !even_if_refused {
                    self.in_redis().give_back(&mut pipeline, key, policy, since, asked.take);
                }
            }
            if !pipeline.is_empty() {
                link.send(pipeline);
            }
            drop(charges);
            docket.put_back();
            self.close(docket);
        }
        // Dropped without an answer, it puts back what was spent of leases, too.
    }
}
