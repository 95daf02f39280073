//! What is done as sessions pass, where the configuration asks for it: they are prolonged (`touch`), kept to their device
//! (`bind`), and noted as their user's (`index`).
//!
//! 1. Nobody waits for any of it: it is sent behind the request, bounded as all that is sent so (`redis_pool`), and dropped
//!    while Redis is away. What was not done is done with the session's next request.
//! 2. Only a login that Redis vouches for is prolonged, bound or noted; not one that is believed while Redis is away.
//! 3. A session is noted at most once within `index.interval` by each process for each definition that finds a login in it, and
//!    prolonged at most once within `touch_interval` by all processes (`touch`), however many requests it has at a time (`recent`).
//! 4. A session that is bound to nothing yet is bound to the device of the request at hand. Whoever comes first decides
//!    (`SET NX`), and until Redis has told who that was it is asked each time.
//! 5. Where Redis does not tell the device although it tells the record (a missing right, a value that is not ours), the
//!    request passes, and the log says `session_device=unknown`: a trouble of ours is no theft. In a cluster a node that is away with the
//!    device is an outage, as if the record were away.
//! 6. Where there is an index, sessions can be revoked: whether one was is asked in the trip of its record. What is written
//!    under its key afterwards, by a request that was under way, is no login, and is removed again. A request that names it goes on,
//!    where it may, without the credential. Redis that tells the record and not that is an outage.
//! 7. A prolongation that Redis refuses is counted each time and logged once: it needs the right to write the app's keys. No session
//!    is shortened instead (`store::ending`).
//!
//! # Why
//! Rule 6: nobody can tell by a record which request wrote it, and that of a new login may be the old one's to the byte. So a revoked
//! identifier is never a login's again while the mark stands, and the app does not learn it: it knows of no session, and gives whoever
//! logs in another identifier, which no mark is about. Flask-Session, and PHP without `use_strict_mode`, would have taken the old one.
//! Nor does a request that begins after the revocation read what an older one has brought back, to write it once more.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use ::redis::{Pipeline, Value};
use http::header;
use parking_lot::Mutex;

use super::device::{Device, family};
use super::recent::Recent;
use super::settings::Mismatch;
use super::store::ending::prolong;
use super::store::known::{Bound, Known};
use super::store::sightings::{self as keys, SPARE, Sighting};
use super::verdict::Verdict;
use super::{Definition, touch};
use crate::clock::Clock;
use crate::exchange::{Answer, Exchange, Presented, Principal};
use crate::local_reply::LocalReply;
use crate::redis_pool::{Link, text};
use crate::telemetry::registry::{Counter, Registry};

/// How often what a session is bound to is prolonged where there is no index.
const INTERVAL: Duration = Duration::from_secs(60);
/// How long what is kept of a session without an end lives where there is no index.
const ENDLESS: Duration = Duration::from_secs(31 * 24 * 60 * 60);
/// A session that is seen for the first time is bound, or tried to be, at most so often.
const BINDING: Duration = Duration::from_secs(1);

/// What a process has done lately, shared by its workers.
#[derive(Debug, Default)]
pub struct Done {
    touched: Recent,
    /// By the name of each definition in use: of one record each may name another user.
    noted: Mutex<Vec<(Arc<str>, Weak<Recent>)>>,
    bound: Recent,
    /// That Redis refuses to prolong has been logged.
    complained: AtomicBool,
}

impl Done {
    /// Remembers so many sessions from now on, of each kind.
    pub fn rebound(&self, most: usize) {
        for recent in [&self.touched, &self.bound] {
            recent.rebound(most);
        }
        self.noted.lock().iter().filter_map(|(_, noted)| noted.upgrade()).for_each(|noted| noted.rebound(most));
    }

    /// The session with this record is over: one that begins under its key is new.
    pub fn forget(&self, record: &[u8]) {
        for recent in [&self.touched, &self.bound] {
            recent.forget(record);
        }
        self.note_again(record);
    }

    /// The session with this record may be another user's: its next request notes whose.
    pub fn note_again(&self, record: &[u8]) {
        self.noted.lock().iter().filter_map(|(_, noted)| noted.upgrade()).for_each(|noted| noted.forget(record));
    }

    /// What has been noted lately for the definition of this name, on all workers; those that are no longer in use are let go of.
    fn noted(&self, definition: &Arc<str>) -> Arc<Recent> {
        let mut all = self.noted.lock();
        all.retain(|(_, noted)| noted.strong_count() > 0);
        let known = all.iter().find(|(name, _)| name == definition).and_then(|(_, noted)| noted.upgrade());
        known.unwrap_or_else(|| {
            let noted = Arc::new(self.touched.empty());
            all.push((definition.clone(), Arc::downgrade(&noted)));
            noted
        })
    }
}

