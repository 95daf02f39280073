//! Who is logged in, as the session record in the store tells.
//!
//! 1. A credential is looked for where the configuration says, in that order; the first place that has one decides. Two
//!    different ones in one place are refused: the app might use the other.
//! 2. A credential that cannot be a session identifier never reaches the store: its text becomes part of a key.
//! 3. A record is not a login. It must say who, under the configured attribute.
//! 4. Required: only a login passes. No credential is 401; an unknown, ended, malformed or anonymous session is 401 too,
//!    in one and the same answer, which tells nobody which it was. Who navigates may be sent to the login instead (`login`).
//! 5. Optional: everybody passes, with identity fields only if there is a login.
//! 6. A store that cannot be read is 503 with `Retry-After` in either mode, never 401 and never a pass: an outage is
//!    neither a logout nor a reason to show somebody the page of a stranger.
//! 7. A CORS preflight (Fetch §4.8) carries no credentials by design and passes without any; or, by setting (`preflight`), it is
//!    judged like any other request. What carries a credential, content, or another method in a field is none. Where a login is
//!    required, of the app's answer only the head goes on: no browser reads more.
//! 8. The app learns who is logged in from the identity fields. What a client sends under their names, in any
//!    spelling, is removed on every route.
//! 9. Records are read, never written, and their TTL is left alone: they are the app's. Where `touch` is set, a session in use is
//!    prolonged, and an operator may have one removed (`operate`). Where the app has no sessions, sidegate issues them as the app
//!    orders (`issue`).
//! 10. A login that Redis told of is remembered while it is certain that it stands, and Redis is not asked again (`near`).
//! 11. Where `on_outage = "grace"`, rule 6 has an exception: a login that Redis confirmed a short while ago, and that
//!     nothing has contradicted since, is believed while Redis is away (`grace`). Whoever else asks gets 503.
//! 12. What a route demands of a login (`require`) is demanded of every login, also where the session is optional: 403. There a
//!     credential that cannot be read is 401, as if the session were required.
//! 13. Observed: everybody passes as where it is optional, a store that cannot be read refuses nobody, and what would have been
//!     refused by the rules for `required` is counted, logged and explained.
//! 14. A credential in the query goes on to the app, or no further than here (`forward_query`), as the configuration says. It is taken out
//!     before a stored response is asked for: the key of that is the target that goes on.
//! 15. By setting, a login ends so long after its birth (`lifetime`), stays with its device (`device`), and is noted as its
//!     user's (`sightings`).
//! 16. A login that stays with another device passes as nobody where the session is optional, and as who it is where it is only
//!     observed. Whoever is refused elsewhere can still reach the login.
//! 17. Who presents a session that was revoked is nobody, and where such a one passes, the app does not learn the identifier: it gives
//!     another one to whoever logs in (`sightings`).
//!
//! # Why
//! Rule 6: a client that gets 401 forgets its login, and a second of trouble has logged everybody out.
//!
//! Rule 4 hides what a credential was in the answer, not in its time: what cannot name a session is refused without a trip to the
//! store (rule 2), and what might costs one. Who measures that learns whether a text has the form of an identifier, and if it is
//! signed, whether the signature is right: that is public, or cannot be forged. Whether a session of that name exists, ended or
//! is nobody's costs the same trip.

pub mod credential;
pub mod device;
pub mod digest;
mod explain;
pub mod format;
mod identity;
pub mod issue;
mod layer;
mod lifetime;
pub mod login;
pub mod operate;
mod recent;
pub mod require;
pub mod secrets;
mod seldom;
pub mod settings;
pub mod sightings;
pub mod store;
mod touch;
pub mod verdict;

use std::sync::Arc;
use std::time::Duration;

use http::HeaderName;

pub use format::Format;
pub use identity::{IdentityFields, USER, signatures, strip_layer};
pub use layer::{Session, Store, layer};
pub use secrets::Secrets;

