//! Looks after the endpoints of an upstream, once for the whole process and off every request's path.
//!
//! 1. Names are resolved at the start and then every `dns_refresh`; after a failure, or when an endpoint refused a
//!    connection, again within a second. A lookup that fails changes nothing, and is counted.
//! 2. Each endpoint is checked every `every`, the first time at the start, all at once; no check outlives its `timeout`.
//! 3. Breakers turn half-open, and shares grow, when their time has come.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

use super::connect::Connector;
use super::health::Check;
use super::roster::Roster;
use super::{Place, Settings, probe};
use crate::clock;
use crate::telemetry::registry::{Counter, Registry};

/// No name is looked up more often.
const LOOKUPS_APART: Duration = Duration::from_secs(1);

/// Starts to look after `roster`, which belongs to `settings`; ends when the result is dropped. `slot` of the registry is
/// written by the thread of the caller alone.
///
/// # Errors
/// TLS is asked for and cannot be had.
pub fn tend(settings: &Settings, roster: &Arc<Roster>, registry: &Registry, slot: usize) -> io::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    tasks.spawn(let_time_pass(roster.clone()));
    for (index, server) in roster.servers().iter().enumerate() {
        let Place::Tcp(host, port) = &server.place else { continue };
        if host.parse::<IpAddr>().is_err() {
            let outcome = |outcome| {
                let help = "Lookups of the upstream's host names, by outcome.";
                let labels = [("upstream", &*settings.name), ("outcome", outcome)];
                registry.counter(slot, "sidegate_upstream_lookups_total", help, &labels)
            };
            let name = Name { index, host: host.clone(), port: *port, refresh: settings.dns_refresh };
            tasks.spawn(resolve(roster.clone(), name, outcome("found"), outcome("failed")));
        }
    }
    if let Some(check) = settings.health_check.clone() {
        tasks.spawn(check_all(roster.clone(), Connector::new(settings), Arc::new(check)));
    }
    Ok(tasks)
}

/// A host name to be resolved.
struct Name {
    /// Of the server that it belongs to.
    index: usize,
    host: String,
    port: u16,
    refresh: Duration,
}

async fn resolve(roster: Arc<Roster>, name: Name, found: Counter, failed: Counter) {
    let Name { index, host, port, refresh } = name;
    let mut doubts = roster.doubts();
    let mut fails = false;
    loop {
        let later = match lookup_host((host.as_str(), port)).await {
            Ok(addresses) => {
                found.inc();
                if std::mem::take(&mut fails) {
                    tracing::info!(upstream = &**roster.name(), host, "the name is resolved again");
                }
                roster.resolved(index, Some(addresses.collect()));
                refresh.saturating_sub(LOOKUPS_APART)
            }
            Err(error) => {
                failed.inc();
                if !std::mem::replace(&mut fails, true) {
                    tracing::warn!(upstream = &**roster.name(), host, %error, "the name is not resolved");
                }
                roster.resolved(index, None);
                Duration::ZERO
            }
        };
        sleep(LOOKUPS_APART).await;
        // What was doubted meanwhile is looked up now.
        let _ = timeout(later, doubts.changed()).await;
    }
}

async fn let_time_pass(roster: Arc<Roster>) {
    loop {
        let next = roster.settle(clock::instant());
        tokio::select! {
            () = sleep_until(next.map_or_else(Instant::now, Instant::from_std)), if next.is_some() => {}
            () = roster.stirred.notified() => {}
        }
    }
}

async fn check_all(roster: Arc<Roster>, connector: Connector, check: Arc<Check>) {
    let mut rounds = interval(check.every);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        rounds.tick().await;
        let mut checks = JoinSet::new();
        for endpoint in roster.endpoints() {
            let (connector, check) = (connector.clone(), check.clone());
            checks.spawn(async move {
                let passed = probe::passes(&connector, &endpoint, &check).await;
                (endpoint, passed)
            });
        }
        while let Some(done) = checks.join_next().await {
            if let Ok((endpoint, passed)) = done {
                roster.checked(&endpoint, &check, passed);
            }
        }
    }
}
