//! Orders of apps about sessions, in every shape, and what becomes of them when Redis does not do its part.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;

use crate::harness::http2::ask_and_leave;
use crate::harness::http2_app::Http2App;
use crate::harness::origin::{Gate, Request};
use crate::harness::sidegate::run;
use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, Sidegate, until};
use crate::session_story::given;

/// The path says what the app orders.
fn app() -> Origin {
    Origin::answering(|request: &Request| {
        let create = |record: &str| Reply::text("secret of the app").field("X-Session-Create", record);
        match request.path() {
            "/login" | "/page" => {
                create(r#"{"user_id":7}"#).field("Cache-Control", "max-age=600").field("Expires", "0")
            }
            "/logout" => Reply::text("bye").field("X-Session-Destroy", "1"),
            "/extend" => Reply::text("stay").field("X-Session-Extend", "2h"),
            "/broken" => create("{\"user_id\":"),
            "/list" => create("[7]"),
            "/nobody" => create(r#"{"id":7}"#),
            "/flag" => create(r#"{"user_id":true}"#),
            "/large" => create(&format!("{{\"user_id\":\"{}\"}}", "x".repeat(17 * 1024))),
            "/twice" => create("{}").field("X-Session-Create", "{}"),
            "/both" => create("{}").field("X-Session-Destroy", ""),
            "/never" => Reply::text("secret of the app").field("X-Session-Extend", "never"),
            "/failed" => create("{").status("500 Internal Server Error"),
            "/denied" => Reply::text("no").field("X-Session-Destroy", "").status("403 Forbidden"),
            "/unmodified" => create("{\"user_id\":7}").status("304 Not Modified"),
            "/long" => create("{\"user_id\":7}").field("X-Session-Extend", "1h 30m"),
            "/own" => create("{\"user_id\":7}").field("Set-Cookie", "session=own").field("Set-Cookie", "theme=dark"),
            _ => Reply::text(request.field("x-session-create").unwrap_or("nothing")),
        }
    })
}

const TABLES: &str = r#"
[session.web]
format = "json"
from = ["cookie:session"]
max_age = "10h"
born = "created_at"
forward = { X-User-Id = "user_id" }
issue = { ttl = "30m", secure = false }

[cache.pages]
ttl = "60s"

[[route]]
path = "/account"
session = "web"

[[route]]
path = "/page"
session = { use = "web", mode = "optional" }
cache = "pages"

[[route]]
path = "/plain/{*rest}"

[[route]]
path = "/{*rest}"
session = { use = "web", mode = "optional" }
"#;

fn cookie(identifier: &str) -> String {
    format!("session={identifier}")
}

fn with_cookie(sidegate: &Sidegate, method: &str, path: &str, identifier: &str) -> Answer {
    sidegate.client().ask(method, path, &[("Cookie", &cookie(identifier))], b"")
}

fn is_silent(answer: &Answer) -> bool {
    let orders = ["x-session-create", "x-session-destroy", "x-session-extend"];
    !orders.iter().any(|name| answer.fields.has(name) || answer.trailers.has(name))
}

#[test]
fn an_order_that_makes_no_sense_is_502_and_does_nothing() {
    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    let (identifier, _) = given(&sidegate.get("/login"));
    for path in ["/broken", "/list", "/large", "/twice", "/both", "/never"] {
        let answer = with_cookie(&sidegate, "GET", path, &identifier);
        assert!(answer.status == 502 && !answer.fields.has("set-cookie"), "{path}: {answer:?}");
        assert!(!answer.text().contains("secret") && is_silent(&answer), "{path}: {answer:?}");
        assert_eq!(answer.field("proxy-status"), Some("sidegate; error=http_protocol_error"), "{path}");
    }
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 200, "the session is as it was");
    let said = sidegate.access_log(|line| line["target"] == "/twice");
    assert_eq!(said["local_reply_reason"], "two lines of X-Session-Create", "{said}");
    let told = sidegate.client().get_with("/twice", &[("Accept", "application/json")]).json();
    assert_eq!(told["type"], "urn:sidegate:problem:session-order-malformed", "{told}");
    let id = told["request_id"].as_str().expect("a request has a name").to_owned();
    until("a warning that names the request", || sidegate.errors().contains(&id));
    assert!(sidegate.metric("sidegate_session_orders_total{session=\"web\",outcome=\"malformed\"}") >= 6.0);
    assert!(!sidegate.errors().contains("xxxx"), "no content in the log");
}

#[test]
fn a_session_that_names_nobody_is_a_visitors_and_the_log_says_so() {
    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    for path in ["/nobody", "/flag"] {
        let (visitor, _) = given(&sidegate.get(path));
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &visitor).status, 401, "{path}");
    }
    until("a warning that tells where nobody is named", || {
        let said = sidegate.errors();
        said.contains("X-Session-Create names nobody") && said.contains("user_id")
    });
}

