//! How reads of the same join into one fetch (`coalesce`).
//!
//! 1. Who would ask the app joins, unless its answer is not one to share or to be shared: HEAD, a part, `no-store`, a
//!    client that takes nothing unvalidated, a place without a generation, a policy that says so, and a key whose last answer
//!    could not be shared.
//! 2. The driver asks. With the scope `fleet` it claims the fetch in Redis first; while another instance has it, the store is
//!    looked up again in steps, at most for `fleet_wait`.
//! 3. A waiter is given the answer only if the store could give it that: its fields select it, its credentials may have it, it
//!    is fresh for this client (RFC 9111 §4). If not it goes its own way; where only the selecting fields differ, or what it
//!    waited for was taken back before it was kept, it joins once more those that ask for its own, or anew.
//! 4. A driver whose store has got the response meanwhile asks nobody, and neither do those who wait for it.
//! 5. Where the app failed, what may stand in for it does, for waiters too. Where nothing may, and it was silent, who has
//!    waited for half as long as the driver, or longer, is answered as the driver is; the others ask.
//!
//! # Why
//! Rule 5: who asked an app that is silent after it has waited for another in vain would wait twice as long as without us,
//! and all of them at once would be what it needs least.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ETAG, LAST_MODIFIED, RANGE};
use http::{Method, Response};
use tokio::time::{Instant, sleep};

use super::decide::{Action, Errand, Held, purpose};
use super::outcome::{Status, Together, mark};
use super::{Cache, answer};
use crate::body::Body;
use crate::cache::coalesce::{self, Alone, Asking, FlightKey, Joined, Leave, Reader, Recalled, Told, Waiter};
use crate::cache::rules::conditional::has_conditions;
use crate::cache::rules::reuse::{self, ClientAsks, Use};
use crate::cache::rules::storing::NotStored;
use crate::cache::rules::vary::Digest;
use crate::cache::store::{Claim, Lock, Store};
use crate::cache::stored::StoredResponse;
use crate::cache::{Mode, Scope};
use crate::clock::instant;
use crate::exchange::{Exchange, Next};
use crate::local_reply::LocalReply;

/// What waiters are given at first.
pub(super) type Head = Arc<StoredResponse>;
/// The role of the one who asks.
pub(super) type Driver = coalesce::Driver<Head>;

/// How long the store is left alone between two looks for what another instance fetches, in milliseconds.
const STEPS: std::ops::RangeInclusive<u64> = 10..=50;

/// A request that asks the app for all, if it does.
#[derive(Default)]
pub(super) struct Lead(RefCell<Option<Leading>>);

/// What it has for that.
pub(super) struct Leading {
    pub(super) driver: Driver,
    /// In the fleet.
    pub(super) lock: Option<Lock>,
}

/// What a request that would ask the app does.
pub(super) enum Turn {
    /// It asks.
    Ask,
    /// It asks, unless the store has got the response meanwhile; `landed`: it probably has.
    Lead { landed: bool },
    /// It waits for another's answer.
    Wait(Waiter<Head>),
    /// Another's answer is on its way.
    Stream(Head, Reader<Head>),
}

/// Why another's answer is none to a request.
enum Misfit {
    /// It is a variant for others.
    Variant,
    /// It was not kept: it had been taken back.
    Gone,
    /// It may not be reused for this one.
    Forbidden,
}

impl Lead {
    /// Takes the role, if it is there: what becomes of it is up to the caller.
    pub(super) fn take(&self) -> Option<Leading> {
        self.0.take()
    }

    fn put(&self, driver: Driver) {
        self.0.replace(Some(Leading { driver, lock: None }));
    }

    /// What the fleet knows its fetch by; `None`: the role is not there.
    fn fetched_by(&self) -> Option<Digest> {
        self.0.borrow().as_ref().and_then(|leading| leading.driver.key()).map(|key| key.fetched_by())
    }

