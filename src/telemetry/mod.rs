//! What can be seen from outside: logs, metrics, the access log. A leaf: of ours it imports the other leaves only.
//!
//! 1. A client's value never becomes a label, and never ends a line of a log early.
//! 2. A credential is never written; nor is the value of a query parameter that looks like one.
//! 3. Nothing here makes a request wait: what cannot be written in time is dropped and counted.

pub mod access_log;
mod layer;
pub mod line;
pub mod logs;
pub mod redact;
pub mod registry;
pub mod sink;
pub mod trace_context;
mod trail;

pub use layer::{Telemetry, layer, requests_in_flight};
pub use trail::{LimitTrail, Record, Trail};