#[test]
fn an_error_of_the_app_makes_no_session_and_may_end_one() {
    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    let failed = sidegate.get("/failed");
    assert_eq!((failed.status, failed.text().as_str()), (500, "secret of the app"));
    assert!(!failed.fields.has("set-cookie") && is_silent(&failed));
    let (identifier, _) = given(&sidegate.get("/login"));
    let denied = with_cookie(&sidegate, "GET", "/denied", &identifier);
    assert_eq!((denied.status, given(&denied).0.as_str()), (403, ""));
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 401);
}

#[test]
fn a_session_is_made_with_head_and_304_and_lasts_as_the_app_says() {
    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    for (method, path, age) in [
        ("HEAD", "/login", "Max-Age=1800;"),
        ("GET", "/unmodified", "Max-Age=1800;"),
        ("GET", "/long", "Max-Age=5400;"),
    ] {
        let answer = sidegate.client().ask(method, path, &[], b"");
        let (identifier, attributes) = given(&answer);
        assert!(attributes.contains(age), "{path}: {attributes}");
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 200, "{path}");
    }
}

#[test]
fn the_apps_own_cookie_of_that_name_is_dropped_and_others_stay() {
    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    let answer = sidegate.get("/own");
    let cookies: Vec<_> = answer.fields.all("set-cookie").collect();
    assert!(cookies.len() == 2 && cookies[0] == "theme=dark" && cookies[1].starts_with("session="), "{cookies:?}");
    assert!(!cookies[1].starts_with("session=own"));
}

#[test]
fn what_carries_an_order_is_never_stored_and_says_so() {
    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    let answers = [sidegate.get("/page"), sidegate.get("/page")];
    for answer in &answers {
        assert_eq!((answer.field("x-cache"), answer.field("cache-control")), (Some("MISS"), Some("no-store")));
        assert!(answer.field("cache-status").is_some_and(|said| said.contains("session-order")), "{answer:?}");
        assert!(!answer.fields.has("expires") && is_silent(answer));
    }
    assert_ne!(given(&answers[0]).0, given(&answers[1]).0);
    assert_eq!(app.count(), 2);
}

