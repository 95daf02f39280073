//! What stored responses cost in trips to Redis, and what is left there of requests that came to nothing.

use sidegate::cache::store::{OPEN, STEP};
use sidegate::exchange::{Next, pass};
use sidegate::gather;

use super::*;

/// A cache behind `gather`, whose trips are counted.
pub(super) struct Counted {
    pub(super) trial: Trial,
    registry: Arc<Registry>,
}

impl Counted {
    pub(super) async fn new(server: RedisServer) -> Self {
        let registry = Registry::new(1);
        let link = Link::new(&crate::settings(&server), &[SCRIPT], &registry, 0);
        up(&link, true).await;
        Self { trial: Trial::new(Some((server, link))), registry }
    }

    /// How many trips `act` takes.
    pub(super) async fn trips<T>(&self, act: impl Future<Output = T>) -> (u64, T) {
        let trips = || self.registry.value("sidegate_redis_round_trips_total", &[]);
        let before = trips();
        let done = act.await;
        (trips() - before, done)
    }

    /// Sends it through `gather` and this cache, up to the head of the answer.
    pub(super) async fn head(&self, method: &str, uri: &str, fields: &[(&str, &str)]) -> Response<Body> {
        let app = layer(self.trial.cache.clone()).layer(self.trial.app_service());
        pass(self.gathered(app), exchange(method, uri, fields, Body::empty())).await
    }

    /// The same, and waits until the answer has been stored. Says what the cache did, and in how many trips.
    pub(super) async fn get(&self, uri: &str, fields: &[(&str, &str)]) -> (String, u64) {
        let (trips, head) = self.trips(self.head("GET", uri, fields)).await;
        let outcome = head.headers()["x-cache"].to_str().expect("text").to_owned();
        head.into_body().collect().await.expect("content");
        self.trial.stored().await;
        (outcome, trips)
    }

    fn gathered(&self, inner: impl Next) -> impl Next {
        let asks: Rc<[Rc<dyn gather::Ask>]> = Rc::new([self.trial.cache.clone()]);
        gather::layer(self.trial.worker.link.clone(), asks).layer(inner)
    }

    pub(super) fn redis(&self) -> redis::Connection {
        self.trial.redis()
    }
}

fn keys(redis: &mut redis::Connection) -> Vec<String> {
    redis::cmd("KEYS").arg("*").query(redis).expect("keys")
}

#[test]
fn a_request_costs_one_trip_whether_anything_is_stored_or_not() {
    as_worker(async || {
        let counted = Counted::new(RedisServer::start()).await;
        assert_eq!(counted.get("/page", &[]).await, ("MISS".into(), 1));
        assert_eq!(counted.get("/page", &[]).await, ("HIT".into(), 1));
        counted.trial.time.advance(Duration::from_secs(60));
        assert_eq!(counted.get("/page", &[]).await, ("EXPIRED".into(), 1));
        let (trips, _) = counted.trips(counted.head("HEAD", "/other", &[])).await;
        assert_eq!(trips, 1);
        assert_eq!(counted.get("/range", &[("range", "bytes=0-1")]).await, ("MISS".into(), 1));
    });
}

#[test]
fn a_second_trip_is_taken_only_to_learn_what_answers_vary_by() {
    as_worker(async || {
        let mut counted = Counted::new(RedisServer::start()).await;
        counted.trial = counted.trial.app(saying(&[("vary", "accept-language")]));
        let german = [("accept-language", "de")];
        for uri in ["/a", "/b"] {
            assert_eq!(counted.get(uri, &german).await, ("MISS".into(), 1));
        }
        // Another worker, which has learnt nothing: it learns by the first, and guesses right from then on.
        counted.trial = counted.trial.route(|_| ());
        assert_eq!(counted.get("/a", &german).await, ("HIT".into(), 2));
        assert_eq!(counted.get("/b", &german).await, ("HIT".into(), 1));
        assert_eq!(counted.get("/b", &[("accept-language", "fr")]).await, ("MISS".into(), 1));
        // The app varies in another way elsewhere: a wrong guess finds what there is all the same.
        counted.trial = counted.trial.app(saying(&[("vary", "accept")]));
        assert_eq!(counted.get("/c", &german).await, ("MISS".into(), 1));
        counted.trial = counted.trial.route(|_| ());
        assert_eq!(counted.get("/a", &german).await.0, "HIT");
        assert_eq!(counted.get("/c", &german).await, ("HIT".into(), 2));
        assert_eq!(counted.get("/c", &german).await, ("HIT".into(), 1));
    });
}

