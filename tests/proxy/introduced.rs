//! The PROXY protocol: whose a connection is, told before it begins (HAProxy's proxy-protocol.txt).

use crate::harness::secure::Certified;
use crate::harness::{Client, Configuration, Directory, Origin, Reply, Sidegate, until};

const FIRST: &[u8] = b"PROXY TCP4 192.0.2.7 10.0.0.1 49152 80\r\n";
const SECOND: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\xc0\0\0\x50";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// An app that says whom it was told to serve.
fn telling() -> Origin {
    Origin::answering(|request| Reply::text(request.field("x-forwarded-for").unwrap_or("nobody")))
}

fn believing(app: &Origin, mode: &str) -> Configuration {
    Configuration::of(app).server(&format!("proxy_protocol = {mode:?}\ntrusted_proxies = [\"127.0.0.1\", \"unix\"]"))
}

fn refused(sidegate: &Sidegate, reason: &str) -> f64 {
    sidegate.metric(&format!("sidegate_proxy_protocol_refused_total{{reason={reason:?}}}"))
}

/// What the answer to `bytes` says; `None`: closed without one.
fn said(sidegate: &Sidegate, bytes: &[u8]) -> Option<String> {
    let mut client = sidegate.client();
    let _ = client.try_send(bytes);
    client.try_answer_to("GET").ok().map(|answer| answer.text())
}

#[test]
fn the_address_that_is_told_is_the_clients_in_whatever_pieces_it_comes() {
    let app = telling();
    for mode in ["optional", "required"] {
        let sidegate = believing(&app, mode).start();
        for header in [FIRST, SECOND] {
            assert_eq!(said(&sidegate, &[header, GET].concat()).as_deref(), Some("192.0.2.7"));
            let mut client = sidegate.client();
            for byte in [header, GET].concat() {
                client.send([byte]);
            }
            assert_eq!(client.answer().text(), "192.0.2.7");
            assert_eq!(client.get("/again").text(), "192.0.2.7", "for the whole connection");
        }
        sidegate.access_log(|line| line["client"] == "192.0.2.7");
        for header in [LOCAL, b"PROXY UNKNOWN\r\n"] {
            assert_eq!(said(&sidegate, &[header, GET].concat()).as_deref(), Some("127.0.0.1"));
        }
    }
}

#[test]
fn it_comes_before_tls() {
    let (app, certified) = (telling(), Certified::new());
    let sidegate = believing(&app, "required").server(&certified.line()).start();
    for header in [FIRST, SECOND] {
        let mut client = certified.client(sidegate.address(), header);
        assert_eq!(client.get("/").text(), "192.0.2.7");
        assert_eq!(client.get("/").text(), "192.0.2.7");
    }
    let optional = believing(&app, "optional").server(&certified.line()).start();
    assert_eq!(certified.client(optional.address(), b"").get("/").text(), "127.0.0.1");
    // What begins like a header and is none is no TLS either: it is cleartext, and told so.
    let told = said(&optional, b"POST / HTTP/1.1\r\nHost: a\r\n\r\n").expect("an answer");
    assert!(told.contains("this port speaks TLS"), "{told}");
}

#[test]
fn where_it_is_optional_a_request_without_it_is_one_in_any_pieces() {
    let app = telling();
    let sidegate = believing(&app, "optional").start();
    assert_eq!(said(&sidegate, GET).as_deref(), Some("127.0.0.1"));
    // These begin as a header does.
    for request in
        ["PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"]
    {
        let mut client = sidegate.client();
        for byte in request.as_bytes() {
            client.send([*byte]);
        }
        assert_eq!(client.answer().status, 200, "{request:?}");
    }
}

#[test]
fn a_stranger_is_not_believed_and_not_served() {
    let app = telling();
    for (mode, plain) in [("optional", Some("127.0.0.1")), ("required", None)] {
        let strangers = format!("proxy_protocol = {mode:?}\ntrusted_proxies = [\"10.0.0.0/8\"]");
        let sidegate = Configuration::of(&app).server(&strangers).start();
        assert_eq!(said(&sidegate, &[FIRST, GET].concat()), None);
        assert_eq!(said(&sidegate, &[SECOND, GET].concat()), None);
        assert_eq!(said(&sidegate, GET).as_deref(), plain);
        assert_eq!(refused(&sidegate, "untrusted"), if plain.is_some() { 2.0 } else { 3.0 });
        // A header that has only begun, and the most that a second one can announce: its end is not waited for.
        for begun in [&FIRST[..6], &SECOND[..12], b"\r\n\r\n\0\r\nQUIT\n\x20\0\x7f\xff"] {
            assert_eq!(said(&sidegate, begun), None);
        }
        assert_eq!(refused(&sidegate, "late"), 0.0);
    }
    assert_eq!(app.count(), 1);
}

