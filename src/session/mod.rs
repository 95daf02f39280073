//! Who is logged in, as the session record in the store tells.
//!
//! 1. A credential is looked for where the configuration says, in that order; the first place that has one decides. Two
//!    different ones in one place are refused: the app might use the other.
//! 2. A credential that cannot be a session identifier never reaches the store: its text becomes part of a key.
//! 3. A record is not a login. It must say who, under the configured attribute.
//! 4. Required: only a login passes. No credential is 401; an unknown, ended, malformed or anonymous session is 401 too,
//!    in one and the same answer, which tells nobody which it was.
//! 5. Optional: everybody passes, with identity fields only if there is a login.
//! 6. A store that cannot be read is 503 with `Retry-After` in both modes, never 401 and never a pass: an outage is
//!    neither a logout nor a reason to show somebody the page of a stranger.
//! 7. A CORS preflight (Fetch §4.8) carries no credentials by design and passes without any.
//! 8. The app learns who is logged in from the identity fields. What a client sends under their names, in any
//!    spelling, is removed on every route.
//! 9. Records are read, never written, and their TTL is left alone: they are the app's.
//! 10. A login that Redis told of is remembered while it is certain that it stands, and Redis is not asked again (`near`).
//! 11. Where `on_outage = "grace"`, rule 6 has an exception: a login that Redis confirmed a short while ago, and that
//!     nothing has contradicted since, is believed while Redis is away (`grace`). Whoever else asks gets 503.
//!
//! # Why
//! Rule 6: a client that gets 401 forgets its login, and a second of trouble has logged everybody out.

pub mod credential;
pub mod digest;
mod explain;
pub mod format;
mod identity;
mod layer;
pub mod store;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

pub use identity::{IdentityFields, strip_layer};
pub use layer::{Session, Store, layer};

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
    /// To whom that is answered.
    pub on_outage: OnOutage,
}

/// Who passes while the store is away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnOutage {
    /// Nobody who sends an identifier.
    #[default]
    Closed,
    /// Whose login the store confirmed within this time.
    Grace(Duration),
}

impl OnOutage {
    /// How long a login is believed, if it is.
    pub fn grace(self) -> Option<Duration> {
        match self {
            Self::Closed => None,
            Self::Grace(grace) => Some(grace),
        }
    }
}

/// `[memory]`, as far as sessions are concerned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemorySettings {
    /// Bytes of logins that are believed while Redis is away.
    pub max_bytes: u64,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self { max_bytes: 16 * 1024 * 1024 }
    }
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
