//! What the client is told: the fields of the limit nearest to refusal.
//!
//! 1. `X-RateLimit-Limit`, `-Remaining` and `-Reset`: quota, units that may be spent now, and when all are there again (the
//!    Unix second, or seconds left).
//! 2. `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers), unless turned off: the same in list syntax.
//! 3. Seconds are rounded up: nothing is promised before it is true.
//! 4. Of two limits the one nearer to refusal is shown: one that refuses before one that does not, then the smaller share left.
//!
//! # Why
//! These fields are on every answer. What does not change is made once, and the rest is written into one buffer that the
//! values share.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::Settings;
use super::algorithm::Decision;
use super::quota::Quota;

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const DRAFT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const DRAFT: HeaderName = HeaderName::from_static("ratelimit");

const SECOND: u64 = 1_000_000;

/// What does not change between two answers of one limit.
#[derive(Debug)]
pub struct Fields {
    limit: HeaderValue,
    reset_in_seconds_left: bool,
    draft: Option<Draft>,
}

#[derive(Debug)]
struct Draft {
    /// `"NAME";q=100;w=60`
    policy: HeaderValue,
    /// `"NAME"`
    name: String,
}

impl Fields {
    /// The fields of the limit called `name`, which gives `quota`. A name that no field can carry is left out, and the
    /// draft's fields with it.
    pub fn new(name: &str, quota: Quota, settings: Settings) -> Self {
        // An sf-string (RFC 8941 §3.3.3).
        let name = format!("\"{}\"", name.replace('\\', "\\\\").replace('"', "\\\""));
        let window = whole_seconds(u64::try_from(quota.per.as_micros()).unwrap_or(u64::MAX));
        let policy = format!("{name};q={};w={window}", quota.amount);
        let writable = settings.draft_fields && name.is_ascii();
        let policy = HeaderValue::from_str(&policy).ok().filter(|_| writable);
        Self {
            limit: quota.amount.into(),
            reset_in_seconds_left: settings.reset_in_seconds_left,
            draft: policy.map(|policy| Draft { policy, name }),
        }
    }

    /// Writes the fields of `decision`, made at `now` (µs since the Unix epoch), over any that are there.
    pub fn write(&self, decision: &Decision, now: u64, fields: &mut HeaderMap) {
        let left = whole_seconds(decision.reset_after);
        let at = whole_seconds(now.saturating_add(decision.reset_after));
        let (mut remaining, mut seconds) = (itoa::Buffer::new(), itoa::Buffer::new());
        let remaining = remaining.format(decision.remaining);

        let mut buffer = BytesMut::with_capacity(64 + self.draft.as_ref().map_or(0, |draft| draft.name.len()));
        let mut value = |parts: &[&str]| {
            parts.iter().for_each(|part| buffer.put_slice(part.as_bytes()));
            HeaderValue::from_maybe_shared(buffer.split().freeze())
        };
        let reset = if self.reset_in_seconds_left { left } else { at };
        let values = [(REMAINING, value(&[remaining])), (RESET, value(&[seconds.format(reset)]))];
        fields.reserve(5);
        fields.insert(LIMIT, self.limit.clone());
        for (name, value) in values {
            value.map(|value| fields.insert(name, value)).ok();
        }
        if let Some(draft) = &self.draft {
            fields.insert(DRAFT_POLICY, draft.policy.clone());
            let left = seconds.format(left);
            value(&[&draft.name, ";r=", remaining, ";t=", left]).map(|value| fields.insert(DRAFT, value)).ok();
        }
    }
}

/// Whether one limit is nearer to refusal than another, each given as (refused, remaining, quota).
pub fn nearer(left: (bool, u64, u64), right: (bool, u64, u64)) -> bool {
    let product = |remaining: u64, quota: u64| u128::from(remaining) * u128::from(quota);
    match (left.0, right.0) {
        (true, false) => true,
        (false, true) => false,
        _ => product(left.1, right.2) < product(right.1, left.2),
    }
}

/// Remaining and quota, as shown already.
pub fn shown(fields: &HeaderMap) -> Option<(u64, u64)> {
    let number = |name| fields.get(name)?.to_str().ok()?.parse().ok();
    Some((number(REMAINING)?, number(LIMIT)?))
}

/// `Retry-After` (RFC 9110 §10.2.3) in seconds: at least 1, and never earlier than `micros`.
pub fn retry_after(micros: u64) -> u64 {
    whole_seconds(micros).max(1)
}

fn whole_seconds(micros: u64) -> u64 {
    micros.div_ceil(SECOND)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate_limit::algorithm::{State, gcra};

    const QUOTA: Quota = Quota { amount: 100, per: Duration::from_secs(60) };

    fn written(settings: Settings) -> Vec<String> {
        let decision = Decision {
            allowed: true,
            remaining: 57,
            retry_after: 0,
            reset_after: 20_000_001,
            delay: 0,
            leased: 0,
            state: State::Bucket(gcra::State::default()),
        };
        let mut fields = HeaderMap::new();
        fields.insert(REMAINING, HeaderValue::from_static("the app's"));
        Fields::new("per-address", QUOTA, settings).write(&decision, 1_000_000_000, &mut fields);
        let mut lines: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        lines.sort();
        lines
    }

    #[test]
    fn fields_name_the_quota_what_is_left_and_when_it_is_full_rounded_up() {
        let expected = [
            "ratelimit-policy: \"per-address\";q=100;w=60",
            "ratelimit: \"per-address\";r=57;t=21",
            "x-ratelimit-limit: 100",
            "x-ratelimit-remaining: 57",
            "x-ratelimit-reset: 1021",
        ];
        assert_eq!(written(Settings::default()), expected);
    }

    #[test]
    fn the_other_dialect_counts_seconds_left_and_the_draft_can_be_turned_off() {
        let settings = Settings { reset_in_seconds_left: true, draft_fields: false, ..Settings::default() };
        let expected = ["x-ratelimit-limit: 100", "x-ratelimit-remaining: 57", "x-ratelimit-reset: 21"];
        assert_eq!(written(settings), expected);
    }

    #[test]
    fn a_refusal_is_nearer_than_any_share_and_a_smaller_share_nearer_than_a_smaller_number() {
        assert!(nearer((true, 5, 10), (false, 0, 10)));
        assert!(nearer((false, 10, 1000), (false, 5, 10)));
        assert!(!nearer((false, 5, 10), (false, 50, 100)));
    }

    #[test]
    fn retry_after_is_at_least_a_second_and_never_too_early() {
        assert_eq!([0, 1, 1_000_000, 1_000_001].map(retry_after), [1, 1, 1, 2]);
    }
}
