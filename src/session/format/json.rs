//! A JSON object (RFC 8259). Pure.
//!
//! A dotted path leads through objects; an attribute of the whole record whose own name has the dots comes first. Of a
//! name given twice the last counts, as it does for nearly every app.

use serde_json::Value;

use super::{MAX_RECORD, MAX_TEXT, Record, Wanted};

/// Reads a record.
///
/// # Errors
/// Why `bytes` are not a record: too large, not JSON (or nested more than 128 deep), or not an object.
pub fn record(wanted: &Wanted, bytes: &[u8]) -> Result<Record, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    let value: Value = serde_json::from_slice(bytes).map_err(|_| "record is not JSON")?;
    if !value.is_object() {
        return Err("record is not a JSON object");
    }
    let mut record = Record::default();
    for (index, path) in wanted.paths().iter().enumerate() {
        let Some(value) = at(&value, path) else { continue };
        let Some(text) = text(value) else { continue };
        if index == 0 && !value.is_boolean() && !text.is_empty() {
            record.user = Some(text.clone());
        }
        record.attributes.push((path.clone(), text));
    }
    Ok(record)
}

fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    value.get(path).or_else(|| path.split('.').try_fold(value, |inner, name| inner.as_object()?.get(name)))
}

/// Texts as they are, numbers and truth values as JSON writes them; `null`, lists and objects have no text.
fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => (text.len() <= MAX_TEXT).then(|| text.clone()),
        Value::Bool(truth) => Some(truth.to_string()),
        // Beyond 2^53 a fraction-less number has been rounded: two users could become one.
        Value::Number(number) => {
            let rounded = number.is_f64() && number.as_f64().is_none_or(|float| float.abs() >= 9_007_199_254_740_992.0);
            (!rounded).then(|| number.to_string())
        }
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tests::wanted;
    use super::*;

    fn user(json: &str) -> Option<String> {
        record(&wanted(&["user.id"]), json.as_bytes()).unwrap().user
    }

    #[test]
    fn user_is_found_by_path_and_may_be_a_number() {
        assert_eq!(user(r#"{"user":{"id":"5"}}"#).as_deref(), Some("5"));
        assert_eq!(user(r#"{"user":{"id":5}}"#).as_deref(), Some("5"));
        assert_eq!(user(r#"{"user":{"id":18446744073709551615}}"#).as_deref(), Some("18446744073709551615"));
        assert_eq!(user(r#"{"user.id":"dotted","user":{"id":5}}"#).as_deref(), Some("dotted"));
        assert_eq!(user(r#"{"user":{"id":"1"},"user":{"id":"2"}}"#).as_deref(), Some("2"));
    }

    #[test]
    fn what_names_nobody_is_no_login() {
        for nobody in ["{}", r#"{"user":null}"#, r#"{"user":7}"#, r#"{"user":[{"id":1}]}"#] {
            assert_eq!(user(nobody), None, "{nobody}");
        }
        for nobody in ["null", "\"\"", "false", "true", "[1]", "{}", "123456789012345678901234567890"] {
            assert_eq!(user(&format!(r#"{{"user":{{"id":{nobody}}}}}"#)), None, "{nobody}");
        }
    }

    #[test]
    fn only_wanted_attributes_are_kept_as_text() {
        let wanted = wanted(&["id", "plan.name", "admin", "score", "missing", "list"]);
        let json = r#"{"id":1,"plan":{"name":"M\u00fcller"},"admin":true,"score":1.5,"list":[1],"secret":"x"}"#;
        let record = record(&wanted, json.as_bytes()).unwrap();
        let kept: Vec<_> = record.attributes.iter().map(|(path, text)| format!("{path}={text}")).collect();
        assert_eq!(kept, ["id=1", "plan.name=Müller", "admin=true", "score=1.5"]);
    }

    #[test]
    fn what_is_no_record_says_why() {
        let read = |bytes: &[u8]| record(&wanted(&["id"]), bytes).unwrap_err();
        assert_eq!(read(b""), "record is not JSON");
        assert_eq!(read(b"{\"id\":1"), "record is not JSON");
        assert_eq!(read(b"[1]"), "record is not a JSON object");
        assert_eq!(read(&vec![b' '; MAX_RECORD + 1]), "record too large");
        assert_eq!(read("[".repeat(100_000).as_bytes()), "record is not JSON");
    }

    proptest! {
        #[test]
        fn no_bytes_bring_it_down(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = record(&wanted(&["a.b"]), &bytes);
        }
    }
}
