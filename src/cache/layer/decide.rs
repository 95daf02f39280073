//! What becomes of a read: the look-up, and one function of what was found.
//!
//! 1. What cannot be looked up, or must not, passes by.
//! 2. Nothing is stored: the app is asked, and its answer may be kept.
//! 3. What is stored for nobody in particular is no answer to credentials unless it says so itself.
//! 4. A stored part that does not hold all that is asked for is no answer, fresh or stale. Where it is the beginning of it the
//!    app is asked for the rest; else as if nothing were stored.
//! 5. Then [`reuse::judge`] has the word. Where it says "validate" and the app has failed to just now, what may stand in
//!    for it does, and the app is left alone.
//! 6. To a POST that is a read only what is fresh is an answer.
//! 7. A client that takes only what is stored gets 504 where the app would be asked (RFC 9111 §5.2.1.7).

use std::rc::Rc;
use std::sync::Arc;

use http::{Method, Response};
use http_body::Body as _;

use super::Cache;
use super::outcome::{Tier, Why};
use super::together::Lead;
use crate::body::Body;
use crate::cache::rules::directives::directives;
use crate::cache::rules::parts::{self, Serves};
use crate::cache::rules::request::{self, Credentials};
use crate::cache::rules::reuse::{self, ClientAsks, Use};
use crate::cache::store::{Found, Generation, Purpose, Question, Since, Store};
use crate::cache::stored::{Known, StoredResponse};
use crate::cache::{ClientDirectives, Key, Policy};
use crate::exchange::{Answer, Exchange, Next, Slot};

/// What happens to a read.
pub(super) enum Action {
    /// The stored response is sent.
    Reuse {
        key: Key,
        stored: Arc<StoredResponse>,
        tier: Tier,
        /// In seconds since the Unix epoch: when that was decided.
        now: u64,
        /// Seconds.
        fresh_for: i64,
    },
    /// It is sent though it is stale.
    Stale {
        errand: Errand,
        stored: Arc<StoredResponse>,
        /// Seconds; zero or less.
        fresh_for: i64,
        /// The app is asked behind the answer.
        refresh: bool,
        /// Why the app was not asked first, if it would have been.
        detail: Option<&'static str>,
    },
    /// The app is asked, and the answer may be stored.
    Ask { errand: Errand, stored: Held },
    /// The app is asked, and the answer is not stored.
    PassBy { reason: &'static str },
    /// Nobody is asked.
    Refuse,
}

/// What is stored already when the app is asked.
pub(super) enum Held {
    /// Nothing that is of use.
    Nothing,
    /// Other variants; there is at least one.
    Others(Vec<Known>),
    /// The response to this request: whether it still holds is the question.
    One(Arc<StoredResponse>),
    /// The beginning of it.
    Beginning(Arc<StoredResponse>),
}

/// Why the app is asked, and what it takes to keep its answer.
pub(super) struct Errand {
    /// For the answer to this request.
    pub(super) policy: Arc<Policy>,
    pub(super) why: Why,
    pub(super) key: Key,
    /// Of the place, as the look-up read it.
    pub(super) generation: Option<Generation>,
    /// Before its request goes to the app.
    pub(super) since: Since,
    /// What its request carries.
    pub(super) credentials: Option<Credentials>,
    /// It is a POST.
    pub(super) posted: bool,
    /// No client waits for it.
    pub(super) behind: bool,
    /// The part it has in a flight.
    pub(super) lead: Lead,
}

impl Cache {
    /// Why a read passes the store by, or its key.
    pub(super) fn key_of_read(&self, exchange: &Exchange) -> Result<Key, &'static str> {
        let request = &exchange.request;
        let has_content = exchange.posted.is_none() && !request.body().is_end_stream();
        if let Some(reason) = request::passes_by(request.headers(), has_content) {
            return Err(reason);
        }
        let besides = self.besides(exchange).ok_or("no-policy")?;
        let key = Key::of_read(exchange.client.scheme, request.uri(), request.headers(), &besides)?;
        if !key.is_of_one_place(self.route.slash_is_text) {
            return Err("path");
        }
        if self.owed.covers(key.place()) { Err("owed") } else { Ok(key) }
    }

    /// The key under which the store has been asked, unless its place is owed something by now. What is in it has not changed
    /// since: where it may, the store is not asked that early (`whom`).
    fn key_asked_for(&self, exchange: &mut Exchange) -> Option<Key> {
        let key = exchange.answers.kept_key()?.downcast::<Key>().ok()?;
        (!self.owed.covers(key.place())).then_some(*key)
    }

    /// What becomes of a read that may do so much with its place. Nothing is done yet, save that its place is opened if it may
    /// be filled.
    pub(super) async fn decide(&self, exchange: &mut Exchange, purpose: Purpose) -> Action {
        let Some(policy) = self.policy_of(exchange) else { return Action::PassBy { reason: "no-policy" } };
        let heard = policy.freshness.client_directives;
        let asks = match heard {
            ClientDirectives::Honour => ClientAsks::heard(exchange.request.headers(), heard),
            ClientDirectives::Ignore => ClientAsks::default(),
        };
        match self.look_up(policy, exchange, purpose, asks).await {
            Action::Ask { .. } | Action::PassBy { .. } if asks.only_if_cached => Action::Refuse,
            action => action,
        }
    }

