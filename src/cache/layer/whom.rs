//! Who asks, and whether the answer may be kept for nobody else.
//!
//! 1. Where the key holds the principal, what a principal is answered is its own: nobody else has the key. It is kept though
//!    it is `private`, or answered to credentials: the session has been verified, and says whose they are.
//! 2. Whoever is nobody on such a route (the session is optional, and there is no login) is a stranger there as on any
//!    other: what is private is not kept, and what is kept is for all who are nobody.
//! 3. A certificate of which the app is told is another word for who asks. It is not in the key, so rule 2 holds for a
//!    principal with a certificate, too.
//! 4. Such a key is known only once the session has been judged, and so is one with a field that tells the app who is
//!    logged in. The store is asked then, together with the limits that go by the principal.
//! 5. A field in which any route looks for a session is a credential on all of them, in every spelling that an app takes for it:
//!    WSGI, Rack and PHP read a login from `X_Session_Token`, and answer it alone.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, Method};

use super::Cache;
use crate::cache::key::{Besides, apart};
use crate::cache::rules::request::{self, Credentials};
use crate::cache::{KeyPart, Policy};
use crate::exchange::Exchange;
use crate::exchange::spelling::alike;

/// A policy as different requests meet it.
pub(super) struct Policies {
    /// To whom the answer will be its own, if the key says so.
    own: ByMethod,
    /// To anybody else (rules 2 and 3).
    others: ByMethod,
    /// What sets it apart in keys.
    apart: Option<Box<str>>,
}

struct ByMethod {
    get: Arc<Policy>,
    /// A heuristic is for GET: the answer to a POST must say itself how long it is fresh (RFC 9110 §9.3.3).
    post: Arc<Policy>,
}

impl Policies {
    /// One worker's own: what all workers counted the users of would be written to by all, at each request.
    pub(super) fn of(policy: Arc<Policy>) -> Self {
        let apart = apart(&policy);
        let policy = Arc::new(Policy::clone(&policy));
        let others = if policy.is_by_principal() {
            let mut others = Policy::clone(&policy);
            others.keying.by.retain(|part| *part != KeyPart::Principal);
            others.into()
        } else {
            policy.clone()
        };
        Self { own: ByMethod::of(policy), others: ByMethod::of(others), apart }
    }
}

impl ByMethod {
    fn of(get: Arc<Policy>) -> Self {
        let post = if get.post_body.is_some() && get.freshness.heuristic.is_some() {
            let mut post = Policy::clone(&get);
            post.freshness.heuristic = None;
            post.into()
        } else {
            get.clone()
        };
        Self { get, post }
    }
}

impl Cache {
    /// Rule 4: the store can be asked only once it is known who asks.
    pub fn is_by_whom(&self) -> bool {
        let by_whom = |part: &KeyPart| match part {
            KeyPart::Principal => true,
            KeyPart::Field(name) => self.route.written_late.contains(name),
        };
        self.route.policy.iter().any(|policy| policy.keying.by.iter().any(by_whom))
    }

    /// What may be in the key of a request besides its URI; `None`: nothing is stored here.
    pub(super) fn besides<'a>(&'a self, exchange: &'a Exchange) -> Option<Besides<'a>> {
        Some(Besides {
            keying: &self.route.policy.as_ref()?.keying,
            principal: exchange.principal.as_deref(),
            bearer_first: self.route.bearer_first,
            posted: exchange.posted.as_deref(),
            apart: self.policies.as_ref()?.apart.as_deref(),
        })
    }

    /// The policy for the answer to this request.
    pub(super) fn policy_of(&self, exchange: &Exchange) -> Option<&Arc<Policy>> {
        let Policies { own, others, .. } = self.policies.as_ref()?;
        let ByMethod { get, post } = if self.is_own(exchange) { own } else { others };
        Some(if exchange.posted.is_some() { post } else { get })
    }

    /// The credentials that a request carries and its key does not hold.
    pub(super) fn credentials(&self, exchange: &Exchange) -> Option<Credentials> {
        if self.is_own(exchange) {
            return None;
        }
        let cookies = self.route.policy.as_ref().map(|policy| policy.cookies).unwrap_or_default();
        let head = exchange.request.headers();
        let has_session = self.route.credentials || self.has_session_field(head);
        request::credentials(head, has_session, self.is_certified(exchange), cookies)
    }

    /// The bytes of content up to which it is read to see whether this POST is a read; `None`: it cannot be one.
    pub(super) fn reads_post(&self, exchange: &Exchange) -> Option<u64> {
        self.route.policy.as_ref()?.post_body.filter(|_| exchange.request.method() == Method::POST)
    }

    /// Whether the answer is its principal's own (rules 1 to 3).
    fn is_own(&self, exchange: &Exchange) -> bool {
        exchange.principal.is_some()
            && self.route.policy.as_ref().is_some_and(|policy| policy.is_by_principal())
            && !self.is_certified(exchange)
    }

    /// Whether it has a field in which sessions are looked for, in any spelling that an app takes for it.
    fn has_session_field(&self, head: &HeaderMap) -> bool {
        let carriers = &self.route.session_fields;
        let carries = |name: &HeaderName| {
            carriers.iter().any(|carrier| alike(carrier.as_str().as_bytes(), name.as_str().as_bytes()))
        };
        !carriers.is_empty() && head.keys().any(carries)
    }

    fn is_certified(&self, exchange: &Exchange) -> bool {
        self.route.certificates && exchange.connection.certificate.is_some()
    }
}
