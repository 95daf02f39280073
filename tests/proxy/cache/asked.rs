//! What clients ask of stored responses by `Cache-Control`, and whether it is heard (RFC 9111 §5.2.1).

use crate::harness::{Configuration, Origin, Reply};

use super::validation::becomes;
use super::{hit, outcome, over_both_with};

const HONOUR: &str =
    "[cache.pages]\nclient_directives = \"honour\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
const IGNORE: &str = "[cache.pages]\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";

fn app() -> Origin {
    Origin::answering(|request| {
        let control = if request.path() == "/short" { "max-age=1" } else { "max-age=60" };
        let reply = match request.field("if-none-match") {
            Some("\"v1\"") => Reply::text("").status("304 Not Modified"),
            _ => Reply::text("page"),
        };
        reply.field("ETag", "\"v1\"").field("Cache-Control", control)
    })
}

#[test]
fn who_wants_it_newer_gets_it_by_validation() {
    over_both_with(HONOUR, |config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        for (field, value, detail) in [
            ("Cache-Control", "no-cache", "request-no-cache"),
            ("Pragma", "no-cache", "request-no-cache"),
            ("Cache-Control", "min-fresh=3600", "request-min-fresh"),
        ] {
            let asked = app.count();
            let answer = client.get_with("/page", &[(field, value)]);
            assert_eq!((outcome(&answer), answer.text().as_str()), ("REVALIDATED", "page"), "{value}");
            let told = format!(
                "sidegate; fwd=request; fwd-status=304; ttl=60; stored; detail={}",
                sidegate::cache::reasons::detail(detail)
            );
            assert_eq!(answer.field("cache-status"), Some(told.as_str()));
            assert_eq!(app.count(), asked + 1);
            hit(&mut client, "/page", &[]);
        }
    });
}

#[test]
fn who_takes_only_what_is_stored_gets_that_or_504() {
    over_both_with(HONOUR, |config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let only = [("Cache-Control", "only-if-cached")];
        let none = client.get_with("/page", &only);
        assert_eq!((none.status, none.json()["type"].as_str()), (504, Some("urn:sidegate:problem:not-stored")));
        let told = "sidegate; detail=\"only-if-cached: RFC 9111 5.2.1.7\"";
        assert_eq!((outcome(&none), none.field("cache-status")), ("MISS", Some(told)));
        assert_eq!(app.count(), 0);
        hit(&mut client, "/page", &[]);
        assert_eq!(outcome(&client.get_with("/page", &only)), "HIT");
    });
}

#[test]
fn who_takes_it_stale_gets_it_so() {
    let app = app();
    let sidegate = Configuration::of(&app).with(HONOUR).start();
    let mut client = sidegate.client();
    hit(&mut client, "/short", &[]);
    let asked = app.count();
    let stale = becomes(&mut client, "STALE", "/short", &[("Cache-Control", "max-stale=60")]);
    assert!(stale.number("age") >= 1);
    assert_eq!(app.count(), asked, "and makes nobody work");
}

#[test]
fn by_default_a_client_cannot_force_its_way_to_the_app() {
    over_both_with(IGNORE, |config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[]);
        let asked = app.count();
        for value in ["no-cache", "max-age=0", "min-fresh=3600", "only-if-cached"] {
            assert_eq!(outcome(&client.get_with("/page", &[("Cache-Control", value)])), "HIT", "{value}");
        }
        assert_eq!(app.count(), asked);
        assert_eq!(client.get_with("/other", &[("Cache-Control", "only-if-cached")]).status, 200);
    });
}
