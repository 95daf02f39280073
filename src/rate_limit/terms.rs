//! By what a limit judges and what its clients are told: the whole quota, or one instance's share of it; its own, or that
//! of the client's plan.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use super::algorithm::Policy;
use super::fields::Fields;
use super::{Counting, Limit, OnExceed, Precision, Settings};
use crate::exchange::{Entitlement, Exchange, Grant};

/// The terms of one counter.
pub(super) struct Terms {
    pub(super) policy: Policy,
    pub(super) fields: Fields,
    /// Units in what is told as the quota.
    pub(super) amount: u64,
    /// The quota as a refusal names it.
    pub(super) quota: String,
}

/// What a counter counts: a limit, by its own quota or by the one on trial.
#[derive(Clone)]
pub(super) struct Subject {
    pub(super) limit: Arc<Limit>,
    pub(super) counting: Counting,
}

/// Different grants of plans whose terms are kept at a time; beyond, all are made anew when they are next asked for.
const MOST_GRANTS: usize = 256;

/// The terms of counters that are settled together, in their order.
pub(super) struct Agreed {
    settings: Settings,
    own: Rc<Division>,
    /// Some limit goes by a plan.
    by_plan: bool,
    /// By what a plan grants under each of the limits: clients share plans, so these are few.
    granted: RefCell<HashMap<Box<[Grant]>, Rc<Division>, ahash::RandomState>>,
    /// Room for the grants of a request, kept from one to the next.
    room: Cell<Vec<Grant>>,
}

/// Quotas, whole and divided among instances.
struct Division {
    subjects: Box<[Subject]>,
    whole: Rc<[Terms]>,
    /// Of how many instances, and what each has.
    share: RefCell<(u32, Rc<[Terms]>)>,
}

impl Terms {
    fn new(Subject { limit, counting }: &Subject, instances: u32, settings: Settings) -> Self {
        let quota = counting.quota.share(instances);
        Self {
            policy: policy(limit, counting, settings).share(instances),
            fields: Fields::new(&limit.name, quota, settings),
            amount: quota.amount,
            quota: quota.to_string(),
        }
    }
}

/// How `limit` counts by `counting`.
fn policy(limit: &Limit, counting: &Counting, settings: Settings) -> Policy {
    let mut policy = Policy::new(counting);
    if let OnExceed::Delay(longest) = limit.on_exceed {
        policy = policy.delaying(longest);
    }
    if limit.is_charged_after() {
        policy = policy.owing();
    }
    if limit.precision == Precision::Leased {
        policy = policy.leased(settings.lease);
    }
    policy
}

impl Agreed {
    pub(super) fn new(subjects: Box<[Subject]>, settings: Settings) -> Self {
        let by_plan = subjects.iter().any(|subject| subject.limit.plan.is_some());
        let own = Division::new(subjects, settings);
        Self { settings, own, by_plan, granted: RefCell::default(), room: Cell::default() }
    }

    /// What this request has of the quotas: all of them.
    pub(super) fn of(&self, exchange: &Exchange) -> Rc<[Terms]> {
        self.division(exchange).whole.clone()
    }

    /// What one of `instances` has of them; made anew when their number changes.
    pub(super) fn share(&self, exchange: &Exchange, instances: u32) -> Rc<[Terms]> {
        let division = self.division(exchange);
        let mut share = division.share.borrow_mut();
        if share.0 != instances {
            *share = (instances, of(&division.subjects, instances, self.settings));
        }
        share.1.clone()
    }

    fn division(&self, exchange: &Exchange) -> Rc<Division> {
        match exchange.plan.as_deref().filter(|_| self.by_plan) {
            None => self.own.clone(),
            Some(plan) => self.granted(plan),
        }
    }

    fn granted(&self, plan: &Entitlement) -> Rc<Division> {
        let mut grants = self.room.take();
        grants.clear();
        grants.extend(self.own.subjects.iter().map(|Subject { limit, .. }| match limit.plan {
            Some(_) => plan.under(&limit.name),
            None => Grant::default(),
        }));
        let mut granted = self.granted.borrow_mut();
        let known = granted.get(&grants[..]).cloned();
        let division = known.unwrap_or_else(|| {
            if granted.len() == MOST_GRANTS {
                granted.clear();
            }
            let division = Division::new(self.own.with(&grants), self.settings);
            granted.insert(grants.as_slice().into(), division.clone());
            division
        });
        self.room.set(grants);
        division
    }
}

