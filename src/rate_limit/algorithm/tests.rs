//! What every algorithm promises, over random schedules.

use std::collections::VecDeque;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::rate_limit::quota::Quota;

const NOW: u64 = 1_795_236_000_000_000;
/// Fractions of a window or an interval that schedules step by.
const PARTS: u64 = 1_000;

/// One key, as a store keeps it.
#[derive(Clone, Default)]
struct Key {
    state: Option<State>,
    log: log::Log,
}

impl Key {
    fn known(&mut self, policy: &Policy, now: u64, asked: Asked) -> Option<State> {
        let Policy::Log(policy) = policy else { return self.state };
        self.log.reckon(policy, now);
        Some(State::Log(self.log.state(policy, now, asked)))
    }

    fn keep(&mut self, policy: &Policy, now: u64, state: State) {
        match (policy, state) {
            (Policy::Log(policy), State::Log(state)) => self.log.add(policy, now, state.added),
            _ => self.state = Some(state),
        }
    }

    fn ask(&mut self, policy: &Policy, now: u64, asked: Asked) -> Decision {
        let known = self.known(policy, now, asked);
        let decision = policy.decide(known.as_ref(), now, asked);
        self.keep(policy, now, decision.state);
        decision
    }

    /// The same, and nothing of it stays.
    fn look(&self, policy: &Policy, now: u64, need: u64) -> Decision {
        self.clone().ask(policy, now, Asked::units(need).look())
    }

    fn charge(&mut self, policy: &Policy, now: u64, units: u64) {
        let known = self.known(policy, now, Asked::units(0));
        let state = policy.charge(known.as_ref(), now, units);
        self.keep(policy, now, state);
    }
}

fn quotas() -> impl Strategy<Value = Quota> {
    let amounts = prop_oneof![1..8u64, 1..60u64, Just(7_000)];
    let seconds = prop_oneof![Just(1), Just(7), Just(60), Just(3_600), Just(Quota::DAY), Just(Quota::MONTH)];
    (amounts, seconds).prop_map(|(amount, seconds)| Quota { amount, per: Duration::from_secs(seconds) })
}

fn algorithms() -> impl Strategy<Value = Algorithm> {
    use Algorithm::{FixedWindow, SlidingLog, SlidingWindow, TokenBucket};
    prop_oneof![Just(TokenBucket), Just(FixedWindow), Just(SlidingWindow), Just(SlidingLog)]
}

fn policy(algorithm: Algorithm, quota: Quota, burst: u64, zone: bool) -> Policy {
    let calendar = zone.then(|| Arc::from("Europe/Berlin"));
    Policy::new(&Counting { algorithm, quota, burst, calendar })
}

fn policies() -> impl Strategy<Value = Policy> {
    let all = (algorithms(), quotas(), 1..40u64, any::<bool>());
    all.prop_map(|(algorithm, quota, burst, zone)| policy(algorithm, quota, burst, zone))
}

/// Policies as limits have them that delay, charge after the fact, or lend.
fn any_policies() -> impl Strategy<Value = Policy> {
    (policies(), any::<[bool; 3]>(), 0..20_000_000u64, 1..5_000_000u64).prop_map(|(policy, what, delay, life)| {
        let [delays, owes, lends] = what;
        let policy = if delays { policy.delaying(Duration::from_micros(delay)) } else { policy };
        let policy = if owes { policy.owing() } else { policy };
        if lends { policy.leased(Duration::from_micros(life)) } else { policy }
    })
}

/// Of a schedule: how long after the last one, and some number.
fn schedules() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let steps = prop_oneof![3 => Just(0), 3 => 0..50u64, 2 => 0..PARTS, 1 => 0..3 * PARTS];
    proptest::collection::vec((steps, 0..1_000u64), 1..100)
}

