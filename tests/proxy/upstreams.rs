//! Several endpoints of an app: which one is asked, which is left out, when a request is sent again.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixListener;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex};

use crate::harness::client::request;
use crate::harness::load::Tally;
use crate::harness::origin::Gate;
use crate::harness::{Answer, Client, Configuration, Directory, Load, Origin, Reply, Sidegate, until};

/// `["http://…", …]`.
fn servers(origins: &[&Origin]) -> String {
    format!("{:?}", origins.iter().map(|origin| origin.url()).collect::<Vec<_>>())
}

/// In front of these, with these lines of `[upstream.app]`.
fn across(origins: &[&Origin], lines: &str) -> Configuration {
    Configuration::across(&servers(origins)).upstream(lines)
}

/// A metric of an endpoint.
fn of(name: &str, origin: &Origin) -> String {
    format!("sidegate_upstream_{name}{{upstream=\"app\",endpoint=\"{}\"}}", origin.url())
}

/// An app that can be told to fail: every request, health checks as well.
#[derive(Clone, Default)]
struct Mood(Arc<AtomicBool>);

impl Mood {
    fn fail(&self, fail: bool) {
        self.0.store(fail, Ordering::SeqCst);
    }

    fn origin(&self, name: &'static str) -> Origin {
        let fails = self.0.clone();
        Origin::answering(move |_| match fails.load(Ordering::SeqCst) {
            true => Reply::text("ill").status("503 Service Unavailable"),
            false => Reply::text(name),
        })
    }
}

/// Where nobody listens.
fn nowhere() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port")
}

/// Requests for anything but health.
fn asked(origin: &Origin) -> usize {
    origin.requests().iter().filter(|request| request.path() != "/healthz").count()
}

/// An app that holds requests to `/hold…` until the gate opens, and answers others at once.
fn holding(gate: &Gate, name: &'static str) -> Origin {
    let gate = gate.clone();
    Origin::answering(move |request| {
        if request.path().starts_with("/hold") {
            gate.wait();
        }
        Reply::text(name)
    })
}

/// Sends a GET, and leaves the answer for later.
fn ask(sidegate: &Sidegate, target: &str) -> Client {
    let mut client = sidegate.client();
    client.send(request("GET", target, &[], b""));
    client
}

#[test]
fn turns_follow_the_weights_exactly() {
    let (one, three) = (Origin::saying("one"), Origin::saying("three"));
    let servers = format!("[{:?}, {{ url = {:?}, weight = 3 }}]", one.url(), three.url());
    let sidegate = Configuration::across(&servers).server("workers = 1").start();
    let mut client = sidegate.client();
    let turns: Vec<String> = (0..40).map(|_| client.get("/").text()).collect();
    assert_eq!((one.count(), three.count()), (10, 30));
    assert!(turns.chunks(4).all(|turn| turn.contains(&"one".to_owned())), "evenly spread: {turns:?}");
    let line = sidegate.access_log(|line| line["endpoint"] == three.url().as_str());
    assert_eq!((line["upstream"].as_str(), line.get("retries")), (Some("app"), None));
}

#[test]
fn least_requests_prefers_the_idle_endpoint() {
    let gate = Gate::default();
    let (one, other) = (holding(&gate, "one"), holding(&gate, "other"));
    let sidegate = across(&[&one, &other], "balance = \"least-requests\"").start();
    let mut held = ask(&sidegate, "/hold");
    until("the request at the app", || one.count() + other.count() == 1);
    let (busy, idle) = if one.count() == 1 { (&one, &other) } else { (&other, &one) };
    for _ in 0..20 {
        assert_eq!(sidegate.get("/").status, 200);
    }
    assert_eq!((busy.count(), idle.count()), (1, 20));
    gate.open();
    assert_eq!(held.answer().status, 200);
}

