//! Connections to the app: what may come after an answer, when they are used again, and what is sent twice.

use std::io;
use std::sync::Arc;

use super::{Case, asking, head, judge, ok, whole};
use crate::harness::origin::{Gate, Wire};
use crate::harness::{Configuration, Origin, Sidegate, client::request, until};

const EVIL: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil";

#[test]
fn bytes_after_the_end_of_an_answer_end_its_connection() {
    let section = "RFC 9112 §9.2";
    let after: [(&str, String); 7] = [
        ("another answer", EVIL.into()),
        ("an interim answer", "HTTP/1.1 103 Early Hints\r\n\r\n".into()),
        ("one byte", "x".into()),
        ("an empty line", "\r\n".into()),
        ("a NUL", "\0".into()),
        ("a part of a head", "HTTP/1.1 200 OK\r\nX-Next: ".into()),
        ("much", "x".repeat(100_000)),
    ];
    let mut cases: Vec<Case> = Vec::new();
    for (name, bytes) in &after {
        let mut add = |kind: &str, answer: &[u8], content: &str, status| {
            let bytes = [answer, bytes.as_bytes()].concat();
            cases.push(whole(format!("{name} after {kind}"), section, bytes, content).status(status).not_reused());
        };
        add("a length", &ok(&["Content-Length: 5"], "hello"), "hello", 200);
        add("chunks", &ok(&["Transfer-Encoding: chunked"], "5\r\nhello\r\n0\r\n\r\n"), "hello", 200);
        add("no content", &ok(&["Content-Length: 0"], ""), "", 200);
        add("204", &head("HTTP/1.1 204 No Content", &[], ""), "", 204);
    }
    judge(cases);
}

/// An app that answers the first request of its first connection with "one", lets `then` go on with that connection, and
/// answers everything else with its target.
fn after_one(then: impl Fn(&mut Wire) -> io::Result<()> + Send + Sync + 'static) -> Origin {
    Origin::scripted(move |wire| {
        while let Some(request) = wire.request()? {
            if request.target == "/one" {
                wire.send(&ok(&["Content-Length: 3"], "one"))?;
                then(wire)?;
            } else {
                let text = request.target.clone();
                wire.send(&ok(&[&format!("Content-Length: {}", text.len())], text))?;
            }
        }
        Ok(())
    })
}

fn one_worker(app: &Origin) -> Sidegate {
    Configuration::of(app).server("workers = 1").start()
}

#[test]
fn what_comes_on_an_idle_connection_answers_nobody() {
    let (told, sent) = (Gate::default(), Gate::default());
    let (hears, says) = (told.clone(), sent.clone());
    let app = after_one(move |wire| {
        hears.wait();
        wire.send(EVIL.as_bytes())?;
        says.open();
        Ok(())
    });
    let sidegate = one_worker(&app);
    let mut client = sidegate.client();
    assert_eq!(client.get("/one").text(), "one");
    told.open();
    assert!(sent.wait());
    assert_eq!(client.get("/two").text(), "/two");
    assert_eq!((app.connections(), app.count()), (2, 2), "the connection that spoke unasked was used again");
}

#[test]
fn a_post_over_a_connection_that_the_app_has_closed_meanwhile_is_sent_once_and_answered() {
    let closed = Gate::default();
    let says = closed.clone();
    let app = Origin::scripted(move |wire| {
        let Some(request) = wire.request()? else { return Ok(()) };
        wire.send(&ok(&["Content-Length: 2"], "ok"))?;
        if request.method == "GET" {
            wire.end();
            says.open();
        }
        wire.wait_for_end()
    });
    let sidegate = one_worker(&app);
    let mut client = sidegate.client();
    assert_eq!(client.get("/").status, 200);
    assert!(closed.wait());
    assert_eq!(client.ask("POST", "/pay", &[], b"100").status, 200);
    assert_eq!(app.requests().iter().filter(|seen| seen.method == "POST").count(), 1);
}

