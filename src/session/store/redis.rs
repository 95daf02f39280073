//! Session records in the app's Redis: which commands ask for one, and what their answers say. No I/O: `gather` sends them.
//!
//! 1. One command for each request: `GETRANGE` of a string, `HMGET` of the wanted fields of a hash. Where the answer may
//!    be remembered, `PTTL` of the same key comes with it: what is remembered never outlives its key.
//! 2. A key of another type is no session, as is a key that is not there. `GETRANGE` says nothing of it, as of a record without a
//!    byte, which a visitor of a PHP app has: `PTTL` tells them apart, and where it was not asked there is none.
//! 3. Any other error of Redis says nothing about the session. Loading, failing over, losing or moving its cluster's slot,
//!    held up by a script: that is an outage, which passes. Everything else (no permission above all) is Redis refusing *us*.
//! 4. Nor does it outlive what the record says of its own end (`spring`, entries of Rails' cache).
//! 5. `PTTL` may be refused: then the longest age alone bounds what is remembered.
//!
//! # Why
//! Rule 1: of a string no more is asked for than tells that it is too large. All requests share a connection: one user's record of
//! 100 MB would keep the answers of everybody else from coming in time. `HMGET` knows no such bound.
//!
//! Rule 3: who is believed during an outage is believed because it passes. A missing permission stays until somebody
//! acts, and may have been taken away on purpose: it is not covered up by what was true before.

use std::time::Duration;

use redis::{Pipeline, Value};

use super::known::{Life, Reading};
use crate::exchange::Answer;
use crate::redis_pool::text;
use crate::session::format::{Record, Stored};
use crate::session::verdict::Found;

/// What Redis says while it cannot answer anybody.
const OUTAGES: [&str; 7] = ["LOADING", "MASTERDOWN", "CLUSTERDOWN", "MOVED", "ASK", "TRYAGAIN", "BUSY"];

/// What Redis says of a record.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    /// What it is.
    pub found: Found,
    /// How long it is there and counts, if that was asked and the record may be remembered.
    pub life: Option<Life>,
    /// What `max_age` leaves it.
    pub most: Option<Duration>,
}

/// Adds the commands that ask for the record under `key`, and for how long it is there if it `may_be_remembered`; says
/// how many.
pub fn ask(reading: &Reading, key: &[u8], may_be_remembered: bool, pipeline: &mut Pipeline) -> usize {
    match reading.fields() {
        // One byte more than a record may have.
        None => pipeline.cmd("GETRANGE").arg(key).arg(0).arg(reading.largest()),
        Some(fields) => pipeline.cmd("HMGET").arg(key).arg(fields),
    };
    if may_be_remembered {
        pipeline.cmd("PTTL").arg(key);
    }
    1 + usize::from(may_be_remembered)
}

/// What the answer says at `now` (Unix milliseconds).
pub fn told(reading: &Reading, answer: Answer, now: u64) -> Told {
    let without = |found| Told { found, life: None, most: None };
    let values = match answer {
        Answer::NotAsked | Answer::Near(_) => return without(Found::Refused("not asked")),
        Answer::Unavailable(reason) => return without(Found::Unavailable(reason)),
        Answer::Values(values) => values,
    };
    let mut values = values.into_iter();
    let (value, pttl) = (values.next(), values.next());
    let stands = pttl.as_ref().is_some_and(|pttl| matches!(pttl, Value::Int(-1..)));
    let (found, most) = reading.in_time(found(reading, value, stands, now), now);
    let life = pttl.and_then(|value| life(&value)).map(|life| life.within(most).within(left(&found, now)));
    Told { found, life, most }
}

/// How long a record counts from `now` on by its own word, if it says.
fn left(found: &Found, now: u64) -> Option<Duration> {
    let Found::Record(Record { ends: Some(ends), .. }) = found else { return None };
    Some(Duration::from_millis(ends.saturating_sub(now)))
}

/// `stands`: Redis says that there is such a key.
fn found(reading: &Reading, value: Option<Value>, stands: bool, now: u64) -> Found {
    match (reading.fields(), value) {
        (_, None) => Found::Refused("no answer"),
        (_, Some(Value::ServerError(error))) if error.code() == "WRONGTYPE" => Found::Nothing,
        (_, Some(Value::ServerError(error))) if OUTAGES.contains(&error.code()) => Found::Unavailable("error"),
        (_, Some(Value::ServerError(_))) => Found::Refused("error"),
        (None, Some(Value::Nil)) => Found::Nothing,
        (None, Some(value)) => match text(&value) {
            Some(b"") if !stands => Found::Nothing,
            Some(bytes) => reading.read(Stored::Text(bytes), now),
            None => Found::Refused("unexpected answer"),
        },
        (Some(fields), Some(Value::Array(values))) if values.len() == fields.len() => {
            reading.read(Stored::Fields(&values.iter().map(text).collect::<Vec<_>>()), now)
        }
        (Some(_), Some(_)) => Found::Refused("unexpected answer"),
    }
}

