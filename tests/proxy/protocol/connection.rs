//! Fields that concern one connection, and those that count hops (RFC 9110 §7.6, §7.8, §10.1).

use super::{Case, Then, passes, refused, table};

fn with(lines: &str) -> String {
    format!("GET /connection HTTP/1.1\r\nHost: a\r\n{lines}\r\n\r\n")
}

fn seen(section: &'static str, lines: &str) -> Case {
    passes(section, format!("{lines:?}"), with(lines), "GET /connection")
}

#[test]
fn hop_by_hop_fields_stop_here() {
    let mut cases: Vec<Case> = Vec::new();
    for (line, name) in [
        ("Keep-Alive: timeout=5", "keep-alive"),
        ("Proxy-Connection: keep-alive", "proxy-connection"),
        ("Proxy-Connection: close", "proxy-connection"),
        ("Proxy-Authorization: Basic eDp5", "proxy-authorization"),
        ("TE: gzip", "te"),
        ("Upgrade: h2c", "upgrade"),
        ("Connection: X-Private\r\nX-Private: 1", "x-private"),
        ("Connection: x-private , other\r\nX-Private: 1", "x-private"),
        ("Connection: other\r\nConnection: X-PRIVATE\r\nX-Private: 1", "x-private"),
        ("X-Private: 1\r\nConnection: ,,X-Private,\r\nX-Private: 2", "x-private"),
        ("Connection:\tX-Private\t\r\nX-Private: 1", "x-private"),
        ("Connection: keep-alive, X-Private\r\nX-Private: 1", "x-private"),
        ("Connection: keep-alive", "connection"),
        ("Connection: Keep-Alive\r\nKeep-Alive: max=3", "keep-alive"),
        ("HTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA", "http2-settings"),
    ] {
        cases.push(seen("9110 §7.6.1", line).without(name));
    }
    for line in [
        "Connection: close",
        "connection: CLOSE",
        "Connection: x, close",
        "Connection: keep-alive, close",
        "Connection: keep-alive\r\nConnection: close",
    ] {
        cases.push(seen("9112 §9.6", line).without("connection").then(Then::Closed));
    }
    // What the app or we rely on cannot be taken away.
    for (name, value) in [
        ("host", "a"),
        ("cookie", "a=b"),
        ("authorization", "Bearer x"),
        ("cache-control", "no-cache"),
        ("content-type", "text/x"),
        ("via", "1.1 other, 1.1 sidegate"),
    ] {
        let line = match name {
            "host" => "Connection: Host".to_owned(),
            "via" => "Connection: Via\r\nVia: 1.1 other".to_owned(),
            _ => format!("Connection: {name}, close-not\r\n{name}: {value}"),
        };
        let case = seen("9110 §7.6.1", &line);
        // Via may stand in one line or in two.
        cases.push(if name == "via" { case } else { case.with(name, value) });
    }
    for name in ["x-forwarded-for", "x-forwarded-proto", "x-forwarded-host", "x-request-id", "traceparent"] {
        let case = passes(
            "9110 §7.6.1",
            format!("Connection: {name}"),
            with(&format!("Connection: {name}")),
            "GET /connection",
        );
        let case = match name {
            "x-forwarded-for" => case.with(name, "127.0.0.1"),
            "x-forwarded-proto" => case.with(name, "http"),
            "x-forwarded-host" => case.with(name, "a"),
            _ => case,
        };
        cases.push(case);
    }
    let length = "POST /connection HTTP/1.1\r\nHost: a\r\nConnection: Content-Length\r\nContent-Length: 3\r\n\r\nabc";
    cases.push(
        passes("9110 §7.6.1", "Connection: Content-Length", length, "POST /connection")
            .content("abc")
            .with("content-length", "3"),
    );
    let chunks = "POST /connection HTTP/1.1\r\nHost: a\r\nConnection: Transfer-Encoding\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    cases.push(passes("9110 §7.6.1", "Connection: Transfer-Encoding", chunks, "POST /connection").content("abc"));
    // TE and trailers.
    cases.push(seen("9110 §10.1.4", "TE: trailers\r\nConnection: TE").with("te", "trailers").with("connection", "te"));
    cases.push(seen("9110 §10.1.4", "TE: gzip, trailers;q=0.5, deflate\r\nConnection: TE"));
    cases.push(seen("9110 §10.1.4", "TE: gzip\r\nTE: trailers\r\nConnection: TE").with("te", "trailers"));
    // Via.
    cases.push(seen("9110 §7.6.3", "X-A: b").with("via", "1.1 sidegate"));
    let old = passes("9110 §7.6.3", "HTTP/1.0", "GET /connection HTTP/1.0\r\nHost: a\r\n\r\n", "GET /connection");
    cases.push(old.with("via", "1.0 sidegate").then(Then::Closed));
    table(cases);
}

