//! Limits while Redis is away, and once it is back: what a client gets of several instances together.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use http::{Response, StatusCode};
use sidegate::body::Body;
use sidegate::clock::Clock;
use sidegate::exchange::{Exchange, Next, pass};
use sidegate::gather::{self, Ask};
use sidegate::rate_limit::lease::Leases;
use sidegate::rate_limit::partition::{Key, Part};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::refusals::Refusals;
use sidegate::rate_limit::store::memory::MemoryStore;
use sidegate::rate_limit::store::{MemorySettings, OnOutage, redis::SCRIPTS};
use sidegate::rate_limit::{self, Limit, RateLimit, Settings, Worker};
use sidegate::redis_pool::Link;
use sidegate::redis_pool::fleet::{self, Fleet, Member, Pace};
use sidegate::telemetry::registry::Registry;
use tower::{Layer, service_fn};

use crate::one_trip::request;
use crate::redis_server::{RedisCluster, RedisServer};
use crate::relay::{Mode, Relay};
use crate::{becomes, on_a_worker};

/// One sidegate, as far as limits go.
struct Instance {
    worker: Worker,
    link: Link,
    member: Member,
}

/// What a client was told.
#[derive(Debug)]
struct Told {
    allowed: bool,
    counted: &'static str,
    limit: String,
    remaining: String,
}

impl Instance {
    fn start(url: &str) -> Self {
        let registry = Registry::new(1);
        let settings = sidegate::redis_pool::Settings::of_url(url).expect("a URL");
        let settings = sidegate::redis_pool::Settings { timeout: Duration::from_secs(2), ..settings };
        let link = Link::new(&settings, &[&SCRIPTS[..], &[fleet::SCRIPT]].concat(), &registry, 0);
        let fleet = Fleet::new();
        // No machine is so busy that an instance falls silent for as long.
        let pace = Pace { every: Duration::from_millis(50), life: Duration::from_secs(3_600) };
        let member = fleet.join(&link, "sidegate:", pace, Clock::System, &registry, 0);
        let worker = Worker {
            memory: MemoryStore::new(MemorySettings::default()),
            link: Some(link.clone()),
            prefix: "sidegate:".into(),
            apart: link.is_cluster(),
            tops: sidegate::rate_limit::top::Tops::new(10),
            fleet,
            waiting: Arc::default(),
            leases: Leases::new(MemorySettings::default()),
            refusals: Refusals::new(MemorySettings::default()),
            clock: Clock::System,
            registry,
            number: 0,
        };
        Self { worker, link, member }
    }

    /// So many, each with a link that is up and having counted the others.
    async fn fleet<const N: usize>(url: &str) -> [Self; N] {
        let instances = [(); N].map(|()| Self::start(url));
        for instance in &instances {
            instance.counts(N as u32).await;
        }
        instances
    }

