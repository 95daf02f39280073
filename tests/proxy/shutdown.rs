//! The end of the process, as its clients meet it.

use crate::harness::origin::Gate;
use crate::harness::{Client, Configuration, Load, Origin, client::request, until};

/// An app that sends the first half of its answer, and the rest when the gate opens.
fn halves(gate: &Gate) -> Origin {
    let held = gate.clone();
    Origin::scripted(move |wire| {
        while wire.request()?.is_some() {
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")?;
            held.wait();
            wire.send(b"half")?;
        }
        Ok(())
    })
}

#[test]
fn sigterm_under_load_fails_no_request() {
    let app = Origin::saying("app");
    let mut sidegate = Configuration::of(&app).start();
    let load =
        Load::start(sidegate.address(), 8, |_, _| request("GET", "/", &[], b""), |answer| answer.text() == "app");
    load.wait_for_more(400);
    let status = sidegate.terminate();
    let tally = load.finish();
    assert_eq!(status.code(), Some(0));
    assert!(tally.failures.is_empty() && tally.wrong == 0, "{tally:?}");
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), [&200], "{tally:?}");
}

#[test]
fn readiness_ends_first_and_a_request_in_flight_is_finished() {
    let gate = Gate::default();
    let app = halves(&gate);
    let mut sidegate = Configuration::of(&app).start();
    assert_eq!(sidegate.ask_admin("/readyz").status, 200);
    let mut client = sidegate.client();
    client.send(request("GET", "/", &[], b""));
    let head = client.head();
    assert_eq!(client.exactly(4), b"half");
    sidegate.signal(libc::SIGTERM);
    until("/readyz to be 503", || sidegate.ask_admin("/readyz").status == 503);
    assert_eq!(sidegate.ask_admin("/livez").status, 200, "it lives, and drains");
    until("closed listeners", || Client::try_to(sidegate.address()).is_err());
    gate.open();
    assert_eq!((head.status, client.exactly(4)), (200, b"half".to_vec()));
    assert_eq!(sidegate.wait().code(), Some(0));
    assert!(client.is_closed());
}

#[test]
fn idle_connections_do_not_hold_the_process_up() {
    let app = Origin::saying("app");
    let patient = "grace_period = \"60s\"\ntimeouts = { header = \"60s\" }";
    let mut sidegate = Configuration::of(&app).server(patient).start();
    let mut idle: Vec<_> = (0..10).map(|_| sidegate.client()).collect();
    idle.iter_mut().take(5).for_each(|client| assert_eq!(client.get("/").status, 200));
    // Half of them have asked something, half nothing yet: nobody waits for an answer.
    assert_eq!(sidegate.terminate().code(), Some(0), "long before the grace period ends");
}

#[test]
fn the_grace_period_ends() {
    let gate = Gate::default();
    let app = halves(&gate);
    let mut sidegate = Configuration::of(&app).server("grace_period = \"300ms\"").start();
    let mut client = sidegate.client();
    client.send(request("GET", "/", &[], b""));
    client.head();
    sidegate.terminate();
    client.exactly(4);
    assert!(client.is_closed(), "cut short, and not completed");
}

#[test]
fn the_access_log_is_written_to_its_end() {
    let app = Origin::saying("app");
    let mut sidegate = Configuration::of(&app).start();
    let mut client = sidegate.client();
    (0..25).for_each(|turn| assert_eq!(client.get(&format!("/{turn}")).status, 200));
    sidegate.terminate();
    until("a line for each request", || {
        sidegate.output().lines().filter(|line| line.contains("\"status\":200")).count() == 25
    });
}
