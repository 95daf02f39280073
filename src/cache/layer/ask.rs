//! The app is asked, and what follows from its answer.
//!
//! 1. Where something is stored that can be validated, the request carries its validators in place of the client's
//!    conditions (RFC 9111 §4.3.1); else it goes on as the client sent it, conditions and ranges included.
//! 2. A 304 to our condition freshens what is stored, here and in the store, under the generation that the look-up read; the
//!    client is answered from it, by its own conditions (§4.3.3, §4.3.4). A 304 that speaks of something else is no
//!    answer: the request is sent again as the client sent it, which it may be, as it is safe and has no content.
//! 3. An app that cannot be reached, falls silent, drops the connection before the head or says 5xx is stood in for by what
//!    is stored, if it may be (RFC 5861 §4, RFC 9111 §4.2.4), and not asked again for `retry_refresh`.
//! 4. A 200 to HEAD freshens what is stored, or makes it stale, and is never stored itself (§4.3.5).
//! 5. A 206 to the range that a client asked for is a part; it is kept as one (`rules::parts`), over nothing that is whole, and
//!    not where sidegate would code the whole.
//! 6. Anything else goes to the client; to GET it is kept, if it may be, once its content has passed. What limits say to that
//!    client, ours or the app's own, is not kept.
//! 7. Where the app's newer word is not kept, what is stale by then is retired, if the word was about it: it is sent no more
//!    unless the app says that it holds. An answer to credentials says nothing of what is for all.

use std::rc::Rc;
use std::sync::Arc;

use http::header::{AGE, CONTENT_LENGTH, DATE, RANGE, SET_COOKIE};
use http::{HeaderMap, Method, Request, Response, StatusCode};

use super::Cache;
use super::decide::{Errand, may_fill};
use super::fill::Fill;
use super::outcome::{Outcome, Status, Why, mark, said};
use crate::body::Body;
use crate::cache::coalesce::Leave;
use crate::cache::rules::conditional::has_conditions;
use crate::cache::rules::dates::date_text;
use crate::cache::rules::directives::directives;
use crate::cache::rules::parts::{self, Part, Unfit};
use crate::cache::rules::reuse::{self, Failure};
use crate::cache::rules::storing::{self, Asked, NotStored, Storable, storable};
use crate::cache::rules::validation::HeadSays;
use crate::cache::rules::{age, validation, vary};
use crate::cache::stored::{StoredResponse, has_room_for, into_stored_head};
use crate::cache::text::is_text;
use crate::cache::{Policy, SetCookie};
use crate::exchange::{Exchange, Next, Orders, pass};
use crate::local_reply::LocalReply;
use crate::rate_limit::fields;
use crate::telemetry::Trail;

impl Cache {
    /// Asks for what is not stored.
    pub(super) async fn fetch<S: Next>(
        self: Rc<Self>,
        errand: Errand,
        exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        let asked = self.asked(&errand, &exchange.request);
        // The fields that select a variant are known only from the answer.
        let selected_by = may_fill(&exchange).then(|| exchange.request.headers().clone());
        let trail = exchange.trail.clone();
        let response = pass(next, exchange).await;
        self.fetched(errand, asked, selected_by.as_ref(), response, &trail, None)
    }

