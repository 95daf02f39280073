//! Quotas of single clients, given and taken by redis-cli.

use std::collections::HashSet;

use crate::harness::sidegate::run;
use crate::harness::{
    Answer, Client, Configuration, Directory, Load, Origin, RedisServer, Sidegate, client::request, until,
};

const KEY: &str = "0123456789-key-of-alice";

/// Ten calls an hour for everybody: no unit comes back while a test runs.
const TABLES: &str = r#"
[plan.api]
key = "header:X-API-Key"
record = "sidegate:plan:{key}"

[limit.calls]
key = "header:X-API-Key"
quota = "10 per hour"
precision = "exact"
plan = "api"

[limit.uploads]
key = "header:X-API-Key"
quota = "2 per hour"
precision = "exact"
plan = "api"

[[route]]
path = "/{*rest}"
limits = ["calls"]

[[route]]
path = "/uploads"
limits = ["calls", "uploads"]
"#;

fn give(redis: &RedisServer, words: &[&str]) {
    let _: redis::Value = redis.ask(words).expect("Redis does as it is told");
}

fn ask(client: &mut Client, key: &str) -> Answer {
    client.get_with("/", &[("X-API-Key", key)])
}

/// Status, quota and what is left of it.
fn told(answer: &Answer) -> (u16, u64, u64) {
    (answer.status, answer.number("x-ratelimit-limit"), answer.number("x-ratelimit-remaining"))
}

fn lookups(sidegate: &Sidegate, outcome: &str) -> f64 {
    sidegate.metric(&format!("sidegate_plan_lookups_total{{plan=\"api\",outcome=\"{outcome}\"}}"))
}

/// How often records have been asked for, as Redis has counted.
fn asked(redis: &RedisServer) -> u64 {
    let counts: String = redis.ask(&["INFO", "commandstats"]).expect("INFO");
    let line = counts.lines().find_map(|line| line.strip_prefix("cmdstat_hgetall:calls="));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

fn is_told(sidegate: &Sidegate) {
    until("changes are told", || sidegate.metric("sidegate_near_in_use{mode=\"tracking\"}") == 1.0);
}

#[test]
fn what_redis_cli_gives_a_client_acts_on_two_processes_with_its_next_request() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let configuration = Configuration::of(&app).redis(&redis).with(TABLES);
    let instances = [configuration.start(), configuration.start()];
    instances.iter().for_each(is_told);
    let mut clients = instances.each_ref().map(Sidegate::client);
    assert_eq!(told(&ask(&mut clients[0], KEY)), (200, 10, 9));
    assert_eq!(told(&ask(&mut clients[1], KEY)), (200, 10, 8));

    let record = format!("sidegate:plan:{KEY}");
    give(&redis, &["HSET", &record, "quota", "1000 per hour"]);
    for turn in 0..4 {
        let (status, quota, left) = told(&ask(&mut clients[turn % 2], KEY));
        assert_eq!((status, quota), (200, 1000));
        // A fifth of the old quota was spent, and so is a fifth of the new one.
        assert!((780..=800).contains(&left), "{left}");
    }
    give(&redis, &["HSET", &record, "quota", "500 per hour", "burst", "3"]);
    for client in &mut clients {
        assert_eq!(ask(client, KEY).number("x-ratelimit-limit"), 500);
    }
    give(&redis, &["DEL", &record]);
    for client in &mut clients {
        assert_eq!(ask(client, KEY).number("x-ratelimit-limit"), 10, "the limit's own");
        assert_eq!(told(&ask(client, "another-key")).1, 10);
    }
}

