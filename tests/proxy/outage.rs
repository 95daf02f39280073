//! Redis goes away and comes back, under load.

use crate::harness::{Configuration, Load, Origin, RedisServer, client::request, freeze, load::Tally, until};

/// Everything that asks Redis, but sessions.
const TABLES: &str = "[limit.many]\nkey = \"address\"\nquota = \"1000000 per hour\"\n[cache.pages]\nttl = \"60s\"\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"many\"]\ncache = \"pages\"\n";

/// Eight connections that read ten pages, and write now and then.
fn load(address: &str) -> Load {
    let ask = |number: usize, turn: usize| {
        let method = if turn % 10 == 9 { "PUT" } else { "GET" };
        request(method, &format!("/{}", (number + turn) % 10), &[], b"")
    };
    Load::start(address, 8, ask, |answer| answer.text() == "app")
}

fn well(tally: &Tally) {
    assert!(tally.failures.is_empty() && tally.wrong == 0 && tally.refused == 0, "{tally:?}");
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), [&200], "{tally:?}");
}

#[test]
fn redis_is_killed_and_comes_back_under_load_and_no_client_notices() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let load = load(sidegate.address());
    for _ in 0..3 {
        load.wait_for_more(300);
        redis.kill();
        load.wait_for_more(300);
        redis.restart();
        let mut client = sidegate.client();
        until("a hit after the return of Redis", || client.get("/page").field("x-cache") == Some("HIT"));
    }
    let tally = load.finish();
    well(&tally);
    assert!(sidegate.ask_admin("/metrics").text().contains("sidegate_redis_errors_total"));
}

#[test]
fn a_redis_that_hangs_holds_nobody_up_for_longer_than_its_time_out() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let load = load(sidegate.address());
    load.wait_for_more(300);
    let frozen = freeze(&redis);
    // With each request waiting for a time-out of its own (1 s), this many answers would take minutes.
    load.wait_for_more(3000);
    drop(frozen);
    let mut client = sidegate.client();
    until("a hit after the return of Redis", || client.get("/page").field("x-cache") == Some("HIT"));
    let tally = load.finish();
    well(&tally);
}

#[test]
fn sidegate_starts_without_redis_and_finds_it_later() {
    let mut redis = RedisServer::start();
    redis.kill();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    let answer = client.get("/page");
    assert_eq!((answer.status, answer.field("x-cache")), (200, Some("BYPASS")));
    assert!(answer.fields.has("x-ratelimit-remaining"));
    assert_eq!(sidegate.ask_admin("/readyz").status, 200, "it serves, so it is ready");
    redis.restart();
    until("a hit once Redis is there", || client.get("/page").field("x-cache") == Some("HIT"));
}

#[test]
fn an_outage_is_logged_once_and_not_for_every_request() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    until("a hit", || client.get("/page").field("x-cache") == Some("HIT"));
    let before = sidegate.errors().lines().count();
    redis.kill();
    (0..200).for_each(|_| assert_eq!(client.get("/page").status, 200));
    let lines = sidegate.errors().lines().count() - before;
    assert!((1..40).contains(&lines), "{lines} log lines for one outage:\n{}", sidegate.errors());
    assert!(sidegate.errors().contains(&redis.port().to_string()), "the log says which Redis");
}
