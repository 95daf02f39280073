//! What a route matches. Pure.

use std::sync::Arc;

use http::Method;

use super::PathCase;
use super::canonical::{Ambiguity, canonical};
use super::case::folded;

/// What a route matches: host, method, path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Lower-case host names without port, exact or `*.example.com`; empty: any.
    pub hosts: Vec<String>,
    /// Methods; empty: any.
    pub methods: Vec<Method>,
    /// The path, split at its slashes.
    pub segments: Vec<Segment>,
    /// Whether the values of its parameters are given with a match. Where nothing asks for them, they need no copies.
    pub captures: bool,
    /// The app takes `%2F` in these paths for text, not for a slash.
    pub slash_is_text: bool,
    /// The pattern whose parameters it gives instead of its own: one that takes all of its paths, too.
    pub read_as: Option<Arc<[Segment]>>,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text, in canonical form.
    Literal(String),
    /// `{name}`: any one non-empty segment.
    One(Arc<str>),
    /// `{*name}`: the rest, with its slashes; last only; matches also nothing.
    Rest(Arc<str>),
}

impl Pattern {
    /// Reads a path pattern; `hosts` and `methods` as [`host`] and [`method`] give them.
    ///
    /// # Errors
    /// A sentence that says what is wrong with the path.
    pub fn parse(path: &str, hosts: Vec<String>, methods: Vec<Method>) -> Result<Self, String> {
        let Some(below_root) = path.strip_prefix('/') else { return Err("a path starts with `/`".into()) };
        if path.contains(['?', '#']) {
            return Err("a route matches a path, without query and fragment".into());
        }
        let mut segments = Vec::new();
        let mut texts = below_root.split('/').peekable();
        while let Some(text) = texts.next() {
            if text.is_empty() {
                if texts.peek().is_some() {
                    return Err("a path has no empty segments".into());
                }
                break; // A slash at the end is no difference.
            }
            let segment = segment(text)?;
            match &segment {
                Segment::Rest(_) if texts.peek().is_some() => {
                    return Err(format!("`{text}` can only stand at the end"));
                }
                Segment::One(name) | Segment::Rest(name) if segments.iter().any(|other| named(other, name)) => {
                    return Err(format!("two parameters are called `{name}`"));
                }
                _ => segments.push(segment),
            }
        }
        Ok(Self { hosts, methods, segments, captures: true, slash_is_text: false, read_as: None })
    }

    /// Everything; captures nothing.
    pub fn everything() -> Self {
        let segments = vec![Segment::Rest("rest".into())];
        Self { hosts: Vec::new(), methods: Vec::new(), segments, captures: false, slash_is_text: false, read_as: None }
    }

    /// Whether it matches this method: HEAD as GET.
    pub fn takes(&self, method: &Method) -> bool {
        self.methods.is_empty()
            || self.methods.contains(method)
            || (method == Method::HEAD && self.methods.contains(&Method::GET))
    }

    /// The segments whose parameters it gives.
    pub fn given(&self) -> &[Segment] {
        self.read_as.as_deref().unwrap_or(&self.segments)
    }

    /// Whether it takes every path that `other` takes, whatever the hosts and methods.
    pub fn takes_paths_of(&self, other: &Self, case: PathCase) -> bool {
        covers(&self.segments, &other.segments, case)
    }

    /// The names of its parameters, in order.
    pub fn parameters(&self) -> impl Iterator<Item = &Arc<str>> {
        self.given().iter().filter_map(|segment| match segment {
            Segment::Literal(_) => None,
            Segment::One(name) | Segment::Rest(name) => Some(name),
        })
    }
}

/// Reads a host pattern: a name or address without port, or `*.example.com`; gives it in lower case.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn host(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    let name = lower.strip_prefix("*.").unwrap_or(&lower);
    if name.contains("://") || name.contains('/') {
        return Err("a host is a name only, without scheme and path".into());
    }
    if name.starts_with('[') && name.ends_with(']') {
        return Ok(lower);
    }
    if name.contains(':') {
        return Err("a host has no port here: a route matches on every port".into());
    }
    if name.contains('*') {
        return Err("`*` can only stand for the first labels: `*.example.com`".into());
    }
    let well_formed = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if name.split('.').all(well_formed) { Ok(lower) } else { Err(format!("`{text}` is not a host name")) }
}

/// Reads a method.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn method(text: &str) -> Result<Method, String> {
    if text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err(format!("methods are written in upper case: `{}`", text.to_ascii_uppercase()));
    }
    match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err("CONNECT is never forwarded".into()),
        Ok(method) => Ok(method),
        Err(_) => Err(format!("`{text}` is not a method")),
    }
}

