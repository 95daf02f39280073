//! Which policy a path meets, and what a route does to requests and answers besides its policies.

use crate::harness::{Answer, Configuration, Origin, Reply, Sidegate};

/// A limited area below `/admin`, and the rest.
const GUARDED: &str = r#"
[limit.guard]
key = "route"
quota = "1000 per hour"

[[route]]
path = "/admin/{*rest}"
limits = ["guard"]

[[route]]
path = "/{*rest}"
"#;

fn is_guarded(answer: &Answer) -> bool {
    answer.field("X-RateLimit-Limit") == Some("1000")
}

fn lines<'a>(answer: &'a Answer, name: &'a str) -> Vec<&'a str> {
    answer.fields.all(name).collect()
}

/// What a client's `Vary` lines come to.
fn vary(answer: &Answer) -> Vec<String> {
    answer.fields.all("Vary").map(|line| line.to_ascii_lowercase()).collect()
}

#[test]
fn a_path_that_apps_read_in_several_ways_is_refused_logged_and_counted() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).with(GUARDED).start();
    for (target, reason) in [
        ("/admin%2fx", "encoded slash"),
        ("/x/..%2fadmin/y", "encoded slash"),
        ("/%61dmin/x", "needless percent-encoding"),
        ("/admin./x", "dot or space at the edge of a segment"),
        ("/admin%20/x", "dot or space at the edge of a segment"),
        ("/admin;x/y", "semicolon"),
        ("/..;/admin", "semicolon"),
        ("/x/../admin/y", "dot segment"),
        ("/%2561dmin/x", "double encoding"),
        ("/%252e%252e/admin", "double encoding"),
        ("/%c0%afadmin", "overlong UTF-8"),
        ("/%ef%bc%8fadmin", "full-width character"),
        ("/admin%3fx", "encoded delimiter"),
        ("/admin%00", "NUL"),
        ("/admin%0a", "control character"),
        ("/a%u002fb", "broken percent-encoding"),
    ] {
        let answer = sidegate.get(target);
        assert_eq!(answer.status, 400, "{target}");
        assert!(answer.text().contains(reason), "{target}: {}", answer.text());
        let line = sidegate.access_log(|line| line["target"] == target);
        assert_eq!((&line["local_reply"], &line["local_reply_reason"]), (&"bad-request".into(), &reason.into()));
    }
    assert_eq!(app.count(), 0);
    assert_eq!(sidegate.metric("sidegate_ambiguous_paths_total{reason=\"encoded slash\"}"), 2.0);
    for (target, guarded) in
        [("/admin/a%2Fb", true), ("//admin//x", true), ("/x/a%2Fb;c", false), ("/a/caf%c3%a9%20x", false)]
    {
        let answer = sidegate.get(target);
        assert_eq!((answer.status, is_guarded(&answer)), (200, guarded), "{target}");
        assert_eq!(app.last().target, target, "the app gets the bytes as sent");
    }
}

#[test]
fn the_strictest_of_the_routes_that_a_path_may_meet_stands_for_all_of_them() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("path_ambiguity = \"strictest\"").with(GUARDED).start();
    for target in ["/admin%2fx", "/x/..%2fadmin/y", "/%61dmin/x", "/admin./x", "/%2561dmin/x"] {
        let answer = sidegate.get(target);
        assert_eq!((answer.status, is_guarded(&answer)), (200, true), "{target}");
        assert_eq!(app.last().target, target);
    }
    assert_eq!(sidegate.get("/admin%00").status, 400);
    // Neither of these is as strict as the other.
    let tables = format!("{GUARDED}[limit.other]\nkey = \"address\"\nquota = \"1 per hour\"\n");
    let tables = tables.replace("path = \"/{*rest}\"", "path = \"/{*rest}\"\nlimits = [\"other\"]");
    let sidegate = Configuration::of(&app).server("path_ambiguity = \"strictest\"").with(&tables).start();
    assert_eq!(sidegate.get("/admin%2fx").status, 400);
}

