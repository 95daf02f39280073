//! Apps that speak HTTP/2.

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use tokio::sync::Semaphore;

use crate::harness::frames::{self, frame};
use crate::harness::http2::ask;
use crate::harness::http2_app::{Http2App, client, piece, send};
use crate::harness::tls::{Authority, Front, replace};
use crate::harness::{Client, Configuration, Directory, Origin, hpack, until};

fn post(number: usize) -> Request<Bytes> {
    let content = Bytes::from(format!("content {number}"));
    Request::post(format!("http://app.test/{number}?q=%2F")).body(content).expect("a request")
}

#[test]
fn requests_of_many_streams_share_a_connection_and_come_whole_with_their_trailers() {
    let app = Http2App::answering(|call| call.echo());
    let sidegate = Configuration::to(&app.url()).server("workers = 1").start();
    let trailers = HeaderMap::from_iter([("x-sum".parse().expect("a name"), HeaderValue::from_static("1"))]);
    let answers = ask(sidegate.address(), (0..20).map(|number| (post(number), Some(trailers.clone()))).collect());
    for (number, answer) in answers.iter().enumerate() {
        assert_eq!((answer.status, &answer.content[..]), (StatusCode::OK, format!("content {number}").as_bytes()));
        assert_eq!(answer.trailers.as_ref().map(|trailers| &trailers["x-sum"]), Some(&HeaderValue::from_static("1")));
        assert_eq!(answer.fields["via"], "2.0 sidegate");
    }
    assert_eq!((app.connections(), app.seen().len()), (1, 20));
}

#[test]
fn a_request_of_http_1_says_the_same_in_http_2() {
    let app = Http2App::answering(|call| call.echo());
    let sidegate = Configuration::to(&app.url()).start();
    let mut client = sidegate.client();
    client.send(
        "POST /a%2fb?c HTTP/1.1\r\nHost: app.test:81\r\nConnection: keep-alive, x-private\r\nX-Private: 1\r\n\
         Keep-Alive: 5\r\nTE: trailers\r\nCookie: a=1; b=2\r\nTransfer-Encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\nX-Sum: 9\r\n\r\n",
    );
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (200, "hello"));
    let seen = app.seen().remove(0);
    assert_eq!((seen.method.as_str(), seen.uri.to_string().as_str()), ("POST", "http://app.test:81/a%2fb?c"));
    for (name, value) in [("te", "trailers"), ("cookie", "a=1; b=2"), ("via", "1.1 sidegate")] {
        assert_eq!(seen.fields[name], value, "{seen:?}");
    }
    assert!(seen.fields.contains_key("x-forwarded-for"));
    for name in ["connection", "keep-alive", "x-private", "transfer-encoding", "host", "content-length"] {
        assert!(!seen.fields.contains_key(name), "{seen:?}");
    }
    client.send("OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.answer_to("OPTIONS").status, 200);
    assert_eq!(app.seen()[1].uri.path(), "*");
}

#[test]
fn an_answer_that_begins_early_may_pause_while_the_client_sends() {
    let app = Http2App::answering(|call| call.echo());
    let sidegate = Configuration::to(&app.url()).upstream("timeouts = { idle = \"100ms\" }").start();
    let mut client = sidegate.client();
    assert_eq!(client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhe").head().status, 200);
    std::thread::sleep(std::time::Duration::from_millis(500));
    client.send("llo").read_until("llo\r\n0\r\n\r\n");
}

#[test]
fn answers_without_content_have_none() {
    let app = Http2App::answering(|mut call| async move {
        let status = call.request.uri().path().trim_start_matches('/').parse::<u16>().expect("a status");
        let head = Response::builder().status(status).header("content-length", "5").body(()).expect("a head");
        // What does not belong there comes all the same where h2 lets it.
        let whole = call.request.method() == "HEAD" || status == 304;
        let _ = call.respond.send_response(head, whole);
    });
    let sidegate = Configuration::to(&app.url()).start();
    let mut client = sidegate.client();
    let answer = client.ask("HEAD", "/200", &[], b"");
    assert_eq!((answer.status, answer.field("content-length")), (200, Some("5")));
    let answer = client.get("/204");
    assert_eq!((answer.status, answer.field("content-length"), answer.text().as_str()), (204, None, ""));
    assert_eq!(client.get("/304").status, 304);
}

#[test]
fn another_connection_is_opened_when_the_others_are_full() {
    let gate = Arc::new(Semaphore::new(0));
    let held = gate.clone();
    let app = Http2App::taking(2, move |call| {
        let held = held.clone();
        async move {
            drop(held.acquire().await);
            call.text("ok");
        }
    });
    let sidegate = Configuration::to(&app.url()).server("workers = 1").upstream("max_connections = 3").start();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(sidegate.address(), (0..7).map(|number| (post(number), None)).collect()));
        until("six requests at the app, and one that waits", || {
            app.seen().len() == 6 && sidegate.metric("sidegate_upstream_waits_total{upstream=\"app\"}") >= 1.0
        });
        assert_eq!(app.connections(), 3);
        gate.add_permits(7);
        assert!(asked.join().expect("answers").iter().all(|answer| answer.status == 200));
    });
    assert_eq!((app.connections(), app.seen().len()), (3, 7));
}