/// An app that answers the first request of a connection, and to the second says `last` and hangs up.
fn hangs_up_with(last: &'static [u8]) -> Origin {
    Origin::scripted(move |wire| {
        wire.request()?;
        wire.send(&ok(&["Content-Length: 2"], "ok"))?;
        if wire.request()?.is_some() {
            wire.send(last)?;
        }
        Ok(())
    })
}

/// How often the app saw a second request, and how it was answered.
fn second(app: &Origin, method: &str, content: &[u8]) -> (usize, u16, String) {
    let sidegate = one_worker(app);
    let mut client = sidegate.client();
    assert_eq!(client.get("/first").status, 200);
    let answer = client.ask(method, "/second", &[], content);
    let times = app.requests().iter().filter(|seen| seen.target == "/second").count();
    (times, answer.status, answer.field("proxy-status").unwrap_or_default().replace("sidegate; error=", ""))
}

#[test]
fn what_is_idempotent_and_has_no_content_is_sent_again_when_nothing_came_back() {
    for method in ["GET", "HEAD", "OPTIONS", "DELETE", "PUT"] {
        let (times, status, _) = second(&hangs_up_with(b""), method, b"");
        assert_eq!((times, status), (2, 200), "{method}");
    }
}

#[test]
fn nothing_else_is_sent_again() {
    let terminated = "connection_terminated".to_owned();
    for (method, content) in [("POST", &b""[..]), ("POST", b"100"), ("PATCH", b"1"), ("PUT", b"all"), ("BREW", b"")] {
        let found = second(&hangs_up_with(b""), method, content);
        assert_eq!(found, (1, 502, terminated.clone()), "{method} with {} bytes", content.len());
    }
}

