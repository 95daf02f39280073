//! What the cache would make of a request, and why: decides as it does for any other ([`decide`](super::decide)), but opens,
//! fills and takes back nothing.
//!
//! 1. A POST that may be a read is one by its content; where that is not known nothing can be said.
//! 2. What a cache that only observes would do if it were on is told besides (`would`).

use std::sync::Arc;

use http::HeaderMap;
use serde_json::{Value, json};

use super::decide::{Action, Errand, Held};
use super::{Cache, ONLY_IF_CACHED, asks, posted};
use crate::cache::policy::Policy;
use crate::cache::reasons;
use crate::cache::rules::request::Asks;
use crate::cache::store::{Found, Purpose, Question};
use crate::cache::stored::StoredResponse;
use crate::exchange::{Answer, Exchange};

const WRITES: &str = "passes by; a success invalidates what is stored of its path";

impl Cache {
    /// Explains: whether the request is looked up, by which key, what is stored for it, and what would be done with that.
    /// `has_content`: its content is known, be it none.
    pub async fn explain(&self, exchange: &mut Exchange, has_content: bool) -> Value {
        let Some(name) = self.route.policy.as_ref().map(|policy| policy.name.clone()) else {
            let does = if asks(exchange) == Asks::Write {
                "a success invalidates what is stored of its path"
            } else {
                "nothing"
            };
            return json!({ "cache": null, "does": does });
        };
        let mut told = json!({ "cache": &*name });
        if let Some(bound) = self.reads_post(exchange) {
            if !has_content {
                told["does"] = "depends on its content, which is not known: --data TEXT".into();
                return told;
            }
            posted::read(exchange, bound).await;
        }
        match asks(exchange) {
            Asks::Read => {}
            Asks::Nothing => return because(told, "passes by", "method"),
            Asks::Write => {
                told["does"] = WRITES.into();
                return told;
            }
        }
        if let Ok(key) = self.key_of_read(exchange) {
            (told["key"], told["place"]) = (key.text().into(), key.place().into());
        }
        let action = self.decide(exchange, Purpose::Reuse).await;
        let (does, word, mut stored) = self.foretold(action);
        if stored.is_none() {
            stored = self.standing(exchange).await;
        }
        if let (Some(stored), Some(policy)) = (stored, self.policy_of(exchange)) {
            told["stored"] = shown(&stored, stored.facts.age(self.clock.unix_seconds()), policy);
        }
        if self.observer.is_some() {
            told["does"] = "forwards, as it only observes".into();
            told["would"] = because(json!({}), does, word);
            return told;
        }
        because(told, does, word)
    }

    /// What is done, the word that says why, and what is stored.
    fn foretold(&self, action: Action) -> (&'static str, &'static str, Option<Arc<StoredResponse>>) {
        match action {
            Action::Reuse { stored, .. } => ("answers from the store", "fresh", Some(stored)),
            Action::Stale { errand, stored, refresh, detail, .. } => {
                let (does, word) = match (refresh, self.has_failed(&errand)) {
                    (true, false) => ("answers from the store, and refreshes behind", "stale"),
                    (true, true) => ("answers from the store", "refresh-failed"),
                    (false, _) => ("answers from the store", detail.unwrap_or("stale")),
                };
                (does, word, Some(stored))
            }
            Action::Ask { errand, stored } => {
                let stored = match stored {
                    Held::One(stored) | Held::Beginning(stored) => Some(stored),
                    Held::Nothing | Held::Others(_) => None,
                };
                ("asks the app", errand.why.reason(), stored)
            }
            Action::PassBy { reason } => ("passes by", reason, None),
            Action::Refuse => ("answers 504, and asks nobody", ONLY_IF_CACHED, None),
        }
    }

    /// What is stored for the request, though it is no answer to it: for others, or not for who takes only what is stored.
    async fn standing(&self, exchange: &Exchange) -> Option<Arc<StoredResponse>> {
        let key = self.key_of_read(exchange).ok()?;
        let question = Question { key: &key, request: exchange.request.headers(), purpose: Purpose::Reuse };
        match self.store.look_up(question, Answer::NotAsked, None, None).await {
            Found::Stored(stored) => Some(stored),
            Found::Nothing { .. } | Found::Unavailable(_) => None,
        }
    }

    /// Whether the app failed just now, and is left alone.
    fn has_failed(&self, errand: &Errand) -> bool {
        self.under_way.failed(&errand.key.digest(), self.clock.unix_micros()).is_some()
    }
}

/// `told`, with what is done and the rule that says so.
fn because(mut told: Value, does: &str, word: &str) -> Value {
    told["does"] = does.into();
    told["because"] = explained(word);
    told
}

/// A word of the cache, with its sentence and rule.
pub fn explained(word: &str) -> Value {
    match reasons::of(word) {
        Some(reason) => json!({ "word": reason.word, "says": reason.sentence, "rule": reason.rule }),
        None => json!({ "word": word }),
    }
}

fn shown(stored: &StoredResponse, age: u32, policy: &Policy) -> Value {
    let facts = &stored.facts;
    let selecting = stored.variant.as_ref().map(|(selecting, _)| selecting.names());
    let selecting: Vec<&str> = selecting.into_iter().flatten().map(http::HeaderName::as_str).collect();
    json!({
        "status": stored.status.as_u16(),
        "bytes": stored.content.length(),
        "part": stored.part.map(|part| format!("{}-{}/{}", part.first, part.last, part.complete)),
        "age": age,
        "fresh_for": i64::from(facts.lifetime) - i64::from(age),
        "for_all": facts.shareable,
        "validated_at_each_use": facts.validate,
        "never_stale": facts.strict,
        "selected_by": selecting,
        "tags": tags(&stored.head, policy),
    })
}

/// The lines of the fields that carry tags.
fn tags(head: &HeaderMap, policy: &Policy) -> Vec<String> {
    let lines = policy.tags.iter().flat_map(|name| head.get_all(name));
    lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect()
}
