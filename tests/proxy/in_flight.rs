//! Requests in flight, as clients, the app and Redis meet them.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use bytes::Bytes;
use h2::Reason;

use crate::harness::client::request;
use crate::harness::origin::{Gate, Wire};
use crate::harness::{Client, Configuration, Origin, RedisServer, Sidegate, http2_app, until};

/// The tables of one limit on requests in flight, by address.
fn tables(most: usize, more: &str) -> String {
    format!(
        "[limit.few]\nkey = \"address\"\nin_flight = {most}\n{more}\n[[route]]\npath = \"/{{*rest}}\"\nlimits = [\"few\"]\n"
    )
}

/// How many sidegate holds for in flight.
fn in_flight(sidegate: &Sidegate) -> f64 {
    sidegate.metric("sidegate_limit_in_flight{limit=\"few\"}")
}

/// How many Redis holds for in flight, under all limits.
fn places(redis: &RedisServer) -> usize {
    let keys: Vec<String> = redis.ask(&["KEYS", "sidegate:limit:*:flight"]).expect("keys");
    keys.iter().map(|key| redis.ask::<usize>(&["ZCARD", key]).expect("a number")).sum()
}

/// An app that answers `/gate…` once the gate is open, and all else at once; and how many it has begun to answer.
fn gated(gate: &Gate) -> (Origin, Arc<AtomicUsize>) {
    let begun = Arc::new(AtomicUsize::new(0));
    let (counted, gate) = (begun.clone(), gate.clone());
    let app = Origin::scripted(move |wire| {
        while let Some(request) = wire.request()? {
            counted.fetch_add(1, Ordering::SeqCst);
            if request.path().starts_with("/gate") {
                gate.wait();
            }
            wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")?;
        }
        Ok(())
    });
    (app, begun)
}

/// So many clients whose requests wait at the app.
fn waiting(sidegate: &Sidegate, begun: &AtomicUsize, clients: usize) -> Vec<Client> {
    let (before, mut waiting) = (begun.load(Ordering::SeqCst), Vec::new());
    for number in 1..=clients {
        let mut client = sidegate.client();
        client.send(request("GET", "/gate", &[], b""));
        waiting.push(client);
        until("the request is with the app", || begun.load(Ordering::SeqCst) == before + number);
    }
    waiting
}

#[test]
fn the_one_too_many_is_refused_and_told_why_until_another_ends() {
    let redis = RedisServer::start();
    for over_redis in [false, true] {
        let gate = Gate::default();
        let (app, begun) = gated(&gate);
        let config = Configuration::of(&app).with(&tables(2, "refusal = { status = 503 }"));
        let sidegate = if over_redis { config.redis(&redis) } else { config }.start();
        let mut clients = waiting(&sidegate, &begun, 2);
        let refusal = sidegate.get("/");
        assert_eq!((refusal.status, refusal.number("retry-after")), (503, 1), "{refusal:?}");
        assert_eq!((refusal.number("x-ratelimit-limit"), refusal.number("x-ratelimit-remaining")), (2, 0));
        assert!(!refusal.fields.has("x-ratelimit-reset"), "{refusal:?}");
        assert_eq!(refusal.field("ratelimit-policy"), Some("\"few\";q=2;qu=\"concurrent-requests\""));
        assert_eq!(refusal.field("ratelimit"), Some("\"few\";r=0"));
        assert_eq!((&refusal.json()["limit"], &refusal.json()["quota"]), (&"few".into(), &"2 at once".into()));
        let detail = "The limit \"few\" is 2 at once. Try again when one of them has ended.";
        assert_eq!(refusal.json()["detail"], detail);
        let line = sidegate.access_log(|line| line["status"] == 503);
        assert_eq!((&line["limit"], &line["limit_remaining"]), (&"few".into(), &0.into()));
        assert_eq!((in_flight(&sidegate), app.count()), (2.0, 2));
        assert_eq!(places(&redis), if over_redis { 2 } else { 0 });
        gate.open();
        for client in &mut clients {
            let answer = client.answer();
            assert_eq!((answer.status, answer.text()), (200, "ok".into()));
        }
        until("none is in flight", || in_flight(&sidegate) == 0.0 && places(&redis) == 0);
        let answer = sidegate.get("/");
        assert_eq!((answer.status, answer.field("ratelimit")), (200, Some("\"few\";r=1")));
        let outcome = |outcome| {
            sidegate.metric(&format!("sidegate_limit_decisions_total{{limit=\"few\",outcome=\"{outcome}\"}}"))
        };
        assert_eq!((outcome("allowed"), outcome("refused")), (3.0, 1.0));
    }
}

