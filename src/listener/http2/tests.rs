//! What cannot be shown from outside.

use std::sync::Arc;

use http::Response;
use tokio::net::UnixStream;
use tokio::sync::watch;
use tokio::task::{LocalSet, spawn_local};

use super::*;
use crate::exchange::{self, Exchange};
use crate::telemetry::registry::Registry;

async fn answer(exchange: Box<Exchange>) -> Response<Body> {
    assert_ne!(exchange.request.uri().path(), "/panic", "a panic that is meant");
    Response::new(Body::full("app"))
}

fn request(path: &str) -> Request<()> {
    Request::get(format!("http://app.test{path}")).body(()).expect("a test request")
}

#[test]
fn a_panic_ends_its_stream_alone() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a test runtime");
    LocalSet::new().block_on(&runtime, async {
        let (ours, theirs) = UnixStream::pair().expect("two sockets");
        let stack = exchange::service(answer);
        let (_stop, draining) = watch::channel(false);
        let served = Served {
            current: Rc::new(move || stack.clone()),
            settings: Arc::new(Settings::default()),
            draining,
            metrics: Rc::new(Metrics::new(&Registry::new(1), 0)),
            log: Rc::new(|_, _| {}),
        };
        let connection = Rc::new(Connection { peer: None, tls: false, certificate: None, tunnel: None.into() });
        spawn_local(serve(Transport::Unix(ours), Bytes::new(), connection, served));
        let (mut client, driver) = h2::client::handshake(theirs).await.expect("a handshake");
        spawn_local(driver);
        for path in ["/", "/panic", "/"] {
            let (answer, _) = client.send_request(request(path), true).expect("a request");
            let status = answer.await.map(|answer| answer.status().as_u16());
            assert_eq!(status.ok(), (path == "/").then_some(200), "{path}");
        }
    });
}