#[test]
fn a_key_stays_with_its_endpoint_and_moves_only_when_that_goes() {
    let mut origins = vec![Origin::saying("0"), Origin::saying("1"), Origin::saying("2")];
    let config = across(&origins.iter().collect::<Vec<_>>(), "balance = { hash = \"header:X-User\" }");
    let (sidegate, another) = (config.start(), config.start());
    let ask = |sidegate: &Sidegate| -> Vec<String> {
        let mut client = sidegate.client();
        (0..40).map(|user| client.get_with("/", &[("X-User", &format!("user-{user}"))]).text()).collect()
    };
    let before = ask(&sidegate);
    assert!(["0", "1", "2"].iter().all(|name| before.contains(&(*name).to_owned())), "{before:?}");
    assert_eq!(ask(&sidegate), before);
    assert_eq!(ask(&another), before, "every instance agrees");
    drop(origins.remove(1));
    let after = ask(&sidegate);
    for (before, after) in before.iter().zip(&after) {
        assert!(after == before || (before == "1" && after != "1"), "{before} → {after}");
    }
    let counts: Vec<usize> = origins.iter().map(Origin::count).collect();
    let mut client = sidegate.client();
    (0..8).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert!(origins.iter().zip(counts).all(|(origin, count)| origin.count() > count), "without a key: in turn");
}

#[test]
fn an_endpoint_that_fails_is_not_asked_while_it_is_left_out() {
    let mood = Mood::default();
    let (ill, well) = (mood.origin("ill"), Origin::saying("well"));
    let config = across(&[&ill, &well], "breaker = { failures = 3, open = \"1h\", longest = \"1h\" }");
    let sidegate = config.server("workers = 1").start();
    mood.fail(true);
    let mut client = sidegate.client();
    let failures = (0..40).filter(|_| client.get("/").status == 503).count();
    assert_eq!((failures, ill.count(), well.count()), (3, 3, 37));
    assert_eq!(sidegate.metric(&of("ejections_total", &ill)), 1.0);
    assert_eq!((sidegate.metric(&of("endpoint_up", &ill)), sidegate.metric(&of("endpoint_up", &well))), (0.0, 1.0));
    assert_eq!(sidegate.metric(&of("breaker_state", &ill)), 2.0);
    let report = sidegate.ask_admin("/readyz").json();
    assert_eq!(report["upstreams"]["app"]["endpoints"][ill.url()], "open");
    assert_eq!(report["upstreams"]["app"]["endpoints"][well.url()], "used");
    assert_eq!(report["status"], "ready");
}

#[test]
fn an_endpoint_that_is_well_again_comes_back() {
    let mood = Mood::default();
    let (ill, well) = (mood.origin("ill"), Origin::saying("well"));
    let sidegate = across(&[&ill, &well], "breaker = { failures = 2, open = \"30ms\", longest = \"60ms\" }").start();
    mood.fail(true);
    let mut client = sidegate.client();
    until("an ejection", || {
        client.get("/");
        sidegate.metric(&of("ejections_total", &ill)) >= 1.0
    });
    let known = ill.count();
    until("a probe that failed", || client.get("/").status == 503 && ill.count() > known);
    mood.fail(false);
    until("the endpoint used again", || {
        assert!([200, 503].contains(&client.get("/").status));
        sidegate.metric(&of("breaker_state", &ill)) == 0.0
    });
    let (ill_before, well_before) = (ill.count(), well.count());
    (0..10).for_each(|_| assert_eq!(client.get("/").status, 200));
    assert!(ill.count() > ill_before && well.count() > well_before);
}

#[test]
fn with_all_open_requests_are_answered_503_at_once() {
    let mood = Mood::default();
    let app = mood.origin("app");
    let breaker = "breaker = { failures = 2, open = \"1h\", longest = \"1h\", most_out = \"100%\" }";
    let sidegate = across(&[&app], breaker).start();
    mood.fail(true);
    let mut client = sidegate.client();
    (0..2).for_each(|_| assert_eq!(client.get("/").text(), "ill"));
    for _ in 0..5 {
        let answer = client.get("/");
        assert_eq!(answer.status, 503);
        assert_eq!(answer.field("proxy-status"), Some("sidegate; error=destination_unavailable"));
        assert!((3500..=3601).contains(&answer.number("retry-after")), "{answer:?}");
    }
    assert_eq!(app.count(), 2);
    assert_eq!(sidegate.access_log(|line| line["local_reply"] == "upstream-unavailable")["status"], 503);
}

