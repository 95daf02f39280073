//! One fetch for all who ask for the same at a time, as clients and the app meet it.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use crate::harness::origin::Wire;
use crate::harness::{Answer, Client, Configuration, Origin, RedisServer, Reply, Sidegate, client::request, until};

mod silent;
mod tagged;

const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 8\r\n\r\n";
const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";

fn pages(lines: &str) -> String {
    format!("[cache.pages]\n{lines}\n[[route]]\npath = \"/{{*rest}}\"\ncache = \"pages\"\n")
}

/// Holds the app back until it is opened.
#[derive(Clone, Default)]
struct Gate(Arc<(Mutex<usize>, Condvar)>);

impl Gate {
    /// Lets through all that are held back, `steps` times in all.
    fn open(&self, steps: usize) {
        let mut opened = self.0.0.lock().expect("a gate");
        *opened = (*opened).max(steps);
        self.0.1.notify_all();
    }

    fn pass(&self, step: usize) {
        let opened = self.0.0.lock().expect("a gate");
        drop(self.0.1.wait_while(opened, |opened| *opened < step).expect("a gate"));
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.open(usize::MAX);
        }
    }
}

fn in_flight(sidegate: &Sidegate, requests: usize) {
    until(&format!("{requests} requests in flight"), || {
        sidegate.metric("sidegate_requests_in_flight") == requests as f64
    });
}

/// Waits until one of so many requests asks the app, or another instance's word, and all others wait for it.
fn waiting_for_one(sidegate: &Sidegate, requests: usize) {
    until(&format!("{} of {requests} requests wait for one", requests - 1), || {
        sidegate.metric("sidegate_cache_waiting{cache=\"pages\"}") == (requests - 1) as f64
    });
}

fn coalesced(sidegate: &Sidegate, outcome: &str) -> f64 {
    sidegate.metric(&format!("sidegate_cache_coalesced_total{{cache=\"pages\",outcome=\"{outcome}\"}}"))
}

fn asking(sidegate: &Sidegate, target: &str) -> Client {
    let mut client = sidegate.client();
    client.send(request("GET", target, &[], b""));
    client
}

fn is_collapsed(answer: &Answer) -> bool {
    answer.field("cache-status").is_some_and(|status| status.contains("collapsed"))
}

#[test]
fn a_thousand_requests_for_one_cold_url_on_three_instances_cause_one_fetch_or_one_each() {
    let redis = RedisServer::start();
    for (scope, target, fetches) in [("fleet", "/one", 1), ("process", "/each", 3)] {
        let gate = Gate::default();
        let held = gate.clone();
        let app = Origin::answering(move |_| {
            held.pass(1);
            Reply::text("the one answer").field("Cache-Control", "max-age=60")
        });
        let lines = pages(&format!("coalesce = {scope:?}\nfleet_wait = \"60s\""));
        let instances = [(); 3]
            .map(|()| Configuration::of(&app).redis(&redis).redis_lines("timeout = \"10s\"").with(&lines).start());
        let mut clients: Vec<_> = (0..999).map(|turn| asking(&instances[turn % 3], target)).collect();
        for instance in &instances {
            waiting_for_one(instance, 333);
        }
        until("the app is asked", || app.count() >= fetches);
        gate.open(1);
        let answers: Vec<_> = clients.iter_mut().map(Client::answer).collect();
        assert!(answers.iter().all(|answer| answer.status == 200 && answer.text() == "the one answer"));
        assert_eq!(app.count(), fetches, "{scope}");
        let shared: f64 = instances.iter().map(|instance| coalesced(instance, "shared")).sum();
        let collapsed = answers.iter().filter(|answer| is_collapsed(answer)).count();
        assert_eq!((collapsed, shared), (996, 996.0), "{scope}: all but one of each instance");
    }
}

#[test]
fn what_is_for_nobody_else_of_one_login_keeps_nobody_else_in_the_fleet_from_waiting() {
    let redis = RedisServer::start();
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::answering(move |request| {
        let login = request.field("authorization").is_some();
        held.pass(usize::from(!login));
        Reply::text("the one answer").field("Cache-Control", "max-age=60")
    });
    let lines = pages("coalesce = \"fleet\"\nfleet_wait = \"60s\"");
    let instances =
        [(); 2].map(|()| Configuration::of(&app).redis(&redis).redis_lines("timeout = \"10s\"").with(&lines).start());
    instances[0].client().get_with("/page", &[("Authorization", "Bearer of-somebody")]);
    until("word is left of that", || {
        let keys: Vec<String> = redis.ask(&["KEYS", "*:lock"]).expect("keys");
        keys.len() == 1
    });
    let mut clients: Vec<_> = (0..20).map(|turn| asking(&instances[turn % 2], "/page")).collect();
    for instance in &instances {
        in_flight(instance, 10);
    }
    until("the app is asked", || app.count() >= 2);
    gate.open(1);
    for client in &mut clients {
        assert_eq!(client.answer().text(), "the one answer");
    }
    assert_eq!(app.count(), 2, "once for the login, and once for all others");
}

