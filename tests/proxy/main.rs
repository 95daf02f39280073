//! sidegate from outside: the real binary, real sockets, real Redis.

// Tests measure how long a thing took; nothing here is on a request's path.
#![allow(clippy::disallowed_methods)]

mod harness;

mod admin;
mod cache;
mod forwarding;
mod fuzz_requests;
mod itself;
mod limits;
mod outage;
mod protocol;
mod raw;
mod reload;
mod sessions;
mod shutdown;
mod start;
mod streaming;
mod tls;
