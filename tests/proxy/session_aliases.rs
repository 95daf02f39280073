//! One request, two readers: what the app may read in another way than the gate does is not let through as what the gate read.

use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, until};

const OWN: &str = "owner-0123456789abcdef";
const STOLEN: &str = "stolen-0123456789abcdef";

const SESSION: &str = r#"
[session.web]
format = "json"
from = ["bearer", "query:token", "cookie:my_session"]
user = "id"
forward = { X-User-Id = "id" }
"#;

/// A Redis with two logins.
fn redis() -> RedisServer {
    let redis = RedisServer::start();
    for (id, record) in [(OWN, r#"{"id":1,"role":"user"}"#), (STOLEN, r#"{"id":2,"role":"admin"}"#)] {
        redis.ask::<()>(&["SET", &format!("session:{id}"), record, "EX", "600"]).expect("a record");
    }
    redis
}

fn started(redis: &RedisServer, app: &Origin, routes: &str) -> Sidegate {
    Configuration::of(app).redis(redis).with(&format!("{SESSION}{routes}")).start()
}

const ALL: &str = "[[route]]\npath = \"/{*rest}\"\nsession = \"web\"\n";

#[test]
fn a_cookie_that_some_app_reads_beside_the_one_that_was_verified_is_refused() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app, ALL);
    let status = |line: &str| sidegate.client().get_with("/x", &[("Cookie", line)]).status;
    for line in [
        "my.session=B; my_session=A",
        "my[session=B; my_session=A",
        "my_session=A; my_session[]",
        "my_session=A; my_session",
        "my_session[]=B; my_session=A",
        "a=b my_session=B; my_session=A",
        "a=b\tmy_session=B; my_session=A",
        "my_session=A; a=b,my_session=B",
        ",my_session=B; my_session=A",
        "[my_session=B; my_session=A",
        "$Version=1; a=b, my_session=B; my_session=A",
        "a=\"b\"my_session=B; my_session=A",
        "%6dy_session=B; my_session=A",
    ] {
        assert_eq!(status(&line.replace("=A", &format!("={OWN}")).replace("=B", &format!("={STOLEN}"))), 401, "{line}");
    }
    assert_eq!(app.count(), 0);
    for line in [
        "my_session=A",
        "_ga=GA1.1.17.9; my_session=A; other_my_session=B; not-my_session=B; my_session_id=B",
        "a=1&my_session=B; my_session=A; b=/x?my_session=B; MY_SESSION=B",
        "consent=Fri Nov 21 2025 10:00:00 GMT+0100 (CET)&v=1; prefs={\"my_session\":1}; my_session=A",
    ] {
        let line = line.replace("=A", &format!("={OWN}")).replace("=B", &format!("={STOLEN}"));
        assert_eq!(status(&line), 200, "{line}");
        assert_eq!(app.last().field("x-user-id"), Some("1"));
    }
}

#[test]
fn a_parameter_that_some_app_reads_beside_the_one_that_was_verified_is_refused() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app, ALL);
    for query in [
        "token=A&%20token=B",
        "token=A&+token=B",
        "token=A&token%00x=B",
        "token=A&token[]=B",
        "token=A&%5Btoken%5D=B",
        "a=1;token=B&token=A",
        "token=A&x=1;%74oken=B",
        "?token=B&token=A",
        "token=A&?token=B",
        "token=A&.token=B",
    ] {
        let query = query.replace("=A", &format!("={OWN}")).replace("=B", &format!("={STOLEN}"));
        assert_eq!(sidegate.get(&format!("/x?{query}")).status, 401, "{query}");
    }
    assert_eq!(app.count(), 0);
    assert_eq!(sidegate.get(&format!("/x?a=token&tokens=1&xtoken=2&token={OWN}")).status, 200);
}

#[test]
fn a_bearer_that_is_not_spelt_as_one_does_not_leave_it_to_the_next_carrier() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app, ALL);
    let cookie = format!("my_session={OWN}");
    let by = |value: &str| sidegate.client().get_with("/x", &[("Authorization", value), ("Cookie", &cookie)]).status;
    for value in ["Bearer\t@", "Basic x, Bearer @", "Basic x,Bearer\t@", "xBearer @", "bearer:@"] {
        assert_eq!(by(&value.replace('@', STOLEN)), 401, "{value}");
    }
    assert_eq!(app.count(), 0);
    assert_eq!((by("Basic dTpw"), by("Bearer")), (200, 200), "another scheme, and no token, leave it to the cookie");
    assert_eq!(app.last().field("x-user-id"), Some("1"));
}