#[test]
fn an_answer_that_is_for_one_alone_sends_all_who_wait_their_own_way_at_once() {
    const CLIENTS: usize = 20;
    let (gate, seen) = (Gate::default(), Arc::new(AtomicUsize::new(0)));
    let (held, number) = (gate.clone(), seen.clone());
    let app = Origin::answering(move |_| {
        let number = number.fetch_add(1, Ordering::SeqCst);
        // The first answer says what it is; the others come when the app has been asked for all of them.
        held.pass(if number == 0 { 1 } else { 2 });
        Reply::text(number.to_string()).field("Cache-Control", "private")
    });
    let sidegate = Configuration::of(&app).with(&pages("")).start();
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| asking(&sidegate, "/mine")).collect();
    waiting_for_one(&sidegate, CLIENTS);
    until("the app is asked", || app.count() == 1);
    gate.open(1);
    until("the app is asked by each", || app.count() == CLIENTS);
    gate.open(2);
    let mut texts: Vec<_> = clients.iter_mut().map(|client| client.answer().text()).collect();
    texts.sort();
    texts.dedup();
    assert_eq!(texts.len(), CLIENTS, "nobody is given another's");
    assert_eq!(coalesced(&sidegate, "parted"), (CLIENTS - 1) as f64);

    // That is remembered: nobody waits for the next.
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| asking(&sidegate, "/mine")).collect();
    for client in &mut clients {
        assert!(!is_collapsed(&client.answer()));
    }
    assert_eq!(coalesced(&sidegate, "parted"), (CLIENTS - 1) as f64);
    assert_eq!(app.count(), 2 * CLIENTS);
}

