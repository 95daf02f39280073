//! Asks an endpoint whether it is well.
//!
//! A GET over a connection of its own, closed after the head of the answer: what is checked is what a new request would
//! meet. The head is bounded, the content is not read.

use bytes::Bytes;
use http::header::{ACCEPT, USER_AGENT};
use http::{Request, Version};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::Place;
use super::connect::Connector;
use super::endpoint::Endpoint;
use super::health::Check;
use crate::listener::transport::Transport;

/// Bytes of the answer's head, interim answers included.
const LONGEST: usize = 16 * 1024;

/// Whether the endpoint answers as `check` expects, in time.
pub async fn passes(connector: &Connector, endpoint: &Endpoint, check: &Check) -> bool {
    let status = timeout(check.timeout, ask(connector, endpoint, &check.path)).await.ok().flatten();
    let passed = status.is_some_and(|status| check.expect.contains(&status));
    tracing::debug!(endpoint = endpoint.label, status, passed, "checked");
    passed
}

async fn ask(connector: &Connector, endpoint: &Endpoint, path: &str) -> Option<u16> {
    let mut io = connector.connect(&endpoint.server, endpoint.address, None).await.ok()?;
    let host = match &endpoint.server.place {
        Place::Tcp(host, port) if host.contains(':') => format!("[{host}]:{port}"),
        Place::Tcp(host, port) => format!("{host}:{port}"),
        Place::Unix(_) => "localhost".to_owned(),
    };
    if endpoint.server.http2 || io.speaks_http2() {
        let scheme = if endpoint.server.tls { "https" } else { "http" };
        return ask_over_http2(io, format!("{scheme}://{host}{path}")).await;
    }
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: sidegate-health-check\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    io.write_all(request.as_bytes()).await.ok()?;
    io.flush().await.ok()?;
    let mut head = Vec::with_capacity(1024);
    loop {
        if io.read_buf(&mut head).await.ok()? == 0 || head.len() > LONGEST {
            return None;
        }
        while let Some((status, length)) = status(&head)? {
            // Interim answers come ahead of the one that counts (RFC 9110 §15.2).
            if status >= 200 {
                return Some(status);
            }
            head.drain(..length);
        }
    }
}

async fn ask_over_http2(io: Transport, url: String) -> Option<u16> {
    let request = Request::get(url).version(Version::HTTP_2).header(USER_AGENT, "sidegate-health-check");
    let request = request.header(ACCEPT, "*/*").body(()).ok()?;
    let mut builder = h2::client::Builder::new();
    let (requests, connection) =
        builder.enable_push(false).max_header_list_size(LONGEST as u32).handshake::<_, Bytes>(io).await.ok()?;
    let asking = async move {
        let (answer, _) = requests.ready().await.ok()?.send_request(request, true).ok()?;
        Some(answer.await.ok()?.status().as_u16())
    };
    tokio::select! {
        status = asking => status,
        _ = connection => None,
    }
}

/// The status of a whole head and the head's length; `Some(None)`: more must come; `None`: it is no HTTP.
fn status(bytes: &[u8]) -> Option<Option<(u16, usize)>> {
    let mut fields = [httparse::EMPTY_HEADER; 100];
    let mut head = httparse::Response::new(&mut fields);
    match head.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => Some(Some((head.code?, length))),
        Ok(httparse::Status::Partial) => Some(None),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_whole_cut_short_or_no_http() {
        assert_eq!(status(b"HTTP/1.1 204 No Content\r\n\r\nrest"), Some(Some((204, 27))));
        assert_eq!(status(b"HTTP/1.1 204 No"), Some(None));
        assert_eq!(status(b"SSH-2.0-OpenSSH\r\n"), None);
    }
}