#[test]
fn a_header_that_is_missing_malformed_or_late_is_refused_and_counted() {
    let app = telling();
    let sidegate = believing(&app, "required").server("timeouts = { header = \"200ms\" }").start();
    assert_eq!(said(&sidegate, GET), None);
    assert_eq!(said(&sidegate, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), None);
    assert_eq!(refused(&sidegate, "missing"), 2.0);
    let malformed: [&[u8]; 6] = [
        b"PROXY TCP4 192.0.2.7 10.0.0.1 49152 80\n",
        b"PROXY TCP4 192.0.2.7 10.0.0.1 +1 80\r\n",
        b"PROXY TCP5 192.0.2.7 10.0.0.1 1 80\r\n",
        b"PROXY / HTTP/1.1\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0b\xc0\0\x02\x07\x0a\0\0\x01\xc0\0\0\x50",
        b"\r\n\r\n\0\r\nQUIT\n\x31\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x01\xc0\0\0\x50",
    ];
    for header in malformed {
        assert_eq!(said(&sidegate, &[header, GET].concat()), None, "{}", header.escape_ascii());
    }
    assert_eq!(refused(&sidegate, "malformed"), 6.0);
    // The whole header is waited for, and not for ever; nor is the first byte.
    let mut waiting: Vec<Client> = Vec::new();
    for part in [&FIRST[..30], &SECOND[..20], b""] {
        let mut client = sidegate.client();
        client.send(part);
        waiting.push(client);
    }
    assert!(waiting.iter_mut().all(Client::is_closed));
    assert_eq!(refused(&sidegate, "late"), 3.0);
    assert_eq!(app.count(), 0);
}

#[test]
fn a_second_header_is_no_request() {
    let app = telling();
    let sidegate = believing(&app, "required").start();
    for header in [FIRST, SECOND] {
        let mut client = sidegate.client();
        let _ = client.try_send(&[header, header, GET].concat());
        assert_eq!(client.answer().status, 400);
        assert!(client.is_closed());
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn the_bound_per_address_counts_who_is_told_and_not_the_proxy() {
    let app = telling();
    let sidegate = believing(&app, "required").server("max_connections_per_address = 2").start();
    let from = |octet: u8| {
        let mut client = sidegate.client();
        client.send(format!("PROXY TCP4 192.0.2.{octet} 10.0.0.1 1 80\r\n")).send(GET);
        let answered = client.try_answer_to("GET").is_ok();
        (client, answered)
    };
    let held: Vec<_> = [1, 1, 2, 2, 3].map(from).into();
    assert!(held.iter().all(|(_, answered)| *answered));
    assert!(!from(1).1 && !from(2).1, "they have their fill");
    drop(held);
    until("room for the first again", || from(1).1);
}

#[test]
fn what_a_request_says_is_believed_only_if_the_address_told_is_a_trusted_proxys() {
    let app = telling();
    let sidegate = believing(&app, "required").start();
    let get = b"GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 198.51.100.9\r\n\r\n";
    assert_eq!(said(&sidegate, &[FIRST, get].concat()).as_deref(), Some("192.0.2.7"));
    let through = said(&sidegate, &[b"PROXY TCP4 127.0.0.1 10.0.0.1 1 80\r\n", &get[..]].concat());
    assert_eq!(through.as_deref(), Some("198.51.100.9, 127.0.0.1"));
}

#[test]
fn a_unix_socket_is_trusted_if_it_is_said_to_be() {
    let (app, directory) = (telling(), Directory::new());
    let place = format!("unix:{}", directory.file("socket").display());
    let told = |sidegate: &Sidegate| {
        let mut client = Client::to(sidegate.addresses().last().expect("the Unix socket"));
        let _ = client.try_send(&[FIRST, GET].concat());
        client.try_answer_to("GET").ok().map(|answer| answer.text())
    };
    let sidegate = believing(&app, "required").listen(&place).start();
    assert_eq!(told(&sidegate).as_deref(), Some("192.0.2.7"));
    drop(sidegate);
    let strangers = "proxy_protocol = \"required\"\ntrusted_proxies = [\"127.0.0.1\"]";
    let sidegate = Configuration::of(&app).server(strangers).listen(&place).start();
    assert_eq!(told(&sidegate), None);
}

#[test]
fn the_app_is_told_whose_each_connection_is_and_each_is_one_clients() {
    let app = Origin::scripted(|wire| {
        let header = wire.exactly(28)?;
        while wire.request()?.is_some() {
            let told = format!("{}.{}.{}.{}", header[16], header[17], header[18], header[19]);
            wire.send(format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{told}", told.len()).as_bytes())?;
        }
        Ok(())
    });
    let sidegate = believing(&app, "optional").upstream("proxy_protocol = \"v2\"").start();
    let mut told = sidegate.client();
    told.send(FIRST);
    let mut plain = sidegate.client();
    for turn in 0..5 {
        assert_eq!((turn, told.get("/").text().as_str()), (turn, "192.0.2.7"));
        assert_eq!((turn, plain.get("/").text().as_str()), (turn, "127.0.0.1"));
    }
    assert_eq!((app.count(), app.connections()), (10, 10), "none is used twice");
    until("none kept", || sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0);
}
