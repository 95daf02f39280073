//! Requests in flight: what is written twice (in Rust and in Lua) against each other, and what Redis is left with however
//! requests end.

use std::collections::BTreeMap;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Response, StatusCode};
use redis::Value;
use sidegate::body::Body;
use sidegate::clock::Clock;
use sidegate::exchange::{Exchange, Next, pass};
use sidegate::gather::{self, Ask};
use sidegate::rate_limit::in_flight::room::{Wanted, passes};
use sidegate::rate_limit::in_flight::script::{Spelling, ask, read, release, renew};
use sidegate::rate_limit::in_flight::{self, Counts, InFlight, Register, SCRIPTS};
use sidegate::rate_limit::lease::Leases;
use sidegate::rate_limit::partition::{Key, Part};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::refusals::Refusals;
use sidegate::rate_limit::store::{MemorySettings, memory::MemoryStore};
use sidegate::rate_limit::{Limit, Rule, Settings, Worker};
use sidegate::redis_pool::Link;
use sidegate::redis_pool::fleet::Fleet;
use sidegate::telemetry::registry::Registry;
use tower::{Layer, service_fn};

use crate::one_trip::request;
use crate::redis_server::{RedisCluster, RedisServer};
use crate::relay::Relay;
use crate::{becomes, link, on_a_worker};

/// 2026-11-21, in ms.
const NOW: u64 = 1_795_236_000_000;

const ALONE: Spelling<'_> = Spelling { prefix: "sidegate:", apart: false };

/// What Redis keeps, as it should be: under each key who is there, and until when.
type Kept = BTreeMap<Arc<str>, BTreeMap<String, u64>>;

fn one_of<T: Copy>(choices: &[T]) -> T {
    choices[fastrand::usize(..choices.len())]
}

#[test]
fn redis_decides_as_rust_does_and_keeps_what_it_should_over_random_schedules() {
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let server = RedisServer::start();
    let mut connection = server.client().get_connection().unwrap();
    for script in SCRIPTS {
        let _: String = redis::cmd("SCRIPT").arg("LOAD").arg(script).query(&mut connection).unwrap();
    }
    let (mut let_in, mut refused, mut ended) = (0, 0, 0);
    for round in 0..30 {
        let keys: Vec<Arc<str>> = ["a:1", "b:1", "c:1"].iter().map(|key| format!("r{round}{key}").into()).collect();
        let lives = [(); 3].map(|()| Duration::from_millis(one_of(&[1_000, 1_500, 30_000])));
        let most = [(); 3].map(|()| fastrand::u64(1..5));
        let refuses = [true, fastrand::bool(), fastrand::bool()];
        let (mut kept, mut now, mut number) = (Kept::new(), NOW, 0);
        for step in 0..150 {
            let at = || format!("seed {seed}, round {round}, step {step}");
            now += one_of(&[0, 1, 100, 700, 1_000]);
            let wanted: Vec<_> = (0..3)
                .filter(|_| fastrand::bool())
                .map(|n| Wanted { key: &keys[n], most: most[n], life: lives[n], refuses: refuses[n] })
                .collect();
            let somebody = format!("one:{}", fastrand::u64(..number + 1));
            let mut pipeline = redis::pipe();
            match fastrand::u8(..4) {
                _ if wanted.is_empty() => continue,
                0 => {
                    let names = wanted.iter().map(|wanted| &**wanted.key);
                    release(&mut pipeline, ALONE, &somebody, names);
                    let _: Vec<Value> = pipeline.query(&mut connection).unwrap();
                    for wanted in &wanted {
                        ended += u64::from(kept.entry(wanted.key.clone()).or_default().remove(&somebody).is_some());
                    }
                }
                1 => {
                    let held: Vec<_> = wanted.iter().map(|wanted| (&**wanted.key, wanted.life)).collect();
                    renew(&mut pipeline, ALONE, &somebody, &held, Some(now));
                    let said: Vec<u64> = pipeline.query(&mut connection).unwrap();
                    let mut forgotten = 0;
                    for wanted in &wanted {
                        let until = now + wanted.life.as_millis() as u64;
                        let there = kept.entry(wanted.key.clone()).or_default().insert(somebody.clone(), until);
                        forgotten += u64::from(there.is_none());
                    }
                    assert_eq!(said, [forgotten], "{}", at());
                }
                _ => {
                    number += 1;
                    let who = format!("one:{number}");
                    ask(&mut pipeline, ALONE, &who, &wanted, Some(now));
                    let said: Vec<Value> = pipeline.query(&mut connection).unwrap();
                    let before = wanted.iter().map(|wanted| {
                        let there = kept.entry(wanted.key.clone()).or_default();
                        there.retain(|_, until| *until > now);
                        there.len() as u64
                    });
                    let before: Vec<u64> = before.collect();
                    assert_eq!(read(&wanted, &said), Ok(before.clone()), "{}", at());
                    let passes = passes(wanted.iter().copied().zip(before.iter().copied()));
                    for (wanted, before) in wanted.iter().zip(before).filter(|_| passes) {
                        if wanted.has_room(before) {
                            let until = now + wanted.life.as_millis() as u64;
                            kept.entry(wanted.key.clone()).or_default().insert(who.clone(), until);
                        }
                    }
                    *(if passes { &mut let_in } else { &mut refused }) += 1;
                }
            }
            for (key, there) in &kept {
                let name = format!("sidegate:limit:{{{key}}}:flight");
                let said: Vec<(String, u64)> = redis::cmd("ZRANGE")
                    .arg(&name)
                    .arg("0")
                    .arg("-1")
                    .arg("WITHSCORES")
                    .query(&mut connection)
                    .unwrap();
                let said: BTreeMap<_, _> = said.into_iter().collect();
                assert_eq!(&said, there, "{}: {key}", at());
                let life: i64 = redis::cmd("PTTL").arg(&name).query(&mut connection).unwrap();
                let longest = there.values().map(|until| until.saturating_sub(now)).max().unwrap_or(0);
                // The test's clock runs ahead of the server's; a key is never kept for less than what is in it.
                assert!(said.is_empty() || life > 0 && life as u64 + 2_000 >= longest, "{}: {life} {longest}", at());
            }
        }
    }
    assert!(let_in > 500 && refused > 200 && ended > 100, "{let_in} {refused} {ended}");
}

