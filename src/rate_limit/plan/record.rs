//! What a client's record says. No I/O.
//!
//! 1. `quota` reads as in the configuration (`1000 per minute`), `burst` is a number from 1 on. Behind the name of a limit
//!    and a dot, each is of that limit alone. All other fields are the operator's own.
//! 2. What cannot be read is as if it were not there, and is told. So is what one of the route's limits cannot give: a
//!    sliding log of that many requests, a calendar window of that length.
//! 3. At most [`MOST`] limits are named in a record; more count as not there.
//!
//! # Why
//! A slip in one field must not take from a customer what the others say, nor from an operator the word that something is
//! wrong.

use std::str::from_utf8;
use std::sync::Arc;

use redis::Value;

use crate::exchange::{Entitlement, Grant};
use crate::rate_limit::Limit;
use crate::rate_limit::quota::Quota;
use crate::redis_pool::text as bytes;

/// Limits that a record may name.
const MOST: usize = 64;
/// Units that a burst may have.
const LARGEST_BURST: u64 = 1_000_000_000;

/// What Redis says to `HGETALL`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// There is no record.
    Nothing,
    /// There is one. With it, what could not be read: the field, and why.
    Record(Entitlement, Vec<Unread>),
    /// There is something else under its name.
    NoRecord,
    /// Nothing about the client: Redis refuses, or cannot answer.
    Unavailable,
}

/// What could not be read.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Unread {
    /// The field's name.
    pub field: String,
    /// What is wrong.
    pub why: String,
}

/// What `value` says, to a route with these limits.
pub fn said(value: &Value, limits: &[Arc<Limit>]) -> Said {
    match value {
        Value::Array(fields) if fields.is_empty() => Said::Nothing,
        Value::Map(fields) if fields.is_empty() => Said::Nothing,
        Value::Array(fields) => read(fields.as_chunks().0.iter().map(|[field, text]| (field, text)), limits),
        Value::Map(fields) => read(fields.iter().map(|(field, text)| (field, text)), limits),
        Value::ServerError(error) if error.code() == "WRONGTYPE" => Said::NoRecord,
        _ => Said::Unavailable,
    }
}

fn read<'v>(fields: impl Iterator<Item = (&'v Value, &'v Value)>, limits: &[Arc<Limit>]) -> Said {
    let (mut all, mut named, mut unread) = (Grant::default(), Vec::<(Box<str>, Grant)>::new(), Vec::new());
    for (field, text) in fields {
        let (Some(field), text) = (bytes(field).and_then(|field| from_utf8(field).ok()), bytes(text)) else { continue };
        let (limit, what) = field.rsplit_once('.').map_or((None, field), |(limit, what)| (Some(limit), what));
        if !matches!(what, "quota" | "burst") {
            continue;
        }
        let mut note = |why: &str| unread.push(Unread { field: field.to_owned(), why: why.to_owned() });
        let text = text.and_then(|text| from_utf8(text).ok()).unwrap_or_default();
        let grant = match limit {
            None => &mut all,
            Some(limit) => {
                let known = named.iter().position(|(known, _)| **known == *limit);
                if known.is_none() && named.len() == MOST {
                    note(&format!("a record names {MOST} limits at most"));
                    continue;
                }
                let index = known.unwrap_or_else(|| {
                    named.push((limit.into(), Grant::default()));
                    named.len() - 1
                });
                &mut named[index].1
            }
        };
        match what {
            "quota" => match text.parse::<Quota>() {
                Ok(Quota { amount, per }) => grant.quota = Some((amount, per)),
                Err(why) => note(&why),
            },
            _ => match text.parse().ok().filter(|burst| (1..=LARGEST_BURST).contains(burst)) {
                Some(burst) => grant.burst = Some(burst),
                None => note("a burst is a number from 1 to 1,000,000,000"),
            },
        }
    }
    let entitlement = Entitlement { all, limits: named.into() };
    unread.extend(limits.iter().filter_map(|limit| unfit(limit, &entitlement)));
    Said::Record(entitlement, unread)
}

