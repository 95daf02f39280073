//! Sessions that stay with a device, and what is known of a user's: listed and revoked from any instance.

use std::path::Path;
use std::sync::{Mutex, mpsc};
use std::thread;

use serde_json::Value;

use crate::harness::redis::RedisCluster;
use crate::harness::sidegate::run;
use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, until};

const FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
const NEWER_FIREFOX: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:141.0) Gecko/20100101 Firefox/141.0";
const CURL: &str = "curl/8.5.0";
const HOME: &str = "192.0.2.7";
const ABROAD: &str = "198.51.100.7";
const ALICE: &str = "alice-0123456789";

const TABLES: &str = r#"
[near]
session_max_age = "10m"

[session.web]
format = "json"
from = ["bearer"]
user = "id"
forward = { X-User-Id = "id" }
LINES

[[route]]
path = "/private"
session = "web"

[[route]]
path = "/maybe"
session = { use = "web", mode = "optional" }
"#;

fn configuration(app: &Origin, url: &str, lines: &str) -> Configuration {
    let tables = TABLES.replace("LINES", lines);
    Configuration::of(app).server("trusted_proxies = [\"127.0.0.1\"]").redis_at(url).with(&tables)
}

fn log_in(redis: &RedisServer, who: &str, id: u32) {
    let record = format!(r#"{{"id":{id}}}"#);
    redis.ask::<()>(&["SET", &format!("session:{who}"), &record, "EX", "600"]).expect("SET");
}

fn ask(sidegate: &Sidegate, target: &str, who: &str, agent: &str, address: &str) -> Answer {
    let authorization = format!("Bearer {who}");
    let fields = [("Authorization", authorization.as_str()), ("User-Agent", agent), ("X-Forwarded-For", address)];
    sidegate.client().get_with(target, &fields)
}

fn keys(redis: &RedisServer, pattern: &str) -> Vec<String> {
    redis.ask(&["KEYS", pattern]).expect("KEYS")
}

/// Exit code, and what was printed.
fn sessions(sidegate: &Sidegate, arguments: &[&str]) -> (i32, String) {
    let all = [&["sessions", "--admin", sidegate.admin()], arguments].concat();
    let (code, out, error) = run(&all, Path::new("."));
    (code, out + &error)
}

fn listed(sidegate: &Sidegate, user: &str) -> Vec<Value> {
    let (code, said) = sessions(sidegate, &["list", user, "--json"]);
    assert_eq!(code, 0, "{said}");
    let said: Value = serde_json::from_str(&said).expect("JSON");
    said["sessions"].as_array().expect("a list").clone()
}

/// The handle of the session that was last seen with this agent.
fn handle(all: &[Value], agent: &str) -> String {
    let found = all.iter().find(|session| session["agent"] == agent).expect("a session of this agent");
    found["handle"].as_str().expect("a handle").to_owned()
}

#[test]
fn a_session_stays_with_the_device_that_it_was_first_seen_on() {
    for (mismatch, status, optional) in [("report", 200, 200), ("refuse", 403, 200), ("login", 401, 200)] {
        let (redis, app) = (RedisServer::start(), Origin::saying("app"));
        log_in(&redis, ALICE, 42);
        let lines = format!("bind = {{ agent = true, ipv4 = 24, mismatch = {mismatch:?} }}");
        let sidegate = configuration(&app, &redis.url(), &lines).start();
        let ask = |target, agent, address| ask(&sidegate, target, ALICE, agent, address).status;
        assert_eq!(ask("/private", FIREFOX, HOME), 200);
        until("a binding", || keys(&redis, "sidegate:device:*").len() == 1);
        let key = &keys(&redis, "sidegate:device:*")[0];
        let noted: String = redis.ask(&["GET", key]).expect("GET");
        assert_eq!(noted, "agent=firefox network=192.0.2.0/24");
        assert!(redis.ask::<i64>(&["PTTL", key]).expect("PTTL") > 600_000, "it outlives the session");
        assert!(!key.contains("alice"), "{key}");

        assert_eq!(ask("/private", NEWER_FIREFOX, "192.0.2.200"), 200, "{mismatch}");
        for (agent, address) in [(CURL, HOME), (FIREFOX, ABROAD), (CURL, ABROAD), (FIREFOX, "2001:db8::7")] {
            assert_eq!(ask("/private", agent, address), status, "{mismatch}: {agent} at {address}");
        }
        assert_eq!(ask("/maybe", CURL, HOME), optional, "{mismatch}");
        assert_eq!(app.last().field("x-user-id").is_some(), mismatch == "report", "{mismatch}");
        assert_eq!(ask("/private", FIREFOX, HOME), 200, "{mismatch}: nobody is logged out by a thief");
        let metric = format!("sidegate_session_device_mismatches_total{{session=\"web\",action={mismatch:?}}}");
        assert_eq!(sidegate.metric(&metric), 5.0, "{mismatch}");
        let rejected = "sidegate_session_rejections_total{session=\"web\",reason=\"another device\"}";
        let verdicts = "sidegate_session_verdicts_total{session=\"web\",verdict=\"rejected\"}";
        let of_this = if mismatch == "report" { 0.0 } else { 5.0 };
        assert_eq!([rejected, verdicts].map(|name| sidegate.metric(name)), [of_this; 2], "{mismatch}");
        let line = sidegate.access_log(|line| line["session_device"] == "mismatch");
        assert_eq!(line["session"], if mismatch == "report" { "valid" } else { "rejected" });
        let own = sidegate.access_log(|line| line["session"] == "valid");
        assert_eq!((&line["user"], &line["session_digest"]), (&"42".into(), &own["session_digest"]), "{mismatch}");
        assert!(!sidegate.output().contains(ALICE));
    }
}

#[test]
fn whoever_is_on_another_device_can_still_log_in() {
    for mismatch in ["refuse", "login"] {
        let (redis, app) = (RedisServer::start(), Origin::saying("app"));
        log_in(&redis, ALICE, 42);
        let lines = format!("bind = {{ agent = true, mismatch = {mismatch:?} }}\npublic = [\"/private/login\"]");
        let tables = TABLES.replace("\"/private\"", "\"/private/{*rest}\"").replace("LINES", &lines);
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
        let ask = |target, agent| ask(&sidegate, target, ALICE, agent, HOME).status;
        assert_eq!(ask("/private/a", FIREFOX), 200);
        until("a binding", || keys(&redis, "sidegate:device:*").len() == 1);
        assert_ne!(ask("/private/a", CURL), 200);
        for target in ["/private/login", "/maybe"] {
            assert_eq!(ask(target, CURL), 200, "{mismatch}: {target}");
            assert!(!app.last().fields.has("x-user-id"), "{mismatch}: {target}");
            assert_eq!(ask(target, FIREFOX), 200);
            assert_eq!(app.last().field("x-user-id"), Some("42"), "{mismatch}: {target}");
        }
    }
}

#[test]
fn another_device_that_is_only_observed_is_who_it_says_it_is() {
    for (mismatch, would) in [("refuse", 403), ("login", 401)] {
        let (redis, app) = (RedisServer::start(), Origin::saying("app"));
        log_in(&redis, ALICE, 42);
        let lines = format!("bind = {{ agent = true, mismatch = {mismatch:?} }}");
        let tables = TABLES.replace("session = \"web\"", "session = { use = \"web\", mode = \"observe\" }");
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables.replace("LINES", &lines)).start();
        let name = format!("sidegate_session_would_refuse_total{{session=\"web\",status=\"{would}\"}}");
        assert_eq!(ask(&sidegate, "/private", ALICE, FIREFOX, HOME).status, 200);
        until("a binding", || keys(&redis, "sidegate:device:*").len() == 1);
        until("what is known of it", || {
            assert_eq!(ask(&sidegate, "/private", ALICE, CURL, HOME).status, 200);
            assert_eq!(app.last().field("x-user-id"), Some("42"), "{mismatch}");
            sidegate.metric(&name) > 0.0
        });
        let line = sidegate.access_log(|line| line["session_would"] == would);
        assert_eq!((&line["session"], &line["session_reason"]), (&"rejected".into(), &"another device".into()));
    }
}

