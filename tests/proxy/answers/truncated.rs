//! Answers that end too early, at every byte of them.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use crate::harness::{Configuration, Origin};

use super::{Case, Want, broken, judge, refused, whole};

const INCOMPLETE: &str = "http_response_incomplete";

/// `sample` cut after every byte; its head ends at `head`, and its content is whole when all of it has come.
fn cut_everywhere(sample: &str, content: &str) -> Vec<Case> {
    let head = sample.rfind("OK\r\n").and_then(|at| sample[at..].find("\r\n\r\n").map(|end| at + end + 4));
    let head = head.expect("a head of 200 in the sample");
    // Where the first byte of content is at hand, the head goes out.
    let first = head + sample[head..].find(&content[..1]).expect("content in the sample") + 1;
    let case = |cut: usize| {
        let (name, bytes) = (format!("{cut} bytes of {}", sample.len()), &sample[..cut]);
        match cut {
            0 => refused(name, "RFC 9209 §2.3.8", bytes, "connection_terminated"),
            _ if cut == sample.len() => whole(name, "RFC 9112 §8", bytes, content),
            _ if cut < head => refused(name, "RFC 9112 §8", bytes, INCOMPLETE),
            _ if cut < first => {
                Case { want: Want::Either(INCOMPLETE), ..refused(name, "RFC 9112 §8", bytes, INCOMPLETE) }
            }
            _ => broken(name, "RFC 9112 §8", bytes, INCOMPLETE),
        }
    };
    // A POST is not sent again when the app says nothing.
    (0..=sample.len()).map(|cut| case(cut).method("POST").closes()).collect()
}

#[test]
fn content_with_a_length_is_never_completed_by_the_end_of_the_connection() {
    judge(cut_everywhere(
        "HTTP/1.1 200 OK\r\nContent-Length: 20\r\nX: y\r\n\r\nhello, hello, hello!",
        "hello, hello, hello!",
    ));
}

#[test]
fn chunked_content_is_never_completed_by_the_end_of_the_connection() {
    let sample = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n";
    judge(cut_everywhere(sample, "hello"));
}

#[test]
fn an_interim_answer_is_no_answer() {
    let sample = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nab";
    judge(cut_everywhere(sample, "ab"));
}

#[test]
fn an_orderly_end_to_http_1_0_means_that_the_content_was_whole() {
    for (chunks, whole) in [("5\r\nhello\r\n0\r\n\r\n", true), ("9\r\nhello", false)] {
        let app = Origin::scripted(move |wire| {
            wire.request()?;
            wire.send(format!("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}").as_bytes())
        });
        let sidegate = Configuration::of(&app).start();
        let mut client = TcpStream::connect(sidegate.address()).expect("a connection");
        client.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("a request");
        let mut answer = Vec::new();
        let ended = client.read_to_end(&mut answer).map_err(|error| error.kind());
        assert_eq!(ended.is_ok(), whole, "{ended:?} after {:?}", String::from_utf8_lossy(&answer));
        assert!(whole || ended == Err(ErrorKind::ConnectionReset), "{ended:?}");
        assert!(answer.is_empty() || answer.ends_with(b"hello"));
    }
}
