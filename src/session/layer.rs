//! Judges who is logged in, and lets pass or answers.

use std::rc::Rc;
use std::sync::Arc;

use ::redis::Pipeline;
use http::uri::PathAndQuery;
use tower::Layer;

use super::credential::{Credential, credential, take_out, without_credentials};
use super::digest::Key;
use super::format::json;
use super::seldom::Seldom;
use super::sightings::Following;
use super::store::known::{Bound, Known, Reading};
use super::store::memory::MemoryStore;
use super::store::redis::{self, Told};
use super::store::remembered::Remembered;
use super::verdict::{Admission, Found, Verdict, admit, judge};
use super::{Definition, Mode, OnRoute, Preflight, identity, login};
use crate::clock::Clock;
use crate::exchange::{self, Answer, Either, Exchange, Next, Presented, Principal, Slot, pass, preflight};
use crate::gather::Ask;
use crate::redis_pool::near::Counts;
use crate::telemetry::registry::{Counter, Registry};

/// Where the records are.
#[derive(Clone, Debug)]
pub enum Store {
    /// In the app's Redis, asked by `gather`; and what this process remembers of them.
    Redis(Arc<Remembered>),
    /// In this process.
    Memory(Arc<MemoryStore>),
}

/// What one route makes of one session definition, on one worker.
pub struct Session {
    pub(super) definition: Arc<Definition>,
    pub(super) on_route: OnRoute,
    pub(super) store: Store,
    pub(super) reading: Arc<Reading>,
    /// Logins may be remembered near.
    near: bool,
    near_counts: Counts,
    /// What is done as sessions pass, if anything is.
    following: Option<Following>,
    clock: Clock,
    verdicts: [Counter; Verdict::LABELS.len()],
    believed: Counter,
    seldom: Seldom,
}

impl Session {
    /// The session of a route, on `worker`.
    ///
    /// # Errors
    /// Its records cannot be read; says why.
    pub fn new(
        on_route: OnRoute,
        store: Store,
        following: Option<Following>,
        clock: Clock,
        registry: &Arc<Registry>,
        worker: usize,
    ) -> Result<Rc<Self>, String> {
        let definition = on_route.definition.clone();
        let session = ("session", &*definition.name);
        let verdicts = Verdict::LABELS.map(|verdict| {
            let labels = [session, ("verdict", verdict)];
            registry.counter(worker, "sidegate_session_verdicts_total", "Requests by session and verdict.", &labels)
        });
        let help = "Requests that passed on a login remembered from before Redis went away.";
        let believed = registry.counter(worker, "sidegate_session_grace_total", help, &[session]);
        let near = matches!(&store, Store::Redis(remembered) if remembered.hears_of(&definition.prefix));
        let near_counts = Counts::new(registry, worker, "session");
        let reading = Reading::of(&definition)?;
        let seldom = Seldom::new(registry, worker, &definition.name);
        Ok(Rc::new(Self {
            definition,
            on_route,
            store,
            reading,
            near,
            near_counts,
            following,
            clock,
            verdicts,
            believed,
            seldom,
        }))
    }

    /// Whether it passes without being judged (rule 7 of the room).
    pub(super) fn lets_through(&self, exchange: &Exchange) -> bool {
        if self.definition.preflight != Preflight::Pass || !exchange.is_preflight() {
            return false;
        }
        credential(&self.definition.carriers, exchange.request.headers(), None) == Credential::Absent
    }

    /// Finds out which session the client says is its own, once.
    fn look(&self, exchange: &mut Exchange) {
        if exchange.presented.is_some() {
            return;
        }
        let fields = exchange.request.headers();
        let presented = match credential(&self.definition.carriers, fields, exchange.request.uri().query()) {
            Credential::Absent => Presented::Absent,
            Credential::Rejected(reason) => Presented::Rejected(reason),
            Credential::Sent(text) => self.reading.locate(&text).map_or_else(Presented::Rejected, Presented::Located),
        };
        exchange.presented = Some(Rc::new(presented));
    }

    pub(super) fn judge(&self, exchange: &mut Exchange) -> Verdict {
        self.look(exchange);
        let verdict = self.judge_record(exchange);
        if let Verdict::Revoked(_) = &verdict {
            self.take_credential(exchange);
        }
        match &self.following {
            Some(following) => following.at_home(verdict, exchange),
            None => verdict,
        }
    }

