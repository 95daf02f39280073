//! An app that knows neither sessions nor Redis, from the first visit to the last: anonymous, login, use, more rights,
//! extension, logout, expiry. One story, over every store.

use crate::harness::origin::Request;
use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, until};

/// All that the app knows of sessions: six lines.
fn app() -> Origin {
    Origin::answering(|request: &Request| match (request.method.as_str(), request.path()) {
        ("POST", "/login") => {
            Reply::text("welcome").field("X-Session-Create", r#"{"user_id":7,"name":"M\u00fcller","role":"user"}"#)
        }
        ("POST", "/sudo") => Reply::text("careful").field("X-Session-Create", r#"{"user_id":7,"role":"admin"}"#),
        ("POST", "/stay") => Reply::text("stay").field("X-Session-Extend", "8h"),
        ("POST", "/soon") => Reply::text("soon").field("X-Session-Extend", "100ms"),
        ("POST", "/logout") => Reply::text("bye").field("X-Session-Destroy", "true"),
        _ => Reply::text(format!("role {}", request.field("x-role").unwrap_or("none"))),
    })
}

/// As README and `config/examples/sessions-issued.toml` have it, in development: without TLS.
fn tables(format: &str) -> String {
    format!(
        r#"
[session.web]
format = "{format}"
from = ["cookie:session"]
forward = {{ X-User-Id = "user_id", X-Role = "role" }}
issue = {{ ttl = "30m", secure = false }}

[[route]]
path = "/account/{{*rest}}"
session = "web"

[[route]]
path = "/{{*rest}}"
session = {{ use = "web", mode = "optional" }}
"#
    )
}

/// The cookie that an answer gives: its value, and its attributes.
pub fn given(answer: &Answer) -> (String, String) {
    let lines: Vec<_> = answer.fields.all("set-cookie").collect();
    assert_eq!(lines.len(), 1, "{answer:?}");
    let (pair, attributes) = lines[0].split_once("; ").expect("attributes");
    (pair.strip_prefix("session=").expect("the session's cookie").to_owned(), attributes.to_owned())
}

struct Browser<'a> {
    sidegate: &'a Sidegate,
    cookie: Option<String>,
}

impl Browser<'_> {
    fn ask(&self, method: &str, path: &str) -> Answer {
        let line = self.cookie.as_ref().map(|cookie| format!("theme=dark; session={cookie}"));
        let fields: Vec<_> = line.iter().map(|line| ("Cookie", line.as_str())).collect();
        let answer = self.sidegate.client().ask(method, path, &fields, b"");
        for order in ["create", "destroy", "extend"] {
            assert!(!answer.fields.has(&format!("x-session-{order}")), "{answer:?}");
        }
        answer
    }

    /// Takes what it is given, as a browser does.
    fn post(&mut self, path: &str) -> Answer {
        let answer = self.ask("POST", path);
        assert_eq!(answer.status, 200, "{path}: {answer:?}");
        if answer.fields.has("set-cookie") {
            self.cookie = Some(given(&answer).0).filter(|value| !value.is_empty());
        }
        answer
    }

    fn account(&self) -> u16 {
        self.ask("GET", "/account/me").status
    }
}

