//! How many files the process may have open, and who gets them.
//!
//! 1. The soft limit is raised to the hard one: that of a shell is for shells.
//! 2. What the apps, Redis, the admin listener and the process itself may need is set aside; clients get the rest. Where
//!    `max_connections` is more than that, further clients wait in the kernel's queue, and a warning says so.
//! 3. Where nothing is left for clients, the process does not start.
//!
//! # Why
//! A process that has given its last file to a client cannot ask the app for that client's answer. Tunnels (WebSockets) are
//! not set aside: each takes a second file for its side of the app, beyond the `max_connections` of the upstream.

use crate::config::settings::Settings;
use crate::listener::admission::Bounds;

/// Standard streams, the log, a signal pipe, look-ups of names, a file that is read.
const PROCESS: u64 = 32;
/// The epoll and wake-up descriptors of a worker, and a connection that it holds while there is no room.
const WORKER: u64 = 5;
/// What the admin listener has open besides connections.
const ADMIN: u64 = 8;
/// Being told of changes in Redis: a runtime, connections to the masters and the hold that workers keep on them.
const TRACKING: u64 = 32;

/// What the system allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Files(u64);

impl Files {
    /// Raises the limit as far as it goes. Where the system does not tell, it is taken to have none.
    pub fn raise() -> Self {
        Self(rlimit::increase_nofile_limit(u64::MAX).unwrap_or(u64::MAX))
    }

    /// What it could be raised to.
    pub fn possible() -> Self {
        Self(rlimit::getrlimit(rlimit::Resource::NOFILE).map_or(u64::MAX, |(_, hard)| hard))
    }

    /// How many connections may be open under `settings`, and a sentence where that is fewer than they say.
    ///
    /// # Errors
    /// A sentence: there is no file for any client.
    pub fn bounds(self, settings: &Settings) -> Result<(Bounds, Option<String>), String> {
        let server = &settings.server;
        let aside = aside(settings);
        let left = usize::try_from(self.0.saturating_sub(aside)).unwrap_or(usize::MAX);
        if left == 0 {
            let limit = self.0;
            return Err(format!(
                "the limit on open files is {limit}, and {aside} are set aside for apps (upstream max_connections), Redis \
                 and the process: none is left for clients; raise it (ulimit -n, LimitNOFILE=)"
            ));
        }
        let all = server.max_connections.min(left);
        let fewer = (all < server.max_connections).then(|| {
            format!(
                "max_connections is {}, but the limit on open files ({}) leaves {all} beside the {aside} set aside for \
                 apps, Redis and the process; raise it (ulimit -n, LimitNOFILE=)",
                server.max_connections, self.0
            )
        });
        let (per_address, ipv6_prefix) = (server.max_connections_per_address, server.ipv6_prefix);
        Ok((Bounds { all, per_address, ipv6_prefix }, fewer))
    }
}

/// Files that are not for clients.
fn aside(settings: &Settings) -> u64 {
    let workers = settings.server.workers as u64;
    let apps: u64 = settings.upstreams.iter().map(|app| app.max_connections as u64).sum();
    // A connection that is being replaced is open beside its successor.
    let redis = settings.redis.as_ref().map_or(0, |redis| (redis.connections as u64 + 1) * workers + TRACKING);
    let sockets = settings.server.listen.len() as u64 * (workers + 1);
    let admin = ADMIN + settings.admin.max_connections as u64;
    PROCESS + WORKER * workers + admin + sockets + apps + redis
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(lines: &str) -> Settings {
        let text = format!(
            "[server]\nworkers = 2\n{lines}\n[upstream.app]\nservers = [\"http://a:1\"]\nmax_connections = 100\n"
        );
        crate::config::parse("sidegate.toml", &text, &|_| None).unwrap().settings
    }

    #[test]
    fn clients_get_what_is_left() {
        let all = |files: u64, lines: &str| {
            Files(files).bounds(&settings(lines)).map(|(bounds, said)| (bounds.all, said.is_some()))
        };
        let aside = aside(&settings(""));
        assert_eq!(aside, 32 + 10 + 72 + 3 + 100);
        assert_eq!(all(aside + 10_000, ""), Ok((10_000, false)));
        assert_eq!(all(aside + 9_999, ""), Ok((9_999, true)));
        assert_eq!(all(aside + 1, "max_connections = 5"), Ok((1, true)));
        assert_eq!(all(u64::MAX, "max_connections = 5"), Ok((5, false)));
        let none = all(aside, "").unwrap_err();
        assert!(none.contains("none is left for clients"), "{none}");
    }
}
