//! A client of HTTP/2 in cleartext, with prior knowledge (RFC 9113 §3.3).

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::task::JoinHandle;

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
    within(PATIENCE, async {
        let (sender, driver) = connected(address).await;
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
    })
}

/// Does `work` on this thread; at most for so long.
fn within<T>(limit: Duration, work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async { tokio::time::timeout(limit, work).await.expect("HTTP/2 answers in time") })
}

/// A connection, and what drives it.
async fn connected<B>(address: &str) -> (SendRequest<B>, JoinHandle<hyper::Result<()>>)
where
    B: Body<Data = Bytes> + Unpin + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let stream = tokio::net::TcpStream::connect(address).await.expect("a connection");
    let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream));
    let (sender, connection) = handshake.await.expect("an HTTP/2 handshake");
    (sender, tokio::spawn(connection))
}

/// Announces content and sends half of it; the status of the answer.
pub fn ask_and_stall(address: &str, target: &str) -> StatusCode {
    within(PATIENCE, async {
        let (mut sender, driver) = connected(address).await;
        let content = Full::new(Bytes::from_static(b"x")).boxed();
        let never = content.with_trailers(std::future::pending());
        let request = Request::post(format!("http://{address}{target}")).header("content-length", "2");
        let request = request.body(never).expect("a request");
        let status = sender.send_request(request).await.expect("an answer").status();
        driver.abort();
        status
    })
}

/// Sends `request`, calls `begun`, which waits until it is under way, resets it (CANCEL), and calls `left`; the connection stays until
/// that returns.
pub fn ask_and_leave(
    address: &str,
    request: Request<Full<Bytes>>,
    begun: impl FnOnce() + Send + 'static,
    left: impl FnOnce() + Send + 'static,
) {
    within(4 * PATIENCE, async {
        let (mut sender, driver) = connected(address).await;
        let asked = tokio::spawn({
            let answer = sender.send_request(request);
            async move { answer.await.is_ok() }
        });
        tokio::task::spawn_blocking(begun).await.expect("it has begun");
        assert!(!asked.is_finished(), "it is under way");
        asked.abort();
        tokio::task::spawn_blocking(left).await.expect("it has been left");
        driver.abort();
    });
}
