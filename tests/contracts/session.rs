//! What every store of sessions promises, and what the layer makes of it: process memory, Redis with JSON, Redis with hashes.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use http::{HeaderMap, HeaderName, Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use serde_json::{Value as Json, json};
use sidegate::body::Body;
use sidegate::clock::{Clock, ManualClock, instant};
use sidegate::exchange::{Answer, Answers, Client, Connection, Exchange, Scheme, Slot};
use sidegate::gather::Ask as _;
use sidegate::session::credential::{Credential, credential};
use sidegate::session::digest::Key;
use sidegate::session::format::Wanted;
use sidegate::session::store::memory::MemoryStore;
use sidegate::session::verdict::{Found, Verdict, judge};
use sidegate::session::{Carrier, Definition, Format, IdentityFields, Mode, Session, Store, layer, store, strip_layer};
use sidegate::telemetry::Record;
use sidegate::telemetry::registry::Registry;
use tower::{Layer as _, Service as _, service_fn};

use crate::redis_server::RedisServer;

const ALICE: &str = "alice-0123456789";
const NOBODY: &str = "nobody-0123456789";

/// A store of one kind, and the app's way to write to it.
enum Shelf {
    Memory(Arc<MemoryStore>, Arc<ManualClock>),
    Redis { connection: MultiplexedConnection, format: Format, server: RefCell<RedisServer> },
}

impl Shelf {
    fn memory() -> Self {
        let (clock, hand) = Clock::manual(1_000_000);
        Self::Memory(MemoryStore::new(clock, 100), hand)
    }

    async fn redis(format: Format) -> Self {
        let server = RedisServer::start();
        let connection = server.client().get_multiplexed_async_connection().await.expect("a connection");
        Self::Redis { connection, format, server: RefCell::new(server) }
    }

    async fn each() -> [Self; 3] {
        [Self::memory(), Self::redis(Format::Json).await, Self::redis(Format::Hash).await]
    }

    fn format(&self) -> Format {
        match self {
            Self::Memory(..) => Format::Json,
            Self::Redis { format, .. } => *format,
        }
    }

    async fn run(&self, command: &[&str]) {
        let Self::Redis { connection, .. } = self else { panic!("only Redis runs commands") };
        let mut line = redis::cmd(command[0]);
        line.arg(&command[1..]).exec_async(&mut connection.clone()).await.expect("Redis does as it is told");
    }

    /// The app logs somebody in, or gives a visitor a session.
    async fn put(&self, identifier: &str, attributes: &Json) {
        match self {
            Self::Memory(store, _) => store.put(identifier, attributes.to_string(), Duration::from_secs(60)),
            Self::Redis { format: Format::Json, .. } => {
                self.run(&["SET", &format!("session:{identifier}"), &attributes.to_string(), "EX", "60"]).await;
            }
            Self::Redis { format: Format::Hash, .. } => {
                for (name, value) in attributes.as_object().unwrap() {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    self.run(&["HSET", &format!("session:{identifier}"), name, &text]).await;
                }
            }
        }
    }

    /// The app logs somebody out.
    async fn remove(&self, identifier: &str) {
        match self {
            Self::Memory(store, _) => assert!(store.remove(identifier)),
            Self::Redis { .. } => self.run(&["DEL", &format!("session:{identifier}")]).await,
        }
    }

