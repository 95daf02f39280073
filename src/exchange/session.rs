//! What is found out about sessions, and what the app orders about them.

use std::sync::Arc;

use http::{HeaderName, HeaderValue};

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

/// Whether the session that a client presents is there, and its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stands {
    /// It is not, or nobody has looked.
    #[default]
    No,
    /// Nobody can tell.
    Perhaps,
    /// It is: a login or a visitor's, as its record says.
    Yes,
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
    pub session_digest: Arc<str>,
    /// A digest of the session identifier that is the same in every process: what limits are counted by.
    pub session_key: String,
    /// Attributes of the record by dotted path, as text: those that the configuration names (identity fields, limit keys).
    pub attributes: Vec<(String, String)>,
}

impl Principal {
    /// The attribute under a dotted path; `None` also where it is a list of several texts: none of them stands for all.
    pub fn attribute(&self, path: &str) -> Option<&str> {
        let mut texts = self.texts(path);
        let first = texts.next()?;
        texts.next().is_none().then_some(first)
    }

    /// Each text under a dotted path: one, or the items of a list.
    pub fn texts(&self, path: &str) -> impl Iterator<Item = &str> {
        self.attributes.iter().filter(move |(name, _)| name == path).map(|(_, value)| value.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_list_no_item_stands_for_all() {
        let attributes = [("role", "admin"), ("plan", "pro"), ("role", "staff")];
        let principal = Principal {
            session: "web".into(),
            user: "5".into(),
            session_digest: "".into(),
            session_key: String::new(),
            attributes: attributes.map(|(path, text)| (path.to_owned(), text.to_owned())).to_vec(),
        };
        assert_eq!((principal.attribute("plan"), principal.attribute("role")), (Some("pro"), None));
        assert_eq!(principal.texts("role").collect::<Vec<_>>(), ["admin", "staff"]);
        assert_eq!((principal.attribute("name"), principal.texts("name").count()), (None, 0));
    }
}

/// What the app orders about the session of its client, by fields of its answer. `upstream` takes them out of the answer as it
/// reads it, whatever route it is of, and leaves this among the answer's extensions: no client and no store ever sees them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Orders {
    create: [Option<HeaderValue>; 2],
    destroy: bool,
    extend: [Option<HeaderValue>; 2],
}

/// The fields by which the app orders.
const ORDERS: [&str; 3] = ["x-session-create", "x-session-destroy", "x-session-extend"];

impl Orders {
    /// The fields by which the app orders: a client's own are removed where sessions are issued.
    pub fn fields() -> impl Iterator<Item = HeaderName> {
        ORDERS.into_iter().map(HeaderName::from_static)
    }

    /// Whether a field of this name is an order.
    pub fn names(name: &HeaderName) -> bool {
        // Most names are told apart by their length.
        matches!(name.as_str(), "x-session-create" | "x-session-destroy" | "x-session-extend")
    }

    /// Notes a line of such a field. Of more than two lines of one name, which are one too many already, the rest is let go of.
    pub fn note(&mut self, name: &HeaderName, value: HeaderValue) {
        let lines = match name.as_str() {
            "x-session-create" => &mut self.create,
            "x-session-extend" => &mut self.extend,
            _ => return self.destroy = true,
        };
        if let Some(free) = lines.iter_mut().find(|line| line.is_none()) {
            *free = Some(value);
        }
    }

    /// The lines of `X-Session-Create`: none, one, or too many.
    pub fn create(&self) -> (Option<&HeaderValue>, bool) {
        (self.create[0].as_ref(), self.create[1].is_some())
    }

    /// Whether there is `X-Session-Destroy`, whatever it says.
    pub fn destroy(&self) -> bool {
        self.destroy
    }

    /// The lines of `X-Session-Extend`: none, one, or too many.
    pub fn extend(&self) -> (Option<&HeaderValue>, bool) {
        (self.extend[0].as_ref(), self.extend[1].is_some())
    }
}
