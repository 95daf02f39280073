//! Web cache deception and poisoning: nobody gets stored what was made for somebody else, or what somebody else chose.
//!
//! The app is as careless as apps are: it takes a path for what it may mean, says nothing of caching, and puts into its
//! answers whatever a request says.

use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, Sidegate, until};

const TABLES: &str = r#"
[cache.pages]
ttl = "60s"

[cache.assets]
ttl = "60s"
cookies = "ignore"

[[route]]
path = "/{*rest}"
cache = "pages"

[[route]]
path = "/assets/{*rest}"
cache = "assets"

[[route]]
path = "/account/{*rest}"

[[route]]
path = "/account"
"#;

/// The path as a framework may read it: decoded, without parameters, dot segments, empty segments or case.
fn as_a_framework_reads(target: &str) -> String {
    let path = target.split('?').next().unwrap_or_default();
    let mut decoded = String::new();
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        decoded.push_str(before);
        match after.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte as char);
                rest = &after[2..];
            }
            None => {
                decoded.push('%');
                rest = after;
            }
        }
    }
    decoded.push_str(rest);
    let cut = decoded.split(['\0', '?', '#', '\n']).next().unwrap_or_default().replace('\\', "/");
    let mut segments: Vec<&str> = Vec::new();
    for segment in cut.split('/').map(|segment| segment.split(';').next().unwrap_or_default()) {
        match segment {
            "" | "." => {}
            ".." => drop(segments.pop()),
            segment => segments.push(segment),
        }
    }
    format!("/{}", segments.join("/").to_ascii_lowercase())
}

/// Answers `/account…`, as it reads it, with who asks; everything else alike for all.
fn app() -> Origin {
    Origin::answering(|request| {
        if as_a_framework_reads(&request.target).starts_with("/account") {
            let who = request.field("cookie").or(request.field("authorization")).unwrap_or("nobody");
            return Reply::text(format!("the account of {who}"));
        }
        Reply::text("for all")
    })
}

/// One route for everything: no path means another route, so that none is refused.
const ONE_ROUTE: &str = "[cache.pages]\nttl = \"60s\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";

fn over_both(app: &Origin, test: impl Fn(&Sidegate)) {
    with_tables(app, TABLES, test);
}

fn with_tables(app: &Origin, tables: &str, test: impl Fn(&Sidegate)) {
    test(&Configuration::of(app).with(tables).start());
    let redis = RedisServer::start();
    test(&Configuration::of(app).redis(&redis).with(tables).start());
}

/// Asks for another page until it comes from the store: what was to be stored before it has been by then.
fn barrier(client: &mut Client, number: usize) {
    let target = format!("/assets/barrier/{number}");
    until("the barrier from the store", || client.get(&target).field("x-cache") == Some("HIT"));
}

#[test]
fn no_path_that_an_app_may_take_for_the_account_is_stored_whatever_its_end_looks_like() {
    let app = app();
    let targets = [
        "/account/x.css",
        "/account/x.css?v=1",
        "/account/x.css/",
        "/ACCOUNT/x.css",
        "/account/.css",
        "/account/%2e%2e/account/x.css",
        "/account/a/..%2fx.css",
        "/account%2Fx.css",
        "/account%2fx.css",
        "/account;x.css",
        "/account;/x.css",
        "/account%3bx.css",
        "/account%3Bx.css",
        "/account%23x.css",
        "/account%3fx.css",
        "/account%00x.css",
        "/account%0ax.css",
        "/account%5cx.css",
        "//account/x.css",
        "/.//account/x.css",
        "/./account/x.css",
        "/assets/../account/x.css",
        "/assets/%2e%2e/account/x.css",
        "/assets/..%2faccount/x.css",
        "/assets/..%2Faccount%2Fx.css",
        "/assets/..%5caccount%5cx.css",
        "/assets/..;/account/x.css",
        "/assets/%2e%2e%2faccount",
        "/assets//../account/x.css",
        "/assets/x/../../account/x.css",
        "/%61ccount/x.css",
        "/accoun%74/x.css",
    ];
    let steals_nothing = |sidegate: &Sidegate| {
        let mut client = sidegate.client();
        let mut reached = 0;
        for (number, target) in targets.iter().enumerate() {
            for (name, value) in [("Cookie", "session=victim"), ("Authorization", "Bearer victim")] {
                // A refusal may close the connection.
                let victims = sidegate.client().get_with(target, &[(name, value)]);
                assert_ne!(victims.field("x-cache"), Some("HIT"), "{target}");
                reached += usize::from(victims.text().contains("victim"));
                barrier(&mut client, 2 * number + usize::from(name == "Cookie"));
                for fields in [&[][..], &[("Cookie", "session=other")], &[("Authorization", "Bearer other")]] {
                    let stolen = sidegate.client().get_with(target, fields);
                    assert!(!stolen.text().contains("victim"), "{target} {fields:?}: {}", stolen.text());
                }
            }
        }
        reached
    };
    // Where routes differ, what could be read as another one is refused.
    with_tables(&app, TABLES, |sidegate| assert!(steals_nothing(sidegate) >= 16));
    with_tables(&app, ONE_ROUTE, |sidegate| assert_eq!(steals_nothing(sidegate), 2 * targets.len()));
}

