//! Calls of gRPC, end to end.

use std::sync::Arc;

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Response};
use tokio::sync::Semaphore;

use crate::harness::http2_app::{Call, Http2App, call, client, piece, send};
use crate::harness::{Configuration, until};

fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().expect("a name"), code.parse().expect("a value"))])
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).expect("a head")
}

/// Sends back each message as it comes; then status 0. `/fails` fails at once.
async fn echo(mut call: Call) {
    if call.request.uri().path() == "/a.B/Fails" {
        let mut only = head();
        only.headers_mut().extend(status("9"));
        return drop(call.respond.send_response(only, true));
    }
    let mut stream = call.respond.send_response(head(), false).expect("a stream");
    let mut content = call.request.into_body();
    while let Some(message) = piece(&mut content).await {
        send(&mut stream, message).await;
    }
    let _ = stream.send_trailers(status("0"));
}

#[test]
fn a_call_keeps_its_message_its_deadline_and_its_trailers() {
    let app = Http2App::answering(echo);
    let sidegate = Configuration::to(&app.url()).start();
    client(sidegate.address(), |mut requests| async move {
        let (answer, mut stream) = requests.send_request(call("/a.B/C"), false).expect("a stream");
        stream.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), true).expect("a stream");
        let mut content = answer.await.expect("an answer").into_body();
        assert_eq!(piece(&mut content).await.as_deref(), Some(&b"\0\0\0\0\x02hi"[..]));
        let trailers = content.trailers().await.expect("an end").expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
        // A status and nothing else is one head that ends the stream.
        let (answer, _) = requests.send_request(call("/a.B/Fails"), true).expect("a stream");
        let answer = answer.await.expect("an answer");
        assert!(answer.body().is_end_stream() && answer.headers()["grpc-status"] == "9", "{answer:?}");
    });
    let seen = app.seen().remove(0);
    for (name, value) in [("te", "trailers"), ("grpc-timeout", "20S"), ("content-type", "application/grpc")] {
        assert_eq!(seen.fields[name], value);
    }
}

#[test]
fn both_directions_are_open_as_long_as_both_sides_want() {
    let app = Http2App::answering(echo);
    let quick = "timeouts = { body = \"100ms\" }";
    let configuration = Configuration::to(&app.url()).server(quick);
    let sidegate = configuration.upstream("timeouts = { idle = \"100ms\", first_byte = \"100ms\" }").start();
    client(sidegate.address(), |mut requests| async move {
        let (answer, mut stream) = requests.send_request(call("/a.B/C"), false).expect("a stream");
        // The app answers before anything has been said.
        let mut content = answer.await.expect("an answer").into_body();
        for turn in 0..3_u8 {
            // Longer than any of those time-outs.
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
            send(&mut stream, Bytes::from(vec![turn; 8])).await;
            assert_eq!(piece(&mut content).await.as_deref(), Some(&[turn; 8][..]));
        }
        stream.send_data(Bytes::new(), true).expect("a stream");
        assert!(piece(&mut content).await.is_none());
        assert_eq!(content.trailers().await.expect("an end").expect("trailers")["grpc-status"], "0");
    });
}

#[test]
fn a_client_that_does_not_read_may_go_on_to_write() {
    const MUCH: usize = 1024 * 1024;
    let heard = Arc::new(Semaphore::new(0));
    let told = heard.clone();
    let app = Http2App::answering(move |mut call| {
        let told = told.clone();
        async move {
            let mut stream = call.respond.send_response(head(), false).expect("a stream");
            let talking = tokio::spawn(async move {
                send(&mut stream, Bytes::from(vec![1; MUCH])).await;
                let _ = stream.send_trailers(status("0"));
            });
            let (mut content, mut whole) = (call.request.into_body(), 0);
            while let Some(piece) = piece(&mut content).await {
                whole += piece.len();
            }
            told.add_permits(usize::from(whole == MUCH));
            let _ = talking.await;
        }
    });
    let sidegate = Configuration::to(&app.url()).start();
    client(sidegate.address(), |mut requests| async move {
        let (answer, mut stream) = requests.send_request(call("/a.B/C"), false).expect("a stream");
        let mut content = answer.await.expect("an answer").into_body();
        send(&mut stream, Bytes::from(vec![2; MUCH])).await;
        stream.send_data(Bytes::new(), true).expect("a stream");
        drop(heard.acquire().await.expect("all of it at the app"));
        let mut whole = 0;
        while let Some(piece) = piece(&mut content).await {
            whole += piece.len();
        }
        assert_eq!(whole, MUCH);
    });
}

#[test]
fn a_call_that_its_client_gives_up_ends_at_the_app() {
    let ended = Arc::new(Semaphore::new(0));
    let told = ended.clone();
    let app = Http2App::answering(move |mut call| {
        let told = told.clone();
        async move {
            let mut stream = call.respond.send_response(head(), false).expect("a stream");
            let _ = std::future::poll_fn(|cx| stream.poll_reset(cx)).await;
            told.add_permits(1);
        }
    });
    let sidegate = Configuration::to(&app.url()).start();
    client(sidegate.address(), |mut requests| async move {
        let (answer, mut stream) = requests.send_request(call("/a.B/C"), false).expect("a stream");
        answer.await.expect("an answer");
        stream.send_reset(Reason::CANCEL);
        drop(ended.acquire().await.expect("an end at the app"));
    });
    until("no request under way", || app.connections() == 1);
}

/// `grpc-status` of a call, and whether nothing followed it.
fn code_of(address: &str, path: &str) -> String {
    client(address, |mut requests| async move {
        let (answer, _stream) = requests.send_request(call(path), false).expect("a stream");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "application/grpc");
        assert!(answer.body().is_end_stream() && answer.headers().contains_key("grpc-message"));
        answer.headers()["grpc-status"].to_str().expect("a code").to_owned()
    })
}

#[test]
fn refusals_of_our_own_are_in_the_words_of_grpc() {
    let app = Http2App::answering(|call| async move {
        let _call = call;
        std::future::pending::<()>().await;
    });
    let routes = "[limit.one]\nkey = \"address\"\nquota = \"1 per hour\"\n\
                  [[route]]\npath = \"/limited\"\nlimits = [\"one\"]\n[[route]]\npath = \"/slow\"\n";
    let quick = "timeouts = { first_byte = \"100ms\" }";
    let configuration = Configuration::to(&app.url()).server("timeouts = { body = \"10s\" }");
    let sidegate = configuration.upstream(&format!("{quick}\nbreaker = {{ failures = 0 }}")).with(routes).start();
    client(sidegate.address(), |mut requests| async move {
        // The whole request is at the app, which says nothing.
        let (answer, _) = requests.send_request(call("/slow"), true).expect("a stream");
        assert_eq!(answer.await.expect("an answer").headers()["grpc-status"], "4");
        let (answer, _) = requests.send_request(call("/limited"), true).expect("a stream");
        assert_eq!(answer.await.expect("an answer").headers()["grpc-status"], "4");
    });
    assert_eq!(code_of(sidegate.address(), "/limited"), "8");
    assert_eq!(code_of(sidegate.address(), "/elsewhere"), "12");
    let nobody = Configuration::to("h2c://127.0.0.1:1").start();
    assert_eq!(code_of(nobody.address(), "/"), "14");
}