#[test]
fn a_half_open_breaker_lets_one_request_through() {
    const ILL: u8 = 1;
    const HELD: u8 = 2;
    let (mood, gate) = (Arc::new(AtomicU8::new(ILL)), Gate::default());
    let (mode, held) = (mood.clone(), gate.clone());
    let app = Origin::answering(move |_| match mode.load(Ordering::SeqCst) {
        ILL => Reply::text("ill").status("503 Service Unavailable"),
        _ => {
            held.wait();
            Reply::text("well")
        }
    });
    let breaker = "breaker = { failures = 1, open = \"50ms\", longest = \"50ms\", most_out = \"100%\" }";
    let sidegate = across(&[&app], breaker).server("timeouts = { half_closed = \"50ms\" }").start();
    assert_eq!(sidegate.get("/").text(), "ill");
    mood.store(HELD, Ordering::SeqCst);
    let state = || sidegate.metric(&of("breaker_state", &app));
    until("a half-open breaker", || state() == 1.0);
    let probe = ask(&sidegate, "/");
    until("the probe at the app", || app.count() == 2);
    for _ in 0..5 {
        assert_eq!(sidegate.get("/").field("proxy-status"), Some("sidegate; error=destination_unavailable"));
    }
    assert_eq!(app.count(), 2, "nobody but the probe");
    // The probe's client leaves: another one may find out.
    drop(probe);
    sidegate.access_log(|line| line["end"] == "abandoned");
    let mut next = ask(&sidegate, "/");
    until("another probe at the app", || app.count() == 3);
    gate.open();
    assert_eq!(next.answer().text(), "well");
    until("a closed breaker", || state() == 0.0);
    assert_eq!(sidegate.get("/").text(), "well");
}

#[test]
fn active_checks_take_an_endpoint_out_and_back() {
    let mood = Mood::default();
    let (ill, well) = (mood.origin("ill"), Origin::saying("well"));
    let check = "health_check = { path = \"/healthz\", every = \"30ms\", unhealthy_after = 2, healthy_after = 2 }\n\
                 breaker = { failures = 0 }";
    let sidegate = across(&[&ill, &well], check).start();
    let up = |expected: f64| sidegate.metric(&of("endpoint_up", &ill)) == expected;
    assert!(up(1.0), "healthy until checks say otherwise");
    mood.fail(true);
    until("the endpoint out", || up(0.0));
    let before = asked(&ill);
    let mut client = sidegate.client();
    (0..20).for_each(|_| assert_eq!(client.get("/").text(), "well"));
    assert_eq!(asked(&ill), before);
    assert_eq!(sidegate.ask_admin("/readyz").json()["upstreams"]["app"]["endpoints"][ill.url()], "unhealthy");
    mood.fail(false);
    until("the endpoint back", || up(1.0));
    until("requests at both", || client.get("/").status == 200 && asked(&ill) > before);
    let head = ill.requests().into_iter().find(|request| request.path() == "/healthz").expect("a check");
    assert_eq!((head.method.as_str(), head.field("user-agent")), ("GET", Some("sidegate-health-check")));
    // All unhealthy: then all are used.
    mood.fail(true);
    let url = well.url();
    drop(well);
    let is_down = || sidegate.metric(&format!("sidegate_upstream_endpoint_up{{upstream=\"app\",endpoint=\"{url}\"}}"));
    until("both unhealthy, and both used", || {
        let failed = |url: &str| {
            let labels = format!("{{upstream=\"app\",endpoint=\"{url}\",outcome=\"failed\"}}");
            sidegate.metric(&format!("sidegate_upstream_health_checks_total{labels}"))
        };
        failed(&url) >= 2.0 && failed(&ill.url()) >= 4.0 && up(1.0) && is_down() == 1.0
    });
    assert_eq!(sidegate.get("/").text(), "ill", "the one that refuses is not the last word");
}

