//! What a request costs in trips to Redis, as a relay in front of Redis counts them.
//!
//! Trips that serve no request (a PING on an idle connection, scripts, tracking, the register of instances) are told from
//! those that do by the keys that their commands name.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::client::request;
use crate::harness::relay::Trip;
use crate::harness::{Answer, Client, Configuration, Load, Mode, Origin, RedisServer, Relay, Reply, Sidegate, until};

const ALICE: &str = "alice-0123456789abcdef";
/// What the commands of a request name: the session's record, a counter, a place of the cache.
const KEYS: [&str; 3] = [SESSION, LIMIT, CACHE];
const SESSION: &str = "session:alice";
const LIMIT: &str = "sidegate:limit:";
const CACHE: &str = "sidegate:cache:{";

/// A route with all three, one without a limit, and one whose limit needs the record.
const TABLES: &str = r#"
[near]
session_max_age = "60s"
[limit.many]
key = "address"
quota = "1000000 per hour"
[limit.each]
key = "session:user.id"
quota = "1000000 per hour"
[cache.pages]
ttl = "60s"
[session.web]
format = "json"
user = "user.id"
[[route]]
path = "/all/{*rest}"
session = "web"
limits = ["many"]
cache = "pages"
[[route]]
path = "/free/{*rest}"
session = "web"
cache = "pages"
[[route]]
path = "/each/{*rest}"
session = "web"
limits = ["each"]
cache = "pages"
"#;

/// A sidegate in front of a Redis behind a relay, and an app that notes how many trips had been made when it was asked.
struct Bench {
    relay: Arc<Relay>,
    redis: RedisServer,
    sidegate: Sidegate,
    client: Client,
    app: Origin,
    /// Before the last request of the app.
    before_the_app: Arc<AtomicUsize>,
}

impl Bench {
    fn start() -> Self {
        Self::with("1s", |_| {})
    }

