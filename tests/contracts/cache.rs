//! What the cache promises over each of its stores: process memory, Redis, and Redis with what is remembered of it.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use sidegate::body::Body;
use sidegate::cache::reasons;
use sidegate::cache::rules::on_write::OnWrite;
use sidegate::cache::store::{
    Found, Generation, Keeping, MemoryStore, NearStore, Owed, PART, Purpose, Question, RedisStore, SCRIPT, Since,
    Store, TRIM,
};
use sidegate::cache::stored::{Content, Form, StoredResponse};
use sidegate::cache::{Cache, Flights, Key, MemorySettings, OnRoute, Policy, Scope, UnderWay, Worker, layer};
use sidegate::clock::{Clock, ManualClock, instant};
use sidegate::exchange::{Answer, Answers, Client, Connection, Exchange, Next, Scheme, Slot};
use sidegate::gather::Ask as _;
use sidegate::redis_pool::coherence::Coherence;
use sidegate::redis_pool::tracking::Tracking;
use sidegate::redis_pool::{Link, Settings};
use sidegate::telemetry::Record;
use sidegate::telemetry::registry::Registry;
use tower::{Layer as _, Service as _, service_fn};

use crate::redis_server::{RedisCluster, RedisServer};

mod cluster;
mod lock;
mod near;
mod parts;
mod pieces;
mod purges;
mod replicas;
mod trips;
mod variants;

/// Runs a test as a worker would.
fn as_worker(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build_local(Default::default());
    runtime.expect("a runtime").block_on(test());
}

/// A way to `server`, once it is there.
async fn link(server: &RedisServer) -> Link {
    link_to(&server.url()).await
}

async fn link_to(url: &str) -> Link {
    let settings = Settings { timeout: Duration::from_secs(2), ..Settings::of_url(url).unwrap() };
    let link = Link::new(&settings, &[SCRIPT, PART, TRIM], &Registry::new(1), 0);
    up(&link, true).await;
    link
}

async fn up(link: &Link, wanted: bool) {
    let told = tokio::time::timeout(Duration::from_secs(60), async {
        link.subscribe().wait_for(|is_up| *is_up == wanted).await.expect("news of Redis");
    });
    told.await.expect("Redis comes or goes within ten seconds");
}

/// What the app answers; `None`: `n` of the n-th request, with no word about freshness.
type App = Rc<dyn Fn(&Request<Body>, u32) -> Response<Body>>;

/// A cache over one store, and the app behind it.
struct Trial {
    cache: Rc<Cache>,
    on_route: OnRoute,
    worker: Worker,
    time: Arc<ManualClock>,
    app: App,
    asked: Rc<Cell<u32>>,
    server: Option<RedisServer>,
    /// Ends with the trial.
    tracking: Option<Tracking>,
}

struct Told {
    status: StatusCode,
    fields: HeaderMap,
    content: String,
    outcome: Option<&'static str>,
}

