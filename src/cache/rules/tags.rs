//! The tags of a response, by which it can be invalidated with others.
//!
//! 1. They stand in the fields that the policy names. `Surrogate-Key` and `xkey` separate them by spaces, every other field
//!    by commas: so do those who made these fields.
//! 2. Groups ([`super::groups`]) are tags, too.
//! 3. A tag is what is written, byte by byte: visible ASCII, and spaces inside where commas separate.
//! 4. More tags than the policy allows, one of more than [`MAX_LENGTH`] bytes, or one of other bytes: the response is not
//!    stored. It could not be invalidated as its app may ask.

use http::{HeaderMap, HeaderName};

use super::groups;

/// Bytes of a tag.
pub const MAX_LENGTH: usize = 1024;

/// Its tags, sorted, each once; `None`: more than `most` of them, or one that is none.
pub fn tags(response: &HeaderMap, fields: &[HeaderName], authority: &str, most: usize) -> Option<Vec<String>> {
    let mut tags = groups::groups(response, authority);
    for field in fields {
        let by_space = matches!(field.as_str(), "surrogate-key" | "xkey");
        for line in response.get_all(field) {
            let separates = |byte: &u8| if by_space { byte.is_ascii_whitespace() } else { *byte == b',' };
            let members = line.as_bytes().split(separates).map(<[u8]>::trim_ascii);
            for member in members.filter(|member| !member.is_empty()) {
                let is_tag = member.iter().all(|byte| matches!(byte, b' '..=b'~'));
                tags.push(str::from_utf8(member).ok().filter(|_| is_tag)?.to_owned());
            }
        }
    }
    tags.sort_unstable();
    tags.dedup();
    (tags.len() <= most && tags.iter().all(|tag| tag.len() <= MAX_LENGTH)).then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    const FIELDS: [HeaderName; 2] = [HeaderName::from_static("cache-tag"), HeaderName::from_static("surrogate-key")];

    fn read(fields: &[(&'static str, &str)]) -> Option<Vec<String>> {
        let mut head = HeaderMap::new();
        for (name, value) in fields {
            head.append(HeaderName::from_static(name), HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        tags(&head, &FIELDS, "a.com", 4)
    }

    #[test]
    fn each_field_has_its_own_separator() {
        type Fields<'a> = &'a [(&'static str, &'a str)];
        let cases: &[(Fields, Option<&[&str]>)] = &[
            (&[], Some(&[])),
            (&[("cache-tag", "b, a ,,")], Some(&["a", "b"])),
            (&[("cache-tag", "a b,A")], Some(&["A", "a b"])),
            (&[("cache-tag", "a"), ("cache-tag", "b,a")], Some(&["a", "b"])),
            (&[("surrogate-key", " a  b,c ")], Some(&["a", "b,c"])),
            (&[("cache-tag", "a"), ("surrogate-key", "a b")], Some(&["a", "b"])),
            (&[("cache-tag", "a"), ("cache-groups", "\"a\"")], Some(&["a", "group:a.com:a"])),
            (&[("other", "a")], Some(&[])),
            (&[("cache-tag", "1,2,3,4")], Some(&["1", "2", "3", "4"])),
            (&[("cache-tag", "1,2,3,4,5")], None),
            (&[("cache-tag", "1,1,1,1,1")], Some(&["1"])),
            (&[("cache-tag", "é")], None),
            (&[("cache-tag", "a\tb")], None),
        ];
        for (fields, expected) in cases {
            let expected = expected.map(|tags| tags.iter().map(ToString::to_string).collect::<Vec<_>>());
            assert_eq!(read(fields), expected, "{fields:?}");
        }
        assert!(read(&[("cache-tag", &"x".repeat(MAX_LENGTH))]).is_some());
        assert!(read(&[("cache-tag", &"x".repeat(MAX_LENGTH + 1))]).is_none());
    }
}
