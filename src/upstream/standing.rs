//! Which endpoints are used, and with what share of the requests. Pure.
//!
//! 1. An unhealthy endpoint (`health`) gets nothing; but if all are unhealthy all are used: then the check is more likely
//!    to be wrong than every endpoint.
//! 2. An endpoint whose breaker is not closed gets nothing, as long as no more are left out than the policy allows. Of
//!    several, those that stay open longest are left out first. Below 100 percent at least one is used.
//! 3. An endpoint that is new, or well again, begins with a tenth of its share and has all of it after `slow_start`.
//!    Those that are used only because too many others are out have all of it.

use std::time::{Duration, Instant};

use super::breaker::{Phase, Policy};

/// The share of an endpoint of weight 1.
pub const WHOLE: u32 = 1000;

/// In how many steps a share grows.
const STEPS: u32 = 10;

/// What there is to know about one endpoint.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    /// Its configured weight.
    pub weight: u32,
    /// What active checks say.
    pub healthy: bool,
    /// What its breaker does.
    pub phase: Phase,
    /// When it became new or well, if that was later than the start.
    pub since: Option<Instant>,
}

/// The share of each endpoint; 0: it is left out.
pub fn shares(seen: &[Seen], policy: &Policy, slow_start: Option<Duration>, now: Instant) -> Vec<u32> {
    let all_unhealthy = seen.iter().all(|endpoint| !endpoint.healthy);
    let usable = |endpoint: &Seen| endpoint.healthy || all_unhealthy;
    let mut open: Vec<usize> =
        (0..seen.len()).filter(|at| usable(&seen[*at]) && seen[*at].phase != Phase::Closed).collect();
    open.sort_by_key(|at| match seen[*at].phase {
        Phase::Open { until } => (0, std::cmp::Reverse(until)),
        _ => (1, std::cmp::Reverse(now)),
    });
    let count = seen.iter().filter(|endpoint| usable(endpoint)).count();
    let keeps_one = usize::from(policy.most_percent < 100);
    open.truncate(policy.most_of(seen.len()).min(count.saturating_sub(keeps_one)));
    let share = |(at, endpoint): (usize, &Seen)| {
        if !usable(endpoint) || open.contains(&at) {
            return 0;
        }
        let well = endpoint.healthy && endpoint.phase == Phase::Closed;
        let steps = if well { ramp(endpoint.since, slow_start, now) } else { STEPS };
        endpoint.weight * (WHOLE / STEPS) * steps
    };
    seen.iter().enumerate().map(share).collect()
}

/// When time alone changes the shares next.
pub fn next_change(seen: &[Seen], slow_start: Option<Duration>, now: Instant) -> Option<Instant> {
    let next = seen.iter().filter_map(|endpoint| match endpoint.phase {
        Phase::Open { until } => Some(until),
        _ if ramp(endpoint.since, slow_start, now) < STEPS => slow_start.map(|lasts| now + lasts / STEPS),
        _ => None,
    });
    next.min()
}

/// How many tenths of its share an endpoint has.
fn ramp(since: Option<Instant>, slow_start: Option<Duration>, now: Instant) -> u32 {
    let (Some(since), Some(lasts)) = (since, slow_start.filter(|lasts| !lasts.is_zero())) else { return STEPS };
    let tenths = now.saturating_duration_since(since).as_nanos() * u128::from(STEPS) / lasts.as_nanos();
    u32::try_from(tenths).map_or(STEPS, |tenths| tenths.clamp(1, STEPS))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::clock;

    const SECOND: Duration = Duration::from_secs(1);

    fn well() -> Seen {
        Seen { weight: 1, healthy: true, phase: Phase::Closed, since: None }
    }

    fn percent(most_percent: u32) -> Policy {
        Policy { most_percent, ..Policy::default() }
    }

    #[test]
    fn weights_are_shares() {
        let seen = [well(), Seen { weight: 3, ..well() }];
        assert_eq!(shares(&seen, &percent(50), None, clock::instant()), [1000, 3000]);
    }

    #[test]
    fn the_unhealthy_are_left_out_unless_all_are() {
        let (now, ill) = (clock::instant(), Seen { healthy: false, ..well() });
        assert_eq!(shares(&[well(), ill, ill], &percent(0), None, now), [1000, 0, 0]);
        assert_eq!(shares(&[ill, ill], &percent(100), None, now), [1000, 1000]);
    }

    #[test]
    fn no_more_are_ejected_than_the_policy_allows() {
        let now = clock::instant();
        let open = |seconds: u32| Seen { phase: Phase::Open { until: now + seconds * SECOND }, ..well() };
        let half_open = Seen { phase: Phase::HalfOpen, ..well() };
        assert_eq!(shares(&[open(1), open(9), well()], &percent(50), None, now), [1000, 0, 1000]);
        assert_eq!(shares(&[half_open, open(1), well(), well()], &percent(25), None, now), [1000, 0, 1000, 1000]);
        assert_eq!(shares(&[open(1), half_open], &percent(99), None, now), [0, 1000]);
        assert_eq!(shares(&[open(1), half_open], &percent(100), None, now), [0, 0]);
        assert_eq!(shares(&[open(1)], &percent(50), None, now), [1000]);
        let ill = Seen { healthy: false, ..well() };
        assert_eq!(shares(&[ill, open(1)], &percent(50), None, now), [0, 1000], "the last healthy one is used");
    }

    #[test]
    fn a_share_grows_from_a_tenth_to_the_whole() {
        let start = clock::instant();
        let new = [Seen { weight: 2, since: Some(start), ..well() }];
        let at = |seconds: u32| {
            let now = start + seconds * SECOND;
            (shares(&new, &percent(50), Some(30 * SECOND), now)[0], next_change(&new, Some(30 * SECOND), now))
        };
        assert_eq!(at(0), (200, Some(start + 3 * SECOND)));
        assert_eq!(at(3).0, 200);
        assert_eq!(at(15), (1000, Some(start + 18 * SECOND)));
        assert_eq!(at(30), (2000, None));
        assert_eq!(shares(&new, &percent(50), None, start), [2000], "without slow start");
    }

    proptest! {
        #[test]
        fn somebody_is_always_used_below_100_percent(
            kinds in proptest::collection::vec((0..4_u8, 0..60_u64), 1..12), most_percent in 0..100_u32,
        ) {
            let now = clock::instant();
            let seen: Vec<Seen> = kinds.iter().map(|(kind, seconds)| Seen {
                healthy: *kind != 1,
                phase: match kind {
                    2 => Phase::Open { until: now + Duration::from_secs(*seconds) },
                    3 => Phase::HalfOpen,
                    _ => Phase::Closed,
                },
                ..well()
            }).collect();
            let shares = shares(&seen, &percent(most_percent), Some(SECOND), now);
            prop_assert!(shares.iter().any(|share| *share > 0));
            let ejected = seen.iter().zip(&shares).filter(|(seen, share)| seen.healthy && **share == 0).count();
            prop_assert!(ejected <= percent(most_percent).most_of(seen.len()));
        }
    }
}
