//! What a route's session makes of a request: the verdict, and whether it passes.

use ::redis::Pipeline;
use serde_json::{Value, json};

use super::layer::Session;
use super::verdict::{Admission, Verdict};
use super::{Carrier, Definition, credential, require};
use crate::exchange::{Answer, Exchange, Slot};
use crate::gather::Ask as _;
use crate::local_reply::LocalReply;
use crate::redis_pool::Link;

impl Session {
    /// Explains, and tells the exchange who is logged in, as the layer would. Asks Redis over `link`, if it must; nothing is
    /// counted or logged. The answer's status is told where the request would not pass.
    pub async fn explain(&self, exchange: &mut Exchange, link: Option<&Link>) -> Value {
        // To ask takes it out of the query, where it goes no further.
        let carrier = self.carrier(exchange).map(ToString::to_string);
        let mut pipeline = Pipeline::new();
        if self.ask(exchange, &mut pipeline) > 0 {
            let answer = match link {
                Some(link) => link.query(&pipeline).await.map_or_else(Answer::Unavailable, Answer::Values),
                None => Answer::Unavailable("down"),
            };
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

    /// Where the credential is that decides, if there is one.
    fn carrier(&self, exchange: &Exchange) -> Option<&Carrier> {
        let Definition { format, carriers, .. } = &*self.definition;
        credential::carrier(format, carriers, exchange.request.headers(), exchange.request.uri().query())
    }
}

/// Status of an answer, and where it leads.
fn answer(reply: &LocalReply) -> Value {
    let mut told = json!({ "status": reply.status().as_u16() });
    if let LocalReply::LoginNeeded { location } = reply {
        told["location"] = String::from_utf8_lossy(location.as_bytes()).into();
    }
    told
}
