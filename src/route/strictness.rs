//! Which of two routes is the stricter one. Pure.
//!
//! A route is as strict as another, in every respect, if
//! 1. both lead to the same place in the same way: upstream, rewriting, fields, CORS and what a write invalidates;
//! 2. the other has no session, or this one has the same, and requires it if the other does;
//! 3. all limits of the other are its own, too;
//! 4. it stores nothing, or in the same cache as the other;
//! 5. it lets WebSockets pass only if the other does;
//! 6. it takes no more content than the other.
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

/// What of a route's policies is stricter or looser than another's.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strictness {
    /// Routes that treat a request alike, but for what follows, have the same number.
    pub treatment: usize,
    /// Name of the session, and whether a login is required.
    pub session: Option<(Arc<str>, bool)>,
    /// Names of the limits.
    pub limits: Vec<Arc<str>>,
    /// Name of the cache.
    pub cache: Option<Arc<str>>,
    /// WebSockets pass.
    pub websocket: bool,
    /// Bytes of request content, if bounded.
    pub max_body: Option<u64>,
}

impl Strict for Strictness {
    fn is_as_strict_as(&self, other: &Self) -> bool {
        let session = match (&self.session, &other.session) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some((own, required)), Some((theirs, also))) => own == theirs && (*required || !also),
        };
        let content = match (self.max_body, other.max_body) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(own), Some(theirs)) => own <= theirs,
        };
        self.treatment == other.treatment
            && session
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
        let web = |required| Strictness { session: Some(("web".into(), required)), ..Strictness::default() };
        let limits = |names: &[&str]| Strictness {
            limits: names.iter().map(|name| Arc::from(*name)).collect(),
            ..Strictness::default()
        };
        let bound = |bound| Strictness { max_body: Some(bound), ..Strictness::default() };
        let none = Strictness::default;
        for (strict, lax) in [
            (none(), loose.clone()),
            (web(false), none()),
            (web(true), web(false)),
            (limits(&["a", "b"]), limits(&["b"])),
            (bound(1), bound(2)),
            (bound(1), none()),
        ] {
            assert!(strict.is_as_strict_as(&lax) && !lax.is_as_strict_as(&strict), "{strict:?} {lax:?}");
            assert!(strict.is_as_strict_as(&strict));
        }
        let other = Strictness { session: Some(("other".into(), true)), ..none() };
        let elsewhere = Strictness { treatment: 1, ..none() };
        for (one, other) in
            [(web(true), other), (limits(&["a"]), limits(&["b"])), (web(true), bound(1)), (none(), elsewhere)]
        {
            assert!(!one.is_as_strict_as(&other) && !other.is_as_strict_as(&one), "{one:?} {other:?}");
        }
    }
}
