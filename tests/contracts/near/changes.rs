//! Every change of a tracked key is told, whoever makes it and however.

use redis::Commands as _;
use sidegate::redis_pool::near::Mode;

use super::{Tracked, until_true};
use crate::redis_server::RedisServer;

/// What an operator or an app may do to a key that holds a text.
const CHANGES: [&[&str]; 8] = [
    &["SET", "sess:1", "other"],
    &["APPEND", "sess:1", "more"],
    &["PEXPIRE", "sess:1", "100000"],
    &["PERSIST", "sess:1"],
    &["RENAME", "sess:1", "elsewhere"],
    &["RENAME", "elsewhere", "sess:1"],
    &["UNLINK", "sess:1"],
    &["EVAL", "return redis.call('SET', KEYS[1], '')", "1", "sess:1"],
];

#[test]
fn whatever_changes_a_tracked_key_is_told() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    tracked.new_era(&[]);
    let () = server.ask(&["SET", "sess:1", "text"]).unwrap();
    until_true("the first is told", || tracked.notebook.was_told("sess:1"));
    for change in CHANGES {
        let note = tracked.coherence.note(b"sess:1").unwrap();
        let _: redis::Value = server.ask(change).unwrap();
        let moved = || tracked.coherence.note(b"sess:1").is_some_and(|now| now.epoch > note.epoch);
        until_true(&change.join(" "), moved);
    }
    assert_eq!(tracked.in_use(Mode::Tracking), 1);
    assert!(tracked.registry.value("sidegate_near_invalidations_total", &[]) >= CHANGES.len() as u64);
}

#[test]
fn a_key_that_ends_by_its_time_is_told_and_one_under_no_prefix_is_not() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    let era = tracked.new_era(&[]);
    let mut client = server.client().get_connection().unwrap();
    let () = client.set("sidegate:limit:{a}", 1).unwrap();
    let () = client.pset_ex("sess:1", "text", 300).unwrap();
    until_true("it is told", || tracked.notebook.was_told("sess:1"));
    let note = tracked.coherence.note(b"sess:1").unwrap();
    // Redis looks for what has ended by itself, ten times a second.
    until_true("its end is told", || tracked.coherence.note(b"sess:1").unwrap().epoch > note.epoch);
    assert!(!tracked.notebook.was_told("sidegate:limit:{a}"));
    until_true("the era lasts", || tracked.coherence.era() == Some(era));
}

#[test]
fn a_change_in_a_transaction_and_in_another_database_is_told() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    tracked.new_era(&[]);
    let mut client = server.client().get_connection().unwrap();
    let () = redis::cmd("SELECT").arg(3).query(&mut client).unwrap();
    let () = redis::pipe().atomic().set("sess:a", 1).set("sess:b", 2).query(&mut client).unwrap();
    until_true("both are told", || tracked.notebook.was_told("sess:a") && tracked.notebook.was_told("sess:b"));
}

#[test]
fn a_flush_forgets_everything_and_a_new_era_begins_at_once() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    let mut eras = vec![tracked.new_era(&[])];
    for flush in ["FLUSHDB", "FLUSHALL"] {
        let note = tracked.coherence.note(b"sess:1").unwrap();
        assert!(tracked.notebook.keep("sess:1", note, "text"));
        until_true("it is used", || tracked.notebook.near("sess:1").is_some());
        let emptied = tracked.notebook.emptied();
        let () = server.ask(&[flush]).unwrap();
        eras.push(tracked.new_era(&eras));
        assert_eq!(tracked.notebook.near("sess:1"), None, "{flush}");
        assert_eq!(tracked.notebook.emptied(), emptied + 1);
        assert!(!tracked.notebook.keep("sess:1", note, "text"), "read before the flush");
    }
    assert_eq!(tracked.registry.value("sidegate_near_flushes_total", &[]), 2);
}

#[test]
fn very_many_keys_of_one_command_are_told_all() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    let era = tracked.new_era(&[]);
    let script = "for i = 1, 20000 do redis.call('SET', 'sess:' .. i, i) end";
    let _: redis::Value = server.ask(&["EVAL", script, "0"]).unwrap();
    let told = || tracked.registry.value("sidegate_near_invalidations_total", &[]) == 20_000;
    until_true("all are told", told);
    assert!(tracked.notebook.was_told("sess:20000"));
    until_true("the era lasts", || tracked.coherence.era() == Some(era));
}
