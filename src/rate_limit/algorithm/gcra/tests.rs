use std::time::Duration;

use proptest::prelude::*;

use super::super::State::Bucket;
use super::*;

const NOW: u64 = 1_795_236_000_000_000;
const MONTH: u64 = 30 * 86_400;

fn state_of(decision: &Decision) -> State {
    let Bucket(state) = decision.state else { panic!("{decision:?}") };
    state
}

fn arrival(policy: &Policy, state: Option<State>, now: u64) -> u64 {
    policy.reckon(state, now).arrival.micros
}

fn policy(amount: u64, seconds: u64, burst: u64) -> Policy {
    Policy::new(Quota { amount, per: Duration::from_secs(seconds) }, burst)
}

#[test]
fn a_full_bucket_gives_its_burst_and_then_one_for_each_interval() {
    let policy = policy(1, 1, 3);
    let mut state = None;
    for remaining in [2, 1, 0] {
        let decision = policy.decide(state, NOW, Asked::units(1));
        assert_eq!((decision.allowed, decision.remaining), (true, remaining));
        state = Some(state_of(&decision));
    }
    let refused = policy.decide(state, NOW, Asked::units(1));
    assert_eq!((refused.allowed, refused.retry_after, refused.reset_after), (false, 1_000_000, 3_000_000));
    assert!(policy.decide(state, NOW + 1_000_000, Asked::units(1)).allowed);
}

#[test]
fn seven_in_a_second_are_seven_million_in_exactly_a_million_seconds() {
    let policy = policy(7, 1, 7_000_000);
    let state = (0..7_000_000).fold(None, |state, _| Some(state_of(&policy.decide(state, NOW, Asked::units(1)))));
    assert_eq!(state.map(|state| state.arrival), Some(Time { micros: NOW + 1_000_000_000_000, part: 0 }));
}

#[test]
fn a_request_that_costs_more_than_the_burst_is_never_allowed() {
    let decision = policy(10, 1, 5).decide(None, NOW, Asked::units(6));
    assert_eq!((decision.allowed, decision.retry_after, decision.remaining), (false, u64::MAX, 5));
}

#[test]
fn a_state_left_by_a_slower_policy_strands_nobody() {
    let hourly = policy(1, 3600, 24);
    let state = state_of(&hourly.decide(None, NOW, Asked::units(24)));
    let decision = policy(100, 1, 10).decide(Some(state), NOW, Asked::units(1));
    assert_eq!((decision.allowed, decision.retry_after), (false, 10_000));
}

#[test]
fn extremes_neither_overflow_nor_leave_the_range_that_lua_can_hold() {
    for (amount, seconds, burst) in [(u64::MAX, u64::MAX, u64::MAX), (1, u64::MAX, u64::MAX), (u64::MAX, 1, u64::MAX)] {
        let policy = policy(amount, seconds, burst);
        let stored = State { arrival: Time { micros: u64::MAX, part: u64::MAX }, until: u64::MAX };
        let decision = policy.decide(Some(stored), NOW, Asked::units(1));
        assert!(policy.plus(state_of(&decision).arrival, policy.span(1)).micros < 1 << 53, "{policy:?} {decision:?}");
        assert!(policy.parts() * 2 < 1 << 53);
    }
}

fn policies() -> impl Strategy<Value = Policy> {
    let amounts = prop_oneof![1..10u64, 1..1_000u64, Just(100_000), Just(700_000), Just(3_000_000)];
    let windows = prop_oneof![Just(1), Just(7), Just(60), Just(3600), Just(MONTH)];
    (amounts, windows, 1..50u64).prop_map(|(amount, seconds, burst)| policy(amount, seconds, burst))
}

/// Steps of time in 1/1000 of an interval.
fn steps() -> impl Strategy<Value = Vec<u64>> {
    proptest::collection::vec(prop_oneof![Just(0), 0..1_000u64, 0..5_000u64, 0..60_000u64], 1..300)
}

/// Of a schedule: how long after the last one in 1/1000 of an interval, and at which instance.
fn schedules() -> impl Strategy<Value = Vec<(u64, usize)>> {
    let steps = prop_oneof![Just(0), 0..1_000u64, 0..5_000u64, 0..60_000u64];
    proptest::collection::vec((steps, 0..8usize), 1..200)
}

fn part_of_interval(policy: &Policy, step: u64) -> u64 {
    (u128::from(step) * u128::from(policy.per) / u128::from(policy.amount) / 1000) as u64
}

/// No window of `allowed` moments holds more than `most` says of it (from, to), and what is earned in it.
fn bounded(policy: &Policy, allowed: &[u64], most: impl Fn(u64, u64) -> u64) -> Result<(), TestCaseError> {
    for (first, from) in allowed.iter().enumerate() {
        for (last, to) in allowed.iter().enumerate().skip(first) {
            let earned = policy.units(Time { micros: to - from, part: 0 });
            let (count, most) = ((last - first + 1) as u64, most(*from, *to) + earned);
            prop_assert!(count <= most, "{count} instead of {most} from {from} to {to}");
        }
    }
    Ok(())
}

