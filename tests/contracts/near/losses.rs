//! Whatever may leave a change untold ends the era, and everything is forgotten.

use std::time::Duration;

use sidegate::redis_pool::Settings;
use sidegate::redis_pool::near::Mode;

use super::{Tracked, until_true};
use crate::redis_server::{RedisCluster, RedisServer, Sentinels};
use crate::relay::{self, Relay};

fn remember(tracked: &Tracked, key: &str) {
    let note = tracked.coherence.note(key.as_bytes()).expect("an era");
    assert!(tracked.notebook.keep(key, note, "text"));
    until_true("it is used", || tracked.notebook.near(key).is_some());
}

#[test]
fn a_killed_connection_ends_the_era_and_nothing_of_it_is_used_again() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    let mut eras = vec![tracked.new_era(&[])];
    for turn in 1..=3 {
        remember(&tracked, "sess:1");
        let note = tracked.coherence.note(b"sess:2").unwrap();
        let _: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).unwrap();
        assert_eq!(tracked.notebook.near("sess:1"), None, "the end of the connection is there to be seen");
        eras.push(tracked.new_era(&eras));
        assert_eq!(tracked.notebook.near("sess:1"), None);
        assert!(!tracked.notebook.keep("sess:2", note, "read before the loss, kept after it"));
        assert_eq!(tracked.losses("disconnected"), turn);
    }
}

#[test]
fn a_redis_that_is_stopped_is_noticed_by_its_silence() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    let era = tracked.new_era(&[]);
    remember(&tracked, "sess:1");
    let signal = |signal| assert_eq!(unsafe { libc::kill(server.pid(), signal) }, 0);
    signal(libc::SIGSTOP);
    until_true("the silence is noticed", || tracked.losses("silent") > 0);
    assert_eq!((tracked.in_use(Mode::Tracking), tracked.notebook.near("sess:1")), (0, None));
    signal(libc::SIGCONT);
    tracked.new_era(&[era]);
    assert_eq!(tracked.notebook.near("sess:1"), None);
}

#[test]
fn a_redis_that_is_quiet_but_there_is_kept() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    let era = tracked.new_era(&[]);
    // Longer than the silence that would end it.
    std::thread::sleep(Duration::from_millis(2500));
    until_true("nothing is unread", || tracked.coherence.era() == Some(era));
}

#[test]
fn a_peer_that_goes_without_a_word_talks_nonsense_or_is_not_in_order_is_given_up() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port());
    let tracked = Tracked::start(Settings::of_url(&relay.url()).unwrap());
    let mut eras = vec![tracked.new_era(&[])];
    for (mode, reason) in [
        (relay::Mode::Freeze, "silent"),
        (relay::Mode::Garbage, "protocol"),
        (relay::Mode::fail("-LOADING Redis is loading the dataset in memory"), "loading"),
        (relay::Mode::fail("-CLUSTERDOWN The cluster is down"), "disorder"),
    ] {
        remember(&tracked, "sess:1");
        relay.turn(mode);
        until_true(reason, || tracked.losses(reason) > 0);
        assert_eq!((tracked.coherence.era(), tracked.notebook.near("sess:1")), (None, None));
        relay.turn(relay::Mode::Pass);
        eras.push(tracked.new_era(&eras));
    }
    assert_eq!(tracked.losses("refused"), 0, "none of this is for good");
}

#[test]
fn a_redis_that_comes_late_and_one_that_is_restarted_are_tracked() {
    let mut server = RedisServer::start();
    server.kill();
    let tracked = Tracked::of(&server);
    until_true("it is missed", || tracked.losses("unreachable") > 0);
    server.restart();
    let era = tracked.new_era(&[]);
    remember(&tracked, "sess:1");
    server.restart();
    tracked.new_era(&[era]);
    assert_eq!(tracked.notebook.near("sess:1"), None);
    let () = server.ask(&["SET", "sess:1", "text"]).unwrap();
    until_true("it is told", || tracked.notebook.was_told("sess:1"));
}

#[test]
fn the_end_of_tracking_ends_the_era() {
    let server = RedisServer::start();
    let Tracked { notebook, coherence, _tracking, .. } = Tracked::of(&server);
    super::until("an era", || coherence.era());
    drop(_tracking);
    assert_eq!((coherence.era(), notebook.emptied()), (None, 1));
}

#[test]
fn all_masters_of_a_cluster_tell_and_the_loss_of_one_ends_the_era() {
    let mut cluster = RedisCluster::start();
    let tracked = Tracked::start(Settings::of_url(&cluster.url()).unwrap());
    let era = tracked.new_era(&[]);
    let keys: Vec<String> = (0..16).map(|number| format!("sess:{number}")).collect();
    let masters: Vec<usize> = keys.iter().map(|key| cluster.master_of(key)).collect();
    assert!((0..3).all(|master| masters.contains(&master)), "each has some of these keys");
    for (key, master) in keys.iter().zip(&masters) {
        let () = cluster.nodes()[*master].ask(&["SET", key, "text"]).unwrap();
    }
    until_true("all are told", || keys.iter().all(|key| tracked.notebook.was_told(key)));
    remember(&tracked, &keys[0]);
    cluster.node(masters[0]).kill();
    until_true("the loss is noticed", || tracked.coherence.era() != Some(era));
    assert_eq!(tracked.notebook.near(&keys[0]), None);
    let heir = cluster.wait_for_other_master(&keys[0], masters[0]);
    tracked.new_era(&[era]);
    let note = tracked.coherence.note(keys[0].as_bytes()).unwrap();
    let () = cluster.nodes()[heir].ask(&["SET", &keys[0], "other"]).unwrap();
    until_true("the heir tells", || !tracked.notebook.keep(&keys[0], note, "text"));
}

#[test]
fn the_master_that_sentinels_appoint_is_followed() {
    let sentinels = Sentinels::start();
    let tracked = Tracked::start(Settings::of_url(&sentinels.url()).unwrap());
    let era = tracked.new_era(&[]);
    remember(&tracked, "sess:1");
    let master = sentinels.fail_over();
    tracked.new_era(&[era]);
    assert_eq!(tracked.notebook.near("sess:1"), None);
    let () = sentinels.servers()[master].ask(&["SET", "sess:after", "text"]).unwrap();
    until_true("the new master tells", || tracked.notebook.was_told("sess:after"));
}

#[test]
fn an_era_ends_when_a_link_tells_of_another_master_though_no_sentinel_answers() {
    let sentinels = Sentinels::start();
    // Nobody who is asked where the master is gives up before this test does.
    let settings = Settings { timeout: Duration::from_secs(600), ..Settings::of_url(&sentinels.url()).unwrap() };
    let changes = settings.server.changes.clone();
    let tracked = Tracked::start(settings);
    let era = tracked.new_era(&[]);
    remember(&tracked, "sess:1");
    let signal = |signal| {
        sentinels.sentinels().iter().for_each(|one| assert_eq!(unsafe { libc::kill(one.pid(), signal) }, 0));
    };
    signal(libc::SIGSTOP);
    changes.tell();
    until_true("the era ends", || tracked.losses("topology") > 0);
    assert_eq!((tracked.coherence.era(), tracked.notebook.near("sess:1")), (None, None));
    signal(libc::SIGCONT);
    tracked.new_era(&[era]);
}
