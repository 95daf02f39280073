//! The group `http2`, sections 3 to 5: preface, frames, streams.

use super::*;
use crate::harness::hpack;

#[test]
fn section_3_the_preface() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).start();
    // http2/3.5/1: the server's SETTINGS come first, which connecting asserts.
    let mut connection = Frames::with(sidegate.address(), &[(SETTINGS_INITIAL_WINDOW_SIZE, 65_535)]);
    assert_eq!(connection.ask(1, "/").status, 200);
    // http2/3.5/2: what is no preface ends the connection; it may have been a request of HTTP/1.
    let mut connection = crate::harness::Client::to(sidegate.address());
    connection.send("INVALID CONNECTION PREFACE\r\n\r\n");
    assert_eq!(connection.answer().status, 400);
    assert!(connection.is_closed());
    // RFC 9113 §3.4: the first frame is SETTINGS.
    let mut connection = Frames::bare(sidegate.address());
    connection.send([PREFACE, &ping(b"too soon")].concat());
    assert_eq!(connection.going_away(), Some(PROTOCOL_ERROR));
    // A preface that breaks off.
    let mut connection = Frames::bare(sidegate.address());
    assert!(connection.send(&PREFACE[..20]).end().ends());
}

#[test]
fn section_4_frames() {
    let unknown = frame(0x16, 0, 0, [0; 8]);
    let zeros = [0; 8];
    let large = "x".repeat(16_385);
    let unfinished = frame(HEADERS, 0, 1, hpack::block(&request("GET", "/")));
    let finished = frame(CONTINUATION, END_HEADERS, 1, hpack::block(&[("x-dummy", "x")]));
    let pong = |name, bytes: Vec<u8>| case(name, vec![Send(bytes), Then(See::Pong(&[0; 8]))]);
    let mut reserved = frame(PING, 0x16, 0, zeros);
    reserved[5] |= 0x80;
    pass(vec![
        is_borne("http2/4.1/1 unknown type", &[unknown]),
        pong("http2/4.1/2 undefined flag", frame(PING, 0x16, 0, zeros)),
        pong("http2/4.1/3 reserved bit", reserved),
        is_answered("http2/4.2/1 DATA of 2^14 octets", &[post(1), data(1, END_STREAM, "x".repeat(16_384))]),
        resets("http2/4.2/2 DATA too large", &[post(1), data(1, END_STREAM, &large)], SIZE),
        ends("http2/4.2/3 HEADERS too large", &[frame(HEADERS, 5, 1, large)], SIZE),
        ends("http2/4.3/1 invalid field block", &[frame(HEADERS, 5, 1, [0x40])], COMPRESSION),
        ends(
            "http2/4.3/2 PRIORITY within a field block",
            &[unfinished.clone(), priority(1, 0, 255), finished.clone()],
            PROTOCOL,
        ),
        ends("http2/4.3/3 HEADERS within a field block", &[unfinished, get(3), finished], PROTOCOL),
    ]);
}

#[test]
fn section_5_streams() {
    let continued = |stream| frame(CONTINUATION, END_HEADERS, stream, hpack::block(&[("x-dummy", "x")]));
    let unknown = frame(0x16, 0, 0, [0; 8]);
    let bad_ping = frame(PING, 0, 3, [0; 8]);
    let itself = [&[0, 0, 0, 1, 255], &hpack::block(&request("GET", "/"))[..]].concat();
    let either: &[u32] = &[STREAM_CLOSED, PROTOCOL_ERROR];
    let after = |name, bytes: Vec<u8>, codes| {
        case(name, vec![Send(get(1)), Then(See::EndOf(1)), Send(bytes), Then(See::ConnectionError(codes))])
    };
    let many: Vec<_> = (0..11).map(|number| get(2 * number + 1)).collect();
    pass(vec![
        ends("http2/5.1/1 idle: DATA", &[data(1, END_STREAM, "test")], PROTOCOL),
        ends("http2/5.1/2 idle: RST_STREAM", &[reset(1, CANCEL)], PROTOCOL),
        ends("http2/5.1/3 idle: WINDOW_UPDATE", &[window_update(1, 100)], PROTOCOL),
        ends("http2/5.1/4 idle: CONTINUATION", &[continued(1)], PROTOCOL),
        resets("http2/5.1/5 half-closed (remote): DATA", &[get(1), data(1, END_STREAM, "test")], CLOSED),
        resets("http2/5.1/6 half-closed (remote): HEADERS", &[get(1), get(1)], CLOSED),
        resets("http2/5.1/7 half-closed (remote): CONTINUATION", &[get(1), continued(1)], either),
        resets(
            "http2/5.1/8 closed: DATA after RST_STREAM",
            &[post(1), reset(1, CANCEL), data(1, END_STREAM, "test")],
            CLOSED,
        ),
        resets("http2/5.1/9 closed: HEADERS after RST_STREAM", &[post(1), reset(1, CANCEL), get(1)], CLOSED),
        resets(
            "http2/5.1/10 closed: CONTINUATION after RST_STREAM",
            &[post(1), reset(1, CANCEL), continued(1)],
            either,
        ),
        after("http2/5.1/11 closed: DATA", data(1, END_STREAM, "test"), CLOSED),
        after("http2/5.1/12 closed: HEADERS", get(1), CLOSED),
        after("http2/5.1/13 closed: CONTINUATION", continued(1), either),
        ends("http2/5.1.1/1 an even stream", &[get(2)], PROTOCOL),
        ends("http2/5.1.1/2 a stream smaller than the last", &[get(5), get(3)], PROTOCOL),
        resets("http2/5.1.1/3 HEADERS on a half-closed (remote) stream", &[get(5), get(5)], CLOSED),
        case(
            "http2/5.1.2/1 more streams than announced",
            vec![
                Send([settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, 0)]), many.concat()].concat()),
                Then(See::StreamError(&[PROTOCOL_ERROR, REFUSED_STREAM])),
            ],
        ),
        resets("http2/5.3.1/1 HEADERS that depends on itself", &[frame(HEADERS, 5 | PRIORITISED, 1, itself)], PROTOCOL),
        resets("http2/5.3.1/2 PRIORITY that depends on itself", &[priority(1, 1, 255)], PROTOCOL),
        case("http2/5.4.1/1 invalid PING closes", vec![Send(bad_ping.clone()), Then(See::Closed)]),
        case("http2/5.4.1/2 invalid PING brings GOAWAY", vec![Send(bad_ping), Then(See::GoAway(PROTOCOL_ERROR))]),
        is_borne("http2/5.5/1 unknown frame", std::slice::from_ref(&unknown)),
        ends(
            "http2/5.5/2 unknown frame within a field block",
            &[frame(HEADERS, END_STREAM, 1, hpack::block(&request("GET", "/"))), unknown],
            PROTOCOL,
        ),
    ]);
}
