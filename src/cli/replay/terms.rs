//! The policies that a limit is judged by. Pure.

use crate::rate_limit::algorithm::{Policy, gcra};
use crate::rate_limit::{Algorithm, Cost, Count, Counting, Limit, OnExceed};

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
