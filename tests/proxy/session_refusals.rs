//! What refusals say, what they cost, and what would have been refused.

use std::time::Instant;

use crate::harness::relay::Trip;
use crate::harness::sidegate::run;
use crate::harness::{Answer, Configuration, Origin, RedisServer, Relay, Sidegate, until};

const ALICE: &str = "alice-0123456789abcdef";
const UNKNOWN: &str = "unknown-0123456789abcdef";

const SESSION: &str = r#"
[session.web]
format = "json"
from = ["bearer", "cookie:sid"]
user = "id"
forward = { X-User-Id = "id" }
login_url = "/login"
"#;

const OBSERVED: &str = r#"
[[route]]
path = "/{*rest}"
session = { use = "web", mode = "observe", require = { role = "admin" } }
"#;

const REQUIRED: &str = "[[route]]\npath = \"/{*rest}\"\nsession = \"web\"\n";

const BROWSER: (&str, &str) = ("Accept", "text/html");

fn redis() -> RedisServer {
    let redis = RedisServer::start();
    let record = r#"{"id":1,"role":"user"}"#;
    redis.ask::<()>(&["SET", &format!("session:{ALICE}"), record, "EX", "600"]).expect("a record");
    redis
}

fn bearer(id: &str) -> (&'static str, String) {
    ("Authorization", format!("Bearer {id}"))
}

fn by(sidegate: &Sidegate, id: &str) -> Answer {
    let (name, value) = bearer(id);
    sidegate.client().get_with("/x", &[(name, &value)])
}

/// How often Redis has run a command.
fn calls(redis: &RedisServer, command: &str) -> u64 {
    let counts: String = redis.ask(&["INFO", "commandstats"]).expect("INFO");
    let start = format!("cmdstat_{command}:calls=");
    let line = counts.lines().find_map(|line| line.strip_prefix(&start));
    line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
}

/// All of an answer but for its date and the request's name.
fn without_name(answer: &Answer) -> String {
    let id = answer.field("x-request-id").expect("a name").to_owned();
    let told: Vec<_> = answer.fields.0.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("date")).collect();
    format!("{} {told:?} {}", answer.status, answer.text()).replace(&id, "ID")
}

#[test]
fn all_credentials_that_are_no_login_get_one_answer_to_the_byte() {
    let (redis, app) = (redis(), Origin::saying("app"));
    for words in [
        &["SET", "session:anonymous-0123456789", "{\"cart\":[1]}"][..],
        &["SET", "session:null-0123456789abcdef", "{\"id\":null}"],
        &["SET", "session:broken-0123456789abcd", "{\"id\":"],
        &["SET", "session:ended-0123456789abcde", "{\"id\":5}", "PX", "1"],
        &["HSET", "session:hash-0123456789abcdef", "id", "5"],
    ] {
        redis.ask::<redis::Value>(words).expect("Redis does as it is told");
    }
    until("the end of a session", || {
        redis.ask::<i64>(&["EXISTS", "session:ended-0123456789abcde"]).expect("EXISTS") == 0
    });
    let sidegate = Configuration::of(&app).redis(&redis).with(&format!("{SESSION}{REQUIRED}")).start();
    let kinds = [
        UNKNOWN,
        "anonymous-0123456789",
        "null-0123456789abcdef",
        "broken-0123456789abcd",
        "ended-0123456789abcde",
        "hash-0123456789abcdef",
        "short",
        "bent-0123456789abcdef!",
        "a:b-0123456789abcdef",
        "\"quoted-0123456789\"",
    ];
    for accept in ["*/*", BROWSER.1, "application/json"] {
        let answered = |id: &str| {
            let (name, value) = bearer(id);
            without_name(&sidegate.client().get_with("/x?y", &[(name, &value), ("Accept", accept)]))
        };
        let first = answered(UNKNOWN);
        for kind in kinds {
            assert_eq!(answered(kind), first, "{kind}");
        }
        let long = "a".repeat(300);
        assert_eq!(answered(&long), first);
        let cookies = format!("sid={UNKNOWN}; sid={ALICE}");
        let duplicate = sidegate.client().get_with("/x?y", &[("Cookie", &cookies), ("Accept", accept)]);
        assert_eq!(without_name(&duplicate), first);
    }
    assert_eq!(app.count(), 0);
    let rejected =
        |reason| sidegate.metric(&format!("sidegate_session_rejections_total{{session=\"web\",reason=\"{reason}\"}}"));
    assert_eq!((rejected("duplicate cookie"), rejected("identifier too long")), (3.0, 3.0));
    assert_eq!((rejected("identifier too short"), rejected("identifier has foreign characters")), (3.0, 9.0));
    let ended = sidegate.access_log(|line| line["session"] == "expired");
    assert_eq!(ended["session_digest"].as_str().map(str::len), Some(32));
    assert!(!sidegate.output().contains(UNKNOWN));
}