#[test]
fn one_share_is_the_whole_and_each_of_several_gives_one_at_least() {
    let whole = policy(10, 60, 10);
    assert_eq!(whole.share(1), whole);
    assert_eq!([2, 3, 4, 10, 11].map(|instances| whole.share(instances).burst()), [5, 3, 2, 1, 1]);
    assert_eq!(whole.share(3).span(1), Time { micros: 18_000_000, part: 0 });
    assert_eq!(whole.share(3).tolerance(), whole.tolerance(), "a state of the whole is within it");
}

/// Of two states of a key, the later one.
fn later(left: Option<State>, right: Option<State>) -> Option<State> {
    let arrival = |state: Option<State>| state.map(|state| state.arrival);
    if arrival(right) > arrival(left) { right } else { left }
}

/// Instances, and the Redis they share: as `judge` has it, with one clock.
struct Instances {
    whole: Policy,
    share: Policy,
    redis: Option<State>,
    away: bool,
    local: Vec<Option<State>>,
}

impl Instances {
    fn new(whole: Policy, count: usize) -> Self {
        Self { whole, share: whole.share(count as u32), redis: None, away: false, local: vec![None; count] }
    }

    fn ask(&mut self, instance: usize, now: u64) -> bool {
        let local = &mut self.local[instance];
        if self.away {
            let decision = self.share.decide(*local, now, Asked::units(1));
            *local = Some(state_of(&decision));
            return decision.allowed;
        }
        let decision = self.whole.decide(later(self.redis, *local), now, Asked::units(1));
        if decision.allowed || later(self.redis, *local) != self.redis {
            self.redis = Some(state_of(&decision));
        }
        if decision.remaining <= self.whole.burst / 2 {
            *local = Some(state_of(&decision));
        }
        decision.allowed
    }
}

