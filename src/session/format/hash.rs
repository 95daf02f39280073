//! The fields of a Redis hash, all texts. Pure.
//!
//! A path is the name of a field, dots and all. Only the wanted fields are asked for, so a hash that has none of them
//! cannot be told from one that is not there, and is treated as such.

use super::{MAX_TEXT, Record, Wanted};

/// Reads a record from the values of the wanted fields, in their order; `None` where there is no such field, or one that
/// is not text (UTF-8).
///
/// Returns nothing if none of them is there.
pub fn record<'v>(wanted: &Wanted, values: impl Iterator<Item = Option<&'v [u8]>>) -> Option<Record> {
    let mut record = Record::default();
    let mut exists = false;
    for (index, (path, value)) in wanted.paths().iter().zip(values).enumerate() {
        exists |= value.is_some();
        let text = value.filter(|value| value.len() <= MAX_TEXT).and_then(|value| std::str::from_utf8(value).ok());
        let Some(text) = text else { continue };
        if index == 0 && !text.is_empty() {
            record.user = Some(text.to_owned());
        }
        record.attributes.push((path.clone(), text.to_owned()));
    }
    exists.then_some(record)
}

#[cfg(test)]
mod tests {
    use super::super::tests::wanted;
    use super::*;

    fn read(values: &[Option<&[u8]>]) -> Option<Record> {
        record(&wanted(&["user_id", "name"]), values.iter().copied())
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
        assert_eq!(read(&[Some(b"\xff"), None]).unwrap().user, None);
        assert_eq!(read(&[None, None]), None);
    }
}