/// The story; `all` are instances on one store, of which each request may meet another.
fn tell(all: &[Sidegate], app: &Origin) {
    let other = all.last().expect("an instance");
    let mut browser = Browser { sidegate: &all[0], cookie: None };
    // Nobody is logged in, and an identifier that a client has invented does not become a session by being used.
    assert_eq!(browser.account(), 401);
    assert_eq!(browser.ask("GET", "/page").text(), "role none");
    let invented = "invented-by-a-client-0123456789-0123456789ab".to_owned();
    browser.cookie = Some(invented.clone());
    assert_eq!(browser.account(), 401);

    let welcome = browser.post("/login");
    let (first, attributes) = given(&welcome);
    assert_eq!(attributes, "Path=/; Max-Age=1800; HttpOnly; SameSite=Lax");
    assert_eq!((welcome.text().as_str(), welcome.field("cache-control")), ("welcome", Some("no-store")));
    assert!(first != invented && first.len() == 43, "256 bits: {first}");
    assert_eq!(Browser { sidegate: &all[0], cookie: Some(invented) }.account(), 401);
    assert_eq!(browser.ask("GET", "/account/me").text(), "role user");
    assert_eq!(app.last().field("x-user-id"), Some("7"));
    assert_eq!(Browser { sidegate: other, cookie: browser.cookie.clone() }.account(), 200, "another instance");

    // More rights are another session: whoever knew the identifier has lost it.
    browser.post("/sudo");
    let second = browser.cookie.clone().expect("a cookie");
    assert_ne!(first, second);
    assert_eq!(browser.ask("GET", "/account/me").text(), "role admin");
    let before = Browser { sidegate: other, cookie: Some(first.clone()) };
    until("the session before is refused everywhere", || before.account() == 401);
    assert_eq!(Browser { sidegate: &all[0], cookie: Some(first) }.account(), 401);

    // It is extended, with its cookie.
    let (same, attributes) = given(&browser.post("/stay"));
    assert_eq!((same, attributes.contains("Max-Age=28800;")), (second.clone(), true));
    assert_eq!(browser.account(), 200);

    // Logout: the cookie goes, and who kept it has nothing.
    let bye = browser.post("/logout");
    let gone = "Path=/; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT; HttpOnly; SameSite=Lax";
    assert_eq!(given(&bye), (String::new(), gone.to_owned()));
    assert_eq!(Browser { sidegate: &all[0], cookie: Some(second.clone()) }.account(), 401, "at once");
    let kept = Browser { sidegate: other, cookie: Some(second) };
    until("the logout is known everywhere", || kept.account() == 401);

    // A session ends by itself.
    browser.post("/login");
    assert_eq!(browser.account(), 200);
    browser.post("/soon");
    until("the session ends", || browser.account() == 401);
    let late = browser.ask("POST", "/stay");
    assert!(late.status == 200 && !late.fields.has("set-cookie"), "what has ended is not extended: {late:?}");
}

#[test]
fn the_whole_story_in_process_memory() {
    let app = app();
    for format in ["json", "hash"] {
        tell(&[Configuration::of(&app).with(&tables(format)).start()], &app);
    }
}

#[test]
fn the_whole_story_over_redis_on_two_instances() {
    let app = app();
    for format in ["json", "hash"] {
        let redis = RedisServer::start();
        let configuration = Configuration::of(&app).redis(&redis).with(&tables(format));
        tell(&[configuration.start(), configuration.start()], &app);
    }
}

#[test]
fn a_record_is_what_the_app_said_with_its_end_and_its_birth() {
    let (app, redis) = (app(), RedisServer::start());
    for format in ["json", "hash"] {
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables(format)).start();
        let (identifier, _) = given(&sidegate.client().ask("POST", "/login", &[], b""));
        let key = format!("session:{identifier}");
        let left: i64 = redis.ask(&["PTTL", &key]).expect("PTTL");
        assert!((1..=1_800_000).contains(&left), "{left} ms");
        if format == "json" {
            let record: String = redis.ask(&["GET", &key]).expect("GET");
            let (said, born) = record.split_once(",\"created_at\":").expect("a birth");
            assert_eq!(said, r#"{"user_id":7,"name":"M\u00fcller","role":"user""#);
            assert!(born.trim_end_matches('}').parse::<u64>().is_ok(), "{record}");
        } else {
            let record: std::collections::BTreeMap<String, String> = redis.ask(&["HGETALL", &key]).expect("HGETALL");
            assert_eq!((record["user_id"].as_str(), record["name"].as_str(), record.len()), ("7", "Müller", 4));
        }
    }
}