impl Told {
    fn field(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

fn keeping() -> Keeping {
    Keeping { tags: Vec::new(), since: Since::now(0), life: Duration::from_secs(60), max_variants: 64, lock: None }
}

fn policy() -> Policy {
    let mut policy = Policy { max_body: 1000, ..Policy::new("pages") };
    policy.freshness.ttl = Some(Duration::from_secs(60));
    // A response is kept as its client reads it; what is shared among requests `proxy/coalesce` shows.
    policy.coalescing.scope = Scope::Off;
    policy
}

impl Trial {
    fn new(store: Option<(RedisServer, Link)>) -> Self {
        let (clock, time) = Clock::manual(784_111_777_000_000);
        let (server, link) = store.unzip();
        let worker = Worker {
            memory: MemoryStore::new(MemorySettings::default()),
            link,
            near: None,
            prefix: "sidegate:".into(),
            owed: Owed::new(),
            marks: Arc::default(),
            under_way: UnderWay::new(1 << 20),
            flights: Flights::new(UnderWay::new(1 << 20), 1 << 20),
            clock,
            registry: Registry::new(1),
            number: 0,
        };
        let on_route = OnRoute { policy: Some(Arc::new(policy())), ..OnRoute::default() };
        let cache = Cache::new(on_route.clone(), &worker);
        let app: App = Rc::new(|_, number| Response::new(Body::full(number.to_string())));
        Self { cache, on_route, worker, time, app, asked: Rc::default(), server, tracking: None }
    }

    /// One over each store.
    async fn each() -> [Self; 3] {
        let redis = async || {
            let server = RedisServer::start();
            let link = link(&server).await;
            Self::new(Some((server, link)))
        };
        [Self::new(None), redis().await, redis().await.tracking().await]
    }

    /// With a near tier that is told of every change.
    async fn tracking(mut self) -> Self {
        let server = self.server.as_ref().expect("a server");
        let (near, tracking) = near::tracked(crate::settings(server), Coherence::new()).await;
        (self.worker.near, self.tracking) = (Some(near), Some(tracking));
        self.route(|_| ())
    }

    fn app(mut self, app: impl Fn(&Request<Body>, u32) -> Response<Body> + 'static) -> Self {
        self.app = Rc::new(app);
        self
    }

    fn route(mut self, change: impl FnOnce(&mut OnRoute)) -> Self {
        change(&mut self.on_route);
        self.cache = Cache::new(self.on_route.clone(), &self.worker);
        self
    }

    async fn get(&self, uri: &str) -> Told {
        self.ask("GET", uri, &[]).await
    }

    async fn ask(&self, method: &str, uri: &str, fields: &[(&str, &str)]) -> Told {
        let mut exchange = exchange(method, uri, fields, Body::empty());
        self.gather(&mut exchange).await;
        let trail = exchange.trail.clone();
        let response = self.answer(exchange).await;
        let (head, content) = response.into_parts();
        let content = content.collect().await.expect("whole content").to_bytes();
        self.stored().await;
        let outcome = trail.borrow().cache;
        Told {
            status: head.status,
            fields: head.headers,
            content: String::from_utf8(content.to_vec()).expect("text"),
            outcome,
        }
    }

    async fn gather(&self, exchange: &mut Exchange) {
        let Some(link) = &self.worker.link else { return };
        let mut pipeline = redis::Pipeline::new();
        if self.cache.ask(exchange, &mut pipeline) > 0 {
            let answer = match link.query(&pipeline).await {
                Ok(values) => Answer::Values(values),
                Err(reason) => Answer::Unavailable(reason),
            };
            exchange.answers.put(Slot::Cache, answer);
        }
    }

    async fn answer(&self, exchange: Box<Exchange>) -> Response<Body> {
        let answer = layer(self.cache.clone()).layer(self.app_service()).call(exchange).await;
        answer.unwrap_or_else(|never| match never {})
    }

    fn app_service(&self) -> impl Next {
        let (app, asked) = (self.app.clone(), self.asked.clone());
        service_fn(move |exchange: Box<Exchange>| {
            asked.set(asked.get() + 1);
            let response = app(&exchange.request, asked.get());
            async move {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(response)
            }
        })
    }

    fn redis(&self) -> redis::Connection {
        self.server.as_ref().expect("a server").client().get_connection().expect("a connection")
    }

    /// Waits until what was sent to Redis before has been done.
    async fn stored(&self) {
        tokio::task::yield_now().await;
        tokio::task::yield_now().await;
        if let Some(link) = &self.worker.link {
            let mut ping = redis::Pipeline::new();
            ping.cmd("PING");
            // A response may take some trips: its list of variants, each of its pieces.
            for _ in 0..8 {
                let _ = link.query(&ping).await;
            }
        }
    }
}

fn exchange(method: &str, uri: &str, fields: &[(&str, &str)], content: Body) -> Box<Exchange> {
    let request = Request::builder().method(method).uri(uri).header("host", "example.com");
    let request = fields.iter().fold(request, |request, (name, value)| request.header(*name, *value));
    let request = request.body(content).expect("a request");
    let trail = Record::new(instant(), request.method().clone(), None, request.version());
    let connection = Connection { peer: None, tls: false, certificate: None, tunnel: RefCell::default() };
    Box::new(Exchange {
        request,
        connection: Rc::new(connection),
        interim: None,
        client: Client { address: [127, 0, 0, 1].into(), trusted: false, scheme: Scheme::Http },
        parameters: vec![("id".into(), "7".into())],
        answers: Answers::default(),
        plan: None,
        presented: None,
        principal: None,
        posted: None,
        trail: Rc::new(RefCell::new(trail)),
    })
}

fn saying(fields: &'static [(&'static str, &'static str)]) -> impl Fn(&Request<Body>, u32) -> Response<Body> {
    move |_, number| {
        let mut response = Response::new(Body::full(number.to_string()));
        for (name, value) in fields {
            response.headers_mut().append(*name, value.parse().expect("a value"));
        }
        response
    }
}

#[test]
fn a_page_is_fetched_once_until_it_is_stale() {
    as_worker(async || {
        for trial in Trial::each().await {
            let first = trial.get("/page").await;
            assert_eq!((first.content.as_str(), first.outcome), ("1", Some("miss")));
            assert_eq!(first.field("x-cache"), "MISS");
            assert_eq!(first.field("cache-status"), "sidegate; fwd=uri-miss; fwd-status=200; stored");
            trial.time.advance(Duration::from_secs(59));
            let hit = trial.get("/page").await;
            assert_eq!((hit.content.as_str(), hit.outcome), ("1", Some("hit")));
            assert_eq!((hit.field("x-cache"), hit.field("cache-status")), ("HIT", "sidegate; hit; ttl=1"));
            assert_eq!((hit.field("age"), hit.field("content-length")), ("59", "1"));
            assert_eq!(hit.field("date"), "Sun, 06 Nov 1994 08:49:37 GMT");
            trial.time.advance(Duration::from_secs(1));
            let stale = trial.get("/page").await;
            assert_eq!((stale.content.as_str(), stale.field("x-cache")), ("2", "EXPIRED"));
            assert_eq!(stale.field("cache-status"), "sidegate; fwd=stale; fwd-status=200; stored");
            assert_eq!(trial.get("/page").await.content, "2");
            for (outcome, times) in [("hit", 2), ("miss", 1), ("expired", 1), ("bypass", 0)] {
                let labels = [("cache", "pages"), ("outcome", outcome)];
                assert_eq!(trial.worker.registry.value("sidegate_cache_requests_total", &labels), times, "{outcome}");
            }
        }
    });
}

#[test]
fn each_target_uri_has_its_own_response() {
    as_worker(async || {
        for trial in Trial::each().await {
            for (number, uri) in ["/a", "/a?", "/a?x", "/A", "/a/", "http://other.com/a"].iter().enumerate() {
                assert_eq!(trial.get(uri).await.content, (number + 1).to_string(), "{uri}");
            }
            assert_eq!(trial.get("http://EXAMPLE.com:80/a").await.content, "1");
        }
    });
}

#[test]
fn head_is_answered_from_a_stored_get_and_stores_nothing() {
    as_worker(async || {
        for trial in Trial::each().await {
            let head = trial.ask("HEAD", "/page", &[]).await;
            assert_eq!(
                head.field("cache-status"),
                "sidegate; fwd=uri-miss; fwd-status=200; detail=\"head: RFC 9111 4.3.5\""
            );
            assert_eq!(trial.get("/page").await.content, "2");
            let head = trial.ask("HEAD", "/page", &[]).await;
            assert_eq!((head.content.as_str(), head.field("content-length"), head.field("x-cache")), ("", "1", "HIT"));
        }
    });
}

#[test]
fn variants_live_side_by_side() {
    as_worker(async || {
        for trial in Trial::each().await {
            let trial = trial.app(saying(&[("vary", "Accept-Language"), ("vary", "accept")]));
            let ask = async |language| trial.ask("GET", "/page", &[("accept-language", language)]).await;
            assert_eq!(ask("de").await.content, "1");
            let other = ask("fr").await;
            assert_eq!((other.content.as_str(), other.field("x-cache")), ("2", "MISS"));
            assert!(other.field("cache-status").starts_with("sidegate; fwd=vary-miss"));
            assert_eq!(ask("de").await.content, "1");
            assert_eq!(ask("fr").await.content, "2");
            assert_eq!(trial.get("/page").await.content, "3");
            // Another worker, which remembers no selecting fields.
            let fresh = Trial { cache: Cache::new(trial.on_route.clone(), &trial.worker), ..trial };
            assert_eq!(fresh.ask("GET", "/page", &[("accept-language", "fr")]).await.content, "2");
            assert_eq!(fresh.ask("POST", "/page", &[]).await.content, "4");
            assert_eq!(fresh.ask("GET", "/page", &[("accept-language", "fr")]).await.content, "5");
            assert_eq!(fresh.ask("GET", "/page", &[("accept-language", "de")]).await.content, "6");
        }
    });
}

#[test]
fn what_is_not_storable_says_why() {
    as_worker(async || {
        type Fields = &'static [(&'static str, &'static str)];
        let cases: [(Fields, Fields, &str); 10] = [
            (&[("cache-control", "no-store")], &[], "no-store"),
            (&[("cache-control", "private")], &[], "private"),
            (&[("cache-control", "no-cache")], &[], "no-cache"),
            (&[("set-cookie", "a=1")], &[], "set-cookie"),
            (&[("vary", "*")], &[], "vary"),
            (&[("expires", "0")], &[], "stale"),
            (&[("content-length", "1001")], &[], "too-large"),
            (&[], &[("cache-control", "no-store")], "request-no-store"),
            (&[], &[("authorization", "Bearer x")], "credentials"),
            (&[], &[("cookie", "a=1")], "credentials"),
        ];
        for trial in Trial::each().await {
            let mut trial = trial;
            for (says, asks, reason) in cases {
                trial = trial.app(saying(says));
                for _ in 0..2 {
                    let told = trial.ask("GET", "/page", asks).await;
                    let expected =
                        format!("sidegate; fwd=uri-miss; fwd-status=200; detail={}", reasons::detail(reason));
                    assert_eq!(told.field("cache-status"), expected);
                }
            }
        }
    });
}

#[test]
fn what_was_answered_to_nobody_is_not_sent_to_somebody() {
    as_worker(async || {
        for trial in Trial::each().await {
            assert_eq!(trial.get("/page").await.content, "1");
            let told = trial.ask("GET", "/page", &[("authorization", "x")]).await;
            assert_eq!((told.content.as_str(), told.field("x-cache")), ("2", "BYPASS"));
            assert_eq!(
                told.field("cache-status"),
                "sidegate; fwd=bypass; fwd-status=200; detail=\"authorization: RFC 9111 3.5\""
            );
            assert_eq!(trial.get("/page").await.content, "1");

            let trial = trial.app(saying(&[("cache-control", "public, max-age=9")]));
            assert_eq!(trial.ask("GET", "/shared", &[("cookie", "a=1")]).await.content, "3");
            for fields in [&[("cookie", "a=2")][..], &[("authorization", "x")], &[]] {
                assert_eq!(trial.ask("GET", "/shared", fields).await.content, "3");
            }
            let trial = trial.app(saying(&[])).route(|route| route.credentials = true);
            assert_eq!(trial.get("/mine").await.content, "4");
            assert_eq!(trial.get("/mine").await.content, "5");
        }
    });
}

#[test]
fn requests_that_no_stored_response_answers_pass_by() {
    as_worker(async || {
        for trial in Trial::each().await {
            trial.get("/page").await;
            for (field, reason) in [("upgrade", "upgrade"), ("if-match", "precondition")] {
                let told = trial.ask("GET", "/page", &[(field, "x")]).await;
                assert_eq!((told.field("x-cache"), told.outcome), ("BYPASS", Some("bypass")));
                let expected = format!("sidegate; fwd=bypass; fwd-status=200; detail={}", reasons::detail(reason));
                assert_eq!(told.field("cache-status"), expected);
            }
            let told = trial.ask("OPTIONS", "/page", &[]).await;
            assert_eq!(told.field("cache-status"), "sidegate; fwd=method; fwd-status=200");
            let content = exchange("GET", "/page", &[], Body::full("x"));
            assert_eq!(trial.answer(content).await.headers()["x-cache"], "BYPASS");
        }
    });
}

#[test]
fn a_client_that_has_the_stored_copy_gets_304() {
    as_worker(async || {
        for trial in Trial::each().await {
            let trial = trial.app(saying(&[("etag", "\"v1\""), ("content-type", "text/plain")]));
            trial.get("/page").await;
            let told = trial.ask("GET", "/page", &[("if-none-match", "W/\"v1\"")]).await;
            assert_eq!((told.status.as_u16(), told.content.as_str()), (304, ""));
            assert_eq!((told.field("etag"), told.field("x-cache"), told.field("age")), ("\"v1\"", "HIT", "0"));
            assert!(!told.fields.contains_key("content-length") && !told.fields.contains_key("content-type"));
            assert_eq!(trial.ask("GET", "/page", &[("if-none-match", "\"v2\"")]).await.status, 200);
            assert_eq!(trial.asked.get(), 1);
        }
    });
}

#[test]
fn only_whole_content_is_stored() {
    as_worker(async || {
        for trial in Trial::each().await {
            let trial = trial.app(|request, _| {
                let length = if request.uri().path() == "/long" { 1001 } else { 5 };
                let mut response = Response::new(Body::full("x".repeat(length)));
                if request.uri().path() == "/short" {
                    response.headers_mut().insert("content-length", 6.into());
                }
                response
            });
            for path in ["/long", "/short"] {
                assert_eq!(trial.get(path).await.field("x-cache"), "MISS");
                assert_eq!(trial.get(path).await.field("x-cache"), "MISS", "{path}");
            }
            // A client that goes away before the end.
            drop(trial.answer(exchange("GET", "/page", &[], Body::empty())).await);
            assert_eq!(trial.get("/page").await.field("x-cache"), "MISS");
            assert_eq!(trial.get("/page").await.field("x-cache"), "HIT");
        }
    });
}

#[test]
fn a_successful_write_invalidates_its_path_and_those_of_on_write() {
    as_worker(async || {
        for trial in Trial::each().await {
            let trial = trial
                .route(|route| route.on_write = vec![OnWrite::parse("/users/{id}/posts", &["id"]).expect("a template")])
                .app(|request, number| {
                    let mut response = Response::new(Body::full(number.to_string()));
                    if request.method() != Method::GET {
                        *response.status_mut() = request.headers()["status"].to_str().unwrap().parse().unwrap();
                        response.headers_mut().insert("location", "/users/8".parse().unwrap());
                    }
                    response
                });
            let uris = ["/users?page=2", "/users/7/posts", "/users/8", "/users/9"];
            let read = async || {
                let mut outcomes = Vec::new();
                for uri in uris {
                    outcomes.push(trial.get(uri).await.fields["x-cache"].to_str().unwrap().to_owned());
                }
                outcomes
            };
            assert_eq!(read().await, ["MISS"; 4]);
            for status in ["400", "404", "500"] {
                let told = trial.ask("POST", "/users", &[("status", status)]).await;
                assert_eq!(told.field("cache-status"), format!("sidegate; fwd=method; fwd-status={status}"));
            }
            assert_eq!(read().await, ["HIT"; 4]);
            for (method, status) in [("POST", "201"), ("PUT", "204"), ("DELETE", "303"), ("BREW", "200")] {
                trial.ask(method, &format!("/users?{}", "q".repeat(5000)), &[("status", status)]).await;
                assert_eq!(read().await, ["MISS", "MISS", "MISS", "HIT"], "{method} {status}");
            }
        }
    });
}

#[test]
fn a_route_without_a_cache_invalidates_and_says_nothing() {
    as_worker(async || {
        for trial in Trial::each().await {
            trial.get("/users").await;
            let silent = Cache::new(OnRoute::default(), &trial.worker);
            let writer =
                Trial { cache: silent, worker: trial.worker.clone(), app: trial.app.clone(), ..Trial::new(None) };
            let told = writer.ask("POST", "/users", &[]).await;
            assert!(!told.fields.contains_key("x-cache") && told.outcome.is_none());
            assert_eq!(writer.get("/users").await.field("x-cache"), "");
            assert_eq!(trial.get("/users").await.field("x-cache"), "MISS");
        }
    });
}

#[test]
fn a_write_whose_answer_never_came_invalidates() {
    as_worker(async || {
        for trial in Trial::each().await {
            trial.get("/page").await;
            let exchange = exchange("POST", "/page", &[], Body::empty());
            exchange.trail.borrow_mut().upstream_error = Some("connection_terminated");
            let trial = trial.app(|_, _| {
                let mut response = Response::new(Body::empty());
                *response.status_mut() = StatusCode::BAD_GATEWAY;
                response
            });
            trial.answer(exchange).await;
            assert_eq!(trial.get("/page").await.field("x-cache"), "MISS");
        }
    });
}

#[test]
fn a_write_invalidates_although_its_client_has_gone() {
    as_worker(async || {
        for trial in Trial::each().await {
            trial.get("/page").await;
            let mut answer = Box::pin(trial.answer(exchange("POST", "/page", &[], Body::empty())));
            let answered = poll_fn(|context| Poll::Ready(answer.as_mut().poll(context).is_ready()));
            assert!(!answered.await);
            drop(answer);
            for _ in 0..8 {
                trial.stored().await;
            }
            assert_eq!(trial.asked.get(), 2, "the app was asked all the same");
            assert_eq!(trial.get("/page").await.field("x-cache"), "MISS");
        }
    });
}

#[test]
fn a_fill_that_began_before_a_write_is_never_reused() {
    as_worker(async || {
        for trial in Trial::each().await {
            trial.get("/page").await;
            trial.time.advance(Duration::from_secs(60));
            for _ in 0..2 {
                // Its head has come, its content has not been read: a write overtakes it.
                let slow = trial.answer(exchange("GET", "/page", &[], Body::empty())).await;
                trial.ask("POST", "/page", &[]).await;
                slow.into_body().collect().await.expect("content");
                trial.stored().await;
                assert_eq!(trial.get("/page").await.field("x-cache"), "MISS");
                trial.ask("POST", "/page", &[]).await;
            }
        }
    });
}

#[test]
fn while_redis_is_away_the_cache_is_bypassed_and_what_is_owed_is_paid_first() {
    as_worker(async || {
        let server = RedisServer::start();
        let link = link(&server).await;
        let mut trial = Trial::new(Some((server, link)));
        trial.get("/page").await;
        trial.get("/other").await;
        let link = trial.worker.link.clone().expect("a link");
        let stop = |pid: i32, signal: &str| {
            let sent = std::process::Command::new("kill").args([signal, &pid.to_string()]).status();
            assert!(sent.expect("kill").success());
        };
        // Stopped, not killed: it comes back with all that it had.
        let pid = trial.server.as_ref().expect("a server").pid();
        stop(pid, "-STOP");
        let told = trial.get("/page").await;
        assert_eq!(
            told.field("cache-status"),
            "sidegate; fwd=bypass; fwd-status=200; detail=\"store-unavailable: redis\""
        );
        trial.ask("POST", "/page", &[]).await;
        assert!(trial.worker.owed.covers("example.com/page") && !trial.worker.owed.covers("example.com/other"));
        up(&link, false).await;
        stop(pid, "-CONT");
        up(&link, true).await;
        assert_eq!(trial.get("/other").await.field("x-cache"), "HIT", "only the path written to is distrusted");
        let told = trial.get("/page").await;
        assert_ne!(told.field("x-cache"), "HIT");
        for _ in 0..100 {
            if !trial.worker.owed.is_any() {
                break;
            }
            trial.get("/other").await;
            trial.stored().await;
        }
        assert!(!trial.worker.owed.is_any(), "what was owed has been paid");
        assert_ne!(trial.get("/page").await.content, "1");
        trial.server.as_mut().expect("a server").kill();
    });
}

#[test]
fn when_too_much_is_owed_all_generations_are_deleted() {
    let (server, cluster) = (RedisServer::start(), RedisCluster::start());
    for url in [server.url(), cluster.url()] {
        as_worker(async || all_generations_are_deleted(link_to(&url).await).await);
    }
}

async fn all_generations_are_deleted(link: Link) {
    let store = redis_store(link.clone(), "side*gate:");
    let strange = redis_store(link, "sideXgate:");
    let keys = (0..1200).map(|number| key(&format!("/{number}"))).collect::<Vec<_>>();
    for key in &keys {
        for store in [&store, &strange] {
            let opened = store.look_up(question(key, Purpose::ReuseOrFill), Answer::NotAsked, None, None).await;
            assert!(matches!(opened, Found::Nothing { generation: Some(_), .. }), "{opened:?}");
        }
    }
    let owed = Owed::new();
    owed.add(&(0..=20_000).map(|number| format!("example.com/{number}")).collect::<Vec<_>>());
    store.settle(&owed).await;
    assert!(!owed.is_any());
    for key in &keys {
        let nothing = |found: Found| matches!(found, Found::Nothing { generation: None, .. });
        let question = question(key, Purpose::Reuse);
        assert!(nothing(store.look_up(question, Answer::NotAsked, None, None).await));
        assert!(!nothing(strange.look_up(question, Answer::NotAsked, None, None).await), "another's key was hit");
    }
}

#[test]
fn every_redis_key_has_an_end_and_rubbish_in_it_is_a_miss() {
    as_worker(async || {
        let server = RedisServer::start();
        let link = link(&server).await;
        let trial =
            Trial::new(Some((server, link))).app(saying(&[("vary", "accept"), ("cache-control", "max-age=99999999")]));
        trial.get("/{a}?b").await;
        assert_eq!(trial.get("/{a}?b").await.field("x-cache"), "HIT");
        let mut redis = trial.server.as_ref().expect("a server").client().get_connection().expect("a connection");
        let names: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut redis).expect("keys");
        assert_eq!(names.len(), 3, "{names:?}");
        for name in &names {
            assert!(name.starts_with("sidegate:cache:{example.com/%257Ba%257D}:"), "{name}");
            let life: i64 = redis::cmd("PTTL").arg(name).query(&mut redis).expect("a life");
            assert!((1..=24 * 3_600_000 + 660_000).contains(&life), "{name} lives {life} ms");
        }
        let mut trial = trial;
        for name in &names {
            // A worker that remembers nothing, and has to read all of it.
            trial = trial.route(|_| ());
            let _: () = redis::cmd("SET").arg(name).arg("rubbish").arg("PX").arg(60_000).query(&mut redis).expect("OK");
            assert_eq!(trial.get("/{a}?b").await.field("x-cache"), "MISS");
            trial.ask("POST", "/{a}", &[]).await;
            trial.get("/{a}?b").await;
        }
        let _: () = redis::cmd("FLUSHALL").query(&mut redis).expect("OK");
        redis::cmd("LPUSH").arg(&names[0]).arg("a list").exec(&mut redis).expect("OK");
        assert_eq!(trial.get("/{a}?b").await.status, 200);
    });
}

// The generation scheme as a model: reads, fills and writes of several actors, interleaved at random.

fn key(path: &str) -> Key {
    let head = HeaderMap::from_iter([(http::header::HOST, "example.com".parse().expect("a host"))]);
    Key::of(Scheme::Http, &path.parse().expect("a path"), &head).expect("a key")
}

fn question(key: &Key, purpose: Purpose) -> Question<'_> {
    static NO_FIELDS: LazyLock<HeaderMap> = LazyLock::new(HeaderMap::new);
    Question { key, request: &NO_FIELDS, purpose }
}

