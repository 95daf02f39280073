//! What responses say of their own caching, and what requests mean, over real sockets.

use crate::harness::{Configuration, Origin, Reply};

use super::{ALL, hit, never_hit, outcome, over_both};

/// An app that answers with the fields that the path names: `/age=5/cache-control=max-age=60`; `+` is a space, `'` a quote.
fn app() -> Origin {
    Origin::answering(|request| {
        let path = request.path().replace('+', " ").replace('\'', "\"");
        let fields = path.split('/').filter_map(|field| field.split_once('='));
        fields.fold(Reply::text("page"), |reply, (name, value)| reply.field(name, value))
    })
}

#[test]
fn what_a_response_says_decides_whether_it_is_reused() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        for reused in [
            "/cdn-cache-control=max-age=60/cache-control=no-store", // RFC 9213 §2.2
            "/cache-control=max-age=60/age=x",                      // RFC 9111 §5.1
            "/cache-control=max-age=60/age=0,99",
            "/expires=THU,+18+Aug+2050+02:01:18+gmt", // RFC 9110 §5.6.7
            "/expires=Thu+Aug++8+02:01:18+2050",
            "/cache-control=max-age=60,no-store,must-understand", // §5.2.2.3
        ] {
            hit(&mut client, reused, &[]);
        }
        for not_reused in [
            "/cdn-cache-control=no-store/cache-control=max-age=60",
            "/cdn-cache-control=Max-Age=60/cache-control=no-store",
            "/cache-control=max-age=60/age=99,0",
            "/cache-control=max-age=60/age=2147483648",
            "/expires=Thu,+18+Aug+50+02:01:18+GMT",
            "/expires=Thu,+18+Aug+2050+2:01:18+GMT",
            "/cache-control=private,max-age=60",
        ] {
            never_hit(&mut client, not_reused, &[]);
        }
    });
}

#[test]
fn fields_that_are_named_reach_the_first_client_alone() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let path = "/cache-control=max-age=60,private='a'/a=1/b=2";
        let first = client.get(path);
        assert_eq!((first.field("a"), first.field("b")), (Some("1"), Some("2")));
        hit(&mut client, path, &[]);
        let stored = client.get(path);
        assert_eq!((outcome(&stored), stored.field("a"), stored.field("b")), ("HIT", None, Some("2")));
    });
}

#[test]
fn languages_and_codings_are_compared_by_meaning() {
    over_both(|config| {
        let app = app();
        let sidegate = config(&app).start();
        let mut client = sidegate.client();
        let path = "/cache-control=max-age=60/vary=accept-language,accept-encoding";
        hit(&mut client, path, &[("Accept-Language", "en, de;q=0.5"), ("Accept-Encoding", "br, gzip")]);
        let asked = app.count();
        for (languages, codings) in [("en, de;q=0.5", "gzip,br"), ("DE;q=0.500,EN;q=1", "BR, gzip;q=1.0")] {
            let fields = [("Accept-Language", languages), ("Accept-Encoding", codings)];
            assert_eq!(outcome(&client.ask("GET", path, &fields, b"")), "HIT", "{fields:?}");
        }
        assert_eq!(app.count(), asked);
        for (languages, codings) in [("en, de", "gzip,br"), ("en, de;q=0.5", "gzip"), ("en", "gzip,br")] {
            let fields = [("Accept-Language", languages), ("Accept-Encoding", codings)];
            assert_eq!(outcome(&client.ask("GET", path, &fields, b"")), "MISS", "{fields:?}");
        }
    });
}

#[test]
fn a_page_in_the_best_language_answers_from_memory() {
    let app = app();
    let sidegate = Configuration::of(&app).with(ALL).start();
    let mut client = sidegate.client();
    let path = "/cache-control=max-age=60/vary=accept-language/content-language=de";
    hit(&mut client, path, &[("Accept-Language", "en, de")]);
    let mut ask = |languages| {
        let answer = client.ask("GET", path, &[("Accept-Language", languages)], b"");
        outcome(&answer).to_owned()
    };
    assert_eq!(ask("fr;q=0.5, de;q=1.0"), "HIT");
    assert_eq!(ask("en;q=0.9, de;q=0.8"), "MISS");
    assert_eq!(ask("de-AT, de;q=0.9"), "MISS");
}
