//! Servers that do not want to track.

use sidegate::redis_pool::Settings;
use sidegate::redis_pool::near::{Mode, channel};
use sidegate::redis_pool::tracking::probe;

use super::{Tracked, until_true};
use crate::on_a_worker;
use crate::redis_server::RedisServer;
use crate::relay::{self, Relay};

const REFUSED: &str = "-NOPERM this user has no permissions to run this command";

/// A server with a user whose rights are `rules`, and how that user reaches it.
fn server_for(rules: &[&str]) -> (RedisServer, Settings) {
    let server = RedisServer::start();
    let () = server.ask(&[&["ACL", "SETUSER", "gate", "on", ">secret", "~*"], rules].concat()).unwrap();
    let url = format!("redis://gate:secret@127.0.0.1:{}", server.port());
    (server, Settings::of_url(&url).unwrap())
}

/// Our own invalidations are told, what others change is not.
fn tells_only_what_is_published(tracked: &Tracked, server: &RedisServer) {
    let era = tracked.new_era(&[]);
    assert_eq!((tracked.in_use(Mode::PubSub), tracked.in_use(Mode::Tracking)), (1, 0));
    assert!(tracked.coherence.announces());
    assert_eq!(tracked.coherence.mode(), Some(Mode::PubSub));
    let note = tracked.coherence.note(b"sidegate:cache:{a}:g").unwrap();
    assert!(tracked.notebook.keep("sidegate:cache:{a}:g", note, "text"));
    let () = server.ask(&["SET", "sess:1", "text"]).unwrap();
    let _: i64 = server.ask(&["PUBLISH", "elsewhere", "sess:1"]).unwrap();
    let _: i64 = server.ask(&["PUBLISH", &channel("sidegate:"), "sidegate:cache:{a}:g"]).unwrap();
    until_true("it is told", || tracked.notebook.was_told("sidegate:cache:{a}:g"));
    assert_eq!(tracked.notebook.near("sidegate:cache:{a}:g"), None);
    assert!(!tracked.notebook.was_told("sess:1"));
    until_true("the era lasts", || tracked.coherence.era() == Some(era));
}

#[test]
fn a_user_who_may_not_track_is_told_by_pub_sub() {
    let (server, settings) = server_for(&["+@all", "-client|tracking", "&*"]);
    tells_only_what_is_published(&Tracked::start(settings), &server);
}

#[test]
fn what_is_published_behind_the_change_is_there_when_both_are_acknowledged() {
    let (server, settings) = server_for(&["+@all", "-client|tracking", "&*"]);
    let tracked = Tracked::start(settings);
    tracked.new_era(&[]);
    let mut writer = server.client().get_connection().unwrap();
    let key = "sidegate:cache:{a}:g";
    for turn in 0..500 {
        until_true("nothing is unread", || tracked.coherence.era().is_some());
        let note = tracked.coherence.note(key.as_bytes()).unwrap();
        assert!(tracked.notebook.keep(key, note, "text"));
        let mut change = redis::pipe();
        change.del(key).ignore().cmd("PUBLISH").arg(channel("sidegate:")).arg(key).ignore();
        let () = change.query(&mut writer).unwrap();
        assert_eq!(tracked.notebook.near(key), None, "turn {turn}");
    }
}

#[test]
fn a_server_that_knows_no_resp3_tells_by_pub_sub() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port());
    relay.turn(relay::Mode::fail_only("-ERR unknown command 'HELLO'", &["HELLO"]));
    let tracked = Tracked::start(Settings::of_url(&relay.url()).unwrap());
    tells_only_what_is_published(&tracked, &server);
    let era = tracked.new_era(&[]);
    // Signs of life have another form there.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    until_true("it is still there", || tracked.coherence.era() == Some(era));
}

#[test]
fn a_user_with_the_rights_tracks() {
    let (server, settings) = server_for(&["+hello", "+ping", "+client|tracking", "+client|setname"]);
    let tracked = Tracked::start(settings);
    tracked.new_era(&[]);
    let () = server.ask(&["SET", "sess:1", "text"]).unwrap();
    until_true("it is told", || tracked.notebook.was_told("sess:1"));
    assert!(!tracked.coherence.announces());
}

#[test]
fn where_nothing_is_granted_nothing_is_remembered() {
    for rules in [&["+hello", "+ping"][..], &["+@all", "-client|tracking", "-publish", "&*"]] {
        let (_server, settings) = server_for(rules);
        let tracked = Tracked::start(settings);
        until_true("the refusal is counted", || tracked.losses("refused") == 1);
        assert!(tracked.coherence.era().is_none() && tracked.coherence.note(b"sess:1").is_none());
    }
}

#[test]
fn a_wrong_password_is_told_apart() {
    let server = RedisServer::start_with(&["--requirepass", "right"]);
    let wrong = Settings::of_url(&format!("redis://:wrong@127.0.0.1:{}", server.port())).unwrap();
    let tracked = Tracked::start(wrong);
    until_true("it is counted", || tracked.losses("auth") > 0);
    let right = Settings::of_url(&format!("redis://:right@127.0.0.1:{}", server.port())).unwrap();
    Tracked::start(right).new_era(&[]);
}

#[test]
fn how_changes_would_be_told_can_be_asked() {
    let mut server = RedisServer::start();
    let relay = Relay::to(server.port());
    let settings = Settings::of_url(&relay.url()).unwrap();
    let asked = || on_a_worker(probe(&settings, &["sess:"]));
    assert_eq!(asked(), Ok(Mode::Tracking));
    relay.turn(relay::Mode::fail_only(REFUSED, &["CLIENT TRACKING"]));
    assert_eq!(asked(), Ok(Mode::PubSub));
    relay.turn(relay::Mode::fail_only(REFUSED, &["CLIENT TRACKING", "SUBSCRIBE"]));
    assert_eq!(asked(), Err("refused"));
    relay.turn(relay::Mode::Pass);
    server.kill();
    assert_eq!(asked(), Err("disconnected"));
}
