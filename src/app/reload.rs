//! Reads the configuration again: parse → validate → build → swap.
//!
//! 1. A configuration with an error, a socket that cannot be opened, a certificate that cannot be read, a worker that
//!    cannot build: each leaves everything as it was, says why, and is counted.
//! 2. What changed is said, a line each. Nothing changed: nothing is built.
//! 3. The file, and the certificates, keys and secrets that it names, are watched by their content, looked at once a second:
//!    editors, ConfigMap links and bind mounts replace files in ways that no notification covers. What is being written
//!    is read once it holds still. A pipe or a device is read when a configuration is, and not watched.

use std::hash::{BuildHasher as _, Hash as _, Hasher as _};
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret as _;
use tokio::sync::oneshot;
use tokio::time::{MissedTickBehavior, interval};

use super::boot::{Listeners, Opened, Source, listen};
use super::files::Files;
use super::near;
use super::shared::{Shared, Stores};
use super::worker::{Command, Worker};
use crate::config::settings::Settings;
use crate::config::{self, Loaded};
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
    let Loaded { settings: mut new, warnings } = source.load().map_err(|report| report.to_string())?;
    for warning in warnings {
        tracing::warn!(at = warning.line(), "{}", warning.message);
    }
    let mut changes = config::difference(current, &new);
    if changes.is_empty() {
        return Ok(changes);
    }
    let (bounds, fewer) = Files::raise().bounds(&new)?;
    if let Some(before) = &current.server.tls {
        new.server.tls = new.server.tls.map(|tls| tls.after(before));
    }
    let new = Arc::new(new);
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
    if let Err(error) = logs::start(&new.log) {
        // Not to be expected of a level that was validated, and no reason to go back.
        tracing::error!("{error}");
    }
    shared.adopt(stores);
    near::warn(&new);
    shared.admission.bound(bounds);
    if let Some(fewer) = fewer {
        tracing::warn!("{fewer}");
    }
    shared.show_upstreams(&new);
    shared.show_certificates(&new);
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
    listeners.open(&new.server, shared.workers).map_err(|error| error.to_string())
}

/// What only a new process does.
fn not_until_restart(old: &Settings, new: &Settings) -> Vec<String> {
    let mut waiting = Vec::new();
    if old.server.workers != new.server.workers {
        waiting.push("server: workers takes effect at the next start".to_owned());
    }
    let token = |settings: &Settings| settings.admin.token.as_ref().map(|token| token.expose_secret().to_owned());
    let bounds =
        |settings: &Settings| (settings.admin.max_connections, settings.admin.timeouts, settings.admin.max_body);
    if old.admin.listen != new.admin.listen || token(old) != token(new) || bounds(old) != bounds(new) {
        waiting.push("admin: what is said of it takes effect at the next start".to_owned());
    }
    if old.log.format != new.log.format || old.log.buffer != new.log.buffer {
        waiting.push("log: format and buffer take effect at the next start".to_owned());
    }
    waiting
}

/// The file and what it names, looked at once in a while.
pub struct Watched {
    path: Option<PathBuf>,
    /// Certificates, keys and secrets.
    named: Vec<PathBuf>,
    /// What they held when they were last read, and when they were last looked at.
    read: Option<u64>,
    looked: Option<u64>,
    ticks: tokio::time::Interval,
}

impl Watched {
    /// Of a source and the settings it gave; one that was made never changes.
    pub fn new(source: &Source, settings: &Settings) -> Self {
        let path = if let Source::File(path) = source { Some(path.clone()) } else { None };
        let mut ticks = interval(LOOK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut watched = Self { path, named: settings.files(), read: None, looked: None, ticks };
        watched.reading();
        watched
    }

    /// Waits until they hold something new, twice the same. A configuration that is gone is waited for; a certificate
    /// or a secret that is gone is something new.
    pub async fn changed(&mut self) {
        if self.path.is_none() {
            return std::future::pending().await;
        }
        loop {
            self.ticks.tick().await;
            let now = self.content();
            let (still, new) = (now == self.looked, now != self.read);
            self.looked = now;
            if now.is_some() && still && new {
                return;
            }
        }
    }

    /// They are about to be read.
    pub fn reading(&mut self) {
        self.read = self.content();
        self.looked = self.read;
    }

    /// Watches what `settings` name from now on.
    pub fn follow(&mut self, settings: &Settings) {
        let named = settings.files();
        if named != self.named {
            self.named = named;
            self.reading();
        }
    }

    /// A sum over all of it; `None`: the configuration is not there.
    fn content(&self) -> Option<u64> {
        let mut sum = ahash::RandomState::with_seeds(1, 2, 3, 4).build_hasher();
        content(self.path.as_ref()?)?.hash(&mut sum);
        for path in &self.named {
            content(path).hash(&mut sum);
        }
        Some(sum.finish())
    }
}

fn content(path: &Path) -> Option<Vec<u8>> {
    // To open a pipe that nobody writes to would wait for somebody.
    std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    let mut text = Vec::new();
    // What is longer is refused when it is read.
    std::fs::File::open(path).ok()?.take(8 << 20).read_to_end(&mut text).ok()?;
    Some(text)
}
