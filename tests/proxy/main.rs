//! sidegate from outside: the real binary, real sockets, real Redis.

// Tests measure how long a thing took; nothing here is on a request's path.
#![allow(clippy::disallowed_methods)]

mod harness;

mod cache;
mod forwarding;
mod itself;
mod limits;
mod raw;
mod sessions;
mod streaming;