/// What one definition wants done, on one worker.
pub struct Following {
    definition: Arc<Definition>,
    link: Link,
    prefix: String,
    done: Arc<Done>,
    noted: Arc<Recent>,
    mismatches: Counter,
    touched: Counter,
    untouched: Counter,
}

impl Following {
    /// As `definition` says, on `worker`, under our `prefix`; `None`: it asks for nothing of the kind.
    pub fn new(
        definition: &Arc<Definition>,
        link: Link,
        prefix: &str,
        done: Arc<Done>,
        registry: &Registry,
        worker: usize,
    ) -> Option<Self> {
        let Definition { name, touch, binding, index, .. } = &**definition;
        if touch.is_none() && binding.is_none() && index.is_none() {
            return None;
        }
        let action = match binding.as_ref().map(|binding| binding.mismatch) {
            Some(Mismatch::Refuse) => "refuse",
            Some(Mismatch::Login) => "login",
            Some(Mismatch::Report) | None => "report",
        };
        let session = ("session", &**name);
        let help = "Requests from another device than their session is bound to.";
        let labels = [session, ("action", action)];
        let mismatches = registry.counter(worker, "sidegate_session_device_mismatches_total", help, &labels);
        let touches = |result| {
            let help = "Sessions that were to be prolonged, by what Redis made of it.";
            registry.counter(worker, "sidegate_session_touches_total", help, &[session, ("result", result)])
        };
        Some(Self {
            definition: definition.clone(),
            link,
            prefix: prefix.to_owned(),
            noted: done.noted(name),
            done,
            mismatches,
            touched: touches("prolonged"),
            untouched: touches("failed"),
        })
    }

    /// Adds the questions for the device of the session whose record has this key, and whether it was revoked; says how many
    /// commands that is.
    pub fn ask(&self, record: &str, pipeline: &mut Pipeline) -> usize {
        let (binds, indexes) = (self.definition.binding.is_some(), self.definition.index.is_some());
        if !binds && !indexes {
            return 0;
        }
        let handle = keys::handle(record.as_bytes());
        if binds {
            keys::ask_device(pipeline, &self.prefix, &handle);
        }
        if indexes {
            keys::ask_revoked(pipeline, &self.prefix, &handle);
        }
        usize::from(binds) + usize::from(indexes)
    }

    /// Whether the session was revoked: takes that out of `answer`, where it stands last (rule 6).
    pub fn revoked(&self, answer: &mut Answer) -> bool {
        let Answer::Values(values) = answer else { return false };
        if self.definition.index.is_none() {
            return false;
        }
        match values.pop() {
            Some(Value::Nil) => false,
            Some(value) if text(&value).is_some() => true,
            Some(_) | None => {
                *answer = Answer::Unavailable("error");
                false
            }
        }
    }

    /// There is a record again under the key of a session that was revoked: removes it.
    pub fn revoke_again(&self, record: &str) {
        self.done.forget(record.as_bytes());
        let mut pipeline = Pipeline::with_capacity(1);
        pipeline.cmd("DEL").arg(record);
        self.link.send(pipeline);
    }

    /// Takes the answer for the device out of `answer`: it stands last now.
    pub fn bound(&self, answer: &mut Answer) -> Bound {
        let Answer::Values(values) = answer else { return Bound::Unknown };
        if self.definition.binding.is_none() {
            return Bound::Unknown;
        }
        match values.pop() {
            Some(Value::Nil) => Bound::Nowhere,
            Some(value) => {
                text(&value).and_then(Device::read).map_or(Bound::Unknown, |device| Bound::To(Arc::new(device)))
            }
            None => Bound::Unknown,
        }
    }

    /// Whether a login with this may be remembered near: with a binding, only once it is known what it is bound to.
    pub fn is_settled(&self, bound: &Bound) -> bool {
        self.definition.binding.is_none() || matches!(bound, Bound::To(_))
    }

    /// The verdict, given where the request comes from.
    pub fn at_home(&self, verdict: Verdict, exchange: &Exchange) -> Verdict {
        let (Some(binding), Verdict::Valid(principal) | Verdict::Believed(principal)) =
            (&self.definition.binding, &verdict)
        else {
            return verdict;
        };
        let Some(known) = exchange.answers.login::<Known>() else { return verdict };
        let device = match &known.bound {
            Bound::Nowhere => return verdict,
            Bound::Unknown => {
                exchange.trail.borrow_mut().session_device = Some("unknown");
                return verdict;
            }
            Bound::To(device) => device,
        };
        if device.fits(binding, user_agent(exchange), exchange.client.address) {
            return verdict;
        }
        exchange.trail.borrow_mut().session_device = Some("mismatch");
        match binding.mismatch {
            Mismatch::Report => verdict,
            Mismatch::Refuse => Verdict::Elsewhere(principal.clone(), LocalReply::SessionElsewhere),
            Mismatch::Login => Verdict::Elsewhere(principal.clone(), LocalReply::SessionInvalid),
        }
    }

