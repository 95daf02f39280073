//! Who is logged in, and what follows from it. Pure.

use std::sync::Arc;

use super::digest::Key;
use super::format::Record;
use super::{Mode, OnRoute, require};
use crate::exchange::{Presented, Principal, Stands};
use crate::local_reply::LocalReply;

/// What the store says about an identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// There is a record.
    Record(Record),
    /// There is none, or what is there is no session.
    Nothing,
    /// There is a login that has lasted its time; says why.
    Outlived(Record, &'static str),
    /// The session was revoked; the login that is there all the same, if one is.
    Revoked(Option<Record>),
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

impl Found {
    /// What it says of a session that was revoked, whatever is there. What cannot be told is not told by that either.
    #[must_use]
    pub fn revoked(self) -> Self {
        match self {
            Self::Record(record) | Self::Outlived(record, _) if record.user.is_some() => Self::Revoked(Some(record)),
            Self::Unavailable(_) | Self::Refused(_) => self,
            _ => Self::Revoked(None),
        }
    }
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
    /// The login has lasted its time (`max_age`): whose it is, and why.
    Outlived(Arc<Principal>, &'static str),
    /// The session was revoked; whose login is there all the same, if one is. What names it goes no further.
    Revoked(Option<Arc<Principal>>),
    /// The login stays with another device (`bind`): whose it is, and how this one is answered where a login is required.
    Elsewhere(Arc<Principal>, LocalReply),
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
    /// It goes on.
    Pass {
        /// In this name; `None`: in nobody's.
        principal: Option<Arc<Principal>>,
        /// How it would be answered, were the session not only observed.
        would: Option<LocalReply>,
    },
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
    let whose = |user, attributes| {
        Arc::new(Principal {
            session: session.clone(),
            user,
            session_digest: key.digest(identifier).into(),
            session_key: crate::redis_pool::key::digest(identifier.as_bytes()),
            attributes,
        })
    };
    match found {
        Found::Known(principal) => Verdict::Valid(principal),
        Found::Believed(principal) => Verdict::Believed(principal),
        Found::Unavailable(reason) | Found::Refused(reason) => Verdict::Unknown(reason),
        Found::Unreadable(reason) => Verdict::Rejected(reason),
        Found::Nothing => Verdict::Expired,
        Found::Revoked(found) => {
            let login = found.and_then(|Record { user, attributes, .. }| Some((user?, attributes)));
            Verdict::Revoked(login.map(|(user, attributes)| whose(user, attributes)))
        }
        Found::Record(Record { user: None, .. }) | Found::Outlived(Record { user: None, .. }, _) => Verdict::Anonymous,
        Found::Outlived(Record { user: Some(user), attributes, .. }, reason) => {
            Verdict::Outlived(whose(user, attributes), reason)
        }
        Found::Record(Record { user: Some(user), attributes, .. }) => Verdict::Valid(whose(user, attributes)),
    }
}

/// Rules 4 to 6, 12, 13 and 16 of the room.
pub fn admit(on_route: &OnRoute, verdict: Verdict) -> Admission {
    match (refusal(on_route, &verdict), on_route.mode, verdict) {
        (Some(reply), Mode::Required | Mode::Optional, _) => Admission::Refuse(reply),
        (would, _, Verdict::Valid(principal) | Verdict::Believed(principal)) => {
            Admission::Pass { principal: Some(principal), would }
        }
        (would, Mode::Observe, Verdict::Elsewhere(principal, _)) => {
            Admission::Pass { principal: Some(principal), would }
        }
        (would, ..) => Admission::Pass { principal: None, would },
    }
}

/// The answer to whoever does not pass; where a session is observed, to whoever would not if it were required.
fn refusal(OnRoute { definition, mode, require }: &OnRoute, verdict: &Verdict) -> Option<LocalReply> {
    match verdict {
        Verdict::Valid(principal) | Verdict::Believed(principal) => {
            require::missed(require, principal).map(|_| LocalReply::SessionForbidden)
        }
        Verdict::Unknown(_) => Some(LocalReply::SessionStoreDown { retry_after: definition.retry_after_seconds() }),
        // Where a login may be refused, what we cannot read might be one, and what we take for nobody's may be one for the app
        // (rule 3 of `require`).
        Verdict::Rejected(_) | Verdict::Outlived(..) if !require.is_empty() => Some(LocalReply::SessionInvalid),
        Verdict::Elsewhere(_, reply) if !require.is_empty() => Some(reply.clone()),
        _ if *mode == Mode::Optional => None,
        Verdict::Elsewhere(_, reply) => Some(reply.clone()),
        Verdict::Absent => Some(LocalReply::SessionMissing),
        Verdict::Anonymous | Verdict::Expired | Verdict::Outlived(..) | Verdict::Revoked(_) | Verdict::Rejected(_) => {
            Some(LocalReply::SessionInvalid)
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
            Self::Expired | Self::Outlived(..) | Self::Revoked(_) => 2,
            Self::Absent => 3,
            Self::Rejected(_) | Self::Elsewhere(..) => 4,
            Self::Unknown(_) => 5,
        }
    }

    /// Whose login it is, whether it passes or not.
    pub fn principal(&self) -> Option<&Arc<Principal>> {
        match self {
            Self::Valid(principal)
            | Self::Believed(principal)
            | Self::Outlived(principal, _)
            | Self::Elsewhere(principal, _) => Some(principal),
            Self::Revoked(login) => login.as_ref(),
            _ => None,
        }
    }

    /// Whether there is a session, and it is this client's: what an app orders about it is carried out. So it is while nobody can
    /// tell: an order that cannot be carried out is told as such, and no session is left standing in silence.
    pub fn stands(&self) -> Stands {
        match self {
            Self::Valid(_) | Self::Believed(_) | Self::Anonymous | Self::Outlived(..) | Self::Revoked(Some(_)) => {
                Stands::Yes
            }
            Self::Unknown(_) => Stands::Perhaps,
            Self::Revoked(None) | Self::Expired | Self::Elsewhere(..) | Self::Absent | Self::Rejected(_) => Stands::No,
        }
    }

    /// Why, where it is not obvious.
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Rejected(reason) | Self::Outlived(_, reason) | Self::Unknown(reason) => Some(reason),
            Self::Elsewhere(..) => Some("another device"),
            Self::Revoked(_) => Some("revoked"),
            Self::Believed(_) => Some("grace"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::settings::Requirement;
    use super::super::{Definition, Format};
    use super::*;
    use crate::exchange::Located;

    fn verdict(found: Found) -> Verdict {
        judge(&"web".into(), &Presented::Located(Located::behind("session:", "abcdefgh")), found, &Key::new([0; 32]))
    }

    fn on_route(mode: Mode) -> OnRoute {
        let retry_after = Duration::from_millis(1500);
        let definition = Definition { retry_after, ..Definition::new("web", Format::Json) };
        OnRoute { definition: definition.into(), mode, require: Vec::new() }
    }

    fn admitted(verdict: Verdict, mode: Mode) -> Admission {
        admit(&on_route(mode), verdict)
    }

    fn pass_as(principal: Option<&Arc<Principal>>) -> Admission {
        Admission::Pass { principal: principal.cloned(), would: None }
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
            assert_eq!(admitted(believed.clone(), mode), pass_as(Some(&principal)));
        }
    }

    #[test]
    fn whoever_is_not_logged_in_gets_one_answer_or_passes_as_nobody() {
        for verdict in [Verdict::Anonymous, Verdict::Expired, Verdict::Rejected("duplicate cookie")] {
            assert_eq!(admitted(verdict.clone(), Mode::Required), Admission::Refuse(LocalReply::SessionInvalid));
            assert_eq!(admitted(verdict, Mode::Optional), pass_as(None));
        }
        assert_eq!(admitted(Verdict::Absent, Mode::Required), Admission::Refuse(LocalReply::SessionMissing));
        assert_eq!(admitted(Verdict::Absent, Mode::Optional), pass_as(None));
    }

    #[test]
    fn what_a_route_demands_is_demanded_of_every_login_and_of_nobody_else() {
        let record = |role: &str| {
            let attributes = vec![("role".to_owned(), role.to_owned())];
            verdict(Found::Record(Record { user: Some("5".into()), attributes, ..Record::default() }))
        };
        let require = vec![Requirement { attribute: "role".into(), values: vec!["admin".into()] }];
        for mode in [Mode::Required, Mode::Optional] {
            let admins = OnRoute { require: require.clone(), ..on_route(mode) };
            let Verdict::Valid(principal) = record("admin") else { panic!("a login") };
            assert_eq!(admit(&admins, record("admin")), pass_as(Some(&principal)));
            assert_eq!(admit(&admins, Verdict::Believed(principal.clone())), pass_as(Some(&principal)));
            assert_eq!(admit(&admins, record("user")), Admission::Refuse(LocalReply::SessionForbidden));
        }
        let optional = OnRoute { require, ..on_route(Mode::Optional) };
        assert_eq!(admit(&optional, Verdict::Absent), pass_as(None));
        assert_eq!(admit(&optional, Verdict::Expired), pass_as(None));
    }

    #[test]
    fn what_cannot_be_read_does_not_get_around_what_is_demanded() {
        let rejected = || Verdict::Rejected("duplicate cookie");
        let require = vec![Requirement { attribute: "role".into(), values: vec!["admin".into()] }];
        let demanding = OnRoute { require, ..on_route(Mode::Optional) };
        assert_eq!(admit(&demanding, rejected()), Admission::Refuse(LocalReply::SessionInvalid));
        assert_eq!(admit(&demanding, Verdict::Anonymous), pass_as(None));
        assert_eq!(admitted(rejected(), Mode::Optional), pass_as(None));
        let Verdict::Valid(principal) = verdict(Found::Record(Record { user: Some("5".into()), ..Record::default() }))
        else {
            panic!("a login")
        };
        let elsewhere = Verdict::Elsewhere(principal.clone(), LocalReply::SessionElsewhere);
        assert_eq!(admit(&demanding, elsewhere), Admission::Refuse(LocalReply::SessionElsewhere));
        let outlived = Verdict::Outlived(principal, "too old");
        assert_eq!(admit(&demanding, outlived), Admission::Refuse(LocalReply::SessionInvalid));
    }

    #[test]
    fn whatever_is_there_of_a_revoked_session_is_no_login_and_what_cannot_be_told_stays_so() {
        let login = Record { user: Some("5".into()), ..Record::default() };
        let all = [
            (Found::Record(login.clone()), Some("5")),
            (Found::Outlived(login, "too old"), Some("5")),
            (Found::Record(Record::default()), None),
            (Found::Unreadable("record is not JSON"), None),
            (Found::Nothing, None),
        ];
        let require = vec![Requirement { attribute: "role".into(), values: vec!["admin".into()] }];
        for (found, user) in all {
            let revoked = verdict(found.revoked());
            assert_eq!((revoked.label(), revoked.reason()), ("expired", Some("revoked")));
            assert_eq!(revoked.principal().map(|principal| principal.user.as_str()), user);
            assert_eq!(revoked.stands(), if user.is_some() { Stands::Yes } else { Stands::No });
            assert_eq!(admitted(revoked.clone(), Mode::Required), Admission::Refuse(LocalReply::SessionInvalid));
            assert_eq!(admitted(revoked.clone(), Mode::Optional), pass_as(None));
            // The app does not see what names it: there is nothing that it could take for a login.
            let demanding = OnRoute { require: require.clone(), ..on_route(Mode::Optional) };
            assert_eq!(admit(&demanding, revoked), pass_as(None));
        }
        assert_eq!(verdict(Found::Unavailable("down").revoked()), Verdict::Unknown("down"));
        assert_eq!(verdict(Found::Refused("error").revoked()), Verdict::Unknown("error"));
    }

    #[test]
    fn another_device_is_refused_where_a_login_is_required_and_nowhere_else() {
        let Verdict::Valid(principal) = verdict(Found::Record(Record { user: Some("5".into()), ..Record::default() }))
        else {
            panic!("a login")
        };
        for reply in [LocalReply::SessionElsewhere, LocalReply::SessionInvalid] {
            let elsewhere = |mode| admitted(Verdict::Elsewhere(principal.clone(), reply.clone()), mode);
            assert_eq!(elsewhere(Mode::Required), Admission::Refuse(reply.clone()));
            assert_eq!(elsewhere(Mode::Optional), pass_as(None));
            let as_who_it_is = Admission::Pass { principal: Some(principal.clone()), would: Some(reply.clone()) };
            assert_eq!(elsewhere(Mode::Observe), as_who_it_is);
        }
    }

    #[test]
    fn who_is_only_observed_passes_and_it_is_told_what_would_have_been() {
        let login = verdict(Found::Record(Record { user: Some("5".into()), ..Record::default() }));
        let Verdict::Valid(principal) = login.clone() else { panic!("a login") };
        let observed = |verdict| admitted(verdict, Mode::Observe);
        assert_eq!(observed(login.clone()), pass_as(Some(&principal)));
        for (verdict, reply) in [
            (Verdict::Absent, LocalReply::SessionMissing),
            (Verdict::Expired, LocalReply::SessionInvalid),
            (Verdict::Anonymous, LocalReply::SessionInvalid),
            (Verdict::Rejected("duplicate cookie"), LocalReply::SessionInvalid),
            (Verdict::Unknown("down"), LocalReply::SessionStoreDown { retry_after: 2 }),
        ] {
            assert_eq!(observed(verdict), Admission::Pass { principal: None, would: Some(reply) });
        }
        let require = vec![Requirement { attribute: "role".into(), values: vec!["admin".into()] }];
        let admins = OnRoute { require, ..on_route(Mode::Observe) };
        let would = Some(LocalReply::SessionForbidden);
        assert_eq!(admit(&admins, login), Admission::Pass { principal: Some(principal), would });
    }
}
