//! Who is logged in, as the records of a real Redis tell.

use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, until};

const ALICE: &str = "alice-0123456789abcdef";
const HASHED: &str = "carol-0123456789abcdef";

/// One route for those who are logged in, one for all that tells who is, one for all.
const TABLES: &str = r#"
[session.web]
format = "json"
from = ["bearer", "cookie:sid", "header:X-Session-Token", "query:token"]
user = "user.id"
forward = { X-User-Id = "user.id", X-User-Name = "user.name" }

[session.hashed]
format = "hash"
from = ["bearer"]
user = "user_id"
forward = { X-User-Id = "user_id" }

[[route]]
path = "/private/{*rest}"
session = "web"

[[route]]
path = "/maybe"
session = { use = "web", mode = "optional" }

[[route]]
path = "/hashed"
session = "hashed"

[[route]]
path = "/{*rest}"
"#;

/// A Redis with the session of alice as JSON and of carol as a hash.
fn redis() -> RedisServer {
    let redis = RedisServer::start();
    log_in(&redis);
    redis
}

fn log_in(redis: &RedisServer) {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let record = r#"{"user":{"id":42,"name":"Alice"},"role":"admin"}"#;
    redis::cmd("SET")
        .arg(format!("session:{ALICE}"))
        .arg(record)
        .arg("EX")
        .arg(600)
        .exec(&mut connection)
        .expect("SET");
    let nobody = r#"{"cart":[1,2],"user":{"id":null}}"#;
    redis::cmd("SET").arg("session:nobody-0123456789abcdef").arg(nobody).exec(&mut connection).expect("SET");
    redis::cmd("SET").arg("session:broken-0123456789abcdef").arg("{\"user\":").exec(&mut connection).expect("SET");
    let fields = ["user_id", "carol", "name", "Carol"];
    redis::cmd("HSET").arg(format!("session:{HASHED}")).arg(&fields).exec(&mut connection).expect("HSET");
}

fn log_out(redis: &RedisServer, id: &str) {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    redis::cmd("DEL").arg(format!("session:{id}")).exec(&mut connection).expect("DEL");
}

fn bearer(id: &str) -> String {
    format!("Bearer {id}")
}

fn is_refusal(answer: &Answer) -> bool {
    answer.status == 401
        && answer.field("www-authenticate").is_some_and(|value| value.starts_with("Bearer"))
        && !answer.fields.has("set-cookie")
}

#[test]
fn a_session_is_found_wherever_it_is_carried() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    let (authorization, cookie) = (bearer(ALICE), format!("theme=dark; sid={ALICE}"));
    let carried: [(&str, &[(&str, &str)]); 4] = [
        ("/private/a", &[("Authorization", &authorization)]),
        ("/private/b", &[("Cookie", &cookie)]),
        ("/private/c", &[("X-Session-Token", ALICE)]),
        (&format!("/private/d?token={ALICE}"), &[]),
    ];
    for (target, fields) in carried {
        assert_eq!(client.get_with(target, fields).status, 200, "{target}");
        let seen = app.last();
        assert_eq!((seen.field("x-user-id"), seen.field("x-user-name")), (Some("42"), Some("Alice")), "{target}");
        assert_eq!(seen.target, target);
    }
    assert_eq!(client.get_with("/hashed", &[("Authorization", &bearer(HASHED))]).status, 200);
    assert_eq!((app.last().field("x-user-id"), app.last().field("x-user-name")), (Some("carol"), None));
}

#[test]
fn a_client_cannot_have_the_credential_that_was_verified_taken_from_what_the_app_gets() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    client.send(format!(
        "GET /private/x HTTP/1.1\r\nHost: a\r\nConnection: x-session-token, X-Other\r\nX-Session-Token: {ALICE}\r\nX-Other: 1\r\n\r\n"
    ));
    assert_eq!(client.answer().status, 200);
    let seen = app.last();
    assert_eq!((seen.field("x-user-id"), seen.field("x-other")), (Some("42"), None));
    assert_eq!(seen.field("x-session-token"), Some(ALICE));
}

