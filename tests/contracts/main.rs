//! The same suite over every store, and what is written twice (in Rust and in Lua) against each other, over a real Redis.
//! Needs redis-server.

mod addresses;
mod breaker;
mod cache;
mod faults;
mod fleet;
mod in_flight;
mod leases;
mod limits;
mod limits_agree;
mod link;
mod near;
mod one_trip;
mod outage;
mod plans;
mod session;
mod session_ends;
mod support;
mod topology;
// Shared with tests/proxy, which uses more of it.
#[allow(dead_code, unused_imports)]
#[path = "../support/redis/mod.rs"]
mod redis_server;
#[allow(dead_code)]
#[path = "../support/relay/mod.rs"]
mod relay;

use std::time::Duration;

use sidegate::redis_pool::{Link, Settings};
use sidegate::telemetry::registry::Registry;

use redis_server::RedisServer;

/// Runs on a worker's runtime.
fn on_a_worker<T>(run: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.expect("a runtime").block_on(run)
}

/// `[redis]` as a test wants it: a time-out long enough for a busy machine.
fn settings(server: &RedisServer) -> Settings {
    Settings { timeout: Duration::from_secs(2), ..Settings::of_url(&server.url()).expect("a URL") }
}

/// A link that is up.
async fn link(server: &RedisServer, scripts: &[&'static str]) -> Link {
    let link = Link::new(&settings(server), scripts, &Registry::new(1), 0);
    becomes(&link, true).await;
    link
}

/// Waits until the link says that Redis answers, or that it is away.
async fn becomes(link: &Link, up: bool) {
    let mut state = link.subscribe();
    let turned = tokio::time::timeout(Duration::from_secs(60), state.wait_for(|now| *now == up)).await;
    turned.expect("the link turns within ten seconds").expect("the link lives");
}
