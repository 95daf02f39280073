//! WebSockets from clients of HTTP/2 (RFC 8441).

use base64::Engine as _;
use bytes::Bytes;
use h2::client::SendRequest;
use h2::ext::Protocol;
use http::{Method, Request};
use sha1::{Digest, Sha1};

use crate::harness::http2_app::{Http2App, client, piece, send};
use crate::harness::{Configuration, Origin, Reply};

/// An app that takes the upgrade, sends back all bytes as they come, and ends with its client.
fn echo(lies: bool) -> Origin {
    Origin::scripted(move |wire| {
        let Some(head) = wire.request()? else { return Ok(()) };
        let key = head.field("sec-websocket-key").unwrap_or_default().to_owned();
        if head.field("upgrade") != Some("websocket") || head.method != "GET" || key.is_empty() {
            return wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
        let key = if lies { "another".to_owned() } else { key };
        let digest = Sha1::new().chain_update(key).chain_update("258EAFA5-E914-47DA-95CA-C5AB0DC85B11").finalize();
        let accept = base64::engine::general_purpose::STANDARD.encode(digest);
        let switch = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n";
        wire.send(
            format!("{switch}Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: chat\r\n\r\n").as_bytes(),
        )?;
        loop {
            let some = wire.some()?;
            if some.is_empty() {
                wire.send(b"bye")?;
                wire.end();
                return Ok(());
            }
            wire.send(&some)?;
        }
    })
}

fn handshake(protocol: &'static str) -> Request<()> {
    let request = Request::builder().method(Method::CONNECT).uri("http://app.test/chat?room=1");
    let request = request.extension(Protocol::from_static(protocol)).header("sec-websocket-version", "13");
    request.header("sec-websocket-protocol", "chat").header("cookie", "a=1").body(()).expect("a request")
}

/// The status that a handshake gets.
async fn status(requests: &mut SendRequest<Bytes>, protocol: &'static str) -> u16 {
    let (answer, _stream) = requests.send_request(handshake(protocol), false).expect("a stream");
    answer.await.expect("an answer").status().as_u16()
}

#[test]
fn a_websocket_passes_beside_other_requests_and_its_end_is_heard() {
    let app = echo(false);
    let sidegate = Configuration::of(&app).start();
    client(sidegate.address(), |mut requests| async move {
        assert!(requests.is_extended_connect_protocol_enabled());
        let (one, mut to_one) = requests.send_request(handshake("websocket"), false).expect("a stream");
        let (other, mut to_other) = requests.send_request(handshake("websocket"), false).expect("a stream");
        let (one, other) = (one.await.expect("an answer"), other.await.expect("an answer"));
        assert_eq!((one.status().as_u16(), &one.headers()["sec-websocket-protocol"]), (200, &"chat".parse().unwrap()));
        for name in ["upgrade", "connection", "sec-websocket-accept"] {
            assert!(!one.headers().contains_key(name), "{one:?}");
        }
        let (mut from_one, mut from_other) = (one.into_body(), other.into_body());
        for turn in 0..50_u8 {
            send(&mut to_one, Bytes::from(vec![turn; 100])).await;
            send(&mut to_other, Bytes::from(vec![255 - turn; 7])).await;
            let mut came = Vec::new();
            while came.len() < 100 {
                came.extend_from_slice(&piece(&mut from_one).await.expect("an echo"));
            }
            assert_eq!(came, [turn; 100]);
            assert_eq!(piece(&mut from_other).await.as_deref(), Some(&[255 - turn; 7][..]));
        }
        // More than all windows hold, while it is read.
        let much = Bytes::from(vec![7; 2 * 1024 * 1024]);
        let sent = async { send(&mut to_one, much.clone()).await };
        let read = async {
            let mut whole = 0;
            while whole < much.len() {
                whole += piece(&mut from_one).await.expect("an echo").len();
            }
        };
        tokio::join!(sent, read);
        to_one.send_data(Bytes::new(), true).expect("a stream");
        assert_eq!(piece(&mut from_one).await.as_deref(), Some(&b"bye"[..]));
        assert!(piece(&mut from_one).await.is_none());
        to_other.send_reset(h2::Reason::CANCEL);
    });
    let seen = app.requests().remove(0);
    assert_eq!(
        (seen.target.as_str(), seen.field("host"), seen.field("cookie")),
        ("/chat?room=1", Some("app.test"), Some("a=1"))
    );
    assert_eq!(sidegate.access_log(|line| line["status"] == 101)["method"], "GET");
}

#[test]
fn limits_and_routes_are_for_it_as_for_any_request() {
    let app = echo(false);
    let tables =
        "[limit.one]\nkey = \"address\"\nquota = \"1 per hour\"\n[[route]]\npath = \"/{*rest}\"\nlimits = [\"one\"]";
    let limited = Configuration::of(&app).with(tables).start();
    client(limited.address(), |mut requests| async move {
        assert_eq!(status(&mut requests, "websocket").await, 200);
        assert_eq!(status(&mut requests, "websocket").await, 429);
    });
    let without = Configuration::of(&app).with("[[route]]\npath = \"/chat\"\nwebsocket = false").start();
    client(without.address(), |mut requests| async move {
        assert_eq!(status(&mut requests, "websocket").await, 403);
        assert_eq!(status(&mut requests, "connect-udp").await, 400);
    });
    assert_eq!(app.count(), 1);
}

#[test]
fn an_app_that_has_not_read_the_key_or_refuses_switches_nothing() {
    let liar = echo(true);
    let lying = Configuration::of(&liar).start();
    client(lying.address(), |mut requests| async move {
        assert_eq!(status(&mut requests, "websocket").await, 502);
    });
    let app = Origin::answering(|_| Reply::text("no sockets here").status("426 Upgrade Required"));
    let refusing = Configuration::of(&app).start();
    client(refusing.address(), |mut requests| async move {
        let (answer, _stream) = requests.send_request(handshake("websocket"), false).expect("a stream");
        let answer = answer.await.expect("an answer");
        assert_eq!(answer.status(), 426);
        assert_eq!(piece(&mut answer.into_body()).await.as_deref(), Some(&b"no sockets here"[..]));
    });
}

#[test]
fn an_app_of_http_2_takes_none_by_either_way() {
    let app = Http2App::answering(|call| call.echo());
    let sidegate = Configuration::to(&app.url()).start();
    client(sidegate.address(), |mut requests| async move {
        assert_eq!(status(&mut requests, "websocket").await, 403);
    });
    let mut client = sidegate.client();
    client.send(
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
    );
    assert_eq!(client.head().status, 403);
    assert_eq!(app.seen().len(), 0);
}
