//! Which server is the master, when sentinels watch over it
//! (<https://redis.io/docs/latest/develop/reference/sentinel-clients/>).
//!
//! 1. The sentinels are asked in turn; the first that knows the master is believed if that server, asked for its `ROLE`,
//!    says that it is one. Until somebody is found there is no connection, and requests do not wait for one.
//! 2. Once there is, a sentinel is asked again every second ([`LOOK`]). If it calls another server master, and that one
//!    agrees, the connection is taken down, however well it works.
//!
//! # Why
//! A master that was cut off from the others, or stood still, knows nothing of its successor: it goes on to answer, and
//! what is counted there will be forgotten. And a sentinel that was itself cut off still names the old one: so nobody is
//! believed about a server that says otherwise itself.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};

use super::address::{Endpoint, Server, Topology};
use super::topology::{ask, converse, put};

/// How often a sentinel is asked whether the master is still the same.
const LOOK: Duration = Duration::from_secs(1);

/// The master, as the first sentinel says that knows one which agrees; each server that is asked has at most `limit`.
///
/// # Errors
/// A word for logs and metrics: what the last one failed with, `master` if it knows none of that name, and `replica` if
/// whom it named says that it is not the master.
pub(super) async fn master(server: &Server, limit: Duration) -> Result<Endpoint, &'static str> {
    let Topology::Sentinel { sentinels, master, login } = &server.topology else { return Err("master") };
    let question = who(master);
    let mut why = "master";
    for sentinel in sentinels {
        let named = named(ask(sentinel, login, server, limit, &question).await);
        match named {
            Ok(master) => match agrees(&master, server, limit).await {
                Ok(()) => return Ok(master),
                Err(reason) => why = reason,
            },
            Err(reason) => why = reason,
        }
    }
    Err(why)
}

/// Whether the server says itself that it is a master.
async fn agrees(endpoint: &Endpoint, server: &Server, limit: Duration) -> Result<(), &'static str> {
    let mut question = Pipeline::new();
    question.cmd("ROLE");
    let said = ask(endpoint, &server.login, server, limit, &question).await?;
    match said.first() {
        Some(role) if is_master(role) => Ok(()),
        Some(Value::Array(_)) => Err("replica"),
        _ => Err("refused"),
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

/// Waits until a sentinel calls another than `current` master, and that one agrees. `limit` is for each answer.
pub(super) async fn displaced(current: &Endpoint, server: &Server, limit: Duration) {
    let Topology::Sentinel { sentinels, master, login } = &server.topology else { return std::future::pending().await };
    let question = who(master);
    loop {
        for sentinel in sentinels {
            let looking = async |connection: &mut MultiplexedConnection| {
                loop {
                    tokio::time::sleep(LOOK).await;
                    let named = named(put(connection, &question).await)?;
                    if named != *current && agrees(&named, server, limit).await.is_ok() {
                        return Ok(());
                    }
                }
            };
            if converse(sentinel, login, server, limit, looking).await.is_ok() {
                return;
            }
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn who(master: &str) -> Pipeline {
    let mut question = Pipeline::new();
    question.cmd("SENTINEL").arg("get-master-addr-by-name").arg(master);
    question
}

fn named(said: Result<Vec<Value>, &'static str>) -> Result<Endpoint, &'static str> {
    said?.into_iter().next().and_then(endpoint).ok_or("master")
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
}
