//! Refusals that this process remembers; shared by all workers.
//!
//! 1. Only of limits that are charged once the answer is known (`after`) and counted exactly: a request that they refuse leaves
//!    them as they were.
//! 2. A refusal is believed without asking until the same request would pass, as the store said, reckoned from before it was
//!    asked; and for a second at most.
//! 3. It belongs to a policy. Under another one the store is asked.
//! 4. There is room for so many keys: an eighth of `memory.limit_keys`. A key that finds none is asked for each time.
//! 5. A key that an operator resets here is forgotten at once; other instances ask again within the second (`operate`).
//!
//! # Why
//! Guesses at sessions come in floods, which is what `count = ["401"]` is for: each would cost a trip to be told the same,
//! and have its session asked for along with it. What others are charged only puts the end of a refusal off. Nothing is given
//! back of what is charged after; so but for an operator's word, which rule 2 bounds, what is remembered is what the store would
//! say.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use ahash::RandomState;
use parking_lot::Mutex;

use super::algorithm::{Decision, Policy};
use super::store::MemorySettings;
use crate::clock;

/// A refusal is believed no longer.
const LONGEST: Duration = Duration::from_secs(1);
/// Of the keys that counters may have in memory, as many may be remembered.
const PART: usize = 8;

/// What is remembered.
#[derive(Debug)]
pub struct Refusals {
    known: Mutex<Known>,
    /// How many, so that where there are none nobody waits for the others.
    count: AtomicUsize,
    room: usize,
}

#[derive(Debug)]
struct Known {
    by_key: HashMap<Box<str>, Refusal, RandomState>,
    /// When those were last looked for that are over.
    swept: Instant,
}

#[derive(Debug)]
struct Refusal {
    policy: Policy,
    said: Recalled,
    /// When the store's word was here.
    heard: Instant,
    until: Instant,
}

/// What the store would say; units, and µs from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recalled {
    /// Units that are left.
    pub remaining: u64,
    /// Until the same request would pass, at most.
    pub retry_after: u64,
    /// Until all units are there again, at most.
    pub reset_after: u64,
}

impl Refusals {
    /// None yet; room for an eighth of the keys that `settings` allow.
    pub fn new(settings: MemorySettings) -> Arc<Self> {
        let known = Known { by_key: HashMap::default(), swept: clock::instant() };
        let room = (settings.max_keys / PART).max(1);
        Arc::new(Self { known: Mutex::new(known), count: AtomicUsize::new(0), room })
    }

    /// What is known at `now` of `key` (`NAME:KEY`) under `policy`; `None`: the store is to be asked.
    pub fn recall(&self, key: &str, policy: &Policy, now: Instant) -> Option<Recalled> {
        if self.count.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let known = self.known.lock();
        let Refusal { said, heard, .. } =
            known.by_key.get(key).filter(|refusal| now < refusal.until && refusal.policy == *policy)?;
        let since = micros(now.saturating_duration_since(*heard));
        let (retry_after, reset_after) =
            (said.retry_after.saturating_sub(since), said.reset_after.saturating_sub(since));
        Some(Recalled { retry_after, reset_after, ..*said })
    }

    /// Keeps that the store, asked at `asked` and heard at `heard`, refuses `key` under `policy`.
    pub fn keep(&self, key: &str, policy: &Policy, (asked, heard): (Instant, Instant), decision: &Decision) {
        let until = asked + LONGEST.min(Duration::from_micros(decision.retry_after));
        if until <= heard {
            return;
        }
        let &Decision { remaining, retry_after, reset_after, .. } = decision;
        let said = Recalled { remaining, retry_after, reset_after };
        let mut known = self.known.lock();
        // None lasts longer than that, so this lets go of most.
        if heard.saturating_duration_since(known.swept) >= LONGEST {
            known.swept = heard;
            known.by_key.retain(|_, refusal| heard < refusal.until);
        }
        if known.by_key.len() < self.room || known.by_key.contains_key(key) {
            known.by_key.insert(key.into(), Refusal { policy: policy.clone(), said, heard, until });
        }
        self.count.store(known.by_key.len(), Ordering::Relaxed);
    }

