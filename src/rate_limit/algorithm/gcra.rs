//! The generic cell rate algorithm (ITU-T I.371, annex A): a token bucket in one number.
//!
//! 1. The state is the *theoretical arrival time*: when everything spent will have been earned back. A state in the past,
//!    or none, means full.
//! 2. A request that costs `c` moves it by `c` *emission intervals* (window / quota). It is allowed if the result is at
//!    most `burst` intervals ahead of now.
//! 3. Time is whole microseconds and a part of one, counted in 1/quota µs. The interval is then exact for every quota:
//!    7 in a second is 142,857 µs and 1/7, and nothing drifts.
//! 4. A state further ahead than the policy in force allows (an earlier policy's, or a clock set back) counts as just
//!    empty: a client waits for what it spends, never for what another policy meant by it.
//! 5. Several limits of one request are settled together: one refuses, none is charged.
//! 6. A state is a moment, so it means the same to every store: of two that know a client, the later state counts.
//! 7. One of `n` shares has intervals `n` times as long and the same tolerance, or one interval where that is longer. In a
//!    time `w`, `n` shares together thus allow at most max(`burst`, `n`) and what the whole earns in `w`.
//! 8. A charge is taken back less what time has given back since, so that nothing is given twice. That is exact for one
//!    charge at a time. Of several that wait to be taken back, each was added to the others: the state may then be early
//!    by the time it takes to take them back, until it has passed.
//!
//! `store/scripts/*.lua` move the state by the same steps; what the state means is read here for both stores.
//!
//! # Why
//! Rounding the interval to microseconds would make 700,000 per second 500,000, and any division on the way would
//! add up. Pairs of integers below 2^53 are also all that Lua's numbers can hold exactly.
//!
//! Of rule 7: one share allows `k` requests in `w` only if `k` of its intervals fit into `w` and its tolerance, and `n` times
//! that is the bound. Were the tolerance divided as well, the state of the whole would be beyond it, and cut.
//!
//! Of rule 8: without the charge, the state would not have moved until time reached what the charge was added to, and
//! with time since. Taking back all of it would leave the state before where it would be, by as much as it took.

use crate::rate_limit::quota::Quota;

/// No span is longer (63 years in µs), so that now plus two spans stays below 2^53.
const LONGEST: u64 = 2_000_000_000_000_000;

/// A moment (µs since the Unix epoch) or a span (µs), and a part of a µs in 1/quota.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Time {
    /// Whole microseconds.
    pub micros: u64,
    /// Parts beyond them, each 1/quota µs; less than the quota.
    pub part: u64,
}

/// A quota and a burst, ready to decide with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    amount: u64,
    per: u64,
    burst: u64,
    tolerance: Time,
}

/// What one limit says to one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may pass.
    pub allowed: bool,
    /// Units that may be spent at once after this.
    pub remaining: u64,
    /// µs until the same request would be allowed; 0 if it is, `u64::MAX` if it never will be (it costs more than the burst).
    pub retry_after: u64,
    /// µs until all units are there again, rounded up.
    pub reset_after: u64,
    /// The state after this.
    pub arrival: Time,
}

impl Policy {
    /// The policy of `quota` with `burst` (units, at least 1). Spans beyond 63 years are cut to that.
    pub fn new(quota: Quota, burst: u64) -> Self {
        let per = u64::try_from(quota.per.as_micros()).unwrap_or(LONGEST).clamp(1, LONGEST);
        let amount = quota.amount.clamp(1, LONGEST);
        let mut policy = Self { amount, per, burst: burst.max(1), tolerance: Time::default() };
        let most = u128::from(LONGEST) * u128::from(amount) / u128::from(per);
        policy.burst = policy.burst.min(u64::try_from(most).unwrap_or(u64::MAX));
        policy.tolerance = policy.span(policy.burst);
        policy
    }

    /// One of `instances` equal shares of it: of at least one unit at once.
    pub fn share(&self, instances: u32) -> Self {
        let per = self.per.saturating_mul(u64::from(instances.max(1))).min(LONGEST);
        let mut share = Self { per, ..*self };
        share.tolerance = self.tolerance.max(share.span(1));
        share.burst = share.units(share.tolerance).max(1);
        share
    }

