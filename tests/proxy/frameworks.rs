//! What real frameworks wrote, and how their apps judged it: all captures, through the built binary and a real Redis.
//!
//! 1. Each profile is one app, and one `[session.app]` as its operator would write it ([`PROFILES`]; README has the same).
//! 2. For each capture Redis holds what it held then, and the request is what the browser sent then. It passes if the app said
//!    200, and the app is told who it is; it is refused if the app said 401.
//! 3. Whatever was wrong, the refusal is the same to the byte, but for its name and its date.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, until};

/// Profile of the captures; lines of `[session.app]`; the path of the attribute that tells who it is.
const PROFILES: [(&str, &str, &str); 36] = [
    ("flask-msgpack", FLASK, "user_id"),
    ("flask-json", FLASK, "user_id"),
    ("flask-msgpack-signed", FLASK_SIGNED, "user_id"),
    ("flask-json-signed", FLASK_SIGNED, "user_id"),
    ("flask-not-permanent", FLASK, "user_id"),
    ("flask-no-refresh", FLASK, "user_id"),
    ("flask-key-prefix", "format = \"flask\"\nprefix = \"shop:sess:\"", "user_id"),
    ("flask-login", FLASK, "_user_id"),
    ("flask-old-pickle", FLASK, "user_id"),
    ("flask-old-pickle-signed", FLASK_SIGNED, "user_id"),
    ("express-default", EXPRESS, "user_id"),
    ("express-max-age", EXPRESS, "user_id"),
    ("express-rolling-resave", EXPRESS, "user_id"),
    ("express-passport", EXPRESS, "passport.user"),
    (
        "express-rotated",
        "format = \"express\"\nsecrets = [\"session-signing-key-0123456789\", \"the-old-signing-key\"]",
        "user_id",
    ),
    ("django-builtin-pickle", DJANGO, "_auth_user_id"),
    ("django-builtin-json", DJANGO, "_auth_user_id"),
    ("django-builtin-datetime", DJANGO, "_auth_user_id"),
    ("django-builtin-save-every", DJANGO, "_auth_user_id"),
    ("django-cached-db", "format = \"django\"\nprefix = \":1:django.contrib.sessions.cached_db\"", "_auth_user_id"),
    ("django-redis-pickle", DJANGO, "_auth_user_id"),
    ("django-redis-json", DJANGO, "_auth_user_id"),
    ("django-redis-zlib", DJANGO, "_auth_user_id"),
    (
        "token-hash",
        "format = \"hash\"\nfrom = [\"bearer\", \"header:X-Session-Token\", \"cookie:session_token\", \"query:token\"]",
        "user_id",
    ),
    ("token-json", TOKEN_JSON, "user_id"),
    ("php", "format = \"php\"", "user_id"),
    ("php-serialize", "format = \"php\"\nserialize_handler = \"php_serialize\"", "user_id"),
    ("php-binary", "format = \"php\"\nserialize_handler = \"php_binary\"", "user_id"),
    ("php-igbinary", "format = \"php\"\nserialize_handler = \"igbinary\"", "user_id"),
    ("laravel-cbc", LARAVEL, LARAVEL_USER),
    (
        "laravel-gcm",
        "format = \"laravel\"\ncipher = \"AES-256-GCM\"\nsecrets = [\"base64:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"]",
        LARAVEL_USER,
    ),
    ("laravel-encrypted-store", LARAVEL, LARAVEL_USER),
    ("rails-redis-store", RAILS, "user_id"),
    ("rails-redis-store-expire", RAILS, "user_id"),
    ("rails-redis-store-json", RAILS, "user_id"),
    (
        "rails-cache-store",
        "format = \"rails\"\nfrom = [\"cookie:_myapp_session\"]\nprefix = \"_session_id:\"",
        "user_id",
    ),
];

const FLASK: &str = "format = \"flask\"";
const FLASK_SIGNED: &str = "format = \"flask\"\nsecrets = [\"session-signing-key-0123456789\"]";
const EXPRESS: &str = "format = \"express\"\nsecrets = [\"session-signing-key-0123456789\"]";
const DJANGO: &str = "format = \"django\"";
const TOKEN_JSON: &str =
    "format = \"json\"\nfrom = [\"bearer\", \"header:X-Session-Token\", \"cookie:session_token\", \"query:token\"]";
