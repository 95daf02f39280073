//! Stored responses are taken back by hand: over the admin listener, by `sidegate purge`, by the method `PURGE`.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::client::request;
use crate::harness::origin::Gate;
use crate::harness::sidegate::run;
use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, Sidegate, until};

const PAGES: &str = "[cache.pages]\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";

/// An app that numbers its answers; they are fresh for a minute, have an ETag, and carry the tags that their query names.
fn app() -> Origin {
    let number = AtomicUsize::new(0);
    Origin::answering(move |request| {
        let text = number.fetch_add(1, Ordering::SeqCst).to_string();
        if request.field("if-none-match").is_some() {
            return Reply::text("").status("304 Not Modified").field("ETag", "\"v1\"").field("X-Number", &text);
        }
        let reply = Reply::text(text).field("Cache-Control", "max-age=60").field("ETag", "\"v1\"");
        match request.target.split_once("?tags=") {
            Some((_, tags)) => reply.field("Cache-Tag", tags),
            None => reply,
        }
    })
}

/// Runs a test with two instances over Redis, and with one that is both in process memory.
fn over_both(app: &Origin, lines: &str, test: impl Fn(&Sidegate, &Sidegate)) {
    let config = |tables: &str| Configuration::of(app).with(tables);
    let tables = format!("{PAGES}{lines}");
    let alone = config(&tables).start();
    test(&alone, &alone);
    let redis = RedisServer::start();
    let [one, other] = [(); 2].map(|()| config(&tables).redis(&redis).start());
    test(&one, &other);
}

/// What `sidegate purge` of these arguments prints, and its exit code.
fn purge(sidegate: &Sidegate, arguments: &[&str]) -> (i32, String) {
    let all = [&["purge", "--admin", sidegate.admin()], arguments].concat();
    let (code, out, error) = run(&all, Path::new("."));
    (code, out + &error)
}

fn outcome(answer: &Answer) -> &str {
    answer.field("x-cache").unwrap_or_else(|| panic!("no X-Cache in {answer:?}"))
}

/// Asks until all these come from the store.
fn stored(sidegate: &Sidegate, targets: &[&str]) {
    let mut client = sidegate.client();
    for target in targets {
        until(&format!("{target} from the store"), || outcome(&client.get(target)) == "HIT");
    }
}

#[test]
fn what_is_named_is_gone_on_every_instance_when_it_is_acknowledged_and_nothing_else_is() {
    let all = ["/users/7?a", "/users/7?b", "/users/8/photo", "/users/9/photo", "/other"];
    over_both(&app(), "", |one, other| {
        let cases: &[(&[&str], &[&str], &str)] = &[
            (&["http://app.test/users/7"], &["/users/7?a", "/users/7?b"], "url app.test/users/7"),
            (&["--prefix", "https://app.test/users/*"], &all[..4], "prefix app.test/users/*"),
            (&["--prefix", "/users/8"], &["/users/8/photo"], "prefix /users/8*"),
            (&["--pattern", "/users/*/photo"], &["/users/8/photo", "/users/9/photo"], "pattern /users/*/photo"),
            (&["--pattern", "other.test/*"], &[], "pattern other.test/*"),
            (&["--all"], &all, "all"),
        ];
        for (arguments, gone, name) in cases {
            for instance in [one, other] {
                stored(instance, &all);
            }
            let places = [("/users/7", "/users/7"), ("/users/8", ""), ("/users/9", ""), ("/other", "")];
            let met = places.iter().filter(|(start, _)| gone.iter().any(|target| target.starts_with(start))).count();
            let noun = if met == 1 { "place" } else { "places" };
            let (code, said) = purge(one, arguments);
            assert_eq!((code, said), (0, format!("{name:<48} {met} {noun} purged\n")));
            for target in all {
                let expected = if gone.contains(&target) { "MISS" } else { "HIT" };
                assert_eq!(outcome(&other.get(target)), expected, "{target} after {arguments:?}");
            }
        }
    });
}

#[test]
fn several_names_are_one_order_and_each_is_answered() {
    over_both(&app(), "", |one, _| {
        stored(one, &["/a", "/b"]);
        let arguments = ["--json", "app.test/a", "app.test/b", "app.test/c", "--soft"];
        let (code, said) = purge(one, &arguments);
        let said: serde_json::Value = serde_json::from_str(&said).expect("JSON");
        let rows = [("url app.test/a", 1), ("url app.test/b", 1), ("url app.test/c", 0)];
        let rows = rows.map(|(name, places)| serde_json::json!({"name": name, "places": places}));
        assert_eq!((code, said), (0, serde_json::json!({"purged": rows, "places": 2, "soft": true})));
    });
}

