//! What a client has been promised: read from a real Redis, remembered while that is certain, and known while Redis is away.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Request, Response, StatusCode};
use sidegate::body::Body;
use sidegate::clock::instant;
use sidegate::exchange::{Answers, Client, Connection, Entitlement, Exchange, Scheme};
use sidegate::rate_limit::partition::Part;
use sidegate::rate_limit::plan::{Bounds, Lookup, Remembered, layer};
use sidegate::rate_limit::{Plan, Unknown};
use sidegate::redis_pool::coherence::Coherence;
use sidegate::redis_pool::near::{self, Mode, Tier as _};
use sidegate::redis_pool::tracking::{Terms, Tracking};
use sidegate::redis_pool::{Link, Settings};
use sidegate::telemetry::Record;
use sidegate::telemetry::registry::Registry;
use tower::{Layer as _, Service as _, service_fn};

use crate::redis_server::RedisServer;
use crate::relay::{self, Relay};
use crate::{becomes, on_a_worker};

const KEY: &str = "key-of-alice";
const MINUTE: Duration = Duration::from_secs(60);

/// A worker's lookups, over a Redis that may be slow, refuse, or be gone.
struct Bench {
    server: RedisServer,
    relay: Relay,
    plan: Plan,
    near: near::Settings,
    coherence: Arc<Coherence>,
    remembered: Arc<Remembered>,
    link: Link,
    registry: Arc<Registry>,
    _tracking: Option<Tracking>,
}

