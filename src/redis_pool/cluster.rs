//! A worker's way to a cluster: a [`Node`] for each master, and who serves which slot.
//!
//! 1. A pipeline whose keys all lie with one node goes there as it is. Any other goes in pieces (`split`), sent at once
//!    and awaited together: it takes as long as the slowest of its nodes. Commands without a key go with the others.
//! 2. Who is told `MOVED`, `ASK` or `TRYAGAIN` asks once more where it was told to, and once more after that ([`TRIPS`]). A
//!    node that was not known until then is connected to, and waited for, but never longer than the time-out since it was
//!    first named, whoever waits. All of it together takes no longer than the time-out.
//! 3. A slot that nobody serves, and a node that is away, fail their own commands and no others (`split::unanswered`). Only
//!    where nothing is answered does the whole pipeline fail.
//! 4. The map is learnt in the background: at the start, every [`LOOK`], and at once when a node says `MOVED` or
//!    `CLUSTERDOWN` or cannot be asked; as long as a master is away, every [`EAGER`]. The nodes that are up are asked in
//!    turn; where none is, all that are known, and the seeds. With the masters come their replicas (`replicas`).
//!
//! # Why
//! In turn, since a node that was cut off goes on to say what it knew. And nodes that are not in the map are kept as long
//! as something is asked of them: the one that is about to get its first slot is in no map.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use redis::{Cmd, Pipeline, Value};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout_at};

use super::Settings;
use super::address::{Endpoint, Topology};
use super::connect::{Place, failure};
use super::fault::Fault;
use super::node::Node;
use super::redirect::Redirect;
use super::replicas::{Replica, Replicas};
use super::slots::{self, MAX_MASTERS, Map};
use super::split::{Split, unanswered, why};
use super::standing::Standing;
use super::topology::learn;

/// How often the map is learnt while nothing seems to change.
const LOOK: Duration = Duration::from_secs(5);
/// How often while a master is away.
const EAGER: Duration = Duration::from_millis(200);
/// How often at most.
const APART: Duration = Duration::from_millis(100);
/// Trips of one command: to the node of the map, after `MOVED`, after `ASK`.
const TRIPS: usize = 3;

