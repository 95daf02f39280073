//! The sample API behind `sidegate demo`: an app that knows nothing of sidegate.
//!
//! 1. It runs on its own thread, with its own runtime and its own socket: sidegate meets it as it would any app.
//! 2. Reading users is slow on purpose, so that a stored response shows.
//! 3. It limits, caches and verifies nothing. Who is logged in it takes from `X-User-Id` and `X-User-Name`.
//! 4. It is bounded: connections, content, users, frames and streams.
//!
//! # Why
//! The demo has to show what sidegate adds; so the app is the plain one that somebody already has.

use std::convert::Infallible;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{
    ALLOW, AUTHORIZATION, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, COOKIE, LOCATION, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_VERSION, SET_COOKIE, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Either, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, oneshot};

use super::events::Events;
use super::sessions::Sessions;
use super::users::{Refusal, Users};
use super::websocket::{self, Handshake};

/// How long the app takes to read users.
pub const SLOWNESS: Duration = Duration::from_millis(300);

/// How long a session lasts.
pub const SESSION_LIFE: Duration = Duration::from_secs(3600);

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 1024;

/// Bytes of request content.
const LARGEST_CONTENT: usize = 16 * 1024;

/// How long a request's head may take.
const HEAD_PATIENCE: Duration = Duration::from_secs(10);

const INDEX: &str = "\
The sample app behind sidegate.