fn redis_store(link: Link, prefix: &str) -> RedisStore {
    redis_store_of_form(link, prefix, Form { compress: true, max_content: 1000, piece: 1000, max_variants: 3 })
}

fn redis_store_of_form(link: Link, prefix: &str, form: Form) -> RedisStore {
    let (clock, _) = Clock::manual(0);
    RedisStore::new(link, prefix.into(), clock, form, Rc::default())
}

/// The store of a process, and its way to Redis if that is where it is.
struct Process(Store, Option<Link>);

impl Process {
    fn on_redis(link: Link, behind: impl FnOnce(RedisStore) -> RedisStore) -> Self {
        let store = behind(redis_store(link.clone(), "sidegate:"));
        Self(Store::Redis(Box::new(store)), Some(link))
    }

    /// As `gather` does.
    async fn ask(&self, question: Question<'_>) -> Answers {
        let (mut answers, mut pipeline) = (Answers::default(), redis::Pipeline::new());
        if let Self(Store::Redis(store), Some(link)) = self
            && store.ask(question, &mut answers, &mut pipeline) > 0
        {
            answers.put(Slot::Cache, Answer::Values(link.query(&pipeline).await.expect("an answer")));
        }
        answers
    }
}

/// Where a reader is.
enum Reader {
    Idle,
    /// It has been answered when this write had been confirmed, and looks at the answer later.
    Asked(Box<Answers>, u64),
    /// What it found at its place: there is none only if a write came between proposing and reading.
    Opened(Option<Generation>),
    /// What it read of the app, under which generation.
    Fetched(Generation, u64),
}

