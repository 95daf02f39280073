//! What a route's `on_write` says: what a write there invalidates besides its own path.
//!
//! 1. `/users/{id}`: this path. `/users/{id}/{*}`: this path and all below it. `tag:user-{id}`: whatever carries this tag. All
//!    are filled in with the request's path parameters.
//! 2. What lies below a path has no list of its own: it carries a tag for each path above it that some `on_write` of any
//!    route may name ([`Below`]). Such a tag is spelt [`TAG_BELOW`] and the place.
//! 3. Which paths these may be is told by what stands before the first parameter, by whole segments, and by the depth; where
//!    there is no parameter it is one path. To carry a tag too many costs a miss; so nothing finer is told.

use std::fmt;
use std::sync::Arc;

use super::invalidation::{Template, TemplateError};

/// What begins the tags of what lies below a place.
pub const TAG_BELOW: &str = "on_write:";
const REST: &str = "/{*}";
const TAG: &str = "tag:";

/// An entry of `on_write`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OnWrite {
    /// One path.
    Path(Template),
    /// A path and all below it.
    Below(Template),
    /// All that carries a tag.
    Tag(Template),
}

/// What it says of one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// This path.
    Path(String),
    /// This path and all below it.
    Below(String),
    /// All that carries this tag.
    Tag(String),
}

/// The paths that an `on_write` may take back with all below them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Below {
    /// They begin so, spelt as the entry spells it.
    pub start: String,
    /// They have as many segments.
    pub depth: usize,
    /// Or more.
    pub deeper: bool,
    /// That is all of it: it is one path.
    pub is_one: bool,
}

impl OnWrite {
    /// Reads `text`; `parameters` are the names in the route's path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, parameters: &[&str]) -> Result<Self, TemplateError> {
        if let Some(tag) = text.strip_prefix(TAG) {
            return Template::of_text(tag, parameters).map(Self::Tag);
        }
        match text.strip_suffix(REST) {
            Some("") => Template::parse("/", parameters).map(Self::Below),
            Some(path) => Template::parse(path, parameters).map(Self::Below),
            None => Template::parse(text, parameters).map(Self::Path),
        }
    }

    /// What it says of a request with these path parameters; `None` if one is missing.
    pub fn fill(&self, parameters: &[(Arc<str>, String)]) -> Option<Written> {
        Some(match self {
            Self::Path(template) => Written::Path(template.fill(parameters)?),
            Self::Below(template) => Written::Below(template.fill(parameters)?),
            Self::Tag(template) => Written::Tag(template.fill(parameters)?),
        })
    }

    /// The paths that it may take back with all below them; `of_many` are the parameters that stand for any number of
    /// segments.
    pub fn below(&self, of_many: &[&str]) -> Option<Below> {
        let Self::Below(template) = self else { return None };
        let deeper = template.parameters().any(|name| of_many.contains(&name));
        let least = template.fill_by(|name| Some(if of_many.contains(&name) { "" } else { "x" }))?;
        let depth = least.split('/').filter(|segment| !segment.is_empty()).count();
        let is_one = template.parameters().next().is_none();
        Some(Below { start: template.start().to_owned(), depth, deeper, is_one })
    }
}

impl Below {
    /// Whether a path that begins with `start` and has so many segments may be one of them; `start` is its own, spelt as
    /// paths are compared.
    pub fn may_be(&self, path: &str, depth: usize, start: &str) -> bool {
        let Some(rest) = path.strip_prefix(start) else { return false };
        let begins_so = if self.is_one {
            rest.is_empty()
        } else {
            // Spelt so it has no slash at its end.
            !self.start.ends_with('/') || start == "/" || rest.is_empty() || rest.starts_with('/')
        };
        begins_so && (depth == self.depth || (self.deeper && depth > self.depth))
    }
}

impl fmt::Display for OnWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(template) => template.fmt(f),
            Self::Below(template) if template.to_string() == "/" => f.write_str(REST),
            Self::Below(template) => write!(f, "{template}{REST}"),
            Self::Tag(template) => write!(f, "{TAG}{template}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_a_path_all_below_one_or_a_tag() {
        let parameters = [("id".into(), "7".to_owned()), ("rest".into(), "a/b".to_owned())];
        for (text, filled) in [
            ("/users/{id}", Written::Path("/users/7".into())),
            ("/users/{id}/{*}", Written::Below("/users/7".into())),
            ("/files/{rest}/{*}", Written::Below("/files/a/b".into())),
            ("/{*}", Written::Below("/".into())),
            ("tag:users", Written::Tag("users".into())),
            ("tag:user-{id}", Written::Tag("user-7".into())),
            ("tag:/a?b", Written::Tag("/a?b".into())),
        ] {
            let entry = OnWrite::parse(text, &["id", "rest"]).unwrap();
            assert_eq!((entry.fill(&parameters), entry.to_string()), (Some(filled), text.to_owned()));
            assert_eq!(entry.fill(&[]).is_none(), text.contains("{id}") || text.contains("{rest}"));
        }
        for (text, error) in [
            ("users", TemplateError::NotAPath),
            ("/users/{*}/x", TemplateError::Unknown("*".into())),
            ("/users{*}", TemplateError::Unknown("*".into())),
            ("tag:{name}", TemplateError::Unknown("name".into())),
            ("tag:{", TemplateError::Braces),
        ] {
            assert_eq!(OnWrite::parse(text, &["id"]), Err(error), "{text}");
        }
    }

    #[test]
    fn what_may_be_taken_back_with_all_below_it_is_told_by_start_and_depth() {
        for (text, start, depth, deeper) in [
            ("/users/{*}", "/users", 1, false),
            ("/{*}", "/", 0, false),
            ("/users/{id}/{*}", "/users/", 2, false),
            ("/u-{id}/x/{*}", "/u-", 2, false),
            ("/files/{rest}/{*}", "/files/", 1, true),
            ("/{rest}/{*}", "/", 0, true),
        ] {
            let below = OnWrite::parse(text, &["id", "rest"]).unwrap().below(&["rest"]).unwrap();
            let is_one = !text.contains("{id}") && !text.contains("{rest}");
            assert_eq!(below, Below { start: start.into(), depth, deeper, is_one }, "{text}");
        }
        assert_eq!(OnWrite::parse("/users", &[]).unwrap().below(&[]), None);
        assert_eq!(OnWrite::parse("tag:users", &[]).unwrap().below(&[]), None);
    }
}