#[test]
fn a_hot_client_s_plan_costs_no_trip_and_a_limit_of_its_own_name_has_its_own_quota() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let record = format!("sidegate:plan:{KEY}");
    give(&redis, &["HSET", &record, "quota", "1000 per hour", "burst", "500", "uploads.quota", "1 per hour"]);
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    is_told(&sidegate);
    let mut client = sidegate.client();
    until("nothing is asked", || {
        let before = asked(&redis);
        ask(&mut client, KEY).status == 200 && asked(&redis) == before
    });
    let (before, trips, hits) =
        (asked(&redis), sidegate.metric("sidegate_redis_round_trips_total"), lookups(&sidegate, "hit"));
    for _ in 0..20 {
        assert_eq!(ask(&mut client, KEY).status, 200);
    }
    assert_eq!((asked(&redis), lookups(&sidegate, "hit")), (before, hits + 20.0));
    assert_eq!(sidegate.metric("sidegate_redis_round_trips_total"), trips + 20.0, "the limit's own trip, and no more");
    sidegate.access_log(|line| line["plan"] == "hit" && line["limit"] == "calls");
    let upload = client.get_with("/uploads", &[("X-API-Key", KEY)]);
    assert_eq!(told(&upload), (200, 1, 0), "{upload:?}");
    assert_eq!(told(&client.get_with("/uploads", &[("X-API-Key", KEY)])), (429, 1, 0));
    assert_eq!(ask(&mut client, KEY).status, 200);
    until("the size is shown", || sidegate.metric("sidegate_near_entries{kind=\"plan\"}") == 1.0);
    assert!(sidegate.metric("sidegate_near_hits_total{kind=\"plan\"}") >= 20.0);
}

#[test]
fn units_that_were_taken_ahead_are_not_spent_under_another_quota() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = TABLES.replace(
        "quota = \"10 per hour\"\nprecision = \"exact\"",
        "quota = \"1000 per second\"\nburst = 5000\nprecision = \"leased\"",
    );
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    is_told(&sidegate);
    let mut client = sidegate.client();
    (0..1000).for_each(|_| assert_eq!(ask(&mut client, KEY).status, 200));
    give(&redis, &["HSET", &format!("sidegate:plan:{KEY}"), "quota", "5 per hour"]);
    let answers: Vec<_> = (0..20).map(|_| told(&ask(&mut client, KEY))).collect();
    let passed = answers.iter().filter(|(status, ..)| *status == 200).count();
    assert!((1..=5).contains(&passed) && answers.iter().all(|(_, quota, _)| *quota == 5), "{answers:?}");
    give(&redis, &["DEL", &format!("sidegate:plan:{KEY}")]);
    until("the limit's own quota counts", || ask(&mut client, KEY).status == 200);
}

#[test]
fn where_keys_are_needed_no_key_and_an_unknown_one_get_the_same_401_before_anything_is_charged() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = TABLES.replace("[limit.calls]", "unknown = \"refuse\"\n\n[limit.calls]");
    let wide = "\n[limit.wide]\nkey = \"address\"\nquota = \"100000 per hour\"\nprecision = \"exact\"\n";
    let tables = tables.replace("\nlimits = [\"calls\"]", "\nlimits = [\"calls\", \"wide\"]") + wide;
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let mut client = sidegate.client();
    give(&redis, &["HSET", &format!("sidegate:plan:{KEY}"), "quota", "20 per hour"]);
    let refusals = [
        client.get("/"),
        ask(&mut client, "unknown-key"),
        ask(&mut client, "unknown-key"),
        ask(&mut client, &"k".repeat(300)),
        client.get_with("/", &[("X-API-Key", KEY), ("X-API-Key", KEY)]),
    ];
    for refusal in &refusals {
        assert_eq!(
            (refusal.status, refusal.json()["type"].as_str()),
            (401, Some("urn:sidegate:problem:unknown-api-key"))
        );
        assert!(refusal.field("www-authenticate").is_some() && refusal.field("x-ratelimit-limit").is_none());
        assert_eq!(refusal.json()["detail"], refusals[0].json()["detail"]);
    }
    assert_eq!(app.count(), 0);
    assert_eq!(told(&ask(&mut client, KEY)), (200, 20, 19));
    let keys: Vec<String> = redis.ask(&["KEYS", "sidegate:limit:*"]).expect("KEYS");
    assert_eq!(keys.len(), 2, "one request was counted, by its key and by its address: {keys:?}");
    let line = sidegate.access_log(|line| line["status"] == 401);
    assert_eq!(line["local_reply"], "unknown-api-key");
    give(&redis, &["DEL", &format!("sidegate:plan:{KEY}")]);
    assert_eq!(ask(&mut client, KEY).status, 401);
}

