//! Requests in HTTP/2 and what becomes of them in HTTP/1.1 (RFC 9113 §8).

use crate::harness::frames::*;
use crate::harness::hpack::block;
use crate::harness::origin::Request;
use crate::harness::{Configuration, Origin, Sidegate};

type Fields<'a> = Vec<(&'a str, &'a str)>;

/// What must come of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// It is answered 200.
    Passes,
    /// Its stream, or the connection, ends with PROTOCOL_ERROR.
    Malformed,
    /// It is answered with this status, and not passed on.
    Status(u16),
    /// One of the two: [`Outcome::Malformed`], or 400.
    Refused,
}
use Outcome::{Malformed, Passes, Refused, Status};

struct Case<'a> {
    name: String,
    bytes: Vec<u8>,
    outcome: Outcome,
    /// What else must hold for what the app saw.
    holds: Box<dyn Fn(&Request) -> bool + 'a>,
}

fn sends<'a>(name: impl Into<String>, bytes: Vec<u8>, outcome: Outcome) -> Case<'a> {
    Case { name: name.into(), bytes, outcome, holds: Box::new(|_| true) }
}

fn seen<'a>(name: &str, bytes: Vec<u8>, holds: impl Fn(&Request) -> bool + 'a) -> Case<'a> {
    Case { name: name.into(), bytes, outcome: Passes, holds: Box::new(holds) }
}

fn common() -> Fields<'static> {
    request("GET", "/").to_vec()
}

fn with<'a>(more: &[(&'a str, &'a str)]) -> Vec<u8> {
    headers(1, END_STREAM, &[&common()[..], more].concat())
}

/// The common request with one pseudo-field changed.
fn of(name: &str, value: &str) -> Vec<u8> {
    let change = |(known, usual)| if known == name { (known, value) } else { (known, usual) };
    headers(1, END_STREAM, &common().into_iter().map(change).collect::<Vec<_>>())
}

fn posts(fields: &[(&str, &str)], content: &[Vec<u8>]) -> Vec<u8> {
    let head = headers(1, 0, &[&request("POST", "/")[..], fields].concat());
    [head, content.concat()].concat()
}

/// Runs each over a connection of its own; nothing but what passes reaches the app, and that once.
fn pass(cases: Vec<Case>) -> usize {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("max_headers = 20").start();
    let failed: Vec<_> = cases.iter().filter_map(|case| run(&sidegate, &app, case).err()).collect();
    assert!(failed.is_empty(), "{} of {} failed:\n{}", failed.len(), cases.len(), failed.join("\n"));
    cases.len()
}

fn run(sidegate: &Sidegate, app: &Origin, case: &Case) -> Result<(), String> {
    let before = app.requests().iter().filter(|request| request.whole).count();
    let answer = Frames::to(sidegate.address()).send(&case.bytes).answer(1);
    let came = match (answer.status, answer.error) {
        (200, None) if answer.whole => Passes,
        (0, Some(PROTOCOL_ERROR)) => Malformed,
        (status, _) => Status(status),
    };
    let right = came == case.outcome || (case.outcome == Refused && matches!(came, Malformed | Status(400)));
    let whole: Vec<_> = app.requests().into_iter().filter(|request| request.whole).collect();
    let (reached, expected) = (whole.len() - before, usize::from(case.outcome == Passes));
    if !right || reached != expected {
        return Err(format!("{}: {:?} wanted, {came:?} came; {reached} reached the app", case.name, case.outcome));
    }
    match whole.last() {
        Some(last) if expected == 1 && !(case.holds)(last) => Err(format!("{}: the app saw {last:?}", case.name)),
        _ => Ok(()),
    }
}

