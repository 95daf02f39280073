//! `sidegate explain` says what would become of a request, room by room, and changes nothing; `--ask` sends it.

use std::path::Path;

use base64::Engine as _;

use crate::harness::sidegate::run;
use crate::harness::{Configuration, Origin, RedisServer, Reply, Sidegate, until};

const TABLES: &str = r#"
[limit.each]
key = "address"
quota = "5 per hour"

[limit.keyed]
key = "header:X-API-Key"
quota = "2 per hour"
missing = "skip"

[cache.pages]
client_directives = "honour"

[[route]]
path = "/keyed"
limits = ["keyed"]

[[route]]
path = "/posts"
methods = ["POST"]

[[route]]
path = "/{*rest}"
limits = ["each"]
cache = "pages"
"#;

fn app() -> Origin {
    Origin::answering(|request| match request.path() {
        "/no-store" => Reply::text("x").field("Cache-Control", "no-store"),
        "/private" => Reply::text("x").field("Cache-Control", "private, max-age=60"),
        "/cookie" => Reply::text("x").field("Cache-Control", "max-age=60").field("Set-Cookie", "a=1"),
        _ => Reply::text("hello").field("Cache-Control", "max-age=60").field("Vary", "Accept"),
    })
}

/// What `sidegate explain` of these arguments prints, and its exit code.
fn explain(sidegate: &Sidegate, arguments: &[&str]) -> (i32, String) {
    let all = [&["explain", "--admin", sidegate.admin()], arguments].concat();
    let (code, out, error) = run(&all, Path::new("."));
    (code, out + &error)
}

