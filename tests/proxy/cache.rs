//! Stored responses, as clients meet them.

use std::sync::atomic::{AtomicUsize, Ordering};

mod asked;
mod bounds;
mod heads;
mod offers;
mod others;
mod parts;
mod parts_random;
mod ranges;
mod said;
mod stale;
mod told;
mod validation;
mod writes;

use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, freeze, until};

mod hostile;
mod isolation;
mod keys;
mod settings;

const ALL: &str = "[cache.pages]\nttl = \"60s\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";

/// Runs a test over each store.
fn over_both(test: impl Fn(&dyn Fn(&Origin) -> Configuration)) {
    over_both_with(ALL, test);
}

/// The same with these tables.
fn over_both_with(tables: &str, test: impl Fn(&dyn Fn(&Origin) -> Configuration)) {
    test(&|app| Configuration::of(app).with(tables));
    let redis = RedisServer::start();
    test(&|app| {
        let mut connection = redis.client().get_connection().expect("a connection to Redis");
        redis::cmd("FLUSHALL").exec(&mut connection).expect("an empty Redis");
        Configuration::of(app).redis(&redis).with(tables)
    });
}

/// An app that numbers its answers, and does as the path says: `/max-age=5` is answered with that Cache-Control.
fn app() -> Origin {
    let number = AtomicUsize::new(0);
    Origin::answering(move |request| {
        let text =
            format!("{} {}", number.fetch_add(1, Ordering::SeqCst), request.field("accept-language").unwrap_or("-"));
        let reply = Reply::text(text);
        match request.path().trim_start_matches('/') {
            "vary" => reply.field("Vary", "Accept-Language"),
            "vary-all" => reply.field("Vary", "*"),
            "cookie" => reply.field("Set-Cookie", "a=1"),
            "tagged" => reply.field("ETag", "\"v1\"").field("Cache-Control", "max-age=60"),
            "missing" => reply.status("404 Not Found"),
            "failing" => reply.status("500 Internal Server Error"),
            "refused" if request.method != "GET" => reply.status("403 Forbidden"),
            control if control.contains('=') || control.contains("no-") || control == "private" => {
                reply.field("Cache-Control", &control.replace('+', ", "))
            }
            _ => reply,
        }
    })
}

fn outcome(answer: &Answer) -> &str {
    answer.field("x-cache").unwrap_or_else(|| panic!("no X-Cache in {answer:?}"))
}

/// Asks until the answer comes from the store. Redis is told without waiting for it, so that takes a moment.
fn hit(client: &mut Client, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut found = None;
    until(&format!("{target} from the store"), || {
        let answer = client.get_with(target, fields);
        let is_hit = outcome(&answer) == "HIT";
        found = Some(answer);
        is_hit
    });
    found.expect("an answer")
}

/// Asks often enough for the answer to be stored if it ever is, and fails if one comes from the store.
fn never_hit(client: &mut Client, target: &str, fields: &[(&str, &str)]) {
    for turn in 0..3 {
        let answer = client.get_with(target, fields);
        assert_ne!(outcome(&answer), "HIT", "{target} {fields:?}");
        // What was to be stored before this page, has been by now.
        hit(client, &format!("/barrier{}/{turn}", target.replace(['=', '?', ','], "-")), &[]);
    }
}

#[test]
fn a_page_is_fetched_once_and_served_from_the_store_with_its_age() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let first = client.get("/page?a=1");
        assert_eq!((first.status, outcome(&first)), (200, "MISS"));
        assert!(!first.fields.has("age"));
        let second = hit(&mut client, "/page?a=1", &[]);
        let asked = app.count();
        assert_eq!(second.field("content-length"), Some("3"));
        assert!(second.number("age") <= 60);
        let told = second.field("cache-status").expect("Cache-Status");
        assert!(told.starts_with("sidegate; hit"), "{told}");
        assert!(second.fields.has("x-request-id"));
        for _ in 0..10 {
            let again = client.get("/page?a=1");
            assert_eq!((outcome(&again), again.content.as_slice()), ("HIT", second.content.as_slice()));
        }
        assert_eq!(app.count(), asked);
        assert_eq!(outcome(&client.get("/page?a=2")), "MISS", "another query is another page");
        assert_eq!(outcome(&client.get_with("/page?a=1", &[("Host", "other.test")])), "MISS", "another host as well");
    });
}

