//! Bytes that could be read in two ways, or in none: refused, and nothing of them reaches the app (PROTOCOL.md).

use std::time::Duration;

use crate::harness::{Configuration, Origin, Reply, Sidegate, http2, until};

/// What is sent, and the statuses that are a right answer. 0: closed without a word.
type Case = (&'static str, Vec<u8>, &'static [u16]);

fn case(name: &'static str, bytes: impl AsRef<[u8]>, statuses: &'static [u16]) -> Case {
    (name, bytes.as_ref().to_vec(), statuses)
}

/// Sends each case over a connection of its own, then asks for a page: the proxy lives, and the app saw that page alone.
fn refused(cases: Vec<Case>) {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let wrong: Vec<_> = cases.into_iter().filter_map(|case| wrong(&sidegate, &app, case)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn wrong(sidegate: &Sidegate, app: &Origin, (name, bytes, statuses): Case) -> Option<String> {
    let before = app.count();
    let mut client = sidegate.client();
    // The proxy may have closed before all of it was sent.
    let _ = client.try_send(&bytes);
    client.end();
    let status = client.try_answer_to("GET").map_or(0, |answer| answer.status);
    let smuggled = client.try_answer_to("GET").is_ok();
    let after = sidegate.get("/alive").status;
    let reached: Vec<_> = app.requests().split_off(before).into_iter().filter(|seen| seen.target != "/alive").collect();
    match () {
        () if !statuses.contains(&status) => Some(format!("{name}: answered {status}, expected one of {statuses:?}")),
        () if smuggled => Some(format!("{name}: answered twice")),
        () if after != 200 => Some(format!("{name}: the next client was answered {after}")),
        () if !reached.is_empty() => Some(format!("{name}: reached the app as {reached:?}")),
        () => None,
    }
}

const BAD: &[u16] = &[400];

fn head(lines: &str) -> String {
    format!("{lines}\r\n\r\n")
}

fn with_field(line: &str) -> String {
    head(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}"))
}

fn chunked(content: &str) -> String {
    format!("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n{content}")
}

#[test]
fn two_ways_to_find_the_end_of_the_content_are_one_too_many() {
    let post = |fields: &str, content: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n{content}");
    let smuggled = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    refused(vec![
        case("length, then chunked", post("Content-Length: 6\r\nTransfer-Encoding: chunked", smuggled), BAD),
        case("chunked, then length", post("Transfer-Encoding: chunked\r\nContent-Length: 6", smuggled), BAD),
        case("two unequal lengths", post("Content-Length: 3\r\nContent-Length: 5", "abcde"), BAD),
        case("a list of unequal lengths", post("Content-Length: 3, 5", "abcde"), BAD),
        case("a signed length", post("Content-Length: +3", "abc"), BAD),
        case("a negative length", post("Content-Length: -3", "abc"), BAD),
        case("a hexadecimal length", post("Content-Length: 0x3", "abc"), BAD),
        case("a decimal fraction", post("Content-Length: 3.0", "abc"), BAD),
        case("a length with a space inside", post("Content-Length: 1 0", "abc"), BAD),
        case("an empty length", post("Content-Length:", "abc"), BAD),
        case("a length that overflows", post("Content-Length: 18446744073709551617", "a"), BAD),
    ]);
}

#[test]
fn a_transfer_encoding_that_is_not_simply_chunked_is_refused() {
    let with = |line: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{line}\r\n\r\n0\r\n\r\n");
    let refusals: &[u16] = &[400, 501];
    refused(vec![
        case("chunked is not the last", with("Transfer-Encoding: chunked, gzip"), refusals),
        case("chunked twice", with("Transfer-Encoding: chunked, chunked"), refusals),
        case("two lines", with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"), refusals),
        case("identity", with("Transfer-Encoding: identity"), refusals),
        case("unknown", with("Transfer-Encoding: xchunked"), refusals),
        case("quoted", with("Transfer-Encoding: \"chunked\""), refusals),
        case("with a parameter", with("Transfer-Encoding: chunked;q=1"), refusals),
        case("with an empty member", with("Transfer-Encoding: , chunked"), refusals),
        case("after a tab", with("Transfer-Encoding:\tchunked"), refusals),
        case("after a vertical tab", with("Transfer-Encoding: \x0bchunked"), refusals),
        case("empty", with("Transfer-Encoding:"), refusals),
        case("in HTTP/1.0", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", refusals),
    ]);
}

#[test]
fn chunk_framing_is_read_to_the_letter() {
    // The head is well-formed, so that the request may have been on its way: broken off then, and never completed.
    let app = Origin::scripted(|wire| {
        while wire.request()?.is_some() {
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\napp")?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let next = "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        ("bare LF after the size", "3\nabc\r\n0\r\n\r\n"),
        ("bare LF after the data", "3\r\nabc\n0\r\n\r\n"),
        ("bare LF after the last chunk", "3\r\nabc\r\n0\n\r\n"),
        ("bare LF at the end", "3\r\nabc\r\n0\r\n\n"),
        ("bare LF after a trailer", "0\r\nX-A: b\n\r\n"),
        ("LF in an extension", "3;a=\nb\r\nabc\r\n0\r\n\r\n"),
        ("CR in an extension", "3;a=\rb\r\nabc\r\n0\r\n\r\n"),
        ("a size that overflows", "10000000000000003\r\nabc\r\n0\r\n\r\n"),
        ("a size with 0x", "0x3\r\nabc\r\n0\r\n\r\n"),
        ("a negative size", "-1\r\nabc\r\n0\r\n\r\n"),
        ("an empty size", "\r\nabc\r\n0\r\n\r\n"),
        ("a size that is no number", "zz\r\nabc\r\n0\r\n\r\n"),
        ("a space before the size", " 3\r\nabc\r\n0\r\n\r\n"),
        ("more data than the size says", "3\r\nabcdef\r\n0\r\n\r\n"),
        ("a NUL in an extension", "3;a=\0\r\nabc\r\n0\r\n\r\n"),
    ];
    let mut wrong = Vec::new();
    for (name, content) in cases {
        let mut client = sidegate.client();
        let _ = client.try_send(format!("{}{next}", chunked(content)).as_bytes());
        client.end();
        let status = client.try_answer_to("GET").map_or(0, |answer| answer.status);
        if !matches!(status, 0 | 400) || client.try_answer_to("GET").is_ok() {
            wrong.push(format!("{name}: answered {status}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(sidegate.get("/alive").status, 200);
    assert!(app.requests().iter().all(|seen| seen.target != "/smuggled"), "{:?}", app.requests());
}

#[test]
fn heads_are_read_to_the_letter() {
    refused(vec![
        case("bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", BAD),
        case("bare LF after the request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", BAD),
        case("bare LF after a field", "GET / HTTP/1.1\r\nHost: a\nX-A: b\r\n\r\n", BAD),
        case("bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", BAD),
        case("obs-fold", with_field("X-A: b\r\n c"), BAD),
        case("space before the colon", with_field("X-A : b"), BAD),
        case("space before the colon of a length", with_field("Content-Length : 0"), BAD),
        case("an empty name", with_field(": b"), BAD),
        case("a line without a colon", with_field("X-A"), BAD),
        case("a name with a space", with_field("X A: b"), BAD),
        case("NUL in a value", with_field("X-A: b\0c"), BAD),
        case("bare CR in a value", with_field("X-A: b\rc"), BAD),
        case("a control character in a value", with_field("X-A: b\x01c"), BAD),
        case("leading whitespace in the first field", "GET / HTTP/1.1\r\n Host: a\r\n\r\n", BAD),
        case("NUL in the target", head("GET /\0 HTTP/1.1\r\nHost: a"), BAD),
        case("bare CR in the target", head("GET /\rx HTTP/1.1\r\nHost: a"), BAD),
        case("a space in the target", head("GET /a b HTTP/1.1\r\nHost: a"), BAD),
        case("no target", head("GET HTTP/1.1\r\nHost: a"), BAD),
        case("a method that is no token", head("GE(T / HTTP/1.1\r\nHost: a"), BAD),
        case("rubbish", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n", &[0, 400]),
    ]);
}

#[test]
fn host_is_there_once_and_well_formed() {
    let host = |value: &str| head(&format!("GET / HTTP/1.1\r\nHost: {value}"));
    refused(vec![
        case("missing", head("GET / HTTP/1.1"), BAD),
        case("twice", head("GET / HTTP/1.1\r\nHost: a\r\nHost: a"), BAD),
        case("two different", head("GET / HTTP/1.1\r\nHost: a\r\nHost: b"), BAD),
        case("a list", host("a, b"), BAD),
        case("with a space", host("a b"), BAD),
        case("with a path", host("a/b"), BAD),
        case("with user information", host("user@a"), BAD),
        case("a port that is no number", host("a:x"), BAD),
        case("a port that is too large", host("a:65536"), BAD),
        case("two ports", host("a:1:2"), BAD),
        case("an open bracket", host("[::1"), BAD),
        case("a bad percent-escape", host("a%zz"), BAD),
    ]);
}

#[test]
fn versions_that_are_not_spoken_are_refused() {
    let unknown: &[u16] = &[400, 505];
    refused(vec![
        case("HTTP/2.0 in a request line", head("GET / HTTP/2.0\r\nHost: a"), &[505]),
        case("HTTP/3.0", head("GET / HTTP/3.0\r\nHost: a"), &[505]),
        case("HTTP/1.2", head("GET / HTTP/1.2\r\nHost: a"), unknown),
        case("HTTP/0.9", "GET /\r\n", &[0, 400, 505]),
        case("lower case", head("GET / http/1.1\r\nHost: a"), unknown),
        case("no number", head("GET / HTTP/x\r\nHost: a"), unknown),
    ]);
}

#[test]
fn sizes_are_bounded() {
    let many: String = (0..500).map(|number| format!("X-{number}: y\r\n")).collect();
    refused(vec![
        case("a long target", head(&format!("GET /{} HTTP/1.1\r\nHost: a", "x".repeat(100_000))), &[414]),
        case("a large field", with_field(&format!("X-A: {}", "x".repeat(100_000))), &[431]),
        case("many fields", with_field(many.trim_end()), &[431]),
        case("a head without end", format!("GET / HTTP/1.1\r\nX-A: {}", "x".repeat(1_000_000)), &[431]),
    ]);
}

#[test]
fn connect_is_refused() {
    refused(vec![case(
        "CONNECT",
        head("CONNECT bank.example:443 HTTP/1.1\r\nHost: bank.example:443"),
        &[400, 405, 501],
    )]);
}

#[test]
fn a_target_in_absolute_form_wins_over_host() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send("GET http://right.example:81/page?q HTTP/1.1\r\nHost: wrong.example\r\n\r\n");
    assert_eq!(client.answer().status, 200);
    let seen = app.last();
    assert_eq!(seen.fields.all("host").collect::<Vec<_>>(), ["right.example:81"]);
    assert!(seen.target == "/page?q" || seen.target == "http://right.example:81/page?q", "{}", seen.target);
}

#[test]
fn what_is_only_unusual_passes() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let unusual = [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nhOsT: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n",
        "GET / HTTP/1.1\r\nHost:a\r\nX-Empty:\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nX-Bytes: \u{e9}\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: CHUNKED\r\n\r\n003;ext=\"a b\"\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 03\r\n\r\nabc",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    ];
    for (turn, bytes) in unusual.iter().enumerate() {
        assert_eq!(sidegate.client().send(bytes).answer().status, 200, "{bytes:?}");
        assert_eq!(app.count(), turn + 1);
    }
}

#[test]
fn a_refusal_closes_the_connection_and_says_why() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n");
    client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("connection")), (400, Some("close")));
    assert_eq!(answer.field("content-type"), Some("application/problem+json"));
    assert_eq!(answer.json()["status"], 400);
    assert!(client.is_closed());
    assert_eq!(app.count(), 0);
}

#[test]
fn a_head_that_comes_too_slowly_is_given_up() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("timeouts = { header = \"200ms\" }").start();
    let mut client = sidegate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-A: ");
    let status = client.try_answer_to("GET").map_or(0, |answer| answer.status);
    assert!(matches!(status, 0 | 408), "{status}");
    assert_eq!(app.count(), 0);
}

#[test]
fn more_connections_than_allowed_from_one_address_are_closed_and_the_others_served() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("max_connections_per_address = 4").start();
    let mut served: Vec<_> = (0..4).map(|_| sidegate.client()).collect();
    for client in &mut served {
        assert_eq!(client.get("/").status, 200);
    }
    let mut fifth = sidegate.client();
    let refused = fifth.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| fifth.try_answer_to("GET"));
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status == 503));
    served.pop();
    until("a place for another connection", || {
        let mut client = sidegate.client();
        let asked = client.try_send(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").and_then(|()| client.try_answer_to("GET"));
        asked.is_ok_and(|answer| answer.status == 200)
    });
}

#[test]
fn part_of_a_further_head_does_not_time_out_while_the_request_before_it_is_answered() {
    let app = Origin::answering(|_| {
        std::thread::sleep(Duration::from_millis(900));
        Reply::text("app")
    });
    let sidegate = Configuration::of(&app).server("timeouts = { header = \"200ms\" }").start();
    let mut client = sidegate.client();
    client.send("GET /one HTTP/1.1\r\nHost: a\r\n\r\nGET /two HTTP/1.1\r\nHo");
    assert_eq!(client.answer().status, 200);
    client.send("st: a\r\n\r\n");
    assert_eq!(client.answer().status, 200);
}

#[test]
fn content_that_does_not_come_is_answered_408_over_http2_too() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("timeouts = { body = \"200ms\" }").start();
    assert_eq!(http2::ask_and_stall(sidegate.address(), "/").as_u16(), 408);
    until("the connection to the app given up", || {
        sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0
    });
}
