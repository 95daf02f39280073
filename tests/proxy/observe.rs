//! The cache that only looks on: what it would save, and whether that would be safe.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, until};

const ALL: &str = "[cache.pages]\nttl = \"60s\"\nmode = \"observe\"\nencode = [\"gzip\"]\n[[route]]\npath = \"/{*rest}\"\n\
                   cache = \"pages\"\n";

/// An app whose second answer to a path is another one, if the path says so.
fn app() -> Origin {
    let number = AtomicUsize::new(0);
    Origin::answering(move |request| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        let reply = Reply::text("the same page").field("ETag", "\"v1\"").field("X-Runtime", &number.to_string());
        if request.field("if-none-match").is_some() {
            return reply.status("304 Not Modified");
        }
        match request.path() {
            "/content" => Reply::text(format!("page {number}")),
            "/status" if number > 0 => reply.status("404 Not Found"),
            "/fields" => reply.field("Content-Language", if number > 0 { "en" } else { "de" }),
            "/cookie" if number > 0 => reply.field("Set-Cookie", "a=b"),
            "/max-age" => Reply::text(format!("page {number}")).field("Cache-Control", "max-age=1"),
            "/large" => Reply::text("large ".repeat(1000)).field("Content-Type", "text/plain"),
            _ => reply,
        }
    })
}

fn observed(sidegate: &Sidegate, outcome: &str) -> u64 {
    let labels = format!("{{route=\"/{{*rest}}\",cache=\"pages\",outcome=\"{outcome}\"}}");
    sidegate.metric(&format!("sidegate_cache_observed_total{labels}")) as u64
}

/// Asks until the store would have answered; that answer.
fn would_hit(sidegate: &Sidegate, target: &str) -> Answer {
    let mut found = None;
    until(&format!("{target} in the store"), || {
        let answer = sidegate.client().get(target);
        let told = answer.field("cache-status").expect("Cache-Status").to_owned();
        found = Some(answer);
        told == "sidegate; fwd=bypass; fwd-status=200; detail=\"observe: cache.mode\""
    });
    found.expect("an answer")
}

#[test]
fn every_request_is_forwarded_and_what_is_equal_is_counted() {
    let redis = RedisServer::start();
    let app = app();
    for config in [Configuration::of(&app).with(ALL), Configuration::of(&app).redis(&redis).with(ALL)] {
        let sidegate = config.start();
        let first = sidegate.client().get("/page");
        assert_eq!(first.field("cache-status"), Some("sidegate; fwd=uri-miss; fwd-status=200; stored"));
        let second = would_hit(&sidegate, "/page");
        assert_eq!((second.field("x-cache"), second.text()), (Some("BYPASS"), "the same page".into()));
        assert!(!second.fields.has("age") && second.field("x-runtime") != first.field("x-runtime"));
        until("the comparison", || observed(&sidegate, "equal") > 0);
        let equal = observed(&sidegate, "equal");
        let mut client = sidegate.client();
        let head = client.ask("HEAD", "/page", &[], b"");
        assert_eq!(head.status, 200);
        assert_eq!(client.get_with("/page", &[("If-None-Match", "\"v1\"")]).status, 304);
        until("both comparisons", || observed(&sidegate, "equal") == equal + 2);
        let spared = sidegate.metric("sidegate_cache_observed_bytes_total{route=\"/{*rest}\",cache=\"pages\"}");
        assert_eq!(spared as u64, equal * "the same page".len() as u64, "neither HEAD nor 304 has content");
        let asked = app.count();
        (0..5).for_each(|_| drop(client.get("/page")));
        assert_eq!(app.count(), asked + 5);
        assert!(sidegate.logged("the cache would have sent another answer than the app").is_empty());
    }
}

#[test]
fn what_differs_is_told_by_what_differs_and_warned_of() {
    for (target, outcome) in
        [("/content", "content"), ("/status", "status"), ("/fields", "fields"), ("/cookie", "fields")]
    {
        let app = app();
        let sidegate = Configuration::of(&app).with(ALL).start();
        assert_eq!(sidegate.client().get(target).status, 200);
        until(outcome, || {
            sidegate.client().get(target);
            observed(&sidegate, outcome) > 0
        });
        assert_eq!(observed(&sidegate, "equal"), 0, "{target}");
        until("a warning", || !sidegate.logged("the cache would have sent another answer than the app").is_empty());
        let warning = sidegate.logged("the cache would have sent another answer than the app").remove(0);
        assert_eq!((&warning["route"], &warning["differs"]), (&"/{*rest}".into(), &outcome.into()), "{warning}");
        assert_eq!(warning["key"].as_str().expect("a digest").len(), 16);
        assert!(!warning.to_string().contains(target));
        sidegate.access_log(|line| line["cache_reason"] == format!("observe-{outcome}"));
    }
}

#[test]
fn what_is_stale_is_fetched_as_it_would_have_been() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    sidegate.client().get("/max-age");
    until("stale", || {
        let answer = sidegate.client().get("/max-age");
        answer.field("cache-status").expect("Cache-Status").starts_with("sidegate; fwd=stale; fwd-status=200")
    });
    assert!(app.requests().iter().all(|request| !request.fields.has("if-none-match")));
}

#[test]
fn an_app_that_breaks_off_tells_nothing() {
    let number = AtomicUsize::new(0);
    let app = Origin::scripted(move |wire| {
        while wire.request()?.is_some() {
            let whole = number.fetch_add(1, Ordering::SeqCst) == 0;
            let content = if whole { "0123456789" } else { "01234" };
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{content}").as_bytes())?;
            if !whole {
                return Err(io::ErrorKind::Other.into());
            }
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).with(ALL).start();
    assert_eq!(sidegate.client().get("/cut").text(), "0123456789");
    until("a comparison without an end", || {
        let mut client = sidegate.client();
        client.send("GET /cut HTTP/1.1\r\nHost: app.test\r\n\r\n");
        let _ = client.try_answer_to("GET");
        observed(&sidegate, "unknown") > 0
    });
    assert_eq!(observed(&sidegate, "content") + observed(&sidegate, "equal"), 0);
}

#[test]
fn nothing_is_compressed_where_it_is_compared() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let answer = sidegate.client().get_with("/large", &[("Accept-Encoding", "gzip")]);
    assert_eq!((answer.field("content-encoding"), answer.text()), (None, "large ".repeat(1000)));
    assert_eq!(app.last().field("accept-encoding"), Some("gzip"));
}