/// What `limit` cannot give of it.
fn unfit(limit: &Limit, entitlement: &Entitlement) -> Option<Unread> {
    let counting = limit.counting().filter(|_| limit.plan.is_some())?;
    let why = counting.granted(entitlement.under(&limit.name)).err()?;
    Some(Unread { field: format!("{}.quota", limit.name), why: why.to_owned() })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::rate_limit::partition::{Key, Part};
    use crate::rate_limit::{Algorithm, Plan, Rule, Unknown};

    fn text(text: &str) -> Value {
        Value::BulkString(text.as_bytes().to_vec())
    }

    fn record(fields: &[(&str, &str)]) -> Value {
        Value::Map(fields.iter().map(|(field, value)| (text(field), text(value))).collect())
    }

    fn per_minute(amount: u64) -> Option<(u64, Duration)> {
        Some((amount, Duration::from_secs(60)))
    }

    /// A limit that goes by a plan.
    fn limit(name: &str, algorithm: Algorithm, calendar: Option<&str>) -> Arc<Limit> {
        let mut limit = Limit::new(name, Key(vec![Part::Address]), Quota { amount: 1, per: Duration::from_secs(3600) });
        limit.plan = Some(Arc::new(Plan {
            name: "api".into(),
            key: Part::Address,
            record: "{key}".into(),
            unknown: Unknown::Default,
        }));
        if let Rule::Quota(counting) = &mut limit.rule {
            (counting.algorithm, counting.calendar) = (algorithm, calendar.map(Into::into));
        }
        Arc::new(limit)
    }

    #[test]
    fn a_record_says_what_is_for_all_limits_and_what_for_one() {
        let fields = [
            ("quota", "1000 per minute"),
            ("burst", "50"),
            ("search.quota", "5 per minute"),
            ("a.b.burst", "7"),
            ("customer", "4711"),
            ("quotas", "?"),
        ];
        let limits = [
            ("search".into(), Grant { quota: per_minute(5), burst: None }),
            ("a.b".into(), Grant { quota: None, burst: Some(7) }),
        ];
        let all = Grant { quota: per_minute(1000), burst: Some(50) };
        let expected = Said::Record(Entitlement { all, limits: limits.into() }, Vec::new());
        assert_eq!(said(&record(&fields), &[]), expected);
        let flat = fields.iter().flat_map(|(field, value)| [text(field), text(value)]).collect();
        assert_eq!(said(&Value::Array(flat), &[]), expected, "as RESP2 has it");
    }

    #[test]
    fn what_cannot_be_read_is_told_and_the_rest_counts() {
        let fields =
            [("quota", "many"), ("burst", "50"), ("x.quota", "0 per minute"), ("x.burst", "0"), ("y.burst", "-1")];
        let Said::Record(entitlement, unread) = said(&record(&fields), &[]) else { panic!("a record") };
        assert_eq!(entitlement.under("x"), Grant { quota: None, burst: Some(50) });
        let told: Vec<_> = unread.iter().map(|unread| format!("{}: {}", unread.field, unread.why)).collect();
        let burst = "a burst is a number from 1 to 1,000,000,000";
        assert_eq!(
            told,
            [
                "quota: a quota reads like `100 per minute` or `10 per 30s`".to_owned(),
                "x.quota: a quota of 0 would refuse every request".to_owned(),
                format!("x.burst: {burst}"),
                format!("y.burst: {burst}"),
            ]
        );
    }

    #[test]
    fn what_a_limit_cannot_give_is_told() {
        let limits = [
            limit("log", Algorithm::SlidingLog, None),
            limit("calendar", Algorithm::FixedWindow, Some("UTC")),
            limit("bucket", Algorithm::TokenBucket, None),
        ];
        let said_of = |quota| match said(&record(&[("quota", quota)]), &limits) {
            Said::Record(_, unread) => unread.into_iter().map(|unread| unread.field).collect::<Vec<_>>(),
            other => panic!("{other:?}"),
        };
        assert_eq!(said_of("10001 per minute"), ["log.quota", "calendar.quota"]);
        assert_eq!(said_of("10000 per day"), [""; 0]);
    }

    #[test]
    fn limits_that_a_record_names_are_bounded() {
        let fields: Vec<_> = (0..MOST + 2).map(|number| format!("limit-{number}.burst")).collect();
        let fields: Vec<_> = fields.iter().map(|field| (field.as_str(), "1")).collect();
        let Said::Record(entitlement, unread) = said(&record(&fields), &[]) else { panic!("a record") };
        assert_eq!((entitlement.limits.len(), unread.len()), (MOST, 2));
    }

    #[test]
    fn no_record_another_type_and_no_answer_are_told_apart() {
        let error = |line: &str| redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        assert_eq!(said(&Value::Array(vec![]), &[]), Said::Nothing);
        assert_eq!(said(&Value::Map(vec![]), &[]), Said::Nothing);
        assert_eq!(said(&error("WRONGTYPE Operation against a key"), &[]), Said::NoRecord);
        assert_eq!(said(&error("NOPERM no permissions"), &[]), Said::Unavailable);
        assert_eq!(said(&error("LOADING Redis is loading"), &[]), Said::Unavailable);
        assert_eq!(said(&Value::Nil, &[]), Said::Unavailable);
        let foreign = record(&[("name", "Alice")]);
        assert_eq!(said(&foreign, &[]), Said::Record(Entitlement::default(), Vec::new()), "known, without a quota");
    }
}
