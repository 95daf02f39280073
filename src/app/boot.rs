//! From a configuration to a process that serves, and to its end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::drain::drain;
use super::files::Files;
use super::near;
use super::reload::{self, Asked};
use super::shared::Shared;
use super::signals::{Signal, Signals};
use super::supervisor;
use super::worker::{Command, Ordered, Worker};
use crate::config::settings::Settings;
use crate::config::{Loaded, Report};
use crate::listener::inherited::Inherited;
use crate::listener::socket::{self, Listening, Others};
use crate::listener::{self, Bind, tls};
use crate::telemetry::logs;
use crate::telemetry::sink::Sink;
use crate::{admin, config, session};

/// Orders that may wait for a worker.
const ORDERS: usize = 16;

/// Where the configuration comes from.
pub enum Source {
    /// A file; read again on SIGHUP and whenever it changes.
    File(PathBuf),
    /// Made by the command line; there is nothing to read again.
    Made(Box<Settings>),
}

/// Told the addresses once everything listens: of the proxy, of the admin listener.
pub type Ready = Box<dyn FnOnce(&[Bind], Option<SocketAddr>)>;

/// How the process starts.
pub struct Start {
    /// Its configuration.
    pub source: Source,
    /// Session records in process memory, for the demo.
    pub sessions: Option<Arc<session::store::memory::MemoryStore>>,
    /// Told where everything listens.
    pub ready: Ready,
}

/// Why a process did not start, or did not end well.
#[derive(Debug)]
pub enum Failure {
    /// The configuration is wrong.
    Configuration(Report),
    /// The system refused something.
    System(String),
}

impl Source {
    /// Reads it.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(&self) -> Result<Loaded, Report> {
        match self {
            Self::File(path) => config::load(path, &config::environment),
            Self::Made(settings) => Ok(Loaded { settings: (**settings).clone(), warnings: Vec::new() }),
        }
    }
}

/// Runs until told to stop.
///
/// # Errors
/// [`Failure`]: it could not start.
pub fn run(start: Start) -> Result<(), Failure> {
    let Start { source, sessions, ready } = start;
    tls::install_provider();
    let Loaded { settings, warnings } = source.load().map_err(Failure::Configuration)?;
    logs::start(&settings.log).map_err(Failure::System)?;
    for warning in warnings {
        tracing::warn!(at = warning.line(), "{}", warning.message);
    }
    let system = |error: io::Error| Failure::System(error.to_string());
    let (bounds, fewer) = Files::raise().bounds(&settings).map_err(Failure::System)?;
    if let Some(fewer) = fewer {
        tracing::warn!("{fewer}");
    }
    let inherited = Inherited::take().map_err(system)?;
    inherited.fits(&settings.server.listen).map_err(system)?;
    let sink = Sink::stdout(&settings.log).map_err(system)?;
    let shared = Shared::new(&settings, bounds, Some(sink.clone()), sessions);
    let ((ask, asked), (order, orders)) = (mpsc::channel(4), mpsc::channel(ORDERS));
    let admin = admin::spawn(&settings.admin, admin_state(&shared, ask, order)).map_err(system)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    let ended = runtime.block_on(live(Life {
        source,
        shared,
        settings: Arc::new(settings),
        inherited,
        admin,
        asked,
        orders,
        ready,
    }));
    sink.flush_and_stop();
    // A lookup of a host name may still be waiting for its resolver; nobody waits for it.
    runtime.shutdown_background();
    ended
}

struct Life {
    source: Source,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    inherited: Inherited,
    admin: Option<admin::Handle>,
    asked: mpsc::Receiver<Asked>,
    orders: mpsc::Receiver<Ordered>,
    ready: Ready,
}