const LARAVEL: &str = "format = \"laravel\"\nsecrets = [\"base64:MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=\"]";
const LARAVEL_USER: &str = "login_web_59ba36addc2b2f9401580f014c7f58ea4e30989d";
const RAILS: &str = "format = \"rails\"\nfrom = [\"cookie:_myapp_session\"]";

fn captures() -> Vec<Value> {
    serde_json::from_str(include_str!("../fixtures/sessions/frameworks.json")).expect("captures")
}

/// Puts what Redis held when the capture was taken.
fn put(redis: &mut redis::Connection, row: &Value) {
    redis::cmd("FLUSHDB").exec(redis).expect("FLUSHDB");
    let bytes = |value: &Value| STANDARD.decode(value.as_str().expect("base64")).expect("base64");
    let key = row["redis_key"].as_str().unwrap_or_default();
    match row["redis_type"].as_str().expect("a type") {
        "none" => return,
        "string" => {
            let value = made_now(bytes(&row["redis_value_base64"]));
            redis::cmd("SET").arg(key).arg(value).exec(redis).expect("SET");
        }
        "hash" => {
            for (field, value) in row["redis_hash_base64"].as_object().expect("fields") {
                redis::cmd("HSET").arg(key).arg(field).arg(bytes(value)).exec(redis).expect("HSET");
            }
        }
        other => panic!("{other} in {}", row["id"]),
    }
    if let Some(life) = row["ttl_seconds"].as_i64().filter(|life| *life > 0) {
        redis::cmd("EXPIRE").arg(key).arg(life).exec(redis).expect("EXPIRE");
    }
}

/// The value; if it is a Rails cache entry, which tells its own end, one that was made now.
fn made_now(mut value: Vec<u8>) -> Vec<u8> {
    let name = b":\x10@created_atf";
    if let Some(at) = value.windows(name.len()).position(|window| window == name) {
        // Marshal writes the length of a short text as one byte that is 5 more.
        let text = at + name.len() + 1;
        let length = usize::from(value[text - 1]) - 5;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a time").as_secs();
        let now = format!("{now}.{:01$}", 0, length - 11);
        value[text..text + length].copy_from_slice(now.as_bytes());
    }
    value
}

/// What the browser sent: the target, and its fields.
fn request(row: &Value) -> (String, Vec<(String, String)>) {
    let text = |key: &str| row[key].as_str().unwrap_or_default().to_owned();
    let carried = || format!("{}={}", text("carrier_name"), text("carrier_value_raw"));
    match row["carrier"].as_str() {
        Some("header") => ("/page".into(), vec![(text("carrier_name"), text("carrier_value_raw"))]),
        Some("query") => (format!("/page?{}", carried()), Vec::new()),
        _ => {
            let cookies = format!("theme=dark; {}={}", text("cookie_name"), text("cookie_value_raw"));
            ("/page".into(), vec![("Cookie".into(), cookies)])
        }
    }
}

fn ask(client: &mut Client, row: &Value) -> Answer {
    let (target, fields) = request(row);
    let fields: Vec<(&str, &str)> = fields.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    client.get_with(&target, &fields)
}

/// An answer without what no two have in common.
fn bare(answer: &Answer) -> String {
    let fields = |answer: &Answer| {
        let all: Vec<_> = answer
            .fields
            .0
            .iter()
            .filter(|(name, _)| !["x-request-id", "date"].contains(&&*name.to_ascii_lowercase()))
            .collect();
        format!("{all:?}")
    };
    let mut document = answer.json();
    document.as_object_mut().and_then(|document| document.remove("request_id")).expect("a name");
    format!("{} {} {document}", answer.status, fields(answer))
}

fn agrees(profile: &str, (lines, user): (&str, &str), rows: &[&Value]) {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = format!(
        "[near]\nmax_session_bytes = \"0 B\"\n\n[session.app]\n{lines}\nforward = {{ X-User = {user:?} }}\n\n\
         [[route]]\npath = \"/{{*rest}}\"\nsession = \"app\"\n"
    );
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let (mut client, mut connection) = (sidegate.client(), redis.client().get_connection().expect("a connection"));
    let nobody = bare(&client.get("/page"));
    let mut refusal: Option<String> = None;
    for row in rows {
        let id = row["id"].as_str().expect("a name");
        put(&mut connection, row);
        let before = app.count();
        let answer = ask(&mut client, row);
        assert_eq!(u64::from(answer.status), row["app_status"].as_u64().expect("a status"), "{id}: {answer:?}");
        if answer.status == 200 {
            assert_eq!(app.last().field("x-user"), row["expected"]["user_id"].as_str(), "{id}");
            continue;
        }
        assert_eq!(app.count(), before, "{id} reached the app");
        let (told, absent) = (bare(&answer), row["expected"]["reason"] == "no_credential");
        if !(absent && told == nobody) {
            assert_eq!(&told, refusal.get_or_insert_with(|| told.clone()), "{id} is told apart");
        }
    }
    assert!(refusal.is_some(), "nobody was refused in {profile}");
    let told = sidegate.output() + &sidegate.errors();
    for row in rows {
        let sent = row["cookie_value_raw"].as_str().or(row["carrier_value_raw"].as_str()).unwrap_or_default();
        assert!(sent.len() < 8 || !told.contains(sent), "{} is in the log", row["id"]);
    }
}

