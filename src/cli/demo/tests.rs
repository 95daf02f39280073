//! The sample app over real sockets, and the demo's texts.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::app::{self, Running};
use super::sessions::{RedisSessions, Sessions};
use super::{configuration, introduction};
use crate::clock::Clock;
use crate::session::store::memory::MemoryStore;

struct Away;

impl Sessions for Away {
    fn put(&self, _: &str, _: &Value, _: Duration) -> io::Result<()> {
        Err(io::Error::other("away"))
    }

    fn remove(&self, _: &str) -> io::Result<()> {
        Err(io::Error::other("away"))
    }
}

fn started() -> (Running, Arc<MemoryStore>) {
    let sessions = MemoryStore::new(Clock::System, 1 << 20);
    (app::start(sessions.clone(), 0).unwrap(), sessions)
}

fn connected(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream
}

/// One request on its own connection; the whole answer as text.
fn ask(app: &Running, request: &str, fields: &str, content: &str) -> String {
    let mut stream = connected(app.address);
    let length = content.len();
    write!(
        stream,
        "{request} HTTP/1.1\r\nHost: app\r\nConnection: close\r\n{fields}Content-Length: {length}\r\n\r\n{content}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn status(answer: &str) -> &str {
    &answer[9..12]
}

fn content(answer: &str) -> Value {
    serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap()
}

#[test]
fn users_are_listed_created_changed_and_deleted() {
    let (app, _) = started();
    assert_eq!(content(&ask(&app, "GET /users", "", "")).as_array().unwrap().len(), 3);
    let created = ask(&app, "POST /users", "", r#"{"name":"Dave"}"#);
    assert_eq!(status(&created), "201");
    assert!(created.contains("location: /users/4\r\n"), "{created}");
    assert_eq!(content(&ask(&app, "PATCH /users/4", "", r#"{"email":"d@e"}"#))["email"], "d@e");
    assert_eq!(content(&ask(&app, "PUT /users/4", "", r#"{"name":"David"}"#))["email"], "");
    assert_eq!(content(&ask(&app, "GET /users/4", "", "")), json!({ "id": 4, "name": "David", "email": "" }));
    assert_eq!(status(&ask(&app, "DELETE /users/4", "", "")), "204");
    assert_eq!(status(&ask(&app, "GET /users/4", "", "")), "404");
}

#[test]
fn what_is_not_understood_is_refused_in_json() {
    let (app, _) = started();
    assert_eq!(status(&ask(&app, "POST /users", "", "{")), "400");
    assert_eq!(status(&ask(&app, "POST /users", "", r#"{"nmae":"x"}"#)), "400");
    assert_eq!(status(&ask(&app, "POST /users", "", "{}")), "422");
    assert_eq!(status(&ask(&app, "POST /users", "", &" ".repeat(17 * 1024))), "400");
    assert_eq!(status(&ask(&app, "GET /users/nobody", "", "")), "404");
    assert_eq!(status(&ask(&app, "GET /nowhere", "", "")), "404");
    let refused = ask(&app, "DELETE /users", "", "");
    assert_eq!(status(&refused), "405");
    assert!(refused.contains("allow: GET, HEAD, POST\r\n"), "{refused}");
}

#[test]
fn login_leaves_a_record_and_logout_takes_it_away() {
    let (app, sessions) = started();
    assert_eq!(status(&ask(&app, "POST /login", "", r#"{"user":"alice","password":"guess"}"#)), "401");
    let answer = ask(&app, "POST /login", "", r#"{"user":"alice","password":"wonderland"}"#);
    let token = content(&answer)["token"].as_str().unwrap().to_owned();
    assert!(answer.contains(&format!("set-cookie: session={token}; HttpOnly; SameSite=Lax; Path=/\r\n")), "{answer}");
    let record: Value = serde_json::from_slice(&sessions.record(&format!("session:{token}")).unwrap()).unwrap();
    assert_eq!(record, json!({ "user_id": 1, "name": "Alice" }));

    assert_eq!(status(&ask(&app, "POST /logout", &format!("Cookie: a=b; session={token}\r\n"), "")), "204");
    assert!(sessions.record(&format!("session:{token}")).is_none());
}

#[test]
fn a_login_that_cannot_be_kept_is_503() {
    let app = app::start(Arc::new(Away), 0).unwrap();
    assert_eq!(status(&ask(&app, "POST /login", "", r#"{"user":"alice","password":"wonderland"}"#)), "503");
}

#[test]
fn me_is_whom_the_identity_fields_name() {
    let (app, _) = started();
    assert_eq!(status(&ask(&app, "GET /me", "", "")), "401");
    let me = content(&ask(&app, "GET /me", "X-User-Id: 1\r\nX-User-Name: Alice\r\n", ""));
    assert_eq!((&me["id"], &me["name"]), (&json!("1"), &json!("Alice")));
}

#[test]
fn the_first_event_comes_at_once() {
    let (app, _) = started();
    let mut stream = connected(app.address);
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: app\r\n\r\n").unwrap();
    stream.set_read_timeout(Some(Duration::from_millis(900))).unwrap();
    let mut said = String::new();
    while !said.contains("data: {\"tick\":1,") {
        let mut bytes = [0; 4096];
        let count = stream.read(&mut bytes).unwrap();
        assert_ne!(count, 0, "{said}");
        said.push_str(std::str::from_utf8(&bytes[..count]).unwrap());
    }
    assert!(said.contains("content-type: text/event-stream\r\n"), "{said}");
}

#[test]
fn a_websocket_opens_and_says_everything_back() {
    let (app, _) = started();
    assert_eq!(status(&ask(&app, "GET /ws", "", "")), "426");
    let mut stream = connected(app.address);
    stream
        .write_all(
            b"GET /ws HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
              Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n\
              \x81\x82\x00\x00\x00\x00hi\x88\x80\x00\x00\x00\x00",
        )
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8_lossy(&answer).into_owned();
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    assert!(answer.contains("sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"), "{answer}");
    assert!(answer.ends_with("\u{FFFD}\u{2}hi\u{FFFD}\0"), "{answer}");
}

#[test]
fn a_stopped_app_is_gone_and_a_taken_port_is_an_error() {
    let (app, sessions) = started();
    let address = app.address;
    assert_eq!(app::start(sessions, address.port()).err().map(|e| e.kind()), Some(io::ErrorKind::AddrInUse));
    drop(app);
    assert!(TcpStream::connect(address).is_err());
}

struct Redis(Child, u16);

impl Redis {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new("redis-server")
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .stdout(Stdio::null())
            .spawn()
            .expect("these tests need redis-server; `sh tests/install.sh` installs it");
        let redis = Self(child, port);
        for _ in 0..100 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        redis
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[test]
fn redis_keeps_a_record_for_its_life_and_a_lost_connection_is_opened_anew() {
    let redis = Redis::start();
    let url = format!("redis://127.0.0.1:{}/", redis.1);
    let sessions = RedisSessions::new(&url).unwrap();
    sessions.put("abc", &json!({ "user_id": 1 }), Duration::from_secs(60)).unwrap();

    let mut reader = redis::Client::open(url).unwrap().get_connection().unwrap();
    let record: String = redis::cmd("GET").arg("session:abc").query(&mut reader).unwrap();
    assert_eq!(record, r#"{"user_id":1}"#);
    let life: i64 = redis::cmd("TTL").arg("session:abc").query(&mut reader).unwrap();
    assert!((1..=60).contains(&life), "{life}");

    let killed: u64 =
        redis::cmd("CLIENT").arg(&["KILL", "TYPE", "normal", "SKIPME", "yes"]).query(&mut reader).unwrap();
    assert_eq!(killed, 1);
    sessions.remove("abc").unwrap();
    let left: u64 = redis::cmd("EXISTS").arg("session:abc").query(&mut reader).unwrap();
    assert_eq!(left, 0);
}

#[test]
fn a_redis_that_is_away_is_an_error() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let sessions = RedisSessions::new(&format!("redis://127.0.0.1:{port}/")).unwrap();
    assert!(sessions.remove("abc").is_err());
    assert!(RedisSessions::new("carrier-pigeon://coop").is_err());
}

#[test]
fn the_configuration_is_toml_whatever_the_url_contains() {
    let app = "127.0.0.1:3000".parse().unwrap();
    let url = r#"redis://:p"a\ss@127.0.0.1/"#;
    let file: toml::Table = configuration(app, "127.0.0.1:8080", Some(url)).parse().unwrap();
    assert_eq!(file["redis"]["url"].as_str(), Some(url));
    assert_eq!(file["upstream"]["app"]["servers"][0].as_str(), Some("http://127.0.0.1:3000"));
    let file: toml::Table = configuration(app, "127.0.0.1:8080", None).parse().unwrap();
    assert!(!file.contains_key("redis"));
    assert_eq!(file["route"].as_array().unwrap().last().unwrap()["path"].as_str(), Some("/{*rest}"));
}

#[test]
fn the_introduction_does_not_show_the_password() {
    let [proxy, app] = ["127.0.0.1:8080", "127.0.0.1:3000"].map(|text| text.parse().unwrap());
    let text = introduction(proxy, app, None, Some("redis://me:hunter2@redis.example:6379/0"));
    assert!(text.contains("Redis at redis://redis.example:6379/0\n"), "{text}");
    assert!(!text.contains("hunter2"));
    assert!(text.contains("curl -i http://127.0.0.1:8080/users\n") && !text.contains("explain"));
    let text = introduction(proxy, app, Some("127.0.0.1:4444".parse().unwrap()), None);
    assert!(text.contains("sidegate explain --admin 127.0.0.1:4444 GET http://127.0.0.1:8080/users\n"), "{text}");
}
