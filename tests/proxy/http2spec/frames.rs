//! The group `http2`, sections 6 and 7: each type of frame, and the codes.

use super::*;
use crate::harness::hpack;

#[test]
fn section_6_data_headers_priority_and_resets() {
    let unfinished = frame(HEADERS, 0, 1, hpack::block(&request("GET", "/")));
    let finished = frame(CONTINUATION, END_HEADERS, 1, hpack::block(&[("x-dummy", "x")]));
    let head = hpack::block(&request("GET", "/"));
    let padded = frame(HEADERS, 0x0d, 1, [&[head.len() as u8 + 2], &head[..]].concat());
    pass(vec![
        ends("http2/6.1/1 DATA on stream 0", &[data(0, END_STREAM, "test")], PROTOCOL),
        resets("http2/6.1/2 DATA on a stream that is not open", &[get(1), data(1, END_STREAM, "test")], CLOSED),
        ends("http2/6.1/3 DATA with invalid pad length", &[post(1), data(1, 0x9, b"\x06Test")], PROTOCOL),
        ends(
            "http2/6.2/1 HEADERS without END_HEADERS, then PRIORITY",
            &[unfinished.clone(), priority(1, 0, 255), finished.clone()],
            PROTOCOL,
        ),
        ends("http2/6.2/2 HEADERS without END_HEADERS, then another", &[unfinished, get(3), finished], PROTOCOL),
        ends("http2/6.2/3 HEADERS on stream 0", &[get(0)], PROTOCOL),
        resets("http2/6.2/4 HEADERS with invalid pad length", &[padded], PROTOCOL),
        ends("http2/6.3/1 PRIORITY on stream 0", &[priority(0, 0, 255)], PROTOCOL),
        resets("http2/6.3/2 PRIORITY of 4 octets", &[get(1), frame(PRIORITY, 0, 1, [0x80, 0, 0, 1])], SIZE),
        is_answered(
            "http2/6.3/3 PRIORITY of an idle stream, then HEADERS of a lower one",
            &[priority(3, 0, 255), get(1)],
        ),
        ends("http2/6.4/1 RST_STREAM on stream 0", &[reset(0, CANCEL)], PROTOCOL),
        ends("http2/6.4/2 RST_STREAM on an idle stream", &[reset(1, CANCEL)], PROTOCOL),
        ends("http2/6.4/3 RST_STREAM of 3 octets", &[get(1), frame(RST_STREAM, 0, 1, [0; 3])], SIZE),
    ]);
}

#[test]
fn section_6_settings_ping_and_goaway() {
    let window = |size| settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, size)]);
    pass(vec![
        ends("http2/6.5/1 SETTINGS with ACK and a payload", &[frame(SETTINGS, ACK, 0, [0])], SIZE),
        ends("http2/6.5/2 SETTINGS on stream 1", &[frame(SETTINGS, 0, 1, [0, 3, 0, 0, 0, 0x64])], PROTOCOL),
        ends(
            "http2/6.5/3 SETTINGS of no multiple of 6",
            &[frame(SETTINGS, 0, 0, [0, 3, 0, 0, 0, 0x64, 0, 2, 0])],
            SIZE,
        ),
        ends("http2/6.5.2/1 ENABLE_PUSH of 2", &[settings(&[(2, 2)])], PROTOCOL),
        ends("http2/6.5.2/2 INITIAL_WINDOW_SIZE above 2^31-1", &[window(1 << 31)], FLOW),
        ends("http2/6.5.2/3 MAX_FRAME_SIZE below 2^14", &[settings(&[(5, 16_383)])], PROTOCOL),
        ends("http2/6.5.2/4 MAX_FRAME_SIZE above 2^24-1", &[settings(&[(5, 1 << 24)])], PROTOCOL),
        is_borne("http2/6.5.2/5 unknown setting", &[settings(&[(0xff, 1)])]),
        case(
            "http2/6.5.3/1 the last of several values counts",
            vec![
                Send(settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, 100), (SETTINGS_INITIAL_WINDOW_SIZE, 1)])),
                Then(See::SettingsAck),
                Send(get(1)),
                Then(See::Data(1)),
            ],
        ),
        case("http2/6.5.3/2 SETTINGS is acknowledged", vec![Send(settings(&[(2, 0)])), Then(See::SettingsAck)]),
        case("http2/6.7/1 PING", vec![Send(ping(b"h2spec\0\0")), Then(See::Pong(b"h2spec\0\0"))]),
        case(
            "http2/6.7/2 PING with ACK is not answered",
            vec![
                Send([frame(PING, ACK, 0, b"invalid\0"), ping(b"h2spec\0\0")].concat()),
                Then(See::Pong(b"h2spec\0\0")),
            ],
        ),
        ends("http2/6.7/3 PING on stream 1", &[frame(PING, 0, 1, [0; 8])], PROTOCOL),
        ends("http2/6.7/4 PING of 6 octets", &[frame(PING, 0, 0, [0; 6])], SIZE),
        ends("http2/6.8/1 GOAWAY on stream 1", &[frame(GOAWAY, 0, 1, [0; 8])], PROTOCOL),
    ]);
}

