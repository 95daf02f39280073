//! From a configuration to a process that serves, and to its end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot, watch};

use super::reload::{self, Asked};
use super::shared::Shared;
use super::signals::{Signal, Signals};
use super::worker::{Command, Worker};
use crate::config::settings::Settings;
use crate::config::{Loaded, Report};
use crate::listener::{Bind, accept, tls};
use crate::telemetry::logs;
use crate::telemetry::sink::Sink;
use crate::{admin, clock, config, session};

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
    // Every client costs a file descriptor or two; the soft limit of a shell is for shells.
    let apps: usize = settings.upstreams.iter().map(|app| app.max_connections).sum();
    let wanted = (settings.server.max_connections + apps) as u64;
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(files) if files < wanted => {
            tracing::warn!(
                files,
                "the limit on open files is below what max_connections may need; raise it (ulimit -n)"
            );
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
    }
    let sink = Sink::stdout(&settings.log).map_err(system)?;
    let secured = settings.server.tls.as_ref().map(tls::load).transpose().map_err(system)?;
    let shared = Shared::new(&settings, Some(sink.clone()), sessions, secured);
    let (ask, asked) = mpsc::channel(4);
    let admin = admin::spawn(&settings.admin, admin_state(&shared, ask)).map_err(system)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(system)?;
    let ended = runtime.block_on(live(Life { source, shared, settings: Arc::new(settings), admin, asked, ready }));
    sink.flush_and_stop();
    // A lookup of a host name may still be waiting for its resolver; nobody waits for it.
    runtime.shutdown_background();
    ended
}

struct Life {
    source: Source,
    shared: Arc<Shared>,
    settings: Arc<Settings>,
    admin: Option<admin::Handle>,
    asked: mpsc::Receiver<Asked>,
    ready: Ready,
}

async fn live(life: Life) -> Result<(), Failure> {
    let Life { source, shared, mut settings, admin, mut asked, ready } = life;
    let system = |error: io::Error| Failure::System(error.to_string());
    let mut signals = Signals::listen().map_err(system)?;
    let mut listeners = Listeners::default();
    let opened = listeners.open(&settings.server.listen, shared.workers).map_err(system)?;

    let started: io::Result<Vec<Worker>> =
        (0..shared.workers).map(|number| Worker::start(number, shared.clone())).collect();
    let workers = started.map_err(system)?;
    shared.rosters.tend(&settings, &shared.registry, shared.workers).map_err(system)?;
    reload::prepare(&workers, &settings, &shared.stores()).await.map_err(Failure::System)?;
    let bound = opened.iter().map(|(bind, ..)| bind.clone()).collect::<Vec<_>>();
    listen(&workers, opened).await;
    shared.show_upstreams(&settings);
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

    let mut file = reload::Watched::new(&source);
    loop {
        let reply = tokio::select! {
            signal = signals.next() => match signal {
                Signal::Stop => break,
                Signal::Reload => None,
            },
            Some(reply) = asked.recv() => Some(reply),
            () = file.changed() => None,
        };
        file.reading();
        let result = reload::reload(&source, &shared, &workers, &mut settings, &mut listeners).await;
        if let Some(reply) = reply {
            // Whoever asked may have gone.
            let _ = reply.send(result);
        }
    }
    drain(&shared, &settings, workers, listeners, &mut signals).await;
    drop(admin);
    Ok(())
}

fn admin_state(shared: &Arc<Shared>, ask: mpsc::Sender<Asked>) -> Arc<admin::State> {
    let reload = move || {
        let (reply, answer) = oneshot::channel();
        ask.try_send(reply).map_err(|_| "a reload is under way".to_owned())?;
        answer.blocking_recv().map_err(|_| "the process is stopping".to_owned())?
    };
    let (registry, health) = (shared.registry.clone(), shared.health.clone());
    Arc::new(admin::State { registry, health, reload: Box::new(reload) })
}

/// Ends well: not ready, no new connections, what has begun is finished.
async fn drain(
    shared: &Arc<Shared>,
    settings: &Settings,
    workers: Vec<Worker>,
    listeners: Listeners,
    signals: &mut Signals,
) {
    let grace = settings.server.grace_period;
    tracing::info!(grace = ?grace, connections = shared.admission.open(), "stopping");
    shared.health.set_draining();
    drop(listeners);
    shared.draining.send_replace(true);
    let deadline = clock::instant() + grace;
    for worker in &workers {
        // A worker that is gone has nothing to drain.
        let _ = worker.commands.send(Command::Drain(deadline)).await;
    }
    let ended = tokio::task::spawn_blocking(move || workers.into_iter().for_each(Worker::join));
    tokio::select! {
        _ = ended => {}
        () = async { while !matches!(signals.next().await, Signal::Stop) {} } => {
            tracing::warn!("told to stop twice: stopping at once");
            std::process::exit(0);
        }
    }
    match shared.admission.open() {
        0 => tracing::info!("stopped"),
        open => tracing::warn!(connections = open, "stopped; the grace period ended before these connections did"),
    }
}

/// The sockets of the process. Dropping one stops accepting from it.
#[derive(Default)]
pub struct Listeners(BTreeMap<Bind, watch::Sender<bool>>);

/// A place that was opened: its address, a socket for each worker, and how they learn that it is over.
pub type Opened = (Bind, Vec<accept::Listening>, watch::Receiver<bool>);

impl Listeners {
    /// Opens those of `wanted` that are not open.
    ///
    /// # Errors
    /// What the system says of the first that cannot be opened; then none is.
    pub fn open(&mut self, wanted: &[Bind], workers: usize) -> io::Result<Vec<Opened>> {
        let mut opened = Vec::new();
        let mut senders = BTreeMap::new();
        for bind in wanted.iter().filter(|bind| !self.0.contains_key(bind)) {
            let (sockets, bound) = accept::open(bind, workers)?;
            let (stop, stopped) = watch::channel(false);
            senders.insert(bind.clone(), stop);
            opened.push((bound, sockets, stopped));
        }
        self.0.append(&mut senders);
        Ok(opened)
    }

    /// Closes those that are not `wanted`.
    pub fn keep(&mut self, wanted: &[Bind]) {
        self.0.retain(|bind, _| wanted.contains(bind));
    }
}

/// Hands sockets to the workers, one each.
pub async fn listen(workers: &[Worker], opened: Vec<Opened>) {
    for (_, sockets, stop) in opened {
        for (worker, socket) in workers.iter().zip(sockets) {
            // A worker that is gone accepts nothing.
            let _ = worker.commands.send(Command::Listen(socket, stop.clone())).await;
        }
    }
}