#[test]
fn what_is_stored_of_a_path_is_no_answer_to_one_that_only_some_apps_take_for_the_same() {
    let app = Origin::answering(|request| Reply::text(request.target.clone()));
    over_both(&app, |sidegate| {
        let targets = [
            "/assets/a",
            "/assets/a/",
            "/assets/A",
            "/assets/%61",
            "/assets//a",
            "/assets/./a",
            "/assets/a;b",
            "/assets/a?",
            "/assets/a?b",
        ];
        for (number, target) in targets.iter().enumerate() {
            for turn in 0..2 {
                assert_eq!(sidegate.get(target).text(), *target, "as the app saw it");
                barrier(&mut sidegate.client(), 2 * number + turn);
            }
        }
    });
}

/// An app that puts into its answer each value in which it finds `evil`, and its content.
fn mirror() -> Origin {
    Origin::answering(|request| {
        let said: Vec<_> = request.fields.0.iter().filter(|(_, value)| value.contains("evil")).collect();
        let content = String::from_utf8_lossy(&request.content).into_owned();
        Reply::text(format!("page {said:?} {content}"))
    })
}

/// What the next client gets is the page, whatever the one before sent.
fn is_clean(sidegate: &Sidegate, target: &str, after: &str) {
    for turn in 0..2 {
        let answer: Answer = sidegate.get(target);
        assert_eq!((answer.status, answer.text().as_str()), (200, "page [] "), "{target} after {after}, {turn}");
    }
}

#[test]
fn fields_that_are_sidegates_own_to_set_poison_nothing() {
    let app = mirror();
    over_both(&app, |sidegate| {
        let mut client = sidegate.client();
        for (number, name) in [
            "X-Forwarded-Host",
            "X-Forwarded-Server",
            "X-Forwarded-Proto",
            "X-Forwarded-Scheme",
            "X-Forwarded-Port",
            "X-Forwarded-Prefix",
            "X-Forwarded-For",
            "X_Forwarded_Host",
            "X-Forwarded_Host",
            "Forwarded",
            "X-Original-URL",
            "X-Rewrite-URL",
            "X-Real-IP",
            "Proxy",
            "Proxy-Connection",
        ]
        .iter()
        .enumerate()
        {
            let target = format!("/assets/{number}");
            let first = client.get_with(&target, &[(name, "evil")]);
            assert_eq!((first.status, first.text().as_str()), (200, "page [] "), "{name} reached the app");
            barrier(&mut client, number);
            is_clean(sidegate, &target, name);
        }
    });
}

