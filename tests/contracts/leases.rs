//! That a fleet which takes units ahead never admits more than the quota, and gives all of it to whom asks.

mod model;

use std::time::{Duration, Instant};

use proptest::prelude::*;
use sidegate::clock::instant;
use sidegate::rate_limit::algorithm::{Asked, Policy, State, gcra};
use sidegate::rate_limit::lease::{Held, Leases, Unspent};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::store::MemorySettings;

use model::{Course, Fleet, SECOND, START, Told, Traffic};

const LIFE: Duration = Duration::from_millis(200);

/// A quota, and what may be spent of it at once.
#[derive(Clone, Copy, Debug)]
struct Terms {
    amount: u64,
    seconds: u64,
    burst: u64,
}

impl Terms {
    fn bucket(&self, life: Duration) -> Policy {
        let quota = Quota { amount: self.amount, per: Duration::from_secs(self.seconds) };
        Policy::Bucket(gcra::Policy::new(quota, self.burst).leased(life))
    }

    /// Units from begin to end of a run.
    fn of(&self, course: &Course) -> u64 {
        self.burst + course.length * self.amount / (self.seconds * SECOND)
    }

    /// By how much the worst of all windows has more than the quota allows in it; in 1/per units. 0: none has.
    fn beyond(&self, admitted: &[u64]) -> i128 {
        let per = i128::from(self.seconds * SECOND);
        // What the first and the last of a window contribute.
        let part = |index: usize, at: u64| index as i128 * per - i128::from(at) * i128::from(self.amount);
        let (mut least, mut worst) = (i128::MAX, 0);
        for (index, &at) in admitted.iter().enumerate() {
            least = least.min(part(index, at));
            worst = worst.max(part(index + 1, at) - least);
        }
        (worst - i128::from(self.burst) * per).max(0)
    }
}

const HALF: Terms = Terms { amount: 2000, seconds: 1, burst: 2000 };

/// Every split of 5,000 requests a second over three instances.
fn splits() -> [(&'static str, Vec<Traffic>); 4] {
    [
        ("1:0:0", Traffic::steady(&[5000])),
        ("1:1:1", Traffic::steady(&[1667; 3])),
        ("8:1:1", Traffic::steady(&[4000, 500, 500])),
        ("moving", Traffic::moving(5000, SECOND, 3)),
    ]
}

fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole as f64
}

#[test]
fn a_fleet_gives_all_of_a_quota_to_whom_asks_for_more_and_asks_the_store_rarely() {
    for (name, traffic) in splits() {
        let course = Course::of(3, traffic, 10);
        let told = Fleet::run(&course, &HALF.bucket(LIFE));
        let admitted = told.admitted.len() as u64;
        let (given, operations) = (share(admitted, HALF.of(&course)), share(told.operations, admitted));
        println!("{name}: {given:.3} of the quota, {operations:.4} operations for each request that was admitted");
        assert_eq!(HALF.beyond(&told.admitted), 0, "{name}");
        assert!(given >= 0.95 && operations < 0.05, "{name}: {given:.3}, {operations:.4}");
    }
}

#[test]
fn who_asks_for_less_than_the_quota_is_never_refused_and_the_store_is_asked_rarely() {
    let ample = Terms { amount: 6000, seconds: 1, burst: 6000 };
    for (name, traffic) in splits() {
        let Told { admitted, refused, operations, .. } = Fleet::run(&Course::of(3, traffic, 10), &ample.bucket(LIFE));
        let operations = share(operations, admitted.len() as u64);
        println!("{name}: {operations:.4} operations for each request");
        assert_eq!(refused, 0, "{name}");
        assert!(operations < 0.05, "{name}: {operations:.4}");
    }
}

#[test]
fn a_key_that_is_not_hot_is_exact() {
    let three_at_once = Traffic { instance: 0, rate: 3000, on: 1000, pause: 0, off: 399_000, begun: 0 };
    let course = Course::of(1, vec![three_at_once], 60);
    let told = Fleet::run(&course, &HALF.bucket(LIFE));
    assert!(told.admitted.len() > 300 && told.leases * 20 < told.admitted.len() as u64, "{} leases", told.leases);
}

fn terms() -> impl Strategy<Value = Terms> {
    let amounts = prop_oneof![1..100u64, 100..5000u64, Just(700)];
    (amounts, prop_oneof![Just(1u64), Just(7), Just(60)], 1..3000u64).prop_map(|(amount, seconds, burst)| Terms {
        amount,
        seconds,
        burst,
    })
}

/// What happens besides: trips, of a thousand how many are lost, how many requests are refused elsewhere; deaths.
fn mishaps() -> impl Strategy<Value = Course> {
    let trips = prop_oneof![Just((0, 0)), Just((200, 600)), Just((100, 20_000)), Just((1_000, 300_000))];
    let deaths = prop_oneof![Just(0), 100_000..SECOND];
    let few = || prop_oneof![Just(0u32), 0..300u32];
    (trips, few(), few(), deaths, any::<bool>(), any::<u64>()).prop_map(|(trip, lost, vain, death, sweeps, seed)| {
        Course { trip, lost, vain, death, sweeps, seed, ..Course::of(4, Vec::new(), 3) }
    })
}

