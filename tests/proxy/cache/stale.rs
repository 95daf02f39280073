//! Stale responses, where they are better than none (RFC 5861, RFC 9111 §4.2.4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use crate::harness::origin::Gate;
use crate::harness::{Configuration, Origin, RedisServer, Reply, until};

use super::validation::becomes;
use super::{hit, outcome, over_both_with};

/// A cache with these lines.
fn all(lines: &str) -> String {
    format!("[cache.pages]\n{lines}\n[[route]]\npath = \"/{{*rest}}\"\ncache = \"pages\"\n")
}

/// An app that is well, with this Cache-Control, until it is told to be ill: then it says 503 (`/busy…`) or drops the
/// connection.
fn ailing(control: &'static str) -> (Origin, Arc<AtomicBool>) {
    let ill = Arc::new(AtomicBool::new(false));
    let is_ill = ill.clone();
    let app = Origin::scripted(move |wire| {
        while let Some(request) = wire.request()? {
            let answer = match (is_ill.load(Ordering::SeqCst), request.path().starts_with("/busy")) {
                (true, false) => return Ok(()),
                (true, true) => "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy".to_owned(),
                _ => format!("HTTP/1.1 200 OK\r\nCache-Control: {control}\r\nContent-Length: 4\r\n\r\nwell"),
            };
            wire.send(answer.as_bytes())?;
        }
        Ok(())
    });
    (app, ill)
}

