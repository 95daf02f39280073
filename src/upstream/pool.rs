//! A worker's connections to one app.
//!
//! 1. The connection given back last is used first, so that a quiet app keeps few.
//! 2. At the bound requests wait, a bounded number for a bounded time; a connection that is given back, or whose end
//!    makes room, wakes the first of them. Nobody who comes later passes those who wait.
//! 3. A connection that has been idle for `keep_alive` is closed before the app would.
//! 4. Endpoints take turns. A refused connection is tried at the others before the request fails, and the endpoint that
//!    refused is asked last for a second.
//!
//! # Why
//! hyper-util's client takes a lock and boxes at each request (+10 % of a proxied request, measured). One thread needs
//! no lock; a `Vec` and a `VecDeque` are the whole pool.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::oneshot;

use super::connect::{Connector, Failure};
use super::http1::Connection;
use super::sender::Sender;
use super::watchdog::{Deadline, Watchdog};
use super::{Server, Settings};
use crate::telemetry::registry::{Counter, Gauge, Registry};

/// For how many ticks an endpoint that refused a connection is asked last: a second.
const SHUNNED: u64 = 50;

/// A worker's connections to one app.
pub struct Pool {
    endpoints: Vec<Endpoint>,
    connector: Connector,
    next: Cell<usize>,
    /// Connections that are in use, idle, or being opened.
    open: Cell<usize>,
    most: usize,
    waiting: RefCell<VecDeque<oneshot::Sender<()>>>,
    most_waiting: usize,
    queue_timeout: Duration,
    connect_timeout: Duration,
    keep_alive: Duration,
    watchdog: Rc<Watchdog>,
    metrics: Metrics,
}

struct Endpoint {
    server: Server,
    idle: RefCell<Vec<Idle>>,
    /// It refused a connection: until this tick of the watchdog the others are asked first.
    shunned: Cell<u64>,
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
}

/// A connection in use. Dropped without being given back, it is closed.
pub struct Lease {
    pool: Rc<Pool>,
    endpoint: usize,
    sender: Option<Sender>,
    /// It has carried a request before: the app may have closed it at any moment.
    pub reused: bool,
}

impl fmt::Debug for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lease").field("endpoint", &self.endpoint).field("reused", &self.reused).finish_non_exhaustive()
    }
}

impl Pool {
    /// An empty pool for one of `workers` workers.
    pub fn new(
        settings: &Settings,
        workers: usize,
        connector: Connector,
        watchdog: Rc<Watchdog>,
        registry: &Registry,
        worker: usize,
    ) -> Rc<Self> {
        let labels = [("upstream", &*settings.name)];
        let endpoints = settings.servers.iter().map(|server| Endpoint {
            server: server.clone(),
            idle: RefCell::default(),
            shunned: Cell::new(0),
        });
        let pool = Rc::new(Self {
            endpoints: endpoints.collect(),
            connector,
            next: Cell::new(worker),
            open: Cell::new(0),
            most: settings.max_connections.div_ceil(workers.max(1)).max(1),
            waiting: RefCell::default(),
            most_waiting: settings.max_pending.div_ceil(workers.max(1)),
            queue_timeout: settings.queue_timeout,
            connect_timeout: settings.timeouts.connect,
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
        });
        tokio::task::spawn_local(sweep(Rc::downgrade(&pool)));
        pool
    }

    /// A connection to any endpoint: idle, new, or the next one that is given back.
    ///
    /// # Errors
    /// [`NoConnection`], after at most `queue_timeout` and one `connect` for each endpoint.
    pub async fn lease(self: &Rc<Self>) -> Result<Lease, NoConnection> {
        let first = self.next.get();
        self.next.set(first.wrapping_add(1));
        let count = self.endpoints.len();
        let mut must_wait = !self.waiting.borrow().is_empty();
        let until = self.watchdog.deadline(self.queue_timeout);
        let mut lease = loop {
            if must_wait {
                self.wait(&until).await?;
            }
            let turn = self.turn(first);
            if let Some(lease) = self.idle(turn) {
                return Ok(lease);
            }
            if self.open.get() < self.most {
                self.grow();
                break Lease { pool: self.clone(), endpoint: turn, sender: None, reused: false };
            }
            // No room for another connection: any that is idle will do.
            if let Some(lease) = (0..count).find_map(|endpoint| self.idle(endpoint)) {
                return Ok(lease);
            }
            must_wait = true;
        };
        let mut failure = Failure::Refused;
        for step in 0..count {
            let endpoint = (lease.endpoint + usize::from(step > 0)) % count;
            if step > 0
                && let Some(idle) = self.idle(endpoint)
            {
                return Ok(idle);
            }
            lease.endpoint = endpoint;
            match self.open(endpoint).await {
                Ok(sender) => {
                    lease.sender = Some(sender);
                    self.endpoints[endpoint].shunned.set(0);
                    return Ok(lease);
                }
                Err(failed) => {
                    self.endpoints[endpoint].shunned.set(self.watchdog.now() + SHUNNED);
                    failure = failed;
                }
            }
        }
        Err(NoConnection::Failed(failure))
    }

