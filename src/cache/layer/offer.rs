//! A variant that is not stored, of a URI whose others are (RFC 9111 §4.1, §4.3.1).
//!
//! 1. The entity tags of the stored variants are offered to the app, unless the client has conditions of its own: two
//!    requests that differ in a field that Vary names are often answered alike.
//!    Not where sidegate codes (`encode`), or `Vary` names `Accept-Encoding`: the app's one tag may stand for all codings,
//!    and a client would be sent another than it accepts.
//! 2. A 304 that names one of them selects that variant: it is sent, and stored as this variant, too.
//! 3. A 304 that names none that can be read is no answer; the request is sent again as the client sent it.

use std::rc::Rc;
use std::sync::Arc;

use http::{HeaderMap, Method, Response, StatusCode};

use super::Cache;
use super::decide::Errand;
use crate::body::Body;
use crate::cache::rules::validation;
use crate::cache::stored::{Known, StoredResponse};
use crate::exchange::{Exchange, Next, Orders, pass};

impl Cache {
    /// Asks for a variant that is not stored, and offers those that are `known`.
    pub(super) async fn offer<S: Next>(
        self: Rc<Self>,
        errand: Errand,
        known: Vec<Known>,
        mut exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        if self.route.policy.as_ref().is_some_and(|policy| !policy.encode.is_empty()) {
            return self.fetch(errand, exchange, next).await;
        }
        let (as_sent, trail) = (exchange.again(), exchange.trail.clone());
        let tags = known.iter().rev().filter_map(|known| known.etag.as_ref());
        if !validation::offer_etags(exchange.request.headers_mut(), tags) {
            return self.fetch(errand, exchange, next).await;
        }
        let mut asked = self.asked(&errand, &as_sent.request);
        let mut response = pass(next.clone(), exchange).await;
        if response.status() == StatusCode::NOT_MODIFIED && trail.borrow().local_reply.is_none() {
            if let Some(named) = self.named(&errand, &known, response.headers()).await
                && let Some(mut freshened) = self.freshened(&errand, asked, &named, &as_sent, response.headers()).await
            {
                // For this client alone.
                if let Some(orders) = response.extensions_mut().remove::<Orders>() {
                    freshened.extensions_mut().insert(orders);
                }
                return freshened;
            }
            asked = self.asked(&errand, &as_sent.request);
            response = pass(next, as_sent.again()).await;
        }
        let request = &as_sent.request;
        let selected_by = (request.method() == Method::GET).then_some(request.headers());
        self.fetched(errand, asked, selected_by, response, &trail, None)
    }

    /// The stored variant that a 304 names, if it may answer this request.
    async fn named(&self, errand: &Errand, known: &[Known], not_modified: &HeaderMap) -> Option<Arc<StoredResponse>> {
        let generation = errand.generation?;
        for known in known.iter().rev().filter(|known| known.is_named(not_modified)) {
            let stored = self.store.variant(&errand.key, known.variant, generation).await?;
            if stored.part.is_none()
                && validation::selects_among(&stored.head, not_modified)
                && stored.facts.may_answer(errand.credentials)
            {
                return Some(stored);
            }
        }
        None
    }
}
