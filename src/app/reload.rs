//! Reads the configuration again: parse → validate → build → swap.
//!
//! 1. A configuration with an error, a socket that cannot be opened, a certificate that cannot be read, a worker that
//!    cannot build: each leaves everything as it was, says why, and is counted.
//! 2. What changed is said, a line each. Nothing changed: nothing is built.
//! 3. The file is watched by its content, looked at once a second: editors, ConfigMap links and bind mounts replace
//!    files in ways that no notification covers. A file that is being written is read once it holds still.

use std::io::Read as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::boot::{Listeners, Opened, Source, listen};
use super::shared::{Shared, Stores};
use super::worker::{Command, Worker};
use crate::config;
use crate::config::settings::Settings;
use crate::listener::tls;
use crate::telemetry::logs;

/// Somebody asks for a reload and waits for its outcome.
pub type Asked = oneshot::Sender<Result<Vec<String>, String>>;

const LOOK: Duration = Duration::from_secs(1);

/// Lets all workers build; all of them succeed, or the first reason why not.
///
/// # Errors
/// The reason.
pub async fn prepare(workers: &[Worker], settings: &Arc<Settings>, stores: &Stores) -> Result<(), String> {
    let gone = || "a worker is gone".to_owned();
    let mut answers = Vec::new();
    for worker in workers {
        let (reply, answer) = oneshot::channel();
        let command = Command::Prepare(settings.clone(), stores.clone(), reply);
        worker.commands.send(command).await.map_err(|_| gone())?;
        answers.push(answer);
    }
    for answer in answers {
        answer.await.map_err(|_| gone())??;
    }
    Ok(())
}

/// Reads `source` again and puts it in force; `current` is then what is.
///
/// # Errors
/// Why everything stays as it was.
pub async fn reload(
    source: &Source,
    shared: &Arc<Shared>,
    workers: &[Worker],
    current: &mut Arc<Settings>,
    listeners: &mut Listeners,
) -> Result<Vec<String>, String> {
    let result = apply(source, shared, workers, current, listeners).await;
    let outcome = if result.is_ok() { "applied" } else { "failed" };
    let help = "Times the configuration was read again.";
    let labels = [("outcome", outcome)];
    shared.registry.counter(shared.workers, "sidegate_config_reloads_total", help, &labels).inc();
    match &result {
        Ok(changes) => {
            for change in changes {
                tracing::info!("changed: {change}");
            }
            tracing::info!(changes = changes.len(), "reloaded");
        }
        Err(error) => tracing::error!("reload failed; the configuration in force stays\n{error}"),
    }
    result
}

async fn apply(
    source: &Source,
    shared: &Arc<Shared>,
    workers: &[Worker],
    current: &mut Arc<Settings>,
    listeners: &mut Listeners,
) -> Result<Vec<String>, String> {
    let loaded = source.load().map_err(|report| report.to_string())?;
    let new = Arc::new(loaded.settings);
    let mut changes = config::difference(current, &new);
    let secured = new.server.tls.as_ref().map(tls::load).transpose().map_err(|error| error.to_string())?;
    if changes.is_empty() {
        // The files that a certificate is read from may have changed although their names did not.
        shared.tls.send_replace(secured);
        return Ok(changes);
    }
    let stores = shared.stores_for(&new);
    let opened = match ready(shared, workers, &new, &stores, listeners).await {
        Ok(opened) => opened,
        Err(error) => {
            shared.rosters.keep(current);
            for worker in workers {
                // Some may have built, and hold connections for it. A worker that is gone holds nothing.
                let _ = worker.commands.send(Command::Forget).await;
            }
            return Err(error);
        }
    };
    // From here on nothing can fail.
    for worker in workers {
        // A worker that is gone uses nothing.
        let _ = worker.commands.send(Command::Commit).await;
    }
    for (address, ..) in &opened {
        tracing::info!(%address, "listening");
    }
    listen(workers, opened).await;
    listeners.keep(&new.server.listen);
    shared.tls.send_replace(secured);
    if let Err(error) = logs::start(&new.log) {
        // Not to be expected of a level that was validated, and no reason to go back.
        tracing::error!("{error}");
    }
    shared.adopt(stores);
    shared.admission.bound(new.server.max_connections, new.server.max_connections_per_address);
    shared.show_upstreams(&new);
    shared.rosters.keep(&new);
    changes.extend(not_until_restart(current, &new));
    *current = new;
    Ok(changes)
}

/// All that can fail; the sockets are opened last, so that a failure leaves none behind.
async fn ready(
    shared: &Shared,
    workers: &[Worker],
    new: &Arc<Settings>,
    stores: &Stores,
    listeners: &mut Listeners,
) -> Result<Vec<Opened>, String> {
    shared.rosters.tend(new, &shared.registry, shared.workers).map_err(|error| error.to_string())?;
    prepare(workers, new, stores).await?;
    listeners.open(&new.server.listen, shared.workers).map_err(|error| error.to_string())
}

/// What only a new process does.
fn not_until_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let mut waiting = Vec::new();
    if old.server.workers != new.server.workers {
        waiting.push("server: workers takes effect at the next start".to_owned());
    }
    let token = |settings: &Settings| settings.admin.token.as_ref().map(|token| token.expose_secret().to_owned());
    if old.admin.listen != new.admin.listen || token(old) != token(new) {
        waiting.push("admin: listen and token take effect at the next start".to_owned());
    }
    if old.log.format != new.log.format || old.log.buffer != new.log.buffer {
        waiting.push("log: format and buffer take effect at the next start".to_owned());
    }
    waiting
}

/// The file, looked at once in a while.
pub struct Watched {
    path: Option<PathBuf>,
    /// What it held when it was last read, and when it was last looked at.
    read: Option<u64>,
    looked: Option<u64>,
    ticks: tokio::time::Interval,
}

impl Watched {
    /// Of a source; one that was made never changes.
    pub fn new(source: &Source) -> Self {
        let path = if let Source::File(path) = source { Some(path.clone()) } else { None };
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let read = path.as_ref().and_then(content);
        Self { path, read, looked: read, ticks }
    }

    /// Waits until it holds something new, twice the same. A file that is gone is waited for.
    pub async fn changed(&mut self) {
        let Some(path) = self.path.clone() else { return std::future::pending().await };
        loop {
            self.ticks.tick().await;
            let now = content(&path);
            let (still, new) = (now == self.looked, now != self.read);
            self.looked = now;
            if now.is_some() && still && new {
                return;
            }
        }
    }

    /// It is about to be read.
    pub fn reading(&mut self) {
        self.read = self.path.as_ref().and_then(content);
        self.looked = self.read;
    }
}

fn content(path: &PathBuf) -> Option<u64> {
    let mut text = Vec::new();
    // What is longer is refused when it is read.
    std::fs::File::open(path).ok()?.take(8 << 20).read_to_end(&mut text).ok()?;
    Some(ahash::RandomState::with_seeds(1, 2, 3, 4).hash_one(text))
}
