//! Real redis-servers of a test's own: one ([`RedisServer`]), a cluster ([`RedisCluster`]), one with sentinels
//! ([`Sentinels`]). Free ports, nothing kept, killed with their owner.
//!
//! # Why
//! Ports come from below those that the system gives to outgoing connections: a server that is killed finds its port
//! free when it comes back, however many connections the tests beside it open meanwhile.

// Waits that are bounded by the machine's clock; nothing here is on a request's path.
#![allow(clippy::disallowed_methods)]

pub mod cluster;
pub mod sentinel;

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

pub use cluster::RedisCluster;
pub use sentinel::Sentinels;

/// How long servers may take to become what they are started for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running redis-server.
pub struct RedisServer {
    port: u16,
    password: Option<String>,
    arguments: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// Starts one and waits until it answers.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same with options of redis.conf: `&["--requirepass", "hunter2"]`.
    pub fn start_with(options: &[&str]) -> Self {
        let given = |_| options.iter().map(ToString::to_string).collect();
        Self::start_as(given)
    }

    /// The same with options that depend on its port.
    pub fn start_as(options: impl FnMut(u16) -> Vec<String>) -> Self {
        let mut options = options;
        // Somebody else may take the port between our look and redis-server's bind: then another is tried.
        for _ in 0..5 {
            let port = free_port();
            let options = options(port);
            let password = options.windows(2).find(|pair| pair[0] == "--requirepass").map(|pair| pair[1].clone());
            let number = port.to_string();
            let first = ["--port", &number, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", "/tmp"];
            let file = file(port);
            let first = first.into_iter().chain(["--dbfilename", &file]);
            let arguments: Vec<_> = first.map(str::to_owned).chain(options).collect();
            if let Some(server) = Self::spawn(port, password, arguments) {
                return server;
            }
        }
        panic!("redis-server did not start on any of five ports");
    }

    /// Runs redis-server; `None` if it ends before it answers.
    fn spawn(port: u16, password: Option<String>, arguments: Vec<String>) -> Option<Self> {
        let child = run(&arguments);
        let mut server = Self { port, password, arguments, child };
        server.answers().then_some(server)
    }

    /// `redis://127.0.0.1:PORT/0`, with its password if it has one.
    pub fn url(&self) -> String {
        let login = self.password.as_ref().map_or(String::new(), |password| format!(":{password}@"));
        format!("redis://{login}127.0.0.1:{}/0", self.port)
    }

    /// Its port; stays the same over [`RedisServer::restart`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its process, for a signal.
    pub fn pid(&self) -> i32 {
        self.child.id().cast_signed()
    }

    /// Ends it as a power failure would (SIGKILL).
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(Path::new("/tmp").join(file(self.port)));
    }

    /// Starts it again, empty, on the same port.
    pub fn restart(&mut self) {
        self.kill();
        self.child = run(&self.arguments);
        assert!(self.answers(), "redis-server did not come back on port {}", self.port);
    }

    /// A client of it.
    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("a valid Redis URL")
    }

    /// Asks it one thing, over a connection of its own; two seconds at most for each step.
    ///
    /// # Errors
    /// As redis-rs says: it is away, or refuses.
    pub fn ask<T: redis::FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let limit = Duration::from_secs(20);
        let mut connection = self.client().get_connection_with_timeout(limit)?;
        connection.set_read_timeout(Some(limit))?;
        words[1..].iter().fold(&mut redis::cmd(words[0]), |command, word| command.arg(word)).query(&mut connection)
    }

    fn answers(&mut self) -> bool {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return false;
            }
            if is_redis(self.port) {
                return true;
            }
            thread::sleep(Duration::from_millis(10));
        }
        false
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Where a replica keeps what its master sent: in a file of its own, or other servers would begin with it.
fn file(port: u16) -> String {
    format!("sidegate-{}-{port}.rdb", std::process::id())
}

fn run(arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("these tests need redis-server ({error}): run `make test`, or `apt-get install redis-server`")
        })
}

/// Whether a PING is answered, or refused for want of a password.
fn is_redis(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    let mut said = [0; 7];
    stream.set_read_timeout(Some(Duration::from_secs(2))).is_ok()
        && stream.write_all(b"PING\r\n").is_ok()
        && stream.read_exact(&mut said).is_ok()
        && [b"+PONG\r\n", b"-NOAUTH"].contains(&&said)
}

/// A port that nobody listens on, that this process gives to nobody else, and that no outgoing connection gets.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let given = given.get_or_insert_default();
    for _ in 0..1000 {
        let port = fastrand::u16(10_000..32_000);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port among a thousand between 10000 and 32000");
}

/// Waits until `fact` is one, and returns what it says; fails with `what` and the last reason why it is none.
fn settle<T>(what: &str, mut fact: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match fact() {
            Ok(said) => return said,
            Err(why) => assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}: {why}"),
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// A directory that goes away with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::SeqCst);
        let path = std::env::temp_dir().join(format!("sidegate-redis-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a temporary directory");
        Self(path)
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
