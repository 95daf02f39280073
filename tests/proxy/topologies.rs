//! A cluster, and a Redis with sentinels, whose master changes under load: limits, cache and sessions together.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::redis::{RedisCluster, RedisServer, Sentinels};
use crate::harness::{Answer, Configuration, Load, Origin, Reply, Sidegate, client::request, until};

const TABLES: &str = r#"
[limit.many]
key = "address"
quota = "1000000 per hour"

[cache.pages]
ttl = "60s"

[session.web]
format = "json"
user = "user"
forward = { X-User-Id = "user" }

[[route]]
path = "/private"
session = "web"
limits = ["many"]

[[route]]
path = "/{*rest}"
limits = ["many"]
cache = "pages"
"#;

/// Sessions, pages and connections.
const MANY: usize = 12;

fn identifier(number: usize) -> String {
    format!("session-of-user-{number}-0123456789")
}

fn log_in(number: usize, keeper: &RedisServer) {
    let (key, record) = (format!("session:{}", identifier(number)), format!(r#"{{"user":"{number}"}}"#));
    keeper.ask::<()>(&["SET", &key, &record, "EX", "600"]).expect("a session");
}

/// Says who is logged in, or which page it is.
fn app() -> Origin {
    Origin::answering(|request| {
        Reply::text(request.field("x-user-id").map_or_else(|| request.path().to_owned(), |user| format!("user {user}")))
    })
}

fn private(number: usize) -> Vec<u8> {
    request("GET", "/private", &[("Authorization", &format!("Bearer {}", identifier(number)))], b"")
}

/// What nobody may ever be told: that he is somebody else, that he is nobody, or another page.
fn is_right(number: usize, turn: usize, answer: &Answer) -> bool {
    match (turn % 2, answer.status) {
        (0, 200) => answer.text() == format!("user {number}"),
        // Redis is away; a logout it is not.
        (0, 503) => true,
        (1, 200) => answer.text() == format!("/page-{number}"),
        _ => false,
    }
}

/// Everything works, on every worker.
fn works(sidegate: &Sidegate) {
    for number in 0..MANY {
        until("each session is known, and each page is stored", || {
            let mut client = sidegate.client();
            let session = client.send(private(number)).answer();
            let page = client.get(&format!("/page-{number}"));
            session.status == 200
                && session.field("x-ratelimit-remaining").is_some()
                && page.field("x-cache") == Some("HIT")
        });
    }
}

/// Sidegate goes on over all that `change` does, and works as well as before once that is done.
fn goes_on(sidegate: &Sidegate, change: impl FnOnce()) {
    works(sidegate);
    let (over, late) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let ask = |number: usize, turn: usize| match turn % 2 {
        0 => private(number),
        _ => request("GET", &format!("/page-{number}"), &[], b""),
    };
    let (ended, counted) = (over.clone(), late.clone());
    let load = Load::judged(sidegate.address(), MANY, ask, move |number, turn, answer| {
        let failed = answer.status != 200 && ended.load(Ordering::SeqCst);
        counted.fetch_add(usize::from(failed), Ordering::SeqCst);
        is_right(number, turn, answer)
    });
    load.wait_for_more(300);
    change();
    works(sidegate);
    // What was asked before may be answered after.
    load.wait_for_more(2 * MANY as u64);
    over.store(true, Ordering::SeqCst);
    load.wait_for_more(600);
    let tally = load.finish();
    assert!(tally.failures.is_empty() && tally.wrong == 0 && tally.refused == 0, "{tally:?}");
    assert_eq!(late.load(Ordering::SeqCst), 0, "an error outlasts the change: {tally:?}");
    // A write takes back what is stored, wherever that lies now.
    let mut client = sidegate.client();
    for number in 0..MANY {
        let path = format!("/page-{number}");
        assert_eq!(client.ask("PUT", &path, &[], b"").status, 200);
        assert_ne!(client.get(&path).field("x-cache"), Some("HIT"), "{path}");
    }
}

#[test]
fn a_cluster_whose_masters_change_under_load_serves_nobody_wrongly() {
    let cluster = RedisCluster::start();
    for number in 0..MANY {
        let keeper = cluster.master_of(&format!("session:{}", identifier(number)));
        log_in(number, &cluster.nodes()[keeper]);
    }
    let app = app();
    let sidegate = Configuration::of(&app).redis_at(&cluster.url()).with(TABLES).start();
    let key = format!("session:{}", identifier(0));
    let (slot, from) = (cluster.slot(&key), cluster.master_of(&key));
    let to = (from + 1) % 3;
    goes_on(&sidegate, || {
        cluster.begin_move(slot, from, to);
        cluster.finish_move(slot, from, to);
    });
    goes_on(&sidegate, || cluster.promote(3));
}

#[test]
fn a_cluster_that_loses_a_master_under_load_recovers_when_its_replica_has_taken_over() {
    let mut cluster = RedisCluster::start();
    for number in 0..MANY {
        let keeper = cluster.master_of(&format!("session:{}", identifier(number)));
        log_in(number, &cluster.nodes()[keeper]);
    }
    let lost = (0..).map(|number| format!("key-{number}")).find(|key| cluster.master_of(key) == 0).expect("a key");
    let app = app();
    let sidegate = Configuration::of(&app).redis_at(&cluster.url()).with(TABLES).start();
    goes_on(&sidegate, || {
        cluster.node(0).kill();
        cluster.wait_for_other_master(&lost, 0);
    });
}

#[test]
fn sentinels_that_name_another_master_under_load_are_followed() {
    let mut sentinels = Sentinels::start();
    let before = sentinels.master();
    (0..MANY).for_each(|number| log_in(number, &sentinels.servers()[before]));
    let app = app();
    let sidegate = Configuration::of(&app).redis_at(&sentinels.url()).with(TABLES).start();
    goes_on(&sidegate, || {
        sentinels.fail_over();
    });
    let second = sentinels.master();
    until("the first follows the second", || {
        let said = sentinels.servers()[1 - second].ask::<String>(&["INFO", "replication"]);
        said.is_ok_and(|said| said.contains("master_link_status:up"))
    });
    goes_on(&sidegate, || {
        sentinels.server(second).kill();
        sentinels.wait_for_other_master(second);
    });
}
