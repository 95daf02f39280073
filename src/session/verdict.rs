//! Who is logged in, and what follows from it. Pure.

use std::sync::Arc;

use super::digest::Key;
use super::format::Record;
use super::{Definition, Mode};
use crate::exchange::{Presented, Principal};
use crate::local_reply::LocalReply;

/// What the store says about an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is a record.
    Record(Record),
    /// There is none, or what is there is no session.
    Nothing,
    /// There is a login that has lasted its time; says why.
    Outlived(&'static str),
    /// There is something that cannot be read; says why.
    Unreadable(&'static str),
    /// A login that is remembered, and certain.
    Known(Arc<Principal>),
    /// A login that is remembered; the store cannot be asked whether it stands.
    Believed(Arc<Principal>),
    /// The store cannot be asked, for a time; says why.
    Unavailable(&'static str),
    /// The store does not answer this question; says why.
    Refused(&'static str),
}

/// What is known about the one who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Logged in.
    Valid(Arc<Principal>),
    /// Was logged in a short while ago, and nobody can tell at the moment; passes as who is logged in (`on_outage`).
    Believed(Arc<Principal>),
    /// There is a session, but nobody is logged in.
    Anonymous,
    /// The session has ended, or never was.
    Expired,
    /// The login has lasted its time (`max_age`); says why.
    Outlived(&'static str),
    /// The login stays with another device, and this one is refused (`bind`).
    Elsewhere,
    /// No credential was sent.
    Absent,
    /// What was sent, or what is stored under it, is no session; says why.
    Rejected(&'static str),
    /// Nobody can tell at the moment; says why.
    Unknown(&'static str),
}

/// What becomes of the request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Admission {
    /// It goes on in this name.
    PassAs(Arc<Principal>),
    /// It goes on in nobody's.
    Pass,
    /// It is answered here.
    Refuse(LocalReply),
}

/// The verdict on what is `presented`, given what was `found` under it. What was found matters only if something was located.
pub fn judge(session: &Arc<str>, presented: &Presented, found: Found, key: &Key) -> Verdict {
    let identifier = match presented {
        Presented::Absent => return Verdict::Absent,
        Presented::Rejected(reason) => return Verdict::Rejected(reason),
        Presented::Located(located) => &located.identifier,
    };
    match found {
        Found::Known(principal) => Verdict::Valid(principal),
        Found::Believed(principal) => Verdict::Believed(principal),
        Found::Unavailable(reason) | Found::Refused(reason) => Verdict::Unknown(reason),
        Found::Unreadable(reason) => Verdict::Rejected(reason),
        Found::Nothing => Verdict::Expired,
        Found::Outlived(reason) => Verdict::Outlived(reason),
        Found::Record(Record { user: None, .. }) => Verdict::Anonymous,
        Found::Record(Record { user: Some(user), attributes, .. }) => Verdict::Valid(Arc::new(Principal {
            session: session.clone(),
            user,
            session_digest: key.digest(identifier),
            session_key: crate::redis_pool::key::digest(identifier.as_bytes()),
            attributes,
        })),
    }
}

/// Rules 4 to 6 of the room.
pub fn admit(definition: &Definition, mode: Mode, verdict: Verdict) -> Admission {
    match (verdict, mode) {
        (Verdict::Valid(principal) | Verdict::Believed(principal), _) => Admission::PassAs(principal),
        (Verdict::Unknown(_), _) => {
            let wait = definition.retry_after;
            let retry_after = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Admission::Refuse(LocalReply::SessionStoreDown { retry_after: retry_after.max(1) })
        }
        (Verdict::Elsewhere, Mode::Required | Mode::Optional) => Admission::Refuse(LocalReply::SessionElsewhere),
        (_, Mode::Optional | Mode::Observe) => Admission::Pass,
        (Verdict::Absent, Mode::Required) => Admission::Refuse(LocalReply::SessionMissing),
        (Verdict::Anonymous | Verdict::Expired | Verdict::Outlived(_) | Verdict::Rejected(_), Mode::Required) => {
            Admission::Refuse(LocalReply::SessionInvalid)
        }
    }
}

impl Verdict {
    /// All [labels](Self::label), one for each answer that there is.
    pub const LABELS: [&str; 6] = ["valid", "anonymous", "expired", "absent", "rejected", "unknown"];

    /// Its name in logs and metrics.
    pub fn label(&self) -> &'static str {
        Self::LABELS[self.index()]
    }

    /// Its place among [`Self::LABELS`].
    pub fn index(&self) -> usize {
        match self {
            Self::Valid(_) | Self::Believed(_) => 0,
            Self::Anonymous => 1,
            Self::Expired | Self::Outlived(_) => 2,
            Self::Absent => 3,
            Self::Rejected(_) | Self::Elsewhere => 4,
            Self::Unknown(_) => 5,
        }
    }

    /// Why, where it is not obvious.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Rejected(reason) | Self::Outlived(reason) | Self::Unknown(reason) => Some(reason),
            Self::Elsewhere => Some("another device"),
            Self::Believed(_) => Some("grace"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::Format;
    use super::*;
    use crate::exchange::Located;

    fn verdict(found: Found) -> Verdict {
        judge(&"web".into(), &Presented::Located(Located::behind("session:", "abcdefgh")), found, &Key::new([0; 32]))
    }

    fn admitted(verdict: Verdict, mode: Mode) -> Admission {
        let retry_after = Duration::from_millis(1500);
        let definition = Definition { retry_after, ..Definition::new("web", Format::Json) };
        admit(&definition, mode, verdict)
    }

    #[test]
    fn a_record_is_a_login_only_if_it_names_a_user() {
        let named = verdict(Found::Record(Record { user: Some("5".into()), ..Record::default() }));
        assert!(matches!(&named, Verdict::Valid(principal) if principal.user == "5"), "{named:?}");
        assert_eq!(verdict(Found::Record(Record::default())), Verdict::Anonymous);
        assert_eq!(verdict(Found::Nothing), Verdict::Expired);
        assert_eq!(verdict(Found::Unreadable("record is not JSON")), Verdict::Rejected("record is not JSON"));
    }

    #[test]
    fn a_credential_that_is_none_is_judged_without_the_store() {
        let judged = |presented| judge(&"web".into(), &presented, Found::Unavailable("down"), &Key::new([0; 32]));
        assert_eq!(judged(Presented::Absent), Verdict::Absent);
        assert_eq!(judged(Presented::Rejected("duplicate cookie")), Verdict::Rejected("duplicate cookie"));
    }

    #[test]
    fn outage_is_neither_a_logout_nor_a_pass() {
        let reply = Admission::Refuse(LocalReply::SessionStoreDown { retry_after: 2 });
        for mode in [Mode::Required, Mode::Optional] {
            assert_eq!(admitted(verdict(Found::Unavailable("down")), mode), reply);
            assert_eq!(admitted(verdict(Found::Refused("error")), mode), reply);
        }
    }

    #[test]
    fn whoever_is_believed_passes_as_who_is_logged_in_and_the_log_says_why() {
        let Verdict::Valid(principal) = verdict(Found::Record(Record { user: Some("5".into()), ..Record::default() }))
        else {
            panic!("a login")
        };
        assert_eq!(verdict(Found::Known(principal.clone())), Verdict::Valid(principal.clone()));
        let believed = verdict(Found::Believed(principal.clone()));
        assert_eq!((believed.label(), believed.reason()), ("valid", Some("grace")));
        for mode in [Mode::Required, Mode::Optional] {
            assert_eq!(admitted(believed.clone(), mode), Admission::PassAs(principal.clone()));
        }
    }

    #[test]
    fn whoever_is_not_logged_in_gets_one_answer_or_passes_as_nobody() {
        for verdict in [Verdict::Anonymous, Verdict::Expired, Verdict::Rejected("duplicate cookie")] {
            assert_eq!(admitted(verdict.clone(), Mode::Required), Admission::Refuse(LocalReply::SessionInvalid));
            assert_eq!(admitted(verdict, Mode::Optional), Admission::Pass);
        }
        assert_eq!(admitted(Verdict::Absent, Mode::Required), Admission::Refuse(LocalReply::SessionMissing));
        assert_eq!(admitted(Verdict::Absent, Mode::Optional), Admission::Pass);
    }
}