GET    /users        the users; slow
POST   /users        create one: {\"name\": \"Dave\", \"email\": \"dave@example.org\"}
GET    /users/{id}   one user; slow
PUT    /users/{id}   replace one
PATCH  /users/{id}   change one: {\"name\": \"Alicia\"}
DELETE /users/{id}   delete one
POST   /login        {\"user\": \"alice\", \"password\": \"wonderland\"}
POST   /logout       end the session
GET    /me           who you are, as sidegate told the app
GET    /events       an event a second, for a minute
GET    /ws           a WebSocket that says everything back
";

type Content = Either<Full<Bytes>, Events>;

/// The sample app while it runs. Dropping it stops it.
pub struct Running {
    /// Where it listens.
    pub address: SocketAddr,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Either end may be gone already: then the thread is, or soon will be.
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Starts the sample app on 127.0.0.1, on `port` or, if that is 0, on a free one.
///
/// Fails if the port is taken, or the system gives no thread.
pub fn start(sessions: Arc<dyn Sessions>, port: u16) -> io::Result<Running> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().max_blocking_threads(8).build()?;
    let listener = {
        let _entered = runtime.enter();
        TcpListener::from_std(listener)?
    };
    let app = Arc::new(App { users: Mutex::new(Users::sample()), sessions });
    let (stop, stopped) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("demo-app".to_owned()).spawn(move || {
        runtime.block_on(async {
            tokio::select! {
                () = accept(listener, app) => {}
                _ = stopped => {}
            }
        });
        runtime.shutdown_background();
    })?;
    Ok(Running { address, stop: Some(stop), thread: Some(thread) })
}

async fn accept(listener: TcpListener, app: Arc<App>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = room.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let app = app.clone();
                tokio::spawn(async move {
                    serve(stream, app).await;
                    drop(place);
                });
            }
            // Out of descriptors, most likely: give some back before asking again.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

async fn serve(stream: TcpStream, app: Arc<App>) {
    stream.set_nodelay(true).ok();
    let answer = service_fn(move |request| {
        let app = app.clone();
        async move { Ok::<_, Infallible>(app.answer(request).await.unwrap_or_else(Into::into)) }
    });
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    // A connection that failed has nobody left to tell.
    protocol.serve_connection(TokioIo::new(stream), answer).with_upgrades().await.ok();
}

struct App {
    users: Mutex<Users>,
    sessions: Arc<dyn Sessions>,
}

impl App {
    async fn answer(&self, request: Request<Incoming>) -> Result<Response<Content>, Failure> {
        let path = request.uri().path().to_owned();
        let segments: Vec<&str> = path.split('/').skip(1).collect();
        let method = match request.method() {
            // hyper leaves the content out.
            &Method::HEAD => Method::GET,
            method => method.clone(),
        };
        match (segments.as_slice(), method.as_str()) {
            ([""], "GET") => Ok(text(INDEX)),
            (["users"], "GET") => {
                tokio::time::sleep(SLOWNESS).await;
                Ok(json(StatusCode::OK, &json!(self.users.lock().list())))
            }
            (["users"], "POST") => self.create(request).await,
            (["users", id], "GET") => {
                tokio::time::sleep(SLOWNESS).await;
                let users = self.users.lock();
                let user = number(id).and_then(|id| users.find(id)).ok_or(Refusal::Unknown)?;
                Ok(json(StatusCode::OK, &json!(user)))
            }
            (["users", id], "PUT") => {
                let draft = read(request).await?;
                let user = self.users.lock().replace(number(id).ok_or(Refusal::Unknown)?, draft)?;
                Ok(json(StatusCode::OK, &json!(user)))
            }
            (["users", id], "PATCH") => {
                let draft = read(request).await?;
                let user = self.users.lock().change(number(id).ok_or(Refusal::Unknown)?, draft)?;
                Ok(json(StatusCode::OK, &json!(user)))
            }
            (["users", id], "DELETE") => {
                self.users.lock().delete(number(id).ok_or(Refusal::Unknown)?)?;
                Ok(empty(StatusCode::NO_CONTENT))
            }
            (["login"], "POST") => self.login(request).await,
            (["logout"], "POST") => self.logout(request).await,
            (["me"], "GET") => me(request.headers()),
            (["events"], "GET") => Ok(events()),
            (["ws"], "GET") => open_websocket(request),
            (["users"], _) => Err(Failure::Method("GET, HEAD, POST")),
            (["users", _], _) => Err(Failure::Method("GET, HEAD, PUT, PATCH, DELETE")),
            (["login" | "logout"], _) => Err(Failure::Method("POST")),
            (["" | "me" | "events" | "ws"], _) => Err(Failure::Method("GET, HEAD")),
            _ => Err(Failure::Plain(StatusCode::NOT_FOUND, "there is nothing here; GET / lists what there is")),
        }
    }

    async fn create(&self, request: Request<Incoming>) -> Result<Response<Content>, Failure> {
        let draft = read(request).await?;
        let user = self.users.lock().create(draft)?;
        let mut response = json(StatusCode::CREATED, &json!(user));
        if let Ok(location) = HeaderValue::try_from(format!("/users/{}", user.id)) {
            response.headers_mut().insert(LOCATION, location);
        }
        Ok(response)
    }

    async fn login(&self, request: Request<Incoming>) -> Result<Response<Content>, Failure> {
        #[derive(Deserialize)]
        struct Login {
            user: String,
            password: String,
        }
        let login: Login = read(request).await?;
        let (id, name) = match (login.user.as_str(), login.password.as_str()) {
            ("alice", "wonderland") => (1, "Alice"),
            ("bob", "builder") => (2, "Bob"),
            _ => return Err(Failure::Plain(StatusCode::UNAUTHORIZED, "no such user, or not their password")),
        };
        let mut secret = [0; 24];
        getrandom::fill(&mut secret).map_err(|_| Failure::Store)?;
        let token = URL_SAFE_NO_PAD.encode(secret);
        let record = json!({ "user_id": id, "name": name });
        let (sessions, named) = (self.sessions.clone(), token.clone());
        off_the_thread(move || sessions.put(&named, &record, SESSION_LIFE)).await?;

        let mut response = json(StatusCode::OK, &json!({ "token": token }));
        set_cookie(&mut response, &format!("session={token}; HttpOnly; SameSite=Lax; Path=/"));
        Ok(response)
    }

    async fn logout(&self, request: Request<Incoming>) -> Result<Response<Content>, Failure> {
        if let Some(token) = credential(request.headers()) {
            let (sessions, token) = (self.sessions.clone(), token.to_owned());
            off_the_thread(move || sessions.remove(&token)).await?;
        }
        let mut response = empty(StatusCode::NO_CONTENT);
        set_cookie(&mut response, "session=; HttpOnly; SameSite=Lax; Path=/; Max-Age=0");
        Ok(response)
    }
}

/// What went wrong, to be said as JSON.
enum Failure {
    Plain(StatusCode, &'static str),
    Method(&'static str),
    Content(String),
    Store,
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Unknown => Self::Plain(StatusCode::NOT_FOUND, "there is no such user"),
            Refusal::Invalid(why) => Self::Plain(StatusCode::UNPROCESSABLE_ENTITY, why),
            Refusal::Full => Self::Plain(StatusCode::INSUFFICIENT_STORAGE, "there are 1000 users already"),
        }
    }
}

impl From<Failure> for Response<Content> {
    fn from(failure: Failure) -> Self {
        let said = |why: &str| json!({ "error": why });
        match failure {
            Failure::Plain(status, why) => json(status, &said(why)),
            Failure::Content(why) => json(StatusCode::BAD_REQUEST, &said(&why)),
            Failure::Store => json(StatusCode::SERVICE_UNAVAILABLE, &said("the session store cannot be reached")),
            Failure::Method(allow) => {
                let mut response = json(StatusCode::METHOD_NOT_ALLOWED, &said("not this method"));
                response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
                response
            }
        }
    }
}

/// Who sidegate says is calling: the app believes it, since nobody but sidegate reaches it.
fn me(fields: &HeaderMap) -> Result<Response<Content>, Failure> {
    let said = |name: &str| fields.get(name).and_then(|value| value.to_str().ok());
    let Some(id) = said("x-user-id") else {
        return Err(Failure::Plain(StatusCode::UNAUTHORIZED, "X-User-Id is missing: ask through sidegate, logged in"));
    };
    let whence = "the X-User-Id and X-User-Name fields that sidegate forwarded";
    Ok(json(StatusCode::OK, &json!({ "id": id, "name": said("x-user-name"), "told_by": whence })))
}

fn events() -> Response<Content> {
    let mut response = Response::new(Either::Right(Events::new()));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn open_websocket(mut request: Request<Incoming>) -> Result<Response<Content>, Failure> {
    let (status, accept) = match websocket::handshake(request.headers()) {
        Handshake::Accept(accept) => (StatusCode::SWITCHING_PROTOCOLS, Some(accept)),
        Handshake::UpgradeRequired => (StatusCode::UPGRADE_REQUIRED, None),
        Handshake::Malformed(why) => return Err(Failure::Plain(StatusCode::BAD_REQUEST, why)),
    };
    let mut response = empty(status);
    let fields = response.headers_mut();
    fields.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    fields.insert(UPGRADE, HeaderValue::from_static("websocket"));
    match accept.and_then(|accept| HeaderValue::try_from(accept).ok()) {
        Some(accept) => {
            fields.insert(SEC_WEBSOCKET_ACCEPT, accept);
            let upgrade = hyper::upgrade::on(&mut request);
            tokio::spawn(async move {
                if let Ok(upgraded) = upgrade.await {
                    websocket::echo(TokioIo::new(upgraded)).await;
                }
            });
        }
        None => {
            fields.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
        }
    }
    Ok(response)
}

/// The session identifier that the client sent: bearer first, as sidegate's demo configuration has it.
fn credential(fields: &HeaderMap) -> Option<&str> {
    let line = |name| fields.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let bearer = line(AUTHORIZATION).and_then(|line| line.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
    bearer.or_else(|| line(COOKIE)?.split(';').find_map(|pair| pair.trim().strip_prefix("session=")))
}

async fn off_the_thread(act: impl FnOnce() -> io::Result<()> + Send + 'static) -> Result<(), Failure> {
    match tokio::task::spawn_blocking(act).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Failure::Store),
    }
}

/// Reads JSON content, whatever its Content-Type says: `curl -d` says it is a form.
async fn read<T: DeserializeOwned>(request: Request<Incoming>) -> Result<T, Failure> {
    let content = Limited::new(request.into_body(), LARGEST_CONTENT).collect().await;
    let content = content.map_err(|error| Failure::Content(error.to_string()))?.to_bytes();
    serde_json::from_slice(&content).map_err(|error| Failure::Content(error.to_string()))
}

fn number(text: &str) -> Option<u64> {
    text.parse().ok()
}

fn empty(status: StatusCode) -> Response<Content> {
    let mut response = Response::new(Either::Left(Full::default()));
    *response.status_mut() = status;
    response
}

fn text(content: &'static str) -> Response<Content> {
    let mut response = Response::new(Either::Left(Full::from(content)));
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn json(status: StatusCode, content: &Value) -> Response<Content> {
    let mut response = Response::new(Either::Left(Full::from(format!("{content}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn set_cookie(response: &mut Response<Content>, cookie: &str) {
    if let Ok(cookie) = HeaderValue::try_from(cookie) {
        response.headers_mut().insert(SET_COOKIE, cookie);
        // A login is nobody else's answer.
        response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    }
}