/// An app that reads a session's field as CGI does, and answers its user.
fn personal() -> Origin {
    Origin::answering(|request| {
        let sent = |name: &str| request.field(name).map(str::to_owned);
        let user = sent("x-session-token").or_else(|| sent("x_session_token")).unwrap_or_else(|| "nobody".into());
        Reply::text(format!("for {user}"))
    })
}

#[test]
fn an_answer_to_a_session_field_in_another_spelling_is_not_stored_for_all() {
    let app = personal();
    let redis = redis();
    let tables = "[session.tok]\nformat = \"json\"\nfrom = \"header:X-Session-Token\"\n\
                  [cache.pages]\nttl = \"60s\"\n\
                  [[route]]\npath = \"/p/{*rest}\"\ncache = \"pages\"\n\
                  [[route]]\npath = \"/own/{*rest}\"\nsession = \"tok\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    for spelling in ["X_Session_Token", "x-session_token", "X-Session-Token"] {
        let target = format!("/p/{spelling}");
        let attacker = sidegate.client().get_with(&target, &[(spelling, "attacker")]);
        assert_ne!(attacker.field("X-Cache"), Some("HIT"));
        assert_eq!(sidegate.get(&target).text(), "for nobody", "{spelling}");
        until("what is for all is stored", || {
            let answer = sidegate.get(&target);
            assert_eq!(answer.text(), "for nobody", "{spelling}");
            answer.field("X-Cache") == Some("HIT")
        });
    }
}

#[test]
fn an_answer_to_a_get_that_says_another_method_is_neither_stored_nor_taken_from_the_store() {
    let app = Origin::answering(|request| match request.fields.0.iter().find(|(name, _)| name.starts_with("x")) {
        Some((name, value)) if name.contains("ethod") => Reply::text(format!("as {value}")),
        _ => Reply::text("plain"),
    });
    let tables = "[cache.pages]\nttl = \"60s\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    for field in ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "X-HTTP-Method", "X-Method-Override"] {
        let target = format!("/{field}");
        let ask = || -> Answer { sidegate.client().get_with(&target, &[(field, "DELETE")]) };
        ask();
        let plain = sidegate.get(&target);
        assert_ne!(plain.field("X-Cache"), Some("HIT"), "{field}: nothing was stored");
        until("the plain one is stored", || sidegate.get(&target).field("X-Cache") == Some("HIT"));
        let before = app.count();
        ask();
        assert_eq!(app.count(), before + 1, "{field}: the app was asked");
    }
}

#[test]
fn a_demand_on_one_method_holds_for_who_says_that_method_otherwise() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let routes = format!(
        "[[route]]\npath = \"/items/{{id}}\"\nmethods = [\"DELETE\"]\n\
         session = {{ use = \"web\", require = {{ role = \"admin\" }} }}\n\
         {ALL}"
    );
    let sidegate = started(&redis, &app, &routes);
    let ask = |id: &str, method: &str, target: &str, field: Option<&str>| {
        let cookie = format!("my_session={id}");
        let mut fields = vec![("Cookie", &*cookie)];
        fields.extend(field.map(|field| (field, "delete")));
        sidegate.client().ask(method, target, &fields, b"").status
    };
    assert_eq!(ask(OWN, "DELETE", "/items/7", None), 403);
    for field in ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "X-HTTP-Method", "X-Method-Override"] {
        assert_eq!(ask(OWN, "POST", "/items/7", Some(field)), 403, "{field}");
        assert_eq!(ask(STOLEN, "POST", "/items/7", Some(field)), 200, "{field}: an admin may");
        assert_eq!(ask(OWN, "POST", "/elsewhere", Some(field)), 200, "{field}: no route goes by the method there");
    }
    for query in ["_method=DELETE", "a=1&%5fmethod=delete", ".method=DELETE"] {
        assert_eq!(ask(OWN, "POST", &format!("/items/7?{query}"), None), 403, "{query}");
        assert_eq!(ask(OWN, "GET", &format!("/items/7?{query}"), None), 403, "{query}: WordPress does so for GET, too");
    }
    assert_eq!(ask(OWN, "POST", "/items/7", None), 200);
}