    async fn counts(&self, instances: u32) {
        becomes(&self.link, true).await;
        for _ in 0..1_000 {
            if self.worker.fleet.instances() == instances {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{} instances instead of {instances}", self.worker.fleet.instances());
    }

    /// Limits by address, of these names and units an hour.
    fn limits(&self, limits: &[(&str, u64)], on_outage: OnOutage) -> Rc<RateLimit> {
        let limit = |&(name, amount): &(&str, u64)| {
            let quota = Quota { amount, per: Duration::from_secs(3600) };
            Arc::new(Limit::new(name, Key(vec![Part::Address]), quota))
        };
        let limits: Vec<_> = limits.iter().map(limit).collect();
        RateLimit::new(&limits, None, Settings { on_outage, ..Settings::default() }, &self.worker)
    }

    /// One request of a client, all the way through.
    async fn ask(&self, limits: &Rc<RateLimit>, client: Ipv4Addr) -> Told {
        let asks: Rc<[Rc<dyn Ask>]> = Rc::new([limits.clone() as Rc<dyn Ask>]);
        let inner = rate_limit::layer(limits.clone()).layer(app());
        let stack = gather::layer(Some(self.link.clone()), asks).layer(inner);
        let mut request = request();
        request.client.address = client.into();
        let trail = request.trail.clone();
        let response = pass(stack, Box::new(request)).await;
        let field = |name: &str| response.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        assert!(
            [StatusCode::OK, StatusCode::TOO_MANY_REQUESTS, StatusCode::SERVICE_UNAVAILABLE]
                .contains(&response.status()),
            "{response:?}"
        );
        Told {
            allowed: response.status() == StatusCode::OK,
            counted: trail.borrow().limit.as_ref().map_or("", |limit| limit.counted),
            limit: field("x-ratelimit-limit"),
            remaining: field("x-ratelimit-remaining"),
        }
    }

    fn outcomes(&self, limit: &str, outcome: &str) -> u64 {
        self.worker.registry.value("sidegate_limit_decisions_total", &[("limit", limit), ("outcome", outcome)])
    }
}

fn app() -> impl Next {
    service_fn(|_: Box<Exchange>| async { Ok(Response::new(Body::empty())) })
}

const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// So many requests of one client, at each instance in turn: how many were allowed, all of them having been counted there.
async fn in_turn(
    instances: &[Instance; 2],
    limits: &[Rc<RateLimit>; 2],
    requests: usize,
    counted: &'static str,
) -> usize {
    let mut allowed = 0;
    for turn in 0..requests {
        let told = instances[turn % 2].ask(&limits[turn % 2], CLIENT).await;
        assert_eq!(told.counted, counted, "{told:?}");
        allowed += usize::from(told.allowed);
    }
    allowed
}

#[test]
fn what_was_spent_stays_spent_when_redis_goes_and_when_it_comes_back_empty_or_not() {
    on_a_worker(async {
        // Of 20: what was spent before; and what two instances then give together.
        for (spent, given) in [(0, 20), (6, 20), (20, 0)] {
            for empty in [false, true] {
                let server = RedisServer::start();
                let relay = Relay::to(server.port());
                let instances = Instance::fleet::<2>(&relay.url()).await;
                let limits = instances.each_ref().map(|one| one.limits(&[("twenty", 20)], OnOutage::Local));
                // Who has spent all of it hears so from both.
                let requests = if spent == 20 { 22 } else { spent };
                assert_eq!(in_turn(&instances, &limits, requests, "redis").await, spent);

                relay.turn(Mode::Refuse);
                relay.reset_all();
                for instance in &instances {
                    becomes(&instance.link, false).await;
                }
                let first = instances[0].ask(&limits[0], CLIENT).await;
                assert_eq!((first.counted, &*first.limit), ("local", "10"), "this instance's share: {first:?}");
                assert_eq!(first.remaining, if given == 0 { "0" } else { "9" });
                let local = usize::from(first.allowed) + in_turn(&instances, &limits, 59, "local").await;
                assert_eq!(local, given, "{spent} were spent before");

                if empty {
                    server.ask::<()>(&["FLUSHALL"]).unwrap();
                }
                relay.turn(Mode::Pass);
                for instance in &instances {
                    becomes(&instance.link, true).await;
                }
                let back = in_turn(&instances, &limits, 60, "redis").await;
                assert_eq!(back, 0, "{spent} were spent before, empty: {empty}");
                instances.into_iter().for_each(|instance| drop(instance.member));
            }
        }
    });
}

#[test]
fn a_redis_that_comes_back_empty_while_nobody_asks_is_told_of_who_has_spent_much() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let [instance] = Instance::fleet::<1>(&relay.url()).await;
        let _vigil = rate_limit::Vigil::start(&instance.worker.memory, &instance.link);
        let limits = instance.limits(&[("ten", 10)], OnOutage::Local);
        for _ in 0..8 {
            assert!(instance.ask(&limits, CLIENT).await.allowed);
        }
        relay.turn(Mode::Refuse);
        relay.reset_all();
        becomes(&instance.link, false).await;
        server.ask::<()>(&["FLUSHALL"]).unwrap();
        relay.turn(Mode::Pass);
        becomes(&instance.link, true).await;
        let told = instance.ask(&limits, CLIENT).await;
        assert_eq!((told.counted, told.allowed, &*told.remaining), ("redis", true, "1"), "{told:?}");
        assert!(instance.ask(&limits, CLIENT).await.allowed && !instance.ask(&limits, CLIENT).await.allowed);
        drop(instance.member);
    });
}

