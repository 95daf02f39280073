//! Where the masters are now.
//!
//! 1. One server: itself. Sentinels: whom most of them call master, if it agrees (`sentinel`). A cluster: every master, as the first
//!    of the seeds that answers says; also one that serves no slot yet, since keys may lie there before a slot does (`ASK`).
//! 2. What is asked for here goes over a connection of its own that is closed afterwards: no request ever waits for it.
//! 3. Who learns that a master is another now says so through [`Changes`]: every [`Server`] that was cloned from one shares
//!    them. Links do ([`Changes::tell`]); what keeps connections of its own to the masters waits for it
//!    ([`Changes::after`]), and asks for the [`masters`] again.
//! 4. That masters have exchanged slots and are the same as before is told apart ([`Changes::tell_of_slots`]): it concerns
//!    who asks one master after the other ([`Changes::of_slots`]), and not who listens to all.
//!
//! # Why
//! A link follows the servers in the background of its worker, and knows at once when a node says `MOVED`. The tracking of
//! the near tier runs elsewhere, and would find out only when it misses something.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Pipeline, RedisConnectionInfo, Value};
use tokio::sync::watch;

use super::address::{Endpoint, Login, Server, Topology};
use super::cluster::together;
use super::connect::{failure, fault, not_opened, not_selected, sign_on};
use super::fault::Fault;
use super::slots::{self, Map};
use super::{sentinel, transport};

/// Counts the changes of a topology that were noticed anywhere in this process; clones share the count. Two of them are
/// always equal: what they count is no part of what is configured.
#[derive(Clone, Debug, Default)]
pub struct Changes(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    masters: watch::Sender<u64>,
    slots: AtomicU64,
}

impl PartialEq for Changes {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Changes {}

impl Changes {
    /// A master is another now, or may be.
    pub fn tell(&self) {
        self.0.masters.send_modify(|count| *count += 1);
    }

    /// How many changes of masters there have been. The masters that were asked for after this count was taken are those
    /// of now for as long as it stays the same.
    pub fn count(&self) -> u64 {
        *self.0.masters.borrow()
    }

    /// Waits until [`Changes::count`] is no longer `count`.
    pub async fn after(&self, count: u64) {
        // It has a sender for as long as this is there.
        let _ = self.0.masters.subscribe().wait_for(|now| *now != count).await;
    }

    /// The masters are the same, and serve other slots.
    pub fn tell_of_slots(&self) {
        self.0.slots.fetch_add(1, Ordering::AcqRel);
    }

    /// How often slots have had other masters: at every change of masters, and at every move between those that stay.
    pub fn of_slots(&self) -> u64 {
        self.count() + self.0.slots.load(Ordering::Acquire)
    }
}

/// The masters of `server` now; each server that is asked for them has at most `limit` to answer.
///
/// # Errors
/// A word for logs and metrics, if nobody knows.
pub async fn masters(server: &Server, limit: Duration) -> Result<Vec<Endpoint>, &'static str> {
    match &server.topology {
        Topology::Single(endpoint) => Ok(vec![endpoint.clone()]),
        Topology::Sentinel { .. } => Ok(vec![sentinel::master(server, limit).await.map_err(Fault::word)?]),
        Topology::Cluster { seeds } => {
            let map = learn(server, seeds.iter(), limit).await.map_err(Fault::word)?;
            let mut masters: Vec<_> = map.masters().to_vec();
            let idle = idle(server, &masters, limit).await;
            masters.extend(idle);
            Ok(masters)
        }
    }
}

