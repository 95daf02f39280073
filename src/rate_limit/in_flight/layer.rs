//! Lets a request in, or refuses it, and holds its places until its answer has ended.

use std::rc::Rc;

use http::HeaderMap;
use tower::Layer;

use super::{Found, InFlight, Standing, Verdict};
use crate::exchange::{Exchange, Next, layer as make, pass};
use crate::local_reply::{LocalReply, Refused};
use crate::rate_limit::fields::{self, Fields, Partition, Told, nearer};
use crate::telemetry::{LimitTrail, Record};

/// The seconds after which a client may try again: nobody knows when a request ends.
const SOON: u64 = 1;

/// Enforces `limits`.
pub fn layer<S: Next>(limits: Rc<InFlight>) -> impl Layer<S, Service = impl Next> + Clone {
    make(move |mut exchange: Box<Exchange>, next: S| {
        let limits = limits.clone();
        async move {
            if exchange.answers.refused {
                // By a quota of this position: it takes no place.
                return pass(next, exchange).await;
            }
            let verdict = limits.judge(&mut exchange).await;
            let (trail, connection) = (exchange.trail.clone(), exchange.connection.clone());
            match verdict {
                Verdict::Unlimited => pass(next, exchange).await,
                Verdict::Open(claim, binding) => {
                    let claim = claim.shown_to(&mut exchange);
                    let mut response = pass(next, exchange).await;
                    let record = &mut trail.borrow_mut().limit;
                    if let (Some(name), None) = (binding, &record) {
                        *record = Some(LimitTrail { name, refused: false, remaining: 0, counted: "open" });
                    }
                    claim.until_the_end_of(&mut response, &connection);
                    response
                }
                Verdict::Within(claim, standing) => {
                    let claim = claim.shown_to(&mut exchange);
                    let mut response = pass(next, exchange).await;
                    limits.show(&standing, &mut trail.borrow_mut(), response.headers_mut());
                    claim.until_the_end_of(&mut response, &connection);
                    response
                }
                Verdict::Beyond(standing) => {
                    limits.spare(&mut exchange);
                    let mut response = exchange.refuse(&standing.refusal());
                    limits.show(&standing, &mut trail.borrow_mut(), response.headers_mut());
                    response
                }
                Verdict::Nameless(limit) => {
                    limits.spare(&mut exchange);
                    exchange.refuse(&LocalReply::LimitKeyMissing { limit })
                }
                Verdict::Closed(name) => {
                    limits.spare(&mut exchange);
                    let limit = LimitTrail { name, refused: true, remaining: 0, counted: "closed" };
                    trail.borrow_mut().limit = Some(limit);
                    exchange.refuse(&LocalReply::LimitStoreDown { retry_after: SOON })
                }
            }
        }
    })
}

impl InFlight {
    /// Who is refused here is not charged by the quotas beside.
    fn spare(&self, exchange: &mut Exchange) {
        if let Some(quotas) = &self.quotas {
            quotas.undo(exchange);
        }
    }

    /// Tells a client where it stands; and the access log the nearest limit, if none is there.
    fn show(&self, standing: &Standing, record: &mut Record, fields: &mut HeaderMap) {
        // A limit that only watches is nothing for clients to know of.
        let shown = || standing.found.iter().filter(|found| found.binds());
        let Some(nearest) = standing.nearest() else { return };
        let shares: Vec<Option<Fields>> = shown().map(|found| self.fields_of_share(found)).collect();
        let told = shown().zip(&shares).map(|(found, share)| {
            let partition = self.tells_partitions.then(|| Partition::of(&found.key));
            found.told(share.as_ref(), partition)
        });
        let share = self.fields_of_share(nearest);
        let refusing = nearest.refuses().then(|| nearest.told(share.as_ref(), None));
        fields::tell(told, refusing, 0, record.limit.is_some(), fields);
        if !nearest.refuses() {
            warn(standing, fields);
        }
        if nearest.refuses() || record.limit.is_none() {
            record.limit = Some(LimitTrail {
                name: nearest.limit.counter.limit.name.clone(),
                refused: nearest.refuses(),
                remaining: nearest.remaining(),
                counted: standing.counted,
            });
        }
    }

    fn fields_of_share(&self, found: &Found) -> Option<Fields> {
        let is_share = found.most != found.limit.most;
        is_share.then(|| Fields::in_flight(&found.limit.counter.limit.name, found.most, self.settings))
    }
}

fn warn(standing: &Standing, fields: &mut HeaderMap) {
    for found in standing.found.iter().filter(|found| found.binds()) {
        let limit = &found.limit.counter.limit;
        let warning = limit.warn_at.and_then(|at| fields::warning(&limit.name, at, found.remaining(), found.most));
        if let Some(warning) = warning {
            fields.append(fields::WARNING, warning);
            found.limit.counter.outcomes.warnings.inc();
        }
    }
}

impl Standing {
    /// The limit nearest to refusal, of those that may refuse.
    fn nearest(&self) -> Option<&Found> {
        let rank = |found: &Found| (found.refuses(), found.remaining(), found.most);
        let refusing = self.found.iter().filter(|found| found.binds());
        refusing.reduce(|nearest, other| if nearer(rank(other), rank(nearest)) { other } else { nearest })
    }

    fn refusal(&self) -> LocalReply {
        let refusing = || self.found.iter().filter(|found| found.refuses());
        // There is one: that is why.
        let Some(nearest) = self.nearest() else { return LocalReply::LimitStoreDown { retry_after: SOON } };
        LocalReply::TooManyInFlight(Box::new(Refused {
            limit: nearest.limit.counter.limit.name.clone(),
            quota: format!("{} at once", nearest.most),
            retry_after: Some(SOON),
            violated: refusing().map(|found| found.limit.counter.limit.name.clone()).collect(),
            reduced: self.counted == "local",
            refusal: nearest.limit.counter.limit.refusal.clone(),
        }))
    }
}

impl Found {
    fn told<'a>(&'a self, share: Option<&'a Fields>, partition: Option<Partition>) -> Told<'a> {
        Told {
            fields: share.unwrap_or(&self.limit.fields),
            refused: self.refuses(),
            remaining: self.remaining(),
            retry_after: 0,
            reset_after: 0,
            partition,
        }
    }
}
