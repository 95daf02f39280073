//! Tells the near tiers of every change of what they remember, and says from when until when it does.
//!
//! 1. It has a thread of its own, so that neither reloads nor scrapes nor requests hold the news up, and a connection of
//!    its own to every master (`feed`).
//! 2. An era begins once every master has acknowledged that it will tell, and ends with the first of these connections
//!    that is lost: when it breaks, when it says nothing for `near.silence` though it is asked every `near.ping`, or when
//!    the masters are others: as soon as a link knows, and every 5 s it is looked.
//! 3. At the end of an era, and when a database was flushed, all tiers are emptied.
//! 4. Where a master refuses tracking, all tell by pub/sub ([`Mode::PubSub`]); where that is refused too there is no era, and
//!    it is asked again after 10 s. What is in force is logged whenever it changes, and not otherwise.
//! 5. Connections that are lost are made again with growing waits, never at a request's expense.
//!
//! # Why BCAST
//! `CLIENT TRACKING ON BCAST PREFIX …` has Redis remember prefixes, not keys, nothing for each reader: readers come and go
//! and share connections that are not tracked. Its cost is one message for each change under the prefixes, for each
//! instance. Prefixes of all tiers go over one connection, for what is told over two can be told in two orders.

mod feed;
mod metrics;

use std::cell::Cell;
use std::convert::Infallible;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use self::feed::{Feed, Told};
use self::metrics::Metrics;
use super::address::{Endpoint, Topology};
use super::backoff::Backoff;
use super::coherence::Coherence;
use super::near::{self, Mode, Tier};
use super::topology::masters;
use crate::telemetry::registry::Registry;

/// How long after a refusal that is not for want of a connection it is tried again.
const REFUSED: Duration = Duration::from_secs(10);
/// How often the masters are asked for anew, which takes connections of its own: what a link notices is told at once.
const LOOK: Duration = Duration::from_secs(5);
/// An era that lasted longer was none that ends as soon as it begins: the next wait is a short one.
const LASTING: Duration = Duration::from_secs(1);

/// What tracking works with.
#[derive(Clone)]
pub struct Terms {
    /// Where the changes happen.
    pub redis: super::Settings,
    /// Signs of life.
    pub near: near::Settings,
    /// Who is told.
    pub tiers: Vec<Arc<dyn Tier>>,
    /// What is kept in step.
    pub coherence: Arc<Coherence>,
}

/// Tracking at work; it ends, and the era with it, when this is dropped.
#[derive(Debug)]
pub struct Tracking {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tracking {
    /// Starts it. Returns at once; Redis need not be there. `writer` is the slot of `registry` that is this thread's own.
    ///
    /// # Errors
    /// The system has no thread for it.
    pub fn start(terms: Terms, registry: Arc<Registry>, writer: usize) -> io::Result<Self> {
        let (stop, stopped) = oneshot::channel();
        let thread = std::thread::Builder::new().name("tracking".into()).spawn(move || {
            let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                Ok(runtime) => runtime,
                Err(error) => return tracing::error!(%error, "no runtime: nothing is remembered near"),
            };
            let metrics = Metrics::new(&registry, writer, &terms.tiers);
            let keeper = Keeper { terms: Rc::new(terms), metrics: Rc::new(metrics), said: Cell::new(None) };
            runtime.block_on(async {
                tokio::select! {
                    () = keeper.keep() => {}
                    _ = stopped => {}
                }
                keeper.terms.coherence.end();
            });
            // A lookup of a host name may still be waiting for its resolver; nobody waits for it.
            runtime.shutdown_background();
        })?;
        Ok(Self { stop: Some(stop), thread: Some(thread) })
    }
}

impl Drop for Tracking {
    fn drop(&mut self) {
        drop(self.stop.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("tracking panicked");
        }
    }
}