#[test]
fn a_status_is_retried_elsewhere_for_get_and_never_for_post() {
    let mood = Mood::default();
    let (ill, well) = (mood.origin("ill"), Origin::saying("well"));
    let retries = "retries = { on = [\"503\"], budget = \"100%\" }\nbreaker = { failures = 0 }";
    let sidegate = across(&[&ill, &well], retries).server("workers = 1").start();
    mood.fail(true);
    let mut client = sidegate.client();
    (0..10).for_each(|_| assert_eq!(client.get("/").text(), "well"));
    assert_eq!(sidegate.metric("sidegate_upstream_retries_total{upstream=\"app\",reason=\"503\"}"), 5.0);
    let line = sidegate.access_log(|line| line["retries"] == 1);
    assert_eq!((line["status"].as_u64(), line["endpoint"].as_str()), (Some(200), Some(well.url().as_str())));
    let before = ill.count() + well.count();
    let statuses: Vec<u16> = (0..10).map(|_| client.ask("POST", "/", &[], b"once").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 503).count(), 5, "{statuses:?}");
    assert!([200, 503].contains(&client.ask("PUT", "/", &[], b"content is not kept to be sent twice").status));
    assert_eq!(ill.count() + well.count(), before + 11, "each was executed once");
}

#[test]
fn the_budget_bounds_retries_when_every_endpoint_fails() {
    let mood = Mood::default();
    let origins = [mood.origin("a"), mood.origin("b"), mood.origin("c")];
    mood.fail(true);
    let retries = "retries = { most = 10, on = [\"503\"], budget = \"10%\", minimum = 5 }\nbreaker = { failures = 0 }";
    let sidegate = across(&origins.iter().collect::<Vec<_>>(), retries).server("workers = 1").start();
    let mut client = sidegate.client();
    (0..200).for_each(|_| assert_eq!(client.get("/").text(), "ill"));
    let executed: usize = origins.iter().map(Origin::count).sum();
    let retries = sidegate.metric("sidegate_upstream_retries_total{upstream=\"app\",reason=\"503\"}");
    assert_eq!(executed, 200 + retries as usize);
    // Were the test slower than the budget's window, the minimum would be there again in the next one.
    assert!((5.0..=45.0).contains(&retries), "{retries} retries of 200 requests");
    assert!(sidegate.metric("sidegate_upstream_retry_budget_exhausted_total{upstream=\"app\"}") > 100.0);
}

#[test]
fn a_reset_is_retried_elsewhere_and_a_post_is_not_executed_twice() {
    let breaking = Origin::scripted(|wire| wire.request().map(drop));
    let well = Origin::saying("well");
    let sidegate = across(&[&breaking, &well], "breaker = { failures = 0 }").server("workers = 1").start();
    let mut client = sidegate.client();
    (0..6).for_each(|_| assert_eq!(client.get("/").text(), "well"));
    assert_eq!(sidegate.metric("sidegate_upstream_retries_total{upstream=\"app\",reason=\"reset\"}"), 3.0);
    let (broken, answered) = (breaking.count(), well.count());
    let statuses: Vec<u16> = (0..4).map(|_| client.ask("POST", "/", &[], b"once").status).collect();
    assert_eq!(statuses.iter().filter(|status| **status == 502).count(), 2, "{statuses:?}");
    assert_eq!((breaking.count() - broken, well.count() - answered), (2, 2));
}

#[test]
fn an_idle_connection_that_is_closed_under_a_request_costs_nothing_of_the_budget() {
    let app = Origin::scripted(|wire| {
        wire.request()?;
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        // The next one on this connection meets its end.
        wire.request().map(drop)
    });
    let sidegate = across(&[&app], "retries = { budget = \"0%\", minimum = 0 }").server("workers = 1").start();
    let mut client = sidegate.client();
    (0..20).for_each(|_| assert_eq!(client.get("/").text(), "ok"));
    assert_eq!(sidegate.metric("sidegate_upstream_retries_total{upstream=\"app\",reason=\"reset\"}"), 19.0);
}

#[test]
fn what_breaks_the_only_endpoint_is_not_sent_to_it_again() {
    let breaking = Origin::scripted(|wire| wire.request().map(drop));
    let sidegate = across(&[&breaking], "retries = { on = [\"connect\", \"reset\", \"503\"] }").start();
    for _ in 0..3 {
        assert_eq!(sidegate.get("/").status, 502);
    }
    assert_eq!(breaking.count(), 3);
}

#[test]
fn an_endpoint_that_refuses_connections_costs_no_request_of_any_method() {
    let well = Origin::saying("well");
    let servers = format!("[\"http://{}\", {:?}]", nowhere(), well.url());
    let sidegate = Configuration::across(&servers).start();
    let mut client = sidegate.client();
    for method in ["GET", "POST", "DELETE", "PATCH"].iter().cycle().take(20) {
        assert_eq!(client.ask(method, "/", &[], b"").text(), "well");
    }
    assert_eq!(well.count(), 20);
    assert!(sidegate.metric("sidegate_upstream_retries_total{upstream=\"app\",reason=\"connect\"}") >= 1.0);
}

