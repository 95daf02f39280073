//! Sessions for apps that have none: the app says who has logged in, sidegate does the rest.
//!
//! 1. The app orders by fields of its answer: `X-Session-Create: {json}`, `X-Session-Destroy`, `X-Session-Extend: 8h` (`order`).
//!    `upstream` takes them out of every answer, on every route, with trailers and interim answers; they count on routes whose
//!    session has `issue`, and nowhere else. What a client sends under these names is removed where sessions are issued.
//! 2. A new session has an identifier of 256 bits from the operating system. What a client presents is never adopted, whether
//!    there is a record under it or not: nobody can have another log in to a session that he knows (fixation).
//! 3. The record is written, and acknowledged, before the client is given the cookie. Then the session that the request came
//!    with is ended: at a login, and at each change of privilege, the identifier changes.
//! 4. Whatever of that cannot be done is answered by 503 with `Retry-After`, and the app's content is dropped: no login that
//!    is none, no logout that is none. The client's cookie stays as it was, and with it the session it had. What was
//!    written for nobody is taken back.
//! 5. A session that is destroyed is gone, and known to be gone in this process, before the client is told; only then is its
//!    cookie cleared.
//!    An order is about the session that the request was judged to have. What is no record of such a session, is not there, or is
//!    another device's, is nobody's to end or extend, and no cookie is sent for it.
//! 6. An order that can be read in two ways, or in none, is the app's bug: 502, and nothing is done (`order`, `record`). A record
//!    that names nobody under `user` is a visitor's: made, and said in the log once.
//! 7. The answer that carries out an order is for this client alone: `Cache-Control: no-store`, and no cookie of the app's own of
//!    the same name. Nothing that carries an order is stored by us. What is done behind an answer (a refresh of what is
//!    stored) has no client, and its orders are for nobody.
//! 8. Two cookies of the session's name say nothing about who it is; all sessions that they name are ended with it, and none is
//!    extended.
//! 9. Who comes from another device than the session stays with (`bind`) names no session by its cookie: a thief ends and extends
//!    nothing, and logs nobody out. Of several sessions that a client names, the device of each is asked for.
//! 10. A login whose session was ended while the app answered (by a logout, an operator, its time) is not replaced by a new one: the
//!     new record is taken back, and the answer is that to any session that is over. A visitor's is.
//! 11. A client that leaves loses no order: its request goes on without it (`unattended`), if it was judged to have a session, as a
//!     login or a visitor. Made-up cookies, several, and what could not be asked about keep nothing going. Then a session is
//!     ended or extended as ever, and none is made: nobody would have its cookie, and the session that the client has stays. Nor does
//!     a record stay whose client leaves while it is written.
//! 12. A new session is noted as its user's (`index`), so that it can be listed and revoked before it is used: before what it replaces
//!     is ended, which is known no longer then.
//!
//! # Why
//! It stands inside of the session's own layer: it is that which finds out which session the client has, and whoever it refuses
//! has no answer of the app.
//!
//! Rule 11: a login of which the client never hears is as one that could not be made (rule 4). To end its session all the same would log
//! out who has only turned a page too early. Who names no session has none to lose: such a request ends with its client.

pub mod cookie;
pub mod identifier;
pub mod order;
pub mod record;
pub mod records;
pub mod unattended;

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, EXPIRES, SET_COOKIE, USER_AGENT};
use http::{HeaderName, HeaderValue, Method, Request, Response, Version};
use tower::Layer;

use self::order::Order;
use self::records::{Records, Source};
use self::unattended::{Attended, Presence, Unattended, UnderWay};
use super::settings::Issue;
use super::{Definition, Format, Store};
use crate::body::Body;
use crate::clock::Clock;
use crate::exchange::{self, Connection, Exchange, Located, Next, Orders, Presented, Principal, Stands, pass};
use crate::local_reply::LocalReply;
use crate::rate_limit::partition::cookies;
use crate::redis_pool::Link;
use crate::telemetry::Trail;
use crate::telemetry::registry::{Counter, Registry};

/// Sessions that are ended at once where a client names several.
const MOST_NAMED: usize = 8;

/// A shared cache between us and the client goes by this first (RFC 9213 §3.1).
const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