#[test]
fn values_are_clean() {
    let bad = [
        "a\0b",
        "a\rb",
        "a\nb",
        "a\r\nx-b: c",
        "\r",
        "\n",
        "a\x01",
        "\x1f",
        "a\x7fb",
        "a\x0b",
        " a",
        "a ",
        "\ta",
        "a\t",
        " ",
        "\t",
    ];
    let good = ["", "a b", "a\tb", "\u{e9}", "a;b=\"c\"", "a,b", "%0d%0a", ":", "{}[]<>"];
    let mut cases: Vec<_> =
        bad.into_iter().map(|value| sends(format!("value {value:?}"), with(&[("x-a", value)]), Malformed)).collect();
    cases.extend(good.into_iter().map(|value| {
        let holds = move |request: &Request| request.field("x-a") == Some(value);
        seen(value, with(&[("x-a", value)]), holds)
    }));
    assert_eq!(pass(cases), 25);
}

#[test]
fn names_are_tokens_in_lower_case() {
    let bad = [
        "X-A", "x-A", "Host", "", "x a", " x", "x ", "x:", "x:y", "x\0", "x\r\ny", "x\n", "x\t", "x(", "x\"", "x/",
        "x@", "x\u{e9}", "x\x7f", "x,y", "x;y", "x=y", "x{",
    ];
    let good = ["x", "x-a", "x_a", "x.a", "x1", "!#$%&'*+-.^_`|~"];
    let mut cases: Vec<_> =
        bad.into_iter().map(|name| sends(format!("name {name:?}"), with(&[(name, "b")]), Malformed)).collect();
    cases.extend(good.into_iter().map(|name| {
        let holds = move |request: &Request| request.field(name) == Some("b");
        Case { name: format!("name {name:?}"), bytes: with(&[(name, "b")]), outcome: Passes, holds: Box::new(holds) }
    }));
    assert_eq!(pass(cases), 29);
}