    fn hold(&self, lock: Lock) {
        if let Some(leading) = &mut *self.0.borrow_mut() {
            leading.lock = Some(lock);
        }
    }
}

impl Cache {
    /// What a request that would ask the app does. `stored` is what it would ask about.
    pub(super) fn turn(&self, errand: &Errand, stored: &Held, exchange: &Exchange) -> Turn {
        let Some(asking) = self.asking(errand, stored, exchange) else { return Turn::Ask };
        match self.flights.join(asking) {
            Joined::Drive { driver, landed } => self.lead(errand, driver, landed),
            Joined::Wait(waiter) => Turn::Wait(waiter),
            Joined::Stream(head, reader) => Turn::Stream(head, reader),
            Joined::Alone(Alone::Unfit) => Turn::Ask,
            Joined::Alone(Alone::Crowded | Alone::Passing) => {
                self.metrics.together(Together::Alone);
                Turn::Ask
            }
        }
    }

    fn lead(&self, errand: &Errand, driver: Driver, landed: bool) -> Turn {
        errand.lead.put(driver);
        let fleet = errand.policy.coalescing.scope == Scope::Fleet && matches!(self.store, Store::Redis(_));
        if landed || fleet { Turn::Lead { landed } } else { Turn::Ask }
    }

    /// `None`: it is not coalesced (rule 1).
    fn asking(&self, errand: &Errand, stored: &Held, exchange: &Exchange) -> Option<Asking> {
        let (policy, request) = (&errand.policy, &exchange.request);
        let coalescing = &policy.coalescing;
        let fields = request.headers();
        if coalescing.scope == Scope::Off || policy.mode != Mode::On || errand.behind {
            return None;
        }
        if request.method() != Method::GET || fields.contains_key(RANGE) {
            return None;
        }
        let asks = ClientAsks::heard(fields, policy.freshness.client_directives);
        if asks.no_store || asks.no_cache {
            return None;
        }
        let key = errand.flight()?;
        let variant = match self.flights.recollection().recall(&key.remembered_by(), instant()) {
            Recalled::Nothing => None,
            Recalled::Unshareable => return None,
            Recalled::Varies(selecting) => Some(selecting.variant(fields)),
        };
        Some(Asking {
            key: FlightKey { variant, ..key },
            // The app may answer a condition of the client's own with 304, which is for that client alone; ours take its place.
            may_drive: has_validator(stored) || !has_conditions(fields),
            since: exchange.trail.borrow().started,
            max_waiters: coalescing.max_waiters,
        })
    }

