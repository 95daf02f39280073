//! What one worker has told Redis of its requests in flight, and has still to tell.
//!
//! 1. A request that lasts is renewed after a third of its places' life, and again if that was in vain. What Redis has
//!    forgotten meanwhile (it came back empty), or never knew (the request was let in while Redis was away), is told it then;
//!    all of it as soon as Redis is back.
//! 2. A request that has ended is *owed* to Redis until Redis has acknowledged it. Those that end in one turn of the event loop
//!    share a trip, unless another asks before it is over: what is owed goes ahead of what is asked. At most `max_sends` are owed, and none for longer than its places can last: beyond, they end by themselves.
//! 3. What Redis was asked and has not answered (its client left, it took too long) it may do later: over a connection that
//!    was given up, after it has heard of the end over the next. So it is told of that end twice, the second time a while after it
//!    has acknowledged the first.
//! 4. A request that ends while it is being renewed is told of only after the renewal: the other way round it would be back.
//! 5. A process that ends takes back all that is left.
//!
//! # Why
//! One task for each request that lasts, with a timer of its own, would cost every request what few need. A look at all of
//! them four times a second costs nothing while there are none, and 50 µs when there are ten thousand.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use ahash::RandomState;
use redis::{Pipeline, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

use super::Worker;
use super::counts::Counts;
use super::flight::Flight;
use super::script::{self, Spelling};
use crate::redis_pool::Link;

/// Between two looks at what is in flight.
const LOOK: Duration = Duration::from_millis(250);
/// Requests that are renewed, or taken out, in one trip.
const BATCH: usize = 128;
/// So long after it has answered again, Redis has done all that it had read before.
const UNDER_WAY: Duration = Duration::from_secs(1);

/// The register of one worker; ends with the last who holds it.
pub struct Register {
    told: Rc<Told>,
    task: Option<AbortHandle>,
}

/// All but the task.
pub(super) struct Told {
    counts: Arc<Counts>,
    redis: Option<Redis>,
    flights: RefCell<HashMap<u64, Rc<Flight>, RandomState>>,
    owed: RefCell<VecDeque<Rc<Flight>>>,
    /// Of what was owed, what Redis is being told.
    under_way: Cell<usize>,
    /// What is to be told a second time, and when; in that order.
    again: RefCell<VecDeque<(Instant, Rc<Flight>)>>,
    /// What is owed is about to be sent.
    paying: Cell<bool>,
    /// There was nothing to look at.
    idle: Cell<bool>,
    woken: Notify,
}

/// Where places are kept.
struct Redis {
    link: Link,
    prefix: Box<str>,
    apart: bool,
    instance: Box<str>,
    max_owed: usize,
}

impl Register {
    /// The register of `worker`, which counts with the others of its process in `counts`, and may owe Redis `max_owed` releases.
    /// To be called inside a `LocalRuntime`.
    pub fn new(worker: &Worker, counts: Arc<Counts>, max_owed: usize) -> Rc<Self> {
        let redis = worker.link.as_ref().map(|link| Redis {
            link: link.clone(),
            prefix: worker.prefix.clone(),
            apart: worker.apart,
            instance: worker.fleet.id().into(),
            max_owed,
        });
        let told = Rc::new(Told {
            counts,
            redis,
            flights: RefCell::default(),
            owed: RefCell::default(),
            under_way: Cell::new(0),
            again: RefCell::default(),
            paying: Cell::new(false),
            idle: Cell::new(false),
            woken: Notify::new(),
        });
        let task = told.redis.is_some().then(|| tokio::task::spawn_local(told.clone().look()).abort_handle());
        Rc::new(Self { told, task })
    }

    /// The requests in flight in this process.
    pub fn counts(&self) -> &Counts {
        &self.told.counts
    }

    /// What Redis knows a request by, which is also asked by it.
    pub(super) fn who(&self, number: u64) -> String {
        self.told.redis.as_ref().map(|redis| redis.who(number)).unwrap_or_default()
    }

    /// Sends what is owed before whatever is sent next: a client that has had an answer to its end may be asking already.
    pub(super) fn hurry(&self) {
        if self.told.owed.borrow().is_empty() {
            return;
        }
        let mut paying = Box::pin(self.told.clone().pay());
        // The first look hands it to the connection; the others wait for the answer.
        if paying.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending() {
            tokio::task::spawn_local(paying);
        }
    }

    /// A request has places from now on. `is_told`: Redis may know of them.
    pub(super) fn begin(&self, flight: &Rc<Flight>, is_told: bool) {
        if self.told.redis.is_none() {
            return;
        }
        flight.is_told.set(is_told);
        flight.due.set(if is_told { Instant::now() + flight.renewal() } else { Instant::now() });
        self.told.flights.borrow_mut().insert(flight.number, flight.clone());
        self.told.wake();
    }

    /// A request has ended that had places.
    pub(super) fn end(&self, flight: &Rc<Flight>) {
        let known = self.told.flights.borrow_mut().remove(&flight.number).is_some();
        flight.has_ended.set(true);
        if known && !flight.is_renewed.get() && flight.is_told.get() {
            self.told.owe(flight.clone());
        }
    }

    /// A request goes without places, though some may have been taken for it in Redis.
    pub(super) fn let_go(&self, flight: &Rc<Flight>) {
        flight.has_ended.set(true);
        self.told.owe(flight.clone());
    }

    /// A request asks for places no more, of which it is not known whether it has them.
    pub(super) fn give_up(&self, flight: &Rc<Flight>) {
        flight.is_doubtful.set(true);
        self.let_go(flight);
    }

    /// Takes back all that is left, as far as Redis can be told.
    pub async fn leave(&self) {
        let Some(redis) = &self.told.redis else { return };
        // From now on nobody else tells it.
        self.told.paying.set(true);
        let mut left: Vec<_> = self.told.flights.take().into_values().collect();
        left.extend(self.told.owed.take());
        left.extend(self.told.again.take().into_iter().map(|(_, flight)| flight));
        for batch in left.chunks(BATCH) {
            if redis.link.query(&redis.releasing(batch)).await.is_err() {
                // They end by themselves.
                return;
            }
        }
    }
}

impl Drop for Register {
    fn drop(&mut self) {
        self.task.take().inspect(AbortHandle::abort);
    }
}

impl Told {
    fn wake(&self) {
        if self.idle.replace(false) {
            self.woken.notify_one();
        }
    }

    fn owe(self: &Rc<Self>, flight: Rc<Flight>) {
        let Some(redis) = &self.redis else { return };
        let mut owed = self.owed.borrow_mut();
        if owed.len() + self.under_way.get() < redis.max_owed {
            owed.push_back(flight);
            self.pay_soon();
        }
    }

    fn owe_again(&self, flight: &Rc<Flight>) {
        let Some(redis) = &self.redis else { return };
        let mut again = self.again.borrow_mut();
        if again.len() < redis.max_owed {
            again.push_back((Instant::now() + UNDER_WAY, flight.clone()));
            self.wake();
        }
    }

    /// Sends what is owed, together with what comes to be owed in this turn of the event loop.
    fn pay_soon(self: &Rc<Self>) {
        if !self.paying.replace(true) {
            let told = self.clone();
            tokio::task::spawn_local(async move {
                told.paying.set(false);
                told.pay().await;
            });
        }
    }

    /// Tells Redis what it is owed. Others may do so at the same time, of other requests.
    async fn pay(self: Rc<Self>) {
        let Some(redis) = &self.redis else { return };
        while redis.link.is_up() {
            let now = Instant::now();
            let batch: Vec<_> = {
                let mut owed = self.owed.borrow_mut();
                let end = owed.len().min(BATCH);
                owed.drain(..end).filter(|flight| flight.due.get() + flight.longest() > now).collect()
            };
            if batch.is_empty() {
                return;
            }
            self.under_way.set(self.under_way.get() + batch.len());
            let answer = redis.link.query(&redis.releasing(&batch)).await;
            self.under_way.set(self.under_way.get() - batch.len());
            let unanswered = match answer {
                Ok(values) => values.iter().any(|value| crate::redis_pool::why_unanswered(value).is_some()),
                Err(_) => true,
            };
            if !unanswered {
                batch
                    .iter()
                    .filter(|flight| flight.is_doubtful.replace(false))
                    .for_each(|flight| self.owe_again(flight));
            }
            if unanswered {
                // There is room: it was counted while it was under way.
                self.owed.borrow_mut().extend(batch);
                return self.wake();
            }
        }
        self.wake();
    }

    /// Looks after what lasts, and what could not be told at once.
    async fn look(self: Rc<Self>) {
        let Some(redis) = &self.redis else { return };
        let mut up = redis.link.subscribe();
        loop {
            let nothing =
                self.flights.borrow().is_empty() && self.owed.borrow().is_empty() && self.again.borrow().is_empty();
            if nothing {
                self.idle.set(true);
                self.woken.notified().await;
                // What Redis went through before anybody was in flight concerns nobody.
                up.mark_unchanged();
            }
            if let Ok(Ok(())) = timeout(LOOK, up.changed()).await
                && *up.borrow_and_update()
            {
                // It may have come back empty.
                let now = Instant::now();
                self.flights.borrow().values().for_each(|flight| flight.due.set(now));
            }
            if redis.link.is_up() {
                self.renew(redis).await;
                self.repeat();
                if !self.owed.borrow().is_empty() {
                    self.pay_soon();
                }
            }
        }
    }

    /// Rule 1.
    async fn renew(self: &Rc<Self>, redis: &Redis) {
        let now = Instant::now();
        let is_due = |flight: &&Rc<Flight>| flight.due.get() <= now;
        let due: Vec<_> = self.flights.borrow().values().filter(is_due).cloned().collect();
        for batch in due.chunks(BATCH) {
            let batch: Vec<_> = batch.iter().filter(|flight| !flight.has_ended.get()).collect();
            let mut pipeline = Pipeline::with_capacity(batch.len());
            let mut commands = Vec::with_capacity(batch.len());
            for flight in &batch {
                flight.is_renewed.set(true);
                flight.due.set(now);
                // From here on Redis may know of it, whatever it answers.
                flight.is_told.set(true);
                let held: Vec<_> = flight.held().collect();
                let who = redis.who(flight.number);
                commands.push(script::renew(&mut pipeline, redis.spelling(), &who, &held, None));
            }
            let answer = redis.link.query(&pipeline).await.unwrap_or_default();
            let mut answers = answer.iter();
            for (flight, count) in batch.into_iter().zip(commands) {
                let said = answers.by_ref().take(count).filter(|value| matches!(value, Value::Int(_))).count();
                if said == count {
                    flight.due.set(Instant::now() + flight.renewal());
                } else {
                    flight.is_doubtful.set(true);
                }
                flight.is_renewed.set(false);
                if flight.has_ended.get() {
                    self.owe(flight.clone());
                }
            }
        }
    }

    /// Rule 3.
    fn repeat(self: &Rc<Self>) {
        let now = Instant::now();
        loop {
            let next = self.again.borrow_mut().pop_front_if(|(when, _)| *when <= now);
            let Some((_, flight)) = next else { return };
            self.owe(flight);
        }
    }
}

impl Redis {
    fn who(&self, number: u64) -> String {
        let mut who = String::with_capacity(self.instance.len() + 21);
        who.push_str(&self.instance);
        who.push(':');
        who.push_str(itoa::Buffer::new().format(number));
        who
    }

    fn spelling(&self) -> Spelling<'_> {
        Spelling { prefix: &self.prefix, apart: self.apart }
    }

    fn releasing(&self, batch: &[Rc<Flight>]) -> Pipeline {
        let mut pipeline = Pipeline::with_capacity(batch.len());
        for flight in batch {
            script::release(&mut pipeline, self.spelling(), &self.who(flight.number), flight.keys());
        }
        pipeline
    }
}
