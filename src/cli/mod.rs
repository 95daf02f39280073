//! The command line. Exit codes: 0 well, 1 failed, 2 usage or configuration.

mod admin;
mod arguments;
pub mod check;
pub mod demo;
pub mod explain;
pub mod health;
pub mod init;
pub mod limits;
pub mod purge;
pub mod redis_report;
pub mod replay;
pub mod sessions;

pub use arguments::run;