/// What a step of a schedule is for a policy.
fn span(policy: &Policy, step: u64) -> u64 {
    let whole = match policy {
        Policy::Bucket(policy) => policy.tolerance().micros.min(policy.span(8).micros),
        Policy::Fixed(policy) => {
            let (start, end) = policy.windows().at(NOW);
            end - start
        }
        Policy::Sliding(policy) => policy.window(),
        Policy::Log(policy) => policy.window(),
    };
    (u128::from(whole) * u128::from(step) / u128::from(PARTS)) as u64
}

/// That what was spent, at what times (told to `slack` µs), is no more than the policy promises.
fn kept(policy: &Policy, spent: &[(u64, u64)], slack: u64) -> Result<(), TestCaseError> {
    for (first, (from, _)) in spent.iter().enumerate() {
        let mut units = 0;
        for (to, more) in &spent[first..] {
            units += more;
            let most = match policy {
                Policy::Bucket(policy) => {
                    policy.burst() + policy.units(gcra::Time { micros: to - from + slack, part: 0 })
                }
                Policy::Fixed(policy) if policy.windows().at(*from) == policy.windows().at(*to) => policy.most(),
                Policy::Sliding(policy) if policy.end(*from) == policy.end(*to) => policy.most(),
                Policy::Sliding(policy) if to - from < policy.window() => 2 * policy.most() - 1,
                Policy::Log(policy) if to - from < policy.window() => policy.most(),
                _ => u64::MAX,
            };
            prop_assert!(units <= most, "{units} instead of {most} from {from} to {to}");
        }
    }
    Ok(())
}

/// How long a request for one unit may have to wait under this policy, whatever was before (µs).
fn longest_wait(policy: &Policy) -> u64 {
    match policy {
        Policy::Bucket(policy) => policy.furthest().after(0) + policy.span(1).after(0),
        Policy::Fixed(policy) => {
            let (start, end) = policy.windows().at(NOW);
            (end - start) * 2
        }
        Policy::Sliding(policy) => 2 * policy.window(),
        Policy::Log(policy) => policy.window(),
    }
}

