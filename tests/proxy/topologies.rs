//! A cluster, and a Redis with sentinels, whose master changes under load: limits, cache and sessions together.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::redis::{RedisCluster, RedisServer, Sentinels};
use crate::harness::sidegate::run;
use crate::harness::{Answer, Configuration, Directory, Load, Origin, Reply, Sidegate, client::request, until};

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
    let failed = Arc::new(AtomicUsize::new(0));
    let ask = |number: usize, turn: usize| match turn % 2 {
        0 => private(number),
        _ => request("GET", &format!("/page-{number}"), &[], b""),
    };
    let counted = failed.clone();
    let load = Load::judged(sidegate.address(), MANY, ask, move |number, turn, answer| {
        counted.fetch_add(usize::from(answer.status != 200), Ordering::SeqCst);
        is_right(number, turn, answer)
    });
    load.wait_for_more(300);
    change();
    // One worker may be ahead of the other by the wait of a breaker.
    let failed = || failed.load(Ordering::SeqCst);
    until("errors cease", || {
        let before = failed();
        load.wait_for_more(200);
        failed() == before
    });
    works(sidegate);
    let before = failed();
    load.wait_for_more(600);
    let (after, tally) = (failed(), load.finish());
    assert!(tally.failures.is_empty() && tally.wrong == 0 && tally.refused == 0, "{tally:?}");
    assert_eq!(after, before, "an error outlasts the change: {tally:?}");
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
    // Each node that is a master is shown, and no other.
    let shown = |node: usize| {
        format!("sidegate_redis_breaker_state{{endpoint=\"127.0.0.1:{}\"}} 0", cluster.nodes()[node].port())
    };
    until("the metrics show who is master", || {
        let metrics = sidegate.ask_admin("/metrics").text();
        (0..6).all(|node| metrics.contains(&shown(node)) == [3, 1, 2].contains(&node))
    });
    assert!(sidegate.metric("sidegate_redis_topology_changes_total") >= 2.0, "one of each worker");
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
fn a_master_that_goes_and_comes_back_while_others_answer_is_in_the_log() {
    let mut cluster = RedisCluster::start();
    let endpoint = format!("127.0.0.1:{}", cluster.nodes()[2].port());
    let app = app();
    let sidegate = Configuration::of(&app).redis_at(&cluster.url()).with(TABLES).start();
    until("each of two workers is connected to each master", || sidegate.metric("sidegate_redis_up") == 6.0);
    let said = |message: &str| {
        let lines = sidegate.logged(message);
        lines.iter().filter(|line| line["endpoint"] == endpoint.as_str()).count()
    };
    // Without its replica nobody takes over.
    [5, 2].into_iter().for_each(|node| cluster.node(node).kill());
    until("each worker says who is away", || said("a Redis node is away") >= 2);
    cluster.node(2).restart();
    until("each worker says that it is back", || said("the Redis node answers again") >= 2);
}

#[test]
fn sentinels_that_name_another_master_under_load_are_followed() {
    let mut sentinels = Sentinels::start();
    let before = sentinels.master();
    (0..MANY).for_each(|number| log_in(number, &sentinels.servers()[before]));
    let app = app();
    let sidegate = Configuration::of(&app).redis_at(&sentinels.url()).with(TABLES).start();
    // What is remembered near hides that Redis is away, until it is not remembered any more.
    let followed = |times: u32| {
        let name = "sidegate_redis_topology_changes_total";
        until("each worker follows", || sidegate.metric(name) >= f64::from(2 * times));
    };
    goes_on(&sidegate, || {
        sentinels.fail_over();
        followed(1);
    });
    let second = sentinels.master();
    until("the first follows the second", || {
        let said = sentinels.servers()[1 - second].ask::<String>(&["INFO", "replication"]);
        said.is_ok_and(|said| said.contains("master_link_status:up"))
    });
    goes_on(&sidegate, || {
        sentinels.server(second).kill();
        sentinels.wait_for_other_master(second);
        followed(2);
    });
}

#[test]
fn check_lists_the_masters_and_those_that_are_away() {
    let app = Origin::saying("app");
    let masters = |url: &str| {
        let directory = Directory::new();
        let file = directory.file("sidegate.toml");
        fs::write(&file, Configuration::of(&app).redis_at(url).with(TABLES).text()).expect("the file");
        let (code, said, errors) = run(&["check", "--config", file.to_str().expect("a path")], &directory.file(""));
        assert_eq!(code, 0, "{said}{errors}");
        said.lines().find_map(|line| line.strip_prefix("masters")).expect("a line").trim().to_owned()
    };
    let place = |server: &RedisServer| format!("127.0.0.1:{}", server.port());

    let sentinels = Sentinels::start();
    let url = sentinels.url();
    assert_eq!(masters(&url), place(&sentinels.servers()[0]));
    drop(sentinels);
    assert_eq!(masters(&url), "unknown: Redis cannot be asked now (unreachable)");

    let mut cluster = RedisCluster::start();
    let [first, second, third] = [0, 1, 2].map(|node| place(&cluster.nodes()[node]));
    assert_eq!(masters(&cluster.url()), format!("{first}, {second}, {third}"));
    // Without its replica nobody takes over.
    [5, 2].into_iter().for_each(|node| cluster.node(node).kill());
    assert_eq!(masters(&cluster.url()), format!("{first}, {second}, {third} (away: unreachable)"));
}
