//! Sessions of Spring, in a hash that says itself when they are over, of an app that the configuration describes, and of one that
//! keeps objects in them.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::harness::{Answer, Configuration, Origin, RedisServer, Sidegate, until};

const TABLES: &str = r#"
[session.spring]
format = "spring"
user = "user_id"
forward = { X-User-Id = "user_id" }

[session.own]
format = "custom"
from = "cookie:sid"
secrets = ["session-signing-key-0123456789"]
user = "user.id"
forward = { X-User-Id = "user.id" }

[session.own.custom]
credential = ["percent", "prefix:s:", "signed:hmac-sha256:base64:."]
identifier = { min = 32, max = 32 }
key = "app:{sha256}:session"
value = ["base64", "json"]
root = "data"

[[route]]
path = "/spring"
session = "spring"

[[route]]
path = "/own"
session = "own"
"#;

/// The cookie of `6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a`.
const SPRING: &str = "SESSION=NmYxZDNhNTItOGQ2ZS00YTVmLTliMGMtMmYxZTRkM2M1YjZh";
const SPRING_KEY: &str = "spring:session:sessions:6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a";
/// One that express-session signed.
const OWN: &str = "sid=s%3AyPlU0SZwsgp99KRdFeqCPlvOJzUeXuOO.%2FipRPxvHj0DsWR%2Ba%2Fyun%2FvzkuYie9A9BnF3zhggEf6A";
/// SHA-256 of its identifier.
const OWN_KEY: &str = "app:b538042fc51703be02e7d007ff6f78df05274dc5a2ad0d288f8834800608b5fd:session";

fn ask(sidegate: &Sidegate, path: &str, cookie: &str) -> Answer {
    sidegate.client().get_with(path, &[("Cookie", cookie)])
}

/// `ObjectOutputStream` writes a `Long` so.
fn long(number: u64) -> Vec<u8> {
    let class = b"\xac\xed\0\x05sr\0\x0ejava.lang.Long\x3b\x8b\xe4\x90\xcc\x8f\x23\xdf\x02\0\x01J\0\x05value";
    let above = b"xr\0\x10java.lang.Number\x86\xac\x95\x1d\x0b\x94\xe0\x8b\x02\0\0xp";
    [&class[..], above, &number.to_be_bytes()].concat()
}

/// And an `Integer`.
fn integer(number: i32) -> Vec<u8> {
    let class = b"\xac\xed\0\x05sr\0\x11java.lang.Integer\x12\xe2\xa0\xa4\xf7\x81\x87\x38\x02\0\x01I\0\x05value";
    let above = b"xr\0\x10java.lang.Number\x86\xac\x95\x1d\x0b\x94\xe0\x8b\x02\0\0xp";
    [&class[..], above, &number.to_be_bytes()].concat()
}

fn put(redis: &RedisServer, fields: &[(&str, Vec<u8>)]) {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    redis::cmd("HSET").arg(SPRING_KEY).arg(fields).exec(&mut connection).expect("HSET");
}

#[test]
fn a_session_of_spring_is_over_when_it_says_so_and_not_when_its_key_is() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970").as_millis() as u64;
    let alice = b"\xac\xed\0\x05t\0\x05alice".to_vec();
    put(&redis, &[("creationTime", long(now)), ("lastAccessedTime", long(now)), ("sessionAttr:user_id", alice)]);
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    assert_eq!(ask(&sidegate, "/spring", SPRING).status, 401, "it does not say how long it lasts");
    put(&redis, &[("maxInactiveInterval", integer(1800))]);
    assert_eq!(ask(&sidegate, "/spring", SPRING).status, 200);
    assert_eq!(app.last().field("x-user-id"), Some("alice"));
    let raw = "SESSION=6f1d3a52-8d6e-4a5f-9b0c-2f1e4d3c5b6a";
    assert_eq!(ask(&sidegate, "/spring", raw).status, 200);
    // How the indexed repository logs out.
    put(&redis, &[("maxInactiveInterval", integer(0))]);
    until("a logout", || ask(&sidegate, "/spring", SPRING).status == 401);
    put(&redis, &[("maxInactiveInterval", integer(-1)), ("lastAccessedTime", long(1))]);
    assert_eq!(ask(&sidegate, "/spring", SPRING).status, 200, "it never ends");
    put(&redis, &[("maxInactiveInterval", integer(1800))]);
    until("a session that is over although its key stands", || ask(&sidegate, "/spring", SPRING).status == 401);
}

#[test]
fn an_app_that_nobody_knows_is_described() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    // {"data":{"user":{"id":7}}}
    redis.ask::<()>(&["SET", OWN_KEY, "eyJkYXRhIjp7InVzZXIiOnsiaWQiOjd9fX0="]).expect("SET");
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    assert_eq!(ask(&sidegate, "/own", OWN).status, 200);
    assert_eq!(app.last().field("x-user-id"), Some("7"));
    for bent in [OWN.replace("6A", "6B"), OWN.replace("yPlU", "yPlA"), OWN.replace("s%3A", "")] {
        assert_eq!(ask(&sidegate, "/own", &bent).status, 401, "{bent}");
    }
    for php in [format!("{OWN}; sid[]=x"), format!("{OWN}; si%64=x")] {
        assert_eq!(ask(&sidegate, "/own", &php).status, 401, "the app may be PHP: {php}");
    }
    redis.ask::<()>(&["DEL", OWN_KEY]).expect("DEL");
    until("a logout", || ask(&sidegate, "/own", OWN).status == 401);
}

/// A session of Flask's that `pickle.dumps(…, 4)` wrote of `before`, `x` (an object of the app's), `user_id` (7) and `again`.
fn with_an_object() -> Vec<u8> {
    let rows: serde_json::Value =
        serde_json::from_str(include_str!("../fixtures/sessions/python.json")).expect("what Python wrote");
    let row = rows.as_array().expect("rows").iter().find(|row| row[0] == "an object").expect("an object");
    STANDARD.decode(row[2][4].as_str().expect("protocol 4")).expect("base64")
}

#[test]
fn an_object_in_a_session_logs_nobody_out_and_names_nobody() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let (id, record) = ("CttPtIgpm-S2RgCwvQdF1NpY1_iheyc2edaSGahIB2Q", with_an_object());
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    redis::cmd("SET").arg(format!("session:{id}")).arg(record).exec(&mut connection).expect("SET");
    let cookie = format!("session={id}");
    let started = |user: &str| {
        let tables = format!(
            r#"
            [session.flask]
            format = "flask"
            user = {user}
            forward = {{ X-User-Id = "@user", X-Kept = "x", X-Kept-Id = "x.id" }}

            [[route]]
            path = "/account"
            session = "flask"

            [[route]]
            path = "/page"
            session = {{ use = "flask", mode = "optional" }}
            "#
        );
        Configuration::of(&app).redis(&redis).with(&tables).start()
    };
    let sidegate = started("[\"user_id\", \"x\"]");
    assert_eq!(ask(&sidegate, "/account", &cookie).status, 200);
    let sent = app.last();
    let field = |name: &str| sent.field(name).map(str::to_owned);
    assert_eq!((field("x-user-id").as_deref(), field("x-kept"), field("x-kept-id")), (Some("7"), None, None));
    for user in ["\"x\"", "\"x.id\"", "[\"x\", \"user_id\"]"] {
        let sidegate = started(user);
        assert_eq!(ask(&sidegate, "/account", &cookie).status, 401, "{user} is an object");
        assert_eq!(ask(&sidegate, "/page", &cookie).status, 200, "{user} is an object");
        assert_eq!(app.last().field("x-user-id"), None, "{user} names nobody");
    }
}
