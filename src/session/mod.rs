//! Who is logged in, as the session record in the store tells.

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

/// `[session.NAME]`: how to find and read a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// NAME.
    pub name: Arc<str>,
    /// How the record is written.
    pub format: Format,
    /// Where the credential is looked for, in this order; at least one.
    pub carriers: Vec<Carrier>,
    /// What stands before the session identifier in its Redis key.
    pub prefix: String,
    /// Dotted path of the attribute that says who is logged in; a record without it is not a login.
    pub user: String,
    /// Identity fields for the app: field name, dotted path of the attribute.
    pub forward: Vec<(HeaderName, String)>,
    /// Attributes besides (dotted paths) that limits are keyed by.
    pub attributes: Vec<String>,
    /// What to answer while the store is away: 503 with Retry-After of this long.
    pub retry_after: Duration,
}

/// How a session record is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// A JSON object in a string key.
    Json,
    /// A Redis hash of texts.
    Hash,
}

/// Where a credential is carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// `cookie:NAME`.
    Cookie(String),
    /// `bearer`: `Authorization: Bearer …` (RFC 6750 §2.1).
    Bearer,
    /// `header:NAME`.
    Header(HeaderName),
    /// `query:NAME` (for WebSockets).
    Query(String),
}

/// What a route makes of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Nobody passes without a login: 401.
    #[default]
    Required,
    /// Identity fields if there is a login; passes without.
    Optional,
}