#[test]
fn nobody_passes_without_a_login() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    let absent = client.get("/private/page");
    assert!(is_refusal(&absent), "{absent:?}");
    assert_eq!(absent.json()["status"], 401);
    let ids = [
        "unknown-0123456789abcdef",
        "nobody-0123456789abcdef",
        "broken-0123456789abcdef",
        HASHED,
        "x",
        "*",
        "../../etc",
        "",
    ];
    let refusals = ids.map(|id| client.get_with("/private/page", &[("Authorization", &bearer(id))]));
    for (id, refusal) in ids.iter().zip(&refusals) {
        assert!(is_refusal(refusal), "{id:?}: {refusal:?}");
        let (told, first) = (without_name(refusal), without_name(&refusals[0]));
        assert!(id.is_empty() || told == first, "{id:?} is told apart: {told}");
    }
    assert_eq!(app.count(), 0);
}

/// The problem document, without what differs from one request to the next.
fn without_name(refusal: &Answer) -> serde_json::Value {
    let mut document = refusal.json();
    document.as_object_mut().expect("an object").remove("request_id").expect("a name");
    document
}

#[test]
fn an_optional_session_names_those_who_have_one() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    assert_eq!(client.get("/maybe").status, 200);
    assert!(!app.last().fields.has("x-user-id"));
    assert_eq!(client.get_with("/maybe", &[("Authorization", "Bearer unknown-0123456789abcdef")]).status, 200);
    assert!(!app.last().fields.has("x-user-id"));
    assert_eq!(client.get_with("/maybe", &[("Authorization", &bearer(ALICE))]).status, 200);
    assert_eq!(app.last().field("x-user-id"), Some("42"));
}

#[test]
fn nobody_can_claim_an_identity_in_any_spelling() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    let authorization = bearer(ALICE);
    let lies = ["X-User-Id", "x-user-id", "X_User_Id", "X-USER_ID", "X-User-Name", "x_user-name"];
    for (target, id) in [("/open", None), ("/maybe", None), ("/private/page", Some("42"))] {
        let mut fields: Vec<(&str, &str)> = lies.iter().map(|name| (*name, "root")).collect();
        fields.extend([("Connection", "X-User-Id, close")]);
        if id.is_some() {
            fields.push(("Authorization", &authorization));
        }
        assert_eq!(sidegate.client().get_with(target, &fields).status, 200, "{target}");
        let seen = app.last();
        assert!(!format!("{seen:?}").contains("root"), "{target}: {seen:?}");
        assert_eq!(seen.field("x-user-id"), id, "{target}");
    }
    client.send("POST /open HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-User-Id: root\r\n\r\n");
    client.answer();
    assert!(!format!("{:?}", app.last()).contains("root"), "in a trailer: {:?}", app.last());
}

#[test]
fn no_spelling_of_a_path_gets_around_a_session() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let paths = [
        "/private/page",
        "//private/page",
        "/./private/page",
        "/open/../private/page",
        "/%70rivate/page",
        "/%2e/private/page",
        "/open/%2e%2e/private/page",
        "/private%2fpage",
        "/private%2Fpage",
        "/private\\page",
        "/private;x/page",
        "/open%2f..%2fprivate/page",
        "/%2570rivate/page",
        "/private./page",
        "/private%20/page",
        "/open/..;/private/page",
        "/%c0%afprivate/page",
        "/%ef%bc%8fprivate/page",
        "/private%3fpage",
        "/private/page/",
        "http://app.test/private/page",
    ];
    for path in paths {
        let status = sidegate.get(path).status;
        assert!(matches!(status, 400 | 401 | 404), "{path}: {status}");
    }
    assert_eq!(app.count(), 0, "{:?}", app.requests());
}

#[test]
fn two_different_session_cookies_are_no_session() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let cookies = format!("sid={ALICE}; sid=unknown-0123456789abcdef");
    assert!(is_refusal(&sidegate.client().get_with("/private/page", &[("Cookie", &cookies)])));
}