#[test]
fn an_order_never_leaves_the_gate_wherever_it_stands_and_a_client_gives_none() {
    let sneaky = Origin::scripted(|wire| {
        while wire.request()?.is_some() {
            wire.send(
                b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\nX-Session-Create: {}\r\n\r\n\
                  HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\nx-session-destroy: 1\r\nX-SESSION-DESTROY: 2\r\n\r\n\
                  0\r\nX-Session-Create: {}\r\nX-Sum: 1\r\n\r\n",
            )?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&sneaky).with(TABLES).start();
    for path in ["/plain/x", "/other"] {
        let mut client = sidegate.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: TE\r\n\r\n"));
        let answer = client.answer();
        assert!(answer.status == 200 && is_silent(&answer) && answer.trailers.has("x-sum"), "{answer:?}");
        assert_eq!(answer.interim.len(), 1);
        assert!(answer.interim[0].1.has("link") && !answer.interim[0].1.has("x-session-create"), "{answer:?}");
    }
    assert!(!sidegate.get("/plain/x").fields.has("set-cookie"), "no session of this route");

    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    for name in ["X-Session-Create", "x_session_create"] {
        let answer = sidegate.client().get_with("/echo", &[(name, "{\"user_id\":1}")]);
        assert_eq!((answer.text().as_str(), answer.fields.has("set-cookie")), ("nothing", false));
        assert!(!app.last().fields.has(name), "{:?}", app.last());
    }
}

#[test]
fn apps_that_speak_http_2_order_the_same() {
    let app = Http2App::answering(|mut call| async move {
        let order = if call.request.uri().path() == "/login" { "x-session-create" } else { "x-session-destroy" };
        let answer = Response::builder().header(order, "{\"user_id\":7}").body(()).expect("an answer");
        if let Ok(mut stream) = call.respond.send_response(answer, false) {
            let _ = stream.send_data(Bytes::from_static(b"app"), true);
        }
    });
    let sidegate = Configuration::to(&app.url()).with(TABLES).start();
    let welcome = sidegate.get("/login");
    let (identifier, _) = given(&welcome);
    assert!(is_silent(&welcome) && welcome.text() == "app");
    assert_eq!(given(&with_cookie(&sidegate, "GET", "/account", &identifier)).0, "", "logged in, and out");
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 401);
}

#[test]
fn a_websocket_is_no_place_for_orders() {
    let app = Origin::scripted(|wire| {
        while wire.request()?.is_some() {
            wire.send(
                b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                  X-Session-Create: {}\r\n\r\n",
            )?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).with(TABLES).start();
    let mut client = sidegate.client();
    client.send(
        "GET /socket HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
    );
    let answer = client.answer();
    assert!(answer.status == 502 && !answer.fields.has("set-cookie"), "{answer:?}");
    assert_eq!(sidegate.get("/socket").status, 502, "no tunnel was left behind");
}

#[test]
fn a_session_is_not_extended_beyond_its_longest_life() {
    let (app, redis) = (app(), RedisServer::start());
    for configuration in [Configuration::of(&app), Configuration::of(&app).redis(&redis)] {
        let tables = TABLES.replace("\"10h\"", "\"1h\"");
        let sidegate = configuration.with(&tables).start();
        let (identifier, _) = given(&sidegate.get("/login"));
        let (same, attributes) = given(&with_cookie(&sidegate, "GET", "/extend", &identifier));
        assert_eq!(same, identifier);
        let age = attributes.split("Max-Age=").nth(1).and_then(|rest| rest.split(';').next()?.parse::<u64>().ok());
        assert!(age.is_some_and(|age| (1..=3600).contains(&age)), "two hours were asked for: {attributes}");
    }
}

#[test]
fn a_login_that_redis_did_not_take_is_503_and_no_login() {
    let (app, mut redis) = (app(), RedisServer::start());
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let (identifier, _) = given(&sidegate.get("/login"));
    redis.kill();
    let answer = sidegate.get("/login");
    assert!(answer.status == 503 && answer.number("retry-after") >= 1, "{answer:?}");
    assert!(!answer.fields.has("set-cookie") && !answer.text().contains("secret"), "{answer:?}");
    let logout = with_cookie(&sidegate, "POST", "/logout", &identifier);
    assert!(logout.status == 503 && !logout.fields.has("set-cookie"), "a logout that did not happen: {logout:?}");
}

#[test]
fn what_redis_refuses_to_end_is_not_said_to_have_ended() {
    let app = app();
    let redis = RedisServer::start_with(&["--user", "gate", "on", ">secret", "~*", "&*", "+@all", "-del"]);
    let url = format!("redis://gate:secret@127.0.0.1:{}", redis.port());
    let sidegate = Configuration::of(&app).redis_at(&url).with(TABLES).start();
    let (identifier, _) = given(&sidegate.get("/login"));
    for path in ["/logout", "/login"] {
        let answer = with_cookie(&sidegate, "GET", path, &identifier);
        assert!(answer.status == 503 && !answer.fields.has("set-cookie"), "{path}: {answer:?}");
        assert!(!answer.text().contains("secret of the app"), "{answer:?}");
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 200, "{path}: the session stays");
    }
    assert!(sidegate.metric("sidegate_session_orders_total{session=\"web\",outcome=\"failed\"}") >= 2.0);
}

#[test]
fn of_two_cookies_neither_is_believed_and_both_sessions_end_at_logout() {
    let app = app();
    let sidegate = Configuration::of(&app).with(TABLES).start();
    let [one, other] = [given(&sidegate.get("/login")).0, given(&sidegate.get("/login")).0];
    let both = format!("{}; {}", cookie(&one), cookie(&other));
    let answer = sidegate.client().get_with("/logout", &[("Cookie", &both)]);
    assert_eq!((answer.status, given(&answer).0.as_str()), (200, ""));
    for identifier in [one, other] {
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 401);
    }
}

#[test]
fn issued_sessions_in_memory_outlast_a_reload() {
    let app = app();
    let configuration = Configuration::of(&app);
    let mut sidegate = configuration.clone().with(TABLES).start();
    let (identifier, _) = given(&sidegate.get("/login"));
    let bounded = format!("{TABLES}\n[memory]\nissued_sessions = \"1 MiB\"\n");
    sidegate.reload(&configuration.with(&bounded).text());
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 200);
}

