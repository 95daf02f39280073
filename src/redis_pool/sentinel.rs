//! Which server is the master, when sentinels watch over it
//! (<https://redis.io/docs/latest/develop/reference/sentinel-clients/>).
//!
//! 1. All sentinels are asked at once. Whom most of them name (`ballot`) is the master, if that server, asked for its
//!    `ROLE`, says that it is one. Once more than half have named the same, or some have and the others say nothing for
//!    [`SETTLE`], the others are not waited for. Until somebody is found there is no connection, and requests do not wait
//!    for one.
//! 2. Once there is, all sentinels are asked again every second ([`LOOK`]), each over a connection that is kept. If most
//!    call another server master, and that one agrees, the connection is taken down, however well it works.
//! 3. Where replicas are wanted a sentinel is asked for them as often. Those that it holds for down or disconnected, and those
//!    that have lost their master, are left out.
//!
//! # Why
//! A master that was cut off from the others, or stood still, knows nothing of its successor: it goes on to answer, and
//! what is counted there will be forgotten. And a sentinel that was cut off with it still names the old one, which agrees:
//! so no sentinel is believed alone while others can be asked, and nobody is believed about a server that says otherwise
//! itself.

mod ballot;

use std::cell::RefCell;
use std::fmt;
use std::rc::Weak;
use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use self::ballot::{Vote, ranked};
use super::address::{Endpoint, Server, Topology};
use super::cluster::together;
use super::connect::failure;
use super::fault::Fault;
use super::node::Node;
use super::slots::MAX_MASTERS;
use super::standing::Standing;
use super::topology::{ask, converse, put};

/// How often the sentinels are asked whether the master is still the same.
const LOOK: Duration = Duration::from_secs(1);
/// How long those that have said nothing are waited for once one has.
const SETTLE: Duration = Duration::from_millis(250);

/// The master, whichever server that is.
#[derive(Debug)]
pub(super) struct Master {
    /// What the sentinels call it.
    name: Arc<str>,
    /// Which server it was when it was last asked for.
    current: watch::Sender<Option<Endpoint>>,
}

impl Master {
    /// The master of this name, of which nothing is known yet.
    pub(super) fn new(name: Arc<str>) -> Self {
        Self { name, current: watch::Sender::new(None) }
    }

    /// Asks the sentinels where it is, as [`master`].
    ///
    /// # Errors
    /// As [`master`].
    pub(super) async fn find(&self, server: &Server, limit: Duration) -> Result<Endpoint, Fault> {
        let found = master(server, limit).await?;
        let before = self.current.send_replace(Some(found.clone()));
        if before.as_ref() != Some(&found) {
            tracing::info!(master = %self.name, endpoint = %found, "the master is known");
        }
        Ok(found)
    }

    /// Sees to it that `node` has no connection to a server that is no longer the master, and that whoever asks is told
    /// ([`super::topology::Changes`]), for as long as it is polled.
    pub(super) async fn follow(&self, server: &Server, limit: Duration, node: &Weak<Node>, standing: &Standing) {
        let mut found = self.current.subscribe();
        loop {
            let before = found.borrow_and_update().clone();
            let displaced = async {
                match &before {
                    Some(before) => displaced(before, server, limit).await,
                    None => std::future::pending().await,
                }
            };
            let another = tokio::select! {
                biased;
                changed = found.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    before.is_some() && *found.borrow() != before
                }
                () = displaced => true,
            };
            if another {
                tracing::info!(master = %self.name, "another server is master now");
                standing.changed(&server.changes);
                // The connections to the one before, if they still stand.
                node.upgrade().inspect(|node| node.open(Fault::ReadOnly));
            }
        }
    }
}

