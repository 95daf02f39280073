//! Whether a request is sent to the app again. Pure.
//!
//! 1. At most `most` times more, for the reasons in `on`, and only while the budget lasts.
//! 2. `connect`: no connection, or one that ended before a byte of the request was sent. Nothing can have been executed:
//!    this holds for every method.
//! 3. `reset`: the connection ended before the answer began. Only for an idempotent request without content (RFC 9110
//!    §9.2.2), and only where an idle connection was closed under it or another endpoint is there to ask: what breaks
//!    the only endpoint once would break it twice.
//! 4. A status: only for an idempotent request without content, before anything went to the client. The last answer is
//!    the client's.
//! 5. The budget: over ten seconds at most `budget` percent of the requests are retries, and `minimum` more. So an app
//!    that fails as a whole gets a fifth more, not three times as much. A retry because an idle connection was closed
//!    under the request is free: no connection can be that twice.

/// `retries`: how often, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// How often beyond the first time.
    pub most: u32,
    /// See rule 2.
    pub connect: bool,
    /// See rule 3.
    pub reset: bool,
    /// See rule 4.
    pub statuses: Vec<u16>,
    /// Retries as a share of requests, in percent.
    pub budget: u32,
    /// Retries in ten seconds beyond that share, over all workers.
    pub minimum: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { most: 2, connect: true, reset: true, statuses: Vec::new(), budget: 20, minimum: 10 }
    }
}

/// Why a request is sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not a byte of it was sent.
    Connect,
    /// The connection ended before the answer began.
    Reset,
    /// The answer had this status.
    Status(u16),
}

impl Reason {
    /// Its name in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Reset => "reset",
            Self::Status(429) => "429",
            Self::Status(500) => "500",
            Self::Status(502) => "502",
            Self::Status(503) => "503",
            Self::Status(504) => "504",
            Self::Status(_) => "status",
        }
    }
}

impl Policy {
    /// Whether `reason` is one to send a request again for.
    pub fn covers(&self, reason: Reason) -> bool {
        match reason {
            Reason::Connect => self.connect,
            Reason::Reset => self.reset,
            Reason::Status(status) => self.statuses.contains(&status),
        }
    }
}

/// The window of a [`Budget`], in seconds.
const WINDOW: u64 = 10;

/// What a worker may spend on retries.
#[derive(Debug)]
pub struct Budget {
    percent: u64,
    minimum: u64,
    seconds: [Second; WINDOW as usize],
}

#[derive(Clone, Copy, Debug, Default)]
struct Second {
    number: u64,
    requests: u64,
    retries: u64,
}

impl Budget {
    /// A worker's part of what `policy` allows `workers`.
    pub fn new(policy: &Policy, workers: usize) -> Self {
        let minimum = u64::from(policy.minimum).div_ceil(workers.max(1) as u64);
        Self { percent: policy.budget.into(), minimum, seconds: Default::default() }
    }

    /// Counts a request; `second` counts up from anywhere.
    pub fn asked(&mut self, second: u64) {
        self.at(second).requests += 1;
    }

    /// Takes a retry, if there is one left.
    pub fn take(&mut self, second: u64) -> bool {
        let recent = self.seconds.iter().filter(|each| each.number + WINDOW > second);
        let (requests, retries) =
            recent.fold((0, 0), |(requests, retries), each| (requests + each.requests, retries + each.retries));
        let left = retries < self.minimum + requests * self.percent / 100;
        if left {
            self.at(second).retries += 1;
        }
        left
    }

    fn at(&mut self, second: u64) -> &mut Second {
        let slot = &mut self.seconds[(second % WINDOW) as usize];
        if slot.number != second {
            *slot = Second { number: second, ..Second::default() };
        }
        slot
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn budget(budget: u32, minimum: u32, workers: usize) -> Budget {
        Budget::new(&Policy { budget, minimum, ..Policy::default() }, workers)
    }

    fn taken(budget: &mut Budget, second: u64) -> u32 {
        (0..1000).map(|_| u32::from(budget.take(second))).sum()
    }

    #[test]
    fn a_share_of_the_requests_and_a_minimum_are_there_to_take() {
        let mut budget = budget(20, 10, 2);
        (0..100).for_each(|_| budget.asked(7));
        assert_eq!(taken(&mut budget, 7), 20 + 5);
        assert_eq!(taken(&mut budget, 16), 0, "nine seconds later it still counts");
        assert_eq!(taken(&mut budget, 17), 5, "the requests are forgotten, the minimum is there again");
    }

    #[test]
    fn nothing_is_there_where_nothing_is_allowed() {
        let mut budget = budget(0, 0, 1);
        budget.asked(1);
        assert!(!budget.take(1));
    }

    proptest! {
        #[test]
        fn no_window_has_more_retries_than_its_share(asked in proptest::collection::vec((0..3_u64, 0..30_u32), 1..60)) {
            let (mut budget, mut second, mut log) = (budget(20, 3, 1), 100, Vec::new());
            for (step, requests) in asked {
                second += step;
                for _ in 0..requests {
                    budget.asked(second);
                    log.push((second, 1, u64::from(budget.take(second))));
                }
                let window = log.iter().filter(|(at, ..)| at + WINDOW > second);
                let (requests, retries) = window.fold((0, 0), |sum, (_, asked, again)| (sum.0 + asked, sum.1 + again));
                // What was taken while an older request still counted may outlive it by the window at most.
                let earlier = log.iter().filter(|(at, ..)| at + 2 * WINDOW > second).count() as u64;
                prop_assert!(retries <= 3 + earlier * 20 / 100, "{retries} of {requests}");
            }
        }
    }
}
