//! Content is passed on as it comes, and backpressure with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use crate::harness::origin::Gate;
use crate::harness::{Configuration, Origin, Reply, until};

const MIB: u64 = 1024 * 1024;

/// How much the process may grow while content passes.
const GROWTH: u64 = 64 * MIB;

/// An app that answers with so many MiB.
fn large(mebibytes: u64) -> Origin {
    Origin::scripted(move |wire| {
        let piece = vec![b'x'; MIB as usize];
        while wire.request()?.is_some() {
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", mebibytes * MIB).as_bytes())?;
            for _ in 0..mebibytes {
                wire.send(&piece)?;
            }
        }
        Ok(())
    })
}

#[test]
fn a_gibibyte_comes_down_without_growth() {
    let app = large(1024);
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let before = sidegate.rss();
    let (peak, reading) = (Arc::new(AtomicU64::new(0)), Arc::new(()));
    let answer = client.head();
    let (seen, alive, watched) = (peak.clone(), Arc::downgrade(&reading), sidegate.pid());
    let watch = thread::spawn(move || {
        while alive.upgrade().is_some() {
            seen.fetch_max(rss_of(watched), Ordering::SeqCst);
            thread::sleep(Duration::from_millis(20));
        }
    });
    let (total, whole) = client.count_content(&answer.fields);
    drop(reading);
    watch.join().expect("the watch on memory");
    assert_eq!((total, whole), (1024 * MIB, true));
    let growth = peak.load(Ordering::SeqCst).saturating_sub(before);
    assert!(growth < GROWTH, "grew by {} MiB", growth / MIB);
}

fn rss_of(pid: i32) -> u64 {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    pages.split_whitespace().nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or_default() * 4096
}

#[test]
fn a_quarter_of_a_gibibyte_goes_up_without_growth() {
    let app = Origin::scripted(|wire| {
        while let Some(head) = wire.head()? {
            let total = wire.drain(&head)?.to_string();
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{total}", total.len()).as_bytes())?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    for framing in ["Content-Length: 268435456", "Transfer-Encoding: chunked"] {
        let mut client = sidegate.client();
        let before = sidegate.rss();
        client.send(format!("POST /up HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n"));
        let piece = vec![b'x'; MIB as usize];
        let mut peak = before;
        for _ in 0..256 {
            if framing.starts_with('C') {
                client.send(&piece);
            } else {
                client.send("100000\r\n").send(&piece).send("\r\n");
            }
            peak = peak.max(sidegate.rss());
        }
        if framing.starts_with('T') {
            client.send("0\r\n\r\n");
        }
        assert_eq!(client.answer().text(), "268435456", "{framing}");
        assert!(peak - before < GROWTH, "{framing}: grew by {} MiB", (peak - before) / MIB);
    }
}

#[test]
fn a_client_that_stops_reading_stops_the_app() {
    let app = large(512);
    let sidegate = Configuration::of(&app).start();
    let before = sidegate.rss();
    let mut client = sidegate.client();
    client.send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
    let answer = client.head();
    // What the sockets on the way hold is the kernel's business; it comes to rest, far from the whole.
    let mut last = 0;
    until("the app to come to rest", || {
        let (earlier, now) = (last, app.sent());
        last = now;
        thread::sleep(Duration::from_millis(200));
        now > 0 && now == earlier
    });
    assert!(app.sent() < 64 * MIB, "the app has sent {} MiB that nobody reads", app.sent() / MIB);
    assert!(sidegate.rss().saturating_sub(before) < 16 * MIB, "sidegate keeps what nobody reads");
    assert_eq!(client.count_content(&answer.fields), (512 * MIB, true), "and goes on when the client does");
}

#[test]
fn an_app_that_stops_reading_stops_the_client() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::scripted(move |wire| {
        let Some(head) = wire.head()? else { return Ok(()) };
        held.wait();
        let total = wire.drain(&head)?.to_string();
        wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{total}", total.len()).as_bytes())
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send(format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n", 128 * MIB));
    let sent = Arc::new(AtomicU64::new(0));
    let counted = sent.clone();
    let writer = thread::spawn(move || {
        for _ in 0..128 {
            client.send(vec![b'x'; MIB as usize]);
            counted.fetch_add(1, Ordering::SeqCst);
        }
        client.answer().text()
    });
    let mut last = 0;
    until("the client to come to rest", || {
        let (earlier, now) = (last, sent.load(Ordering::SeqCst));
        last = now;
        thread::sleep(Duration::from_millis(200));
        now > 0 && now == earlier
    });
    assert!(sent.load(Ordering::SeqCst) < 64, "{} MiB were taken for an app that reads nothing", last);
    gate.open();
    assert_eq!(writer.join().expect("the client"), (128 * MIB).to_string());
}

#[test]
fn the_first_event_of_a_stream_arrives_while_the_app_holds_the_rest() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::scripted(move |wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        wire.send(b"d\r\ndata: first\n\n\r\n")?;
        held.wait();
        wire.send(b"c\r\ndata: last\n\n\r\n0\r\n\r\n")
    });
    let config =
        Configuration::of(&app).with("[cache.all]\nttl = \"60s\"\n[[route]]\npath = \"/{*rest}\"\ncache = \"all\"");
    let sidegate = config.start();
    let mut client = sidegate.client();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until("data: first\n\n");
    gate.open();
    client.read_until("data: last\n\n");
}

#[test]
fn the_app_learns_that_the_client_has_gone() {
    let ended = Gate::default();
    let told = ended.clone();
    let app = Origin::scripted(move |wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        wire.send(b"3\r\nhi\n\r\n")?;
        wire.wait_for_end()?;
        told.open();
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
    client.read_until("hi\n");
    drop(client);
    assert!(ended.wait(), "the app still waits for a client that has gone");
}

/// An app that speaks WebSocket as far as these tests do: takes the upgrade, sends back each frame unmasked, ends on close.
fn websocket_echo(closed: Gate) -> Origin {
    Origin::scripted(move |wire| {
        let Some(head) = wire.request()? else { return Ok(()) };
        let upgrade = head.field("upgrade").is_some_and(|value| value.eq_ignore_ascii_case("websocket"));
        let key = head.field("sec-websocket-key") == Some("dGhlIHNhbXBsZSBub25jZQ==");
        if !upgrade || !key || !head.field("connection").is_some_and(|value| value.to_lowercase().contains("upgrade")) {
            return wire.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        }
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n")?;
        wire.send(b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n")?;
        loop {
            let head = wire.exactly(2)?;
            let length = match head[1] & 0x7f {
                126 => wire.exactly(2)?.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)),
                short => usize::from(short),
            };
            let mask = wire.exactly(4)?;
            let content: Vec<u8> = wire.exactly(length)?.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b).collect();
            wire.send(&frame(head[0], &content, None))?;
            if head[0] & 0x0f == 8 {
                closed.open();
                return Ok(());
            }
        }
    })
}

/// A WebSocket frame (RFC 6455 §5.2); masked as a client's must be.
fn frame(first: u8, content: &[u8], mask: Option<[u8; 4]>) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let mut out = vec![first];
    match u8::try_from(content.len()).ok().filter(|length| *length < 126) {
        Some(short) => out.push(masked | short),
        None => {
            out.push(masked | 126);
            out.extend_from_slice(&u16::try_from(content.len()).expect("a short frame").to_be_bytes());
        }
    }
    let mask = mask.inspect(|mask| out.extend_from_slice(mask)).unwrap_or_default();
    out.extend(content.iter().zip(mask.iter().cycle()).map(|(a, b)| a ^ b));
    out
}