#[test]
fn a_warm_session_that_is_bound_costs_no_trip() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    log_in(&redis, ALICE, 42);
    let lines = "bind = { agent = true, mismatch = \"refuse\" }\nindex = true";
    let sidegate = configuration(&app, &redis.url(), lines).start();
    let get = |agent| ask(&sidegate, "/private", ALICE, agent, HOME).status;
    let reads = || {
        let said: String = redis.ask(&["INFO", "commandstats"]).expect("INFO");
        let line = said.lines().find_map(|line| line.strip_prefix("cmdstat_getrange:calls=")?.split(',').next());
        line.map_or(0, |calls| calls.parse::<u64>().expect("a number"))
    };
    until("a session that is remembered", || {
        let before = reads();
        get(FIREFOX) == 200 && reads() == before
    });
    let before = reads();
    for _ in 0..30 {
        assert_eq!((get(FIREFOX), get(CURL)), (200, 403));
    }
    assert_eq!(reads(), before);
}

#[test]
fn a_device_that_redis_does_not_tell_sends_nobody_away() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    log_in(&redis, ALICE, 42);
    let sidegate = configuration(&app, &redis.url(), "bind = { agent = true, mismatch = \"login\" }").start();
    let get = |agent| ask(&sidegate, "/private", ALICE, agent, HOME).status;
    assert_eq!(get(FIREFOX), 200);
    until("a binding", || keys(&redis, "sidegate:device:*").len() == 1);
    let key = keys(&redis, "sidegate:device:*").remove(0);
    redis.ask::<()>(&["DEL", &key]).expect("DEL");
    redis.ask::<()>(&["HSET", &key, "not", "ours"]).expect("HSET");
    // As any change of the record does, it has the near tier ask again.
    redis.ask::<()>(&["EXPIRE", &format!("session:{ALICE}"), "500"]).expect("EXPIRE");
    until("what is remembered is gone", || get(CURL) == 200);
    sidegate.access_log(|line| line["session_device"] == "unknown" && line["session"] == "valid");
}

