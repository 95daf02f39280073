//! Clients that keep us waiting: each wait has its end, and nothing half-sent is taken for whole (PROTOCOL.md, Slow and many).

use std::thread;

use super::recorder::{Event, Recorder};
use super::strict;
use crate::harness::{Client, Configuration, until};

/// What is sent before silence, the statuses that may come back (0: closed without a word), in order.
type Pause = (&'static str, &'static str, &'static [&'static [u16]]);

const ONE: &str = "GET /one HTTP/1.1\r\nHost: a\r\n\r\n";

const PAUSES: [Pause; 24] = [
    ("nothing at all", "", &[&[0]]),
    ("half an empty line", "\r", &[&[0]]),
    ("an empty line", "\r\n", &[&[0]]),
    ("empty lines", "\r\n\r\n\r\n", &[&[0]]),
    ("the start of HTTP/2", "PRI * HTTP/2.0\r\n", &[&[0, 408, 505]]),
    ("what may become HTTP/2", "P", &[&[0, 408]]),
    ("one byte", "G", &[&[408]]),
    ("a method", "GET ", &[&[408]]),
    ("half a target", "GET /pa", &[&[408]]),
    ("half a version", "GET / HTTP/1.", &[&[408]]),
    ("a line without its LF", "GET / HTTP/1.1\r", &[&[408]]),
    ("a request line", "GET / HTTP/1.1\r\n", &[&[408]]),
    ("half a name", "GET / HTTP/1.1\r\nHo", &[&[408]]),
    ("half a value", "GET / HTTP/1.1\r\nHost: a", &[&[408]]),
    ("a head without its end", "GET / HTTP/1.1\r\nHost: a\r\n", &[&[408]]),
    ("a head without its last LF", "GET / HTTP/1.1\r\nHost: a\r\n\r", &[&[408]]),
    ("no content", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", &[&[408]]),
    ("half of the content", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\na", &[&[408]]),
    ("no chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", &[&[408]]),
    ("half a chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\na", &[&[408]]),
    ("no last chunk", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n", &[&[408]]),
    (
        "no end of the trailers",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-T: 1\r\n",
        &[&[408]],
    ),
    (
        "no content after 100",
        "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        &[&[408]],
    ),
    ("no further request", "\r\n", &[&[0]]),
];

#[test]
fn every_wait_for_a_client_has_its_end() {
    let app = Recorder::start();
    let waits = "timeouts = { header = \"300ms\", body = \"300ms\", idle = \"300ms\" }\npark_after = \"100ms\"";
    let sidegate = Configuration::to(&app.url()).server(waits).start();
    let failed: Vec<String> = thread::scope(|scope| {
        let asking = |after: &'static str| {
            let address = sidegate.address();
            move |(name, sent, back): Pause| {
                let statuses = back.iter().map(|statuses| statuses.to_vec());
                let first = if after.is_empty() { None } else { Some(vec![200]) };
                let expected: Vec<Vec<u16>> = first.into_iter().chain(statuses).collect();
                let mut client = Client::to(address);
                client.send(format!("{after}{sent}"));
                let wrong = expected.iter().find_map(|allowed| {
                    let status = client.try_answer_to("GET").map_or(0, |answer| answer.status);
                    (!allowed.contains(&status)).then(|| format!("{name}: answered {status}, not {allowed:?}"))
                });
                wrong.or_else(|| (!client.is_closed()).then(|| format!("{name}: not closed")))
            }
        };
        let fresh = PAUSES.map(|pause| (pause, asking("")));
        // A connection that has served one, and pauses in the next; it cannot become HTTP/2 any more.
        let later = PAUSES.map(|pause| (pause, asking(ONE)));
        let playing: Vec<_> =
            fresh.into_iter().chain(later).map(|(pause, ask)| scope.spawn(move || ask(pause))).collect();
        playing.into_iter().filter_map(|play| play.join().expect("a client that does not panic")).collect()
    });
    assert!(failed.is_empty(), "{}", failed.join("\n"));
    for event in app.take() {
        match event {
            Event::Whole(message) => assert_eq!(message.target, "/one"),
            Event::BrokenOff(_) => {}
            Event::Malformed(why, bytes) => panic!("{why}: {:?}", strict::text(&bytes)),
        }
    }
    assert_eq!(sidegate.get("/alive").status, 200);
}

#[test]
fn bytes_that_drip_do_not_hold_a_connection_for_longer() {
    let app = Recorder::start();
    let sidegate = Configuration::to(&app.url()).server("timeouts = { header = \"300ms\" }").start();
    for drop in ["\r\n", "X-A: b\r\n", "x"] {
        let mut client = sidegate.client();
        if drop != "\r\n" {
            client.send("GET / HTTP/1.1\r\nHost: a\r\n");
        }
        // A byte comes more often than any time-out is long; the connection ends all the same.
        until("the end of a connection that drips", || {
            thread::sleep(std::time::Duration::from_millis(20));
            client.try_send(drop.as_bytes()).is_err()
        });
    }
    assert_eq!(app.take(), []);
}

#[test]
fn what_was_refused_before_it_was_a_request_is_in_the_log_without_a_byte_of_it() {
    let app = Recorder::start();
    let sidegate = Configuration::to(&app.url()).server("timeouts = { header = \"300ms\" }").start();
    let long = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "secret".repeat(10_000));
    for (sent, status, kind) in [
        ("GET /secret  HTTP/1.1\r\nHost: a\r\n\r\n", 400, "bad-request"),
        ("GET /secret HTTP/2.0\r\nHost: a\r\n\r\n", 505, "version-not-supported"),
        (&long, 414, "uri-too-long"),
        ("GET / HTTP/1.1\r\nX-A: secret", 408, "request-timeout"),
    ] {
        let answer = sidegate.client().send(sent).answer();
        assert_eq!(answer.status, status);
        let line = sidegate.access_log(|line| line["status"] == status);
        assert_eq!((&line["local_reply"], &line["client"]), (&kind.into(), &"127.0.0.1".into()), "{line}");
        assert_eq!((line["method"].as_str(), line["target"].as_str()), (Some("-"), None), "{line}");
        assert_eq!(line["request_id"].as_str(), answer.field("x-request-id"), "{line}");
        assert_eq!(line["sent"], answer.content.len(), "{line}");
    }
    assert!(!(sidegate.output() + &sidegate.errors()).contains("secret"));
    assert_eq!(sidegate.metric("sidegate_refused_messages_total"), 3.0);
}
