//! By what a limit judges and what its clients are told: the whole quota, or one instance's share of it.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use super::algorithm::{Policy, gcra};
use super::fields::Fields;
use super::{Counting, Limit, Settings};

/// The terms of one limit.
pub(super) struct Terms {
    pub(super) policy: Policy,
    pub(super) fields: Fields,
    /// Units in what is told as the quota.
    pub(super) amount: u64,
    /// The quota as a refusal names it.
    pub(super) quota: String,
}

/// The terms of limits that are settled together, in their order.
pub(super) struct Agreed {
    limits: Box<[Arc<Limit>]>,
    settings: Settings,
    whole: Rc<[Terms]>,
    /// Of how many instances, and what each has.
    share: RefCell<(u32, Rc<[Terms]>)>,
}

impl Terms {
    fn new(limit: &Limit, counting: &Counting, instances: u32, settings: Settings) -> Self {
        let quota = counting.quota.share(instances);
        Self {
            policy: Policy::Bucket(gcra::Policy::new(counting.quota, counting.burst)).share(instances),
            fields: Fields::new(&limit.name, quota, settings),
            amount: quota.amount,
            quota: quota.to_string(),
        }
    }
}

impl Agreed {
    pub(super) fn new(limits: &[Arc<Limit>], settings: Settings) -> Self {
        let whole: Rc<[Terms]> = of(limits, 1, settings);
        Self { limits: limits.into(), settings, share: RefCell::new((1, whole.clone())), whole }
    }

    /// All of the quotas.
    pub(super) fn whole(&self) -> &Rc<[Terms]> {
        &self.whole
    }

    /// What one of `instances` has of them; made anew when their number changes.
    pub(super) fn share(&self, instances: u32) -> Rc<[Terms]> {
        let mut share = self.share.borrow_mut();
        if share.0 != instances {
            *share = (instances, of(&self.limits, instances, self.settings));
        }
        share.1.clone()
    }
}

/// One for each limit that counts units.
fn of(limits: &[Arc<Limit>], instances: u32, settings: Settings) -> Rc<[Terms]> {
    let counted = limits.iter().filter_map(|limit| Some((limit, limit.counting()?)));
    counted.map(|(limit, counting)| Terms::new(limit, counting, instances, settings)).collect()
}
