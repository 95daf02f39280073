//! What a write changes besides itself (RFC 9111 §4.4).
//!
//! 1. An answer that is no error (2xx, 3xx) invalidates the target URI, and `Location` and `Content-Location` where
//!    they name the same authority, in whatever form (§4.4: never another one's).
//! 2. An error of the app's own (4xx, 5xx) invalidates nothing. Where nobody knows whether the app did what it was
//!    asked (it fell silent, the connection broke, the client's content failed on the way), the write counts as done.
//! 3. Then the paths of the route's `on_write` templates, filled in with this request's path parameters.
//! 4. What is invalidated is a path, in all its queries and variants.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::uri::PathAndQuery;
use http::{HeaderMap, StatusCode};

use crate::cache::key::without_default_port;
use crate::exchange::Scheme;

/// Whether a write answered so invalidates. `unknown`: the answer is ours, because the app's never came.
pub fn invalidates(status: StatusCode, unknown: bool) -> bool {
    unknown || status.is_success() || status.is_redirection()
}

/// What was written to.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// How it was asked for.
    pub scheme: Scheme,
    /// Without the scheme's default port.
    pub authority: &'a str,
    /// Its path, as sent.
    pub path: &'a str,
}

/// Paths of the same authority that the answer to a write names in `Location` and `Content-Location`. They are references,
/// resolved against the target (RFC 3986 §5.2); dot segments are left to who makes a place of the path.
pub fn named_paths(answer: &HeaderMap, target: Target<'_>) -> Vec<String> {
    let lines = answer.get_all(LOCATION).iter().chain(answer.get_all(CONTENT_LOCATION));
    let references = lines.filter_map(|line| line.to_str().ok());
    references.filter_map(|reference| resolved(reference.trim(), target)).take(4).collect()
}

/// The path that a reference names; `None`: it names another authority, or nothing.
fn resolved(reference: &str, target: Target<'_>) -> Option<String> {
    let reference = &reference[..reference.find(['?', '#']).unwrap_or(reference.len())];
    let (scheme, rest) = match reference.split_once(':') {
        Some((scheme, rest)) if !scheme.contains('/') => (known_scheme(scheme)?, rest),
        _ => (target.scheme, reference),
    };
    let path = match rest.strip_prefix("//") {
        Some(rest) => {
            let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
            let authority = without_default_port(authority, scheme);
            authority.eq_ignore_ascii_case(target.authority).then(|| format!("/{}", path.trim_start_matches('/')))?
        }
        None if rest.len() != reference.len() => return None,
        None if rest.is_empty() => target.path.to_owned(),
        None if rest.starts_with('/') => rest.to_owned(),
        None => format!("{}/{rest}", target.path.rsplit_once('/').map_or("", |(directory, _)| directory)),
    };
    PathAndQuery::try_from(path.as_str()).is_ok().then_some(path)
}

fn known_scheme(name: &str) -> Option<Scheme> {
    [Scheme::Http, Scheme::Https].into_iter().find(|known| known.as_str().eq_ignore_ascii_case(name))
}

/// An `on_write` path: text with parameters of the route's path in braces, as in `/users/{id}/posts`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Vec<Piece>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Parameter(String),
}

/// Why a text is no `on_write` path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplateError {
    /// It does not begin with `/`.
    NotAPath,
    /// It has a query: all queries of a path are invalidated together.
    Query,
    /// A brace without its other half, or with nothing inside.
    Braces,
    /// Not a parameter of the route's path.
    Unknown(String),
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAPath => f.write_str("does not begin with `/`"),
            Self::Query => f.write_str("has a query; a path is invalidated in all its queries, so leave the query out"),
            Self::Braces => f.write_str("has a brace without its other half, or with no name inside"),
            Self::Unknown(name) => write!(f, "names `{{{name}}}`, which is no parameter of the route's path"),
        }
    }
}

impl std::error::Error for TemplateError {}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|piece| match piece {
            Piece::Text(text) => f.write_str(text),
            Piece::Parameter(name) => write!(f, "{{{name}}}"),
        })
    }
}