#[test]
fn head_is_served_from_a_stored_get() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let stored = hit(&mut client, "/page", &[]);
        let head = client.ask("HEAD", "/page", &[], b"");
        assert_eq!((head.status, outcome(&head)), (200, "HIT"));
        assert_eq!(head.field("content-length"), stored.field("content-length"));
        assert_eq!(outcome(&client.get("/page")), "HIT");
    });
}

#[test]
fn a_freshness_lifetime_ends() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let first = hit(&mut client, "/max-age=2", &[]).content;
        until("a newer answer of the app", || {
            let answer = client.get("/max-age=2");
            assert!(!answer.fields.has("age") || answer.number("age") <= 2, "{answer:?}");
            answer.content != first
        });
    });
}

#[test]
fn what_must_not_be_stored_is_not() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for target in [
            "/no-store",
            "/private",
            "/private+max-age=60",
            "/max-age=0",
            "/no-cache",
            "/vary-all",
            "/cookie",
            "/failing",
        ] {
            never_hit(&mut client, target, &[]);
        }
        never_hit(&mut client, "/page", &[("Authorization", "Bearer abc")]);
        never_hit(&mut client, "/page", &[("Cookie", "session=abc")]);
    });
}

#[test]
fn what_says_that_it_is_for_everybody_is_stored_for_everybody() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/public+max-age=60", &[("Authorization", "Bearer abc")]);
        hit(&mut client, "/s-maxage=60", &[("Cookie", "session=abc")]);
        assert_eq!(outcome(&client.get_with("/s-maxage=60", &[("Authorization", "Bearer other")])), "HIT");
    });
}

#[test]
fn variants_live_side_by_side() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for language in ["de", "fr"] {
            let answer = hit(&mut client, "/vary", &[("Accept-Language", language)]);
            assert!(answer.text().ends_with(language), "{answer:?}");
        }
        let asked = app.count();
        for language in ["de", "fr", "de"] {
            let answer = client.get_with("/vary", &[("Accept-Language", language)]);
            assert!(outcome(&answer) == "HIT" && answer.text().ends_with(language), "{answer:?}");
        }
        assert_eq!(app.count(), asked);
    });
}

#[test]
fn a_successful_write_invalidates_and_a_refused_one_does_not() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for method in ["POST", "PUT", "PATCH", "DELETE", "BREW"] {
            hit(&mut client, "/page", &[]);
            hit(&mut client, "/page?a=1", &[]);
            assert_eq!(client.ask(method, "/page", &[], b"x").status, 200);
            assert_ne!(outcome(&client.get("/page")), "HIT", "after {method}");
        }
        hit(&mut client, "/refused", &[]);
        assert_eq!(client.ask("POST", "/refused", &[], b"x").status, 403);
        assert_eq!(outcome(&client.get("/refused")), "HIT");
    });
}

#[test]
fn a_write_invalidates_what_its_route_names() {
    over_both(|config| {
        let app = app();
        let tables =
            "[[route]]\npath = \"/users/{id}\"\ncache = \"pages\"\non_write = [\"/users\", \"/users/{id}/posts\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut client = sidegate.client();
        for target in ["/users", "/users/7", "/users/7/posts", "/users/8/posts"] {
            hit(&mut client, target, &[]);
        }
        assert_eq!(client.ask("PUT", "/users/7", &[], b"x").status, 200);
        let outcomes = ["/users", "/users/7", "/users/7/posts", "/users/8/posts"].map(|target| client.get(target));
        assert_eq!(outcomes.each_ref().map(|answer| outcome(answer) == "HIT"), [false, false, false, true]);
    });
}

