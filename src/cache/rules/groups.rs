//! Groups of stored responses (RFC 9875).
//!
//! 1. `Cache-Groups` says of which groups a response is; `Cache-Group-Invalidation`, in the answer to a write that is no
//!    error, which groups are changed by it. Both are lists of strings; anything else is ignored whole (§2, §3).
//! 2. Groups are compared byte by byte, and each is one of its origin: the same word elsewhere is another group (§2.2).
//! 3. Here a group is a tag, named by its authority too. Of two schemes of one authority more is invalidated than need be;
//!    that costs a miss.
//! 4. Of a field that names more than [`MAX_GROUPS`] all count for a response, which is then not stored (more tags than it
//!    may have), and the first for an invalidation.

use http::{HeaderMap, HeaderName};

use super::structured::{Value, list};

/// Groups that one answer invalidates at most; a cache must know 32 (RFC 9875 §2).
pub const MAX_GROUPS: usize = 64;

const CACHE_GROUPS: HeaderName = HeaderName::from_static("cache-groups");
const CACHE_GROUP_INVALIDATION: HeaderName = HeaderName::from_static("cache-group-invalidation");

/// The tags of the groups that a response of this authority is of.
pub fn groups(response: &HeaderMap, authority: &str) -> Vec<String> {
    named(response, &CACHE_GROUPS, authority)
}

/// The tags of the groups that the answer to a write at this authority invalidates.
pub fn invalidated(answer: &HeaderMap, authority: &str) -> Vec<String> {
    let mut groups = named(answer, &CACHE_GROUP_INVALIDATION, authority);
    groups.truncate(MAX_GROUPS);
    groups
}

fn named(head: &HeaderMap, field: &HeaderName, authority: &str) -> Vec<String> {
    if !head.contains_key(field) {
        return Vec::new();
    }
    let tag = |member| match member {
        Value::String(group) => Some(format!("group:{authority}:{group}")),
        _ => None,
    };
    let tags = list(head, field).and_then(|members| members.into_iter().map(tag).collect::<Option<Vec<_>>>());
    tags.unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn groups_are_strings_of_one_origin() {
        for (value, expected) in [
            ("\"scripts\"", vec!["group:a.com:scripts"]),
            ("\"a b\", \"A\";x", vec!["group:a.com:a b", "group:a.com:A"]),
            ("scripts", vec![]),
            ("\"scripts\", 1", vec![]),
            ("\"scripts", vec![]),
            ("", vec![]),
        ] {
            let head = HeaderMap::from_iter([(CACHE_GROUPS, HeaderValue::from_static(value))]);
            assert_eq!(groups(&head, "a.com"), expected, "{value:?}");
            assert_eq!(invalidated(&head, "a.com"), Vec::<String>::new(), "{value:?}");
            let head = HeaderMap::from_iter([(CACHE_GROUP_INVALIDATION, HeaderValue::from_static(value))]);
            assert_eq!(invalidated(&head, "a.com"), expected, "{value:?}");
        }
    }

    #[test]
    fn one_answer_invalidates_a_bounded_number_of_groups() {
        let many: Vec<_> = (0..100).map(|group| format!("\"{group}\"")).collect();
        let value = HeaderValue::try_from(many.join(", ")).unwrap();
        let head = HeaderMap::from_iter([(CACHE_GROUP_INVALIDATION, value)]);
        assert_eq!(invalidated(&head, "a.com").len(), MAX_GROUPS);
    }
}