    async fn look_up(
        &self,
        policy: &Arc<Policy>,
        exchange: &mut Exchange,
        purpose: Purpose,
        asks: ClientAsks,
    ) -> Action {
        let (answer, note) = (exchange.answers.take(Slot::Cache), exchange.answers.note(Slot::Cache));
        let aside = exchange.answers.take_aside();
        let tier = self.tier(&answer);
        let key = match self.key_asked_for(exchange).map_or_else(|| self.key_of_read(exchange), Ok) {
            Ok(key) => key,
            Err(reason) => return Action::PassBy { reason },
        };
        let head = exchange.request.headers();
        let question = Question { key: &key, request: head, purpose };
        let found = self.store.look_up(question, answer, note, aside).await;
        // A write may have failed to invalidate since the store was asked.
        if self.is_owed(&key, &found) {
            return Action::PassBy { reason: "owed" };
        }
        let errand = |why, key, generation| self.errand(policy, why, key, generation, exchange);
        let stored = match found {
            Found::Unavailable(_) => return Action::PassBy { reason: "store-unavailable" },
            Found::Nothing { generation, other_variants, known } => {
                let why = if other_variants { Why::VaryMiss } else { Why::UriMiss };
                let stored =
                    if known.is_empty() || exchange.posted.is_some() { Held::Nothing } else { Held::Others(known) };
                return Action::Ask { errand: errand(why, key, generation), stored };
            }
            Found::Stored(stored) => stored,
        };
        let (facts, generation) = (stored.facts, Some(stored.generation));
        // What is for all is so whatever the request carries.
        let credentials = if facts.shareable { None } else { self.credentials(exchange) };
        if let Some(kept_from) = credentials.filter(|own| !facts.may_answer(Some(*own))) {
            let why = Why::Credentials(kept_from.word);
            return Action::Ask { errand: errand(why, key, generation), stored: Held::Nothing };
        }
        let asks = if asks.max_age.is_some() { asks.of(&stored.head) } else { asks };
        let now = self.clock.unix_seconds();
        let age = facts.age(now);
        let judged = reuse::judge(&facts, age, &asks);
        if let Some(held) = beyond(&stored, exchange, now) {
            return Action::Ask { errand: errand(why_partial(judged), key, generation), stored: held };
        }
        match judged {
            Use::Fresh { fresh_for } => Action::Reuse { key, stored, tier, now, fresh_for },
            _ if exchange.posted.is_some() => {
                let why = Why::NotReused(reuse::NotReused::Stale);
                Action::Ask { errand: errand(why, key, generation), stored: Held::Nothing }
            }
            Use::Stale { fresh_for, refresh } => {
                let errand = errand(Why::NotReused(reuse::NotReused::Stale), key, generation);
                Action::Stale { errand, stored, fresh_for, refresh, detail: None }
            }
            Use::Validate { why, fresh_for } => {
                let errand = errand(Why::NotReused(why), key, generation);
                match self.under_way.failed(&errand.key.digest(), self.clock.unix_micros()) {
                    Some(failure) if reuse::stands_in(&facts, age, failure, &policy.staleness) => {
                        Action::Stale { errand, stored, fresh_for, refresh: false, detail: Some("refresh-failed") }
                    }
                    _ => Action::Ask { errand, stored: Held::One(stored) },
                }
            }
        }
    }

    /// What asking the app from here on takes, under the generation that the look-up read.
    fn errand(
        &self,
        policy: &Arc<Policy>,
        why: Why,
        key: Key,
        generation: Option<Generation>,
        exchange: &Exchange,
    ) -> Errand {
        Errand {
            policy: policy.clone(),
            why,
            key,
            generation,
            since: Since::now(self.clock.unix_seconds()),
            credentials: self.credentials(exchange),
            posted: exchange.posted.is_some(),
            behind: false,
            lead: Lead::default(),
        }
    }

    /// Asks the app after all: the content of what is stored, and was the answer, cannot be read. Of a hit, nothing more is
    /// made ready for that.
    pub(super) async fn fetch_instead<S: Next>(
        self: Rc<Self>,
        key: Key,
        stored: &StoredResponse,
        exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        match self.policy_of(&exchange) {
            Some(policy) => {
                let errand = self.errand(policy, Why::UriMiss, key, Some(stored.generation), &exchange);
                self.fetch(errand, exchange, next).await
            }
            None => self.pass_by("bypass", Some("no-policy"), exchange, next).await,
        }
    }

    /// Where what `answer` holds was found.
    fn tier(&self, answer: &Answer) -> Tier {
        match (&self.store, answer) {
            (_, Answer::Near(_)) => Tier::Near,
            (Store::Redis(_), _) => Tier::Redis,
            (Store::Memory(_), _) => Tier::Memory,
        }
    }
}

/// What there is of the answer, if what is stored is a part that does not hold all of it (rule 4).
fn beyond(stored: &Arc<StoredResponse>, exchange: &Exchange, now: u64) -> Option<Held> {
    let part = stored.part?;
    match parts::serves(exchange.request.method(), exchange.request.headers(), part, &stored.head, now) {
        Serves::Range { .. } => None,
        Serves::Beginning => Some(Held::Beginning(stored.clone())),
        Serves::Nothing => Some(Held::Nothing),
    }
}

/// Why the app is asked though a part is stored.
fn why_partial(judged: Use) -> Why {
    match judged {
        Use::Fresh { .. } => Why::Partial,
        Use::Stale { .. } => Why::NotReused(reuse::NotReused::Stale),
        Use::Validate { why, .. } => Why::NotReused(why),
    }
}

/// Whether the answer to a read may be kept: that to HEAD has no content.
pub(super) fn may_fill(exchange: &Exchange) -> bool {
    exchange.request.method() == Method::GET || exchange.posted.is_some()
}

/// What a read may do with its place: the answer to GET may fill it, unless the client forbids it.
pub(super) fn purpose(exchange: &Exchange) -> Purpose {
    let request = &exchange.request;
    if may_fill(exchange) && !directives(request.headers()).no_store { Purpose::ReuseOrFill } else { Purpose::Reuse }
}
