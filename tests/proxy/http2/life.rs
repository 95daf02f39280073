//! How long an HTTP/2 connection lasts, and how it ends.

use crate::harness::frames::*;
use crate::harness::origin::Gate;
use crate::harness::{Configuration, Origin, Reply, until};

fn waiting(gate: &Gate) -> Origin {
    let gate = gate.clone();
    Origin::answering(move |_| {
        gate.wait();
        Reply::text("app")
    })
}

#[test]
fn an_idle_connection_is_ended_with_goaway() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("timeouts = { idle = \"200ms\" }").start();
    let mut client = Frames::to(sidegate.address());
    assert_eq!(client.ask(1, "/").status, 200);
    assert_eq!(client.going_away(), Some(NO_ERROR));
    assert!(client.ends());
}

#[test]
fn a_silent_client_is_pinged_and_given_up_if_it_says_nothing() {
    let gate = Gate::default();
    let app = waiting(&gate);
    let sidegate = Configuration::of(&app).server("timeouts = { idle = \"300ms\", write = \"300ms\" }").start();
    let mut silent = Frames::to(sidegate.address()).without_pongs();
    silent.send(get(1)).until(|frame| frame.kind == PING && !frame.has(ACK)).expect("a PING");
    assert!(silent.ends());
    until("the time-out counted", || sidegate.metric("sidegate_client_timeouts_total") == 1.0);
    // One that answers is waited for.
    let mut client = Frames::to(sidegate.address());
    client.send(get(1));
    for _ in 0..4 {
        client.until(|frame| frame.kind == PING && !frame.has(ACK)).expect("a PING");
    }
    gate.open();
    assert_eq!(client.answer(1).status, 200);
}

#[test]
fn a_head_or_settings_that_do_not_come_are_given_up() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("timeouts = { header = \"200ms\" }").start();
    let mut nothing = Frames::bare(sidegate.address());
    assert!(nothing.send(PREFACE).ends());
    for part in [&get(1)[..5], &get(1)[..12], &frame(HEADERS, END_STREAM, 1, [0x82])] {
        let mut client = Frames::to(sidegate.address());
        assert!(client.send(part).ends(), "{part:?}");
    }
    // Some of it now and then does not help.
    let mut client = Frames::to(sidegate.address());
    let slow = get(1);
    let gone = slow.iter().any(|byte| {
        std::thread::sleep(std::time::Duration::from_millis(20));
        !client.try_send([*byte])
    });
    assert!(gone || client.ends());
    assert_eq!(app.count(), 0);
}

#[test]
fn a_client_that_reads_nothing_is_given_up() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\n\r\n")?;
        loop {
            wire.send(&[b'x'; 64 * 1024])?;
        }
    });
    let sidegate = Configuration::of(&app).server("timeouts = { write = \"300ms\" }").start();
    let mut client = Frames::with(sidegate.address(), &[(SETTINGS_INITIAL_WINDOW_SIZE, (1 << 31) - 1)]);
    client.send([window_update(0, (1 << 31) - 1 - 65_535), get(1)].concat());
    // Its stream first, or its connection, or both.
    until("the client given up", || sidegate.metric("sidegate_client_timeouts_total") >= 1.0);
    until("the app's connection given up", || {
        sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0
    });
    assert!(sidegate.rss() < 256 << 20);
}

#[test]
fn what_a_client_resets_or_leaves_is_not_done() {
    for leaves in [false, true] {
        let gate = Gate::default();
        let app = waiting(&gate);
        let sidegate = Configuration::of(&app).start();
        let mut client = Frames::to(sidegate.address());
        client.send(get(1));
        until("the request at the app", || app.count() == 1);
        if leaves {
            drop(client);
        } else {
            client.send(reset(1, CANCEL));
        }
        until("the app's connection given up", || {
            sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}") == 0.0
        });
        gate.open();
    }
}

