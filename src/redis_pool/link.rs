//! A worker's way to Redis: one trip, bounded in time, never a wait for a Redis that is known to be away.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use redis::{Arg, Pipeline, Value};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::telemetry::registry::Registry;

use super::Settings;
use super::address::Topology;
use super::cluster::Cluster;
use super::connect::Place;
use super::fault::Fault;
use super::node::Node;
use super::replicas::{Replica, Replicas};
use super::sentinel::{self, Master};
use super::standing::Standing;
use super::topology::Changes;

/// [`Link::shared_state`]: no connection has been made yet.
pub const CONNECTING: u8 = 0;
/// [`Link::shared_state`]: Redis answers.
pub const UP: u8 = 1;
/// [`Link::shared_state`]: Redis is away.
pub const DOWN: u8 = 2;
/// [`Link::shared_state`]: Redis is away, since it refuses the database that is meant.
pub const NO_DATABASE: u8 = 3;

/// A worker's way to Redis; clones share it, and it ends with the last of them.
#[derive(Clone)]
pub struct Link(Rc<Kept>);

struct Kept {
    reach: Reach,
    standing: Rc<Standing>,
    sends: Sends,
    changes: Changes,
    /// What looks after the topology.
    task: Option<AbortHandle>,
}

/// Whom a link reaches.
enum Reach {
    /// One server, or the one that is master; its replicas.
    One(Rc<Node>, Option<Rc<Replicas>>),
    /// All masters of a cluster.
    Cluster(Rc<Cluster>),
}

/// What one master keeps.
pub struct Shard(Rc<Node>);

/// What was sent without waiting and is not answered.
struct Sends {
    count: Cell<usize>,
    bytes: Cell<usize>,
    max_count: usize,
    max_bytes: usize,
}

