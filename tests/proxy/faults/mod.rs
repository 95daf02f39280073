//! Each fault of Redis, against each policy, under load.
//!
//! Of each fault this is shown, over one sidegate for each policy of limits (`local`, `open`, `closed`), each with a
//! limited, a protected and a cached route, while it lasts and after:
//! 1. Every request is answered, and the answer is the one to that request; a write is never followed by a stored answer
//!    from before it.
//! 2. No 5xx but 503 for limits and sessions that are `closed`; never a 401, never a cleared cookie.
//! 3. In the first second not more than one request in a hundred costs sidegate twice the time-out; after it not more
//!    than one in a hundred costs as much as a wait for Redis.
//! 4. What the fault hits follows its policy, all the time.
//! 5. The log says it once and not for each request; the metrics say which kind.
//! 6. All is as before within two seconds of Redis's return.

mod trial;

use crate::harness::Mode;

use trial::{Fault, Hits, How};

/// Commands that write.
const WRITES: &[&str] = &["EVALSHA", "SET", "DEL", "PEXPIRE", "PEXPIREAT", "EXPIREAT", "ZADD"];
/// Commands that write and may need memory for it.
const GROWS: &[&str] = &["EVALSHA", "SET", "ZADD"];
/// What a server whose snapshots fail refuses.
const UNSAVED: &[&str] = &["EVALSHA", "SET", "DEL", "PEXPIRE", "PEXPIREAT", "EXPIREAT", "ZADD", "PING"];
/// Commands with keys.
const KEYED: &[&str] =
    &["EVALSHA", "SET", "DEL", "PEXPIRE", "PEXPIREAT", "EXPIREAT", "ZADD", "GET", "MGET", "HMGET", "PTTL"];
const SCRIPTS: &[&str] = &["EVALSHA"];

macro_rules! faults {
    ($($name:ident: $how:expr, $hits:ident, $kinds:expr;)*) => {
        $(
            #[test]
            fn $name() {
                trial::endure(&Fault { how: $how, hits: Hits::$hits, kinds: &$kinds });
            }
        )*
    };
}

faults! {
    a_redis_that_takes_all_and_answers_nothing: How::Relay(Mode::Freeze), Everything, ["timeout"];
    a_redis_that_is_stopped: How::Stopped, Everything, ["timeout"];
    a_redis_that_is_killed: How::Killed, Everything, ["disconnected"];
    a_redis_that_refuses: How::Refused, Everything, ["disconnected"];
    a_redis_whose_connections_are_reset_again_and_again: How::Reset, Moments, ["disconnected"];
    replies_that_are_cut_in_the_middle: How::Relay(Mode::Cut(1)), Everything, ["disconnected", "protocol"];
    long_replies_that_are_cut_in_the_middle: How::Relay(Mode::Cut(12)), Moments, ["disconnected", "protocol"];
    replies_that_are_garbage: How::Relay(Mode::Garbage), Everything, ["protocol"];
    a_redis_that_takes_half_a_second_for_each_command: How::Relay(Mode::Slow(trial::SLOW)), Everything, ["timeout"];
    a_redis_that_became_a_replica: fail("-READONLY You can't write against a read only replica.", WRITES), Counting, ["readonly"];
    a_redis_that_is_loading: fail("-LOADING Redis is loading the dataset in memory", &[]), Everything, ["loading"];
    a_redis_that_is_full: fail("-OOM command not allowed when used memory > 'maxmemory'.", GROWS), Counting, ["oom"];
    a_redis_that_wants_a_password: fail("-NOAUTH Authentication required.", &[]), Everything, ["auth"];
    a_redis_that_runs_a_slow_script: fail("-BUSY Redis is busy running a script.", &[]), Everything, ["busy"];
    a_redis_whose_snapshots_fail: fail("-MISCONF Redis is configured to save RDB snapshots", UNSAVED), Counting, ["misconf"];
    a_redis_whose_cluster_is_down: fail("-CLUSTERDOWN The cluster is down", KEYED), Everything, ["clusterdown"];
    a_redis_that_forgets_every_script: fail("-NOSCRIPT No matching script.", SCRIPTS), Counting, ["noscript"];
    a_redis_that_restarts_and_cuts_replies_for_ten_seconds: How::Restarts, Moments, ["disconnected"];
    keys_of_another_type: How::OtherType, Counting, ["wrongtype"];
}

fn fail(line: &'static str, only: &'static [&'static str]) -> How {
    How::Relay(Mode::fail_only(line, only))
}
