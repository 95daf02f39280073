//! Stale responses, and their refresh behind the answer (RFC 5861 §3).
//!
//! 1. A refresh is a request of its own: the head of the one that caused it, as a GET, without its conditions and ranges;
//!    of a part its range stays, for that is what is refreshed.
//!    It has its own record, so that the client's line in the log says what the client got.
//! 2. One at a time for a key in the process, and none for a moment ([`SETTLING`]) after it: Redis is told behind it. Who
//!    comes meanwhile is answered and refreshes nothing. A refresh that failed is not tried again for `retry_refresh`.
//! 3. It does what any validation does with the app's answer; the content is read to its end by the task itself.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, RANGE};
use http::{Method, Response};
use http_body_util::BodyExt as _;
use tokio::time::sleep;

use super::Cache;
use super::decide::Errand;
use super::outcome::{Outcome, Status, mark};
use crate::body::Body;
use crate::cache::stored::StoredResponse;
use crate::clock::instant;
use crate::exchange::{Exchange, Next};
use crate::telemetry::Record;

/// How long after a refresh nobody begins another: until every look-up finds what it brought.
const SETTLING: Duration = Duration::from_millis(100);

impl Cache {
    /// A stored response that is sent though it is stale; `status` says why that may be.
    /// `None`: its content cannot be read.
    pub(super) async fn stale(
        &self,
        errand: &Errand,
        exchange: &Exchange,
        stored: &StoredResponse,
        status: Status,
    ) -> Option<Response<Body>> {
        let now = self.clock.unix_seconds();
        let mut response = self.stored_answer(&errand.key, &exchange.request, stored, now).await?;
        self.metrics.count(Outcome::Stale);
        exchange.trail.borrow_mut().cache = Some(Outcome::Stale.as_str());
        mark(&mut response, Outcome::Stale, status);
        Some(response)
    }

    /// Asks the app behind the answer whether `stored` still holds.
    pub(super) fn refresh<S: Next>(
        self: Rc<Self>,
        errand: Errand,
        stored: Arc<StoredResponse>,
        exchange: &Exchange,
        next: S,
    ) {
        let digest = errand.key.digest();
        if self.under_way.failed(&digest, self.clock.unix_micros()).is_some() {
            return;
        }
        let Some(refreshing) = self.under_way.refresh(digest) else { return };
        let mut behind = exchange.again();
        let request = &mut behind.request;
        *request.method_mut() = Method::GET;
        for condition in [IF_NONE_MATCH, IF_MODIFIED_SINCE, IF_RANGE] {
            request.headers_mut().remove(condition);
        }
        if stored.part.is_none() {
            request.headers_mut().remove(RANGE);
        }
        let record = Record::new(instant(), Method::GET, None, request.version());
        behind.trail = Rc::new(RefCell::new(record));
        behind.interim = None;
        let errand = Errand { behind: true, ..errand };
        tokio::task::spawn_local(async move {
            let mut content = self.validate(errand, stored, behind, next).await.into_body();
            while let Some(Ok(_)) = content.frame().await {}
            sleep(SETTLING).await;
            drop(refreshing);
        });
    }
}