#[test]
fn a_users_sessions_are_listed_and_revoked_from_any_instance() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let [one, other] = [(); 2].map(|()| configuration(&app, &redis.url(), "index = true").start());
    let all = [(ALICE, FIREFOX), ("alice-abcdefghij", CURL), ("alice-klmnopqrst", "okhttp/4.12.0")];
    for (who, agent) in all {
        log_in(&redis, who, 42);
        assert_eq!(ask(&one, "/private", who, agent, HOME).status, 200);
        assert_eq!(ask(&other, "/private", who, agent, HOME).status, 200);
    }
    log_in(&redis, "carol-0123456789", 7);
    assert_eq!(ask(&one, "/private", "carol-0123456789", CURL, ABROAD).status, 200);
    until("all that have passed", || listed(&other, "42").len() == 3 && listed(&other, "7").len() == 1);
    let (code, said) = sessions(&one, &["list", "42"]);
    assert!(code == 0 && said.lines().count() == 3 && said.contains(" firefox at 192.0.2.7 "), "{said}");
    assert!(all.iter().all(|(who, _)| !said.contains(who)), "{said}");
    let known = listed(&one, "42");
    assert!(known.iter().all(|session| session["ends_in"].as_u64().is_some_and(|left| left <= 600)), "{known:?}");

    let get = |sidegate: &Sidegate, who: &str| ask(sidegate, "/private", who, FIREFOX, HOME).status;
    let revoked = handle(&known, "firefox");
    assert_eq!(sessions(&other, &["revoke", &revoked]), (0, format!("revoked {revoked}\n")));
    for sidegate in [&other, &one] {
        until("the end of the session", || get(sidegate, ALICE) == 401);
        assert_eq!((get(sidegate, all[1].0), get(sidegate, all[2].0)), (200, 200));
    }
    assert_eq!(sessions(&other, &["revoke", &revoked]).0, 1, "it is over");

    let kept = handle(&known, "okhttp");
    let (code, said) = sessions(&one, &["revoke", "--user", "42", "--but", &kept]);
    assert!(code == 0 && said == format!("revoked {}\n", handle(&known, "curl")), "{said}");
    until("the end of the other", || get(&other, all[1].0) == 401);
    assert_eq!((get(&one, all[2].0), get(&other, "carol-0123456789")), (200, 200));
    let (code, said) = sessions(&one, &["revoke", "--user", "42", "--but", &revoked]);
    assert!(code == 1 && said.contains("nothing was revoked"), "{said}");
    assert_eq!(get(&one, all[2].0), 200);
    assert_eq!(sessions(&one, &["revoke", "--user", "42"]).0, 0);
    until("the end of all", || get(&other, all[2].0) == 401 && get(&one, all[2].0) == 401);
    until("nothing left of them", || keys(&redis, "sidegate:session:*").len() == 1);
    assert!(listed(&one, "42").is_empty());
    assert_eq!(sessions(&one, &["revoke", "--user", "42"]), (0, "no session to revoke\n".into()));

    // Logged out by the app: it is not listed, and forgotten.
    redis.ask::<()>(&["DEL", "session:carol-0123456789"]).expect("DEL");
    assert!(listed(&one, "7").is_empty());
    until("nothing left", || {
        keys(&redis, "sidegate:session:*").is_empty() && keys(&redis, "sidegate:user:*").is_empty()
    });
}