#[test]
fn what_an_app_has_begun_to_answer_is_not_sent_again() {
    let parts: [&'static [u8]; 4] =
        [b"H", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 103 Early Hints\r\n\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"];
    for part in parts {
        let found = second(&hangs_up_with(part), "GET", b"");
        assert_eq!(found, (1, 502, "http_response_incomplete".to_owned()), "{:?}", String::from_utf8_lossy(part));
    }
}

#[test]
fn an_app_that_hangs_up_on_a_new_connection_is_not_asked_again() {
    let app = Origin::scripted(|wire| wire.request().map(drop));
    let answer = one_worker(&app).get("/");
    assert_eq!((answer.status, app.count()), (502, 1));
}

#[test]
fn an_app_may_answer_before_it_has_read_the_request() {
    let app = Origin::scripted(|wire| {
        wire.head()?;
        wire.send(&head("HTTP/1.1 413 Content Too Large", &["Content-Length: 4", "Connection: close"], "much"))?;
        wire.wait_for_end()
    });
    let sidegate = one_worker(&app);
    let mut client = sidegate.client();
    client.send("POST /large HTTP/1.1\r\nHost: a\r\nContent-Length: 100000000\r\n\r\n");
    client.send(vec![b'x'; 1000]);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (413, "much"));
}

#[test]
fn an_early_answer_that_leaves_the_request_unread_ends_its_connection() {
    let app = Origin::scripted(|wire| {
        while let Some(head) = wire.head()? {
            wire.send(&ok(&["Content-Length: 2"], "ok"))?;
            wire.drain(&head)?;
        }
        Ok(())
    });
    let sidegate = one_worker(&app);
    let mut client = sidegate.client();
    client.send("POST /early HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n");
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(sidegate.get("/next").text(), "ok");
    assert_eq!(app.connections(), 2, "a connection that is owed content carried another request");
}

#[test]
fn an_answer_that_begins_early_may_pause_while_the_client_sends() {
    let app = Origin::scripted(|wire| {
        let Some(head) = wire.head()? else { return Ok(()) };
        wire.send(&ok(&["Content-Length: 4"], "ok"))?;
        wire.drain(&head)?;
        wire.send(b"ay")
    });
    let timeouts = "timeouts = { idle = \"100ms\" }";
    let sidegate = Configuration::of(&app).server("workers = 1").upstream(timeouts).start();
    let mut client = sidegate.client();
    assert_eq!(client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").head().status, 200);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(client.send("llo").exactly(4), b"okay");
}

#[test]
fn an_app_that_takes_no_content_or_takes_too_long_is_a_504() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::scripted(move |wire| {
        if wire.head()?.is_some_and(|head| head.path() == "/silent") {
            return wire.wait_for_end();
        }
        // Not a byte of the content is read.
        held.wait();
        Ok(())
    });
    let times = "timeouts = { first_byte = \"200ms\" }";
    let sidegate = Configuration::of(&app).server("workers = 1").upstream(times).start();
    let mut client = sidegate.client();
    client.send(format!("POST /unread HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 100_000_000));
    let piece = vec![b'x'; 1 << 20];
    while client.try_send(&piece).is_ok() {}
    let line = sidegate.access_log(|line| line["target"] == "/unread");
    assert_eq!((&line["status"], &line["upstream_error"]), (&504.into(), &"connection_write_timeout".into()));
    gate.open();
    let times = "timeouts = { total = \"200ms\" }";
    let sidegate = Configuration::of(&app).server("workers = 1").upstream(times).start();
    let answer = sidegate.get("/silent");
    assert_eq!((answer.status, answer.field("proxy-status")), (504, Some("sidegate; error=http_response_timeout")));
}

#[test]
fn content_passes_both_ways_at_once() {
    let app = Origin::scripted(|wire| {
        if wire.head()?.is_none() {
            return Ok(());
        }
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        // Chunk for chunk, as it comes: a line of size, the content, a line end.
        for _ in 0..20 {
            let chunk = wire.exactly("6\r\nping00\r\n".len())?;
            wire.send(&chunk)?;
        }
        wire.exactly("0\r\n\r\n".len())?;
        wire.send(b"0\r\n\r\n")
    });
    let sidegate = one_worker(&app);
    let mut client = sidegate.client();
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
    for turn in 0..20 {
        client.send(format!("6\r\nping{turn:02}\r\n"));
        if turn == 0 {
            assert_eq!(client.head().status, 200, "the answer begins while the request goes on");
        }
        assert_eq!(client.exactly(11), format!("6\r\nping{turn:02}\r\n").as_bytes());
    }
    client.send("0\r\n\r\n");
    assert_eq!(client.exactly(5), b"0\r\n\r\n");
    until("the end of the request at the app", || app.requests().len() == 1);
}

#[test]
fn a_request_whose_client_stops_halfway_never_looks_whole_and_spoils_no_other() {
    let whole = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counted = whole.clone();
    let app = Origin::scripted(move |wire| {
        while let Some(head) = wire.head()? {
            wire.drain(&head)?;
            counted.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
            wire.send(&ok(&["Content-Length: 2"], "ok"))?;
        }
        Ok(())
    });
    let sidegate = one_worker(&app);
    for framing in ["Content-Length: 10", "Transfer-Encoding: chunked"] {
        let before = app.received();
        let mut client = sidegate.client();
        let sent = if framing.starts_with('C') { "half" } else { "4\r\nhalf\r\n" };
        client.send(format!("POST /half HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n{sent}"));
        until("half of it at the app", || app.received() == before + 4);
        client.end();
        let answer = client.try_answer_to("POST");
        assert!(answer.as_ref().is_ok_and(|answer| answer.status == 400), "{framing}: {answer:?}");
        assert_eq!(sidegate.get("/").text(), "ok");
    }
    assert_eq!(whole.load(std::sync::atomic::Ordering::SeqCst), 2, "only the two GETs were whole");
}

/// An app that sends its answer byte for byte, and then waits.
fn byte_for_byte(answer: &'static str) -> Origin {
    Origin::scripted(move |wire| {
        while wire.request()?.is_some() {
            for byte in answer.as_bytes().chunks(1) {
                wire.send(byte)?;
            }
        }
        Ok(())
    })
}

#[test]
fn an_answer_may_come_byte_for_byte() {
    for (answer, content) in [
        ("HTTP/1.1 200 OK\r\nX-One: a\r\nX-Two: b\r\nContent-Length: 5\r\n\r\nhello", "hello"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX: y\r\n\r\n", "hello"),
        ("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", ""),
    ] {
        let app = byte_for_byte(answer);
        let sidegate = one_worker(&app);
        let mut client = sidegate.client();
        for _ in 0..3 {
            assert_eq!(client.get("/").text(), content, "{answer:?}");
        }
        assert_eq!(app.connections(), 1, "{answer:?}");
    }
}

#[test]
fn an_answer_that_is_malformed_byte_for_byte_is_not_waited_for() {
    for answer in [
        "SSH-2.0-OpenSSH_9.2",
        "HTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        "HTTP/1.1 200 OK\r\nX: y\nContent-Length: 5",
        "HTTP/1.1 abc\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let reply = one_worker(&byte_for_byte(answer)).get("/");
        let error = reply.field("proxy-status");
        assert_eq!((reply.status, error), (502, Some("sidegate; error=http_protocol_error")), "{answer:?}");
    }
}

#[test]
fn a_websocket_may_speak_in_the_same_breath_as_its_101() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n\r\n\x81\x02hi")?;
        wire.wait_for_end()
    });
    let sidegate = one_worker(&app);
    let mut client = sidegate.client();
    client.send(request("GET", "/", &[("Connection", "Upgrade"), ("Upgrade", "websocket")], b""));
    assert_eq!(client.head().status, 101);
    assert_eq!(client.exactly(4), b"\x81\x02hi");
}

#[test]
fn a_switch_to_what_was_not_asked_for_is_refused() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n")?;
        wire.wait_for_end()
    });
    let sidegate = one_worker(&app);
    let mut client = sidegate.client();
    client.send(request("GET", "/", &[("Connection", "Upgrade"), ("Upgrade", "websocket")], b""));
    let answer = client.answer();
    assert_eq!((answer.status, answer.field("proxy-status")), (502, Some("sidegate; error=http_upgrade_failed")));
}

