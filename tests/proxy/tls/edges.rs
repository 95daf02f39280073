//! What is no handshake, or never becomes one.

use super::secured;
use crate::harness::{Client, Directory, Origin, until};

const FAILED: &str = "sidegate_tls_handshakes_total{outcome=\"failed\"}";

#[test]
fn cleartext_http_on_a_tls_port_is_told_so() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let sidegate = secured(&app, &directory, "").0.start();
    for (turn, bytes) in ["GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"].iter().enumerate() {
        let mut client = Client::to(sidegate.address());
        client.send(bytes);
        let answer = client.answer();
        assert_eq!(answer.status, 400);
        assert!(answer.text().contains("this port speaks TLS"), "{}", answer.text());
        assert!(client.is_closed());
        until("a failed handshake", || sidegate.metric(FAILED) == (turn + 1) as f64);
    }
    assert_eq!(app.count(), 0);
}

#[test]
fn rubbish_on_a_tls_port_ends_with_an_alert() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let sidegate = secured(&app, &directory, "").0.start();
    for bytes in [&[0x80; 64][..], b"\x16\x03\x01\x00\x05hello", b"\x15\x03\x03\x00\x02\x02\x28rest of it", &[0; 600]] {
        let mut client = Client::to(sidegate.address());
        client.send(bytes).end();
        let mut said = Vec::new();
        until("the end of the connection", || {
            if client.is_closed() {
                return true;
            }
            said.extend(client.exactly(1));
            false
        });
        // A fatal alert (RFC 8446 §6), or nothing where the client itself has sent one.
        assert!(said.is_empty() || (said[0] == 0x15 && said.len() == 7 && said[5] == 2), "{bytes:?}: {said:?}");
    }
    until("four failed handshakes", || sidegate.metric(FAILED) == 4.0);
    assert_eq!(app.connections(), 0);
}

#[test]
fn a_handshake_that_drips_ends_at_the_time_out_of_a_head() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let configuration = secured(&app, &directory, "").0.server("timeouts = { header = \"300ms\" }");
    let sidegate = configuration.start();
    let mut silent = Client::to(sidegate.address());
    let mut dripping = Client::to(sidegate.address());
    // A record of 512 bytes is announced, and byte after byte of it comes.
    dripping.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03");
    until("both ended", || {
        let _ = dripping.try_send(b"\0");
        sidegate.metric("sidegate_tls_handshakes_total{outcome=\"timed_out\"}") == 2.0
    });
    assert!(silent.is_closed());
    assert!(dripping.is_closed());
}

#[test]
fn who_leaves_without_a_word_is_no_failed_handshake() {
    let (app, directory) = (Origin::saying("app"), Directory::new());
    let sidegate = secured(&app, &directory, "").0.start();
    for _ in 0..3 {
        assert!(Client::to(sidegate.address()).end().is_closed());
    }
    assert_eq!(super::door(&sidegate).client().get("/").text(), "app");
    assert_eq!(sidegate.metric("sidegate_connections_total"), 4.0);
    assert_eq!(sidegate.metric(FAILED), 0.0);
}
