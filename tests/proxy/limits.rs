//! Quotas, as clients meet them.

mod after;
mod delay;
mod forwarded;
mod shadow;
mod whom;

use crate::harness::{Answer, Configuration, Load, Origin, RedisServer, Sidegate, client::request, until};

/// Five requests an hour for each address: no unit comes back while a test runs.
const FIVE: &str =
    "[limit.five]\nkey = \"address\"\nquota = \"5 per hour\"\n[[route]]\npath = \"/{*rest}\"\nlimits = [\"five\"]\n";

/// Runs a test over each store.
fn over_both(test: impl Fn(&dyn Fn(&Origin) -> Configuration)) {
    test(&Configuration::of);
    let redis = RedisServer::start();
    test(&|app| Configuration::of(app).redis(&redis));
}

fn keys(redis: &RedisServer, pattern: &str) -> Vec<String> {
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    redis::cmd("KEYS").arg(pattern).query(&mut connection).expect("keys")
}

/// How often a limit decided so.
fn decisions(sidegate: &Sidegate, limit: &str, outcome: &str) -> f64 {
    sidegate.metric(&format!("sidegate_limit_decisions_total{{limit={limit:?},outcome={outcome:?}}}"))
}

fn is_refusal(answer: &Answer) -> bool {
    let retry = answer.number("retry-after");
    answer.status == 429
        && (1..=3600).contains(&retry)
        && answer.field("content-type") == Some("application/problem+json")
        && answer.json()["limit"] == "five"
}

#[test]
fn every_answer_says_what_is_left_and_the_one_too_many_is_refused() {
    over_both(|config| {
        let app = Origin::answering(|request| {
            crate::harness::Reply::text("").status(if request.target == "/404" { "404 Not Found" } else { "200 OK" })
        });
        let sidegate = config(&app).with(FIVE).start();
        let mut client = sidegate.client();
        for left in (0..5).rev() {
            let answer = client.get(if left == 2 { "/404" } else { "/" });
            assert_eq!(answer.status, if left == 2 { 404 } else { 200 });
            assert_eq!((answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining")), (5, left));
            assert!(answer.number("x-ratelimit-reset") > 1_500_000_000, "Unix seconds: {answer:?}");
            let policy = answer.field("ratelimit-policy").expect("RateLimit-Policy");
            assert!(policy.starts_with("\"five\";q=5"), "{policy}");
            let state = answer.field("ratelimit").expect("RateLimit");
            assert!(state.starts_with(&format!("\"five\";r={left}")), "{state}");
        }
        let refusal = client.get("/");
        assert!(is_refusal(&refusal), "{refusal:?}");
        assert_eq!(refusal.number("x-ratelimit-remaining"), 0);
        assert_eq!(app.count(), 5, "what is refused does not reach the app");
        assert_eq!(client.get("/").status, 429, "the connection lives on");
    });
}

#[test]
fn a_refusal_is_counted_and_logged_with_its_limit() {
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).with(FIVE).start();
    let mut client = sidegate.client();
    (0..6).for_each(|_| drop(client.get("/")));
    let line = sidegate.access_log(|line| line["status"] == 429);
    assert_eq!((&line["limit"], &line["limit_remaining"]), (&"five".into(), &0.into()));
    assert_eq!((decisions(&sidegate, "five", "allowed"), decisions(&sidegate, "five", "refused")), (5.0, 1.0));
}

#[test]
fn each_address_has_its_own_quota() {
    over_both(|config| {
        let app = Origin::saying("app");
        let sidegate = config(&app).server("trusted_proxies = [\"127.0.0.1\"]").with(FIVE).start();
        let mut client = sidegate.client();
        let mut status = |address: &str| client.get_with("/", &[("X-Forwarded-For", address)]).status;
        assert_eq!([(); 6].map(|()| status("203.0.113.1")), [200, 200, 200, 200, 200, 429]);
        assert_eq!(status("203.0.113.2"), 200);
        assert_eq!([(); 5].map(|()| status("2001:db8::1")), [200; 5]);
        assert_eq!(status("2001:db8::2"), 429, "one /64 is one client");
        assert_eq!(status("2001:db8:0:1::1"), 200);
    });
}

#[test]
fn each_key_in_a_field_has_its_own_quota_and_leaving_it_out_evades_nothing() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = FIVE.replace("\"address\"", "\"header:X-Api-Key\"");
        let sidegate = config(&app).with(&tables).start();
        let mut client = sidegate.client();
        let mut status = |key: &str| client.get_with("/", &[("X-Api-Key", key)]).status;
        assert_eq!([(); 6].map(|()| status("one")), [200, 200, 200, 200, 200, 429]);
        assert_eq!(status("two"), 200);
        assert_eq!([(); 6].map(|()| client.get("/").status), [200, 200, 200, 200, 200, 429]);
    });
}

#[test]
fn each_user_has_a_quota_over_all_their_sessions() {
    let redis = RedisServer::start();
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    for (id, user) in [("alice-at-home-000", "alice"), ("alice-at-work-000", "alice"), ("bob-at-home-0000", "bob")] {
        let record = format!("{{\"user_id\":{user:?}}}");
        redis::cmd("SET").arg(format!("session:{id}")).arg(record).exec(&mut connection).expect("a record");
    }
    let app = Origin::saying("app");
    let tables = "[session.web]\nformat = \"json\"\n[limit.five]\nkey = \"session:user_id\"\nquota = \"5 per hour\"\n\
                  [[route]]\npath = \"/{*rest}\"\nsession = \"web\"\nlimits = [\"five\"]\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(tables).start();
    let mut client = sidegate.client();
    let mut status = |id: &str| client.get_with("/", &[("Authorization", &format!("Bearer {id}"))]).status;
    assert_eq!([(); 3].map(|()| status("alice-at-home-000")), [200; 3]);
    assert_eq!([(); 3].map(|()| status("alice-at-work-000")), [200, 200, 429]);
    assert_eq!(status("bob-at-home-0000"), 200);
}

