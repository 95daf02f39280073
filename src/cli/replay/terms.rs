//! The policies that a limit is judged by. Pure.

use crate::rate_limit::algorithm::{Policy, gcra};
use crate::rate_limit::{Algorithm, Cost, Count, Counting, Limit, OnExceed};

/// Requests that a sliding log holds.
const LONGEST_LOG: u64 = 10_000;

/// The policy of `limit`, if it counts so.
pub fn policy(limit: &Limit, counting: &Counting) -> Policy {
    let mut bucket = gcra::Policy::new(counting.quota, counting.burst);
    if let OnExceed::Delay(longest) = limit.on_exceed {
        bucket = bucket.delaying(longest);
    }
    if matches!(limit.count, Count::Statuses(_)) || matches!(limit.cost, Cost::Response(_)) {
        bucket = bucket.owing();
    }
    Policy::Bucket(bucket)
}

/// No quota of this kind is greater.
pub fn greatest(counting: &Counting) -> Option<u64> {
    match counting.algorithm {
        Algorithm::SlidingLog => Some(LONGEST_LOG),
        _ => None,
    }
}

/// Whether what is used is the same whatever the quota: windows and logs count, buckets drain.
pub fn is_alike(counting: &Counting) -> bool {
    counting.algorithm != Algorithm::TokenBucket
}