/// The same as JSON, which it must be.
fn told(sidegate: &Sidegate, arguments: &[&str]) -> serde_json::Value {
    let (code, said) = explain(sidegate, &[arguments, &["--json"]].concat());
    assert_eq!(code, 0, "{said}");
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

fn over_both(app: &Origin, test: impl Fn(&Sidegate)) {
    test(&Configuration::of(app).with(TABLES).start());
    let redis = RedisServer::start();
    test(&Configuration::of(app).redis(&redis).with(TABLES).start());
}

#[test]
fn a_request_is_explained_room_by_room_and_nothing_comes_of_it() {
    let app = app();
    over_both(&app, |sidegate| {
        let asked = app.count();
        for _ in 0..10 {
            let (code, said) = explain(sidegate, &["GET", "http://app.test/page?a=1"]);
            let expected = "\
request  GET http://app.test/page?a=1 from 127.0.0.1
route    /{*rest} → app
limit    each (5 per hour by address): 127.0.0.0/24 has 5 left of 5 per hour; all of it in 0 s
cache    pages: asks the app, because nothing is stored for this URI (RFC 9111 §4)
key      app.test/page?a=1 http
";
            assert_eq!((code, &*said), (0, expected), "nothing was charged");
        }
        assert_eq!(app.count(), asked, "the app was not asked");
    });
}

#[test]
fn what_stands_stored_is_told_and_what_would_be_done_with_it() {
    let app = app();
    over_both(&app, |sidegate| {
        assert_eq!(sidegate.get("/page").status, 200);
        until("a stored page", || told(sidegate, &["GET", "http://app.test/page"])["cache"].get("stored").is_some());
        let hit = told(sidegate, &["GET", "http://app.test/page"]);
        let cache = &hit["cache"];
        assert_eq!((&cache["does"], &cache["because"]["word"]), (&"answers from the store".into(), &"fresh".into()));
        let stored = &cache["stored"];
        assert_eq!(
            (&stored["status"], &stored["bytes"], &stored["selected_by"][0]),
            (&200.into(), &5.into(), &"accept".into())
        );
        assert!(stored["fresh_for"].as_i64().is_some_and(|left| (1..=60).contains(&left)), "{stored}");

        for (arguments, does, word) in [
            (&["GET", "http://other.test/page"][..], "asks the app", "uri-miss"),
            (&["GET", "http://app.test/page", "-H", "Accept: text/x"], "asks the app", "vary-miss"),
            (&["GET", "http://app.test/page", "-H", "Authorization: Bearer s3cret"], "asks the app", "authorization"),
            (&["GET", "http://app.test/page", "-H", "Cookie: a=s3cret"], "asks the app", "cookie"),
            (&["GET", "http://app.test/page", "-H", "Cache-Control: no-cache"], "asks the app", "request-no-cache"),
            (&["GET", "http://app.test/page", "-H", "Upgrade: x", "-H", "Connection: upgrade"], "passes by", "upgrade"),
            (
                &["GET", "http://app.test/x", "-H", "Cache-Control: only-if-cached"],
                "answers 504, and asks nobody",
                "only-if-cached",
            ),
            (&["GET", "http://app.test/page", "--data", "x"], "passes by", "request-content"),
            (&["OPTIONS", "http://app.test/page"], "passes by", "method"),
        ] {
            let told = told(sidegate, arguments);
            let cache = &told["cache"];
            assert_eq!((&cache["does"], &cache["because"]["word"]), (&does.into(), &word.into()), "{arguments:?}");
            let is_for_others = ["authorization", "cookie"].contains(&word);
            assert!(!is_for_others || cache["stored"]["for_all"] == false, "{told}");
            assert!(cache["because"]["rule"].is_string() && !told.to_string().contains("s3cret"), "{told}");
        }
        let write = told(sidegate, &["DELETE", "http://app.test/page"]);
        assert_eq!(write["cache"]["does"], "passes by; a success invalidates what is stored of its path");
    });
}

#[test]
fn who_would_be_refused_is_told_by_whom() {
    let app = app();
    over_both(&app, |sidegate| {
        let mut client = sidegate.client();
        for status in [200, 200, 429] {
            assert_eq!(client.get_with("/keyed", &[("X-API-Key", "top-s3cret")]).status, status);
        }
        let (_, said) = explain(sidegate, &["GET", "/keyed", "-H", "X-API-Key: top-s3cret"]);
        assert!(
            said.contains("limit    keyed (2 per hour by header:x-key)") || said.contains("\nlimit    keyed "),
            "{said}"
        );
        assert!(
            said.contains(" is refused for ") && said.ends_with("refused  with 429, by the limit: keyed\n"),
            "{said}"
        );
        assert!(
            !said.contains("s3cret") && said.contains("limit    keyed (2 per hour by header:x-api-key): #"),
            "{said}"
        );
        let (_, said) = explain(sidegate, &["GET", "/keyed"]);
        assert!(said.contains("not: the request is exempt, or lacks a part of the key"), "{said}");
        assert!(said.contains("\n         host localhost assumed: give a URL, or -H 'Host: …'\n"), "{said}");
        let (_, said) = explain(sidegate, &["GET", "/posts", "-H", "Host: a.test"]);
        assert!(said.contains("GET http://a.test/posts from") && !said.contains("assumed"), "{said}");
        assert!(said.contains("route    /{*rest} → app"), "{said}");
        for (arguments, error) in [
            (&["GET", "app.test"][..], "error: `app.test` is neither https://host/path nor /path\n"),
            (&["GET", "/", "-H", "nonsense"], "error: `nonsense` is no field: \"Name: value\" is one\n"),
            (&["DELETE", "/", "--ask"], "error: only GET and HEAD can be asked: DELETE could change something\n"),
        ] {
            assert_eq!(explain(sidegate, arguments), (1, error.into()));
        }
    });
}

#[test]
fn asked_it_takes_the_way_of_any_other_and_says_what_the_cache_did_and_why() {
    let app = app();
    over_both(&app, |sidegate| {
        let limit = "5 per hour";
        for (path, outcome, rule) in [
            ("/no-store", "miss", "RFC 9111 §5.2.2.5"),
            ("/private", "miss", "RFC 9111 §5.2.2.7"),
            ("/cookie", "miss", "cache.set_cookie"),
        ] {
            let asked = app.count();
            let told = told(sidegate, &["GET", path, "--ask", "--from", "192.0.2.7"]);
            assert_eq!((&told["asked"]["status"], &told["asked"]["app"]), (&200.into(), &"was asked".into()), "{told}");
            assert_eq!((&told["asked"]["cache"], &told["asked"]["because"]["rule"]), (&outcome.into(), &rule.into()));
            assert_eq!(app.count(), asked + 1);
        }
        let told = told(sidegate, &["GET", "/x", "--from", "192.0.2.7"]);
        assert_eq!(
            (&told["limits"][0]["remaining"], &told["limits"][0]["quota"]),
            (&2.into(), &limit.into()),
            "{told}"
        );
    });
}

#[test]
fn the_verdict_on_a_session_is_told_and_no_identifier() {
    let (app, redis) = (app(), RedisServer::start());
    let tables = "[session.web]\nformat = \"json\"\nfrom = [\"bearer\"]\nuser = \"id\"\n[cache.pages]\n\
        [limit.each]\nkey = \"session\"\nquota = \"9 per hour\"\n\
        [[route]]\npath = \"/{*rest}\"\nsession = \"web\"\nlimits = [\"each\"]\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let _: redis::Value = redis.ask(&["SET", "session:s3cret-0123456789abcdef", "{\"id\": \"7\"}"]).expect("a record");
    let valid = told(&sidegate, &["GET", "/", "-H", "Authorization: Bearer s3cret-0123456789abcdef"]);
    assert_eq!((&valid["session"]["verdict"], &valid["session"]["user"]), (&"valid".into(), &"7".into()));
    assert_eq!((&valid["limits"][0]["remaining"], &valid["cache"]["because"]["word"]), (&9.into(), &"uri-miss".into()));
    assert!(!valid.to_string().contains("s3cret"), "{valid}");
    let (_, said) = explain(&sidegate, &["GET", "/", "-H", "Authorization: Bearer unknown-0123456789abcdef"]);
    let line =
        "session  web: expired, found in bearer, no key session:… (and 24 characters more) in Redis database 0\n";
    assert!(said.contains(&format!("{line}refused  with 401, by the session: ")), "{said}");
    let (_, said) = explain(&sidegate, &["GET", "/"]);
    assert!(said.contains("session  web: absent, looked in bearer\nrefused  with 401, by the session: "), "{said}");
    assert_eq!(app.count(), 0);
}