    /// Asks whether `stored` still holds.
    pub(super) async fn validate<S: Next>(
        self: Rc<Self>,
        errand: Errand,
        stored: Arc<StoredResponse>,
        mut exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        let mut asked = self.asked(&errand, &exchange.request);
        let (as_sent, trail) = (exchange.again(), exchange.trail.clone());
        let fields = exchange.request.headers_mut();
        let conditional = match stored.part {
            None => validation::conditional(fields, &stored.head),
            Some(_) => validation::conditional_part(fields, &stored.head),
        };
        let mut response = pass(next.clone(), exchange).await;
        if let Some(failure) = failure(&response, &trail)
            && let Some(stale) = self.stand_in(&errand, &stored, &as_sent, failure).await
        {
            self.part(&errand, Leave::Failed);
            return stale;
        }
        let own = trail.borrow().local_reply.is_some();
        if conditional && response.status() == StatusCode::NOT_MODIFIED && !own {
            if validation::selects(&stored.head, response.headers())
                && let Some(mut freshened) = self.freshened(&errand, asked, &stored, &as_sent, response.headers()).await
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
        if request.method() == Method::HEAD && trail.borrow().local_reply.is_none() {
            self.compare(&errand, asked, &stored, request, &response);
        }
        let selected_by = (request.method() == Method::GET).then_some(request.headers());
        self.fetched(errand, asked, selected_by, response, &trail, Some(&stored))
    }

    /// Sees to it that `stored` is sent no more unless it is validated (rule 7).
    fn retire(&self, errand: &Errand, stored: &StoredResponse) {
        let mut old = stored.clone();
        old.facts.retire();
        self.keep(&errand.key, old, errand.since);
    }

    pub(super) fn asked<B>(&self, errand: &Errand, request: &Request<B>) -> Asked {
        let no_store = directives(request.headers()).no_store;
        let partial = request.headers().contains_key(RANGE) || has_conditions(request.headers());
        Asked { at: self.clock.unix_seconds(), credentials: errand.credentials, no_store, partial }
    }

    /// What is stored, in place of the app's failure; `None`: it may not stand in, cannot be read, or nobody waits for it.
    pub(super) async fn stand_in(
        &self,
        errand: &Errand,
        stored: &StoredResponse,
        as_sent: &Exchange,
        failure: Failure,
    ) -> Option<Response<Body>> {
        let policy = &errand.policy;
        let age = stored.facts.age(self.clock.unix_seconds());
        let stands_in = reuse::stands_in(&stored.facts, age, failure, &policy.staleness);
        if !stands_in && !errand.behind {
            return None;
        }
        let now = self.clock.unix_micros();
        let until = now.saturating_add(policy.staleness.retry.as_micros() as u64);
        self.under_way.has_failed(errand.key.digest(), failure, until, now);
        if errand.behind {
            return None;
        }
        let (said, detail) = match failure {
            Failure::Unreachable => (None, Some("unreachable")),
            Failure::Status(status) => (Some(status), None),
        };
        let ttl = i64::from(stored.facts.lifetime) - i64::from(age);
        let status = Status::forwarded(errand.why.forwarded(), said).ttl(ttl).key(self.told(&errand.key));
        let response = self.stale(errand, as_sent, stored, status.detail(detail)).await?;
        // The answer is not ours after all; what went wrong with the app stays on record.
        let mut record = as_sent.trail.borrow_mut();
        (record.local_reply, record.local_reply_reason) = (None, None);
        record.cache_reason = Some(errand.why.reason());
        Some(response)
    }

    /// What is stored, once `not_modified` has said that it holds; `None`: its content cannot be read.
    pub(super) async fn freshened(
        self: &Rc<Self>,
        errand: &Errand,
        asked: Asked,
        stored: &StoredResponse,
        as_sent: &Exchange,
        not_modified: &HeaderMap,
    ) -> Option<Response<Body>> {
        let policy = &errand.policy;
        let request = &as_sent.request;
        let (fresh, kept) = self.freshen(policy, asked, stored, request.headers(), not_modified);
        let received = fresh.facts.received;
        let mut response = self.stored_answer(&errand.key, request, &fresh, received).await?;
        if policy.set_cookie != SetCookie::Store {
            // For this client alone.
            for cookie in not_modified.get_all(SET_COOKIE) {
                response.headers_mut().append(SET_COOKIE, cookie.clone());
            }
        }
        validation::append_withheld(response.headers_mut(), not_modified);
        let not_stored = kept.err().map(NotStored::as_str);
        let status = Status::forwarded(errand.why.forwarded(), Some(StatusCode::NOT_MODIFIED))
            .ttl(i64::from(fresh.facts.lifetime) - i64::from(fresh.facts.age(received)))
            .stored(not_stored.is_none())
            .key(self.told(&errand.key))
            .detail(not_stored.or(errand.why.detail()));
        mark(&mut response, Outcome::Revalidated, status);
        self.record(&as_sent.trail, errand, Outcome::Revalidated, not_stored);
        if not_stored.is_some() {
            self.part(errand, Leave::Unshareable);
        } else if let Some(leading) = errand.lead.take() {
            self.keep_for_all(leading, errand, fresh);
        } else {
            self.keep(&errand.key, fresh, errand.since);
        }
        Some(response)
    }

    /// What is stored with the fields of `news`, and whether it may be kept so.
    fn freshen(
        &self,
        policy: &Policy,
        asked: Asked,
        stored: &StoredResponse,
        request: &HeaderMap,
        news: &HeaderMap,
    ) -> (StoredResponse, Result<(), NotStored>) {
        let received = self.clock.unix_seconds();
        let (mut fresh, judged_as) = (stored.clone(), stored.judged_as());
        let head = &mut fresh.head;
        // The news is as old as it says itself.
        head.remove(AGE);
        if !news.contains_key(DATE)
            && let Some(date) = date_text(received)
        {
            head.insert(DATE, date);
        }
        validation::freshen(head, news);
        fields::remove(head);
        let storable = storable(asked, judged_as, head, policy, received);
        let initial_age = age::initial_age(head, asked.at, received);
        storing::strip(head, policy);
        into_stored_head(head, fresh.status, fresh.content.length() as usize, received);
        match storable {
            Ok(storable) => {
                fresh.facts = storable.facts;
                fresh.variant = storable.selecting.map(|selecting| {
                    let variant = selecting.variant(request);
                    (selecting, variant)
                });
                (fresh, Ok(()))
            }
            Err(why) => {
                (fresh.facts.received, fresh.facts.initial_age, fresh.facts.lifetime) = (received, initial_age, 0);
                (fresh, Err(why))
            }
        }
    }

    /// What a 200 to HEAD says of the stored answer to GET (§4.3.5).
    fn compare<B>(
        &self,
        errand: &Errand,
        asked: Asked,
        stored: &StoredResponse,
        request: &Request<B>,
        response: &Response<Body>,
    ) {
        let policy = &errand.policy;
        if stored.status != StatusCode::OK || response.status() != StatusCode::OK {
            return;
        }
        match validation::head_says(&stored.head, response.headers()) {
            HeadSays::Same => {
                let (fresh, kept) = self.freshen(policy, asked, stored, request.headers(), response.headers());
                if kept.is_ok() {
                    self.keep(&errand.key, fresh, errand.since);
                }
            }
            HeadSays::Other if stored.facts.fresh_for(stored.facts.age(self.clock.unix_seconds())).is_some() => {
                let mut old = stored.clone();
                (old.facts.lifetime, old.facts.while_revalidate) = (0, 0);
                self.keep(&errand.key, old, errand.since);
            }
            HeadSays::Other | HeadSays::Nothing => {}
        }
    }

    /// The app's answer, on its way to the client and perhaps into the store. `selected_by` are the client's fields, if it
    /// asked by GET; `stored` is what it was asked about.
    pub(super) fn fetched(
        self: Rc<Self>,
        errand: Errand,
        asked: Asked,
        selected_by: Option<&HeaderMap>,
        mut response: Response<Body>,
        trail: &Trail,
        stored: Option<&StoredResponse>,
    ) -> Response<Body> {
        let policy = &errand.policy;
        let fill = match selected_by {
            None => Err("head"),
            Some(selected_by) => {
                self.clone().fill(policy, &errand, asked, selected_by, &response, trail).and_then(|fill| {
                    let is_over_whole = fill.part.is_some() && stored.is_some_and(|stored| stored.part.is_none());
                    if is_over_whole { Err("part-of-stored") } else { Ok(fill) }
                })
            }
        };
        let not_stored = fill.as_ref().err().copied();
        if let (Some(stored), Some(_), Some(_)) = (stored, selected_by, not_stored)
            && let Some(said) = said(&response, trail).filter(|_| errand.credentials.is_none() && !asked.partial)
            && reuse::is_retired(&stored.facts, self.clock.unix_seconds(), said)
        {
            self.retire(&errand, stored);
        }
        let why = errand.why;
        self.record(trail, &errand, why.outcome(), not_stored);
        let detail = match why {
            Why::Credentials(kind) => Some(kind),
            _ => not_stored.or(why.detail()),
        };
        let status = Status::forwarded(why.forwarded(), said(&response, trail))
            .stored(not_stored.is_none())
            .key(self.told(&errand.key))
            .detail(detail);
        mark(&mut response, why.outcome(), status);
        match fill {
            Ok(stored) => {
                let said = stored.part.map(Part::length).or_else(|| said_length(&response));
                if stored.part.is_none()
                    && let Some(leading) = self.sharing(&errand, &stored)
                {
                    return self.share(leading, errand, stored, said, response);
                }
                let max_body = policy.max_body;
                let fill = Fill::new(self, (errand.key, errand.since), stored, said, max_body);
                response.map(|content| content.watched(fill))
            }
            Err(_) => {
                self.part(&errand, why_parted(&errand, trail));
                response
            }
        }
    }

    /// The response as it will be stored when its content has passed, or the reason why it is not stored.
    fn fill(
        &self,
        policy: &Policy,
        errand: &Errand,
        asked: Asked,
        selected_by: &HeaderMap,
        response: &Response<Body>,
        trail: &Trail,
    ) -> Result<StoredResponse, &'static str> {
        let status = response.status();
        if trail.borrow().local_reply.is_some() {
            return Err(NotStored::LocalReply.as_str());
        }
        if response.extensions().get::<Orders>().is_some() {
            return Err(NotStored::SessionOrder.as_str());
        }
        let received = self.clock.unix_seconds();
        let is_part = status == StatusCode::PARTIAL_CONTENT && selected_by.contains_key(RANGE);
        let judged_as = if is_part { StatusCode::OK } else { status };
        let storable = storable(asked, judged_as, response.headers(), policy, received).map_err(NotStored::as_str)?;
        let part =
            if is_part { Some(part(errand, selected_by, response.headers(), &storable, received)?) } else { None };
        if errand.posted && storable.facts.fresh_for(storable.facts.initial_age).is_none() {
            return Err(NotStored::Stale.as_str());
        }
        let generation = errand.generation.ok_or("store-unavailable")?;
        self.tags_of(&errand.key, response.headers()).ok_or(NotStored::Tags.as_str())?;
        if part.map(Part::length).or_else(|| said_length(response)).is_some_and(|length| length > policy.max_body)
            || !has_room_for(response.headers())
        {
            return Err("too-large");
        }
        let variant = storable.selecting.map(|selecting: vary::Selecting| {
            let digest = selecting.variant(selected_by);
            (selecting, digest)
        });
        let mut head = response.headers().clone();
        fields::remove(&mut head);
        storing::strip(&mut head, policy);
        let (content, facts) = (Default::default(), storable.facts);
        Ok(StoredResponse { status, head, content, part, facts, generation, variant })
    }

