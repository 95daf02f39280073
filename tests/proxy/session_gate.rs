//! Who passes a session: requirements, public paths, the way to the login, and where a credential is found.

use bytes::Bytes;
use http::Request;

use crate::harness::sidegate::run;
use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, http2, until};

const ALICE: &str = "alice-0123456789abcdef";
const BOB: &str = "bob-0123456789abcdef";

const BROWSER: (&str, &str) = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");

const TABLES: &str = r#"
[limit.each]
key = "address"
quota = "1000 per hour"

[session.web]
format = "json"
from = ["bearer", "cookie:sid", "query:token"]
user = "id"
forward = { X-User-Id = "id" }
login_url = "/login?app=1"
public = ["/login", "/static/{*rest}"]
forward_query = false

[[route]]
path = "/{*rest}"
session = "web"
limits = ["each"]
rewrite = "/inner/{rest}"

[[route]]
path = "/static/secret"
session = "web"

[[route]]
path = "/staff"
session = { use = "web", require = { role = ["admin", "staff"], "org.plan" = "pro" } }

[[route]]
path = "/maybe"
session = { use = "web", mode = "optional", require = { role = "admin" } }
"#;

/// A Redis where alice is of the staff, in a list, and bob is not.
fn redis() -> RedisServer {
    let redis = RedisServer::start();
    for (id, record) in [
        (ALICE, r#"{"id":1,"role":["user","staff","admin"],"org":{"plan":"pro"}}"#),
        (BOB, r#"{"id":2,"role":"user","org":{"plan":"pro"}}"#),
    ] {
        redis.ask::<()>(&["SET", &format!("session:{id}"), record, "EX", "600"]).expect("a record");
    }
    redis
}

fn started(redis: &RedisServer, app: &Origin) -> Sidegate {
    Configuration::of(app).redis(redis).with(TABLES).start()
}

fn by(sidegate: &Sidegate, id: &str, target: &str) -> Answer {
    sidegate.client().get_with(target, &[("Authorization", &format!("Bearer {id}"))])
}

#[test]
fn a_login_that_lacks_what_a_route_demands_is_refused_with_403_and_not_told_what() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app);
    for (target, id, status) in
        [("/staff", ALICE, 200), ("/staff", BOB, 403), ("/maybe", ALICE, 200), ("/maybe", BOB, 403)]
    {
        let answer = by(&sidegate, id, target);
        assert_eq!(answer.status, status, "{target} {id}");
        if status == 403 {
            assert_eq!(answer.json()["type"], "urn:sidegate:problem:session-forbidden");
            assert!(!answer.text().contains("role") && !answer.text().contains("admin"), "{}", answer.text());
            assert!(!answer.fields.has("set-cookie") && !answer.fields.has("www-authenticate"), "{answer:?}");
        }
    }
    assert_eq!(app.count(), 2);
    assert_eq!(sidegate.client().get("/maybe").status, 200, "nobody passes as nobody");
    assert!(!app.last().fields.has("x-user-id"));
    let page = sidegate.client().get_with("/staff", &[("Authorization", &format!("Bearer {BOB}")), BROWSER]);
    assert_eq!(
        (page.status, page.field("content-type")),
        (403, Some("text/html; charset=utf-8")),
        "no way to the login"
    );
    let line = sidegate.access_log(|line| line["local_reply"] == "session-forbidden");
    assert_eq!((&line["session"], &line["user"]), (&"valid".into(), &"2".into()));
    assert_eq!(line["session_digest"].as_str().map(str::len), Some(32));
}

#[test]
fn a_spelling_that_only_the_app_reads_does_not_switch_a_demand_off() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let tables = format!("{TABLES}\n[[route]]\npath = \"/open\"\nsession = {{ use = \"web\", mode = \"optional\" }}\n");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    for cookie in [format!("sid=\"{BOB}\""), format!("sid={BOB}; sid={ALICE}")] {
        let answer = sidegate.client().get_with("/maybe", &[("Cookie", &cookie)]);
        assert_eq!((answer.status, answer.fields.has("set-cookie")), (401, false), "{cookie}");
        assert_eq!(app.count(), 0);
    }
    let quoted = format!("sid=\"{BOB}\"");
    assert_eq!(sidegate.client().get_with("/open", &[("Cookie", &quoted)]).status, 200, "nothing is demanded");
    assert_eq!((app.last().field("cookie"), app.last().field("x-user-id")), (Some(&*quoted), None));
    let ended = sidegate.client().get_with("/maybe", &[("Cookie", "sid=ended-0123456789abcdef")]);
    assert_eq!(ended.status, 200, "who has no session any more passes as nobody");
}

