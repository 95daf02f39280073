//! What every test of the proxy stands on.
//!
//! 1. Everything is real: the built binary, sockets, redis-server. Only the app is ours, and says what the test wants.
//! 2. No fixed port: whoever listens is told port 0, and says where it is.
//! 3. Nothing waits for a time to pass: a test waits for a fact ([`until`]), and fails after [`PATIENCE`].
//!
//! # Why
//! The clients and the origin are written on bare sockets: a library would refuse to send, or would repair, just what the
//! proxy is to be tested with.

// Shared with tests/contracts, which uses more of them.
#[allow(dead_code, unused_imports)]
#[path = "../../support/redis/mod.rs"]
pub mod redis;
#[allow(dead_code)]
#[path = "../../support/relay/mod.rs"]
pub mod relay;

pub mod client;
pub mod frames;
pub mod hpack;
pub mod http2;
pub mod http2_app;
pub mod load;
pub mod origin;
pub mod secure;
pub mod sidegate;
pub mod tls;
pub mod wire;

use std::thread;
use std::time::{Duration, Instant};

pub use client::{Answer, Client};
pub use load::Load;
pub use origin::{Origin, Reply};
pub use redis::RedisServer;
pub use relay::{Mode, Relay};
pub use sidegate::{Configuration, Directory, Sidegate};

/// How long anything may take before its test fails.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits until `fact` holds; fails with `what` if it never does.
pub fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !fact() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} in vain: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// A Redis that is there and does not answer, until this is dropped.
pub struct Frozen(i32);

/// Stops a Redis where it stands.
pub fn freeze(redis: &RedisServer) -> Frozen {
    let process = redis.pid();
    signal(process, libc::SIGSTOP);
    Frozen(process)
}

impl Drop for Frozen {
    fn drop(&mut self) {
        signal(self.0, libc::SIGCONT);
    }
}

/// Sends a signal to a process that a test has started.
pub fn signal(process: i32, signal: i32) {
    // SAFETY: `kill` reads two integers and touches no memory of ours.
    let sent = unsafe { libc::kill(process, signal) };
    assert_eq!(sent, 0, "signal {signal} could not be sent to process {process}");
}