impl Link {
    /// A link as `settings` say, for use on this thread alone. Returns at once; Redis need not be there.
    ///
    /// `scripts` are the Lua texts that pipelines will call by `EVALSHA`. To be called inside a `LocalRuntime`.
    pub fn new(settings: &Settings, scripts: &[&'static str], registry: &Arc<Registry>, worker: usize) -> Self {
        let standing = Rc::new(Standing::new(registry, worker));
        let replicas = Replicas::new(settings, registry, worker);
        let server = &settings.server;
        let (reach, task) = match &server.topology {
            Topology::Single(endpoint) => {
                let node = Node::new(Place::Fixed(endpoint.clone()), settings, scripts, &standing);
                (Reach::One(Rc::new(node), None), None)
            }
            Topology::Sentinel { master, .. } => {
                let master = Arc::new(Master::new(master.clone()));
                let node = Rc::new(Node::new(Place::Named(master.clone()), settings, scripts, &standing));
                let (server, followed, standing) = (server.clone(), Rc::downgrade(&node), standing.clone());
                let limit = settings.connecting();
                let sought = replicas.clone();
                let follow = async move {
                    let seek = async {
                        if let Some(replicas) = sought {
                            sentinel::seek_replicas(&server, limit, |found| replicas.adopt(&[found])).await;
                        }
                    };
                    tokio::join!(master.follow(&server, limit, &followed, &standing), seek)
                };
                (Reach::One(node, replicas), Some(tokio::task::spawn_local(follow).abort_handle()))
            }
            Topology::Cluster { .. } => {
                let cluster = Rc::new(Cluster::new(settings, scripts, &standing, replicas));
                let kept = cluster.clone();
                (
                    Reach::Cluster(cluster),
                    Some(tokio::task::spawn_local(async move { kept.keep().await }).abort_handle()),
                )
            }
        };
        let sends = Sends {
            count: Cell::new(0),
            bytes: Cell::new(0),
            max_count: settings.max_sends,
            max_bytes: settings.max_send_bytes,
        };
        Self(Rc::new(Kept { reach, standing, sends, changes: server.changes.clone(), task }))
    }

    /// Sends `pipeline` and waits for its answers, at most the configured time-out in all, whatever has to be asked again:
    /// one value for each command, a command's own failure being `redis::Value::ServerError`. What is to be done in one
    /// step is a script: a transaction is refused unsent.
    ///
    /// # Errors
    /// A word for logs and metrics (`down`, `timeout`, `disconnected` …, see [`super::fault`]) if Redis could not be asked
    /// or did not answer. What was sent may have been done all the same.
    pub async fn query(&self, pipeline: &Pipeline) -> Result<Vec<Value>, &'static str> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        if pipeline.is_transaction() {
            return Err(Fault::Refused.word());
        }
        let answer = match &self.0.reach {
            Reach::One(node, _) => node.trip(pipeline).await,
            Reach::Cluster(cluster) => cluster.query(pipeline).await,
        };
        answer.map_err(Fault::word)
    }

    /// A replica that is up and has `key`; never one unless the configuration wants it. What it says may be older than what
    /// [`Link::query`] would.
    pub fn replica(&self, key: &[u8]) -> Option<Replica> {
        match &self.0.reach {
            Reach::One(_, replicas) => replicas.as_ref()?.pick(0),
            Reach::Cluster(cluster) => cluster.replica(key),
        }
    }

    /// Whether keys lie with several servers: then commands of one slot alone can be done in one step ([`super::slots`]).
    pub fn is_cluster(&self) -> bool {
        matches!(self.0.reach, Reach::Cluster(_))
    }

    /// How often slots have had other masters ([`super::topology::Changes`]), as far as is known: what was learnt from all
    /// [`Link::shards`] is of all that there is only if this is still the same.
    pub fn changes(&self) -> u64 {
        self.0.changes.of_slots()
    }

    /// All that Redis keeps, in as many parts as servers keep it. None: it is not known yet who they are.
    pub fn shards(&self) -> Vec<Shard> {
        match &self.0.reach {
            Reach::One(node, _) => vec![Shard(node.clone())],
            Reach::Cluster(cluster) => cluster.masters().into_iter().map(Shard).collect(),
        }
    }

    /// Sends `pipeline` without waiting. It is dropped, and counted as dropped, if Redis is away, or more than
    /// `max_sends` or `max_send_bytes` would be unanswered.
    pub fn send(&self, pipeline: Pipeline) {
        self.send_or(pipeline, || ());
    }

    /// The same; `otherwise` is called if it is dropped, or if Redis may not have done it.
    pub fn send_or(&self, pipeline: Pipeline, otherwise: impl FnOnce() + 'static) {
        let (sends, bytes) = (&self.0.sends, size(&pipeline));
        if !self.is_up() || !sends.have_room(bytes) {
            self.0.standing.metrics.dropped.inc();
            return otherwise();
        }
        sends.change(|count| count + 1, |all| all + bytes);
        let link = self.clone();
        tokio::task::spawn_local(async move {
            let answer = link.query(&pipeline).await;
            link.0.sends.change(|count| count - 1, |all| all - bytes);
            let refused = |values: &Vec<Value>| values.iter().any(|value| matches!(value, Value::ServerError(_)));
            if answer.as_ref().map_or(true, refused) {
                otherwise();
            }
        });
    }

    /// Does `sending`, which sends about so many bytes, without waiting. It is dropped, and counted as dropped, where a
    /// pipeline of [`Link::send`] would be.
    pub fn behind(&self, bytes: usize, sending: impl Future<Output = ()> + 'static) {
        let sends = &self.0.sends;
        if !self.is_up() || !sends.have_room(bytes) {
            self.0.standing.metrics.dropped.inc();
            return;
        }
        sends.change(|count| count + 1, |all| all + bytes);
        let link = self.clone();
        tokio::task::spawn_local(async move {
            sending.await;
            link.0.sends.change(|count| count - 1, |all| all - bytes);
        });
    }

    /// Whether Redis answers, as far as is known.
    pub fn is_up(&self) -> bool {
        match &self.0.reach {
            Reach::One(node, _) => node.is_up(),
            Reach::Cluster(cluster) => cluster.is_up(),
        }
    }

    /// [`CONNECTING`], [`UP`], [`DOWN`] or [`NO_DATABASE`], for other threads to read.
    pub fn shared_state(&self) -> Arc<AtomicU8> {
        self.0.standing.state().clone()
    }

    /// Tells when Redis goes (`false`) and comes back (`true`).
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.standing.subscribe()
    }
}

impl Shard {
    /// Asks this one alone, as [`Link::query`]. Where keys have moved on to another, it says so in their place.
    ///
    /// # Errors
    /// As [`Link::query`].
    pub async fn query(&self, pipeline: &Pipeline) -> Result<Vec<Value>, &'static str> {
        if pipeline.is_transaction() {
            return Err(Fault::Refused.word());
        }
        self.0.trip(pipeline).await.map_err(Fault::word)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.task.take().inspect(AbortHandle::abort);
        self.standing.end();
    }
}

impl Sends {
    fn have_room(&self, bytes: usize) -> bool {
        self.count.get() < self.max_count && self.bytes.get().saturating_add(bytes) <= self.max_bytes
    }

    fn change(&self, count: impl Fn(usize) -> usize, bytes: impl Fn(usize) -> usize) {
        self.count.set(count(self.count.get()));
        self.bytes.set(bytes(self.bytes.get()));
    }
}

/// The bytes of all arguments.
fn size(pipeline: &Pipeline) -> usize {
    let of_argument = |argument: Arg<&[u8]>| match argument {
        Arg::Simple(bytes) => bytes.len(),
        _ => 0,
    };
    pipeline.cmd_iter().flat_map(|command| command.args_iter()).map(of_argument).sum()
}
