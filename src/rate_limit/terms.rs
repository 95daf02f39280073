//! By what a limit judges and what its clients are told: the whole quota, or one instance's share of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::algorithm::{Policy, gcra};
use super::fields::Fields;
use super::{Counting, Limit, OnExceed, Precision, Settings};
use crate::exchange::Exchange;

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

/// The terms of counters that are settled together, in their order.
pub(super) struct Agreed {
    subjects: Box<[Subject]>,
    settings: Settings,
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
    let mut policy = gcra::Policy::new(counting.quota, counting.burst);
    if let OnExceed::Delay(longest) = limit.on_exceed {
        policy = policy.delaying(longest);
    }
    if limit.is_charged_after() {
        policy = policy.owing();
    }
    if limit.precision == Precision::Leased {
        policy = policy.leased(settings.lease);
    }
    Policy::Bucket(policy)
}

impl Agreed {
    pub(super) fn new(subjects: Box<[Subject]>, settings: Settings) -> Self {
        let whole: Rc<[Terms]> = of(&subjects, 1, settings);
        Self { subjects, settings, share: RefCell::new((1, whole.clone())), whole }
    }

    /// What this request has of the quotas: all of them.
    pub(super) fn of(&self, _exchange: &Exchange) -> Rc<[Terms]> {
        self.whole.clone()
    }

    /// What one of `instances` has of them; made anew when their number changes.
    pub(super) fn share(&self, _exchange: &Exchange, instances: u32) -> Rc<[Terms]> {
        let mut share = self.share.borrow_mut();
        if share.0 != instances {
            *share = (instances, of(&self.subjects, instances, self.settings));
        }
        share.1.clone()
    }
}

fn of(subjects: &[Subject], instances: u32, settings: Settings) -> Rc<[Terms]> {
    subjects.iter().map(|subject| Terms::new(subject, instances, settings)).collect()
}