/// An app that sends `first`, then at each step of the gate the next piece.
fn in_steps(gate: &Gate, first: &'static [u8], pieces: &'static [&'static [u8]]) -> Origin {
    let held = gate.clone();
    Origin::scripted(move |wire: &mut Wire| -> io::Result<()> {
        while wire.request()?.is_some() {
            held.pass(1);
            wire.send(first)?;
            for (step, piece) in pieces.iter().enumerate() {
                wire.send(piece)?;
                held.pass(step + 2);
            }
        }
        Ok(())
    })
}

#[test]
fn whoever_waits_is_sent_what_has_come_while_the_rest_has_not() {
    let gate = Gate::default();
    let app = in_steps(&gate, HEAD, &[b"half", b"rest"]);
    let sidegate = Configuration::of(&app).with(&pages("")).start();
    let mut early = [(); 3].map(|()| asking(&sidegate, "/slow"));
    in_flight(&sidegate, 3);
    gate.open(1);
    for client in &mut early {
        assert_eq!(client.head().status, 200);
        assert_eq!(client.exactly(4), b"half");
    }
    let mut late = asking(&sidegate, "/slow");
    let head = late.head();
    assert!(is_collapsed(&head), "{head:?}");
    assert_eq!(head.field("content-length"), Some("8"));
    assert_eq!(late.exactly(4), b"half");
    gate.open(3);
    for client in early.iter_mut().chain([&mut late]) {
        assert_eq!(client.exactly(4), b"rest");
    }
    assert_eq!(app.count(), 1);
    let mut client = sidegate.client();
    until("it is stored", || client.get("/slow").field("x-cache") == Some("HIT"));
    assert_eq!((client.get("/slow").text().as_str(), app.count()), ("halfrest", 1));
}

#[test]
fn a_client_that_leaves_takes_nobody_with_it() {
    let gate = Gate::default();
    let app = in_steps(&gate, HEAD, &[b"half", b"rest"]);
    let sidegate = Configuration::of(&app).with(&pages("")).start();
    // Before the head: somebody else asks.
    let first = asking(&sidegate, "/left");
    until("the app is asked", || app.count() == 1);
    let mut others = [(); 2].map(|()| asking(&sidegate, "/left"));
    in_flight(&sidegate, 3);
    drop(first);
    until("the app is asked by another", || app.count() == 2);
    assert_eq!(coalesced(&sidegate, "took_over"), 1.0);
    gate.open(1);
    // After it: the others read on, whoever began.
    let mut third = asking(&sidegate, "/left");
    for client in others.iter_mut().chain([&mut third]) {
        assert_eq!(client.head().status, 200);
        assert_eq!(client.exactly(4), b"half");
    }
    drop(others);
    in_flight(&sidegate, 1);
    gate.open(3);
    assert_eq!(third.exactly(4), b"rest");
    assert_eq!(app.count(), 2);
}

#[test]
fn what_the_app_cuts_short_is_cut_for_everybody_and_not_stored() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::scripted(move |wire| {
        if wire.request()?.is_some() {
            wire.send(HEAD)?;
            wire.send(b"half")?;
            held.pass(1);
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).with(&pages("")).start();
    let mut clients = [(); 3].map(|()| asking(&sidegate, "/cut"));
    in_flight(&sidegate, 3);
    gate.open(1);
    let is_cut = |client: &mut Client| client.try_answer_to("GET").map_or(true, |answer| answer.cut_short);
    for client in &mut clients {
        assert!(is_cut(client));
    }
    let asked = app.count();
    assert!(is_cut(&mut asking(&sidegate, "/cut")));
    assert!(app.count() > asked, "nothing was stored");
}

#[test]
fn content_without_end_passes_to_its_readers_and_others_go_their_own_way() {
    let (ended, gate) = (Arc::new(AtomicBool::new(false)), Gate::default());
    let (stop, held) = (ended.clone(), gate.clone());
    let app = Origin::scripted(move |wire| {
        while wire.request()?.is_some() {
            wire.send(CHUNKED)?;
            held.pass(1);
            while !stop.load(Ordering::SeqCst) {
                wire.send(b"400\r\n")?;
                wire.send(&[b'x'; 1024])?;
                wire.send(b"\r\n")?;
            }
            wire.send(b"0\r\n\r\n")?;
        }
        Ok(())
    });
    let sidegate = Configuration::of(&app).with(&pages("max_body = \"64KiB\"")).start();
    let mut clients = [(); 2].map(|()| asking(&sidegate, "/endless"));
    for client in &mut clients {
        assert_eq!(client.head().status, 200);
    }
    assert_eq!(app.count(), 1);
    gate.open(1);
    // In turn, as each waits for the slower one.
    for _ in 0..100 {
        for client in &mut clients {
            client.exactly(10_000);
        }
    }
    let mut late = asking(&sidegate, "/endless");
    assert!(!is_collapsed(&late.head()));
    assert_eq!((app.count(), coalesced(&sidegate, "alone")), (2, 1.0));
    ended.store(true, Ordering::SeqCst);
    drop((clients, late));
    in_flight(&sidegate, 0);
}

#[test]
fn a_client_that_reads_nothing_does_not_halt_the_others_where_nothing_more_may_be_held() {
    const CHUNKS: usize = 400;
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::scripted(move |wire| {
        while wire.request()?.is_some() {
            wire.send(CHUNKED)?;
            held.pass(1);
            for _ in 0..CHUNKS {
                wire.send(b"10000\r\n")?;
                wire.send(&[b'x'; 0x10000])?;
                wire.send(b"\r\n")?;
            }
            wire.send(b"0\r\n\r\n")?;
        }
        Ok(())
    });
    let lines = ["[memory]\nfilling = \"1 MiB\"\n", &pages("")].concat();
    let sidegate = Configuration::of(&app).with(&lines).start();
    let (mut stopped, mut honest) = (asking(&sidegate, "/large"), asking(&sidegate, "/large"));
    let heads = [stopped.head(), honest.head()];
    assert_eq!((app.count(), heads.each_ref().map(|head| head.status)), (1, [200; 2]));
    gate.open(1);
    let whole = (CHUNKS * 0x10000) as u64;
    assert_eq!(honest.count_content(&heads[1].fields), (whole, true));
    let (read, is_whole) = stopped.count_content(&heads[0].fields);
    assert!(read < whole && !is_whole, "cut off, and never as whole: {read}");
}

#[test]
fn a_request_that_a_variant_does_not_answer_fetches_its_own() {
    let gate = Gate::default();
    let held = gate.clone();
    let app = Origin::answering(move |request| {
        held.pass(1);
        let language = request.field("accept-language").unwrap_or("-").to_owned();
        Reply::text(language).field("Vary", "Accept-Language").field("Cache-Control", "max-age=60")
    });
    let sidegate = Configuration::of(&app).with(&pages("")).start();
    let languages = ["en", "de", "en", "de", "en", "de"];
    let mut clients = languages.map(|language| {
        let mut client = sidegate.client();
        client.send(request("GET", "/page", &[("Accept-Language", language)], b""));
        client
    });
    waiting_for_one(&sidegate, languages.len());
    until("the app is asked", || app.count() == 1);
    gate.open(1);
    for (client, language) in clients.iter_mut().zip(languages) {
        assert_eq!(client.answer().text(), language);
    }
    assert_eq!(app.count(), 2);
}

#[test]
fn whoever_asks_after_a_write_is_not_given_what_was_fetched_before_it() {
    let redis = RedisServer::start();
    for over_redis in [false, true] {
        let gate = Gate::default();
        let (held, number) = (gate.clone(), AtomicUsize::new(0));
        let app = Origin::answering(move |request| {
            if request.method == "GET" && number.fetch_add(1, Ordering::SeqCst) == 0 {
                held.pass(1);
                return Reply::text("before").field("Cache-Control", "max-age=60");
            }
            Reply::text("after").field("Cache-Control", "max-age=60")
        });
        let config = Configuration::of(&app).with(&pages(""));
        let sidegate = if over_redis { config.redis(&redis) } else { config }.start();
        let mut before = asking(&sidegate, "/page");
        until("the app is asked", || app.count() == 1);
        let mut client = sidegate.client();
        assert_eq!(client.ask("PUT", "/page", &[], b"x").status, 200);
        assert_eq!(client.get("/page").text(), "after");
        gate.open(1);
        assert_eq!(before.answer().text(), "before");
        assert_eq!(client.get("/page").text(), "after");
    }
}
