//! What was learnt of keys whose answers are not for everybody alike.
//!
//! 1. *Hit for miss*: an answer could not be shared. For a while nobody waits for the next.
//! 2. The fields by which answers vary: requests that differ in them do not wait for each other.
//!
//! Both are hints, bounded together by bytes; a lost one costs a wait.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::cache::rules::vary::{Digest, Selecting};
use crate::redis_pool::bounded::{Bounded, Kind, Weigh, bounded};

/// See the module's page.
pub struct Recollection {
    keys: Bounded<Digest, Hint>,
}

/// What is known of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Recalled {
    /// Nothing: its answers may be for everybody.
    Nothing,
    /// Nobody waits for its answer.
    Unshareable,
    /// Its answers vary by these fields.
    Varies(Arc<Selecting>),
}

#[derive(Clone)]
enum Hint {
    Unshareable { until: Instant },
    Varies(Arc<Selecting>),
}

impl Recollection {
    /// Nothing yet, and never more than so many bytes.
    pub fn new(max_bytes: u64) -> Self {
        Self { keys: bounded(max_bytes, Kind::RECORD) }
    }

    /// The answer of a key could not be shared: for so long, nobody waits for the next.
    pub fn unshareable(&self, key: Digest, now: Instant, life: Duration) {
        if let Some(until) = now.checked_add(life).filter(|until| *until > now) {
            self.keys.insert(key, Hint::Unshareable { until });
        }
    }

    /// What is known of a key.
    pub fn recall(&self, key: &Digest, now: Instant) -> Recalled {
        match self.keys.get(key) {
            Some(Hint::Unshareable { until }) if now < until => Recalled::Unshareable,
            Some(Hint::Varies(selecting)) => Recalled::Varies(selecting),
            Some(Hint::Unshareable { .. }) | None => Recalled::Nothing,
        }
    }

    /// The answer of a key can be shared, by those whose selecting fields are the same, if there are any; says whether
    /// it was remembered that it cannot.
    pub fn shareable(&self, key: &Digest, selecting: Option<&Selecting>) -> bool {
        let known = self.keys.get(key);
        match (&known, selecting) {
            (None, None) => {}
            (Some(_), None) => drop(self.keys.remove(key)),
            (Some(Hint::Varies(known)), Some(selecting)) if **known == *selecting => {}
            (_, Some(selecting)) => self.keys.insert(*key, Hint::Varies(Arc::new(selecting.clone()))),
        }
        matches!(known, Some(Hint::Unshareable { .. }))
    }
}

impl Weigh<Digest> for Hint {
    fn weigh(&self, _: &Digest) -> u64 {
        match self {
            Self::Unshareable { .. } => 128,
            Self::Varies(selecting) => 160 + 32 * selecting.names().len() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn an_unshareable_answer_is_remembered_for_its_time_or_until_one_can_be_shared() {
        let (known, now, second) = (Recollection::new(1 << 20), clock::instant(), Duration::from_secs(1));
        let key = [1; 32];
        known.unshareable(key, now, Duration::ZERO);
        assert_eq!(known.recall(&key, now), Recalled::Nothing);
        known.unshareable(key, now, second);
        assert_eq!(known.recall(&key, now), Recalled::Unshareable);
        assert_eq!(known.recall(&[2; 32], now), Recalled::Nothing);
        assert_eq!(known.recall(&key, now + second), Recalled::Nothing);
        assert!(known.shareable(&key, None));
        assert_eq!(known.recall(&key, now), Recalled::Nothing);
        let selecting = Selecting::new(vec![http::header::ACCEPT]).unwrap();
        assert!(!known.shareable(&key, Some(&selecting)));
        assert_eq!(known.recall(&key, now), Recalled::Varies(selecting.into()));
        known.shareable(&key, None);
        assert_eq!(known.recall(&key, now), Recalled::Nothing);
    }
}
