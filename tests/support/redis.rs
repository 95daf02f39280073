//! A real Redis for a test: of its own, on a free port, gone with it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

/// How often a start is looked for (every 10 ms).
const LOOKS: usize = 1_000;

/// A `redis-server` that keeps nothing on disk.
#[derive(Debug)]
pub struct RedisServer {
    port: u16,
    process: Option<Child>,
}

#[allow(dead_code)] // Not every test binary uses all of it.
impl RedisServer {
    /// Starts one, and waits until it answers.
    pub fn start() -> Self {
        for _ in 0..10 {
            // Free now; another process may be faster, then the next one is tried.
            let port =
                TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port();
            let mut server = Self { port, process: None };
            if server.spawn() {
                return server;
            }
        }
        panic!("redis-server does not start on any of ten free ports");
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Its port, the same after [`Self::restart`].
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A client, apart from whatever is tested.
    pub fn client(&self) -> redis::Client {
        redis::Client::open(self.url()).expect("a URL that redis-rs takes")
    }

    /// As `kill -9`: connections break, counters are lost.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Starts it again on the same port, empty, and waits until it answers.
    pub fn restart(&mut self) {
        self.kill();
        assert!(self.spawn(), "redis-server does not start again on port {}", self.port);
    }

    /// Whether it has come to answer on its port.
    fn spawn(&mut self) -> bool {
        let directory = std::env::temp_dir().join(format!("sidegate-redis-{}", std::process::id()));
        fs::create_dir_all(&directory).expect("a directory for redis-server to stand in");
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--appendonly", "no", "--daemonize", "no"])
            .arg("--dir")
            .arg(directory)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server is missing: install it with `make test` or `apt-get install redis-server`");
        let process = self.process.insert(process);
        for _ in 0..LOOKS {
            if process.try_wait().is_ok_and(|ended| ended.is_some()) {
                self.process = None;
                return false;
            }
            if answers(self.port) {
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

fn answers(port: u16) -> bool {
    let ping = || {
        let mut socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_read_timeout(Some(Duration::from_secs(1)))?;
        socket.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        socket.read_exact(&mut answer).map(|()| answer == *b"+PONG\r\n")
    };
    ping().unwrap_or(false)
}
