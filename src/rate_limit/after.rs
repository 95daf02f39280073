//! What is charged once the answer is known: `cost = "response:FIELD"`, `count = ["401"]`.
//!
//! 1. Before, a unit must be left; nothing is taken.
//! 2. After, a request costs what the field says: a whole number, at most 1,000,000; anything else, or nothing, is 1. Or what
//!    it costs anyway, if its status counts.
//! 3. A request whose client leaves before the answer has no status; where the answer would have said what it costs, it
//!    costs 1.
//! 4. Its client is told where it stands with that charged, and is warned by it.
//! 5. An answer that sends a browser to the login (`login_url`) counts as the 401 that all others are given: who guesses chooses
//!    what it says it accepts.
//! 6. Nobody waits for that. What Redis cannot be told is charged in memory, and goes along with later questions (`outage`).
//!
//! # Why
//! Requests that are under way at once are all let in while a unit is left. What they come to is charged all the same, as a
//! debt of at most one more burst: who has overdrawn waits until it is earned.

use std::rc::Rc;

use http::{HeaderMap, HeaderName, Response, StatusCode};
use redis::Pipeline;

use super::judge::{Counted, Counter, Docket, RateLimit, Standing};
use super::store::OnOutage;
use super::{Cost, Limit};
use crate::body::Body;
use crate::local_reply::LOGIN_NEEDED;
use crate::telemetry::Record;

/// No answer costs more units.
const DEAREST: u64 = 1_000_000;

/// A request that passes; dropped before its answer, it costs what it costs then.
pub(super) struct Passing {
    limits: Rc<RateLimit>,
    standing: Option<Standing>,
}

/// What is known of an answer.
type Head<'a> = Option<(StatusCode, &'a HeaderMap)>;

impl Passing {
    pub(super) fn new(limits: Rc<RateLimit>, standing: Standing) -> Self {
        Self { limits, standing: Some(standing) }
    }

    /// Its answer is here: its client is told where it stands, and it is charged what the answer says.
    pub(super) fn answered(mut self, record: &mut Record, response: &mut Response<Body>) {
        if let Some(mut standing) = self.standing.take() {
            let head = (counts_as(record, response.status()), response.headers());
            let owed = self.limits.owed(&standing.docket, Some(head));
            if !owed.is_empty() {
                self.limits.foresee(&mut standing, &owed);
            }
            self.limits.show(&standing, record, response.headers_mut());
            self.limits.settle_after(standing, owed);
        }
    }
}

impl Drop for Passing {
    fn drop(&mut self) {
        if let Some(standing) = self.standing.take() {
            let owed = self.limits.owed(&standing.docket, None);
            self.limits.settle_after(standing, owed);
        }
    }
}

impl RateLimit {
    /// Units that a request costs after its answer, one number for each of its entries; empty if it costs none.
    fn owed(&self, docket: &Docket, head: Head<'_>) -> Vec<u64> {
        if !docket.entries.iter().any(|entry| self.counters[entry.counter].limit.is_charged_after()) {
            return Vec::new();
        }
        let owed: Vec<u64> =
            docket.entries.iter().map(|entry| units_after(&self.counters[entry.counter], head)).collect();
        if owed.iter().all(|units| *units == 0) { Vec::new() } else { owed }
    }

    /// What a request's counters will say once they are charged what it owes.
    fn foresee(&self, standing: &mut Standing, owed: &[u64]) {
        let Standing { docket, nearest, now, .. } = standing;
        for (entry, &units) in docket.entries.iter_mut().zip(owed).filter(|(_, units)| **units > 0) {
            let said = &mut entry.said;
            said.remaining = said.remaining.saturating_sub(units);
            said.certain = said.certain.saturating_sub(units);
            said.reset_after = docket.terms[entry.counter].policy.reset_after(said.reset_after, *now, units);
        }
        *nearest = self.nearest(docket);
    }

    fn settle_after(self: &Rc<Self>, standing: Standing, owed: Vec<u64>) {
        let Standing { docket, counted, .. } = standing;
        if owed.is_empty() {
            return self.close(docket);
        }
        for (entry, &units) in docket.entries.iter().zip(&owed) {
            self.counters[entry.counter].outcomes.charged.iter().for_each(|charged| charged.add(units));
        }
        match (&self.worker.link, counted) {
            (Some(link), Counted::Redis) => {
                let (counters, mut pipeline) = (self.in_redis(), Pipeline::new());
                for (entry, &units) in docket.entries.iter().zip(&owed).filter(|(_, units)| **units > 0) {
                    let policy = &docket.terms[entry.counter].policy;
                    counters.charge(&mut pipeline, docket.key(entry), policy, units);
                }
                let limits = self.clone();
                link.send_or(pipeline, move || {
                    if limits.on_outage == OnOutage::Local {
                        limits.charge_in_memory(&docket, &owed, Counted::Local);
                    }
                });
            }
            _ => {
                self.charge_in_memory(&docket, &owed, counted);
                self.close(docket);
            }
        }
    }

    fn charge_in_memory(&self, docket: &Docket, owed: &[u64], counted: Counted) {
        let Self { worker, .. } = self;
        let now = worker.clock.unix_micros();
        for (entry, &units) in docket.entries.iter().zip(owed).filter(|(_, units)| **units > 0) {
            let policy = &docket.terms[entry.counter].policy;
            if counted == Counted::Local {
                worker.memory.stand_in(now + policy.longest(now));
            }
            worker.memory.charge(docket.key(entry), policy, units, now);
        }
    }
}

/// The status that an answer counts as (rule 5).
fn counts_as(record: &Record, status: StatusCode) -> StatusCode {
    if record.local_reply == Some(LOGIN_NEEDED) { StatusCode::UNAUTHORIZED } else { status }
}

/// What a request costs under a counter once its answer is known, or that it has none.
fn units_after(counter: &Counter, head: Head<'_>) -> u64 {
    let Limit { cost, count, .. } = &*counter.limit;
    let Some((status, fields)) = head else {
        return u64::from(matches!(cost, Cost::Response(_)) && count.counts(StatusCode::OK));
    };
    if !counter.limit.is_charged_after() || !count.counts(status) {
        return 0;
    }
    match cost {
        Cost::Units(_) => counter.units,
        Cost::Response(name) => units_said(fields, name),
    }
}

/// What the app says that a request costs (rule 2).
fn units_said(fields: &HeaderMap, name: &HeaderName) -> u64 {
    let mut values = fields.get_all(name).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return 1 };
    let digits = value.to_str().unwrap_or_default().trim();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return 1;
    }
    // Too many digits for a number are many.
    digits.parse().map_or(DEAREST, |units: u64| units.min(DEAREST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_app_says_is_a_whole_number_within_bounds_or_one() {
        const NAME: HeaderName = HeaderName::from_static("x-cost");
        let units = |values: &[&'static str]| {
            let fields = values.iter().map(|value| (NAME, http::HeaderValue::from_static(value)));
            units_said(&fields.collect(), &NAME)
        };
        assert_eq!(units(&[]), 1);
        for (value, expected) in [
            ("0", 0),
            ("7", 7),
            (" 7 ", 7),
            ("007", 7),
            ("1000001", DEAREST),
            ("99999999999999999999999", DEAREST),
            ("", 1),
            ("-5", 1),
            ("+5", 1),
            ("2.5", 1),
            ("1e3", 1),
            ("5 units", 1),
            ("5, 5", 1),
        ] {
            assert_eq!(units(&[value]), expected, "{value:?}");
        }
        assert_eq!(units(&["5", "6"]), 1, "nobody knows which");
    }
}
