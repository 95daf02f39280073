//! The smallest quota under which a key would never have been refused. Pure.
//!
//! 1. Quotas are tried in round steps: 1, 2, 5, 10, 20, 50 … in the window that the limit has. A burst that the
//!    configuration sets stays; otherwise it is the quota's number.
//! 2. Each step is judged by the limit's own algorithm over all requests of the key. A step that refuses one is out, and
//!    with it all below: more quota never refuses what less of it allows.
//! 3. Windows and logs count alike whatever the quota. So they are judged once, by the greatest step, and what this says to
//!    be left says what was used. A debt that a smaller step would cap counts whole.
//! 4. A limit is judged by itself: as if the others let everything pass.
//!
//! # Why
//! A token bucket drains faster the greater its quota is, so each step has a state of its own. But the higher ones are full
//! again before most requests: that of a step that was full before the last request follows from that request alone, and so
//! do those of all steps above it. Only the others are kept: one or two of a key that asks now and then.

use std::time::Duration;

use super::kept::Kept;
use crate::rate_limit::Algorithm;
use crate::rate_limit::algorithm::{Asked, Policy, State};
use crate::rate_limit::quota::Quota;

/// No quota is greater.
const GREATEST: u64 = 1_000_000_000;

/// No log is longer.
const LONGEST_LOG: u64 = 10_000;

/// What one request asks of one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// When it comes.
    pub asked: Asked,
    /// Units that are charged once it is answered, besides.
    pub after: u64,
}

/// The quotas that are tried.
#[derive(Clone, Debug)]
pub struct Steps {
    amounts: Vec<u64>,
    policies: Vec<Policy>,
    /// Whether the greatest step says it for all.
    once: bool,
}

/// What a key needs.
#[derive(Clone, Debug, Default)]
pub struct Demand {
    /// The smallest step that has refused nothing.
    lowest: usize,
    /// The last request.
    last: Option<(u64, Ask)>,
    /// The states of the steps from the lowest, up to the last that is not full.
    states: Vec<State>,
    /// Where the greatest step says it for all: what is kept for that.
    kept: Kept,
}

impl Steps {
    /// Those for windows of `per`, of what `policy` makes of a quota.
    pub fn new(per: Duration, algorithm: Algorithm, policy: impl Fn(Quota) -> Policy) -> Self {
        let greatest = if algorithm == Algorithm::SlidingLog { LONGEST_LOG } else { GREATEST };
        let greatest = greatest.min(u64::try_from(per.as_micros()).unwrap_or(GREATEST));
        let decades = (0..).map_while(|power| 10_u64.checked_pow(power));
        let amounts = decades.flat_map(|decade| [1, 2, 5].map(|step| decade.saturating_mul(step)));
        let amounts: Vec<u64> = amounts.take_while(|amount| *amount <= greatest).collect();
        let policies = amounts.iter().map(|amount| policy(Quota { amount: *amount, per })).collect();
        Self { amounts, policies, once: algorithm != Algorithm::TokenBucket }
    }

    /// The quotas in units, in order.
    pub fn amounts(&self) -> &[u64] {
        &self.amounts
    }

    /// Takes account of a request at `now` (µs since the Unix epoch, never before the last one).
    pub fn note(&self, demand: &mut Demand, now: u64, ask: Ask) {
        match self.once {
            true => self.note_once(demand, now, ask),
            false => self.note_each(demand, now, ask),
        }
        demand.last = Some((now, ask));
    }

    /// The smallest step that would have refused nothing; the number of steps if none is.
    pub fn needed(&self, demand: &Demand) -> usize {
        demand.lowest
    }

    fn note_each(&self, demand: &mut Demand, now: u64, ask: Ask) {
        let mut out = 0;
        for (index, policy) in self.policies.iter().enumerate().skip(demand.lowest) {
            let place = index - demand.lowest;
            let implied = || demand.last.map(|(at, ask)| judged(policy, None, at, ask).1);
            let stored = demand.states.get(place).copied().or_else(implied);
            let full = stored.as_ref().is_none_or(|state| is_full(state, now));
            let (allowed, state) = judged(policy, stored.as_ref(), now, ask);
            if !allowed {
                out = place + 1;
            } else if full {
                // As full as all above it.
                demand.states.truncate(place);
                break;
            }
            match demand.states.get_mut(place) {
                Some(kept) => *kept = state,
                None => demand.states.push(state),
            }
        }
        demand.states.drain(..out.min(demand.states.len()));
        demand.lowest += out;
    }

    fn note_once(&self, demand: &mut Demand, now: u64, ask: Ask) {
        let (Some(policy), Some(greatest)) = (self.policies.last(), self.amounts.last()) else { return };
        if demand.lowest == self.amounts.len() {
            return;
        }
        let all = Asked { take: ask.asked.need, ..ask.asked };
        let stored = demand.kept.state(policy, now, all);
        let decision = policy.decide(stored.as_ref(), now, all);
        let used = if decision.allowed { greatest - decision.remaining } else { u64::MAX };
        let needed = self.amounts.partition_point(|amount| *amount < used);
        let (_, state) = judged(policy, stored.as_ref(), now, ask);
        demand.lowest = demand.lowest.max(needed);
        demand.kept.keep(policy, now, state);
    }
}