#[test]
fn a_clock_that_was_set_back_does_not_keep_places_taken() {
    let server = RedisServer::start();
    let mut connection = server.client().get_connection().unwrap();
    let _: String = redis::cmd("SCRIPT").arg("LOAD").arg(SCRIPTS[0]).query(&mut connection).unwrap();
    let key: Arc<str> = "a:1".into();
    let wanted = [Wanted { key: &key, most: 1, life: Duration::from_secs(30), refuses: true }];
    let mut before = |who: &str, now| {
        let mut pipeline = redis::pipe();
        ask(&mut pipeline, ALONE, who, &wanted, Some(now));
        read(&wanted, &pipeline.query::<Vec<Value>>(&mut connection).unwrap())
    };
    assert_eq!([before("one", NOW + 3_600_000), before("two", NOW + 3_600_000)], [Ok(vec![0]), Ok(vec![1])]);
    assert_eq!([before("three", NOW), before("four", NOW)], [Ok(vec![0]), Ok(vec![1])]);
}

#[test]
fn a_key_of_another_type_is_an_error_and_not_a_decision() {
    on_a_worker(async {
        let server = RedisServer::start();
        let link = link(&server, &SCRIPTS).await;
        let key: Arc<str> = "a:1".into();
        let wanted = [Wanted { key: &key, most: 1, life: Duration::from_secs(30), refuses: true }];
        let mut pipeline = redis::pipe();
        pipeline.cmd("SET").arg("sidegate:limit:{a:1}:flight").arg("x");
        ask(&mut pipeline, ALONE, "one", &wanted, None);
        let values = link.query(&pipeline).await.unwrap();
        assert_eq!(read(&wanted, &values[1..]), Err("wrongtype"));
        assert_eq!(read(&wanted, &[Value::Int(1)]), Err("script"));
        assert_eq!(read(&wanted, &[]), Err("protocol"));
    });
}

/// One sidegate, as far as requests in flight go.
struct Instance {
    worker: Worker,
    link: Link,
    counts: Arc<Counts>,
    register: Rc<Register>,
}

