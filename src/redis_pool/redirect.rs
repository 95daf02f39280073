//! What a node of a cluster says instead of an answer (<https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/>).
//!
//! | it says | meaning | what follows |
//! |---|---|---|
//! | `MOVED SLOT HOST:PORT` | another serves the slot, for good | ask that one; learn the map anew |
//! | `ASK SLOT HOST:PORT` | the key has moved already, the slot is about to | ask that one, after `ASKING`; the map stays |
//! | `TRYAGAIN` | some keys of the command have moved, some have not | once more |
//! | `CLUSTERDOWN` | nobody serves the slot, or the cluster is in two | no answer |

use redis::{ServerErrorKind, Value};

use super::address::Endpoint;
use super::slots::at;

/// Instead of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Redirect {
    /// Ask this one, from now on.
    Moved(Endpoint),
    /// Ask this one, this time.
    Ask(Endpoint),
    /// Ask once more.
    Again,
    /// Nobody can answer.
    Down,
}

impl Redirect {
    /// What `value` says, if it is no answer; `asked` is the node that said it.
    pub(super) fn read(value: &Value, asked: &Endpoint) -> Option<Self> {
        let Value::ServerError(error) = value else { return None };
        let to = || destination(error.details()?, asked);
        match error.kind()? {
            ServerErrorKind::Moved => Some(to().map_or(Self::Down, Self::Moved)),
            ServerErrorKind::Ask => Some(to().map_or(Self::Down, Self::Ask)),
            ServerErrorKind::TryAgain => Some(Self::Again),
            ServerErrorKind::ClusterDown => Some(Self::Down),
            _ => None,
        }
    }
}

/// `SLOT HOST:PORT`; HOST may be empty, and an IPv6 address is not in brackets.
fn destination(details: &str, asked: &Endpoint) -> Option<Endpoint> {
    let (host, port) = details.split(' ').nth(1)?.rsplit_once(':')?;
    let host = Some(host).filter(|host| !host.is_empty() && *host != "?");
    at(host.map(Into::into), port.parse().ok()?, asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port }
    }

    #[test]
    fn each_word_of_a_cluster_is_understood_and_answers_are_let_be() {
        for (line, redirect) in [
            ("-MOVED 3999 127.0.0.1:6381", Some(Redirect::Moved(tcp("127.0.0.1", 6381)))),
            ("-MOVED 3999 :6381", Some(Redirect::Moved(tcp("asked", 6381)))),
            ("-MOVED 3999 ?:6381", Some(Redirect::Moved(tcp("asked", 6381)))),
            ("-ASK 3999 ::1:6381", Some(Redirect::Ask(tcp("::1", 6381)))),
            ("-ASK 3999 nowhere", Some(Redirect::Down)),
            ("-MOVED 3999", Some(Redirect::Down)),
            ("-TRYAGAIN Multiple keys request during rehashing of slot", Some(Redirect::Again)),
            ("-CLUSTERDOWN Hash slot not served", Some(Redirect::Down)),
            ("-CROSSSLOT Keys in request don't hash to the same slot", None),
            ("-WRONGTYPE no", None),
            (":1", None),
        ] {
            let value = redis::parse_redis_value(format!("{line}\r\n").as_bytes()).unwrap();
            assert_eq!(Redirect::read(&value, &tcp("asked", 7000)), redirect, "{line}");
        }
    }
}