#[test]
fn a_logout_is_not_forgotten_when_redis_goes_away_after_it() {
    let (app, mut redis) = (app(), RedisServer::start());
    let tables = TABLES.replace("max_age = \"10h\"", "max_age = \"10h\"\non_outage = \"grace\"");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let [out, still] = [given(&sidegate.get("/login")).0, given(&sidegate.get("/login")).0];
    for identifier in [&out, &still] {
        assert_eq!(with_cookie(&sidegate, "GET", "/account", identifier).status, 200);
    }
    assert_eq!(with_cookie(&sidegate, "GET", "/logout", &out).status, 200);
    redis.kill();
    until("who is logged in still is believed", || with_cookie(&sidegate, "GET", "/account", &still).status == 200);
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &out).status, 503, "whoever logged out is not believed");
}

#[test]
fn who_comes_with_a_stolen_cookie_from_another_device_neither_ends_nor_extends_the_session() {
    let (redis, app) = (RedisServer::start(), app());
    for (mismatch, mode) in [("login", "optional"), ("login", "observe"), ("refuse", "observe")] {
        let bound = format!("[session.web]\nbind = {{ agent = true, mismatch = {mismatch:?} }}");
        let tables = TABLES.replace("[session.web]", &bound).replace("\"optional\"", &format!("{mode:?}"));
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
        let ask = |path: &str, identifier: &str, agent: &str| {
            sidegate.client().get_with(path, &[("Cookie", &cookie(identifier)), ("User-Agent", agent)])
        };
        let (identifier, _) = given(&ask("/login", "", "Firefox/140.0"));
        assert_eq!(ask("/account", &identifier, "Firefox/140.0").status, 200);
        let stays = || ask("/account", &identifier, "curl/8.5.0").status != 200;
        until("it stays with its device", stays);

        let left = || redis.ask::<i64>(&["PTTL", &format!("session:{identifier}")]).expect("PTTL");
        for path in ["/logout", "/extend", "/login", "/long"] {
            assert_eq!(ask(path, &identifier, "curl/8.5.0").status, 200, "{path}");
            assert!((1..=1_800_000).contains(&left()), "{mismatch}, {mode}, {path}: {}", left());
        }
        assert_eq!(ask("/account", &identifier, "Firefox/140.0").status, 200, "nobody is logged out by a thief");
        assert_eq!(ask("/logout", &identifier, "Firefox/140.0").status, 200);
        assert_eq!(left(), -2, "the owner logs out");
    }
}

#[test]
fn no_key_of_a_clients_choice_is_removed_extended_or_given_a_cookie() {
    let (app, redis) = (app(), RedisServer::start());
    // Without `max_age`, nothing but the order itself asks for the record.
    let tables = TABLES.replace("max_age = \"10h\"\nborn = \"created_at\"\n", "");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    // A login to look at, a text of the right form that names a list, and both in the cookies of one request.
    let (queue, list) = ("queue-of-another-0123456789", "A".repeat(43));
    redis.ask::<()>(&["SET", &format!("session:{queue}"), "{\"user_id\":7}"]).expect("SET");
    redis.ask::<()>(&["RPUSH", &format!("session:{list}"), "work"]).expect("RPUSH");
    assert_eq!(with_cookie(&sidegate, "GET", "/account", queue).status, 401, "nothing that is issued here");
    let both = format!("{queue}; session={list}");
    for named in [queue, &list, &both] {
        let extended = with_cookie(&sidegate, "GET", "/extend", named);
        assert!(extended.status == 200 && !extended.fields.has("set-cookie"), "{named}: {extended:?}");
        for path in ["/logout", "/login"] {
            assert_eq!(with_cookie(&sidegate, "GET", path, named).status, 200, "{named}: {path}");
        }
        for key in [queue, &list] {
            let left: i64 = redis.ask(&["TTL", &format!("session:{key}")]).expect("TTL");
            assert_eq!(left, -1, "{named} ended {key}, or gave it an end");
        }
    }
}

