//! What the client is told: where it stands with the limits of its request.
//!
//! 1. `X-RateLimit-Limit`, `-Remaining` and `-Reset`: quota, units that may be spent now, and when all are there again (the
//!    Unix second, or seconds left); of one limit, the nearest to refusal: one that refuses before one that does not, then
//!    the smaller share left.
//! 2. `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11), unless turned off: a list, with a member
//!    for every limit that was counted for the request.
//!    * `q` and `w`: the quota and its window in seconds (§3.1.1, §3.1.3). `qu`, the quota unit (§3.1.2), is `requests` where
//!      nothing is said. What a limit charges for a request, by its configuration or by what the app says, is no unit of its
//!      own: the registry knows none for it.
//!    * `r` and `t`: what may be spent now, and for how many seconds no more can be relied on (§4.1.1, §4.1.2): until all is
//!      there again, or, of a limit that refuses, until it does not. `Retry-After` is thus never before the end of `t` (§6).
//!    * `pk` (§4.1.3), if turned on: the first 48 bits of the SHA-256 of the partition key, the same on all instances.
//!    * A limit on requests in flight has `qu="concurrent-requests"`, and no time: `w` and `t` do not apply to it, and rule 1
//!      only where it refuses, without the reset.
//! 3. Seconds are rounded up, and what is left is rounded down: nothing is promised before it is true.
//! 4. `X-RateLimit-Warning`: the name of a limit of which so much is used that its clients are to be warned, and how much, in
//!    percent, rounded down.
//!
//! # Why
//! These fields are on every answer. What does not change is made once, and the rest is written into one buffer, out of which
//! each value is copied: values that share it would have to count who still holds it, which costs more. A digest for each answer would cost more than all of them, and most clients have one partition in each limit:
//! hence `pk` only on demand.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::BufMut;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};

use super::Settings;
use super::quota::Quota;

/// `X-RateLimit-Warning`.
pub const WARNING: HeaderName = HeaderName::from_static("x-ratelimit-warning");

const LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
const DRAFT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const DRAFT: HeaderName = HeaderName::from_static("ratelimit");

const SECOND: u64 = 1_000_000;

/// The largest integer of a structured field (RFC 9651 §3.3.1).
const LARGEST: u64 = 999_999_999_999_999;

/// What does not change between two answers of one limit.
#[derive(Debug)]
pub struct Fields {
    limit: HeaderValue,
    reset_in_seconds_left: bool,
    /// It counts units in a time, not requests in flight.
    timed: bool,
    draft: Option<Draft>,
}

#[derive(Debug)]
struct Draft {
    /// `"NAME";q=100;w=60`
    policy: HeaderValue,
    /// `"NAME"`
    name: String,
}

/// Where a client stands with one limit.
#[derive(Clone, Copy, Debug)]
pub struct Told<'a> {
    /// The limit's.
    pub fields: &'a Fields,
    /// It refuses the request.
    pub refused: bool,
    /// Units that may be spent now, at least.
    pub remaining: u64,
    /// µs until the same request would pass; `u64::MAX`: it never will. Counts if it is refused.
    pub retry_after: u64,
    /// µs until everything is there again.
    pub reset_after: u64,
    /// What it is counted by, where clients are told.
    pub partition: Option<Partition>,
}

/// A partition key as clients may see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition([u8; 8]);

impl Fields {
    /// The fields of the limit called `name`, which gives `quota`. A name that no field can carry is left out, and the
    /// draft's fields with it.
    pub fn new(name: &str, quota: Quota, settings: Settings) -> Self {
        let window = whole_seconds(u64::try_from(quota.per.as_micros()).unwrap_or(u64::MAX)).max(1);
        Self::of(name, quota.amount, true, &format!("w={window}"), settings)
    }

    /// The fields of the limit called `name`, which lets `most` requests be in flight.
    pub fn in_flight(name: &str, most: u64, settings: Settings) -> Self {
        Self::of(name, most, false, "qu=\"concurrent-requests\"", settings)
    }

    fn of(name: &str, amount: u64, timed: bool, parameter: &str, settings: Settings) -> Self {
        let name = quoted(name);
        let policy = format!("{name};q={};{parameter}", amount.min(LARGEST));
        let writable = settings.draft_fields && name.is_ascii();
        let policy = HeaderValue::from_str(&policy).ok().filter(|_| writable);
        Self {
            limit: amount.into(),
            reset_in_seconds_left: settings.reset_in_seconds_left,
            timed,
            draft: policy.map(|policy| Draft { policy, name }),
        }
    }
}