impl Instance {
    async fn start(url: &str) -> Self {
        let registry = Registry::new(1);
        let settings = sidegate::redis_pool::Settings::of_url(url).expect("a URL");
        let settings = sidegate::redis_pool::Settings { timeout: Duration::from_millis(500), ..settings };
        let link = Link::new(&settings, &SCRIPTS, &registry, 0);
        becomes(&link, true).await;
        let worker = Worker {
            memory: MemoryStore::new(MemorySettings::default()),
            link: Some(link.clone()),
            prefix: "sidegate:".into(),
            apart: link.is_cluster(),
            tops: sidegate::rate_limit::top::Tops::new(10),
            fleet: Fleet::new(),
            leases: Leases::new(MemorySettings::default()),
            refusals: Refusals::new(MemorySettings::default()),
            waiting: Arc::default(),
            clock: Clock::System,
            registry,
            number: 0,
        };
        let counts = Counts::new();
        let register = Register::new(&worker, counts.clone(), 1024);
        Self { worker, link, counts, register }
    }

    /// Limits by address, of these names and most.
    fn limits(&self, limits: &[(&str, u64)], life: Duration) -> Rc<InFlight> {
        let limit = |&(name, most): &(&str, u64)| {
            let limit = Limit::new(name, Key(vec![Part::Address]), Quota::ONE);
            Arc::new(Limit { rule: Rule::InFlight { most, life }, ..limit })
        };
        let limits: Vec<_> = limits.iter().map(limit).collect();
        InFlight::new(&limits, Settings::default(), &self.worker, &self.register, None).expect("limits")
    }

    /// One request, all the way through; its answer is in flight as long as it is held.
    async fn ask(&self, limits: &Rc<InFlight>) -> Response<Body> {
        let asks: Rc<[Rc<dyn Ask>]> = Rc::new([limits.clone() as Rc<dyn Ask>]);
        let inner = in_flight::layer(limits.clone()).layer(app());
        pass(gather::layer(Some(self.link.clone()), asks).layer(inner), Box::new(request())).await
    }

    fn in_flight(&self, limit: &str) -> u64 {
        self.worker.registry.value("sidegate_limit_in_flight", &[("limit", limit)])
    }
}

fn app() -> impl Next {
    service_fn(|_: Box<Exchange>| async { Ok(Response::new(Body::full("an answer"))) })
}

/// How many Redis holds for in flight under `limit`.
fn places(server: &RedisServer, limit: &str) -> usize {
    let key = format!("sidegate:limit:{{{limit}:192.0.2.1}}:flight");
    server.ask(&["ZCARD", &key]).expect("a number")
}

/// Waits for a fact, with all that the worker does going on.
async fn until(what: &str, mut fact: impl FnMut() -> bool) {
    for _ in 0..1_000 {
        if fact() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited ten seconds in vain: {what}");
}

#[test]
fn a_place_is_taken_until_the_answer_ends_and_nothing_is_left_then() {
    on_a_worker(async {
        let server = RedisServer::start();
        let instance = Instance::start(&server.url()).await;
        let limits = instance.limits(&[("two", 2), ("ten", 10)], Duration::from_secs(30));
        let one = instance.ask(&limits).await;
        let two = instance.ask(&limits).await;
        let refused = instance.ask(&limits).await;
        assert_eq!([&one, &two, &refused].map(|answer| answer.status().as_u16()), [200, 200, 429]);
        assert_eq!(refused.headers()["retry-after"], "1");
        assert_eq!(
            two.headers()["ratelimit-policy"],
            "\"two\";q=2;qu=\"concurrent-requests\", \"ten\";q=10;qu=\"concurrent-requests\""
        );
        assert_eq!(two.headers()["ratelimit"], "\"two\";r=0, \"ten\";r=8");
        assert_eq!((places(&server, "two"), places(&server, "ten")), (2, 2));
        assert_eq!((instance.in_flight("two"), instance.in_flight("ten"), instance.counts.keys()), (2, 2, 2));
        // An answer that nobody reads has ended, too; at this instance its place is free at once.
        drop(one);
        assert_eq!(instance.ask(&limits).await.status(), StatusCode::OK);
        drop((two, refused));
        until("no place is left", || places(&server, "two") + places(&server, "ten") == 0).await;
        assert_eq!((instance.in_flight("two"), instance.in_flight("ten"), instance.counts.keys()), (0, 0, 0));
    });
}

#[test]
fn whoever_leaves_while_redis_is_being_asked_leaves_nothing_behind() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let instance = Instance::start(&relay.url()).await;
        let limits = instance.limits(&[("one", 1)], Duration::from_secs(30));
        relay.delay(Duration::from_millis(20), Duration::from_millis(20));
        for patience in [0, 1, 10, 25, 30] {
            let asking = pin!(instance.ask(&limits));
            let left = tokio::time::timeout(Duration::from_millis(patience), asking).await;
            assert!(left.is_err(), "Redis answers later than that");
        }
        until("Redis has been asked", || relay.commands().iter().any(|command| command.begins("evalsha"))).await;
        until("no place is left", || places(&server, "one") == 0).await;
        until("it is free", || instance.counts.keys() == 0).await;
        assert_eq!(instance.ask(&limits).await.status(), StatusCode::OK);
    });
}

