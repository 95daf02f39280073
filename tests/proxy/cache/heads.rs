//! What an answer to HEAD says of the stored answer to GET (RFC 9111 §4.3.5), and fields that are not stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::harness::{Configuration, Origin, Reply, until};

use super::{hit, outcome, over_both_with};

const HONOUR: &str =
    "[cache.pages]\nclient_directives = \"honour\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";

/// An app that ignores conditions. To HEAD it says `X-New: 2`, and another tag once `changed`.
fn app(control: &'static str) -> (Origin, Arc<AtomicBool>) {
    let changed = Arc::new(AtomicBool::new(false));
    let has_changed = changed.clone();
    let app = Origin::answering(move |request| {
        let is_head = request.method == "HEAD";
        let etag = if has_changed.load(Ordering::SeqCst) { "\"v2\"" } else { "\"v1\"" };
        let reply = Reply::text("page").field("ETag", etag);
        if is_head {
            reply.field("X-New", "2").field("Cache-Control", "max-age=60")
        } else {
            reply.field("Cache-Control", control)
        }
    });
    (app, changed)
}

#[test]
fn a_head_that_agrees_freshens_the_stored_page() {
    over_both_with(HONOUR, |config| {
        let (app, _) = app("max-age=1");
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        until("the app is asked by HEAD", || outcome(&client.ask("HEAD", "/page", &[], b"")) == "EXPIRED");
        let asked = app.count();
        until("the freshened page", || {
            let page = client.get("/page");
            (outcome(&page), page.text().as_str(), page.field("x-new")) == ("HIT", "page", Some("2"))
        });
        assert_eq!(app.count(), asked, "nobody has asked for it again");
    });
}

#[test]
fn a_head_that_disagrees_makes_the_stored_page_stale() {
    over_both_with(HONOUR, |config| {
        let (app, changed) = app("max-age=60");
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        changed.store(true, Ordering::SeqCst);
        let head = client.ask("HEAD", "/page", &[("Cache-Control", "no-cache")], b"");
        assert_eq!((outcome(&head), head.field("etag")), ("EXPIRED", Some("\"v2\"")));
        until("the changed page", || client.get("/page").field("etag") == Some("\"v2\""));
    });
}

#[test]
fn a_cookie_is_for_the_client_that_caused_it_where_it_is_stripped() {
    let tables = HONOUR.replace("[[route]]", "set_cookie = \"strip\"\n[[route]]");
    over_both_with(&tables, |config| {
        let app = Origin::answering(|request| match request.field("if-none-match") {
            Some(_) => Reply::text("").status("304 Not Modified").field("Set-Cookie", "a=2"),
            None => Reply::text("page")
                .field("ETag", "\"v1\"")
                .field("Cache-Control", "max-age=60")
                .field("Set-Cookie", "a=1"),
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        assert_eq!(client.get("/page").field("set-cookie"), Some("a=1"));
        assert_eq!(hit(&mut client, "/page", &[]).field("set-cookie"), None);
        let validated = client.get_with("/page", &[("Cache-Control", "no-cache")]);
        assert_eq!((outcome(&validated), validated.field("set-cookie")), ("REVALIDATED", Some("a=2")));
        assert_eq!(hit(&mut client, "/page", &[]).field("set-cookie"), None);
    });
}

#[test]
fn fields_that_no_cache_and_private_name_are_not_stored() {
    let app = Origin::answering(|_| {
        Reply::text("page")
            .field("Cache-Control", "max-age=60, no-cache=\"x-a, x-b\", private=\"x-c\"")
            .field("X-A", "1")
            .field("X-B", "1")
            .field("X-C", "1")
            .field("X-D", "1")
    });
    let sidegate = Configuration::of(&app).with(HONOUR).start();
    let mut client = sidegate.client();
    let names = ["x-a", "x-b", "x-c", "x-d"];
    let first = client.get("/page");
    assert_eq!(names.map(|name| first.fields.has(name)), [true; 4]);
    let stored = hit(&mut client, "/page", &[]);
    assert_eq!(names.map(|name| stored.fields.has(name)), [false, false, false, true]);
}