#[test]
fn a_mistake_is_told_and_nothing_is_purged() {
    let app = app();
    let sidegate = Configuration::of(&app).with(PAGES).start();
    stored(&sidegate, &["/a"]);
    for (arguments, said) in [
        (&[][..], "error: nothing is named: urls, prefixes, patterns, tags, or all = true\n"),
        (&["app.test/a", "--prefix", "app.test"], "error: `app.test` is no prefix: it has no path\n"),
        (&["/a"], "error: `/a` is no URL to purge: it has no host; a path on every host is a prefix, or a pattern\n"),
    ] {
        assert_eq!(purge(&sidegate, arguments), (1, said.into()));
    }
    let ask = |content: &str| {
        let admin = [("Host", sidegate.admin()), ("Content-Type", "application/json")];
        Client::to(sidegate.admin()).ask("POST", "/cache/purge", &admin, content.as_bytes())
    };
    for (content, status, error) in [
        ("{\"urls\": [\"app.test/a\"], \"everything\": true}", 400, "unknown field `everything`"),
        ("{\"urls\": [\"app.test/a\"], \"tags\": [\"\"]}", 400, "`` is no tag"),
        ("", 400, "EOF while parsing"),
        (&format!("{{\"tags\": [\"{}\"]}}", "x".repeat(70 << 10)), 400, "the content is larger than 65536 bytes"),
    ] {
        let answer = ask(content);
        assert_eq!(answer.status, status);
        assert!(answer.json()["error"].as_str().is_some_and(|said| said.starts_with(error)), "{answer:?}");
    }
    assert_eq!(sidegate.ask_admin("/cache/purge").status, 405);
    assert_eq!(outcome(&sidegate.get("/a")), "HIT");
    assert_eq!(ask("{\"urls\": [\"app.test/a\"]}").json()["places"], 1);
    assert_eq!(outcome(&sidegate.get("/a")), "MISS");
}

#[test]
fn without_redis_nothing_is_said_to_be_purged() {
    let app = app();
    let mut redis = RedisServer::start();
    let sidegate = Configuration::of(&app).redis(&redis).with(PAGES).start();
    redis.kill();
    for arguments in [&["app.test/a"][..], &["--all"], &["--prefix", "/"]] {
        let (code, said) = purge(&sidegate, arguments);
        assert!(code == 1 && said.starts_with("error: Redis does not answer ("), "{said}");
    }
}

fn purge_by_method(sidegate: &Sidegate, target: &str, fields: &[(&str, &str)]) -> Answer {
    sidegate.client().ask("PURGE", target, fields, b"")
}

#[test]
fn the_method_is_the_apps_where_nobody_is_trusted_with_it() {
    let app = app();
    let sidegate = Configuration::of(&app).with(PAGES).start();
    assert_eq!(purge_by_method(&sidegate, "/a", &[]).status, 200);
    assert_eq!(app.last().method, "PURGE");
}

#[test]
fn the_method_purges_for_those_who_are_trusted_with_it_and_reaches_no_app() {
    over_both(&app(), "[purge]\nfrom = [\"127.0.0.0/8\"]\n", |one, other| {
        for instance in [one, other] {
            stored(instance, &["/a?x", "/a?y", "/b"]);
        }
        let answer = purge_by_method(one, "/a", &[]);
        assert_eq!((answer.status, answer.field("content-type")), (200, Some("application/json")));
        assert_eq!((&answer.json()["places"], &answer.json()["soft"]), (&1.into(), &false.into()));
        for (target, expected) in [("/a?x", "MISS"), ("/a?y", "MISS"), ("/b", "HIT")] {
            assert_eq!(outcome(&other.get(target)), expected, "{target}");
        }
        assert_eq!(purge_by_method(one, "/b", &[("Fastly-Soft-Purge", "1")]).json()["soft"], true);
    });
}