#[test]
fn what_cannot_be_is_told_with_the_right_exit_code() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let indexed = configuration(&app, &redis.url(), "index = { most = 2 }").start();
    for wrong in [
        &["revoke"][..],
        &["revoke", "x"],
        &["list"],
        &["list", ""],
        &["revoke", "--user", "7", "--but", "x"],
        &["revoke", "0123456789abcdef0123456789abcdef", "--user", "7"],
    ] {
        assert_eq!(sessions(&indexed, wrong).0, 2, "{wrong:?}");
    }
    let (code, said) = sessions(&indexed, &["list", "7", "--session", "other"]);
    assert!(code == 1 && said.contains("no route has a session called other"), "{said}");
    let (code, said) = sessions(&indexed, &["revoke", "0123456789abcdef0123456789abcdef"]);
    assert!(code == 1 && said.contains("no session 0123456789abcdef"), "{said}");
    for who in ["first-0123456789", "second-012345678", "third-0123456789"] {
        log_in(&redis, who, 42);
        assert_eq!(ask(&indexed, "/private", who, CURL, HOME).status, 200);
    }
    until("all seen", || keys(&redis, "sidegate:session:*").len() == 3);
    until("as many as are kept", || listed(&indexed, "42").len() == 2);

    let plain = configuration(&app, &redis.url(), "").start();
    let (code, said) = sessions(&plain, &["list", "42"]);
    assert!(code == 1 && said.contains("index = true"), "{said}");
}

