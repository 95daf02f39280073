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

impl Part {
    /// Reads one part: `address`, `header:NAME`, `cookie:NAME`, `query:NAME`, `session`, `session:FIELD`, `route`, `method`.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (kind, name) = match text.split_once(':') {
            Some((kind, name)) => (kind, Some(name)),
            None => (text, None),
        };
        match (kind, name) {
            ("header" | "cookie" | "query" | "session", Some("")) => {
                Err(format!("`{text}` names nothing after the colon"))
            }
            ("address", None) => Ok(Self::Address),
            ("route", None) => Ok(Self::Route),
            ("method", None) => Ok(Self::Method),
            ("session", None) => Ok(Self::Session),
            ("session", Some(field)) => Ok(Self::SessionField(field.to_owned())),
            ("cookie", Some(name)) => Ok(Self::Cookie(name.to_owned())),
            ("query", Some(name)) => Ok(Self::Query(name.to_owned())),
            ("header", Some(name)) => match HeaderName::from_bytes(name.as_bytes()) {
                Ok(name) => Ok(Self::Header(name)),
                Err(_) => Err(format!("`{name}` is not a field name")),
            },
            ("header" | "cookie" | "query", None) => Err(format!("`{kind}` needs a name: `{kind}:NAME`")),
            _ => Err(format!("`{text}` is nothing that requests can be counted by")),
        }
    }
}

impl Key {
    /// Reads a key from its parts.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn parse<'t>(parts: impl IntoIterator<Item = &'t str>) -> Result<Self, String> {
        let mut key = Vec::new();
        for text in parts {
            let part = Part::parse(text)?;
            if key.contains(&part) {
                return Err(format!("`{text}` stands twice"));
            }
            key.push(part);
        }
        if key.is_empty() { Err("a key has at least one part".into()) } else { Ok(Self(key)) }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address => f.write_str("address"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
            Self::Session => f.write_str("session"),
            Self::SessionField(field) => write!(f, "session:{field}"),
            Self::Route => f.write_str("route"),
            Self::Method => f.write_str("method"),
        }
    }
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (index, part) in self.0.iter().enumerate() {
            write!(f, "{}{part}", if index == 0 { "" } else { " + " })?;
        }
        Ok(())
    }
}