    /// The session's time is up.
    async fn let_end(&self, identifier: &str) {
        match self {
            Self::Memory(_, hand) => hand.advance(Duration::from_secs(60)),
            Self::Redis { .. } => {
                self.run(&["PEXPIRE", &format!("session:{identifier}"), "1"]).await;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    async fn answer(&self, session: &Session, exchange: &mut Exchange) -> Answer {
        let mut pipeline = redis::pipe();
        let asked = session.ask(exchange, &mut pipeline);
        let Self::Redis { connection, .. } = self else {
            assert_eq!(asked, 0, "memory is not asked over the wire");
            return Answer::NotAsked;
        };
        if asked == 0 {
            return Answer::NotAsked;
        }
        let answer = connection.clone().req_packed_commands(&pipeline, 0, asked).await;
        answer.map_or(Answer::Unavailable("down"), Answer::Values)
    }
}

fn definition(format: Format) -> Definition {
    Definition {
        name: "web".into(),
        format,
        carriers: vec![Carrier::Cookie("sid".into()), Carrier::Bearer],
        prefix: "session:".into(),
        user: "user_id".into(),
        forward: vec![(field("x-user-id"), "user_id".into()), (field("x-user-name"), "name".into())],
        attributes: vec!["plan".into()],
        retry_after: Duration::from_secs(2),
    }
}

fn field(name: &'static str) -> HeaderName {
    HeaderName::from_static(name)
}

/// The fields of a request that reached the app, and its user.
type Reached = (HeaderMap, Option<String>);

/// What came of one request.
struct Outcome {
    /// The fields that reached the app, if anything did.
    app: Option<HeaderMap>,
    user: Option<String>,
    status: StatusCode,
    fields: HeaderMap,
    content: Vec<u8>,
    verdict: Option<&'static str>,
    reason: Option<&'static str>,
}

async fn outcome(shelf: &Shelf, mode: Mode, method: Method, sent: &[(&'static str, &str)]) -> Outcome {
    let store = match shelf {
        Shelf::Memory(memory, _) => Store::Memory(memory.clone()),
        Shelf::Redis { .. } => Store::Redis,
    };
    let definition = Arc::new(definition(shelf.format()));
    let identity = Rc::new(IdentityFields::new(definition.forward.iter().map(|(name, _)| name.clone())));
    let registry = Registry::new(1);
    let session = Session::new(definition, mode, store, &registry, 0);
    let mut request = Request::builder().method(method).uri("/users/5").body(Body::empty()).unwrap();
    for (name, value) in sent {
        request.headers_mut().append(*name, value.parse().unwrap());
    }
    let mut exchange = exchange(request);
    let answer = shelf.answer(&session, &mut exchange).await;
    exchange.answers.put(Slot::Session, answer);
    let trail = exchange.trail.clone();

    let reached: Rc<RefCell<Option<Reached>>> = Rc::default();
    let app = {
        let reached = reached.clone();
        service_fn(move |exchange: Box<Exchange>| {
            let user = exchange.principal.as_ref().map(|principal| principal.user.clone());
            *reached.borrow_mut() = Some((exchange.request.headers().clone(), user));
            async { Ok::<_, Infallible>(Response::new(Body::empty())) }
        })
    };
    let mut stack = strip_layer(identity).layer(layer(session).layer(app));
    let Ok(response) = stack.call(exchange).await;
    let (head, body) = response.into_parts();
    let content = body.collect().await.expect("whole content").to_bytes().to_vec();
    let (app, user) = reached.take().map_or((None, None), |(fields, user)| (Some(fields), user));
    let (verdict, reason) = (trail.borrow().session, trail.borrow().session_reason);
    if let Some(verdict) = verdict {
        let labels = [("session", "web"), ("verdict", verdict)];
        assert_eq!(registry.value("sidegate_session_verdicts_total", &labels), 1);
    }
    Outcome { app, user, status: head.status, fields: head.headers, content, verdict, reason }
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
        principal: None,
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
        let shelf = Shelf::redis(format).await;
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
    if let Shelf::Redis { server, .. } = &shelf {
        server.borrow_mut().kill();
    }
    for mode in [Mode::Required, Mode::Optional] {
        let outcome = outcome(&shelf, mode, Method::GET, &[("cookie", &cookie(ALICE))]).await;
        assert_eq!((outcome.status, outcome.verdict), (StatusCode::SERVICE_UNAVAILABLE, Some("unknown")));
        assert_eq!(outcome.fields["retry-after"], "2");
        assert!(!outcome.fields.contains_key("set-cookie") && outcome.app.is_none());
    }
    // Whoever has no credential needs no store.
    assert!(optional(&shelf, &[]).await.app.is_some());
}

#[test]
fn sessions_captured_from_real_applications_are_judged_as_they_judged_them() {
    let rows: Vec<Json> = serde_json::from_str(include_str!("../fixtures/sessions/tokens.json")).unwrap();
    assert_eq!(rows.len(), 24);
    for row in rows {
        let name = row["id"].as_str().unwrap();
        let expected = &row["expected"];
        let verdict = captured_verdict(&row);
        assert_eq!(row["app_status"] == 200, matches!(verdict, Verdict::Valid(_)), "{name}: {verdict:?}");
        match &verdict {
            Verdict::Valid(principal) => {
                assert_eq!(Some(&*principal.user), expected["user_id"].as_str(), "{name}");
                for (path, value) in expected["attributes"].as_object().unwrap() {
                    let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                    assert_eq!(principal.attribute(path), Some(&*text), "{name}: {path}");
                }
            }
            Verdict::Expired => assert_eq!(expected["reason"], "not_found", "{name}"),
            Verdict::Absent => assert_eq!(expected["reason"], "no_credential", "{name}"),
            other => panic!("{name}: {other:?}"),
        }
    }
}

/// The verdict on one captured request, over the state of Redis at that moment.
fn captured_verdict(row: &Json) -> Verdict {
    let text = |name: &str| row[name].as_str().unwrap_or_default();
    let mut fields = HeaderMap::new();
    let mut query = None;
    let carrier = match (text("carrier"), text("carrier_name")) {
        ("cookie", _) => {
            let line = format!("{}={}", text("cookie_name"), text("cookie_value_raw"));
            fields.insert("cookie", line.parse().unwrap());
            Carrier::Cookie(text("cookie_name").into())
        }
        ("header", name) => {
            let name: HeaderName = name.parse().unwrap();
            fields.insert(name.clone(), text("carrier_value_raw").parse().unwrap());
            if name == "authorization" { Carrier::Bearer } else { Carrier::Header(name) }
        }
        (_, name) => {
            query = Some(format!("{name}={}", text("carrier_value_raw")));
            Carrier::Query(name.into())
        }
    };
    let format = if text("profile") == "token-hash" { Format::Hash } else { Format::Json };
    let attributes = ["name", "email", "username", "created_at", "last_access"].map(str::to_owned).to_vec();
    let definition = Definition { carriers: vec![carrier], attributes, forward: Vec::new(), ..definition(format) };
    let wanted = Wanted::of(&definition);
    let credential = credential(&definition.carriers, &fields, query.as_deref());
    let found = match &credential {
        Credential::Identifier(identifier) => {
            assert_eq!(format!("{}{identifier}", definition.prefix), text("redis_key"));
            store::redis::found(format, &wanted, Answer::Values(vec![captured_value(row, format, &wanted)]))
        }
        _ => Found::Nothing,
    };
    judge(&definition.name, &credential, found, &Key::new([7; 32]))
}

/// What Redis answered to the command that asks for the record.
fn captured_value(row: &Json, format: Format, wanted: &Wanted) -> redis::Value {
    let bytes = |value: &Json| {
        let decoded = value.as_str().map(|text| base64::engine::general_purpose::STANDARD.decode(text).unwrap());
        decoded.map_or(redis::Value::Nil, redis::Value::BulkString)
    };
    match format {
        Format::Json => bytes(&row["redis_value_base64"]),
        Format::Hash => {
            redis::Value::Array(wanted.paths().iter().map(|path| bytes(&row["redis_hash_base64"][path])).collect())
        }
    }
}
