//! The app's answer, as the driver of a flight shares it.
//!
//! 1. Only what the store could send to the next client at once may be shared: it may be kept, is fresh, and need not be
//!    validated.
//! 2. What is there whole, with the head, is kept at once; everybody is given it whole, and no task is needed.
//! 3. Else a task reads the content into the flight, keeps it, and ends the flight once the store has it for certain: who
//!    comes in between still joins.
//! 4. What carries tags is for the driver's own client only; who waits does so until the store has it, and looks it up. A
//!    purge by tag takes back what is stored, and keeps from the store what is under way, by the tag's mark. Waiters do not
//!    read marks; their look-up comes after the fill has, and is proved as that of any hit. Where it finds nothing they go
//!    their own way.

use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, Response};
use http_body::Frame;

use super::Cache;
use super::decide::Errand;
use super::together::Leading;
use crate::body::Body;
use crate::cache::coalesce::{Ahead, Bounds, Leave};
use crate::cache::rules::reuse::{self, ClientAsks, Use};
use crate::cache::store::Store;
use crate::cache::stored::{StoredResponse, into_stored_head};
use crate::cache::{Key, Scope};

impl Cache {
    /// Whether what may be stored is for others, too (rule 1).
    fn may_share(&self, response: &StoredResponse) -> bool {
        let age = response.facts.age(self.clock.unix_seconds());
        matches!(reuse::judge(&response.facts, age, &ClientAsks::default()), Use::Fresh { .. })
    }

    /// Whether a purge by tag may be meant for it (rule 4). `head` are its fields.
    fn is_tagged(&self, key: &Key, head: &HeaderMap) -> bool {
        self.tags_of(key, head).is_none_or(|tags| !tags.is_empty())
    }

    /// The role of the one who shares its answer, if it is one to share. What was known of its key is put right.
    pub(super) fn sharing(&self, errand: &Errand, stored: &StoredResponse) -> Option<Leading> {
        let policy = &errand.policy;
        if policy.coalescing.scope == Scope::Off {
            return None;
        }
        if !self.may_share(stored) {
            self.part(errand, Leave::Unshareable);
            return None;
        }
        let leading = errand.lead.take();
        let flight = leading.as_ref().and_then(|leading| leading.driver.key());
        let flight = flight.or_else(|| errand.flight())?;
        let selecting = stored.variant.as_ref().map(|(selecting, _)| selecting);
        let was_unshareable = self.flights.recollection().shareable(&flight.remembered_by(), selecting);
        if let Store::Redis(store) = &self.store
            && was_unshareable
            && policy.coalescing.scope == Scope::Fleet
        {
            store.shareable_again(&errand.key, flight.fetched_by());
        }
        leading
    }

    /// Keeps what is here whole, and gives it to all who wait for it, or lets them look it up (rule 4): once Redis has it, so
    /// that who looked it up before, and joins meanwhile, waits with them.
    pub(super) fn keep_for_all(self: &Rc<Self>, leading: Leading, errand: &Errand, response: StoredResponse) {
        let Leading { driver, lock } = leading;
        let tagged = self.is_tagged(&errand.key, &response.head);
        let answer = (!tagged && driver.has_waiters()).then(|| Arc::new(response.clone()));
        // The lock is let go of behind what was stored.
        let kept = self.keep_fetched(&errand.key, response, errand.since, lock);
        if (answer.is_none() && !tagged) || matches!(self.store, Store::Memory(_)) {
            return driver.settle(answer);
        }
        let (cache, key) = (self.clone(), errand.key.clone());
        tokio::task::spawn_local(async move {
            kept.done().await;
            cache.store.caught_up(&key).await;
            driver.settle(answer);
        });
    }

    /// Whether content that came whole with its head is as long as it was said to be, and within the bounds.
    fn may_keep(&self, content: &Bytes, said: Option<u64>, max_body: u64) -> bool {
        let length = content.len() as u64;
        said.is_none_or(|said| said == length) && length <= max_body && self.under_way.fill().grow(length)
    }

    /// The driver's own client's response; everybody else's comes of the same content, or of the store. `said` is its length as the app
    /// says it.
    pub(super) fn share(
        self: Rc<Self>,
        Leading { driver, lock }: Leading,
        errand: Errand,
        mut stored: StoredResponse,
        said: Option<u64>,
        response: Response<Body>,
    ) -> Response<Body> {
        let max_body = errand.policy.max_body;
        let (parts, mut body) = response.into_parts();
        let received = stored.facts.received;
        let begun = match Ahead::read(&mut body) {
            Ahead::Whole(content) if self.may_keep(&content, said, max_body) => {
                stored.content = content.clone().into();
                into_stored_head(&mut stored.head, stored.status, content.len(), received);
                self.keep_for_all(Leading { driver, lock }, &errand, stored);
                return Response::from_parts(parts, Body::full(content));
            }
            Ahead::Whole(content) => vec![Frame::data(content)],
            Ahead::Begun(frames) => frames,
            Ahead::Broken(begun) => {
                driver.part(Leave::Failed);
                return Response::from_parts(parts, Body::boxed(begun));
            }
        };
        into_stored_head(&mut stored.head, stored.status, said.unwrap_or(0) as usize, received);
        if said.is_none() {
            stored.head.remove(CONTENT_LENGTH);
        }
        let tagged = self.is_tagged(&errand.key, &stored.head);
        let head = Arc::new(stored);
        let opened = if tagged { driver.open_for_one(head.clone(), said) } else { driver.open(head.clone(), said) };
        let Some((mut pilot, reader)) = opened else {
            return Response::from_parts(parts, body);
        };
        tokio::task::spawn_local(async move {
            if let Some(landed) = pilot.fly(begun, &mut body, Bounds { max_body }).await {
                let mut whole = StoredResponse::clone(&head);
                into_stored_head(&mut whole.head, whole.status, landed.content.len(), received);
                whole.content = landed.content.into();
                let kept = self.keep_fetched(&errand.key, whole, errand.since, lock);
                if pilot.is_awaited() {
                    kept.done().await;
                    pilot.settle();
                } else if pilot.is_shared() {
                    self.store.caught_up(&errand.key).await;
                }
            }
        });
        Response::from_parts(parts, Body::boxed(reader))
    }
}
