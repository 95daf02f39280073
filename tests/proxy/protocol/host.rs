//! Host, authority, and the forms of a target (RFC 9112 §3.2, RFC 3986 §3.2).

use super::recorder::{Event, Recorder};
use super::{Case, Then, passes, refused, table};
use crate::harness::Configuration;

fn with(host: &str) -> String {
    format!("GET /host HTTP/1.1\r\nHost: {host}\r\n\r\n")
}

const SOUND: [&str; 21] = [
    "a",
    "A.Example",
    "a.b.c",
    "a-b",
    "a_b",
    "a~b",
    "xn--bcher-kva.example",
    "a.",
    "1.2.3.4",
    "1.2.3.4:80",
    "a:80",
    "a:",
    "a:0",
    "a:00080",
    "a:65535",
    "[::1]",
    "[::1]:80",
    "[2001:db8::1]",
    "[::ffff:1.2.3.4]:8080",
    "a!$&'()*+;=b",
    "localhost",
];

const UNSOUND: [&str; 58] = [
    "",
    ":80",
    "a b",
    "a\tb",
    "a, b",
    "a,b",
    "a;b c",
    "a/b",
    "a/",
    "/",
    "a?b",
    "a#b",
    "a\\b",
    "a@b",
    "user@a",
    "user:pass@a",
    "@a",
    "a@",
    "a:x",
    "a:-1",
    "a:+80",
    "a:8 0",
    "a: 80",
    "a :80",
    "a:65536",
    "a:99999999999999999999",
    "a:80:80",
    "a:80:",
    "a::80",
    "::1",
    "[::1",
    "::1]",
    "[::1]]",
    "[[::1]]",
    "[::1]x",
    "[::1]:x",
    "[::1] :80",
    "[]",
    "[]:80",
    "[a]",
    "[1.2.3.4]",
    "[::1%25eth0]",
    "[::g]",
    "[:::1]",
    "a%",
    "a%4",
    "a%zz",
    "a%00",
    "a%0a",
    "a%2f",
    "a%20b",
    "a\"b",
    "\"a\"",
    "<a>",
    "a^b",
    "a|b",
    "a{b}",
    "a`b",
];

#[test]
fn host_is_there_once_and_well_formed() {
    let mut cases: Vec<Case> = Vec::new();
    for host in SOUND {
        let case = passes("9112 §3.2", format!("Host {host:?}"), with(host), "GET /host").with("host", host);
        cases.push(case.with("x-forwarded-host", host));
    }
    for host in UNSOUND {
        cases.push(refused("9112 §3.2", format!("Host {host:?}"), with(host), &[400]));
        let old = format!("GET /host HTTP/1.0\r\nHost: {host}\r\n\r\n");
        cases.push(refused("9112 §3.2", format!("Host {host:?} of HTTP/1.0"), old, &[400]));
    }
    cases.push(refused("9112 §3.2", "Host beyond ASCII", with("b\u{fc}cher"), &[400]));
    cases.push(refused("9112 §3.2", "no Host", "GET /host HTTP/1.1\r\n\r\n", &[400]));
    cases.push(refused(
        "9112 §3.2",
        "no Host, but X-Forwarded-Host",
        "GET / HTTP/1.1\r\nX-Forwarded-Host: a\r\n\r\n",
        &[400],
    ));
    for (first, second) in [("a", "a"), ("a", "b"), ("", "a"), ("a", "")] {
        let bytes = format!("GET /host HTTP/1.1\r\nHost: {first}\r\nHost: {second}\r\n\r\n");
        cases.push(refused("9112 §3.2", format!("Host {first:?} and {second:?}"), &bytes, &[400]));
        let apart = bytes.replacen("\r\nHost", "\r\nhOsT", 1).replacen("\r\nHost", "\r\nX-A: b\r\nHOST", 1);
        cases.push(refused("9112 §3.2", format!("Host {first:?} and, apart, {second:?}"), apart, &[400]));
        let old = bytes.replacen("HTTP/1.1", "HTTP/1.0", 1);
        cases.push(refused("9112 §3.2", format!("Host {first:?} and {second:?} of HTTP/1.0"), old, &[400]));
    }
    let old = passes("9112 §3.3", "no Host in HTTP/1.0", "GET /host HTTP/1.0\r\n\r\n", "GET /host").then(Then::Closed);
    cases.push(old.without("x-forwarded-host"));
    let old = "GET /host HTTP/1.0\r\nHost: a\r\n\r\n";
    cases.push(passes("9112 §3.2", "Host in HTTP/1.0", old, "GET /host").with("host", "a").then(Then::Closed));
    table(cases);
}

#[test]
fn a_request_of_http_1_0_that_names_no_host_is_for_the_app() {
    let app = Recorder::start();
    let sidegate = Configuration::to(&app.url()).start();
    assert_eq!(sidegate.client().send("GET / HTTP/1.0\r\n\r\n").answer().status, 200);
    let events = app.take();
    let [Event::Whole(seen)] = &events[..] else { panic!("one request, not {events:?}") };
    assert_eq!(seen.one("host"), app.url().strip_prefix("http://"));
}

