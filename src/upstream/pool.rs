//! A worker's connections to one app.
//!
//! 1. `balance` says which endpoint a request goes to. One that refused a connection is asked last for a second, one that
//!    has failed this very request only if no other is left. A half-open breaker's one request goes before all that.
//! 2. The connection given back last is used first, so that a quiet app keeps few.
//! 3. At a bound (of the upstream, of the endpoint) requests wait, a bounded number for a bounded time; a connection that
//!    is given back, or whose end makes room, wakes the first of them. Nobody who comes later passes those who wait;
//!    room that nobody gave back (an endpoint is new, or used again) is noticed within half a second. At the upstream's
//!    bound an idle connection to any endpoint in use will do: better than to wait beside it.
//! 4. A connection that has been idle for `keep_alive` is closed before the app would. `warm_connections` are opened
//!    ahead, and again when they were closed.
//! 5. A connection that cannot be opened is a retry like any other: at another endpoint, within `retries`.
//! 6. A connection that speaks HTTP/2 is in nobody's hands: a lease is a place on it (`shared`).
//! 7. An endpoint that is gone finishes what it has, and keeps no connection.
//!
//! # Why
//! hyper-util's client takes a lock and boxes at each request (+10 % of a proxied request, measured). One thread needs
//! no lock; a `Vec` for each endpoint and a queue are the whole pool.

mod care;
mod choice;
mod lease;
mod shared;
#[cfg(test)]
mod tests;

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use self::choice::Place;
pub use self::lease::Lease;
use self::shared::Opening;
use super::Settings;
use super::balance::Balance;
use super::connect::{Connector, Failure};
use super::endpoint::Endpoint;
use super::http1::{Bounds, Connection};
use super::http2;
use super::queue::Queue;
use super::retry::Reason;
use super::roster::Roster;
use super::sender::Sender;
use super::tries::Tries;
use super::watchdog::Watchdog;
use crate::telemetry::registry::{Counter, Gauge, Registry};

/// For how many ticks an endpoint that refused a connection is asked last: a second.
const SHUNNED: u64 = 50;

/// A worker's connections to one app.
pub struct Pool {
    roster: Arc<Roster>,
    /// Of the list below; another one at the roster means that it is out of date.
    generation: Cell<u64>,
    endpoints: RefCell<Vec<Rc<Local>>>,
    balance: Balance,
    connector: Connector,
    /// Connections that are in use, idle, or being opened.
    open: Cell<usize>,
    most: usize,
    most_each: usize,
    warm: usize,
    queue: Rc<Queue>,
    queue_timeout: Duration,
    connect_timeout: Duration,
    http2: http2::Settings,
    answers: Bounds,
    keep_alive: Duration,
    watchdog: Rc<Watchdog>,
    metrics: Metrics,
}

/// An endpoint as this worker knows it.
pub struct Local {
    endpoint: Arc<Endpoint>,
    /// Its name, counted by this worker alone.
    label: Arc<str>,
    idle: RefCell<Vec<Idle>>,
    /// Connections that carry several requests.
    shared: RefCell<Vec<Rc<http2::Connection>>>,
    /// The next connection is expected to be one of those.
    multiplexes: Cell<bool>,
    /// Connections that are being opened.
    opening: Cell<usize>,
    /// Connections that are in use, idle, or being opened.
    open: Cell<usize>,
    /// It refused a connection: until this tick of the watchdog the others are asked first.
    shunned: Cell<u64>,
    /// See [`super::balance::round_robin`].
    credit: Cell<i64>,
    /// Its address is gone.
    gone: Cell<bool>,
}

struct Idle {
    sender: Sender,
    /// When it was given back, in ticks of the watchdog.
    since: u64,
}

struct Metrics {
    opened: Counter,
    open: Gauge,
    waited: Counter,
}