async fn live(life: Life) -> Result<(), Failure> {
    let Life { source, shared, mut settings, inherited, admin, mut asked, mut orders, ready } = life;
    let system = |error: io::Error| Failure::System(error.to_string());
    let mut signals = Signals::listen().map_err(system)?;
    let mut listeners = Listeners { inherited, open: BTreeMap::new() };
    let opened = listeners.open(&settings.server, shared.workers).map_err(system)?;

    let started: io::Result<Vec<Worker>> =
        (0..shared.workers).map(|number| Worker::start(number, shared.clone())).collect();
    let workers = started.map_err(system)?;
    shared.rosters.tend(&settings, &shared.registry, shared.workers).map_err(system)?;
    shared.track();
    near::warn(&settings);
    reload::prepare(&workers, &settings, &shared.stores()).await.map_err(Failure::System)?;
    let bound = opened.iter().map(|(bind, ..)| bind.clone()).collect::<Vec<_>>();
    listen(&workers, opened).await;
    shared.show_upstreams(&settings);
    shared.show_certificates(&settings);
    shared.health.set_applied();
    for address in &bound {
        tracing::info!(%address, "listening");
    }
    let admin_address = admin.as_ref().map(|admin| admin.address);
    if let Some(address) = admin_address {
        tracing::info!(%address, "admin listening");
    }
    let redis = settings.redis.as_ref().map_or_else(|| "process memory".into(), |redis| redis.shown());
    tracing::info!(workers = shared.workers, routes = settings.routes.len(), store = redis, "ready");
    ready(&bound, admin_address);
    supervisor::ready();

    let mut vigil = supervisor::Vigil::new();
    let mut files = reload::Watched::new(&source, &settings);
    loop {
        let reply = tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => None,
            },
            Some(reply) = asked.recv() => Some(reply),
            Some(ordered) = orders.recv() => {
                // A worker that is gone, or has too much to do, answers nobody.
                let _ = workers[0].commands.try_send(Command::Order(ordered));
                continue;
            }
            () = files.changed() => None,
            () = vigil.due() => {
                vigil.keep(&workers).await;
                continue;
            }
        };
        files.reading();
        supervisor::reloading();
        let result = reload::reload(&source, &shared, &workers, &mut settings, &mut listeners).await;
        supervisor::ready();
        files.follow(&settings);
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            let _ = reply.send(result);
        }
    }
    drain(&shared, &settings, workers, listeners, admin, &mut signals).await;
    Ok(())
}

fn admin_state(shared: &Arc<Shared>, ask: mpsc::Sender<Asked>, order: mpsc::Sender<Ordered>) -> Arc<admin::State> {
    let reload = move || {
        let (reply, answer) = oneshot::channel();
        ask.try_send(reply).map_err(|_| "a reload is under way".to_owned())?;
        answer.blocking_recv().map_err(|_| "the process is stopping".to_owned())?
    };
    let (registry, health) = (shared.registry.clone(), shared.health.clone());
    let orders = move |wanted| {
        let (reply, answer) = oneshot::channel();
        // No room: the reply is dropped, and says so.
        let _ = order.try_send(Ordered { order: wanted, reply });
        answer
    };
    Arc::new(admin::State { registry, health, reload: Box::new(reload), orders: Box::new(orders) })
}

/// The sockets of the process. Dropping one stops accepting from it.
pub struct Listeners {
    inherited: Inherited,
    open: BTreeMap<Bind, watch::Sender<bool>>,
}

/// A place that was opened: its address, a socket for each worker, how they learn that it is over, and what it was
/// configured as.
pub type Opened = (Bind, Vec<Listening>, watch::Receiver<bool>, Bind);

impl Listeners {
    /// Opens those that `server` wants and that are not open.
    ///
    /// # Errors
    /// What the system says of the first that cannot be opened; then none is.
    pub fn open(&mut self, server: &listener::Settings, workers: usize) -> io::Result<Vec<Opened>> {
        let mut opened = Vec::new();
        let mut senders = BTreeMap::new();
        for bind in server.listen.iter().filter(|bind| !self.open.contains_key(bind)) {
            let (sockets, bound) = match self.inherited.open(bind, workers)? {
                Some(sockets) => (sockets, bind.clone()),
                None => {
                    let others =
                        if server.share_port || self.holds_port_of(bind) { Others::Allowed } else { Others::None };
                    socket::open(bind, workers, others)?
                }
            };
            let (stop, stopped) = watch::channel(false);
            senders.insert(bind.clone(), stop);
            opened.push((bound, sockets, stopped, bind.clone()));
        }
        self.open.append(&mut senders);
        Ok(opened)
    }

    /// Closes those that are not `wanted`.
    pub fn keep(&mut self, wanted: &[Bind]) {
        self.open.retain(|bind, _| wanted.contains(bind));
    }

    /// A reload may move from one address to all of them, or back: then the port is in use, by ourselves.
    fn holds_port_of(&self, wanted: &Bind) -> bool {
        let port = |bind: &Bind| if let Bind::Tcp(address) = bind { Some(address.port()) } else { None };
        self.open.keys().any(|bind| port(bind).is_some_and(|held| held != 0 && Some(held) == port(wanted)))
    }
}

/// Hands sockets to the workers, one each.
pub async fn listen(workers: &[Worker], opened: Vec<Opened>) {
    for (_, sockets, stop, bind) in opened {
        for (worker, socket) in workers.iter().zip(sockets) {
            // A worker that is gone accepts nothing.
            let _ = worker.commands.send(Command::Listen(socket, bind.clone(), stop.clone())).await;
        }
    }
}