#[test]
fn what_the_app_refused_to_look_at_is_sent_again_whatever_it_is() {
    let app = Http2App::answering(|call| async move {
        match call.number {
            0 => call.reset(Reason::REFUSED_STREAM),
            _ => call.echo().await,
        }
    });
    let sidegate = Configuration::to(&app.url()).start();
    // Without content nothing was taken from the client that could not be sent again.
    let answer = sidegate.client().ask("POST", "/", &[], b"");
    assert_eq!((answer.status, app.seen().len(), app.connections()), (200, 2, 1));
}

#[test]
fn what_cannot_be_sent_again_is_not() {
    let app = Http2App::answering(|mut call| async move {
        let _ = piece(call.request.body_mut()).await;
        call.reset(Reason::REFUSED_STREAM);
    });
    let sidegate = Configuration::to(&app.url()).start();
    let answer = sidegate.client().ask("POST", "/", &[], b"content that is gone");
    assert_eq!((answer.status, app.seen().len()), (502, 1));
}

#[test]
fn a_connection_without_requests_is_closed_in_time() {
    let app = Http2App::answering(|call| call.echo());
    let configuration = Configuration::to(&app.url()).server("workers = 1");
    let sidegate = configuration.upstream("timeouts = { keep_alive = \"100ms\" }\nmax_connections = 1").start();
    for connections in 1..=3 {
        assert_eq!((sidegate.get("/").status, app.connections()), (200, connections));
        until("no connection", || sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0);
    }
}

#[test]
fn a_unix_socket_carries_it_too() {
    let (app, directory) = (Http2App::answering(|call| call.echo()), Directory::new());
    app.listen_at(&directory.file("app.sock"));
    let url = format!("h2c+unix:{}", directory.file("app.sock").display());
    let answer = Configuration::to(&url).start().client().ask("POST", "/", &[], b"hello");
    assert_eq!(answer.text(), "hello");
}

