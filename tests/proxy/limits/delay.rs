//! Requests that wait for their turn.

use super::over_both;
use crate::harness::{Configuration, Load, Origin, Sidegate, client::request, until};

const GET: &str = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

/// A limit that has requests wait.
fn delaying(quota: &str, most: &str) -> String {
    format!(
        "[limit.paced]\nkey = \"address\"\nquota = {quota:?}\nburst = 1\non_exceed = \"delay\"\nmax_delay = {most:?}\n\
         [[route]]\npath = \"/{{*rest}}\"\nlimits = [\"paced\"]\n"
    )
}

fn waiting(sidegate: &Sidegate) -> f64 {
    sidegate.metric("sidegate_limit_waiting_requests")
}

#[test]
fn requests_beyond_the_burst_wait_for_their_turn_and_all_pass() {
    over_both(|config| {
        let app = Origin::saying("app");
        let sidegate = config(&app).with(&delaying("50 per second", "20s")).start();
        let load = Load::start(sidegate.address(), 4, |_, _| request("GET", "/", &[], b""), |_| true);
        load.wait_for_more(30);
        let tally = load.finish();
        assert_eq!(tally.answers.keys().collect::<Vec<_>>(), [&200], "{tally:?}");
        // Only the first of four that ask at once finds a unit.
        assert!(sidegate.metric("sidegate_limit_delayed_total{limit=\"paced\"}") >= 20.0);
        until("nobody waits", || waiting(&sidegate) == 0.0);
    });
}

#[test]
fn who_would_wait_too_long_is_refused_and_who_leaves_gives_its_turn_back() {
    over_both(|config| {
        let app = Origin::saying("app");
        let sidegate = config(&app).with(&delaying("1 per minute", "90s")).start();
        assert_eq!(sidegate.get("/").status, 200);
        let mut waits = sidegate.client();
        waits.send(GET);
        until("one waits", || waiting(&sidegate) == 1.0);
        let refused = sidegate.get("/");
        assert_eq!(refused.status, 429, "its turn were in two minutes");
        assert!((1..=30).contains(&refused.number("retry-after")), "then it would wait for 90 s: {refused:?}");
        drop(waits);
        until("nobody waits", || waiting(&sidegate) == 0.0);
        // What goes back goes behind, so a request at another worker may come before it.
        let mut next = Vec::new();
        until("the next one has that turn", || {
            next.push(sidegate.client());
            next.last_mut().expect("a client").send(GET);
            waiting(&sidegate) == 1.0
        });
        assert_eq!(app.count(), 1);
    });
}

#[test]
fn no_more_wait_than_may_and_who_finds_no_room_reserves_nothing() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = format!("[limits]\nmax_delayed = 1\n{}", delaying("1 per minute", "1h"));
        let sidegate = config(&app).with(&tables).start();
        assert_eq!(sidegate.get("/").status, 200);
        let mut waits = sidegate.client();
        waits.send(GET);
        until("one waits", || waiting(&sidegate) == 1.0);
        let mut client = sidegate.client();
        let mut refused = 0;
        // What goes back goes behind: the next question may overtake it.
        until("what was reserved is back", || {
            let answer = client.get("/");
            assert_eq!(answer.status, 429);
            refused += 1;
            refused >= 3 && (61..=120).contains(&answer.number("retry-after"))
        });
        assert_eq!(super::decisions(&sidegate, "paced", "refused"), f64::from(refused));
    });
}

#[test]
fn who_waits_when_the_settings_change_gets_its_answer_all_the_same() {
    let app = Origin::saying("app");
    let config = |quota: &str| Configuration::of(&app).with(&delaying(quota, "20s"));
    let mut sidegate = config("1 per second").start();
    assert_eq!(sidegate.get("/").status, 200);
    let mut waits = sidegate.client();
    waits.send(GET);
    until("one waits", || waiting(&sidegate) == 1.0);
    sidegate.reload(&config("2 per second").text());
    assert_eq!(waits.answer().status, 200);
    until("nobody waits", || waiting(&sidegate) == 0.0);
}
