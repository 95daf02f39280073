//! What an HTTP/2 client may not do too often: each kind is bounded, counted, and no matter to other clients.

use crate::harness::frames::*;
use crate::harness::hpack::{block, integer};
use crate::harness::origin::Gate;
use crate::harness::{Configuration, Origin, Reply, Sidegate, until};

const CALM: Option<u32> = Some(ENHANCE_YOUR_CALM);

fn bounded(app: &Origin) -> Sidegate {
    let bounds = "http2 = { max_resets = 20, max_stream_errors = 10, max_control_frames = 50 }";
    Configuration::of(app).server(bounds).server("max_streams = 100").start()
}

fn counted(sidegate: &Sidegate, kind: &str) -> f64 {
    sidegate.metric(&format!("sidegate_http2_abuse_total{{kind=\"{kind}\"}}"))
}

/// What a client is told, and what is counted, come one after the other.
fn counts(sidegate: &Sidegate, kind: &str, times: f64) {
    until(&format!("{times} {kind}"), || counted(sidegate, kind) == times);
}

/// An app that answers nothing until the gate opens.
fn waiting() -> (Origin, Gate) {
    let gate = Gate::default();
    let waits = gate.clone();
    let app = Origin::answering(move |_| {
        waits.wait();
        Reply::text("app")
    });
    (app, gate)
}

#[test]
fn rapid_resets_end_the_connection() {
    let (app, gate) = waiting();
    let sidegate = bounded(&app);
    // At once, and one by one, so that each request is under way when it is reset.
    let mut at_once = Frames::to(sidegate.address());
    let flood: Vec<_> = (0..500).map(|number| [get(2 * number + 1), reset(2 * number + 1, CANCEL)].concat()).collect();
    assert_eq!(at_once.send(flood.concat()).going_away(), CALM);
    let mut one_by_one = Frames::to(sidegate.address());
    for number in 0..20 {
        one_by_one.send(get(2 * number + 1));
        assert!(one_by_one.is_alive());
        one_by_one.send(reset(2 * number + 1, CANCEL));
    }
    assert!(one_by_one.is_alive());
    assert_eq!(one_by_one.send([get(101), reset(101, CANCEL)].concat()).going_away(), CALM);
    counts(&sidegate, "reset", 2.0);
    assert!(app.count() <= 42, "{} requests reached the app", app.count());
    gate.open();
    assert_eq!(sidegate.get("/").status, 200);
}

#[test]
fn a_client_that_is_answered_may_change_its_mind() {
    let app = Origin::saying("app");
    let sidegate = bounded(&app);
    let mut client = Frames::to(sidegate.address());
    for number in 0..60 {
        assert_eq!(client.ask(4 * number + 1, "/").status, 200);
        client.send([post(4 * number + 3), reset(4 * number + 3, CANCEL)].concat());
    }
    assert!(client.is_alive());
    assert_eq!(counted(&sidegate, "reset"), 0.0);
}

#[test]
fn making_us_reset_ends_the_connection() {
    let (app, gate) = waiting();
    let sidegate = bounded(&app);
    let overflow = |stream| [post(stream), window_update(stream, (1 << 31) - 1)].concat();
    let lies = |stream| {
        let head = [&request("POST", "/")[..], &[("content-length", "1")]].concat();
        [headers(stream, 0, &head), data(stream, END_STREAM, "too much")].concat()
    };
    let malformed = |stream| headers(stream, END_STREAM, &[(":method", "GET")]);
    let blank = |stream| headers(stream, END_STREAM, &[&request("GET", "/")[..], &[("x", " y")]].concat());
    let mistakes: [&dyn Fn(u32) -> Vec<u8>; 4] = [&overflow, &lies, &malformed, &blank];
    for (turn, mistake) in mistakes.into_iter().enumerate() {
        let mut client = Frames::to(sidegate.address());
        for number in 0..10 {
            client.send(mistake(2 * number + 1));
            assert!(client.is_alive(), "{turn}: {number}");
        }
        assert_eq!(client.send(mistake(101)).going_away(), CALM, "{turn}");
        counts(&sidegate, "stream-error", turn as f64 + 1.0);
    }
    gate.open();
}

#[test]
fn floods_of_frames_that_bring_nothing_end_the_connection() {
    let app = Origin::saying("app");
    let sidegate = bounded(&app);
    let floods = [
        ("settings", vec![], settings(&[(SETTINGS_INITIAL_WINDOW_SIZE, 1000)])),
        ("ping", vec![], ping(b"12345678")),
        ("ping", vec![], frame(PING, ACK, 0, b"12345678")),
        ("priority", vec![], priority(7, 0, 1)),
        ("window-update", vec![], window_update(0, 1)),
        ("empty", post(1), data(1, 0, "")),
        ("other", vec![], frame(0x16, 0, 0, "unknown")),
    ];
    for (turn, (kind, before, one)) in floods.iter().enumerate() {
        let mut client = Frames::to(sidegate.address());
        // SETTINGS and its acknowledgement have been sent.
        client.send(before).send(vec![&one[..]; 48].concat());
        assert!(client.is_alive(), "{kind}");
        assert_eq!(client.send([&one[..]; 3].concat()).going_away(), CALM, "{kind}");
        let expected = if turn == 2 { 2.0 } else { 1.0 };
        counts(&sidegate, kind, expected);
    }
}