/// Where a writer is.
enum Writer {
    Idle,
    Written(u64),
}

/// What is done by one who is no sidegate.
type Outside<'a> = &'a mut dyn FnMut(Option<&str>);

/// Steps of four readers and two writers of `processes`, in an order drawn from `seed`. `outside` is
/// done now and then, by one who is no sidegate; given the name of the place's generation it deletes that.
async fn no_invalidation_is_lost(processes: &[Process], seed: u64, steps: usize, mut outside: Option<Outside<'_>>) {
    let mut random = fastrand::Rng::with_seed(seed);
    let place = format!("/model-{seed}");
    let key = key(&place);
    let (mut app, mut confirmed, mut hits) = (0_u64, 0_u64, 0);
    let mut readers = [const { Reader::Idle }; 4];
    let mut writers = [const { Writer::Idle }; 2];
    for _ in 0..steps {
        if let Some(disturb) = &mut outside
            && random.u16(..2000) == 0
        {
            disturb(None);
        }
        let actor = random.usize(..readers.len() + writers.len());
        let process = &processes[actor % processes.len()];
        let Process(store, _) = process;
        let question = question(&key, Purpose::ReuseOrFill);
        if let Some(reader) = readers.get_mut(actor) {
            *reader = match std::mem::replace(reader, Reader::Idle) {
                Reader::Idle => Reader::Asked(Box::new(process.ask(question).await), confirmed),
                Reader::Asked(mut answers, known) => {
                    match store
                        .look_up(question, answers.take(Slot::Cache), answers.note(Slot::Cache), answers.take_aside())
                        .await
                    {
                        Found::Stored(stored) => {
                            let Some(version) = version(store, &key, &stored).await else {
                                // Its pieces have been replaced meanwhile: a miss.
                                *reader = Reader::Opened(Some(stored.generation));
                                continue;
                            };
                            // Of memory nothing is asked: it is looked up only now.
                            let known = if process.1.is_some() { known } else { confirmed };
                            assert!(version >= known, "seed {seed}: {version} was read after write {known}");
                            hits += 1;
                            // As if it were stale, now and then: the fill goes on under its generation.
                            if random.bool() { Reader::Idle } else { Reader::Opened(Some(stored.generation)) }
                        }
                        Found::Nothing { generation, .. } => Reader::Opened(generation),
                        Found::Unavailable(reason) => panic!("the store is {reason}"),
                    }
                }
                Reader::Opened(None) => Reader::Idle,
                Reader::Opened(Some(generation)) => Reader::Fetched(generation, app),
                Reader::Fetched(generation, version) => {
                    store.keep(&key, stored(generation, version), keeping());
                    Reader::Idle
                }
            };
        } else {
            let writer = &mut writers[actor - readers.len()];
            *writer = match *writer {
                // Writes are rare, so that fills end between them.
                Writer::Idle if random.u8(..8) > 0 => Writer::Idle,
                Writer::Idle => {
                    app += 1;
                    Writer::Written(app)
                }
                Writer::Written(version) => {
                    match &mut outside {
                        Some(delete) if random.bool() => delete(Some(&format!("sidegate:cache:{{{}}}:g", key.place()))),
                        _ => store.invalidate(&[key.place().to_owned()]).await.expect("a store that answers"),
                    }
                    confirmed = confirmed.max(version);
                    Writer::Idle
                }
            };
        }
    }
    assert!(hits > 0, "seed {seed}: nothing was ever reused, so nothing was shown");
}

