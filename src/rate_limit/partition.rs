//! What is counted apart: one counter for each value of the key.

use http::HeaderName;

/// The parts of a partition key, in the configured order; at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key(pub Vec<Part>);

/// One part of a partition key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// `address`: the client address; IPv6 by its /64.
    Address,
    /// `header:NAME`: a request field.
    Header(HeaderName),
    /// `cookie:NAME`.
    Cookie(String),
    /// `query:NAME`.
    Query(String),
    /// `session`: the verified session.
    Session,
    /// `session:FIELD`: an attribute of the verified session.
    SessionField(String),
    /// `route`: the route that matched.
    Route,
    /// `method`.
    Method,
}

impl Key {
    /// Whether it can be known only once the session is verified.
    pub fn needs_session(&self) -> bool {
        self.0.iter().any(|part| matches!(part, Part::Session | Part::SessionField(_)))
    }
}