/// Why there is no connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoConnection {
    /// All are in use, and too many requests wait, or this one waited too long.
    Busy,
    /// It could not be opened.
    Failed(Failure),
    /// Every endpoint is left out.
    Out {
        /// Seconds until one may be tried again.
        retry_after: u64,
    },
}

impl Pool {
    /// An empty pool for one of `workers` workers.
    pub fn new(
        settings: &Settings,
        roster: Arc<Roster>,
        connector: Connector,
        watchdog: Rc<Watchdog>,
        registry: &Registry,
        (worker, workers): (usize, usize),
    ) -> Rc<Self> {
        let labels = [("upstream", &*settings.name)];
        let workers = workers.max(1);
        // A connection that says whose it is cannot be opened before its client has come.
        let warm = if connector.tells_client() { 0 } else { settings.warm_connections };
        let pool = Rc::new(Self {
            generation: Cell::new(0),
            endpoints: RefCell::default(),
            balance: settings.balance.clone(),
            connector,
            open: Cell::new(0),
            most: settings.max_connections.div_ceil(workers).max(1),
            most_each: settings.max_connections_per_endpoint.div_ceil(workers).max(1),
            warm: warm / workers + usize::from(worker < warm % workers),
            queue: Queue::new(settings.max_pending.div_ceil(workers)),
            queue_timeout: settings.queue_timeout,
            connect_timeout: settings.timeouts.connect,
            http2: settings.http2,
            answers: settings.answers.head,
            keep_alive: settings.timeouts.keep_alive,
            watchdog,
            metrics: Metrics {
                opened: registry.counter(
                    worker,
                    "sidegate_upstream_connections_opened_total",
                    "Connections opened to the app.",
                    &labels,
                ),
                open: registry.gauge(
                    worker,
                    "sidegate_upstream_connections",
                    "Connections to the app, in use or idle.",
                    &labels,
                ),
                waited: registry.counter(
                    worker,
                    "sidegate_upstream_waits_total",
                    "Requests that waited for a connection.",
                    &labels,
                ),
            },
            roster,
        });
        pool.refresh();
        // Workers begin at different endpoints.
        if let Some(first) = pool.endpoints.borrow().iter().cycle().nth(worker) {
            first.credit.set(1);
        }
        tokio::task::spawn_local(care::sweep(Rc::downgrade(&pool)));
        if pool.warm > 0 {
            tokio::task::spawn_local(care::keep_warm(Rc::downgrade(&pool)));
        }
        pool
    }

    /// Whether connections are told whose they are: then a lease is for a client.
    pub fn tells_client(&self) -> bool {
        self.connector.tells_client()
    }

    /// A connection to the endpoint whose turn it is: idle, new (then for `client`), or the next one that is given back.
    ///
    /// # Errors
    /// [`NoConnection`], after at most `queue_timeout` and one `connect` for each try.
    pub async fn lease(self: &Rc<Self>, tries: &mut Tries, client: Option<SocketAddr>) -> Result<Lease, NoConnection> {
        let mut must_wait = !self.queue.is_empty();
        let mut until = None;
        let mut lease = loop {
            if must_wait {
                self.metrics.waited.inc();
                let until = until.get_or_insert_with(|| self.watchdog.deadline(self.queue_timeout));
                if !self.queue.wait(until).await {
                    return Err(NoConnection::Busy);
                }
            }
            match self.place(tries) {
                Place::Ready(lease) => return Ok(lease),
                Place::Room(lease) => break lease,
                Place::Full => must_wait = true,
                Place::Out => {
                    // Its turn brings nothing; the next hears the same, and not only when its time is over.
                    self.queue.wake_one();
                    return Err(NoConnection::Out { retry_after: self.roster.retry_after() });
                }
                Place::Nowhere => match self.watchdog.within(self.connect_timeout, Box::pin(self.roster.any())).await {
                    Ok(true) => must_wait = false,
                    _ => {
                        self.queue.wake_one();
                        return Err(NoConnection::Failed(Failure::Unresolved));
                    }
                },
            }
        };
        loop {
            // Boxed, here and above: what hardly any request waits for is no part of every request's future.
            let failure = match Box::pin(self.open(&mut lease, client)).await {
                Ok(()) => {
                    lease.local.shunned.set(0);
                    return Ok(lease);
                }
                Err(failure) => failure,
            };
            lease.refused();
            tries.tried.push(lease.local.clone());
            let next = self.choose(&self.endpoints.borrow(), tries, true);
            let Some(next) = next.filter(|_| tries.again(Reason::Connect, false)) else {
                return Err(NoConnection::Failed(failure));
            };
            if let Some(ready) = self.share(&next).or_else(|| self.idle(&next)) {
                return Ok(ready);
            }
            lease.move_to(next);
        }
    }

