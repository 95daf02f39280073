//! The cache that only looks on (`mode = "observe"`): every request is forwarded, as its client sent it.
//!
//! 1. What the store would have answered at once, fresh or stale, is compared with what the app says (`cache::observe`).
//!    What is fresh stays stored as it is: a cache would have gone on sending it until it is stale. What is stale is
//!    replaced, as its refresh would have done.
//! 2. What the app would have been asked for all the same is fetched and stored as ever, but never validated: a condition of
//!    ours would make the app's answer one that its client did not ask for.
//! 3. Of what stands in Redis in pieces only the head is compared: to compare content it would have to be here.
//! 4. Clients are told the truth: they were forwarded.

use std::rc::Rc;

use http::Response;
use http_body_util::BodyExt as _;

use super::decide::Action;
use super::{Cache, answer};
use crate::body::Body;
use crate::cache::observe::{self, Comparison, Observer, Verdict};
use crate::cache::stored::Content;
use crate::exchange::{Exchange, Next};

impl Cache {
    /// Forwards what `action` would have answered, and compares.
    pub(super) async fn observe<S: Next>(
        self: Rc<Self>,
        observer: Rc<Observer>,
        action: Action,
        exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        let now = self.clock.unix_seconds();
        let (key, stale, stored) = match action {
            Action::Reuse { key, stored, .. } => (key, None, stored),
            Action::Stale { errand, stored, .. } => (errand.key.clone(), Some(errand), stored),
            Action::Ask { errand, .. } => return self.fetch(errand, exchange, next).await,
            Action::PassBy { reason } => return self.pass_by("bypass", Some(reason), exchange, next).await,
            Action::Refuse => return self.pass_by("bypass", Some("observe"), exchange, next).await,
        };
        let (expected, content) = match &stored.content {
            Content::Whole(_) => match self.stored_answer(&key, &exchange.request, &stored, now).await {
                Some(expected) => expected.into_parts(),
                None => match stale {
                    None => return self.fetch_instead(key, &stored, exchange, next).await,
                    Some(errand) => return self.fetch(errand, exchange, next).await,
                },
            },
            Content::Pieces(_) => match answer::begun(&exchange.request, &stored, now, Body::empty()) {
                Some(expected) => expected.into_parts(),
                None => return self.fetch_instead(key, &stored, exchange, next).await,
            },
        };
        let content = match stored.content {
            Content::Whole(_) => content.collect().await.map(http_body_util::Collected::to_bytes).ok(),
            Content::Pieces(_) => None,
        };
        let digest = key.digest();
        let (clock, trail) = (self.clock.clone(), exchange.trail.clone());
        let response = match stale {
            None => self.pass_by("bypass", Some("observe"), exchange, next).await,
            Some(errand) => self.fetch(errand, exchange, next).await,
        };
        let found = match trail.borrow().local_reply {
            Some(_) => Some(Verdict::Unknown),
            None => observe::heads((expected.status, &expected.headers), (response.status(), response.headers())),
        };
        let found = found.or(content.is_none().then_some(Verdict::Unknown));
        let report = move |verdict: Verdict, bytes| {
            trail.borrow_mut().cache_reason = Some(verdict.reason());
            observer.report(verdict, bytes, &digest, clock.unix_micros());
        };
        let comparison = Comparison::new(found, content.unwrap_or_default(), report);
        response.map(|content| content.watched(comparison))
    }
}