#[test]
fn a_logout_takes_effect_at_once() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    for _ in 0..20 {
        assert_eq!(client.get_with("/private/page", &[("Authorization", &bearer(ALICE))]).status, 200);
    }
    log_out(&redis, ALICE);
    assert!(is_refusal(&client.get_with("/private/page", &[("Authorization", &bearer(ALICE))])));
    log_in(&redis);
    assert_eq!(client.get_with("/private/page", &[("Authorization", &bearer(ALICE))]).status, 200);
}

#[test]
fn a_sidegate_that_says_it_is_ready_knows_the_sessions_of_a_redis_that_is_there() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let text = Configuration::of(&app).redis(&redis).with(TABLES).text();
    for _ in 0..5 {
        let sidegate = Sidegate::start(&text);
        // Over several connections, so that each worker is asked.
        let statuses =
            [(); 8].map(|()| sidegate.client().get_with("/private/page", &[("Authorization", &bearer(ALICE))]).status);
        assert_eq!(statuses, [200; 8], "a rolling update would send these clients away");
    }
}

#[test]
fn an_outage_is_not_a_logout() {
    let (mut redis, app) = (redis(), Origin::answering(|_| Reply::text("app").field("Set-Cookie", "sid=; Max-Age=0")));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    let authorization = bearer(ALICE);
    let fields = [("Authorization", authorization.as_str())];
    assert_eq!(client.get_with("/private/page", &fields).status, 200);
    redis.kill();
    let asked = app.count();
    for target in ["/private/page", "/maybe"] {
        for _ in 0..10 {
            let answer = client.get_with(target, &fields);
            assert_eq!(answer.status, 503, "{target}");
            assert!(answer.number("retry-after") >= 1 && !answer.fields.has("set-cookie"), "{answer:?}");
            assert!(!answer.fields.has("www-authenticate"));
        }
    }
    assert_eq!(app.count(), asked);
    assert_eq!(client.get("/open").status, 200, "a route without a session notices nothing");
    assert!(is_refusal(&client.get("/private/page")), "who brings no credential needs no store to be refused");
    redis.restart();
    log_in(&redis);
    until("a login again", || client.get_with("/private/page", &fields).status == 200);
}

#[test]
fn records_are_read_and_never_written() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let mut state = || -> (String, i64, Vec<String>) {
        let record = redis::cmd("GET").arg(format!("session:{ALICE}")).query(&mut connection).expect("the record");
        let life: i64 = redis::cmd("TTL").arg(format!("session:{ALICE}")).query(&mut connection).expect("its life");
        let mut keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
        // That sidegates are there is no record.
        keys.retain(|key| key != "sidegate:instances");
        keys.sort();
        (record, life, keys)
    };
    let before = state();
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    for id in [ALICE, "unknown-0123456789abcdef", "nobody-0123456789abcdef"] {
        sidegate.client().get_with("/private/page", &[("Authorization", &bearer(id))]);
    }
    let after = state();
    assert_eq!((&before.0, &before.2), (&after.0, &after.2));
    assert!(after.1 <= before.1, "its life was prolonged");
}

#[test]
fn verdicts_are_counted_and_logged_without_the_credential() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let mut client = sidegate.client();
    client.get_with("/private/page", &[("Authorization", &bearer(ALICE))]);
    client.get("/private/page");
    let line = sidegate.access_log(|line| line["session"] == "valid");
    assert_eq!((&line["user"], &line["route"]), (&"42".into(), &"/private/{*rest}".into()));
    sidegate.access_log(|line| line["session"] == "absent");
    let count =
        |verdict| sidegate.metric(&format!("sidegate_session_verdicts_total{{session=\"web\",verdict=\"{verdict}\"}}"));
    assert_eq!((count("valid"), count("absent")), (1.0, 1.0));
    assert!(!sidegate.output().contains(ALICE) && !sidegate.errors().contains(ALICE));
}
