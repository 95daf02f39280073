//! `hash`: the fields of a Redis hash, all texts, under an opaque token. Pure.
//!
//! A path is the name of a field, dots and all. Only the wanted fields are asked for, so a hash that has none of them
//! cannot be told from one that is not there, and is treated as such.

use super::datum::Datum;
use super::{MAX_RECORD, Record, Stored, Wanted, Way, token};
use crate::exchange::Located;

/// Tokens, and hashes under them.
pub struct Hash {
    prefix: String,
}

impl Hash {
    /// Under keys that begin with `prefix`.
    pub fn new(prefix: &str) -> Self {
        Self { prefix: prefix.to_owned() }
    }
}

impl Way for Hash {
    fn locate(&self, text: &[u8]) -> Result<Located, &'static str> {
        Ok(Located::behind(&self.prefix, token(text)?))
    }

    fn fields(&self, wanted: &Wanted) -> Option<Vec<String>> {
        Some(wanted.paths().iter().map(String::as_str).chain(wanted.born()).map(str::to_owned).collect())
    }

    fn read(&self, wanted: &Wanted, stored: Stored<'_>, _: u64) -> Result<Option<Record>, &'static str> {
        let Stored::Fields(values) = stored else { return Err("record is not a hash") };
        if values.iter().flatten().map(|value| value.len()).sum::<usize>() > MAX_RECORD {
            return Err("record too large");
        }
        record(wanted, values)
    }
}

/// Reads a record from the values of the wanted fields, in their order; `None` where there is no such field, or one that
/// is not text (UTF-8).
///
/// Returns nothing if none of them is there.
///
/// # Errors
/// As [`Record::of`].
fn record(wanted: &Wanted, values: &[Option<&[u8]>]) -> Result<Option<Record>, &'static str> {
    let names = wanted.paths().iter().map(String::as_str).chain(wanted.born());
    let there = |(name, value): (&str, &Option<&[u8]>)| Some((name.to_owned(), Datum::of_bytes((*value)?)));
    let fields: Vec<_> = names.zip(values).filter_map(there).collect();
    (!fields.is_empty()).then(|| Record::of(wanted, &Datum::Map(fields))).transpose()
}

#[cfg(test)]
mod tests {
    use super::super::datum::UNTOLD;
    use super::super::fixtures::agree;
    use super::super::tests::wanted;
    use super::*;
    use crate::session::{Carrier, Definition, Format};

    fn read(values: &[Option<&[u8]>]) -> Option<Record> {
        record(&wanted(&["user_id", "name"]), values).unwrap()
    }

    #[test]
    fn fields_are_texts_by_their_names() {
        let record = read(&[Some(b"5"), Some("Müller".as_bytes())]).unwrap();
        assert_eq!(record.user.as_deref(), Some("5"));
        assert_eq!(record.attributes[1], ("name".into(), "Müller".into()));
    }

    #[test]
    fn hash_without_user_is_no_login_and_one_without_anything_is_no_record() {
        assert_eq!(read(&[None, Some(b"x")]).unwrap().user, None);
        assert_eq!(read(&[Some(b""), None]).unwrap().user, None);
        assert_eq!(record(&wanted(&["user_id", "name"]), &[Some(b"\xff"), None]), Err(UNTOLD));
        assert_eq!(read(&[None, None]), None);
    }

    #[test]
    fn a_hash_is_no_larger_than_a_record() {
        let read = |length: usize| {
            let long = vec![b'a'; length];
            Hash::new("").read(&wanted(&["user_id", "name"]), Stored::Fields(&[Some(b"5"), Some(&long)]), 0)
        };
        assert_eq!(read(MAX_RECORD - 1).unwrap().unwrap().user.as_deref(), Some("5"));
        assert_eq!(read(MAX_RECORD), Err("record too large"));
    }

    #[test]
    fn real_captures_are_judged_as_the_app_judged_them() {
        let from = vec![
            Carrier::Bearer,
            Carrier::Cookie("session_token".into()),
            Carrier::Header("x-session-token".parse().unwrap()),
            Carrier::Query("token".into()),
        ];
        let definition = |format| Definition { carriers: from.clone(), ..Definition::new("web", format) };
        assert_eq!(agree("token-hash", definition(Format::Hash)) + agree("token-json", definition(Format::Json)), 24);
    }
}