    /// Forgets what is known of `key`.
    pub fn forget(&self, key: &str) {
        let mut known = self.known.lock();
        known.by_key.remove(key);
        self.count.store(known.by_key.len(), Ordering::Relaxed);
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rate_limit::algorithm::{Asked, State};
    use crate::rate_limit::limit::{Algorithm, Counting};
    use crate::rate_limit::quota::Quota;

    const NOW: u64 = 1_795_236_000_000_000;

    fn policy(amount: u64) -> Policy {
        let quota = Quota { amount, per: Duration::from_secs(60) };
        Policy::new(&Counting { algorithm: Algorithm::TokenBucket, quota, burst: amount, calendar: None })
    }

    /// What a store says of a key that has spent all of `amount` a minute.
    fn refusal(policy: &Policy, amount: u64) -> Decision {
        let spent: State = policy.decide(None, NOW, Asked::units(amount)).state;
        let refused = policy.decide(Some(&spent), NOW, Asked::units(1));
        assert!(!refused.allowed);
        refused
    }

    fn refusals(max_keys: usize) -> Arc<Refusals> {
        Refusals::new(MemorySettings { max_keys })
    }

    #[test]
    fn a_refusal_is_believed_until_the_request_would_pass_and_for_a_second_at_most() {
        // A unit in 20 s, and one in 100 ms.
        for (amount, lasts) in [(3, 1_000), (600, 100)] {
            let (refusals, policy, asked) = (refusals(100), policy(amount), clock::instant());
            let at = |millis| asked + Duration::from_millis(millis);
            let decision = refusal(&policy, amount);
            assert_eq!(refusals.recall("l:a", &policy, asked), None);
            refusals.keep("l:a", &policy, (asked, at(10)), &decision);
            let told = |millis| refusals.recall("l:a", &policy, at(millis)).map(|recalled| recalled.retry_after);
            assert_eq!(told(10), Some(decision.retry_after));
            assert_eq!(
                told(lasts - 1),
                Some(decision.retry_after - (lasts - 11) * 1_000),
                "counted from when it was heard"
            );
            assert_eq!(told(lasts), None);
            assert_eq!(refusals.recall("l:b", &policy, at(10)), None, "another key");
        }
    }

    #[test]
    fn an_answer_that_was_long_under_way_is_not_believed_after_its_time() {
        let (refusals, policy, asked) = (refusals(100), policy(600), clock::instant());
        let heard = asked + Duration::from_millis(100);
        refusals.keep("l:a", &policy, (asked, heard), &refusal(&policy, 600));
        assert_eq!(refusals.recall("l:a", &policy, heard), None);
    }

    #[test]
    fn another_policy_and_an_operator_have_the_store_asked_again() {
        let (refusals, policy, now) = (refusals(100), policy(3), clock::instant());
        refusals.keep("l:a", &policy, (now, now), &refusal(&policy, 3));
        assert!(refusals.recall("l:a", &policy, now).is_some());
        assert_eq!(refusals.recall("l:a", &self::policy(4), now), None);
        refusals.forget("l:a");
        assert_eq!(refusals.recall("l:a", &policy, now), None);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_makes_room_once_it_is_over() {
        let (refusals, policy, now) = (refusals(8 * PART), policy(3), clock::instant());
        let decision = refusal(&policy, 3);
        let keep = |key: usize, at| refusals.keep(&format!("l:{key}"), &policy, (at, at), &decision);
        let known = |keys: std::ops::Range<usize>, at| {
            keys.filter(|key| refusals.recall(&format!("l:{key}"), &policy, at).is_some()).count()
        };
        (0..100).for_each(|key| keep(key, now));
        assert_eq!(known(0..100, now), 8);
        assert_eq!(refusals.count.load(Ordering::Relaxed), 8);
        let later = now + LONGEST * 2;
        (100..200).for_each(|key| keep(key, later));
        assert_eq!((known(0..100, later), known(100..200, later)), (0, 8));
    }
}
