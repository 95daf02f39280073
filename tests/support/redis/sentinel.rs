//! A master, a replica of it, and three sentinels that watch them.

use std::fs;

use super::{RedisServer, Scratch, free_port, settle};

/// What the sentinels call the master.
pub const MASTER: &str = "main";

const SENTINELS: usize = 3;

/// Running servers with their sentinels; end with their owner. Two sentinels must agree; a master is down after a second.
pub struct Sentinels {
    servers: [RedisServer; 2],
    sentinels: Vec<RedisServer>,
    _directory: Scratch,
}

impl Sentinels {
    /// Starts them, and waits until all know each other.
    pub fn start() -> Self {
        Self::start_with(None, None)
    }

    /// The same with a password of the servers, and one of the sentinels.
    pub fn start_with(password: Option<&str>, of_sentinels: Option<&str>) -> Self {
        let directory = Scratch::new();
        let login = password.map_or(vec![], |password| vec!["--requirepass", password, "--masterauth", password]);
        let own = ["--repl-diskless-sync-delay", "0"];
        let master = RedisServer::start_with(&[&login[..], &own].concat());
        let port = master.port().to_string();
        let replica = RedisServer::start_with(&[&login[..], &own, &["--replicaof", "127.0.0.1", &port]].concat());
        settle("the replica follows", || follows(&replica));
        let sentinel = |_| {
            let own = free_port();
            let dir = directory.path().display();
            let mut file = format!(
                "port {own}\nbind 127.0.0.1\ndir {dir}\nsentinel monitor {MASTER} 127.0.0.1 {port} 2\n\
                 sentinel down-after-milliseconds {MASTER} 1000\nsentinel failover-timeout {MASTER} 3000\n"
            );
            if let Some(password) = password {
                file += &format!("sentinel auth-pass {MASTER} {password}\n");
            }
            if let Some(password) = of_sentinels {
                file += &format!("requirepass {password}\nsentinel sentinel-pass {password}\n");
            }
            let path = directory.path().join(format!("sentinel-{own}.conf"));
            fs::write(&path, file).expect("the sentinel's file");
            let arguments = vec![path.display().to_string(), "--sentinel".to_owned()];
            RedisServer::spawn(own, of_sentinels.map(str::to_owned), arguments)
                .unwrap_or_else(|| panic!("the sentinel on port {own} does not start"))
        };
        let sentinels = (0..SENTINELS).map(sentinel).collect();
        let all = Self { servers: [master, replica], sentinels, _directory: directory };
        all.wait_until_well();
        all
    }

    /// `redis+sentinel://…/main`, without credentials.
    pub fn url(&self) -> String {
        let places: Vec<_> = self.sentinels.iter().map(|one| format!("127.0.0.1:{}", one.port())).collect();
        format!("redis+sentinel://{}/{MASTER}", places.join(","))
    }

    /// The servers: at first a master and its replica.
    pub fn servers(&self) -> &[RedisServer; 2] {
        &self.servers
    }

    /// One of them, to kill or restart it.
    pub fn server(&mut self, number: usize) -> &mut RedisServer {
        &mut self.servers[number]
    }

    /// The sentinels.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// One of them, to kill or restart it.
    pub fn sentinel(&mut self, number: usize) -> &mut RedisServer {
        &mut self.sentinels[number]
    }

    /// Which of the servers is the master, as the first sentinel that answers has it.
    pub fn master(&self) -> usize {
        let said = self.sentinels.iter().find_map(|sentinel| self.master_by(sentinel));
        said.expect("a sentinel that knows the master")
    }

    fn master_by(&self, sentinel: &RedisServer) -> Option<usize> {
        let place: Vec<String> = sentinel.ask(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER]).ok()?;
        self.servers.iter().position(|server| place[1] == server.port().to_string())
    }

    /// Waits until all sentinels that answer, at least two, name another master than `before`, and it takes writes; says
    /// which.
    pub fn wait_for_other_master(&self, before: usize) -> usize {
        let other = 1 - before;
        settle("another master", || {
            let said: Vec<_> = self.sentinels.iter().filter_map(|sentinel| self.master_by(sentinel)).collect();
            let agreed = said.len() >= 2 && said.iter().all(|master| *master == other);
            let role: String = self.servers[other].ask(&["INFO", "replication"]).map_err(|error| error.to_string())?;
            let ready = agreed && role.contains("role:master");
            ready.then_some(()).ok_or_else(|| format!("the sentinels say {said:?}"))
        });
        other
    }

    /// Makes the replica the master, as an operator would (`SENTINEL FAILOVER`), and waits for it; says which it is.
    pub fn fail_over(&self) -> usize {
        let before = self.master();
        settle("a fail-over begins", || {
            let begun = self.sentinels[0].ask::<()>(&["SENTINEL", "FAILOVER", MASTER]);
            begun.map_err(|error| error.to_string())
        });
        self.wait_for_other_master(before)
    }

    fn wait_until_well(&self) {
        settle("sentinels that know each other", || {
            self.sentinels.iter().try_for_each(|sentinel| {
                let said: std::collections::HashMap<String, String> =
                    sentinel.ask(&["SENTINEL", "MASTER", MASTER]).map_err(|error| error.to_string())?;
                let well = said.get("num-other-sentinels").map(String::as_str) == Some("2")
                    && said.get("num-slaves").map(String::as_str) == Some("1")
                    && said.get("flags").map(String::as_str) == Some("master");
                well.then_some(()).ok_or_else(|| format!("the one on port {} says {said:?}", sentinel.port()))
            })
        });
    }
}

fn follows(replica: &RedisServer) -> Result<(), String> {
    let role: String = replica.ask(&["INFO", "replication"]).map_err(|error| error.to_string())?;
    role.contains("master_link_status:up").then_some(()).ok_or(role)
}
