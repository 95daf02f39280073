//! Which of two routes is the stricter one. Pure.
//!
//! A route is as strict as another, in every respect, if
//! 1. both lead to the same place in the same way: upstream, rewriting, fields, CORS and what a write invalidates;
//! 2. the other has no session, or this one has the same, holds to it as firmly, and demands all that the other demands of a
//!    login;
//! 3. all limits of the other are its own, too;
//! 4. it stores nothing, or in the same cache as the other;
//! 5. it lets WebSockets pass only if the other does;
//! 6. it takes no more content than the other.
//!
//! Of a login alone a route demands as much as another, if rule 2 holds, or if the other refuses nobody.
//!
//! # Why
//! Of the routes that an ambiguous path may meet, the one that is as strict as all others can stand for them. Most sets of
//! routes have none: then there is nothing to apply. A policy put together from several would be one that nobody has
//! written, read or tested.

use std::sync::Arc;

/// What can be compared with another of its kind.
pub trait Strict {
    /// Whether it is as strict as `other`, in every respect.
    fn is_as_strict_as(&self, other: &Self) -> bool;
}

/// What makes demands of a login.
pub trait Demanding {
    /// Whether it demands all that `other` demands.
    fn demands_as_much_as(&self, other: &Self) -> bool;
}

/// How firmly a route holds to its session, the loosest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hold {
    /// Nobody is refused.
    Observed,
    /// Who is not logged in passes.
    Optional,
    /// Who is not logged in is refused.
    Required,
}

/// What of a route's policies is stricter or looser than another's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    /// Routes that treat a request alike, but for what follows, have the same number.
    pub treatment: usize,
    /// Name of the session, and how firmly it is held to.
    pub session: Option<(Arc<str>, Hold)>,
    /// What is demanded of a login, each in words of its own.
    pub demands: Vec<String>,
    /// Names of the limits.
    pub limits: Vec<Arc<str>>,
    /// Name of the cache.
    pub cache: Option<Arc<str>>,
    /// WebSockets pass.
    pub websocket: bool,
    /// Bytes of request content, if bounded.
    pub max_body: Option<u64>,
}

impl Strictness {
    /// Rule 2 alone.
    fn holds_to_as_much_as(&self, other: &Self) -> bool {
        let session = match (&self.session, &other.session) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some((own, hold)), Some((theirs, other))) => own == theirs && hold >= other,
        };
        session && other.demands.iter().all(|demand| self.demands.contains(demand))
    }

    /// Whatever login comes, or none, passes.
    fn refuses_nobody(&self) -> bool {
        match &self.session {
            None | Some((_, Hold::Observed)) => true,
            Some((_, Hold::Optional)) => self.demands.is_empty(),
            Some((_, Hold::Required)) => false,
        }
    }
}

impl Demanding for Strictness {
    fn demands_as_much_as(&self, other: &Self) -> bool {
        other.refuses_nobody() || self.holds_to_as_much_as(other)
    }
}

impl Strict for Strictness {
    fn is_as_strict_as(&self, other: &Self) -> bool {
        let content = match (self.max_body, other.max_body) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(theirs)) => own <= theirs,
        };
        self.treatment == other.treatment
            && self.holds_to_as_much_as(other)
            && other.limits.iter().all(|limit| self.limits.contains(limit))
            && (self.cache.is_none() || self.cache == other.cache)
            && (!self.websocket || other.websocket)
            && content
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stricter_is_stricter_in_every_respect() {
        let loose = Strictness { websocket: true, cache: Some("pages".into()), ..Strictness::default() };
        let web = |hold| Strictness { session: Some(("web".into(), hold)), ..Strictness::default() };
        let (required, optional) = (web(Hold::Required), web(Hold::Optional));
        let admins = Strictness { demands: vec!["role admin".into()], ..required.clone() };
        let limits = |names: &[&str]| Strictness {
            limits: names.iter().map(|name| Arc::from(*name)).collect(),
            ..Strictness::default()
        };
        let bound = |bound| Strictness { max_body: Some(bound), ..Strictness::default() };
        let none = Strictness::default;
        for (strict, lax) in [
            (none(), loose.clone()),
            (web(Hold::Observed), none()),
            (optional.clone(), web(Hold::Observed)),
            (required.clone(), optional),
            (admins.clone(), required.clone()),
            (limits(&["a", "b"]), limits(&["b"])),
            (bound(1), bound(2)),
            (bound(1), none()),
        ] {
            assert!(strict.is_as_strict_as(&lax) && !lax.is_as_strict_as(&strict), "{strict:?} {lax:?}");
            assert!(strict.is_as_strict_as(&strict));
        }
        let other = Strictness { session: Some(("other".into(), Hold::Required)), ..none() };
        let elsewhere = Strictness { treatment: 1, ..none() };
        for (one, other) in
            [(required.clone(), other), (limits(&["a"]), limits(&["b"])), (required, bound(1)), (none(), elsewhere)]
        {
            assert!(!one.is_as_strict_as(&other) && !other.is_as_strict_as(&one), "{one:?} {other:?}");
        }
    }

    #[test]
    fn of_a_login_a_route_that_refuses_nobody_demands_nothing() {
        let web = |hold| Strictness { session: Some(("web".into(), hold)), ..Strictness::default() };
        let admins = |hold| Strictness { demands: vec!["role admin".into()], ..web(hold) };
        let limited = Strictness { limits: vec!["login".into()], max_body: Some(1), ..Strictness::default() };
        let nothing =
            [Strictness::default(), limited, web(Hold::Observed), admins(Hold::Observed), web(Hold::Optional)];
        for one in &nothing {
            assert!(nothing.iter().all(|other| one.demands_as_much_as(other)), "{one:?}");
            for more in [web(Hold::Required), admins(Hold::Required), admins(Hold::Optional)] {
                assert!(more.demands_as_much_as(one) && !one.demands_as_much_as(&more), "{more:?} {one:?}");
            }
        }
        assert!(admins(Hold::Required).demands_as_much_as(&web(Hold::Required)));
        assert!(!web(Hold::Required).demands_as_much_as(&admins(Hold::Required)));
        let (one, other) = (web(Hold::Required), admins(Hold::Optional));
        assert!(!one.demands_as_much_as(&other) && !other.demands_as_much_as(&one));
        let elsewhere = Strictness { session: Some(("other".into(), Hold::Required)), ..Strictness::default() };
        assert!(!one.demands_as_much_as(&elsewhere) && !elsewhere.demands_as_much_as(&one));
    }
}