#[test]
fn windows_are_opened_for_what_was_sent() {
    let app = Origin::answering(|_| Reply::text("x".repeat(60_000)));
    let sidegate = bounded(&app);
    let mut client = Frames::to(sidegate.address());
    // 60 KB earn 234 frames; 50 are free.
    assert_eq!(client.ask(1, "/").content.len(), 60_000);
    client.send(vec![&window_update(0, 1)[..]; 250].concat());
    assert!(client.is_alive());
    assert_eq!(client.send(vec![&window_update(0, 1)[..]; 100].concat()).going_away(), CALM);
}

#[test]
fn padding_without_content_ends_the_connection() {
    let (app, gate) = waiting();
    let sidegate = bounded(&app);
    let mut client = Frames::to(sidegate.address());
    let padding = data(1, PADDED, [[255].to_vec(), vec![0; 255]].concat());
    assert_eq!(client.send([post(1), vec![&padding[..]; 200].concat()].concat()).going_away(), CALM);
    counts(&sidegate, "empty", 1.0);
    gate.open();
}

#[test]
fn heads_without_end_and_fields_that_grow_end_the_connection() {
    let app = Origin::saying("app");
    let sidegate = bounded(&app);
    let mut endless = Frames::to(sidegate.address());
    let head = frame(HEADERS, END_STREAM, 1, block(&request("GET", "/")));
    let more = frame(CONTINUATION, 0, 1, block(&[("x", "y")]));
    assert_eq!(endless.send([head, vec![&more[..]; 20].concat()].concat()).going_away(), CALM);
    counts(&sidegate, "continuation", 1.0);
    // A field of 4000 bytes, kept by the decoder, and then said in a byte each time.
    let mut bomb = block(&request("GET", "/"));
    bomb.extend(b"\x40\x01x");
    integer(&mut bomb, 0, 7, 3900);
    bomb.extend([b'x'; 3900]);
    bomb.extend([0xbe; 8000]);
    let mut client = Frames::to(sidegate.address());
    assert_eq!(client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, &bomb)).going_away(), CALM);
    counts(&sidegate, "fields", 1.0);
    // Sizes of the table, again and again, cost next to nothing.
    let sizes = [&[0x20; 8000][..], &block(&request("GET", "/"))].concat();
    let mut client = Frames::to(sidegate.address());
    assert_eq!(client.send(frame(HEADERS, END_STREAM | END_HEADERS, 1, sizes)).answer(1).status, 200);
    assert_eq!(app.count(), 1);
}

#[test]
fn more_streams_than_allowed_are_refused_and_the_others_served() {
    let (app, gate) = waiting();
    let sidegate = Configuration::of(&app).server("max_streams = 5").start();
    let mut client = Frames::to(sidegate.address());
    let six: Vec<_> = (0..6).map(|number| get(2 * number + 1)).collect();
    client.send(six.concat());
    let refused = client.until(|frame| frame.kind == RST_STREAM).expect("a refusal");
    assert_eq!((refused.stream, refused.code()), (11, REFUSED_STREAM));
    gate.open();
    let mut ended = Vec::new();
    while ended.len() < 5 {
        let last = client.until(|frame| frame.has(END_STREAM) && matches!(frame.kind, DATA | HEADERS));
        ended.push(last.expect("an answer").stream);
    }
    ended.sort_unstable();
    assert_eq!(ended, [1, 3, 5, 7, 9]);
    assert_eq!(app.count(), 5);
    assert_eq!(client.ask(13, "/").status, 200);
}

#[test]
fn a_stream_whose_window_never_opens_is_given_up_alone() {
    let app = Origin::answering(|_| Reply::text("x".repeat(1 << 20)));
    let sidegate = Configuration::of(&app).server("timeouts = { write = \"300ms\" }").start();
    let mut client = Frames::with(sidegate.address(), &[(SETTINGS_INITIAL_WINDOW_SIZE, 10)]);
    client.send([get(1), window_update(0, 1 << 24)].concat());
    let first = client.until(|frame| frame.kind == DATA).expect("as much as there is room for");
    assert_eq!((first.stream, first.payload.len()), (1, 10));
    let given_up = client.until(|frame| frame.kind == RST_STREAM).expect("a reset");
    assert_eq!((given_up.stream, given_up.code()), (1, CANCEL));
    until("the time-out counted", || sidegate.metric("sidegate_client_timeouts_total") == 1.0);
    until("the app's connection given up", || {
        sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0
    });
    let whole = client.send([get(3), window_update(3, 1 << 24)].concat()).answer(3);
    assert_eq!((whole.status, whole.whole, whole.content.len()), (200, true, 1 << 20));
}

#[test]
fn a_client_that_reads_no_acknowledgements_costs_no_memory() {
    let app = Origin::saying("app");
    let server = "timeouts = { write = \"500ms\" }\nhttp2 = { max_control_frames = 1000000 }";
    let sidegate = Configuration::of(&app).server(server).start();
    let before = sidegate.rss();
    let mut client = Frames::to(sidegate.address());
    let pings = vec![&ping(b"12345678")[..]; 4096].concat();
    // Nobody reads us either, once the sockets are full; then the connection ends.
    let mut sent = 0;
    while client.try_send(&pings) && sent < 4000 {
        sent += 1;
    }
    assert!(sent < 4000, "{sent} times 4096 PINGs were taken");
    assert!(sidegate.rss() < before + (16 << 20), "{before} bytes grew to {}", sidegate.rss());
    assert_eq!(sidegate.get("/").status, 200);
}
