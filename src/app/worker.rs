//! One worker: a thread with its own runtime, listeners, connections to the app and link to Redis.

mod materials;
mod wildcards;

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, interval, sleep, sleep_until, timeout, timeout_at};

use self::materials::{Materials, gather_parts};
use super::shared::{Shared, Stores};
use crate::admin::Order;
use crate::clock;
use crate::config::settings::Settings;
use crate::listener::Bind;
use crate::listener::accept::accept;
use crate::listener::connection::{Metrics, Served};
use crate::listener::refusal::Log;
use crate::listener::socket::Listening;
use crate::rate_limit::operate::Trouble;
use crate::redis_pool::Link;
use crate::session::issue::unattended::UnderWay;
use crate::stack;
use crate::telemetry::access_log::PATIENCE;
use crate::upstream::watchdog::Watchdog;

/// How long a worker that ends waits for Redis to be told what it is owed.
const LAST_DEBTS: Duration = Duration::from_secs(1);

/// What a worker is told.
pub enum Command {
    /// Build everything for these settings, and say whether that worked; use none of it yet.
    Prepare(Arc<Settings>, Stores, oneshot::Sender<Result<(), String>>),
    /// Use what was prepared last.
    Commit,
    /// Let go of what was prepared last.
    Forget,
    /// Listen here too, at what is configured as this, until the receiver turns true or its sender is gone.
    Listen(Listening, Bind, watch::Receiver<bool>),
    /// Do what an operator wants.
    Order(Ordered),
    /// Say that it is there.
    Answer(oneshot::Sender<()>),
    /// Finish what has begun, until this instant.
    Drain(std::time::Instant),
}

/// An order, and who waits for the answer.
pub struct Ordered {
    /// What is wanted.
    pub order: Order,
    /// Told what came of it.
    pub reply: oneshot::Sender<Result<serde_json::Value, Trouble>>,
}

/// A running worker.
pub struct Worker {
    /// Tells it.
    pub commands: mpsc::Sender<Command>,
    thread: std::thread::JoinHandle<()>,
}

impl Worker {
    /// Starts worker `number`.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(number: usize, shared: Arc<Shared>) -> std::io::Result<Self> {
        // A bounded handful: the one who tells waits for the answer.
        let (commands, receiver) = mpsc::channel(64);
        let name = format!("worker-{number}");
        let thread = std::thread::Builder::new().name(name).spawn(move || {
            let runtime = Builder::new_current_thread().enable_all().build_local(LocalOptions::default());
            match runtime {
                Ok(runtime) => runtime.block_on(work(number, shared, receiver)),
                Err(error) => tracing::error!(%error, worker = number, "no runtime"),
            }
        })?;
        Ok(Self { commands, thread })
    }

    /// Whether it takes commands; as soon as it does, or when it is gone.
    pub async fn answers(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Answer(reply)).await.is_ok() && answer.await.is_ok()
    }

    /// Waits for its end.
    pub fn join(self) {
        drop(self.commands);
        if self.thread.join().is_err() {
            tracing::error!("a worker panicked");
        }
    }
}

/// A configuration in force.
struct Built<S> {
    materials: Materials,
    stack: S,
}

