//! What becomes of a session that was revoked, and of whoever logs in again.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::sidegate::run;
use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, freeze, until};

const TABLES: &str = r#"
[session.web]
format = "json"
from = ["cookie:session", "query:ticket", "header:X-Ticket"]
user = "id"
forward = { X-User-Id = "id" }
index = true
public = ["/login"]
LINES

[[route]]
path = "/{*rest}"
session = "web"

[[route]]
path = "/maybe"
session = { use = "web", mode = "optional" }

[[route]]
path = "/watched"
session = { use = "web", mode = "observe" }
"#;

/// The field that is a carrier, and what some apps take for it.
const TICKETS: [&str; 3] = ["X-Ticket", "X_Ticket", "X.Ticket"];

/// As Flask-Session: an identifier that a request shows is kept, whether there is such a session or not. Elsewhere it tells what
/// it was shown.
fn app(redis: &RedisServer) -> Origin {
    let (client, made) = (redis.client(), AtomicUsize::new(0));
    Origin::answering(move |request| {
        let cookies = request.field("cookie").unwrap_or_default();
        if request.path() != "/login" {
            let shown: String = TICKETS.iter().filter_map(|name| request.field(name)).collect();
            let told = Reply::text(format!("{} {cookies}{shown}", request.target));
            let told = told.field("Cache-Control", "public, max-age=600");
            return if request.path() == "/novary" { told } else { told.field("Vary", "Cookie") };
        }
        let shown = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
        let new = || format!("made-{}-0123456789", made.fetch_add(1, Ordering::Relaxed));
        let identifier = shown.map_or_else(new, str::to_owned);
        let mut connection = client.get_connection().expect("a connection");
        let key = format!("session:{identifier}");
        redis::cmd("SET").arg(key).arg(r#"{"id":42}"#).arg("EX").arg(600).exec(&mut connection).expect("SET");
        Reply::text("welcome").field("Set-Cookie", &format!("session={identifier}; Path=/"))
    })
}

fn configuration(app: &Origin, redis: &RedisServer, lines: &str) -> Configuration {
    Configuration::of(app).redis(redis).with(&TABLES.replace("LINES", lines))
}

fn ask(sidegate: &Sidegate, target: &str, cookies: &str) -> Answer {
    sidegate.client().get_with(target, &[("Cookie", cookies)])
}

/// The identifier that the login gives.
fn log_in(sidegate: &Sidegate, cookies: &str) -> String {
    let answer = ask(sidegate, "/login", cookies);
    assert_eq!(answer.status, 200, "{answer:?}");
    let given = answer.field("set-cookie").and_then(|line| line.strip_prefix("session=")).expect("a cookie");
    given.split(';').next().unwrap_or_default().to_owned()
}

fn status(sidegate: &Sidegate, identifier: &str) -> u16 {
    ask(sidegate, "/private", &format!("session={identifier}")).status
}

fn listed(sidegate: &Sidegate) -> usize {
    sidegate.ask_admin("/sessions?user=42").json()["sessions"].as_array().map_or(0, Vec::len)
}

fn revoke_all(sidegate: &Sidegate) {
    let (code, said, errors) =
        run(&["sessions", "--admin", sidegate.admin(), "revoke", "--user", "42"], Path::new("."));
    assert!(code == 0 && said.starts_with("revoked "), "{said}{errors}");
}

#[test]
fn who_was_revoked_logs_in_again_at_once_though_the_app_keeps_identifiers() {
    let redis = RedisServer::start();
    let app = app(&redis);
    let [one, other] = [(); 2].map(|()| configuration(&app, &redis, "").start());
    let before = log_in(&one, "theme=dark");
    for sidegate in [&one, &other] {
        assert_eq!(status(sidegate, &before), 200);
    }
    until("it is known", || listed(&one) == 1);
    assert_eq!(log_in(&other, &format!("session={before}")), before, "the app keeps what it is shown");
    revoke_all(&one);
    for sidegate in [&one, &other] {
        until("its end", || status(sidegate, &before) == 401);
    }

    let cookies = format!("theme=dark; session={before}");
    let after = log_in(&other, &cookies);
    assert_ne!(after, before);
    for sidegate in [&one, &other] {
        assert_eq!((status(sidegate, &after), status(sidegate, &before)), (200, 401));
    }
    until("the new one is known", || listed(&one) == 1);

    // Whoever has the old one: not even the app is told, whatever a request that was under way has written there since.
    for record in [None, Some("{}"), Some(r#"{"id":42}"#), Some("no JSON")] {
        for target in ["/maybe", "/watched"] {
            if let Some(record) = record {
                redis.ask::<()>(&["SET", &format!("session:{before}"), record, "EX", "600"]).expect("SET");
            }
            assert_eq!(ask(&one, target, &cookies).text(), format!("{target} theme=dark"), "{record:?}");
            assert_eq!(ask(&one, target, &format!("session={before}")).text(), format!("{target} "), "{record:?}");
            for alike in TICKETS {
                let fields = [("Cookie", &*cookies), (alike, &*before)];
                let answer = one.client().get_with(target, &fields);
                assert_eq!(answer.text(), format!("{target} theme=dark"), "{alike} {record:?}");
            }
            let by_query = ask(&one, &format!("{target}?ticket={before}&page=2"), "theme=dark");
            assert_eq!(by_query.text(), format!("{target}?page=2 theme=dark"), "{record:?}");
            assert_eq!(app.last().field("x-user-id"), None, "{record:?}");
        }
    }
    let whole = format!("theme=dark; session={after}");
    assert_eq!(ask(&one, "/maybe", &whole).text(), format!("/maybe {whole}"));
    let line = one.access_log(|line| line["session_reason"] == "revoked" && line["target"] == "/maybe");
    assert_eq!((line["session"].as_str(), line["status"].as_u64()), (Some("expired"), Some(200)));
}

#[test]
fn what_is_stored_for_a_request_as_it_came_is_not_sent_to_one_that_was_revoked() {
    let redis = RedisServer::start();
    let app = app(&redis);
    for (by, path, key) in [
        ("cookie", "/page", ""),
        ("cookie", "/novary", "key = [\"field:Cookie\"]\n"),
        ("field", "/novary", "key = [\"field:X-Ticket\"]\n"),
        ("query", "/novary", ""),
    ] {
        let route = format!(
            "[[route]]\npath = \"{path}\"\ncache = \"pages\"\nsession = {{ use = \"web\", mode = \"optional\" }}\n"
        );
        let cache = format!("[cache.pages]\nttl = \"60s\"\n{key}\n{route}");
        let sidegate = configuration(&app, &redis, "forward_query = true").with(&cache).start();
        let identifier = log_in(&sidegate, "");
        assert_eq!(status(&sidegate, &identifier), 200);
        // What names the session, and nothing else.
        let (target, field) = match by {
            "query" => (format!("{path}?ticket={identifier}"), None),
            "field" => (path.to_owned(), Some(("X-Ticket", identifier.clone()))),
            _ => (path.to_owned(), Some(("Cookie", format!("session={identifier}")))),
        };
        let ask_again = || {
            let fields: Vec<_> = field.iter().map(|(name, value)| (*name, value.as_str())).collect();
            sidegate.client().get_with(&target, &fields)
        };
        until("a hit", || ask_again().field("x-cache") == Some("HIT"));
        assert!(ask_again().text().contains(&identifier), "{by}");
        until("it is known", || listed(&sidegate) == 1);
        revoke_all(&sidegate);
        until("its end", || status(&sidegate, &identifier) == 401);
        assert_eq!(ask_again().text(), format!("{path} "), "by {by}");
        until("what nobody gets is stored, too", || ask(&sidegate, path, "").field("x-cache") == Some("HIT"));
        assert_eq!(ask(&sidegate, path, "").text(), format!("{path} "), "by {by}");
        redis.ask::<()>(&["FLUSHALL"]).expect("FLUSHALL");
    }
}

#[test]
fn a_session_that_was_revoked_is_not_believed_while_redis_is_away() {
    let mut redis = RedisServer::start();
    let app = app(&redis);
    let sidegate = configuration(&app, &redis, "on_outage = \"grace\"\ngrace = \"10m\"").start();
    let [revoked, other] = [(); 2].map(|()| log_in(&sidegate, ""));
    for identifier in [&revoked, &other] {
        assert_eq!(status(&sidegate, identifier), 200);
    }
    until("both are known", || listed(&sidegate) == 2);
    // As if a request that was under way had written the record again before anybody asked after it.
    let sessions = sidegate.ask_admin("/sessions?user=42").json();
    let handles = sessions["sessions"].as_array().expect("a list").iter();
    let handles: Vec<_> = handles.map(|session| session["handle"].as_str().expect("a handle").to_owned()).collect();
    let record_of = |handle: &String| -> String {
        redis.ask(&["HGET", &format!("sidegate:session:{{{handle}}}"), "record"]).expect("HGET")
    };
    let handle = handles.iter().find(|handle| record_of(handle).ends_with(&revoked)).expect("its handle");
    redis.ask::<()>(&["SET", &format!("sidegate:revoked:{{{handle}}}"), "1", "EX", "600"]).expect("SET");
    redis.ask::<()>(&["CONFIG", "RESETSTAT"]).expect("RESETSTAT");
    for identifier in [&revoked, &other] {
        redis.ask::<()>(&["EXPIRE", &format!("session:{identifier}"), "500"]).expect("EXPIRE");
    }
    until("both asked about again", || {
        let said: String = redis.ask(&["INFO", "commandstats"]).expect("INFO");
        said.contains("cmdstat_getrange:calls=2")
    });
    // The answers are on their way.
    until("the other one believed", || {
        let frozen = freeze(&redis);
        let seen = status(&sidegate, &other);
        drop(frozen);
        seen == 200
    });
    redis.kill();
    for _ in 0..8 {
        assert_eq!((status(&sidegate, &other), status(&sidegate, &revoked)), (200, 503));
    }
}