#[test]
fn while_it_is_refreshed_behind_a_stale_response_is_sent_at_once() {
    over_both_with(&all(""), |config| {
        let gate = Gate::default();
        let open = gate.clone();
        let app = Origin::answering(move |request| match request.field("if-none-match") {
            Some(_) => {
                open.wait();
                Reply::text("new").field("ETag", "\"2\"").field("Cache-Control", "max-age=60")
            }
            None => {
                Reply::text("old").field("ETag", "\"1\"").field("Cache-Control", "max-age=1, stale-while-revalidate=60")
            }
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        let fetched = app.count();
        let stale = becomes(&mut client, "STALE", "/page", &[("Range", "bytes=0-1")]);
        assert_eq!((stale.status, stale.text().as_str()), (206, "ol"));
        let told = stale.field("cache-status").expect("Cache-Status");
        assert!(told.starts_with("sidegate; hit; ttl=") && !told.contains("fwd"), "{told}");
        for _ in 0..20 {
            assert_eq!(outcome(&client.get("/page")), "STALE");
        }
        until("the app is asked", || app.count() == fetched + 1);
        let refresh = app.last();
        assert_eq!((refresh.method.as_str(), refresh.field("if-none-match")), ("GET", Some("\"1\"")));
        assert!(refresh.field("range").is_none());
        assert_eq!(app.count(), fetched + 1, "one refresh for all");
        gate.open();
        until("the new one", || client.get("/page").text() == "new");
        assert_eq!(outcome(&client.get("/page")), "HIT");
    });
}

#[test]
fn a_head_is_enough_to_have_the_content_refreshed() {
    let app = Origin::answering(|request| match request.field("if-none-match") {
        Some(_) => Reply::text("new").field("Cache-Control", "max-age=60"),
        None => {
            Reply::text("old").field("ETag", "\"1\"").field("Cache-Control", "max-age=1, stale-while-revalidate=60")
        }
    });
    let sidegate = Configuration::of(&app).with(&all("")).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    until("a stale head", || outcome(&client.ask("HEAD", "/page", &[], b"")) == "STALE");
    until("the refreshed page", || client.get("/page").text() == "new");
}

#[test]
fn an_app_that_drops_the_connection_is_stood_in_for_unless_the_response_forbids_it() {
    for (control, stands_in) in [
        ("max-age=1", true),
        ("max-age=1, must-revalidate", false),
        ("max-age=1, proxy-revalidate", false),
        ("s-maxage=1", false),
    ] {
        over_both_with(&all("retry_refresh = \"1ms\""), |config| {
            let (app, ill) = ailing(control);
            let sidegate = config(&app).start();
            let mut client = sidegate.client();
            hit(&mut client, "/page", &[]);
            ill.store(true, Ordering::SeqCst);
            if stands_in {
                let stale = becomes(&mut client, "STALE", "/page", &[]);
                assert_eq!((stale.status, stale.text().as_str()), (200, "well"));
                let told = stale.field("cache-status").expect("Cache-Status");
                assert!(
                    told.starts_with("sidegate; fwd=stale; ttl=")
                        && told.ends_with("detail=\"unreachable: RFC 9111 4.2.4\""),
                    "{told}"
                );
                assert!(!stale.fields.has("proxy-status"));
                let line = sidegate.access_log(|line| line["cache"] == "stale");
                assert_eq!((&line["status"], &line["upstream_error"]), (&200.into(), &"connection_terminated".into()));
                assert!(line.get("local_reply").is_none(), "{line}");
            } else {
                until("the failure itself", || client.get("/page").status == 502);
            }
            ill.store(false, Ordering::SeqCst);
            until("the app again", || outcome(&client.get("/page")) == "EXPIRED");
        });
    }
}

#[test]
fn by_setting_nothing_stands_in_for_an_app_that_cannot_be_reached() {
    let (app, ill) = ailing("max-age=1");
    let sidegate = Configuration::of(&app).with(&all("stale_if_unreachable = false")).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    ill.store(true, Ordering::SeqCst);
    until("the failure itself", || client.get("/page").status == 502);
}

#[test]
fn an_error_of_the_app_is_stood_in_for_where_that_is_said() {
    for (control, stands_in) in [("max-age=1, stale-if-error=60", true), ("max-age=1", false)] {
        over_both_with(&all("retry_refresh = \"1ms\""), |config| {
            let (app, ill) = ailing(control);
            let sidegate = config(&app).start();
            let mut client = sidegate.client();
            hit(&mut client, "/busy", &[]);
            ill.store(true, Ordering::SeqCst);
            if stands_in {
                let stale = becomes(&mut client, "STALE", "/busy", &[]);
                assert_eq!(stale.text(), "well");
                assert!(stale.field("cache-status").is_some_and(|told| told.contains("; fwd-status=503; ttl=")));
            } else {
                until("the failure itself", || client.get("/busy").status == 503);
            }
        });
    }
}

#[test]
fn an_app_that_has_failed_is_left_alone_for_a_while() {
    over_both_with(&all("retry_refresh = \"1h\""), |config| {
        for control in ["max-age=1, stale-if-error=60", "max-age=1, stale-while-revalidate=60, stale-if-error=60"] {
            for target in ["/page", "/busy"] {
                let (app, ill) = ailing(control);
                let sidegate = config(&app).start();
                let mut client = sidegate.client();
                hit(&mut client, target, &[]);
                let fetched = app.count();
                ill.store(true, Ordering::SeqCst);
                becomes(&mut client, "STALE", target, &[]);
                until("the app is asked", || app.count() > fetched);
                for _ in 0..20 {
                    assert_eq!(outcome(&client.get(target)), "STALE");
                }
                // Once, and what the upstream's own retries make of it.
                assert!(app.count() <= fetched + 3, "{control} {target}: {} after {fetched}", app.count());
            }
        }
    });
}

#[test]
fn what_is_stored_is_kept_for_longer_than_it_is_fresh() {
    let redis = RedisServer::start();
    let app = Origin::answering(|_| Reply::text("page").field("Cache-Control", "max-age=60"));
    let sidegate = Configuration::of(&app).redis(&redis).with(&all("keep_stale = \"2h\"")).start();
    hit(&mut sidegate.client(), "/page", &[]);
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let keys: Vec<String> = redis::cmd("KEYS").arg("*cache:*").query(&mut connection).expect("keys");
    assert_eq!(keys.len(), 2, "{keys:?}");
    for key in keys {
        let life: i64 = redis::cmd("TTL").arg(&key).query(&mut connection).expect("a TTL");
        assert!(life > 7200, "{key} lives for {life} s");
    }
}

#[test]
fn the_app_s_newer_word_ends_what_is_stale() {
    for (status, control, stale) in [
        ("404 Not Found", "no-store", "stale-while-revalidate=600"),
        ("200 OK", "private, no-store", "stale-while-revalidate=600"),
        ("410 Gone", "no-store", "stale-if-error=600"),
    ] {
        over_both_with(&all("retry_refresh = \"1ms\""), |config| {
            let stage = Arc::new(AtomicUsize::new(0));
            let at = stage.clone();
            let app = Origin::scripted(move |wire| {
                while wire.request()?.is_some() {
                    let (status, control) = match at.load(Ordering::SeqCst) {
                        0 => ("200 OK", ["max-age=1", stale].join(", ")),
                        1 => (status, control.to_owned()),
                        _ => return Ok(()),
                    };
                    let head = format!("HTTP/1.1 {status}\r\nETag: \"1\"\r\nCache-Control: {control}\r\n");
                    wire.send([head.as_str(), "Content-Length: 4\r\n\r\npage"].concat().as_bytes())?;
                }
                Ok(())
            });
            let sidegate = config(&app).start();
            let mut client = sidegate.client();
            hit(&mut client, "/page", &[]);
            stage.store(1, Ordering::SeqCst);
            until("the newer word", || {
                let answer = client.get("/page");
                outcome(&answer) == "EXPIRED" && answer.field("cache-control") == Some(control)
            });
            stage.store(2, Ordering::SeqCst);
            until("the failure itself", || client.get("/page").status == 502);
        });
    }
}

#[test]
fn what_one_is_told_alone_does_not_end_what_is_for_all() {
    over_both_with(&all("retry_refresh = \"1ms\""), |config| {
        let ill = Arc::new(AtomicBool::new(false));
        let is_ill = ill.clone();
        let app = Origin::scripted(move |wire| {
            while let Some(request) = wire.request()? {
                let control = match request.field("cookie") {
                    _ if is_ill.load(Ordering::SeqCst) => return Ok(()),
                    Some(_) => "private, no-store",
                    None => "public, max-age=1",
                };
                let head = format!("HTTP/1.1 200 OK\r\nETag: \"1\"\r\nCache-Control: {control}\r\n");
                wire.send([head.as_str(), "Content-Length: 4\r\n\r\npage"].concat().as_bytes())?;
            }
            Ok(())
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        becomes(&mut client, "EXPIRED", "/page", &[("Cookie", "a=1")]);
        ill.store(true, Ordering::SeqCst);
        let stale = client.get("/page");
        assert_eq!((stale.status, outcome(&stale)), (200, "STALE"));
    });
}
