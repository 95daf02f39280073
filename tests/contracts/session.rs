//! What every store of sessions promises, and what the layer makes of it: process memory, Redis with JSON or hashes, and the
//! near tier in front of both.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use serde_json::{Value as Json, json};
use sidegate::body::Body;
use sidegate::clock::{Clock, ManualClock, instant};
use sidegate::exchange::{Answer, Answers, Client, Connection, Exchange, Principal, Scheme, Slot};
use sidegate::gather::Ask as _;
use sidegate::redis_pool;
use sidegate::redis_pool::coherence::Coherence;
use sidegate::redis_pool::near::{self, Tier as _};
use sidegate::redis_pool::tracking::{Terms, Tracking};
use sidegate::session::store::memory::MemoryStore;
use sidegate::session::store::remembered::{Bounds, Remembered};
use sidegate::session::{
    Carrier, Definition, Format, IdentityFields, MemorySettings, Mode, OnOutage, OnRoute, Session, Store, layer,
    strip_layer,
};
use sidegate::telemetry::Record;
use sidegate::telemetry::registry::Registry;
use tower::{Layer as _, Service as _, service_fn};

use crate::redis_server::RedisServer;

const ALICE: &str = "alice-0123456789";
const NOBODY: &str = "nobody-0123456789";

/// A store of one kind, and the app's way to write to it.
enum Shelf {
    Memory(Arc<MemoryStore>, Arc<ManualClock>),
    Redis(Box<OverRedis>),
}

struct OverRedis {
    connection: MultiplexedConnection,
    format: Format,
    server: RefCell<RedisServer>,
    remembered: Arc<Remembered>,
    coherence: Arc<Coherence>,
    /// Tells of every change, if anybody does.
    tracking: Option<Tracking>,
    on_outage: OnOutage,
}

impl Shelf {
    fn memory() -> Self {
        let (clock, hand) = Clock::manual(1_000_000);
        Self::Memory(MemoryStore::new(clock, 1 << 20), hand)
    }

    async fn redis(format: Format) -> Self {
        let server = RedisServer::start();
        let connection = server.client().get_multiplexed_async_connection().await.expect("a connection");
        let (coherence, memory) = (Coherence::new(), MemorySettings::default());
        let bounds = Bounds::new(near::Settings::default(), memory, ["session:"], "sidegate:limit:");
        let remembered = Remembered::new(bounds, coherence.clone());
        let server = RefCell::new(server);
        let on_outage = OnOutage::Closed;
        let tracking = None;
        Self::Redis(OverRedis { connection, format, server, remembered, coherence, tracking, on_outage }.into())
    }

    /// As [`Shelf::redis`], with every change told by Redis itself.
    async fn near(format: Format) -> Self {
        let mut shelf = Self::redis(format.clone()).await;
        shelf.track().await;
        shelf
    }

    async fn track(&mut self) {
        let Self::Redis(over) = self else { panic!("only Redis tells") };
        let terms = Terms {
            redis: redis_pool::Settings::of_url(&over.server.borrow().url()).expect("a URL"),
            near: near::Settings::default(),
            tiers: vec![over.remembered.clone()],
            coherence: over.coherence.clone(),
        };
        over.tracking = Some(Tracking::start(terms, Registry::new(1), 0).expect("a thread"));
        self.heard().await;
    }