impl fmt::Display for Master {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

/// The master, as most sentinels say, or those of the others that name one which agrees; each server that is asked has at
/// most `limit`.
///
/// # Errors
/// What asking the last of them failed of: [`Fault::NoMaster`] if it knows none of that name, and [`Fault::ReadOnly`] if
/// whom it named says that it is no master.
pub(super) async fn master(server: &Server, limit: Duration) -> Result<Endpoint, Fault> {
    let Topology::Sentinel { sentinels, master, login } = &server.topology else { return Err(Fault::NoMaster) };
    let mut asked = JoinSet::new();
    for sentinel in sentinels {
        let (sentinel, server, login, question) = (sentinel.clone(), server.clone(), login.clone(), who(master));
        asked.spawn(async move { vote(ask(&sentinel, &login, &server, limit, &question).await) });
    }
    let (mut votes, mut why) = (Vec::new(), Fault::NoMaster);
    // Until one has named a master there is nothing to settle for; each question ends by itself.
    let mut until = Instant::now() + limit + SETTLE;
    while let Ok(Some(said)) = timeout_at(until, asked.join_next()).await {
        match said.unwrap_or(Err(Fault::Disconnected)) {
            Ok(vote) => {
                until = until.min(Instant::now() + SETTLE);
                votes.push(vote);
            }
            Err(fault) => why = fault,
        }
        if ranked(&votes).first().is_some_and(|first| 2 * first.votes > sentinels.len()) {
            break;
        }
    }
    for candidate in ranked(&votes) {
        match agrees(candidate.master, server, limit).await {
            Ok(()) => return Ok(candidate.master.clone()),
            Err(fault) => why = fault,
        }
    }
    Err(why)
}

/// Whether the server says itself that it is a master.
async fn agrees(endpoint: &Endpoint, server: &Server, limit: Duration) -> Result<(), Fault> {
    let mut question = Pipeline::new();
    question.cmd("ROLE");
    let said = ask(endpoint, &server.login, server, limit, &question).await?;
    match said.first() {
        Some(role) if is_master(role) => Ok(()),
        Some(Value::Array(_)) => Err(Fault::ReadOnly),
        other => Err(other.and_then(failure).unwrap_or(Fault::Protocol)),
    }
}

/// Whether this is what a master says to `ROLE`.
pub(super) fn is_master(role: &Value) -> bool {
    let Value::Array(role) = role else { return false };
    match role.first() {
        Some(Value::BulkString(role)) => role == b"master",
        Some(Value::SimpleString(role)) => role == "master",
        _ => false,
    }
}

/// Waits until the sentinels call another than `current` master, and that one agrees. `limit` is for each answer.
async fn displaced(current: &Endpoint, server: &Server, limit: Duration) {
    let Topology::Sentinel { sentinels, master, login } = &server.topology else { return std::future::pending().await };
    let question = who(master);
    // What each said last; nothing, if it cannot be asked.
    let said: Vec<RefCell<Option<Vote>>> = sentinels.iter().map(|_| RefCell::default()).collect();
    let listening = together(sentinels.iter().zip(&said).map(|(sentinel, said)| {
        let looking = async |connection: &mut MultiplexedConnection| -> Result<(), Fault> {
            loop {
                let now = vote(put(connection, &question).await)?;
                said.replace(Some(now));
                tokio::time::sleep(LOOK).await;
            }
        };
        async move {
            loop {
                let _ = converse(sentinel, login, server, limit, &looking).await;
                said.replace(None);
                tokio::time::sleep(LOOK).await;
            }
        }
    }));
    let judging = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let votes: Vec<Vote> = said.iter().filter_map(|said| said.borrow().clone()).collect();
            if let Some(other) = ballot::successor(&votes, current)
                && agrees(other, server, limit).await.is_ok()
            {
                return;
            }
        }
    };
    tokio::select! {
        _ = listening => {}
        () = judging => {}
    }
}