#[test]
fn each_address_of_a_name_is_an_endpoint_and_a_name_without_one_is_an_error() {
    let app = Origin::saying("app");
    let port = app.address().port();
    let servers = format!("[\"http://localhost:{port}\", \"http://nowhere.invalid:{port}\"]");
    let sidegate = Configuration::across(&servers).start();
    let mut client = sidegate.client();
    (0..4).for_each(|_| assert_eq!(client.get("/").text(), "app"));
    let report = sidegate.ask_admin("/readyz").json();
    let endpoint = format!("http://localhost:{port}@127.0.0.1");
    assert_eq!(report["upstreams"]["app"]["endpoints"][&endpoint], "used", "{report}");
    let lookups = |outcome: &str| {
        sidegate.metric(&format!("sidegate_upstream_lookups_total{{upstream=\"app\",outcome=\"{outcome}\"}}"))
    };
    until("a lookup of each", || lookups("found") >= 1.0 && lookups("failed") >= 1.0);

    let sidegate = Configuration::to("http://nowhere.invalid").start();
    let answer = sidegate.get("/");
    assert_eq!((answer.status, answer.field("proxy-status")), (502, Some("sidegate; error=dns_error")));
}

#[test]
fn requests_wait_in_order_and_in_bounded_number() {
    let gate = Gate::default();
    let app = holding(&gate, "app");
    let lines = "max_connections = 1\nmax_pending = 3\nqueue_timeout = \"1h\"";
    let sidegate = across(&[&app], lines).server("workers = 1\ntimeouts = { half_closed = \"50ms\" }").start();
    let waits = || sidegate.metric("sidegate_upstream_waits_total{upstream=\"app\"}");
    let mut first = ask(&sidegate, "/hold");
    until("the first at the app", || app.count() == 1);
    let mut waiting: Vec<Client> = Vec::new();
    for turn in 1..=3_u8 {
        waiting.push(ask(&sidegate, &format!("/{turn}")));
        until("one more that waits", || waits() == f64::from(turn));
    }
    let refused = sidegate.get("/refused");
    assert_eq!((refused.status, refused.number("retry-after")), (503, 1));
    assert_eq!(refused.field("proxy-status"), Some("sidegate; error=connection_limit_reached"));
    // One that waited leaves: its place is another's.
    drop(waiting.remove(1));
    sidegate.access_log(|line| line["target"] == "/2" && line["end"] == "abandoned");
    let before = waits();
    waiting.push(ask(&sidegate, "/4"));
    until("one more that waits", || waits() > before);
    gate.open();
    assert_eq!(first.answer().status, 200);
    waiting.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
    let order: Vec<String> = app.requests().into_iter().map(|request| request.target).collect();
    assert_eq!(order, ["/hold", "/1", "/3", "/4"]);
    assert_eq!(app.connections(), 1);
}

#[test]
fn nobody_waits_longer_than_the_queue_allows() {
    let gate = Gate::default();
    let app = holding(&gate, "app");
    let config = across(&[&app], "max_connections = 1\nqueue_timeout = \"50ms\"").server("workers = 1");
    let sidegate = config.start();
    let mut first = ask(&sidegate, "/hold");
    until("the first at the app", || app.count() == 1);
    assert_eq!(sidegate.get("/").status, 503);
    gate.open();
    assert_eq!(first.answer().status, 200);
    assert_eq!(sidegate.get("/").status, 200);
}

#[test]
fn an_endpoint_with_all_its_connections_in_use_is_passed_over() {
    let gate = Gate::default();
    let (one, other) = (holding(&gate, "one"), holding(&gate, "other"));
    let lines = "max_connections_per_endpoint = 1\nmax_pending = 0\nbalance = { hash = \"route\" }";
    let sidegate = across(&[&one, &other], lines).server("workers = 1").start();
    let mut held = [ask(&sidegate, "/hold"), ask(&sidegate, "/hold")];
    until("one request at each", || one.count() == 1 && other.count() == 1);
    assert_eq!(sidegate.get("/").status, 503, "and no room for a third");
    gate.open();
    held.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
}

