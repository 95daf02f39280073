//! What can be seen from outside: logs, metrics, the access log. A leaf: imports nothing of ours but the clock.

pub mod access_log;
pub mod logs;
pub mod redact;
pub mod registry;
pub mod trace_context;
mod trail;

pub use trail::{LimitTrail, Record, Trail};
