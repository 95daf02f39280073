//! Which hash slot of a cluster a key lies in, and which node serves the slot.
//!
//! 1. The slot is the CRC-16/XMODEM of the key's *hash tag*, modulo 16,384. The tag is what stands between the first `{` and
//!    the first `}` after it; where that is nothing, or there is no such pair, it is the whole key.
//! 2. A command is sent by its first key. That its other keys lie in the same slot is the business of who writes it.
//! 3. The map is what `CLUSTER SLOTS` of one node says. A slot that nobody serves is in no map. It also knows the replicas of
//!    each master, but for those that the node holds for failed.
//!
//! # Why
//! An array of all slots and not a list of ranges: a look-up is one load however often the cluster has been resharded, for
//! 32 KiB per worker.

use std::sync::Arc;

use redis::{Arg, Cmd, Value};

use super::address::Endpoint;
use super::fault::Fault;

/// Hash slots of every cluster.
pub const SLOTS: u16 = 16_384;

/// Masters that a map holds at most; slots of others count as not served. Redis recommends no more than 1000.
pub const MAX_MASTERS: usize = 1000;

const NOBODY: u16 = u16::MAX;

/// The slot of `key`.
pub fn slot(key: &[u8]) -> u16 {
    crc16(tag(key)) % SLOTS
}

/// What of a key decides its slot.
fn tag(key: &[u8]) -> &[u8] {
    let Some(open) = memchr::memchr(b'{', key) else { return key };
    let rest = &key[open + 1..];
    match memchr::memchr(b'}', rest) {
        Some(length) if length > 0 => &rest[..length],
        _ => key,
    }
}

const CRC: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 { crc << 1 } else { (crc << 1) ^ 0x1021 };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| (crc << 8) ^ CRC[usize::from((crc >> 8) as u8 ^ byte)])
}

/// The first key of `command`; `None` if it has none: any node can answer it.
pub fn key(command: &Cmd) -> Option<&[u8]> {
    let mut words = command.args_iter().map(|word| match word {
        Arg::Simple(word) => word,
        _ => b"".as_slice(),
    });
    let name = words.next()?;
    let among = |names: &[&str]| names.iter().any(|other| name.eq_ignore_ascii_case(other.as_bytes()));
    if among(&SCRIPTED) {
        let keys = words.nth(1)?;
        return if keys == b"0" { None } else { words.next() };
    }
    if among(&KEYLESS) {
        return None;
    }
    if among(&SUBCOMMANDED) {
        words.next()?;
    }
    words.next()
}

/// Commands whose keys follow their number, which follows the script.
const SCRIPTED: [&str; 6] = ["EVALSHA", "EVAL", "EVALSHA_RO", "EVAL_RO", "FCALL", "FCALL_RO"];

/// Commands whose key follows a subcommand.
const SUBCOMMANDED: [&str; 2] = ["OBJECT", "MEMORY"];

/// Commands without a key.
const KEYLESS: [&str; 21] = [
    "PING", "ECHO", "SCAN", "SCRIPT", "PUBLISH", "TIME", "INFO", "CLIENT", "CLUSTER", "CONFIG", "ROLE", "DBSIZE",
    "COMMAND", "FLUSHDB", "FLUSHALL", "ACL", "HELLO", "AUTH", "WAIT", "ASKING", "READONLY",
];

/// Which master serves each slot.
#[derive(Debug)]
pub(super) struct Map {
    owners: Box<[u16]>,
    masters: Vec<Endpoint>,
    /// Of each master; of all together no more than [`MAX_MASTERS`].
    replicas: Vec<Vec<Endpoint>>,
}

impl Default for Map {
    fn default() -> Self {
        Self { owners: vec![NOBODY; usize::from(SLOTS)].into(), masters: Vec::new(), replicas: Vec::new() }
    }
}

impl Map {
    /// What a node says to `CLUSTER SLOTS`; `asked` is the node, for where it does not name itself.
    ///
    /// # Errors
    /// [`Fault::Protocol`], if that is no map; [`Fault::ClusterDown`], if nobody serves any slot.
    pub(super) fn read(said: Value, asked: &Endpoint) -> Result<Self, Fault> {
        let Value::Array(ranges) = said else { return Err(Fault::Protocol) };
        let mut map = Self::default();
        for range in ranges {
            map.add(range, asked).ok_or(Fault::Protocol)?;
        }
        if map.masters.is_empty() { Err(Fault::ClusterDown) } else { Ok(map) }
    }