/// Writes the fields of `all` limits counted at one position in the stack, at `now` (µs since the Unix epoch), and those of the
/// `nearest` to refusal, unless a nearer one is told already. Replaces what the app says of limits of its own, and comes
/// after what another position has told (`after_another`).
pub fn tell<'a>(
    all: impl Iterator<Item = Told<'a>>,
    nearest: Option<Told<'a>>,
    now: u64,
    after_another: bool,
    fields: &mut HeaderMap,
) {
    let mut buffer = Vec::with_capacity(96);
    fields.reserve(5);
    if let Some(nearest) = nearest.filter(|nearest| nearest.fields.timed || nearest.refused) {
        nearest.write(now, &mut buffer, fields);
    }
    let mut members = all.filter_map(|told| Some((told, told.fields.draft.as_ref()?)));
    let Some((first, draft)) = members.next() else { return };
    let mut policy = draft.policy.clone();
    first.push_member(draft, &mut buffer);
    let mut members = members.peekable();
    if members.peek().is_some() {
        let mut policies = policy.as_bytes().to_vec();
        for (told, draft) in members {
            buffer.put_slice(b", ");
            told.push_member(draft, &mut buffer);
            policies.put_slice(b", ");
            policies.put_slice(draft.policy.as_bytes());
        }
        policy = HeaderValue::try_from(policies).unwrap_or(policy);
    }
    for (name, value) in [(DRAFT_POLICY, Some(policy)), (DRAFT, taken(&mut buffer))] {
        let Some(value) = value else { continue };
        if after_another {
            fields.append(name, value);
        } else {
            fields.insert(name, value);
        }
    }
}

impl Told<'_> {
    /// Rule 1.
    fn write(&self, now: u64, buffer: &mut Vec<u8>, fields: &mut HeaderMap) {
        let reset = match self.fields.reset_in_seconds_left {
            true => whole_seconds(self.reset_after),
            false => whole_seconds(now.saturating_add(self.reset_after)),
        };
        fields.insert(LIMIT, self.fields.limit.clone());
        // Nobody knows when a request in flight ends.
        let reset = self.fields.timed.then_some(reset);
        if reset.is_none() {
            fields.remove(RESET);
        }
        for (name, number) in [(REMAINING, Some(self.remaining)), (RESET, reset)] {
            let Some(number) = number else { continue };
            push_number(number, buffer);
            taken(buffer).map(|value| fields.insert(name, value));
        }
    }

    /// `"NAME";r=57;t=21`
    fn push_member(&self, draft: &Draft, buffer: &mut Vec<u8>) {
        buffer.put_slice(draft.name.as_bytes());
        buffer.put_slice(b";r=");
        push_number(self.remaining.min(LARGEST), buffer);
        if self.fields.timed {
            let waits = self.refused && self.retry_after != u64::MAX;
            buffer.put_slice(b";t=");
            push_number(whole_seconds(if waits { self.retry_after } else { self.reset_after }), buffer);
        }
        if let Some(Partition(text)) = self.partition {
            buffer.put_slice(b";pk=:");
            buffer.put_slice(&text);
            buffer.put_u8(b':');
        }
    }
}

impl Partition {
    /// Of a limit's key, as it is counted by.
    pub fn of(key: &str) -> Self {
        let mut text = [b'A'; 8];
        // Six bytes are eight characters: it fits.
        BASE64_STANDARD.encode_slice(&Sha256::digest(key)[..6], &mut text).ok();
        Self(text)
    }
}

/// The value of `X-RateLimit-Warning` for the limit called `name`, when at least `at` percent of `capacity` units are used,
/// so that `remaining` are left.
pub fn warning(name: &str, at: u8, remaining: u64, capacity: u64) -> Option<HeaderValue> {
    let used = u128::from(capacity.saturating_sub(remaining)) * 100 / u128::from(capacity.max(1));
    if used < u128::from(at) {
        return None;
    }
    // A token begins with a letter (RFC 9651 §3.3.4); names have nothing in them that it does not.
    let token = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let name = if token { name.to_owned() } else { quoted(name) };
    HeaderValue::from_str(&format!("{name}; used={used}")).ok()
}

/// Removes all of them, ours or the app's own: what they say is said to one client.
pub fn remove(fields: &mut HeaderMap) {
    for name in [LIMIT, REMAINING, RESET, DRAFT_POLICY, DRAFT, WARNING] {
        fields.remove(name);
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

/// `Retry-After` (RFC 9110 §10.2.3) in seconds: at least 1, and never earlier than `micros`; `None` for `u64::MAX`: never.
pub fn retry_after(micros: u64) -> Option<u64> {
    (micros != u64::MAX).then(|| whole_seconds(micros).max(1))
}

fn whole_seconds(micros: u64) -> u64 {
    micros.div_ceil(SECOND)
}

/// An sf-string (RFC 9651 §3.3.3).
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn push_number(number: u64, buffer: &mut Vec<u8>) {
    buffer.put_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// What has been written, as a value; the buffer is empty then.
fn taken(buffer: &mut Vec<u8>) -> Option<HeaderValue> {
    let value = HeaderValue::from_bytes(buffer).ok();
    buffer.clear();
    value
}

#[cfg(test)]
mod tests;