#[test]
fn case_counts_where_the_app_tells_it() {
    let app = Origin::saying("app");
    for (case, guarded) in [("sensitive", false), ("insensitive", true)] {
        let sidegate = Configuration::of(&app).server(&format!("path_case = {case:?}")).with(GUARDED).start();
        let answer = sidegate.get("/ADMIN/x");
        assert_eq!((answer.status, is_guarded(&answer)), (200, guarded), "{case}");
        assert_eq!(app.last().target, "/ADMIN/x");
    }
}

#[test]
fn a_write_takes_back_what_is_stored_in_any_case() {
    let app = Origin::answering(|_| Reply::text("item").field("Cache-Control", "max-age=60"));
    let tables = "[cache.pages]\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).server("path_case = \"insensitive\"").with(tables).start();
    let outcome = |target: &str| sidegate.get(target).field("X-Cache").unwrap_or_default().to_owned();
    assert_eq!((outcome("/items/7"), outcome("/Items/7")), ("MISS".into(), "MISS".into()));
    assert_eq!((outcome("/items/7"), outcome("/Items/7")), ("HIT".into(), "HIT".into()));
    assert_eq!(sidegate.client().ask("PUT", "/ITEMS/7", &[], b"x").status, 200);
    assert_eq!((outcome("/items/7"), outcome("/Items/7")), ("MISS".into(), "MISS".into()));
}

#[test]
fn a_route_may_say_that_its_app_takes_an_encoded_slash_for_text() {
    let app = Origin::saying("app");
    let tables = "[[route]]\npath = \"/projects/{id}\"\nencoded_slash = \"text\"\n[[route]]\npath = \"/{*rest}\"\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    assert_eq!(sidegate.get("/projects/group%2Fname").status, 200);
    assert_eq!(app.last().target, "/projects/group%2Fname");
    assert_eq!(sidegate.get("/projects/..%2Fname").status, 400);
}

#[test]
fn the_app_gets_another_prefix_host_and_fields_and_the_client_gets_its_own_back() {
    let app = Origin::answering(|request| {
        let location = if request.target.contains("away") { "https://elsewhere.example/x" } else { "/v2/users/7?a" };
        Reply::text("there").status("201 Created").field("Location", location)
    });
    let sidegate = Configuration::of(&app)
        .with(
            r#"
[[route]]
path = "/api/{*rest}"
strip_prefix = "/api"
add_prefix = "/v2"
rewrite_location = true
set_host = "upstream"
request_fields = { set = { X-Site = "one", Authorization = "Basic hunter2" }, remove = ["Cookie"] }

[[route]]
path = "/old/{id}/{*rest}"
rewrite = "/new/{rest}/{id}"
set_host = "app.internal:8443"
"#,
        )
        .start();
    let fields = [("X-Site", "spoofed"), ("Cookie", "a=b"), ("Connection", "X-Site")];
    let answer = sidegate.client().ask("POST", "/api//users/a%2Fb?q=%2f", &fields, b"x");
    assert_eq!((answer.status, answer.field("Location")), (201, Some("/api/users/7?a")));
    let seen = app.last();
    assert_eq!(seen.target, "/v2/users/a%2Fb?q=%2f");
    assert_eq!(seen.field("Host"), Some(&*app.address().to_string()));
    assert_eq!((seen.field("X-Site"), seen.field("Cookie")), (Some("one"), None));
    assert_eq!(seen.fields.all("Authorization").collect::<Vec<_>>(), ["Basic hunter2"]);
    assert!(!sidegate.errors().contains("hunter2") && !sidegate.output().contains("hunter2"));
    assert!(seen.field("X-Forwarded-Host").is_some_and(|host| host != app.address().to_string()));
    assert_eq!(sidegate.get("/api/away").field("Location"), Some("https://elsewhere.example/x"));
    for target in ["/api", "/api/"] {
        assert_eq!(sidegate.get(target).status, 201);
        assert_eq!(app.last().target, target.replace("/api", "/v2"));
    }
    assert_eq!(sidegate.get("/old/7/a/b?x").status, 201);
    assert_eq!((&*app.last().target, app.last().field("Host")), ("/new/a/b/7?x", Some("app.internal:8443")));
    let before = app.count();
    for target in ["/api/x/../y", "/api/..%2fx", "/api/%2fevil.example/", "/api/..;/x"] {
        assert_eq!(sidegate.get(target).status, 400, "{target}");
    }
    assert_eq!(app.count(), before);
}