async fn work(number: usize, shared: Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    let watchdog = Watchdog::start();
    let metrics = Rc::new(Metrics::new(&shared.registry, number));
    let build = |settings: &Settings, stores: &Stores, before: Option<&Materials>| {
        let (materials, parts) = gather_parts(number, &shared, stores, settings, &watchdog, before)?;
        Ok::<_, String>(Built { materials, stack: stack::build(parts) })
    };
    // The first thing a worker is told is what to build; until then there is nothing to serve with.
    let Some(Command::Prepare(settings, stores, reply)) = commands.recv().await else { return };
    let first = build(&settings, &stores, None);
    if let Ok(first) = &first {
        look(&first.materials).await;
    }
    let told = first.as_ref().map(drop).map_err(Clone::clone);
    let (Ok(first), Ok(())) = (first, reply.send(told)) else { return };
    shared.show_redis(number, first.materials.redis_state());
    let current = Rc::new(RefCell::new(first));
    let mut prepared = None::<Built<_>>;
    let source = current.clone();
    let stack: Rc<dyn Fn() -> _> = Rc::new(move || source.borrow().stack.clone());
    let logging = current.clone();
    let log: Log = Rc::new(move |record, ending| {
        if let Some(access) = &logging.borrow().materials.access {
            access.write(record, ending);
        }
    });
    let mut ticks = interval(PATIENCE);
    // Held by each loop that accepts.
    let accepting_still = Rc::new(());
    let deadline = loop {
        tokio::select! {
            command = commands.recv() => match command {
                None => break clock::instant(),
                Some(Command::Drain(deadline)) => break deadline,
                Some(Command::Commit) => {
                    if let Some(built) = prepared.take() {
                        current.replace(built);
                        shared.show_redis(number, current.borrow().materials.redis_state());
                    }
                }
                Some(Command::Forget) => prepared = None,
                // Nobody to hear it: then it was too late.
                Some(Command::Answer(reply)) => drop(reply.send(())),
                Some(Command::Order(Ordered { order, reply })) => {
                    let (limits, purging, explaining, sessions) = current.borrow().materials.for_operators();
                    let stack = current.borrow().stack.clone();
                    tokio::task::spawn_local(async move {
                        let done = match order {
                            Order::Limits(order) => limits.carry_out(order).await,
                            Order::Sessions(order) => sessions.carry_out(order).await,
                            Order::Purge(order) => purging.carry_out(order).await,
                            Order::Explain(asked) => explaining.explain(*asked, stack).await,
                        };
                        reply.send(done)
                    });
                }
                Some(Command::Prepare(settings, stores, reply)) => {
                    let built = build(&settings, &stores, Some(&current.borrow().materials));
                    if let Ok(built) = &built {
                        look(&built.materials).await;
                    }
                    let told = built.as_ref().map(drop).map_err(Clone::clone);
                    prepared = built.ok();
                    // Nobody to hear it: then nobody will say Commit either.
                    let _ = reply.send(told);
                }
                Some(Command::Listen(listening, bind, stop)) => {
                    let (stack, current, metrics, log) = (stack.clone(), current.clone(), metrics.clone(), log.clone());
                    let draining = shared.draining.subscribe();
                    let served = move || Served {
                        current: stack.clone(),
                        settings: current.borrow().materials.server.clone(),
                        draining: draining.clone(),
                        metrics: metrics.clone(),
                        log: log.clone(),
                    };
                    let accepting = accept(listening, bind, shared.admission.clone(), served, stop);
                    let until_it_ends = accepting_still.clone();
                    tokio::task::spawn_local(async move {
                        if let Err(error) = accepting.await {
                            tracing::error!(%error, "cannot accept connections");
                        }
                        drop(until_it_ends);
                    });
                }
            },
            _ = ticks.tick() => {
                if let Some(access) = &current.borrow().materials.access {
                    access.tick();
                }
            }
        }
    };
    drop(prepared);
    let orders = current.borrow().materials.orders.clone();
    finish(&shared, &accepting_still, &orders, deadline).await;
    let link = current.borrow().materials.redis.as_ref().map(|(_, link)| link.clone());
    if let Some(link) = link {
        pay(&shared, &link, deadline).await;
    }
    let register = current.borrow().materials.register.clone();
    let _ = timeout(LAST_DEBTS, register.leave()).await;
    let (tending, member) = {
        let materials = &current.borrow().materials;
        (materials.tending.clone(), materials.member.clone())
    };
    if let Some(tending) = tending {
        tending.finish().await;
    }
    if let Some(member) = member {
        member.leave().await;
    }
    if let Some(access) = &current.borrow().materials.access {
        access.flush();
    }
}

/// A Redis that is there is known before the first request; one that is not holds nothing up for long.
async fn look(materials: &Materials) {
    if let Some((settings, link)) = &materials.redis {
        let mut state = link.subscribe();
        let _ = timeout(settings.start_wait, state.wait_for(|up| *up)).await;
    }
}

/// Waits until this worker accepts no more, and all connections of the process, and the writes of those that left and what the
/// app orders about their sessions, have ended; or the grace period has.
async fn finish(shared: &Shared, accepting: &Rc<()>, orders: &UnderWay, deadline: std::time::Instant) {
    let deadline = Instant::from_std(deadline);
    let mut looks = interval(Duration::from_millis(10));
    let ended = async {
        let owed = shared.stores().owed;
        while Rc::strong_count(accepting) > 1 || shared.admission.open() > 0 || owed.is_writing() || orders.is_any() {
            looks.tick().await;
        }
    };
    tokio::select! {
        () = ended => {}
        () = sleep_until(deadline) => {}
    }
}

/// Waits until Redis has been told what it is owed, if it can be told at all: not for long.
async fn pay(shared: &Shared, link: &Link, deadline: std::time::Instant) {
    let owed = shared.stores().owed;
    let paying = async {
        while owed.is_any() && link.is_up() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    let deadline = Instant::from_std(deadline).min(Instant::now() + LAST_DEBTS);
    let _ = timeout_at(deadline, paying).await;
}
