//! Who passes while Redis is away, where `on_outage = "grace"`.

use crate::harness::{Configuration, Load, Origin, RedisServer, Reply, Sidegate, client::request, freeze, until};

const ALICE: &str = "alice-0123456789abcdef";
/// Logged in, and never seen by this sidegate before the outage.
const STRANGER: &str = "stranger-0123456789abcdef";
const UNKNOWN: &str = "unknown-0123456789abcdef";

const TABLES: &str = r#"
[session.web]
format = "json"
from = ["bearer"]
user = "user.id"
forward = { X-User-Id = "user.id" }
on_outage = "grace"
grace = "GRACE"

[[route]]
path = "/private"
session = "web"

[[route]]
path = "/maybe"
session = { use = "web", mode = "optional" }
"#;

fn believing(app: &Origin, redis: &RedisServer, grace: &str) -> Configuration {
    Configuration::of(app).redis(redis).with(&TABLES.replace("GRACE", grace))
}

fn log_in(redis: &RedisServer) {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    for id in [ALICE, STRANGER] {
        let record = r#"{"user":{"id":42}}"#;
        redis::cmd("SET")
            .arg(format!("session:{id}"))
            .arg(record)
            .arg("EX")
            .arg(600)
            .exec(&mut connection)
            .expect("SET");
    }
}

/// Status, and whether anything in the answer is about a login that is over.
fn ask(sidegate: &Sidegate, target: &str, id: &str) -> (u16, bool) {
    let answer = sidegate.client().get_with(target, &[("Authorization", &format!("Bearer {id}"))]);
    (answer.status, answer.fields.has("www-authenticate") || answer.fields.has("set-cookie"))
}

/// On each worker, whichever the system gives a connection to.
fn everywhere(sidegate: &Sidegate, target: &str, id: &str) -> Vec<(u16, bool)> {
    let mut seen: Vec<_> = (0..16).map(|_| ask(sidegate, target, id)).collect();
    seen.dedup();
    seen
}

#[test]
fn an_outage_under_load_sends_nobody_away_who_was_logged_in_and_lets_nobody_else_pass() {
    let (mut redis, app) = (RedisServer::start(), Origin::answering(|_| Reply::text("app")));
    log_in(&redis);
    let sidegate = believing(&app, &redis, "10m").start();
    let authorization = format!("Bearer {ALICE}");
    let alice = move |_: usize, _: usize| request("GET", "/private", &[("Authorization", &authorization)], b"");
    let load = Load::start(sidegate.address(), 6, alice, |answer| answer.text() == "app");
    load.wait_for_more(300);
    let frozen = freeze(&redis);
    load.wait_for_more(300);
    drop(frozen);
    load.wait_for_more(300);
    redis.kill();
    load.wait_for_more(300);
    for target in ["/private", "/maybe"] {
        for id in [STRANGER, UNKNOWN] {
            assert_eq!(everywhere(&sidegate, target, id), [(503, false)], "{target} {id}");
        }
        assert_eq!(everywhere(&sidegate, target, ALICE), [(200, false)]);
        assert_eq!(app.last().field("x-user-id"), Some("42"));
    }
    let tally = load.finish();
    assert!(tally.failures.is_empty() && tally.wrong == 0 && tally.refused == 0, "{tally:?}");
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), [&200], "{tally:?}");
    let line = sidegate.access_log(|line| line["session_reason"] == "grace");
    assert_eq!((&line["session"], &line["user"]), (&"valid".into(), &"42".into()));
    assert!(sidegate.metric("sidegate_session_grace_total{session=\"web\"}") >= 16.0);

    // Redis is the one who knows: what it says on its return counts at once, though grace is not over.
    redis.restart();
    until("a refusal by the Redis that has lost its records", || {
        everywhere(&sidegate, "/private", ALICE) == [(401, true)]
    });
    log_in(&redis);
    until("the stranger's login", || everywhere(&sidegate, "/private", STRANGER) == [(200, false)]);
}