impl Template {
    /// Reads `text`; `parameters` are the names in the route's path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str, parameters: &[&str]) -> Result<Self, TemplateError> {
        if !text.starts_with('/') {
            return Err(TemplateError::NotAPath);
        }
        if text.contains(['?', '#']) {
            return Err(TemplateError::Query);
        }
        Self::of_text(text, parameters)
    }

    /// The same of text that is no path.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn of_text(text: &str, parameters: &[&str]) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(brace) = rest.find(['{', '}']) {
            let (before, from_brace) = rest.split_at(brace);
            let inside = from_brace.strip_prefix('{').ok_or(TemplateError::Braces)?;
            let (name, after) = inside.split_once('}').ok_or(TemplateError::Braces)?;
            if name.is_empty() || name.contains('{') {
                return Err(TemplateError::Braces);
            }
            if !parameters.contains(&name) {
                return Err(TemplateError::Unknown(name.to_owned()));
            }
            pieces.extend((!before.is_empty()).then(|| Piece::Text(before.to_owned())));
            pieces.push(Piece::Parameter(name.to_owned()));
            rest = after;
        }
        pieces.extend((!rest.is_empty()).then(|| Piece::Text(rest.to_owned())));
        Ok(Self(pieces))
    }

    /// The path for a request with these path parameters; `None` if one is missing.
    pub fn fill(&self, parameters: &[(Arc<str>, String)]) -> Option<String> {
        self.fill_by(|name| parameters.iter().find(|(known, _)| **known == *name).map(|(_, value)| value.as_str()))
    }

    /// The path where `value` says what stands for a parameter; `None` if it does not know one.
    pub(super) fn fill_by<'v>(&self, value: impl Fn(&str) -> Option<&'v str>) -> Option<String> {
        let mut path = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => path.push_str(text),
                Piece::Parameter(name) => path.push_str(value(name)?),
            }
        }
        Some(path)
    }

    /// What stands before its first parameter.
    pub(super) fn start(&self) -> &str {
        match self.0.first() {
            Some(Piece::Text(text)) => text,
            _ => "",
        }
    }

    /// The names of its parameters.
    pub(super) fn parameters(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| if let Piece::Parameter(name) = piece { Some(name.as_str()) } else { None })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn only_what_may_have_happened_invalidates() {
        for (status, expected) in [(200, true), (204, true), (303, true), (400, false), (404, false), (500, false)] {
            assert_eq!(invalidates(StatusCode::from_u16(status).unwrap(), false), expected, "{status}");
        }
        assert!(invalidates(StatusCode::GATEWAY_TIMEOUT, true));
    }

    #[test]
    fn references_are_resolved_and_other_authorities_left_alone() {
        for (location, expected) in [
            ("/users/7?x=1", vec!["/users/7"]),
            ("http://Example.com/users/7", vec!["/users/7"]),
            ("HTTP://example.com:80/users/7#top", vec!["/users/7"]),
            ("https://example.com:443/users/7", vec!["/users/7"]),
            ("http://example.com:/users/7", vec!["/users/7"]),
            ("http://example.com", vec!["/"]),
            ("//example.com:80/users/7", vec!["/users/7"]),
            ("7", vec!["/users/7"]),
            ("./7", vec!["/users/./7"]),
            ("../list?a=/b:c", vec!["/users/../list"]),
            ("a/b:c", vec!["/users/a/b:c"]),
            ("?page=2", vec!["/users/new"]),
            ("", vec!["/users/new"]),
            ("http://example.com:443/users/7", vec![]),
            ("http://elsewhere.com/users/7", vec![]),
            ("//elsewhere.com/users/7", vec![]),
            ("http:/users/7", vec![]),
            ("urn:users:7", vec![]),
            ("a b", vec![]),
        ] {
            let answer = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            let target = Target { scheme: Scheme::Http, authority: "example.com", path: "/users/new" };
            assert_eq!(named_paths(&answer, target), expected, "{location:?}");
        }
    }

    #[test]
    fn a_template_is_filled_with_the_parameters_of_the_route() {
        let template = Template::parse("/users/{id}/of/{rest}", &["id", "rest"]).unwrap();
        let parameters = [("id".into(), "7".to_owned()), ("rest".into(), "a/b".to_owned())];
        assert_eq!(template.fill(&parameters).unwrap(), "/users/7/of/a/b");
        assert_eq!(template.fill(&parameters[..1]), None);
        assert_eq!(Template::parse("/users", &[]).unwrap().fill(&[]).unwrap(), "/users");
    }

    #[test]
    fn a_template_that_could_never_be_filled_is_refused() {
        for (text, expected) in [
            ("users", TemplateError::NotAPath),
            ("/users?a=1", TemplateError::Query),
            ("/users/{id", TemplateError::Braces),
            ("/users/id}", TemplateError::Braces),
            ("/users/{}", TemplateError::Braces),
            ("/users/{*id}", TemplateError::Unknown("*id".into())),
            ("/users/{name}", TemplateError::Unknown("name".into())),
        ] {
            assert_eq!(Template::parse(text, &["id"]), Err(expected), "{text:?}");
        }
    }
}
