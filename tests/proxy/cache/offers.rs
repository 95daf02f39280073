//! The entity tags of stored variants are offered where another variant is asked for (RFC 9111 §4.1, §4.3.1).

use crate::harness::{Origin, Reply};

use super::{hit, outcome, over_both};

/// An app that has two pages for all languages, and numbers neither.
fn app() -> Origin {
    Origin::answering(|request| {
        let german = request.field("accept-language").is_some_and(|language| language.starts_with("de"));
        let etag = if german { "\"german\"" } else { "\"english\"" };
        let offered = request.field("if-none-match").unwrap_or_default();
        let reply = if offered.split(", ").any(|tag| tag == etag) {
            Reply::text("").status("304 Not Modified")
        } else {
            Reply::text(if german { "Hallo" } else { "Hello" })
        };
        reply.field("ETag", etag).field("Vary", "Accept-Language").field("Cache-Control", "max-age=60")
    })
}

#[test]
fn a_variant_that_is_the_same_as_a_stored_one_is_not_sent_again() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[("Accept-Language", "de")]);
        hit(&mut client, "/page", &[("Accept-Language", "en")]);
        let same = client.get_with("/page", &[("Accept-Language", "de-AT")]);
        assert_eq!((same.status, same.text().as_str(), outcome(&same)), (200, "Hallo", "REVALIDATED"));
        let told = same.field("cache-status").expect("Cache-Status");
        assert_eq!(told, "sidegate; fwd=vary-miss; fwd-status=304; ttl=60; stored");
        let offered = app.last();
        let offered = offered.field("if-none-match").expect("an offer");
        assert!(offered.contains("\"german\"") && offered.contains("\"english\""), "{offered}");
        assert_eq!(hit(&mut client, "/page", &[("Accept-Language", "de-AT")]).text(), "Hallo");
        assert_eq!(hit(&mut client, "/page", &[("Accept-Language", "en")]).text(), "Hello");
    });
}

#[test]
fn who_has_conditions_of_its_own_is_left_to_them() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[("Accept-Language", "en")]);
        let theirs = client.get_with("/page", &[("Accept-Language", "de"), ("If-None-Match", "\"german\"")]);
        assert_eq!((theirs.status, app.last().field("if-none-match")), (304, Some("\"german\"")));
        let page = client.get_with("/page", &[("Accept-Language", "de")]);
        assert_eq!((page.status, page.text().as_str()), (200, "Hallo"));
    });
}

/// What is made equal here is content: of an app whose one tag stands for every coding.
#[test]
fn a_client_is_not_sent_a_coding_that_it_does_not_accept() {
    over_both(|config| {
        let app = Origin::answering(|request| {
            let zips = request.field("accept-encoding").is_some_and(|codings| codings.contains("gzip"));
            let reply = match (request.field("if-none-match"), zips) {
                (Some(_), _) => Reply::text("").status("304 Not Modified"),
                (None, true) => Reply::text("zipped").field("Content-Encoding", "gzip"),
                (None, false) => Reply::text("plain"),
            };
            reply.field("ETag", "\"same\"").field("Vary", "Accept-Encoding").field("Cache-Control", "max-age=60")
        });
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        hit(&mut client, "/page", &[("Accept-Encoding", "gzip")]);
        let plain = client.get("/page");
        assert_eq!((plain.text().as_str(), plain.field("content-encoding")), ("plain", None));
        assert_eq!(app.last().field("if-none-match"), None);
    });
}