    /// Until all that has been told so far is applied.
    async fn heard(&self) {
        let over = self.over_redis();
        while over.tracking.is_some() && over.coherence.era().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// As [`Shelf::redis`], remembering near though nobody tells of changes.
    async fn untold(format: Format) -> Self {
        let shelf = Self::redis(format.clone()).await;
        shelf.over_redis().coherence.begin();
        shelf
    }

    /// As [`Shelf::redis`], believing for a minute; changes are not told.
    async fn grace(format: Format) -> Self {
        let mut shelf = Self::redis(format.clone()).await;
        let Self::Redis(over) = &mut shelf else { unreachable!("made over Redis") };
        over.on_outage = OnOutage::Grace(Duration::from_secs(60));
        shelf
    }

    async fn each() -> [Self; 5] {
        let (json, hash) = (Format::Json, Format::Hash);
        let redis = [Self::redis(json.clone()).await, Self::redis(hash.clone()).await];
        let [json_near, hash_near] = [Self::near(json.clone()).await, Self::near(hash.clone()).await];
        let [json, hash] = redis;
        [Self::memory(), json, hash, json_near, hash_near]
    }

    fn over_redis(&self) -> &OverRedis {
        let Self::Redis(over) = self else { panic!("not over Redis") };
        over
    }

    fn definition(&self) -> Definition {
        match self {
            Self::Memory(..) => definition(Format::Json),
            Self::Redis(over) => Definition { on_outage: over.on_outage, ..definition(over.format.clone()) },
        }
    }

    async fn run(&self, command: &[&str]) {
        let mut line = redis::cmd(command[0]);
        let connection = &self.over_redis().connection;
        line.arg(&command[1..]).exec_async(&mut connection.clone()).await.expect("Redis does as it is told");
    }

    fn kill(&self) {
        self.over_redis().server.borrow_mut().kill();
    }

    /// The app logs somebody in, or gives a visitor a session.
    async fn put(&self, identifier: &str, attributes: &Json) {
        match self {
            Self::Memory(store, _) => {
                assert!(store.put(&format!("session:{identifier}"), attributes.to_string(), Duration::from_secs(60)));
            }
            Self::Redis(over) if over.format == Format::Json => {
                self.run(&["SET", &format!("session:{identifier}"), &attributes.to_string(), "EX", "60"]).await;
                self.heard().await;
            }
            Self::Redis(_) => {
                for (name, value) in attributes.as_object().unwrap() {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    self.run(&["HSET", &format!("session:{identifier}"), name, &text]).await;
                }
                self.heard().await;
            }
        }
    }

    /// The app logs somebody out.
    async fn remove(&self, identifier: &str) {
        match self {
            Self::Memory(store, _) => assert!(store.remove(&format!("session:{identifier}"))),
            Self::Redis(_) => self.run(&["DEL", &format!("session:{identifier}")]).await,
        }
    }

    /// The session's time is up.
    async fn let_end(&self, identifier: &str) {
        match self {
            Self::Memory(_, hand) => hand.advance(Duration::from_secs(60)),
            Self::Redis(_) => {
                self.run(&["PEXPIRE", &format!("session:{identifier}"), "1"]).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    /// What `gather` does; says how many commands were sent.
    async fn gather(&self, session: &Session, exchange: &mut Exchange) -> usize {
        let mut pipeline = redis::pipe();
        let asked = session.ask(exchange, &mut pipeline);
        if asked > 0 {
            let answer = self.over_redis().connection.clone().req_packed_commands(&pipeline, 0, asked).await;
            exchange.answers.put(Slot::Session, answer.map_or(Answer::Unavailable("down"), Answer::Values));
        }
        asked
    }
}

fn definition(format: Format) -> Definition {
    Definition {
        carriers: vec![Carrier::Cookie("sid".into()), Carrier::Bearer],
        forward: vec![(field("x-user-id"), "user_id".into()), (field("x-user-name"), "name".into())],
        attributes: vec!["plan".into()],
        retry_after: Duration::from_secs(2),
        ..Definition::new("web", format)
    }
}

fn field(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

/// The fields of a request that reached the app, and in whose name.
type Reached = (HeaderMap, Option<Arc<Principal>>);

/// What came of one request.
struct Outcome {
    /// The fields that reached the app, if anything did.
    app: Option<HeaderMap>,
    user: Option<String>,
    principal: Option<Arc<Principal>>,
    /// Commands that were sent to Redis.
    asked: usize,
    status: StatusCode,
    fields: HeaderMap,
    content: Vec<u8>,
    verdict: Option<&'static str>,
    reason: Option<&'static str>,
    /// The status that it would have had, were it not only observed.
    would: Option<StatusCode>,
}

async fn outcome(shelf: &Shelf, mode: Mode, method: Method, sent: &[(&'static str, &str)]) -> Outcome {
    let store = match shelf {
        Shelf::Memory(memory, _) => Store::Memory(memory.clone()),
        Shelf::Redis(over) => Store::Redis(over.remembered.clone()),
    };
    let definition = Arc::new(shelf.definition());
    let identity = Rc::new(IdentityFields::new(definition.forward.iter().map(|(name, _)| name.clone())));
    let registry = Registry::new(1);
    let on_route = OnRoute { definition, mode, require: Vec::new() };
    let session = Session::new(on_route, store, None, Clock::System, &registry, 0).expect("a format that is read");
    let mut request = Request::builder().method(method).uri("/users/5").body(Body::empty()).unwrap();
    for (name, value) in sent {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let mut exchange = exchange(request);
    let asked = shelf.gather(&session, &mut exchange).await;
    let trail = exchange.trail.clone();

    let reached: Rc<RefCell<Option<Reached>>> = Rc::default();
    let app = {
        let reached = reached.clone();
        service_fn(move |exchange: Box<Exchange>| {
            *reached.borrow_mut() = Some((exchange.request.headers().clone(), exchange.principal.clone()));
            async { Ok::<_, Infallible>(Response::new(Body::empty())) }
        })
    };
    let mut stack = strip_layer(identity).layer(layer(session).layer(app));
    let Ok(response) = stack.call(exchange).await;
    let (head, body) = response.into_parts();
    let content = body.collect().await.expect("whole content").to_bytes().to_vec();
    let (app, principal) = reached.take().map_or((None, None), |(fields, principal)| (Some(fields), principal));
    let user = principal.as_ref().map(|principal| principal.user.clone());
    let (verdict, reason) = (trail.borrow().session, trail.borrow().session_reason);
    if let Some(verdict) = verdict {
        let labels = [("session", "web"), ("verdict", verdict)];
        assert_eq!(registry.value("sidegate_session_verdicts_total", &labels), 1);
        let believed = registry.value("sidegate_session_grace_total", &[("session", "web")]);
        assert_eq!(believed, u64::from(reason == Some("grace")));
    }
    let would = trail.borrow().session_would;
    if let Some(would) = would {
        let labels = [("session", "web"), ("status", would.as_str())];
        assert_eq!(registry.value("sidegate_session_would_refuse_total", &labels), 1);
    }
    Outcome { app, user, principal, asked, status: head.status, fields: head.headers, content, verdict, reason, would }
}

async fn required(shelf: &Shelf, sent: &[(&'static str, &str)]) -> Outcome {
    outcome(shelf, Mode::Required, Method::GET, sent).await
}

async fn optional(shelf: &Shelf, sent: &[(&'static str, &str)]) -> Outcome {
    outcome(shelf, Mode::Optional, Method::GET, sent).await
}

fn exchange(request: Request<Body>) -> Box<Exchange> {
    let trail = Record::new(instant(), request.method().clone(), None, request.version());
    let connection = Connection { peer: None, tls: false, certificate: None, tunnel: RefCell::default() };
    Box::new(Exchange {
        request,
        connection: Rc::new(connection),
        interim: None,
        client: Client { address: [127, 0, 0, 1].into(), trusted: false, scheme: Scheme::Http },
        parameters: Vec::new(),
        answers: Answers::default(),
        plan: None,
        presented: None,
        principal: None,
        posted: None,
        trail: Rc::new(RefCell::new(trail)),
    })
}

fn cookie(identifier: &str) -> String {
    format!("theme=dark; sid={identifier}")
}

#[tokio::test]
async fn a_login_passes_under_its_name_with_its_credential_untouched() {
    for shelf in Shelf::each().await {
        shelf.put(ALICE, &json!({"user_id": 5, "name": "Alice Müller"})).await;
        let sent = [("cookie", &*cookie(ALICE)), ("x-user-id", "1"), ("x_user_name", "root")];
        for mode in [Mode::Required, Mode::Optional] {
            let outcome = outcome(&shelf, mode, Method::GET, &sent).await;
            let app = outcome.app.expect("the app was asked");
            assert_eq!(app["x-user-id"], "5");
            assert_eq!(app["x-user-name"], "Alice M%C3%BCller");
            assert_eq!(app["cookie"], cookie(ALICE).as_str());
            assert!(!app.contains_key("x_user_name"));
            assert_eq!((outcome.user.as_deref(), outcome.verdict), (Some("5"), Some("valid")));
        }
        let bearer = format!("bearer {ALICE}");
        assert_eq!(required(&shelf, &[("authorization", &bearer)]).await.user.as_deref(), Some("5"));
    }
}

#[tokio::test]
async fn everything_that_is_no_login_gets_the_same_401() {
    for shelf in Shelf::each().await {
        shelf.put(ALICE, &json!({"user_id": 5})).await;
        shelf.put(NOBODY, &json!({"name": "visitor"})).await;
        let twice = format!("sid={ALICE}; sid=other-0123456789");
        let cases = [
            (cookie("unknown-0123456789"), "expired"),
            (cookie(NOBODY), "anonymous"),
            (cookie("a:b:c:d:e:f"), "rejected"),
            (twice, "rejected"),
        ];
        let mut answers = Vec::new();
        for (sent, verdict) in &cases {
            let outcome = required(&shelf, &[("cookie", sent)]).await;
            assert!(outcome.app.is_none(), "{sent} reached the app");
            assert_eq!((outcome.status, outcome.verdict), (StatusCode::UNAUTHORIZED, Some(*verdict)), "{sent}");
            answers.push((outcome.fields, outcome.content));
        }
        assert!(answers.windows(2).all(|pair| pair[0] == pair[1]), "the answers tell them apart");
        assert!(answers[0].0["www-authenticate"].to_str().unwrap().contains("invalid_token"));
    }
}

#[tokio::test]
async fn without_a_credential_only_an_optional_session_passes() {
    for shelf in Shelf::each().await {
        let refused = required(&shelf, &[("x-user-id", "1")]).await;
        assert_eq!((refused.status, refused.verdict), (StatusCode::UNAUTHORIZED, Some("absent")));
        assert_eq!(refused.fields["www-authenticate"], "Bearer realm=\"sidegate\"");
        let passed = optional(&shelf, &[("x-user-id", "1")]).await;
        assert!(!passed.app.expect("the app was asked").contains_key("x-user-id"));
        let unknown = optional(&shelf, &[("cookie", "sid=unknown-0123456789")]).await;
        assert_eq!((unknown.app.is_some(), unknown.user, unknown.verdict), (true, None, Some("expired")));
    }
}

#[tokio::test]
async fn a_logout_and_an_end_of_life_count_from_the_next_request() {
    for shelf in Shelf::each().await {
        let sent = cookie(ALICE);
        shelf.put(ALICE, &json!({"user_id": 5})).await;
        assert!(required(&shelf, &[("cookie", &sent)]).await.app.is_some());
        shelf.remove(ALICE).await;
        assert_eq!(required(&shelf, &[("cookie", &sent)]).await.status, StatusCode::UNAUTHORIZED);
        shelf.put(ALICE, &json!({"user_id": 5})).await;
        assert!(required(&shelf, &[("cookie", &sent)]).await.app.is_some());
        shelf.let_end(ALICE).await;
        assert_eq!(required(&shelf, &[("cookie", &sent)]).await.verdict, Some("expired"));
    }
}

#[tokio::test]
async fn a_preflight_passes_and_a_plain_options_does_not() {
    for shelf in Shelf::each().await {
        let preflight = [("origin", "https://app.example"), ("access-control-request-method", "PUT")];
        assert!(outcome(&shelf, Mode::Required, Method::OPTIONS, &preflight).await.app.is_some());
        let plain = outcome(&shelf, Mode::Required, Method::OPTIONS, &preflight[..1]).await;
        assert_eq!(plain.status, StatusCode::UNAUTHORIZED);
        assert_eq!(required(&shelf, &preflight).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn a_key_of_another_type_or_without_a_record_is_no_session() {
    for format in [Format::Json, Format::Hash] {
        let shelf = Shelf::redis(format.clone()).await;
        shelf.run(&["RPUSH", "session:alice-0123456789", "a"]).await;
        assert_eq!(required(&shelf, &[("cookie", &cookie(ALICE))]).await.verdict, Some("expired"));
    }
    let shelf = Shelf::redis(Format::Json).await;
    shelf.run(&["SET", "session:alice-0123456789", "not json"]).await;
    let outcome = required(&shelf, &[("cookie", &cookie(ALICE))]).await;
    assert_eq!((outcome.status, outcome.reason), (StatusCode::UNAUTHORIZED, Some("record is not JSON")));
}

#[tokio::test]
async fn an_outage_of_redis_is_503_in_both_modes_and_no_logout() {
    let shelf = Shelf::redis(Format::Json).await;
    shelf.put(ALICE, &json!({"user_id": 5})).await;
    shelf.kill();
    for mode in [Mode::Required, Mode::Optional] {
        let outcome = outcome(&shelf, mode, Method::GET, &[("cookie", &cookie(ALICE))]).await;
        assert_eq!((outcome.status, outcome.verdict), (StatusCode::SERVICE_UNAVAILABLE, Some("unknown")));
        assert_eq!(outcome.fields["retry-after"], "2");
        assert!(!outcome.fields.contains_key("set-cookie") && outcome.app.is_none());
    }
    // Whoever has no credential needs no store.
    assert!(optional(&shelf, &[]).await.app.is_some());
}

#[tokio::test]
async fn what_is_observed_passes_whatever_the_store_says_or_does_not() {
    for shelf in Shelf::each().await {
        shelf.put(ALICE, &json!({"user_id": 5})).await;
        shelf.put(NOBODY, &json!({"cart": "full"})).await;
        let [alice, nobody, unknown] = [ALICE, NOBODY, "unknown-0123456789"].map(cookie);
        let observed = async |sent: &[(&'static str, &str)]| {
            let outcome = outcome(&shelf, Mode::Observe, Method::GET, sent).await;
            assert!(outcome.app.is_some());
            (outcome.user, outcome.would.map(|status| status.as_u16()))
        };
        assert_eq!(observed(&[("cookie", &alice)]).await, (Some("5".into()), None));
        for sent in [&[][..], &[("cookie", &*nobody)], &[("cookie", &*unknown)], &[("cookie", "sid=x")]] {
            assert_eq!(observed(sent).await, (None, Some(401)), "{sent:?}");
        }
        if let Shelf::Redis(_) = &shelf {
            shelf.kill();
            assert_eq!(observed(&[("cookie", &unknown)]).await, (None, Some(503)));
        }
    }
}

#[tokio::test]
async fn a_hot_login_asks_nothing_and_is_the_same_to_the_byte() {
    for format in [Format::Json, Format::Hash] {
        let (far, near) = (Shelf::redis(format.clone()).await, Shelf::near(format.clone()).await);
        let sent = [("cookie", &*cookie(ALICE)), ("x-user-id", "1")];
        let mut outcomes = Vec::new();
        for shelf in [&far, &near] {
            shelf.put(ALICE, &json!({"user_id": 5, "name": "Alice Müller", "plan": "pro"})).await;
            for mode in [Mode::Required, Mode::Optional] {
                outcomes.push(outcome(shelf, mode, Method::GET, &sent).await);
            }
        }
        let asked: Vec<usize> = outcomes.iter().map(|outcome| outcome.asked).collect();
        assert_eq!(asked, [1, 1, 2, 0], "{format:?}");
        let same = |outcome: &Outcome| {
            let Outcome { app, user, principal, verdict, reason, .. } = outcome;
            (app.clone(), user.clone(), principal.clone(), *verdict, *reason)
        };
        assert!(outcomes.iter().all(|outcome| same(outcome) == same(&outcomes[0])), "{format:?}");
        assert_eq!(outcomes[3].app.as_ref().expect("the app was asked")["x-user-name"], "Alice M%C3%BCller");
    }
}

#[tokio::test]
async fn whatever_is_done_to_a_record_that_is_remembered_counts_from_the_next_request() {
    let key = format!("session:{ALICE}");
    let changes: [&[&str]; 7] = [
        &["DEL", &key],
        &["UNLINK", &key],
        &["PEXPIRE", &key, "0"],
        &["RENAME", &key, "session:elsewhere-0123456789"],
        &["SET", &key, "{}"],
        &["FLUSHDB"],
        &["FLUSHALL"],
    ];
    for format in [Format::Json, Format::Hash] {
        let shelf = Shelf::near(format.clone()).await;
        for change in changes {
            shelf.put(ALICE, &json!({"user_id": 5})).await;
            let sent = cookie(ALICE);
            for asked in [2, 0] {
                let valid = required(&shelf, &[("cookie", &sent)]).await;
                assert_eq!((valid.verdict, valid.asked), (Some("valid"), asked), "{format:?} {change:?}");
            }
            shelf.run(change).await;
            let mut refused = required(&shelf, &[("cookie", &sent)]).await;
            // Of a flush Redis tells only after it has acknowledged it.
            while change[0].starts_with("FLUSH") && refused.asked == 0 {
                tokio::task::yield_now().await;
                refused = required(&shelf, &[("cookie", &sent)]).await;
            }
            assert_eq!((refused.status, refused.asked > 0), (StatusCode::UNAUTHORIZED, true), "{format:?} {change:?}");
            shelf.run(&["FLUSHDB"]).await;
        }
    }
}

#[tokio::test]
async fn who_is_not_told_of_changes_asks_each_time() {
    let shelf = Shelf::near(Format::Json).await;
    shelf.put(ALICE, &json!({"user_id": 5})).await;
    let sent = cookie(ALICE);
    assert_eq!(required(&shelf, &[("cookie", &sent)]).await.asked, 2);
    assert_eq!(required(&shelf, &[("cookie", &sent)]).await.asked, 0);
    // Nobody may be told again: the tier stays off.
    shelf.run(&["ACL", "SETUSER", "default", "-client|tracking", "-subscribe"]).await;
    shelf.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    for _ in 0..3 {
        let valid = required(&shelf, &[("cookie", &sent)]).await;
        assert!(valid.verdict == Some("valid") && valid.asked > 0, "the near tier is not off");
    }
    shelf.run(&["DEL", &format!("session:{ALICE}")]).await;
    assert_eq!(required(&shelf, &[("cookie", &sent)]).await.verdict, Some("expired"));
}

#[tokio::test]
async fn whoever_is_nobody_is_looked_up_each_time() {
    for format in [Format::Json, Format::Hash] {
        let shelf = Shelf::untold(format).await;
        shelf.put(NOBODY, &json!({"name": "visitor"})).await;
        shelf.run(&["RPUSH", "session:another-0123456789", "a"]).await;
        for identifier in [NOBODY, ALICE, "another-0123456789"] {
            for _ in 0..2 {
                assert_eq!(required(&shelf, &[("cookie", &cookie(identifier))]).await.asked, 2, "{identifier}");
            }
        }
        assert_eq!(shelf.over_redis().remembered.size(), near::Size::default());
        // Nobody has to tell of the login.
        shelf.put(ALICE, &json!({"user_id": 5})).await;
        assert_eq!(required(&shelf, &[("cookie", &cookie(ALICE))]).await.verdict, Some("valid"));
    }
}

#[tokio::test]
async fn a_session_that_ends_by_itself_ends_here_too_though_nobody_tells() {
    let shelf = Shelf::untold(Format::Json).await;
    let sent = cookie(ALICE);
    shelf.run(&["SET", &format!("session:{ALICE}"), r#"{"user_id":5}"#, "PX", "1000"]).await;
    assert_eq!(required(&shelf, &[("cookie", &sent)]).await.verdict, Some("valid"));
    let mut connection = shelf.over_redis().connection.clone();
    while redis::cmd("EXISTS").arg(format!("session:{ALICE}")).query_async(&mut connection).await == Ok(1) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = required(&shelf, &[("cookie", &sent)]).await;
    assert_eq!((ended.verdict, ended.asked), (Some("expired"), 2));
}

#[tokio::test]
async fn where_pttl_is_refused_a_login_is_remembered_all_the_same() {
    let shelf = Shelf::near(Format::Json).await;
    shelf.put(ALICE, &json!({"user_id": 5})).await;
    shelf.run(&["ACL", "SETUSER", "default", "-pttl"]).await;
    assert_eq!(required(&shelf, &[("cookie", &cookie(ALICE))]).await.verdict, Some("valid"));
    let hot = required(&shelf, &[("cookie", &cookie(ALICE))]).await;
    assert_eq!((hot.verdict, hot.asked), (Some("valid"), 0));
}

#[tokio::test]
async fn while_redis_is_away_grace_believes_whom_it_confirmed_and_nobody_else() {
    for format in [Format::Json, Format::Hash] {
        let shelf = Shelf::grace(format.clone()).await;
        shelf.put(ALICE, &json!({"user_id": 5, "name": "Alice"})).await;
        shelf.put(NOBODY, &json!({"name": "visitor"})).await;
        shelf.put("stranger-0123456789", &json!({"user_id": 6})).await;
        let before = required(&shelf, &[("cookie", &cookie(ALICE))]).await;
        assert_eq!((before.verdict, before.reason), (Some("valid"), None));
        assert_eq!(required(&shelf, &[("cookie", &cookie(NOBODY))]).await.verdict, Some("anonymous"));
        shelf.kill();
        for mode in [Mode::Required, Mode::Optional] {
            let believed = outcome(&shelf, mode, Method::GET, &[("cookie", &cookie(ALICE))]).await;
            assert_eq!((believed.verdict, believed.reason), (Some("valid"), Some("grace")));
            assert_eq!((&believed.app, &believed.principal), (&before.app, &before.principal));
            for unknown in [NOBODY, "stranger-0123456789", "unknown-0123456789"] {
                let refused = outcome(&shelf, mode, Method::GET, &[("cookie", &cookie(unknown))]).await;
                assert_eq!((refused.status, refused.verdict), (StatusCode::SERVICE_UNAVAILABLE, Some("unknown")));
                assert!(refused.fields.contains_key("retry-after") && !refused.fields.contains_key("set-cookie"));
            }
        }
        assert_eq!(required(&shelf, &[]).await.status, StatusCode::UNAUTHORIZED);
    }
}

#[tokio::test]
async fn grace_believes_nobody_whom_redis_has_contradicted_since() {
    let sent = cookie(ALICE);
    for format in [Format::Json, Format::Hash] {
        let ways: [&[&str]; 3] = [&["DEL"], &["SET", r#"{"name":"visitor"}"#], &["SET", "not json"]];
        for way in ways {
            let shelf = Shelf::grace(format.clone()).await;
            shelf.put(ALICE, &json!({"user_id": 5})).await;
            assert_eq!(required(&shelf, &[("cookie", &sent)]).await.verdict, Some("valid"));
            let key = format!("session:{ALICE}");
            shelf.run(&[&[way[0], &key], &way[1..]].concat()).await;
            assert_eq!(required(&shelf, &[("cookie", &sent)]).await.status, StatusCode::UNAUTHORIZED);
            shelf.kill();
            assert_eq!(required(&shelf, &[("cookie", &sent)]).await.verdict, Some("unknown"), "{format:?} {way:?}");
        }
    }
    let mut told = Shelf::grace(Format::Json).await;
    told.track().await;
    told.put(ALICE, &json!({"user_id": 5})).await;
    assert_eq!(required(&told, &[("cookie", &sent)]).await.verdict, Some("valid"));
    told.run(&["FLUSHDB"]).await;
    // The news of it is written after it is acknowledged: killed at once, Redis would have told nobody.
    while told.over_redis().remembered.size() != near::Size::default() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    told.kill();
    assert_eq!(required(&told, &[("cookie", &sent)]).await.verdict, Some("unknown"), "it was told that all is gone");
}

#[tokio::test]
async fn grace_believes_nobody_beyond_the_end_of_the_session_itself() {
    let shelf = Shelf::grace(Format::Json).await;
    shelf.run(&["SET", &format!("session:{ALICE}"), r#"{"user_id":5}"#, "PX", "1000"]).await;
    assert_eq!(required(&shelf, &[("cookie", &cookie(ALICE))]).await.verdict, Some("valid"));
    shelf.kill();
    let mut reasons = Vec::new();
    while reasons.last() != Some(&Some("down")) {
        let outcome = required(&shelf, &[("cookie", &cookie(ALICE))]).await;
        assert_ne!(outcome.status, StatusCode::UNAUTHORIZED);
        reasons.push(outcome.reason);
        tokio::time::sleep(Duration::from_millis(5)).await;
        assert!(reasons.len() < 2000, "believed far beyond its end");
    }
}

#[tokio::test]
async fn a_redis_that_refuses_us_is_no_outage_and_nobody_is_believed() {
    let shelf = Shelf::grace(Format::Json).await;
    shelf.put(ALICE, &json!({"user_id": 5})).await;
    assert_eq!(required(&shelf, &[("cookie", &cookie(ALICE))]).await.verdict, Some("valid"));
    shelf.run(&["ACL", "SETUSER", "default", "-getrange"]).await;
    let refused = required(&shelf, &[("cookie", &cookie(ALICE))]).await;
    assert_eq!((refused.status, refused.verdict), (StatusCode::SERVICE_UNAVAILABLE, Some("unknown")));
    shelf.run(&["ACL", "SETUSER", "default", "+getrange"]).await;
    assert_eq!(required(&shelf, &[("cookie", &cookie(ALICE))]).await.verdict, Some("valid"));
}