#[test]
fn a_target_has_the_form_its_method_takes() {
    let mut cases: Vec<Case> = Vec::new();
    let line = |start: &str, host: &str| format!("{start} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    // The absolute form wins over Host, and one Host goes on.
    for (target, host, seen) in [
        ("http://right.test/a?b", "right.test", "/a?b"),
        ("http://right.test:81/a", "right.test:81", "/a"),
        ("http://right.test", "right.test", "/"),
        ("http://right.test?b", "right.test", "/?b"),
        ("http://right.test/", "right.test", "/"),
        ("HTTP://right.test/a", "right.test", "/a"),
        ("https://right.test/a", "right.test", "/a"),
        ("http://[::1]:81/a", "[::1]:81", "/a"),
        ("http://right.test//a//b", "right.test", "//a//b"),
    ] {
        let case =
            passes("9112 §3.2.2", format!("absolute {target:?}"), line(&format!("GET {target}"), "wrong.test"), "GET");
        let mut case = case.with("host", host).with("x-forwarded-host", host);
        case.app[0].start = format!("GET {seen} HTTP/1.1");
        cases.push(case);
    }
    for host in SOUND {
        let start = line(&format!("GET http://{host}/host"), "wrong.test");
        cases.push(passes("9112 §3.2.2", format!("absolute {host:?}"), start, "GET /host").with("host", host));
    }
    for target in [
        "http://",
        "http:///a",
        "http:/a",
        "http:a",
        "http//a",
        "//",
        "http://user@a/",
        "http://user:pass@a/",
        "http://a:x/",
        "http://a:1:2/",
        "http://a:65536/",
        "http://[::1/",
        "http://::1/",
        "http://a b/",
        "http://a,b/",
        "http://a%zz/",
        "http://a%41/",
        "http://a\\b/",
        "http://a#b",
        "http://a/#b",
        "ftp://a/",
        "ws://a/",
        "file:///a",
        "javascript:a",
        "mailto:a@b",
        "urn:a",
        "a",
        "a:80",
        "a/b",
        "?a",
        "*a",
        "**",
        "./a",
        "../a",
        "\\a",
        "http",
        ":",
        "%2fa",
        "http://:80/",
        "http://a:-1/",
    ] {
        if target != "//" {
            cases.push(refused("9112 §3.2", format!("target {target:?}"), line(&format!("GET {target}"), "a"), &[400]));
        }
    }
    for host in ["", "a b", "a@b", "a:x", "a, b"] {
        let bytes = line("GET http://a/", host);
        cases.push(refused("9112 §3.2.2", format!("absolute form beside Host {host:?}"), bytes, &[400]));
    }
    cases.push(refused("9112 §3.2", "absolute form without Host", "GET http://a/ HTTP/1.1\r\n\r\n", &[400]));
    let twice = "GET http://a/ HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n";
    cases.push(refused("9112 §3.2", "absolute form with two Hosts", twice, &[400]));
    let old = "GET http://a/host HTTP/1.0\r\n\r\n";
    cases.push(
        passes("9112 §3.2.2", "absolute form in HTTP/1.0", old, "GET /host").with("host", "a").then(Then::Closed),
    );
    // Asterisk.
    cases.push(passes("9112 §3.2.4", "OPTIONS *", line("OPTIONS *", "a"), "OPTIONS *").with("host", "a"));
    let whole = passes("9112 §3.2.4", "OPTIONS of a server, absolute", line("OPTIONS http://b.test", "a"), "OPTIONS *");
    cases.push(whole.with("host", "b.test"));
    let path = passes("9112 §3.2.4", "OPTIONS of a path, absolute", line("OPTIONS http://b.test/", "a"), "OPTIONS /");
    cases.push(path.with("host", "b.test"));
    let query =
        passes("9112 §3.2.4", "OPTIONS of a query, absolute", line("OPTIONS http://b.test?a", "a"), "OPTIONS /?a");
    cases.push(query.with("host", "b.test"));
    let both =
        format!("{}{}{}", line("GET http://b.test", "a"), line("OPTIONS http://b.test", "a"), line("OPTIONS /x", "a"));
    let both = passes("9112 §3.2.4", "the same, pipelined", both, "GET /").and("OPTIONS *").and("OPTIONS /x");
    cases.push(both.back(&[200]).back(&[200]));
    for method in ["GET", "POST", "HEAD", "TRACE", "BREW", "options"] {
        cases.push(refused("9112 §3.2.4", format!("{method} *"), line(&format!("{method} *"), "a"), &[400]));
    }
    // The authority form is CONNECT's, which is not served.
    for target in ["a:443", "a", "/", "http://a/", "*", "[::1]:443", "a:x"] {
        cases.push(refused(
            "9110 §9.3.6",
            format!("CONNECT {target}"),
            line(&format!("CONNECT {target}"), "a:443"),
            &[400, 405, 501],
        ));
    }
    let tunnelled = format!("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n{}", line("GET /smuggled", "a"));
    cases.push(refused("9110 §9.3.6", "CONNECT and bytes after it", tunnelled, &[400, 405, 501]));
    table(cases);
}