proptest! {
    #[test]
    fn no_window_holds_more_than_the_burst_and_what_is_earned_in_it(policy in policies(), steps in steps()) {
        let (mut now, mut state, mut allowed) = (NOW, None, Vec::new());
        for step in steps {
            now += (u128::from(step) * u128::from(policy.per) / u128::from(policy.amount) / 1000) as u64;
            let decision = policy.decide(state, now, Asked::units(1));
            state = Some(state_of(&decision));
            if decision.allowed {
                allowed.push(now);
            }
        }
        for (first, from) in allowed.iter().enumerate() {
            for (last, to) in allowed.iter().enumerate().skip(first) {
                let earned = policy.units(Time { micros: to - from, part: 0 });
                prop_assert!((last - first + 1) as u64 <= policy.burst + earned);
            }
        }
    }

    #[test]
    fn a_refused_request_passes_at_retry_after_and_not_a_microsecond_before(
        policy in policies(), steps in steps(), cost in 1..5u64,
    ) {
        let (mut now, mut state) = (NOW, None);
        for step in steps {
            now += (u128::from(step) * u128::from(policy.per) / u128::from(policy.amount) / 1000) as u64;
            let decision = policy.decide(state, now, Asked::units(cost));
            state = Some(state_of(&decision));
            if !decision.allowed && cost <= policy.burst {
                prop_assert!(decision.retry_after > 0);
                prop_assert!(policy.decide(state, now + decision.retry_after, Asked::units(cost)).allowed);
                prop_assert!(!policy.decide(state, now + decision.retry_after - 1, Asked::units(cost)).allowed);
            }
        }
    }

    #[test]
    fn remaining_is_exactly_what_can_still_be_spent_at_once(policy in policies(), steps in steps()) {
        let (mut now, mut state) = (NOW, None);
        for step in steps {
            now += (u128::from(step) * u128::from(policy.per) / u128::from(policy.amount) / 1000) as u64;
            let decision = policy.decide(state, now, Asked::units(1));
            state = Some(state_of(&decision));
            let remaining = decision.remaining;
            prop_assert!(policy.decide(state, now, Asked::units(remaining)).allowed);
            prop_assert!(!policy.decide(state, now, Asked::units(remaining + 1)).allowed);
            prop_assert_eq!(policy.decide(state, now + decision.reset_after, Asked::units(0)).remaining, policy.burst);
        }
    }

    #[test]
    fn the_shares_of_all_instances_together_allow_what_the_whole_does(
        policy in policies(), instances in 1..8usize, schedule in schedules(),
    ) {
        let mut fleet = Instances { away: true, ..Instances::new(policy, instances) };
        let (mut now, mut allowed) = (NOW, Vec::new());
        for (step, instance) in schedule {
            now += part_of_interval(&policy, step);
            if fleet.ask(instance % instances, now) {
                allowed.push(now);
            }
        }
        bounded(&policy, &allowed, |_, _| policy.burst.max(instances as u64))?;
    }

    #[test]
    fn an_outage_gives_a_client_of_one_instance_half_its_burst_at_most(
        policy in policies(), schedule in schedules(), turns in proptest::collection::vec((0..200usize, any::<bool>()), 0..6),
    ) {
        let mut one = Instances::new(policy, 1);
        let (mut now, mut allowed, mut outages) = (NOW, Vec::new(), Vec::new());
        for (index, (step, _)) in schedule.into_iter().enumerate() {
            for (_, empty) in turns.iter().filter(|(turn, _)| *turn == index) {
                one.away = !one.away;
                if one.away {
                    outages.push(now);
                }
                one.redis = one.redis.filter(|_| !empty);
            }
            now += part_of_interval(&policy, step);
            if one.ask(0, now) {
                allowed.push(now);
            }
        }
        let half = |from: u64, to: u64| outages.iter().filter(|at| (from..=to).contains(*at)).count() as u64 * (policy.burst / 2);
        bounded(&policy, &allowed, |from, to| policy.burst + half(from, to))?;
    }

    #[test]
    fn an_outage_gives_a_client_of_all_instances_little_more(
        policy in policies(), instances in 2..6usize, schedule in schedules(),
        start in 0..200usize, length in 0..200usize, empty in any::<bool>(),
    ) {
        let mut fleet = Instances::new(policy, instances);
        let (mut now, mut allowed) = (NOW, Vec::new());
        for (index, (step, _)) in schedule.into_iter().enumerate() {
            fleet.away = (start..start + length).contains(&index);
            fleet.redis = fleet.redis.filter(|_| !(fleet.away && empty));
            now += part_of_interval(&policy, step);
            // In turn.
            if fleet.ask(index % instances, now) {
                allowed.push(now);
            }
        }
        bounded(&policy, &allowed, |_, _| policy.burst + policy.burst / 2 + 2 * instances as u64)?;
    }

    #[test]
    fn what_is_given_back_is_not_given_twice_however_much_is_in_flight(
        policy in policies(), at_once in 1..5usize,
        schedule in proptest::collection::vec((0..3_000u64, any::<bool>(), 0..3_000u64), 1..100),
    ) {
        // With what was charged for requests that another limit refused, and without it.
        let (mut with, mut without, mut owed) = (None, None, Vec::<(u64, u64)>::new());
        let (mut now, mut late) = (NOW, 0);
        for (step, kept, delay) in schedule {
            now += part_of_interval(&policy, step);
            owed.sort_unstable();
            for (due, taken_at) in owed.extract_if(.., |(due, _)| *due <= now) {
                with = policy.give_back(with, taken_at, due, 1);
            }
            let decision = policy.decide(with, now, Asked::units(1));
            if !decision.allowed || (!kept && owed.len() == at_once) {
                continue;
            }
            with = Some(state_of(&decision));
            if kept {
                without = Some(policy.charge(without, now, 1));
            } else {
                let delay = part_of_interval(&policy, delay);
                owed.push((now + delay, now));
                late += delay;
            }
            let [with, without] = [with, without].map(|state| policy.reckon(state, now).arrival);
            prop_assert!(with >= without, "{with:?} {without:?}");
        }
        owed.sort_unstable();
        for (due, taken_at) in owed {
            (now, with) = (due.max(now), policy.give_back(with, taken_at, due, 1));
        }
        // What was in flight is lost at most, and a part of a µs each time.
        let left = with.map_or(0, |state| state.arrival.after(now));
        prop_assert!(without.is_some() || left <= late + 100, "{left} {late}");
    }

    #[test]
    fn what_is_taken_back_is_not_given_twice(
        policy in policies(), at_once in 1..5usize,
        schedule in proptest::collection::vec((0..3_000u64, any::<bool>(), 0..3_000u64), 1..100),
    ) {
        // With what was charged for requests that another limit refused, and without it.
        let (mut with, mut without, mut owed) = (None, None, Vec::<(u64, u64)>::new());
        let (mut now, mut taken_back, mut longest) = (NOW, 0, 0);
        for (step, kept, delay) in schedule {
            now += part_of_interval(&policy, step);
            owed.sort_by_key(|(due, _)| *due);
            for (due, before) in owed.extract_if(.., |(due, _)| *due <= now) {
                with = policy.give_back(with, before, due, 1);
            }
            let decision = policy.decide(with, now, Asked::units(1));
            if !decision.allowed || (!kept && owed.len() == at_once) {
                continue;
            }
            with = Some(state_of(&decision));
            if kept {
                without = Some(policy.charge(without, now, 1));
            } else {
                let delay = part_of_interval(&policy, delay);
                (longest, taken_back) = (delay.max(longest), taken_back + 1);
                owed.push((now + delay, policy.before(state_of(&decision), 1)));
            }
            // One at a time is exact; of several each may count as idle time what was none of its own.
            let short = arrival(&policy, without, now).saturating_sub(arrival(&policy, with, now));
            prop_assert!(short <= (at_once as u64 - 1) * longest, "{short} µs short");
        }
        owed.sort_by_key(|(due, _)| *due);
        for (due, before) in owed {
            (now, with) = (due.max(now), policy.give_back(with, before, due, 1));
        }
        // It is taken back whole, but for a part of a µs each time.
        prop_assert!(without.is_some() || with.map_or(0, |state| state.arrival.after(now)) <= taken_back);
    }
}