    /// Units that may be spent at once when full.
    pub fn burst(&self) -> u64 {
        self.burst
    }

    /// Parts of a µs.
    pub fn parts(&self) -> u64 {
        self.amount
    }

    /// How far ahead of now the state may be.
    pub fn tolerance(&self) -> Time {
        self.tolerance
    }

    /// How long it takes to earn `cost` units.
    pub fn span(&self, cost: u64) -> Time {
        let parts = u128::from(cost) * u128::from(self.per);
        let amount = u128::from(self.amount);
        match u64::try_from(parts / amount) {
            Ok(micros) if micros <= LONGEST => Time { micros, part: (parts % amount) as u64 },
            _ => Time { micros: LONGEST, part: 0 },
        }
    }

    /// Decides about a request that costs `cost` units at `now` (µs since the Unix epoch).
    pub fn decide(&self, stored: Option<Time>, now: u64, cost: u64) -> Decision {
        let latest = self.plus(Time { micros: now, part: 0 }, self.tolerance);
        let before = self.reckon(stored, now).min(latest);
        let after = self.plus(before, self.span(cost));
        let allowed = cost <= self.burst && after <= latest;
        let arrival = if allowed { after } else { before };
        Decision {
            allowed,
            remaining: self.units(self.minus(latest, arrival)).min(self.burst),
            retry_after: match allowed {
                true => 0,
                false if cost > self.burst => u64::MAX,
                false => self.minus(after, self.tolerance).after(now),
            },
            reset_after: arrival.after(now),
            arrival,
        }
    }

    /// Whether so much is spent that an instance keeps it in mind, for when it has to do without the store: half of what may
    /// be spent at once.
    pub fn is_worth_noting(&self, decision: &Decision) -> bool {
        decision.remaining <= self.burst / 2
    }

    /// The state that a charge of `cost` units was added to, if it then was `arrival`.
    pub fn before(&self, arrival: Time, cost: u64) -> Time {
        self.minus(arrival, self.span(cost))
    }

    /// The state once a charge of `cost` units that was added to `before` is taken back at `now` (µs since the Unix epoch).
    pub fn refund(&self, stored: Option<Time>, before: Time, now: u64, cost: u64) -> Option<Time> {
        let charged = self.span(cost);
        let earned = Time { micros: now.saturating_sub(before.micros), part: 0 };
        if earned >= charged {
            return stored;
        }
        let back = self.minus(charged, earned);
        let left = self.reckon(stored, now);
        let full = Time { micros: now, part: 0 };
        (left > self.plus(full, back)).then(|| self.minus(left, back))
    }

    /// The stored state in this policy's parts, never in the past.
    fn reckon(&self, stored: Option<Time>, now: u64) -> Time {
        let now = Time { micros: now, part: 0 };
        // Another policy's parts are of another size: less than a µs is at stake, once.
        stored.map_or(now, |Time { micros, part }| Time { micros, part: part.min(self.amount - 1) }.max(now))
    }

    fn plus(&self, left: Time, right: Time) -> Time {
        let part = left.part + right.part;
        let micros = left.micros.saturating_add(right.micros);
        if part < self.amount { Time { micros, part } } else { Time { micros: micros + 1, part: part - self.amount } }
    }

    /// `left` is not before `right`.
    fn minus(&self, left: Time, right: Time) -> Time {
        let micros = left.micros - right.micros;
        match left.part.checked_sub(right.part) {
            Some(part) => Time { micros, part },
            None => Time { micros: micros - 1, part: left.part + self.amount - right.part },
        }
    }

    /// Whole units earned in `span`.
    fn units(&self, span: Time) -> u64 {
        let parts = u128::from(span.micros) * u128::from(self.amount) + u128::from(span.part);
        u64::try_from(parts / u128::from(self.per)).unwrap_or(u64::MAX)
    }
}

impl Time {
    /// How far ahead of `now` (µs since the Unix epoch) it is; nothing if it has passed.
    pub fn ahead(self, now: u64) -> Self {
        self.micros.checked_sub(now).map_or_else(Self::default, |micros| Self { micros, ..self })
    }

