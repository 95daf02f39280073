//! Stores that say anything, and apps that do anything: a miss, never an error of ours, never a wrong answer.

use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::harness::{Answer, Configuration, Origin, RedisServer, Reply, Sidegate, until};

/// Bytes of a piece, the least that may be configured.
const PIECE: usize = 16 * 1024;

const TABLES: &str = r#"
[cache.pages]
ttl = "300s"
piece = "16 KiB"
max_body = "1 MiB"
max_variants = 3

[[route]]
path = "/{*rest}"
cache = "pages"
"#;

/// A page that nobody can mistake for another.
fn page(target: &str, language: &str) -> String {
    let length = if target.starts_with("/large") { 5 * PIECE + 100 } else { 300 };
    let line = |number| format!("{target} {language} {number}\n");
    let mut text: String = (0..).map(line).take(length / 10).collect();
    text.truncate(length);
    text
}

fn app() -> Origin {
    Origin::answering(|request| {
        let language = request.field("accept-language").unwrap_or("-");
        let reply = Reply::text(page(&request.target, language)).field("ETag", &format!("\"{language}\""));
        if request.target.contains("vary") { reply.field("Vary", "Accept-Language") } else { reply }
    })
}

const TARGETS: [&str; 4] = ["/small", "/large", "/small-vary", "/large-vary"];
const LANGUAGES: [&str; 5] = ["de", "fr", "en", "it", "es"];

/// The right answer, or the beginning of it and then an error.
fn judge(answer: &Answer, target: &str, language: &str) -> Result<(), String> {
    let expected = page(target, if target.contains("vary") { language } else { "-" });
    let right = if answer.cut_short {
        expected.as_bytes().starts_with(&answer.content) && target.starts_with("/large")
    } else {
        answer.content == expected.as_bytes()
    };
    if answer.status == 200 && right { Ok(()) } else { Err(format!("{target} {language}: {answer:?}")) }
}

fn ask(sidegate: &Sidegate, target: &str, language: &str) -> Answer {
    let fields: &[_] = if target.contains("vary") { &[("Accept-Language", language)] } else { &[] };
    sidegate.client().get_with(target, fields)
}

/// Does something to a key that another program, or a fault, might.
fn spoil(random: &mut Rng, redis: &mut redis::Connection) -> String {
    let keys: Vec<Vec<u8>> = redis::cmd("KEYS").arg("sidegate:cache:*").query(redis).expect("KEYS");
    let (Some(key), Some(other)) = (random.choice(&keys), random.choice(&keys)) else { return "nothing".into() };
    let value: Vec<u8> = redis::cmd("GET").arg(key).query(redis).unwrap_or_default();
    let at = random.usize(0..value.len().max(1));
    let mut changed = value.clone();
    let what = match random.u8(0..9) {
        0 | 1 => {
            changed.get_mut(at).into_iter().for_each(|byte| *byte ^= 1 << random.u8(0..8));
            "a flipped bit"
        }
        2 => {
            changed.truncate(at);
            "cut"
        }
        3 => {
            changed.extend(std::iter::repeat_n(0, at + 1));
            "longer"
        }
        4 => {
            changed = redis::cmd("GET").arg(other).query(redis).unwrap_or_default();
            "another's value"
        }
        5 => {
            changed.get_mut(3).into_iter().for_each(|version| *version -= 1);
            "an older version"
        }
        6 => {
            changed = std::iter::repeat_with(|| random.u8(..)).take(at).collect();
            "rubbish"
        }
        7 => {
            redis::cmd("DEL").arg(key).exec(redis).expect("DEL");
            return format!("{}: gone", String::from_utf8_lossy(key));
        }
        _ => {
            redis::cmd("DEL").arg(key).exec(redis).expect("DEL");
            redis::cmd("LPUSH").arg(key).arg("x").exec(redis).expect("LPUSH");
            return format!("{}: a list", String::from_utf8_lossy(key));
        }
    };
    redis::cmd("SET").arg(key).arg(changed).arg("KEEPTTL").exec(redis).expect("SET");
    format!("{}: {what}", String::from_utf8_lossy(key))
}

