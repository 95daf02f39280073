//! Session records in the app's Redis: which command asks for one, and what its answer says. No I/O: `gather` sends it.
//!
//! 1. One command for each request: `GET` of a JSON record, `HMGET` of the wanted fields of a hash.
//! 2. A key of another type is no session, as is a key that is not there.
//! 3. Any other error of Redis (loading, no permission, moved) is an outage: it says nothing about the session.

use redis::{Pipeline, Value};

use crate::exchange::Answer;
use crate::session::format::{Wanted, hash, json};
use crate::session::verdict::Found;
use crate::session::{Definition, Format};

/// Adds the command that asks for the record of `identifier`.
pub fn ask(definition: &Definition, wanted: &Wanted, identifier: &str, pipeline: &mut Pipeline) {
    let key = [definition.prefix.as_str(), identifier].concat();
    match definition.format {
        Format::Json => pipeline.cmd("GET").arg(key),
        Format::Hash => pipeline.cmd("HMGET").arg(key).arg(wanted.paths()),
    };
}

/// What the answer says.
pub fn found(format: Format, wanted: &Wanted, answer: Answer) -> Found {
    let value = match answer {
        Answer::NotAsked | Answer::Near(_) => return Found::Unavailable("not asked"),
        Answer::Unavailable(reason) => return Found::Unavailable(reason),
        Answer::Values(mut values) => values.pop(),
    };
    match (format, value) {
        (_, None) => Found::Unavailable("no answer"),
        (_, Some(Value::ServerError(error))) if error.code() == "WRONGTYPE" => Found::Nothing,
        (_, Some(Value::ServerError(_))) => Found::Unavailable("error"),
        (Format::Json, Some(Value::Nil)) => Found::Nothing,
        (Format::Json, Some(value)) => match text(&value) {
            Some(bytes) => json::record(wanted, bytes).map_or_else(Found::Unreadable, Found::Record),
            None => Found::Unavailable("unexpected answer"),
        },
        (Format::Hash, Some(Value::Array(values))) if values.len() == wanted.paths().len() => {
            hash::record(wanted, values.iter().map(text)).map_or(Found::Nothing, Found::Record)
        }
        (Format::Hash, Some(_)) => Found::Unavailable("unexpected answer"),
    }
}

fn text(value: &Value) -> Option<&[u8]> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.as_bytes()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::format::tests::wanted;
    use super::*;

    fn says(format: Format, value: Value) -> Found {
        found(format, &wanted(&["id", "name"]), Answer::Values(vec![value]))
    }

    #[test]
    fn key_of_another_type_is_no_session() {
        let error = redis::parse_redis_value(b"-WRONGTYPE Operation against a key\r\n").unwrap();
        assert_eq!(says(Format::Json, error), Found::Nothing);
        assert_eq!(says(Format::Json, Value::Nil), Found::Nothing);
        assert_eq!(says(Format::Hash, Value::Array(vec![Value::Nil, Value::Nil])), Found::Nothing);
    }

    #[test]
    fn redis_that_cannot_answer_says_nothing_about_the_session() {
        let error = redis::parse_redis_value(b"-LOADING Redis is loading\r\n").unwrap();
        assert_eq!(says(Format::Hash, error), Found::Unavailable("error"));
        assert_eq!(says(Format::Json, Value::Int(1)), Found::Unavailable("unexpected answer"));
        assert_eq!(says(Format::Hash, Value::Array(vec![])), Found::Unavailable("unexpected answer"));
        let wanted = wanted(&["id"]);
        assert_eq!(found(Format::Json, &wanted, Answer::Unavailable("timeout")), Found::Unavailable("timeout"));
        assert_eq!(found(Format::Json, &wanted, Answer::Values(vec![])), Found::Unavailable("no answer"));
    }
}