#[test]
fn where_redis_does_not_tell_of_changes_what_one_instance_ends_all_refuse_at_once() {
    let (redis, app) = (RedisServer::start(), app());
    let rules = ["ACL", "SETUSER", "gate", "on", ">secret", "~*", "&*", "+@all", "-client|tracking"];
    redis.ask::<()>(&rules).expect("a user");
    let url = format!("redis://gate:secret@127.0.0.1:{}/0", redis.port());
    let near = "[near]\nsession_max_age = \"10m\"\nuntracked_session_max_age = \"10m\"\n";
    let tables = near.to_owned() + &TABLES.replace("[session.web]", "[session.web]\nindex = true");
    let configuration = Configuration::of(&app).redis_at(&url).with(&tables);
    let (one, other) = (configuration.start(), configuration.start());
    for instance in [&one, &other] {
        until("what is published is told", || instance.metric("sidegate_near_in_use{mode=\"pub/sub\"}") == 1.0);
    }
    let hits = |instance: &Sidegate| instance.metric("sidegate_near_hits_total{kind=\"session\"}");
    let logged_in = || {
        let (identifier, _) = given(&one.get("/login"));
        for instance in [&one, &other] {
            until("a session that is remembered", || {
                let before = hits(instance);
                let answer = with_cookie(instance, "GET", "/account", &identifier);
                answer.status == 200 && hits(instance) > before
            });
        }
        identifier
    };
    let account = |identifier: &str| with_cookie(&other, "GET", "/account", identifier).status;

    let ended = logged_in();
    assert_eq!(with_cookie(&one, "GET", "/logout", &ended).status, 200);
    assert_eq!(account(&ended), 401, "destroyed");

    let revoked = logged_in();
    let listed = || one.ask_admin("/sessions?user=7").json()["sessions"].as_array().map_or(0, Vec::len);
    until("it is known", || listed() == 1);
    let (code, said, errors) = run(&["sessions", "--admin", one.admin(), "revoke", "--user", "7"], Path::new("."));
    assert!(code == 0 && said.starts_with("revoked "), "{said}{errors}");
    assert_eq!(account(&revoked), 401, "revoked");

    // What is told of a session that is extended: it may end sooner than is remembered.
    let extended = logged_in();
    assert_eq!(with_cookie(&one, "GET", "/extend", &extended).status, 200);
    let before = hits(&other);
    assert_eq!((account(&extended), hits(&other)), (200, before), "it was asked for again");
}

#[test]
fn a_session_without_an_end_gets_none_by_being_extended() {
    let (app, redis) = (app(), RedisServer::start());
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    let (identifier, _) = given(&sidegate.get("/login"));
    let key = format!("session:{identifier}");
    assert_eq!(given(&with_cookie(&sidegate, "GET", "/extend", &identifier)).0, identifier);
    redis.ask::<()>(&["PERSIST", &key]).expect("PERSIST");
    let answer = with_cookie(&sidegate, "GET", "/extend", &identifier);
    assert!(answer.status == 200 && !answer.fields.has("set-cookie"), "{answer:?}");
    assert_eq!(redis.ask::<i64>(&["TTL", &key]).expect("TTL"), -1);
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 200);
}