    /// `asked` is done whenever the app is asked.
    fn with(timeout: &str, asked: impl Fn(&Relay) + Send + Sync + 'static) -> Self {
        let redis = RedisServer::start();
        redis
            .ask::<()>(&["SET", &format!("session:{ALICE}"), r#"{"user":{"id":42}}"#, "EX", "600"])
            .expect("a session");
        let relay = Arc::new(Relay::to(redis.port()));
        let before_the_app = Arc::<AtomicUsize>::default();
        let (count, watched) = (before_the_app.clone(), relay.clone());
        let app = Origin::answering(move |request| {
            count.store(watched.count(), Ordering::SeqCst);
            asked(&watched);
            // A session is a credential: what may be shared all the same says so.
            Reply::text(&request.target).field("Cache-Control", "public, max-age=60")
        });
        let sidegate = Configuration::of(&app)
            .redis_at(&relay.url())
            .redis_lines(&format!("timeout = {timeout:?}"))
            .with(TABLES)
            .start();
        let client = sidegate.client();
        relay.forget();
        Self { relay, redis, sidegate, client, app, before_the_app }
    }

    /// Asks as alice. The answer is the right one, wherever it comes from.
    fn get(&mut self, target: &str) -> Answer {
        let answer = self.client.send(ask(target)).answer();
        assert_eq!((answer.status, answer.text().as_str()), (200, target));
        answer
    }

    /// The trips of requests so far.
    fn trips(&self) -> Vec<Trip> {
        of_requests(self.relay.trips())
    }

    /// Those that had been made when the app was asked last.
    fn before_the_app(&self) -> Vec<Trip> {
        let count = self.before_the_app.load(Ordering::SeqCst);
        of_requests(self.relay.trips().into_iter().take(count).collect())
    }

    /// Waits until `target` is stored in Redis: its generation, and the response.
    fn wait_until_stored(&self, target: &str) {
        let keys = format!("{CACHE}app.test{target}}}:*");
        until("a stored response", || self.redis.ask::<Vec<String>>(&["KEYS", &keys]).expect("keys").len() >= 2);
    }

    /// Asks until an answer has cost nothing but perhaps `allowed`.
    fn warm(&mut self, target: &str, allowed: &[&str]) {
        self.get(target);
        self.wait_until_stored(target);
        until("an answer from memory", || {
            self.relay.forget();
            self.get(target).field("x-cache") == Some("HIT") && self.trips().iter().all(|trip| names(trip, allowed))
        });
        self.relay.forget();
    }
}

fn ask(target: &str) -> Vec<u8> {
    request("GET", target, &[("Authorization", &format!("Bearer {ALICE}"))], b"")
}

/// The trips that name a key of a request.
fn of_requests(mut trips: Vec<Trip>) -> Vec<Trip> {
    trips.retain(|trip| KEYS.iter().any(|key| mentions(trip, key)));
    trips
}

fn mentions(trip: &Trip, key: &str) -> bool {
    trip.commands.iter().any(|command| command.mentions(key))
}

/// Whether it names these keys, and no other of a request.
fn names(trip: &Trip, keys: &[&str]) -> bool {
    KEYS.iter().all(|key| keys.contains(key) == mentions(trip, key))
}

#[test]
fn a_cold_request_costs_one_trip_whatever_its_route_asks_for() {
    let mut bench = Bench::start();
    for (target, keys) in [("/all/1", &[SESSION, LIMIT, CACHE][..]), ("/free/1", &[CACHE])] {
        bench.relay.forget();
        assert_eq!(bench.get(target).field("x-cache"), Some("MISS"));
        let trips = bench.before_the_app();
        // The second time alice is known, the page is not.
        let known: Vec<_> = keys.iter().chain(&[SESSION]).copied().collect();
        assert!(trips.len() == 1 && (names(&trips[0], keys) || names(&trips[0], &known)), "{target}: {trips:?}");
        bench.wait_until_stored(target);
    }
    assert_eq!(bench.app.count(), 2);
}

#[test]
fn a_limit_by_what_the_record_says_costs_a_second_trip_and_no_third() {
    let mut bench = Bench::start();
    bench.get("/each/1");
    let trips = bench.before_the_app();
    assert!(trips.len() == 2 && names(&trips[0], &[SESSION, CACHE]) && names(&trips[1], &[LIMIT]), "{trips:?}");
}

#[test]
fn a_hot_request_costs_no_trip_and_a_limited_one_its_limit() {
    let mut bench = Bench::start();
    bench.warm("/free/1", &[]);
    for _ in 0..20 {
        assert_eq!(bench.get("/free/1").field("x-cache"), Some("HIT"));
    }
    assert_eq!(bench.trips(), []);

    bench.warm("/all/1", &[LIMIT]);
    for turn in 1..=20 {
        assert_eq!(bench.get("/all/1").field("x-cache"), Some("HIT"));
        let trips = bench.trips();
        assert!(trips.len() <= turn && trips.iter().all(|trip| names(trip, &[LIMIT])), "{trips:?}");
    }
    assert_eq!(bench.app.count(), 2);
}

#[test]
fn with_a_redis_far_away_a_cold_request_waits_for_one_trip_and_a_hot_one_for_none() {
    let mut bench = Bench::start();
    bench.relay.delay(Duration::from_millis(10), Duration::from_millis(10));
    let asked = Instant::now();
    bench.get("/all/1");
    let (took, trips) = (asked.elapsed(), bench.before_the_app());
    assert!(took >= Duration::from_millis(20), "{took:?}");
    assert_eq!(trips.len(), 1, "{trips:?}");

    bench.warm("/free/1", &[]);
    bench.get("/free/1");
    assert_eq!(bench.trips(), []);
}

#[test]
fn what_is_written_to_redis_is_written_behind_the_answer() {
    // From the app's answer on, Redis says nothing more, and would be waited for longer than a client of a test waits.
    let mut bench = Bench::with("30s", |relay| relay.turn(Mode::Freeze));
    assert_eq!(bench.get("/all/1").field("x-cache"), Some("MISS"));
    let stores = |trip: &Trip| trip.commands.iter().any(|command| command.name() == "SET" && command.mentions(CACHE));
    until("the response on its way to Redis", || bench.trips()[1..].iter().any(stores));
}

#[test]
fn connections_to_redis_do_not_grow_with_load() {
    // Sixty-four clients keep a small machine busy: Redis is waited for as long as it takes.
    let bench = Bench::with("10s", |_| {});
    let (made, mut most) = (bench.relay.connections(), bench.relay.open());
    assert!((1..=8).contains(&most), "{most}");
    let target = |number: usize, turn: usize| format!("/all/{}", (number + turn) % 300);
    let load = Load::judged(
        bench.sidegate.address(),
        64,
        move |number, turn| ask(&target(number, turn)),
        move |number, turn, answer| answer.status == 200 && answer.text() == target(number, turn),
    );
    let goal = load.answered() + 4000;
    until("answers under load", || {
        most = most.max(bench.relay.open());
        thread::sleep(Duration::from_millis(5));
        load.answered() >= goal
    });
    let tally = load.finish();
    assert!(tally.failures.is_empty() && tally.wrong == 0, "{tally:?}");
    // On a busy machine one may be lost, and made anew; sixty-four clients have none of their own.
    let in_all = bench.relay.connections();
    assert!(in_all <= made + 1 && most <= made + 1, "{most} at once, {in_all} in all, {made} before the load");
}
