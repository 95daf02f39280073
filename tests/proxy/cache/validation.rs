//! What is stored and may not be sent as it is: the app is asked whether it still holds (RFC 9111 §4.3).

use crate::harness::{Answer, Client, Origin, Reply, until};

use super::{hit, outcome, over_both};

/// An app whose page has this validator and is fresh for a second; to its own condition it says `not_modified`.
fn app(validator: (&'static str, &'static str), not_modified: fn() -> Reply) -> Origin {
    Origin::answering(move |request| {
        let condition = if validator.0 == "ETag" { "if-none-match" } else { "if-modified-since" };
        match request.field(condition) {
            Some(value) if value == validator.1 => not_modified(),
            _ => Reply::text("page").field(validator.0, validator.1).field("Cache-Control", "max-age=1"),
        }
    })
}

fn still_holds() -> Reply {
    Reply::text("").status("304 Not Modified").field("Cache-Control", "max-age=60").field("X-New", "2")
}

/// Asks until the answer has this outcome.
pub(super) fn becomes(client: &mut Client, wanted: &str, target: &str, fields: &[(&str, &str)]) -> Answer {
    let mut last = None;
    until(&format!("{target} is {wanted}"), || {
        let answer = client.get_with(target, fields);
        let is = outcome(&answer) == wanted;
        last = Some(answer);
        is
    });
    last.expect("an answer")
}

#[test]
fn a_stale_response_that_still_holds_is_sent_and_fresh_again() {
    over_both(|config| {
        for validator in [("ETag", "\"v1\""), ("ETag", "W/\"v1\""), ("Last-Modified", "Sun, 06 Nov 1994 08:49:37 GMT")]
        {
            let app = app(validator, still_holds);
            let sidegate = config(&app).start();
            let mut client = sidegate.client();
            hit(&mut client, "/page", &[]);
            let validated = becomes(&mut client, "REVALIDATED", "/page", &[]);
            assert_eq!((validated.status, validated.text().as_str()), (200, "page"));
            assert_eq!(validated.field("content-length"), Some("4"));
            assert_eq!(validated.field("x-new"), Some("2"), "freshened as it is sent");
            assert_eq!(
                validated.field("cache-status"),
                Some("sidegate; fwd=stale; fwd-status=304; ttl=60; stored"),
                "{validator:?}"
            );
            let asked = app.count();
            let again = hit(&mut client, "/page", &[]);
            assert_eq!((again.text().as_str(), again.field("x-new")), ("page", Some("2")), "and as it is stored");
            assert_eq!(app.count(), asked, "fresh again: nobody asks");
        }
    });
}

#[test]
fn the_client_is_answered_by_its_own_conditions_and_the_app_sees_ours() {
    for (theirs, status) in [("\"v1\"", 304), ("\"v0\"", 200)] {
        over_both(|config| {
            let app = app(("ETag", "\"v1\""), still_holds);
            let sidegate = config(&app).start();
            let mut client = sidegate.client();
            hit(&mut client, "/page", &[]);
            let validated = becomes(&mut client, "REVALIDATED", "/page", &[("If-None-Match", theirs)]);
            assert_eq!((validated.status, validated.content.is_empty()), (status, status == 304));
            assert_eq!(app.last().field("if-none-match"), Some("\"v1\""));
        });
    }
}

#[test]
fn a_part_is_sent_of_what_was_validated_as_a_whole() {
    let app = app(("ETag", "\"v1\""), still_holds);
    let sidegate = crate::harness::Configuration::of(&app).with(super::ALL).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    let part = becomes(&mut client, "REVALIDATED", "/page", &[("Range", "bytes=1-2")]);
    assert_eq!((part.status, part.text().as_str()), (206, "ag"));
    assert!(app.last().field("range").is_none());
}

