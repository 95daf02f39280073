//! What a route's session makes of a request: the verdict, and whether it passes.

use ::redis::Pipeline;
use serde_json::{Value, json};

use super::identity;
use super::layer::Session;
use super::verdict::{Admission, Verdict, admit};
use crate::exchange::{Answer, Exchange, Slot};
use crate::gather::Ask as _;
use crate::redis_pool::Link;

impl Session {
    /// Explains, and tells the exchange who is logged in, as the layer would. Asks Redis over `link`, if it must; nothing is
    /// counted or logged. The answer's status is told where the request would not pass.
    pub async fn explain(&self, exchange: &mut Exchange, link: Option<&Link>) -> Value {
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
        if let Verdict::Valid(principal) | Verdict::Believed(principal) = &verdict {
            (told["user"], told["digest"]) = (principal.user.as_str().into(), principal.session_digest.as_str().into());
        }
        if let Some(issue) = &self.definition.issue {
            told["issues"] = json!({ "cookie": issue.cookie, "for": issue.ttl.as_secs() });
        }
        match admit(&self.definition, self.on_route.mode, verdict) {
            Admission::Pass => told["passes"] = true.into(),
            Admission::PassAs(principal) => {
                identity::forward(&self.definition, &principal, exchange.request.headers_mut());
                exchange.principal = Some(principal);
                told["passes"] = true.into();
            }
            Admission::Refuse(reply) => {
                (told["passes"], told["status"]) = (false.into(), reply.status().as_u16().into());
            }
        }
        told
    }
}