#[test]
fn a_preflight_needs_no_key_and_one_with_a_key_does_not_refill_its_quota() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = TABLES.replace("[limit.calls]", "unknown = \"refuse\"\n\n[limit.calls]");
    give(&redis, &["HSET", &format!("sidegate:plan:{KEY}"), "quota", "3 per day"]);
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let mut client = sidegate.client();
    let preflight = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET"), ("X-API-Key", KEY)];
    assert_eq!([2, 1, 0].map(|left| told(&ask(&mut client, KEY)) == (200, 3, left)), [true; 3]);
    for _ in 0..5 {
        assert_eq!(told(&client.ask("OPTIONS", "/", &preflight, b"")), (429, 3, 0));
        assert_eq!(told(&ask(&mut client, KEY)), (429, 3, 0));
    }
    assert_eq!(client.ask("OPTIONS", "/", &preflight[..2], b"").status, 200);
    assert_eq!((client.get("/").status, app.count()), (401, 4));
}

#[test]
fn a_preflight_shows_no_content_where_keys_are_needed_and_one_that_says_another_method_is_none() {
    let (redis, app) = (RedisServer::start(), Origin::saying("everybody's invoices"));
    let tables = TABLES.replace("[limit.calls]", "unknown = \"refuse\"\n\n[limit.calls]");
    give(&redis, &["HSET", &format!("sidegate:plan:{KEY}"), "quota", "3 per day"]);
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let mut client = sidegate.client();
    let plain = [("Origin", "https://a.example"), ("Access-Control-Request-Method", "GET")];
    for key in [&[][..], &[("X-API-Key", "unknown-key")]] {
        let answer = client.ask("OPTIONS", "/", &[&plain, key].concat(), b"");
        assert_eq!((answer.status, answer.text().as_str(), answer.field("content-length")), (200, "", Some("0")));
    }
    let before = app.count();
    for field in ["X-HTTP-Method-Override", "X_HTTP_Method_Override", "X-HTTP-Method", "X-Method-Override"] {
        let fields = [&plain[..], &[(field, "GET")]].concat();
        assert_eq!(client.ask("OPTIONS", "/", &fields, b"").status, 401, "{field}");
    }
    assert_eq!(app.count(), before);
    let known = [&plain[..], &[("X-API-Key", KEY)]].concat();
    assert_eq!(client.ask("OPTIONS", "/", &known, b"").text(), "everybody's invoices", "a client of ours");
}

#[test]
fn records_under_digests_are_found_and_keys_are_shown_nowhere() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = TABLES.replace("{key}", "{sha256}").replace("header:X-API-Key", "query:customer");
    let mut sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    // printf %s 0123456789-key-of-alice | sha256sum
    let digest = "8c279b1bb5f42ac9c92da331355530054decbf2a83a3bf0420cbe03530276710";
    give(&redis, &["HSET", &format!("sidegate:plan:{digest}"), "quota", "20 per hour", "burst", "many"]);
    let mut client = sidegate.client();
    assert_eq!(told(&client.get(&format!("/?customer={KEY}"))), (200, 20, 19));
    let complaint = sidegate.wait_for_log("the record of an API key with this digest cannot be read");
    assert_eq!((complaint["sha256"].as_str(), complaint["field"].as_str()), (Some(&digest[..32]), Some("burst")));
    (0..5).for_each(|_| drop(client.get(&format!("/?customer={KEY}"))));
    assert_eq!(sidegate.logged("the record of an API key with this digest cannot be read").len(), 1);
    sidegate.access_log(|line| line["status"] == 200);
    let metrics = sidegate.ask_admin("/metrics").text();
    let all: Vec<String> = redis.ask(&["KEYS", "*"]).expect("KEYS");
    for (place, text) in [("log", sidegate.errors()), ("access log", sidegate.output()), ("metrics", metrics)] {
        assert!(!text.contains(KEY), "{place}: {text}");
    }
    assert!(!all.concat().contains(KEY), "{all:?}");
}