/// The content of a small response.
fn whole(stored: &StoredResponse) -> &Bytes {
    let Content::Whole(bytes) = &stored.content else { panic!("content in pieces") };
    bytes
}

/// What is read of a stored response's content, if it can be read.
async fn version(store: &Store, key: &Key, stored: &StoredResponse) -> Option<u64> {
    let content = store.content(key, stored, None).await?.collect().await.ok()?.to_bytes();
    Some(u64::from_le_bytes(content.as_ref().try_into().expect("a version")))
}

fn stored(generation: Generation, version: u64) -> StoredResponse {
    let facts = sidegate::cache::rules::storing::Facts {
        received: 0,
        initial_age: 0,
        lifetime: 60,
        shareable: true,
        authorized: true,
        validate: false,
        strict: false,
        while_revalidate: 0,
        if_error: 0,
    };
    StoredResponse {
        status: StatusCode::OK,
        head: HeaderMap::new(),
        content: version.to_le_bytes().to_vec().into(),
        part: None,
        facts,
        generation,
        variant: None,
    }
}

#[test]
fn no_invalidation_is_lost_in_memory() {
    as_worker(async || {
        let memory = MemoryStore::new(MemorySettings::default());
        let processes = [memory.clone(), memory].map(|memory| Process(Store::Memory(memory), None));
        for seed in 0..500 {
            no_invalidation_is_lost(&processes, seed, 400, None).await;
        }
    });
}

#[test]
fn no_invalidation_is_lost_between_processes_over_redis() {
    as_worker(async || {
        let server = RedisServer::start();
        let process = async || Process::on_redis(link(&server).await, |store| store);
        let processes = [process().await, process().await, process().await];
        for seed in 0..20 {
            no_invalidation_is_lost(&processes, seed, 400, None).await;
        }
    });
}
