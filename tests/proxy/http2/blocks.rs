//! Blocks of fields that come in pieces, and the table they share (RFC 7541; RFC 9113 §4.3).

use crate::harness::frames::*;
use crate::harness::hpack::{block, integer};
use crate::harness::{Configuration, Origin, Sidegate};

/// What must come of a block on stream 1: 200, or the end of the stream or the connection with a code.
type Outcome = Result<u16, u32>;

fn outcome(sidegate: &Sidegate, before: &[u8], bytes: &[u8]) -> Outcome {
    let answer = Frames::to(sidegate.address()).send([before, bytes].concat()).answer(1);
    answer.error.map_or(Ok(answer.status), Err)
}

/// A request's block with more at its end, and what must come of it; `true`: it is one of trailers, and comes alone.
fn blocks() -> Vec<(&'static str, bool, Vec<u8>, Outcome)> {
    let with = |more: &[u8]| [&block(&request("GET", "/"))[..], more].concat();
    let fragment = block(&request("GET", "/a#b"));
    vec![
        ("sound", false, with(b"\x40\x01x\x81\x07\xbe"), Ok(200)),
        ("within a field at its end", false, with(b"\x00\x01x\x02y"), Err(COMPRESSION_ERROR)),
        ("no such index", false, with(b"\x40\x01x\x01y\xbf"), Err(COMPRESSION_ERROR)),
        ("padding of zeros", false, with(b"\x00\x01x\x81\x18"), Err(COMPRESSION_ERROR)),
        ("padding of eight bits", false, with(b"\x00\x01x\x82\x07\xff"), Err(COMPRESSION_ERROR)),
        ("an end of string", false, with(b"\x00\x01x\x84\xff\xff\xff\xff"), Err(COMPRESSION_ERROR)),
        ("a fragment", false, fragment, Err(PROTOCOL_ERROR)),
        ("connection-specific", false, with(&block(&[("connection", "x-a"), ("x-a", "b")])), Err(PROTOCOL_ERROR)),
        ("te", false, with(&block(&[("te", "gzip"), ("x-a", "b")])), Err(PROTOCOL_ERROR)),
        ("a pseudo-field twice", false, with(&block(&[(":method", "POST"), ("x-a", "b")])), Err(PROTOCOL_ERROR)),
        ("a pseudo-field late", false, with(&block(&[("x-a", "b"), (":method", "GET")])), Err(PROTOCOL_ERROR)),
        ("no name", false, with(&block(&[("", "b"), ("x-a", "b")])), Err(PROTOCOL_ERROR)),
        ("trailers", true, block(&[("x-a", "b"), ("x-b", "c")]), Ok(200)),
        ("a pseudo-field in trailers", true, block(&[("x-a", "b"), (":path", "/")]), Err(PROTOCOL_ERROR)),
        ("connection-specific trailers", true, block(&[("upgrade", "x"), ("x-a", "b")]), Err(PROTOCOL_ERROR)),
    ]
}

/// What stands before trailers: a request with content.
fn before(trailers: bool) -> Vec<u8> {
    if trailers { [post(1), data(1, 0, "content")].concat() } else { Vec::new() }
}

#[test]
fn where_a_continuation_begins_does_not_matter() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let mut failed = Vec::new();
    for (name, trailers, block, expected) in blocks() {
        for at in 0..=block.len() {
            let (first, rest) = block.split_at(at);
            let head = frame(HEADERS, END_STREAM | PADDED, 1, [b"\x02", first, b"\0\0"].concat());
            let frames = [head, frame(CONTINUATION, END_HEADERS, 1, rest)].concat();
            let came = outcome(&sidegate, &before(trailers), &frames);
            if came != expected {
                failed.push(format!("{name}, continued at {at}: {expected:?} wanted, {came:?} came"));
            }
        }
    }
    assert!(failed.is_empty(), "{} failed:\n{}", failed.len(), failed.join("\n"));
    let sound = |request: &crate::harness::origin::Request| !request.fields.has("te") && !request.fields.has("upgrade");
    assert!(app.requests().iter().all(sound));
}

#[test]
fn where_a_read_ends_does_not_matter() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    for (name, trailers, block, expected) in blocks() {
        let mut connection = Frames::to(sidegate.address());
        connection.send(before(trailers));
        for byte in frame(HEADERS, END_STREAM | END_HEADERS, 1, block) {
            connection.send([byte]);
        }
        let answer = connection.answer(1);
        assert_eq!(answer.error.map_or(Ok(answer.status), Err), expected, "{name}");
    }
}

#[test]
fn the_table_is_one_for_all_streams() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    let common = block(&request("GET", "/"));
    let asks = |stream: u32, more: &[u8]| frame(HEADERS, END_STREAM | END_HEADERS, stream, [&common, more].concat());
    // An entry in pieces; one of 1,000 bytes; and at last so many more that the first has gone.
    let first = [
        frame(HEADERS, END_STREAM, 1, [&common[..], b"\x40\x05x-"].concat()),
        frame(CONTINUATION, 0, 1, b"one\x03un"),
        frame(CONTINUATION, END_HEADERS, 1, b"o"),
    ];
    let mut large = b"\x40\x05x-two".to_vec();
    integer(&mut large, 0, 7, 1000);
    large.extend([b'v'; 1000]);
    let mut connection = Frames::to(sidegate.address());
    assert_eq!(connection.send(first.concat()).answer(1).status, 200);
    assert_eq!(connection.send(asks(3, b"\xbe")).answer(3).status, 200);
    for stream in [5, 7, 9] {
        assert_eq!(connection.send(asks(stream, &large)).answer(stream).status, 200);
    }
    assert_eq!(connection.send(asks(11, b"\xc1")).answer(11).status, 200);
    let seen: Vec<_> = app.requests().iter().map(|request| request.field("x-one").map(str::to_owned)).collect();
    let uno = Some("uno".to_owned());
    assert_eq!(seen, [uno.clone(), uno.clone(), None, None, None, uno]);
    assert_eq!(connection.send(asks(13, &large)).answer(13).status, 200);
    assert_eq!(connection.send(asks(15, b"\xc2")).answer(15).error, Some(COMPRESSION_ERROR));
    assert_eq!(app.requests().len(), 7);
}