/// `[session.NAME]`: how to find and read a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Definition {
    /// NAME.
    pub name: Arc<str>,
    /// How credential and record are written.
    pub format: Format,
    /// What the app signs or encrypts with, newest first.
    pub secrets: Secrets,
    /// Where the credential is looked for, in this order; at least one.
    pub carriers: Vec<Carrier>,
    /// What stands before the session identifier in its Redis key.
    pub prefix: String,
    /// The largest record that is read, in bytes, as it is stored and as it is when it has been inflated.
    pub max_record: usize,
    /// Dotted paths of the attribute that says who is logged in: the first that names somebody. A record with none of them is
    /// not a login. At least one.
    pub user: Vec<String>,
    /// Identity fields for the app: field name, dotted path of the attribute, or [`USER`].
    pub forward: Vec<(HeaderName, String)>,
    /// How identity fields are written, and what vouches for them.
    pub identity: settings::Identity,
    /// Attributes besides (dotted paths) that limits are keyed by.
    pub attributes: Vec<String>,
    /// Where a browser is sent to log in.
    pub login: Option<settings::Login>,
    /// The credential in the query goes no further than here.
    pub keep_query: bool,
    /// What a CORS preflight needs.
    pub preflight: Preflight,
    /// A session in use is prolonged.
    pub touch: Option<settings::Touch>,
    /// However much it is used, a session ends.
    pub lifetime: Option<settings::Lifetime>,
    /// A session stays with the device that it was first seen on.
    pub binding: Option<settings::Binding>,
    /// Which sessions a user has is kept in Redis.
    pub index: Option<settings::Index>,
    /// sidegate makes the sessions itself, when the app says so.
    pub issue: Option<settings::Issue>,
    /// What to answer while the store is away: 503 with Retry-After of this long.
    pub retry_after: Duration,
    /// To whom that is answered.
    pub on_outage: OnOutage,
}

impl Definition {
    /// A definition called `name` with what `format` implies.
    pub fn new(name: &str, format: Format) -> Self {
        let usual = format.usual();
        Self {
            name: name.into(),
            secrets: Secrets::default(),
            carriers: usual.carriers,
            prefix: match &format {
                Format::Custom(custom) => custom.key.prefix().to_owned(),
                _ => usual.prefix.to_owned(),
            },
            max_record: format::USUAL_RECORD,
            user: usual.user.iter().map(|path| (*path).to_owned()).collect(),
            format,
            forward: Vec::new(),
            identity: settings::Identity::default(),
            attributes: Vec::new(),
            login: None,
            keep_query: true,
            preflight: Preflight::Pass,
            touch: None,
            lifetime: None,
            binding: None,
            index: None,
            issue: None,
            retry_after: Duration::from_secs(5),
            on_outage: OnOutage::Closed,
        }
    }

    /// `retry_after` as a field says it: whole seconds, never earlier than it will work, at least 1.
    pub fn retry_after_seconds(&self) -> u64 {
        (self.retry_after.as_secs() + u64::from(self.retry_after.subsec_nanos() > 0)).max(1)
    }
}

/// What one route makes of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnRoute {
    /// Of which.
    pub definition: Arc<Definition>,
    /// Who passes.
    pub mode: Mode,
    /// What a record must say besides who it is; all of them.
    pub require: Vec<settings::Requirement>,
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

/// `[memory]`, as far as is concerned what has been done for sessions lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecentSettings {
    /// Sessions of which is remembered when they were prolonged last; and of as many, when they were noted, and bound.
    pub max_keys: usize,
}

impl Default for RecentSettings {
    fn default() -> Self {
        Self { max_keys: recent::MOST }
    }
}

/// `[memory]`, as far as sessions are concerned that sidegate issues where there is no Redis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IssuedSettings {
    /// Bytes of records.
    pub max_bytes: u64,
}

impl Default for IssuedSettings {
    fn default() -> Self {
        Self { max_bytes: 16 * 1024 * 1024 }
    }
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
    /// As optional, and what would have been refused if it were required is counted and logged.
    Observe,
}

/// What becomes of a CORS preflight (Fetch §4.8) that no `[cors]` of the route answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Preflight {
    /// It passes without a login: browsers send none with it, and the app answers it.
    #[default]
    Pass,
    /// It is judged like any other request: where a login is required, it is refused as one without.
    Refuse,
}

impl Carrier {
    /// The field of its own that carries it, if one does.
    fn field(&self) -> Option<&HeaderName> {
        if let Self::Header(name) = self { Some(name) } else { None }
    }
}

impl std::fmt::Display for Carrier {
    /// As the configuration has it: `cookie:NAME`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cookie(name) => write!(f, "cookie:{name}"),
            Self::Bearer => f.write_str("bearer"),
            Self::Header(name) => write!(f, "header:{name}"),
            Self::Query(name) => write!(f, "query:{name}"),
        }
    }
}