/// What issues the sessions of one definition, on one worker.
pub struct Issuing {
    definition: Arc<Definition>,
    issue: Issue,
    records: Rc<Records>,
    outcomes: [Counter; Outcome::LABELS.len()],
    unattended: Rc<Unattended>,
    /// It has been said that a record names nobody.
    said_of_nobody: Cell<bool>,
}

/// What became of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Created,
    Rotated,
    Destroyed,
    Extended,
    /// There was nothing to do: an error status, or no session to extend.
    Nothing,
    /// The app's fault.
    Malformed,
    /// Ours, or that of Redis.
    Failed,
    /// The session that was to be replaced was over.
    Over,
    /// The client had left, who was to be given a session.
    Left,
}

impl Outcome {
    const LABELS: [&str; 9] =
        ["created", "rotated", "destroyed", "extended", "nothing", "malformed", "failed", "over", "left"];
}

/// Why an order was not carried out.
enum Trouble {
    /// It makes no sense; says why.
    App(&'static str),
    /// It could not be done; says why.
    Store(&'static str),
    /// The login that the request came with has ended meanwhile.
    Over,
}

/// What is known of a request whose answer may carry an order. Few do: of those that do not nothing is copied for it.
struct Asked {
    /// The session that it came with, as the session's own layer found it.
    presented: Option<Rc<Presented>>,
    /// What it came with where that is not one session.
    several: Vec<Located>,
    /// Somebody has looked whether it is one.
    judged: bool,
    /// It is one, and the client's own.
    stands: bool,
    /// Whose login that session is, if it is one.
    login: Option<Arc<Principal>>,
    /// The cookie names it.
    by_cookie: bool,
    /// What an answer of ours goes by.
    method: Method,
    version: Version,
    accept: Option<HeaderValue>,
    content_type: Option<HeaderValue>,
    connection: Rc<Connection>,
    trail: Trail,
    source: Source,
    presence: Presence,
}

impl Asked {
    /// The session that it came with; several only where it contradicts itself.
    fn named(&self) -> &[Located] {
        match self.presented.as_deref() {
            Some(Presented::Located(located)) => std::slice::from_ref(located),
            _ => &self.several,
        }
    }

    /// Whose session it came with, where that is known.
    fn user(&self) -> Option<&str> {
        self.login.as_ref().map(|login| &*login.user)
    }

    /// As far as an answer of ours goes by it.
    fn head(&self) -> Request<Body> {
        let mut head = Request::new(Body::empty());
        head.method_mut().clone_from(&self.method);
        *head.version_mut() = self.version;
        for (name, value) in [(ACCEPT, &self.accept), (CONTENT_TYPE, &self.content_type)] {
            if let Some(value) = value {
                head.headers_mut().insert(name, value.clone());
            }
        }
        head
    }
}

impl Issuing {
    /// What issues the sessions of `definition` in `store`, over `link` if that is Redis, with the prefix of our
    /// keys; `None`: nobody does. Requests that may carry an order are counted in `under_way`.
    ///
    /// # Errors
    /// They cannot be read, or their cookie cannot be written; says why.
    pub fn new(
        definition: &Arc<Definition>,
        store: Store,
        (link, prefix): (Option<Link>, &str),
        clock: Clock,
        under_way: Rc<UnderWay>,
        (registry, worker): (&Registry, usize),
    ) -> Result<Option<Rc<Self>>, String> {
        let Some(issue) = definition.issue.clone() else { return Ok(None) };
        if cookie::cleared(&issue).is_none() {
            return Err(format!("session `{}`: its cookie cannot be written", definition.name));
        }
        let outcomes = Outcome::LABELS.map(|outcome| {
            let help = "Orders of apps about sessions that sidegate issues, by what became of them.";
            let labels = [("session", &*definition.name), ("outcome", outcome)];
            registry.counter(worker, "sidegate_session_orders_total", help, &labels)
        });
        let records = Records::new(definition.clone(), store, link, prefix, clock)?;
        Ok(Some(Rc::new(Self {
            definition: definition.clone(),
            issue,
            records,
            outcomes,
            unattended: Unattended::new(under_way, &definition.name, registry, worker),
            said_of_nobody: Cell::new(false),
        })))
    }

    fn asked(&self, exchange: &Exchange) -> Asked {
        let fields = exchange.request.headers();
        let own = || cookies(fields, &self.issue.cookie);
        let several = match exchange.presented.as_deref() {
            Some(Presented::Located(_) | Presented::Absent) => Vec::new(),
            // It contradicts itself, or the session's own layer let it pass unread.
            Some(Presented::Rejected(_)) | None => {
                own().filter_map(|text| self.records.locate(text)).take(MOST_NAMED).collect()
            }
        };
        // Who comes from where matters to these alone.
        let agent =
            (self.definition.binding.is_some() || self.definition.index.is_some()).then(|| fields.get(USER_AGENT));
        // Rule 9.
        let stands = exchange.answers.session_stands();
        let mut asked = Asked {
            presented: exchange.presented.clone().filter(|_| stands != Stands::No),
            several,
            judged: !matches!(exchange.presented.as_deref(), Some(Presented::Rejected(_)) | None),
            stands: stands == Stands::Yes,
            login: exchange.principal.clone(),
            by_cookie: false,
            method: exchange.request.method().clone(),
            version: exchange.request.version(),
            accept: fields.get(ACCEPT).cloned(),
            content_type: fields.get(CONTENT_TYPE).cloned(),
            connection: exchange.connection.clone(),
            trail: exchange.trail.clone(),
            source: Source { address: exchange.client.address, agent: agent.flatten().cloned() },
            presence: Presence::default(),
        };
        asked.by_cookie =
            asked.named().first().is_some_and(|first| own().any(|text| text == first.identifier.as_bytes()));
        asked
    }

    async fn carry_out(&self, orders: Orders, asked: &Asked, mut response: Response<Body>) -> Response<Body> {
        let done = match order::read(&orders, response.status()) {
            Err(fault) => Err(Trouble::App(fault)),
            Ok(Order::Nothing) => Ok((Outcome::Nothing, None)),
            Ok(Order::Create(line, life)) => self.create(&line, life, asked).await,
            Ok(Order::Destroy) => self.destroy(asked).await,
            Ok(Order::Extend(life)) => self.extend(life, asked).await,
        };
        match done {
            Ok((outcome, cookie)) => {
                self.count(outcome);
                if outcome != Outcome::Nothing {
                    self.mark(&mut response, cookie);
                }
                response
            }
            Err(trouble) => self.refuse(trouble, asked),
        }
    }

    /// Rules 2, 3, 11 and 12.
    async fn create(&self, line: &HeaderValue, life: Option<Duration>, asked: &Asked) -> Done {
        let as_hash = self.definition.format == Format::Hash;
        let made = record::made(line.as_bytes(), as_hash, self.records.now()).map_err(Trouble::App)?;
        let user = self.records.user(&made);
        if user.is_none() && !self.said_of_nobody.get() {
            self.said_of_nobody.set(true);
            let (session, under) = (&*self.definition.name, self.definition.user.join(", "));
            tracing::warn!(session, under, "X-Session-Create names nobody: its session is a visitor's, and no login");
        }
        let most = self.definition.lifetime.as_ref().map_or(order::LONGEST, |lifetime| lifetime.most);
        let life = life.unwrap_or(self.issue.ttl).min(most);
        let identifier = identifier::new().ok_or(Trouble::Store("no randomness"))?;
        let cookie = cookie::given(&self.issue, &identifier, life).ok_or(Trouble::Store("no cookie"))?;
        let located = Located::behind(&self.definition.prefix, &identifier);
        if asked.presence.is_over() {
            return Ok((Outcome::Left, None));
        }
        let seen = user.and_then(|user| self.records.seen(&located, user, &asked.source));
        let untold = self.records.untold(&located.key, seen.as_ref());
        self.records.write(&located.key, made, life, seen.as_ref()).await.map_err(Trouble::Store)?;
        let outcome = if asked.presence.is_over() { Outcome::Left } else { self.replace(asked).await? };
        if asked.presence.is_over() {
            return Ok((Outcome::Left, None));
        }
        untold.is_told();
        Ok((outcome, Some(cookie)))
    }

    /// Ends what a new session stands in the place of (rule 10).
    async fn replace(&self, asked: &Asked) -> Result<Outcome, Trouble> {
        let named = self.named(asked).await?;
        let ended = self.records.end(&named, asked.user()).await.map_err(Trouble::Store)?;
        match named.len() {
            0 => Ok(Outcome::Created),
            all if asked.login.is_some() && ended < all => Err(Trouble::Over),
            _ => Ok(Outcome::Rotated),
        }
    }

    /// The sessions that an order is about (rule 5).
    async fn named<'a>(&self, asked: &'a Asked) -> Result<Cow<'a, [Located]>, Trouble> {
        if asked.judged {
            return Ok(Cow::Borrowed(asked.named()));
        }
        self.records.standing(asked.named(), &asked.source).await.map(Cow::Owned).map_err(Trouble::Store)
    }

