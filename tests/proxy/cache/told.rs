//! What `Cache-Status` tells besides (RFC 9211).

use crate::harness::{Configuration, Origin, Reply};

use super::hit;

#[test]
fn by_setting_the_key_is_told() {
    let app = Origin::answering(|_| Reply::text("page").field("Cache-Control", "max-age=60"));
    let tables = "[cache.pages]\nstatus_key = true\n[[route]]\npath = \"/{*rest}\"\ncache = \"pages\"\n";
    let sidegate = Configuration::of(&app).with(tables).start();
    let mut client = sidegate.client();
    let told = |answer: &crate::harness::Answer| answer.field("cache-status").expect("Cache-Status").to_owned();
    let first = told(&client.get("/page?a=%22"));
    assert!(first.ends_with("/page?a=%22 http\"") && first.contains("; stored; key=\""), "{first}");
    let second = told(&hit(&mut client, "/page?a=%22", &[]));
    assert!(second.starts_with("sidegate; hit; ttl=") && second.contains("; key=\""), "{second}");
}

#[test]
fn the_caches_before_us_have_said_their_part_first() {
    let app = Origin::answering(|_| Reply::text("page").field("Cache-Status", "Origin; hit"));
    let sidegate = Configuration::of(&app).with(super::ALL).start();
    let answer = sidegate.get("/page");
    let lines: Vec<_> = answer.fields.all("cache-status").collect();
    assert_eq!(lines, ["Origin; hit", "sidegate; fwd=uri-miss; fwd-status=200; stored"]);
}

#[test]
fn a_status_beyond_599_passes() {
    let app = Origin::answering(|_| Reply::text("odd").status("999 Odd"));
    let sidegate = Configuration::of(&app).with(super::ALL).start();
    let answer = sidegate.get("/page");
    assert_eq!((answer.status, answer.text().as_str()), (999, "odd"));
    assert_eq!(
        answer.field("cache-status"),
        Some("sidegate; fwd=uri-miss; fwd-status=999; detail=\"no-lifetime: RFC 9111 4.2.1\"")
    );
}

#[test]
fn an_app_that_said_nothing_is_quoted_with_nothing() {
    let app = Origin::scripted(|wire| wire.request().map(drop));
    let sidegate = Configuration::of(&app).with(super::ALL).start();
    let answer = sidegate.get("/page");
    assert_eq!(
        (answer.status, answer.field("cache-status")),
        (502, Some("sidegate; fwd=uri-miss; detail=\"local-reply: RFC 9111 3\""))
    );
    let passed = sidegate.client().ask("OPTIONS", "/page", &[], b"");
    assert_eq!((passed.status, passed.field("cache-status")), (502, Some("sidegate; fwd=method")));
}