#[test]
fn an_answer_that_was_under_way_takes_back_nothing_of_what_another_worker_gave_meanwhile() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relays = [(); 2].map(|()| Relay::to(server.port()));
        // Two workers of a process have one memory.
        let mut workers = relays.each_ref().map(|relay| Instance::start(&relay.url()));
        workers[1].worker.memory = workers[0].worker.memory.clone();
        let limits = workers.each_ref().map(|one| one.limits(&[("ten", 10)], OnOutage::Local));
        for worker in &workers {
            worker.counts(2).await;
        }
        for _ in 0..5 {
            assert_eq!(workers[1].ask(&limits[1], CLIENT).await.counted, "redis");
        }
        relays[0].turn(Mode::Refuse);
        relays[0].reset_all();
        becomes(&workers[0].link, false).await;

        relays[1].delay(Duration::ZERO, Duration::from_millis(300));
        relays[1].forget();
        let meanwhile = async || {
            while !relays[1].commands().iter().any(|command| command.mentions("limit:{ten")) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let mut allowed = 0;
            for _ in 0..10 {
                let told = workers[0].ask(&limits[0], CLIENT).await;
                assert_eq!(told.counted, "local");
                allowed += u32::from(told.allowed);
            }
            allowed
        };
        let (answered, allowed) = tokio::join!(workers[1].ask(&limits[1], CLIENT), meanwhile());
        assert_eq!((answered.counted, answered.allowed, allowed), ("redis", true, 2), "half of what is left");
        let told = workers[0].ask(&limits[0], CLIENT).await;
        assert_eq!((told.counted, told.allowed), ("local", false), "{told:?}");
    });
}

#[test]
fn an_instance_that_was_back_alone_at_an_empty_redis_gives_its_share_when_redis_goes_again() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relays = [(); 2].map(|()| Relay::to(server.port()));
        let instances = relays.each_ref().map(|relay| Instance::start(&relay.url()));
        let limits = instances.each_ref().map(|one| one.limits(&[("ten", 10)], OnOutage::Local));
        let goes = async |index: usize| {
            relays[index].turn(Mode::Refuse);
            relays[index].reset_all();
            becomes(&instances[index].link, false).await;
        };
        for instance in &instances {
            instance.counts(2).await;
        }
        goes(0).await;
        goes(1).await;
        server.ask::<()>(&["FLUSHALL"]).unwrap();
        relays[0].turn(Mode::Pass);
        becomes(&instances[0].link, true).await;
        relays[0].forget();
        while relays[0].commands().iter().filter(|command| command.mentions("instances")).count() < 6 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(server.ask::<u32>(&["ZCARD", "sidegate:instances"]).unwrap(), 1, "the other is away still");

        goes(0).await;
        let first = instances[0].ask(&limits[0], CLIENT).await;
        assert_eq!((first.counted, &*first.limit, &*first.remaining), ("local", "5", "4"));
        assert_eq!(1 + in_turn(&instances, &limits, 60, "local").await, 10);
    });
}

#[test]
fn a_redis_that_is_killed_and_comes_back_under_load_gives_no_client_twice() {
    const QUOTA: u64 = 10;
    let mut server = RedisServer::start();
    let relay = Relay::to(server.port());
    let (stop, turns) = (AtomicBool::new(false), AtomicU64::new(0));
    // A thread and a runtime for each instance, as two processes have them.
    let load = || {
        on_a_worker(async {
            let instance = Instance::start(&relay.url());
            instance.counts(2).await;
            let limits = instance.limits(&[("ten", QUOTA)], OnOutage::Local);
            let mut allowed = HashMap::<Ipv4Addr, u64>::new();
            while !stop.load(Ordering::Relaxed) {
                // Twenty clients at a time, and others every 800 requests.
                let turn = turns.fetch_add(1, Ordering::Relaxed) as u32;
                let client = Ipv4Addr::from_bits(0x0A00_0000 + turn / 800 * 20 + fastrand::u32(..20));
                let told = instance.ask(&limits, client).await;
                *allowed.entry(client).or_default() += u64::from(told.allowed);
                tokio::task::yield_now().await;
            }
            drop(instance.member);
            allowed
        })
    };
    let counted = std::thread::scope(|scope| {
        let threads = [(); 2].map(|()| scope.spawn(load));
        let more = |requests: u64| {
            let until = turns.load(Ordering::Relaxed) + requests;
            while turns.load(Ordering::Relaxed) < until {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        for _ in 0..3 {
            more(3_000);
            server.kill();
            more(3_000);
            server.restart();
        }
        more(3_000);
        stop.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().expect("an instance"))
    });
    let mut allowed = HashMap::<Ipv4Addr, u64>::new();
    counted.into_iter().flatten().for_each(|(client, count)| *allowed.entry(client).or_default() += count);
    let most = allowed.values().max().copied().unwrap_or(0);
    let full = allowed.values().filter(|count| **count >= QUOTA).count();
    // A client lives too short for more than one turn of Redis. When Redis goes, one instance has heard of all that was spent,
    // and gives half of the rest; the other has as much or, if it has not seen the client lately, gives its share, which
    // is half. If neither has heard that half was spent, both give their share on top of less than half. When Redis is
    // back, the one that is there first asks for all of it, and the other may have given its share.
    assert!(most <= QUOTA + QUOTA / 2, "a client got {most} of {QUOTA}");
    assert!(full * 2 > allowed.len(), "{full} of {} got what is theirs", allowed.len());
}

#[test]
fn a_redis_that_answers_and_cannot_count_is_an_outage_for_this_request() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let [instance] = Instance::fleet::<1>(&relay.url()).await;
        let limits = instance.limits(&[("five", 5)], OnOutage::Local);
        server.ask::<()>(&["LPUSH", "sidegate:limit:{five:192.0.2.1}", "x"]).unwrap();
        let mut counts = Vec::new();
        for _ in 0..6 {
            let told = instance.ask(&limits, CLIENT).await;
            counts.push((told.counted, told.allowed));
            let other = instance.ask(&limits, Ipv4Addr::new(192, 0, 2, 2)).await;
            assert_eq!(other.counted, "redis", "another key is none the worse");
        }
        assert_eq!(counts, [[("local", true); 5].as_slice(), &[("local", false)]].concat());
        assert_eq!((instance.outcomes("five", "local_allowed"), instance.outcomes("five", "local_refused")), (5, 1));

        for line in ["-OOM command not allowed when used memory > 'maxmemory'.", "-NOPERM no", "-ERR no", ":1"] {
            relay.turn(Mode::fail_only(line, &["EVALSHA"]));
            for (on_outage, allowed, counted) in
                [(OnOutage::Local, true, "local"), (OnOutage::Open, true, "open"), (OnOutage::Closed, false, "closed")]
            {
                let limits = instance.limits(&[(counted, 100)], on_outage);
                let told = instance.ask(&limits, CLIENT).await;
                assert_eq!((told.allowed, told.counted), (allowed, counted), "{line}");
            }
            assert!(instance.link.is_up(), "{line}");
        }
        assert_eq!((instance.outcomes("open", "open"), instance.outcomes("closed", "closed")), (4, 4));
    });
}

