//! sidegate: a policy sidecar in front of an HTTP API. The modules stand in the order in which a request passes them.
//!
//! **Import rule.** A room may use the types of rooms that the request passed earlier, never of later ones. No room
//! imports `config`; `config` imports the rooms' domain types. `local_reply`, `body`, `exchange`, `clock` and `telemetry`
//! are leaves. `stack` imports every layer. `tests/architecture.rs` holds the code to it.

pub mod body;
pub mod clock;
pub mod exchange;
pub mod local_reply;
pub mod telemetry;

pub mod redis_pool;

pub mod listener;

pub mod client_addr;

pub mod route;

pub mod gather;

pub mod rate_limit;

pub mod session;

pub mod cache;

pub mod upstream;

pub mod stack;

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
