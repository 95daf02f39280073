//! The replicas of a worker's Redis, for what one that is behind its master cannot make wrong.
//!
//! 1. Who they are a cluster says with its slots; behind sentinels these do, who leave out what they hold for unsound.
//! 2. Each is a [`Node`]: connections, a time-out and a breaker of its own. They say nothing about how the link stands: a
//!    Redis without replicas is all there.
//! 3. Who asks is given one that is up, in turn, of those that follow the master in question. There may be none: then the
//!    master is asked.
//! 4. Nothing is ever written through them, and no script is loaded.
//!
//! # Why
//! Nodes of their own, though their endpoint may be a master's tomorrow: a connection that was told `READONLY` is not one
//! that a master's node would make, and a fail-over is rare.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::Arc;

use redis::{Pipeline, Value};

use super::Settings;
use super::address::{Endpoint, Topology};
use super::connect::Place;
use super::fault::Fault;
use super::node::Node;
use super::standing::Standing;
use crate::telemetry::registry::Registry;

/// What may be read from replicas (`[redis] replicas`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReplicaReads {
    /// Nothing.
    Never,
    /// Stored responses.
    Cache,
}

/// A replica that answered when it was asked for.
pub struct Replica(Rc<Node>);

/// All replicas that are known.
pub(super) struct Replicas {
    settings: Settings,
    standing: Rc<Standing>,
    /// By master.
    followers: RefCell<Vec<Vec<Follower>>>,
    /// Who is given next.
    turn: Cell<usize>,
}

#[derive(Clone)]
struct Follower {
    endpoint: Endpoint,
    node: Rc<Node>,
}

impl Replica {
    /// Asks it, as [`super::Link::query`]. What it says may be older than what its master says.
    ///
    /// # Errors
    /// As [`super::Link::query`].
    pub async fn query(&self, pipeline: &Pipeline) -> Result<Vec<Value>, &'static str> {
        self.0.trip(pipeline).await.map_err(Fault::word)
    }
}

impl Replicas {
    /// None yet; `None` if `settings` want none.
    pub(super) fn new(settings: &Settings, registry: &Arc<Registry>, worker: usize) -> Option<Rc<Self>> {
        (settings.replicas == ReplicaReads::Cache).then(|| {
            let standing = Rc::new(Standing::of_replicas(registry, worker));
            standing.redirects();
            let (settings, followers) = (settings.clone(), RefCell::default());
            Rc::new(Self { settings, standing, followers, turn: Cell::new(0) })
        })
    }

    /// One that is up, of those that follow the master of this number.
    pub(super) fn pick(&self, master: usize) -> Option<Replica> {
        let followers = self.followers.borrow();
        let followers = followers.get(master)?;
        let start = self.turn.get();
        let mut turns = (0..followers.len()).map(|step| (start.wrapping_add(step)) % followers.len());
        let index = turns.find(|&index| followers[index].node.is_up())?;
        self.turn.set(index + 1);
        Some(Replica(followers[index].node.clone()))
    }

    /// From now on it is these, by master.
    pub(super) fn adopt(&self, masters: &[Vec<Endpoint>]) {
        let before = self.followers.take();
        let follower = |endpoint: &Endpoint| {
            let known = before.iter().flatten().find(|follower| follower.endpoint == *endpoint);
            known.cloned().unwrap_or_else(|| self.follower(endpoint))
        };
        let followers = masters.iter().map(|of_one| of_one.iter().map(follower).collect()).collect();
        self.followers.replace(followers);
    }

    fn follower(&self, endpoint: &Endpoint) -> Follower {
        let place = match self.settings.server.topology {
            Topology::Cluster { .. } => Place::Replica(endpoint.clone()),
            Topology::Single(_) | Topology::Sentinel { .. } => Place::Fixed(endpoint.clone()),
        };
        let node = Rc::new(Node::new(place, &self.settings, &[], &self.standing));
        Follower { endpoint: endpoint.clone(), node }
    }
}