proptest! {
    #[test]
    fn no_window_that_the_algorithm_promises_holds_more_than_the_quota(policy in policies(), schedule in schedules()) {
        let (mut key, mut now, mut spent) = (Key::default(), NOW, Vec::new());
        for (step, number) in schedule {
            now += span(&policy, step);
            let need = 1 + number % 3;
            if key.ask(&policy, now, Asked::units(need)).allowed {
                spent.push((now, need));
            }
        }
        kept(&policy, &spent, 0)?;
    }

    #[test]
    fn a_refused_request_passes_at_retry_after_and_not_a_microsecond_before(
        policy in any_policies(), schedule in schedules(),
    ) {
        let (mut key, mut now) = (Key::default(), NOW);
        for (step, number) in schedule {
            now += span(&policy, step);
            if number % 10 == 0 {
                key.charge(&policy, now, number);
                continue;
            }
            let asked = Asked { lease: number % 7, ..Asked::units(1 + number % policy.burst().min(5)) };
            let decision = key.ask(&policy, now, asked);
            prop_assert_eq!(decision.allowed, decision.retry_after == 0);
            if !decision.allowed {
                prop_assert!(key.look(&policy, now + decision.retry_after, asked.need).allowed, "{decision:?}");
                prop_assert!(!key.look(&policy, now + decision.retry_after - 1, asked.need).allowed, "{decision:?}");
            }
        }
    }

    #[test]
    fn remaining_is_what_can_still_be_spent_at_once_and_all_is_there_at_reset(
        policy in policies(), owing in any::<bool>(), life in 1..5_000_000u64, schedule in schedules(),
    ) {
        let policy = policy.leased(Duration::from_micros(life));
        let policy = if owing { policy.owing() } else { policy };
        let (mut key, mut now) = (Key::default(), NOW);
        for (step, number) in schedule {
            now += span(&policy, step);
            let decision = key.ask(&policy, now, Asked { lease: number % 9, ..Asked::units(1) });
            prop_assert!(key.look(&policy, now, decision.remaining).allowed || decision.remaining == 0);
            prop_assert!(!key.look(&policy, now, decision.remaining + 1).allowed);
            let then = now + decision.reset_after;
            prop_assert_eq!(key.look(&policy, then, 0).remaining, policy.burst());
            if decision.reset_after > 0 {
                prop_assert!(key.look(&policy, then - 1, 0).remaining < policy.burst(), "{decision:?}");
            }
        }
    }

    #[test]
    fn a_state_of_another_policy_strands_nobody_and_gives_nobody_more(
        algorithm in algorithms(), quotas in (quotas(), quotas()), bursts in (1..40u64, 1..40u64),
        zones in any::<(bool, bool)>(), owing in any::<bool>(), before in schedules(), after in schedules(),
    ) {
        let old = policy(algorithm, quotas.0, bursts.0, zones.0);
        let old = if owing { old.owing() } else { old };
        let new = policy(algorithm, quotas.1, bursts.1, zones.1);
        let (mut key, mut now, mut spent) = (Key::default(), NOW, Vec::new());
        for (step, number) in before {
            now += span(&old, step);
            key.ask(&old, now, Asked::units(1 + number % 3));
            if number % 20 == 0 {
                key.charge(&old, now, number);
            }
        }
        let first = key.ask(&new, now, Asked::units(1));
        prop_assert!(first.retry_after <= longest_wait(&new), "{first:?}");
        spent.extend(first.allowed.then_some((now, 1)));
        for (step, _) in after {
            now += span(&new, step);
            let decision = key.ask(&new, now, Asked::units(1));
            prop_assert!(decision.retry_after <= longest_wait(&new), "{decision:?}");
            spent.extend(decision.allowed.then_some((now, 1)));
        }
        kept(&new, &spent, 0)?;
    }

    #[test]
    fn a_debt_is_at_most_one_more_burst(policy in policies(), schedule in schedules()) {
        let policy = policy.owing();
        let (mut key, mut now) = (Key::default(), NOW);
        for (step, number) in schedule {
            now += span(&policy, step);
            key.charge(&policy, now, number * number);
            let decision = key.look(&policy, now, 1);
            prop_assert!(decision.retry_after <= longest_wait(&policy), "{decision:?}");
        }
    }

    #[test]
    fn whoever_is_delayed_comes_in_order_and_no_window_holds_more(
        quota in quotas(), burst in 1..40u64, longest in 0..20_000_000u64, schedule in schedules(),
    ) {
        let policy = policy(Algorithm::TokenBucket, quota, burst, false).delaying(Duration::from_micros(longest));
        let (mut key, mut now, mut turns) = (Key::default(), NOW, Vec::new());
        for (step, _) in schedule {
            now += span(&policy, step);
            let decision = key.ask(&policy, now, Asked::units(1));
            prop_assert!(decision.delay <= longest);
            turns.extend(decision.allowed.then_some((now + decision.delay, 1)));
        }
        prop_assert!(turns.is_sorted());
        kept(&policy, &turns, 1)?;
    }

    #[test]
    fn however_many_instances_lend_the_fleet_spends_no_more_than_the_quota(
        amount in 1..5_000u64, seconds in 1..8u64, burst in 5..400u64, fixed in proptest::bool::weighted(0.2),
        earned_in_life in 1..30u64, schedule in fleets(),
    ) {
        let algorithm = if fixed { Algorithm::FixedWindow } else { Algorithm::TokenBucket };
        let quota = Quota { amount, per: Duration::from_secs(seconds) };
        let life = seconds * 1_000_000 * earned_in_life / amount;
        let policy = policy(algorithm, quota, burst, false).leased(Duration::from_micros(life));
        let mut fleet = Fleet { life, ..Fleet::default() };
        for step in schedule {
            fleet.act(&policy, step);
        }
        fleet.spent.sort_unstable();
        kept(&policy, &fleet.spent, 0)?;
    }
}