    fn judge_record(&self, exchange: &mut Exchange) -> Verdict {
        let now = || self.clock.unix_micros() / 1000;
        let answer = exchange.answers.take(Slot::Session);
        let presented = exchange.presented.as_deref().unwrap_or(&Presented::Absent);
        let judge = |found| judge(&self.definition.name, presented, found, Key::of_process());
        let Presented::Located(located) = presented else { return judge(Found::Nothing) };
        match (&self.store, answer) {
            (Store::Memory(memory), _) => {
                let found = memory.record(&located.key).map_or(Found::Nothing, |bytes| {
                    json::record(self.reading.wanted(), &bytes).map_or_else(Found::Unreadable, Found::Record)
                });
                judge(self.reading.in_time(found, now()).0)
            }
            (Store::Redis(_), Answer::Near(login)) => match login.downcast::<Known>() {
                Err(_) => judge(Found::Refused("not asked")),
                Ok(known) => {
                    let verdict = judge(Found::Known(known.principal.clone()));
                    exchange.answers.keep_login(known);
                    verdict
                }
            },
            (Store::Redis(remembered), mut answer) => {
                let key = &located.key;
                let following = self.following.as_ref();
                let revoked = following.filter(|following| following.revoked(&mut answer));
                let bound = following.map_or(Bound::Unknown, |following| following.bound(&mut answer));
                let mut told = redis::told(&self.reading, answer, now());
                if let Some(following) = revoked {
                    told.found = told.found.revoked();
                    if let Found::Revoked(Some(_)) = &told.found {
                        following.revoke_again(key);
                    }
                }
                let believed = self.believe(remembered, key, &mut told);
                let (life, most) = (told.life, told.most);
                let verdict = judge(told.found);
                match &verdict {
                    Verdict::Valid(principal) => {
                        if let Some(life) = life {
                            let (reading, asked) = (self.reading.clone(), exchange.trail.borrow().started);
                            let principal = principal.clone();
                            let known = Known { reading, principal, asked, life, most, bound, era: 0 };
                            self.remember(remembered, key, &known, exchange);
                            if self.following.is_some() {
                                exchange.answers.keep_login(Arc::new(known));
                            }
                        }
                    }
                    Verdict::Anonymous
                    | Verdict::Expired
                    | Verdict::Outlived(..)
                    | Verdict::Revoked(_)
                    | Verdict::Rejected(_) => remembered.forget(key.as_bytes()),
                    Verdict::Believed(_) => believed.into_iter().for_each(|known| exchange.answers.keep_login(known)),
                    Verdict::Elsewhere(..) | Verdict::Absent | Verdict::Unknown(_) => {}
                }
                verdict
            }
        }
    }

    /// While Redis is away: who was logged in a short while ago, if the configuration says so.
    fn believe(&self, remembered: &Remembered, key: &str, told: &mut Told) -> Option<Arc<Known>> {
        let (Found::Unavailable(_), Some(grace)) = (&told.found, self.definition.on_outage.grace()) else {
            return None;
        };
        let known = remembered.believed(key.as_bytes(), &self.reading, grace)?;
        told.found = Found::Believed(known.principal.clone());
        Some(known)
    }

    fn remember(&self, remembered: &Remembered, key: &str, known: &Known, exchange: &Exchange) {
        if self.definition.on_outage.grace().is_some() {
            remembered.keep_for_grace(key.as_bytes(), known.clone());
        }
        if let Some(note) = exchange.answers.note(Slot::Session)
            && self.following.as_ref().is_none_or(|following| following.is_settled(&known.bound))
            && !remembered.keep_near(key.as_bytes(), note, known.clone())
        {
            self.near_counts.raced();
        }
    }

    fn record(&self, verdict: &Verdict, exchange: &Exchange) {
        self.verdicts[verdict.index()].inc();
        if let Some(following) = &self.following {
            following.record(verdict, exchange);
        }
        let mut trail = exchange.trail.borrow_mut();
        trail.session = Some(verdict.label());
        trail.session_reason = verdict.reason();
        if let Some(principal) = verdict.principal() {
            trail.user = Some(principal.user.clone());
            trail.session_digest = Some(principal.session_digest.clone());
        }
        match (verdict, exchange.presented.as_deref()) {
            (Verdict::Anonymous | Verdict::Expired | Verdict::Revoked(None), Some(Presented::Located(located))) => {
                trail.session_digest = Some(Key::of_process().digest(&located.identifier).into());
            }
            (Verdict::Rejected(_) | Verdict::Elsewhere(..), _) => {
                verdict.reason().into_iter().for_each(|reason| self.seldom.rejected(reason));
            }
            _ => {}
        }
        if matches!(verdict, Verdict::Believed(_)) {
            self.believed.inc();
        }
    }

