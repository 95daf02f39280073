//! `sidegate redis-report`: what is in Redis, by feature, and nothing else.

use serde_json::Value;

use crate::harness::redis::{RedisCluster, Sentinels};
use crate::harness::sidegate::run;
use crate::harness::{Configuration, Directory, Origin, RedisServer, freeze, until};

const TABLES: &str = r#"
[limit.each]
key = "header:X-Key"
quota = "100 per hour"

[cache.pages]
ttl = "60s"

[session.web]
format = "json"
from = ["bearer"]
forward = { X-User-Id = "user_id" }

[[route]]
path = "/me"
session = "web"

[[route]]
path = "/{*rest}"
limits = ["each"]
cache = "pages"
"#;

/// What a client sent, and what an operator's terminal need not see.
const SECRETS: [&str; 4] = ["alice-0123456789abcdef", "hunter2", "very-private-page", "somebody-else"];

/// Commands that change nothing and show nothing of what a key holds.
const READING: [&str; 12] = [
    "scan",
    "pttl",
    "memory|usage",
    "strlen",
    "ping",
    "hello",
    "auth",
    "select",
    "client|setinfo",
    "client|setname",
    "info",
    "config|resetstat",
];

struct Report {
    directory: Directory,
    file: String,
}

impl Report {
    fn of(configuration: &Configuration) -> Self {
        let directory = Directory::new();
        let file = directory.file("sidegate.toml");
        std::fs::write(&file, configuration.text()).expect("the configuration can be written");
        Self { file: file.display().to_string(), directory }
    }

    /// Exit code, standard output and standard error.
    fn with(&self, flags: &[&str]) -> (i32, String, String) {
        run(&[&["redis-report", "--config", &self.file], flags].concat(), &self.directory.file(""))
    }

    fn json(&self, flags: &[&str]) -> Value {
        let (code, said, errors) = self.with(&[&["--json"], flags].concat());
        assert_eq!(code, 0, "{said}{errors}");
        serde_json::from_str(&said).expect("JSON")
    }
}

/// The number under `what` of a feature; 0 if it has no row.
fn number(report: &Value, feature: &str, name: Option<&str>, what: &str) -> u64 {
    let rows = report["features"].as_array().expect("features");
    let row = rows.iter().find(|row| row["feature"] == feature && row["name"].as_str() == name);
    row.map_or(0, |row| row[what].as_u64().unwrap_or_else(|| panic!("no {what} in {row}")))
}

fn set(redis: &RedisServer, key: &str, value: &str, seconds: Option<u64>) {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let mut command = redis::cmd("SET");
    command.arg(key).arg(value);
    if let Some(seconds) = seconds {
        command.arg("EX").arg(seconds);
    }
    command.exec(&mut connection).expect("SET");
}

#[test]
fn each_feature_is_counted_by_its_name_and_nothing_of_a_client_is_shown() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let configuration = Configuration::of(&app).redis(&redis).with(TABLES);
    let sidegate = configuration.start();
    for session in ["alice-0123456789abcdef", "bob-0123456789abcdef"] {
        set(&redis, &format!("session:{session}"), r#"{"user_id":7}"#, Some(600));
    }
    set(&redis, "session:for-ever-0123456789", "{}", None);
    set(&redis, "somebody-else:1", "x", None);
    set(&redis, "sidegate:limit:{hunter2:10.0.0.1}", "1", Some(60));
    let mut client = sidegate.client();
    for key in ["hunter2", "hunter3", "hunter4"] {
        assert_eq!(client.get_with("/very-private-page", &[("X-Key", key)]).status, 200);
    }
    let report = Report::of(&configuration);
    let limit = |what| number(&report.json(&[]), "limit", Some("each"), what);
    until("three counters and a stored response", || {
        limit("keys") == 3 && number(&report.json(&[]), "stored responses", None, "keys") == 1
    });
    assert!((50..1000).contains(&limit("bytes_each")), "a counter takes {} bytes", limit("bytes_each"));
    assert_eq!(limit("bytes"), 3 * limit("bytes_each"));

    let json = report.json(&[]);
    assert_eq!(number(&json, "session", Some("web"), "keys"), 3);
    assert_eq!(number(&json, "session", Some("web"), "without_ttl"), 1);
    assert_eq!(number(&json, "other limits", None, "keys"), 1);
    assert_eq!(number(&json, "generations", None, "keys"), 1);
    assert_eq!(number(&json, "unknown", None, "keys"), 0);
    let rows = json["features"].as_array().expect("features");
    let longest = |row: &Value| row["ttl_seconds"]["longest"].as_u64().expect("a TTL");
    assert!(rows.iter().all(|row| (1..=86_400).contains(&longest(row))), "{json:#}");
    assert_eq!((json["complete"].as_bool(), json["warnings"].as_array().map(Vec::len)), (Some(true), Some(0)));

    let (code, table, errors) = report.with(&[]);
    assert_eq!((code, errors.as_str()), (0, ""));
    for row in ["limit each", "other limits", "stored responses", "generations", "session web", "all"] {
        assert!(table.lines().any(|line| line.starts_with(row)), "no row of {row} in\n{table}");
    }
    for secret in SECRETS {
        assert!(!table.contains(secret) && !json.to_string().contains(secret), "{secret} in\n{table}");
    }
}