#[test]
fn stored_responses_and_invalidation_go_by_the_clients_view_of_a_rewritten_path() {
    let app = Origin::answering(|request| match &*request.method {
        "POST" => Reply::text("").status("201 Created").field("Location", "/users/7"),
        _ => Reply::text(request.target.clone()).field("Cache-Control", "max-age=60"),
    });
    let sidegate = Configuration::of(&app)
        .with(
            r#"
[cache.pages]

[[route]]
path = "/api/{*rest}"
strip_prefix = "/api"
rewrite_location = true
cache = "pages"

[[route]]
path = "/{*rest}"
cache = "pages"
"#,
        )
        .start();
    let outcomes = |targets: &[&str]| -> Vec<String> {
        targets.iter().map(|target| sidegate.get(target).field("X-Cache").unwrap_or_default().to_owned()).collect()
    };
    let both = ["/api/users/7", "/users/7"];
    assert_eq!(outcomes(&both), ["MISS", "MISS"]);
    assert_eq!(outcomes(&both), ["HIT", "HIT"]);
    // The app names `/users/7`; to the client, and to the cache, that is `/api/users/7`.
    let answer = sidegate.client().ask("POST", "/api/users", &[], b"");
    assert_eq!(answer.field("Location"), Some("/api/users/7"));
    assert_eq!(outcomes(&both), ["MISS", "HIT"]);
}

#[test]
fn fields_are_set_on_every_answer_of_a_route_and_refusals_keep_their_own() {
    let app = Origin::answering(|_| {
        Reply::text("hello")
            .field("Server", "legacy/1.0")
            .field("X-Powered-By", "PHP/5")
            .field("Link", "</a>")
            .field("ETag", "\"1\"")
            .field("Cache-Control", "max-age=60")
    });
    let sidegate = Configuration::of(&app)
        .with(
            r#"
[limit.few]
key = "address"
quota = "4 per hour"

[cache.pages]

[[route]]
path = "/{*rest}"
limits = ["few"]
cache = "pages"

[route.response_fields]
set = { Strict-Transport-Security = "max-age=63072000", Cache-Control = "public, max-age=5" }
add = { Link = "</b>" }
remove = ["Server", "X-Powered-By"]
"#,
        )
        .start();
    let checked = |answer: &Answer, status: u16, cache: &str| {
        assert_eq!((answer.status, answer.field("X-Cache")), (status, Some(cache)));
        assert_eq!(answer.field("Strict-Transport-Security"), Some("max-age=63072000"));
        assert_eq!(lines(answer, "Cache-Control"), ["public, max-age=5"]);
        assert_eq!((answer.field("Server"), answer.field("X-Powered-By")), (None, None));
    };
    let fresh = sidegate.get("/");
    checked(&fresh, 200, "MISS");
    assert_eq!(lines(&fresh, "Link"), ["</a>", "</b>"]);
    let stored = sidegate.get("/");
    checked(&stored, 200, "HIT");
    assert_eq!(lines(&stored, "Link"), ["</a>", "</b>"], "what is stored stays as the app sent it");
    checked(&sidegate.client().get_with("/", &[("If-None-Match", "\"1\"")]), 304, "HIT");
    assert_eq!(app.count(), 1);
    sidegate.get("/");
    let refused = sidegate.get("/");
    assert_eq!((refused.status, refused.field("Cache-Control")), (429, Some("no-store")));
    assert_eq!(refused.field("Strict-Transport-Security"), Some("max-age=63072000"));
    assert_eq!(lines(&refused, "Link"), ["</b>"]);
}

/// For pages of one origin and of those below another, with cookies; a read that is stored and limited.
const SHARED: &str = r#"
[cors.spa]
origins = ["https://app.example.com", "https://*.example.org"]
methods = ["GET", "PUT"]
fields = ["Content-Type", "X-Token"]
expose = ["X-RateLimit-Remaining"]
credentials = true
max_age = "5m"

[limit.few]
key = "address"
quota = "3 per hour"

[cache.pages]