#[test]
fn the_method_is_refused_from_elsewhere_and_whoever_says_to_be_trusted_is_not_believed() {
    let app = app();
    let sidegate = Configuration::of(&app).with(&format!("{PAGES}[purge]\nfrom = [\"10.0.0.0/8\"]\n")).start();
    stored(&sidegate, &["/a"]);
    let asked = app.count();
    for fields in [&[][..], &[("X-Forwarded-For", "10.0.0.1")], &[("Forwarded", "for=10.0.0.1")]] {
        let answer = purge_by_method(&sidegate, "/a", fields);
        assert_eq!((answer.status, &answer.json()["type"]), (403, &"urn:sidegate:problem:purge-refused".into()));
    }
    assert_eq!((outcome(&sidegate.get("/a")), app.count()), ("HIT", asked));
}

#[test]
fn the_address_that_counts_is_the_one_that_a_trusted_proxy_tells() {
    let app = app();
    let tables = format!("{PAGES}[purge]\nfrom = [\"10.0.0.0/8\"]\n");
    let sidegate = Configuration::of(&app).server("trusted_proxies = [\"127.0.0.1\"]").with(&tables).start();
    for (told, status) in [("10.0.0.1", 200), ("192.0.2.1", 403), ("10.0.0.1, 192.0.2.1", 403)] {
        assert_eq!(purge_by_method(&sidegate, "/a", &[("X-Forwarded-For", told)]).status, status, "{told}");
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn a_purge_while_redis_is_away_is_answered_503() {
    let app = app();
    let mut redis = RedisServer::start();
    let tables = format!("{PAGES}[purge]\nfrom = [\"127.0.0.1\"]\n");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    redis.kill();
    let answer = purge_by_method(&sidegate, "/a", &[]);
    assert_eq!((answer.status, answer.field("retry-after")), (503, Some("1")));
    assert_eq!(app.count(), 0);
}

#[test]
fn a_tag_takes_back_what_carries_it_wherever_it_is_and_nothing_else() {
    over_both(&app(), "", |one, other| {
        let (both, only, none) = ("/a?tags=red,green", "/b?tags=green", "/c?tags=blue");
        for (tags, gone) in [(&["red"][..], &[both][..]), (&["green", "unheard-of"], &[both, only])] {
            for instance in [one, other] {
                stored(instance, &[both, only, none]);
            }
            let arguments: Vec<&str> = tags.iter().flat_map(|tag| ["--tag", *tag]).collect();
            let (code, said) = purge(one, &arguments);
            let places = if gone.len() == 1 { "1 place" } else { "2 places" };
            assert!(
                code == 0 && said.starts_with(&format!("{:<48} {places} purged\n", format!("tag {}", tags[0]))),
                "{said}"
            );
            for target in [both, only, none] {
                let expected = if gone.contains(&target) { "MISS" } else { "HIT" };
                assert_eq!(outcome(&other.get(target)), expected, "{target} after {tags:?}");
            }
        }
    });
}

#[test]
fn what_is_purged_softly_is_validated_at_its_next_use() {
    over_both(&app(), "", |one, other| {
        for instance in [one, other] {
            stored(instance, &["/a", "/b"]);
        }
        let before = other.get("/a").text();
        let (code, said) = purge(one, &["app.test/a", "--soft"]);
        assert_eq!((code, said), (0, format!("{:<48} 1 place made stale\n", "url app.test/a")));
        let after = other.get("/a");
        assert_eq!((outcome(&after), after.text()), ("REVALIDATED", before));
        assert_eq!(outcome(&other.get("/b")), "HIT");
        stored(other, &["/a"]);
    });
}

#[test]
fn what_was_asked_of_the_app_before_a_purge_is_not_stored_after_it() {
    for arguments in [&["app.test/slow"][..], &["--prefix", "/sl"], &["--pattern", "/*ow"], &["--all"]] {
        let (gate, number) = (Gate::default(), AtomicUsize::new(0));
        let waiting = gate.clone();
        let app = Origin::answering(move |_| {
            let text = number.fetch_add(1, Ordering::SeqCst).to_string();
            waiting.wait();
            Reply::text(text).field("Cache-Control", "max-age=60")
        });
        let redis = RedisServer::start();
        let [one, other] = [(); 2].map(|()| Configuration::of(&app).redis(&redis).with(PAGES).start());
        let mut first = one.client();
        first.send(request("GET", "/slow", &[], b""));
        until("the request at the app", || app.count() == 1);
        assert_eq!(purge(&other, arguments).0, 0);
        gate.open();
        assert_eq!(first.answer().text(), "0");
        // Were it stored, that would have been done before this is.
        stored(&one, &["/barrier"]);
        for instance in [&one, &other] {
            assert_ne!(instance.get("/slow").text(), "0", "after {arguments:?}");
        }
    }
}