#[test]
fn who_navigates_is_sent_to_the_login_with_the_way_back() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app);
    let mut client = sidegate.client();
    let unknown = ("Cookie", "sid=unknown-0123456789abcdef");
    for fields in [&[BROWSER][..], &[BROWSER, unknown], &[BROWSER, ("Sec-Fetch-Mode", "navigate")]] {
        let answer = client.get_with("/a%20b/c?d=e&t%6Fken=s3cret-s3cret&f=%2F", fields);
        let location = "/login?app=1&next=/a%2520b/c%3Fd%3De%26f%3D%252F";
        assert_eq!((answer.status, answer.field("location")), (302, Some(location)), "{fields:?}");
        assert_eq!(answer.field("cache-control"), Some("no-store"));
        assert!(!answer.fields.has("set-cookie") && !answer.text().contains("s3cret"), "{answer:?}");
    }
    let absolute = client.send(format!(
        "GET http://elsewhere.test//evil.test HTTP/1.1\r\nHost: a.test\r\n{}: {}\r\n\r\n",
        BROWSER.0, BROWSER.1
    ));
    assert_eq!(absolute.answer().field("location"), Some("/login?app=1"));
    let head = client.ask("HEAD", "/page", &[BROWSER], b"");
    assert_eq!((head.status, head.field("location")), (302, Some("/login?app=1&next=/page")));
    for (method, fields) in [
        ("GET", &[("Accept", "application/json")][..]),
        ("GET", &[BROWSER, ("Sec-Fetch-Mode", "cors")]),
        ("POST", &[BROWSER]),
        ("GET", &[BROWSER, ("Connection", "upgrade"), ("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]),
    ] {
        let answer = sidegate.client().ask(method, "/page", fields, b"");
        assert_eq!((answer.status, answer.fields.has("www-authenticate")), (401, true), "{method} {fields:?}");
        assert!(!answer.fields.has("location"));
    }
    let over_http2 = |field: (&str, &str)| {
        let request = Request::get("http://app.test/a?b").header(BROWSER.0, BROWSER.1).header(field.0, field.1);
        let request = request.body(Bytes::new()).expect("a request");
        let answer = http2::ask(sidegate.address(), vec![(request, None)]).remove(0);
        (answer.status.as_u16(), answer.fields.get("location").map(|value| value.to_str().unwrap().to_owned()))
    };
    assert_eq!(over_http2(("x-any", "1")), (302, Some("/login?app=1&next=/a%3Fb".into())));
    assert_eq!(over_http2(("content-type", "application/grpc")), (200, None), "a call has its status in its fields");
    assert_eq!(app.count(), 0);
}

#[test]
fn a_login_behind_itself_is_401_and_never_a_loop() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let tables = TABLES.replace("\"/login\", ", "");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    for target in ["/login", "/login/?next=/x", "/login?app=1"] {
        assert_eq!(sidegate.client().get_with(target, &[BROWSER]).status, 401, "{target}");
    }
    assert_eq!(sidegate.client().get_with("/x", &[BROWSER]).status, 302);
}

#[test]
fn a_public_path_needs_no_login_and_is_treated_as_its_route_otherwise() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app);
    for (target, inner) in [
        ("/login", "/inner/login"),
        ("/login/?next=/a", "/inner/login/?next=/a"),
        ("/static", "/inner/static"),
        ("/static/a/b.css", "/inner/static/a/b.css"),
    ] {
        let answer = sidegate.client().get(target);
        assert_eq!(answer.status, 200, "{target}");
        assert!(answer.fields.has("x-ratelimit-limit"), "its route's limits hold: {target}");
        assert_eq!(
            (app.last().target.as_str(), app.last().field("x-user-id")),
            (inner, None),
            "its route's rewriting holds"
        );
    }
    assert_eq!(by(&sidegate, ALICE, "/login").status, 200);
    assert_eq!(app.last().field("x-user-id"), Some("1"), "who is logged in is told");
    let asked = app.count();
    for target in
        ["/static/secret", "/statics", "/logins", "/login/x", "/", "/static/../private", "/login;x", "/static%2f..%2fx"]
    {
        let status = sidegate.client().get(target).status;
        assert!(matches!(status, 400 | 401), "{target}: {status}");
    }
    assert_eq!(app.count(), asked);
    sidegate.access_log(|line| line["route"] == "/static/{*rest} (public)");
}

