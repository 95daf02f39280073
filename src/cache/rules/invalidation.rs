//! What a write changes besides itself (RFC 9111 §4.4).
//!
//! 1. An answer that is no error (2xx, 3xx) invalidates the target URI, and `Location` and `Content-Location` where
//!    they name the same authority (§4.4: never another one's).
//! 2. An error of the app's own (4xx, 5xx) invalidates nothing. Where nobody knows whether the app did what it was
//!    asked (it fell silent, the connection broke, the client's content failed on the way), the write counts as done.
//! 3. Then the paths of the route's `on_write` templates, filled in with this request's path parameters.
//! 4. What is invalidated is a path, in all its queries and variants.

use std::fmt;
use std::sync::Arc;

use http::header::{CONTENT_LOCATION, LOCATION};
use http::{HeaderMap, StatusCode, Uri};

/// Whether a write answered so invalidates. `unknown`: the answer is ours, because the app's never came.
pub fn invalidates(status: StatusCode, unknown: bool) -> bool {
    unknown || status.is_success() || status.is_redirection()
}

/// Paths that the answer to a write at `authority` names in `Location` and `Content-Location`.
pub fn named_paths(answer: &HeaderMap, authority: &str) -> Vec<String> {
    let lines = answer.get_all(LOCATION).iter().chain(answer.get_all(CONTENT_LOCATION));
    let uris = lines.filter_map(|line| Uri::try_from(line.as_bytes()).ok());
    let here = uris.filter(|uri| match uri.authority() {
        Some(named) => named.as_str().eq_ignore_ascii_case(authority),
        None => uri.path().starts_with('/') && !uri.path().starts_with("//"),
    });
    here.take(4).map(|uri| uri.path().to_owned()).collect()
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
    fn other_authorities_are_not_invalidated() {
        for (location, expected) in [
            ("/users/7?x=1", vec!["/users/7"]),
            ("http://Example.com/users/7", vec!["/users/7"]),
            ("http://elsewhere.com/users/7", vec![]),
            ("//elsewhere.com/users/7", vec![]),
            ("users/7", vec![]),
            ("", vec![]),
        ] {
            let answer = HeaderMap::from_iter([(LOCATION, HeaderValue::from_static(location))]);
            assert_eq!(named_paths(&answer, "example.com"), expected, "{location:?}");
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
