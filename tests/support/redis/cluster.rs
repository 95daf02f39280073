//! A Redis Cluster: three masters (nodes 0 to 2, a third of the slots each), and a replica of each (nodes 3 to 5).

use std::ops::RangeInclusive;

use super::{RedisServer, Scratch, free_port, settle};

const MASTERS: usize = 3;
/// What each master has at first.
const SLOTS: [(u16, u16); MASTERS] = [(0, 5460), (5461, 10922), (10923, 16383)];

/// A running cluster; ends with its owner.
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
    /// By node; kept over a restart.
    names: Vec<String>,
    /// Where clients are told to go, by node.
    announced: Vec<u16>,
    _directory: Scratch,
}

/// A node as another one sees it.
struct Seen {
    name: String,
    flags: String,
    slots: Vec<RangeInclusive<u16>>,
}

impl RedisCluster {
    /// Starts one, and waits until all nodes say that it is well and each replica follows its master.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with options of redis.conf for each node.
    pub fn start_with(options: &[&str]) -> Self {
        Self::announcing(options, |port| port)
    }

    /// The same behind something: `announced` is given a node's port, and says where clients (and replicas) are sent.
    pub fn announcing(options: &[&str], mut announced: impl FnMut(u16) -> u16) -> Self {
        let directory = Scratch::new();
        let mut ports = Vec::new();
        let node = |_| {
            let mut shown = 0;
            let node = RedisServer::start_as(|port| {
                shown = announced(port);
                let place = directory.path().display();
                let own = format!(
                    "--dir {place} --dbfilename {port}.rdb --cluster-enabled yes --cluster-port {} \
                     --cluster-config-file nodes-{port}.conf --cluster-node-timeout 1000 --cluster-announce-port {shown} \
                     --cluster-allow-replica-migration no --cluster-replica-validity-factor 0 \
                     --repl-diskless-sync-delay 0",
                    free_port(),
                );
                own.split_whitespace().chain(options.iter().copied()).map(str::to_owned).collect()
            });
            ports.push(shown);
            node
        };
        let nodes: Vec<_> = (0..2 * MASTERS).map(node).collect();
        let names = nodes.iter().map(|node| node.ask(&["CLUSTER", "MYID"]).expect("a name")).collect();
        let cluster = Self { nodes, names, announced: ports, _directory: directory };
        cluster.form();
        cluster
    }

    fn form(&self) {
        for (number, node) in self.nodes.iter().enumerate() {
            let tell = |words: &[&str]| node.ask::<()>(words).unwrap_or_else(|error| panic!("{words:?}: {error}"));
            tell(&["CLUSTER", "SET-CONFIG-EPOCH", &(number + 1).to_string()]);
            if let Some((first, last)) = SLOTS.get(number) {
                tell(&["CLUSTER", "ADDSLOTSRANGE", &first.to_string(), &last.to_string()]);
            }
        }
        for (number, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[number + 1..] {
                let bus = other.ask::<Vec<String>>(&["CONFIG", "GET", "cluster-port"]).expect("its bus")[1].clone();
                let meet = ["CLUSTER", "MEET", "127.0.0.1", &other.port().to_string(), &bus];
                node.ask::<()>(&meet).expect("a meeting");
            }
        }
        for (replica, master) in self.nodes[MASTERS..].iter().zip(&self.names) {
            settle("a replica knows its master", || {
                replica.ask::<()>(&["CLUSTER", "REPLICATE", master]).map_err(|error| error.to_string())
            });
        }
        self.wait_until_well();
    }

    /// `redis+cluster://…` with all nodes; without credentials.
    pub fn url(&self) -> String {
        let seeds: Vec<_> = self.announced.iter().map(|port| format!("127.0.0.1:{port}")).collect();
        format!("redis+cluster://{}", seeds.join(","))
    }

    /// Its nodes: at first 0 to 2 are masters, and 3 to 5 their replicas, in the same order.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// One of them, to kill or restart it. It keeps its name and its slots, not its keys.
    pub fn node(&mut self, number: usize) -> &mut RedisServer {
        &mut self.nodes[number]
    }

    /// Waits until all nodes say that it is well, know each other, and each replica follows its master.
    pub fn wait_until_well(&self) {
        settle("a cluster that is well", || self.nodes.iter().try_for_each(|node| self.is_well(node)));
    }

    fn is_well(&self, node: &RedisServer) -> Result<(), String> {
        let told = |words: &[&str]| node.ask::<String>(words).map_err(|error| format!("{}: {error}", node.port()));
        let health = told(&["CLUSTER", "INFO"])?;
        let role = told(&["INFO", "replication"])?;
        let seen = view(&told(&["CLUSTER", "NODES"])?);
        let masters = seen.iter().filter(|other| other.is_master()).count();
        let sound = seen.len() == self.nodes.len()
            && masters == MASTERS
            && seen.iter().all(|other| !other.flags.contains("fail") && !other.flags.contains("handshake"))
            && health.contains("cluster_state:ok")
            && (role.contains("master_link_status:up") || role.contains("connected_slaves:1"));
        if sound { Ok(()) } else { Err(format!("node {} says {health}{role}", node.port())) }
    }

