//! Judges who is logged in, and lets pass or answers.

use std::rc::Rc;
use std::sync::Arc;

use ::redis::Pipeline;
use http::{Method, Request, header};
use tower::Layer;

use super::credential::{Credential, credential};
use super::digest::Key;
use super::format::{Wanted, json};
use super::store::memory::MemoryStore;
use super::store::redis;
use super::verdict::{Admission, Found, Verdict, admit, judge};
use super::{Definition, Mode, identity};
use crate::body::Body;
use crate::exchange::{self, Answer, Exchange, Next, Slot, pass};
use crate::gather::Ask;
use crate::telemetry::registry::{Counter, Registry};

/// Where the records are.
#[derive(Clone, Debug)]
pub enum Store {
    /// In the app's Redis; asked by `gather`.
    Redis,
    /// In this process.
    Memory(Arc<MemoryStore>),
}

/// What one route makes of one session definition, on one worker.
pub struct Session {
    definition: Arc<Definition>,
    mode: Mode,
    store: Store,
    wanted: Wanted,
    verdicts: [Counter; Verdict::LABELS.len()],
}

impl Session {
    /// The session of a route, on `worker`.
    pub fn new(definition: Arc<Definition>, mode: Mode, store: Store, registry: &Registry, worker: usize) -> Rc<Self> {
        let verdicts = Verdict::LABELS.map(|verdict| {
            let labels = [("session", &*definition.name), ("verdict", verdict)];
            registry.counter(worker, "sidegate_session_verdicts_total", "Requests by session and verdict.", &labels)
        });
        let wanted = Wanted::of(&definition);
        Rc::new(Self { definition, mode, store, wanted, verdicts })
    }

    fn credential<'r>(&self, request: &'r Request<Body>) -> Credential<'r> {
        credential(&self.definition.carriers, request.headers(), request.uri().query())
    }

    fn found(&self, credential: &Credential<'_>, answer: Answer) -> Found {
        let Credential::Identifier(identifier) = credential else { return Found::Nothing };
        match &self.store {
            Store::Redis => redis::found(self.definition.format, &self.wanted, answer),
            Store::Memory(memory) => memory.record(identifier).map_or(Found::Nothing, |bytes| {
                json::record(&self.wanted, &bytes).map_or_else(Found::Unreadable, Found::Record)
            }),
        }
    }

    fn judge(&self, exchange: &mut Exchange) -> Verdict {
        let answer = exchange.answers.take(Slot::Session);
        let credential = self.credential(&exchange.request);
        let found = self.found(&credential, answer);
        judge(&self.definition.name, &credential, found, Key::of_process())
    }

    fn record(&self, verdict: &Verdict, exchange: &Exchange) {
        self.verdicts[verdict.index()].inc();
        let mut trail = exchange.trail.borrow_mut();
        trail.session = Some(verdict.label());
        trail.session_reason = verdict.reason();
        if let Verdict::Valid(principal) = verdict {
            trail.user = Some(principal.user.clone());
        }
    }
}

impl Ask for Session {
    fn slot(&self) -> Slot {
        Slot::Session
    }

    fn ask(&self, exchange: &mut Exchange, pipeline: &mut Pipeline) -> usize {
        if !matches!(self.store, Store::Redis) || is_preflight(&exchange.request) {
            return 0;
        }
        let Credential::Identifier(identifier) = self.credential(&exchange.request) else { return 0 };
        redis::ask(&self.definition, &self.wanted, &identifier, pipeline);
        1
    }
}

/// Lets those pass whom the room's rules let pass, and tells the app who they are.
pub fn layer<S: Next>(session: Rc<Session>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |mut exchange: Box<Exchange>, next: S| {
        let session = session.clone();
        async move {
            if is_preflight(&exchange.request) {
                return pass(next, exchange).await;
            }
            let verdict = session.judge(&mut exchange);
            session.record(&verdict, &exchange);
            match admit(&session.definition, session.mode, verdict) {
                Admission::Pass => pass(next, exchange).await,
                Admission::PassAs(principal) => {
                    identity::forward(&session.definition, &principal, exchange.request.headers_mut());
                    exchange.principal = Some(Rc::new(principal));
                    pass(next, exchange).await
                }
                Admission::Refuse(reply) => {
                    exchange.trail.borrow_mut().local_reply = Some(reply.kind());
                    reply.respond(&exchange.request)
                }
            }
        }
    })
}

/// A CORS preflight (Fetch §4.8): asks what the real request may do.
fn is_preflight(request: &Request<Body>) -> bool {
    *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ORIGIN)
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}