    fn add(&mut self, range: Value, asked: &Endpoint) -> Option<()> {
        let Value::Array(range) = range else { return None };
        let mut range = range.into_iter();
        let mut bound = || match range.next() {
            Some(Value::Int(slot)) => usize::try_from(slot).ok().filter(|slot| *slot < usize::from(SLOTS)),
            _ => None,
        };
        let (from, to) = (bound()?, bound()?);
        let master = endpoint(range.next()?, asked)?;
        let owner = match self.masters.iter().position(|known| *known == master) {
            Some(owner) => owner,
            None if self.masters.len() < MAX_MASTERS => {
                self.masters.push(master);
                // Behind it stand those of its replicas that do not fail.
                let room = MAX_MASTERS.saturating_sub(self.replicas.iter().map(Vec::len).sum());
                self.replicas.push(range.filter_map(|node| endpoint(node, asked)).take(room).collect());
                self.masters.len() - 1
            }
            None => return Some(()),
        };
        self.owners.get_mut(from..=to)?.fill(owner as u16);
        Some(())
    }

    /// Which of the [masters](Map::masters) serves `slot`.
    pub(super) fn owner(&self, slot: u16) -> Option<usize> {
        self.owners.get(usize::from(slot)).filter(|owner| **owner != NOBODY).map(|owner| usize::from(*owner))
    }

    /// Every master that serves a slot.
    pub(super) fn masters(&self) -> &[Endpoint] {
        &self.masters
    }

    /// The replicas of each of the [masters](Map::masters).
    pub(super) fn replicas(&self) -> &[Vec<Endpoint>] {
        &self.replicas
    }

    /// Whether the same masters serve the slots, whichever each does.
    pub(super) fn has_same_masters(&self, other: &Self) -> bool {
        self.masters.len() == other.masters.len() && self.masters.iter().all(|master| other.masters.contains(master))
    }

    /// Whether both say the same about the masters.
    pub(super) fn same(&self, other: &Self) -> bool {
        self.owners == other.owners && self.masters == other.masters
    }
}

/// `[HOST, PORT, …]`. A node that does not know its own address says nothing for HOST.
fn endpoint(node: Value, asked: &Endpoint) -> Option<Endpoint> {
    let Value::Array(node) = node else { return None };
    let mut node = node.into_iter();
    let host: Option<Arc<str>> = match node.next()? {
        Value::BulkString(host) => Some(String::from_utf8(host).ok()?.into()),
        Value::SimpleString(host) => Some(host.into()),
        Value::Nil => None,
        _ => return None,
    };
    let Value::Int(port) = node.next()? else { return None };
    at(host.filter(|host| !host.is_empty() && &**host != "?"), u16::try_from(port).ok()?, asked)
}

/// `host` and `port`, or where `host` is not said, that of the node that was `asked`.
pub(super) fn at(host: Option<Arc<str>>, port: u16, asked: &Endpoint) -> Option<Endpoint> {
    match (host, asked) {
        (Some(host), _) => Some(Endpoint::Tcp { host, port }),
        (None, Endpoint::Tcp { host, .. }) => Some(Endpoint::Tcp { host: host.clone(), port }),
        (None, Endpoint::Unix(_)) => None,
    }
}