#[test]
fn an_outage_of_redis_leaves_clients_what_they_were_promised() {
    let (mut redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = TABLES.replace("[limit.calls]", "unknown = \"refuse\"\n\n[limit.calls]");
    give(&redis, &["HSET", &format!("sidegate:plan:{KEY}"), "quota", "1000 per hour"]);
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    let mut client = sidegate.client();
    assert_eq!(told(&ask(&mut client, KEY)), (200, 1000, 999));
    assert_eq!(ask(&mut client, "unknown-key").status, 401);
    redis.kill();
    for _ in 0..50 {
        let answer = ask(&mut client, KEY);
        assert_eq!((answer.status, answer.number("x-ratelimit-limit")), (200, 1000));
    }
    let refused = (0..11).filter(|_| ask(&mut client, "unknown-key").status == 429).count();
    assert_eq!(refused, 1, "whom nobody can ask about has the limit's own quota, and is not refused with 401");
    assert!(lookups(&sidegate, "last_known") >= 1.0 && lookups(&sidegate, "unavailable") >= 11.0);
    redis.restart();
    give(&redis, &["HSET", &format!("sidegate:plan:{KEY}"), "quota", "70 per hour"]);
    until("Redis is asked again", || ask(&mut client, KEY).number("x-ratelimit-limit") == 70);
    assert_eq!(ask(&mut client, "unknown-key").status, 401);
}

#[test]
fn a_flood_of_invented_keys_is_bounded_in_trips_and_memory() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    let tables = TABLES.replace("[limit.calls]", "unknown = \"refuse\"\n\n[limit.calls]")
        + "[near]\nmax_plan_bytes = \"64 KiB\"\n";
    let sidegate = Configuration::of(&app).redis(&redis).with(&tables).start();
    is_told(&sidegate);
    let invented = |number: usize, turn: usize| {
        request("GET", "/", &[("X-API-Key", &format!("invented-{number}-{}", turn % 1000))], b"")
    };
    let load = Load::start(sidegate.address(), 4, invented, |answer| answer.status == 401);
    load.wait_for_more(8_000);
    let tally = load.finish();
    assert_eq!(tally.answers.keys().collect::<HashSet<_>>(), HashSet::from([&401]), "{tally:?}");
    let trips = sidegate.metric("sidegate_redis_round_trips_total");
    assert!(trips <= tally.total() as f64 + 100.0, "{trips} trips for {} requests", tally.total());
    assert_eq!(app.count(), 0);
    until("the size is shown", || sidegate.metric("sidegate_near_bytes{kind=\"plan\"}") > 0.0);
    assert!(sidegate.metric("sidegate_near_bytes{kind=\"plan\"}") <= 65_536.0);
    let keys: Vec<String> = redis.ask(&["KEYS", "sidegate:limit:*"]).expect("KEYS");
    assert!(keys.is_empty(), "who is refused is not counted: {keys:?}");
}

#[test]
fn a_reload_changes_where_plans_are_read_and_a_check_says_it() {
    let (redis, app) = (RedisServer::start(), Origin::saying("app"));
    give(&redis, &["HSET", &format!("sidegate:plan:{KEY}"), "quota", "20 per hour"]);
    give(&redis, &["HSET", &format!("customer:{KEY}"), "quota", "30 per hour"]);
    let configuration = Configuration::of(&app).redis(&redis);
    let mut sidegate = configuration.clone().with(TABLES).start();
    assert_eq!(told(&ask(&mut sidegate.client(), KEY)).1, 20);
    let other = configuration.with(&TABLES.replace("sidegate:plan:{key}", "customer:{key}"));
    sidegate.reload(&other.text());
    is_told(&sidegate);
    let mut client = sidegate.client();
    assert_eq!(told(&ask(&mut client, KEY)).1, 30);
    give(&redis, &["HSET", &format!("customer:{KEY}"), "quota", "40 per hour"]);
    assert_eq!(told(&ask(&mut client, KEY)).1, 40);

    let directory = Directory::new();
    let file = directory.file("sidegate.toml").display().to_string();
    std::fs::write(&file, other.text()).expect("the configuration can be written");
    let (code, said, _) = run(&["check", "--config", &file], &directory.file(""));
    assert!(
        code == 0 && said.contains("api = customer:{key}, by header:x-api-key; otherwise the limits' own"),
        "{said}"
    );
    let (code, said, errors) = run(&["redis-report", "--config", &file, "--json"], &directory.file(""));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{code} {said}{errors}"));
    let plans = report["features"].as_array().expect("features").iter().find(|row| row["feature"] == "plan");
    assert_eq!(plans.map(|row| (row["name"].as_str(), row["keys"].as_u64())), Some((Some("api"), Some(1))));
    assert!(!errors.contains("without TTL") && !said.contains(KEY), "{said}{errors}");
}
