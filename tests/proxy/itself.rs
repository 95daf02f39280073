//! The harness is tested too: client and origin against each other, with no proxy between them.

use crate::harness::{Client, Load, Origin, Reply, client::request};

#[test]
fn a_request_and_its_answer_are_read_as_they_were_sent() {
    let app = Origin::answering(|request| Reply::text(format!("{} {}", request.method, request.target)));
    let mut client = Client::to(&app.address().to_string());
    let answer = client.ask("POST", "/a?b=c", &[("X-Field", "value")], b"content");
    assert_eq!((answer.status, answer.text().as_str()), (200, "POST /a?b=c"));
    assert_eq!(app.last().field("x-field"), Some("value"));
    assert_eq!(app.last().content, b"content");
    assert_eq!(client.get("/again").text(), "GET /again");
    assert_eq!((app.count(), app.connections()), (2, 1));
}

#[test]
fn chunks_and_trailers_are_read() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n")?;
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 6\r\n\r\n")
    });
    let mut client = Client::to(&app.address().to_string());
    client.send("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\nX-T: 1\r\n\r\n");
    let answer = client.answer();
    assert_eq!((answer.text().as_str(), answer.trailers.one("x-sum"), answer.interim[0].0), ("abc", Some("6"), 103));
    assert_eq!((app.last().content.as_slice(), app.last().trailers.one("x-t")), (b"hi".as_slice(), Some("1")));
}

#[test]
fn content_that_is_cut_short_is_noticed() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
    });
    let answer = Client::to(&app.address().to_string()).get("/");
    assert!(answer.cut_short);
    assert_eq!(answer.text(), "half");
}

#[test]
fn load_counts_answers_and_failures() {
    let app = Origin::answering(|request| {
        if request.target.starts_with("/3/") { Reply::text("no").status("503 Away") } else { Reply::text("yes") }
    });
    let ask = |number, turn| request("GET", &format!("/{number}/{turn}"), &[], b"");
    let load = Load::start(&app.address().to_string(), 4, ask, |answer| answer.text() == "yes");
    load.wait_for_more(100);
    let tally = load.finish();
    assert!(tally.total() >= 100 && tally.failures.is_empty(), "{tally:?}");
    assert_eq!(tally.answers[&503], tally.wrong);
    assert_eq!(app.connections(), 4);
}