fn segment(text: &str) -> Result<Segment, String> {
    if let Some(inner) = text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
        return match inner.strip_prefix('*') {
            Some("") => Err("the rest needs a name: `{*rest}`".into()),
            Some(name) => Ok(Segment::Rest(parameter(name)?)),
            None => Ok(Segment::One(parameter(inner)?)),
        };
    }
    if text.contains(['{', '}']) {
        return Err(format!("`{text}`: a parameter is a whole segment, like `{{name}}`"));
    }
    if text.contains('*') {
        return Err(format!("`{text}`: write `{{name}}` for one segment, `{{*rest}}` for all that follow"));
    }
    let rooted = format!("/{text}");
    let canonical = canonical(&rooted);
    if matches!(text, "." | "..") {
        return Err(format!("`{text}` is a dot segment; requests are matched without them"));
    }
    if let Some(why) = canonical.ambiguity.filter(|why| *why != Ambiguity::NeedlessEscape) {
        return Err(format!("`{text}` can be read in more than one way ({})", why.reason()));
    }
    match canonical.path.strip_prefix('/') {
        Some(literal) if !literal.is_empty() => Ok(Segment::Literal(literal.to_owned())),
        _ => Err(format!("`{text}` is a dot segment; requests are matched without them")),
    }
}

fn parameter(name: &str) -> Result<Arc<str>, String> {
    let starts_well = name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    if starts_well && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        Ok(name.into())
    } else {
        Err(format!("`{name}` is not a parameter name: letters, digits and `_`, and no digit first"))
    }
}

fn covers(outer: &[Segment], inner: &[Segment], case: PathCase) -> bool {
    let alike = |one: &str, other: &str| match case {
        PathCase::Sensitive => one == other,
        PathCase::Insensitive => folded(one) == folded(other),
    };
    match (outer, inner) {
        // The rest may also be nothing.
        ([Segment::Rest(_)], _) | ([], []) => true,
        ([Segment::Literal(one), outer @ ..], [Segment::Literal(other), inner @ ..]) => {
            alike(one, other) && covers(outer, inner, case)
        }
        ([Segment::One(_), outer @ ..], [Segment::One(_) | Segment::Literal(_), inner @ ..]) => {
            covers(outer, inner, case)
        }
        _ => false,
    }
}

fn named(segment: &Segment, wanted: &str) -> bool {
    matches!(segment, Segment::One(name) | Segment::Rest(name) if **name == *wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(path: &str) -> String {
        Pattern::parse(path, Vec::new(), Vec::new()).unwrap_err()
    }

    #[test]
    fn a_pattern_is_literals_parameters_and_a_rest() {
        let pattern = Pattern::parse("/users/{id}/%66iles/{*path}", Vec::new(), Vec::new()).unwrap();
        let expected = [
            Segment::Literal("users".into()),
            Segment::One("id".into()),
            Segment::Literal("files".into()),
            Segment::Rest("path".into()),
        ];
        assert_eq!(pattern.segments, expected);
    }

    #[test]
    fn a_bad_pattern_says_what_is_wrong() {
        assert_eq!(error("users"), "a path starts with `/`");
        assert_eq!(error("/users?x"), "a route matches a path, without query and fragment");
        assert_eq!(error("/a//b"), "a path has no empty segments");
        assert_eq!(error("/{*rest}/x"), "`{*rest}` can only stand at the end");
        assert_eq!(error("/{id}/{id}"), "two parameters are called `id`");
        assert_eq!(error("/u{id}"), "`u{id}`: a parameter is a whole segment, like `{name}`");
        assert_eq!(error("/*"), "`*`: write `{name}` for one segment, `{*rest}` for all that follow");
        assert_eq!(error("/{*}"), "the rest needs a name: `{*rest}`");
        assert_eq!(error("/a/../b"), "`..` is a dot segment; requests are matched without them");
        assert_eq!(error("/a%2Fb"), "`a%2Fb` can be read in more than one way (encoded slash)");
        assert_eq!(error("/{1}"), "`1` is not a parameter name: letters, digits and `_`, and no digit first");
    }

    #[test]
    fn hosts_are_names_without_port_or_wildcards_of_whole_labels() {
        assert_eq!(host("API.Example.com").unwrap(), "api.example.com");
        assert_eq!(host("*.example.com").unwrap(), "*.example.com");
        assert_eq!(host("[::1]").unwrap(), "[::1]");
        for bad in ["a:80", "http://a", "a.*.b", "*", "", "a..b", "a b"] {
            assert!(host(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pattern_takes_the_paths_of_narrower_ones() {
        let takes = |outer: &str, inner: &str, case| {
            let pattern = |path| Pattern::parse(path, Vec::new(), Vec::new()).unwrap();
            pattern(outer).takes_paths_of(&pattern(inner), case)
        };
        for (outer, inner) in [
            ("/{*rest}", "/login"),
            ("/{*rest}", "/"),
            ("/{*rest}", "/static/{*rest}"),
            ("/{tenant}/{*rest}", "/{t}/login"),
            ("/a/{*rest}", "/a"),
            ("/a/{id}", "/a/b/"),
            ("/a", "/a"),
        ] {
            assert!(takes(outer, inner, PathCase::Sensitive), "{outer} {inner}");
        }
        for (outer, inner) in
            [("/a", "/A"), ("/a/{id}", "/a/{*rest}"), ("/{id}", "/{*rest}"), ("/a/b", "/a/{id}"), ("/a/{id}", "/a")]
        {
            assert!(!takes(outer, inner, PathCase::Sensitive), "{outer} {inner}");
        }
        assert!(takes("/a", "/A", PathCase::Insensitive));
    }
}