#[test]
fn connection_specific_fields_are_malformed() {
    let bad = [
        ("connection", "close"),
        ("connection", "keep-alive"),
        ("connection", "x-a"),
        ("connection", ""),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("transfer-encoding", "identity"),
        ("transfer-encoding", ""),
        ("upgrade", "websocket"),
        ("upgrade", "h2c"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
        ("te", "chunked"),
        ("te", ""),
    ];
    let mut cases: Vec<_> = bad
        .into_iter()
        .map(|(name, value)| sends(format!("{name}: {value}"), with(&[(name, value)]), Malformed))
        .collect();
    cases.push(sends(
        "transfer-encoding with content",
        posts(&[("transfer-encoding", "chunked")], &[data(1, END_STREAM, "0\r\n\r\n")]),
        Malformed,
    ));
    cases.push(seen("te: trailers", with(&[("te", "trailers")]), |request| request.field("te") == Some("trailers")));
    cases.push(seen("http2-settings goes no further", with(&[("http2-settings", "AAA")]), |request| {
        !request.fields.has("http2-settings")
    }));
    assert_eq!(pass(cases), 18);
}

#[test]
fn pseudo_fields_are_there_once_first_and_known() {
    let [method, scheme, path, authority] = request("GET", "/");
    let only = |fields: &[(&str, &str)]| headers(1, END_STREAM, fields);
    assert_eq!(
        pass(vec![
            sends("two :method", with(&[method]), Malformed),
            sends("two :scheme", with(&[scheme]), Malformed),
            sends("two :path", with(&[path]), Malformed),
            sends("two :path that differ", with(&[(":path", "/admin")]), Malformed),
            sends("two :authority", with(&[authority]), Malformed),
            sends("an unknown one", with(&[(":x", "y")]), Malformed),
            sends("an empty one", with(&[(":", "y")]), Malformed),
            sends("in upper case", with(&[(":Path", "/")]), Malformed),
            sends("one of answers", with(&[(":status", "200")]), Malformed),
            sends(":protocol with GET", with(&[(":protocol", "websocket")]), Malformed),
            sends("after another field", only(&[method, scheme, path, ("x", "y"), authority]), Malformed),
            sends("no :method", only(&[scheme, path, authority]), Malformed),
            sends("no :scheme", only(&[method, path, authority]), Malformed),
            sends("no :path", only(&[method, scheme, authority]), Malformed),
            sends("nothing at all", frame(HEADERS, END_STREAM | END_HEADERS, 1, []), Malformed),
            sends("an empty :method", of(":method", ""), Malformed),
            sends("a :method with a space", of(":method", "GET /x"), Malformed),
            sends("a :method with CR LF", of(":method", "GET / HTTP/1.1\r\nHost: x"), Malformed),
            sends("a :method that is no token", of(":method", "GE(T"), Malformed),
            sends("an empty :scheme", of(":scheme", ""), Refused),
            sends("a :scheme with a space", of(":scheme", "ht tp"), Malformed),
            sends("another :scheme", of(":scheme", "ftp"), Status(400)),
            seen("a method of its own", of(":method", "PURGE"), |request| request.method == "PURGE"),
            seen("in another order", only(&[authority, path, method, scheme]), |request| request.target == "/"),
        ]),
        24
    );
}

#[test]
fn a_path_is_a_path() {
    let bad = [
        "",
        "a",
        "a/b",
        "?a",
        "http://evil.test/",
        "//evil.test\\ b",
        "/a b",
        "/a\tb",
        "/a\r\nb",
        "/a HTTP/1.1\r\nHost: b",
        "/\0",
        "/a\x7f",
        " /",
        "*",
        "*/a",
        "\\a",
        "#a",
        "/a#b",
    ];
    let good = ["/a", "/a?b=c&d", "/a%20b", "/?", "/a//b", "/%c3%a9", "/a;b", "/~a"];
    let mut cases: Vec<_> =
        bad.into_iter().map(|path| sends(format!("path {path:?}"), of(":path", path), Refused)).collect();
    cases.extend(good.into_iter().map(|path| seen(path, of(":path", path), move |request| request.target == path)));
    let options = |path| headers(1, END_STREAM, &request("OPTIONS", path));
    cases.push(seen("OPTIONS *", options("*"), |request| request.target == "*"));
    cases.push(sends("OPTIONS **", options("**"), Refused));
    assert_eq!(pass(cases), 28);
}

#[test]
fn an_authority_is_one_and_well_formed() {
    let bad = [
        "",
        "a b",
        "user@app.test",
        "user:secret@app.test",
        "a/b",
        "a?b",
        "a#b",
        "[::1",
        "[::1]x",
        "a:x",
        "a:99999",
        "a:1:2",
        "a,b",
        "a\\b",
        "a%zz",
        "a\r\nb",
    ];
    let good = ["a", "a:80", "[::1]:80", "127.0.0.1:8080", "A.Test"];
    let mut cases: Vec<_> =
        bad.into_iter().map(|host| sends(format!(":authority {host:?}"), of(":authority", host), Refused)).collect();
    cases.extend(
        good.into_iter()
            .map(|host| seen(host, of(":authority", host), move |request| request.fields.all("host").eq([host]))),
    );
    let [method, scheme, path, _] = request("GET", "/");
    let hosted = |more: &[(&str, &str)]| headers(1, END_STREAM, &[&[method, scheme, path], more].concat());
    cases.push(seen("host alone", hosted(&[("host", "b.test")]), |request| request.fields.all("host").eq(["b.test"])));
    cases.push(seen("host like :authority", with(&[("host", "app.test")]), |request| {
        request.fields.all("host").eq(["app.test"])
    }));
    cases.push(sends("neither", hosted(&[]), Status(400)));
    cases.push(sends("host unlike :authority", with(&[("host", "b.test")]), Status(400)));
    cases.push(sends("two host", hosted(&[("host", "a"), ("host", "a")]), Status(400)));
    cases.push(sends("an empty host", hosted(&[("host", "")]), Status(400)));
    cases.push(sends("a host with user information", hosted(&[("host", "u@a")]), Status(400)));
    assert_eq!(pass(cases), 28);
}

#[test]
fn connect_is_refused() {
    let connect = |fields: &[(&str, &str)]| headers(1, END_STREAM, &[&[(":method", "CONNECT")], fields].concat());
    let authority = (":authority", "bank.example:443");
    let rest = [(":scheme", "http"), (":path", "/")];
    assert_eq!(
        pass(vec![
            sends("CONNECT", connect(&[authority]), Refused),
            sends("CONNECT with :path", connect(&[authority, rest[1]]), Malformed),
            sends("CONNECT with :scheme", connect(&[authority, rest[0]]), Malformed),
            sends("CONNECT without :authority", connect(&[]), Refused),
            sends("a tunnel of one end", connect(&[(":protocol", "websocket"), rest[0], rest[1], authority]), Refused),
            sends("another protocol", connect(&[(":protocol", "connect-udp"), rest[0], rest[1], authority]), Refused),
            sends(
                "a protocol without CONNECT",
                headers(
                    1,
                    END_STREAM,
                    &[&[(":method", "GET"), (":protocol", "websocket"), rest[0], rest[1]], &[authority][..]].concat()
                ),
                Malformed
            ),
        ]),
        7
    );
}

#[test]
fn the_length_is_the_contents() {
    let five = || data(1, END_STREAM, "abcde");
    let says = |length| vec![("content-length", length)];
    let content = |text: &'static str| move |request: &Request| request.content == text.as_bytes();
    let mut cases: Vec<_> = [
        "",
        "-5",
        "+5",
        "0x5",
        "5,5",
        "5, 5",
        "5;",
        "5.0",
        "five",
        "99999999999999999999",
        "18446744073709551621",
        " 5",
        "5 ",
    ]
    .into_iter()
    .map(|length| sends(format!("content-length {length:?}"), posts(&says(length), &[five()]), Malformed))
    .collect();
    cases.extend([
        sends("too short", posts(&says("6"), &[five()]), Malformed),
        sends("too long", posts(&says("4"), &[five()]), Malformed),
        sends("too long in pieces", posts(&says("4"), &[data(1, 0, "abc"), data(1, END_STREAM, "de")]), Malformed),
        sends("none of it", posts(&says("5"), &[data(1, END_STREAM, "")]), Malformed),
        sends("without content", headers(1, END_STREAM, &[&request("POST", "/")[..], &says("5")].concat()), Malformed),
        sends(
            "too short before trailers",
            posts(&says("6"), &[data(1, 0, "abcde"), headers(1, END_STREAM, &[("x", "y")])]),
            Malformed,
        ),
        sends("twice the same", posts(&[("content-length", "5"), ("content-length", "5")], &[five()]), Malformed),
        sends("twice", posts(&[("content-length", "5"), ("content-length", "6")], &[five()]), Malformed),
        seen("just right", posts(&says("5"), &[five()]), content("abcde")),
        seen("with leading zeros", posts(&says("0005"), &[five()]), content("abcde")),
        seen(
            "in pieces",
            posts(&says("5"), &[data(1, 0, "ab"), data(1, 0, "cde"), data(1, END_STREAM, "")]),
            content("abcde"),
        ),
        seen("padded", posts(&says("5"), &[data(1, END_STREAM | PADDED, b"\x03abcde\0\0\0")]), content("abcde")),
        seen("unannounced", posts(&[], &[five()]), content("abcde")),
        seen("unannounced and none", posts(&[], &[data(1, END_STREAM, "")]), content("")),
        seen("0 and none", posts(&says("0"), &[data(1, END_STREAM, "")]), content("")),
        seen("0 and no DATA", headers(1, END_STREAM, &[&request("POST", "/")[..], &says("0")].concat()), content("")),
        seen("with GET", [headers(1, 0, &[&common()[..], &says("5")].concat()), five()].concat(), content("abcde")),
    ]);
    assert_eq!(pass(cases), 30);
}

#[test]
fn trailers_pass_where_they_can_do_no_harm() {
    let ends =
        |fields: &[(&str, &str)]| posts(&[("trailer", "x-a")], &[data(1, 0, "abc"), headers(1, END_STREAM, fields)]);
    let lost = |name: &'static str| move |request: &Request| request.content == b"abc" && !request.trailers.has(name);
    let mut cases = vec![
        seen("x-a", ends(&[("x-a", "b")]), |request| request.trailers.one("x-a") == Some("b")),
        seen("undeclared, without content", posts(&[], &[headers(1, END_STREAM, &[("x-a", "b")])]), |request| {
            request.content.is_empty()
        }),
        sends("in upper case", ends(&[("X-A", "b")]), Malformed),
        sends("with CR LF", ends(&[("x-a", "b\r\nc: d")]), Malformed),
        sends("connection-specific", ends(&[("connection", "close")]), Malformed),
        sends("transfer-encoding", ends(&[("transfer-encoding", "chunked")]), Malformed),
        sends("without END_STREAM", posts(&[], &[data(1, 0, "abc"), headers(1, 0, &[("x-a", "b")])]), Malformed),
        sends("an unknown pseudo-field", ends(&[(":x", "y")]), Malformed),
        sends("a pseudo-field", ends(&[(":path", "/admin")]), Malformed),
    ];
    for name in ["content-length", "host", "authorization", "cookie", "x-forwarded-for", "x_forwarded_for", "forwarded"]
    {
        cases.push(seen(name, ends(&[(name, "3")]), lost(name)));
    }
    assert_eq!(pass(cases), 16);
}

#[test]
fn what_only_http_1_spells_otherwise_is_translated() {
    let many: Vec<_> = (0..30).map(|_| ("x-many", "y")).collect();
    let large = "x".repeat(40_000);
    let split = block(&[&common()[..], &[("x-a", "b")]].concat());
    let large_block = block(&[&common()[..], &[("x-large", &large)]].concat());
    assert_eq!(
        pass(vec![
            seen(
                "cookie crumbs",
                with(&[("cookie", "a=1"), ("x", "y"), ("cookie", "b=2"), ("cookie", "c=3")]),
                |request| { request.fields.all("cookie").eq(["a=1; b=2; c=3"]) }
            ),
            seen("a field twice", with(&[("x-a", "1"), ("x-a", "2")]), |request| request
                .fields
                .all("x-a")
                .eq(["1", "2"])),
            seen("no pseudo-fields", with(&[]), |request| request
                .fields
                .0
                .iter()
                .all(|(name, _)| !name.starts_with(':'))),
            seen("HTTP/1.1", with(&[]), |request| request.version == "HTTP/1.1"),
            seen("via", with(&[]), |request| request.field("via") == Some("2.0 sidegate")),
            seen("spoofed", with(&[("x-forwarded-for", "1.1.1.1"), ("x_real_ip", "2.2.2.2")]), |request| {
                request.field("x-forwarded-for") == Some("127.0.0.1") && !request.fields.has("x_real_ip")
            }),
            seen(
                "CONTINUATION",
                [frame(HEADERS, END_STREAM, 1, &split[..9]), frame(CONTINUATION, END_HEADERS, 1, &split[9..])].concat(),
                |request| { request.field("x-a") == Some("b") }
            ),
            sends("another expectation", with(&[("expect", "200-ok")]), Status(417)),
            sends("too many fields", with(&many), Status(431)),
            sends(
                "fields too large",
                [
                    frame(HEADERS, END_STREAM, 1, &large_block[..16_000]),
                    frame(CONTINUATION, 0, 1, &large_block[16_000..32_000]),
                    frame(CONTINUATION, END_HEADERS, 1, &large_block[32_000..])
                ]
                .concat(),
                Status(431),
            ),
            sends(
                "an endless head",
                [
                    frame(HEADERS, END_STREAM, 1, block(&common())),
                    vec![frame(CONTINUATION, 0, 1, block(&[("x", "y")])); 7].concat()
                ]
                .concat(),
                Status(0)
            ),
        ]),
        11
    );
}