/// How changes under `prefixes` would be told, as Redis says now; waits `redis.connect_timeout`, or `redis.timeout` if that is longer.
///
/// # Errors
/// A word that says why they would not be.
pub async fn probe(redis: &super::Settings, prefixes: &[&str]) -> Result<Mode, &'static str> {
    let feeds = open(redis, prefixes).await.map_err(|refused| refused.reason)?;
    Ok(feeds.mode)
}

/// Connections to all masters, all of which tell.
struct Feeds {
    mode: Mode,
    feeds: Vec<Feed>,
    masters: Vec<Endpoint>,
}

/// Why there are none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Refused {
    /// A word for logs and metrics.
    reason: &'static str,
    /// Redis is there, and does not want to.
    lasting: bool,
}

async fn open(redis: &super::Settings, prefixes: &[&str]) -> Result<Feeds, Refused> {
    let limit = redis.connecting();
    let away = |reason| Refused { reason, lasting: false };
    let masters = masters(&redis.server, limit).await.map_err(away)?;
    let mut opening = JoinSet::new();
    for endpoint in masters.clone() {
        let (server, channel) = (redis.server.clone(), near::channel(&redis.prefix));
        let prefixes: Vec<String> = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        opening.spawn(async move {
            let opened = Feed::open(&endpoint, &server, &prefixes, channel);
            timeout(limit, opened).await.unwrap_or(Err(Refused { reason: "timeout", lasting: false }))
        });
    }
    let mut feeds = Vec::new();
    while let Some(opened) = opening.join_next().await {
        feeds.push(opened.map_err(|_| away("panicked"))??);
    }
    let mode = if feeds.iter().all(Feed::is_tracking) { Mode::Tracking } else { Mode::PubSub };
    if mode == Mode::PubSub {
        // One that tracks tells of everything that changes on it, but not of what is published elsewhere.
        for feed in feeds.iter_mut().filter(|feed| feed.is_tracking()) {
            timeout(limit, feed.subscribe()).await.unwrap_or(Err(away("timeout")))?;
        }
    }
    Ok(Feeds { mode, feeds, masters })
}

struct Keeper {
    terms: Rc<Terms>,
    metrics: Rc<Metrics>,
    /// What was logged last: the mode in force, or why there is none.
    said: Cell<Option<Result<Mode, &'static str>>>,
}

impl Keeper {
    /// Era after era.
    async fn keep(&self) {
        let mut backoff = Backoff::default();
        loop {
            let began = Instant::now();
            let Refused { reason, lasting } = self.era().await;
            self.metrics.lost(reason);
            self.say(Err(reason));
            if began.elapsed() > LASTING + self.terms.redis.connecting() {
                backoff = Backoff::default();
            }
            let wait = backoff.next(&self.terms.redis.breaker, fastrand::f64());
            sleep(if lasting { REFUSED } else { wait }).await;
        }
    }

    /// From its beginning, if it comes to that, to its end; says why it ended.
    async fn era(&self) -> Refused {
        let prefixes = self.terms.tiers.iter().flat_map(|tier| tier.prefixes()).map(|prefix| &**prefix);
        let count = self.terms.redis.server.changes.count();
        let Feeds { mode, feeds, masters } = match open(&self.terms.redis, &near::covering(prefixes)).await {
            Ok(feeds) => feeds,
            Err(refused) => return refused,
        };
        let lost = |reason| Refused { reason, lasting: false };
        let sockets: io::Result<Arc<[OwnedFd]>> = feeds.iter().map(|feed| feed.as_fd().try_clone_to_owned()).collect();
        let Ok(sockets) = sockets else { return lost("files") };
        let era = Rc::new(Era::begin(self.terms.clone(), self.metrics.clone(), mode, sockets));
        self.say(Ok(mode));
        let mut reading = JoinSet::new();
        for feed in feeds {
            let (era, near) = (era.clone(), self.terms.near);
            reading.spawn_local(async move { feed.read(&near, &era.terms.coherence, |told| era.apply(told)).await });
        }
        let reason = tokio::select! {
            Some(ended) = reading.join_next() => ended.unwrap_or("panicked"),
            // Also while the masters are being asked for, which may take long.
            () = self.terms.redis.server.changes.after(count) => "topology",
            () = self.other_masters(&masters) => "topology",
            never = self.show() => match never {},
        };
        era.end();
        lost(reason)
    }