#[test]
fn content_of_a_get_and_conditions_and_ranges_poison_nothing() {
    let app = Origin::answering(|request| {
        let has = |name: &str| request.field(name).is_some();
        let content = String::from_utf8_lossy(&request.content).into_owned();
        let reply = Reply::text(format!("page [] {content}"));
        match () {
            () if has("range") => reply.status("416 Range Not Satisfiable").field("Content-Range", "bytes */8"),
            () if has("if-match") || has("if-unmodified-since") => reply.status("412 Precondition Failed"),
            () if request.field("if-none-match") == Some("*") => reply.status("304 Not Modified"),
            () => reply,
        }
    });
    over_both(&app, |sidegate| {
        let mut client = sidegate.client();
        type Poison<'a> = (&'a [(&'a str, &'a str)], &'a [u8]);
        let poisons: &[Poison<'_>] = &[
            (&[], b"evil"),
            (&[("Range", "bytes=1000-")], b""),
            (&[("Range", "bytes=0-0")], b""),
            (&[("Range", "bytes=evil")], b""),
            (&[("Range", "bytes=0-0"), ("If-Range", "\"evil\"")], b""),
            (&[("If-Match", "\"evil\"")], b""),
            (&[("If-Unmodified-Since", "Thu, 01 Jan 1970 00:00:00 GMT")], b""),
            (&[("If-None-Match", "*")], b""),
            (&[("If-Modified-Since", "Fri, 31 Dec 9999 23:59:59 GMT")], b""),
        ];
        for (number, (fields, content)) in poisons.iter().enumerate() {
            let target = format!("/assets/{number}");
            client.ask("GET", &target, fields, content);
            barrier(&mut client, number);
            is_clean(sidegate, &target, &format!("{fields:?} {content:?}"));
        }
    });
}

#[test]
fn a_request_that_the_app_or_sidegate_refuses_denies_nobody_else_the_page() {
    let app = Origin::answering(|request| {
        let longest = request.fields.0.iter().map(|(_, value)| value.len()).max().unwrap_or(0);
        let method = request.field("x-http-method-override");
        match (longest, method) {
            (4000.., _) => Reply::text("too large for me").status("400 Bad Request"),
            (_, Some("DELETE")) => Reply::text("not by this method").status("405 Method Not Allowed"),
            (_, Some(_)) => Reply::text("no such page").status("404 Not Found"),
            _ => Reply::text("page [] "),
        }
    });
    over_both(&app, |sidegate| {
        let (large, huge) = ("x".repeat(5000), "x".repeat(100_000));
        let cases = [
            ("X-Oversized", large.as_str(), 400),
            ("X-Oversized", huge.as_str(), 431),
            ("X-Metacharacter", "a\u{7}b", 400),
            ("X-HTTP-Method-Override", "DELETE", 405),
            ("X-HTTP-Method-Override", "POST", 404),
        ];
        for (number, (name, value, status)) in cases.iter().enumerate() {
            let target = format!("/assets/{number}");
            let refused = sidegate.client().get_with(&target, &[(name, value)]);
            assert_eq!(refused.status, *status, "{name}");
            barrier(&mut sidegate.client(), number);
            is_clean(sidegate, &target, name);
        }
    });
}

#[test]
fn whose_page_it_is_says_the_authority_that_the_app_is_told() {
    let app = Origin::answering(|request| Reply::text(request.field("host").unwrap_or_default()));
    over_both(&app, |sidegate| {
        // The absolute form wins over Host (RFC 9112 §3.2.2), in the key as for the app.
        let absolute = "GET http://evil.test/assets/a HTTP/1.1\r\nHost: app.test\r\n\r\n";
        assert_eq!(sidegate.client().send(absolute).answer().text(), "evil.test");
        barrier(&mut sidegate.client(), 0);
        for _ in 0..2 {
            assert_eq!(sidegate.get("/assets/a").text(), "app.test");
            assert_eq!(sidegate.client().get_with("/assets/a", &[("Host", "app.test:81")]).text(), "app.test:81");
        }
        for host in ["app.test, evil.test", "app.test evil.test", "app.test/evil", "evil@app.test"] {
            assert_eq!(sidegate.client().get_with("/assets/a", &[("Host", host)]).status, 400, "{host}");
        }
    });
}