    /// Counts and logs what a client was given; what happens behind an answer is not given to anybody.
    pub(super) fn record(&self, trail: &Trail, errand: &Errand, outcome: Outcome, not_stored: Option<&'static str>) {
        if errand.behind {
            return;
        }
        self.metrics.count(outcome);
        let mut record = trail.borrow_mut();
        record.cache = Some(outcome.as_str());
        record.cache_reason = Some(not_stored.unwrap_or(errand.why.reason()));
    }
}

/// How the app has failed, if it has.
fn failure(response: &Response<Body>, trail: &Trail) -> Option<Failure> {
    let record = trail.borrow();
    match record.local_reply {
        Some(_) => record.upstream_error.map(|_| Failure::Unreachable),
        None => response.status().is_server_error().then(|| Failure::Status(response.status())),
    }
}

/// Why those who wait for an answer that is not shared go their own way.
fn why_parted(errand: &Errand, trail: &Trail) -> Leave {
    let record = trail.borrow();
    match (record.local_reply, record.upstream_error) {
        (None, _) => Leave::Unshareable,
        (Some(reply), Some(which)) if reply == (LocalReply::UpstreamTimeout { which }).kind() => {
            Leave::Silent { which, after: errand.since.elapsed() }
        }
        (Some(_), _) => Leave::Failed,
    }
}

/// Where a 206 belongs, or why it is not stored (rule 5).
fn part(
    errand: &Errand,
    request: &HeaderMap,
    answer: &HeaderMap,
    storable: &Storable,
    now: u64,
) -> Result<Part, &'static str> {
    let part = parts::storable(request, answer, now).map_err(Unfit::as_str)?;
    match errand.why {
        Why::Credentials(_) => Err("part-of-stored"),
        Why::VaryMiss if storable.selecting.is_none() => Err("part-of-stored"),
        _ if !errand.policy.encode.is_empty() && is_text(answer) => Err("part-coding"),
        _ => Ok(part),
    }
}

/// `Content-Length`, in bytes.
fn said_length(response: &Response<Body>) -> Option<u64> {
    response.headers().get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}
