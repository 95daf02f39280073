//! What Redis said and the news that it is over come over two connections, in any order; and what was acknowledged to who
//! changed something is served to nobody any more.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use redis::Commands as _;
use sidegate::redis_pool::Settings;

use super::{Tracked, until_true};
use crate::redis_server::RedisServer;
use crate::relay::{self, Relay};

#[test]
fn a_value_read_before_a_change_is_not_kept_after_it() {
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    tracked.new_era(&[]);
    let mut reader = server.client().get_connection().unwrap();
    for turn in 0..200 {
        let key = format!("sess:{turn}");
        let () = reader.set(&key, "old").unwrap();
        until_true("it is told", || tracked.notebook.was_told(&key) && tracked.coherence.era().is_some());
        let note = tracked.coherence.note(key.as_bytes()).unwrap();
        let read: String = reader.get(&key).unwrap();
        let () = server.ask(&["DEL", &key]).unwrap();
        let kept = tracked.notebook.keep(&key, note, &read);
        // Kept before the news was applied: then the news is unread, and takes it away when it is read.
        assert_eq!(tracked.notebook.near(&key), None, "turn {turn}, kept: {kept}");
        until_true("the news is applied", || tracked.coherence.era().is_some());
        assert_eq!(tracked.notebook.near(&key), None, "turn {turn}, kept: {kept}");
        assert!(!tracked.notebook.keep(&key, note, &read));
    }
}

#[test]
fn a_value_whose_change_was_never_told_is_gone_with_the_connection() {
    let server = RedisServer::start();
    let relay = Relay::to(server.port());
    let tracked = Tracked::start(Settings::of_url(&relay.url()).unwrap());
    let era = tracked.new_era(&[]);
    let () = server.ask(&["SET", "sess:1", "old"]).unwrap();
    until_true("it is told", || tracked.notebook.was_told("sess:1") && tracked.coherence.era().is_some());
    let note = tracked.coherence.note(b"sess:1").unwrap();
    let read: String = server.ask(&["GET", "sess:1"]).unwrap();
    relay.turn(relay::Mode::Freeze);
    let () = server.ask(&["SET", "sess:1", "new"]).unwrap();
    until_true("the silence is noticed", || tracked.losses("silent") > 0);
    assert!(!tracked.notebook.keep("sess:1", note, &read));
    relay.turn(relay::Mode::Pass);
    tracked.new_era(&[era]);
    assert!(!tracked.notebook.keep("sess:1", note, &read));
    assert_eq!(tracked.notebook.near("sess:1"), None);
}

/// Four readers that keep whatever Redis says, as fast as they can, against one who changes it: not once does anybody see
/// what was over before they looked.
#[test]
fn nobody_sees_a_value_after_its_change_was_acknowledged() {
    const TURNS: usize = 4_000;
    let server = RedisServer::start();
    let tracked = Tracked::of(&server);
    tracked.new_era(&[]);
    // What has been acknowledged.
    let acknowledged = AtomicUsize::new(0);
    let done = AtomicBool::new(false);
    let (hits, stale) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let () = server.ask(&["SET", "sess:raced", "0"]).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut reader = server.client().get_connection().unwrap();
                while !done.load(Ordering::SeqCst) {
                    let least = acknowledged.load(Ordering::SeqCst);
                    let value: usize = match tracked.notebook.near("sess:raced") {
                        Some(value) => {
                            hits.fetch_add(1, Ordering::Relaxed);
                            value.parse().unwrap()
                        }
                        None => {
                            let note = tracked.coherence.note(b"sess:raced");
                            let value: String = reader.get("sess:raced").unwrap();
                            note.map(|note| tracked.notebook.keep("sess:raced", note, &value));
                            value.parse().unwrap()
                        }
                    };
                    stale.fetch_add(usize::from(value < least), Ordering::Relaxed);
                }
            });
        }
        let mut writer = server.client().get_connection().unwrap();
        for turn in 1..=TURNS {
            let () = writer.set("sess:raced", turn).unwrap();
            acknowledged.store(turn, Ordering::SeqCst);
        }
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(stale.into_inner(), 0);
    assert!(hits.into_inner() > 100, "the tier was hardly used at all");
}