#[test]
fn idle_connections_to_an_endpoint_that_is_left_out_make_room_for_others() {
    let (mood, gate) = (Mood::default(), Gate::default());
    let (ill, well) = (mood.origin("ill"), holding(&gate, "well"));
    let lines = "max_connections = 2\nmax_pending = 0\nbreaker = { failures = 1, open = \"1h\", longest = \"1h\" }\n\
                 timeouts = { keep_alive = \"1h\" }";
    let sidegate = across(&[&ill, &well], lines).server("workers = 1").start();
    let mut client = sidegate.client();
    (0..2).for_each(|_| assert_eq!(client.get("/").status, 200));
    mood.fail(true);
    until("an ejection", || client.get("/").status == 503);
    let mut held = [ask(&sidegate, "/hold"), ask(&sidegate, "/hold")];
    let holds = || well.requests().iter().filter(|request| request.path() == "/hold").count();
    until("both at the one that is well", || holds() == 2);
    assert_eq!(sidegate.metric("sidegate_upstream_connections{upstream=\"app\"}"), 2.0);
    gate.open();
    held.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
}

#[test]
fn warm_connections_are_there_before_the_first_request_and_again_after_they_closed() {
    let (one, other) = (Origin::saying("one"), Origin::saying("other"));
    let sidegate = across(&[&one, &other], "warm_connections = 4").start();
    until("two connections to each", || (one.connections(), other.connections()) == (2, 2));
    assert_eq!((one.count(), other.count()), (0, 0));
    one.hang_up();
    until("two more", || one.connections() == 4);
    assert_eq!(sidegate.get("/").status, 200);
    assert_eq!(other.connections(), 2);
}

#[test]
fn a_reload_keeps_what_is_known_of_the_endpoints_that_stay() {
    let mood = Mood::default();
    let (ill, well, new) = (mood.origin("ill"), Origin::saying("well"), Origin::saying("new"));
    let lines = "breaker = { failures = 1, open = \"1h\", longest = \"1h\" }";
    let mut sidegate = across(&[&ill, &well], lines).start();
    mood.fail(true);
    until("an ejection", || sidegate.get("/").status == 503);
    sidegate.reload(&across(&[&ill, &new], lines).text());
    let before = ill.count();
    (0..10).for_each(|_| assert_eq!(sidegate.get("/").text(), "new"));
    assert_eq!((ill.count(), sidegate.metric(&of("endpoint_up", &ill))), (before, 0.0));
    let metrics = sidegate.ask_admin("/metrics").text();
    assert!(!metrics.contains(&well.url()), "no label outlives what it names");
    sidegate.reload_in_vain("[upstream.app]\nservers = \"nothing\"");
    assert_eq!(sidegate.metric(&of("endpoint_up", &ill)), 0.0);
}

/// How often something happened to each request, by its target; all targets differ.
#[derive(Clone, Default)]
struct Counts(Arc<Mutex<BTreeMap<String, usize>>>);

impl Counts {
    fn note(&self, target: &str) {
        *self.0.lock().expect("the counts").entry(target.to_owned()).or_default() += 1;
    }

    fn take(&self) -> BTreeMap<String, usize> {
        std::mem::take(&mut *self.0.lock().expect("the counts"))
    }
}

/// What a rolling restart came to.
struct Restarted {
    tally: Tally,
    /// Requests that reached an app.
    executed: BTreeMap<String, usize>,
    /// Requests that were answered 200.
    answered: BTreeMap<String, usize>,
}