    /// A request that does not ask at once, to its end.
    pub(super) async fn in_turn<S: Next>(
        self: Rc<Self>,
        mut turn: Turn,
        mut errand: Errand,
        mut stored: Held,
        mut exchange: Box<Exchange>,
        next: S,
    ) -> Response<Body> {
        let (began, mut joined_again) = (instant(), false);
        loop {
            let misfit = match turn {
                Turn::Ask => break,
                Turn::Lead { landed } => match self.before_asking(&errand, &mut exchange, landed).await {
                    Some(response) => return response,
                    None => break,
                },
                Turn::Stream(head, reader) => match self.shared(&errand, &head, Some(reader), &exchange).await {
                    Ok(response) => return response,
                    Err(misfit) => misfit,
                },
                Turn::Wait(waiter) => match self.told_of(waiter).await {
                    Told::Drive(driver) => {
                        self.metrics.together(Together::TookOver);
                        turn = self.lead(&errand, driver, false);
                        continue;
                    }
                    Told::Stream(head, reader) => match self.shared(&errand, &head, Some(reader), &exchange).await {
                        Ok(response) => return response,
                        Err(misfit) => misfit,
                    },
                    Told::Whole(answer) => match self.shared(&errand, &answer, None, &exchange).await {
                        Ok(response) => return response,
                        Err(misfit) => misfit,
                    },
                    Told::Leave(Leave::Stored) => match self.stored_meanwhile(&mut exchange).await {
                        Ok((_, response)) => return response,
                        Err(Some(asks)) => {
                            (errand, stored) = *asks;
                            Misfit::Gone
                        }
                        Err(None) => Misfit::Forbidden,
                    },
                    Told::Leave(Leave::Failed) => match self.stands_in_too(&errand, &stored, &exchange).await {
                        Some(response) => return response,
                        None => Misfit::Forbidden,
                    },
                    Told::Leave(Leave::Silent { which, after }) => {
                        if let Some(response) = self.stands_in_too(&errand, &stored, &exchange).await {
                            return response;
                        }
                        if began.elapsed() >= after / 2 {
                            return self.in_vain(&errand, &exchange, which);
                        }
                        Misfit::Forbidden
                    }
                    Told::Leave(Leave::Unshareable | Leave::Deserted) => Misfit::Forbidden,
                },
            };
            if matches!(misfit, Misfit::Forbidden) || joined_again {
                self.metrics.together(Together::Parted);
                break;
            }
            joined_again = true;
            turn = self.turn(&errand, &stored, &exchange);
        }
        match stored {
            Held::Nothing => self.fetch(errand, exchange, next).await,
            Held::Others(known) => self.offer(errand, known, exchange, next).await,
            Held::One(stored) => self.validate(errand, stored, exchange, next).await,
            Held::Beginning(stored) => self.complete(errand, stored, exchange, next).await,
        }
    }

    async fn told_of(&self, waiter: Waiter<Head>) -> Told<Head> {
        let _waiting = self.metrics.waiting();
        waiter.told().await
    }

    /// Another's answer, if it is one to this request (rule 3). `reader`: its content is still to come.
    async fn shared(
        &self,
        errand: &Errand,
        answer: &Head,
        reader: Option<Reader<Head>>,
        exchange: &Exchange,
    ) -> Result<Response<Body>, Misfit> {
        let fields = exchange.request.headers();
        if !answer.selects(fields) {
            return Err(Misfit::Variant);
        }
        let asks = ClientAsks::heard(fields, errand.policy.freshness.client_directives).of(&answer.head);
        let now = self.clock.unix_seconds();
        let Use::Fresh { fresh_for } = reuse::judge(&answer.facts, answer.facts.age(now), &asks) else {
            return Err(Misfit::Forbidden);
        };
        if !answer.facts.may_answer(errand.credentials) {
            return Err(Misfit::Forbidden);
        }
        let request = &exchange.request;
        let mut response = match reader {
            Some(reader) => answer::begun(request, answer, now, Body::boxed(reader)).ok_or(Misfit::Forbidden)?,
            None => self.stored_answer(&errand.key, request, answer, now).await.ok_or(Misfit::Forbidden)?,
        };
        self.metrics.together(Together::Shared);
        let outcome = errand.why.outcome();
        self.record(&exchange.trail, errand, outcome, None);
        let status = Status::forwarded(errand.why.forwarded(), Some(answer.status)).ttl(fresh_for).collapsed();
        mark(&mut response, outcome, status.key(self.told(&errand.key)));
        Ok(response)
    }

    /// What the store has got since the request looked it up, as the answer; else what it would ask the app now.
    async fn stored_meanwhile(
        self: &Rc<Self>,
        exchange: &mut Exchange,
    ) -> Result<(Head, Response<Body>), Option<Box<(Errand, Held)>>> {
        match self.decide(exchange, purpose(exchange)).await {
            Action::Reuse { key, stored, tier, now, fresh_for } => {
                let response = self.reuse(&key, exchange, &stored, tier, (now, fresh_for)).await.ok_or(None)?;
                Ok((stored, response))
            }
            Action::Ask { errand, stored } => Err(Some(Box::new((errand, stored)))),
            _ => Err(None),
        }
    }