    /// µs from `now` until it, rounded up; 0 if it has passed.
    pub fn after(self, now: u64) -> u64 {
        (self.micros + u64::from(self.part > 0)).saturating_sub(now)
    }
}

/// Decides about one request under several limits, given as (policy, state, cost): if one refuses, none is charged.
/// The decisions come in the order of the limits.
pub fn settle<'a>(limits: impl Iterator<Item = (&'a Policy, Option<Time>, u64)> + Clone, now: u64) -> Vec<Decision> {
    let decide = |(policy, stored, cost): (&Policy, _, _)| policy.decide(stored, now, cost);
    let mut decisions: Vec<Decision> = limits.clone().map(decide).collect();
    if decisions.iter().any(|decision| !decision.allowed) {
        let uncharged = decisions.iter_mut().zip(limits).filter(|(decision, _)| decision.allowed);
        uncharged.for_each(|(decision, (policy, stored, _))| *decision = decide((policy, stored, 0)));
    }
    decisions
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_795_236_000_000_000;
    const MONTH: u64 = 30 * 86_400;

    fn policy(amount: u64, seconds: u64, burst: u64) -> Policy {
        Policy::new(Quota { amount, per: Duration::from_secs(seconds) }, burst)
    }

    #[test]
    fn a_full_bucket_gives_its_burst_and_then_one_for_each_interval() {
        let policy = policy(1, 1, 3);
        let mut state = None;
        for remaining in [2, 1, 0] {
            let decision = policy.decide(state, NOW, 1);
            assert_eq!((decision.allowed, decision.remaining), (true, remaining));
            state = Some(decision.arrival);
        }
        let refused = policy.decide(state, NOW, 1);
        assert_eq!((refused.allowed, refused.retry_after, refused.reset_after), (false, 1_000_000, 3_000_000));
        assert!(policy.decide(state, NOW + 1_000_000, 1).allowed);
    }

    #[test]
    fn seven_in_a_second_are_seven_million_in_exactly_a_million_seconds() {
        let policy = policy(7, 1, 7_000_000);
        let arrival = (0..7_000_000).fold(None, |state, _| Some(policy.decide(state, NOW, 1).arrival));
        assert_eq!(arrival, Some(Time { micros: NOW + 1_000_000_000_000, part: 0 }));
    }

    #[test]
    fn a_request_that_costs_more_than_the_burst_is_never_allowed() {
        let decision = policy(10, 1, 5).decide(None, NOW, 6);
        assert_eq!((decision.allowed, decision.retry_after, decision.remaining), (false, u64::MAX, 5));
    }

    #[test]
    fn a_state_left_by_a_slower_policy_strands_nobody() {
        let hourly = policy(1, 3600, 24);
        let state = hourly.decide(None, NOW, 24).arrival;
        let decision = policy(100, 1, 10).decide(Some(state), NOW, 1);
        assert_eq!((decision.allowed, decision.retry_after), (false, 10_000));
    }

    #[test]
    fn extremes_neither_overflow_nor_leave_the_range_that_lua_can_hold() {
        for (amount, seconds, burst) in
            [(u64::MAX, u64::MAX, u64::MAX), (1, u64::MAX, u64::MAX), (u64::MAX, 1, u64::MAX)]
        {
            let policy = policy(amount, seconds, burst);
            let decision = policy.decide(Some(Time { micros: u64::MAX, part: u64::MAX }), NOW, 1);
            assert!(policy.plus(decision.arrival, policy.span(1)).micros < 1 << 53, "{policy:?} {decision:?}");
            assert!(policy.parts() * 2 < 1 << 53);
        }
    }

    #[test]
    fn when_one_limit_refuses_the_others_are_not_charged() {
        let (wide, narrow) = (policy(10, 1, 10), policy(1, 1, 1));
        let spent = narrow.decide(None, NOW, 1).arrival;
        let both = [(&wide, None, 1), (&narrow, Some(spent), 1)];
        let decisions = settle(both.into_iter(), NOW);
        assert_eq!((decisions[0].allowed, decisions[0].remaining), (true, 10));
        assert_eq!((decisions[1].allowed, decisions[1].remaining), (false, 0));
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

    /// Instances, and the Redis they share: as `judge` has it, with one clock.
    struct Instances {
        whole: Policy,
        share: Policy,
        redis: Option<Time>,
        away: bool,
        local: Vec<Option<Time>>,
    }

    impl Instances {
        fn new(whole: Policy, count: usize) -> Self {
            Self { whole, share: whole.share(count as u32), redis: None, away: false, local: vec![None; count] }
        }

        fn ask(&mut self, instance: usize, now: u64) -> bool {
            let local = &mut self.local[instance];
            if self.away {
                let decision = self.share.decide(*local, now, 1);
                *local = Some(decision.arrival);
                return decision.allowed;
            }
            let decision = self.whole.decide(self.redis.max(*local), now, 1);
            if decision.allowed || *local > self.redis {
                self.redis = Some(decision.arrival);
            }
            if self.whole.is_worth_noting(&decision) {
                *local = Some(decision.arrival);
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
                let decision = policy.decide(state, now, 1);
                state = Some(decision.arrival);
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
                let decision = policy.decide(state, now, cost);
                state = Some(decision.arrival);
                if !decision.allowed && cost <= policy.burst {
                    prop_assert!(decision.retry_after > 0);
                    prop_assert!(policy.decide(state, now + decision.retry_after, cost).allowed);
                    prop_assert!(!policy.decide(state, now + decision.retry_after - 1, cost).allowed);
                }
            }
        }

        #[test]
        fn remaining_is_exactly_what_can_still_be_spent_at_once(policy in policies(), steps in steps()) {
            let (mut now, mut state) = (NOW, None);
            for step in steps {
                now += (u128::from(step) * u128::from(policy.per) / u128::from(policy.amount) / 1000) as u64;
                let decision = policy.decide(state, now, 1);
                state = Some(decision.arrival);
                let remaining = decision.remaining;
                prop_assert!(policy.decide(state, now, remaining).allowed);
                prop_assert!(!policy.decide(state, now, remaining + 1).allowed);
                prop_assert_eq!(policy.decide(state, now + decision.reset_after, 0).remaining, policy.burst);
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
        fn what_is_taken_back_is_not_given_twice(
            policy in policies(), at_once in 1..5usize,
            schedule in proptest::collection::vec((0..3_000u64, any::<bool>(), 0..3_000u64), 1..100),
        ) {
            // With what was charged for requests that another limit refused, and without it.
            let (mut with, mut without, mut owed) = (None, None, Vec::<(u64, Time)>::new());
            let (mut now, mut taken_back, mut longest) = (NOW, 0, 0);
            for (step, kept, delay) in schedule {
                now += part_of_interval(&policy, step);
                owed.sort_by_key(|(due, _)| *due);
                for (due, before) in owed.extract_if(.., |(due, _)| *due <= now) {
                    with = policy.refund(with, before, due, 1);
                }
                let decision = policy.decide(with, now, 1);
                if !decision.allowed || (!kept && owed.len() == at_once) {
                    continue;
                }
                with = Some(decision.arrival);
                if kept {
                    without = Some(policy.plus(policy.reckon(without, now), policy.span(1)));
                } else {
                    let delay = part_of_interval(&policy, delay);
                    (longest, taken_back) = (delay.max(longest), taken_back + 1);
                    owed.push((now + delay, policy.before(decision.arrival, 1)));
                }
                // One at a time is exact; of several each may count as idle time what was none of its own.
                let short = policy.reckon(without, now).micros.saturating_sub(policy.reckon(with, now).micros);
                prop_assert!(short <= (at_once as u64 - 1) * longest, "{short} µs short");
            }
            owed.sort_by_key(|(due, _)| *due);
            for (due, before) in owed {
                (now, with) = (due.max(now), policy.refund(with, before, due, 1));
            }
            // It is taken back whole, but for a part of a µs each time.
            prop_assert!(without.is_some() || with.map_or(0, |state| state.after(now)) <= taken_back);
        }
    }
}