const HANDSHAKE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

#[test]
fn a_websocket_passes_and_its_close_reaches_the_app() {
    let closed = Gate::default();
    let app = websocket_echo(closed.clone());
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    // The first frame comes on the heels of the handshake, in the same packet.
    client.send([HANDSHAKE.as_bytes(), &frame(0x81, b"hello", Some([1, 2, 3, 4]))].concat());
    let answer = client.head();
    assert_eq!((answer.status, answer.field("sec-websocket-accept")), (101, Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")));
    assert_eq!(client.exactly(7), frame(0x81, b"hello", None));
    for turn in 0..100 {
        let content = vec![turn; 1000];
        client.send(frame(0x82, &content, Some([9, 8, 7, turn])));
        assert_eq!(client.exactly(1004), frame(0x82, &content, None));
    }
    client.send(frame(0x88, &[3, 232], Some([0, 0, 0, 0])));
    assert_eq!(client.exactly(4), frame(0x88, &[3, 232], None));
    assert!(closed.wait(), "the close frame did not reach the app");
    assert!(client.is_closed());
    drop(client);
    let line = sidegate.access_log(|line| line["status"] == 101);
    assert_eq!(line["method"], "GET");
}

#[test]
fn an_end_without_a_close_frame_reaches_the_other_side_too() {
    let ended = Gate::default();
    let told = ended.clone();
    let app = Origin::scripted(move |wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")?;
        wire.wait_for_end()?;
        told.open();
        Ok(())
    });
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send(HANDSHAKE);
    assert_eq!(client.head().status, 101);
    drop(client);
    assert!(ended.wait(), "the app still holds a tunnel whose client has gone");
}

#[test]
fn an_app_that_refuses_the_upgrade_is_heard() {
    let app = Origin::answering(|_| Reply::text("no sockets here").status("426 Upgrade Required"));
    let sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    client.send(HANDSHAKE);
    let answer = client.answer();
    assert_eq!((answer.status, answer.text().as_str()), (426, "no sockets here"));
}

#[test]
fn a_route_without_websockets_refuses_them() {
    let app = websocket_echo(Gate::default());
    let config = Configuration::of(&app).with("[[route]]\npath = \"/ws\"\nwebsocket = false");
    let sidegate = config.start();
    let mut client = sidegate.client();
    client.send(HANDSHAKE);
    assert_ne!(client.head().status, 101);
    assert!(app.requests().iter().all(|seen| !seen.fields.has("upgrade")), "{:?}", app.requests());
}

#[test]
fn a_client_that_has_gone_does_not_keep_a_connection_to_the_app() {
    let app = Origin::scripted(|wire| {
        if wire.request()?.is_some_and(|request| request.path() == "/events") {
            // Not a word after the head: only the client's leaving ends this.
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")?;
            return wire.wait_for_end();
        }
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
    });
    let configuration = Configuration::of(&app).server("workers = 1\ntimeouts = { half_closed = \"200ms\" }");
    let sidegate = configuration.upstream("max_connections = 2").start();
    for _ in 0..2 {
        let mut client = sidegate.client();
        client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(client.head().status, 200);
    }
    assert_eq!(sidegate.get("/").status, 200);
}