    /// What is stored, where the driver has found that the app fails.
    async fn stands_in_too(&self, errand: &Errand, stored: &Held, exchange: &Exchange) -> Option<Response<Body>> {
        let failure = self.under_way.failed(&errand.key.digest(), self.clock.unix_micros())?;
        let Held::One(stored) = stored else { return None };
        self.stand_in(errand, stored, exchange, failure).await
    }

    /// 504, as for the driver: the app was silent, and this request has waited for it as well (rule 5).
    fn in_vain(&self, errand: &Errand, exchange: &Exchange, which: &'static str) -> Response<Body> {
        let (outcome, detail) = (errand.why.outcome(), NotStored::LocalReply.as_str());
        let mut response = exchange.refuse(&LocalReply::UpstreamTimeout { which });
        self.metrics.together(Together::Shared);
        self.record(&exchange.trail, errand, outcome, Some(detail));
        let status = Status::forwarded(errand.why.forwarded(), None).collapsed().detail(Some(detail));
        mark(&mut response, outcome, status.key(self.told(&errand.key)));
        response
    }

    /// Rules 2 and 4: the answer, if the app need not be asked. Else the driver's role is there still, or all have parted.
    async fn before_asking(
        self: &Rc<Self>,
        errand: &Errand,
        exchange: &mut Exchange,
        landed: bool,
    ) -> Option<Response<Body>> {
        let mut look = landed;
        if let Store::Redis(store) = &self.store
            && errand.policy.coalescing.scope == Scope::Fleet
            && let Some(of) = errand.lead.fetched_by()
        {
            let wait = errand.policy.coalescing.fleet_wait;
            let deadline = Instant::now() + wait;
            loop {
                match store.claim(&errand.key, of, wait).await {
                    Claim::Ours(lock) => {
                        errand.lead.hold(lock);
                        look = true;
                        break;
                    }
                    Claim::Taken if Instant::now() < deadline => {
                        sleep(Duration::from_millis(fastrand::u64(STEPS))).await;
                        if let Some(response) = self.settled(errand, exchange).await {
                            return Some(response);
                        }
                    }
                    Claim::Unshareable => {
                        self.part(errand, Leave::Unshareable);
                        return None;
                    }
                    Claim::Taken | Claim::Unknown => break,
                }
            }
        }
        if look { self.settled(errand, exchange).await } else { None }
    }

    /// Looks the store up again; if it has got the response, that is the answer for all who wait.
    async fn settled(self: &Rc<Self>, errand: &Errand, exchange: &mut Exchange) -> Option<Response<Body>> {
        let (stored, response) = self.stored_meanwhile(exchange).await.ok()?;
        if let Some(leading) = errand.lead.take() {
            leading.driver.settle(Some(stored));
        }
        Some(response)
    }

    /// The answer is not for those who wait. If it is for nobody else at all that is remembered, here and in the fleet.
    pub(super) fn part(&self, errand: &Errand, why: Leave) {
        let Some(leading) = errand.lead.take() else { return };
        let life = errand.policy.coalescing.hit_for_miss;
        if why == Leave::Unshareable {
            if let Some(key) = leading.driver.key() {
                self.flights.recollection().unshareable(key.remembered_by(), instant(), life);
            }
            if let Some(lock) = leading.lock {
                lock.leave_unshareable(life);
            }
        }
        leading.driver.part(why);
    }
}

impl Errand {
    /// What its flight is known by; `None`: nothing can be stored.
    pub(super) fn flight(&self) -> Option<FlightKey> {
        let (digest, credentials) = (self.key.digest(), self.credentials.is_some());
        Some(FlightKey { digest, generation: self.generation?, variant: None, credentials })
    }
}

fn has_validator(stored: &Held) -> bool {
    match stored {
        Held::One(stored) => stored.head.contains_key(ETAG) || stored.head.contains_key(LAST_MODIFIED),
        Held::Nothing | Held::Others(_) | Held::Beginning(_) => false,
    }
}
