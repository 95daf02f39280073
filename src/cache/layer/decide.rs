//! What becomes of a read: the look-up, and one function of what was found.
//!
//! 1. What cannot be looked up, or must not, passes by.
//! 2. Nothing is stored: the app is asked, and its answer may be kept.
//! 3. What is stored for nobody in particular is no answer to credentials unless it says so itself.
//! 4. Then [`reuse::judge`] has the word. Where it says "validate" and the app has failed to just now, what may stand in
//!    for it does, and the app is left alone.
//! 5. A client that takes only what is stored gets 504 where the app would be asked (RFC 9111 §5.2.1.7).

use std::rc::Rc;
use std::sync::Arc;

use http::Method;
use http_body::Body as _;

use super::Cache;
use super::outcome::{Tier, Why};
use crate::cache::rules::directives::directives;
use crate::cache::rules::request;
use crate::cache::rules::reuse::{self, ClientAsks, Use};
use crate::cache::store::{Found, Generation, Purpose, Question, Since, Store};
use crate::cache::stored::StoredResponse;
use crate::cache::{ClientDirectives, Key, Policy};
use crate::exchange::{Answer, Exchange, Slot};

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
    /// The app is asked, and the answer may be stored; if something is stored already, whether it still holds.
    Ask { errand: Errand, stored: Option<Arc<StoredResponse>> },
    /// The app is asked, and the answer is not stored.
    PassBy { reason: &'static str },
    /// Nobody is asked.
    Refuse,
}

/// Why the app is asked, and what it takes to keep its answer.
#[derive(Clone)]
pub(super) struct Errand {
    pub(super) why: Why,
    pub(super) key: Key,
    /// Of the place, as the look-up read it.
    pub(super) generation: Option<Generation>,
    /// Before its request goes to the app.
    pub(super) since: Since,
    /// The request carries credentials.
    pub(super) credentials: bool,
    /// No client waits for it.
    pub(super) behind: bool,
}

impl Cache {
    /// Why a read passes the store by, or its key.
    pub(super) fn key_of_read(&self, exchange: &Exchange) -> Result<Key, &'static str> {
        let request = &exchange.request;
        if let Some(reason) = request::passes_by(request.headers(), !request.body().is_end_stream()) {
            return Err(reason);
        }
        let key = Key::of(exchange.client.scheme, request.uri(), request.headers())?;
        if !key.is_of_one_place(request.uri().path(), self.route.slash_is_text) {
            return Err("path");
        }
        if self.owed.covers(key.place()) { Err("owed") } else { Ok(key) }
    }

    pub(super) async fn decide(self: &Rc<Self>, exchange: &mut Exchange) -> Action {
        let Some(policy) = &self.route.policy else { return Action::PassBy { reason: "no-policy" } };
        let heard = policy.freshness.client_directives;
        let asks = match heard {
            ClientDirectives::Honour => ClientAsks::heard(exchange.request.headers(), heard),
            ClientDirectives::Ignore => ClientAsks::default(),
        };
        match self.look_up(policy, exchange, asks).await {
            Action::Ask { .. } | Action::PassBy { .. } if asks.only_if_cached => Action::Refuse,
            action => action,
        }
    }

    async fn look_up(self: &Rc<Self>, policy: &Policy, exchange: &mut Exchange, asks: ClientAsks) -> Action {
        if self.owed.is_any() {
            self.clone().settle();
        }
        let (answer, note) = (exchange.answers.take(Slot::Cache), exchange.answers.note(Slot::Cache));
        let aside = exchange.answers.take_aside();
        let tier = self.tier(&answer);
        let key = match self.key_of_read(exchange) {
            Ok(key) => key,
            Err(reason) => return Action::PassBy { reason },
        };
        let head = exchange.request.headers();
        let question = Question { key: &key, request: head, purpose: purpose(exchange) };
        let found = self.store.look_up(question, answer, note, aside).await;
        // A write may have failed to invalidate since the store was asked.
        if self.is_owed(&key, &found) {
            return Action::PassBy { reason: "owed" };
        }
        let certified = self.route.certificates && exchange.connection.certificate.is_some();
        let credentials = request::credentials(head, self.route.credentials, policy.cookies);
        let credentials = credentials.or(certified.then_some("certificate"));
        let since = Since::now(self.clock.unix_seconds());
        let errand = |why, key, generation| Errand {
            why,
            key,
            generation,
            since,
            credentials: credentials.is_some(),
            behind: false,
        };
        let stored = match found {
            Found::Unavailable(_) => return Action::PassBy { reason: "store-unavailable" },
            Found::Nothing { generation, other_variants } => {
                let why = if other_variants { Why::VaryMiss } else { Why::UriMiss };
                return Action::Ask { errand: errand(why, key, generation), stored: None };
            }
            Found::Stored(stored) => stored,
        };
        let (facts, generation) = (stored.facts, Some(stored.generation));
        if let Some(kind) = credentials.filter(|_| !facts.shareable) {
            return Action::Ask { errand: errand(Why::Credentials(kind), key, generation), stored: None };
        }
        let asks = if asks.max_age.is_some() { asks.of(&stored.head) } else { asks };
        let now = self.clock.unix_seconds();
        let age = facts.age(now);
        match reuse::judge(&facts, age, &asks) {
            Use::Fresh { fresh_for } => Action::Reuse { key, stored, tier, now, fresh_for },
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
                    _ => Action::Ask { errand, stored: Some(stored) },
                }
            }
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

/// What a read may do with its place: the answer to GET may fill it, unless the client forbids it.
pub(super) fn purpose(exchange: &Exchange) -> Purpose {
    let request = &exchange.request;
    if request.method() == Method::GET && !directives(request.headers()).no_store {
        Purpose::ReuseOrFill
    } else {
        Purpose::Reuse
    }
}
