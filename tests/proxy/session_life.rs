//! How long sessions last: prolonged by use where the configuration says so, and never beyond their greatest age.

use crate::harness::client::request;
use crate::harness::{Configuration, Load, Mode, Origin, RedisServer, Relay, Reply, Sidegate, until};

const TABLES: &str = r#"
[session.web]
format = "json"
from = ["bearer"]
user = "id"
LINES

[[route]]
path = "/private"
session = "web"
"#;

const TOUCHED: &str = "sidegate_session_touches_total{session=\"web\",result=\"prolonged\"}";
const UNTOUCHED: &str = "sidegate_session_touches_total{session=\"web\",result=\"failed\"}";

fn tables(lines: &str) -> String {
    TABLES.replace("LINES", lines)
}

fn ask(sidegate: &Sidegate, who: &str) -> u16 {
    sidegate.client().get_with("/private", &[("Authorization", &format!("Bearer {who}"))]).status
}

fn pttl(redis: &RedisServer, who: &str) -> i64 {
    redis.ask(&["PTTL", &format!("session:{who}")]).expect("PTTL")
}

fn put(redis: &RedisServer, who: &str, record: &str, seconds: &str) {
    redis.ask::<()>(&["SET", &format!("session:{who}"), record, "EX", seconds]).expect("SET");
}

/// Milliseconds since 1970.
fn now() -> u128 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time after 1970").as_millis()
}

#[test]
fn a_session_in_use_is_prolonged_once_and_none_is_shortened() {
    let (redis, app) = (RedisServer::start(), Origin::answering(|_| Reply::text("app")));
    for (who, record, seconds) in
        [("short-0123", r#"{"id":1}"#, "600"), ("long-01234", r#"{"id":2}"#, "7200"), ("nobody-012", "{}", "600")]
    {
        put(&redis, who, record, seconds);
    }
    redis.ask::<()>(&["SET", "session:endless-01", r#"{"id":3}"#]).expect("SET");
    let lines = "touch = \"30m\"\ntouch_interval = \"60s\"";
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables(lines)).start();
    let bearer = |_: usize, _: usize| request("GET", "/private", &[("Authorization", "Bearer short-0123")], b"");
    let load = Load::start(sidegate.address(), 8, bearer, |answer| answer.text() == "app");
    load.wait_for_more(200);
    until("a prolonged session", || pttl(&redis, "short-0123") > 1_700_000);
    load.wait_for_more(200);
    let tally = load.finish();
    assert!(tally.failures.is_empty() && tally.wrong == 0, "{tally:?}");
    assert!(pttl(&redis, "short-0123") <= 1_800_000);
    assert_eq!(ask(&sidegate, "long-01234"), 200);
    assert_eq!(ask(&sidegate, "endless-01"), 200);
    assert_eq!(ask(&sidegate, "nobody-012"), 401);
    until("the count", || sidegate.metric(TOUCHED) == 1.0);
    assert!((6_000_000..=7_200_000).contains(&pttl(&redis, "long-01234")));
    assert_eq!(pttl(&redis, "endless-01"), -1);
    assert!(pttl(&redis, "nobody-012") <= 600_000, "who is nobody is not kept");
    assert_eq!(sidegate.metric(TOUCHED), 1.0, "hundreds of requests, one command");
    assert_eq!(sidegate.metric(UNTOUCHED), 0.0);
}

#[test]
fn a_redis_that_cannot_prolong_is_said_once_and_harms_nobody() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let relay = Relay::to(redis.port());
    relay.turn(Mode::fail_only("-NOPERM No permissions to access a key", &["EVALSHA"]));
    for who in ["first-0123", "second-012"] {
        put(&redis, who, r#"{"id":1}"#, "600");
    }
    let sidegate = Configuration::of(&app).redis_at(&relay.url()).with(&tables("touch = \"30m\"")).start();
    for who in ["first-0123", "second-012"] {
        assert_eq!(ask(&sidegate, who), 200);
        assert_eq!(ask(&sidegate, who), 200);
    }
    until("both refused", || sidegate.metric(UNTOUCHED) == 2.0);
    let said = sidegate.errors().matches("no session is prolonged").count()
        + sidegate.output().matches("no session is prolonged").count();
    assert_eq!((said, sidegate.metric(TOUCHED)), (1, 0.0));
    assert!(pttl(&redis, "first-0123") <= 600_000);
}

#[test]
fn however_much_it_is_used_a_session_ends_with_its_greatest_age() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let minutes = |ago: u128| format!(r#"{{"id":1,"created_at":{}}}"#, now() - ago * 60_000);
    put(&redis, "young-0123", &minutes(0), "600");
    put(&redis, "older-0123", &minutes(50), "60");
    put(&redis, "tooold-012", &minutes(61), "600");
    put(&redis, "unborn-012", r#"{"id":1}"#, "600");
    let lines = "max_age = \"1h\"\nborn = \"created_at\"\ntouch = \"30m\"";
    let near = "[near]\nsession_max_age = \"10m\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables(lines)).with(near).start();
    let seen = ["young-0123", "older-0123", "tooold-012", "unborn-012"].map(|who| ask(&sidegate, who));
    assert_eq!(seen, [200, 200, 401, 401]);
    for reason in ["too old", "no birth"] {
        let line = sidegate.access_log(|line| line["session_reason"] == reason);
        assert_eq!(line["session"], "expired");
        assert_eq!((&line["user"], line["session_digest"].as_str().map(str::len)), (&"1".into(), Some(32)));
    }
    until("both prolonged", || pttl(&redis, "young-0123") > 1_700_000 && pttl(&redis, "older-0123") > 500_000);
    assert!(pttl(&redis, "older-0123") <= 600_000, "no further than its greatest age");

    // What is remembered near ends with it, though the key is there for long.
    put(&redis, "ending-012", &format!(r#"{{"id":1,"created_at":{}}}"#, now() - 3_597_000), "3600");
    let mut seen = Vec::new();
    until("its end", || {
        seen.push(ask(&sidegate, "ending-012"));
        seen.last() == Some(&401)
    });
    assert_eq!(seen[0], 200, "{seen:?}");
}