/// An app that makes a session of each answer, at `/visit` a visitor's and else a login. While it answers `/slow`, who asks is logged out at `gate`.
fn slow_app(gate: Arc<OnceLock<String>>) -> Origin {
    Origin::answering(move |request: &Request| {
        match (request.path(), request.field("cookie"), gate.get()) {
            ("/logout", ..) => return Reply::text("bye").field("X-Session-Destroy", "1"),
            ("/slow", Some(cookie), Some(gate)) => {
                let bye = Client::to(gate).get_with("/logout", &[("Cookie", cookie)]);
                assert_eq!((bye.status, given(&bye).0.as_str()), (200, ""));
            }
            ("/account", ..) => return Reply::text("account"),
            _ => {}
        }
        let record = if request.path() == "/visit" { r#"{"cart":1}"# } else { r#"{"user_id":7}"# };
        Reply::text("secret of the app").field("X-Session-Create", record)
    })
}

#[test]
fn a_login_that_was_ended_while_the_app_answered_is_not_replaced_by_another() {
    for redis in [None, Some(RedisServer::start())] {
        let gate = Arc::<OnceLock<String>>::default();
        let app = slow_app(gate.clone());
        let configuration = Configuration::of(&app);
        let configuration = redis.iter().fold(configuration, |configuration, redis| configuration.redis(redis));
        let sidegate = configuration.with(TABLES).start();
        gate.set(sidegate.address().to_owned()).expect("set once");
        let (visitor, _) = given(&sidegate.get("/visit"));
        let welcome = with_cookie(&sidegate, "GET", "/slow", &visitor);
        assert_eq!(welcome.status, 200, "a visitor has no login to lose: {welcome:?}");
        let (login, _) = given(&welcome);
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &login).status, 200);
        let answer = with_cookie(&sidegate, "GET", "/slow", &login);
        assert!(answer.status == 401 && !answer.fields.has("set-cookie"), "{answer:?}");
        assert!(answer.fields.has("www-authenticate") && !answer.text().contains("secret"), "{answer:?}");
        assert_eq!(sidegate.metric("sidegate_session_orders_total{session=\"web\",outcome=\"over\"}"), 1.0);
        if let Some(redis) = &redis {
            let left = || redis.ask::<Vec<String>>(&["KEYS", "session:*"]).expect("KEYS");
            until("what was made is taken back", || left().is_empty());
        }
    }
}

#[test]
fn of_several_cookies_a_thief_on_another_device_ends_and_extends_none() {
    let (redis, app) = (RedisServer::start(), app());
    for mismatch in ["refuse", "login"] {
        let bound = format!("[session.web]\nbind = {{ agent = true, mismatch = {mismatch:?} }}");
        let tables = TABLES.replace("[session.web]", &bound);
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
        let ask = |path: &str, cookies: &str, agent: &str| {
            sidegate.client().ask("POST", path, &[("Cookie", cookies), ("User-Agent", agent)], b"")
        };
        let (identifier, _) = given(&ask("/login", "theme=dark", "Firefox/140.0"));
        let (one, other) = (cookie(&identifier), format!("session={}", "A".repeat(43)));
        assert_eq!(ask("/account", &one, "Firefox/140.0").status, 200);
        until("it stays with its device", || ask("/account", &one, "curl/8.5.0").status != 200);

        let left = || redis.ask::<i64>(&["PTTL", &format!("session:{identifier}")]).expect("PTTL");
        for beside in ["session=x", &other] {
            for path in ["/logout", "/extend", "/login", "/long"] {
                let answer = ask(path, &format!("{one}; {beside}"), "curl/8.5.0");
                assert_eq!(answer.status, 200, "{mismatch}: {path}");
                assert!((1..=1_800_000).contains(&left()), "{mismatch}, {beside}, {path}: {}", left());
            }
        }
        assert_eq!(ask("/account", &one, "Firefox/140.0").status, 200, "nobody is logged out by a thief");
        let both = format!("{one}; session=x");
        assert_eq!(ask("/extend", &both, "Firefox/140.0").status, 200);
        assert!((1..=1_800_000).contains(&left()), "of several none is extended: {}", left());
        assert_eq!(ask("/logout", &both, "Firefox/140.0").status, 200);
        assert_eq!(left(), -2, "the owner logs out");
    }
}