#[test]
fn an_observed_session_refuses_nobody_and_tells_what_it_would() {
    let (mut redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(&format!("{SESSION}{OBSERVED}")).start();
    let would = |status: u16| {
        let labels = format!("{{session=\"web\",status=\"{status}\"}}");
        sidegate.metric(&format!("sidegate_session_would_refuse_total{labels}"))
    };
    assert_eq!(by(&sidegate, UNKNOWN).status, 200);
    assert!(!app.last().fields.has("x-user-id"));
    assert_eq!(sidegate.client().get_with("/x", &[BROWSER]).status, 200);
    assert_eq!(by(&sidegate, ALICE).status, 200);
    assert_eq!(app.last().field("x-user-id"), Some("1"), "a login is told, also one that lacks what is demanded");
    assert_eq!([401, 302, 403].map(would), [1.0, 1.0, 1.0]);
    for (verdict, status) in [("expired", 401), ("absent", 302), ("valid", 403)] {
        let line = sidegate.access_log(|line| line["session_would"] == status);
        assert_eq!((&line["session"], &line["status"]), (&verdict.into(), &200.into()));
    }
    redis.kill();
    assert_eq!(by(&sidegate, UNKNOWN).status, 200, "a store that is away refuses nobody either");
    sidegate.access_log(|line| line["session_would"] == 503 && line["session"] == "unknown");
    assert_eq!((would(503), app.count()), (1.0, 4));
}

#[test]
fn explain_tells_where_the_credential_is_what_is_missed_and_where_the_way_leads() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let strict = OBSERVED.replace("mode = \"observe\", ", "");
    let [observed, required] = [OBSERVED, &strict]
        .map(|route| Configuration::of(&app).redis(&redis).with(&format!("{SESSION}{route}")).start());
    let told = |sidegate: &Sidegate, fields: &[&str]| {
        let arguments: Vec<&str> = fields.iter().flat_map(|field| ["-H", field]).collect();
        let all = [&["explain", "--admin", sidegate.admin(), "GET", "http://app.test/x?y", "--json"], &arguments[..]]
            .concat();
        let (_, said, errors) = run(&all, std::path::Path::new("."));
        let told: serde_json::Value =
            serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}{errors}"));
        assert!(!said.contains(ALICE), "{said}");
        told["session"].clone()
    };
    let cookie = format!("Cookie: sid={ALICE}");
    let refused = told(&required, &[&cookie]);
    assert_eq!((&refused["carrier"], &refused["passes"]), (&"cookie:sid".into(), &false.into()));
    assert_eq!((&refused["status"], &refused["missed"]["attribute"]), (&403.into(), &"role".into()));
    let sent = told(&required, &["Accept: text/html"]);
    assert_eq!((&sent["status"], &sent["location"]), (&302.into(), &"/login?next=/x%3Fy".into()));
    let passed = told(&observed, &[&cookie]);
    assert_eq!((&passed["passes"], &passed["would"]["status"]), (&true.into(), &403.into()));
    let bent = told(&required, &["Authorization: Bearer short", &cookie]);
    assert_eq!((&bent["carrier"], &bent["reason"]), (&"bearer".into(), &"identifier too short".into()));
}

#[test]
fn what_cannot_name_a_session_costs_redis_nothing_and_what_might_costs_one_command() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(&format!("{SESSION}{REQUIRED}")).start();
    assert_eq!(by(&sidegate, ALICE).status, 200);
    let before = calls(&redis, "getrange");
    for id in ["short", "bent-0123456789abcdef!", "a:b-0123456789abcdef", &"a".repeat(300)] {
        (0..20).for_each(|_| assert_eq!(by(&sidegate, id).status, 401));
    }
    assert_eq!(calls(&redis, "getrange"), before);
    // What is not there is never kept: each question is asked, once.
    (0..20).for_each(|_| assert_eq!(by(&sidegate, UNKNOWN).status, 401));
    assert_eq!(calls(&redis, "getrange"), before + 20);
    redis.ask::<()>(&["SET", &format!("session:{UNKNOWN}"), "{\"id\":9}"]).expect("a login");
    assert_eq!(by(&sidegate, UNKNOWN).status, 200, "a login counts at once");
}

#[test]
fn a_flood_of_refusals_costs_no_trip_beyond_the_limits_own() {
    flood("*/*", 401);
}

#[test]
fn a_flood_that_says_it_is_a_browser_counts_as_the_401_that_it_is_spared() {
    flood(BROWSER.1, 302);
}