#[test]
fn section_6_windows() {
    let window = |size| settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, size)]);
    let all = (1 << 31) - 1;
    pass(vec![
        ends("http2/6.9/1 WINDOW_UPDATE of 0", &[window_update(0, 0)], PROTOCOL),
        resets("http2/6.9/2 WINDOW_UPDATE of 0 on a stream", &[post(1), window_update(1, 0)], PROTOCOL),
        ends("http2/6.9/3 WINDOW_UPDATE of 3 octets", &[frame(WINDOW_UPDATE, 0, 0, [0, 0, 1])], SIZE),
        case(
            "http2/6.9.1/1 a window of 1",
            vec![Send(window(1)), Then(See::SettingsAck), Send(get(1)), Then(See::Data(1))],
        ),
        case(
            "http2/6.9.1/2 a window of the connection beyond 2^31-1",
            vec![Send([window_update(0, all), window_update(0, all)].concat()), Then(See::GoAway(FLOW_CONTROL_ERROR))],
        ),
        case(
            "http2/6.9.1/3 a window of a stream beyond 2^31-1",
            vec![
                Send([post(1), window_update(1, all), window_update(1, all)].concat()),
                Then(See::Reset(1, FLOW_CONTROL_ERROR)),
            ],
        ),
        case(
            "http2/6.9.2/1 INITIAL_WINDOW_SIZE changed after HEADERS",
            vec![
                Send(window(0)),
                Then(See::SettingsAck),
                Send([get(1), window(1)].concat()),
                Then(See::SettingsAck),
                Then(See::Data(1)),
            ],
        ),
        case(
            "http2/6.9.2/2 a window that becomes negative",
            vec![
                Send(window(3)),
                Then(See::SettingsAck),
                Send(get(1)),
                Then(See::Data(3)),
                Send(window(2)),
                Then(See::SettingsAck),
                Send(window_update(1, 2)),
                Then(See::Data(1)),
            ],
        ),
        ends("http2/6.9.2/3 INITIAL_WINDOW_SIZE above 2^31-1", &[window(1 << 31)], FLOW),
    ]);
}

#[test]
fn section_6_continuation_and_section_7() {
    let head = hpack::block(&request("GET", "/"));
    let unfinished = frame(HEADERS, END_STREAM, 1, &head);
    let posting = frame(HEADERS, 0, 1, hpack::block(&request("POST", "/")));
    let more = hpack::block(&[("x-dummy", "x")]);
    let next = |flags, stream| frame(CONTINUATION, flags, stream, &more);
    let test = data(1, END_STREAM, "test");
    pass(vec![
        is_answered("http2/6.10/1 multiple CONTINUATION", &[unfinished.clone(), next(0, 1), next(END_HEADERS, 1)]),
        ends("http2/6.10/2 CONTINUATION, then DATA", &[posting.clone(), next(0, 1), test.clone()], PROTOCOL),
        ends("http2/6.10/3 CONTINUATION on stream 0", &[unfinished.clone(), next(END_HEADERS, 0)], PROTOCOL),
        ends("http2/6.10/4 CONTINUATION after END_HEADERS", &[get(1), next(END_HEADERS, 1)], PROTOCOL),
        ends(
            "http2/6.10/5 CONTINUATION after one with END_HEADERS",
            &[unfinished, next(END_HEADERS, 1), next(END_HEADERS, 1)],
            PROTOCOL,
        ),
        ends("http2/6.10/6 CONTINUATION after DATA", &[posting, test, next(0, 1), next(END_HEADERS, 0)], PROTOCOL),
        case("http2/7/1 GOAWAY with an unknown code", vec![Send(go_away(0xff, "")), Then(See::Closed)]),
        is_borne("http2/7/2 RST_STREAM with an unknown code", &[post(1), reset(1, 0xff)]),
    ]);
}
