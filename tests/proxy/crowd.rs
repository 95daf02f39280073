//! More clients, requests and content than there is room for.

use std::os::unix::process::CommandExt;
use std::time::Duration;

use crate::harness::sidegate::command;
use crate::harness::{Configuration, Origin, Sidegate, client::request, until};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// Sets how many files a process may have open; 0: this one, from now on.
fn limit_files(process: i32, files: u64) -> std::io::Result<u64> {
    let mut before = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both structures live as long as the calls.
    let done = unsafe {
        libc::prlimit(process, libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut before);
        let hard = if process == 0 { files } else { before.rlim_max };
        let after = libc::rlimit { rlim_cur: files, rlim_max: hard };
        libc::prlimit(process, libc::RLIMIT_NOFILE, &raw const after, std::ptr::null_mut())
    };
    if done == 0 { Ok(before.rlim_cur) } else { Err(std::io::Error::last_os_error()) }
}

#[test]
fn files_for_apps_are_set_aside_and_clients_beyond_the_rest_wait() {
    let app = Origin::saying("app");
    let configuration = Configuration::of(&app).server("workers = 1").upstream("max_connections = 16");
    let mut limited = command();
    // Of which 127 are not for clients.
    // SAFETY: between fork and exec only async-signal-safe calls are made.
    unsafe { limited.pre_exec(|| limit_files(0, 167).map(drop)) };
    let sidegate = Sidegate::start_by(&configuration.text(), limited);
    assert_eq!(sidegate.logged("max_connections is 10000, but the limit on open files (167) leaves 40").len(), 1);
    let mut clients: Vec<_> = (0..100).map(|_| sidegate.client()).collect();
    for client in &mut clients {
        client.send(GET);
    }
    let mut admitted = 0.0;
    while !clients.is_empty() {
        let wave = clients.len().min(40);
        let served: Vec<_> = clients.drain(..wave).map(|mut client| (client.answer().status, client)).collect();
        assert!(served.iter().all(|(status, _)| *status == 200));
        admitted += wave as f64;
        // Nobody else was let in while these stayed, and nobody was turned away.
        assert_eq!(sidegate.metric("sidegate_connections_total"), admitted);
    }
    assert_eq!(sidegate.metric("sidegate_accept_failures_total"), 0.0);
}

#[test]
fn where_no_file_is_left_for_clients_it_does_not_start_and_check_says_so() {
    let app = Origin::saying("app");
    let directory = crate::harness::Directory::new();
    let file = directory.file("sidegate.toml");
    std::fs::write(&file, Configuration::of(&app).text()).expect("a configuration");
    for (what, code) in [("run", 1), ("check", 0)] {
        let mut limited = command();
        // SAFETY: between fork and exec only async-signal-safe calls are made.
        unsafe { limited.pre_exec(|| limit_files(0, 100).map(drop)) };
        let done = limited.arg(what).arg("--config").arg(&file).output().expect("the binary");
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(done.status.code() == Some(code) && said.contains("none is left for clients"), "{what}: {said}");
    }
}

#[test]
fn out_of_files_it_waits_and_goes_on_when_there_are_some_again() {
    let app = Origin::saying("app");
    let sidegate =
        Configuration::of(&app).server("workers = 1").upstream("timeouts = { keep_alive = \"60s\" }").start();
    let mut known = sidegate.client();
    assert_eq!(known.get("/").status, 200);
    let before = limit_files(sidegate.pid(), 8).expect("a lower limit");
    let mut waiting: Vec<_> = (0..20).map(|_| sidegate.client()).collect();
    for client in &mut waiting {
        client.send(GET);
    }
    until("a word about it", || sidegate.logged("cannot accept; trying again").len() == 1);
    (0..20).for_each(|_| assert_eq!(known.get("/").status, 200, "who is in is served"));
    limit_files(sidegate.pid(), before).expect("the limit from before");
    assert!(waiting.iter_mut().all(|client| client.answer().status == 200));
    assert!(sidegate.metric("sidegate_accept_failures_total") >= 1.0);
    assert_eq!(sidegate.logged("cannot accept; trying again").len(), 1, "said once");
}

#[test]
fn a_full_house_lets_the_next_one_in_when_somebody_leaves() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("max_connections = 2").start();
    let mut inside = [sidegate.client(), sidegate.client()];
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    let mut third = sidegate.client();
    third.send(GET);
    inside.iter_mut().for_each(|client| assert_eq!(client.get("/").status, 200));
    assert_eq!(sidegate.metric("sidegate_connections_total"), 2.0);
    drop(inside);
    assert_eq!(third.answer().status, 200);
}

#[test]
fn a_connection_carries_so_many_requests_and_says_which_is_the_last() {
    let app = Origin::saying("app");
    let few = "max_requests_per_connection = 3\npark_after = \"50ms\"";
    let sidegate = Configuration::of(&app).server(few).start();
    let mut client = sidegate.client();
    assert_eq!(client.get("/").field("connection"), None);
    // Long enough to be parked: that is no new connection.
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(client.ask("POST", "/", &[], b"abc").field("connection"), None);
    let last = client.get("/");
    assert_eq!((last.status, last.field("connection")), (200, Some("close")));
    assert!(client.is_closed());
    let mut pipelined = sidegate.client();
    pipelined.send(GET.repeat(5));
    (0..3).for_each(|_| assert_eq!(pipelined.answer().status, 200));
    assert!(pipelined.try_answer_to("GET").is_err());
    assert_eq!(app.count(), 6);
}

#[test]
fn more_content_than_a_route_takes_is_413_before_the_app_is_bothered_or_cut_off() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).with("[[route]]\npath = \"/{*rest}\"\nmax_body = \"10 B\"\n").start();
    let mut client = sidegate.client();
    assert_eq!(client.ask("POST", "/", &[], b"0123456789").status, 200);
    let fits = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n0123456789\r\n0\r\n\r\n";
    assert_eq!(client.send(fits).answer().status, 200);
    assert_eq!(app.count(), 2);
    // Declared: not a byte of it is waited for.
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\n");
    assert_eq!(client.answer().status, 413);
    let mut expecting = sidegate.client();
    expecting.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\nExpect: 100-continue\r\n\r\n");
    let refused = expecting.answer();
    assert_eq!((refused.status, refused.interim.len()), (413, 0));
    assert_eq!(app.count(), 2);
    // Not declared: broken off when it is too much; the app never sees its end.
    let ended = app.received();
    let mut chunked = sidegate.client();
    chunked.send(
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n012345\r\n6\r\n012345\r\n0\r\n\r\n",
    );
    assert_eq!(chunked.answer().status, 413);
    assert!(app.received() - ended <= 10, "no more than the route takes");
    assert!(app.requests().iter().skip(2).all(|seen| seen.content.is_empty()), "no whole content");
    assert_eq!(sidegate.client().send(request("GET", "/", &[], b"")).answer().status, 200);
}
