//! Broken answers towards clients of HTTP/2: the stream is reset, and the connection goes on.

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::{Case, app, broken, ok, refused, whole};
use crate::harness::{Configuration, PATIENCE};

/// Status and content, if it was whole. A reset may overtake the head.
type Got = Option<(u16, Bytes)>;

/// Asks for `/case/N`, one after the other over one connection.
fn ask(address: &str, count: usize) -> Vec<Got> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("a handshake");
        tokio::spawn(connection);
        let mut answers = Vec::new();
        for number in 0..count {
            let request = Request::get(format!("http://app.test/case/{number}")).body(Empty::<Bytes>::new());
            let answer = match sender.send_request(request.expect("a request")).await {
                Ok(answer) => {
                    let (head, content) = answer.into_parts();
                    content.collect().await.ok().map(|content| (head.status.as_u16(), content.to_bytes()))
                }
                Err(_) => None,
            };
            answers.push(answer);
        }
        answers
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("answers in time") })
}

#[test]
fn a_broken_answer_resets_its_stream_and_no_other() {
    let section = "RFC 9113 §8.1.1";
    let chunked = |chunks: &str| ok(&["Transfer-Encoding: chunked"], chunks);
    let cases: Vec<Case> = vec![
        whole("sound", section, ok(&["Content-Length: 5"], "hello"), "hello"),
        broken("cut short", section, ok(&["Content-Length: 10"], "hello"), "http_response_incomplete").closes(),
        broken("no last chunk", section, chunked("5\r\nhello\r\n"), "http_response_incomplete").closes(),
        broken("a bare LF", section, chunked("5\r\nhello\n0\r\n\r\n"), "http_response_transfer_coding"),
        refused(
            "two lengths",
            section,
            ok(&["Content-Length: 5", "Content-Length: 5"], "hello"),
            "http_protocol_error",
        ),
        whole("chunks", section, chunked("5\r\nhello\r\n0\r\n\r\n"), "hello"),
    ];
    let app = app(cases.clone());
    let sidegate = Configuration::of(&app).start();
    let got = ask(sidegate.address(), cases.len());
    let hello = Some((200, Bytes::from_static(b"hello")));
    assert_eq!((&got[0], &got[5]), (&hello, &hello));
    assert_eq!(got[1..4], [None, None, None]);
    assert_eq!(got[4].as_ref().map(|(status, _)| *status), Some(502));
}