#[test]
fn a_credential_in_the_query_goes_no_further_and_is_never_logged() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app);
    for (target, inner) in [
        (format!("/x?token={ALICE}"), "/inner/x"),
        (format!("/x?a=1&t%6Fken={ALICE}&b=%2F"), "/inner/x?a=1&b=%2F"),
        (format!("/x?%74%6f%6b%65%6e={ALICE}&token={ALICE}&&c"), "/inner/x?&c"),
    ] {
        assert_eq!(sidegate.client().get(&target).status, 200, "{target}");
        assert_eq!((app.last().target.as_str(), app.last().field("x-user-id")), (inner, Some("1")));
    }
    let preflight = [("Origin", "https://a.test"), ("Access-Control-Request-Method", "GET")];
    assert_eq!(sidegate.client().ask("OPTIONS", &format!("/x?token={ALICE}"), &preflight, b"").status, 200);
    assert_eq!(app.last().target, "/inner/x");
    assert_eq!(sidegate.client().get(&format!("/x?token={ALICE}&token={BOB}")).status, 401);
    sidegate.access_log(|line| line["session_reason"] == "duplicate parameter");
    assert!(!sidegate.output().contains(ALICE) && !sidegate.errors().contains(ALICE));
}

#[test]
fn two_cookies_of_one_name_are_refused_however_they_come() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app);
    let (good, bad) = (format!("sid={ALICE}"), format!("sid={BOB}"));
    let lines = |cookies: &[&str]| {
        let fields: Vec<_> = cookies.iter().map(|cookie| ("Cookie", *cookie)).collect();
        sidegate.client().get_with("/x", &fields).status
    };
    let crumbs = |cookies: &[&str]| {
        let request = Request::get("http://app.test/x");
        let request = cookies.iter().fold(request, |request, cookie| request.header("cookie", *cookie));
        let request = request.body(Bytes::new()).expect("a request");
        http2::ask(sidegate.address(), vec![(request, None)]).remove(0).status.as_u16()
    };
    let spaced = format!("sid\u{a0}={BOB}");
    assert_eq!([lines(&[&good, &spaced]), lines(&[&spaced]), crumbs(&[&good, &spaced])], [401; 3], "Django sees two");
    assert_eq!([lines(&[&good, &good]), crumbs(&["a=b", &good, &good])], [200, 200]);
    assert_eq!([lines(&[&good, &bad]), lines(&[&format!("{bad};{good}")]), crumbs(&[&good, "a=b", &bad])], [401; 3]);
}

#[test]
fn a_page_that_all_may_see_is_a_hit_by_whatever_credential() {
    const TABLES: &str = r#"
[cache.pages]

[session.web]
format = "json"
from = ["cookie:sid", "query:ticket"]
user = "id"
forward_query = false

[[route]]
path = "/{*rest}"
session = { use = "web", mode = "optional" }
cache = "pages"
"#;
    for near in ["", "[near]\nenabled = false\n"] {
        let redis = redis();
        let app = Origin::answering(|_| Reply::text("page").field("Cache-Control", "public, max-age=60"));
        let sidegate = Configuration::of(&app).redis(&redis).with(&format!("{near}{TABLES}")).start();
        let cache = |target: &str, fields: &[(&str, &str)]| {
            let answer = sidegate.client().get_with(target, fields);
            answer.field("x-cache").map(str::to_owned)
        };
        let (ticket, cookie) = (format!("/page?a=b&ticket={ALICE}"), format!("sid={ALICE}"));
        assert_eq!(cache(&ticket, &[]).as_deref(), Some("MISS"));
        assert_eq!(app.last().target, "/page?a=b");
        until("a stored page", || cache("/page?a=b", &[]).as_deref() == Some("HIT"));
        let before = app.count();
        for _ in 0..3 {
            assert_eq!(cache(&ticket, &[]).as_deref(), Some("HIT"), "{near}");
            assert_eq!(cache("/page?a=b", &[("Cookie", &cookie)]).as_deref(), Some("HIT"), "{near}");
        }
        assert_eq!(app.count(), before, "{near}");
        let line = sidegate.access_log(|line| line["cache"] == "hit" && line["session"] == "valid");
        assert_eq!(line["user"], "1");
    }
}