/// What an instance does next.
#[derive(Clone, Copy, Debug)]
enum Act {
    /// Asks Redis for a unit or for all that is left, and for some to lend (percent of what is left); the trip there takes
    /// this much of a lease's life (1/8).
    Ask { all: bool, lease: u64, trip: u64 },
    /// Spends what it has, or one of it.
    Spend { all: bool },
    /// Gives back what it has.
    GiveBack,
    /// Is gone, and all it has.
    Die,
}

fn fleets() -> impl Strategy<Value = Vec<(u64, usize, Act)>> {
    let acts = prop_oneof![
        6 => (any::<bool>(), prop_oneof![0..6u64, 0..60u64], prop_oneof![3 => Just(0), 1 => 0..3u64])
            .prop_map(|(all, lease, trip)| Act::Ask { all, lease, trip }),
        6 => proptest::bool::weighted(0.8).prop_map(|all| Act::Spend { all }),
        1 => Just(Act::GiveBack),
        1 => Just(Act::Die),
    ];
    let steps = prop_oneof![6 => Just(0), 2 => 0..300u64, 5 => 950..PARTS, 1 => 0..40 * PARTS];
    proptest::collection::vec((steps, 0..2usize, acts), 1..150)
}

/// Units that were leased.
#[derive(Clone, Copy)]
struct Held {
    units: u64,
    taken_at: u64,
    /// By the instance's own time: from before it asked, or until their window ends.
    until: u64,
}

#[derive(Default)]
struct Fleet {
    key: Key,
    life: u64,
    now: u64,
    held: [VecDeque<Held>; 2],
    spent: Vec<(u64, u64)>,
}

impl Fleet {
    /// Steps are in 1/1000 of a lease's life.
    fn act(&mut self, policy: &Policy, (step, instance, act): (u64, usize, Act)) {
        self.now = self.now.max(NOW) + self.life * step / PARTS;
        let held = &mut self.held[instance];
        match act {
            Act::Ask { all, lease, trip } => {
                let sent = self.now;
                self.now += self.life * trip / 8;
                let left = self.key.look(policy, self.now, 0).remaining;
                let (need, lease) = (if all { left.max(1) } else { 1 }, left * lease / 100);
                let decision = self.key.ask(policy, self.now, Asked { lease, ..Asked::units(need) });
                if decision.allowed {
                    self.spent.push((self.now, need));
                }
                if decision.leased > 0 {
                    let ends = if let State::Fixed(state) = decision.state { state.end } else { u64::MAX };
                    let until = (sent + self.life).min(ends);
                    held.push_back(Held { units: decision.leased, taken_at: self.now, until });
                }
            }
            Act::Spend { all } => {
                held.retain(|lease| lease.until > self.now);
                if let Some(lease) = held.front_mut().filter(|lease| lease.units > 0) {
                    let units = if all { lease.units } else { 1 };
                    lease.units -= units;
                    self.spent.push((self.now, units));
                }
            }
            Act::GiveBack => {
                for Held { units, taken_at, .. } in held.drain(..) {
                    self.key.state = policy.give_back(self.key.state.as_ref(), taken_at, self.now, units);
                }
            }
            Act::Die => held.clear(),
        }
    }
}

#[test]
fn a_share_of_a_window_counts_on_from_what_the_whole_has_counted_and_forgets_nothing_of_it() {
    for algorithm in [Algorithm::FixedWindow, Algorithm::SlidingWindow] {
        let quota: Quota = "1000 per day".parse().unwrap();
        let whole = Policy::new(&Counting { algorithm, quota, burst: 1000, calendar: None });
        let spent = whole.decide(None, NOW, Asked::units(902)).state;
        let refused = whole.share(2).decide(Some(&spent), NOW, Asked::units(1));
        assert_eq!((refused.allowed, refused.remaining, refused.state), (false, 0, spent));
        assert_eq!(whole.decide(Some(&refused.state), NOW, Asked::units(1)).remaining, 97);
    }
}
