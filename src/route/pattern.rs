//! What a route matches. Pure.

use http::Method;

/// What a route matches: host, method, path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    /// Lower-case host names without port, exact or `*.example.com`; empty: any.
    pub hosts: Vec<String>,
    /// Methods; empty: any.
    pub methods: Vec<Method>,
    /// The path, split at its slashes.
    pub segments: Vec<Segment>,
}

/// One segment of a path pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// This text (canonical: see the matcher).
    Literal(String),
    /// `{name}`: any one non-empty segment.
    One(String),
    /// `{*name}`: the rest, with its slashes; last only; matches also nothing.
    Rest(String),
}