    /// Rule 5.
    async fn destroy(&self, asked: &Asked) -> Done {
        self.records.end(&self.named(asked).await?, asked.user()).await.map_err(Trouble::Store)?;
        Ok((Outcome::Destroyed, cookie::cleared(&self.issue)))
    }

    /// The client's session ends later, or sooner; a persistent cookie with it.
    async fn extend(&self, life: Duration, asked: &Asked) -> Done {
        let ([located], true) = (asked.named(), asked.judged) else { return Ok((Outcome::Nothing, None)) };
        let Some(life) = self.records.extend(located, life).await.map_err(Trouble::Store)? else {
            return Ok((Outcome::Nothing, None));
        };
        let kept = (self.issue.persistent && asked.by_cookie).then_some(&located.identifier);
        Ok((Outcome::Extended, kept.and_then(|identifier| cookie::given(&self.issue, identifier, life))))
    }

    /// Rule 7.
    fn mark(&self, response: &mut Response<Body>, cookie: Option<HeaderValue>) {
        let fields = response.headers_mut();
        if cookie::drop_own(fields, &self.issue.cookie) {
            let session = &*self.definition.name;
            tracing::warn!(session, "the app's own cookie of the session's name is dropped: sidegate sets it");
        }
        fields.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        fields.remove(EXPIRES);
        fields.remove(CDN_CACHE_CONTROL);
        if let Some(cookie) = cookie {
            fields.append(SET_COOKIE, cookie);
        }
    }