#[test]
fn a_preflight_needs_no_login_unless_the_session_says_so() {
    let tables = |preflight: &str| {
        let session = format!("[session.web]\nformat = \"json\"\nuser = \"id\"\nlogin_url = \"/login\"\n{preflight}\n");
        format!(
            "{session}[[route]]\npath = \"/{{*rest}}\"\nsession = \"web\"\n\
             [[route]]\npath = \"/maybe\"\nsession = {{ use = \"web\", mode = \"optional\" }}\n\
             [[route]]\npath = \"/spa\"\nsession = \"web\"\ncors = \"spa\"\n\
             [cors.spa]\norigins = [\"https://spa.test\"]\n"
        )
    };
    let origin = ("Origin", "https://spa.test");
    let method = ("Access-Control-Request-Method", "PUT");
    let bearer = format!("Bearer {ALICE}");
    let login = ("Authorization", &*bearer);
    let (redis, app) = (redis(), Origin::saying("app"));
    for (preflight, alone) in [("", 200), ("preflight = \"pass\"", 200), ("preflight = \"refuse\"", 401)] {
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables(preflight)).start();
        let mut client = sidegate.client();
        let mut ask = |method: &str, target: &str, fields: &[(&str, &str)]| client.ask(method, target, fields, b"");
        assert_eq!(ask("OPTIONS", "/x", &[origin, method, BROWSER]).status, alone, "{preflight}, and never a 302");
        let answer = ask("OPTIONS", "/x", &[origin, method]);
        assert_eq!(answer.status, alone, "{preflight}");
        if alone == 401 {
            assert_eq!(answer.json()["type"], ask("GET", "/x", &[]).json()["type"], "as any request without a login");
        }
        for (verb, fields, status) in [
            ("OPTIONS", &[origin][..], 401),
            ("OPTIONS", &[method], 401),
            ("GET", &[origin, method], 401),
            ("OPTIONS", &[origin, method, login], 200),
            ("OPTIONS", &[origin, method, ("Cookie", "a=b")], 401),
            ("OPTIONS", &[origin, method, ("Authorization", "Bearer nobody-0123456789")], 401),
            ("OPTIONS", &[origin, method, ("X-HTTP-Method-Override", "PUT")], 401),
            ("OPTIONS", &[("Origin", ""), method], 401),
        ] {
            assert_eq!(ask(verb, "/x", fields).status, status, "{preflight} {verb} {fields:?}");
        }
        assert_eq!(ask("OPTIONS", "/maybe", &[origin, method]).status, 200, "{preflight}");
        assert_eq!(sidegate.client().ask("OPTIONS", "/x", &[origin, method], b"a=b").status, 401, "with content");
        if alone == 200 {
            assert_eq!((answer.text().as_str(), answer.field("content-length")), ("", Some("0")), "no page is shown");
        }
        assert_eq!(ask("OPTIONS", "/spa", &[origin, ("Access-Control-Request-Method", "GET")]).status, 204, "by cors");
        let fields = ["-H", "Origin: https://spa.test", "-H", "Access-Control-Request-Method: PUT"];
        let explain = ["explain", "--admin", sidegate.admin(), "OPTIONS", "http://app.test/x", "--json"];
        let (_, said, errors) = run(&[&explain[..], &fields].concat(), std::path::Path::new("."));
        let told: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {errors}"));
        assert_eq!(told["session"]["passes"], alone == 200, "{told}");
    }
}
