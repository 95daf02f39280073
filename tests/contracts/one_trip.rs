//! What a request costs in round trips, and what limits do when Redis goes and comes back.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode, Version};
use sidegate::body::Body;
use sidegate::clock::{Clock, instant};
use sidegate::exchange::{Answer, Answers, Client, Connection, Exchange, Next, Principal, Scheme, Slot, pass};
use sidegate::gather::{self, Ask};
use sidegate::rate_limit::lease::Leases;
use sidegate::rate_limit::partition::{Key, Part};
use sidegate::rate_limit::quota::Quota;
use sidegate::rate_limit::refusals::Refusals;
use sidegate::rate_limit::store::memory::MemoryStore;
use sidegate::rate_limit::store::{MemorySettings, redis::SCRIPTS};
use sidegate::rate_limit::{self, Limit, RateLimit, Settings, Worker};
use sidegate::redis_pool::Link;
use sidegate::redis_pool::fleet::Fleet;
use sidegate::telemetry::Record;
use sidegate::telemetry::registry::Registry;
use tower::{Layer, service_fn};

use crate::redis_server::RedisServer;
use crate::{becomes, on_a_worker, settings};

/// A question of another room.
struct Greeting(Slot);

impl Ask for Greeting {
    fn slot(&self) -> Slot {
        self.0
    }

    fn ask(&self, _: &mut Exchange, pipeline: &mut redis::Pipeline) -> usize {
        pipeline.cmd("ECHO").arg("hello").cmd("ECHO").arg("world");
        2
    }
}

/// A request of the user 7 from 192.0.2.1.
pub fn request() -> Exchange {
    let request = Request::builder().uri("/").body(Body::empty()).unwrap();
    let record = Record::new(instant(), request.method().clone(), None, Version::HTTP_11);
    Exchange {
        request,
        connection: Rc::new(Connection { peer: None, tls: false, certificate: None, tunnel: RefCell::default() }),
        interim: None,
        client: Client { address: [192, 0, 2, 1].into(), trusted: false, scheme: Scheme::Http },
        parameters: Vec::new(),
        plan: None,
        answers: Answers::default(),
        presented: None,
        principal: Some(Arc::new(Principal {
            session: "web".into(),
            user: "7".into(),
            session_digest: "d".into(),
            session_key: "d".into(),
            attributes: Vec::new(),
        })),
        posted: None,
        trail: Rc::new(RefCell::new(record)),
    }
}

fn limits(name: &str, part: Part, amount: u64, link: &Link, registry: &Arc<Registry>) -> Rc<RateLimit> {
    let quota = Quota { amount, per: Duration::from_secs(3600) };
    let limit = Limit::new(name, Key(vec![part]), quota);
    let worker = Worker {
        memory: MemoryStore::new(MemorySettings::default()),
        link: Some(link.clone()),
        prefix: "sidegate:".into(),
        apart: false,
        tops: sidegate::rate_limit::top::Tops::new(10),
        fleet: Fleet::new(),
        waiting: Arc::default(),
        leases: Leases::new(MemorySettings::default()),
        refusals: Refusals::new(MemorySettings::default()),
        clock: Clock::System,
        registry: registry.clone(),
        number: 0,
    };
    RateLimit::new(&[Arc::new(limit)], None, Settings::default(), &worker)
}

/// Looks at what `gather` left for others.
fn app() -> impl Next {
    service_fn(|mut exchange: Box<Exchange>| async move {
        assert!(!matches!(exchange.answers.take(Slot::Cache), Answer::NotAsked));
        Ok(Response::new(Body::empty()))
    })
}

fn remaining(response: &Response<Body>) -> &str {
    response.headers().get("x-ratelimit-remaining").map_or("", |value| value.to_str().unwrap())
}

#[test]
fn all_that_a_request_needs_is_one_trip_and_a_limit_by_principal_a_second() {
    on_a_worker(async {
        let server = RedisServer::start();
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &SCRIPTS, &registry, 0);
        becomes(&link, true).await;
        let by_address = limits("per-address", Part::Address, 100, &link, &registry);
        let by_session = limits("per-session", Part::Session, 10, &link, &registry);
        let asks: Rc<[Rc<dyn Ask>]> =
            Rc::new([Rc::new(Greeting(Slot::Session)), by_address.clone(), Rc::new(Greeting(Slot::Cache))]);

        let one =
            gather::layer(Some(link.clone()), asks.clone()).layer(rate_limit::layer(by_address.clone()).layer(app()));
        assert_eq!(remaining(&pass(one, Box::new(request())).await), "99");
        assert_eq!(registry.value("sidegate_redis_round_trips_total", &[]), 1);

        let both = rate_limit::layer(by_address).layer(rate_limit::layer(by_session).layer(app()));
        let both = gather::layer(Some(link), asks).layer(both);
        assert_eq!(remaining(&pass(both, Box::new(request())).await), "9");
        assert_eq!(registry.value("sidegate_redis_round_trips_total", &[]), 3);
    });
}

#[test]
fn limits_go_local_when_redis_is_killed_and_back_by_themselves() {
    on_a_worker(async {
        let mut server = RedisServer::start();
        let registry = Registry::new(1);
        let link = Link::new(&settings(&server), &SCRIPTS, &registry, 0);
        becomes(&link, true).await;
        let by_address = limits("per-address", Part::Address, 3, &link, &registry);
        let asks: Rc<[Rc<dyn Ask>]> = Rc::new([by_address.clone(), Rc::new(Greeting(Slot::Cache))]);
        let stack = gather::layer(Some(link.clone()), asks).layer(rate_limit::layer(by_address).layer(app()));
        let call = async || {
            let request = request();
            let trail = request.trail.clone();
            let response = pass(stack.clone(), Box::new(request)).await;
            (response.status(), trail.borrow().limit.as_ref().map(|limit| limit.counted))
        };

        let (ok, refused) = (StatusCode::OK, StatusCode::TOO_MANY_REQUESTS);
        // Redis comes back empty each time; what was spent stays spent.
        for (counted, statuses) in [
            ("redis", [ok, ok, ok, refused]),
            ("local", [refused; 4]),
            ("redis", [refused; 4]),
            ("local", [refused; 4]),
        ] {
            for status in statuses {
                assert_eq!(call().await, (status, Some(counted)));
            }
            if counted == "redis" {
                server.kill();
            } else {
                becomes(&link, false).await;
                server.restart();
                becomes(&link, true).await;
            }
        }
    });
}