/// Whether a policy allows a request, and the state after it.
fn judged(policy: &Policy, stored: Option<&State>, now: u64, ask: Ask) -> (bool, State) {
    let decision = policy.decide(stored, now, ask.asked);
    if decision.allowed && ask.after > 0 {
        (true, policy.charge(Some(&decision.state), now, ask.after))
    } else {
        (decision.allowed, decision.state)
    }
}

fn is_full(state: &State, now: u64) -> bool {
    match state {
        State::Bucket(bucket) => bucket.arrival.after(now) == 0,
        // Of these no step has a state of its own.
        State::Fixed(_) | State::Sliding(_) | State::Log(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rate_limit::algorithm::{fixed, gcra, log, sliding};

    const NOW: u64 = 1_795_236_000_000_000;
    const PER: Duration = Duration::from_secs(10);

    fn bucket(burst: Option<u64>) -> impl Fn(Quota) -> Policy {
        move |quota| Policy::Bucket(gcra::Policy::new(quota, burst.unwrap_or(quota.amount)).owing())
    }

    /// Requests by when they come, in steps of a tenth of a second, most at the same time as the one before.
    fn requests() -> impl Strategy<Value = Vec<(u64, Ask)>> {
        let gap = prop_oneof![4 => Just(0), 4 => 0..5_u64, 1 => 0..200_u64];
        let ask = prop_oneof![
            4 => (1..4_u64).prop_map(|units| Ask { asked: Asked::units(units), after: 0 }),
            1 => (0..3_u64).prop_map(|after| Ask { asked: Asked::units(1).look(), after }),
        ];
        let gaps = proptest::collection::vec((gap, ask), 1..120);
        gaps.prop_map(|gaps| {
            let add = |now: &mut u64, (gap, ask): (u64, Ask)| {
                *now += gap * 100_000;
                Some((*now, ask))
            };
            gaps.into_iter().scan(NOW, add).collect()
        })
    }

    /// Whether a policy refuses none, judging each in turn.
    fn spares(policy: &Policy, requests: &[(u64, Ask)]) -> bool {
        let mut kept = Kept::default();
        requests.iter().all(|(now, ask)| {
            let stored = kept.state(policy, *now, ask.asked);
            let (allowed, after) = judged(policy, stored.as_ref(), *now, *ask);
            kept.keep(policy, *now, after);
            allowed
        })
    }

    fn needed(steps: &Steps, requests: &[(u64, Ask)]) -> usize {
        let mut demand = Demand::default();
        requests.iter().for_each(|(now, ask)| steps.note(&mut demand, *now, *ask));
        steps.needed(&demand)
    }

    #[test]
    fn quotas_are_tried_in_round_steps_up_to_the_greatest() {
        let amounts =
            |per| Steps::new(Duration::from_secs(per), Algorithm::TokenBucket, bucket(None)).amounts().to_vec();
        assert_eq!(amounts(60)[..7], [1, 2, 5, 10, 20, 50, 100]);
        assert_eq!(*amounts(1).last().unwrap(), 1_000_000);
        assert_eq!(*amounts(86_400).last().unwrap(), 1_000_000_000);
    }

    #[test]
    fn a_key_that_asks_now_and_then_keeps_few_states() {
        let steps = Steps::new(PER, Algorithm::TokenBucket, bucket(None));
        let mut demand = Demand::default();
        for turn in 0..1000 {
            steps.note(&mut demand, NOW + turn * 3_000_000, Ask { asked: Asked::units(1), after: 0 });
        }
        // One in three seconds, in windows of ten: 2 are too few, and 5 are full again each time.
        assert_eq!((steps.amounts()[steps.needed(&demand)], demand.states.len()), (5, 0));
    }

    proptest! {
        #[test]
        fn windows_and_logs_need_what_they_count(requests in requests(), which in 0..3_usize) {
            let algorithm = [Algorithm::FixedWindow, Algorithm::SlidingWindow, Algorithm::SlidingLog][which];
            let steps = Steps::new(PER, algorithm, |quota| match algorithm {
                Algorithm::FixedWindow => Policy::Fixed(fixed::Policy::new(quota, None).owing()),
                Algorithm::SlidingWindow => Policy::Sliding(sliding::Policy::new(quota).owing()),
                _ => Policy::Log(log::Policy::new(quota)),
            });
            let each = steps.policies.iter().position(|policy| spares(policy, &requests));
            prop_assert_eq!(needed(&steps, &requests), each.unwrap_or(steps.policies.len()));
        }

        #[test]
        fn the_smallest_step_that_refuses_nothing_is_found(requests in requests(), burst in proptest::option::of(1..30_u64)) {
            let steps = Steps::new(PER, Algorithm::TokenBucket, bucket(burst));
            let each = steps.policies.iter().position(|policy| spares(policy, &requests));
            prop_assert_eq!(needed(&steps, &requests), each.unwrap_or(steps.policies.len()));
        }
    }
}