#[test]
fn a_new_answer_replaces_what_is_stored() {
    over_both(|config| {
        let app = Origin::answering(|request| {
            let number = if request.field("if-none-match").is_some() { 2 } else { 1 };
            let reply = Reply::text(number.to_string()).field("ETag", &format!("\"{number}\""));
            reply.field("Cache-Control", if number == 1 { "max-age=1" } else { "max-age=60" })
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        let new = becomes(&mut client, "EXPIRED", "/page", &[]);
        assert_eq!(new.text(), "2");
        assert_eq!(new.field("cache-status"), Some("sidegate; fwd=stale; fwd-status=200; stored"));
        assert_eq!(hit(&mut client, "/page", &[]).text(), "2");
    });
}

#[test]
fn a_304_that_speaks_of_something_else_is_no_answer() {
    let app = Origin::answering(|request| match request.field("if-none-match") {
        Some(_) => Reply::text("").status("304 Not Modified").field("ETag", "\"other\""),
        None => Reply::text("page").field("ETag", "\"v1\"").field("Cache-Control", "max-age=1"),
    });
    let sidegate = crate::harness::Configuration::of(&app).with(super::ALL).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    let answer = becomes(&mut client, "EXPIRED", "/page", &[]);
    assert_eq!((answer.status, answer.text().as_str()), (200, "page"));
    let conditions: Vec<_> = app.requests().iter().map(|request| request.field("if-none-match").is_some()).collect();
    assert!(conditions.ends_with(&[true, false]), "{conditions:?}");
}

#[test]
fn what_vary_names_goes_to_the_app_as_the_client_sent_it() {
    over_both(|config| {
        let app = Origin::answering(|request| {
            let language = request.field("accept-language").unwrap_or("-").to_owned();
            match request.field("if-none-match") {
                Some(_) => still_holds().field("Vary", "Accept-Language"),
                None => Reply::text(language.clone())
                    .field("ETag", &format!("\"{language}\""))
                    .field("Vary", "Accept-Language")
                    .field("Cache-Control", "max-age=1"),
            }
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for language in ["de", "fr"] {
            hit(&mut client, "/page", &[("Accept-Language", language)]);
        }
        for language in ["de", "fr"] {
            let fields = [("Accept-Language", language)];
            let answer = becomes(&mut client, "REVALIDATED", "/page", &fields);
            assert_eq!(answer.text(), language);
            let seen = app.last();
            let condition = format!("\"{language}\"");
            assert_eq!(seen.field("if-none-match"), Some(condition.as_str()));
            assert_eq!(seen.field("accept-language"), Some(language));
            assert_eq!(hit(&mut client, "/page", &fields).text(), language);
        }
    });
}

#[test]
fn a_write_while_the_app_is_asked_is_not_undone_by_its_304() {
    over_both(|config| {
        use std::sync::Arc;
        use std::sync::atomic::{AtomicUsize, Ordering};
        let version = Arc::new(AtomicUsize::new(1));
        let (asking, written) = (crate::harness::origin::Gate::default(), crate::harness::origin::Gate::default());
        let (seen, may_answer, current) = (asking.clone(), written.clone(), version.clone());
        let app = Origin::answering(move |request| {
            if request.method == "POST" {
                current.store(2, Ordering::SeqCst);
                return Reply::text("done");
            }
            let now = current.load(Ordering::SeqCst);
            let etag = format!("\"{now}\"");
            if request.field("if-none-match") == Some(etag.as_str()) && now == 1 {
                // It has looked, and answers only when the write is over.
                seen.open();
                may_answer.wait();
                return Reply::text("").status("304 Not Modified").field("Cache-Control", "max-age=60");
            }
            Reply::text(now.to_string())
                .field("ETag", &etag)
                .field("Cache-Control", if now == 1 { "max-age=1" } else { "max-age=60" })
        });
        let sidegate = config(&app).start();
        let (mut reader, mut writer) = (sidegate.client(), sidegate.client());
        hit(&mut reader, "/page", &[]);
        std::thread::scope(|scope| {
            let validated = scope.spawn(|| becomes(&mut reader, "REVALIDATED", "/page", &[]));
            assert!(asking.wait(), "the app is asked");
            assert_eq!(writer.ask("POST", "/page", &[], b"x").status, 200);
            written.open();
            assert_eq!(validated.join().expect("an answer").text(), "1");
        });
        let answer = writer.get("/page");
        assert_eq!((outcome(&answer) == "HIT", answer.text().as_str()), (false, "2"));
        assert_eq!(hit(&mut writer, "/page", &[]).text(), "2");
    });
}

#[test]
fn large_content_is_validated_and_cut_without_being_fetched_again() {
    let redis = crate::harness::RedisServer::start();
    let large: String = (0..40_000).map(|number| format!("{number:05} ")).collect();
    let content = large.clone();
    let app = Origin::answering(move |request| match request.field("if-none-match") {
        Some(_) => still_holds(),
        None => Reply::text(content.clone()).field("ETag", "\"v1\"").field("Cache-Control", "max-age=1"),
    });
    let tables = super::ALL.replace("[[route]]", "piece = \"16 KiB\"\n[[route]]");
    let sidegate = crate::harness::Configuration::of(&app).redis(&redis).with(&tables).start();
    let mut client = sidegate.client();
    hit(&mut client, "/page", &[]);
    assert_eq!(becomes(&mut client, "REVALIDATED", "/page", &[]).text(), large);
    let asked = app.count();
    let part = hit(&mut client, "/page", &[("Range", "bytes=100000-100005")]);
    assert_eq!((part.status, part.text().as_str()), (206, &large[100_000..=100_005]));
    assert_eq!(hit(&mut client, "/page", &[]).text(), large);
    assert_eq!(app.count(), asked);
}

#[test]
fn what_a_304_brings_for_the_client_that_waits_is_sent_to_it_alone() {
    over_both(|config| {
        let app = Origin::answering(|request| {
            let is_known = request.field("if-none-match").is_some();
            let reply = if is_known { Reply::text("").status("304 Not Modified") } else { Reply::text("page") };
            let age = if is_known { "60" } else { "1" };
            reply
                .field("ETag", "\"v1\"")
                .field("Cache-Control", &format!("max-age={age}, no-cache=\"X-Yours\""))
                .field("X-Yours", "token")
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        assert_eq!(hit(&mut client, "/page", &[]).field("x-yours"), None);
        assert_eq!(becomes(&mut client, "REVALIDATED", "/page", &[]).field("x-yours"), Some("token"));
        assert_eq!(hit(&mut client, "/page", &[]).field("x-yours"), None);
    });
}
