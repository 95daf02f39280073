//! What is said of the near tiers.

use super::{Section, plain, size, time};
use crate::redis_pool::near::Settings;

/// `[near]`.
pub fn section(near: &Settings) -> Section {
    let lines = vec![
        ("enabled", plain(near.enabled)),
        ("max_response_bytes", plain(size(near.max_response_bytes))),
        ("max_session_bytes", plain(size(near.max_session_bytes))),
        ("max_plan_bytes", plain(size(near.max_plan_bytes))),
        ("response_max_age", plain(time(near.response_max_age))),
        ("session_max_age", plain(time(near.session_max_age))),
        ("untracked_session_max_age", plain(time(near.untracked_session_max_age))),
        ("plan_max_age", plain(time(near.plan_max_age))),
        ("untracked_plan_max_age", plain(time(near.untracked_plan_max_age))),
        ("ping", plain(time(near.ping))),
        ("silence", plain(time(near.silence))),
    ];
    Section { name: "near".into(), lines }
}