    /// Rules 4, 6 and 10.
    fn refuse(&self, trouble: Trouble, asked: &Asked) -> Response<Body> {
        // No tunnel was agreed upon, if there was to be one.
        drop(asked.connection.tunnel.borrow_mut().take());
        let (reply, reason) = match trouble {
            Trouble::App(fault) => {
                self.count(Outcome::Malformed);
                let mut record = asked.trail.borrow_mut();
                let session = &*self.definition.name;
                let request_id =
                    record.request_id.as_ref().map(|id| String::from_utf8_lossy(id.as_bytes()).into_owned());
                tracing::warn!(session, request_id, fault, "the app's session order is not carried out");
                record.upstream_error = Some("http_protocol_error");
                (LocalReply::SessionOrderMalformed, fault)
            }
            Trouble::Store(reason) => {
                self.count(Outcome::Failed);
                (LocalReply::SessionStoreDown { retry_after: self.definition.retry_after_seconds() }, reason)
            }
            Trouble::Over => {
                self.count(Outcome::Over);
                (LocalReply::SessionInvalid, "the session ended while the app answered")
            }
        };
        let mut record = asked.trail.borrow_mut();
        (record.local_reply, record.local_reply_reason) = (Some(reply.kind()), Some(reason));
        drop(record);
        reply.respond(&asked.head())
    }

    fn count(&self, outcome: Outcome) {
        self.outcomes[outcome as usize].inc();
    }
}

/// What was done, and the cookie that says so.
type Done = Result<(Outcome, Option<HeaderValue>), Trouble>;

/// Carries out what the app orders about the session of its client.
pub fn layer<S: Next>(issuing: Rc<Issuing>) -> impl Layer<S, Service = impl Next> + Clone {
    exchange::layer(move |exchange: Box<Exchange>, next: S| {
        let (issuing, asked) = (issuing.clone(), issuing.asked(&exchange));
        let (unattended, is_safe) = (issuing.unattended.clone(), asked.method.is_safe());
        let (stands, presence, claim) = (asked.stands, asked.presence.clone(), exchange.answers.claim());
        let answer = pass(next, exchange);
        let obeyed = Box::pin(async move {
            let mut response = answer.await;
            match response.extensions_mut().remove::<Orders>() {
                None => response,
                Some(orders) => Box::pin(issuing.carry_out(orders, &asked, response)).await,
            }
        });
        if stands {
            unattended.attend(obeyed, presence, is_safe, claim)
        } else {
            Attended::no_longer_than_its_client(obeyed)
        }
    })
}