#[test]
fn what_lasts_is_renewed_and_told_to_a_redis_that_came_back_empty() {
    on_a_worker(async {
        let mut server = RedisServer::start();
        let instance = Instance::start(&server.url()).await;
        let limits = instance.limits(&[("one", 1)], Duration::from_secs(1));
        let long = instance.ask(&limits).await;
        // Renewed: it is there after more than its life, whoever looks.
        let key = "sidegate:limit:{one:192.0.2.1}:flight";
        let until_when =
            || server.ask::<Vec<(String, u64)>>(&["ZRANGE", key, "0", "-1", "WITHSCORES"]).expect("places");
        let first = until_when()[0].1;
        until("it is renewed twice", || until_when().first().is_some_and(|(_, when)| *when > first + 600)).await;
        assert_eq!(instance.ask(&limits).await.status(), StatusCode::TOO_MANY_REQUESTS);

        server.ask::<()>(&["FLUSHALL"]).expect("a Redis to empty");
        assert_eq!(instance.ask(&limits).await.status(), StatusCode::TOO_MANY_REQUESTS, "this process knows better");
        until("it is told again", || places(&server, "one") == 1).await;

        server.kill();
        becomes(&instance.link, false).await;
        assert_eq!(instance.ask(&limits).await.status(), StatusCode::TOO_MANY_REQUESTS, "it is in flight still");
        drop(long);
        let local = instance.ask(&limits).await;
        assert_eq!(local.status(), StatusCode::OK);
        server.restart();
        becomes(&instance.link, true).await;
        until("Redis knows of who was let in without it", || places(&server, "one") == 1).await;
        drop(local);
        until("no place is left", || places(&server, "one") == 0).await;
    });
}

#[test]
fn an_end_that_redis_could_not_be_told_is_told_later_and_a_process_that_ends_takes_all_back() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let instance = Instance::start(&relay.url()).await;
        let limits = instance.limits(&[("ten", 10)], Duration::from_secs(30));
        let (one, two) = (instance.ask(&limits).await, instance.ask(&limits).await);
        relay.turn(crate::relay::Mode::Refuse);
        relay.reset_all();
        becomes(&instance.link, false).await;
        drop(one);
        assert_eq!(places(&server, "ten"), 2);
        relay.turn(crate::relay::Mode::Pass);
        until("it is told", || places(&server, "ten") == 1).await;
        instance.register.leave().await;
        assert_eq!(places(&server, "ten"), 0);
        drop(two);
    });
}

#[test]
fn in_a_cluster_a_refusal_by_one_limit_leaves_nothing_under_the_other() {
    let cluster = RedisCluster::start();
    on_a_worker(async {
        let instance = Instance::start(&cluster.url()).await;
        let limits = instance.limits(&[("narrow", 1), ("wide", 100)], Duration::from_secs(30));
        let [narrow, wide] = ["narrow", "wide"].map(|limit| {
            let key = format!("sidegate:limit:{{{limit}:192.0.2.1}}:flight");
            let node = &cluster.nodes()[cluster.master_of(&key)];
            move || node.ask::<usize>(&["ZCARD", &key]).expect("a number")
        });
        let one = instance.ask(&limits).await;
        for _ in 0..20 {
            assert_eq!(instance.ask(&limits).await.status(), StatusCode::TOO_MANY_REQUESTS);
        }
        until("only one is left", || (narrow(), wide()) == (1, 1)).await;
        drop(one);
        until("none is left", || (narrow(), wide()) == (0, 0)).await;
        assert_eq!(instance.ask(&limits).await.status(), StatusCode::OK);
    });
}