    /// Ends when the masters are no longer `known`.
    async fn other_masters(&self, known: &[Endpoint]) {
        let server = &self.terms.redis.server;
        if matches!(server.topology, Topology::Single(_)) {
            return std::future::pending().await;
        }
        let same = |now: &Vec<Endpoint>| now.len() == known.len() && now.iter().all(|each| known.contains(each));
        loop {
            sleep(LOOK).await;
            // Who cannot be asked has said nothing new.
            if masters(server, self.terms.redis.connecting()).await.is_ok_and(|now| !same(&now)) {
                return;
            }
        }
    }

    /// Shows what the tiers hold, for as long as it is polled.
    async fn show(&self) -> Infallible {
        loop {
            self.metrics.show(&self.terms.tiers);
            sleep(self.terms.near.ping).await;
        }
    }

    /// Logs what is in force, if it is not what was logged last.
    fn say(&self, now: Result<Mode, &'static str>) {
        if self.said.replace(Some(now)) == Some(now) {
            return;
        }
        let url = self.terms.redis.shown();
        match now {
            Ok(Mode::Tracking) => tracing::info!(url, mode = Mode::Tracking.word(), "the near tier is in use"),
            Ok(Mode::PubSub) => tracing::warn!(
                url,
                mode = Mode::PubSub.word(),
                "the near tier is in use without client tracking, which Redis refuses: \
                 what others change is noticed only by its age"
            ),
            Err(reason) => tracing::warn!(url, reason, "the near tier is not in use: changes are not told"),
        }
    }
}

/// An era in force; it ends when this is dropped, if not before.
struct Era {
    terms: Rc<Terms>,
    metrics: Rc<Metrics>,
    mode: Mode,
    sockets: Arc<[OwnedFd]>,
    ended: Cell<bool>,
}

impl Era {
    fn begin(terms: Rc<Terms>, metrics: Rc<Metrics>, mode: Mode, sockets: Arc<[OwnedFd]>) -> Self {
        terms.coherence.begin_over(mode, sockets.clone());
        metrics.in_force(Some(mode));
        Self { terms, metrics, mode, sockets, ended: Cell::new(false) }
    }

    fn apply(&self, told: Told<'_>) {
        match told {
            Told::Changed(key) => {
                self.metrics.invalidated();
                let concerned =
                    |tier: &&Arc<dyn Tier>| tier.prefixes().iter().any(|prefix| key.starts_with(prefix.as_bytes()));
                self.terms.tiers.iter().filter(concerned).for_each(|tier| tier.changed(key));
            }
            // What one connection tells after another was lost comes too late.
            Told::Flushed if self.ended.get() => {}
            Told::Flushed => {
                self.metrics.flushed();
                self.terms.coherence.begin_over(self.mode, self.sockets.clone());
                self.empty();
            }
            Told::Lost => self.end(),
        }
    }

    fn end(&self) {
        if !self.ended.replace(true) {
            self.terms.coherence.end();
            self.metrics.in_force(None);
            self.empty();
        }
    }

    fn empty(&self) {
        self.terms.tiers.iter().for_each(|tier| tier.empty());
        self.metrics.show(&self.terms.tiers);
    }
}

impl Drop for Era {
    fn drop(&mut self) {
        self.end();
        for socket in &*self.sockets {
            // Workers keep their own hold of it for a while; the connection need not last as long.
            let _ = rustix::net::shutdown(socket, rustix::net::Shutdown::Both);
        }
    }
}