#[test]
fn protocols_are_switched_for_web_sockets_alone() {
    let mut cases: Vec<Case> = Vec::new();
    for line in [
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA",
        "Connection: Upgrade\r\nUpgrade: h2c",
        "Connection: Upgrade\r\nUpgrade: TLS/1.0",
        "Connection: Upgrade\r\nUpgrade: h2c, HTTP/3.0",
        "Connection: Upgrade\r\nUpgrade: ",
        "Connection: Upgrade",
        "Upgrade: websocket",
    ] {
        cases.push(seen("9110 §7.8", line).without("upgrade").without("http2-settings").without("connection"));
    }
    let asks = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let post = format!("POST /connection HTTP/1.1\r\nHost: a\r\n{asks}\r\nContent-Length: 3\r\n\r\nabc");
    cases.push(
        passes("9110 §7.8", "a WebSocket with content", post, "POST /connection").without("upgrade").content("abc"),
    );
    let old = format!("GET /connection HTTP/1.0\r\nHost: a\r\n{asks}\r\n\r\n");
    cases.push(
        passes("9110 §7.8", "a WebSocket of HTTP/1.0", old, "GET /connection").without("upgrade").then(Then::Closed),
    );
    let post = format!("POST /connection HTTP/1.1\r\nHost: a\r\n{asks}\r\n\r\n");
    cases.push(passes("9110 §7.8", "a WebSocket by POST", post, "POST /connection").without("upgrade"));
    // Not switched by the app: what was sent behind it is not read as a request.
    let refused =
        format!("GET /connection HTTP/1.1\r\nHost: a\r\n{asks}\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n");
    let ignored = passes("9110 §7.8", "bytes after a switch that is not made", refused, "GET /connection");
    cases.push(ignored.with("upgrade", "websocket").with("connection", "upgrade").then(Then::Closed));
    let preface = "GET / HTTP/1.1\r\nHost: a\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    cases.push(
        passes("9113 §3.4", "an HTTP/2 preface after a request", preface, "GET /").back(&[400, 505]).then(Then::Closed),
    );
    table(cases);
}

#[test]
fn expectations_are_met_or_refused() {
    let mut cases: Vec<Case> = Vec::new();
    let post = |version: &str, lines: &str| {
        format!("POST /connection HTTP/{version}\r\nHost: a\r\n{lines}\r\nContent-Length: 3\r\n\r\nabc")
    };
    for line in [
        "Expect: 100-continue",
        "Expect: 100-Continue",
        "expect:100-continue",
        "Expect: 100-continue\r\nExpect: 100-continue",
        "Expect: 100-continue, 100-continue",
        "Expect: 100-continue,",
    ] {
        let case = passes("9110 §10.1.1", format!("{line:?}"), post("1.1", line), "POST /connection");
        cases.push(case.with("expect", "100-continue").content("abc"));
        let old = passes("9110 §10.1.1", format!("{line:?} of HTTP/1.0"), post("1.0", line), "POST /connection");
        cases.push(old.without("expect").content("abc").then(Then::Closed));
    }
    cases.push(passes("9110 §10.1.1", "an empty one", post("1.1", "Expect:"), "POST /connection").without("expect"));
    for line in [
        "Expect: 200-ok",
        "Expect: 100-continue, 200-ok",
        "Expect: 100-continue\r\nExpect: x",
        "Expect: x\r\nExpect: 100-continue",
        "Expect: 100",
        "Expect: \"100-continue\"",
        "Expect: 100-continue;a=b",
        "Expect: 100 continue",
        "Expect: 100-continue 100-continue",
    ] {
        // Whether its content comes nobody can say: the connection ends.
        let bytes = post("1.1", line) + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";
        cases.push(refused("9110 §10.1.1", format!("{line:?}"), bytes, &[417]));
    }
    table(cases);
}

#[test]
fn hops_are_counted() {
    let mut cases: Vec<Case> = Vec::new();
    for method in ["OPTIONS", "TRACE"] {
        let line = |value: &str| format!("{method} /connection HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n");
        for (value, left) in
            [("1", "0"), ("2", "1"), ("10", "9"), ("007", "6"), ("255", "254"), ("99999999999999999999", "4294967294")]
        {
            let case =
                passes("9110 §7.6.2", format!("{method} {value}"), line(value), &format!("{method} /connection"));
            cases.push(case.with("max-forwards", left));
        }
        for value in ["0", "00"] {
            cases.push(refused("9110 §7.6.2", format!("{method} {value}"), line(value), &[200]).then(Then::Open));
        }
        for value in ["", "-1", "+1", "x", "1.0", "0x1", "1, 2", "1\r\nMax-Forwards: 1", "1\r\nMax-Forwards: 2"] {
            cases.push(refused("9110 §7.6.2", format!("{method} {value:?}"), line(value), &[400]));
        }
        let none = format!("{method} /connection HTTP/1.1\r\nHost: a\r\n\r\n");
        cases.push(
            passes("9110 §7.6.2", format!("{method} without"), none, &format!("{method} /connection"))
                .without("max-forwards"),
        );
    }
    let whole = "OPTIONS * HTTP/1.1\r\nHost: a\r\nMax-Forwards: 0\r\n\r\n";
    cases.push(refused("9110 §7.6.2", "OPTIONS * 0", whole, &[200]).then(Then::Open));
    for value in ["0", "5", "x"] {
        let get = format!("GET /connection HTTP/1.1\r\nHost: a\r\nMax-Forwards: {value}\r\n\r\n");
        cases.push(passes("9110 §7.6.2", format!("GET {value}"), get, "GET /connection").with("max-forwards", value));
    }
    let trace = "TRACE /connection HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    cases.push(refused("9110 §9.3.8", "TRACE with content", trace, &[400]));
    let trace = "TRACE /connection HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    cases.push(refused("9110 §9.3.8", "TRACE with chunks", trace, &[400]));
    table(cases);
}
