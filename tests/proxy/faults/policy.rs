//! What a sidegate does without Redis, what is asked of it, and what it may answer.

use crate::harness::client::request;

use super::seen::Phase;

/// Where the session of alice is, and what it says.
pub const SESSION: &str = "session:alice-0123456789abcdef";
pub const RECORD: &str = r#"{"user":{"id":42}}"#;

/// Whom it hits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Hits {
    /// Limits, sessions and stored responses, all the time.
    Everything,
    /// Limits all the time; sessions perhaps.
    Counting,
    /// Some requests now and then.
    Moments,
}

/// What the sidegates of a trial do without Redis.
#[derive(Clone, Copy)]
pub struct Policy {
    pub limits: &'static str,
    pub sessions: &'static str,
    pub near: bool,
}

pub const POLICIES: [Policy; 3] = [
    Policy { limits: "local", sessions: "closed", near: true },
    Policy { limits: "open", sessions: "grace", near: true },
    Policy { limits: "closed", sessions: "closed", near: false },
];

/// What a connection asks for, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Asks {
    Limited,
    Protected,
    Cached,
}

pub const ASKS: [Asks; 3] = [Asks::Limited, Asks::Protected, Asks::Cached];

impl Policy {
    /// The tables of a configuration: a route for each of [`Asks`].
    pub fn tables(self) -> String {
        let Self { limits, sessions, near } = self;
        format!(
            r#"
[near]
enabled = {near}
[limits]
on_outage = "{limits}"
[limit.many]
key = "address"
quota = "1000000 per hour"
[cache.pages]
ttl = "60s"
[session.web]
format = "json"
user = "user.id"
forward = {{ X-User-Id = "user.id" }}
on_outage = "{sessions}"
[[route]]
path = "/limited/{{*rest}}"
limits = ["many"]
[[route]]
path = "/protected/{{*rest}}"
session = "web"
[[route]]
path = "/cached/{{*rest}}"
cache = "pages"
"#
        )
    }

    /// What is asked for at a turn. No two policies share a page.
    pub fn target(self, asks: Asks, turn: usize) -> String {
        match asks {
            Asks::Limited => format!("/limited/{turn}"),
            Asks::Protected => format!("/protected/{turn}"),
            Asks::Cached => format!("/cached/{}", self.limits),
        }
    }

    /// A whole request: pages are written now and then.
    pub fn ask(self, asks: Asks, turn: usize) -> Vec<u8> {
        let target = self.target(asks, turn);
        match asks {
            Asks::Limited => request("GET", &target, &[], b""),
            Asks::Protected => {
                request("GET", &target, &[("Authorization", &SESSION.replace("session:", "Bearer "))], b"")
            }
            Asks::Cached => request(if writes(turn) { "PUT" } else { "GET" }, &target, &[], b""),
        }
    }

    /// The statuses that may come back.
    pub fn decided(self, asks: Asks, phase: Phase, hits: Hits) -> &'static [u16] {
        let lasting = phase == Phase::Lasting;
        match asks {
            Asks::Cached => &[200],
            Asks::Limited if self.limits != "closed" => &[200],
            Asks::Limited if lasting && hits != Hits::Moments => &[503],
            // Who has not been seen yet cannot be remembered.
            Asks::Protected if self.sessions == "grace" && phase != Phase::Before => &[200],
            // What is remembered near is believed for as long as its changes are told.
            Asks::Protected if lasting && hits == Hits::Everything && !self.near => &[503],
            Asks::Limited | Asks::Protected => &[200, 503],
        }
    }
}

/// Whether a page is written at this turn.
pub fn writes(turn: usize) -> bool {
    turn % 8 == 7
}