#[test]
fn what_a_session_lacks_is_named_and_no_value() {
    let (app, redis) = (app(), RedisServer::start());
    let tables = "[session.web]\nformat = \"express\"\nsecrets = [\"a secret\"]\nfrom = [\"bearer\"]\n\
        forward = { X-User-Id = \"@user\", X-Role = \"role\" }\n\
        [[route]]\npath = \"/{*rest}\"\nsession = \"web\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, b"a secret");
    let explained = |id: &str, record: &str| {
        let _: redis::Value = redis.ask(&["SET", &format!("sess:{id}"), record]).expect("a record");
        let signature =
            base64::engine::general_purpose::STANDARD_NO_PAD.encode(aws_lc_rs::hmac::sign(&key, id.as_bytes()));
        explain(&sidegate, &["GET", "/", "-H", &format!("Authorization: Bearer s:{id}.{signature}")]).1
    };
    let said = explained("nobody-0123456789abcdef0123456789", r#"{"cookie":{"x":1},"userId":"s3cret","a\u001b[2J":1}"#);
    let line = "names nobody under passport.user, user_id; the record has: a\\u{1b}[2J, cookie, userId\n";
    assert!(said.contains(line) && !said.contains("s3cret"), "{said}");
    let said = explained("passport-0123456789abcdef01234567", r#"{"cookie":{},"passport":{"user":"5"}}"#);
    assert!(said.contains("valid, found in bearer, user 5, told x-user-id; x-role: no role in the record\n"), "{said}");
    let said = explained("plain-0123456789abcdef0123456789a", r#"{"cookie":{},"user_id":7,"role":"admin"}"#);
    assert!(said.contains("user 7, told x-user-id, x-role\n"), "{said}");
}

#[test]
fn an_explanation_is_no_hit_and_no_miss_of_what_is_near() {
    let (app, redis) = (app(), RedisServer::start());
    let tables =
        "[session.web]\nformat = \"json\"\nfrom = [\"bearer\"]\n[[route]]\npath = \"/{*rest}\"\nsession = \"web\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let _: redis::Value = redis.ask(&["SET", "session:s3cret-0123456789abcdef", "{\"user_id\": 7}"]).expect("a record");
    let field = ("Authorization", "Bearer s3cret-0123456789abcdef");
    until("a login that is remembered", || {
        assert_eq!(sidegate.client().get_with("/", &[field]).status, 200);
        sidegate.metric("sidegate_near_hits_total{kind=\"session\"}") >= 1.0
    });
    let counted =
        || ["hits", "misses"].map(|what| sidegate.metric(&format!("sidegate_near_{what}_total{{kind=\"session\"}}")));
    let before = counted();
    for _ in 0..3 {
        assert_eq!(
            told(&sidegate, &["GET", "/", "-H", "Authorization: Bearer s3cret-0123456789abcdef"])["session"]["user"],
            "7"
        );
        told(&sidegate, &["GET", "/", "-H", "Authorization: Bearer unknown-0123456789abcdef"]);
    }
    assert_eq!(counted(), before);
}

#[test]
fn a_cache_that_only_observes_forwards_and_says_what_it_would_do() {
    let app = app();
    let tables = "[cache.pages]\nmode = \"observe\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    assert_eq!(sidegate.get("/page").status, 200);
    until("a stored page", || told(&sidegate, &["GET", "http://app.test/page"])["cache"].get("stored").is_some());
    let (_, said) = explain(&sidegate, &["GET", "http://app.test/page"]);
    let lines = "\ncache    pages: forwards, as it only observes\n         \
                 it would: answers from the store, because it is stored, and fresh (RFC 9111 §4)\n";
    assert!(said.contains(lines), "{said}");
    let answer = sidegate.client().get_with("/page", &[("Host", "app.test")]);
    assert_eq!(answer.field("x-cache"), Some("BYPASS"));
}

#[test]
fn what_stands_in_for_an_app_that_fails_is_told() {
    let app = Origin::answering(|request| match request.field("x-fail") {
        Some(_) => Reply::text("no").status("503 Service Unavailable"),
        None => Reply::text("x").field("Cache-Control", "max-age=0, stale-if-error=600").field("ETag", "\"1\""),
    });
    let tables = "[cache.pages]\nretry_refresh = \"10 min\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    assert_eq!(sidegate.get("/page").status, 200);
    until("a stored page", || told(&sidegate, &["GET", "http://app.test/page"])["cache"].get("stored").is_some());
    let word = |why: &str, does: &str| {
        let cache = told(&sidegate, &["GET", "http://app.test/page"])["cache"].clone();
        assert_eq!((&cache["does"], &cache["because"]["word"]), (&does.into(), &why.into()));
    };
    word("stale", "asks the app");
    let failing = [("Host", "app.test"), ("X-Fail", "1")];
    let answer = sidegate.client().get_with("/page", &failing);
    assert_eq!((answer.status, answer.field("x-cache")), (200, Some("STALE")));
    word("refresh-failed", "answers from the store");
    let asked = app.count();
    let answer = sidegate.client().get_with("/page", &failing);
    assert!(answer.field("cache-status").is_some_and(|said| said.contains("refresh-failed")));
    assert_eq!(app.count(), asked);
}

#[test]
fn what_a_post_is_depends_on_its_content() {
    let app = app();
    let tables = "[cache.graph]\npost_body = \"4 KiB\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"graph\"\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    let does = |arguments: &[&str]| {
        let json = ["POST", "http://app.test/graphql", "-H", "Content-Type: application/json"];
        told(&sidegate, &[&json, arguments].concat())["cache"].clone()
    };
    assert_eq!(does(&[])["does"], "depends on its content, which is not known: --data TEXT");
    let query = does(&["--data", "{\"query\": \"{ me }\"}"]);
    assert_eq!((&query["does"], &query["because"]["word"]), (&"asks the app".into(), &"uri-miss".into()));
    let write = "passes by; a success invalidates what is stored of its path";
    assert_eq!(does(&["--data", "{\"query\": \"mutation { x }\"}"])["does"], write);
    assert_eq!(app.count(), 0);
}