#[test]
fn a_session_that_has_not_been_used_yet_is_known_as_its_users_and_can_be_revoked() {
    let (redis, app) = (RedisServer::start(), app());
    let tables = TABLES.replace("[session.web]", "[session.web]\nindex = true");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let fields = [("User-Agent", "Firefox/140.0")];
    let (first, _) = given(&sidegate.client().get_with("/login", &fields));
    let listed = || sidegate.ask_admin("/sessions?user=7").json()["sessions"].as_array().cloned().unwrap_or_default();
    until("the new session is known", || listed().len() == 1);
    let known = listed().remove(0);
    assert_eq!((&known["agent"], &known["address"]), (&"firefox".into(), &"127.0.0.1".into()), "{known}");
    assert_eq!(known["session"], "web");

    // What is put in its place is known, and no longer what it replaced.
    let (second, _) = given(&with_cookie(&sidegate, "GET", "/login", &first));
    until("the session in its place is known", || {
        let all = listed();
        all.len() == 1 && all[0]["handle"] != known["handle"]
    });
    let (code, said, errors) = run(&["sessions", "--admin", sidegate.admin(), "revoke", "--user", "7"], Path::new("."));
    assert!(code == 0 && said.starts_with("revoked "), "{said}{errors}");
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &second).status, 401);

    // A visitor's is nobody's.
    given(&sidegate.get("/nobody"));
    assert!(listed().is_empty());
}

/// An app that answers nothing but `/login` before the gate is open.
fn held_app(gate: Gate) -> Origin {
    Origin::answering(move |request: &Request| {
        let create = || Reply::text("app").field("X-Session-Create", r#"{"user_id":7}"#);
        match request.path() {
            "/login" => return create(),
            "/account" => return Reply::text("account"),
            _ => assert!(gate.wait(), "the test opens it"),
        }
        match request.path() {
            "/logout" => Reply::text("bye").field("X-Session-Destroy", "1"),
            _ => create(),
        }
    })
}

/// Asks by POST over HTTP/2, and leaves once the app has the request; then does `then`, when sidegate has noticed.
fn leave(
    sidegate: &Arc<Sidegate>,
    app: &Arc<Origin>,
    path: &'static str,
    identifier: &str,
    then: impl FnOnce() + Send + 'static,
) {
    let request =
        http::Request::post(format!("http://{}{path}", sidegate.address())).header("cookie", cookie(identifier));
    let request = request.body(Full::new(Bytes::new())).expect("a request");
    let (app, noticing) = (app.clone(), sidegate.clone());
    let begun = move || until("the app has it", || app.requests().iter().any(|request| request.path() == path));
    let left = move || {
        noticing.access_log(|line| line["target"] == path);
        then();
    };
    ask_and_leave(sidegate.address(), request, begun, left);
}

#[test]
fn a_logout_is_carried_out_although_its_client_has_left() {
    for redis in [None, Some(RedisServer::start())] {
        let gate = Gate::default();
        let app = Arc::new(held_app(gate.clone()));
        let configuration = Configuration::of(&app);
        let configuration = redis.iter().fold(configuration, |configuration, redis| configuration.redis(redis));
        let sidegate = Arc::new(configuration.with(TABLES).start());
        let (identifier, _) = given(&sidegate.get("/login"));
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 200);
        leave(&sidegate, &app, "/logout", &identifier, move || gate.open());
        let destroyed = "sidegate_session_orders_total{session=\"web\",outcome=\"destroyed\"}";
        until("the order is carried out", || sidegate.metric(destroyed) == 1.0);
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 401);
        let finished = "sidegate_session_unattended_total{session=\"web\",outcome=\"finished\"}";
        until("it is over", || sidegate.metric(finished) == 1.0);
    }
}

#[test]
fn no_session_is_made_for_a_client_that_has_left_and_the_one_it_has_stays() {
    let (redis, gate) = (RedisServer::start(), Gate::default());
    let app = Arc::new(held_app(gate.clone()));
    let sidegate = Arc::new(Configuration::of(&app).redis(&redis).with(TABLES).start());
    let (identifier, _) = given(&sidegate.get("/login"));
    leave(&sidegate, &app, "/sudo", &identifier, move || gate.open());
    let left = "sidegate_session_orders_total{session=\"web\",outcome=\"left\"}";
    until("the order is known", || sidegate.metric(left) == 1.0);
    let all = redis.ask::<Vec<String>>(&["KEYS", "session:*"]).expect("KEYS");
    assert_eq!(all, [format!("session:{identifier}")]);
    assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 200);
}