    /// Counts, and does what is to be done for a login.
    pub fn record(&self, verdict: &Verdict, exchange: &Exchange) {
        if exchange.trail.borrow().session_device == Some("mismatch") {
            self.mismatches.inc();
        }
        let Some(Presented::Located(located)) = exchange.presented.as_deref() else { return };
        if matches!(verdict, Verdict::Expired | Verdict::Anonymous | Verdict::Revoked(_)) {
            // The next login under this key is another session.
            self.noted.forget(located.key.as_bytes());
        }
        let Verdict::Valid(principal) = verdict else { return };
        let Some(known) = exchange.answers.login::<Known>() else { return };
        if !self.link.is_up() {
            return;
        }
        let now = exchange.trail.borrow().started;
        let passed = now.saturating_duration_since(known.asked);
        let most = known.most.map(|most| most.saturating_sub(passed));
        let mut left = known.life.left_after(passed);
        if let Some(wanted) = self.definition.touch.as_ref().and_then(|wish| touch::due(wish, left, most)) {
            self.touch(&located.key, wanted, now);
            left = left.max(Some(wanted));
        }
        let index = self.definition.index.as_ref();
        let endless = index.map_or(ENDLESS, |index| index.ttl);
        let life = left.map_or(endless, |left| left.saturating_add(SPARE));
        if matches!(known.bound, Bound::Nowhere) {
            self.bind(&located.key, exchange, life, now);
        }
        self.note(&located.key, principal, &known, exchange, life, now);
    }

    fn touch(&self, record: &str, ttl: Duration, now: Instant) {
        let Some(wish) = &self.definition.touch else { return };
        if !self.done.touched.is_first(record.as_bytes(), now, wish.interval) {
            return;
        }
        let mut pipeline = Pipeline::with_capacity(1);
        prolong(&mut pipeline, record.as_bytes(), ttl);
        let (link, done, record) = (self.link.clone(), self.done.clone(), record.to_owned());
        let (touched, untouched, name) = (self.touched.clone(), self.untouched.clone(), self.definition.name.clone());
        self.link.behind(record.len() + 96, async move {
            match link.query(&pipeline).await.as_deref() {
                Ok([Value::Int(1)]) => touched.inc(),
                // It has been prolonged meanwhile, has no end, or is gone.
                Ok([Value::Int(_)]) => {}
                Ok([Value::ServerError(error)]) => {
                    untouched.inc();
                    if !done.complained.swap(true, Ordering::Relaxed) {
                        let needs = "touch needs the right to write the app's sessions";
                        tracing::warn!(session = &*name, error = error.code(), "no session is prolonged: {needs}");
                    }
                }
                Ok(_) | Err(_) => {
                    untouched.inc();
                    done.touched.forget(record.as_bytes());
                }
            }
        });
    }

    fn bind(&self, record: &str, exchange: &Exchange, life: Duration, now: Instant) {
        let Some(binding) = &self.definition.binding else { return };
        if !self.done.bound.is_first(record.as_bytes(), now, BINDING) {
            return;
        }
        let device = Device::of(binding, user_agent(exchange), exchange.client.address).to_string();
        let mut pipeline = Pipeline::with_capacity(1);
        keys::bind(&mut pipeline, &self.prefix, &keys::handle(record.as_bytes()), &device, life);
        self.link.send(pipeline);
    }

    fn note(&self, record: &str, who: &Principal, known: &Known, exchange: &Exchange, life: Duration, now: Instant) {
        let (index, is_bound) = (self.definition.index.as_ref(), matches!(known.bound, Bound::To(_)));
        let interval = index.map_or(INTERVAL, |index| index.interval);
        if index.is_none() && !is_bound || !self.noted.is_first(record.as_bytes(), now, interval) {
            return;
        }
        let mut pipeline = Pipeline::with_capacity(3);
        if is_bound {
            keys::keep_bound(&mut pipeline, &self.prefix, &keys::handle(record.as_bytes()), life);
        }
        if let Some(index) = index {
            let now = Clock::System.unix_micros() / 1000;
            let sighting = Sighting {
                user: who.user.clone(),
                session: who.session.to_string(),
                record: record.as_bytes().to_owned(),
                first: now,
                last: now,
                address: exchange.client.address.to_string(),
                agent: family(user_agent(exchange)).into_owned(),
            };
            keys::note(&mut pipeline, &self.prefix, &sighting, life, index.most);
        }
        let (noted, record) = (self.noted.clone(), record.to_owned());
        self.link.send_or(pipeline, move || noted.forget(record.as_bytes()));
    }
}

fn user_agent(exchange: &Exchange) -> &[u8] {
    exchange.request.headers().get(header::USER_AGENT).map_or(b"", |agent| agent.as_bytes())
}