impl Bench {
    async fn new(plan: Plan, near: near::Settings, mode: Option<Mode>) -> Self {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        if mode == Some(Mode::PubSub) {
            relay.turn(relay::Mode::fail_only("-NOPERM no permissions", &["CLIENT TRACKING"]));
        }
        let (coherence, registry) = (Coherence::new(), Registry::new(1));
        let beginning = plan.record.split('{').next().unwrap_or_default();
        let bounds = Bounds::new(near, [beginning], "sidegate:limit:");
        let remembered = Remembered::new(bounds, coherence.clone());
        let at = |url: &str| Settings { timeout: Duration::from_secs(2), ..Settings::of_url(url).expect("a URL") };
        let link = Link::new(&at(&relay.url()), &[], &registry, 0);
        becomes(&link, true).await;
        // News that has to pass a relay comes after the answer to who made the change.
        let redis = at(&if mode == Some(Mode::PubSub) { relay.url() } else { server.url() });
        let tracking = mode.map(|_| {
            let (tiers, coherence) = (vec![remembered.clone() as Arc<dyn near::Tier>], coherence.clone());
            Tracking::start(Terms { redis, near, tiers, coherence }, Registry::new(1), 0).expect("a thread")
        });
        let bench = Self { server, relay, plan, near, coherence, remembered, link, registry, _tracking: tracking };
        while bench.coherence.mode() != mode {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        bench
    }

    /// With every change told by Redis.
    async fn tracking(unknown: Unknown) -> Self {
        Self::new(plan("sidegate:plan:{key}", unknown), near::Settings::default(), Some(Mode::Tracking)).await
    }

    fn run(&self, words: &[&str]) {
        let _: redis::Value = self.server.ask(words).expect("Redis does as it is told");
    }

    /// How often records have been asked for, as Redis has counted.
    fn asked(&self) -> u64 {
        let counts: String = self.server.ask(&["INFO", "commandstats"]).expect("INFO");
        let line = counts.lines().find_map(|line| line.strip_prefix("cmdstat_hgetall:calls="));
        line.and_then(|line| line.split(',').next()?.parse().ok()).unwrap_or(0)
    }

    fn counted(&self, outcome: &str) -> u64 {
        self.registry.value("sidegate_plan_lookups_total", &[("plan", "api"), ("outcome", outcome)])
    }

    /// A request; what reached the limits, if it did.
    async fn send(&self, method: &str, fields: &[(&str, &str)]) -> Result<Option<Arc<Entitlement>>, StatusCode> {
        let plan = Arc::new(self.plan.clone());
        let lookup = Lookup::new(plan, &[], self.remembered.clone(), self.link.clone(), &self.registry, 0);
        let reached = Rc::new(RefCell::new(None));
        let limits = {
            let reached = reached.clone();
            service_fn(move |exchange: Box<Exchange>| {
                *reached.borrow_mut() = Some(exchange.plan.clone());
                async { Ok::<_, Infallible>(Response::new(Body::empty())) }
            })
        };
        let Ok(response) = layer(lookup).layer(limits).call(exchange(method, fields)).await;
        reached.take().ok_or(response.status())
    }

    /// The burst of who presents `key`: none: the limits' own.
    async fn burst(&self, key: &str) -> Result<Option<u64>, StatusCode> {
        self.send("GET", &[("x-api-key", key)]).await.map(|entitled| entitled?.all.burst)
    }

    /// Asks until Redis is not asked any more.
    async fn until_hot(&self, key: &str) {
        loop {
            let before = self.asked();
            let _ = self.burst(key).await;
            if self.asked() == before {
                return;
            }
        }
    }
}

fn plan(record: &str, unknown: Unknown) -> Plan {
    let key = Part::Header(HeaderName::from_static("x-api-key"));
    Plan { name: "api".into(), key, record: record.into(), unknown }
}

fn exchange(method: &str, fields: &[(&str, &str)]) -> Box<Exchange> {
    let request = Request::builder().method(method).uri("/");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(Body::empty()).expect("a request");
    let trail = Record::new(instant(), request.method().clone(), None, request.version());
    let connection = Connection { peer: None, tls: false, certificate: None, tunnel: RefCell::default() };
    Box::new(Exchange {
        request,
        connection: Rc::new(connection),
        interim: None,
        client: Client { address: [127, 0, 0, 1].into(), trusted: false, scheme: Scheme::Http },
        parameters: Vec::new(),
        plan: None,
        answers: Answers::default(),
        presented: None,
        principal: None,
        posted: None,
        trail: Rc::new(RefCell::new(trail)),
    })
}

#[test]
fn a_hot_record_asks_nothing_and_a_change_counts_with_the_next_request() {
    on_a_worker(async {
        let bench = Bench::tracking(Unknown::Default).await;
        let record = "sidegate:plan:key-of-alice";
        bench.run(&["HSET", record, "quota", "1000 per minute", "burst", "50", "search.quota", "5 per second"]);
        let entitled = bench.send("GET", &[("x-api-key", KEY)]).await.unwrap().expect("a record");
        assert_eq!(entitled.under("other").quota, Some((1000, MINUTE)));
        assert_eq!(entitled.under("search").quota, Some((5, Duration::from_secs(1))));
        bench.until_hot(KEY).await;
        let (asked, hits) = (bench.asked(), bench.counted("hit"));
        for _ in 0..20 {
            assert_eq!(bench.burst(KEY).await, Ok(Some(50)));
        }
        assert_eq!((bench.asked(), bench.counted("hit")), (asked, hits + 20));
        for burst in 1..=200 {
            bench.run(&["HSET", record, "burst", &burst.to_string()]);
            assert_eq!(bench.burst(KEY).await, Ok(Some(burst)));
        }
        bench.run(&["DEL", record]);
        assert_eq!(bench.burst(KEY).await, Ok(None));
        assert!(bench.counted("unknown") >= 1 && bench.counted("found") >= 1);
    });
}

#[test]
fn a_record_ends_with_its_key() {
    on_a_worker(async {
        let bench = Bench::tracking(Unknown::Refuse).await;
        bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", "50"]);
        bench.until_hot(KEY).await;
        bench.run(&["PEXPIRE", "sidegate:plan:key-of-alice", "300"]);
        assert_eq!(bench.burst(KEY).await, Ok(Some(50)));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(bench.burst(KEY).await, Err(StatusCode::UNAUTHORIZED));
    });
}

#[test]
fn who_is_unknown_is_asked_about_once_and_known_as_soon_as_there_is_a_record() {
    on_a_worker(async {
        let bench = Bench::tracking(Unknown::Refuse).await;
        for _ in 0..2 {
            bench.until_hot(KEY).await;
            let asked = bench.asked();
            for _ in 0..20 {
                assert_eq!(bench.burst(KEY).await, Err(StatusCode::UNAUTHORIZED));
            }
            assert_eq!(bench.asked(), asked);
            bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", "7"]);
            assert_eq!(bench.burst(KEY).await, Ok(Some(7)));
            bench.run(&["DEL", "sidegate:plan:key-of-alice"]);
            assert_eq!(bench.burst(KEY).await, Err(StatusCode::UNAUTHORIZED));
        }
    });
}

#[test]
fn what_can_be_no_key_and_no_key_at_all_are_refused_without_a_question() {
    on_a_worker(async {
        let bench = Bench::tracking(Unknown::Refuse).await;
        let refused = Err(StatusCode::UNAUTHORIZED);
        assert_eq!(bench.burst(&"k".repeat(257)).await, refused);
        assert_eq!(bench.burst("a\tb").await, refused);
        assert_eq!(bench.send("GET", &[]).await, Err(StatusCode::UNAUTHORIZED));
        let twice = [("x-api-key", KEY), ("x-api-key", KEY)];
        assert_eq!(bench.send("GET", &twice).await, Err(StatusCode::UNAUTHORIZED));
        let preflight = [("origin", "https://a.example"), ("access-control-request-method", "GET")];
        assert_eq!(bench.send("OPTIONS", &preflight).await, Ok(None), "a preflight carries no key by design");
        assert_eq!((bench.asked(), bench.counted("unknown"), bench.counted("absent")), (0, 2, 3));
    });
}

#[test]
fn a_flood_of_invented_keys_costs_one_trip_each_and_leaves_true_ones_hot() {
    on_a_worker(async {
        let near = near::Settings { max_plan_bytes: 64 * 1024, ..near::Settings::default() };
        let plan = plan("sidegate:plan:{key}", Unknown::Refuse);
        let bench = Bench::new(plan, near, Some(Mode::Tracking)).await;
        bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", "50"]);
        bench.until_hot(KEY).await;
        let asked = bench.asked();
        for number in 0..2000 {
            assert_eq!(bench.burst(&format!("invented-{number}")).await, Err(StatusCode::UNAUTHORIZED));
        }
        assert_eq!(bench.asked(), asked + 2000);
        assert!(bench.remembered.size().bytes <= bench.near.max_plan_bytes, "{:?}", bench.remembered.size());
        assert_eq!(bench.burst(KEY).await, Ok(Some(50)));
        assert_eq!(bench.asked(), asked + 2000, "what is known of a true key is there still");
    });
}

#[test]
fn where_redis_refuses_tracking_a_record_counts_for_a_second_and_who_is_unknown_is_not_remembered() {
    on_a_worker(async {
        let age = near::Settings::default().untracked_plan_max_age;
        assert!(age <= Duration::from_secs(1));
        let plan = plan("sidegate:plan:{key}", Unknown::Refuse);
        let bench = Bench::new(plan, near::Settings::default(), Some(Mode::PubSub)).await;
        for turn in 1..=3 {
            assert_eq!(bench.burst(KEY).await, Err(StatusCode::UNAUTHORIZED));
            assert_eq!(bench.asked(), turn);
        }
        bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", "7"]);
        assert_eq!(bench.burst(KEY).await, Ok(Some(7)), "at once");
        bench.until_hot(KEY).await;
        bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", "8"]);
        tokio::time::sleep(age).await;
        assert_eq!(bench.burst(KEY).await, Ok(Some(8)));
    });
}

#[test]
fn without_a_near_tier_every_request_asks_once() {
    on_a_worker(async {
        let near = near::Settings { enabled: false, ..near::Settings::default() };
        let bench = Bench::new(plan("sidegate:plan:{key}", Unknown::Default), near, None).await;
        for burst in 1..=5 {
            bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", &burst.to_string()]);
            assert_eq!((bench.burst(KEY).await, bench.asked()), (Ok(Some(burst)), burst));
        }
    });
}

#[test]
fn keys_may_be_kept_as_digests_only() {
    on_a_worker(async {
        let plan = plan("customer:{sha256}:plan", Unknown::Refuse);
        let bench = Bench::new(plan, near::Settings::default(), Some(Mode::Tracking)).await;
        // printf %s abc | sha256sum
        let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let record = format!("customer:{digest}:plan");
        bench.run(&["HSET", &record, "burst", "50"]);
        assert_eq!(bench.burst("abc").await, Ok(Some(50)));
        assert_eq!(bench.burst(digest).await, Err(StatusCode::UNAUTHORIZED), "a digest is no key");
        bench.until_hot("abc").await;
        bench.run(&["HSET", &record, "burst", "60"]);
        assert_eq!(bench.burst("abc").await, Ok(Some(60)));
    });
}

#[test]
fn while_redis_is_away_the_last_that_it_said_counts_and_nobody_is_refused() {
    on_a_worker(async {
        let mut bench = Bench::tracking(Unknown::Refuse).await;
        bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", "50"]);
        bench.until_hot(KEY).await;
        assert_eq!(bench.burst("unknown").await, Err(StatusCode::UNAUTHORIZED));
        // Told of, and not read again before Redis is gone.
        bench.run(&["HSET", "sidegate:plan:key-of-alice", "burst", "60"]);
        bench.server.kill();
        becomes(&bench.link, false).await;
        while bench.coherence.mode().is_some() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(bench.burst(KEY).await, Ok(Some(50)));
        assert_eq!(bench.burst("unknown").await, Ok(None), "by the limits' own quotas");
        assert_eq!((bench.counted("last_known"), bench.counted("unavailable")), (1, 1));
        assert_eq!(bench.send("GET", &[]).await, Err(StatusCode::UNAUTHORIZED), "no key is no key");
        bench.server.restart();
        becomes(&bench.link, true).await;
        assert_eq!(bench.burst(KEY).await, Err(StatusCode::UNAUTHORIZED), "it came back empty");
        assert_eq!(bench.remembered.last_known(b"sidegate:plan:key-of-alice"), None);
    });
}

#[test]
fn a_redis_that_refuses_says_nothing_about_a_client() {
    on_a_worker(async {
        let near = near::Settings { enabled: false, ..near::Settings::default() };
        let bench = Bench::new(plan("sidegate:plan:{key}", Unknown::Refuse), near, None).await;
        bench.relay.turn(relay::Mode::fail_only("-NOPERM no permissions", &["HGETALL"]));
        assert_eq!(bench.burst(KEY).await, Ok(None));
        assert_eq!(bench.counted("unavailable"), 1);
        bench.relay.turn(relay::Mode::Pass);
        assert_eq!(bench.burst(KEY).await, Err(StatusCode::UNAUTHORIZED));
    });
}

#[test]
fn what_cannot_be_read_counts_as_not_there_and_something_else_is_no_record() {
    on_a_worker(async {
        let bench = Bench::tracking(Unknown::Refuse).await;
        bench.run(&["HSET", "sidegate:plan:key-of-alice", "quota", "a lot", "burst", "50"]);
        let entitled = bench.send("GET", &[("x-api-key", KEY)]).await.unwrap().expect("a record");
        assert_eq!((entitled.all.quota, entitled.all.burst), (None, Some(50)));
        bench.run(&["SET", "sidegate:plan:text", "1000 per minute"]);
        assert_eq!(bench.burst("text").await, Err(StatusCode::UNAUTHORIZED));
        assert_eq!(bench.counted("malformed"), 2);
        bench.run(&["HSET", "sidegate:plan:customer", "name", "Alice"]);
        assert_eq!(bench.burst("customer").await, Ok(None), "known, by the limits' own quotas");
        assert_eq!(bench.counted("found"), 1);
    });
}