#[test]
fn a_client_that_has_the_page_is_told_so() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/tagged", &[]);
        let asked = app.count();
        let same = client.get_with("/tagged", &[("If-None-Match", "W/\"v1\", \"v0\"")]);
        assert_eq!((same.status, same.field("etag"), same.content.len()), (304, Some("\"v1\""), 0));
        assert_eq!(client.get_with("/tagged", &[("If-None-Match", "\"v2\"")]).status, 200);
        assert_eq!(app.count(), asked);
    });
}

#[test]
fn content_that_is_cut_short_is_not_stored() {
    over_both(|config| {
        let app = Origin::scripted(|wire| {
            while let Some(request) = wire.request()? {
                match request.path() {
                    "/short" => return wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf"),
                    "/chunks" => {
                        return wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
                    }
                    _ => wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")?,
                }
            }
            Ok(())
        });
        let sidegate = config(&app).start();
        for target in ["/short", "/chunks"] {
            for _ in 0..3 {
                let mut client = sidegate.client();
                client.send(format!("GET {target} HTTP/1.1\r\nHost: app.test\r\n\r\n"));
                let cut = client.try_answer_to("GET").map_or(true, |answer| answer.cut_short || answer.status == 502);
                assert!(cut, "{target} was delivered as whole");
                hit(&mut sidegate.client(), &format!("{target}/barrier"), &[]);
            }
        }
    });
}

#[test]
fn an_answer_that_its_client_left_is_not_stored_as_whole() {
    let app = Origin::scripted(|wire| {
        while wire.request()?.is_some() {
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4000000\r\n\r\n")?;
            wire.send(&vec![b'x'; 4_000_000])?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).with(ALL).start();
    for _ in 0..5 {
        let mut client = sidegate.client();
        client.send("GET /large HTTP/1.1\r\nHost: app.test\r\n\r\n");
        client.exactly(1000);
    }
    assert_eq!(sidegate.get("/large").content.len(), 4_000_000);
}

#[test]
fn a_write_through_one_sidegate_invalidates_for_another() {
    let redis = RedisServer::start();
    let app = app();
    let config = Configuration::of(&app).redis(&redis).with(ALL);
    let (one, two) = (config.start(), config.start());
    let (mut writer, mut reader) = (one.client(), two.client());
    for _ in 0..20 {
        let old = hit(&mut reader, "/page", &[]).content;
        assert_eq!(writer.ask("POST", "/page", &[], b"x").status, 200);
        let new = reader.get("/page");
        assert!(outcome(&new) != "HIT" && new.content != old, "{new:?}");
    }
    hit(&mut reader, "/shared", &[]);
    let asked = app.count();
    assert_eq!(outcome(&writer.get("/shared")), "HIT", "and what one has fetched serves the other");
    assert_eq!(app.count(), asked);
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut connection).expect("keys");
    for key in keys {
        let life: i64 = redis::cmd("PTTL").arg(&key).query(&mut connection).expect("a TTL");
        let known = key.starts_with("sidegate:cache:{") || key == "sidegate:instances";
        assert!(known && life > 0, "{key} lives for {life}");
    }
}

#[test]
fn without_redis_the_app_answers_and_with_it_the_store_again() {
    let mut redis = RedisServer::start();
    let app = app();
    let sidegate = Configuration::of(&app).redis(&redis).with(ALL).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    redis.kill();
    for _ in 0..10 {
        let answer = client.get("/page");
        assert_eq!((answer.status, outcome(&answer)), (200, "BYPASS"));
    }
    assert_eq!(client.ask("POST", "/page", &[], b"x").status, 200);
    redis.restart();
    hit(&mut client, "/page", &[]);
}

#[test]
fn a_write_while_redis_is_away_is_not_forgotten() {
    let redis = RedisServer::start();
    let app = app();
    let sidegate = Configuration::of(&app).redis(&redis).with(ALL).start();
    let mut client = sidegate.client();
    let old = hit(&mut client, "/page", &[]).content;
    // Stopped, not killed: it comes back with all it had stored.
    let frozen = freeze(&redis);
    assert_eq!(client.ask("POST", "/page", &[], b"x").status, 200);
    drop(frozen);
    until("the store again", || {
        let answer = client.get("/page");
        assert_ne!(answer.content, old, "an answer from before the write: {answer:?}");
        outcome(&answer) == "HIT"
    });
}

#[test]
fn every_outcome_is_counted_and_logged() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    client.get("/page");
    client.get("/page");
    client.ask("POST", "/page", &[], b"x");
    sidegate.access_log(|line| line["cache"] == "miss");
    sidegate.access_log(|line| line["cache"] == "hit");
    let count =
        |outcome| sidegate.metric(&format!("sidegate_cache_requests_total{{cache=\"pages\",outcome=\"{outcome}\"}}"));
    assert_eq!((count("miss"), count("hit")), (1.0, 1.0));
    assert!(sidegate.metric("sidegate_cache_stored_bytes") >= 0.0);
}