#[test]
fn of_two_limits_the_one_that_refuses_charges_neither() {
    over_both(|config| {
        let app = Origin::saying("app");
        let tables = "[limit.wide]\nkey = \"address\"\nquota = \"20 per hour\"\n\
                      [limit.narrow]\nkey = \"header:X-Api-Key\"\nquota = \"2 per hour\"\n\
                      [[route]]\npath = \"/{*rest}\"\nlimits = [\"wide\", \"narrow\"]\n";
        let sidegate = config(&app).with(tables).start();
        let mut client = sidegate.client();
        let mut ask = |key: &str| client.get_with("/", &[("X-Api-Key", key)]);
        assert_eq!([(); 9].map(|()| ask("one").status), [200, 200, 429, 429, 429, 429, 429, 429, 429]);
        // Two spent of the wide one, not nine: nine others pass two each.
        let others: Vec<_> =
            (0..9).flat_map(|key| [ask(&format!("key-{key}")).status, ask(&format!("key-{key}")).status]).collect();
        assert_eq!(others, [200; 18]);
        assert_eq!(ask("last").status, 429);
    });
}

#[test]
fn a_limit_holds_however_many_connections_ask_at_once() {
    over_both(|config| {
        let app = Origin::saying("app");
        let sidegate = config(&app).with(&FIVE.replace("5 per hour", "50 per hour")).start();
        let load = Load::start(sidegate.address(), 8, |_, _| request("GET", "/", &[], b""), |_| true);
        load.wait_for_more(150);
        let tally = load.finish();
        assert_eq!(tally.answers[&200], 50, "{tally:?}");
        assert_eq!(app.count(), 50);
        assert!(tally.failures.is_empty(), "{tally:?}");
    });
}

#[test]
fn two_sidegates_on_one_redis_share_a_quota_exactly() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    let config = Configuration::of(&app).redis(&redis).with(&FIVE.replace("5 per hour", "50 per hour"));
    let (one, two) = (config.start(), config.start());
    let loads =
        [&one, &two].map(|sidegate| Load::start(sidegate.address(), 4, |_, _| request("GET", "/", &[], b""), |_| true));
    loads.iter().for_each(|load| load.wait_for_more(80));
    let tallies = loads.map(Load::finish);
    let passed: u64 = tallies.iter().map(|tally| tally.answers.get(&200).copied().unwrap_or_default()).sum();
    assert_eq!((passed, app.count()), (50, 50), "{tallies:?}");
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    for key in keys(&redis, "sidegate:limit:*") {
        let life: i64 = redis::cmd("TTL").arg(&key).query(&mut connection).expect("a TTL");
        assert!((1..=3601).contains(&life), "{key} lives for {life}");
    }
}

#[test]
fn keys_in_redis_do_not_give_clients_secrets_away() {
    let redis = RedisServer::start();
    let app = Origin::saying("app");
    let tables = FIVE.replace("\"address\"", "\"header:X-Api-Key\"");
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    assert_eq!(sidegate.client().get_with("/", &[("X-Api-Key", "very-secret")]).status, 200);
    let keys = keys(&redis, "sidegate:limit:*");
    assert!(keys.len() == 1 && keys[0].starts_with("sidegate:limit:{five:"), "{keys:?}");
    assert!(!keys[0].contains("very-secret"), "{keys:?}");
}

#[test]
fn without_redis_limits_go_on_in_the_process_and_return_with_it() {
    let mut redis = RedisServer::start();
    let app = Origin::saying("app");
    let sidegate = Configuration::of(&app).redis(&redis).with(FIVE).start();
    let mut client = sidegate.client();
    until("a count in Redis", || client.get("/").status < 500 && !keys(&redis, "sidegate:limit:*").is_empty());
    redis.kill();
    let mut statuses = Vec::new();
    for _ in 0..20 {
        let answer = client.get("/");
        assert!(answer.fields.has("x-ratelimit-remaining"), "{answer:?}");
        statuses.push(answer.status);
    }
    assert!(statuses.iter().all(|status| matches!(status, 200 | 429)), "{statuses:?}");
    assert_eq!(statuses.last(), Some(&429), "the local count refuses as well");
    redis.restart();
    until("a count in Redis again", || {
        assert!(client.get("/").status < 500);
        !keys(&redis, "sidegate:limit:*").is_empty()
    });
}

#[test]
fn what_limits_do_without_redis_is_the_operators_choice() {
    for (choice, expected) in [("open", 200), ("closed", 503)] {
        let mut redis = RedisServer::start();
        let app = Origin::saying("app");
        let tables = format!("[limits]\non_outage = {choice:?}\n{FIVE}");
        let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
        redis.kill();
        let mut client = sidegate.client();
        for _ in 0..10 {
            let answer = client.get("/");
            assert_eq!(answer.status, expected, "{choice}");
            assert!(expected == 200 || answer.number("retry-after") >= 1);
        }
    }
}