#[test]
fn after_the_grace_an_outage_is_one_for_everybody() {
    let (mut redis, app) = (RedisServer::start(), Origin::saying("app"));
    log_in(&redis);
    let sidegate = believing(&app, &redis, "3s").start();
    assert_eq!(ask(&sidegate, "/private", ALICE).0, 200);
    redis.kill();
    let mut seen = Vec::new();
    until("the end of the grace", || {
        seen.push(ask(&sidegate, "/private", ALICE));
        seen.last() == Some(&(503, false))
    });
    seen.dedup();
    assert_eq!(seen, [(200, false), (503, false)]);
    assert!(everywhere(&sidegate, "/maybe", ALICE) == [(503, false)] && app.last().target == "/private");
}

#[test]
fn a_logout_that_redis_told_of_stands_through_an_outage() {
    let (mut redis, app) = (RedisServer::start(), Origin::saying("app"));
    log_in(&redis);
    let sidegate = believing(&app, &redis, "10m").start();
    assert_eq!(everywhere(&sidegate, "/private", ALICE), [(200, false)]);
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    redis::cmd("DEL").arg(format!("session:{ALICE}")).exec(&mut connection).expect("DEL");
    until("the logout", || ask(&sidegate, "/private", ALICE) == (401, true));
    redis.kill();
    assert_eq!(everywhere(&sidegate, "/private", ALICE), [(503, false)], "not the login before it");
}

#[test]
fn an_app_that_prolongs_its_sessions_leaves_them_to_be_believed() {
    let (mut redis, app) = (RedisServer::start(), Origin::saying("app"));
    log_in(&redis);
    let sidegate = believing(&app, &redis, "10m").start();
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let mut run = |words: &[&str]| -> redis::Value {
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection).expect("Redis does as it is told")
    };
    let (alice, stranger) = (format!("session:{ALICE}"), format!("session:{STRANGER}"));
    for id in [ALICE, STRANGER] {
        assert_eq!(everywhere(&sidegate, "/private", id), [(200, false)]);
    }
    // One record is touched, as by the end of a request; the other is gone. Nobody asks about either.
    run(&["CONFIG", "RESETSTAT"]);
    run(&["EXPIRE", &alice, "900"]);
    run(&["DEL", &stranger]);
    until("both asked about again", || {
        let redis::Value::BulkString(counts) = run(&["INFO", "commandstats"]) else { panic!("no counts") };
        String::from_utf8_lossy(&counts).contains("cmdstat_getrange:calls=2")
    });
    // The answers are on their way.
    until("alice believed", || {
        let frozen = freeze(&redis);
        let seen = everywhere(&sidegate, "/private", ALICE);
        drop(frozen);
        seen == [(200, false)]
    });
    redis.kill();
    assert_eq!(everywhere(&sidegate, "/private", ALICE), [(200, false)]);
    assert_eq!(everywhere(&sidegate, "/private", STRANGER), [(503, false)]);
}

#[test]
fn a_reload_forgets_nobody() {
    let (mut redis, app) = (RedisServer::start(), Origin::saying("app"));
    log_in(&redis);
    let before = believing(&app, &redis, "10m");
    let mut sidegate = before.start();
    assert_eq!(everywhere(&sidegate, "/private", ALICE), [(200, false)]);
    redis.kill();
    sidegate.reload(&before.text().replace("from = [\"bearer\"]", "from = [\"bearer\"]\nretry_after = \"7s\""));
    assert_eq!(everywhere(&sidegate, "/private", ALICE), [(200, false)]);
    sidegate.reload(&format!("{}\n[near]\nenabled = false\n", before.text()));
    assert_eq!(everywhere(&sidegate, "/private", ALICE), [(200, false)]);
    sidegate.reload(&before.text().replace("on_outage = \"grace\"\ngrace = \"10m\"", ""));
    assert_eq!(everywhere(&sidegate, "/private", ALICE), [(503, false)], "grace is no longer given");
}