/// Three endpoints that are stopped and started again one after another, under load; how each stops is the test's.
fn rolling_restart(method: &'static str, stop: impl Fn(Origin, &AtomicBool)) -> Restarted {
    let (executed, answered) = (Counts::default(), Counts::default());
    let stopping: Vec<Arc<AtomicBool>> = (0..3).map(|_| Arc::default()).collect();
    let start = |number: usize, address: SocketAddr| {
        let (stopping, executed) = (stopping[number].clone(), executed.clone());
        stopping.store(false, Ordering::SeqCst);
        Origin::at(address, move |wire| {
            while let Some(request) = wire.request()? {
                let (last, target) = (stopping.load(Ordering::SeqCst), request.target);
                executed.note(&target);
                let close = if last { "Connection: close\r\n" } else { "" };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{close}\r\n{target}", target.len());
                wire.send(head.as_bytes())?;
                if last {
                    break;
                }
            }
            Ok(())
        })
    };
    let anywhere = "127.0.0.1:0".parse().expect("an address");
    let mut origins: Vec<Origin> = (0..3).map(|number| start(number, anywhere)).collect();
    let lines = "breaker = { open = \"200ms\", longest = \"400ms\" }";
    let sidegate = across(&origins.iter().collect::<Vec<_>>(), lines).start();
    let target = move |number: usize, turn: usize| request(method, &format!("/{number}/{turn}"), &[], b"");
    let noted = answered.clone();
    let right = move |answer: &Answer| {
        if answer.status == 200 {
            noted.note(&answer.text());
        }
        true
    };
    let load = Load::start(sidegate.address(), 8, target, right);
    load.wait_for_more(300);
    for round in 0..2 {
        for (number, stopping) in stopping.iter().enumerate() {
            let origin = origins.remove(0);
            let address = origin.address();
            stop(origin, stopping);
            until("a free port", || TcpStream::connect(address).is_err());
            load.wait_for_more(100);
            let again = start(number, address);
            until(&format!("endpoint {number} in use again (round {round})"), || again.count() > 10);
            origins.push(again);
        }
    }
    let tally = load.finish();
    assert!(tally.failures.is_empty() && tally.refused == 0, "{tally:?}");
    Restarted { tally, executed: executed.take(), answered: answered.take() }
}

/// Every request was answered 200, once, with its own answer.
fn none_lost(restarted: &Restarted) {
    let Restarted { tally, answered, .. } = restarted;
    assert_eq!(tally.answers.keys().collect::<Vec<_>>(), [&200], "{tally:?}");
    assert!(answered.values().all(|times| *times == 1));
    assert_eq!(answered.len() as u64, tally.total());
}

#[test]
fn a_rolling_restart_that_drains_loses_no_idempotent_request() {
    none_lost(&rolling_restart("GET", |origin, stopping| {
        let before = origin.count();
        stopping.store(true, Ordering::SeqCst);
        until("some last answers", || origin.count() > before + 3);
        drop(origin);
    }));
}

#[test]
fn a_rolling_restart_that_kills_loses_no_idempotent_request() {
    none_lost(&rolling_restart("GET", |origin, _| drop(origin)));
}

#[test]
fn a_rolling_restart_that_kills_executes_no_post_twice() {
    let Restarted { tally, executed, answered } = rolling_restart("POST", |origin, _| drop(origin));
    assert!(executed.values().all(|times| *times == 1), "executed more than once");
    assert!(answered.iter().all(|(target, times)| *times == 1 && executed.contains_key(target)));
    assert!(tally.answers.keys().all(|status| [200, 502].contains(status)), "{tally:?}");
    assert_eq!(tally.answers.get(&200), Some(&(answered.len() as u64)));
}

#[test]
fn unix_sockets_are_endpoints_and_are_checked_too() {
    let directory = Directory::new();
    let path = directory.file("app.sock");
    let listener = UnixListener::bind(&path).expect("a Unix socket");
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut head = [0; 4096];
            while stream.read(&mut head).is_ok_and(|read| read > 0)
                && stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nunix").is_ok()
            {}
        }
    });
    let tcp = Origin::saying("tcp");
    let servers = format!("[\"unix:{}\", {:?}]", path.display(), tcp.url());
    let config = Configuration::across(&servers).upstream("health_check = { path = \"/healthz\" }\nretries = 0");
    let sidegate = config.server("workers = 1").start();
    let labels = format!("{{upstream=\"app\",endpoint=\"unix:{}\",outcome=\"passed\"}}", path.display());
    until("a check that passed", || sidegate.metric(&format!("sidegate_upstream_health_checks_total{labels}")) == 1.0);
    let mut client = sidegate.client();
    let turns: Vec<String> = (0..4).map(|_| client.get("/").text()).collect();
    assert_eq!(turns, ["unix", "tcp", "unix", "tcp"]);
}