#[test]
fn what_is_under_way_is_finished_when_the_process_stops() {
    let gate = Gate::default();
    let app = waiting(&gate);
    let mut sidegate = Configuration::of(&app).start();
    let mut client = Frames::to(sidegate.address());
    client.send(get(1));
    until("the request at the app", || app.count() == 1);
    sidegate.signal(libc::SIGTERM);
    assert_eq!(client.going_away(), Some(NO_ERROR));
    gate.open();
    let answer = client.answer(1);
    assert_eq!((answer.status, answer.whole), (200, true));
    assert!(client.ends());
    assert!(sidegate.wait().success());
}

#[test]
fn a_client_that_was_sent_goaway_is_pinged_while_its_last_answer_lasts() {
    let gate = Gate::default();
    let app = waiting(&gate);
    let lines = "max_requests_per_connection = 1\ntimeouts = { idle = \"300ms\", write = \"300ms\" }";
    let sidegate = Configuration::of(&app).server(lines).start();
    let mut client = Frames::to(sidegate.address());
    assert_eq!(client.send(get(1)).going_away(), Some(NO_ERROR));
    for _ in 0..8 {
        client.until(|frame| frame.kind == PING && !frame.has(ACK)).expect("a PING");
    }
    gate.open();
    assert_eq!(client.answer(1).status, 200);
    assert!(client.ends());
    assert_eq!(sidegate.metric("sidegate_client_timeouts_total"), 0.0);
}

#[test]
fn a_connection_ends_after_its_requests() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("max_requests_per_connection = 3").start();
    let mut client = Frames::to(sidegate.address());
    for stream in [1, 3, 5] {
        assert_eq!(client.ask(stream, "/").status, 200);
    }
    assert!(client.ends());
    assert_eq!(app.count(), 3);
    assert_eq!(Frames::to(sidegate.address()).ask(1, "/").status, 200);
}

#[test]
fn a_client_that_is_sent_away_is_listened_to_as_long_and_as_far_as_is_said() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("linger = \"60s\"\nmax_linger = \"1 KiB\"").start();
    let mut client = Frames::to(sidegate.address());
    assert!(client.send(frame(PING, 0, 1, [0; 8])).ends());
    // A socket that is closed answers with a reset, and the send after that fails.
    for _ in 0..15 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        assert!(client.try_send([0; 8]));
    }
    client.send([0; 2048]);
    until("the connection ended", || !client.try_send([0]));
}

#[test]
fn a_reload_takes_effect_with_the_next_request() {
    let (before, after) = (Origin::saying("before"), Origin::saying("after"));
    let mut sidegate = Configuration::of(&before).start();
    let mut client = Frames::to(sidegate.address());
    assert_eq!(client.ask(1, "/").content, b"before");
    sidegate.reload(&Configuration::of(&after).text());
    assert_eq!(client.ask(3, "/").content, b"after");
}

#[test]
fn content_flows_through_windows_in_both_directions() {
    let app = Origin::answering(|request| Reply::text(String::from_utf8_lossy(&request.content).into_owned()));
    let windows = "http2 = { stream_window = \"64 KiB\", connection_window = \"64 KiB\", send_buffer = \"16 KiB\" }";
    let sidegate = Configuration::of(&app).server(windows).start();
    let mut client = Frames::with(sidegate.address(), &[(SETTINGS_INITIAL_WINDOW_SIZE, 1 << 24)]);
    client.send([window_update(0, 1 << 24), post(1)].concat());
    // As much as both windows allow, then what is given back.
    let (mut rooms, mut sent, total) = ([65_535_usize; 2], 0, 1 << 20);
    while sent < total {
        let size = rooms[0].min(rooms[1]).min(16_384).min(total - sent);
        if size == 0 {
            let more = client.until(|frame| frame.kind == WINDOW_UPDATE).expect("a window");
            let by = u32::from_be_bytes(more.payload[..4].try_into().expect("four bytes"));
            rooms[more.stream as usize] += by as usize;
            continue;
        }
        client.send(data(1, 0, vec![b'a'; size]));
        rooms = rooms.map(|room| room - size);
        sent += size;
    }
    let answer = client.send(data(1, END_STREAM, "")).answer(1);
    assert_eq!((answer.whole, answer.content.len()), (true, total));
}