#[test]
fn limits_that_are_settled_apart_cost_a_refused_client_nothing_of_the_others() {
    on_a_worker(async {
        let server = RedisServer::start();
        let relay = Relay::to(server.port());
        let [mut instance] = Instance::fleet::<1>(&relay.url()).await;
        instance.worker.apart = true;
        let limits = instance.limits(&[("wide", 10), ("narrow", 2)], OnOutage::Local);
        relay.forget();
        let mut allowed = 0;
        for _ in 0..50 {
            allowed += u32::from(instance.ask(&limits, CLIENT).await.allowed);
        }
        assert_eq!(allowed, 2);
        // What is taken back is sent behind the answer, and on the one connection before what is asked next.
        tokio::task::yield_now().await;
        let wide = instance.limits(&[("wide", 10)], OnOutage::Local);
        assert_eq!(instance.ask(&wide, CLIENT).await.remaining, "7");
        let commands = relay.commands().iter().filter(|command| command.mentions("limit:{")).count();
        assert_eq!(commands, 50 * 2 + 48 + 1, "one for each limit, and one to take back");
        drop(instance.member);
    });
}

#[test]
fn in_a_cluster_limits_lie_apart_and_a_refused_client_pays_for_none_and_instances_are_counted() {
    let cluster = RedisCluster::start();
    on_a_worker(async {
        let instances = Instance::fleet::<2>(&cluster.url()).await;
        assert!(instances[0].worker.apart);
        // Two limits whose counters for this client lie with different masters.
        let master = |name: &str| cluster.master_of(&format!("sidegate:limit:{{{name}:{CLIENT}}}"));
        let of_wide = master("wide");
        let narrow = (0..).map(|number| format!("narrow-{number}")).find(|name| master(name) != of_wide).unwrap();
        let limits = instances.each_ref().map(|one| one.limits(&[("wide", 10), (&narrow, 2)], OnOutage::Closed));
        assert_eq!(in_turn(&instances, &limits, 50, "redis").await, 2);
        // Two of ten in an hour: what more was charged is taken back behind.
        let mut life = 0;
        for _ in 0..500 {
            life = cluster.nodes()[of_wide].ask(&["PTTL", &format!("sidegate:limit:{{wide:{CLIENT}}}")]).unwrap();
            if life <= 722_000 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!((700_000..=722_000).contains(&life), "{life} ms");
        instances.into_iter().for_each(|instance| drop(instance.member));
    });
}