/// Guesses under a limit that counts 401, each answered by `refused` until it is spent.
fn flood(accept: &str, refused: u16) {
    let (redis, app) = (redis(), Origin::saying("app"));
    let relay = Relay::to(redis.port());
    let limit = "[limit.guesses]\nkey = \"address\"\nquota = \"5 per hour\"\ncount = [401]\n";
    let route = "[[route]]\npath = \"/{*rest}\"\nsession = \"web\"\nlimits = [\"guesses\"]\n";
    let tables = format!("{limit}{SESSION}{route}");
    let sidegate = Configuration::of(&app).redis_at(&relay.url()).redis_lines("timeout = \"1s\"").with(&tables).start();
    let by = |sidegate: &Sidegate, id: &str| {
        let (name, value) = bearer(id);
        sidegate.client().get_with("/x", &[(name, &value), ("Accept", accept)])
    };
    let mut statuses = Vec::new();
    until("a spent quota", || {
        assert!(statuses.len() < 200, "nothing counts them: {statuses:?}");
        statuses.push(by(&sidegate, UNKNOWN).status);
        statuses.last() == Some(&429)
    });
    assert!(statuses.len() > 5 && statuses.iter().all(|status| [refused, 429].contains(status)), "{statuses:?}");
    // Charges of the last answers may still be on their way.
    until("a quiet Redis", || {
        relay.forget();
        by(&sidegate, UNKNOWN).status == 429 && of_requests(&relay) == (0, 0)
    });
    relay.forget();
    let start = Instant::now();
    for id in [UNKNOWN, "bent-0123456789abcdef!", ALICE].into_iter().cycle().take(150) {
        assert_eq!(by(&sidegate, id).status, 429);
    }
    // Asked at most once in a second, however long all of it takes.
    let most = 1 + usize::try_from(start.elapsed().as_secs()).expect("a number");
    let (trips, records) = of_requests(&relay);
    assert!(
        trips <= most && records <= trips,
        "{trips} trips, {records} of them for a record, in {:?}",
        start.elapsed()
    );
    assert_eq!(app.count(), 0);
    assert_eq!(sidegate.access_log(|line| line["counted"] == "remembered")["status"], 429);
}

#[test]
fn a_reset_is_heeded_by_who_remembers_a_refusal() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let limit = "[limit.guesses]\nkey = \"address\"\nquota = \"5 per hour\"\ncount = [401]\n";
    let route = "[[route]]\npath = \"/{*rest}\"\nsession = \"web\"\nlimits = [\"guesses\"]\n";
    let configuration = Configuration::of(&app).redis(&redis).with(&format!("{limit}{SESSION}{route}"));
    let instances = [configuration.start(), configuration.start()];
    let remembers = |sidegate: &Sidegate| {
        let remembered = |line: &str| line.contains("\"counted\":\"remembered\"");
        sidegate.output().lines().filter(|line| remembered(line)).count()
    };
    for sidegate in &instances {
        until("a refusal that is remembered", || {
            by(sidegate, UNKNOWN);
            remembers(sidegate) > 0
        });
        assert_eq!(by(sidegate, ALICE).status, 429);
    }
    let admin = instances[0].admin();
    let reset =
        crate::harness::Client::to(admin).ask("POST", "/limits/guesses/reset?key=127.0.0.1", &[("Host", admin)], b"");
    assert_eq!(reset.status, 200, "{reset:?}");
    assert_eq!(by(&instances[0], ALICE).status, 200, "at once where it was said");
    until("the other instance has asked again", || by(&instances[1], ALICE).status == 200);
}

/// Trips that serve requests, and those among them that ask for a record.
fn of_requests(relay: &Relay) -> (usize, usize) {
    let trips = relay.trips();
    let naming = |keys: &[&str]| {
        let names = |trip: &&Trip| trip.commands.iter().any(|command| keys.iter().any(|key| command.mentions(key)));
        trips.iter().filter(names).count()
    };
    (naming(&["session:", "sidegate:limit:"]), naming(&["session:"]))
}

#[test]
fn of_one_huge_record_no_more_is_asked_for_than_tells_that_it_is_none() {
    let (redis, app) = (redis(), Origin::saying("app"));
    let sidegate = Configuration::of(&app).redis(&redis).with(&format!("{SESSION}{REQUIRED}")).start();
    let huge = "huge-0123456789abcdef";
    redis.ask::<i64>(&["SETRANGE", &format!("session:{huge}"), "100000000", "x"]).expect("a record of 100 MB");
    let told = || {
        let said: String = redis.ask(&["INFO", "stats"]).expect("INFO");
        let bytes = said.lines().find_map(|line| line.strip_prefix("total_net_output_bytes:"));
        bytes.and_then(|bytes| bytes.parse::<u64>().ok()).expect("what Redis has sent")
    };
    let before = told();
    for _ in 0..4 {
        assert_eq!(by(&sidegate, huge).status, 401);
        assert_eq!(by(&sidegate, ALICE).status, 200, "everybody else is served");
    }
    let sent = told() - before;
    assert!((4 * 256 * 1024..8 * 256 * 1024).contains(&sent), "{sent} bytes");
    let line = sidegate.access_log(|line| line["session"] == "rejected");
    assert_eq!(line["session_reason"], "record too large");
}
