//! What a route's session makes of a request: the verdict, and whether it passes.

use ::redis::Pipeline;
use serde_json::{Value, json};

use super::format::Stored;
use super::layer::{Session, Store};
use super::verdict::{Admission, Verdict};
use super::{Carrier, Definition, credential, identity, require};
use crate::clock::Clock;
use crate::exchange::{Answer, Exchange, Presented, Principal, Slot};
use crate::local_reply::LocalReply;
use crate::redis_pool::{self, Link};

/// Names in a record that are told.
const MOST_NAMES: usize = 20;

/// Characters of such a name that are told.
const LONGEST_NAME: usize = 40;

impl Session {
    /// Explains, and tells the exchange who is logged in, as the layer would. Asks Redis over `link`, if it must; nothing is
    /// counted or logged. The answer's status is told where the request would not pass.
    pub async fn explain(&self, exchange: &mut Exchange, link: Option<&Link>) -> Value {
        if self.lets_through(exchange) {
            self.pass_on(exchange, None);
            return json!({ "session": &*self.definition.name, "verdict": "not asked", "reason": "preflight", "passes": true });
        }
        // To ask takes it out of the query, where it goes no further.
        let carrier = self.carrier(exchange).map(ToString::to_string);
        let mut pipeline = Pipeline::new();
        let mut stored = None;
        if self.inquire(exchange, &mut pipeline, None) > 0 {
            let answer = match link {
                Some(link) => link.query(&pipeline).await.map_or_else(Answer::Unavailable, Answer::Values),
                None => Answer::Unavailable("down"),
            };
            if let Answer::Values(values) = &answer {
                stored = values.first().cloned();
            }
            exchange.answers.put(Slot::Session, answer);
        }
        let verdict = self.judge(exchange);
        let mut told = json!({ "session": &*self.definition.name, "verdict": verdict.label() });
        if let Some(reason) = verdict.reason() {
            told["reason"] = reason.into();
        }
        if let Some(carrier) = carrier {
            told["carrier"] = carrier.into();
        }
        match &verdict {
            Verdict::Absent => told["looked_in"] = self.carriers(),
            Verdict::Anonymous => told["nobody"] = self.nobody(stored.as_ref()),
            Verdict::Expired => told["looked_for"] = self.looked_for(exchange, stored.as_ref()),
            Verdict::Valid(principal) | Verdict::Believed(principal) => told["forward"] = self.forwarded(principal),
            _ => {}
        }
        if let Some(principal) = verdict.principal() {
            (told["user"], told["digest"]) = (principal.user.as_str().into(), (*principal.session_digest).into());
        }
        if let Verdict::Valid(principal) | Verdict::Believed(principal) = &verdict
            && let Some(missed) = require::missed(&self.on_route.require, principal)
        {
            told["missed"] = json!({ "attribute": missed.attribute, "values": missed.values });
        }
        if let Some(device) = exchange.trail.borrow().session_device {
            told["device"] = device.into();
        }
        if let Some(issue) = &self.definition.issue {
            told["issues"] = json!({ "cookie": issue.cookie, "for": issue.ttl.as_secs() });
        }
        match self.admit(exchange, verdict) {
            Admission::Pass { principal, would } => {
                self.pass_on(exchange, principal);
                told["passes"] = true.into();
                if let Some(would) = would {
                    told["would"] = answer(&would);
                }
            }
            Admission::Refuse(reply) => {
                told["passes"] = false.into();
                if let (Value::Object(told), Value::Object(answer)) = (&mut told, answer(&reply)) {
                    told.extend(answer);
                }
            }
        }
        told
    }

    /// Where a credential was looked for.
    fn carriers(&self) -> Value {
        self.definition.carriers.iter().map(ToString::to_string).collect()
    }

    /// Where nobody was found, and what the record has instead.
    fn nobody(&self, stored: Option<&redis::Value>) -> Value {
        let names = match stored.and_then(redis_pool::text) {
            Some(bytes) => self.reading.names(Stored::Text(bytes), Clock::System.unix_micros() / 1000),
            None => Vec::new(),
        };
        let shown = names.iter().take(MOST_NAMES).map(|name| shortened(name));
        json!({ "under": self.definition.user, "record_has": shown.collect::<Vec<_>>(), "more": names.len() > MOST_NAMES })
    }

    /// The key under which there is no session, without what names the session: that is a credential.
    fn looked_for(&self, exchange: &Exchange, stored: Option<&redis::Value>) -> Value {
        let Some(Presented::Located(located)) = exchange.presented.as_deref() else { return Value::Null };
        let prefix = &self.definition.prefix;
        let hidden = located.key.strip_prefix(prefix.as_str()).unwrap_or(&located.key).chars().count();
        // Of a key that is not there a part is empty.
        let empty = stored.and_then(redis_pool::text).is_some_and(<[u8]>::is_empty);
        let missing =
            empty || matches!(stored, None | Some(redis::Value::Nil)) || matches!(self.store, Store::Memory(_));
        json!({ "prefix": prefix, "hidden": hidden, "in_redis": matches!(self.store, Store::Redis(_)), "missing": missing })
    }

    /// What the app is told of `principal`, and what it is not, for the record lacks it.
    fn forwarded(&self, principal: &Principal) -> Value {
        let Definition { forward, identity, .. } = &*self.definition;
        let is_told = |path: &str| identity::is_told(identity.encoding, principal, path);
        let (told, lacking): (Vec<_>, Vec<_>) = forward.iter().partition(|(_, path)| is_told(path));
        let lacking = lacking.iter().map(|(name, path)| json!({ "field": name.as_str(), "attribute": path }));
        json!({
            "told": told.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(),
            "lacking": lacking.collect::<Vec<_>>(),
        })
    }

    /// Where the credential is that decides, if there is one.
    fn carrier(&self, exchange: &Exchange) -> Option<&Carrier> {
        let (fields, query) = (exchange.request.headers(), exchange.request.uri().query());
        credential::carrier(&self.definition.carriers, fields, query)
    }
}

/// A name in a record, bounded, and without what a terminal would obey.
fn shortened(name: &str) -> String {
    let plain: String = name.chars().take(LONGEST_NAME).flat_map(char::escape_debug).collect();
    if name.chars().count() > LONGEST_NAME { plain + "…" } else { plain }
}

/// Status of an answer, and where it leads.
fn answer(reply: &LocalReply) -> Value {
    let mut told = json!({ "status": reply.status().as_u16() });
    if let LocalReply::LoginNeeded { location } = reply {
        told["location"] = String::from_utf8_lossy(location.as_bytes()).into();
    }
    told
}
