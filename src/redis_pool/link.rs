//! A worker's way to Redis: one trip, bounded in time, never a wait for a Redis that is known to be away.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicU8;

use redis::{Arg, Pipeline, Value};
use tokio::sync::watch;

use crate::telemetry::registry::Registry;

use super::Settings;
use super::address::Topology;
use super::connect::Place;
use super::fault::Fault;
use super::node::Node;
use super::standing::Standing;

/// [`Link::shared_state`]: no connection has been made yet.
pub const CONNECTING: u8 = 0;
/// [`Link::shared_state`]: Redis answers.
pub const UP: u8 = 1;
/// [`Link::shared_state`]: Redis is away.
pub const DOWN: u8 = 2;

/// A worker's way to Redis; clones share it, and it ends with the last of them.
#[derive(Clone)]
pub struct Link(Rc<Kept>);

struct Kept {
    node: Option<Node>,
    standing: Rc<Standing>,
    sends: Sends,
}

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
        let node = match &settings.server.topology {
            Topology::Single(endpoint) => Some(Node::new(Place::Fixed(endpoint.clone()), settings, scripts, &standing)),
            Topology::Sentinel { .. } | Topology::Cluster { .. } => None,
        };
        let sends = Sends {
            count: Cell::new(0),
            bytes: Cell::new(0),
            max_count: settings.max_sends,
            max_bytes: settings.max_send_bytes,
        };
        Self(Rc::new(Kept { node, standing, sends }))
    }

    /// Sends `pipeline` and waits for its answers, at most the configured time-out: one value for each command, a
    /// command's own failure being `redis::Value::ServerError`. Of a transaction: what EXEC answered.
    ///
    /// # Errors
    /// A word for logs and metrics (`down`, `timeout`, `disconnected` …, see [`super::fault`]) if Redis could not be asked
    /// or did not answer. What was sent may have been done all the same.
    pub async fn query(&self, pipeline: &Pipeline) -> Result<Vec<Value>, &'static str> {
        if pipeline.is_empty() {
            return Ok(Vec::new());
        }
        let Some(node) = &self.0.node else { return Err(Fault::Down.word()) };
        node.trip(pipeline).await.map_err(Fault::word)
    }

    /// Sends `pipeline` without waiting. It is dropped, and counted as dropped, if Redis is away, or more than
    /// `max_sends` or `max_send_bytes` would be unanswered.
    pub fn send(&self, pipeline: Pipeline) {
        let (sends, bytes) = (&self.0.sends, size(&pipeline));
        if !self.is_up() || !sends.have_room(bytes) {
            return self.0.standing.metrics.dropped.inc();
        }
        sends.change(|count| count + 1, |all| all + bytes);
        let link = self.clone();
        tokio::task::spawn_local(async move {
            let _ = link.query(&pipeline).await;
            link.0.sends.change(|count| count - 1, |all| all - bytes);
        });
    }

    /// Whether Redis answers, as far as is known.
    pub fn is_up(&self) -> bool {
        self.0.node.as_ref().is_some_and(Node::is_up)
    }

    /// [`CONNECTING`], [`UP`] or [`DOWN`], for other threads to read.
    pub fn shared_state(&self) -> Arc<AtomicU8> {
        self.0.standing.state().clone()
    }

    /// Tells when Redis goes (`false`) and comes back (`true`).
    pub fn subscribe(&self) -> watch::Receiver<bool> {
        self.0.standing.subscribe()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.node = None;
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