#[test]
fn what_is_kept_of_sessions_may_lie_anywhere_in_a_cluster() {
    let cluster = RedisCluster::start();
    let app = Origin::saying("app");
    let lines = "index = true\nbind = { agent = true, mismatch = \"refuse\" }\ntouch = \"30m\"";
    let configuration = configuration(&app, &cluster.url(), lines);
    let [one, other] = [(); 2].map(|()| configuration.start());
    let all: Vec<String> = (0..6).map(|number| format!("alice-{number}-0123456789")).collect();
    for who in &all {
        let key = format!("session:{who}");
        cluster.nodes()[cluster.master_of(&key)].ask::<()>(&["SET", &key, r#"{"id":42}"#, "EX", "600"]).expect("SET");
        until("a login", || ask(&one, "/private", who, CURL, HOME).status == 200);
        until("its device", || ask(&one, "/private", who, FIREFOX, HOME).status == 403);
        let master = &cluster.nodes()[cluster.master_of(&key)];
        until("more life", || master.ask::<i64>(&["PTTL", &key]).expect("PTTL") > 1_700_000);
    }
    until("all of them", || listed(&other, "42").len() == all.len());
    assert_eq!(sessions(&other, &["revoke", "--user", "42"]).0, 0);
    for who in &all {
        until("their end", || ask(&one, "/private", who, CURL, HOME).status == 401);
    }
}

/// As Flask, Laravel, Rails and others do: what the record held when a request came is written again when it ends.
#[test]
fn a_revoked_session_is_not_brought_back_by_a_request_that_was_under_way() {
    let redis = RedisServer::start();
    let (key, record) = (format!("session:{ALICE}"), r#"{"id":42}"#);
    let (client, written) = (redis.client(), key.clone());
    let (go, gate) = mpsc::channel::<()>();
    let gate = Mutex::new(gate);
    let app = Origin::answering(move |request| {
        if request.target.ends_with("slow") {
            gate.lock().expect("no panic before").recv().expect("the test says when");
            let mut connection = client.get_connection().expect("a connection");
            redis::cmd("SET").arg(&written).arg(record).arg("EX").arg(600).exec(&mut connection).expect("SET");
        }
        Reply::text("app")
    });
    let lines = "index = true\nbind = { agent = true, mismatch = \"refuse\" }";
    let [one, other] = [(); 2].map(|()| configuration(&app, &redis.url(), lines).start());
    log_in(&redis, ALICE, 42);
    let get = |sidegate: &Sidegate| ask(sidegate, "/private", ALICE, FIREFOX, HOME).status;
    for sidegate in [&one, &other] {
        assert_eq!(get(sidegate), 200);
    }
    until("it is known, and bound", || listed(&one, "42").len() == 1 && keys(&redis, "sidegate:device:*").len() == 1);
    let revoked = handle(&listed(&one, "42"), "firefox");
    thread::scope(|scope| {
        let before = app.count();
        let slow = scope.spawn(|| ask(&one, "/private?slow", ALICE, FIREFOX, HOME).status);
        until("it is under way", || app.count() > before);
        assert_eq!(sessions(&one, &["revoke", &revoked]).0, 0);
        assert_eq!(redis.ask::<i64>(&["EXISTS", &key]).expect("EXISTS"), 0);
        go.send(()).expect("the app waits");
        assert_eq!(slow.join().expect("an answer"), 200);
    });
    for sidegate in [&one, &other] {
        redis.ask::<()>(&["SET", &key, record, "EX", "600"]).expect("SET");
        assert_eq!(get(sidegate), 401);
        until("the record is removed again", || redis.ask::<i64>(&["EXISTS", &key]).expect("EXISTS") == 0);
    }
    let line = one.access_log(|line| line["session_reason"] == "revoked");
    assert_eq!((line["session"].as_str(), line["status"].as_u64()), (Some("expired"), Some(401)));
    assert_eq!(keys(&redis, "sidegate:device:*").len(), 1, "whoever has the cookie is still bound");
    let mark = format!("sidegate:revoked:{{{revoked}}}");
    let left = redis.ask::<i64>(&["PTTL", &mark]).expect("PTTL");
    assert!(0 < left && left <= 3_600_000, "{left}");

    // Once the mark has ended, who logs in under the same identifier is logged in, and listed at once.
    redis.ask::<()>(&["DEL", &mark]).expect("DEL");
    log_in(&redis, ALICE, 42);
    assert_eq!(ask(&one, "/private", ALICE, CURL, HOME).status, 403);
    assert_eq!(get(&one), 200);
    until("it is known again", || listed(&one, "42").len() == 1);
}

#[test]
fn where_nobody_tells_whether_a_session_was_revoked_it_is_an_outage() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    log_in(&redis, ALICE, 42);
    let sidegate = configuration(&app, &redis.url(), "index = true").start();
    let get = || ask(&sidegate, "/private", ALICE, FIREFOX, HOME);
    assert_eq!(get().status, 200);
    until("it is known", || listed(&sidegate, "42").len() == 1);
    let mark = format!("sidegate:revoked:{{{}}}", handle(&listed(&sidegate, "42"), "firefox"));
    redis.ask::<()>(&["HSET", &mark, "not", "ours"]).expect("HSET");
    redis.ask::<()>(&["EXPIRE", &format!("session:{ALICE}"), "500"]).expect("EXPIRE");
    until("what is remembered is gone", || get().status == 503);
    assert!(get().field("retry-after").is_some() && !get().fields.has("set-cookie"));
    redis.ask::<()>(&["DEL", &mark]).expect("DEL");
    assert_eq!(get().status, 200);
}

/// Another login under a kept identifier, or somebody who works in a user's name.
#[test]
fn to_list_a_user_takes_nothing_from_the_one_whom_a_record_names_now() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let lines = "index = { interval = \"1s\" }\nbind = { agent = true, mismatch = \"refuse\" }";
    let sidegate = configuration(&app, &redis.url(), lines).start();
    let get = |agent: &str| ask(&sidegate, "/private", ALICE, agent, HOME).status;
    log_in(&redis, ALICE, 1);
    assert_eq!(get(FIREFOX), 200);
    until("it is the first user's", || listed(&sidegate, "1").len() == 1);
    until("it is bound", || keys(&redis, "sidegate:device:*").len() == 1);
    log_in(&redis, ALICE, 2);
    until("it is the second user's", || get(FIREFOX) == 200 && listed(&sidegate, "2").len() == 1);

    assert!(listed(&sidegate, "1").is_empty());
    let noted = || redis.ask::<i64>(&["ZCARD", &keys(&redis, "sidegate:user:*")[0]]).expect("ZCARD");
    until("the first user has it no more", || keys(&redis, "sidegate:user:*").len() == 1 && noted() == 1);
    assert_eq!(listed(&sidegate, "2").len(), 1, "the second user has it still");
    assert_eq!((keys(&redis, "sidegate:device:*").len(), keys(&redis, "sidegate:session:*").len()), (1, 1));
    assert_eq!(get(CURL), 403, "it stays with its device");
    let (code, said) = sessions(&sidegate, &["revoke", "--user", "2"]);
    assert!(code == 0 && said.starts_with("revoked "), "{said}");
    assert_eq!(get(FIREFOX), 401);
}

#[test]
fn a_record_that_two_definitions_read_is_known_as_the_user_of_each() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = r#"
[session.web]
format = "json"
from = ["bearer"]
user = "id"
index = true

[session.adm]
format = "json"
from = ["bearer"]
user = "email"
index = true

[[route]]
path = "/private"
session = "web"

[[route]]
path = "/admin"
session = "adm"
"#;
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let record = r#"{"id":42,"email":"alice@x"}"#;
    redis.ask::<()>(&["SET", &format!("session:{ALICE}"), record, "EX", "600"]).expect("SET");
    let get = |target: &str| ask(&sidegate, target, ALICE, FIREFOX, HOME).status;
    assert_eq!((get("/private"), get("/admin"), get("/admin")), (200, 200, 200));
    for (user, session) in [("42", "web"), ("alice@x", "adm")] {
        until("each user is known", || listed(&sidegate, user).len() == 1);
        assert_eq!(listed(&sidegate, user)[0]["session"], session);
    }
    let (code, said) = sessions(&sidegate, &["revoke", "--user", "alice@x"]);
    assert!(code == 0 && said.starts_with("revoked "), "{said}");
    assert_eq!((get("/private"), get("/admin")), (401, 401));

    // Who logs in again under the same identifier is known at once as both.
    for mark in keys(&redis, "sidegate:revoked:*") {
        redis.ask::<()>(&["DEL", &mark]).expect("DEL");
    }
    redis.ask::<()>(&["SET", &format!("session:{ALICE}"), record, "EX", "600"]).expect("SET");
    assert_eq!((get("/private"), get("/admin")), (200, 200));
    for user in ["42", "alice@x"] {
        until("each user is known again", || listed(&sidegate, user).len() == 1);
    }
}