/// All profiles whose names begin so; how many captures that were.
fn family(name: &str) -> usize {
    let captures = captures();
    let mut by_profile: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for row in &captures {
        by_profile.entry(row["profile"].as_str().expect("a profile")).or_default().push(row);
    }
    let of_family = PROFILES.iter().filter(|(profile, ..)| profile.starts_with(name));
    of_family
        .map(|(profile, lines, user)| {
            let rows = &by_profile[profile];
            agrees(profile, (lines, user), rows);
            rows.len()
        })
        .sum()
}

#[test]
fn every_capture_is_of_a_profile_that_is_tested() {
    let captures = captures();
    for row in &captures {
        assert!(PROFILES.iter().any(|(profile, ..)| row["profile"] == *profile), "{}", row["profile"]);
    }
    assert_eq!(captures.len(), 312);
}

#[test]
fn sessions_of_flask_are_judged_as_their_apps_judged_them() {
    assert_eq!(family("flask"), 81);
}

#[test]
fn sessions_of_express_are_judged_as_their_apps_judged_them() {
    assert_eq!(family("express"), 56);
}

#[test]
fn sessions_of_django_are_judged_as_their_apps_judged_them() {
    assert_eq!(family("django"), 55);
}

#[test]
fn sessions_of_php_are_judged_as_their_apps_judged_them() {
    assert_eq!(family("php"), 32);
}

#[test]
fn sessions_of_laravel_are_judged_as_their_apps_judged_them() {
    assert_eq!(family("laravel"), 36);
}

#[test]
fn sessions_of_rails_are_judged_as_their_apps_judged_them() {
    assert_eq!(family("rails"), 28);
}

#[test]
fn tokens_are_judged_as_their_apps_judged_them() {
    assert_eq!(family("token"), 24);
}

#[test]
fn a_websocket_opens_with_the_token_in_its_query_and_with_no_other() {
    let captures = captures();
    let case = |id: &str| captures.iter().find(|row| row["id"] == id).expect("a capture");
    let (good, bad) = (case("token-json/query"), case("token-json/query_unknown"));
    let (redis, app) = (
        RedisServer::start(),
        Origin::scripted(|wire| {
            if wire.request()?.is_some() {
                wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")?;
                wire.send(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nwelcome")?;
            }
            Ok(())
        }),
    );
    let tables = format!(
        "[session.app]\n{TOKEN_JSON}\nforward = {{ X-User = \"user_id\" }}\n\n[[route]]\npath = \"/{{*rest}}\"\nsession = \"app\"\n"
    );
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    put(&mut redis.client().get_connection().expect("a connection"), good);
    let token = |row: &Value| row["carrier_value_raw"].as_str().expect("a token").to_owned();
    let (good, bad) = (token(good), token(bad));
    let open = |query: &str| {
        let mut client = sidegate.client();
        client.send(format!(
            "GET /ws{query} HTTP/1.1\r\nHost: app.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
        (client.head().status, client)
    };
    let (status, mut client) = open(&format!("?token={good}"));
    assert_eq!((status, client.exactly(7)), (101, b"welcome".to_vec()));
    assert_eq!(app.last().field("x-user"), Some("5"));
    for query in [String::new(), format!("?token={bad}"), "?token=".into(), format!("?token={good}&token={bad}")] {
        assert_eq!(open(&query).0, 401, "{query}");
    }
    assert_eq!(app.count(), 1);
    until("a line of the refusals in the log", || sidegate.output().contains("401"));
    assert!(!sidegate.output().contains(&good) && !sidegate.errors().contains(&good));
}