#[test]
fn a_client_that_asks_for_one_thing_after_the_other_is_never_refused() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).server("workers = 1").redis(&redis).with(&tables(1, "")).start();
    let mut client = sidegate.client();
    for _ in 0..200 {
        assert_eq!(client.get("/").status, 200);
    }
    // Neither when it does not wait for the answer before it asks for more.
    client.send(request("GET", "/", &[], b"").repeat(50));
    for _ in 0..50 {
        assert_eq!(client.answer().status, 200);
    }
}

/// An app of which requests end in every way there is, by their path.
fn of_all_ways(wire: &mut Wire) -> io::Result<()> {
    while let Some(request) = wire.request()? {
        match request.path() {
            "/whole" => wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nwhole")?,
            "/chunks" => {
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nwhole\r\n")?;
                wire.send(b"0\r\n\r\n")?;
            }
            "/nothing" => wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")?,
            "/broken" => return wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\nonly this"),
            "/endless" => {
                wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
                return wire.wait_for_end();
            }
            "/gone" => return Ok(()),
            "/switch" => {
                wire.send(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                      Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\nhello",
                )?;
                return wire.wait_for_end();
            }
            // Later than sidegate waits.
            _ => return wire.wait_for_end(),
        }
    }
    Ok(())
}

const SWITCH: &str = "GET /switch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                      Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

/// What a client is answered; 0: the app broke off before the head of its answer was on its way.
fn status_of(client: &mut Client, method: &str) -> u16 {
    client.try_answer_to(method).map_or(0, |answer| answer.status)
}

/// Requests that end in the way of this number; what they were answered.
fn ask_in_way(way: usize, sidegate: &Sidegate, answers: &mut BTreeMap<u16, usize>) {
    let mut client = sidegate.client();
    let mut ask = |method: &str, target: &str| status_of(client.send(request(method, target, &[], b"")), method);
    let status = match way % 14 {
        0 => ask("GET", "/whole"),
        1 => ask("HEAD", "/whole"),
        2 => ask("GET", "/chunks"),
        3 => ask("GET", "/nothing"),
        4 => ask("GET", "/broken"),
        5 => ask("GET", "/gone"),
        // Refused by another limit, and by a session that is not there, after it was let in.
        6 => ask("GET", "/once/whole"),
        7 => ask("GET", "/private/whole"),
        // The client leaves before the answer, in the middle of it, and in the middle of its own request.
        8 => {
            client.send(request("GET", "/never", &[], b""));
            return;
        }
        9 => {
            let status = client.send(request("GET", "/endless", &[], b"")).head().status;
            if status == 200 {
                client.read_until("first");
            }
            status
        }
        10 => {
            client.send("POST /whole HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\nonly this");
            return;
        }
        11 => {
            let status = client.send(SWITCH).head().status;
            if status == 101 {
                client.read_until("hello");
            }
            status
        }
        12 => {
            for _ in 0..5 {
                client.send(request("GET", "/whole", &[], b""));
            }
            client.answer().status
        }
        _ if way.is_multiple_of(10) => ask("GET", "/never"),
        _ => ask("GET", "/whole"),
    };
    *answers.entry(status).or_default() += 1;
}

