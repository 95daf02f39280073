//! Logins that are remembered near: no trip, and no difference.

use crate::harness::{Configuration, Origin, RedisServer, until};

const ALICE: &str = "alice-0123456789abcdef";

const TABLES: &str = r#"
[near]
session_max_age = "10m"

[session.web]
format = "json"
from = ["bearer"]
user = "user.id"
forward = { X-User-Id = "user.id", X-User-Name = "user.name" }

[[route]]
path = "/private"
session = "web"
"#;

fn run(redis: &RedisServer, words: &[&str]) {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    redis::cmd(words[0]).arg(&words[1..]).exec(&mut connection).expect("Redis does as it is told");
}

/// How often records have been read, as Redis has counted.
fn reads(redis: &RedisServer) -> u64 {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let counts: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("INFO");
    let line = counts.lines().find_map(|line| line.strip_prefix("cmdstat_getrange:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[test]
fn a_hot_login_is_served_without_redis_by_every_worker_until_it_is_over() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let key = format!("session:{ALICE}");
    run(&redis, &["SET", &key, r#"{"user":{"id":42,"name":"Alice Müller"}}"#, "EX", "600"]);
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let authorization = format!("Bearer {ALICE}");
    let ask = || sidegate.client().get_with("/private", &[("Authorization", &authorization)]);
    assert_eq!(ask().status, 200);
    let cold = app.last();
    until("a login that is remembered", || {
        let before = reads(&redis);
        ask().status == 200 && reads(&redis) == before
    });
    let before = reads(&redis);
    for _ in 0..50 {
        assert_eq!(ask().status, 200);
        let hot = app.last();
        let identity = |name: &str| (cold.field(name).map(str::to_owned), hot.field(name).map(str::to_owned));
        for name in ["x-user-id", "x-user-name"] {
            let (cold, hot) = identity(name);
            assert!(cold.is_some() && cold == hot, "{name}: {cold:?} {hot:?}");
        }
    }
    assert_eq!(reads(&redis), before, "hot requests asked Redis");
    sidegate.access_log(|line| line["status"] == 200);
    let lines: Vec<serde_json::Value> =
        sidegate.output().lines().map(|line| serde_json::from_str(line).expect("a JSON line")).collect();
    let said =
        |line: &serde_json::Value| (line["session"].clone(), line["session_reason"].clone(), line["user"].clone());
    assert!(lines.iter().all(|line| said(line) == said(&lines[0])), "{lines:?}");
    assert!(sidegate.metric("sidegate_near_hits_total{kind=\"session\"}") >= 50.0);

    run(&redis, &["DEL", &key]);
    assert_eq!(ask().status, 401, "a logout that was acknowledged");
    assert!(reads(&redis) > before);
}
