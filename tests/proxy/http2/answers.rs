//! Answers of the app in HTTP/1.1 and what becomes of them in HTTP/2.

use crate::harness::frames::*;
use crate::harness::origin::{Gate, Wire};
use crate::harness::{Configuration, Origin, Sidegate};

/// The app answers each request with the bytes that belong to its path, and hangs up.
fn saying(answers: &'static [(&'static str, &'static str)]) -> (Origin, Sidegate) {
    let app = Origin::scripted(move |wire: &mut Wire| {
        let Some(request) = wire.request()? else { return Ok(()) };
        let found = answers.iter().find(|(path, _)| *path == request.target);
        wire.send(found.map_or("", |(_, bytes)| bytes).as_bytes())
    });
    let sidegate = Configuration::of(&app).start();
    (app, sidegate)
}

const SOUND: &[(&str, &str)] = &[
    ("/length", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Upper: Yes\r\n\r\nabcde"),
    ("/chunked", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\n\r\n"),
    ("/close", "HTTP/1.1 200 OK\r\n\r\nabcde"),
    (
        "/connection",
        "HTTP/1.1 200 OK\r\nConnection: close, X-Hop\r\nKeep-Alive: timeout=5\r\nProxy-Connection: close\r\nUpgrade: h2c\r\n\
         X-Hop: 1\r\nX-End: 2\r\nContent-Length: 0\r\n\r\n",
    ),
    ("/none", "HTTP/1.1 204 No Content\r\nX-A: b\r\n\r\n"),
    ("/unchanged", "HTTP/1.1 304 Not Modified\r\nETag: \"a\"\r\nContent-Length: 5\r\n\r\n"),
    ("/dated", "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Length: 0\r\n\r\n"),
    ("/cookies", "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"),
    (
        "/hints",
        "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ),
    (
        "/trailers",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 7\r\nConnection: close\r\n\r\n",
    ),
    ("/error", "HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\nno"),
];

#[test]
fn sound_answers_are_translated() {
    let (_app, sidegate) = saying(SOUND);
    let mut client = Frames::to(sidegate.address());
    let mut stream = 1;
    let mut ask = |path: &str| {
        stream += 2;
        let answer = client.ask(stream, path);
        assert!(answer.whole && answer.error.is_none(), "{path}: {answer:?}");
        answer
    };
    for path in ["/length", "/chunked", "/close"] {
        let answer = ask(path);
        assert_eq!((answer.status, &answer.content[..]), (200, &b"abcde"[..]), "{path}");
        assert_eq!(answer.field("content-length"), (path == "/length").then_some("5"));
        assert_eq!(answer.field("transfer-encoding"), None);
        assert!(answer.field("date").is_some_and(|date| date.ends_with("GMT")), "{path}");
        assert_eq!(answer.field("via"), Some("1.1 sidegate"));
    }
    assert_eq!(ask("/length").field("x-upper"), Some("Yes"));
    let hop = ask("/connection");
    for name in ["connection", "keep-alive", "proxy-connection", "upgrade", "x-hop"] {
        assert_eq!(hop.field(name), None, "{name}");
    }
    assert_eq!(hop.field("x-end"), Some("2"));
    let none = ask("/none");
    assert_eq!((none.status, none.field("x-a"), none.content.len()), (204, Some("b"), 0));
    let unchanged = ask("/unchanged");
    assert_eq!((unchanged.status, unchanged.field("etag"), unchanged.content.len()), (304, Some("\"a\""), 0));
    assert_eq!(ask("/dated").field("date"), Some("Sun, 06 Nov 1994 08:49:37 GMT"));
    let cookies = ask("/cookies");
    let set: Vec<_> =
        cookies.fields.iter().filter(|(name, _)| name == "set-cookie").map(|(_, value)| value.as_str()).collect();
    assert_eq!(set, ["a=1", "b=2"]);
    let trailers = ask("/trailers");
    assert_eq!(trailers.content, b"ab");
    assert_eq!(trailers.trailers, [("x-sum".to_owned(), "7".to_owned())]);
    assert_eq!((ask("/error").status, &ask("/error").content[..]), (500, &b"no"[..]));
}

#[test]
fn interim_answers_come_ahead_of_the_final_one() {
    let (_app, sidegate) = saying(SOUND);
    let answer = Frames::to(sidegate.address()).ask(1, "/hints");
    let interim: Vec<_> = answer.interim.iter().map(|(status, _)| *status).collect();
    assert_eq!(interim, [103, 102]);
    assert!(answer.interim[0].1.contains(&("link".into(), "</a>".into())), "{answer:?}");
    assert_eq!((answer.status, &answer.content[..]), (200, &b"ok"[..]));
}

#[test]
fn answers_that_are_broken_never_look_whole() {
    const BROKEN: &[(&str, &str)] = &[
        ("/short", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabcde"),
        ("/cut", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"),
        ("/size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\nzz\r\n"),
        ("/silent", ""),
        ("/rubbish", "\x16\x03\x01\r\n\r\n"),
        ("/switch", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"),
        ("/both", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    ];
    let (_app, sidegate) = saying(BROKEN);
    let mut client = Frames::to(sidegate.address());
    for (turn, (path, _)) in BROKEN.iter().enumerate() {
        let answer = client.ask(2 * turn as u32 + 1, path);
        match *path {
            "/short" | "/cut" | "/size" => {
                assert_eq!((answer.whole, answer.error), (false, Some(INTERNAL_ERROR)), "{path}: {answer:?}");
            }
            _ => assert_eq!((answer.whole, answer.status), (true, 502), "{path}: {answer:?}"),
        }
    }
    assert!(client.is_alive());
}

#[test]
fn a_head_is_asked_for_alone() {
    let (app, sidegate) = saying(SOUND);
    let mut client = Frames::to(sidegate.address());
    let answer = client.send(headers(1, END_STREAM, &request("HEAD", "/length"))).answer(1);
    assert_eq!((answer.status, answer.field("content-length"), answer.content.len()), (200, Some("5"), 0));
    assert_eq!(app.last().method, "HEAD");
}

#[test]
fn content_that_waits_for_a_100_is_asked_for() {
    let app = Origin::answering(|request| crate::harness::Reply::text(format!("{} bytes", request.content.len())));
    let sidegate = Configuration::of(&app).upstream("expect_timeout = \"50ms\"").start();
    let mut client = Frames::to(sidegate.address());
    let head = [&request("POST", "/")[..], &[("expect", "100-continue"), ("content-length", "5")]].concat();
    client.send(headers(1, 0, &head));
    client.until(|frame| frame.kind == HEADERS && frame.stream == 1).expect("a 100");
    let answer = client.send(data(1, END_STREAM, "abcde")).answer(1);
    assert_eq!((answer.status, &answer.content[..]), (200, &b"5 bytes"[..]));
}

#[test]
fn an_answer_that_comes_before_the_content_ends_its_stream_without_an_error() {
    let told = Gate::default();
    let seen = told.clone();
    let app = Origin::scripted(move |wire| {
        wire.head()?;
        wire.send(b"HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")?;
        seen.wait();
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = Frames::to(sidegate.address());
    let answer = client.send([post(1), data(1, 0, "abc")].concat()).answer(1);
    assert_eq!((answer.status, answer.whole), (413, true));
    let reset = client.until(|frame| frame.kind == RST_STREAM && frame.stream == 1).expect("a reset");
    assert_eq!(reset.code(), NO_ERROR);
    // What was on its way meanwhile does no harm.
    client.send(data(1, END_STREAM, "late"));
    assert!(client.is_alive());
    told.open();
}
