//! What near tiers may rely on: every change is told, and whatever may go untold ends the era.

mod changes;
mod losses;
mod race;
mod refusals;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use sidegate::exchange::Note;
use sidegate::redis_pool::coherence::Coherence;
use sidegate::redis_pool::near::{self, Size, Tier};
use sidegate::redis_pool::tracking::{Terms, Tracking};
use sidegate::redis_pool::{Settings, near::Mode};
use sidegate::telemetry::registry::Registry;

use crate::redis_server::RedisServer;

/// How long a test waits for what must come.
const PATIENCE: Duration = Duration::from_secs(60);

/// A tier that remembers texts, and what it was told.
pub struct Notebook {
    coherence: Arc<Coherence>,
    prefixes: Vec<Arc<str>>,
    /// Key: era and value.
    entries: Mutex<HashMap<Vec<u8>, (u64, String)>>,
    told: Mutex<Vec<String>>,
    emptied: AtomicUsize,
}

impl Notebook {
    /// What may be used now of what is remembered.
    pub fn near(&self, key: &str) -> Option<String> {
        let era = self.coherence.era()?;
        let entries = self.entries.lock().unwrap();
        entries.get(key.as_bytes()).filter(|(of, _)| *of == era).map(|(_, value)| value.clone())
    }

    /// Remembers what Redis said after `note` was taken; says whether.
    pub fn keep(&self, key: &str, note: Note, value: &str) -> bool {
        self.coherence.keep(key.as_bytes(), note, || {
            self.entries.lock().unwrap().insert(key.into(), (note.era, value.to_owned()));
        })
    }

    pub fn was_told(&self, key: &str) -> bool {
        self.told.lock().unwrap().iter().any(|told| told == key)
    }

    pub fn emptied(&self) -> usize {
        self.emptied.load(Ordering::SeqCst)
    }
}

impl Tier for Notebook {
    fn kind(&self) -> &'static str {
        "note"
    }

    fn prefixes(&self) -> &[Arc<str>] {
        &self.prefixes
    }

    fn changed(&self, key: &[u8]) {
        self.coherence.changed(key, || drop(self.entries.lock().unwrap().remove(key)));
        self.told.lock().unwrap().push(String::from_utf8_lossy(key).into_owned());
    }

    fn empty(&self) {
        self.entries.lock().unwrap().clear();
        self.emptied.fetch_add(1, Ordering::SeqCst);
    }

    fn size(&self) -> Size {
        Size { entries: self.entries.lock().unwrap().len() as u64, bytes: 0 }
    }
}

/// Tracking of the prefixes `sess:`, `sess:web:` and `sidegate:cache:`, and a notebook that it tells.
pub struct Tracked {
    pub notebook: Arc<Notebook>,
    pub coherence: Arc<Coherence>,
    pub registry: Arc<Registry>,
    /// Ends with the rest.
    _tracking: Tracking,
}

impl Tracked {
    /// Of a server, with a second of silence.
    pub fn of(server: &RedisServer) -> Self {
        Self::start(Settings::of_url(&server.url()).expect("a URL"))
    }

    pub fn start(redis: Settings) -> Self {
        let (coherence, registry) = (Coherence::new(), Registry::new(1));
        let prefixes = ["sess:", "sess:web:", "sidegate:cache:"].map(Arc::from).to_vec();
        let notebook = Arc::new(Notebook {
            coherence: coherence.clone(),
            prefixes,
            entries: Mutex::default(),
            told: Mutex::default(),
            emptied: AtomicUsize::default(),
        });
        let near = near::Settings {
            ping: Duration::from_millis(250),
            silence: Duration::from_secs(1),
            ..near::Settings::default()
        };
        let terms = Terms { redis, near, tiers: vec![notebook.clone()], coherence: coherence.clone() };
        let tracking = Tracking::start(terms, registry.clone(), 0).expect("a thread");
        Self { notebook, coherence, registry, _tracking: tracking }
    }

    /// Waits for an era that is none of `known`.
    pub fn new_era(&self, known: &[u64]) -> u64 {
        until("a new era begins", || self.coherence.era().filter(|era| !known.contains(era)))
    }

    pub fn in_use(&self, mode: Mode) -> u64 {
        self.registry.value("sidegate_near_in_use", &[("mode", mode.word())])
    }

    pub fn losses(&self, reason: &str) -> u64 {
        self.registry.value("sidegate_near_losses_total", &[("reason", reason)])
    }
}

/// Waits until `look` sees what it waits for.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let step = Duration::from_millis(2);
    for _ in 0..PATIENCE.as_millis() / step.as_millis() {
        if let Some(seen) = look() {
            return seen;
        }
        thread::sleep(step);
    }
    panic!("{PATIENCE:?} were not enough until {what}");
}

/// The same for something that is so or not.
pub fn until_true(what: &str, mut look: impl FnMut() -> bool) {
    until(what, || look().then_some(()));
}
