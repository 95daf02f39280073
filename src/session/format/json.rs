//! `json`: a JSON object (RFC 8259) in a string key, under an opaque token. Pure.

mod reader;

use super::datum::{Budget, Datum};
use super::{MAX_RECORD, Record, Stored, Wanted, Way, token};
use crate::exchange::Located;

/// Tokens, and JSON objects under them.
pub struct Json {
    prefix: String,
}

impl Json {
    /// Under keys that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }
}

impl Way for Json {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        Ok(Located::behind(&self.prefix, token(text)?))
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, _: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Text(bytes) = stored else { return Err("record is not a string") };
        record(wanted, bytes).map(Some)
    }
}

/// Reads a record.
///
/// # Errors
/// Why `bytes` are not a record: too large, not JSON, or not an object.
pub fn record(wanted: &Wanted, bytes: &[u8]) -> Result<Record, &'static str> {
    let object = decode(bytes)?;
    if !matches!(object, Datum::Map(_)) {
        return Err("record is not a JSON object");
    }
    Record::of(wanted, &object)
}

/// Decodes a value, as apps do (`reader`).
///
/// # Errors
/// It is too large, not JSON, or has too many values.
pub fn decode(bytes: &[u8]) -> Result<Datum, &'static str> {
    if bytes.len() > MAX_RECORD {
        return Err("record too large");
    }
    reader::read(bytes, &mut Budget::of(bytes.len()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::datum::UNTOLD;
    use super::super::tests::wanted;
    use super::*;

    fn user(json: &str) -> Option<String> {
        record(&wanted(&["user.id"]), json.as_bytes()).unwrap().user
    }

    fn user_is_untold(id: &str) -> bool {
        record(&wanted(&["user.id"]), format!(r#"{{"user":{{"id":{id}}}}}"#).as_bytes()) == Err(UNTOLD)
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
        for nobody in ["null", "\"\"", "false", "true", "[1]", "{}"] {
            assert_eq!(user(&format!(r#"{{"user":{{"id":{nobody}}}}}"#)), None, "{nobody}");
        }
        for untold in ["123456789012345678901234567890", "1e999", "NaN", r#""\ud83c""#] {
            assert!(user_is_untold(untold), "{untold}");
        }
    }

    #[test]
    fn only_wanted_attributes_are_kept_as_text() {
        let wanted = wanted(&["id", "plan.name", "admin", "score", "missing", "list"]);
        let json = r#"{"id":1,"plan":{"name":"M\u00fcller"},"admin":true,"score":1.5,"list":[1],"secret":"x"}"#;
        let record = record(&wanted, json.as_bytes()).unwrap();
        let kept: Vec<_> = record.attributes.iter().map(|(path, text)| format!("{path}={text}")).collect();
        assert_eq!(kept, ["id=1", "plan.name=Müller", "admin=true", "score=1.5", "list=1"]);
    }

    #[test]
    fn a_number_keeps_all_its_digits_and_gets_no_fraction() {
        let mut random = fastrand::Rng::with_seed(7);
        for _ in 0..2_000 {
            let number = random.f64() * 1e9;
            assert_eq!(user(&format!(r#"{{"user":{{"id":{number}}}}}"#)), Some(number.to_string()));
        }
        for (written, told) in
            [("5.0", "5"), ("-5.0", "-5"), ("5e2", "500"), ("9007199254740991.0", "9007199254740991")]
        {
            assert_eq!(user(&format!(r#"{{"user":{{"id":{written}}}}}"#)).as_deref(), Some(told));
        }
        assert!(user_is_untold("9007199254740992.0"), "it may have been rounded");
    }

    #[test]
    fn what_an_app_reads_besides_json_locks_nobody_out() {
        let deep = format!("{}{}", "[".repeat(600), "]".repeat(600));
        for text in [r#""\ud83d""#, "NaN", "-Infinity", "1e999", &deep] {
            let json = format!(r#"{{"nick":{text},"user":{{"id":5}}}}"#);
            assert_eq!(user(&json).as_deref(), Some("5"), "{text:.20}");
        }
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