/// The masters of `server` now, as [`masters`], and of each that does not answer within `limit`, or refuses the database
/// that is meant, the reason.
///
/// # Errors
/// As [`masters`].
pub async fn roll_call(
    server: &Server,
    limit: Duration,
) -> Result<Vec<(Endpoint, Option<&'static str>)>, &'static str> {
    let masters = masters(server, limit).await?;
    let mut question = Pipeline::new();
    question.cmd("PING");
    if server.database != 0 {
        question.cmd("SELECT").arg(server.database);
    }
    let asked = together(masters.iter().map(|master| ask(master, &server.login, server, limit, &question))).await;
    let away = asked.into_iter().map(|said| match said.as_deref() {
        Ok([ping, selected @ ..]) => {
            let refused = selected.first().and_then(failure).map(not_selected);
            failure(ping).or(refused).map(Fault::word)
        }
        Ok([]) => Some(Fault::Protocol.word()),
        Err(fault) => Some(fault.word()),
    });
    Ok(masters.iter().cloned().zip(away).collect())
}

/// The slot map, as the first of `nodes` that answers says.
///
/// # Errors
/// What the last of them said, or failed with.
pub(super) async fn learn(
    server: &Server,
    nodes: impl Iterator<Item = &Endpoint>,
    limit: Duration,
) -> Result<Map, Fault> {
    let mut slots = Pipeline::new();
    slots.cmd("CLUSTER").arg("SLOTS");
    let mut why = Fault::ClusterDown;
    for node in nodes {
        match ask(node, &server.login, server, limit, &slots).await {
            Ok(mut said) => match Map::read(said.pop().unwrap_or_default(), node) {
                Ok(map) => return Ok(map),
                Err(fault) => why = fault,
            },
            Err(fault) => why = fault,
        }
    }
    Err(why)
}

/// Masters that serve no slot yet, as the first of `masters` that answers says; none, if it may not be asked.
async fn idle(server: &Server, masters: &[Endpoint], limit: Duration) -> Vec<Endpoint> {
    let mut nodes = Pipeline::new();
    nodes.cmd("CLUSTER").arg("NODES");
    for master in masters {
        let said = ask(master, &server.login, server, limit, &nodes).await;
        if let Ok([Value::BulkString(text)]) = said.as_deref() {
            let text = String::from_utf8_lossy(text);
            return text.lines().filter_map(slots::idle_master).filter(|idle| !masters.contains(idle)).collect();
        }
    }
    Vec::new()
}

/// Asks the server at `endpoint`, as `login` and with the TLS of `server`, over a connection of its own; all of it within
/// `limit`.
///
/// # Errors
/// What went wrong.
pub(super) async fn ask(
    endpoint: &Endpoint,
    login: &Login,
    server: &Server,
    limit: Duration,
    question: &Pipeline,
) -> Result<Vec<Value>, Fault> {
    let asked = converse(endpoint, login, server, limit, async |connection| put(connection, question).await);
    tokio::time::timeout(limit, asked).await.unwrap_or(Err(Fault::Timeout))
}

/// Has a conversation over a connection of its own, for as long as it stands; each answer comes within `limit`, as does
/// the connection.
///
/// # Errors
/// What `talk` says, or why there is no connection.
pub(super) async fn converse<T>(
    endpoint: &Endpoint,
    login: &Login,
    server: &Server,
    limit: Duration,
    talk: impl AsyncFnOnce(&mut MultiplexedConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    let silent = RedisConnectionInfo::default().set_skip_set_lib_name();
    let opened = async {
        let stream = transport::open(endpoint, server.tls.as_ref()).await.map_err(|error| not_opened(&error))?;
        let config = AsyncConnectionConfig::new().set_response_timeout(Some(limit));
        MultiplexedConnection::new_with_config(&silent, stream, config).await.map_err(|error| fault(&error))
    };
    let (mut connection, driver) = tokio::time::timeout(limit, opened).await.unwrap_or(Err(Fault::Timeout))?;
    let conversation = async {
        sign_on(&mut connection, login, 0).await?;
        talk(&mut connection).await
    };
    tokio::select! {
        biased;
        said = conversation => said,
        () = driver => Err(Fault::Disconnected),
    }
}

/// Puts a question in a conversation.
///
/// # Errors
/// What went wrong.
pub(super) async fn put(connection: &mut MultiplexedConnection, question: &Pipeline) -> Result<Vec<Value>, Fault> {
    connection.send_packed_commands(question, 0, question.len()).await.map_err(|error| fault(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_masters_wakes_who_waits_for_it_and_a_move_of_slots_does_not() {
        let (told, other) = (Changes::default(), Changes::default());
        let shared = told.clone();
        let (count, slots) = (shared.count(), shared.of_slots());
        told.tell_of_slots();
        assert_eq!((shared.count(), shared.of_slots()), (count, slots + 1));
        let mut change = std::pin::pin!(shared.after(count));
        let now = Duration::ZERO;
        assert!(tokio::time::timeout(now, &mut change).await.is_err());
        other.tell();
        assert!(tokio::time::timeout(now, &mut change).await.is_err(), "those of another server");
        told.tell();
        change.await;
        assert_eq!((shared.count(), shared.of_slots()), (count + 1, slots + 2));
        shared.after(count).await;
    }
}