#[test]
fn another_spelling_of_a_path_neither_hides_a_stored_response_nor_escapes_its_invalidation() {
    let app = Origin::answering(|request| match &*request.method {
        "POST" => Reply::text("done"),
        _ => Reply::text("page").field("Cache-Control", "max-age=60"),
    });
    let sidegate =
        Configuration::of(&app).with("[cache.pages]\n\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"").start();
    let outcome = |target: &str| sidegate.get(target).field("X-Cache").unwrap_or_default().to_owned();
    for spelling in ["/users/1;x", "/users%2F1", "/users/1.", "/users%252F1", "/users%5C1", "/users/x/../1"] {
        outcome("/users/1");
        assert_eq!(outcome("/users/1"), "HIT", "{spelling}");
        assert_eq!(sidegate.client().ask("POST", spelling, &[], b"").status, 200, "{spelling}");
        assert_eq!(outcome("/users/1"), "MISS", "{spelling}");
    }
    // What an app may take for `/users/1` is not stored: a write to `/users/1` would not find it.
    assert_eq!((outcome("/users/1;x"), outcome("/users/1;x")), ("BYPASS".into(), "BYPASS".into()));
    assert_eq!((outcome("/a/%7Eb"), outcome("/a/%7Eb")), ("MISS".into(), "HIT".into()));
}

#[test]
fn a_refused_request_leaves_nothing_of_the_page_in_redis() {
    let redis = RedisServer::start();
    let app = app();
    let tables = "[limit.one]\nkey = \"address\"\nquota = \"1 per hour\"\n[session.web]\nformat = \"json\"\n\
                  [cache.pages]\nttl = \"60s\"\n\
                  [[route]]\npath = \"/limited/{*rest}\"\nlimits = [\"one\"]\ncache = \"pages\"\n\
                  [[route]]\npath = \"/mine/{*rest}\"\nsession = \"web\"\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let mut client = sidegate.client();
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let mut stored = |path: &str| {
        let pattern = format!("*{path}*");
        redis::cmd("KEYS").arg(pattern).query::<Vec<String>>(&mut connection).expect("keys").len()
    };
    assert_eq!(client.get("/limited/first").status, 200);
    until("the page in Redis", || stored("/limited/first") == 2);
    for (target, status) in [("/limited/second", 429), ("/mine/page", 401)] {
        for _ in 0..20 {
            assert_eq!(client.get(target).status, status);
        }
        until("an empty place", || stored(target) == 0);
    }
    assert_eq!(client.get("/limited/first").status, 429);
    assert_eq!(stored("/limited/first"), 2, "what is stored stays");
}