#[test]
fn fuzz_what_stands_in_redis() {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline = number("SIDEGATE_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = number("SIDEGATE_FUZZ_SEED").unwrap_or_else(|| deadline.map_or(9111, |_| fastrand::u64(..)));
    println!("fuzz_what_stands_in_redis: SIDEGATE_FUZZ_SEED={seed}");
    let mut random = Rng::with_seed(seed);
    let (redis, app) = (RedisServer::start(), app());
    // One that reads Redis each time, and one that remembers what it said.
    let forgetful = format!("[near]\nenabled = false\n{TABLES}");
    let sidegates = [&forgetful, TABLES].map(|tables| Configuration::of(&app).redis(&redis).with(tables).start());
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    let (mut turn, mut hits) = (0, 0);
    while deadline.map_or(turn < 400, |deadline| Instant::now() < deadline) {
        turn += 1;
        let done = if random.u8(..) < 100 { spoil(&mut random, &mut connection) } else { "nothing".into() };
        let (target, language) = (TARGETS[random.usize(0..4)], LANGUAGES[random.usize(0..5)]);
        let answer = ask(&sidegates[random.usize(0..2)], target, language);
        hits += usize::from(answer.field("x-cache") == Some("HIT"));
        if let Err(why) = judge(&answer, target, language) {
            panic!("seed {seed}, turn {turn}, after {done}: {why}");
        }
    }
    assert!(hits * 10 > turn, "{hits} hits of {turn}: little was read of Redis");
    // Nothing that was done keeps anything from being stored again.
    for target in TARGETS {
        until(&format!("a hit of {target}"), || {
            let answer = ask(&sidegates[0], target, "de");
            answer.field("x-cache") == Some("HIT") && !answer.cut_short
        });
    }
}

#[test]
fn there_are_no_more_variants_in_redis_than_may_be() {
    let (redis, app) = (RedisServer::start(), app());
    let sidegate = Configuration::of(&app).redis(&redis).with(TABLES).start();
    for language in LANGUAGES {
        until(&format!("a hit in {language}"), || {
            ask(&sidegate, "/small-vary", language).field("x-cache") == Some("HIT")
        });
    }
    let mut connection = redis.client().get_connection().expect("a connection to Redis");
    until("three variants, their list, and a generation", || {
        let keys: Vec<String> = redis::cmd("KEYS").arg("sidegate:cache:*").query(&mut connection).expect("KEYS");
        keys.len() == 3 + 2
    });
}

#[test]
fn endless_content_is_neither_held_back_nor_stored() {
    let app = Origin::scripted(|wire| {
        while wire.request()?.is_some() {
            wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")?;
            // Until the client has had enough.
            while wire.send(&[b"4000\r\n", &[b'x'; 0x4000][..], b"\r\n"].concat()).is_ok() {}
        }
        Ok(())
    });
    let redis = RedisServer::start();
    for configuration in [Configuration::of(&app), Configuration::of(&app).redis(&redis)] {
        let sidegate = configuration.with(TABLES).start();
        for _ in 0..3 {
            let mut client = sidegate.client();
            let head = client.send(crate::harness::client::request("GET", "/endless", &[], b"")).head();
            assert_eq!((head.status, head.field("x-cache")), (200, Some("MISS")));
            assert_eq!(client.exactly(4 << 20).len(), 4 << 20);
        }
    }
    let names: Vec<String> = redis.ask(&["KEYS", "sidegate:cache:*:*:*"]).expect("KEYS");
    assert!(names.iter().all(|name| name.ends_with(":g")), "{names:?}");
}

#[test]
fn a_head_as_large_as_an_app_may_send_is_stored_whole() {
    let value = "v".repeat(290);
    let fields = 200;
    let sent = value.clone();
    let app = Origin::answering(move |_| {
        (0..fields).fold(Reply::text("small"), |reply, number| reply.field(&format!("X-{number:03}"), &sent))
    });
    let redis = RedisServer::start();
    for configuration in [Configuration::of(&app), Configuration::of(&app).redis(&redis)] {
        let sidegate = configuration.with(TABLES).start();
        let mut client = sidegate.client();
        until("a hit", || client.get("/bomb").field("x-cache") == Some("HIT"));
        let hit = client.get("/bomb");
        assert_eq!((hit.text().as_str(), hit.field("x-cache")), ("small", Some("HIT")));
        assert!((0..fields).all(|number| hit.field(&format!("x-{number:03}")) == Some(&value)));
    }
}