/// The same over HTTP/2: whole, reset before the answer and in the middle of it.
async fn ask_by_http2(mut requests: h2::client::SendRequest<Bytes>, turns: usize) {
    for turn in 0..turns {
        let path = ["/whole", "/never", "/endless", "/chunks"][turn % 4];
        let question = http::Request::get(format!("http://app.test{path}")).body(()).expect("a request");
        requests = requests.ready().await.expect("a connection");
        let (answer, mut stream) = requests.send_request(question, true).expect("a stream");
        match turn % 4 {
            1 => stream.send_reset(Reason::CANCEL),
            2 => {
                let mut content = answer.await.expect("an answer").into_body();
                http2_app::piece(&mut content).await.expect("its beginning");
                stream.send_reset(Reason::CANCEL);
            }
            _ => {
                let mut content = answer.await.expect("an answer").into_body();
                while http2_app::piece(&mut content).await.is_some() {}
            }
        }
    }
}

#[test]
fn however_requests_end_nothing_is_left_of_them() {
    let redis = RedisServer::start();
    let every = "[limit.few]\nkey = \"address\"\nin_flight = 100\n[limit.wide]\nkey = \"route\"\nin_flight = 1000\n\
                 [limit.once]\nkey = \"address\"\nquota = \"1 per hour\"\n[session.web]\nformat = \"json\"\n\
                 [[route]]\npath = \"/once/{*rest}\"\nlimits = [\"few\", \"once\", \"wide\"]\n\
                 [[route]]\npath = \"/private/{*rest}\"\nsession = \"web\"\nlimits = [\"few\"]\n\
                 [[route]]\npath = \"/{*rest}\"\nlimits = [\"few\", \"wide\"]\n";
    let without_session = every.replace("[session.web]\nformat = \"json\"\n", "").replace("session = \"web\"\n", "");
    for over_redis in [false, true] {
        let app = Origin::scripted(of_all_ways);
        let config = Configuration::of(&app).server("http2 = { max_resets = 10000, max_stream_errors = 10000 }");
        let config = config.upstream("timeouts = { first_byte = \"200ms\" }");
        let config = if over_redis { config.redis(&redis).with(every) } else { config.with(&without_session) };
        let sidegate = config.start();
        let answers = thread::scope(|scope| {
            let one = |number: usize| {
                let sidegate = &sidegate;
                move || {
                    let mut answers = BTreeMap::new();
                    (0..14 * 10).for_each(|turn| ask_in_way(number + turn, sidegate, &mut answers));
                    answers
                }
            };
            let by_http2 =
                scope.spawn(|| http2_app::client(sidegate.address(), |requests| ask_by_http2(requests, 100)));
            let threads: Vec<_> = (0..8).map(|number| scope.spawn(one(number))).collect();
            let mut all = BTreeMap::<u16, usize>::new();
            for thread in threads {
                for (status, count) in thread.join().expect("a client") {
                    *all.entry(status).or_default() += count;
                }
            }
            by_http2.join().expect("a client of HTTP/2");
            all
        });
        for status in [101, 200, 204, 429, 502, 504] {
            assert!(answers.contains_key(&status), "{status}: {answers:?}");
        }
        assert!(!over_redis || answers.contains_key(&401), "{answers:?}");
        until("nothing is in flight here", || {
            in_flight(&sidegate) == 0.0 && sidegate.metric("sidegate_limit_in_flight{limit=\"wide\"}") == 0.0
        });
        until("nothing is left in Redis", || places(&redis) == 0);
        assert_eq!(sidegate.get("/whole").status, 200);
    }
}

/// An app that counts how many requests it is answering; it stops before its answer, or its failure, can have been heard of.
fn counting(most: &Arc<AtomicUsize>) -> Origin {
    let (now, most) = (Arc::new(AtomicUsize::new(0)), most.clone());
    Origin::scripted(move |wire| {
        while let Some(request) = wire.request()? {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            thread::sleep(std::time::Duration::from_millis(fastrand::u64(..6)));
            let (breaks, rest) = (request.path() == "/break", "a\r\nthe second\r\n0\r\n\r\n");
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")?;
            thread::sleep(std::time::Duration::from_millis(fastrand::u64(..3)));
            now.fetch_sub(1, Ordering::SeqCst);
            if breaks {
                return Ok(());
            }
            wire.send(rest.as_bytes())?;
        }
        Ok(())
    })
}

