//! A client of HTTP/2 in cleartext, with prior knowledge (RFC 9113 §3.3).

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};

use super::PATIENCE;

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: StatusCode,
    /// Its fields.
    pub fields: HeaderMap,
    /// Its content.
    pub content: Bytes,
    /// Its trailers.
    pub trailers: Option<HeaderMap>,
}

/// Sends all requests at once over one connection; each with its trailers, if any. The answers are in the requests' order.
pub fn ask(address: &str, requests: Vec<(Request<Bytes>, Option<HeaderMap>)>) -> Vec<Answer> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .expect("an HTTP/2 handshake");
        let driver = tokio::spawn(connection);
        let asked: Vec<_> = requests
            .into_iter()
            .map(|(request, trailers)| {
                let mut sender = sender.clone();
                tokio::spawn(async move {
                    let request =
                        request.map(|content| Full::new(content).with_trailers(std::future::ready(trailers.map(Ok))));
                    let (head, content) = sender.send_request(request).await.expect("an answer").into_parts();
                    let collected = content.collect().await.expect("whole content");
                    let trailers = collected.trailers().cloned();
                    Answer { status: head.status, fields: head.headers, content: collected.to_bytes(), trailers }
                })
            })
            .collect();
        let mut answers = Vec::new();
        for answer in asked {
            answers.push(answer.await.expect("an answer"));
        }
        drop(sender);
        driver.abort();
        answers
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("HTTP/2 answers in time") })
}

/// Announces content and sends half of it; the status of the answer.
pub fn ask_and_stall(address: &str, target: &str) -> StatusCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("a handshake");
        let driver = tokio::spawn(connection);
        let content = Full::new(Bytes::from_static(b"x")).boxed();
        let never = content.with_trailers(std::future::pending());
        let request = Request::post(format!("http://{address}{target}")).header("content-length", "2");
        let request = request.body(never).expect("a request");
        let status = sender.send_request(request).await.expect("an answer").status();
        driver.abort();
        status
    };
    runtime.block_on(async { tokio::time::timeout(PATIENCE, work).await.expect("an HTTP/2 answer in time") })
}

/// Sends `request`, calls `begun`, which waits until it is under way, resets it (CANCEL), and calls `left`; the connection stays until
/// that returns.
pub fn ask_and_leave(
    address: &str,
    request: Request<Full<Bytes>>,
    begun: impl FnOnce() + Send + 'static,
    left: impl FnOnce() + Send + 'static,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let work = async {
        let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
                .await
                .expect("a handshake");
        let driver = tokio::spawn(connection);
        let asked = tokio::spawn({
            let answer = sender.send_request(request);
            async move { answer.await.is_ok() }
        });
        tokio::task::spawn_blocking(begun).await.expect("it has begun");
        assert!(!asked.is_finished(), "it is under way");
        asked.abort();
        tokio::task::spawn_blocking(left).await.expect("it has been left");
        driver.abort();
    };
    runtime
        .block_on(async { tokio::time::timeout(4 * PATIENCE, work).await.expect("what is waited for comes in time") });
}
