//! What is found out about sessions.

use std::sync::Arc;

/// What a client sends to say which session is its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presented {
    /// Nothing.
    Absent,
    /// What names no session; says why.
    Rejected(&'static str),
    /// What names one, which may or may not be there.
    Located(Located),
}

/// A session, and where its record is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Names the session.
    pub identifier: String,
    /// The key of its record.
    pub key: String,
}

impl Located {
    /// The record is under `prefix` and the identifier.
    pub fn behind(prefix: &str, identifier: &str) -> Self {
        Self { key: [prefix, identifier].concat(), identifier: identifier.to_owned() }
    }
}

/// Who is logged in, as the session record tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    /// Name of the session definition (`[session.NAME]`) that verified it.
    pub session: Arc<str>,
    /// The user, as text.
    pub user: String,
    /// A keyed digest of the session identifier: names the session without giving it away.
    pub session_digest: String,
    /// A digest of the session identifier that is the same in every process: what limits are counted by.
    pub session_key: String,
    /// Attributes of the record by dotted path, as text: those that the configuration names (identity fields, limit keys).
    pub attributes: Vec<(String, String)>,
}

impl Principal {
    /// An attribute by its dotted path.
    pub fn attribute(&self, path: &str) -> Option<&str> {
        self.attributes.iter().find(|(name, _)| name == path).map(|(_, value)| value.as_str())
    }
}