#[test]
fn errors_are_counted_by_their_type() {
    let app = Origin::scripted(|wire| {
        let Some(request) = wire.request()? else { return Ok(()) };
        match request.path() {
            "/malformed" => wire.send(b"HTTP/1.1 abc\r\n\r\n"),
            "/short" => wire.send(&ok(&["Content-Length: 10"], "hello")),
            "/chunks" => wire.send(&ok(&["Transfer-Encoding: chunked"], "5\r\nhello!")),
            "/pause" => {
                wire.send(&ok(&["Content-Length: 10"], "hello"))?;
                wire.wait_for_end()
            }
            "/late" => wire.wait_for_end(),
            _ => wire.send(&ok(&["Content-Length: 2", "Connection: close"], "ok")),
        }
    });
    let timeouts = "timeouts = { first_byte = \"150ms\", idle = \"150ms\" }";
    let sidegate = Configuration::of(&app).server("workers = 1").upstream(timeouts).start();
    for (target, error) in [
        ("/malformed", "http_protocol_error"),
        ("/short", "http_response_incomplete"),
        ("/chunks", "http_response_transfer_coding"),
        ("/pause", "connection_read_timeout"),
        ("/late", "http_response_timeout"),
    ] {
        let _ = asking(&sidegate, "GET", target).try_answer_to("GET");
        let metric = format!("sidegate_upstream_errors_total{{upstream=\"app\",error=\"{error}\"}}");
        until(&metric, || sidegate.metric(&metric) == 1.0);
        let line = sidegate.access_log(|line| line["target"] == target);
        assert_eq!(line["upstream_error"], error);
    }
    assert_eq!(sidegate.get("/").text(), "ok");
}