[[route]]
path = "/items/{id}"
methods = ["GET", "PUT"]
cors = "spa"
limits = ["few"]
cache = "pages"

[[route]]
path = "/{*rest}"
"#;

fn preflight(sidegate: &Sidegate, target: &str, origin: &str, method: &str) -> Answer {
    let fields = [("Origin", origin), ("Access-Control-Request-Method", method)];
    sidegate.client().ask("OPTIONS", target, &fields, b"")
}

#[test]
fn a_preflight_is_answered_before_limits_for_listed_origins_only() {
    let app = Origin::saying("the app's own");
    let sidegate = Configuration::of(&app).with(SHARED).start();
    for _ in 0..5 {
        let answer = preflight(&sidegate, "/items/7", "https://a.example.org", "PUT");
        assert_eq!((answer.status, answer.content.len()), (204, 0));
        assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("https://a.example.org"));
        assert_eq!(answer.field("Access-Control-Allow-Methods"), Some("GET, PUT"));
        assert_eq!(answer.field("Access-Control-Allow-Headers"), Some("content-type, x-token"));
        assert_eq!(answer.field("Access-Control-Allow-Credentials"), Some("true"));
        assert_eq!(answer.field("Access-Control-Max-Age"), Some("300"));
        assert_eq!(vary(&answer), ["origin"]);
        assert_eq!(answer.field("X-RateLimit-Limit"), None);
    }
    let stranger = preflight(&sidegate, "/items/7", "https://evil.example", "PUT");
    assert_eq!((stranger.status, stranger.field("Access-Control-Allow-Origin")), (204, None));
    assert_eq!(vary(&stranger), ["origin"]);
    assert_eq!(app.count(), 0);
    // Where nothing is said about other origins, and for methods that are not there, OPTIONS is what it always was.
    assert_eq!(preflight(&sidegate, "/other", "https://app.example.com", "PUT").text(), "the app's own");
    assert_eq!(preflight(&sidegate, "/items/7", "https://app.example.com", "DELETE").text(), "the app's own");
    let line = sidegate.access_log(|line| line["local_reply"] == "cors-preflight");
    assert_eq!(line["route"], "GET,PUT /items/{id}");
}

#[test]
fn one_stored_response_serves_all_origins_and_a_refusal_can_be_read_too() {
    let app = Origin::answering(|_| {
        Reply::text("item")
            .field("Cache-Control", "max-age=60")
            .field("Access-Control-Allow-Origin", "https://old.example")
    });
    let sidegate = Configuration::of(&app).with(SHARED).start();
    let asked = |origin: Option<&str>| {
        let fields: Vec<(&str, &str)> = origin.map(|origin| ("Origin", origin)).into_iter().collect();
        sidegate.client().get_with("/items/7", &fields)
    };
    for (origin, allowed, cache) in [
        (Some("https://app.example.com"), Some("https://app.example.com"), "MISS"),
        (Some("https://evil.example"), None, "HIT"),
        (None, None, "HIT"),
    ] {
        let answer = asked(origin);
        assert_eq!((answer.status, answer.field("X-Cache")), (200, Some(cache)));
        assert_eq!(answer.field("Access-Control-Allow-Origin"), allowed);
        assert_eq!(answer.field("Access-Control-Expose-Headers").is_some(), allowed.is_some());
        assert_eq!(vary(&answer), ["origin"]);
    }
    let refused = asked(Some("https://b.example.org"));
    assert_eq!((refused.status, app.count()), (429, 1));
    assert_eq!(refused.field("Access-Control-Allow-Origin"), Some("https://b.example.org"));
}

#[test]
fn everybodys_pages_may_read_what_is_open_to_all() {
    let app = Origin::saying("open");
    let tables = "[cors.open]\norigins = [\"*\"]\n[[route]]\npath = \"/{*rest}\"\ncors = \"open\"\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    let answer = sidegate.client().get_with("/", &[("Origin", "https://anybody.example")]);
    assert_eq!(answer.field("Access-Control-Allow-Origin"), Some("*"));
    assert_eq!((answer.field("Vary"), answer.field("Access-Control-Allow-Credentials")), (None, None));
}
