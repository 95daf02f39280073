//! Which tags a stored response carries, by those of its fields that say so and by its path. Pure.

use http::HeaderMap;

use crate::cache::Policy;
use crate::cache::key::{Key, place_path};
use crate::cache::rules::on_write::{Below, TAG_BELOW};
use crate::cache::rules::tags::tags;

/// The paths of any route's `on_write` that take back all below them, spelt as places are.
#[derive(Clone, Debug, Default)]
pub struct Wildcards(Vec<(Below, String)>);

impl Wildcards {
    /// Of these.
    pub fn new(all: impl IntoIterator<Item = Below>) -> Self {
        let spelt = |below: Below| {
            let start = place_path(&below.start).into_owned();
            (below, start)
        };
        Self(all.into_iter().map(spelt).collect())
    }

    /// The tags of a place: one for itself and each path above it that a wildcard may name.
    fn tags<'p>(&self, place: &'p str) -> impl Iterator<Item = String> + use<'_, 'p> {
        let root = place.find('/').unwrap_or(place.len());
        let path = &place[root..];
        let ends = path.match_indices('/').map(|(at, _)| at.max(1)).chain([path.len()]);
        let above = ends.enumerate().map(move |(depth, end)| (depth, path.get(..end).unwrap_or_default()));
        // The root is its own only segment's start: it is met once.
        let above = above.filter(move |(depth, above)| *depth == 0 || above.len() > 1);
        let named =
            move |(depth, path): &(usize, &str)| self.0.iter().any(|(below, start)| below.may_be(path, *depth, start));
        above.filter(named).map(move |(_, path)| below_tag(&place[..root + path.len()]))
    }
}

/// The tag of everything at `place` and below it.
pub fn below_tag(place: &str) -> String {
    [TAG_BELOW, place].concat()
}

/// Whether `tag` is one of a place that `place` is or lies below.
pub(super) fn is_below(tag: &str, place: &str) -> bool {
    let Some(above) = tag.strip_prefix(TAG_BELOW) else { return false };
    place.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || above.ends_with('/'))
}

/// The tags of a response with these fields, to be stored under `key`; `None`: more than the policy allows, or what says
/// them cannot be read.
pub fn tags_of(key: &Key, head: &HeaderMap, policy: &Policy, wildcards: &Wildcards) -> Option<Vec<String>> {
    let mut tags = tags(head, &policy.tags, key.authority(), policy.max_tags)?;
    if !wildcards.0.is_empty() {
        tags.extend(wildcards.tags(key.place()).take(policy.max_tags + 1));
    }
    (tags.len() <= policy.max_tags).then_some(tags)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::rules::on_write::OnWrite;

    fn wildcards(texts: &[&str]) -> Wildcards {
        let below = |text: &&str| OnWrite::parse(text, &["id", "rest"]).unwrap().below(&["rest"]).unwrap();
        Wildcards::new(texts.iter().map(below))
    }

    #[test]
    fn a_place_carries_the_tags_of_what_it_lies_below() {
        for (texts, place, expected) in [
            (&["/Users/{id}/{*}"][..], "a/users/7", &["a/users/7"][..]),
            (&["/Users/{id}/{*}"], "a/users/7/posts/3", &["a/users/7"]),
            (&["/users/{id}/{*}"], "a/users", &[]),
            (&["/users/{id}/{*}"], "a/posts/7", &[]),
            (&["/x/{*}"], "a/x60/1", &[]),
            (&["/x/{*}"], "a/xyz", &[]),
            (&["/x/{*}"], "a/x/1", &["a/x"]),
            (&["/users/{id}/{*}"], "a/users2/7", &[]),
            (&["/u-{id}/{*}"], "a/u-7/x", &["a/u-7"]),
            (&["/u-{id}/{*}"], "a/u7/x", &[]),
            (&["/users/{*}", "/users/{id}/{*}"], "a/users/7/x", &["a/users", "a/users/7"]),
            (&["/{*}"], "a/", &["a/"]),
            (&["/{*}"], "a/users/7", &["a/"]),
            (&["/files/{rest}/{*}"], "a/files2/x", &[]),
            (&["/files/{rest}/{*}"], "a/files/x/y", &["a/files", "a/files/x", "a/files/x/y"]),
            (&["/{rest}/{*}"], "a/x", &["a/", "a/x"]),
            (&[], "a/users/7", &[]),
        ] {
            let tags: Vec<_> = wildcards(texts).tags(place).collect();
            let expected: Vec<_> = expected.iter().map(|place| below_tag(place)).collect();
            assert_eq!(tags, expected, "{texts:?} {place}");
            assert!(tags.iter().all(|tag| is_below(tag, place)));
        }
    }

    #[test]
    fn what_lies_below_is_told_by_whole_segments() {
        for (above, place, below) in [
            ("a/users/7", "a/users/7", true),
            ("a/users/7", "a/users/7/x", true),
            ("a/users/7", "a/users/70", false),
            ("a/users/7", "b/users/7", false),
            ("a/", "a/users", true),
            ("a/", "a.b/users", false),
        ] {
            assert_eq!(is_below(&below_tag(above), place), below, "{above} {place}");
        }
        assert!(!is_below("a/users", "a/users"));
    }
}
