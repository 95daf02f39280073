//! An app that speaks HTTP/2 in cleartext, and a client whose streams are in the test's hands.

use std::net::SocketAddr;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Method, Request, Response, Uri};
use tokio::net::{TcpListener, TcpStream};

use super::PATIENCE;
use super::tls::Background;

/// A request as the app saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: Method,
    pub uri: Uri,
    pub fields: HeaderMap,
}

/// A request in the app's hands.
pub struct Call {
    pub request: Request<RecvStream>,
    pub respond: SendResponse<Bytes>,
    /// Which request it is, over all connections: 0, 1, 2 …
    pub number: usize,
}

/// A running app. Ends, with all its connections, when dropped.
pub struct Http2App {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<AtomicUsize>,
    runtime: Background,
}

impl Http2App {
    /// Each request goes to `answer`.
    pub fn answering<A: Future<Output = ()> + Send + 'static>(
        answer: impl Fn(Call) -> A + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::taking(100, answer)
    }

    /// The same, with so many requests at once over one connection.
    pub fn taking<A: Future<Output = ()> + Send + 'static>(
        streams: u32,
        answer: impl Fn(Call) -> A + Clone + Send + Sync + 'static,
    ) -> Self {
        let runtime = Background::new();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("an app");
        let address = listener.local_addr().expect("a bound address");
        let (seen, connections) = (Arc::<Mutex<Vec<Seen>>>::default(), Arc::<AtomicUsize>::default());
        let (noted, counted) = (seen.clone(), connections.clone());
        runtime.spawn(async move {
            while let Ok((socket, _)) = listener.accept().await {
                let (answer, noted) = (answer.clone(), noted.clone());
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    let mut builder = h2::server::Builder::new();
                    builder.max_concurrent_streams(streams);
                    let Ok(mut http2) = builder.handshake::<_, Bytes>(socket).await else { return };
                    while let Some(Ok((request, respond))) = http2.accept().await {
                        let (method, uri) = (request.method().clone(), request.uri().clone());
                        let fields = request.headers().clone();
                        let number = {
                            let mut seen = noted.lock().unwrap_or_else(PoisonError::into_inner);
                            seen.push(Seen { method, uri, fields });
                            seen.len() - 1
                        };
                        tokio::spawn(answer(Call { request, respond, number }));
                    }
                });
            }
        });
        Self { address, seen, connections, runtime }
    }

    /// `h2c://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("h2c://{}", self.address)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Also listens on this Unix socket.
    pub fn listen_at(&self, path: &Path) {
        let (listener, address) = (UnixListener::bind(path).expect("a socket"), self.address);
        listener.set_nonblocking(true).expect("a socket");
        self.runtime.spawn(async move {
            let listener = tokio::net::UnixListener::from_std(listener).expect("a socket");
            while let Ok((mut socket, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let mut app = TcpStream::connect(address).await.expect("the app listens");
                    let _ = tokio::io::copy_bidirectional(&mut socket, &mut app).await;
                });
            }
        });
    }

    /// What it has been asked.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Call {
    /// Answers with text.
    pub fn text(mut self, text: &'static str) {
        let mut stream = self.respond.send_response(Response::new(()), false).expect("a stream");
        stream.send_data(Bytes::from_static(text.as_bytes()), true).expect("a stream");
    }

    /// Answers with what it was sent, trailers included, as it comes.
    pub async fn echo(mut self) {
        let mut stream = self.respond.send_response(Response::new(()), false).expect("a stream");
        let mut content = self.request.into_body();
        while let Some(Ok(piece)) = content.data().await {
            send(&mut stream, piece.clone()).await;
            content.flow_control().release_capacity(piece.len()).expect("a stream");
        }
        match content.trailers().await {
            Ok(Some(trailers)) => drop(stream.send_trailers(trailers)),
            _ => drop(stream.send_data(Bytes::new(), true)),
        }
    }

    /// Resets the stream.
    pub fn reset(mut self, reason: Reason) {
        self.respond.send_reset(reason);
    }
}

/// Sends a piece as windows open.
pub async fn send(stream: &mut SendStream<Bytes>, mut piece: Bytes) {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        let _ = stream.send_data(piece.split_to(room.min(piece.len())), false);
    }
}

/// The next piece of content, not empty; its window is given back.
pub async fn piece(content: &mut RecvStream) -> Option<Bytes> {
    loop {
        let piece = content.data().await?.ok()?;
        content.flow_control().release_capacity(piece.len()).expect("a stream");
        if !piece.is_empty() {
            return Some(piece);
        }
    }
}

/// Runs a client's work over one connection.
pub fn client<W: Future>(address: &str, work: impl FnOnce(SendRequest<Bytes>) -> W) -> W::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let stream = TcpStream::connect(address).await.expect("a connection");
        let mut builder = h2::client::Builder::new();
        // Streams that are not read hold their own windows alone; nothing is sent before the SETTINGS have come.
        builder.initial_connection_window_size(16 << 20).initial_max_send_streams(0);
        let (requests, http2) = builder.handshake(stream).await.expect("a handshake");
        let driver = tokio::spawn(http2);
        let done = tokio::time::timeout(PATIENCE, async {
            while requests.current_max_send_streams() == 0 {
                tokio::task::yield_now().await;
            }
            work(requests).await
        })
        .await;
        driver.abort();
        done.expect("answers in time")
    })
}

/// A call of gRPC.
pub fn call(path: &str) -> Request<()> {
    let request = Request::post(format!("http://grpc.test{path}")).version(http::Version::HTTP_2);
    let request = request.header("content-type", "application/grpc").header("te", "trailers");
    request.header("grpc-timeout", "20S").body(()).expect("a request")
}
