//! sidegate from outside: the real binary, real sockets, real Redis.

// Tests measure how long a thing took; nothing here is on a request's path.
#![allow(clippy::disallowed_methods)]

mod harness;

mod acl;
mod admin;
mod answers;
mod cache;
mod coalesce;
mod crowd;
mod deception;
mod encode;
mod errors;
mod explain;
mod faults;
mod fleet;
mod forwarding;
mod frameworks;
mod full_redis;
mod fuzz_answers;
mod fuzz_requests;
mod grpc;
mod http2;
mod http2_app;
mod http2spec;
mod identity;
mod in_flight;
mod introduced;
mod itself;
mod leases;
mod limits;
mod near;
mod observe;
mod operate;
mod outage;
mod plans;
mod protocol;
mod purge;
mod raw;
mod redis_report;
mod reload;
mod replay;
mod restart;
mod routes;
mod session_aliases;
mod session_described;
mod session_devices;
mod session_gate;
mod session_grace;
mod session_issue;
mod session_life;
mod session_near;
mod session_refusals;
mod session_story;
mod sessions;
mod shutdown;
mod slow;
mod start;
mod streaming;
mod tls;
mod told;
mod topologies;
mod trips;
mod upstreams;
mod websocket_http2;