#[test]
fn a_request_that_its_client_has_left_is_in_flight_for_as_long_as_it_goes_on() {
    for redis in [None, Some(RedisServer::start())] {
        let gate = Gate::default();
        let app = Arc::new(held_app(gate.clone()));
        let limit = "limits = [\"few\"]\n[limit.few]\nkey = \"address\"\nin_flight = 1\n";
        let configuration = Configuration::of(&app).with(&[TABLES, limit].concat());
        let configuration = redis.iter().fold(configuration, |configuration, redis| configuration.redis(redis));
        let sidegate = Arc::new(configuration.start());
        let (identifier, _) = given(&sidegate.get("/login"));
        until("there is room again", || sidegate.get("/login").status == 200);
        let places = || -> usize {
            let places = |redis: &RedisServer| {
                let keys: Vec<String> = redis.ask(&["KEYS", "sidegate:limit:*:flight"]).expect("KEYS");
                keys.iter().map(|key| redis.ask::<usize>(&["ZCARD", key]).expect("ZCARD")).sum()
            };
            redis.as_ref().map_or(0, places)
        };
        let in_flight = |sidegate: &Sidegate| {
            ["sidegate_limit_in_flight{limit=\"few\"}", "sidegate_requests_in_flight"].map(|name| sidegate.metric(name))
        };
        until("nothing is in flight", || in_flight(&sidegate) == [0.0; 2] && places() == 0);
        let other = sidegate.clone();
        leave(&sidegate, &app, "/logout", &identifier, move || {
            let refused = other.get("/login");
            assert_eq!((refused.status, in_flight(&other)), (429, [1.0; 2]), "its place is taken");
            gate.open();
        });
        until("its place is free", || in_flight(&sidegate) == [0.0; 2] && places() == 0);
        assert_eq!(with_cookie(&sidegate, "GET", "/account", &identifier).status, 401, "the logout was carried out");
    }
}

#[test]
fn made_up_cookies_keep_nothing_going_when_their_client_leaves() {
    let (redis, gate) = (RedisServer::start(), Gate::default());
    let app = Arc::new(held_app(gate.clone()));
    let sidegate = Arc::new(Configuration::of(&app).redis(&redis).with(TABLES).start());
    let invented = ["A", "B"].map(|letter| letter.repeat(43)).join("; session=");
    let other = sidegate.clone();
    leave(&sidegate, &app, "/sudo", &invented, move || {
        until("the app is left, too", || other.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0);
        gate.open();
    });
    let outcomes = ["finished", "late", "dropped"];
    let unattended = outcomes.map(|outcome| {
        sidegate.metric(&format!("sidegate_session_unattended_total{{session=\"web\",outcome=\"{outcome}\"}}"))
    });
    assert_eq!(unattended, [0.0; 3]);
}

#[test]
fn a_process_that_stops_waits_for_the_logout_of_a_client_that_has_left() {
    let (redis, gate) = (RedisServer::start(), Gate::default());
    let app = Arc::new(held_app(gate.clone()));
    let sidegate = Arc::new(Configuration::of(&app).redis(&redis).with(TABLES).start());
    let (identifier, _) = given(&sidegate.get("/login"));
    let key = format!("session:{identifier}");
    let stopping = sidegate.clone();
    leave(&sidegate, &app, "/logout", &identifier, move || stopping.signal(libc::SIGTERM));
    until("it is stopping", || !sidegate.logged("stopping").is_empty());
    assert_eq!(redis.ask::<i64>(&["EXISTS", &key]).expect("EXISTS"), 1, "the app has not answered");
    gate.open();
    let mut sidegate = Arc::into_inner(sidegate).expect("nobody else has it");
    assert!(sidegate.wait().success());
    assert_eq!(redis.ask::<i64>(&["EXISTS", &key]).expect("EXISTS"), 0, "the logout is carried out");
}