    /// The slot of a key.
    pub fn slot(&self, key: &str) -> u16 {
        self.look("the slot of a key", |node| node.ask(&["CLUSTER", "KEYSLOT", key]).ok())
    }

    /// The node that is master of a key's slot, as the first node that answers has it.
    pub fn master_of(&self, key: &str) -> usize {
        let slot = self.slot(key);
        self.look("a master", |node| self.master_in(&view(&node.ask::<String>(&["CLUSTER", "NODES"]).ok()?), slot))
    }

    fn master_in(&self, seen: &[Seen], slot: u16) -> Option<usize> {
        let master =
            seen.iter().find(|other| other.is_master() && other.slots.iter().any(|all| all.contains(&slot)))?;
        self.names.iter().position(|name| *name == master.name)
    }

    /// Waits until all nodes that answer agree that another node than `before` is master of a key's slot, and are well;
    /// says which.
    pub fn wait_for_other_master(&self, key: &str, before: usize) -> usize {
        let slot = self.slot(key);
        settle("another master", || {
            let heard = self.nodes.iter().filter_map(|node| {
                let seen = view(&node.ask::<String>(&["CLUSTER", "NODES"]).ok()?);
                let well = node.ask::<String>(&["CLUSTER", "INFO"]).ok()?.contains("cluster_state:ok");
                Some(self.master_in(&seen, slot).filter(|_| well))
            });
            let mut heard: Vec<_> = heard.collect();
            heard.dedup();
            match heard[..] {
                [Some(one)] if one != before => Ok(one),
                _ => Err(format!("the nodes say {heard:?}")),
            }
        })
    }

    /// Makes a replica the master in place of its own, as an operator would (`CLUSTER FAILOVER`), and waits for it.
    pub fn promote(&self, replica: usize) {
        self.nodes[replica].ask::<()>(&["CLUSTER", "FAILOVER"]).expect("a fail-over begins");
        settle("the replica is master", || {
            let seen = view(&self.nodes[replica].ask::<String>(&["CLUSTER", "NODES"]).map_err(|e| e.to_string())?);
            let own = seen.iter().find(|node| node.name == self.names[replica]);
            own.is_some_and(Seen::is_master).then_some(()).ok_or_else(|| "still a replica".to_owned())
        });
        self.wait_until_well();
    }

    /// Begins to move a slot between two masters: from now on `from` answers ASK for keys that it has no more.
    pub fn begin_move(&self, slot: u16, from: usize, to: usize) {
        let slot = slot.to_string();
        self.nodes[to].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &self.names[from]]).expect("importing");
        self.nodes[from].ask::<()>(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &self.names[to]]).expect("migrating");
    }

    /// Moves the keys that are in a slot now.
    pub fn move_keys(&self, slot: u16, from: usize, to: usize) {
        let keys = ["CLUSTER", "GETKEYSINSLOT", &slot.to_string(), "1000"];
        let port = self.nodes[to].port().to_string();
        for key in self.nodes[from].ask::<Vec<String>>(&keys).expect("keys") {
            let outcome = self.nodes[from].ask::<String>(&["MIGRATE", "127.0.0.1", &port, &key, "0", "2000"]);
            outcome.unwrap_or_else(|error| panic!("{key} stays: {error}"));
        }
    }

    /// Ends the move: from now on `from` answers MOVED.
    pub fn finish_move(&self, slot: u16, from: usize, to: usize) {
        self.move_keys(slot, from, to);
        let words = ["CLUSTER", "SETSLOT", &slot.to_string(), "NODE", &self.names[to]];
        for node in [to, from].into_iter().chain((0..MASTERS).filter(|&node| node != to && node != from)) {
            self.nodes[node].ask::<()>(&words).expect("a new owner");
        }
    }

    fn look<T>(&self, what: &str, ask: impl Fn(&RedisServer) -> Option<T>) -> T {
        self.nodes.iter().find_map(ask).unwrap_or_else(|| panic!("no node knows {what}"))
    }
}

impl Seen {
    fn is_master(&self) -> bool {
        self.flags.contains("master") && !self.flags.contains("fail")
    }
}

/// Reads `CLUSTER NODES`.
fn view(text: &str) -> Vec<Seen> {
    let seen = |line: &str| {
        let mut words = line.split(' ');
        let name = words.next()?.to_owned();
        let flags = words.nth(1)?.to_owned();
        // Past master, ping, pong, epoch and link. What is in brackets is on its way.
        let slots = words.skip(5).filter_map(|word| {
            let (first, last) = word.split_once('-').unwrap_or((word, word));
            Some(first.parse().ok()?..=last.parse().ok()?)
        });
        Some(Seen { name, flags, slots: slots.collect() })
    };
    text.lines().filter_map(seen).collect()
}
