//! The group `generic`: what every server must take.

use super::*;

#[test]
fn generic_frames_and_requests_are_taken() {
    let twice = |one: &str, other: &str| [one.as_bytes(), other.as_bytes()].map(|text| data(1, 0, text)).concat();
    let head = block();
    let split = |at: usize| (head[..at].to_vec(), head[at..].to_vec());
    let (first, rest) = split(5);
    pass(vec![
        case("generic/1/1 connection preface", vec![]),
        is_borne("generic/2/1 PRIORITY on an idle stream", &[priority(1, 0, 255)]),
        case(
            "generic/2/2 WINDOW_UPDATE on a half-closed (remote) stream",
            vec![Send([no_window(), get(1), window_update(1, 1)].concat()), Then(See::Data(1))],
        ),
        case(
            "generic/2/3 PRIORITY on a half-closed (remote) stream",
            vec![Send([no_window(), get(1), priority(1, 0, 255), window_update(1, 1)].concat()), Then(See::Data(1))],
        ),
        is_borne("generic/2/4 RST_STREAM on a half-closed (remote) stream", &[get(1), reset(1, CANCEL)]),
        case(
            "generic/2/5 PRIORITY on a closed stream",
            vec![
                Send(get(1)),
                Then(See::EndOf(1)),
                Send([priority(1, 0, 255), ping(b"priority")].concat()),
                Then(See::Pong(b"priority")),
            ],
        ),
        is_answered("generic/3.1/1 DATA", &[post(1), data(1, END_STREAM, "test")]),
        is_answered("generic/3.1/2 multiple DATA", &[post(1), twice("te", "st"), data(1, END_STREAM, "test")]),
        is_answered("generic/3.1/3 DATA with padding", &[post(1), data(1, END_STREAM | PADDED, b"\x06testpadded")]),
        is_answered("generic/3.2/1 HEADERS", &[get(1)]),
        is_answered(
            "generic/3.2/2 HEADERS with padding",
            &[frame(HEADERS, END_STREAM | END_HEADERS | PADDED, 1, [&[8], &head[..], &[0; 8]].concat())],
        ),
        is_answered(
            "generic/3.2/3 HEADERS with priority",
            &[frame(HEADERS, END_STREAM | END_HEADERS | PRIORITISED, 1, [&[0, 0, 0, 0, 255], &head[..]].concat())],
        ),
        is_answered("generic/3.3/1 PRIORITY with priority 1", &[priority(1, 0, 0), get(1)]),
        is_answered("generic/3.3/2 PRIORITY with priority 256", &[priority(1, 0, 255), get(1)]),
        is_answered("generic/3.3/3 PRIORITY with stream dependency", &[priority(3, 1, 0), get(1)]),
        is_answered("generic/3.3/4 PRIORITY with exclusive", &[priority(1, 1 << 31, 0), get(1)]),
        is_answered(
            "generic/3.3/5 PRIORITY for an idle stream, then HEADERS of a lower one",
            &[priority(3, 0, 255), get(1)],
        ),
        is_borne("generic/3.4/1 RST_STREAM", &[post(1), reset(1, CANCEL)]),
        case(
            "generic/3.5/1 SETTINGS",
            vec![
                Send(settings(&[(1, 4096), (2, 1), (3, 100), (4, 65_535), (5, 16_384), (6, 100)])),
                Then(See::SettingsAck),
            ],
        ),
        is_borne("generic/3.7/1 PING", &[]),
        case("generic/3.8/1 GOAWAY", vec![Send(go_away(NO_ERROR, "h2spec")), Then(See::Closed)]),
        is_borne("generic/3.9/1 WINDOW_UPDATE with stream 0", &[window_update(0, 1)]),
        is_answered("generic/3.9/2 WINDOW_UPDATE with stream 1", &[get(1), window_update(1, 1)]),
        is_answered(
            "generic/3.10/1 CONTINUATION",
            &[frame(HEADERS, END_STREAM, 1, &first), frame(CONTINUATION, END_HEADERS, 1, &rest)],
        ),
        is_answered(
            "generic/3.10/2 multiple CONTINUATION",
            &[
                frame(HEADERS, END_STREAM, 1, &first),
                frame(CONTINUATION, 0, 1, &rest[..5]),
                frame(CONTINUATION, END_HEADERS, 1, &rest[5..]),
            ],
        ),
        is_answered("generic/4/1 GET", &[get(1)]),
        is_answered("generic/4/2 HEAD", &[headers(1, END_STREAM, &request("HEAD", "/"))]),
        is_answered("generic/4/3 POST", &[post(1), data(1, END_STREAM, "test")]),
        is_answered(
            "generic/4/4 POST with trailers",
            &[
                headers(1, 0, &[&request("POST", "/")[..], &[("trailer", "x-test")]].concat()),
                data(1, 0, "test"),
                headers(1, END_STREAM, &[("x-test", "ok")]),
            ],
        ),
    ]);
}

#[test]
fn generic_hpack_representations_are_taken() {
    let plain = &b"\x0auser-agent\x06h2spec"[..];
    let packed = &b"\x87\xb5\x05\xb1\x61\xcc\x5a\x93\x84\x9c\x48\xac\xa4"[..];
    let new = &b"\x06x-test\x06h2spec"[..];
    let new_packed = &b"\x85\xf2\xb2\x4a\x84\xff\x84\x9c\x48\xac\xa4"[..];
    let cases = [
        ("generic/5/1 indexed field", &b"\xba"[..], &b""[..]),
        ("generic/5/2 literal with incremental indexing, indexed name", b"\x40", packed),
        ("generic/5/3 literal with incremental indexing, indexed name, Huffman", b"\x40", plain),
        ("generic/5/4 literal with incremental indexing, new name", b"\x40", new),
        ("generic/5/5 literal with incremental indexing, new name, Huffman", b"\x40", new_packed),
        ("generic/5/6 literal without indexing, indexed name", b"\x00", plain),
        ("generic/5/7 literal without indexing, indexed name, Huffman", b"\x00", packed),
        ("generic/5/8 literal without indexing, new name", b"\x00", new),
        ("generic/5/9 literal without indexing, new name, Huffman", b"\x00", new_packed),
        ("generic/5/10 literal never indexed, indexed name", b"\x10", plain),
        ("generic/5/11 literal never indexed, indexed name, Huffman", b"\x10", packed),
        ("generic/5/12 literal never indexed, new name", b"\x10", new),
        ("generic/5/13 literal never indexed, new name, Huffman", b"\x10", new_packed),
    ];
    let with = |before: &[u8], after: &[u8]| {
        // The first entry of the dynamic table is a user-agent: the indexed field refers to the youngest of two.
        let indexed = [&b"\x40"[..], plain].concat();
        vec![frame(HEADERS, END_STREAM | END_HEADERS, 1, [before, &block(), &indexed, after].concat())]
    };
    let mut all: Vec<_> =
        cases.iter().map(|(name, kind, text)| is_answered(name, &with(b"", &[*kind, *text].concat()))).collect();
    all[0] = is_answered(cases[0].0, &with(b"", b"\xbe"));
    all.push(is_answered("generic/5/14 dynamic table size update", &with(b"\x20", b"")));
    all.push(is_answered("generic/5/15 multiple dynamic table size updates", &with(b"\x20\x3f\xe1\x1f", b"")));
    pass(all);
}

/// No answer has content until a window is opened for it.
fn no_window() -> Vec<u8> {
    settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, 0)])
}

fn block() -> Vec<u8> {
    crate::harness::hpack::block(&request("GET", "/"))
}