    /// The endpoint whose turn it is: the next one that has not just refused a connection, or else the next one.
    fn turn(&self, first: usize) -> usize {
        let (count, now) = (self.endpoints.len(), self.watchdog.now());
        let mut order = (0..count).map(|step| (first + step) % count);
        order.find(|endpoint| self.endpoints[*endpoint].shunned.get() <= now).unwrap_or(first % count)
    }

    /// The newest idle connection of an endpoint.
    fn idle(self: &Rc<Self>, endpoint: usize) -> Option<Lease> {
        loop {
            let mut taken = self.endpoints[endpoint].idle.borrow_mut().pop()?;
            if taken.sender.is_closed() {
                self.shrink();
                continue;
            }
            return Some(Lease { pool: self.clone(), endpoint, sender: Some(taken.sender), reused: true });
        }
    }

    async fn wait(self: &Rc<Self>, until: &Deadline) -> Result<(), NoConnection> {
        self.metrics.waited.inc();
        let mut turn = {
            let mut waiting = self.waiting.borrow_mut();
            // Those that gave up are still in the queue; forget them before it counts as full.
            if waiting.len() >= self.most_waiting {
                waiting.retain(|waiter| !waiter.is_closed());
            }
            if waiting.len() >= self.most_waiting {
                return Err(NoConnection::Busy);
            }
            let (wake, woken) = oneshot::channel();
            waiting.push_back(wake);
            Turn { pool: self.clone(), woken, taken: false }
        };
        std::future::poll_fn(|cx| match Pin::new(&mut turn.woken).poll(cx) {
            Poll::Ready(_) => {
                turn.taken = true;
                Poll::Ready(Ok(()))
            }
            Poll::Pending if until.poll_late(cx) => Poll::Ready(Err(NoConnection::Busy)),
            Poll::Pending => Poll::Pending,
        })
        .await
    }

    /// Lets the first that still waits look again.
    fn wake_one(&self) {
        let mut waiting = self.waiting.borrow_mut();
        while let Some(waiter) = waiting.pop_front() {
            if waiter.send(()).is_ok() {
                return;
            }
        }
    }

    async fn open(&self, endpoint: usize) -> Result<Sender, Failure> {
        let connecting = self.connector.connect(&self.endpoints[endpoint].server);
        let transport = match self.watchdog.within(self.connect_timeout, Box::pin(connecting)).await {
            Ok(connected) => connected?,
            Err(_) => return Err(Failure::TimedOut),
        };
        self.metrics.opened.inc();
        Ok(Sender::Http1(Connection::new(transport)))
    }

    fn grow(&self) {
        self.open.set(self.open.get() + 1);
        self.metrics.open.inc();
    }

    fn shrink(&self) {
        self.open.set(self.open.get() - 1);
        self.metrics.open.dec();
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // No lease is left: what is open is idle, and ends with the pool.
        (0..self.open.get()).for_each(|_| self.metrics.open.dec());
    }
}

impl Lease {
    /// The connection.
    pub fn sender(&mut self) -> Option<&mut Sender> {
        self.sender.as_mut()
    }

    /// The connection, if it speaks HTTP/1.
    pub fn http1(&mut self) -> Option<&mut Connection> {
        self.sender().map(|Sender::Http1(connection)| connection)
    }

    /// Takes the connection out of HTTP; the lease goes on counting it.
    pub fn switch(&mut self) -> Option<Connection> {
        self.sender.take().map(|Sender::Http1(connection)| connection)
    }

    /// Gives a sound connection back, once its answer has been read to the end.
    pub fn give_back(mut self) {
        if let Some(sender) = self.sender.take_if(|sender| !sender.is_closed()) {
            let since = self.pool.watchdog.now();
            self.pool.endpoints[self.endpoint].idle.borrow_mut().push(Idle { sender, since });
            // It is idle now and still open, which the drop of the lease takes away.
            self.pool.grow();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.pool.shrink();
        self.pool.wake_one();
    }
}

/// A place in the queue.
struct Turn {
    pool: Rc<Pool>,
    woken: oneshot::Receiver<()>,
    taken: bool,
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Woken, but gone before it looked: the next one may.
        if !self.taken && self.woken.try_recv().is_ok() {
            self.pool.wake_one();
        }
    }
}

/// Closes connections that have been idle for too long, once a second.
async fn sweep(pool: std::rc::Weak<Pool>) {
    loop {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let Some(pool) = pool.upgrade() else { return };
        let longest = (pool.keep_alive.as_millis() / super::watchdog::TICK.as_millis()) as u64;
        let now = pool.watchdog.now();
        for endpoint in &pool.endpoints {
            let mut idle = endpoint.idle.borrow_mut();
            let before = idle.len();
            idle.retain_mut(|idle| !idle.sender.is_closed() && now.saturating_sub(idle.since) < longest);
            for _ in idle.len()..before {
                pool.shrink();
            }
        }
    }
}