/// A worker's cluster.
pub(super) struct Cluster {
    settings: Settings,
    scripts: Box<[&'static str]>,
    standing: Rc<Standing>,
    /// For the log.
    url: String,
    map: RefCell<Map>,
    /// The masters of the map, in its order, and after them the nodes that are in no map.
    members: RefCell<Vec<Rc<Member>>>,
    /// Who is asked for the map next.
    turn: Cell<usize>,
    doubt: Notify,
    replicas: Option<Rc<Replicas>>,
}

/// A node that the cluster has, or had.
struct Member {
    endpoint: Endpoint,
    node: Rc<Node>,
    /// Until when a request may wait for the first connection.
    patience: Instant,
    /// It was named by another node since the map was learnt.
    named: Cell<bool>,
}

impl Cluster {
    /// The cluster of `settings`, of which nothing is known yet.
    pub(super) fn new(
        settings: &Settings,
        scripts: &[&'static str],
        standing: &Rc<Standing>,
        replicas: Option<Rc<Replicas>>,
    ) -> Self {
        standing.redirects();
        Self {
            settings: settings.clone(),
            scripts: scripts.into(),
            standing: standing.clone(),
            url: settings.shown(),
            map: RefCell::default(),
            members: RefCell::default(),
            turn: Cell::new(0),
            doubt: Notify::new(),
            replicas,
        }
    }

    /// Whether any node answers.
    pub(super) fn is_up(&self) -> bool {
        self.members.borrow().iter().any(|member| member.node.is_up())
    }

    /// Every master that serves slots.
    pub(super) fn masters(&self) -> Vec<Rc<Node>> {
        let members = self.members.borrow();
        members[..self.map.borrow().masters().len()].iter().map(|master| master.node.clone()).collect()
    }

    /// A replica that is up and has the slot of `key`.
    pub(super) fn replica(&self, key: &[u8]) -> Option<Replica> {
        self.replicas.as_ref()?.pick(self.map.borrow().owner(slots::slot(key))?)
    }

    /// As [`super::Link::query`], but what a part of the nodes cannot answer is [`super::why_unanswered`].
    ///
    /// # Errors
    /// Nothing at all could be answered.
    pub(super) async fn query(&self, pipeline: &Pipeline) -> Result<Vec<Value>, Fault> {
        let until = Instant::now() + self.settings.timeout;
        // In a box is what only some need: it would make the future of every request larger.
        let Some(member) = self.sole(pipeline) else { return Box::pin(self.in_pieces(pipeline, until)).await };
        let answer = member.node.trip(pipeline).await;
        match answer {
            Ok(values) if is_redirected(&values, &member) => {
                Box::pin(self.again(pipeline, &member, values, until)).await
            }
            answer => {
                self.doubt_if(answer.is_err());
                answer
            }
        }
    }

    /// The one node where the whole of `pipeline` goes, if there is one and it answers.
    fn sole(&self, pipeline: &Pipeline) -> Option<Rc<Member>> {
        let mut sole: Option<Rc<Member>> = None;
        for key in pipeline.cmd_iter().filter_map(slots::key) {
            let member = self.serving(key).ok().filter(|member| member.node.is_up())?;
            match &sole {
                None => sole = Some(member),
                Some(first) if Rc::ptr_eq(first, &member) => {}
                Some(_) => return None,
            }
        }
        sole.or_else(|| self.any())
    }

    /// Who serves the slot of `key`.
    fn serving(&self, key: &[u8]) -> Result<Rc<Member>, Fault> {
        let map = self.map.borrow();
        let unserved = if map.masters().is_empty() { Fault::Down } else { Fault::Uncovered };
        let owner = map.owner(slots::slot(key)).ok_or(unserved)?;
        self.members.borrow().get(owner).cloned().ok_or(unserved)
    }

    /// A node that is up; not always the same.
    fn any(&self) -> Option<Rc<Member>> {
        let members = self.members.borrow();
        let start = self.turn.get();
        let mut turns = (0..members.len()).map(|step| (start + step) % members.len());
        let index = turns.find(|&index| members[index].node.is_up())?;
        self.turn.set(index + 1);
        Some(members[index].clone())
    }

    async fn in_pieces(&self, pipeline: &Pipeline, until: Instant) -> Result<Vec<Value>, Fault> {
        let mut whole = vec![Value::Nil; pipeline.len()];
        let mut split = Split::default();
        for (place, command) in pipeline.cmd_iter().enumerate() {
            let member = match slots::key(command) {
                Some(key) => self.serving(key),
                None => self.any().ok_or(Fault::Down),
            };
            match member {
                Ok(member) => split.add(member, command, place, false),
                Err(fault) => {
                    self.doubt_if(true);
                    self.standing.fault(&self.url, fault);
                    whole[place] = unanswered(fault);
                }
            }
        }
        self.settle(pipeline, split, whole, 0, until).await
    }

    /// Asks again for what of `values`, the answer of `member` to `pipeline`, is no answer.
    async fn again(
        &self,
        pipeline: &Pipeline,
        member: &Rc<Member>,
        mut values: Vec<Value>,
        until: Instant,
    ) -> Result<Vec<Value>, Fault> {
        let mut split = Split::default();
        for (place, command) in pipeline.cmd_iter().enumerate() {
            self.follow(member, command, (place, false), &mut values, &mut split);
        }
        self.settle(pipeline, split, values, 1, until).await
    }

    /// Asks what `split` says, after so many `trips`, and again where that leads, until `until`.
    async fn settle(
        &self,
        pipeline: &Pipeline,
        mut split: Split<Rc<Member>>,
        mut whole: Vec<Value>,
        trips: usize,
        until: Instant,
    ) -> Result<Vec<Value>, Fault> {
        let commands: Vec<&Cmd> = pipeline.cmd_iter().collect();
        for trip in trips..TRIPS {
            if split.0.is_empty() {
                break;
            }
            let spent = trip > 0;
            let asked = split.0.iter().map(|piece| self.trip(&piece.node, &piece.pipeline, spent, until));
            let answers = together(asked).await;
            let mut next = Split::default();
            for (piece, answer) in split.0.iter().zip(answers) {
                piece.give(answer, &mut whole);
                for (place, asking) in piece.places() {
                    self.follow(&piece.node, commands[place], (place, asking), &mut whole, &mut next);
                }
            }
            split = next;
        }
        for (place, _) in split.0.iter().flat_map(|piece| piece.places()) {
            whole[place] = unanswered(Fault::Moved);
        }
        // All of them: there is no value that anybody could use.
        let mut reasons = whole.iter().map(why);
        match reasons.next().flatten() {
            Some(fault) if reasons.all(|other| other.is_some()) => Err(fault),
            _ => Ok(whole),
        }
    }

    /// One trip to `member`; `spent`: some of the time is.
    async fn trip(
        &self,
        member: &Member,
        pipeline: &Pipeline,
        spent: bool,
        until: Instant,
    ) -> Result<Vec<Value>, Fault> {
        let waited = member.wait_for_the_first_connection(until).await;
        let answer = match spent || waited {
            true => member.node.trip_until(pipeline, until).await,
            false => member.node.trip(pipeline).await,
        };
        self.doubt_if(answer.is_err());
        answer
    }

    fn doubt_if(&self, doubtful: bool) {
        if doubtful {
            self.doubt.notify_one();
        }
    }

    /// If what `member` said to the command at `place` is no answer, adds to `next` what is asked instead.
    fn follow(
        &self,
        member: &Member,
        command: &Cmd,
        (place, asking): (usize, bool),
        whole: &mut [Value],
        next: &mut Split<Rc<Member>>,
    ) {
        let Some(redirect) = Redirect::read(&whole[place], &member.endpoint) else { return };
        let (endpoint, asking) = match redirect {
            Redirect::Moved(endpoint) => {
                self.doubt_if(true);
                (endpoint, false)
            }
            Redirect::Ask(endpoint) => (endpoint, true),
            Redirect::Again => (member.endpoint.clone(), asking),
            Redirect::Down => {
                self.doubt_if(true);
                whole[place] = unanswered(failure(&whole[place]).unwrap_or(Fault::ClusterDown));
                return;
            }
        };
        match self.named(&endpoint) {
            Some(member) => next.add(member, command, place, asking),
            None => whole[place] = unanswered(Fault::Moved),
        }
    }

    /// The node at `endpoint`, which another node has named.
    fn named(&self, endpoint: &Endpoint) -> Option<Rc<Member>> {
        let mut members = self.members.borrow_mut();
        let known = members.iter().find(|member| member.endpoint == *endpoint).cloned();
        let member = match known {
            Some(member) => member,
            None if members.len() < 2 * MAX_MASTERS => {
                self.settings.server.changes.tell();
                members.push(self.member(endpoint));
                members.last()?.clone()
            }
            None => return None,
        };
        member.named.set(true);
        Some(member)
    }

    fn member(&self, endpoint: &Endpoint) -> Rc<Member> {
        let node = Node::new(Place::Fixed(endpoint.clone()), &self.settings, &self.scripts, &self.standing);
        let patience = Instant::now() + self.settings.timeout;
        Rc::new(Member { endpoint: endpoint.clone(), node: Rc::new(node), patience, named: Cell::new(false) })
    }

    /// Learns the map, again and again, for as long as it is polled.
    pub(super) async fn keep(&self) {
        loop {
            match self.look().await {
                Ok(map) => self.adopt(map),
                Err(fault) => self.standing.failed(&self.url, fault),
            }
            let masters = self.masters();
            let well = !masters.is_empty() && masters.iter().all(|master| master.is_up());
            tokio::select! {
                () = self.doubt.notified() => sleep(APART).await,
                () = sleep(if well { LOOK } else { EAGER }) => {}
            }
        }
    }

    async fn look(&self) -> Result<Map, Fault> {
        if let Some(member) = self.any() {
            let mut question = Pipeline::new();
            question.cmd("CLUSTER").arg("SLOTS");
            let said = member.node.trip(&question).await?.pop().unwrap_or_default();
            return Map::read(said, &member.endpoint);
        }
        let known: Vec<Endpoint> = self.members.borrow().iter().map(|member| member.endpoint.clone()).collect();
        let Topology::Cluster { seeds } = &self.settings.server.topology else { return Err(Fault::ClusterDown) };
        learn(&self.settings.server, known.iter().chain(seeds), self.settings.connecting()).await
    }

    /// Makes `map` the map in force: keeps the nodes that it names, and those that other nodes named since the last.
    fn adopt(&self, map: Map) {
        if !map.same(&self.map.borrow()) {
            let (url, masters, before) = (&self.url, map.masters().len(), self.map.borrow());
            if before.masters().is_empty() {
                tracing::info!(url, masters, "the masters of the cluster are known");
            } else if map.has_same_masters(&before) {
                tracing::info!(url, masters, "slots of the cluster have moved");
                self.standing.metrics.moves.inc();
                self.settings.server.changes.tell_of_slots();
            } else {
                tracing::info!(url, masters, "slots of the cluster have other masters now");
                self.standing.changed(&self.settings.server.changes);
            }
        }
        let before = self.members.take();
        let known = |endpoint: &Endpoint| before.iter().find(|member| member.endpoint == *endpoint).cloned();
        let masters = map.masters().iter();
        let mut members: Vec<_> =
            masters.map(|endpoint| known(endpoint).unwrap_or_else(|| self.member(endpoint))).collect();
        let named = before.iter().filter(|member| member.named.take());
        let guests: Vec<_> = named.filter(|guest| !members.iter().any(|member| Rc::ptr_eq(member, guest))).collect();
        members.extend(guests.into_iter().cloned());
        self.replicas.as_ref().inspect(|replicas| replicas.adopt(map.replicas()));
        self.map.replace(map);
        self.members.replace(members);
    }
}

impl PartialEq for Member {
    fn eq(&self, other: &Self) -> bool {
        self.endpoint == other.endpoint
    }
}

impl Member {
    /// A node that has just become known is worth a wait; one that was there and is away is not. Whether it waited.
    async fn wait_for_the_first_connection(&self, until: Instant) -> bool {
        let until = self.patience.min(until);
        let waits = !self.node.is_up() && Instant::now() < until;
        if waits {
            let _ = timeout_at(until, self.node.closed()).await;
        }
        waits
    }
}

/// Whether some of this, which `member` said, is no answer but says where there may be one.
fn is_redirected(values: &[Value], member: &Member) -> bool {
    values.iter().any(|value| Redirect::read(value, &member.endpoint).is_some())
}

/// What all of them come to, polled together on this task.
pub(super) async fn together<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut waiting: Vec<_> = futures.map(Box::pin).collect();
    let mut outputs: Vec<_> = waiting.iter().map(|_| None).collect();
    std::future::poll_fn(|context| {
        let mut done = true;
        for (future, output) in waiting.iter_mut().zip(&mut outputs).filter(|(_, output)| output.is_none()) {
            match future.as_mut().poll(context) {
                Poll::Ready(value) => *output = Some(value),
                Poll::Pending => done = false,
            }
        }
        if done { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
    outputs.into_iter().flatten().collect()
}