/// What `PTTL` says: -1: no end; -2: no key, which has ended since the record was read.
fn life(value: &Value) -> Option<Life> {
    match value {
        Value::Int(-1) | Value::ServerError(_) => Some(Life::Endless),
        Value::Int(left) => u64::try_from(*left).ok().map(|left| Life::Left(Duration::from_millis(left))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::session::format::{MAX_RECORD, USUAL_RECORD};
    use crate::session::settings::Lifetime;
    use crate::session::{Definition, Format};

    /// When the tests are: Unix milliseconds.
    const NOW: u64 = 1_700_000_000_000;

    fn reading(format: Format) -> Arc<Reading> {
        let user = vec!["id".into(), "name".into()];
        Reading::of(&Arc::new(Definition { user, ..Definition::new("web", format) })).unwrap()
    }

    fn says(format: Format, value: Value) -> Found {
        told(&reading(format), Answer::Values(vec![value]), NOW).found
    }

    fn error(line: &str) -> Value {
        redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap()
    }

    #[test]
    fn key_of_another_type_is_no_session() {
        assert_eq!(says(Format::Json, error("WRONGTYPE Operation against a key")), Found::Nothing);
        assert_eq!(says(Format::Json, Value::Nil), Found::Nothing);
        assert_eq!(says(Format::Hash, Value::Array(vec![Value::Nil, Value::Nil])), Found::Nothing);
    }

    #[test]
    fn nothing_is_told_from_a_record_without_a_byte_where_the_life_of_its_key_is_known() {
        let reading = reading(Format::Php(crate::session::format::Handler::Php));
        let found = |values: &[Value]| {
            let values = [&[Value::BulkString(Vec::new())], values].concat();
            told(&reading, Answer::Values(values), NOW).found
        };
        for there in [-1, 0, 1500] {
            assert_eq!(found(&[Value::Int(there)]), Found::Record(Record::default()), "{there}");
        }
        for values in [&[][..], &[Value::Int(-2)], &[error("NOPERM no")], &[Value::Nil]] {
            assert_eq!(found(values), Found::Nothing, "{values:?}");
        }
    }

    #[test]
    fn more_than_a_record_may_have_is_asked_for_by_one_byte_and_is_none() {
        let record = r#"{"id":"5"}"#;
        let padded = |length: usize| Value::BulkString((record.to_owned() + &" ".repeat(length - record.len())).into());
        for max_record in [4096, USUAL_RECORD, MAX_RECORD] {
            let user = vec!["id".into()];
            let definition = Definition { user, max_record, ..Definition::new("web", Format::Json) };
            let reading = Reading::of(&Arc::new(definition)).unwrap();
            let mut pipeline = Pipeline::new();
            ask(&reading, b"k", false, &mut pipeline);
            let (asked, digits) = (pipeline.get_packed_pipeline(), max_record.to_string().len());
            assert!(asked.ends_with(format!("$1\r\n0\r\n${digits}\r\n{max_record}\r\n").as_bytes()), "{asked:?}");
            let says = |value| told(&reading, Answer::Values(vec![value]), NOW).found;
            assert!(matches!(says(padded(max_record)), Found::Record(_)), "{max_record}");
            assert_eq!(says(padded(max_record + 1)), Found::Unreadable("record too large"), "{max_record}");
        }
    }

    #[test]
    fn the_wanted_fields_of_a_hash_are_bounded_together() {
        let user = vec!["id".into(), "name".into()];
        let definition = Definition { user, max_record: 4096, ..Definition::new("web", Format::Hash) };
        let reading = Reading::of(&Arc::new(definition)).unwrap();
        let says = |length: usize| {
            let values = ["5".to_owned(), "a".repeat(length - 1)].map(|text| Value::BulkString(text.into()));
            told(&reading, Answer::Values(vec![Value::Array(values.into())]), NOW).found
        };
        assert!(matches!(says(4096), Found::Record(_)));
        assert_eq!(says(4097), Found::Unreadable("record too large"));
    }

    #[test]
    fn what_is_inflated_is_bounded_as_what_is_stored_is() {
        let record = format!("{{\"id\":\"5\",\"pad\":\"{}\"}}", "a".repeat(8000));
        let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
        std::io::Write::write_all(&mut encoder, record.as_bytes()).unwrap();
        let deflated = encoder.finish().unwrap();
        assert!(deflated.len() < 4096);
        for (max_record, is_read) in [(4096, false), (8192, true)] {
            let user = vec!["id".into()];
            let definition = Definition { user, max_record, ..Definition::new("web", Format::Django) };
            let reading = Reading::of(&Arc::new(definition)).unwrap();
            let found = told(&reading, Answer::Values(vec![Value::BulkString(deflated.clone())]), NOW).found;
            assert_eq!(matches!(found, Found::Record(_)), is_read, "{found:?}");
            assert_eq!(found == Found::Unreadable("record too large"), !is_read, "{found:?}");
        }
    }

    #[test]
    fn redis_that_cannot_answer_says_nothing_about_the_session() {
        let passing =
            ["LOADING Redis is loading", "CLUSTERDOWN Hash slot not served", "MOVED 1 a:1", "BUSY Redis is busy"];
        for passing in passing {
            assert_eq!(says(Format::Hash, error(passing)), Found::Unavailable("error"), "{passing}");
        }
        for lasting in ["NOPERM this user has no permissions", "ERR unknown command 'GETRANGE'"] {
            assert_eq!(says(Format::Json, error(lasting)), Found::Refused("error"), "{lasting}");
        }
        assert_eq!(says(Format::Json, Value::Int(1)), Found::Refused("unexpected answer"));
        assert_eq!(says(Format::Hash, Value::Array(vec![])), Found::Refused("unexpected answer"));
        let of = |answer| told(&reading(Format::Json), answer, NOW).found;
        assert_eq!(of(Answer::Unavailable("timeout")), Found::Unavailable("timeout"));
        assert_eq!(of(Answer::Values(vec![])), Found::Refused("no answer"));
    }

    #[test]
    fn the_life_of_a_key_bounds_what_is_remembered_of_it() {
        let life = |value| told(&reading(Format::Json), Answer::Values(vec![Value::Nil, value]), NOW).life;
        assert_eq!(life(Value::Int(1500)), Some(Life::Left(Duration::from_millis(1500))));
        assert_eq!(life(Value::Int(-1)), Some(Life::Endless));
        assert_eq!(life(error("NOPERM no permissions to run the 'pttl' command")), Some(Life::Endless));
        assert_eq!((life(Value::Int(-2)), life(Value::Nil)), (None, None), "it ended between the two answers");
        assert_eq!(told(&reading(Format::Json), Answer::Values(vec![Value::Nil]), NOW).life, None);
    }

    #[test]
    fn the_end_that_a_record_tells_bounds_what_is_remembered_of_it() {
        let begun = NOW - 10_000;
        let field = |text: String| Value::BulkString(text.into());
        let times = [begun.to_string(), begun.to_string(), "60".into()].map(field);
        let reading = reading(Format::Spring { base64: true });
        let attributes = reading.fields().unwrap().len() - times.len();
        let hash = Value::Array(times.into_iter().chain(vec![Value::Nil; attributes]).collect());
        let life = |pttl| told(&reading, Answer::Values(vec![hash.clone(), Value::Int(pttl)]), NOW).life;
        let left = Some(Life::Left(Duration::from_secs(50)));
        assert_eq!((life(350_000), life(-1)), (left, left));
        assert_eq!(life(1000), Some(Life::Left(Duration::from_secs(1))));
    }

    #[test]
    fn how_long_a_login_may_last_is_judged_at_the_time_that_is_given() {
        let lifetime = Some(Lifetime { most: Duration::from_secs(3600), born: Some("born".into()) });
        let definition = Definition { user: vec!["id".into()], lifetime, ..Definition::new("web", Format::Json) };
        let reading = Reading::of(&Arc::new(definition)).unwrap();
        let record = Value::BulkString(format!(r#"{{"id":5,"born":{}}}"#, NOW / 1000).into());
        let after =
            |seconds: u64| told(&reading, Answer::Values(vec![record.clone(), Value::Int(-1)]), NOW + seconds * 1000);
        let young = after(3599);
        assert!(matches!(young.found, Found::Record(_)), "{young:?}");
        let left = Duration::from_secs(1);
        assert_eq!((young.most, young.life), (Some(left), Some(Life::Left(left))));
        assert!(matches!(after(3600).found, Found::Outlived(_, "too old")));
    }
}
