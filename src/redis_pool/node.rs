//! One endpoint of Redis, as one worker sees it: its connections, and the breaker over them.
//!
//! 1. The breaker is *closed* while there is a connection, *half-open* while the first one is being made, *open* in
//!    between: then nothing waits ([`Fault::Down`]).
//! 2. A connection that is lost goes alone. An endpoint that is unusable, or late [`Breaker::failures`] times in a row,
//!    loses all its connections at once, and who waits on them goes on. A connection that is late as often by itself, or
//!    silent when it is asked (rule 5) while there are others, goes alone: what others answer says nothing about it.
//!    Who is late while bytes come goes on alone, and that is all: an answer may have to wait for larger ones before it.
//! 3. A trial is never on a request's time, and there is one at a time: the other connections follow the first.
//! 4. Trials are further and further apart; the waits begin anew once a connection has held for the longest of them.
//! 5. A connection that is silent for [`IDLE`] is asked whether it is there.
//!
//! # Why
//! Rule 4: an endpoint that fails the first request of every connection would otherwise be tried, and would fail, twenty
//! times a second.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use bb8_redis::bb8::{Pool, PooledConnection, RunError};
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, timeout_at};

use super::absence::Absence;
use super::backoff::Backoff;
use super::connect::{Connector, Leased, Place, failure, ping, pool};
use super::fault::{Effect, Fault};
use super::lane::Lane;
use super::metrics::{BreakerState, CLOSED, HALF_OPEN, OPEN};
use super::standing::Standing;
use super::{Breaker, Settings};

/// How long a connection may be silent before it is asked whether it is there.
const IDLE: Duration = Duration::from_secs(1);

/// One endpoint; its connections end with it.
pub(super) struct Node {
    core: Rc<Core>,
    tasks: Vec<AbortHandle>,
}

struct Core {
    lanes: Box<[Lane]>,
    scripts: Box<[&'static str]>,
    /// The lane to try first.
    next: Cell<usize>,
    /// Lanes that are up.
    up: Cell<usize>,
    /// Time-outs since the last answer.
    late: Cell<u32>,
    /// Tells that the breaker has closed.
    closed: Notify,
    thresholds: Breaker,
    /// How long a trip may take.
    timeout: Duration,
    /// For the log and the metrics.
    endpoint: String,
    state: BreakerState,
    absence: Absence,
    standing: Rc<Standing>,
}

impl Node {
    /// A node at `place`, for use on this thread alone. Returns at once; nobody need be there.
    ///
    /// `scripts` are the Lua texts that pipelines will call by `EVALSHA`. To be called inside a `LocalRuntime`.
    pub(super) fn new(place: Place, settings: &Settings, scripts: &[&'static str], standing: &Rc<Standing>) -> Self {
        let endpoint = place.to_string();
        let core = Rc::new(Core {
            lanes: (0..settings.connections.max(1)).map(|_| Lane::default()).collect(),
            scripts: scripts.into(),
            next: Cell::new(0),
            up: Cell::new(0),
            late: Cell::new(0),
            closed: Notify::new(),
            thresholds: settings.breaker,
            timeout: settings.timeout,
            state: standing.metrics.breaker(&endpoint),
            endpoint,
            absence: Absence::default(),
            standing: standing.clone(),
        });
        let pool = pool(place, settings, scripts);
        let keep = |lane| tokio::task::spawn_local(core.clone().keep(lane, pool.clone())).abort_handle();
        let tasks = (0..core.lanes.len()).map(keep).collect();
        Self { core, tasks }
    }

    /// Whether its breaker is closed.
    pub(super) fn is_up(&self) -> bool {
        self.core.is_up()
    }

    /// Sends `pipeline` and waits for its answers, at most the configured time-out: one value for each command.
    ///
    /// # Errors
    /// Redis could not be asked, or did not answer. What was sent may have been done all the same.
    pub(super) async fn trip(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
        let core = &*self.core;
        let metrics = &core.standing.metrics;
        let Some((lane, mut handle, generation)) = core.pick() else {
            metrics.error(Fault::Down);
            return Err(Fault::Down);
        };
        metrics.trips.inc();
        metrics.commands.add(pipeline.len() as u64);
        let (until, before) = (Instant::now() + core.timeout, lane.received());
        let answer = lane.exchange(&mut handle, pipeline, &core.scripts, until).await;
        match &answer {
            Ok(values) => {
                core.answered(lane);
                values.iter().filter_map(failure).for_each(|fault| core.fault(lane, generation, fault));
            }
            // Bytes come, if not in time: what is late is behind much that is large, and goes on alone.
            Err(Fault::Timeout) if lane.received() != before => core.slow(),
            Err(fault) => core.fault(lane, generation, *fault),
        }
        answer
    }

    /// As [`Node::trip`], with what is left of the time: it ends at `until`. A time-out is counted, but does not open the
    /// breaker, since the time may have been spent elsewhere.
    ///
    /// # Errors
    /// As [`Node::trip`].
    pub(super) async fn trip_until(&self, pipeline: &Pipeline, until: Instant) -> Result<Vec<Value>, Fault> {
        timeout_at(until, self.trip(pipeline)).await.unwrap_or_else(|_| {
            self.core.slow();
            Err(Fault::Timeout)
        })
    }

    /// Waits until the breaker closes; not for one that is closed already.
    pub(super) async fn closed(&self) {
        self.core.closed.notified().await;
    }

    /// Opens the breaker: the endpoint is not what it was thought to be.
    pub(super) fn open(&self, fault: Fault) {
        self.core.open(fault);
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.tasks.iter().for_each(AbortHandle::abort);
        (0..self.core.up.get()).for_each(|_| self.core.standing.metrics.up.dec());
        self.core.standing.left(self.is_up());
    }
}

impl Core {
    fn is_up(&self) -> bool {
        self.up.get() > 0
    }

