//! What a client's plan gives it. Plain facts.

use std::time::Duration;

/// What the record of a client says, for all limits that go by its plan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entitlement {
    /// Under all limits that are not named.
    pub all: Grant,
    /// By NAME of the limit, each once.
    pub limits: Box<[(Box<str>, Grant)]>,
}

/// What is granted under a limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Grant {
    /// So many units in each such time, instead of the limit's own quota.
    pub quota: Option<(u64, Duration)>,
    /// So many units at once; none: with a quota as many as that has, without one as the limit itself says.
    pub burst: Option<u64>,
}

impl Entitlement {
    /// What it grants under the limit called `name`.
    ///
    /// A burst goes with the quota that it stands beside: a quota for this limit alone takes none that is meant for all.
    pub fn under(&self, name: &str) -> Grant {
        match self.limits.iter().find(|(limit, _)| **limit == *name) {
            None => self.all,
            Some((_, own @ Grant { quota: Some(_), .. })) => *own,
            Some((_, own)) => Grant { quota: self.all.quota, burst: own.burst.or(self.all.burst) },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn what_is_said_of_one_limit_stands_before_what_is_said_of_all_and_keeps_its_burst_apart() {
        let grant = |quota: Option<u64>, burst| Grant { quota: quota.map(|amount| (amount, MINUTE)), burst };
        let limits = [
            ("search".into(), grant(Some(5), None)),
            ("upload".into(), grant(Some(7), Some(2))),
            ("burst".into(), grant(None, Some(3))),
        ];
        let entitlement = Entitlement { all: grant(Some(100), Some(50)), limits: limits.into() };
        assert_eq!(entitlement.under("other"), grant(Some(100), Some(50)));
        assert_eq!(entitlement.under("search"), grant(Some(5), None));
        assert_eq!(entitlement.under("upload"), grant(Some(7), Some(2)));
        assert_eq!(entitlement.under("burst"), grant(Some(100), Some(3)));
        assert_eq!(Entitlement::default().under("other"), Grant::default());
    }
}