fn any_traffic() -> impl Strategy<Value = Traffic> {
    let rates = || prop_oneof![Just(0u64), 1..100u64, 100..4000u64];
    let spans = || 5_000..600_000u64;
    (0..4usize, rates(), spans(), rates(), spans(), 0..SECOND)
        .prop_map(|(instance, rate, on, pause, off, begun)| Traffic { instance, rate, on, pause, off, begun })
}

/// A few requests at once, such that leases are taken; or more than everything.
fn surges(spans: std::ops::Range<u64>) -> impl Strategy<Value = Traffic> {
    (20_000..40_000u64, spans, 250_000..900_000u64, 0..SECOND).prop_map(|(rate, on, off, begun)| Traffic {
        instance: 0,
        rate,
        on,
        pause: 0,
        off,
        begun,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_window_ever_has_more_than_the_quota_allows_whatever_happens(
        course in mishaps(),
        traffic in proptest::collection::vec(any_traffic(), 1..5),
        terms in terms(),
        life in prop_oneof![Just(10u64), Just(200), Just(1000)],
    ) {
        let told = Fleet::run(&Course { traffic, ..course }, &terms.bucket(Duration::from_millis(life)));
        prop_assert_eq!((terms.beyond(&told.admitted), told.late), (0, 0));
    }

    #[test]
    fn no_surge_gets_what_was_taken_ahead_long_ago_and_all_of_the_burst_besides(
        seed in any::<u64>(),
        few in surges(1_000..4_000),
        all in surges(20_000..50_000),
        amount in 300..1000u64,
        tolerance in 220..500u64,
    ) {
        let terms = Terms { amount, seconds: 1, burst: amount * tolerance / 1000 };
        let course = Course { seed, sweeps: false, trip: (0, 100), ..Course::of(1, vec![few, all], 10) };
        let told = Fleet::run(&course, &terms.bucket(LIFE));
        prop_assert_eq!((terms.beyond(&told.admitted), told.late), (0, 0));
    }
}

/// One instance, one key, and the store behind.
struct Single {
    leases: std::sync::Arc<Leases>,
    policy: Policy,
    origin: Instant,
    state: Option<State>,
}

impl Single {
    fn new(terms: Terms) -> Self {
        let leases = Leases::new(MemorySettings { max_keys: 100 });
        Self { leases, policy: terms.bucket(LIFE), origin: instant(), state: None }
    }

    fn at(&self, micros: u64) -> Instant {
        self.origin + Duration::from_micros(micros)
    }

    fn spend(&self, units: u64, micros: u64) -> Held {
        self.leases.spend("limit:key", &self.policy, units, self.at(micros))
    }

    /// The store is asked at `micros`, and answers at once; says how many it leased, if it lets the request pass.
    fn ask(&mut self, units: u64, lease: u64, micros: u64) -> Option<u64> {
        let asked = Asked { lease, ..Asked::units(units) };
        let decision = self.policy.decide(self.state.as_ref(), START + micros, asked);
        self.state = Some(decision.state);
        self.leases.answered("limit:key", &self.policy, self.at(micros), &decision);
        decision.allowed.then_some(decision.leased)
    }

    /// Makes the key hot, and takes the first lease; says of how many.
    fn warm_up(&mut self) -> u64 {
        for _ in 0..100 {
            if let Held::Ask { lease } = self.spend(1, 0)
                && let Some(leased @ 1..) = self.ask(1, lease, 0)
            {
                return leased;
            }
        }
        panic!("it never got hot");
    }
}

#[test]
fn what_is_held_is_spent_until_it_ends_and_what_is_left_goes_back() {
    let mut single = Single::new(Terms { amount: 10_000, seconds: 3600, burst: 10_000 });
    let leased = single.warm_up();
    assert_eq!(leased, 2, "half of what was asked for");
    let Held::Spent { held, remaining, reset_after } = single.spend(1, 1) else { panic!("it is held") };
    assert!(held < remaining, "{held} are certain");
    assert!((9_900..10_000).contains(&remaining) && reset_after > 0, "{remaining} {reset_after}");
    // When it has ended, the store is asked again.
    assert!(matches!(single.spend(1, 200_000), Held::Ask { .. }));
    let swept = single.leases.sweep(single.at(200_000));
    let Unspent { since, units, .. } = &swept.unspent[0];
    assert_eq!((*since, *units, swept.unspent.len()), (START, 1, 1));
    assert_eq!(swept.uses["limit"].returned, 1);
    assert_eq!(single.leases.sweep(single.at(200_000)).unspent, []);
}

#[test]
fn nothing_is_spent_once_its_time_is_over() {
    let mut single = Single::new(HALF);
    single.warm_up();
    for micros in 0..100 {
        single.spend(1, micros);
    }
    // The answer to a lease of which nobody has known yet.
    let lease = single.ask(1, 100, 100);
    assert_eq!(lease, Some(100));
    assert!(matches!(single.spend(20, 200_099), Held::Spent { .. }));
    assert!(matches!(single.spend(20, 200_100), Held::Ask { .. }));
}

#[test]
fn one_request_asks_for_a_lease_and_the_others_for_their_own_units() {
    let mut single = Single::new(HALF);
    let leased = single.warm_up();
    let count = |micros| {
        let mut counts = [0; 3];
        for _ in 0..20 {
            match single.spend(1, micros) {
                Held::Spent { .. } => counts[0] += 1,
                Held::Ask { lease: 0 } => counts[1] += 1,
                Held::Ask { .. } => counts[2] += 1,
                Held::Refused { .. } => {}
            }
        }
        counts
    };
    assert_eq!(count(1), [leased, 19 - leased, 1]);
    // Its answer does not come: after a lease's life another asks.
    assert_eq!(count(200_000), [0, 20, 0]);
    assert_eq!(count(200_001), [0, 19, 1]);
}

#[test]
fn a_refusal_is_remembered_until_it_can_change_but_not_for_longer_than_a_second() {
    for (seconds, unit, wait) in [(10, 100_000, 100_000), (1000, 10_000_000, 1_000_000)] {
        let mut single = Single::new(Terms { amount: 100, seconds, burst: 2 });
        assert_eq!([single.ask(1, 0, 0), single.ask(1, 0, 0), single.ask(1, 0, 0)], [Some(0), Some(0), None]);
        let told = single.spend(1, 1);
        // Told is when it will pass, however soon the store is asked again.
        assert_eq!(told, Held::Refused { retry_after: unit - 1, reset_after: seconds * 20_000 - 1 });
        assert!(matches!(single.spend(1, wait - 1), Held::Refused { .. }));
        assert_eq!(single.spend(1, wait), Held::Ask { lease: 0 });
    }
}

#[test]
fn a_refusal_of_many_units_refuses_nobody_who_asks_for_fewer() {
    let mut single = Single::new(Terms { amount: 100, seconds: 10, burst: 10 });
    assert_eq!((single.ask(7, 0, 0), single.ask(5, 0, 0)), (Some(0), None));
    assert!(matches!(single.spend(4, 1), Held::Refused { .. }));
    assert_eq!(single.spend(3, 1), Held::Ask { lease: 0 });
    // The store may have more than three in a tenth of a second; whether as many as five is for it to say.
    assert_eq!(single.spend(5, 100_000), Held::Ask { lease: 0 });
}

#[test]
fn what_was_spent_in_vain_is_held_again() {
    let mut single = Single::new(HALF);
    let leased = single.warm_up();
    for _ in 0..10 * leased {
        if let Held::Spent { .. } = single.spend(1, 1) {
            single.leases.put_back("limit:key", 1, single.at(1));
        }
    }
    let swept = single.leases.close(single.at(1));
    assert_eq!((swept.unspent[0].units, swept.uses["limit"].spent), (leased, 0));
}

#[test]
fn what_another_policy_held_goes_back_and_is_not_spent() {
    let mut single = Single::new(Terms { amount: 100_000, seconds: 3600, burst: 10_000 });
    let leased = single.warm_up();
    let before = std::mem::replace(&mut single.policy, HALF.bucket(LIFE));
    assert_eq!(single.spend(1, 1), Held::Ask { lease: 0 });
    let swept = single.leases.sweep(single.at(1));
    assert_eq!((&swept.unspent[0].policy, swept.unspent[0].units), (&before, leased));
}

#[test]
fn what_is_not_leased_or_finds_no_room_is_exact_and_nothing_is_known_of_it() {
    let (leases, now) = (Leases::new(MemorySettings { max_keys: 5 }), instant());
    let plain = Policy::Bucket(gcra::Policy::new(Quota { amount: 1, per: LIFE }, 1));
    assert_eq!((leases.spend("limit:key", &plain, 1, now), leases.keys()), (Held::Ask { lease: 0 }, 0));
    for key in 0..100 {
        assert_eq!(leases.spend(&key.to_string(), &HALF.bucket(LIFE), 1, now), Held::Ask { lease: 0 });
    }
    assert_eq!(leases.keys(), 5);
    leases.sweep(now + LIFE);
    assert_eq!(leases.keys(), 5, "who asked in the last lease's life is known");
    leases.sweep(now + LIFE * 2);
    assert_eq!(leases.keys(), 0);
}

#[test]
fn all_of_a_quota_is_leased_and_a_share_of_it_is_not() {
    let policy = HALF.bucket(LIFE);
    assert_eq!([1, 2].map(|instances| policy.share(instances).lease_life()), [200_000, 0]);
}

#[test]
fn once_closed_nothing_is_held() {
    let mut single = Single::new(HALF);
    single.warm_up();
    single.leases.close(single.at(1));
    assert_eq!((single.spend(1, 1), single.leases.keys()), (Held::Ask { lease: 0 }, 0));
}
