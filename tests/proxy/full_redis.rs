//! A Redis that is full, as README tells it for each `maxmemory-policy`.

use crate::harness::{Configuration, Origin, RedisServer, Reply, Sidegate, until};

/// Bytes of a page: a few hundred of them fill what the server may take.
const PAGE: usize = 16 * 1024;
const ALICE: [(&str, &str); 1] = [("Authorization", "Bearer alice-0123456789")];

const TABLES: &str = r#"
[limit.each]
key = "address"
quota = "1000000 per hour"

[cache.pages]
ttl = "60s"

[session.web]
format = "json"
from = ["bearer"]
forward = { X-User-Id = "user_id" }

[[route]]
path = "/me"
session = "web"

[[route]]
path = "/{*rest}"
limits = ["each"]
cache = "pages"
"#;

/// A Redis with this policy and some 3 MB of room, a session for which there is no other copy, and a sidegate before it.
fn started(policy: &str, app: &Origin) -> (RedisServer, Sidegate) {
    let redis = RedisServer::start_with(&["--maxmemory-policy", policy]);
    redis.ask::<()>(&["SET", "session:alice-0123456789", r#"{"user_id":7}"#]).expect("SET");
    let sidegate = Configuration::of(app).redis(&redis).with(TABLES).start();
    let memory: String = redis.ask(&["INFO", "memory"]).expect("INFO");
    let used = memory.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("what is used");
    let most = used.trim().parse::<u64>().expect("a number") + 3_000_000;
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", &most.to_string()]).expect("CONFIG SET");
    (redis, sidegate)
}

/// An app whose pages hardly compress.
fn app() -> Origin {
    Origin::answering(|request| {
        let seed = request.target.bytes().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let mut random = seed;
        let letters = (0..PAGE).map(|_| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (random >> 33) as u8 % 90)
        });
        Reply::text(letters.collect::<String>())
    })
}

fn number(redis: &RedisServer, section: &str, name: &str) -> u64 {
    let said: String = redis.ask(&["INFO", section]).expect("INFO");
    let line = said.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.and_then(|number| number.trim().parse().ok()).unwrap_or_else(|| panic!("no {name} in {said}"))
}

#[test]
fn what_is_evicted_is_a_miss_and_everything_else_goes_on() {
    let app = app();
    for policy in ["volatile-lru", "volatile-lfu"] {
        let (redis, sidegate) = started(policy, &app);
        let mut client = sidegate.client();
        until("a page that is stored", || client.get("/often").field("x-cache") == Some("HIT"));
        for page in 0..400 {
            let answer = client.get(&format!("/{page}"));
            assert_eq!((answer.status, answer.content.len()), (200, PAGE), "{policy}: page {page}");
            client.get("/often");
        }
        until("evictions", || number(&redis, "stats", "evicted_keys") > 50);
        assert_eq!(client.get_with("/me", &ALICE).status, 200, "{policy}: the session has no TTL");
        assert_eq!(client.get("/0").content.len(), PAGE, "{policy}");
        assert!(sidegate.access_log(|line| line["target"] == "/0")["counted"] == "redis", "{policy}");
    }
}

#[test]
fn without_eviction_writes_end_and_everything_that_reads_goes_on() {
    let app = app();
    let (redis, sidegate) = started("noeviction", &app);
    let mut client = sidegate.client();
    until("a page that is stored", || client.get("/early").field("x-cache") == Some("HIT"));
    for page in 0..400 {
        let answer = client.get(&format!("/{page}"));
        assert_eq!((answer.status, answer.content.len()), (200, PAGE), "page {page}");
    }
    assert_eq!(number(&redis, "stats", "evicted_keys"), 0);
    // Just at the bound it depends on a few bytes what is refused; well beyond it nothing does.
    redis.ask::<()>(&["CONFIG", "SET", "maxmemory", "1000000"]).expect("CONFIG SET");
    let mut turn = 0;
    until("limits that count in memory", || {
        turn += 1;
        let target = format!("/full/{turn}");
        client.get(&target);
        sidegate.access_log(|line| line["target"] == target.as_str())["counted"] == "local"
    });
    assert_eq!(client.get("/399").status, 200);
    assert_ne!(client.get("/399").field("x-cache"), Some("HIT"), "nothing more is stored");
    assert_eq!(client.get_with("/me", &ALICE).status, 200);
}
