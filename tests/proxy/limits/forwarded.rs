//! Limits that count only what reaches the app.

use super::over_both;
use crate::harness::{Origin, Reply};

const TABLES: &str = "[limit.app]\nkey = \"address\"\nquota = \"3 per hour\"\ncount = \"forwarded\"\n\
                      [cache.pages]\nttl = \"1h\"\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"app\"]\ncache = \"pages\"\n";

#[test]
fn what_the_store_answers_costs_nothing_and_no_other_client_is_told_of_it() {
    over_both(|config| {
        let app = Origin::answering(|request| Reply::text(request.path()).field("X-RateLimit-Limit", "the app's"));
        let sidegate = config(&app).with(TABLES).start();
        let mut client = sidegate.client();
        for (target, left) in [("/a", 2), ("/b", 1)] {
            let miss = client.get(target);
            assert_eq!((miss.field("x-cache"), miss.number("x-ratelimit-remaining")), (Some("MISS"), left));
            for _ in 0..5 {
                let hit = client.get(target);
                assert_eq!((hit.status, hit.field("x-cache"), hit.text().as_str()), (200, Some("HIT"), target));
                for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "ratelimit"] {
                    assert!(!hit.fields.has(name), "{name} of another request: {hit:?}");
                }
            }
        }
        assert_eq!((client.get("/c").status, client.get("/d").status, app.count()), (200, 429, 3));
    });
}

#[test]
fn a_refusal_is_never_stored_and_invalidates_nothing() {
    over_both(|config| {
        let app = Origin::answering(|request| Reply::text(request.path()));
        let sidegate = config(&app).with(TABLES).start();
        let mut client = sidegate.client();
        assert_eq!(["/a", "/b", "/c"].map(|target| client.get(target).status), [200; 3]);
        for _ in 0..2 {
            let refused = client.get("/d");
            assert_eq!((refused.status, refused.field("x-cache")), (429, Some("MISS")), "{refused:?}");
        }
        assert_eq!(client.ask("POST", "/a", &[], b"").status, 429);
        assert_eq!(client.get("/a").field("x-cache"), Some("HIT"));
        assert_eq!(app.count(), 3);
    });
}