#[test]
fn a_request_that_is_refused_further_in_or_whose_client_leaves_leaves_nothing_behind() {
    as_worker(async || {
        let counted = Counted::new(RedisServer::start()).await;
        let mut redis = counted.redis();
        let refusing = || {
            service_fn(|exchange: Box<Exchange>| async move {
                drop(exchange);
                let mut refusal = Response::new(Body::empty());
                *refusal.status_mut() = StatusCode::TOO_MANY_REQUESTS;
                Ok(refusal)
            })
        };
        let request = || exchange("GET", "/page", &[], Body::empty());
        assert_eq!(pass(counted.gathered(refusing()), request()).await.status(), 429);
        counted.trial.stored().await;
        assert_eq!(keys(&mut redis), [""; 0]);

        let (arrived, mut arrivals) = tokio::sync::mpsc::unbounded_channel();
        let waiting = service_fn(move |exchange: Box<Exchange>| {
            let arrived = arrived.clone();
            async move {
                arrived.send(()).expect("a test that listens");
                let _exchange = exchange;
                std::future::pending().await
            }
        });
        let left = tokio::task::spawn_local(pass(counted.gathered(waiting), request()));
        arrivals.recv().await.expect("an arrival");
        assert_eq!(keys(&mut redis), ["sidegate:cache:{example.com/page}:g"]);
        left.abort();
        assert!(left.await.is_err());
        counted.trial.stored().await;
        assert_eq!(keys(&mut redis), [""; 0]);

        // What others have opened or stored stays.
        counted.get("/page", &[]).await;
        assert_eq!(pass(counted.gathered(refusing()), request()).await.status(), 429);
        counted.trial.stored().await;
        assert_eq!(keys(&mut redis).len(), 2);
        assert_eq!(counted.get("/page", &[]).await.0, "HIT");
    });
}

#[test]
fn who_may_not_fill_opens_nothing() {
    as_worker(async || {
        let counted = Counted::new(RedisServer::start()).await;
        counted.head("HEAD", "/page", &[]).await;
        counted.head("GET", "/page", &[("cache-control", "no-store")]).await;
        counted.trial.stored().await;
        assert_eq!(keys(&mut counted.redis()), [""; 0]);
    });
}

#[test]
fn a_generation_outlives_what_is_stored_under_it_and_its_end_seldom_moves() {
    as_worker(async || {
        let mut counted = Counted::new(RedisServer::start()).await;
        counted.trial.worker.clock = Clock::System;
        counted.trial = counted.trial.route(|_| ()).app(saying(&[("cache-control", "max-age=900")]));
        let mut redis = counted.redis();
        let generation = "sidegate:cache:{example.com/page}:g";
        let end = |redis: &mut redis::Connection, key: &str| -> i64 {
            redis::cmd("EXPIRETIME").arg(key).query(redis).expect("an end")
        };
        counted.head("GET", "/page?0", &[]).await;
        let (now, _): (i64, i64) = redis::cmd("TIME").query(&mut redis).expect("a time");
        let opened = end(&mut redis, generation) - now;
        // EXPIRETIME rounds up.
        assert!((1..=OPEN.as_secs().cast_signed() + 1).contains(&opened), "{opened}");
        let mut ends = Vec::new();
        for number in 0..20 {
            assert_eq!(counted.get(&format!("/page?{number}"), &[]).await.0, "MISS");
            ends.push(end(&mut redis, generation));
        }
        assert!(ends.iter().all(|end| end % STEP.cast_signed() == 0), "{ends:?}");
        ends.dedup();
        assert!(ends.len() <= 2, "twenty fills moved it {} times", ends.len());
        for key in keys(&mut redis) {
            assert!(key == generation || end(&mut redis, &key) < ends[0], "{key} outlives its generation");
        }
    });
}

#[test]
fn a_fill_that_took_longer_than_its_generation_may_live_is_not_kept() {
    as_worker(async || {
        let counted = Counted::new(RedisServer::start()).await;
        let slow = counted.head("GET", "/page", &[]).await;
        counted.trial.time.advance(OPEN);
        slow.into_body().collect().await.expect("content");
        counted.trial.stored().await;
        assert_eq!(keys(&mut counted.redis()), ["sidegate:cache:{example.com/page}:g"]);
    });
}

#[test]
fn text_is_compressed_in_redis_unless_the_policy_says_otherwise() {
    as_worker(async || {
        let mut counted = Counted::new(RedisServer::start()).await;
        let page = "<p>stored</p>".repeat(500);
        for compress in [true, false] {
            let page = page.clone();
            let policy = Policy { compress, max_body: 10_000, ..policy() };
            counted.trial = counted.trial.route(|route| route.policy = Some(policy.into())).app(move |_, _| {
                let mut response = Response::new(Body::full(page.clone()));
                response.headers_mut().insert("content-type", "text/html".parse().expect("a type"));
                response
            });
            let uri = format!("/{compress}");
            let told = [counted.trial.get(&uri).await, counted.trial.get(&uri).await];
            assert_eq!(told.each_ref().map(|told| told.field("x-cache")), ["MISS", "HIT"]);
            assert!(told[0].content == told[1].content && told[1].field("content-length") == "6500");
            let mut redis = counted.redis();
            let of_page = |key: &String| key.contains(&uri) && !key.ends_with(":g");
            let key = keys(&mut redis).into_iter().find(of_page).expect("an entry");
            let length: usize = redis::cmd("STRLEN").arg(key).query(&mut redis).expect("a length");
            assert_eq!(length < 1000, compress, "{length} bytes");
        }
    });
}

#[test]
fn a_redis_that_is_full_still_answers_with_what_it_has() {
    as_worker(async || {
        let counted = Counted::new(RedisServer::start()).await;
        assert_eq!(counted.get("/page", &[]).await.0, "MISS");
        let mut redis = counted.redis();
        redis::cmd("CONFIG").arg("SET").arg("maxmemory").arg(1).exec(&mut redis).expect("a bound");
        assert_eq!(counted.get("/page", &[]).await, ("HIT".into(), 1));
        let head = counted.head("GET", "/other", &[]).await;
        let told = "sidegate; fwd=uri-miss; fwd-status=200; detail=\"store-unavailable: redis\"";
        assert_eq!(head.headers()["cache-status"], told);
    });
}