    /// The newest idle connection of an endpoint.
    fn idle(self: &Rc<Self>, local: &Rc<Local>) -> Option<Lease> {
        loop {
            let mut taken = local.idle.borrow_mut().pop()?;
            if taken.sender.is_closed() {
                self.shrink(local);
                continue;
            }
            return Some(self.lease_of(local.clone(), Some(taken.sender)));
        }
    }

    fn lease_of(self: &Rc<Self>, local: Rc<Local>, sender: Option<Sender>) -> Lease {
        self.count_active(&local, 1);
        Lease { pool: self.clone(), local, reused: sender.is_some(), sender, counted: true, probing: false }
    }

    fn count_active(&self, local: &Local, by: u32) {
        if matches!(self.balance, Balance::LeastRequests) {
            local.endpoint.active.fetch_add(by, Ordering::Relaxed);
        }
    }

    /// Opens the connection that `lease` has counted.
    async fn open(self: &Rc<Self>, lease: &mut Lease, client: Option<SocketAddr>) -> Result<(), Failure> {
        let _opening = Opening::to(&lease.local);
        let endpoint = &lease.local.endpoint;
        let until = self.watchdog.deadline(self.connect_timeout);
        let connecting = self.connector.connect(&endpoint.server, endpoint.address, client);
        let transport = until.before(Box::pin(connecting)).await.unwrap_or(Err(Failure::TimedOut))?;
        let multiplexes = endpoint.server.http2 || transport.speaks_http2();
        let expected = lease.local.multiplexes.replace(multiplexes);
        if multiplexes {
            let opened = until.before(Box::pin(self.multiplex(transport, &lease.local))).await;
            lease.sender = Some(Sender::Http2(opened.unwrap_or(Err(Failure::TimedOut))?));
            lease.counted = false;
        } else {
            lease.sender = Some(Sender::Http1(Connection::new(transport)));
            if expected {
                // Those who waited for a place on it need connections of their own.
                self.queue.wake_some(usize::MAX);
            }
        }
        self.metrics.opened.inc();
        Ok(())
    }

    fn grow(&self, local: &Local) {
        self.open.set(self.open.get() + 1);
        local.open.set(local.open.get() + 1);
        self.metrics.open.inc();
    }

    fn shrink(&self, local: &Local) {
        self.open.set(self.open.get() - 1);
        local.open.set(local.open.get() - 1);
        self.metrics.open.dec();
    }
}

impl Local {
    fn of(endpoint: Arc<Endpoint>, multiplexes: bool) -> Self {
        Self {
            label: endpoint.label.as_str().into(),
            endpoint,
            idle: RefCell::default(),
            shared: RefCell::default(),
            multiplexes: Cell::new(multiplexes),
            opening: Cell::new(0),
            open: Cell::new(0),
            shunned: Cell::new(0),
            credit: Cell::new(0),
            gone: Cell::new(false),
        }
    }

    fn may_open(&self, most: usize) -> bool {
        self.open.get() < most
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // No lease is left: what is open is idle, and ends with the pool.
        (0..self.open.get()).for_each(|_| self.metrics.open.dec());
    }
}