/// Where a master is that serves no slot, by its line of `CLUSTER NODES`: `NAME HOST:PORT@BUS[,HOSTNAME] FLAGS MASTER PING
/// PONG EPOCH LINK [SLOTS …]`.
pub(super) fn idle_master(line: &str) -> Option<Endpoint> {
    let mut words = line.split(' ').skip(1);
    let (place, flags) = (words.next()?, words.next()?);
    let serves = words.nth(5).is_some();
    let mut flags = flags.split(',');
    let away = |flag: &str| matches!(flag, "fail" | "fail?" | "handshake" | "noaddr");
    if serves || !flags.clone().any(|flag| flag == "master") || flags.any(away) {
        return None;
    }
    let (address, rest) = place.split_once('@')?;
    let (host, port) = address.rsplit_once(':')?;
    let name = rest.split(',').nth(1).filter(|name| !name.is_empty());
    Some(Endpoint::Tcp { host: name.unwrap_or(host).into(), port: port.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16) -> Endpoint {
        Endpoint::Tcp { host: host.into(), port }
    }

    fn node(host: Value, port: i64) -> Value {
        Value::Array(vec![host, Value::Int(port), Value::BulkString(b"id".into())])
    }

    fn range(from: i64, to: i64, nodes: Vec<Value>) -> Value {
        Value::Array([Value::Int(from), Value::Int(to)].into_iter().chain(nodes).collect())
    }

    fn text(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    #[test]
    fn the_hash_tag_decides_and_an_empty_or_open_one_does_not_count() {
        // The check value of CRC-16/XMODEM.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        // What a cluster says: `CLUSTER KEYSLOT`.
        assert_eq!((slot(b"foo"), slot(b"")), (12_182, 0));
        for (key, counts) in [
            ("{user1000}.following", "user1000"),
            ("foo{{bar}}zap", "{bar"),
            ("foo{bar}{zap}", "bar"),
            ("foo{}{bar}", "foo{}{bar}"),
            ("foo{bar", "foo{bar"),
            ("foo}{bar}", "bar"),
        ] {
            assert_eq!(tag(key.as_bytes()), counts.as_bytes());
        }
    }

    #[test]
    fn a_command_is_sent_by_its_first_key() {
        for (command, first) in [
            ("GET a", Some("a")),
            ("mget a b", Some("a")),
            ("SET a v PX 5", Some("a")),
            ("EVALSHA 5f2 2 a b 7", Some("a")),
            ("EVALSHA 5f2 0 7", None),
            ("OBJECT ENCODING a", Some("a")),
            ("SCAN 0 MATCH a*", None),
            ("SCRIPT LOAD a", None),
            ("PUBLISH a b", None),
            ("ping", None),
        ] {
            let mut words = command.split(' ');
            let mut built = redis::cmd(words.next().unwrap());
            words.for_each(|word| {
                built.arg(word);
            });
            assert_eq!(key(&built), first.map(str::as_bytes), "{command}");
        }
    }

    #[test]
    fn a_map_knows_which_master_serves_each_slot() {
        let asked = tcp("seed", 7000);
        let said = vec![
            range(0, 99, vec![node(text("a"), 7000), node(text("b"), 7001)]),
            range(200, 16_383, vec![node(Value::Nil, 7002)]),
            range(100, 100, vec![node(text("a"), 7000), node(text("b"), 7001)]),
        ];
        let map = Map::read(Value::Array(said), &asked).unwrap();
        let owner = |slot| map.owner(slot).map(|owner| map.masters()[owner].clone());
        assert_eq!((owner(0), owner(100)), (Some(tcp("a", 7000)), Some(tcp("a", 7000))));
        assert_eq!((owner(101), owner(199)), (None, None));
        assert_eq!(owner(16_383), Some(tcp("seed", 7002)), "it did not name itself");
        assert_eq!(map.masters().len(), 2, "replicas are none");
        assert_eq!(map.replicas(), [vec![tcp("b", 7001)], vec![]]);
        assert!(map.same(&map) && !map.same(&Map::default()));
    }

    #[test]
    fn a_master_that_serves_nothing_is_told_from_others() {
        for (rest, idle) in [
            ("127.0.0.1:7000@17000 master - 0 0 7 connected", Some(tcp("127.0.0.1", 7000))),
            ("127.0.0.1:7000@17000,a.example myself,master - 0 0 7 connected", Some(tcp("a.example", 7000))),
            ("::1:7000@17000, master - 0 0 7 connected", Some(tcp("::1", 7000))),
            ("127.0.0.1:7000@17000 master - 0 0 7 connected 0-5460", None),
            ("127.0.0.1:7000@17000 slave c0ffee 0 0 7 connected", None),
            ("127.0.0.1:7000@17000 master,fail - 0 0 7 disconnected", None),
            (":0@0 master,noaddr - 0 0 7 disconnected", None),
            ("", None),
        ] {
            assert_eq!(idle_master(&format!("c0ffee {rest}")), idle, "{rest}");
        }
    }

    #[test]
    fn what_is_no_map_is_refused() {
        let asked = tcp("seed", 7000);
        for (said, fault) in [
            (Value::Nil, Fault::Protocol),
            (Value::Array(vec![]), Fault::ClusterDown),
            (Value::Array(vec![range(0, 16_384, vec![node(text("a"), 7000)])]), Fault::Protocol),
            (Value::Array(vec![range(9, 5, vec![node(text("a"), 7000)])]), Fault::Protocol),
            (Value::Array(vec![range(0, 5, vec![node(text("a"), 70_000)])]), Fault::Protocol),
            (Value::Array(vec![range(0, 5, vec![])]), Fault::Protocol),
        ] {
            assert_eq!(Map::read(said.clone(), &asked).err(), Some(fault), "{said:?}");
        }
    }
}