    /// The next connection that is up, in turn.
    fn pick(&self) -> Option<(&Lane, MultiplexedConnection, u64)> {
        let (lanes, start) = (&self.lanes, self.next.get());
        let index = (0..lanes.len()).map(|step| (start + step) % lanes.len()).find(|&index| lanes[index].is_up())?;
        self.next.set((index + 1) % lanes.len());
        let lane = &lanes[index];
        lane.handle().map(|(handle, generation)| (lane, handle, generation))
    }

    /// A time-out that says nothing about the endpoint.
    fn slow(&self) {
        self.standing.fault(&self.endpoint, Fault::Timeout);
        self.standing.complain(&self.endpoint, Fault::Timeout);
    }

    fn answered(&self, lane: &Lane) {
        lane.answered();
        self.late.set(0);
    }

    /// Something went wrong on a connection.
    fn fault(&self, lane: &Lane, generation: u64, fault: Fault) {
        self.standing.fault(&self.endpoint, fault);
        // What is learnt about a connection that is no more says nothing about the next one.
        if !lane.is_still(generation) {
            return;
        }
        match fault.effect() {
            Effect::Lost => self.take_down(lane, fault),
            Effect::Unusable => self.open(fault),
            Effect::Counted => {
                self.late.set(self.late.get() + 1);
                let late_alone = lane.late();
                if self.late.get() >= self.thresholds.failures {
                    self.open(fault);
                } else {
                    self.standing.complain(&self.endpoint, fault);
                    if late_alone >= self.thresholds.failures {
                        self.take_down(lane, fault);
                    }
                }
            }
            Effect::None | Effect::Command | Effect::Again => {}
        }
    }

    fn open(&self, fault: Fault) {
        self.lanes.iter().for_each(|lane| self.take_down(lane, fault));
    }

    fn take_down(&self, lane: &Lane, fault: Fault) {
        if !lane.take_down() {
            return;
        }
        self.up.set(self.up.get() - 1);
        self.standing.metrics.up.dec();
        if !self.is_up() {
            self.state.set(OPEN);
            self.standing.opened(&self.endpoint, &self.absence, fault);
        }
    }

    fn put_up(&self, lane: &Lane, leased: &Leased) {
        lane.put_up(leased.handle.clone(), leased.received.clone());
        self.up.set(self.up.get() + 1);
        self.standing.metrics.up.inc();
        if self.up.get() == 1 {
            self.late.set(0);
            self.state.set(CLOSED);
            self.standing.closed(&self.endpoint, &self.absence);
            self.closed.notify_waiters();
        }
    }

    /// Leases connections for a lane, one after the other, for as long as it is polled.
    async fn keep(self: Rc<Self>, lane: usize, pool: Pool<Connector>) {
        let (leads, lane) = (lane == 0, &self.lanes[lane]);
        let mut backoff = Backoff::default();
        loop {
            while !leads && !self.is_up() {
                self.closed.notified().await;
            }
            if !self.is_up() {
                self.state.set(HALF_OPEN);
            }
            match lease(&pool).await {
                Ok(mut leased) => {
                    let since = Instant::now();
                    self.put_up(lane, &leased);
                    self.watch(lane).await;
                    leased.broken = true;
                    if since.elapsed() >= self.thresholds.longest_wait {
                        backoff = Backoff::default();
                    }
                }
                Err(fault) if self.is_up() => self.standing.lacks_a_connection(&self.endpoint, &self.absence, fault),
                Err(fault) => {
                    self.state.set(OPEN);
                    self.standing.tried(&self.endpoint, &self.absence, fault);
                }
            }
            sleep(backoff.next(&self.thresholds, fastrand::f64())).await;
        }
    }

    /// Until the lane is taken down; finds out by itself whether it should be.
    async fn watch(&self, lane: &Lane) {
        while let Some((mut handle, generation)) = lane.handle() {
            let (before, bytes) = (lane.answers(), Cell::new(lane.received()));
            let silent = async {
                sleep(IDLE).await;
                bytes.set(lane.received());
                if lane.answers() == before { ping(&mut handle).await.map(|()| true) } else { Ok(false) }
            };
            tokio::select! {
                biased;
                () = lane.lost() => return,
                asked = silent => match asked {
                    Ok(true) => self.answered(lane),
                    Ok(false) => {}
                    Err(Fault::Timeout) if lane.received() != bytes.get() => self.slow(),
                    Err(fault) => {
                        self.fault(lane, generation, fault);
                        if self.up.get() > 1 && lane.is_still(generation) {
                            self.take_down(lane, fault);
                        }
                    }
                },
            }
        }
    }
}

/// A connection that works, leased for good.
async fn lease(pool: &Pool<Connector>) -> Result<PooledConnection<'static, Connector>, Fault> {
    // Not `get` alone: that hides why a connection cannot be made, and waits for its time-out even when refused at once.
    let leased = pool.dedicated_connection().await?;
    pool.add(leased).map_err(|_| Fault::Disconnected)?;
    pool.get_owned().await.map_err(|error| match error {
        RunError::User(fault) => fault,
        RunError::TimedOut => Fault::Timeout,
    })
}