#[test]
fn words_that_are_no_methods_hide_none() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let routes = "[[route]]\npath = \"/mo/{*rest}\"\nmethods = [\"DELETE\"]\n\
                  session = { use = \"web\", require = { role = \"admin\" } }\n\
                  [[route]]\npath = \"/mo/{*rest}\"\nmethods = [\"BREW\"]\n\
                  [[route]]\npath = \"/{*rest}\"\n";
    let sidegate = started(&redis, &app, routes);
    let ask = |words: &str| {
        let (cookie, field) = (format!("my_session={OWN}"), ("X-HTTP-Method", words));
        sidegate.client().ask("POST", "/mo/1?_method=DELETE", &[("Cookie", &cookie), field], b"").status
    };
    assert_eq!(ask("A,B,C,D,E,F,G,H"), 403);
    assert_eq!(ask(&"A,".repeat(500)), 403);
    assert_eq!(ask("GET,HEAD,PUT,OPTIONS,TRACE,PATCH,CONNECT"), 403);
    assert_eq!(ask("GET,HEAD,PUT,OPTIONS,TRACE,PATCH,CONNECT,BREW"), 400, "more than are looked at");
    assert_eq!(app.count(), 0);
}

#[test]
fn routes_that_demand_the_same_of_a_login_leave_a_request_to_the_route_of_its_own_method() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let tables = "[limit.posts]\nkey = \"address\"\nquota = \"6 per hour\"\n\
                  [limit.deletes]\nkey = \"address\"\nquota = \"1000 per hour\"\n\
                  [cache.pages]\nttl = \"60s\"\n\
                  [[route]]\npath = \"/login\"\nmethods = [\"POST\"]\nlimits = [\"posts\"]\n\
                  [[route]]\npath = \"/login\"\nmethods = [\"DELETE\"]\nlimits = [\"deletes\"]\nmax_body = \"1 KiB\"\n\
                  [[route]]\npath = \"/login\"\nmethods = [\"GET\"]\nsession = { use = \"web\", mode = \"optional\" }\n\
                  [[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    let sidegate = started(&redis, &app, tables);
    let field = |said| [("X-HTTP-Method-Override", said)];
    let post = |target: &str, said| sidegate.client().ask("POST", target, &field(said), b"").status;
    for said in ["DELETE", "GET", "PUT", "POST", "bank transfer"] {
        assert_eq!(post("/login", said), 200, "{said}");
    }
    assert_eq!(post("/login?_method=GET", "PATCH"), 200);
    assert_eq!(post("/login?_method=GET", "DELETE"), 429, "every one of them counted as the POST that it is");
    assert_eq!(sidegate.get("/login?_method=DELETE").status, 200);
}

#[test]
fn a_method_whose_route_demands_another_thing_of_a_login_is_refused() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let route = |method: &str, demand: &str| {
        let session = format!("session = {{ use = \"web\", require = {{ {demand} }} }}");
        format!("[[route]]\npath = \"/{{*rest}}\"\nmethods = [\"{method}\"]\n{session}\n")
    };
    let demands = [("POST", "role = \"admin\""), ("DELETE", "id = \"2\""), ("PUT", "role = \"admin\", id = \"2\"")];
    let routes = demands.map(|(method, demand)| route(method, demand)).concat();
    let sidegate = started(&redis, &app, &routes);
    let cookie = format!("my_session={STOLEN}");
    let ask = |said| {
        let fields = [("Cookie", &*cookie), ("X-HTTP-Method-Override", said)];
        sidegate.client().ask("POST", "/x", &fields, b"").status
    };
    assert_eq!((ask("DELETE"), ask("POST"), ask("PUT"), ask("DELETE,PUT"), ask("PATCH")), (400, 200, 200, 200, 405));
    assert_eq!(app.count(), 3);
}

#[test]
fn a_text_that_the_app_reads_and_json_does_not_know_locks_nobody_out() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = started(&redis, &app, ALL);
    let deep = format!("{}{}", "[".repeat(900), "]".repeat(900));
    for (name, text) in
        [("emoji", "\"\\ud83d\""), ("nan", "NaN"), ("infinity", "-Infinity"), ("great", "1e999"), ("deep", &*deep)]
    {
        let id = format!("{name}-0123456789abcdef");
        let record = format!("{{\"nick\":{text},\"id\":7}}");
        redis.ask::<()>(&["SET", &format!("session:{id}"), &record, "EX", "600"]).expect("a record");
        let answer = sidegate.client().get_with("/x", &[("Cookie", &format!("my_session={id}"))]);
        assert_eq!((answer.status, app.last().field("x-user-id")), (200, Some("7")), "{name}");
    }
}
