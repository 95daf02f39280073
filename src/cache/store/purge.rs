//! What a purge takes back, and whether it is gone or only stale. Pure.
//!
//! 1. What is purged are places: each in all its queries, variants, schemes and spellings, as by a write (`key`).
//! 2. Paths compare as places do: in canonical form, in lower case, without a slash at the end. A prefix is one of text:
//!    `/users` is that of `/users`, `/users/7` and `/usersearch`; `/users/` that of what lies below.
//! 3. In a glob `*` stands for any text, slashes among it, and everything else for itself. A `?` would begin a query, of
//!    which places have none: it matches nothing, and who reads names from operators refuses it.
//! 4. Where no authority is said, all are meant.

use crate::cache::key::place_path;
use crate::route::canonical::canonical;
use crate::route::case::folded;

/// What is purged.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// One place.
    Url {
        /// Lower case, without its scheme's default port.
        authority: String,
        /// Without a query.
        path: String,
    },
    /// All places whose path begins so.
    Prefix {
        /// As in [`Target::Url`]; `None`: any.
        authority: Option<String>,
        /// The beginning of the path.
        path: String,
    },
    /// All places whose path matches.
    Pattern {
        /// As in [`Target::Url`]; `None`: any.
        authority: Option<String>,
        /// See rule 3.
        glob: String,
    },
    /// All places where something is stored that carries this tag.
    Tag(String),
    /// Everything.
    All,
}

/// What is left of what is purged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Softness {
    /// Nothing: the next request is a miss.
    Hard,
    /// It is stale: it can be validated, and stands in where a stale response may.
    Soft,
}

impl Target {
    /// The place of [`Target::Url`].
    pub fn place(&self) -> Option<String> {
        match self {
            Self::Url { authority, path } => {
                let path = if path.is_empty() { "/" } else { path };
                Some([&authority.to_ascii_lowercase(), &*place_path(path)].concat())
            }
            _ => None,
        }
    }

    /// Whether it takes back `place`, as far as that can be told by the place.
    pub fn covers(&self, place: &str) -> bool {
        let (authority, path) = place.split_at(place.find('/').unwrap_or(place.len()));
        let is_there = |wanted: &Option<String>| match wanted {
            Some(wanted) => wanted.eq_ignore_ascii_case(authority),
            None => true,
        };
        match self {
            Self::Url { .. } => self.place().is_some_and(|own| own == place),
            Self::Prefix { authority, path: prefix } => {
                is_there(authority) && path.starts_with(&*canonical_start(prefix))
            }
            Self::Pattern { authority, glob } => is_there(authority) && matches(glob, path),
            Self::Tag(_) => false,
            Self::All => true,
        }
    }
}

/// The beginning of paths, spelt as places are; a slash at its end stays.
fn canonical_start(prefix: &str) -> String {
    folded(&canonical(prefix).path).into_owned()
}

/// Whether `glob` matches all of `text`, letters of ASCII in any case. Takes as many steps as there are pairs of characters
/// at most: it goes back to the last `*` alone.
fn matches(glob: &str, text: &str) -> bool {
    let (glob, text) = (glob.as_bytes(), text.as_bytes());
    let (mut at, mut of, mut last_star) = (0, 0, None);
    while of < text.len() {
        match glob.get(at) {
            Some(b'*') => {
                last_star = Some((at, of));
                at += 1;
            }
            Some(symbol) if symbol.eq_ignore_ascii_case(&text[of]) => (at, of) = (at + 1, of + 1),
            _ => match last_star {
                Some((star, from)) => {
                    last_star = Some((star, from + 1));
                    (at, of) = (star + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    glob[at..].iter().all(|symbol| *symbol == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_covers_places_as_they_are_spelt() {
        let here = || Some("Example.com".to_owned());
        let prefix = |authority, path: &str| Target::Prefix { authority, path: path.into() };
        let pattern = |authority, glob: &str| Target::Pattern { authority, glob: glob.into() };
        let url = |path: &str| Target::Url { authority: "example.com".into(), path: path.into() };
        for (target, place, covered) in [
            (url("/Users/7/"), "example.com/users/7", true),
            (url("/users"), "example.com/users/7", false),
            (url("/users"), "other.com/users", false),
            (url(""), "example.com/", true),
            (prefix(here(), "/Users"), "example.com/users", true),
            (prefix(here(), "/users"), "example.com/usersearch", true),
            (prefix(here(), "/users/"), "example.com/users", false),
            (prefix(here(), "/users/"), "example.com/users/7", true),
            (prefix(here(), "/%75sers"), "example.com/users", true),
            (prefix(here(), "/"), "example.com.evil/users", false),
            (prefix(None, "/a"), "b:81/a", true),
            (prefix(None, "/b"), "b:81/a", false),
            (pattern(here(), "/users/*/posts"), "example.com/users/7/posts", true),
            (pattern(here(), "/users/*/posts"), "example.com/users/7/of/posts", true),
            (pattern(here(), "/users/*/posts"), "example.com/users/7/posts/1", false),
            (pattern(None, "*.CSS"), "a/x/y.css", true),
            (pattern(None, "/a?c"), "a/abc", false),
            (pattern(None, "/a*?"), "a/abc", false),
            (pattern(None, "/[a]"), "a/a", false),
            (pattern(None, "/[a]"), "a/[a]", true),
            (pattern(None, ""), "a/", false),
            (Target::Tag("a".into()), "a/a", false),
            (Target::All, "a/a", true),
        ] {
            assert_eq!(target.covers(place), covered, "{target:?} {place}");
        }
    }

    #[test]
    fn a_glob_of_many_stars_takes_no_longer_than_one() {
        assert!(!matches(&"*a".repeat(2000), &"a".repeat(1999)));
        assert!(matches(&"*a".repeat(2000), &"a".repeat(2000)));
        assert!(!matches(&format!("{}b", "*a".repeat(50)), &"a".repeat(100_000)));
    }
}