/// Asks the sentinels every second ([`LOOK`]) for the replicas of the master that are sound, for as long as it is polled;
/// `found` is told. `limit` is for each answer.
pub(super) async fn seek_replicas(server: &Server, limit: Duration, found: impl Fn(Vec<Endpoint>)) {
    let Topology::Sentinel { sentinels, master, login } = &server.topology else { return };
    let mut question = Pipeline::new();
    question.cmd("SENTINEL").arg("replicas").arg(&**master);
    loop {
        for sentinel in sentinels {
            let looking = async |connection: &mut MultiplexedConnection| -> Result<(), Fault> {
                loop {
                    let said = put(connection, &question).await?.pop().unwrap_or_default();
                    failure(&said).map_or(Ok(()), Err)?;
                    let Value::Array(said) = said else { return Err(Fault::Protocol) };
                    found(said.into_iter().filter_map(replica).take(MAX_MASTERS).collect());
                    tokio::time::sleep(LOOK).await;
                }
            };
            let _ = converse(sentinel, login, server, limit, looking).await;
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Where a replica is, by what a sentinel says about it: `[NAME, VALUE, …]`. `None`: it is not sound.
fn replica(said: Value) -> Option<Endpoint> {
    let Value::Array(said) = said else { return None };
    let (mut place, mut sound) = ([Value::Nil, Value::Nil], true);
    let mut said = said.into_iter();
    while let (Some(Value::BulkString(name)), Some(value)) = (said.next(), said.next()) {
        let Value::BulkString(text) = &value else { return None };
        let mut words = text.split(|byte| *byte == b',');
        match &name[..] {
            b"ip" => place[0] = value,
            b"port" => place[1] = value,
            b"flags" => sound &= !words.any(|flag| matches!(flag, b"s_down" | b"o_down" | b"disconnected")),
            b"master-link-status" => sound &= &text[..] == b"ok",
            _ => {}
        }
    }
    if sound { endpoint(Value::Array(place.into())) } else { None }
}

/// Where the master is, and when it was appointed. Not every sentinel lets us know the second.
fn who(master: &str) -> Pipeline {
    let mut question = Pipeline::new();
    question.cmd("SENTINEL").arg("get-master-addr-by-name").arg(master);
    question.cmd("SENTINEL").arg("master").arg(master);
    question
}

/// What a sentinel says to [`who`].
fn vote(said: Result<Vec<Value>, Fault>) -> Result<Vote, Fault> {
    let mut said = said?.into_iter();
    let named = said.next().unwrap_or_default();
    if let Some(fault) = failure(&named) {
        return Err(fault);
    }
    let epoch = said.next().and_then(epoch).unwrap_or(0);
    endpoint(named).map(|master| Vote { master, epoch }).ok_or(Fault::NoMaster)
}

/// Of `[FIELD, VALUE, …]` the `config-epoch`.
fn epoch(said: Value) -> Option<u64> {
    let Value::Array(said) = said else { return None };
    let place = said.iter().position(|word| *word == Value::BulkString(b"config-epoch".into()))?;
    let Value::BulkString(epoch) = said.get(place + 1)? else { return None };
    std::str::from_utf8(epoch).ok()?.parse().ok()
}

/// `[HOST, PORT]`.
fn endpoint(said: Value) -> Option<Endpoint> {
    let Value::Array(said) = said else { return None };
    let mut words = said.into_iter().map(|word| match word {
        Value::BulkString(word) => String::from_utf8(word).ok(),
        _ => None,
    });
    let (host, port) = (words.next()??, words.next()??);
    Some(Endpoint::Tcp { host: host.into(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn a_master_is_named_by_host_and_port_and_says_so_itself() {
        let named = endpoint(Value::Array(vec![text("10.0.0.7"), text("6379")]));
        assert_eq!(named, Some(Endpoint::Tcp { host: "10.0.0.7".into(), port: 6379 }));
        assert_eq!(endpoint(Value::Nil), None, "unknown to the sentinel");
        assert_eq!(endpoint(Value::Array(vec![text("10.0.0.7"), text("65536")])), None);
        assert!(is_master(&Value::Array(vec![text("master"), Value::Int(0), Value::Array(vec![])])));
        assert!(!is_master(&Value::Array(vec![text("slave"), text("10.0.0.7")])));
        assert!(!is_master(&Value::Okay));
    }

    #[test]
    fn a_replica_that_is_down_or_cut_off_is_none() {
        for (flags, link, sound) in [
            ("slave", "ok", true),
            ("slave", "err", false),
            ("s_down,slave", "ok", false),
            ("slave,o_down", "ok", false),
            ("slave,disconnected", "ok", false),
        ] {
            let said = ["name", "x", "ip", "10.0.0.8", "port", "6380", "flags", flags, "master-link-status", link];
            let found = replica(Value::Array(said.map(text).into()));
            let expected = Endpoint::Tcp { host: "10.0.0.8".into(), port: 6380 };
            assert_eq!(found, sound.then_some(expected), "{flags} {link}");
        }
        assert_eq!(replica(Value::Array(vec![text("flags"), text("slave")])), None);
    }

    #[test]
    fn a_vote_needs_no_epoch_and_a_refusal_is_none() {
        let named = Value::Array(vec![text("10.0.0.7"), text("6379")]);
        let about = Value::Array(["name", "main", "config-epoch", "7", "quorum", "2"].map(text).into());
        let epoch = |said| vote(Ok(said)).map(|vote| vote.epoch);
        assert_eq!(epoch(vec![named.clone(), about]), Ok(7));
        let refused = redis::parse_redis_value(b"-NOPERM this user has no permissions\r\n").unwrap();
        assert_eq!(epoch(vec![named.clone(), refused.clone()]), Ok(0));
        assert_eq!(epoch(vec![named]), Ok(0));
        assert!(vote(Ok(vec![refused])).is_err_and(|fault| fault != Fault::NoMaster));
        assert_eq!(vote(Ok(vec![Value::Nil])).err(), Some(Fault::NoMaster));
    }
}