#[test]
fn instances_on_one_redis_never_let_more_in_together_than_the_limit_says() {
    let redis = RedisServer::start();
    let most = Arc::new(AtomicUsize::new(0));
    let app = counting(&most);
    let config = Configuration::of(&app).redis(&redis).with(&tables(5, ""));
    let instances = [(); 3].map(|()| config.start());
    let answers = thread::scope(|scope| {
        let threads: Vec<_> = (0..12)
            .map(|number: usize| {
                let sidegate = &instances[number % 3];
                scope.spawn(move || {
                    let mut answers = BTreeMap::<u16, usize>::new();
                    for _ in 0..120 {
                        let path = if fastrand::u8(..8) == 0 { "/break" } else { "/" };
                        let status = status_of(sidegate.client().send(request("GET", path, &[], b"")), "GET");
                        *answers.entry(status).or_default() += 1;
                    }
                    answers
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a client")).collect::<Vec<_>>()
    });
    let of = |status| answers.iter().filter_map(|answers| answers.get(&status)).sum::<usize>();
    assert_eq!(of(0) + of(200) + of(429), 12 * 120, "{answers:?}");
    assert!(of(429) > 0, "there was room for everybody: nothing was tested");
    let most = most.load(Ordering::SeqCst);
    assert!((2..=5).contains(&most), "{most} of 5 at once");
    until("nothing is left", || places(&redis) == 0);
}

#[test]
fn what_an_instance_had_in_flight_when_it_was_killed_is_free_after_its_life() {
    let redis = RedisServer::start();
    let gate = Gate::default();
    let (app, begun) = gated(&gate);
    let config = Configuration::of(&app).redis(&redis).with(&tables(2, "in_flight_life = \"1s\""));
    let (mut one, other) = (config.start(), config.start());
    let clients = waiting(&one, &begun, 2);
    let key = redis.ask::<Vec<String>>(&["KEYS", "sidegate:limit:*:flight"]).expect("keys").remove(0);
    let ends = || redis.ask::<Vec<(String, u64)>>(&["ZRANGE", &key, "0", "-1", "WITHSCORES"]).expect("places");
    let first = ends().iter().map(|(_, end)| *end).max().expect("an end");
    until("their life is over, had nobody renewed it", || ends().iter().all(|(_, end)| *end > first + 1_000));
    assert_eq!(other.get("/").status, 429);

    one.signal(libc::SIGKILL);
    one.wait();
    drop(clients);
    until("their places are free", || other.get("/").status == 200);
    gate.open();
}

#[test]
fn a_process_that_stops_takes_back_what_it_has_to_break_off() {
    let redis = RedisServer::start();
    let gate = Gate::default();
    let (app, begun) = gated(&gate);
    let config = Configuration::of(&app).server("grace_period = \"200ms\"\ndrain_linger = \"0s\"");
    let mut sidegate = config.redis(&redis).with(&tables(9, "")).start();
    let clients = waiting(&sidegate, &begun, 2);
    assert_eq!(places(&redis), 2);
    sidegate.terminate();
    assert_eq!(places(&redis), 0);
    gate.open();
    drop(clients);
}

#[test]
fn a_websocket_is_in_flight_until_it_ends() {
    let redis = RedisServer::start();
    let app = Origin::scripted(of_all_ways);
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables(1, "")).start();
    let mut client = sidegate.client();
    client.send(SWITCH).read_until("hello");
    assert_eq!((sidegate.get("/whole").status, in_flight(&sidegate)), (429, 1.0));
    drop(client);
    until("it has ended", || in_flight(&sidegate) == 0.0 && places(&redis) == 0);
    assert_eq!(sidegate.get("/whole").status, 200);
}

#[test]
fn a_limit_in_shadow_refuses_nobody_and_counts_whom_it_would_have() {
    let redis = RedisServer::start();
    let gate = Gate::default();
    let (app, begun) = gated(&gate);
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables(1, "shadow = true")).start();
    let clients = waiting(&sidegate, &begun, 4);
    assert_eq!(places(&redis), 1, "as if the others had been refused");
    let answer = sidegate.get("/");
    assert_eq!((answer.status, answer.field("ratelimit")), (200, None), "{answer:?}");
    let refused = "sidegate_limit_decisions_total{limit=\"few\",outcome=\"shadow_refused\"}";
    assert_eq!(sidegate.metric(refused), 4.0);
    gate.open();
    drop(clients);
    until("nothing is left", || places(&redis) == 0);
}

#[test]
fn an_outage_shuts_nobody_out_for_a_limit_that_only_watches() {
    let mut redis = RedisServer::start();
    let gate = Gate::default();
    let (app, begun) = gated(&gate);
    let tables = tables(1, "shadow = true") + "[limits]\non_outage = \"closed\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let clients = waiting(&sidegate, &begun, 1);
    redis.kill();
    until("sidegate does without", || sidegate.metric("sidegate_redis_up") == 0.0);
    assert_eq!([(); 3].map(|()| sidegate.get("/").status), [200; 3]);
    let line = sidegate.access_log(|line| line["status"] == 200);
    assert!(line["limit"].is_null() && line["counted"].is_null(), "{line}");
    gate.open();
    drop(clients);
    until("nothing is left", || in_flight(&sidegate) == 0.0);
}

#[test]
fn an_outage_that_lets_all_in_is_told_in_the_access_log() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let tables = tables(1, "") + "[limits]\non_outage = \"open\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    redis.kill();
    until("sidegate does without", || sidegate.metric("sidegate_redis_up") == 0.0);
    assert_eq!(sidegate.get("/open").status, 200);
    let line = sidegate.access_log(|line| line["target"] == "/open");
    assert_eq!((&line["limit"], &line["counted"]), (&"few".into(), &"open".into()), "{line}");
}

#[test]
fn operators_are_told_who_is_refused_most() {
    let gate = Gate::default();
    let (app, begun) = gated(&gate);
    let sidegate = Configuration::of(&app).with(&tables(1, "")).start();
    let mut clients = waiting(&sidegate, &begun, 1);
    assert_eq!([(); 3].map(|()| sidegate.get("/").status), [429; 3]);
    let said = sidegate.ask_admin("/limits/few/top").json();
    let top = said["top"].as_array().expect("a list");
    assert_eq!(top.iter().map(|row| row["refused"].as_u64()).collect::<Vec<_>>(), [Some(3)], "{said}");
    gate.open();
    assert_eq!(clients[0].answer().status, 200);
}

#[test]
fn each_user_may_have_so_many_in_flight_over_all_sessions() {
    let redis = RedisServer::start();
    for (id, user) in [("alice-at-home-000", "alice"), ("alice-at-work-000", "alice"), ("bob-at-home-0000", "bob")] {
        let record = format!("{{\"user_id\":{user:?}}}");
        redis.ask::<()>(&["SET", &format!("session:{id}"), &record]).expect("a record");
    }
    let gate = Gate::default();
    let (app, begun) = gated(&gate);
    let tables = "[session.web]\nformat = \"json\"\n[limit.few]\nkey = \"session:user_id\"\nin_flight = 1\n\
                  [limit.many]\nkey = \"session:user_id\"\nquota = \"2 per hour\"\n\
                  [[route]]\npath = \"/{*rest}\"\nsession = \"web\"\nlimits = [\"few\", \"many\"]\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let ask = |id: &str, target: &str| request("GET", target, &[("Authorization", &format!("Bearer {id}"))], b"");
    let status = |id: &str| sidegate.client().send(ask(id, "/")).answer().status;
    let mut alice = sidegate.client();
    alice.send(ask("alice-at-home-000", "/gate"));
    until("her request is with the app", || begun.load(Ordering::SeqCst) == 1);
    assert_eq!([status("alice-at-work-000"), status("bob-at-home-0000")], [429, 200]);
    gate.open();
    assert_eq!(alice.answer().status, 200);
    until("her place is free", || places(&redis) == 0);
    assert_eq!(status("alice-at-work-000"), 200, "what was refused for its number was not charged");
}

#[test]
fn without_redis_each_instance_has_its_share_or_lets_all_in_or_none() {
    for (on_outage, statuses) in [("local", [200, 429]), ("open", [200, 200]), ("closed", [503, 503])] {
        let mut redis = RedisServer::start();
        let gate = Gate::default();
        let (app, begun) = gated(&gate);
        let tables = tables(3, "") + &format!("[limits]\non_outage = {on_outage:?}\n");
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
        let mut clients = waiting(&sidegate, &begun, 2);
        redis.kill();
        until("sidegate does without", || sidegate.metric("sidegate_redis_up") == 0.0);
        let mut another = sidegate.client();
        another.send(request("GET", "/gate", &[], b""));
        if statuses[0] == 200 {
            until("it is with the app", || begun.load(Ordering::SeqCst) == 3);
        }
        assert_eq!(sidegate.get("/").status, statuses[1], "{on_outage}");
        let held = if statuses[0] == 200 { 3 } else { 2 };
        assert_eq!(in_flight(&sidegate), f64::from(held));
        redis.restart();
        until("Redis is told of all that are in flight", || places(&redis) == held as usize);
        gate.open();
        assert_eq!(another.answer().status, statuses[0], "{on_outage}");
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
        until("nothing is left", || places(&redis) == 0 && in_flight(&sidegate) == 0.0);
    }
}

#[test]
fn who_is_exempt_or_has_no_key_is_not_counted_or_refused_as_the_limit_says() {
    let redis = RedisServer::start();
    let gate = Gate::default();
    let (app, begun) = gated(&gate);
    let tables = "[limit.few]\nkey = \"header:X-Key\"\nin_flight = 1\nmissing = \"skip\"\nexempt = { keys = [\"ours\"] }\n\
                  [limit.named]\nkey = \"header:X-Key\"\nin_flight = 1\nmissing = \"refuse\"\n\
                  [limit.many]\nkey = \"address\"\nquota = \"2 per hour\"\n\
                  [[route]]\npath = \"/gate\"\nlimits = [\"few\"]\n[[route]]\npath = \"/named\"\nlimits = [\"named\", \"many\"]\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let keyed = |key: &str, target: &str| request("GET", target, &[("X-Key", key)], b"");
    let mut clients = Vec::new();
    for (number, question) in
        [keyed("ours", "/gate"), keyed("ours", "/gate"), request("GET", "/gate", &[], b""), keyed("a", "/gate")]
            .into_iter()
            .enumerate()
    {
        let mut client = sidegate.client();
        client.send(question);
        clients.push(client);
        until("it is with the app", || begun.load(Ordering::SeqCst) == number + 1);
    }
    assert_eq!((places(&redis), in_flight(&sidegate)), (1, 1.0));
    assert_eq!(sidegate.client().send(keyed("a", "/gate")).answer().status, 429);
    gate.open();
    for _ in 0..5 {
        let answer = sidegate.get("/named");
        assert_eq!((answer.status, &answer.json()["limit"]), (400, &"named".into()), "{answer:?}");
    }
    for _ in 0..2 {
        let answer = sidegate.client().send(keyed("b", "/named")).answer();
        assert_eq!(answer.status, 200, "what was refused was not charged: {answer:?}");
        // Another worker may ask before Redis has heard of the end.
        until("its end is told", || places(&redis) == 0);
    }
    drop(clients);
    until("nothing is left", || places(&redis) == 0);
}

#[test]
fn a_reload_forgets_nobody_who_is_in_flight() {
    let redis = RedisServer::start();
    for over_redis in [false, true] {
        let gate = Gate::default();
        let (app, begun) = gated(&gate);
        let config = Configuration::of(&app);
        let config = if over_redis { config.redis(&redis) } else { config };
        let of = |most| config.clone().with(&tables(most, ""));
        let mut sidegate = of(2).start();
        let mut clients = waiting(&sidegate, &begun, 2);
        sidegate.reload(&of(1).text());
        assert_eq!(sidegate.get("/").status, 429);
        sidegate.reload(&of(3).text());
        assert_eq!(sidegate.get("/").status, 200);
        gate.open();
        clients.iter_mut().for_each(|client| assert_eq!(client.answer().status, 200));
        until("nothing is left", || places(&redis) == 0 && in_flight(&sidegate) == 0.0);
    }
}
