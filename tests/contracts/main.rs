//! What every store of a kind promises: one suite, run over each of them. Needs redis-server.

mod session;

// Shared with tests/proxy, which uses more of it.
#[allow(dead_code)]
#[path = "../support/redis.rs"]
mod redis_server;