#[test]
fn it_reads_and_no_more() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    for number in 0..2500 {
        set(&redis, &format!("session:{number}"), "{}", Some(600));
    }
    let report = Report::of(&Configuration::of(&app).redis(&redis).with(TABLES));
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut connection).expect("CONFIG RESETSTAT");
    let json = report.json(&[]);
    assert_eq!(number(&json, "session", Some("web"), "keys"), 2500);
    assert_eq!(number(&json, "session", Some("web"), "weighed"), 1000);

    let said: String = redis::cmd("INFO").arg("commandstats").query(&mut connection).expect("INFO");
    let used = |line: &str| Some((line.strip_prefix("cmdstat_")?.split(':').next()?.to_owned(), line.to_owned()));
    let used: Vec<_> = said.lines().filter_map(used).collect();
    let strange: Vec<_> = used.iter().filter(|(name, _)| !READING.contains(&name.as_str())).collect();
    assert!(strange.is_empty(), "{strange:?}");
    let calls = |command: &str| {
        let (_, line) = used.iter().find(|(name, _)| name == command).unwrap_or_else(|| panic!("no {command}: {said}"));
        line.split("calls=").nth(1).and_then(|rest| rest.split(',').next()?.parse::<u64>().ok()).expect("calls")
    };
    assert_eq!((calls("pttl"), calls("memory|usage")), (2500, 1000));
    assert!((2..=20).contains(&calls("scan")), "{} pages", calls("scan"));
}

#[test]
fn bounds_end_it_early_and_it_says_so() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    for number in 0..20 {
        set(&redis, &format!("session:{number}"), "{}", Some(600));
    }
    let report = Report::of(&Configuration::of(&app).redis(&redis).with(TABLES));
    let json = report.json(&["--max-keys", "5"]);
    assert_eq!((number(&json, "session", Some("web"), "keys"), json["complete"].as_bool()), (5, Some(false)));
    let (code, _, errors) = report.with(&["--max-keys", "5"]);
    assert!(code == 0 && errors.contains("--max-keys"), "{errors}");
    assert_eq!(report.json(&["--max-keys", "20"])["complete"], true);
    for wrong in [["--max-keys", "0"], ["--timeout", "soon"]] {
        assert_eq!(report.with(&wrong).0, 2, "{wrong:?}");
    }
}

#[test]
fn a_key_of_ours_that_lives_for_ever_is_a_warning() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    set(&redis, "sidegate:cache:{a.test/}:g", "0123456789abcdef", None);
    set(&redis, "sidegate:something", "x", Some(60));
    let report = Report::of(&Configuration::of(&app).redis(&redis).with(TABLES));
    let (code, table, errors) = report.with(&[]);
    assert!(code == 0 && errors.contains("1 keys under our prefix have no TTL"), "{errors}");
    assert!(table.lines().any(|line| line.starts_with("unknown")), "{table}");
}

#[test]
fn where_memory_usage_is_refused_bytes_are_lengths() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    set(&redis, "session:0123456789", "0123456789", Some(600));
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let rules = ["on", ">hunter2", "~*", "+ping", "+scan", "+pttl", "+strlen"];
    redis::cmd("ACL").arg("SETUSER").arg("narrow").arg(&rules).exec(&mut connection).expect("ACL SETUSER");
    let url = format!("redis://narrow:hunter2@127.0.0.1:{}", redis.port());
    let report = Report::of(&Configuration::of(&app).redis_at(&url).with(TABLES));
    let json = report.json(&[]);
    assert_eq!((number(&json, "session", Some("web"), "bytes"), &json["bytes_by"]), (10, &Value::from("length")));
    redis::cmd("ACL").arg("SETUSER").arg("narrow").arg("-scan").exec(&mut connection).expect("ACL SETUSER");
    let (code, said, errors) = report.with(&[]);
    assert!(code == 1 && said.is_empty() && errors.contains("noperm"), "{code}: {said}{errors}");
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn without_a_redis_there_is_nothing_to_report() {
    let (mut redis, app) = (RedisServer::start(), Origin::saying("app"));
    let (code, said, errors) = Report::of(&Configuration::of(&app)).with(&[]);
    assert!(code == 2 && said.is_empty() && errors.contains("names no Redis"), "{code}: {said}{errors}");
    let report = Report::of(&Configuration::of(&app).redis(&redis).with(TABLES));
    {
        let _frozen = freeze(&redis);
        let (code, said, errors) = report.with(&["--timeout", "200ms"]);
        assert!(code == 1 && said.is_empty() && errors.contains("timeout"), "{code}: {said}{errors}");
    }
    redis.kill();
    let (code, said, errors) = report.with(&[]);
    assert!(code == 1 && said.is_empty() && errors.contains("unreachable"), "{code}: {said}{errors}");
}

#[test]
fn every_master_of_a_cluster_and_the_master_that_sentinels_name_are_counted() {
    let app = Origin::saying("app");
    let sessions = |report: &Report| number(&report.json(&[]), "session", Some("web"), "keys");

    let cluster = RedisCluster::start();
    let mut masters = [0; 3];
    for number in 0..60 {
        let key = format!("session:{number}");
        let master = cluster.master_of(&key);
        cluster.nodes()[master].ask::<()>(&["SET", &key, "{}", "EX", "600"]).expect("SET");
        masters[master] += 1;
    }
    assert!(masters.iter().all(|keys| *keys > 0), "{masters:?}");
    assert_eq!(sessions(&Report::of(&Configuration::of(&app).redis_at(&cluster.url()).with(TABLES))), 60);

    let sentinels = Sentinels::start();
    let master = &sentinels.servers()[sentinels.master()];
    master.ask::<()>(&["SET", "session:only-on-the-master", "{}", "EX", "600"]).expect("SET");
    assert_eq!(sessions(&Report::of(&Configuration::of(&app).redis_at(&sentinels.url()).with(TABLES))), 1);
}