    /// What becomes of a request that was judged so.
    pub(super) fn admit(&self, exchange: &Exchange, verdict: Verdict) -> Admission {
        let instead = |reply| login::instead(&self.definition, &exchange.request, reply);
        match admit(&self.on_route, verdict) {
            Admission::Pass { principal, would } => Admission::Pass { principal, would: would.map(instead) },
            Admission::Refuse(reply) => Admission::Refuse(instead(reply)),
        }
    }

    /// Makes the request one of `principal`, as the app is to see it: also where Redis was not to be asked.
    pub(super) fn pass_on(&self, exchange: &mut Exchange, principal: Option<Arc<Principal>>) {
        self.strip_credential(exchange);
        if let Some(principal) = principal {
            identity::forward(&self.definition, &principal, exchange.request.headers_mut());
            exchange.principal = Some(principal);
        }
    }

    /// What names a session that was revoked goes no further: an app that knows no such session may begin a new one under its name.
    fn take_credential(&self, exchange: &mut Exchange) {
        take_out(&self.definition.carriers, exchange.request.headers_mut());
        self.strip_query(exchange);
        // What is stored was asked for as the request came.
        exchange.answers.ask_for_stored_again();
    }

    /// A credential in the query goes no further, if the configuration says so.
    fn strip_credential(&self, exchange: &mut Exchange) {
        if !self.definition.keep_query {
            self.strip_query(exchange);
        }
    }

    fn strip_query(&self, exchange: &mut Exchange) {
        let uri = exchange.request.uri();
        let Some(left) = uri.query().and_then(|query| without_credentials(&self.definition.carriers, query)) else {
            return;
        };
        let target = if left.is_empty() { uri.path().to_owned() } else { [uri.path(), "?", &left].concat() };
        // Part of a target is one.
        if let Ok(target) = PathAndQuery::try_from(target) {
            *exchange.request.uri_mut() = target.into();
        }
    }

    /// Asks for the record, and counts in `counts` whether Redis had to be asked.
    pub(super) fn inquire(&self, exchange: &mut Exchange, pipeline: &mut Pipeline, counts: Option<&Counts>) -> usize {
        if self.lets_through(exchange) {
            return 0;
        }
        self.look(exchange);
        // Who asks after it, the cache above all, sees the target that goes on: what is stored is looked for under its key.
        self.strip_credential(exchange);
        let Store::Redis(remembered) = &self.store else { return 0 };
        let Some(Presented::Located(located)) = exchange.presented.as_deref() else { return 0 };
        let key = &located.key;
        let mut note = None;
        if self.near {
            if let Some(login) = remembered.login(key.as_bytes(), &self.reading) {
                counts.inspect(|counts| counts.hit());
                exchange.answers.put(Slot::Session, Answer::Near(login));
                return 0;
            }
            note = remembered.note(key.as_bytes());
            if note.is_some() {
                counts.inspect(|counts| counts.missed());
            }
            exchange.answers.set_note(Slot::Session, note);
        }
        let following = self.following.as_ref();
        let with_life = note.is_some() || self.definition.on_outage.grace().is_some() || following.is_some();
        let asked = redis::ask(&self.reading, key.as_bytes(), with_life, pipeline);
        asked + following.map_or(0, |following| following.ask(key, pipeline))
    }
}

impl Ask for Session {
    fn slot(&self) -> Slot {
        Slot::Session
    }

    fn ask(&self, exchange: &mut Exchange, pipeline: &mut Pipeline) -> usize {
        self.inquire(exchange, pipeline, Some(&self.near_counts))
    }
}

/// Lets those pass whom the room's rules let pass, and tells the app who they are.
pub fn layer<S: Next>(session: Rc<Session>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |mut exchange: Box<Exchange>, next: S| {
        if session.lets_through(&exchange) {
            session.strip_credential(&mut exchange);
            let answer = pass(next, exchange);
            return match session.on_route.mode {
                Mode::Required => Either::itself(async move { preflight::without_content(answer.await) }),
                Mode::Optional | Mode::Observe => Either::passed(answer),
            };
        }
        let verdict = session.judge(&mut exchange);
        session.record(&verdict, &exchange);
        exchange.answers.keep_session_stands(verdict.stands());
        match session.admit(&exchange, verdict) {
            Admission::Pass { principal, would } => {
                if let Some(would) = would {
                    session.seldom.would_refuse(would.status());
                    exchange.trail.borrow_mut().session_would = Some(would.status());
                }
                session.pass_on(&mut exchange, principal);
                Either::passed(pass(next, exchange))
            }
            Admission::Refuse(reply) => Either::answered(exchange.refuse(&reply)),
        }
    })
}
