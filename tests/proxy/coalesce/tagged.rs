//! Answers that a purge by tag may take back: one fetch for all, and nobody is given what was purged.

use super::*;

const TAGGED: &[u8] = b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nCache-Tag: hot\r\nContent-Length: 8\r\n\r\n";

fn purge(sidegate: &Sidegate, tag: &str) {
    let body = format!("{{\"tags\":[\"{tag}\"]}}");
    let fields = [("Host", sidegate.admin()), ("Content-Type", "application/json")];
    let answer = Client::to(sidegate.admin()).ask("POST", "/cache/purge", &fields, body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn hot(gate: &Gate) -> Origin {
    let held = gate.clone();
    Origin::answering(move |_| {
        held.pass(1);
        Reply::text("hot").field("Cache-Control", "max-age=60").field("Cache-Tag", "hot, cold")
    })
}

#[test]
fn many_who_ask_for_one_cold_url_wait_until_it_is_stored() {
    const CLIENTS: usize = 200;
    for (store, scope) in [("memory", "process"), ("redis", "process"), ("redis", "fleet")] {
        let (gate, redis) = (Gate::default(), RedisServer::start());
        let app = hot(&gate);
        let config = Configuration::of(&app).with(&pages(&format!("coalesce = {scope:?}")));
        let config = if store == "redis" { config.redis(&redis).redis_lines("timeout = \"10s\"") } else { config };
        let sidegate = config.start();
        let target = format!("/{scope}");
        let mut clients: Vec<_> = (0..CLIENTS).map(|_| asking(&sidegate, &target)).collect();
        waiting_for_one(&sidegate, CLIENTS);
        gate.open(1);
        assert!(clients.iter_mut().all(|client| client.answer().text() == "hot"), "{store}");
        assert_eq!(app.count(), 1, "{store} {scope}");
        // Nor is the next one's answer held to be for itself alone.
        purge(&sidegate, "hot");
        let mut again: Vec<_> = (0..CLIENTS).map(|_| asking(&sidegate, &target)).collect();
        assert!(again.iter_mut().all(|client| client.answer().text() == "hot"));
        assert_eq!(app.count(), 2, "{store} {scope}");
    }
}

#[test]
fn many_who_wait_for_what_another_instance_has_purged_ask_once_more_and_not_each() {
    const CLIENTS: usize = 100;
    let (gate, redis) = (Gate::default(), RedisServer::start());
    let app = hot(&gate);
    let config = || Configuration::of(&app).with(&pages("")).redis(&redis).redis_lines("timeout = \"10s\"");
    let [one, other] = [(); 2].map(|()| config().start());
    purge(&one, "hot");
    let mut clients: Vec<_> = (0..CLIENTS).map(|_| asking(&other, "/page")).collect();
    waiting_for_one(&other, CLIENTS);
    gate.open(1);
    assert!(clients.iter_mut().all(|client| client.answer().text() == "hot"));
    // The first answer is not kept: its fetch may have begun before that purge, as far as this instance can tell.
    assert_eq!(app.count(), 2);
}

#[test]
fn who_waits_is_given_content_that_comes_slowly_once_all_of_it_is_there() {
    let redis = RedisServer::start();
    for over_redis in [false, true] {
        let gate = Gate::default();
        let app = in_steps(&gate, TAGGED, &[b"half", b"rest"]);
        let config = Configuration::of(&app).with(&pages(""));
        let sidegate = if over_redis { config.redis(&redis) } else { config }.start();
        let mut first = asking(&sidegate, "/slow");
        until("the app is asked", || app.count() == 1);
        gate.open(1);
        assert_eq!(first.head().status, 200);
        assert_eq!(first.exactly(4), b"half");
        let mut others = [(); 3].map(|()| asking(&sidegate, "/slow"));
        waiting_for_one(&sidegate, 4);
        gate.open(3);
        assert_eq!(first.exactly(4), b"rest");
        for client in &mut others {
            let answer = client.answer();
            assert_eq!((answer.text().as_str(), answer.field("x-cache")), ("halfrest", Some("HIT")));
        }
        assert_eq!(app.count(), 1, "over Redis: {over_redis}");
    }
}

#[test]
fn if_the_client_leaves_whose_request_went_to_the_app_another_asks() {
    let gate = Gate::default();
    let app = in_steps(&gate, TAGGED, &[b"half", b"rest"]);
    let sidegate = Configuration::of(&app).with(&pages("")).start();
    let mut first = asking(&sidegate, "/left");
    until("the app is asked", || app.count() == 1);
    gate.open(1);
    assert_eq!(first.head().status, 200);
    let mut others = [(); 3].map(|()| asking(&sidegate, "/left"));
    waiting_for_one(&sidegate, 4);
    drop(first);
    until("the app is asked by another", || app.count() == 2);
    gate.open(3);
    assert!(others.iter_mut().all(|client| client.answer().text() == "halfrest"));
    assert_eq!(app.count(), 2);
}

#[test]
fn what_grows_beyond_what_may_be_stored_is_waited_for_no_more() {
    let gate = Gate::default();
    let app = in_steps(
        &gate,
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nCache-Tag: hot\r\nTransfer-Encoding: chunked\r\n\r\n",
        &[b"4\r\nhalf\r\n", b"8\r\n and more\r\n", b"0\r\n\r\n"],
    );
    let sidegate = Configuration::of(&app).with(&pages("max_body = \"8B\"")).start();
    let mut first = asking(&sidegate, "/large");
    until("the app is asked", || app.count() == 1);
    gate.open(1);
    assert_eq!(first.head().status, 200);
    let others = [(); 3].map(|()| asking(&sidegate, "/large"));
    waiting_for_one(&sidegate, 4);
    assert_eq!(app.count(), 1);
    gate.open(2);
    until("each asks for itself", || app.count() == 4);
    gate.open(usize::MAX);
    drop((first, others));
}

#[test]
fn whoever_asks_after_a_purge_is_not_given_what_was_under_way() {
    let redis = RedisServer::start();
    for over_redis in [false, true] {
        let gate = Gate::default();
        let (held, number) = (gate.clone(), AtomicUsize::new(0));
        let app = Origin::answering(move |_| {
            let tagged = |text: &str| Reply::text(text).field("Cache-Control", "max-age=60").field("Cache-Tag", "hot");
            if number.fetch_add(1, Ordering::SeqCst) == 0 {
                held.pass(1);
                return tagged("before");
            }
            tagged("after")
        });
        let config = Configuration::of(&app).with(&pages(""));
        let sidegate = if over_redis { config.redis(&redis) } else { config }.start();
        let mut before = asking(&sidegate, "/page");
        until("the app is asked", || app.count() == 1);
        purge(&sidegate, "hot");
        let mut after = [(); 3].map(|()| asking(&sidegate, "/page"));
        in_flight(&sidegate, 4);
        gate.open(1);
        assert_eq!(before.answer().text(), "before");
        assert!(after.iter_mut().all(|client| client.answer().text() == "after"), "over Redis: {over_redis}");
        assert_eq!(app.count(), 2, "over Redis: {over_redis}");
    }
}

#[test]
fn what_a_304_gives_a_tag_is_not_handed_on_once_that_tag_is_purged() {
    let redis = RedisServer::start();
    for over_redis in [false, true] {
        let gate = Gate::default();
        let (held, number) = (gate.clone(), AtomicUsize::new(0));
        let app = Origin::answering(move |_| match number.fetch_add(1, Ordering::SeqCst) {
            0 => Reply::text("old").field("ETag", "\"1\"").field("Cache-Control", "max-age=0").field("Cache-Tag", "a"),
            1 => {
                held.pass(1);
                let reply = Reply::text("").status("304 Not Modified").field("ETag", "\"1\"");
                reply.field("Cache-Control", "max-age=60").field("Cache-Tag", "b")
            }
            _ => Reply::text("new").field("ETag", "\"2\"").field("Cache-Control", "max-age=60").field("Cache-Tag", "b"),
        });
        let config = Configuration::of(&app).with(&pages("hit_for_miss = \"0s\""));
        let sidegate = if over_redis { config.redis(&redis) } else { config }.start();
        assert_eq!(sidegate.get("/page").text(), "old");
        if over_redis {
            let stored = || redis.ask::<Vec<String>>(&["KEYS", "sidegate:cache:{app.test/page}:*"]).expect("keys");
            until("it is stored", || stored().len() >= 2);
        }
        let mut before = asking(&sidegate, "/page");
        until("the app is asked whether it holds", || app.count() == 2);
        purge(&sidegate, "b");
        let mut after = asking(&sidegate, "/page");
        in_flight(&sidegate, 2);
        gate.open(1);
        assert_eq!(before.answer().text(), "old");
        assert_eq!(after.answer().text(), "new", "over Redis: {over_redis}");
    }
}
