//! What the cache would make of a request, and why: asks the store, and opens, fills and takes back nothing.

use http::HeaderMap;
use serde_json::{Value, json};

use super::{Cache, asks};
use crate::cache::policy::Policy;
use crate::cache::reasons;
use crate::cache::rules::request::Asks;
use crate::cache::rules::reuse::{self, ClientAsks, Use};
use crate::cache::store::{Found, Purpose, Question};
use crate::cache::stored::StoredResponse;
use crate::exchange::{Answer, Exchange};

impl Cache {
    /// Explains: whether the request is looked up, by which key, what is stored for it, and what would be done with that.
    pub async fn explain(&self, exchange: &Exchange) -> Value {
        let Some(policy) = &self.policy_of(exchange) else {
            let writes = asks(exchange) == Asks::Write;
            let invalidates = if writes { "a success invalidates what is stored of its path" } else { "nothing" };
            return json!({ "cache": null, "does": invalidates });
        };
        let mut told = json!({ "cache": &*policy.name });
        match asks(exchange) {
            Asks::Read => {}
            Asks::Nothing => return because(told, "passes by", "method"),
            Asks::Write => {
                told["does"] = "passes by; a success invalidates what is stored of its path".into();
                return told;
            }
        }
        let key = match self.key_of_read(exchange) {
            Ok(key) => key,
            Err(reason) => return because(told, "passes by", reason),
        };
        (told["key"], told["place"]) = (key.text().into(), key.place().into());
        let question = Question { key: &key, request: exchange.request.headers(), purpose: Purpose::Reuse };
        let stored = match self.store.look_up(question, Answer::NotAsked, None, None).await {
            Found::Unavailable(_) => return because(told, "passes by", "store-unavailable"),
            Found::Nothing { other_variants: false, .. } => return because(told, "asks the app", "uri-miss"),
            Found::Nothing { other_variants: true, .. } => return because(told, "asks the app", "vary-miss"),
            Found::Stored(stored) => stored,
        };
        let age = stored.facts.age(self.clock.unix_seconds());
        told["stored"] = shown(&stored, age, policy);
        if let Some(kept_from) = self.credentials(exchange).filter(|own| !stored.facts.may_answer(Some(*own))) {
            return because(told, "asks the app", kept_from.word);
        }
        let heard = ClientAsks::heard(exchange.request.headers(), policy.freshness.client_directives);
        match reuse::judge(&stored.facts, age, &heard.of(&stored.head)) {
            Use::Fresh { .. } => because(told, "answers from the store", "fresh"),
            Use::Stale { refresh: true, .. } => because(told, "answers from the store, and refreshes behind", "stale"),
            Use::Stale { refresh: false, .. } => because(told, "answers from the store", "stale"),
            Use::Validate { why, .. } => because(told, "asks the app", why.as_str()),
        }
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
