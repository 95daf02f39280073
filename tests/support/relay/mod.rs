//! A relay in front of a Redis: writes down what passes, delays it, and does to it what networks and servers do.
//!
//! 1. It reads commands and replies whole (RESP2 and RESP3) and passes them on unchanged, unless its [`Mode`] says
//!    otherwise; a mode holds for connections that are there and for new ones. What is not RESP (TLS, a replica's stream)
//!    passes as bytes, and is not counted.
//! 2. A [`Trip`] begins with commands that come while none is unanswered on their connection: everything that a client
//!    sends without waiting for an answer is one trip. What a server pushes is no answer. A connection that has
//!    subscribed is not counted from then on.
//! 3. A connection of which anything was swallowed stays dead, whatever the mode is later: what is lost is lost.
//! 4. Its port stays its own while new connections are refused.
//!
//! # Why
//! Threads and blocking sockets: it is to be in step with no runtime of those it stands between.

// Waits that are bounded by the machine's clock; nothing here is on a request's path.
#![allow(clippy::disallowed_methods)]

mod connection;
mod frames;
mod record;

use std::collections::HashMap;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use connection::Connection;
use record::Record;
pub use record::{Command, Trip};

/// What is done to what passes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Nothing.
    Pass,
    /// New connections are refused, those that are there live on.
    Refuse,
    /// Everything is taken and nothing answered, new connections too: a peer that went without a word.
    Freeze,
    /// A reply of more bytes than this is cut there, and its connection closed.
    Cut(usize),
    /// Commands are answered with an error and do not reach the server.
    Fail {
        /// The line: `-READONLY You can't write against a read only replica.`
        line: &'static str,
        /// Only commands that begin with one of these (`EVALSHA`, `CLIENT TRACKING`); none: all.
        only: &'static [&'static str],
        /// So many of them; those after it pass.
        times: usize,
    },
    /// Commands are answered with bytes that are no reply, and do not reach the server.
    Garbage,
    /// Each command of a connection keeps the server busy for so long.
    Slow(Duration),
}

impl Mode {
    /// Every command is answered with this error.
    pub fn fail(line: &'static str) -> Self {
        Self::Fail { line, only: &[], times: usize::MAX }
    }

    /// Commands that begin with one of these are.
    pub fn fail_only(line: &'static str, only: &'static [&'static str]) -> Self {
        Self::Fail { line, only, times: usize::MAX }
    }
}

/// A running relay; ends, with its connections, when dropped.
pub struct Relay {
    port: u16,
    shared: Arc<Shared>,
    listener: Mutex<Option<TcpListener>>,
}

struct Shared {
    /// On 127.0.0.1.
    target: Mutex<u16>,
    mode: Mutex<Mode>,
    /// Microseconds toward the server, and toward the client.
    delays: [AtomicU64; 2],
    accepted: AtomicUsize,
    open: Mutex<HashMap<usize, Arc<Connection>>>,
    record: Mutex<Record>,
}

impl Relay {
    /// A relay to a port of 127.0.0.1.
    pub fn to(target: u16) -> Self {
        let shared = Arc::new(Shared {
            target: Mutex::new(target),
            mode: Mutex::new(Mode::Pass),
            delays: Default::default(),
            accepted: AtomicUsize::new(0),
            open: Mutex::default(),
            record: Mutex::default(),
        });
        // A port that nobody else takes while this one refuses: not one of the system's.
        let bound = (0..1000).find_map(|_| TcpListener::bind(("127.0.0.1", fastrand::u16(10_000..32_000))).ok());
        let listener = bound.expect("a port for the relay");
        let port = listener.local_addr().expect("its address").port();
        let relay = Self { port, shared, listener: Mutex::new(None) };
        relay.listen(listener);
        relay
    }

    /// Where it listens, on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `redis://127.0.0.1:PORT/0`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    /// Does this from now on.
    pub fn turn(&self, mode: Mode) {
        let mut listener = locked(&self.listener);
        let refuse = mode == Mode::Refuse;
        *locked(&self.shared.mode) = mode;
        match listener.take() {
            Some(listener) if refuse => {
                // Ends the wait of the thread that accepts, and with it the last use of the socket.
                let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
                drop(listener);
                let closed = || TcpStream::connect(("127.0.0.1", self.port)).is_err();
                wait_for("the relay refuses", closed);
            }
            None if !refuse => {
                drop(listener);
                let mut again = None;
                wait_for("the relay's own port", || {
                    again = TcpListener::bind(("127.0.0.1", self.port)).ok();
                    again.is_some()
                });
                self.listen(again.expect("a listener"));
            }
            same => *listener = same,
        }
    }

    /// Resets (RST) all connections that are there; new ones are welcome.
    pub fn reset_all(&self) {
        let open: Vec<_> = locked(&self.shared.open).values().map(Arc::downgrade).collect();
        open.iter().filter_map(std::sync::Weak::upgrade).for_each(|connection| connection.reset());
        wait_for("all connections are reset", || open.iter().all(|connection| connection.strong_count() == 0));
    }

    /// Takes so long to carry a byte, toward the server and toward the client.
    pub fn delay(&self, to_server: Duration, to_client: Duration) {
        for (delay, new) in self.shared.delays.iter().zip([to_server, to_client]) {
            delay.store(new.as_micros() as u64, Ordering::SeqCst);
        }
    }

    /// Takes new connections to another port.
    pub fn aim(&self, target: u16) {
        *locked(&self.shared.target) = target;
    }

    /// Connections that were made so far.
    pub fn connections(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// Connections that are there now.
    pub fn open(&self) -> usize {
        locked(&self.shared.open).len()
    }

    /// The trips so far, since the last [`Relay::forget`].
    pub fn trips(&self) -> Vec<Trip> {
        locked(&self.shared.record).trips.clone()
    }

    /// Every command so far, since the last [`Relay::forget`], in the order they came on each connection.
    pub fn commands(&self) -> Vec<Command> {
        self.trips().into_iter().flat_map(|trip| trip.commands).collect()
    }

    /// Forgets what it has written down.
    pub fn forget(&self) {
        *locked(&self.shared.record) = Record::default();
    }

    fn listen(&self, listener: TcpListener) {
        *locked(&self.listener) = Some(listener.try_clone().expect("a listener"));
        let shared = self.shared.clone();
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                let number = shared.accepted.fetch_add(1, Ordering::SeqCst);
                Connection::open(number, client, &shared);
            }
        });
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(listener) = locked(&self.listener).take() {
            let _ = socket2::SockRef::from(&listener).shutdown(Shutdown::Both);
        }
        locked(&self.shared.open).values().for_each(|connection| connection.reset());
    }
}

fn wait_for(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !fact() {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

fn locked<T>(what: &Mutex<T>) -> MutexGuard<'_, T> {
    what.lock().unwrap_or_else(PoisonError::into_inner)
}