impl Division {
    fn new(subjects: Box<[Subject]>, settings: Settings) -> Rc<Self> {
        let whole: Rc<[Terms]> = of(&subjects, 1, settings);
        Rc::new(Self { subjects, share: RefCell::new((1, whole.clone())), whole })
    }

    /// What is counted where a plan grants this. What a limit cannot give leaves it as it is; the plan's lookup says so.
    fn with(&self, grants: &[Grant]) -> Box<[Subject]> {
        let granted = self.subjects.iter().zip(grants).map(|(Subject { limit, counting }, grant)| {
            let counting = counting.granted(*grant).unwrap_or_else(|_| counting.clone());
            Subject { limit: limit.clone(), counting }
        });
        granted.collect()
    }
}

fn of(subjects: &[Subject], instances: u32, settings: Settings) -> Rc<[Terms]> {
    subjects.iter().map(|subject| Terms::new(subject, instances, settings)).collect()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate_limit::partition::{Key, Part};
    use crate::rate_limit::quota::Quota;
    use crate::rate_limit::trial::exchange;
    use crate::rate_limit::{Plan, Unknown};

    /// Limits of 10 per minute each; what is called `own` goes by no plan.
    fn agreed(names: &[&str]) -> Agreed {
        let subject = |name: &&str| {
            let mut limit =
                Limit::new(name, Key(vec![Part::Address]), Quota { amount: 10, per: Duration::from_secs(60) });
            limit.plan = (*name != "own").then(|| {
                let (record, unknown) = ("{key}".into(), Unknown::Default);
                Arc::new(Plan { name: "api".into(), key: Part::Address, record, unknown })
            });
            let counting = limit.counting().unwrap().clone();
            Subject { limit: Arc::new(limit), counting }
        };
        Agreed::new(names.iter().map(subject).collect(), Settings::default())
    }

    fn client(amount: u64, burst: Option<u64>) -> Exchange {
        let mut exchange = exchange("GET", "/", "192.0.2.1", &[]);
        let all = Grant { quota: Some((amount, Duration::from_secs(60))), burst };
        exchange.plan = Some(Arc::new(Entitlement { all, limits: Box::default() }));
        exchange
    }

    fn told(terms: &[Terms]) -> Vec<(&str, u64)> {
        terms.iter().map(|terms| (terms.quota.as_str(), terms.policy.burst())).collect()
    }

    #[test]
    fn limits_that_go_by_a_plan_give_what_it_grants_and_the_others_their_own() {
        let agreed = agreed(&["search", "own"]);
        let nobody = exchange("GET", "/", "192.0.2.1", &[]);
        assert_eq!(told(&agreed.of(&nobody)), [("10 per minute", 10); 2]);
        assert_eq!(told(&agreed.of(&client(500, Some(50)))), [("500 per minute", 50), ("10 per minute", 10)]);
        assert_eq!(told(&agreed.of(&client(500, None))), [("500 per minute", 500), ("10 per minute", 10)]);
        let share = agreed.share(&client(500, Some(50)), 5);
        assert_eq!(told(&share), [("100 per minute", 10), ("2 per minute", 2)]);
        assert_eq!(told(&agreed.share(&nobody, 2)), [("5 per minute", 5); 2]);
    }

    #[test]
    fn clients_with_one_plan_share_its_terms_and_the_terms_of_many_are_bounded() {
        let agreed = agreed(&["search"]);
        assert!(Rc::ptr_eq(&agreed.of(&client(500, None)), &agreed.of(&client(500, None))));
        assert!(!Rc::ptr_eq(&agreed.of(&client(500, None)), &agreed.of(&client(501, None))));
        for amount in 1..2 * MOST_GRANTS as u64 {
            assert_eq!(agreed.of(&client(amount, None))[0].amount, amount);
            assert!(agreed.granted.borrow().len() <= MOST_GRANTS);
        }
    }

    #[test]
    fn without_a_limit_that_goes_by_it_a_plan_changes_nothing() {
        let agreed = agreed(&["own"]);
        assert_eq!(told(&agreed.of(&client(500, None))), [("10 per minute", 10)]);
        assert!(agreed.granted.borrow().is_empty());
    }
}