/// Reads frames until a head comes; its stream.
fn next_head(wire: &mut crate::harness::origin::Wire) -> std::io::Result<u32> {
    loop {
        let head = wire.exactly(9)?;
        let length = head[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        wire.exactly(length)?;
        if head[3] == frames::HEADERS {
            return Ok(u32::from_be_bytes([head[5] & 0x7f, head[6], head[7], head[8]]));
        }
    }
}

#[test]
fn a_request_above_the_last_stream_of_a_goaway_is_sent_again_and_one_below_is_finished() {
    let app = Origin::scripted(|wire| {
        wire.exactly(24)?;
        wire.send(&frames::settings(&[]))?;
        let first = next_head(wire)?;
        let ok = hpack::block(&[(":status", "200")]);
        let answer = |stream| frame(frames::HEADERS, frames::END_HEADERS | frames::END_STREAM, stream, &ok);
        if first == 1 && wire.number() == 0 {
            let second = next_head(wire)?;
            assert_eq!(second, 3);
            // Stream 1 is the last that was looked at.
            wire.send(&frame(frames::GOAWAY, 0, 0, [0, 0, 0, 1, 0, 0, 0, 0]))?;
            wire.send(&answer(1))?;
        } else {
            wire.send(&answer(first))?;
        }
        wire.wait_for_end()
    });
    let url = app.url().replace("http://", "h2c://");
    let sidegate = Configuration::to(&url).server("workers = 1").start();
    client(sidegate.address(), |mut requests| async move {
        let get = || Request::get("http://a/").body(()).expect("a request");
        let (one, _) = requests.send_request(get(), true).expect("a stream");
        let (other, _) = requests.send_request(get(), true).expect("a stream");
        for answer in [one, other] {
            assert_eq!(answer.await.expect("an answer").status(), 200);
        }
    });
    assert_eq!(app.connections(), 2);
    assert_eq!(sidegate.metric("sidegate_upstream_retries_total{upstream=\"app\",reason=\"connect\"}"), 1.0);
}

#[test]
fn a_reset_ends_one_request_and_names_its_place() {
    let app = Http2App::answering(|mut call| async move {
        match call.request.uri().path() {
            "/before" => call.reset(Reason::INTERNAL_ERROR),
            "/within" => {
                let head = Response::builder().header("content-length", "9").body(()).expect("a head");
                let mut stream = call.respond.send_response(head, false).expect("a stream");
                send(&mut stream, Bytes::from_static(b"hello")).await;
                stream.send_reset(Reason::INTERNAL_ERROR);
            }
            "/short" => {
                let head = Response::builder().header("content-length", "9").body(()).expect("a head");
                let mut stream = call.respond.send_response(head, false).expect("a stream");
                let _ = stream.send_data(Bytes::from_static(b"hello"), true);
            }
            _ => call.text("ok"),
        }
    });
    let sidegate = Configuration::to(&app.url()).server("workers = 1").upstream("breaker = { failures = 0 }").start();
    let answer = sidegate.get("/before");
    assert_eq!(answer.status, 502);
    assert_eq!(answer.field("proxy-status"), Some("sidegate; error=http_response_incomplete"));
    for path in ["/within", "/short"] {
        let mut client = sidegate.client();
        client.send(format!("GET {path} HTTP/1.1\r\nHost: a\r\n\r\n"));
        let broken = client.try_answer_to("GET");
        assert!(broken.as_ref().map_or(true, |answer| answer.status == 502), "{path}: {broken:?}");
        sidegate.access_log(|line| line["target"] == path && line["upstream_error"].is_string());
    }
    assert_eq!(sidegate.get("/").text(), "ok");
    assert_eq!(app.connections(), 1);
}

#[test]
fn a_late_answer_ends_its_stream_and_not_the_connection() {
    let reset = Arc::new(Semaphore::new(0));
    let told = reset.clone();
    let app = Http2App::answering(move |mut call| {
        let told = told.clone();
        async move {
            if call.request.uri().path() == "/late" {
                let _ = std::future::poll_fn(|cx| call.respond.poll_reset(cx)).await;
                told.add_permits(1);
            } else {
                call.text("ok");
            }
        }
    });
    let configuration = Configuration::to(&app.url()).server("workers = 1");
    let sidegate = configuration.upstream("timeouts = { first_byte = \"100ms\", connect = \"10s\" }").start();
    let answer = sidegate.get("/late");
    assert_eq!((answer.status, answer.field("proxy-status")), (504, Some("sidegate; error=http_response_timeout")));
    until("a reset at the app", || reset.available_permits() == 1);
    assert_eq!(sidegate.get("/").text(), "ok");
    assert_eq!(app.connections(), 1);
}

#[test]
fn an_app_that_answers_no_ping_is_left() {
    let app = Origin::scripted(|wire| {
        wire.exactly(24)?;
        wire.send(&frames::settings(&[]))?;
        next_head(wire)?;
        // Not a word more.
        wire.wait_for_end()
    });
    let url = app.url().replace("http://", "h2c://");
    let quick = "timeouts = { first_byte = \"10m\", connect = \"200ms\" }\nhttp2 = { ping = \"100ms\" }\nretries = 0";
    let sidegate = Configuration::to(&url).server("workers = 1").upstream(quick).start();
    let answer = sidegate.get("/");
    assert_eq!((answer.status, answer.field("proxy-status")), (502, Some("sidegate; error=connection_terminated")));
}

#[test]
fn an_app_that_does_not_speak_it_is_told_apart() {
    let app = Origin::saying("HTTP/1.1");
    let url = app.url().replace("http://", "h2c://");
    let answer = Configuration::to(&url).start().get("/");
    assert_eq!((answer.status, answer.field("proxy-status")), (502, Some("sidegate; error=http_protocol_error")));
}

#[test]
fn interim_answers_pass_and_many_are_refused() {
    let app = Http2App::answering(|mut call| async move {
        let hints = if call.request.uri().path() == "/flood" { 20 } else { 1 };
        for _ in 0..hints {
            let hint = Response::builder().status(103).header("link", "</a>").body(()).expect("a head");
            call.respond.send_informational(hint).expect("a stream");
        }
        call.text("ok");
    });
    let sidegate = Configuration::to(&app.url()).start();
    let mut client = sidegate.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(client.interim(), 103);
    assert_eq!(client.answer().text(), "ok");
    assert_eq!(sidegate.get("/flood").status, 502);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_else() {
    const MUCH: usize = 4 * 1024 * 1024;
    let app = Http2App::answering(|mut call| async move {
        let mut stream = call.respond.send_response(Response::new(()), false).expect("a stream");
        let much = if call.request.uri().path() == "/much" { MUCH } else { 2 };
        send(&mut stream, Bytes::from(vec![b'a'; much])).await;
        let _ = stream.send_data(Bytes::new(), true);
    });
    let configuration = Configuration::to(&app.url()).server("workers = 1").upstream("max_connections = 1");
    let sidegate = configuration.start();
    let address = sidegate.address().to_owned();
    client(sidegate.address(), |mut requests| async move {
        let mut asked = Vec::new();
        for _ in 0..9 {
            let request = Request::get("http://a/much").body(()).expect("a request");
            asked.push(requests.send_request(request, true).expect("a stream").0);
        }
        // Their heads are there, and nobody reads on.
        let mut stalled = Vec::new();
        for asked in asked {
            stalled.push(asked.await.expect("an answer").into_body());
        }
        let other = tokio::task::spawn_blocking(move || Client::to(&address).get("/").text());
        assert_eq!(other.await.expect("an answer"), "aa");
        let mut content = stalled.remove(0);
        let mut whole = 0;
        while let Some(piece) = piece(&mut content).await {
            whole += piece.len();
        }
        assert_eq!(whole, MUCH);
    });
    assert_eq!(app.connections(), 1);
}

#[test]
fn over_tls_the_app_chooses_where_it_is_offered() {
    let (app, directory, authority) =
        (Http2App::answering(|call| call.echo()), Directory::new(), Authority::new("apps"));
    let front = Front::at(app.address(), &authority.server(&["localhost"]));
    replace(directory.file("ca.pem"), &authority.pem());
    let ca = directory.file("ca.pem").display().to_string();
    let check = "health_check = { path = \"/healthz\", every = \"50ms\" }";
    let tls = format!("tls = {{ ca = {ca:?} }}\nhttp2 = {{ offer = true }}\n{check}");
    let sidegate = Configuration::to(&front.url()).upstream(&tls).start();
    assert_eq!(sidegate.client().ask("POST", "/", &[], b"hi").text(), "hi");
    until("a health check", || app.seen().iter().any(|seen| seen.uri.path() == "/healthz"));
    assert_eq!(front.handshakes()[0].alpn.as_deref(), Some("h2"));
    assert!(app.seen().iter().all(|seen| seen.uri.scheme_str() == Some("https")));
    let passed = "sidegate_upstream_health_checks_total{upstream=\"app\",endpoint=";
    until("a check that passed", || {
        let text = sidegate.ask_admin("/metrics").text();
        text.lines()
            .any(|line| line.starts_with(passed) && line.contains("outcome=\"passed\"") && !line.ends_with(" 0"))
    });
}
